//! What leaves for one subscriber: which layers its path carries, when each packet goes, and packets joined into runs that one
//! system call sends.
pub mod allocation;
pub mod bandwidth;
pub mod pacer;
pub mod segments;
