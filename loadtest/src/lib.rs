//! Clients for load and for simulation: sans-IO, so that the same client runs on sockets and in virtual time; and what is said about what they saw.
#![forbid(unsafe_code)]

pub mod carrier;
pub mod client;
pub mod floor;
pub mod kernel;
pub mod report;
pub mod rig;
pub mod scenario;
