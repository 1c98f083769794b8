//! A budget from receiver reports alone, for a receiver that gives neither transport-wide feedback nor REMB. There is none until a lot is
//! lost; then it falls by the loss, as in the loss-based part of draft-ietf-rmcat-gcc-02 (section 6), but from what is really sent.
use super::loss::LossDetector;
use super::{MAX_BPS, Micros, clamp};

/// Reports of so long are looked at together, at least: each slot has its own, and they come once a second or less often.
const INTERVAL: Micros = 1_000_000;
/// Above what the path loses by itself: more than the first, twice in a row, and less is sent; less than the second, and a little more may be.
const TOO_MUCH: f64 = 0.1;
const LITTLE: f64 = 0.02;
/// With so much lost, once is enough.
const DISASTER: f64 = 0.3;
/// Growth in a second.
const GROWTH: f64 = 0.08;
/// For so long no more is tried than was carried when too much was lost; each time that it is tried in vain for twice as long.
const HOLD: Micros = 30_000_000;
const MAX_DOUBLINGS: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct Blind {
    bps: f64,
    packets: u32,
    lost: f64,
    since: Option<Micros>,
    /// Bytes of media that had left by then.
    left: u64,
    /// Too much was lost in the last interval.
    bad: bool,
    /// What is kept to until a time, and how often it had to be learnt.
    ceiling: Option<(f64, Micros)>,
    learnt: u32,
    /// What was sent and what arrived of it when the budget fell last, in bits a second.
    fallen: Option<(f64, f64)>,
}

impl Default for Blind {
    fn default() -> Self {
        Self {
            bps: MAX_BPS as f64,
            packets: 0,
            lost: 0.0,
            since: None,
            left: 0,
            bad: false,
            ceiling: None,
            learnt: 0,
            fallen: None,
        }
    }
}

impl Blind {
    /// `MAX_BPS` as long as there is no reason to send less.
    pub fn bps(&self) -> f64 {
        self.bps
    }

    /// Of `packets` that were reported for the first time so many were `lost`; `left` bytes of media have left until now. (Repairs do not
    /// count: they end with the losses.) True if that made an interval full.
    pub fn handle_report(
        &mut self,
        now: Micros,
        packets: u32,
        lost: f64,
        left: u64,
        losses: &mut LossDetector,
    ) -> bool {
        let Some(since) = self.since else {
            (self.since, self.left) = (Some(now), left);
            return false;
        };
        self.packets = self.packets.saturating_add(packets);
        self.lost += lost;
        let elapsed = now - since;
        if elapsed < INTERVAL || self.packets == 0 {
            return false;
        }
        let sent_bps = (left - self.left) as f64 * 8e6 / elapsed as f64;
        self.left = left;
        let share = (self.lost / f64::from(self.packets)).clamp(0.0, 1.0);
        (self.packets, self.lost, self.since) = (0, 0.0, Some(now));
        let excess = losses.observe(share, share);
        let bad = excess > TOO_MUCH;
        let again = std::mem::replace(&mut self.bad, bad);
        let carried_bps = sent_bps * (1.0 - share);
        if bad && (again || excess > DISASTER) && !self.comes_by_itself(sent_bps, carried_bps) {
            self.fall(now, excess, sent_bps, carried_bps);
        } else if excess < LITTLE {
            self.rise(now, elapsed.min(5 * INTERVAL));
        }
        true
    }

    /// Less is sent than when the budget fell last, and less arrives, too: a path that is full carries what it can.
    fn comes_by_itself(&self, sent_bps: f64, carried_bps: f64) -> bool {
        let (before, arrived) = self.fallen.unwrap_or((0.0, 0.0));
        sent_bps < 0.85 * before && carried_bps / arrived.max(1.0) < (sent_bps / before).sqrt()
    }

    fn fall(&mut self, now: Micros, excess: f64, sent_bps: f64, carried_bps: f64) {
        // Less was decided already, but not yet sent: that is no second lesson.
        if sent_bps <= 1.1 * self.bps {
            self.learnt = (self.learnt + 1).min(MAX_DOUBLINGS + 1);
        }
        let hold = HOLD << self.learnt.saturating_sub(1).min(MAX_DOUBLINGS);
        self.ceiling = Some((clamp(carried_bps), now + hold));
        self.fallen = Some((sent_bps, carried_bps));
        self.bps = clamp(self.bps.min(sent_bps) * (1.0 - 0.5 * excess)).min(self.bps);
    }

    fn rise(&mut self, now: Micros, elapsed: Micros) {
        let limit = match self.ceiling {
            Some((bps, until)) if now < until => bps,
            _ => MAX_BPS as f64,
        };
        let grown = self.bps * (1.0 + GROWTH * elapsed as f64 / 1e6);
        self.bps = clamp(grown.min(limit).max(self.bps));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of `bps` that loses `loss` by itself; sent is `top` if the budget allows it, or else half the budget. Gives the budget of each second.
    fn run(bps: f64, loss: f64, top: f64, seconds: i64) -> Vec<f64> {
        let (mut blind, mut losses, mut left) = (Blind::default(), LossDetector::default(), 0);
        let second = |n: i64| {
            let sent = if blind.bps() > top { top } else { blind.bps() / 2.0 };
            let share = 1.0 - sent.min(bps) * (1.0 - loss) / sent;
            let packets = (sent / 8_000.0) as u32;
            left += (sent / 8.0) as u64;
            blind.handle_report(n * INTERVAL, packets, f64::from(packets) * share, left, &mut losses);
            blind.bps()
        };
        (1..=seconds).map(second).collect()
    }

    #[test]
    fn a_path_that_carries_all_has_no_budget() {
        assert!(run(5e6, 0.0, 2e6, 60).iter().all(|bps| *bps == MAX_BPS as f64));
        assert!(run(5e6, 0.08, 2e6, 60).iter().all(|bps| *bps == MAX_BPS as f64));
    }

    #[test]
    fn a_path_that_is_exceeded_is_left_alone_for_longer_and_longer() {
        let budgets = run(1e6, 0.0, 2e6, 300);
        assert!(budgets.iter().take(4).any(|bps| *bps < 1.8e6), "{budgets:?}");
        let exceeded = budgets.iter().filter(|bps| **bps > 2e6).count();
        assert!(exceeded < 40, "{exceeded} of 300 seconds: {budgets:?}");
    }

    #[test]
    fn losses_that_do_not_come_from_sending_do_not_end_the_picture() {
        let budgets = run(10e6, 0.15, 2e6, 120);
        assert!(budgets.iter().all(|bps| *bps > 1.5e6), "{budgets:?}");
    }
}
