//! A bad network for one client, made by the load test itself: loss, delay, jitter, and packets that overtake each other.
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Datagrams that may be on their way; beyond it they are lost, as in a full queue.
const MOST: usize = 4_096;

/// What the network does to datagrams, the same both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// The share of datagrams that are lost, 0 to 1.
    pub loss: f64,
    pub delay: Duration,
    /// On top of the delay, at random, in order.
    pub jitter: Duration,
    /// The share of datagrams that are held back by `REORDERED_BY` and so are overtaken.
    pub reorder: f64,
    /// Bits a second of the narrowest part on the way to the client, UDP and IP left out; what would wait for it longer than `buffer` is lost.
    pub bandwidth: Option<u64>,
    pub buffer: Duration,
}

const REORDERED_BY: Duration = Duration::from_millis(8);

/// One direction.
pub(super) struct Line {
    impairment: Impairment,
    rng: SmallRng,
    queue: BinaryHeap<Reverse<Travelling>>,
    next: u64,
    last_due: Option<Instant>,
    /// Until when the narrowest part has work.
    busy_until: Option<Instant>,
    pub(super) lost: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Travelling {
    due: Instant,
    number: u64,
    /// The sender's connection.
    pc: usize,
    bytes: Vec<u8>,
}

impl Line {
    pub(super) fn new(impairment: Impairment, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self { impairment, rng, queue: BinaryHeap::new(), next: 0, last_due: None, busy_until: None, lost: 0 }
    }

    /// Puts a datagram on its way, or loses it.
    pub(super) fn send(&mut self, now: Instant, pc: usize, bytes: &[u8]) {
        let Impairment { loss, delay, jitter, reorder, .. } = self.impairment;
        let passed = self.pass(now, bytes.len()).filter(|_| self.queue.len() < MOST);
        let Some(passed) = passed.filter(|_| !self.rng.random_bool(loss.clamp(0.0, 1.0))) else {
            self.lost += 1;
            return;
        };
        let mut due = passed + delay + jitter.mul_f64(self.rng.random::<f64>());
        if self.rng.random_bool(reorder.clamp(0.0, 1.0)) {
            due += REORDERED_BY;
        } else {
            // Jitter alone does not make packets overtake each other.
            due = self.last_due.map_or(due, |last| due.max(last));
            self.last_due = Some(due);
        }
        self.next += 1;
        self.queue.push(Reverse(Travelling { due, number: self.next, pc, bytes: bytes.to_vec() }));
    }

    /// When a datagram has passed the narrowest part; `None` if there is no room for it.
    fn pass(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(bandwidth) = self.impairment.bandwidth else { return Some(now) };
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        if start.saturating_duration_since(now) > self.impairment.buffer {
            return None;
        }
        let done = start + Duration::from_secs_f64(bytes as f64 * 8.0 / bandwidth.max(1) as f64);
        self.busy_until = Some(done);
        Some(done)
    }

    /// A datagram that has arrived, and on which connection.
    pub(super) fn receive(&mut self, now: Instant) -> Option<(usize, Vec<u8>, Instant)> {
        self.next_arrival().filter(|at| *at <= now)?;
        self.queue.pop().map(|Reverse(t)| (t.pc, t.bytes, t.due))
    }

    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse(t)| t.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_lost_delayed_and_reordered_as_said() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let impairment =
            Impairment { loss: 0.1, delay: ms(50), jitter: ms(10), reorder: 0.05, ..Impairment::default() };
        let mut line = Line::new(impairment, 1);
        let mut got = Vec::new();
        for n in 0..10_000u32 {
            let now = start + Duration::from_millis(u64::from(n));
            line.send(now, 1, &n.to_be_bytes());
            while let Some((1, bytes, at)) = line.receive(now) {
                let n = u32::from_be_bytes(bytes.try_into().unwrap());
                let took = at - (start + ms(u64::from(n)));
                assert!((ms(50)..ms(69)).contains(&took), "{took:?}");
                got.push(n);
            }
        }
        assert!((900..1_100).contains(&line.lost), "{}", line.lost);
        let overtaken = got.windows(2).filter(|w| w[1] < w[0]).count();
        assert!((100..600).contains(&overtaken), "{overtaken}");
    }

    #[test]
    fn a_narrow_path_carries_what_it_can() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let impairment =
            Impairment { bandwidth: Some(800_000), buffer: ms(100), delay: ms(20), ..Impairment::default() };
        let mut line = Line::new(impairment, 1);
        // Twice what it carries: 100 bytes each half millisecond.
        for n in 0..2_000u32 {
            line.send(start + Duration::from_micros(u64::from(n) * 500), 0, &[0; 100]);
        }
        let arrivals: Vec<Instant> =
            std::iter::from_fn(|| line.receive(start + ms(5_000))).map(|(.., at)| at).collect();
        assert!((1_090..1_110).contains(&arrivals.len()), "{}", arrivals.len());
        assert_eq!(line.lost + arrivals.len() as u64, 2_000);
        assert!(arrivals.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_micros(999)));
        assert!(arrivals[0] == start + ms(21), "the path is as long as before");
    }
}
