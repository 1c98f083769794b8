//! Clients for load and for simulation: sans-IO, so that the same client runs on sockets and in virtual time.
#![forbid(unsafe_code)]

pub mod client;
pub mod floor;
pub mod rig;
