//! A flow that fills the queue until it loses something: slow start, then AIMD on a window (Reno, RFC 5681), without the details.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub const SEGMENT: usize = 1448;

pub struct Tcp {
    window: f64,
    threshold: f64,
    in_flight: usize,
    next: u64,
    /// Losses of segments before this are one event.
    recovered: u64,
    /// Acknowledgements on their way: when, which, whether it was received.
    acks: VecDeque<(Instant, u64, bool)>,
    pub starts: Instant,
    pub ends: Instant,
}

impl Tcp {
    pub fn new(starts: Instant, ends: Instant) -> Self {
        Self { window: 10.0, threshold: 1e9, in_flight: 0, next: 0, recovered: 0, acks: VecDeque::new(), starts, ends }
    }

    pub fn handle_fate(&mut self, now: Instant, tag: u64, arrival: Option<Instant>, delay: Duration) {
        // A loss is learnt from what comes behind it.
        let at = arrival.unwrap_or(now + delay) + delay;
        self.acks.push_back((at, tag, arrival.is_some()));
    }

    pub fn poll(&mut self, now: Instant, out: &mut Vec<u64>) {
        while let Some(&(at, tag, received)) = self.acks.front().filter(|a| a.0 <= now) {
            let _ = at;
            self.acks.pop_front();
            self.in_flight = self.in_flight.saturating_sub(1);
            if received {
                self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
            } else if tag >= self.recovered {
                self.threshold = (self.window / 2.0).max(2.0);
                self.window = self.threshold;
                self.recovered = self.next;
            }
        }
        if now < self.starts || now >= self.ends {
            return;
        }
        while (self.in_flight as f64) < self.window {
            out.push(self.next);
            self.next += 1;
            self.in_flight += 1;
        }
    }
}
