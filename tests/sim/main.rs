//! Calls in virtual time over bad networks, each from a seed: what a decoder would have seen is checked packet by packet.
//!
//! `SIM_SEED=7 cargo test --test sim NAME` runs one with another seed.
mod heap;
mod network;
mod tape;
mod world;

mod calls;
mod chaos;
mod demand;
mod endurance;
mod fitting;
mod layers;
mod liars;
#[path = "../support/lies.rs"]
mod lies;
mod losses;
mod paths;
mod recording;
mod switching;
mod wrap;
