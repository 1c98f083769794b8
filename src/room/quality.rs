//! How well everybody's connections do: `quality`, for all to see.
use super::messages::{Event, Pc, Quality, QualityWhy};
use super::participant::Participant;
use super::timers::Timer;
use super::{At, Room};
use crate::engine::api;
use crate::ids::{ParticipantId, PeerId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Between two `quality`, at least: what changes meanwhile is told together.
const EVERY: Duration = Duration::from_secs(1);
/// Nothing to wish for.
const BEST: u8 = 5;

/// How well one participant's connections do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Health {
    up: Score,
    down: Score,
    /// What those who know of it were told last. None: they do not all know the same.
    told: Option<Grade>,
}

type Score = (u8, QualityWhy);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grade {
    up: u8,
    down: u8,
    why: QualityWhy,
}

const GOOD: Score = (BEST, QualityWhy::Good);

impl Default for Health {
    fn default() -> Self {
        Self { up: GOOD, down: GOOD, told: Some(Grade { up: BEST, down: BEST, why: QualityWhy::Good }) }
    }
}

impl Health {
    fn score_mut(&mut self, pc: Pc) -> &mut Score {
        match pc {
            Pc::Pub => &mut self.up,
            Pc::Sub => &mut self.down,
        }
    }

    /// What was told last, unless that was that there is nothing to wish for.
    pub fn told(&self, participant: ParticipantId) -> Option<Quality> {
        self.told.filter(|told| Some(*told) != Self::default().told).map(|told| told.message(participant))
    }
}

impl Grade {
    /// The worse connection says why.
    fn of(participant: &Participant) -> Self {
        let score = |pc, score| if participant.link(pc).down { (0, QualityWhy::Lost) } else { score };
        let (up, down) = (score(Pc::Pub, participant.health.up), score(Pc::Sub, participant.health.down));
        let why = if down.0 < up.0 { down.1 } else { up.1 };
        Self { up: up.0, down: down.0, why }
    }

    fn message(self, participant: ParticipantId) -> Quality {
        Quality { participant: participant.to_string(), up: self.up, down: self.down, why: self.why }
    }
}

/// Whose quality is to be told, and when any was.
#[derive(Debug, Default)]
pub(super) struct Checkup {
    changed: BTreeSet<ParticipantId>,
    told_at: Option<Instant>,
}

impl Room {
    pub(super) fn quality_came(&mut self, peer: PeerId, score: u8, why: api::QualityWhy) {
        let Some((id, pc)) = self.index.peers.get(&peer).copied() else { return };
        let why = match why {
            api::QualityWhy::Good => QualityWhy::Good,
            api::QualityWhy::Loss => QualityWhy::Loss,
            api::QualityWhy::Delay => QualityWhy::Delay,
            api::QualityWhy::Bandwidth => QualityWhy::Bandwidth,
            api::QualityWhy::Silence => QualityWhy::Lost,
        };
        self.set_score(id, pc, (score.min(BEST), why));
    }

    /// Nothing is known of this connection (any more).
    pub(super) fn forget_quality(&mut self, id: ParticipantId, pc: Pc) {
        self.set_score(id, pc, GOOD);
    }

    fn set_score(&mut self, id: ParticipantId, pc: Pc, score: Score) {
        if let Some(participant) = self.participants.get_mut(&id) {
            *participant.health.score_mut(pc) = score;
            self.checkup.changed.insert(id);
        }
    }

    /// Its network went or came back.
    pub(super) fn review_health(&mut self, id: ParticipantId) {
        self.checkup.changed.insert(id);
    }

    /// From now on all are told of it, and they know nothing yet.
    pub(super) fn tell_health_anew(&mut self, id: ParticipantId) {
        let Some(participant) = self.participants.get_mut(&id) else { return };
        if participant.health.told != Health::default().told {
            participant.health.told = None;
            self.checkup.changed.insert(id);
        }
    }

    /// Tells all how everybody's connections do, if that is news and was not told a moment ago. What nobody else hears of
    /// somebody in a large room is told to itself.
    pub(super) fn review_quality(&mut self, at: At) {
        let participants = &self.participants;
        let is_news = |p: &Participant| p.health.told != Some(Grade::of(p));
        self.checkup.changed.retain(|id| participants.get(id).is_some_and(is_news));
        if self.checkup.changed.is_empty() {
            return self.timers.disarm(Timer::Quality);
        }
        let pause = EVERY.max(self.presence.pause(self.participants.len()));
        let due = self.checkup.told_at.map_or(at.now, |told| told + pause);
        if at.now < due {
            return self.timers.arm(Timer::Quality, due);
        }
        self.timers.disarm(Timer::Quality);
        self.checkup.told_at = Some(at.now);
        let mut news = Vec::new();
        for id in std::mem::take(&mut self.checkup.changed) {
            let Some(participant) = self.participants.get_mut(&id) else { continue };
            let grade = Grade::of(participant);
            participant.health.told = Some(grade);
            if self.is_listed(id) {
                news.push(grade.message(id));
            } else {
                self.tell(id, &Event::Quality(vec![grade.message(id)]));
            }
        }
        if !news.is_empty() {
            self.tell_all(&Event::Quality(news));
        }
    }
}
