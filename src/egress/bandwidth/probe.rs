//! Probes: short bursts at a higher rate that show whether the path carries it.
//!
//! A burst of 50 to 250 ms is filled up with padding. The rate at which it arrives says what the path carries: as libwebrtc's
//! `ProbeBitrateEstimator`, but the second half of the burst is judged by itself too, because a token bucket that was full
//! (policers, `tbf`) lets the first part through at any rate.
use super::Micros;
use super::delay::Arrived;

const MIN_DURATION: Micros = 50_000;
const MAX_DURATION: Micros = 250_000;
/// Bytes that make a measurement, if they fit into `MAX_DURATION`.
const GOOD_SIZE: f64 = 8_400.0;
/// Packets of a burst that are looked at.
const MAX_SAMPLES: usize = 256;
const MIN_SAMPLES: usize = 5;
/// A burst that arrives more slowly than this, as a share of how it was sent, met the limit of the path.
const PASSED: f64 = 0.88;
/// With a later half so much slower than the whole there was a token bucket.
const BUCKET: f64 = 0.85;

#[derive(Clone, Copy, Debug)]
struct Sample {
    sent: Micros,
    arrival: Micros,
    bytes: u16,
    /// Bytes sent up to and with this packet; wraps.
    total: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    /// What arrived, in bits a second.
    pub bps: f64,
    /// The path carried no more: it was sent at a higher rate.
    pub saturated: bool,
    /// What would have arrived without losses.
    pub bps_with_lost: f64,
    /// Share of its packets that did not arrive: 0 to 1.
    pub lost: f64,
}

impl Outcome {
    /// Losses are the path's own: what was lost was carried too.
    pub fn with_lost(self) -> Self {
        Self { bps: self.bps_with_lost, ..self }
    }
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    bps: f64,
    started: Micros,
    /// Bytes that make it complete, and those sent so far.
    goal: usize,
    sent: usize,
    packets: u32,
    first: u64,
    last: u64,
    /// It is being sent.
    open: bool,
    /// When it ends: it is cut off, or its feedback is no longer waited for.
    deadline: Micros,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Prober {
    burst: Option<Burst>,
    samples: Vec<Sample>,
}

impl Prober {
    pub fn start(&mut self, now: Micros, bps: f64) {
        let duration = ((GOOD_SIZE * 8e6 / bps) as Micros).clamp(MIN_DURATION, MAX_DURATION);
        self.samples.clear();
        self.burst = Some(Burst {
            bps,
            started: now,
            goal: (bps * duration as f64 / 8e6) as usize,
            sent: 0,
            packets: 0,
            first: 0,
            last: 0,
            open: true,
            deadline: now + 3 * duration,
        });
    }

    /// It is being sent, or its feedback is waited for.
    pub fn is_busy(&self) -> bool {
        self.burst.is_some()
    }

    /// The rate of the burst that is being sent.
    pub fn sending_bps(&self) -> Option<f64> {
        self.burst.filter(|b| b.open).map(|b| b.bps)
    }

    /// Bytes that the burst is behind its rate at `now`.
    pub fn behind(&self, now: Micros) -> usize {
        let Some(burst) = self.burst.filter(|b| b.open) else { return 0 };
        let due = (burst.bps * (now - burst.started).max(0) as f64 / 8e6) as usize;
        due.min(burst.goal).saturating_sub(burst.sent)
    }

    /// Whether this packet belongs to the burst that is being sent.
    pub fn handle_sent(&mut self, now: Micros, number: u64, bytes: usize) -> bool {
        let Some(burst) = self.burst.as_mut().filter(|b| b.open) else { return false };
        if burst.packets == 0 {
            burst.first = number;
        }
        burst.sent += bytes;
        burst.packets += 1;
        burst.last = number;
        if burst.sent >= burst.goal {
            burst.open = false;
            burst.deadline = now + 1_000_000;
        }
        true
    }

    /// A packet of the burst arrived.
    pub fn handle_arrival(&mut self, packet: Arrived) {
        if self.burst.is_some() && self.samples.len() < MAX_SAMPLES {
            let Arrived { sent, arrival, total, bytes } = packet;
            self.samples.push(Sample { sent, arrival, bytes, total });
        }
    }

    pub fn poll_timeout(&self) -> Option<Micros> {
        self.burst.map(|b| b.deadline)
    }

    /// A burst that could not be completed in time (nothing to pad with) is judged by what there is of it.
    pub fn handle_timeout(&mut self, now: Micros) -> Option<Option<Outcome>> {
        let burst = self.burst.as_mut().filter(|b| b.deadline <= now)?;
        if burst.open && burst.packets >= MIN_SAMPLES as u32 && burst.sent * 2 >= burst.goal {
            burst.open = false;
            burst.deadline = now + 1_000_000;
            return None;
        }
        Some(self.end())
    }

    /// The burst's outcome, once feedback has told of all of it; within it `None` if it was lost or too short to tell.
    pub fn poll_outcome(&mut self, highest: u64) -> Option<Option<Outcome>> {
        let burst = self.burst.filter(|b| !b.open && highest >= b.last)?;
        let _ = burst;
        Some(self.end())
    }

    /// The path shows its limit already: what was sent will do.
    pub fn cut(&mut self, now: Micros) {
        if self.samples.len() >= MIN_SAMPLES
            && let Some(burst) = self.burst.as_mut().filter(|b| b.open)
        {
            (burst.open, burst.deadline) = (false, now + 1_000_000);
        }
    }

    pub fn abort(&mut self) {
        self.burst = None;
    }

    fn end(&mut self) -> Option<Outcome> {
        let burst = self.burst.take()?;
        let enough = self.samples.len() >= MIN_SAMPLES && self.samples.len() as u32 * 2 >= burst.packets;
        let lost = 1.0 - self.samples.len() as f64 / f64::from(burst.packets.max(1));
        let outcome = enough.then(|| judge(&self.samples, lost.max(0.0))).flatten();
        // Memory only while there are probes.
        self.samples.clear();
        outcome
    }
}

fn judge(samples: &[Sample], lost: f64) -> Option<Outcome> {
    let sent = rate(samples, |s| s.sent, true)?;
    let (slow, bps) = arrived(samples, sent, false)?;
    let (slow_with_lost, bps_with_lost) = arrived(samples, sent, true)?;
    Some(Outcome { bps, bps_with_lost, saturated: slow && slow_with_lost, lost })
}

/// Whether a burst that was sent at some rate arrived more slowly, and how fast it did.
fn arrived(samples: &[Sample], sent: f64, with_lost: bool) -> Option<(bool, f64)> {
    let received = rate(samples, |s| s.arrival, with_lost)?;
    let half = &samples[samples.len() / 2..];
    // The later half in itself; it is only worth something with packets at several times.
    let later = (half.len() >= MIN_SAMPLES)
        .then(|| rate(half, |s| s.sent, true).zip(rate(half, |s| s.arrival, with_lost)))
        .flatten();
    let slow = received < PASSED * sent || later.is_some_and(|(sent, received)| received < 0.8 * PASSED * sent);
    // A later half that is not much slower is only noise.
    let bps = match later {
        Some((_, later)) if slow && later < BUCKET * received => later,
        _ => received.min(sent),
    };
    Some((slow, bps))
}

/// The rate between the first and the last time of a burst, in bits a second. Packets at the first time are not counted: they
/// arrived with what was before.
fn rate(samples: &[Sample], time: impl Fn(&Sample) -> Micros, with_lost: bool) -> Option<f64> {
    let start = samples.iter().map(&time).min()?;
    let end = samples.iter().map(&time).max()?;
    let after = || samples.iter().filter(|s| time(s) > start);
    let bytes = match with_lost {
        true => {
            let before = samples.iter().filter(|s| time(s) == start).map(|s| s.total).last()?;
            u64::from(after().last()?.total.wrapping_sub(before))
        }
        false => after().map(|s| u64::from(s.bytes)).sum(),
    };
    (end - start >= 5_000).then(|| bytes as f64 * 8e6 / (end - start) as f64)
}
