//! Who spoke last: the order in which participants are shown when not everybody can be.
use super::messages::SpeakerLevel;
use crate::ids::ParticipantId;
use rustc_hash::{FxHashMap, FxHashSet};
use std::time::{Duration, Instant};

/// How long somebody must be active before it counts: a cough moves nobody.
const SUSTAINED: Duration = Duration::from_millis(300);
/// How long an order holds, so that pictures do not change places with every word of a lively talk.
const DWELL: Duration = Duration::from_millis(1500);

/// The latest speakers.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    /// Everybody who has published, the most recently heard first; those who never spoke follow in the order of their
    /// joining, which is that of their ids.
    recency: Vec<ParticipantId>,
    /// The order that holds: `recency` as it was a while ago.
    order: Vec<ParticipantId>,
    held_since: Option<Instant>,
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
    /// The order that holds.
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
        if self.recency.contains(&participant) {
            return;
        }
        let heard = &self.heard;
        for order in [&mut self.recency, &mut self.order] {
            let silent_after = |p: &ParticipantId| !heard.contains(p) && *p > participant;
            let at = order.iter().position(silent_after).unwrap_or(order.len());
            order.insert(at, participant);
        }
    }

    /// Whether what was told is no longer true: the one who left was speaking.
    pub fn leave(&mut self, participant: ParticipantId) -> bool {
        self.recency.retain(|p| *p != participant);
        self.order.retain(|p| *p != participant);
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
    /// among each other, so two people talking at once do not swap places. Who moves takes the place of the one who has been
    /// silent the longest. An order holds for a while; then the one that is true by now does. Whether another one holds now, or somebody
    /// spoke for the first time.
    pub fn reorder(&mut self, now: Instant) -> bool {
        let counts = |p: &ParticipantId| self.active.get(p).is_some_and(|since| now >= *since + SUSTAINED);
        let (front, back): (Vec<_>, Vec<_>) = self.recency.iter().copied().partition(counts);
        let heard = self.heard.len();
        self.heard.extend(&front);
        self.recency = front.into_iter().chain(back).collect();
        let moves = self.recency != self.order && self.held_until().is_none_or(|until| until <= now);
        if moves {
            self.order.clone_from(&self.recency);
            self.held_since = Some(now);
        }
        moves || heard != self.heard.len()
    }

    fn held_until(&self) -> Option<Instant> {
        self.held_since.map(|since| since + DWELL)
    }

    /// When the next of the active will have been so for long enough, or another order may hold.
    pub fn next_reorder(&self, now: Instant) -> Option<Instant> {
        let counts = self.active.values().map(|since| *since + SUSTAINED);
        let moves = self.held_until().filter(|_| self.recency != self.order);
        counts.chain(moves).filter(|at| *at > now).min()
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
        step(3000, &[4, 3]);
        assert_eq!(step(3300, &[4, 3]).0, [3, 4, 1, 2], "two at once do not swap");
        assert_eq!(step(5000, &[3, 4]), (vec![3, 4, 1, 2], None));
        assert_eq!(step(5100, &[4]).0, [4, 3, 1, 2]);
        step(7000, &[1]);
        assert_eq!(step(7300, &[1]).0, [1, 4, 3, 2], "the least recently heard is last");
    }

    #[test]
    fn an_order_holds_for_a_while_whatever_is_said() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut speakers = Speakers::default();
        (1..=3).for_each(|n| speakers.join(p(n)));
        let mut orders = Vec::new();
        // Three people, a word each, half a second long, for a minute.
        for n in 0..120 {
            speakers.handle_levels(at(n * 500), &[(p(1 + n % 3), 30)]);
            for ms in [0, 300, 400] {
                let now = at(n * 500 + ms);
                if speakers.reorder(now) {
                    orders.push((now, speakers.order().to_vec()));
                }
                assert!(!speakers.reorder(now), "a second call does nothing");
            }
        }
        assert!((30..=41).contains(&orders.len()), "{}", orders.len());
        // The first words of each are told at once, and move nobody.
        let moves: Vec<_> = orders.windows(2).filter(|w| w[0].1 != w[1].1).map(|w| (w[1].0, &w[1].1)).collect();
        assert!(moves.windows(2).all(|w| w[1].0.duration_since(w[0].0) >= DWELL));
        // What comes to hold is what is true then: who spoke last is first.
        speakers.handle_levels(at(60_000), &[(p(2), 30)]);
        speakers.reorder(at(60_300));
        speakers.handle_levels(at(60_400), &[]);
        let due = speakers.next_reorder(at(60_400));
        speakers.reorder(due.unwrap_or(at(60_400)));
        assert_eq!(speakers.order()[0], p(2));
        assert_eq!(speakers.next_reorder(at(70_000)), None);
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
