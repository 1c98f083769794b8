//! How long packets wait at the narrowest part of the path, and whether they wait longer than our own bursts explain.
//!
//! GCC's trendline (draft-ietf-rmcat-gcc-02 section 5) takes every slope of the delay for over-use, also that of a keyframe which
//! leaves faster than the path carries it and will have drained long before the next. Here a small model of the bottleneck runs
//! along: a queue that fills by what was sent and drains at the estimated capacity. Measured delay below the model's corrects the
//! model; what is above it is *excess*, and only excess that lasts is over-use: a one-sided CUSUM test
//! (Page, "Continuous Inspection Schemes", 1954) for "the path carries less than is thought".
use super::Micros;

/// Over how long the shortest delay is searched: two halves of this, so that a change of route and the drift of clocks are forgotten.
const BASE_HALF: Micros = 8_000_000;
/// Excess beyond this is not noise, in microseconds.
const THRESHOLD: f64 = 22_000.0;
/// What one packet may differ from the one before, as noise.
const MAX_NOISE: f64 = 15_000.0;
/// How long excess must last: growing fast, growing, and standing.
const FAST: Micros = 30_000;
const GROWING: Micros = 90_000;
const STANDING: Micros = 350_000;
/// Delay that is too much whoever made it, and how long it may last.
const HIGH: f64 = 180_000.0;
const HIGH_LASTS: Micros = 350_000;
/// Delay from which on the bottleneck surely has a queue.
const BACKLOG: f64 = 12_000.0;
const BACKLOG_WINDOW: Micros = 400_000;

/// What the delay says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Usage {
    #[default]
    Normal,
    /// More is sent than the path carries.
    Overuse,
    /// A queue is draining after over-use.
    Underuse,
}

/// A packet that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    /// On the sender's clock.
    pub sent: Micros,
    /// On the receiver's clock.
    pub arrival: Micros,
    /// Bytes sent up to and with this packet; wraps.
    pub total: u32,
    pub bytes: u16,
}

/// A run of packets.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    sent: Micros,
    arrival: Micros,
    bytes: u64,
    packets: u32,
    first: f64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct DelayDetector {
    base: Base,
    /// The model's queue, in microseconds.
    explained: f64,
    last: Option<Arrived>,
    last_excess: f64,
    noise: f64,
    queue: f64,
    /// The least delay of late.
    standing: Standing,
    /// Since when all excess is above the threshold.
    above: Option<Stretch>,
    high_since: Option<Micros>,
    /// By how much the base was raised, and has fallen since.
    raised: Option<Micros>,
    relief: Micros,
    /// Since when there is a queue: what arrives in it arrives at the rate of the bottleneck.
    backlog: Option<Stretch>,
    /// The rate of a window of it that is over.
    earlier: Option<(f64, Micros)>,
}

impl DelayDetector {
    /// A packet in order of sending. `capacity_bps` is what the path is thought to carry.
    /// With `ignore`, what it tells is the past of a decision already made.
    pub fn handle_arrival(&mut self, packet: Arrived, capacity_bps: f64, ignore: bool) -> Usage {
        let delay = packet.arrival - packet.sent;
        let before = self.base.least();
        let queue = (delay - self.base.update(packet.sent, delay)) as f64;
        if self.raised.is_some() {
            self.relief += (before - self.base.least()).max(0);
        }
        self.queue = queue;
        self.standing.update(packet.arrival, queue);
        let Some(last) = self.last.replace(packet) else {
            self.explained = queue;
            return Usage::Normal;
        };
        let between = (packet.sent - last.sent).max(0) as f64;
        let bytes = packet.total.wrapping_sub(last.total);
        let added = f64::from(bytes) * 8e6 / capacity_bps.max(1.0);
        self.explained = ((self.explained - between).max(0.0) + added).min(queue);
        if ignore {
            self.explained = queue;
        }
        let excess = queue - self.explained;
        self.noise += ((excess - self.last_excess).abs().min(MAX_NOISE) - self.noise) * 0.03;
        self.last_excess = excess;
        extend(&mut self.backlog, queue > BACKLOG, &packet, queue);
        if self.backlog.is_some_and(|b| packet.arrival - b.arrival > BACKLOG_WINDOW) {
            self.earlier = self.backlog_rate();
            extend(&mut self.backlog, false, &packet, queue);
            extend(&mut self.backlog, true, &packet, queue);
        } else if self.backlog.is_none() {
            self.earlier = None;
        }
        let above = excess > self.threshold() && !ignore;
        extend(&mut self.above, above, &packet, excess);
        if queue > HIGH && !ignore {
            self.high_since.get_or_insert(packet.sent);
        } else {
            self.high_since = None;
        }
        if self.is_over(&packet, excess) { Usage::Overuse } else { Usage::Normal }
    }

    fn is_over(&self, packet: &Arrived, excess: f64) -> bool {
        if self.high_since.is_some_and(|since| packet.sent - since > HIGH_LASTS) {
            return true;
        }
        let Some(above) = self.above else { return false };
        let lasted = packet.sent - above.sent;
        if above.packets < 3 {
            return false;
        }
        let grows = excess > above.first + 4_000.0;
        lasted >= STANDING || lasted >= GROWING && grows || lasted >= FAST && grows && excess > 2.5 * self.threshold()
    }

    fn threshold(&self) -> f64 {
        THRESHOLD + 2.0 * self.noise
    }

    /// The rate at which packets arrive while there is a queue, thus what the path carries: bits a second over the last 0.1 to 0.4 s,
    /// and over how long it was measured. Less reliable if it was not for long.
    pub fn backlog_rate(&self) -> Option<(f64, Micros)> {
        let (backlog, last) = (self.backlog?, self.last?);
        let lasted = last.arrival - backlog.arrival;
        if self.earlier.is_some() && lasted < BACKLOG_WINDOW / 4 {
            return self.earlier;
        }
        (lasted >= 40_000 && backlog.packets >= 4).then(|| (backlog.bytes as f64 * 8e6 / lasted as f64, lasted))
    }

    /// How long the last packet waited: microseconds.
    pub fn queue(&self) -> f64 {
        self.queue
    }

    /// The shortest wait of the last 100 to 200 ms: microseconds.
    pub fn standing_queue(&self) -> f64 {
        self.standing.least()
    }

    /// A decision has been made upon this: whatever waits now is known.
    pub fn acknowledge(&mut self) {
        (self.explained, self.above, self.high_since) = (self.queue, None, None);
        (self.backlog, self.earlier) = (None, None);
    }

    /// What waits now is not ours to drain: another's queue, or a longer way. It counts as the path's own delay from here on.
    pub fn rebase(&mut self) {
        let Some(last) = self.last else { return };
        let standing = self.standing.least() as Micros;
        (self.raised, self.relief) = (Some(standing), 0);
        self.base = Base { current: last.arrival - last.sent - self.queue as Micros + standing, ..self.base };
        self.base.previous = self.base.current;
        self.base.since = last.sent;
        self.queue = (self.queue - standing as f64).max(0.0);
        self.standing = Standing::default();
        self.acknowledge();
    }

    /// What was taken for the path's own delay by [`rebase`](Self::rebase) has gone: once.
    pub fn take_relief(&mut self) -> bool {
        let gone = self.raised.is_some_and(|raised| self.relief > raised / 2);
        if gone {
            (self.raised, self.relief) = (None, 0);
        }
        gone
    }

    /// The clocks have jumped: everything measured is void.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    pub fn last(&self) -> Option<Arrived> {
        self.last
    }
}

/// Begins, goes on with, or ends a stretch.
fn extend(stretch: &mut Option<Stretch>, holds: bool, packet: &Arrived, first: f64) {
    match stretch {
        _ if !holds => *stretch = None,
        Some(stretch) => {
            stretch.bytes += u64::from(packet.bytes);
            stretch.packets += 1;
        }
        None => *stretch = Some(Stretch { sent: packet.sent, arrival: packet.arrival, bytes: 0, packets: 1, first }),
    }
}

/// The shortest one-way delay (of two clocks, so of any sign) of the last 8 to 16 s.
#[derive(Clone, Copy, Debug)]
struct Base {
    current: Micros,
    previous: Micros,
    since: Micros,
}

impl Default for Base {
    fn default() -> Self {
        Self { current: Micros::MAX, previous: Micros::MAX, since: Micros::MIN }
    }
}

impl Base {
    fn update(&mut self, now: Micros, delay: Micros) -> Micros {
        if now.saturating_sub(self.since) > BASE_HALF {
            (self.previous, self.current, self.since) = (self.current, delay, now);
        }
        self.current = self.current.min(delay);
        self.least()
    }
    fn least(&self) -> Micros {
        self.current.min(self.previous)
    }
}

/// The least of the last 100 to 200 ms.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    current: f64,
    previous: f64,
    since: Micros,
}

impl Standing {
    const HALF: Micros = 100_000;

    fn update(&mut self, now: Micros, queue: f64) {
        if now - self.since > Self::HALF {
            (self.previous, self.current, self.since) = (self.current, queue, now);
        }
        self.current = self.current.min(queue);
    }
    fn least(&self) -> f64 {
        self.current.min(self.previous)
    }
}
