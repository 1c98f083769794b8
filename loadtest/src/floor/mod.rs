//! The floor: what it costs this machine, now, to seal packets and to send them, and nothing else.
//!
//! A bare loop writes each subscriber's RTP headers, seals the packets out of place into a slab with that subscriber's key
//! (AES-128-GCM, by the server's own `SrtpOutbound`), and sends them with UDP GSO to as many sockets as there are subscribers.
//! No server can be below it; how far one is above it is what [`FloorResult::ratio`] says. Machines differ, so a floor counts
//! only beside a figure of the same run.
#![allow(clippy::disallowed_methods, reason = "it measures time")]
mod receivers;
mod sender;

pub use receivers::{Receivers, serve_if_asked};

use sender::Sender;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Bytes that evict everything else: the last level has some tens of MiB.
const CHILL: usize = 96 << 20;
/// Bytes of a cache line.
const LINE: usize = 64;

/// What to send, and how.
#[derive(Clone, Debug, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FloorPlan {
    /// Sockets that the packets go to. Each has a key of its own.
    #[arg(long, default_value_t = 300)]
    pub subscribers: usize,
    /// Packets that a subscriber gets in one go: those of one frame. They are one send call, if the kernel has GSO.
    #[arg(long, default_value_t = 6)]
    pub burst: usize,
    /// Bytes of a packet as the UDP payload that it is on the wire: RTP header, payload and tag.
    #[arg(long, default_value_t = 1_150)]
    pub packet_len: usize,
    /// Times that every subscriber gets a burst, in each repeat.
    #[arg(long, default_value_t = 100)]
    pub rounds: usize,
    /// The figures are means over these; the best one is told as well.
    #[arg(long, default_value_t = 5)]
    pub repeats: usize,
    /// Milliseconds from round to round, as frames come (33); 0: the next one as soon as everything has arrived. Between frames
    /// caches go cold, so a paced floor is the higher one.
    #[arg(long, default_value_t = 0)]
    pub interval_ms: u64,
    /// Before each round other things pass through the processor's caches, as they do between the frames of a real call.
    #[arg(long)]
    pub cold: bool,
    /// Receivers take what one call sent as one buffer (UDP_GRO). Over loopback the kernel then never cuts it into datagrams,
    /// which is as if a network card did that.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub gro: bool,
    /// Receivers run in a thread of this process, and not in a process of their own. The floor's CPU time is that of the
    /// sending thread in both cases.
    #[arg(long)]
    pub threads: bool,
}

impl Default for FloorPlan {
    /// One publisher of 1.5 Mbit/s at 30 frames a second, and 300 subscribers.
    fn default() -> Self {
        Self {
            subscribers: 300,
            burst: 6,
            packet_len: 1_150,
            rounds: 100,
            repeats: 5,
            interval_ms: 0,
            cold: false,
            gro: true,
            threads: true,
        }
    }
}

impl FloorPlan {
    /// One speaker and 200 listeners.
    pub fn audio() -> Self {
        Self { subscribers: 200, burst: 1, packet_len: 100, rounds: 400, ..Self::default() }
    }
}

/// Nanoseconds for each packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// CPU time of the sending thread, user and system, mean over all repeats.
    pub cpu_nanos: f64,
    /// The same, of the cheapest repeat.
    pub best_cpu_nanos: f64,
    /// Time that passed while it was at work, mean over all repeats.
    pub wall_nanos: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FloorResult {
    pub plan: FloorPlan,
    /// The floor: sealed and sent.
    pub floor: Cost,
    /// Header and seal alone.
    pub seal: Cost,
    /// The send calls alone, of packets that are sealed already.
    pub send: Cost,
    /// Packets that were sent while the floor was measured.
    pub packets: u64,
    /// Packets in one send call. Less than `plan.burst` where the kernel takes no more.
    pub segments: usize,
    /// Packets that did not arrive. A floor that loses packets is not one: what is dropped costs less.
    pub lost: u64,
}

impl FloorResult {
    /// How many times the floor `cpu_nanos` for a packet is.
    pub fn ratio(&self, cpu_nanos: f64) -> f64 {
        cpu_nanos / self.floor.cpu_nanos
    }
}

impl std::fmt::Display for FloorResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plan = &self.plan;
        writeln!(
            f,
            "{} subscribers, {} packets of {} bytes for each in one burst, {} in one send; {} packets, {} lost",
            plan.subscribers, plan.burst, plan.packet_len, self.segments, self.packets, self.lost
        )?;
        writeln!(f, "{:<14} {:>10} {:>10} {:>10}", "ns per packet", "CPU", "CPU, best", "wall")?;
        for (name, cost) in [("seal and send", self.floor), ("seal", self.seal), ("send", self.send)] {
            writeln!(f, "{name:<14} {:>10.1} {:>10.1} {:>10.1}", cost.cpu_nanos, cost.best_cpu_nanos, cost.wall_nanos)?;
        }
        Ok(())
    }
}

/// What a round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    SealAndSend,
    /// Header and seal alone.
    Seal,
    /// Of packets that are sealed already.
    Send,
}

impl Work {
    pub const ALL: [Work; 3] = [Work::SealAndSend, Work::Seal, Work::Send];
}

/// Measures the floor. Takes the time of `3 * rounds * repeats` rounds, and blocks.
///
/// With `plan.threads` false the program is started again to receive: its `main` must begin with [`serve_if_asked`].
pub fn measure(plan: &FloorPlan) -> Result<FloorResult, String> {
    let mut floor = Floor::new(plan)?;
    let mut meters = [Meter::default(); 3];
    for _ in 0..plan.repeats.max(1) {
        for (work, meter) in Work::ALL.into_iter().zip(&mut meters) {
            meter.add(floor.repeat(work)?);
        }
    }
    let [floor_cost, seal, send] = meters.map(Meter::cost);
    Ok(FloorResult {
        plan: plan.clone(),
        floor: floor_cost,
        seal,
        send,
        packets: meters[0].total.packets,
        segments: floor.sender.segments(),
        lost: floor.lost,
    })
}

/// Time spent on some packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub packets: u64,
    /// Of the thread that did it.
    pub cpu: Duration,
    pub wall: Duration,
}

/// Adds up what was spent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    total: Spent,
    /// Nanoseconds of CPU for each packet in the cheapest repeat.
    best: Option<f64>,
}

impl Meter {
    pub fn add(&mut self, spent: Spent) {
        self.total.packets += spent.packets;
        self.total.cpu += spent.cpu;
        self.total.wall += spent.wall;
        let each = spent.cpu.as_nanos() as f64 / spent.packets.max(1) as f64;
        self.best = Some(self.best.map_or(each, |best| best.min(each)));
    }

    pub fn cost(self) -> Cost {
        let packets = self.total.packets.max(1) as f64;
        Cost {
            cpu_nanos: self.total.cpu.as_nanos() as f64 / packets,
            best_cpu_nanos: self.best.unwrap_or_default(),
            wall_nanos: self.total.wall.as_nanos() as f64 / packets,
        }
    }
}

/// The bare loop with its receivers, for whoever takes turns with it: what is measured by turns meets the same machine.
pub struct Floor {
    rounds: usize,
    interval: Duration,
    chill: Option<Chill>,
    receivers: Receivers,
    sender: Sender,
    sent: u64,
    lost: u64,
}

impl Floor {
    /// Binds the sockets, and sends a first round that does not count.
    pub fn new(plan: &FloorPlan) -> Result<Self, String> {
        let receivers = Receivers::start(plan)?;
        let sender = Sender::new(plan, receivers.addresses())?;
        let interval = Duration::from_millis(plan.interval_ms);
        let chill = plan.cold.then(Chill::default);
        let mut floor = Self { rounds: 1, interval, chill, receivers, sender, sent: 0, lost: 0 };
        floor.repeat(Work::SealAndSend)?;
        floor.rounds = plan.rounds;
        Ok(floor)
    }

    /// Packets that did not arrive so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// As many rounds as planned.
    pub fn repeat(&mut self, work: Work) -> Result<Spent, String> {
        let mut spent = Spent::default();
        let mut next = Instant::now();
        for _ in 0..self.rounds {
            if let Some(chill) = &mut self.chill {
                chill.evict();
            }
            let (wall, cpu) = (Instant::now(), thread_cpu());
            let sent = self.sender.round(work)?;
            spent.cpu += thread_cpu().saturating_sub(cpu);
            spent.wall += wall.elapsed();
            spent.packets += self.sender.packets_a_round();
            self.sent += sent;
            self.lost += self.receivers.wait_for(self.sent - self.lost)?;
            next += self.interval;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(spent)
    }
}

/// More memory than caches hold.
pub struct Chill(Vec<u64>);

impl Default for Chill {
    fn default() -> Self {
        Self(vec![1; CHILL / size_of::<u64>()])
    }
}

impl Chill {
    /// Goes through it, so that nothing else is left in the caches.
    pub fn evict(&mut self) {
        self.0.iter_mut().step_by(LINE / size_of::<u64>()).for_each(|word| *word = word.wrapping_mul(3));
        std::hint::black_box(&self.0);
    }
}

/// CPU time of this thread, user and system.
pub fn thread_cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> FloorPlan {
        FloorPlan { subscribers: 3, burst: 5, packet_len: 200, rounds: 4, repeats: 2, ..FloorPlan::default() }
    }

    #[test]
    fn everything_sent_arrives() {
        for gro in [false, true] {
            let result = measure(&FloorPlan { gro, ..small() }).expect("a floor");
            assert_eq!((result.lost, result.packets), (0, 3 * 5 * 4 * 2), "GRO: {gro}");
            assert!(result.floor.cpu_nanos > 0.0 && result.seal.cpu_nanos > 0.0 && result.send.cpu_nanos > 0.0);
            assert!(result.floor.best_cpu_nanos <= result.floor.cpu_nanos);
            assert_eq!(result.ratio(2.0 * result.floor.cpu_nanos), 2.0);
        }
    }

    #[test]
    fn packets_too_short_or_too_long_are_refused() {
        for packet_len in [0, 27, 65_508] {
            assert!(measure(&FloorPlan { packet_len, ..small() }).is_err(), "{packet_len}");
        }
        assert!(measure(&FloorPlan { burst: 0, ..small() }).is_err());
        assert!(measure(&FloorPlan { subscribers: 0, ..small() }).is_err());
    }

    #[test]
    fn a_result_survives_json() {
        let cost = Cost { cpu_nanos: 700.5, best_cpu_nanos: 690.0, wall_nanos: 701.0 };
        let result =
            FloorResult { plan: small(), floor: cost, seal: cost, send: cost, packets: 9, segments: 5, lost: 0 };
        let json = serde_json::to_string(&result).expect("JSON");
        assert_eq!(serde_json::from_str::<FloorResult>(&json).expect("a result"), result);
    }
}
