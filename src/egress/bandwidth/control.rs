//! What the signals make of the estimate: back off, drain, resume, grow, and when to probe.
use super::delay::{DelayDetector, Usage};
use super::loss::LossDetector;
use super::probe::Outcome;
use super::{LimitedBy, MAX_BPS, MIN_BPS, Micros, START_BPS, clamp};

/// What is sent after over-use, of what the path was seen to carry. (GCC: 0.85 of what arrived.)
const BACK_OFF: f64 = 0.92;
/// Of what a saturated probe showed.
const PROBE_SHARE: f64 = 0.92;
/// A queue beyond this is drained by sending less for a while.
const DRAIN_FROM: f64 = 40_000.0;
/// In about this time.
const DRAIN_WITHIN: f64 = 900_000.0;
const DRAINED: f64 = 20_000.0;
/// Between probes while more is wanted.
const PROBE_INTERVAL: Micros = 5_000_000;
const MAX_PROBE_INTERVAL: Micros = 7_000_000;
/// The first after a back-off.
const RECOVERY: Micros = 3_000_000;

/// What one feedback brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signals {
    pub now: Micros,
    pub usage: Usage,
    /// Packets told of for the first time, and how many of them were lost.
    pub told: u32,
    pub lost: i64,
    pub sent_bps: f64,
    pub received_bps: f64,
    pub rtt: Micros,
    /// The number of the next packet to be sent, and of the next to be told of.
    pub next_number: u64,
    pub next_told: u64,
}

/// Less is sent until the queue is gone.
#[derive(Clone, Copy, Debug)]
struct Drain {
    resume_bps: f64,
    ceiling_bps: f64,
    queue: f64,
    until: Micros,
}

/// What the path was seen to carry when it was full.
#[derive(Clone, Copy, Debug)]
struct Capacity {
    bps: f64,
    at: Micros,
}

#[derive(Clone, Debug)]
pub(super) struct Controller {
    bps: f64,
    limited_by: LimitedBy,
    drain: Option<Drain>,
    capacity: Option<Capacity>,
    loss: LossDetector,
    /// Packets before this were sent before the last decision.
    ignore_before: u64,
    last_growth: Option<Micros>,
    allocated: f64,
    wanted: f64,
    remb: Option<f64>,
    blind: f64,
    last_report: Option<Micros>,
    probe_at: Micros,
    probe_failures: u32,
    silent_steps: u32,
}

impl Controller {
    pub fn new() -> Self {
        Self {
            bps: START_BPS as f64,
            limited_by: LimitedBy::Start,
            drain: None,
            capacity: None,
            loss: LossDetector::default(),
            ignore_before: 0,
            last_growth: None,
            allocated: 0.0,
            wanted: 0.0,
            remb: None,
            blind: MAX_BPS as f64,
            last_report: None,
            probe_at: 0,
            probe_failures: 0,
            silent_steps: 0,
        }
    }

    pub fn bps(&self) -> f64 {
        clamp(self.bps.min(self.remb.unwrap_or(f64::INFINITY)))
    }

    /// Without any feedback but loss.
    pub fn blind_bps(&self) -> f64 {
        self.blind
    }

    /// What the model of the bottleneck takes for its rate.
    pub fn modelled_bps(&self) -> f64 {
        self.drain.map_or(self.bps, |drain| drain.resume_bps.max(self.bps))
    }

    pub fn pacing_base(&self) -> f64 {
        self.bps()
    }

    pub fn loss(&self) -> f64 {
        self.loss.share()
    }

    pub fn has_remb(&self) -> bool {
        self.remb.is_some()
    }

    pub fn usage(&self) -> Usage {
        if self.drain.is_some() { Usage::Underuse } else { Usage::Normal }
    }

    pub fn limited_by(&self) -> LimitedBy {
        match self.remb {
            Some(remb) if remb < self.bps => LimitedBy::Remb,
            _ => self.limited_by,
        }
    }

    /// Whether what became of this packet is the past of a decision already made.
    pub fn ignores(&self, number: u64) -> bool {
        number < self.ignore_before
    }

    /// True if it backed off.
    pub fn handle_feedback(&mut self, signals: &Signals, delay: &mut DelayDetector) -> bool {
        self.silent_steps = 0;
        if matches!(self.limited_by, LimitedBy::Start | LimitedBy::Silence) {
            self.limited_by = LimitedBy::Nothing;
        }
        let too_much_loss = self.loss.handle(signals.now, signals.told, signals.lost);
        if signals.usage == Usage::Overuse {
            self.back_off(signals, delay);
            return true;
        }
        if let Some(excess) = too_much_loss {
            let floor = (0.98 * signals.received_bps).min(self.bps);
            self.bps = clamp((self.bps * (1.0 - 0.5 * excess)).max(floor));
            self.limited_by = LimitedBy::Loss;
            self.ignore_before = signals.next_number;
            return true;
        }
        if self.drain.is_some() {
            self.go_on_draining(signals, delay);
        } else {
            self.grow(signals, delay);
        }
        false
    }

    fn back_off(&mut self, signals: &Signals, delay: &mut DelayDetector) {
        let carried = delay.backlog_rate().map_or(signals.received_bps, |(bps, _)| bps);
        let ceiling = self.drain.map_or(self.bps, |drain| drain.ceiling_bps.min(self.bps.max(drain.resume_bps)));
        let resume = clamp((BACK_OFF * carried).min(ceiling));
        let queue = delay.queue();
        let share = (1.0 - (queue - DRAIN_FROM).max(0.0) / DRAIN_WITHIN).clamp(0.5, 1.0);
        self.bps = clamp(resume * share);
        self.capacity = Some(Capacity { bps: carried, at: signals.now });
        let until = signals.now + signals.rtt + 500_000 + (queue * 1.5) as Micros;
        self.drain = Some(Drain { resume_bps: resume, ceiling_bps: ceiling, queue, until });
        self.limited_by = LimitedBy::Delay;
        self.ignore_before = signals.next_number;
        self.probe_at = self.probe_at.max(signals.now + RECOVERY);
        delay.acknowledge();
    }

    fn go_on_draining(&mut self, signals: &Signals, delay: &mut DelayDetector) {
        let Some(drain) = &mut self.drain else { return };
        // While there is a queue, what arrives is what the path carries.
        if let Some((carried, lasted)) = delay.backlog_rate()
            && lasted > 150_000
        {
            drain.resume_bps = clamp((BACK_OFF * carried).min(drain.ceiling_bps));
            self.capacity = Some(Capacity { bps: carried, at: signals.now });
        }
        let seen = signals.next_told > self.ignore_before;
        if seen && delay.standing_queue() < DRAINED {
            self.bps = drain.resume_bps;
            self.drain = None;
        } else if signals.now > drain.until {
            // It does not drain although less is sent: it is another's, or the way has become longer.
            if delay.standing_queue() > 0.4 * drain.queue {
                delay.rebase();
            }
            self.bps = drain.resume_bps;
            self.drain = None;
        }
    }

    fn grow(&mut self, signals: &Signals, delay: &DelayDetector) {
        let elapsed = self.last_growth.replace(signals.now).map_or(0, |last| signals.now - last).clamp(0, 250_000);
        if self.wanted <= self.allocated {
            return;
        }
        if signals.sent_bps < 0.8 * self.bps {
            if self.limited_by == LimitedBy::Nothing {
                self.limited_by = LimitedBy::Application;
            }
            return;
        }
        if delay.standing_queue() > DRAINED || self.loss.forbids_growth() {
            return;
        }
        let seconds = elapsed as f64 / 1e6;
        let near = self.capacity.is_some_and(|c| signals.now - c.at < 60_000_000 && self.bps > 0.85 * c.bps);
        let step = match near {
            // About a packet in each response time.
            true => (9_600.0 / (signals.rtt as f64 / 1e6 + 0.1)).max(0.01 * self.bps) * seconds,
            false => self.bps * 0.08 * seconds,
        };
        let evidence = (1.25 * signals.received_bps).max(self.bps);
        self.bps = clamp((self.bps + step).min(evidence));
        self.limited_by = LimitedBy::Nothing;
    }

    pub fn handle_silence(&mut self) {
        if self.silent_steps < 8 {
            self.silent_steps += 1;
            self.bps = clamp(self.bps * 0.8).max(2.0 * MIN_BPS as f64).min(self.bps);
        }
        self.limited_by = LimitedBy::Silence;
    }

    pub fn handle_remb(&mut self, _now: Micros, bps: f64) {
        self.remb = Some(bps.min(MAX_BPS as f64));
        if self.limited_by == LimitedBy::Start {
            self.bps = MAX_BPS as f64;
            self.limited_by = LimitedBy::Remb;
        }
    }

    /// Loss alone, where nothing else is known: as the loss-based part of draft-ietf-rmcat-gcc-02 (section 6).
    pub fn handle_report(&mut self, now: Micros, share: f64) {
        let elapsed = self.last_report.replace(now).map_or(1_000_000, |last| now - last).clamp(0, 5_000_000);
        self.loss.observe(share);
        if share > 0.1 {
            self.blind = clamp(self.blind.min(10e6) * (1.0 - 0.5 * share));
        } else if share < 0.02 {
            self.blind = clamp(self.blind * (1.0 + 0.08 * elapsed as f64 / 1e6));
        }
    }

    pub fn set_goal(&mut self, now: Micros, allocated: f64, wanted: f64) {
        if wanted > self.wanted * 1.05 && self.probe_failures == 0 {
            self.probe_at = self.probe_at.min(now);
        }
        (self.allocated, self.wanted) = (allocated, wanted);
    }

    /// When the next probe is of use.
    pub fn probe_at(&self) -> Option<Micros> {
        let useful = self.wanted > self.allocated && self.wanted > self.bps && self.drain.is_none();
        (useful && self.silent_steps == 0).then_some(self.probe_at)
    }

    pub fn put_off_probe(&mut self, now: Micros) {
        self.probe_at = now + 500_000;
    }

    /// The rate of the probe that is to be made now.
    pub fn probe_bps(&self) -> f64 {
        let factor = if self.capacity.is_none() { 3.0 } else { 2.0 };
        (self.bps * factor).min(self.wanted * 1.15).max(self.bps * 1.1).min(MAX_BPS as f64)
    }

    /// What the probe that was sent showed; `None` if nothing.
    pub fn handle_probe(&mut self, now: Micros, outcome: Option<Outcome>) {
        let Some(outcome) = outcome else {
            self.probe_at = now + PROBE_INTERVAL;
            return;
        };
        if self.drain.is_some() {
            return;
        }
        if outcome.saturated {
            self.probe_failures += 1;
            self.capacity = Some(Capacity { bps: outcome.bps, at: now });
            self.bps = clamp(self.bps.max(PROBE_SHARE * outcome.bps));
            let interval = PROBE_INTERVAL + 1_000_000 * Micros::from(self.probe_failures.min(8));
            self.probe_at = now + interval.min(MAX_PROBE_INTERVAL);
            self.limited_by = LimitedBy::Delay;
        } else {
            self.probe_failures = 0;
            if self.capacity.is_some_and(|c| c.bps < outcome.bps) {
                self.capacity = None;
            }
            self.bps = clamp(self.bps.max(0.97 * outcome.bps));
            self.limited_by = LimitedBy::Nothing;
            self.probe_at = now;
        }
    }
}
