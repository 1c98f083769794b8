//! The engine beside the floor of the same run.
use crate::heap;
use loadtest::floor::{Chill, Cost, Floor, FloorPlan, Meter, Receivers, Spent, Work, thread_cpu};
use loadtest::rig::{Counting, FRAME, Rig, RigPlan, Sending};

/// How often each of them has its turn.
const TURNS: usize = 7;
/// Packets that go out in one turn, about.
const PACKETS: usize = 60_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Media {
    /// Frames of six packets of 1,150 bytes.
    Video,
    /// Packets of 100 bytes, one at a time.
    Audio,
}

/// Nanoseconds of CPU for each forwarded packet.
struct Row {
    name: String,
    /// Sealed: by the bare loop; by a flush into a sink that counts.
    seal: Cost,
    flush: Cost,
    /// Sealed and sent: by the bare loop; by the engine, the way in included.
    floor: Cost,
    sent: Cost,
    allocations: u64,
    lost: u64,
}

pub fn print() -> Result<(), String> {
    println!("\nNanoseconds of CPU for each packet that goes out, the best of {TURNS} turns (mean).");
    println!("  seal, floor: a bare loop, the same packets to as many sockets of loopback, which are read with GRO.");
    println!("  flush: the engine, into a sink that counts. in + out: received, flushed and sent.");
    println!("  cold: between frames something else has been through the caches, as in a real call.\n");
    println!(
        "{:<24} {:>15} {:>15} {:>6}   {:>15} {:>15} {:>6}  {:>11}",
        "", "seal", "flush", "ratio", "floor", "in + out", "ratio", "allocations"
    );
    for (subscribers, media, cold) in [
        (1, Media::Video, false),
        (50, Media::Video, false),
        (300, Media::Video, false),
        (1_000, Media::Video, false),
        (200, Media::Audio, false),
        (300, Media::Video, true),
        (1_000, Media::Video, true),
        (200, Media::Audio, true),
    ] {
        let row = measure(subscribers, media, cold)?;
        let both = |cost: Cost| format!("{:.0} ({:.0})", cost.best_cpu_nanos, cost.cpu_nanos);
        let ratio = |above: Cost, below: Cost| above.best_cpu_nanos / below.best_cpu_nanos;
        println!(
            "{:<24} {:>15} {:>15} {:>6.2}   {:>15} {:>15} {:>6.2}  {:>11}",
            row.name,
            both(row.seal),
            both(row.flush),
            ratio(row.flush, row.seal),
            both(row.floor),
            both(row.sent),
            ratio(row.sent, row.floor),
            row.allocations
        );
        if row.lost > 0 {
            println!("  {} packets did not arrive: what is dropped costs less, so this line says little", row.lost);
        }
        if row.allocations > 0 {
            return Err(format!("{} allocations on the way of a packet", row.allocations));
        }
    }
    Ok(())
}

fn measure(subscribers: usize, media: Media, cold: bool) -> Result<Row, String> {
    let (burst, packet_len, name) = match media {
        Media::Video => (6, 1_150, "video"),
        Media::Audio => (1, 100, "audio"),
    };
    let rounds = (PACKETS / (subscribers * burst)).clamp(10, if cold { 30 } else { 1_000 });
    let plan = FloorPlan { subscribers, burst, packet_len, rounds, cold, threads: false, ..FloorPlan::default() };
    let mut floor = Floor::new(&plan)?;
    let mut engine = Side::new(&plan, media)?;
    let [mut seal, mut flush, mut floor_cost, mut sent] = [Meter::default(); 4];
    for _ in 0..TURNS {
        seal.add(floor.repeat(Work::Seal)?);
        flush.add(engine.flush(rounds));
        floor_cost.add(floor.repeat(Work::SealAndSend)?);
        sent.add(engine.send(rounds)?);
    }
    Ok(Row {
        name: format!("{name} to {subscribers}{}", if cold { ", cold" } else { "" }),
        seal: seal.cost(),
        flush: flush.cost(),
        floor: floor_cost.cost(),
        sent: sent.cost(),
        allocations: engine.allocations()?,
        lost: engine.lost + floor.lost(),
    })
}

/// The engine, with subscribers that receive.
struct Side {
    rig: Rig,
    media: Media,
    burst: u64,
    receivers: Receivers,
    sink: Sending,
    chill: Option<Chill>,
    lost: u64,
}

impl Side {
    fn new(plan: &FloorPlan, media: Media) -> Result<Self, String> {
        let receivers = Receivers::start(plan)?;
        let rig_plan = RigPlan { subscribers: plan.subscribers, ..RigPlan::video(plan.subscribers) };
        let rig = Rig::at(rig_plan, |n| receivers.addresses()[n])?;
        let sink = Sending::new().map_err(|e| format!("a socket: {e}"))?;
        let chill = plan.cold.then(Chill::default);
        Ok(Self { rig, media, burst: plan.burst as u64, receivers, sink, chill, lost: 0 })
    }

    fn arrive(&mut self) -> Vec<Vec<u8>> {
        self.rig.advance(FRAME, &mut Counting::default());
        match self.media {
            Media::Video => self.rig.publisher.video_frame(false),
            Media::Audio => vec![self.rig.publisher.audio_packet()],
        }
    }

    fn cool(&mut self) {
        if let Some(chill) = &mut self.chill {
            chill.evict();
        }
    }

    fn packets_a_round(&self) -> u64 {
        self.rig.subscribers.len() as u64 * self.burst
    }

    /// Flushes that send nothing; what came in before is not counted.
    fn flush(&mut self, rounds: usize) -> Spent {
        let mut spent = Spent::default();
        for _ in 0..rounds {
            let arrived = self.arrive();
            self.rig.receive(&arrived);
            self.cool();
            let before = thread_cpu();
            self.rig.engine.flush(self.rig.now, &mut Counting::default());
            spent.cpu += thread_cpu().saturating_sub(before);
            spent.packets += self.packets_a_round();
        }
        spent
    }

    /// The whole way, from the datagrams of the publisher to the send calls.
    fn send(&mut self, rounds: usize) -> Result<Spent, String> {
        let mut spent = Spent::default();
        for _ in 0..rounds {
            let arrived = self.arrive();
            self.cool();
            let before = thread_cpu();
            self.rig.deliver(&arrived, &mut self.sink);
            spent.cpu += thread_cpu().saturating_sub(before);
            spent.packets += self.packets_a_round();
            self.lost += self.receivers.wait_for(self.sink.datagrams - self.lost)?;
        }
        Ok(spent)
    }

    /// Of some rounds.
    fn allocations(&mut self) -> Result<u64, String> {
        let mut allocations = 0;
        for _ in 0..16 {
            let arrived = self.arrive();
            allocations += heap::watch(|| self.rig.deliver(&arrived, &mut self.sink)).1;
            self.lost += self.receivers.wait_for(self.sink.datagrams - self.lost)?;
        }
        heap::callers().iter().for_each(|(frames, times)| println!("{times} allocations by\n{frames}"));
        Ok(allocations)
    }
}
