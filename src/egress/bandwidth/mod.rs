//! What the path to one subscriber carries: send-side congestion control from transport-wide feedback, after Google's GCC
//! (draft-ietf-rmcat-gcc-02, and libwebrtc's `modules/congestion_controller/goog_cc`). docs/BANDWIDTH.md tells how, why, and how well.
mod blind;
mod control;
mod delay;
mod history;
mod loss;
mod pairs;
mod probe;
mod rate;

use crate::metrics::DropReason;
use crate::rtp::rtcp::TransportFeedback;
use control::{Controller, Signals};
use delay::{Arrived, DelayDetector};
use history::{Fate, History};
use loss::Tally;
use pairs::Pairs;
use probe::Prober;
use rate::RateWindow;
use std::time::{Duration, Instant};

pub use delay::Usage;

/// The estimate is never below or above these, in bits a second.
pub const MIN_BPS: u64 = 50_000;
pub const MAX_BPS: u64 = 100_000_000;
/// The estimate before anything is known.
pub const START_BPS: u64 = 600_000;

/// Microseconds since the epoch of one of the two clocks.
type Micros = i64;

/// A path whose feedback does not come within this has none: bits flow unhindered.
const NO_FEEDBACK_AFTER: Micros = 1_200_000;
/// Feedback that stays away for longer, while packets are sent: the path may be dead, and less is sent.
const SILENCE: Micros = 500_000;
/// One-way delay that changes at once by more is a clock that was set.
const CLOCK_JUMP: Micros = 5_000_000;
/// Packets lost while at least so much waits all the time are lost to a full queue.
const STANDING_QUEUE: f64 = 20_000.0;
/// A probe that makes packets wait for so long has shown what it is to show.
const PROBE_QUEUE: f64 = 80_000.0;
/// What a packet is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Media,
    /// A retransmission.
    Repair,
    /// Padding.
    Probe,
}

/// What keeps the estimate where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LimitedBy {
    /// Nothing is known yet.
    #[default]
    Start,
    /// A queue grew when more was sent.
    Delay,
    /// Packets were lost when more was sent.
    Loss,
    /// No more is sent, so no more is known.
    Application,
    /// The receiver's own estimate.
    Remb,
    /// Feedback stays away.
    Silence,
    /// Nothing: it grows; or there is no feedback to make an estimate of.
    Nothing,
}

/// What is known of the path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// What the path carries, in bits a second of whole datagrams: [`MIN_BPS`] to [`MAX_BPS`].
    pub bps: u64,
    /// The highest rate at which to send at any moment.
    pub pacing_bps: u64,
    /// What arrived over the last half second.
    pub acked_bps: u64,
    /// Share of packets lost, smoothed: 0 to 1.
    pub loss: f32,
    /// Smoothed round trip, if known.
    pub rtt: Option<Duration>,
    /// How long the last packet waited on its way.
    pub queue_delay: Duration,
    pub usage: Usage,
    pub limited_by: LimitedBy,
    /// A probe is being sent, or its feedback is waited for.
    pub probing: bool,
    /// Transport-wide feedback or REMB has come.
    pub has_feedback: bool,
}

/// One subscriber's transport. Small while it is idle: the record of sent packets grows with what is sent, up to 8192 of 16 bytes.
#[derive(Debug)]
pub struct Bandwidth {
    epoch: Option<Instant>,
    history: History,
    /// The number after the highest that feedback told of as received.
    next_told: u64,
    clock: ArrivalClock,
    sent: RateWindow,
    received: RateWindow,
    delay: DelayDetector,
    pairs: Pairs,
    prober: Prober,
    control: Controller,
    rtt: Option<Micros>,
    first_sent: Option<Micros>,
    last_feedback: Option<Micros>,
    /// When the first and the last packet left that no transport-wide feedback will tell of.
    unnumbered: Option<(Micros, Micros)>,
    /// Bytes of media that ever left.
    media: u64,
    last_step: Micros,
}

impl Default for Bandwidth {
    fn default() -> Self {
        Self::new()
    }
}

impl Bandwidth {
    pub fn new() -> Self {
        Self {
            epoch: None,
            history: History::default(),
            next_told: 0,
            clock: ArrivalClock::default(),
            sent: RateWindow::default(),
            received: RateWindow::default(),
            delay: DelayDetector::default(),
            pairs: Pairs::default(),
            prober: Prober::default(),
            control: Controller::new(),
            rtt: None,
            first_sent: None,
            last_feedback: None,
            unnumbered: None,
            media: 0,
            last_step: 0,
        }
    }

    /// A packet of `bytes` (the datagram: UDP payload) leaves now. Gives the transport-wide number that it is to carry.
    pub fn handle_sent(&mut self, now: Instant, bytes: usize, purpose: Purpose) -> u16 {
        self.note_left(bytes, purpose);
        let now = self.micros(now);
        let size = bytes.min(u16::MAX.into()) as u16;
        self.first_sent.get_or_insert(now);
        let probes = self.prober.handle_sent(now, self.history.next(), bytes);
        self.sent.add(now, size);
        self.history.push(now, size, probes) as u16
    }

    /// What the receiver says of packets by their transport-wide numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    ///
    /// An error if it tells of packets that were never sent (`FeedbackImpossible`) or are long forgotten (`FeedbackStale`), or if its
    /// clock jumped (`FeedbackClock`); the estimate does not follow it then.
    pub fn handle_feedback(&mut self, now: Instant, feedback: &TransportFeedback<'_>) -> Result<(), DropReason> {
        let now = self.micros(now);
        let first = self.history.extend(feedback.base_sequence, feedback.packet_count)?;
        let offset = self.clock.offset(feedback.reference_time);
        let (capacity, limit) = (self.control.modelled_bps(), self.control.limit_bps());
        let (mut tally, mut news, mut newest_sent) = (Tally::default(), false, None);
        let mut usage = Usage::Normal;
        for (number, (_, arrival)) in (first..).zip(feedback.arrivals()) {
            let Some(sent) = self.history.get_mut(number) else { continue };
            // A probe may lose packets, and what was sent before the last decision says nothing of it.
            let counts = !sent.probes && !self.control.ignores(number);
            let Some(arrival) = arrival else {
                if sent.fate == Fate::Unknown {
                    (sent.fate, news) = (Fate::Lost, true);
                    tally.add(counts, 1, self.delay.standing_queue() > STANDING_QUEUE);
                }
                continue;
            };
            match sent.fate {
                Fate::Received => continue,
                Fate::Lost => tally.lost -= i64::from(counts),
                Fate::Unknown => tally.add(counts, 0, false),
            }
            (sent.fate, news) = (Fate::Received, true);
            let sent = *sent;
            let packet = Arrived { sent: sent.at, arrival: arrival + offset, total: sent.total, bytes: sent.bytes };
            if self.delay.last().is_some_and(|last| is_jump(&last, &packet)) {
                self.handle_clock_jump();
                return Err(DropReason::FeedbackClock);
            }
            self.received.add(packet.arrival, sent.bytes);
            if sent.probes {
                self.prober.handle_arrival(packet);
            }
            if number < self.next_told {
                continue; // Overtaken: it says nothing of the queue.
            }
            self.next_told = number + 1;
            newest_sent = Some(sent.at);
            self.pairs.handle_arrival(packet, limit);
            if self.delay.handle_arrival(packet, capacity, self.control.ignores(number)) == Usage::Overuse {
                usage = Usage::Overuse;
            }
        }
        if !news {
            return Err(DropReason::FeedbackStale);
        }
        self.last_feedback = Some(now);
        self.history.handle_answer();
        if let Some(at) = newest_sent {
            self.sample_rtt(now - at);
        }
        self.decide(now, usage, tally);
        Ok(())
    }

    /// The receiver's own estimate (draft-alvestrand-rmcat-remb-03), bits a second: an upper bound. An error (`RembImplausible`) if it is
    /// below 5 kbit/s or above 10 Gbit/s, which no receiver can mean.
    pub fn handle_remb(&mut self, now: Instant, bps: u64) -> Result<(), DropReason> {
        if !(5_000..=10_000_000_000).contains(&bps) {
            return Err(DropReason::RembImplausible);
        }
        let now = self.micros(now);
        self.control.handle_remb(now, bps as f64);
        Ok(())
    }

    /// A packet of `bytes` leaves without a number: the receiver knows no transport-wide feedback, at least not for its kind.
    pub fn handle_unnumbered(&mut self, now: Instant, bytes: usize, purpose: Purpose) {
        self.note_left(bytes, purpose);
        let now = self.micros(now);
        self.unnumbered.get_or_insert((now, now)).1 = now;
    }

    /// Receiver reports tell of so many packets for the first time, and that so many of them were lost, in 256ths. Used where nothing else is
    /// told. True if the estimate may have moved.
    pub fn handle_report(&mut self, now: Instant, packets: u32, lost_256ths: u64) -> bool {
        if self.last_feedback.is_some() || self.control.has_remb() {
            return false;
        }
        let now = self.micros(now);
        self.control.handle_report(now, packets, lost_256ths as f64 / 256.0, self.media)
    }

    /// The round trip as sender and receiver reports tell it.
    pub fn handle_rtt(&mut self, rtt: Duration) {
        if self.last_feedback.is_none() {
            self.sample_rtt(rtt.as_micros().min(10_000_000) as Micros);
        }
    }

    /// Padding was due, and there is no way to send any (no RTX): no more probes.
    pub fn handle_no_padding(&mut self) {
        self.prober.abort();
        self.control.grow_blindly();
    }

    /// What is sent now by plan, and what would be if the path carried it: bits a second. Probes are sent while more is wanted, and no
    /// higher than that.
    pub fn set_goal(&mut self, now: Instant, allocated_bps: u64, wanted_bps: u64) {
        let now = self.micros(now);
        self.control.set_goal(now, allocated_bps as f64, wanted_bps as f64);
    }

    /// Call it at [`poll_timeout`](Self::poll_timeout), and then look after the pacer: a probe may have begun.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.micros(now);
        if let Some(outcome) = self.prober.handle_timeout(now) {
            self.control.handle_probe(now, self.history.next(), outcome);
        }
        if self.silent_at().is_some_and(|at| at <= now) {
            self.last_step = now;
            self.control.handle_silence();
            self.prober.abort();
        }
        self.start_probe(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; `None` while nothing is sent and nothing is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probe = match self.prober.is_busy() {
            true => self.prober.poll_timeout(),
            false => self.last_feedback.and_then(|_| self.control.probe_at()),
        };
        let at = [probe, self.silent_at()].into_iter().flatten().min()?;
        Some(self.epoch? + Duration::from_micros(at.max(0) as u64))
    }

    pub fn estimate(&self) -> Estimate {
        let has_feedback = self.last_feedback.is_some() || self.control.has_remb();
        let unknown = !has_feedback && self.lacks_feedback();
        let bps = if unknown { self.control.blind_bps() } else { self.control.bps() };
        let last_arrival = self.delay.last().map_or(0, |last| last.arrival);
        Estimate {
            bps: clamp(bps) as u64,
            pacing_bps: self.pacing_bps() as u64,
            acked_bps: self.received.bps(last_arrival, 500_000) as u64,
            loss: self.control.loss() as f32,
            rtt: self.rtt.map(|rtt| Duration::from_micros(rtt.max(0) as u64)),
            queue_delay: Duration::from_micros(self.delay.queue().max(0.0) as u64),
            usage: self.control.usage(),
            limited_by: match unknown {
                true if bps < MAX_BPS as f64 => LimitedBy::Loss,
                true => LimitedBy::Nothing,
                false => self.control.limited_by(),
            },
            probing: self.prober.is_busy(),
            has_feedback,
        }
    }

    /// Whether packets may have to wait for their turn, or padding is due. While not, nothing needs to go through a pacer.
    pub fn paces(&self) -> bool {
        self.last_feedback.is_some() || self.control.has_remb() || !self.lacks_feedback()
    }

    /// The highest rate at which to send, in bits a second.
    pub(super) fn pacing_bps(&self) -> f64 {
        if !self.paces() {
            return MAX_BPS as f64;
        }
        let probe = self.prober.sending_bps().unwrap_or(0.0);
        self.control.pacing_bps().max(probe).min(MAX_BPS as f64)
    }

    /// Whether a probe is being sent now.
    pub(super) fn is_probing(&self) -> bool {
        self.prober.sending_bps().is_some()
    }

    /// Bytes that are to be sent so that the probe has its rate until `ahead` from now.
    pub(super) fn probe_bytes(&self, now: Instant, ahead: Duration) -> usize {
        let Some(epoch) = self.epoch else { return 0 };
        self.prober.behind(now.saturating_duration_since(epoch).as_micros() as Micros + ahead.as_micros() as Micros)
    }

    fn note_left(&mut self, bytes: usize, purpose: Purpose) {
        if purpose == Purpose::Media {
            self.media += bytes as u64;
        }
    }

    fn micros(&mut self, now: Instant) -> Micros {
        let epoch = *self.epoch.get_or_insert(now);
        now.saturating_duration_since(epoch).as_micros() as Micros
    }

    /// So much was sent without an answer that there will be none.
    fn lacks_feedback(&self) -> bool {
        match (self.first_sent, self.history.last()) {
            (Some(first), Some(last)) => self.last_feedback.is_none() && last.at - first > NO_FEEDBACK_AFTER,
            _ => self.unnumbered.is_some_and(|(first, last)| last - first > NO_FEEDBACK_AFTER),
        }
    }

    /// When feedback has been away for too long: only while packets are sent that it could tell of.
    fn silent_at(&self) -> Option<Micros> {
        let last_sent = self.history.last()?.at;
        let waiting_since = self.last_feedback?.max(self.last_step);
        let patience = SILENCE + 2 * self.rtt.unwrap_or(0);
        (last_sent > waiting_since).then_some(waiting_since + patience)
    }

    fn sample_rtt(&mut self, sample: Micros) {
        let sample = sample.max(0);
        self.rtt = Some(self.rtt.map_or(sample, |rtt| rtt + (sample - rtt) / 8));
    }

    fn handle_clock_jump(&mut self) {
        self.delay.reset();
        self.received = RateWindow::default();
        self.prober.abort();
    }

    fn decide(&mut self, now: Micros, usage: Usage, tally: Tally) {
        let arrival = self.delay.last().map_or(0, |last| last.arrival);
        let signals = Signals {
            now,
            usage,
            tally,
            sent_bps: self.sent.bps(now, 500_000),
            sent_total: self.history.sent_bytes(),
            received_bps: self.received.bps(arrival, 300_000),
            rtt: self.rtt.unwrap_or(100_000),
            next_number: self.history.next(),
            next_told: self.next_told,
            promise: self.pairs.promise_more(),
        };
        if self.control.handle_feedback(&signals, &mut self.delay) {
            self.prober.abort();
        }
        if self.delay.queue() > PROBE_QUEUE {
            self.prober.cut(now);
        }
        if let Some(outcome) = self.prober.poll_outcome(self.next_told.saturating_sub(1)) {
            if outcome.is_some_and(|o| o.saturated) {
                self.pairs.handle_limit();
            }
            self.control.handle_probe(now, self.history.next(), outcome);
        }
        self.start_probe(now);
    }

    fn start_probe(&mut self, now: Micros) {
        if self.prober.is_busy() || self.last_feedback.is_none() || self.control.probe_at().is_none_or(|at| at > now) {
            return;
        }
        if self.delay.standing_queue() > 40_000.0 {
            return self.control.put_off_probe(now);
        }
        self.prober.start(now, self.control.probe_bps());
    }
}

fn clamp(bps: f64) -> f64 {
    if bps.is_nan() { MIN_BPS as f64 } else { bps.clamp(MIN_BPS as f64, MAX_BPS as f64) }
}

fn is_jump(last: &Arrived, packet: &Arrived) -> bool {
    ((packet.arrival - packet.sent) - (last.arrival - last.sent)).abs() > CLOCK_JUMP
}

/// Extends the 24 bits of a feedback's reference time.
#[derive(Clone, Copy, Debug, Default)]
struct ArrivalClock {
    last: Option<i64>,
}

impl ArrivalClock {
    /// What to add to a feedback's times, in microseconds.
    fn offset(&mut self, reference: i32) -> Micros {
        const TURN: i64 = 1 << 24;
        let raw = i64::from(reference);
        let last = *self.last.get_or_insert(raw);
        let step = (raw - last + TURN / 2).rem_euclid(TURN) - TURN / 2;
        self.last = Some(last + step);
        (last + step - raw) * 64_000
    }
}

#[cfg(test)]
mod tests;
