//! A room, purely: who is in it, what they publish, who gets which track in which slot, and what each session is told.
//! No I/O and no clock: `signal` runs one task for each room around it, so a panic ends one room and no other.
pub mod api;
pub mod messages;
