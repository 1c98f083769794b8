//! A path: a bottleneck with a queue that drops what does not fit, then a delay, jitter and losses that have nothing to do with load.
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Whose packet it is.
    pub flow: usize,
    /// What the flow knows it by.
    pub tag: u64,
    pub bytes: usize,
    pub queued: Instant,
}

#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub packet: Packet,
    /// `None`: lost.
    pub arrival: Option<Instant>,
    /// How long it waited for those before it.
    pub waited: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub bps: f64,
    /// One way.
    pub delay: Duration,
    /// What the queue holds, as the time that it takes to drain.
    pub buffer: Duration,
    /// The share of packets that is lost whatever is sent.
    pub loss: f64,
    /// Up to so much more delay, without overtaking.
    pub jitter: Duration,
    /// Bytes that a token bucket lets through at once (`tbf`); 0 for a plain link.
    pub burst: f64,
}

pub struct Link {
    pub shape: Shape,
    queue: VecDeque<Packet>,
    queued_bytes: usize,
    busy_until: Instant,
    tokens: f64,
    last_arrival: Instant,
}

impl Link {
    pub fn new(now: Instant, shape: Shape) -> Self {
        Self { shape, queue: VecDeque::new(), queued_bytes: 0, busy_until: now, tokens: shape.burst, last_arrival: now }
    }

    /// False if the queue is full.
    pub fn send(&mut self, packet: Packet) -> bool {
        let room = (self.shape.bps * self.shape.buffer.as_secs_f64() / 8.0).max(3_000.0) as usize;
        if self.queued_bytes + packet.bytes > room {
            return false;
        }
        self.queued_bytes += packet.bytes;
        self.queue.push_back(packet);
        true
    }

    /// What has passed the bottleneck by `now`.
    pub fn poll(&mut self, now: Instant, rng: &mut StdRng) -> Option<Delivery> {
        let packet = *self.queue.front()?;
        let start = self.busy_until.max(packet.queued);
        // Tokens gather while the link is idle.
        let idle = start.saturating_duration_since(self.busy_until).as_secs_f64();
        let tokens = (self.tokens + idle * self.shape.bps / 8.0).min(self.shape.burst);
        let from_bucket = tokens.min(packet.bytes as f64);
        let takes = Duration::from_secs_f64((packet.bytes as f64 - from_bucket) * 8.0 / self.shape.bps);
        if start + takes > now {
            return None;
        }
        self.tokens = tokens - from_bucket;
        self.busy_until = start + takes;
        self.queue.pop_front();
        self.queued_bytes -= packet.bytes;
        let draws: [f64; 2] = rng.random();
        let arrival = (self.busy_until + self.shape.delay + self.shape.jitter.mul_f64(draws[1])).max(self.last_arrival);
        self.last_arrival = arrival;
        let arrival = (draws[0] >= self.shape.loss).then_some(arrival);
        Some(Delivery { packet, arrival, waited: start.saturating_duration_since(packet.queued) })
    }
}
