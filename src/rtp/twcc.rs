//! Transport-wide congestion control, the receiver's side (draft-holmer-rmcat-transport-wide-cc-extensions-01): when each packet
//! of a transport arrived, told to its sender every 50 ms. (The sender's side reads [`super::rtcp::TransportFeedback`].)
use super::Ssrc;
use super::rtcp::{FeedbackHead, REFERENCE_TICKS, TICK_MICROS, write_transport_feedback};
use std::time::{Duration, Instant};

/// How long after the first packet that was not yet told of a feedback is due.
pub const INTERVAL: Duration = Duration::from_millis(50);

/// Numbers that are remembered: at 10,000 packets a second, twice the interval.
const WINDOW: i64 = 1024;
/// Packets in one feedback; at worst two bytes for each and a chunk for seven, so that it fits into a datagram.
const MAX_PACKETS: usize = 400;
/// Where the extended numbers begin, so that none falls below zero.
const BASE: i64 = 1 << 16;
const ABSENT: i64 = i64::MIN;

/// Records arrivals, and makes feedback of them. Allocates when it is made, not later.
#[derive(Clone, Debug)]
pub struct TwccRecorder {
    /// By the low bits of the extended number: the arrival in ticks of 250 µs since `epoch`.
    arrivals: Box<[i64; WINDOW as usize]>,
    epoch: Option<Instant>,
    /// The highest number recorded.
    highest: i64,
    /// The first number that the next feedback tells of.
    next: i64,
    /// When the first packet came that no feedback has told of.
    waiting_since: Option<Instant>,
    feedback_count: u8,
    deltas: Vec<Option<i16>>,
}

impl Default for TwccRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl TwccRecorder {
    pub fn new() -> Self {
        Self {
            arrivals: Box::new([ABSENT; WINDOW as usize]),
            epoch: None,
            highest: 0,
            next: 0,
            waiting_since: None,
            feedback_count: 0,
            deltas: Vec::with_capacity(MAX_PACKETS),
        }
    }

    /// A packet with this transport-wide number arrived. A duplicate, and one that is 1024 behind, is not counted.
    pub fn record(&mut self, now: Instant, seq: u16) {
        let epoch = *self.epoch.get_or_insert(now);
        let seq = self.extend(seq);
        if seq <= self.highest - WINDOW {
            return;
        }
        for skipped in (self.highest + 1).max(seq - WINDOW + 1)..=seq {
            self.arrivals[slot(skipped)] = ABSENT;
        }
        self.highest = self.highest.max(seq);
        let arrival = &mut self.arrivals[slot(seq)];
        if *arrival != ABSENT {
            return;
        }
        *arrival = now.saturating_duration_since(epoch).as_micros() as i64 / TICK_MICROS;
        // A packet overtaken by a feedback is told of in the next one.
        self.next = self.next.min(seq).max(self.highest - WINDOW + 1);
        self.waiting_since.get_or_insert(now);
    }

    fn extend(&mut self, seq: u16) -> i64 {
        if self.highest == 0 {
            self.highest = BASE + i64::from(seq) - 1;
            self.next = BASE + i64::from(seq);
        }
        // Numbers behind the first packet may fall below the base, but not below zero: half a turn is less than the base.
        self.highest + i64::from(seq.wrapping_sub(self.highest as u16) as i16)
    }

    /// When a feedback is due: 50 ms after the first arrival that it will tell of, or at once when half the window is waiting.
    pub fn next_timeout(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        Some(if self.highest - self.next > WINDOW / 2 { since } else { since + INTERVAL })
    }

    /// Appends a feedback on all that arrived since the last one to `out`; several where one cannot hold it; none when there is
    /// nothing to tell, or nothing is due yet. Says whether it wrote any.
    pub fn build_feedback(&mut self, now: Instant, sender: Ssrc, media: Ssrc, out: &mut Vec<u8>) -> bool {
        if self.next_timeout().is_none_or(|due| due > now) {
            return false;
        }
        self.waiting_since = None;
        while self.next <= self.highest {
            self.build_one(sender, media, out);
        }
        true
    }

    /// Tells of as many packets as one feedback can hold. Each but the first has a delta of 16 bits to the one before.
    fn build_one(&mut self, sender: Ssrc, media: Ssrc, out: &mut Vec<u8>) {
        let first = self.next;
        let Some(start) = (first..=self.highest).map(|s| self.arrivals[slot(s)]).find(|&a| a != ABSENT) else {
            // What is left is the loss behind the last arrival, which cannot be: the highest has arrived.
            self.next = self.highest + 1;
            return;
        };
        let reference = start.div_euclid(REFERENCE_TICKS);
        let mut last = reference * REFERENCE_TICKS;
        self.deltas.clear();
        for seq in (first..=self.highest).take(MAX_PACKETS) {
            let arrival = self.arrivals[slot(seq)];
            if arrival == ABSENT {
                self.deltas.push(None);
                continue;
            }
            let Ok(delta) = i16::try_from(arrival - last) else { break };
            self.deltas.push(Some(delta));
            last = arrival;
        }
        self.next = first + self.deltas.len() as i64;
        let head = FeedbackHead {
            sender,
            media,
            base_sequence: first as u16,
            reference_time: reference as i32,
            feedback_count: self.feedback_count,
        };
        self.feedback_count = self.feedback_count.wrapping_add(1);
        write_transport_feedback(out, head, &self.deltas);
    }
}

fn slot(seq: i64) -> usize {
    (seq & (WINDOW - 1)) as usize
}
