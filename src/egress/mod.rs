//! What leaves for one subscriber: which layers its path carries, and packets joined into runs that one system call sends.
pub mod allocation;
pub mod segments;
