//! What leaves for one subscriber: packets joined into runs that one system call sends.
pub mod bandwidth;
pub mod pacer;
pub mod segments;
