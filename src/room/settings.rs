//! What all rooms of a process share: bounds, timing, addresses, and the source of ids.
use super::messages::{IceServer, ServerLimits};
use crate::ids::{ParticipantId, PeerId, RecordingId, TrackId};
use crate::peer::config::Fingerprint;
use crate::peer::sdp::SdpLimits;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How rooms behave.
#[derive(Clone, Debug)]
pub struct RoomSettings {
    pub limits: RoomLimits,
    /// Up to how many participants everybody is told of everybody. In a larger room those who only watch are counted, and
    /// this many of those who neither publish nor moderate are on the list that all know: the latest who did something.
    pub full_presence: usize,
    /// Between two pings. A client that is silent for two of them is closed 4408.
    pub ping: Duration,
    /// How long a session without a socket waits to be resumed.
    pub grace: Duration,
    /// Told to clients in the welcome.
    pub ice_servers: Vec<IceServer>,
    /// Of our certificate.
    pub fingerprint: Fingerprint,
    /// Where media can be sent to us, the preferred first.
    pub candidates: Vec<SocketAddr>,
    /// Rooms that are recorded as soon as anybody publishes.
    pub record_rooms: Vec<RoomPattern>,
    /// What SDP may contain. Its slots are those of `limits`, whatever is set here.
    pub sdp: SdpLimits,
}

impl RoomSettings {
    /// Default bounds, full presence up to 100, a ping every 5 s, 30 s of grace.
    pub fn new(fingerprint: Fingerprint, candidates: Vec<SocketAddr>) -> Self {
        Self {
            limits: RoomLimits::default(),
            full_presence: 100,
            ping: Duration::from_secs(5),
            grace: Duration::from_secs(30),
            ice_servers: Vec::new(),
            fingerprint,
            candidates,
            record_rooms: Vec::new(),
            sdp: SdpLimits::default(),
        }
    }

    pub(super) fn sdp_limits(&self) -> SdpLimits {
        let RoomLimits { audio_slots, video_slots, .. } = self.limits;
        SdpLimits { audio_slots, video_slots, ..self.sdp.clone() }
    }
}

/// Names of rooms: `*` stands for any characters, also for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPattern(String);

impl RoomPattern {
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let Some(name) = name.strip_prefix(first) else { return false };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(mut name) = name.strip_suffix(last) else { return false };
        // The first place that fits leaves the most for those that follow.
        for part in middle.split('*') {
            let Some((_, after)) = name.split_once(part) else { return false };
            name = after;
        }
        true
    }
}

/// Every bound that a room keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomLimits {
    /// Bytes of one frame of the socket: kept by `signal`, told by the welcome.
    pub frame_bytes: usize,
    /// Participants of a room, those of WHIP and WHEP included.
    pub participants: usize,
    /// Tracks of one participant.
    pub tracks: usize,
    /// Audio slots of one participant.
    pub audio_slots: usize,
    /// Video slots of one participant.
    pub video_slots: usize,
    /// Events kept for each session, and their bytes.
    pub event_log_len: usize,
    pub event_log_bytes: usize,
    /// Answers kept for each session, and their bytes.
    pub answer_cache_len: usize,
    pub answer_cache_bytes: usize,
    /// Bytes of the body of `say`, as JSON.
    pub say_bytes: usize,
    /// Topics with a retained message.
    pub retained: usize,
    /// Bytes of a participant's attributes, as JSON.
    pub attributes_bytes: usize,
    /// Requests a second of one session, and how many it may save up.
    pub requests_per_second: u32,
    pub request_burst: u32,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self {
            frame_bytes: 512 * 1024,
            participants: 5000,
            tracks: 8,
            audio_slots: 20,
            video_slots: 25,
            event_log_len: 1024,
            event_log_bytes: 1 << 20,
            answer_cache_len: 64,
            answer_cache_bytes: 1 << 20,
            say_bytes: 16 * 1024,
            retained: 64,
            attributes_bytes: 8 * 1024,
            requests_per_second: 20,
            request_burst: 60,
        }
    }
}

impl RoomLimits {
    pub(super) fn told(&self) -> ServerLimits {
        ServerLimits {
            frame_bytes: self.frame_bytes,
            tracks: self.tracks,
            audio_slots: self.audio_slots,
            video_slots: self.video_slots,
            participants: self.participants,
            say_bytes: self.say_bytes,
            attributes_bytes: self.attributes_bytes,
        }
    }
}

/// Gives ids that are unique in the process. Shared by all rooms.
#[derive(Debug, Default)]
pub struct IdSource {
    participants: AtomicU64,
    peers: AtomicU64,
    tracks: AtomicU64,
    recordings: AtomicU64,
}

impl IdSource {
    pub(super) fn participant(&self) -> ParticipantId {
        ParticipantId(self.participants.fetch_add(1, Relaxed) + 1)
    }
    pub(super) fn peer(&self) -> PeerId {
        PeerId(self.peers.fetch_add(1, Relaxed) + 1)
    }
    pub(super) fn track(&self) -> TrackId {
        TrackId(self.tracks.fetch_add(1, Relaxed) + 1)
    }
    pub(super) fn recording(&self) -> RecordingId {
        RecordingId(self.recordings.fetch_add(1, Relaxed) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let cases = [
            ("demo", "demo", true),
            ("demo", "demo2", false),
            ("class-*", "class-4b", true),
            ("class-*", "class-", true),
            ("class-*", "my class-4b", false),
            ("*", "", true),
            ("*", "anything", true),
            ("*-rec", "a-rec", true),
            ("*-rec", "a-rec2", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("é*", "école", true),
            ("*é*", "lycée 4", true),
        ];
        for (pattern, name, matches) in cases {
            assert_eq!(RoomPattern::new(pattern).matches(name), matches, "{pattern} {name}");
        }
    }
}
