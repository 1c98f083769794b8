//! The load: all clients on one thread, with one loop over all their sockets.
//!
//! A turn of the loop asks the kernel once which sockets are ready, and reads each with one call (recvmmsg with GRO: what the server sent as one
//! GSO batch arrives as one buffer). Nothing is allocated for a packet. Latency is measured to the kernel's own stamp of a packet's arrival, so that a packet
//! that waits for this thread is not held against the server; how late this thread is, is measured apart.
#![allow(clippy::disallowed_methods, reason = "this is where time comes from")]
mod client;
mod http;
mod network;
mod room_socket;
mod timers;
mod totals;
mod udp;

pub use client::Client;
pub use network::Impairment;
pub use room_socket::HttpAddress;

use crate::client::{Meter, Settings};
use crate::kernel::ThreadCpu;
use crate::report::histogram::{Histogram, Quantiles};
use crate::report::model::{CpuTime, Joins, Media, Phase};
use mio::{Events, Poll, Registry, Token};
use slab::Slab;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use timers::Timers;
use totals::{Sent, Sums};
use udp::{Buffers, Udp, WallClock};

/// Sockets that are served in one turn: few enough, so that publishers are not kept waiting by a thousand viewers.
const EVENTS: usize = 256;
const SECOND: Duration = Duration::from_secs(1);
/// With so many clients the sockets are asked no more often than each [`TICK`]: one turn then serves many, and to go to sleep and wake up costs as much as
/// a receive. What arrives meanwhile is stamped by the kernel, so that latency is not told longer than it is.
const MANY: usize = 100;
const TICK: Duration = Duration::from_millis(1);
/// How long what is on its way may take when a run is stopped from outside.
const STOPPING: Duration = Duration::from_millis(500);
/// How long all together may take to leave in the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Descriptions of faults that are kept.
const MAX_FAULTS: usize = 50;
/// Somebody who came so short before the end need not have got anything.
const NEWCOMER: Duration = Duration::from_secs(2);

/// Clients that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cohort {
    /// Those who are in from the start to the end.
    Steady,
    /// Those who come and go.
    Visitor,
    /// Those behind a bad network.
    Impaired,
}

impl Cohort {
    pub const ALL: [Cohort; 3] = [Self::Steady, Self::Visitor, Self::Impaired];
}

/// Somebody who is to join.
pub struct JoinPlan {
    pub settings: Settings,
    /// None: over the room API.
    pub http: Option<HttpPlan>,
    pub cohort: Cohort,
    /// Audio and video slots that are to get something before the end.
    pub expects: (usize, usize),
    pub network: Option<Impairment>,
}

/// Somebody who speaks WHIP, if they publish, or else WHEP.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// Where the offer is posted to, from the server's root.
    pub path: String,
    pub bearer: Option<String>,
}

/// Decides who comes, goes and does what. It runs on the thread of the clients, so it is to be quick.
pub trait Director: Send {
    /// Does what is due.
    fn turn(&mut self, now: Instant, stage: &mut Stage);
    /// When it wants to be called next.
    fn next_turn(&self) -> Option<Instant>;
    /// How many should be in by now.
    fn wanted(&self) -> u64;
}

/// What the thread says, once a second and when the phase changes.
pub enum Report {
    Phase(Phase),
    Second(Box<Second>),
    Ended(Box<Ending>),
}

/// One second of the clients. Counts are those of the second.
#[derive(Clone, Debug, Default)]
pub struct Second {
    pub interval: Duration,
    pub phase: Phase,
    pub wanted: u64,
    pub joined: u64,
    pub packets_sent: u64,
    /// Packets, losses and repairs of all slots.
    pub media: Media,
    pub latency: Quantiles,
    /// What `latency` sums up.
    pub latencies: Histogram,
    pub first_packet: Quantiles,
    pub cpu_share: f64,
    pub loop_lag_max_us: u64,
    pub unsent: u64,
}

/// What became of all.
pub struct Ending {
    pub joins: Joins,
    /// By group: audio and video.
    pub cohorts: [[Media; 2]; Cohort::ALL.len()],
    pub publishers: u64,
    pub subscribers: u64,
    pub fault_count: u64,
    pub faults: Vec<String>,
    pub resumes: u64,
    pub failed_resumes: u64,
    pub leaves: u64,
    pub changes: u64,
    /// Of this thread, while all were in.
    pub measured: Duration,
    pub cpu: CpuTime,
    pub cpu_share_max: f64,
    pub loop_lag: Histogram,
    pub unsent: u64,
    pub packets_due: u64,
    pub packets_sent: u64,
    /// Packets of publishers that the server's feedback says of that they came, and that they did not.
    pub packets_acknowledged: u64,
    pub packets_missed: u64,
    pub packets_received: u64,
    pub emulated_losses: (u64, u64),
    pub receive_buffer: u64,
    pub datagrams_per_buffer_max: u64,
}

/// The ports of all our UDP sockets: whose drops are ours.
pub type Ports = Arc<Mutex<HashSet<u16>>>;

/// What starts a carrier.
pub struct CarrierConfig {
    pub server: HttpAddress,
    pub director: Box<dyn Director>,
    pub reports: mpsc::Sender<Report>,
    pub ports: Ports,
    /// Set from outside: it is to come to an end now.
    pub stop: Arc<AtomicBool>,
    /// Seeds what is random of the networks.
    pub seed: u64,
}

/// Starts the thread. It says [`Report::Ended`] and ends when its director ends the load, or when it is told to stop.
pub fn spawn(config: CarrierConfig) -> io::Result<std::thread::JoinHandle<io::Result<()>>> {
    std::thread::Builder::new().name("clients".into()).spawn(move || Carrier::new(config)?.run())
}

/// What all clients of the thread share.
struct Shared {
    registry: Registry,
    timers: Timers,
    meters: [Meter; Cohort::ALL.len()],
    wall: WallClock,
    joins: Joins,
    /// Of this second.
    first_packets: Histogram,
    unsent: u64,
    receive_buffer: u64,
    ports: Ports,
}

impl Shared {
    /// Media packets that came so far.
    fn packets(&self) -> u64 {
        self.meters.iter().map(|meter| meter.audio.packets + meter.video.packets).sum()
    }

    fn note_socket(&mut self, udp: &Udp) {
        self.receive_buffer = udp.receive_buffer();
        if let Ok(mut ports) = self.ports.lock() {
            ports.insert(udp.port);
        }
    }
}

/// What a director works on.
pub struct Stage {
    shared: Shared,
    clients: Slab<Client>,
    server: HttpAddress,
    phase: Phase,
    new_phase: Option<Phase>,
    ended: bool,
    seed: u64,
    gone: Sums,
    gone_sent: Sent,
    /// Taken away by emulated networks of those who left.
    gone_lost: (u64, u64),
    publishers: u64,
    subscribers: u64,
    fault_count: u64,
    faults: Vec<String>,
    resumes: u64,
    failed_resumes: u64,
    leaves: u64,
    changes: u64,
}

struct Carrier {
    poll: Poll,
    stage: Stage,
    director: Box<dyn Director>,
    buffers: Buffers,
    reports: mpsc::Sender<Report>,
    stop: Arc<AtomicBool>,
    /// Until when it goes on after it was told to stop.
    stopping: Option<Instant>,
    second: SecondMark,
    lag: Histogram,
    lag_max_us: u64,
    measure: Option<Measure>,
    measured: Measured,
}

/// Where the present second began.
struct SecondMark {
    at: Instant,
    cpu: ThreadCpu,
    sums: Media,
    sent: u64,
    unsent: u64,
    latency: Histogram,
}

/// Where measuring began.
struct Measure {
    at: Instant,
    cpu: ThreadCpu,
    packets: u64,
    sent: Sent,
}

#[derive(Default)]
struct Measured {
    time: Duration,
    cpu: CpuTime,
    cpu_share_max: f64,
    packets: u64,
    sent: Sent,
    latency: [[Histogram; 2]; Cohort::ALL.len()],
}

/// Which client a socket belongs to, and which of its sockets it is: 0 the room's, then one for each connection.
fn token(client: usize, socket: usize) -> Token {
    Token(client * 4 + socket)
}

impl Carrier {
    fn new(config: CarrierConfig) -> io::Result<Self> {
        let poll = Poll::new()?;
        let shared = Shared {
            registry: poll.registry().try_clone()?,
            timers: Timers::default(),
            meters: std::array::from_fn(|_| Meter::default()),
            wall: WallClock::now(),
            joins: Joins::default(),
            first_packets: Histogram::default(),
            unsent: 0,
            receive_buffer: 0,
            ports: config.ports,
        };
        let stage = Stage {
            shared,
            clients: Slab::new(),
            server: config.server,
            phase: Phase::Joining,
            new_phase: None,
            ended: false,
            seed: config.seed,
            gone: Sums::default(),
            gone_sent: Sent::default(),
            gone_lost: (0, 0),
            publishers: 0,
            subscribers: 0,
            fault_count: 0,
            faults: Vec::new(),
            resumes: 0,
            failed_resumes: 0,
            leaves: 0,
            changes: 0,
        };
        Ok(Self {
            poll,
            stage,
            director: config.director,
            buffers: Buffers::default(),
            reports: config.reports,
            stop: config.stop,
            stopping: None,
            second: SecondMark {
                at: Instant::now(),
                cpu: ThreadCpu::now(),
                sums: Media::default(),
                sent: 0,
                unsent: 0,
                latency: Histogram::default(),
            },
            lag: Histogram::default(),
            lag_max_us: 0,
            measure: None,
            measured: Measured::default(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let (mut polled, mut served) = (Instant::now(), 0);
        loop {
            let now = Instant::now();
            if self.stopping.is_none() && self.director.next_turn().is_none_or(|at| at <= now) {
                self.director.turn(now, &mut self.stage);
            }
            self.follow_phase(now);
            if now >= self.second.at + SECOND {
                self.end_second(now);
            }
            if self.is_over(now) {
                self.end();
                return self.say_farewell(&mut events);
            }
            let deadlines = [self.stage.shared.timers.next(), self.director.next_turn(), Some(self.second.at + SECOND)];
            let next = deadlines.into_iter().flatten().min().unwrap_or(now);
            // A turn that was full has left some waiting.
            if self.stage.clients.len() > MANY && served < EVENTS {
                let rest = (polled + TICK).min(next).saturating_duration_since(Instant::now());
                if !rest.is_zero() {
                    std::thread::sleep(rest);
                }
            }
            if let Err(error) = self.poll.poll(&mut events, Some(next.saturating_duration_since(Instant::now())))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            (polled, served) = (Instant::now(), events.iter().count());
            self.serve(&events);
            self.fire_timers();
        }
    }

    /// Reads the sockets that are ready.
    fn serve(&mut self, events: &Events) {
        let Self { stage, buffers, .. } = self;
        for event in events {
            let Token(token) = event.token();
            let Some(client) = stage.clients.get_mut(token / 4) else { continue };
            match token % 4 {
                0 => {
                    client.handle_signalling(&stage.server, &mut stage.shared);
                    if client.is_gone(Instant::now()) {
                        stage.end_client(token / 4);
                    }
                }
                socket => client.handle_readable(socket - 1, buffers, &mut stage.shared),
            }
        }
    }

    /// Whether it is over; told to stop from outside, it lets come what is on its way.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.stopping.is_none() && self.stop.load(Ordering::Relaxed) {
            self.stopping = Some(now + STOPPING);
            if self.stage.phase != Phase::Settling {
                self.stage.new_phase = Some(Phase::Settling);
                self.follow_phase(now);
            }
        }
        self.stage.ended || self.stopping.is_some_and(|until| now >= until)
    }

    /// All leave, so that nothing of them stays with a server that goes on.
    fn say_farewell(mut self, events: &mut Events) -> io::Result<()> {
        let until = Instant::now() + FAREWELL;
        let all: Vec<usize> = self.stage.clients.iter().map(|(index, _)| index).collect();
        all.into_iter().for_each(|index| self.stage.leave(Instant::now(), index));
        while !self.stage.clients.is_empty() && Instant::now() < until {
            let next = self.stage.shared.timers.next().map_or(until, |at| at.min(until));
            self.poll.poll(events, Some(next.saturating_duration_since(Instant::now())))?;
            self.serve(events);
            self.fire_timers();
        }
        Ok(())
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        while let Some((due, index)) = self.stage.shared.timers.pop_due(now) {
            let Some(client) = self.stage.clients.get_mut(index) else { continue };
            let late = Instant::now().saturating_duration_since(due);
            self.lag.record(late);
            self.lag_max_us = self.lag_max_us.max(late.as_micros() as u64);
            client.handle_timeout(due, &self.stage.server, &mut self.stage.shared);
            if client.is_gone(now) {
                self.stage.end_client(index);
            }
        }
    }

    /// Does what goes with a new phase.
    fn follow_phase(&mut self, now: Instant) {
        let Some(phase) = self.stage.new_phase.take() else { return };
        self.stage.phase = phase;
        match phase {
            Phase::Joining => {}
            Phase::Measuring => {
                let (sent, packets) = (self.stage.sums().1, self.stage.shared.packets());
                self.measure = Some(Measure { at: now, cpu: ThreadCpu::now(), packets, sent });
                self.measured = Measured::default();
                self.lag.clear();
                self.take_latencies();
            }
            Phase::Settling => {
                if let Some(measure) = self.measure.take() {
                    self.measured.time = now - measure.at;
                    self.measured.cpu = ThreadCpu::now().since(&measure.cpu);
                    self.measured.packets = self.stage.shared.packets() - measure.packets;
                    self.measured.sent = self.stage.sums().1.since(&measure.sent);
                }
                self.measured.latency = self.take_latencies();
                self.stage.fall_silent(now);
            }
        }
        let _ = self.reports.send(Report::Phase(phase));
    }

    /// All latencies since the last call, by group and kind.
    fn take_latencies(&mut self) -> [[Histogram; 2]; Cohort::ALL.len()] {
        self.note_latencies();
        self.second.latency.clear();
        std::array::from_fn(|cohort| {
            let meter = &mut self.stage.shared.meters[cohort];
            [std::mem::take(&mut meter.audio.total), std::mem::take(&mut meter.video.total)]
        })
    }

    /// Moves the latencies of the moment to where they are summed up.
    fn note_latencies(&mut self) {
        for meter in &mut self.stage.shared.meters {
            for flow in [&mut meter.audio, &mut meter.video] {
                self.second.latency.merge(&flow.latency);
                flow.total.merge(&flow.latency);
                flow.latency.clear();
            }
        }
    }

    fn end_second(&mut self, now: Instant) {
        self.note_latencies();
        let stage = &mut self.stage;
        stage.shared.wall = WallClock::now();
        let (sums, sent) = stage.sums();
        let cpu = ThreadCpu::now();
        let interval = now - self.second.at;
        let cpu_share = cpu.since(&self.second.cpu).total_us() as f64 / 1e6 / interval.as_secs_f64();
        if self.measure.is_some() {
            self.measured.cpu_share_max = self.measured.cpu_share_max.max(cpu_share);
        }
        let mut media = sums.all();
        media.received_bytes = stage.shared.meters.iter().map(|m| m.audio.bytes + m.video.bytes).sum();
        let second = Second {
            interval,
            phase: stage.phase,
            wanted: self.director.wanted(),
            joined: stage.clients.iter().filter(|(_, c)| c.reached.connected && c.leaving.is_none()).count() as u64,
            packets_sent: sent.packets.saturating_sub(self.second.sent),
            media: totals::difference(&media, &self.second.sums),
            latency: self.second.latency.quantiles(),
            latencies: self.second.latency.clone(),
            first_packet: stage.shared.first_packets.quantiles(),
            cpu_share,
            loop_lag_max_us: std::mem::take(&mut self.lag_max_us),
            unsent: stage.shared.unsent - self.second.unsent,
        };
        stage.shared.first_packets.clear();
        self.second.latency.clear();
        let latency = std::mem::take(&mut self.second.latency);
        self.second =
            SecondMark { at: now, cpu, sums: media, sent: sent.packets, unsent: stage.shared.unsent, latency };
        let _ = self.reports.send(Report::Second(Box::new(second)));
    }

    fn end(&mut self) {
        let now = Instant::now();
        if self.stage.phase != Phase::Settling {
            self.stage.new_phase = Some(Phase::Settling);
            self.follow_phase(now);
        }
        self.end_second(now);
        let stage = &mut self.stage;
        let tails = totals::missing_tails(stage.clients.iter().map(|(_, c)| c));
        let all: Vec<usize> = stage.clients.iter().map(|(index, _)| index).collect();
        all.into_iter().for_each(|index| stage.count_client(index));
        let mut cohorts = std::mem::take(&mut stage.gone.cohorts);
        for (cohort, kind, tail) in tails {
            let media = &mut cohorts[cohort as usize][kind as usize];
            media.expected += tail;
            media.lost_before_repair += tail;
            media.lost += tail;
        }
        let latencies = std::mem::take(&mut self.measured.latency);
        for ((media, latency), meter) in cohorts.iter_mut().zip(latencies).zip(&stage.shared.meters) {
            let [audio, video] = latency;
            (media[0].latency, media[1].latency) = (audio, video);
            (media[0].received_bytes, media[1].received_bytes) = (meter.audio.bytes, meter.video.bytes);
        }
        let ending = Ending {
            joins: std::mem::take(&mut stage.shared.joins),
            cohorts,
            publishers: stage.publishers,
            subscribers: stage.subscribers,
            fault_count: stage.fault_count,
            faults: std::mem::take(&mut stage.faults),
            resumes: stage.resumes,
            failed_resumes: stage.failed_resumes,
            leaves: stage.leaves,
            changes: stage.changes,
            measured: self.measured.time,
            cpu: self.measured.cpu,
            cpu_share_max: self.measured.cpu_share_max,
            loop_lag: std::mem::take(&mut self.lag),
            unsent: stage.shared.unsent,
            packets_due: self.measured.sent.due,
            packets_sent: self.measured.sent.packets,
            packets_acknowledged: self.measured.sent.acknowledged,
            packets_missed: self.measured.sent.missed,
            packets_received: self.measured.packets,
            emulated_losses: stage.gone_lost,
            receive_buffer: stage.shared.receive_buffer,
            datagrams_per_buffer_max: self.buffers.datagrams_max as u64,
        };
        let _ = self.reports.send(Report::Ended(Box::new(ending)));
    }
}

impl Stage {
    /// Somebody joins. Gives the handle for all that follows.
    pub fn join(&mut self, now: Instant, plan: JoinPlan) -> usize {
        self.shared.joins.wanted += 1;
        self.publishers += u64::from(!plan.settings.publish.is_empty());
        self.subscribers += u64::from(plan.settings.subscribe);
        self.seed = self.seed.wrapping_add(1);
        let entry = self.clients.vacant_entry();
        let index = entry.key();
        let client = entry.insert(Client::new(index, now, plan, self.seed));
        client.connect(now, &self.server, &self.shared);
        index
    }

    /// Somebody leaves.
    pub fn leave(&mut self, now: Instant, index: usize) {
        if let Some(client) = self.clients.get_mut(index) {
            self.leaves += 1;
            client.leave(now, &self.server, &mut self.shared);
        }
    }

    /// Somebody's room socket breaks. They come back by [`resume`](Self::resume).
    pub fn break_socket(&mut self, index: usize) {
        if let Some(client) = self.clients.get_mut(index) {
            client.break_socket(&self.shared.registry);
        }
    }

    pub fn resume(&mut self, now: Instant, index: usize) {
        if let Some(client) = self.clients.get_mut(index) {
            self.resumes += 1;
            client.resuming = Some(now);
            client.connect(now, &self.server, &self.shared);
        }
    }

    /// Lets a client do something of the room API, and sends what comes of it.
    pub fn act(&mut self, index: usize, what: impl FnOnce(&mut crate::client::Participant)) {
        if let Some(client) = self.clients.get_mut(index) {
            self.changes += 1;
            what(&mut client.participant);
            client.after(Instant::now(), &mut self.shared);
        }
    }

    pub fn client(&self, index: usize) -> Option<&Client> {
        self.clients.get(index)
    }

    /// Whether a client is in: signalling, ICE, DTLS.
    pub fn is_in(&self, index: usize) -> bool {
        self.clients.get(index).is_some_and(|c| c.reached.connected || c.broken.is_some())
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn set_phase(&mut self, phase: Phase) {
        self.new_phase = Some(phase);
    }

    /// The load is over.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Nobody sends media any more.
    fn fall_silent(&mut self, now: Instant) {
        for (_, client) in &mut self.clients {
            totals::finish_viewers(client, now);
            if client.lines.is_some() {
                // What the server believes of a path that is not good.
                client.participant.request("stats", serde_json::json!({}));
            }
            if now.saturating_duration_since(client.began) < NEWCOMER {
                client.expects = (0, 0);
            }
            if let Some(publisher) = &mut client.participant.publisher {
                publisher.fall_silent();
            }
        }
    }

    /// Takes a client's figures, and the client away.
    fn end_client(&mut self, index: usize) {
        self.count_client(index);
        if let Some(mut client) = self.clients.try_remove(index) {
            client.close(&self.shared.registry);
        }
    }

    /// Takes a client's figures, once.
    fn count_client(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index).filter(|client| !client.counted) else { return };
        client.counted = true;
        self.gone.add(client);
        self.gone.note_layers(client);
        self.gone_sent.add(client);
        if let Some([down, up]) = client.lines.as_deref() {
            self.gone_lost.0 += down.lost;
            self.gone_lost.1 += up.lost;
        }
        self.failed_resumes += client.failed_resumes;
        self.shared.joins.failed += u64::from(!client.reached.connected);
        let name = client.participant.settings.name.clone();
        let broken = client.broken.take().map(|why| format!("{name}: {why}"));
        for fault in client.participant.faults().into_iter().chain(broken) {
            self.fault_count += 1;
            if self.faults.len() < MAX_FAULTS {
                self.faults.push(fault);
            }
        }
    }

    /// All sums, of those who are here and those who left.
    fn sums(&self) -> (Sums, Sent) {
        let (mut sums, mut sent) = (self.gone.clone(), self.gone_sent);
        for (_, client) in self.clients.iter().filter(|(_, client)| !client.counted) {
            sums.add(client);
            sent.add(client);
        }
        (sums, sent)
    }
}
