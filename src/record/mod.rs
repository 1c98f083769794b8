//! Recording: from the packets of a participant's tracks to a file that plays.
//!
//! A recorder is a subscriber beside the packet path. It is fed like a shard that mirrors a track: with [`MediaPacket`]s, already
//! opened, with the time that they were captured at. Everything here but [`disk`] is pure: time is an argument, and files are whatever
//! implements `std::io`'s traits.
//!
//! ```text
//!   MediaPacket > reorder > depacketize > Frame        reception: one RTP stream
//!               > timeline                             when it was captured, on the session's one clock, smooth
//!               > audio_line                           audio without holes: silence for what is not there
//!               > webm                                 WebM or Matroska, readable at any moment
//! ```
//!
//! [`Recorder`] joins these for one file: the camera and microphone of a participant, or a screen and its sound.
//! [`session::Session`] has all files of a room's recording, and its manifest; [`disk::Folder`] is where they go.
//! [`heal`](heal::heal) closes files that a crash left open, [`manifest`] is what a session's folder says of itself.
mod audio_line;
mod bits;
pub mod depacketize;
pub mod disk;
mod ebml;
pub mod heal;
pub mod manifest;
pub mod reception;
mod recorder;
mod reorder;
pub mod session;
pub mod timeline;
pub mod webm;

pub use audio_line::{AudioLine, Sound};
pub use reception::{Frame, Reception};
pub use recorder::{Event, Recorder, SessionStart, SourceId, Summary, TrackSummary};

use crate::rtp::SeqNo;
use crate::rtp::packet::PacketInfo;
use std::time::Instant;

/// A packet of a track, as the shard of its publisher has read it.
#[derive(Clone, Copy, Debug)]
pub struct MediaPacket<'a> {
    pub seq: SeqNo,
    pub info: &'a PacketInfo,
    /// When what it carries was captured, on our clock ([`crate::rtp::clock`]).
    pub captured_at: Instant,
    /// The whole packet, from the RTP header on.
    pub bytes: &'a [u8],
}

impl MediaPacket<'_> {
    /// Without the RTP header, and without padding. Empty if the packet is shorter than it says.
    pub fn payload(&self) -> &[u8] {
        let start = usize::from(self.info.header_len);
        self.bytes.get(start..start + usize::from(self.info.payload_len)).unwrap_or_default()
    }
}
