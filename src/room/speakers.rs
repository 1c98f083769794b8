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
    /// Everybody who has published, the most recently heard first; those who never spoke follow in the order of their
    /// joining, which is that of their ids.
    order: Vec<ParticipantId>,
    /// Who is active now, and since when.
    active: FxHashMap<ParticipantId, Instant>,
    /// Who has ever spoken.
    heard: FxHashSet<ParticipantId>,
    levels: Vec<SpeakerLevel>,
    /// What was last told, and when.
    told: Vec<SpeakerLevel>,
    told_at: Option<Instant>,
}

impl Speakers {
    pub fn order(&self) -> &[ParticipantId] {
        &self.order
    }
    pub fn has_spoken(&self, participant: ParticipantId) -> bool {
        self.heard.contains(&participant)
    }
    /// What was last told.
    pub fn told(&self) -> &[SpeakerLevel] {
        &self.told
    }
    pub fn told_at(&self) -> Option<Instant> {
        self.told_at
    }
    /// Whether there is something else to tell than what was told.
    pub fn is_news(&self) -> bool {
        self.levels != self.told
    }
    /// What to tell now.
    pub fn tell(&mut self) -> &[SpeakerLevel] {
        self.told.clone_from(&self.levels);
        &self.told
    }
    pub fn tell_at(&mut self, now: Instant) {
        self.told_at = Some(now);
    }

    /// Somebody publishes, for the first time or again.
    pub fn join(&mut self, participant: ParticipantId) {
        if self.order.contains(&participant) {
            return;
        }
        let silent_after = |p: &ParticipantId| !self.heard.contains(p) && *p > participant;
        let at = self.order.iter().position(silent_after).unwrap_or(self.order.len());
        self.order.insert(at, participant);
    }

    /// Whether what was told is no longer true: the one who left was speaking.
    pub fn leave(&mut self, participant: ParticipantId) -> bool {
        let Some(at) = self.order.iter().position(|p| *p == participant) else { return false };
        self.order.remove(at);
        self.heard.remove(&participant);
        self.active.remove(&participant);
        let name = participant.to_string();
        self.levels.retain(|l| l.participant != name);
        self.told.iter().any(|l| l.participant == name)
    }

    /// Who is active now, loudest first, with levels in dB below full scale.
    pub fn handle_levels(&mut self, now: Instant, speakers: &[(ParticipantId, u8)]) {
        self.active.retain(|p, _| speakers.iter().any(|(s, _)| s == p));
        for (participant, _) in speakers {
            self.active.entry(*participant).or_insert(now);
        }
        let level = |dbov: u8| (f32::from(127 - dbov.min(127)) / 127.0 * 100.0).round() / 100.0;
        let told = |(p, l): &(ParticipantId, u8)| SpeakerLevel { participant: p.to_string(), level: level(*l) };
        self.levels = speakers.iter().map(told).collect();
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
        for (level, told) in [(0, 1.0), (127, 0.0)] {
            speakers.handle_levels(now, &[(p(1), level)]);
            assert!(speakers.is_news());
            assert_eq!(speakers.tell()[0].level, told);
            speakers.handle_levels(now, &[(p(1), level)]);
            assert!(!speakers.is_news());
        }
        assert!(speakers.leave(p(1)));
        assert!(speakers.tell().is_empty());
        assert!(!speakers.leave(p(1)));
    }

    #[test]
    fn who_publishes_late_comes_behind_all_who_spoke_and_before_who_joined_later() {
        let now = Instant::now();
        let mut speakers = Speakers::default();
        [5, 2, 9].into_iter().for_each(|n| speakers.join(p(n)));
        speakers.handle_levels(now, &[(p(9), 10)]);
        speakers.reorder(now + SUSTAINED);
        [3, 9, 1].into_iter().for_each(|n| speakers.join(p(n)));
        assert_eq!(speakers.order(), [9, 1, 2, 3, 5].map(p));
    }
}
