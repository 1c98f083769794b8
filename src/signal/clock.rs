//! The clocks of signalling. Everything below takes time as an argument.
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[expect(clippy::disallowed_methods, reason = "signal drives the rooms: this is where their time comes from")]
pub fn now() -> Instant {
    Instant::now()
}

/// Unix time in milliseconds.
#[expect(clippy::disallowed_methods, reason = "tokens expire, and people read times, by the wall clock")]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
