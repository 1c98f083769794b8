//! Exedra: a selective forwarding unit.
//!
//! Data falls through it once, top to bottom:
//!
//! ```text
//!   main > server, config            arguments -> Config -> Server
//!        > signal                    HTTP, the room socket, WHIP/WHEP (tokio, axum)
//!        > recordings                the recordings that run and those that are kept: threads and files
//!        > net                       the UDP sockets and the clock; one shard loop a thread
//!        > room                      pure: who is in a room, who gets which track in which slot
//!        > record                    pure: a participant's packets to a file that plays (it imports rtp alone)
//!        > engine                    pure: datagrams and commands in, datagrams and events out
//!        > peer, forward, egress     pure stages; they never import each other
//!        > rtp                       vocabulary: sequence numbers, headers, codecs, RTCP
//!        > ids, metrics
//! ```
//!
//! Only `signal`, `recordings`, `net` and `server` may name tokio, sockets, files or read a clock; `tests/layering.rs` holds this.
#![forbid(unsafe_code)]

pub mod config;
pub mod server;

pub mod net;
pub mod recordings;
pub mod signal;

pub mod record;
pub mod room;

pub mod engine;

pub mod egress;
pub mod forward;
pub mod peer;

pub mod rtp;

pub mod ids;
pub mod metrics;
