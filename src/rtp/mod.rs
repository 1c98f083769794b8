//! Vocabulary of the wire: sequence numbers, headers, header extensions, codec descriptors, RTCP.
//! Pure, bounded, and free of allocation where a packet passes.
pub mod codec;
pub mod extension;
pub mod seq;

pub use codec::{Codec, Kind};
pub use extension::{Extension, ExtensionMap};
pub use seq::{PayloadType, SeqNo, Ssrc};
