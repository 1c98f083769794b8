//! How well a peer's connection does, as a number that can be shown: 0 to 5, and what is worst about it.
use super::api::{Event, QualityWhy};
use super::{Engine, peer::Peer};
use crate::rtp::rtcp::ReportBlock;
use std::time::{Duration, Instant};

const BEST: u8 = 5;
/// A score is made so often, and told when it is another one.
const INTERVAL: Duration = Duration::from_secs(2);
/// So many scores in a row have to be better before a better one is told, and so many worse before a worse one is. Two steps down are
/// told at once.
const BETTER_AFTER: u8 = 3;
const WORSE_AFTER: u8 = 2;
/// From which share of packets lost the score is at most 4, 3, 2, 1: conversation suffers from a few percent on.
const LOSS: [f64; 4] = [0.01, 0.03, 0.08, 0.20];
/// The same of the round trip, in seconds: ITU-T G.114 has 150 ms one way for most, and 400 ms at the utmost.
const ROUND_TRIP: [f64; 4] = [0.2, 0.4, 0.8, 1.5];
/// The same of the jitter, in seconds.
const JITTER: [f64; 4] = [0.03, 0.06, 0.12, 0.3];
/// The same of what is missing of the bits that are wanted.
const MISSING: [f64; 4] = [0.1, 0.3, 0.6, 0.9];

/// What was said of a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quality {
    due: Option<Instant>,
    told: Option<u8>,
    /// Scores in a row that are better or worse than that.
    better: u8,
    worse: u8,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    /// 0 to 1.
    loss: f64,
    /// In seconds.
    round_trip: f64,
    jitter: f64,
    /// Share of what is wanted that is not sent, 0 to 1.
    missing: f64,
}

impl Signs {
    fn score(&self) -> (u8, QualityWhy) {
        let grade = |value: f64, limits: [f64; 4]| BEST - limits.iter().filter(|limit| value >= **limit).count() as u8;
        let grades = [
            (grade(self.missing, MISSING), QualityWhy::Bandwidth),
            (grade(self.loss, LOSS), QualityWhy::Loss),
            (grade(self.round_trip, ROUND_TRIP).min(grade(self.jitter, JITTER)), QualityWhy::Delay),
        ];
        let worst = grades.into_iter().min_by_key(|(grade, _)| *grade);
        worst.filter(|(grade, _)| *grade < BEST).unwrap_or((BEST, QualityWhy::Good))
    }
}

impl Quality {
    /// Whether a score is to be told.
    fn take(&mut self, score: u8) -> bool {
        let Some(told) = self.told else {
            self.told = Some(score);
            return true;
        };
        (self.better, self.worse) = (
            if score > told { self.better.saturating_add(1) } else { 0 },
            if score < told { self.worse.saturating_add(1) } else { 0 },
        );
        let news = self.better >= BETTER_AFTER || self.worse >= WORSE_AFTER || told >= score + 2;
        if news {
            *self = Self { due: self.due, told: Some(score), ..Self::default() };
        }
        news
    }
}

impl Engine {
    /// Called with each round of reports; `received` is what we report of its streams.
    pub(super) fn review_quality(&mut self, now: Instant, index: usize, received: &[ReportBlock]) {
        let peer = &mut self.peers[index];
        if peer.quality.due.is_some_and(|due| now < due) {
            return;
        }
        let first = peer.quality.due.replace(now + INTERVAL).is_none();
        let Some(signs) = signs(peer, received).filter(|_| !first) else { return };
        let (score, why) = signs.score();
        if peer.quality.take(score) {
            self.events.push_back(Event::Quality { room: peer.room, peer: peer.id, score, why });
        }
    }
}

/// `None` while nothing flows to or from the peer.
fn signs(peer: &Peer, received: &[ReportBlock]) -> Option<Signs> {
    let fraction = |block: &ReportBlock| f64::from(block.fraction_lost) / 256.0;
    let mean = |sum: f64, count: usize| if count == 0 { 0.0 } else { sum / count as f64 };
    let mut signs = Signs { round_trip: peer.rtt.unwrap_or_default().as_secs_f64(), ..Signs::default() };
    signs.loss = mean(received.iter().map(fraction).sum(), received.len());
    let clock = |block: &ReportBlock| {
        let media = peer.receive.iter().find(|m| m.ssrcs.iter().any(|s| s.ssrc == block.ssrc));
        media.map_or(90_000, |m| m.kind.clock_rate())
    };
    let jitter = |block: &ReportBlock| f64::from(block.jitter) / f64::from(clock(block));
    signs.jitter = received.iter().map(jitter).fold(0.0, f64::max);
    let mut shown = peer.slots.iter().filter(|slot| !slot.retired && slot.track.is_some()).peekable();
    let sends = shown.peek().is_some();
    if let Some(outgoing) = peer.outgoing.as_deref().filter(|_| sends) {
        let estimate = outgoing.bandwidth.estimate();
        let reported: f64 = shown.clone().filter_map(|s| s.reported.as_ref()).map(fraction).sum();
        let reports = shown.filter(|s| s.reported.is_some()).count();
        let lost = if estimate.has_feedback { f64::from(estimate.loss) } else { mean(reported, reports) };
        signs.loss = signs.loss.max(lost);
        let outcome = &outgoing.allocation.outcome;
        let (sent, wanted) = (outcome.allocated_bps as f64, outcome.wanted_bps as f64);
        signs.missing = if wanted > sent { 1.0 - sent / wanted } else { 0.0 };
    }
    (sends || !received.is_empty()).then_some(signs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_sign_decides() {
        let good = Signs { round_trip: 0.05, ..Signs::default() };
        for (signs, score) in [
            (good, (5, QualityWhy::Good)),
            (Signs { loss: 0.02, ..good }, (4, QualityWhy::Loss)),
            (Signs { loss: 0.5, missing: 0.5, ..good }, (1, QualityWhy::Loss)),
            (Signs { round_trip: 0.5, ..good }, (3, QualityWhy::Delay)),
            (Signs { jitter: 0.07, ..good }, (3, QualityWhy::Delay)),
            (Signs { missing: 1.0, loss: 1.0, ..good }, (1, QualityWhy::Bandwidth)),
        ] {
            assert_eq!(signs.score(), score, "{signs:?}");
        }
    }

    #[test]
    fn what_wavers_is_not_told() {
        let mut quality = Quality::default();
        let told: Vec<bool> = [5, 4, 5, 4, 4, 5, 5, 4, 5, 5, 5, 2, 5].into_iter().map(|s| quality.take(s)).collect();
        let expected = [0, 4, 10, 11].map(|at| at as usize);
        assert_eq!((0..told.len()).filter(|at| told[*at]).collect::<Vec<_>>(), expected);
    }
}
