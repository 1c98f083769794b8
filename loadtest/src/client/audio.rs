//! What a listener would have heard.
use super::payload::Tag;
use super::ring::Ring;
use super::video::REBASED;
use exedra::rtp::SeqNo;
use std::time::{Duration, Instant};

/// A packet that comes later than this after it was sent comes too late to be played.
const TOO_LATE: Duration = Duration::from_millis(600);
/// After so many microseconds without a frame the slot may have shown something else meanwhile.
const RESTED_MICROS: u64 = 200_000;
/// Packets that are remembered to check their successors.
const REMEMBERED: u64 = 64;

/// What is known of the audio of one slot.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct AudioStats {
    /// Frames that could be played.
    pub played: u64,
    /// Frames that never came, or too late, between the first and the last of each source.
    pub gaps: u64,
    /// Changes of source.
    pub switches: u64,
}

/// See the module.
pub struct Listener {
    pub stats: AudioStats,
    source: Option<Stretch>,
    recent: Ring<(u32, Tag)>,
}

/// Frames of one source without a change.
struct Stretch {
    tag: Tag,
    first: u32,
    highest: u32,
    played: u64,
}

impl Default for Listener {
    fn default() -> Self {
        Self { stats: AudioStats::default(), source: None, recent: Ring::new(2 * REMEMBERED as usize) }
    }
}

impl Listener {
    /// A packet arrived. `late` is how long after its sending. Says what is wrong with it.
    pub fn handle_packet(&mut self, seq: SeqNo, timestamp: u32, tag: Tag, late: Duration) -> Option<String> {
        let fault = self.check(seq, timestamp, &tag);
        self.recent.forget_below(seq.0.saturating_sub(REMEMBERED));
        self.recent.insert(seq.0, (timestamp, tag));
        let continues = self.source.as_ref().is_some_and(|s| s.tag.same_source(&tag));
        if !continues {
            // What is left of the source of before is of no interest.
            if self.recent.highest().is_some_and(|last| last != seq.0) {
                return fault;
            }
            self.finish();
            self.stats.switches += 1;
            self.source = Some(Stretch { tag, first: tag.frame, highest: tag.frame, played: 0 });
        }
        if let Some(stretch) = &mut self.source
            && tag.frame >= stretch.first
        {
            stretch.highest = stretch.highest.max(tag.frame);
            if late < TOO_LATE {
                stretch.played += 1;
                self.stats.played += 1;
            }
        }
        fault
    }

    /// Nothing is expected until the next packet: the source was muted or taken away.
    pub fn rest(&mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        if let Some(stretch) = self.source.take() {
            let expected = u64::from(stretch.highest - stretch.first) + 1;
            self.stats.gaps += expected.saturating_sub(stretch.played);
        }
    }

    /// Gaps so far, those of the present source included.
    pub fn gaps(&self) -> u64 {
        let open = self.source.as_ref().map_or(0, |s| (u64::from(s.highest - s.first) + 1).saturating_sub(s.played));
        self.stats.gaps + open
    }

    /// Holds a packet against its neighbours.
    fn check(&self, seq: SeqNo, timestamp: u32, tag: &Tag) -> Option<String> {
        if let Some((_, other)) = self.recent.get(seq.0) {
            return (other != tag).then(|| format!("audio {}: one number for {other:?} and {tag:?}", seq.0));
        }
        let before = seq.0.checked_sub(1).and_then(|s| self.recent.get(s));
        let after = self.recent.get(seq.0 + 1);
        let pairs = [before.map(|b| (*b, (timestamp, *tag))), after.map(|a| ((timestamp, *tag), *a))];
        pairs.into_iter().flatten().find_map(|((ts_a, a), (ts_b, b))| {
            let step = ts_b.wrapping_sub(ts_a) as i32;
            let wrong = match a.same_source(&b) {
                true => {
                    let elapsed = (b.micros.saturating_sub(a.micros) * 48_000 / 1_000_000) as i32;
                    // A slot that was taken away and given back, or muted, meanwhile has begun anew.
                    let adjacent = b.frame == a.frame.wrapping_add(1);
                    let rested = b.micros.saturating_sub(a.micros) > RESTED_MICROS;
                    let most = if adjacent && !rested { 2 } else { REBASED * 48 };
                    b.frame <= a.frame || (step - elapsed).abs() > most
                }
                false => step <= 0,
            };
            wrong.then(|| format!("audio {}: {a:?} at {ts_a} is followed by {b:?} at {ts_b}", seq.0))
        })
    }
}

/// How long after `micros` (since `start`) it is.
pub fn age(start: Instant, now: Instant, micros: u64) -> Duration {
    now.saturating_duration_since(start + Duration::from_micros(micros))
}
