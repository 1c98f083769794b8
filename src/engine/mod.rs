//! The media engine of one shard: commands and datagrams in, datagrams and events out. It does no I/O and reads no clock.
pub mod api;

pub use api::{Command, Event};
