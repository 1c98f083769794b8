//! What the signals make of the estimate: back off, drain, resume, grow, and when to probe.
use super::blind::Blind;
use super::delay::{DelayDetector, Usage};
use super::loss::{LossDetector, Tally, Verdict};
use super::probe::Outcome;
use super::{LimitedBy, MAX_BPS, MIN_BPS, Micros, START_BPS, clamp};

/// What is sent after over-use, of what the path was seen to carry. (GCC: 0.85 of what arrived.)
const BACK_OFF: f64 = 0.95;
/// Of what a probe showed.
const PROBE_SHARE: f64 = 0.98;
/// A queue beyond this is drained by sending less for a while.
const DRAIN_FROM: f64 = 100_000.0;
/// In about this time.
const DRAIN_WITHIN: f64 = 700_000.0;
const DRAINED: f64 = 20_000.0;
/// A measured limit is kept to for so long.
const LIMIT_HOLDS: Micros = 10_000_000;
/// Between probes while more is wanted.
const PROBE_INTERVAL: Micros = 5_000_000;
const SOONEST_PROBE: Micros = 1_000_000;
/// The first after a back-off.
const RECOVERY: Micros = 3_000_000;

/// What may be sent at any moment, as a multiple of the estimate; at the start; and of the limit, where that is known.
const PACING: f64 = 1.5;
const PACING_START: f64 = 2.5;
const PACING_KNOWN: f64 = 1.1;
/// Growth in a second where it cannot be probed.
const HOPE: f64 = 0.25;
/// The lowest rate of a probe.
const MIN_PROBE_BPS: f64 = 250_000.0;
/// Who shares the path with a flow that fills the queue does not heed the delay for so long.
const COMPETING: Micros = 20_000_000;
/// Who sends less than so much of what arrives drains the queue.
const DRAINS: f64 = 0.85;
/// So much of a queue should still have been there when it was gone.
const SURPRISE: f64 = 50_000.0;
/// A path that loses more than this by itself may lose packets of a probe too.
const LOSSY: f64 = 0.005;
/// What is kept of the estimate each time that a queue does not drain.
const INSIST: f64 = 0.88;
/// What is kept of the estimate when what waited was another's burst.
const PASSED: f64 = 0.97;
/// What is kept of the estimate when the queue overflows then.
const SHARE_BACK_OFF: f64 = 0.8;

/// What one feedback brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signals {
    pub now: Micros,
    pub usage: Usage,
    pub tally: Tally,
    pub sent_bps: f64,
    /// Bytes sent since the beginning.
    pub sent_total: u64,
    pub received_bps: f64,
    pub rtt: Micros,
    /// The number of the next packet to be sent, and of the next to be told of.
    pub next_number: u64,
    pub next_told: u64,
    /// Whether packets arrive faster than the known limit allows, if that can be told.
    pub promise: Option<bool>,
}

/// Less is sent until the queue is gone.
#[derive(Clone, Copy, Debug)]
struct Drain {
    resume_bps: f64,
    ceiling_bps: f64,
    queue: f64,
    carried: f64,
    /// How often it began again.
    rounds: i32,
    since: Micros,
    /// Packets were lost to the queue.
    overflow: bool,
    /// Bytes sent before.
    sent_total: u64,
    /// Feedback has told of what was sent since.
    seen: bool,
    until: Micros,
    /// What was carried when it began, and what would have been sent; it may have begun again and again since then.
    first_carried: f64,
    first_resume: f64,
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
    blind: Blind,
    competing_until: Micros,
    probe_at: Micros,
    probed_at: Micros,
    probe_failures: u32,
    blindly: bool,
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
            blind: Blind::default(),
            competing_until: 0,
            probe_at: 0,
            probed_at: 0,
            probe_failures: 0,
            blindly: false,
            silent_steps: 0,
        }
    }

    pub fn bps(&self) -> f64 {
        clamp(self.bps.min(self.remb.unwrap_or(f64::INFINITY)))
    }

    /// Without any feedback but loss.
    pub fn blind_bps(&self) -> f64 {
        self.blind.bps()
    }

    /// What the model of the bottleneck takes for its rate.
    pub fn modelled_bps(&self) -> f64 {
        self.drain.map_or(self.bps, |drain| drain.resume_bps.max(self.bps))
    }

    /// Faster than the path is known to be is of no use: it would only fill the queue there. A first picture has no time to lose.
    pub fn pacing_bps(&self) -> f64 {
        match self.capacity {
            Some(capacity) => (PACING_KNOWN * capacity.bps).clamp(PACING_KNOWN * self.bps(), PACING * self.bps()),
            None if self.limited_by == LimitedBy::Start => PACING_START * self.bps(),
            None => PACING * self.bps(),
        }
    }

    /// What the path was seen to carry when it was full.
    pub fn limit_bps(&self) -> Option<f64> {
        self.capacity.map(|c| c.bps)
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
        self.heed_promise(signals);
        let verdict = self.loss.handle(signals.now, signals.tally);
        if delay.take_relief() {
            self.competing_until = 0;
        }
        if signals.now < self.competing_until {
            return self.compete(signals, delay, verdict);
        }
        if signals.usage == Usage::Overuse || verdict == Some(Verdict::Overflow) {
            self.back_off(signals, delay);
            return true;
        }
        if let (Some(Verdict::Excess(excess)), None) = (verdict, self.drain) {
            self.lose(signals, excess);
            return true;
        }
        if self.drain.is_some() {
            self.go_on_draining(signals, delay);
        } else {
            self.grow(signals, delay, false);
        }
        false
    }

    /// Another flow keeps the queue full, and takes all that we leave: only losses count, as they do for the other. (GCC raises its
    /// threshold instead; Copa, NSDI 2018, has such a mode too.)
    fn compete(&mut self, signals: &Signals, delay: &mut DelayDetector, verdict: Option<Verdict>) -> bool {
        delay.acknowledge();
        let Some(_) = verdict else {
            self.grow(signals, delay, true);
            return false;
        };
        self.bps = clamp(self.bps * SHARE_BACK_OFF);
        self.limited_by = LimitedBy::Loss;
        self.ignore_before = signals.next_number;
        true
    }

    /// What the path carries, made of what arrives of it: what it loses by itself it carries too.
    fn with_losses(&self, arrives: f64) -> f64 {
        arrives / (1.0 - self.loss.inherent().min(0.1))
    }

    /// Much more is lost than the path loses by itself, and no queue was seen: a policer, or a queue of a few packets.
    fn lose(&mut self, signals: &Signals, excess: f64) {
        let arrives = self.with_losses(signals.received_bps);
        let gentle = self.bps * (1.0 - 0.5 * excess);
        let lowered = if excess > 0.2 { arrives.max(0.5 * self.bps) } else { gentle.max(arrives) };
        self.bps = clamp(lowered.min(self.bps));
        self.limited_by = LimitedBy::Loss;
        self.ignore_before = signals.next_number;
        self.probe_at = self.probe_at.max(signals.now + RECOVERY);
    }

    fn back_off(&mut self, signals: &Signals, delay: &mut DelayDetector) {
        let carried = self.with_losses(delay.backlog_rate().map_or(signals.received_bps, |(bps, _)| bps));
        self.limited_by = LimitedBy::Delay;
        self.probe_at = self.probe_at.max(signals.now + RECOVERY);
        let Some(drain) = self.drain else {
            return self.start_drain(signals, delay, carried, self.bps);
        };
        if signals.sent_bps < DRAINS * carried {
            // It is long, and it drains.
            return delay.acknowledge();
        }
        // It grows again though much less is sent than was carried, and hardly more than arrives: it is not ours.
        let obeyed = signals.sent_bps < 0.7 * drain.first_carried && signals.sent_bps < 1.25 * carried;
        if obeyed && signals.next_told > self.ignore_before {
            self.start_to_compete(signals, delay, drain);
        } else {
            self.start_drain(signals, delay, carried, drain.ceiling_bps.min(self.bps.max(drain.resume_bps)));
        }
    }

    fn start_drain(&mut self, signals: &Signals, delay: &mut DelayDetector, carried: f64, ceiling_bps: f64) {
        let resume_bps = clamp((BACK_OFF * carried).min(ceiling_bps));
        let queue = delay.queue();
        // Who is told to send less may take his time, or still send more than that.
        let rounds = self.drain.map_or(0, |d| d.rounds + 1).min(4);
        self.bps = clamp(resume_bps * drain_share(queue) * INSIST.powi(rounds));
        self.capacity = Some(Capacity { bps: carried, at: signals.now });
        let until = signals.now + 2 * signals.rtt + 1_000_000;
        let (first_carried, first_resume) =
            self.drain.map_or((carried, resume_bps), |d| (d.first_carried, d.first_resume));
        self.drain = Some(Drain {
            resume_bps,
            ceiling_bps,
            queue,
            carried,
            rounds,
            since: signals.now,
            overflow: signals.tally.queued > 0 || self.drain.is_some_and(|d| d.overflow),
            sent_total: signals.sent_total,
            seen: false,
            until,
            first_carried,
            first_resume,
        });
        self.ignore_before = signals.next_number;
        delay.acknowledge();
    }

    fn go_on_draining(&mut self, signals: &Signals, delay: &mut DelayDetector) {
        let backlog =
            delay.backlog_rate().filter(|&(_, lasted)| lasted > 150_000).map(|(bps, _)| self.with_losses(bps));
        let Some(drain) = &mut self.drain else { return };
        let seen = signals.next_told > self.ignore_before;
        let standing = delay.standing_queue();
        // While there is a queue, what arrives is what the path carries; unless it does not drain, for then it is another's.
        if let Some(carried) = backlog
            && (!seen || standing < 0.8 * drain.queue)
        {
            drain.resume_bps = clamp((BACK_OFF * carried).min(drain.ceiling_bps));
            self.capacity = Some(Capacity { bps: carried, at: signals.now });
            drain.queue = drain.queue.max(standing);
        }
        if seen && !drain.seen {
            drain.seen = true;
            drain.until = signals.now + 500_000 + 2 * standing as Micros;
        }
        let drain = *drain;
        // What was on its way when the decision was made has made the queue longer.
        self.bps = clamp(self.bps.min(drain.resume_bps * drain_share(standing)));
        if seen && standing < DRAINED {
            return self.resume(signals, drain);
        }
        if signals.now <= drain.until {
            return;
        }
        // It should have drained. If hardly any of it went although less was sent than had been carried, it is another's,
        // or the way has become longer; otherwise it takes more of the same.
        let spare = (1.0 - signals.sent_bps / drain.carried).clamp(0.0, 1.0);
        let expected = spare * (signals.now - drain.since) as f64;
        if spare > 1.0 - DRAINS && expected > 50_000.0 && drain.queue - standing < 0.3 * expected.min(drain.queue) {
            self.start_to_compete(signals, delay, drain);
        } else {
            self.start_drain(signals, delay, backlog.unwrap_or(drain.carried), drain.ceiling_bps);
        }
    }

    /// The queue is gone. If it went much sooner than it could have, had the path carried no more than was measured, it was a
    /// burst of somebody else's.
    fn resume(&mut self, signals: &Signals, drain: Drain) {
        let took = (signals.now - drain.since).max(1) as f64;
        let sent_bps = signals.sent_total.saturating_sub(drain.sent_total) as f64 * 8e6 / took;
        let seen = (took - signals.rtt as f64).max(1.0);
        let left = drain.queue - seen * (1.0 - sent_bps / drain.carried);
        self.bps = drain.resume_bps;
        // A queue that overflowed was short: that it went quickly says nothing.
        if left > SURPRISE && !drain.overflow {
            let pace = (1.0 - drain.queue / seen).max(0.1);
            self.bps = clamp(drain.resume_bps.max((BACK_OFF * sent_bps / pace).min(PASSED * drain.ceiling_bps)));
        }
        if self.capacity.is_some_and(|c| c.bps * PROBE_SHARE < self.bps) {
            self.capacity = Some(Capacity { bps: self.bps / PROBE_SHARE, at: signals.now });
        }
        self.drain = None;
    }

    fn start_to_compete(&mut self, signals: &Signals, delay: &mut DelayDetector, drain: Drain) {
        delay.rebase();
        self.bps = clamp(drain.first_resume.max(self.bps));
        self.drain = None;
        self.ignore_before = signals.next_number;
        self.competing_until = signals.now + COMPETING;
    }

    fn grow(&mut self, signals: &Signals, delay: &DelayDetector, competing: bool) {
        let elapsed = self.last_growth.replace(signals.now).map_or(0, |last| signals.now - last).clamp(0, 250_000);
        if self.wanted <= self.allocated {
            return;
        }
        let quiet = delay.standing_queue() <= DRAINED && !self.loss.forbids_growth();
        if self.blindly && quiet && self.bps < self.wanted {
            let seconds = elapsed as f64 / 1e6;
            self.bps = clamp(
                (self.bps * (1.0 + HOPE * seconds)).min(self.wanted).min(self.known_limit(signals.now).max(self.bps)),
            );
            return;
        }
        if signals.sent_bps < 0.8 * self.bps {
            if self.limited_by == LimitedBy::Nothing {
                self.limited_by = LimitedBy::Application;
            }
            return;
        }
        if !competing && !quiet {
            return;
        }
        let seconds = elapsed as f64 / 1e6;
        let limit = if competing { f64::INFINITY } else { self.known_limit(signals.now) };
        let evidence = (1.25 * signals.received_bps).min(limit);
        self.bps = clamp((self.bps * (1.0 + 0.08 * seconds)).min(evidence.max(self.bps)));
        self.limited_by = LimitedBy::Nothing;
    }

    /// What was measured as the limit holds for a while, and then less and less.
    fn known_limit(&self, now: Micros) -> f64 {
        let Some(capacity) = self.capacity else { return f64::INFINITY };
        let age = ((now - capacity.at - LIMIT_HOLDS).max(0)) as f64 / 1e6;
        PROBE_SHARE * capacity.bps * (1.0 + 0.01 * age)
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

    /// Reports of loss where nothing else is known. True if [`blind_bps`](Self::blind_bps) was looked at anew.
    pub fn handle_report(&mut self, now: Micros, packets: u32, lost: f64, left: u64) -> bool {
        self.blind.handle_report(now, packets, lost, left, &mut self.loss)
    }

    /// Nothing can be sent that nobody needs, so there are no probes: what is not known is tried, while nothing waits and nothing is
    /// lost.
    pub fn grow_blindly(&mut self) {
        self.blindly = true;
    }

    pub fn set_goal(&mut self, now: Micros, allocated: f64, wanted: f64) {
        if wanted > self.wanted * 1.05 && self.probe_failures == 0 {
            self.probe_at = self.probe_at.min(now);
        }
        (self.allocated, self.wanted) = (allocated, wanted);
    }

    /// When the next probe is of use.
    pub fn probe_at(&self) -> Option<Micros> {
        let useful = self.wanted > self.allocated && self.wanted > self.bps && self.drain.is_none() && !self.blindly;
        (useful && self.silent_steps == 0).then_some(self.probe_at)
    }

    /// Packets come faster than the limit allows: it is time to measure it again. Where they do not, there is no hurry.
    fn heed_promise(&mut self, signals: &Signals) {
        match signals.promise {
            Some(true) => self.probe_at = self.probe_at.min(signals.now.max(self.probed_at + SOONEST_PROBE)),
            Some(false) if self.probe_failures > 0 => {
                let patience = PROBE_INTERVAL * Micros::from(self.probe_failures.min(3));
                self.probe_at = self.probe_at.max(self.probed_at + patience);
                if let Some(capacity) = &mut self.capacity {
                    capacity.at = signals.now;
                }
            }
            _ => {}
        }
    }

    pub fn put_off_probe(&mut self, now: Micros) {
        self.probe_at = now + 500_000;
    }

    /// The rate of the probe that is to be made now.
    pub fn probe_bps(&self) -> f64 {
        let factor = match self.probe_failures {
            0 if self.capacity.is_none() => 3.0,
            0 | 1 => 2.0,
            _ => 1.5,
        };
        (self.bps * factor).min(self.wanted * 1.15).max(self.bps * 1.1).clamp(MIN_PROBE_BPS, MAX_BPS as f64)
    }

    /// What the probe that was sent showed; `None` if nothing.
    pub fn handle_probe(&mut self, now: Micros, next_number: u64, outcome: Option<Outcome>) {
        self.probed_at = now;
        let Some(outcome) = outcome else {
            self.probe_at = now + PROBE_INTERVAL;
            return;
        };
        if self.drain.is_some() {
            return;
        }
        let inherent = self.loss.inherent();
        let usual = 2.0 * inherent + if inherent > LOSSY { 0.1 } else { 0.01 };
        let outcome = if outcome.lost < usual { outcome.with_lost() } else { outcome };
        if outcome.saturated {
            self.probe_failures += 1;
            self.capacity = Some(Capacity { bps: outcome.bps, at: now });
            if outcome.bps > 0.95 * self.bps {
                // The queue that it made is no reason to send less.
                self.ignore_before = self.ignore_before.max(next_number);
            }
            self.bps = clamp(self.bps.max(PROBE_SHARE * outcome.bps));
            self.probe_at = now + PROBE_INTERVAL;
            self.limited_by = LimitedBy::Delay;
        } else {
            self.probe_failures = 0;
            // A little more than the known limit may be an error of measurement: the limit moves, but it stays.
            self.capacity = self.capacity.filter(|c| outcome.bps < 1.15 * c.bps);
            if let Some(capacity) = &mut self.capacity {
                *capacity = Capacity { bps: capacity.bps.max(outcome.bps), at: now };
            }
            // Another one at once, if this one led anywhere.
            let shown = PROBE_SHARE * outcome.bps;
            self.probe_at = if shown > 1.05 * self.bps { now } else { now + PROBE_INTERVAL };
            self.bps = clamp(self.bps.max(shown));
            self.limited_by = LimitedBy::Nothing;
        }
    }
}

/// Of what the path carries, what to send so that a queue of so many microseconds is gone within a second or so.
fn drain_share(queue: f64) -> f64 {
    (1.0 - (queue - DRAIN_FROM).max(0.0) / DRAIN_WITHIN).clamp(0.45, 1.0)
}
