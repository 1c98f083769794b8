//! Folders of recordings, as they are and as they should not be.
