//! One bottleneck, the viewers behind it, and what else goes through it: in virtual time, a millisecond a turn.
use super::link::{Delivery, Link, Packet, Shape};
use super::source::{self, AUDIO_BPS, Track};
use super::tcp::{SEGMENT, Tcp};
use exedra::egress::allocation::{self, Layer, Outcome, Path, RAISE_SHARE, Scratch, Slot};
use exedra::egress::bandwidth::{Bandwidth, LimitedBy, Purpose};
use exedra::egress::pacer::{Class, Item, Pacer};
use exedra::rtp::rtcp::{self, Rtcp};
use exedra::rtp::{Ssrc, TwccRecorder};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(1);
/// Bytes of IP and UDP, which the path carries too and the estimate does not count.
pub const IP_OVERHEAD: usize = 28;

/// How a run goes: shapes of the path from given times on, seconds.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub shape: Shape,
    /// (seconds, bits a second)
    pub steps: Vec<(f64, f64)>,
    pub seconds: f64,
    pub tracks: usize,
    /// When each of our own flows begins, seconds.
    pub viewers: Vec<f64>,
    /// Loss-based flows: from, until, seconds.
    pub tcp: Vec<(f64, f64)>,
    pub feedback: Duration,
    /// The most that is wanted of the tracks: a rung.
    pub top: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Media,
    Audio,
    Padding,
}

#[derive(Clone, Copy, Debug)]
struct Job {
    bytes: usize,
    kind: Kind,
    repair: bool,
    made: Instant,
}

/// What one viewer got in each tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slice {
    /// Media that arrived, without padding; and all that was sent.
    pub media_bytes: usize,
    pub sent_bytes: usize,
    pub padding_bytes: usize,
    /// Slots that got another layer.
    pub switches: usize,
    /// The longest wait in the bottleneck, and in the pacer: seconds.
    pub queue: f64,
    pub paced: f64,
    pub estimate: f64,
    pub allocated: f64,
    pub limited_by: Option<LimitedBy>,
}

pub struct Viewer {
    pub bandwidth: Bandwidth,
    pacer: Pacer<Job>,
    pub tracks: Vec<Track>,
    recorder: TwccRecorder,
    next_feedback: Option<Instant>,
    feedbacks: VecDeque<(Instant, Vec<u8>)>,
    jobs: Vec<Job>,
    arrivals: VecDeque<(Instant, u64)>,
    repairs: VecDeque<(Instant, usize)>,
    next_audio: Instant,
    starts: Instant,
    allocated_at: Instant,
    budget: u64,
    slots: Vec<Slot>,
    layers: Vec<Layer>,
    scratch: Scratch,
    outcome: Outcome,
    pub slices: Vec<Slice>,
    /// Every packet's wait in the bottleneck: when, seconds.
    pub waits: Vec<(f32, f32)>,
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub scenario: Scenario,
    pub link: Link,
    pub viewers: Vec<Viewer>,
    tcp: Vec<Tcp>,
    pub tcp_bytes: Vec<usize>,
    rng: StdRng,
}

impl World {
    pub fn new(start: Instant, scenario: Scenario) -> Self {
        let mut rng = StdRng::seed_from_u64(scenario.seed);
        let at = |s: f64| start + Duration::from_secs_f64(s);
        let viewers = scenario.viewers.iter().map(|&s| Viewer::new(at(s), &scenario, &mut rng)).collect();
        let tcp: Vec<_> = scenario.tcp.iter().map(|&(from, until)| Tcp::new(at(from), at(until))).collect();
        let tcp_bytes = vec![0; tcp.len()];
        Self { start, now: start, link: Link::new(start, scenario.shape), viewers, tcp, tcp_bytes, scenario, rng }
    }

    pub fn run(mut self) -> Self {
        let end = self.start + Duration::from_secs_f64(self.scenario.seconds);
        while self.now < end {
            self.now += TICK;
            self.tick();
        }
        self
    }

    pub fn seconds(&self) -> f64 {
        (self.now - self.start).as_secs_f64()
    }

    fn tick(&mut self) {
        let (now, t) = (self.now, self.seconds());
        for &(at, bps) in &self.scenario.steps {
            if t >= at {
                self.link.shape.bps = bps;
            }
        }
        let shape = self.link.shape;
        while let Some(delivery) = self.link.poll(now, &mut self.rng) {
            let flow = delivery.packet.flow;
            match self.viewers.get_mut(flow) {
                Some(viewer) => viewer.handle_delivery(self.start, &delivery, shape.delay),
                None => {
                    let i = flow - self.viewers.len();
                    self.tcp_bytes[i] += if delivery.arrival.is_some() { delivery.packet.bytes } else { 0 };
                    self.tcp[i].handle_fate(now, delivery.packet.tag, delivery.arrival, shape.delay);
                }
            }
        }
        for (flow, viewer) in self.viewers.iter_mut().enumerate() {
            if now >= viewer.starts {
                viewer.tick(self.start, now, flow, &self.scenario, &mut self.link, &mut self.rng);
            }
        }
        let mut due = vec![];
        for (i, tcp) in self.tcp.iter_mut().enumerate() {
            tcp.poll(now, &mut due);
            for tag in due.drain(..) {
                let packet = Packet { flow: self.viewers.len() + i, tag, bytes: SEGMENT + 52, queued: now };
                if !self.link.send(packet) {
                    tcp.handle_fate(now, tag, None, shape.delay);
                }
            }
        }
    }
}

impl Viewer {
    fn new(starts: Instant, scenario: &Scenario, rng: &mut StdRng) -> Self {
        let count = scenario.top as u8 + 1;
        let slots = (0..scenario.tracks as u16).map(|n| Slot { first: n * u16::from(count), count, ..Slot::default() });
        let slots = slots.collect();
        Self {
            bandwidth: Bandwidth::new(),
            pacer: Pacer::new(),
            tracks: (0..scenario.tracks).map(|_| Track::new(starts, rng)).collect(),
            recorder: TwccRecorder::new(),
            next_feedback: None,
            feedbacks: VecDeque::new(),
            jobs: vec![],
            arrivals: VecDeque::new(),
            repairs: VecDeque::new(),
            next_audio: starts,
            starts,
            allocated_at: starts,
            budget: 0,
            slots,
            layers: source::layers(scenario.tracks, scenario.top),
            scratch: Scratch::default(),
            outcome: Outcome::default(),
            slices: vec![],
            waits: vec![],
        }
    }

    fn slice(&mut self, start: Instant, at: Instant) -> &mut Slice {
        let index = (at.saturating_duration_since(start).as_millis() / 100) as usize;
        if self.slices.len() <= index {
            self.slices.resize(index + 1, Slice::default());
        }
        &mut self.slices[index]
    }

    fn handle_delivery(&mut self, start: Instant, delivery: &Delivery, delay: Duration) {
        let packet = delivery.packet;
        let waited = delivery.waited.as_secs_f64();
        let slice = self.slice(start, packet.queued);
        slice.queue = slice.queue.max(waited);
        self.waits.push(((packet.queued - start).as_secs_f32(), waited as f32));
        let job = self.jobs[packet.tag as usize];
        match delivery.arrival {
            Some(at) => {
                self.arrivals.push_back((at, packet.tag));
                if job.kind != Kind::Padding {
                    self.slice(start, at).media_bytes += job.bytes;
                }
            }
            None => self.lose(packet.queued + 2 * delay, job),
        }
    }

    /// The viewer asks again for what it misses, once.
    fn lose(&mut self, asked: Instant, job: Job) {
        if job.kind == Kind::Media && !job.repair {
            self.repairs.push_back((asked + Duration::from_millis(40), job.bytes));
        }
    }

    fn tick(
        &mut self,
        start: Instant,
        now: Instant,
        flow: usize,
        scenario: &Scenario,
        link: &mut Link,
        rng: &mut StdRng,
    ) {
        self.receive(now, link.shape.delay, scenario.feedback);
        while self.feedbacks.front().is_some_and(|f| f.0 <= now) {
            let Some((_, bytes)) = self.feedbacks.pop_front() else { break };
            for packet in rtcp::packets(&bytes) {
                if let Ok(Rtcp::TransportFeedback(feedback)) = packet {
                    self.bandwidth.handle_feedback(now, &feedback).unwrap();
                }
            }
        }
        if self.bandwidth.poll_timeout().is_some_and(|at| at <= now) {
            self.bandwidth.handle_timeout(now);
        }
        self.allocate(start, now);
        self.produce(now, rng);
        self.send(start, now, flow, link);
        let (estimate, allocated) = (self.bandwidth.estimate(), self.outcome.allocated_bps as f64);
        let slice = self.slice(start, now);
        (slice.estimate, slice.allocated) = (estimate.bps as f64, allocated);
        slice.limited_by = Some(estimate.limited_by);
    }

    fn receive(&mut self, now: Instant, delay: Duration, interval: Duration) {
        while let Some((at, tag)) = self.arrivals.front().copied().filter(|a| a.0 <= now) {
            self.arrivals.pop_front();
            self.recorder.record(at, tag as u16);
            self.next_feedback.get_or_insert(at + interval);
        }
        if self.next_feedback.is_some_and(|at| at <= now) {
            self.next_feedback = None;
            let mut out = vec![];
            if self.recorder.build_feedback(now, Ssrc(1), Ssrc(2), &mut out) {
                self.feedbacks.push_back((now + delay, out));
            }
        }
    }

    /// As the engine does: at once when the estimate falls below what is sent, and else ten times a second.
    fn allocate(&mut self, start: Instant, now: Instant) {
        let bps = self.bandwidth.estimate().bps;
        let fell = bps < self.budget && bps < self.outcome.allocated_bps;
        if !fell && now < self.allocated_at + Duration::from_millis(100) {
            return;
        }
        (self.allocated_at, self.budget) = (now, bps);
        let path =
            Path { budget_bps: Some(bps), audio_bps: AUDIO_BPS as u64, untested: false, calm: self.outcome.calm };
        let at_ms = (now - self.starts).as_millis() as u64;
        let mut switches = 0;
        self.outcome = allocation::allocate(at_ms, &path, &self.slots, &self.layers, &mut self.scratch);
        for ((slot, track), choice) in self.slots.iter_mut().zip(&mut self.tracks).zip(self.scratch.choices()) {
            switches += usize::from(slot.current != choice.layer);
            (slot.memory, slot.current) = (choice.memory, choice.layer);
            track.target = choice.layer.map(usize::from);
        }
        self.slice(start, now).switches += switches;
        let goal = match self.outcome.wanted_bps > self.outcome.allocated_bps {
            true => (self.outcome.wanted_bps as f64 / RAISE_SHARE) as u64,
            false => self.outcome.allocated_bps,
        };
        self.bandwidth.set_goal(now, self.outcome.allocated_bps, goal);
    }

    fn produce(&mut self, now: Instant, rng: &mut StdRng) {
        let mut sizes = vec![];
        for track in &mut self.tracks {
            track.poll(now, rng, &mut sizes);
        }
        let mut push = |class, bytes, kind, repair| {
            let pushed = self.pacer.push(now, class, bytes, Job { bytes, kind, repair, made: now });
            assert!(pushed.is_ok() || repair, "{pushed:?}");
        };
        for bytes in sizes {
            push(Class::Video, bytes, Kind::Media, false);
        }
        if now >= self.next_audio {
            self.next_audio += Duration::from_millis(20);
            push(Class::Audio, 120, Kind::Audio, false);
        }
        while self.repairs.front().is_some_and(|r| r.0 <= now) {
            let Some((_, bytes)) = self.repairs.pop_front() else { break };
            push(Class::Repair, bytes, Kind::Media, true);
        }
    }

    fn send(&mut self, start: Instant, now: Instant, flow: usize, link: &mut Link) {
        let fresh = self.pacer.poll_timeout(now).is_some();
        if !fresh && !self.bandwidth.paces() {
            return;
        }
        let mut items = vec![];
        self.pacer.poll(now, &mut self.bandwidth, &mut items);
        for item in items {
            let (job, purpose) = match item {
                Item::Packet(job) if job.repair => (job, Purpose::Repair),
                Item::Packet(job) => (job, Purpose::Media),
                Item::Padding { bytes } => {
                    (Job { bytes, kind: Kind::Padding, repair: false, made: now }, Purpose::Probe)
                }
            };
            let paced = (now - job.made).as_secs_f64();
            let slice = self.slice(start, now);
            slice.paced = slice.paced.max(paced);
            slice.sent_bytes += job.bytes;
            slice.padding_bytes += if job.kind == Kind::Padding { job.bytes } else { 0 };
            let tag = self.jobs.len() as u64;
            let number = self.bandwidth.handle_sent(now, job.bytes, purpose);
            assert_eq!(number, tag as u16);
            self.jobs.push(job);
            if !link.send(Packet { flow, tag, bytes: job.bytes + IP_OVERHEAD, queued: now }) {
                self.lose(now + 2 * link.shape.delay, job);
            }
        }
    }

    /// Bits a second of media that arrived from one time to another, in seconds.
    pub fn goodput(&self, from: f64, to: f64) -> f64 {
        self.sum(from, to, |s| s.media_bytes) * 8.0 / (to - from)
    }

    /// Bits a second of all that was sent.
    pub fn sent(&self, from: f64, to: f64) -> f64 {
        self.sum(from, to, |s| s.sent_bytes) * 8.0 / (to - from)
    }

    pub fn sum(&self, from: f64, to: f64, what: impl Fn(&Slice) -> usize) -> f64 {
        let range = (from * 10.0).round() as usize..(to * 10.0).round() as usize;
        self.slices.get(range).map_or(0, |s| s.iter().map(what).sum()) as f64
    }

    /// How often a slot got another layer.
    pub fn changes(&self, from: f64, to: f64) -> f64 {
        self.sum(from, to, |s| s.switches)
    }

    pub fn padding_share(&self, from: f64, to: f64) -> f64 {
        self.sum(from, to, |s| s.padding_bytes) / self.sum(from, to, |s| s.sent_bytes)
    }

    /// The wait in the bottleneck that a share of the packets sent in that time did not exceed, in seconds.
    pub fn wait(&self, from: f64, to: f64, share: f64) -> f64 {
        let within = |w: &&(f32, f32)| f64::from(w.0) >= from && f64::from(w.0) < to;
        let mut waits: Vec<f32> = self.waits.iter().filter(within).map(|w| w.1).collect();
        waits.sort_by(f32::total_cmp);
        waits.get(((waits.len() as f64 - 1.0).max(0.0) * share) as usize).copied().unwrap_or(0.0).into()
    }
}
