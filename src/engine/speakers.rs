//! Who speaks: levels from the audio level extension (RFC 6464), smoothed, told at most four times a second.
use super::timers::Timer;
use super::{Engine, Event};
use crate::engine::api::Speaker;
use crate::ids::RoomId;
use smallvec::SmallVec;
use std::time::{Duration, Instant};

/// How often a room's speakers are reviewed while anybody sends audio.
const INTERVAL: Duration = Duration::from_millis(250);
/// Louder than this counts as speech, in dB below full scale: a quiet voice has about 40, a room's noise 60 and more.
const SPEECH: f32 = 50.0;
/// At most this many are told.
const MOST: usize = 10;
/// Without packets for this long a track is silent (DTX sends one every 400 ms).
const STALE: Duration = Duration::from_millis(500);
/// A change of the smoothed level below this many dB is not told.
const STEP: u8 = 3;

/// The smoothed level of one track.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    /// dB below full scale; `None` before the first packet.
    smoothed: Option<f32>,
    at: Option<Instant>,
}

impl Level {
    /// A packet had this level, 0 (loudest) to 127. Rises in about 50 ms, falls in about 300 ms.
    pub fn add(&mut self, now: Instant, level: u8) {
        let level = f32::from(level);
        let old = self.smoothed.unwrap_or(127.0);
        let weight = if level < old { 0.4 } else { 0.07 };
        self.smoothed = Some(old + (level - old) * weight);
        self.at = Some(now);
    }
    fn speaking(&self, now: Instant) -> Option<u8> {
        let fresh = self.at.is_some_and(|at| now.saturating_duration_since(at) < STALE);
        self.smoothed.filter(|&l| fresh && l < SPEECH).map(|l| l as u8)
    }
}

/// What the engine keeps for a room.
#[derive(Debug, Default)]
pub(super) struct RoomMedia {
    pub peers: usize,
    /// Indices of its audio tracks on this shard.
    pub audio: Vec<usize>,
    armed: bool,
    told: Vec<Speaker>,
}

impl Engine {
    /// Audio with a level came in: see to it that the speakers are reviewed.
    pub(super) fn note_audio(&mut self, now: Instant, room: RoomId) {
        if let Some(media) = self.rooms.get_mut(&room)
            && !media.armed
        {
            media.armed = true;
            self.timers.arm(now + INTERVAL, Timer::Room(room));
        }
    }

    pub(super) fn review_speakers(&mut self, now: Instant, room: RoomId) {
        let Some(media) = self.rooms.get_mut(&room) else { return };
        let mut speakers: SmallVec<[Speaker; 2 * MOST]> = media
            .audio
            .iter()
            .filter_map(|&t| self.tracks.get(t).filter(|t| !t.muted))
            .filter_map(|t| t.level.speaking(now).map(|level| Speaker { track: t.id, level }))
            .collect();
        speakers.sort_by_key(|s| (s.level, s.track));
        speakers.truncate(MOST);
        // While anybody speaks somebody may fall silent; the first packet after that arms it again.
        media.armed = !speakers.is_empty();
        if media.armed {
            self.timers.arm(now + INTERVAL, Timer::Room(room));
        }
        if differ(&media.told, &speakers) {
            media.told.clear();
            media.told.extend_from_slice(&speakers);
            self.events.push_back(Event::Speakers { room, speakers: speakers.to_vec() });
        }
    }
}

fn differ(old: &[Speaker], new: &[Speaker]) -> bool {
    old.len() != new.len() || old.iter().zip(new).any(|(a, b)| a.track != b.track || a.level.abs_diff(b.level) >= STEP)
}
