//! What leaves for one subscriber: packets joined into runs that one system call sends.
pub mod segments;
