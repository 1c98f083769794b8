//! The room as a whole: JSON in, JSON out.
mod big;
mod chaos;
mod client;
mod docs;
mod http;
mod layers;
mod presence;
mod quality;
mod resume;
mod table;
mod world;

use super::*;
use std::time::Duration;
