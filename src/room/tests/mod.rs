//! The room as a whole: JSON in, JSON out.
mod big;
mod chaos;
mod client;
mod docs;
mod http;
mod layers;
mod presence;
mod quality;
mod recording;
mod resume;
mod table;
mod world;

use super::*;
use crate::ids::RecordingId;
use settings::RoomPattern;
use std::time::Duration;
