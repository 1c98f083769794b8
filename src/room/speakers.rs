//! Who spoke last: the order in which participants are shown when not everybody can be.
use super::messages::SpeakerLevel;
use crate::ids::ParticipantId;
use rustc_hash::{FxHashMap, FxHashSet};
use std::time::{Duration, Instant};

/// How long somebody must be active before it counts: a cough moves nobody.
const SUSTAINED: Duration = Duration::from_millis(300);

/// The latest speakers.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    /// Everybody, the most recently heard first; those who never spoke follow in the order of their joining.
    order: Vec<ParticipantId>,
    /// Who is active now, and since when.
    active: FxHashMap<ParticipantId, Instant>,
    /// Who has ever spoken.
    heard: FxHashSet<ParticipantId>,
    /// What was last told.
    levels: Vec<SpeakerLevel>,
}

impl Speakers {
    pub fn order(&self) -> &[ParticipantId] {
        &self.order
    }
    pub fn has_spoken(&self, participant: ParticipantId) -> bool {
        self.heard.contains(&participant)
    }
    pub fn levels(&self) -> &[SpeakerLevel] {
        &self.levels
    }

    pub fn join(&mut self, participant: ParticipantId) {
        self.order.push(participant);
    }

    /// Whether the levels changed: the one who left was speaking.
    pub fn leave(&mut self, participant: ParticipantId) -> bool {
        self.order.retain(|p| *p != participant);
        self.heard.remove(&participant);
        self.active.remove(&participant);
        let (name, before) = (participant.to_string(), self.levels.len());
        self.levels.retain(|l| l.participant != name);
        self.levels.len() != before
    }

    /// Who is active now, loudest first, with levels in dB below full scale. Whether that is news.
    pub fn handle_levels(&mut self, now: Instant, speakers: &[(ParticipantId, u8)]) -> bool {
        self.active.retain(|p, _| speakers.iter().any(|(s, _)| s == p));
        for (participant, _) in speakers {
            self.active.entry(*participant).or_insert(now);
        }
        let level = |dbov: u8| (f32::from(127 - dbov.min(127)) / 127.0 * 100.0).round() / 100.0;
        let told = |(p, l): &(ParticipantId, u8)| SpeakerLevel { participant: p.to_string(), level: level(*l) };
        let levels: Vec<_> = speakers.iter().map(told).collect();
        let news = levels != self.levels;
        self.levels = levels;
        news
    }

    /// Moves to the front who has been active for long enough. Those who already were among the active keep their order
    /// among each other, so two people talking at once do not swap places. Whether anything moved, or
    /// somebody spoke for the first time.
    pub fn reorder(&mut self, now: Instant) -> bool {
        let counts = |p: &ParticipantId| self.active.get(p).is_some_and(|since| now >= *since + SUSTAINED);
        let (front, back): (Vec<_>, Vec<_>) = self.order.iter().copied().partition(counts);
        let heard = self.heard.len();
        self.heard.extend(&front);
        let order: Vec<_> = front.into_iter().chain(back).collect();
        let moved = order != self.order || heard != self.heard.len();
        self.order = order;
        moved
    }

    /// When the next of the active will have been so for long enough.
    pub fn next_reorder(&self, now: Instant) -> Option<Instant> {
        self.active.values().map(|since| *since + SUSTAINED).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
mod tests {
    use super::*;

    const fn p(n: u64) -> ParticipantId {
        ParticipantId(n)
    }

    #[test]
    fn a_speaker_counts_after_300_ms_and_a_cough_does_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut speakers = Speakers::default();
        (1..=4).for_each(|n| speakers.join(p(n)));
        let mut step = |ms, who: &[u64]| {
            let list: Vec<_> = who.iter().map(|n| (p(*n), 30)).collect();
            speakers.handle_levels(at(ms), &list);
            speakers.reorder(at(ms));
            (speakers.order().iter().map(|p| p.0).collect::<Vec<_>>(), speakers.next_reorder(at(ms)))
        };
        assert_eq!(step(0, &[3]), (vec![1, 2, 3, 4], Some(at(300))));
        assert_eq!(step(250, &[]).0, [1, 2, 3, 4], "a cough");
        assert_eq!(step(500, &[3]).0, [1, 2, 3, 4]);
        assert_eq!(step(800, &[3]), (vec![3, 1, 2, 4], None));
        step(900, &[4, 3]);
        assert_eq!(step(1200, &[4, 3]).0, [3, 4, 1, 2], "two at once do not swap");
        assert_eq!(step(1500, &[3, 4]).0, [3, 4, 1, 2]);
        assert_eq!(step(1600, &[4]).0, [4, 3, 1, 2]);
        step(1700, &[1]);
        assert_eq!(step(2000, &[1]).0, [1, 4, 3, 2], "the least recently heard is last");
    }

    #[test]
    fn levels_are_news_only_when_they_change() {
        let now = Instant::now();
        let mut speakers = Speakers::default();
        speakers.join(p(1));
        assert!(speakers.handle_levels(now, &[(p(1), 0)]));
        assert!(!speakers.handle_levels(now, &[(p(1), 0)]));
        assert_eq!(speakers.levels()[0].level, 1.0);
        assert!(speakers.handle_levels(now, &[(p(1), 127)]));
        assert_eq!(speakers.levels()[0].level, 0.0);
        assert!(speakers.leave(p(1)));
        assert!(speakers.levels().is_empty());
    }
}
