//! Hours of a call, and what they leave behind; and what a packet costs the heap.
use crate::heap;
use crate::world::{Sim, ms, secs};
use exedra::room::RoomLimits;
use loadtest::client::TrackConfig;
use loadtest::client::participant::Pc;
use serde_json::json;

/// People who are mostly silent, and a camera that hardly moves: few packets, so that hours pass in seconds.
fn quiet() -> [TrackConfig; 2] {
    [TrackConfig::microphone().every(ms(400)), TrackConfig::camera(700).every(ms(250))]
}

/// A quarter of an hour with everything that happens in a call.
fn quarter(sim: &mut Sim, number: u64) {
    for minute in 0..15 {
        let client = (number + minute) as usize % 2;
        match minute % 5 {
            0 => sim.with(client, |p, _| p.mute("1", true)),
            1 => sim.with(1 - client, |p, _| p.mute("1", false)),
            2 => Pc::BOTH.into_iter().for_each(|pc| sim.with(client, |p, now| p.restart_ice(now, pc))),
            3 => {
                sim.close_socket(client);
                sim.run(secs(2));
                sim.open_socket(client);
            }
            _ => {
                sim.move_client(client);
                sim.with(client, |p, _| p.request("say", json!({"topic": "chat", "body": "still here"})));
                sim.with(client, |p, _| p.request("stats", json!({})));
            }
        }
        sim.run(secs(58));
    }
    let newcomer = sim.join(&quiet());
    sim.run(secs(10));
    sim.leave(newcomer);
    sim.run(secs(2));
    sim.forget(newcomer);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "says how fast time passed")]
fn hours_pass_and_nothing_grows() {
    const HOURS: u64 = 2;
    let began = std::time::Instant::now();
    // Logs that are full soon.
    let limits = RoomLimits { event_log_len: 64, answer_cache_len: 16, ..RoomLimits::default() };
    let mut sim = Sim::with_limits(500, limits).loss(0.002);
    sim.join_many(2, &quiet());
    sim.run_until(secs(5), "sound and picture", Sim::everybody_gets_everything);
    let mut sizes = Vec::new();
    for number in 0..4 * HOURS {
        quarter(&mut sim, number);
        sizes.push(heap::live());
    }
    sim.run(secs(1));
    sim.assert_clean();
    assert!(sim.slots().all(|s| s.viewer().is_none_or(|v| v.waiting(sim.now) < secs(2))), "pictures move");
    let (virtual_time, real) = (sim.now - sim.start, began.elapsed());
    let ratio = virtual_time.as_secs_f64() / real.as_secs_f64();
    println!("{virtual_time:?} in {real:?}: {ratio:.0} times as fast; live bytes each quarter: {sizes:?}");
    let half = sizes.len() / 2;
    let (middle, end) = (sizes[half..half + 4].iter().max(), sizes[sizes.len() - 4..].iter().max());
    let growth = end.copied().unwrap_or_default() - middle.copied().unwrap_or_default();
    assert!(growth < 32 << 10, "{growth} bytes more in the second half: {sizes:?}");
    assert_eq!(sim.peers(), 4);
}

/// One publisher and fifty subscribers: a packet on its way allocates nothing.
#[test]
fn a_packet_allocates_nothing() {
    let mut sim = Sim::new(510);
    let publisher = sim.join_to_publish(&[TrackConfig::microphone(), TrackConfig::camera(3_000)]);
    for _ in 0..50 {
        sim.join(&[]);
    }
    sim.run_until(secs(8), "sound and picture", |sim| (1..51).all(|viewer| sim.sees(viewer, publisher, "1")));
    // Until the histories have grown to what they keep.
    sim.run(secs(4));
    sim.turns = Some(Vec::new());
    sim.run(secs(3));
    let turns = sim.turns.take().unwrap_or_default();
    let media: Vec<_> = turns.iter().filter(|t| !t.control && t.packets_in + t.packets_out > 0).collect();
    let (packets_in, out): (usize, usize) =
        (media.iter().map(|t| t.packets_in).sum(), media.iter().map(|t| t.packets_out).sum());
    let all: u64 = turns.iter().map(|t| t.allocations).sum();
    println!(
        "{} turns of media alone, {packets_in} packets in, {out} out; {all} allocations in all {} turns",
        media.len(),
        turns.len()
    );
    // What came in a turn with feedback, and left later, or the other way round, is counted on one side only.
    assert!(media.len() > 80 && out >= 45 * packets_in, "{} turns, {packets_in} in, {out} out", media.len());
    let guilty: Vec<_> = media.iter().filter(|t| t.allocations > 0).collect();
    assert!(
        guilty.is_empty(),
        "{} of {} turns allocated: {:?}",
        guilty.len(),
        media.len(),
        &guilty[..guilty.len().min(5)]
    );
    sim.assert_clean();
}
