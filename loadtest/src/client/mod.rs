//! A participant as a browser is one, reduced to what a server can notice: the room API as JSON text, and two connections with
//! ICE, DTLS, SRTP and RTP. No I/O and no clock.
//!
//! [`Participant`] is what to use. Media is synthetic: each packet says which frame of whom it is and when it was sent, so the
//! receiver can tell exactly what a decoder would have seen.
pub mod audio;
mod bits;
pub mod feedback;
pub mod head;
pub mod ice;
pub mod layers;
pub mod ledger;
pub mod meter;
pub mod participant;
pub mod payload;
pub mod publisher;
mod ring;
pub mod sdp;
pub mod stun;
pub mod subscriber;
pub mod track;
pub mod transport;
pub mod video;

pub use feedback::Feedback;
pub use layers::Layering;
pub use meter::Meter;
pub use participant::{Participant, Settings};
pub use payload::VideoCodec;
pub use track::TrackConfig;

use std::time::{Duration, Instant};

/// One moment on all clocks that a client needs.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// When time began: what packets say of their sending counts from here.
    pub start: Instant,
    /// The NTP time at `start` (32.32 fixed point), for sender reports.
    pub ntp: u64,
}

impl Epoch {
    /// Microseconds since the start.
    pub fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_micros() as u64
    }
    /// NTP time at `now`.
    pub fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        let fraction = ((u128::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000) as u64;
        self.ntp.wrapping_add(elapsed.as_secs() << 32).wrapping_add(fraction)
    }
}

/// The earliest of some deadlines.
fn earliest(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    deadlines.into_iter().flatten().min()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
