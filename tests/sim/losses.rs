//! Bad networks.
use crate::calls::microphone_and_camera;
use crate::world::{Sim, ms, secs, seeds};
use loadtest::client::TrackConfig;

/// The promise: 5% random loss on every path, audio gaps below 1%, no freeze of over a second.
#[test]
fn five_percent_of_everything_is_lost() {
    for seed in seeds(100, 3) {
        let mut sim = Sim::new(seed).loss(0.05).delay(ms(20)).jitter(ms(5));
        sim.join_many(3, &microphone_and_camera());
        sim.run_until(secs(10), "sound and picture", Sim::everybody_gets_everything);
        let since = sim.now;
        sim.run(secs(20));
        sim.assert_clean();
        sim.assert_no_freeze(since, secs(1));
        let gaps = sim.audio_gaps();
        assert!(gaps < 0.01, "{gaps}");
        assert_repairs_are_measured(&sim);
    }
}

/// What is lost is asked for about once: no storms.
fn assert_repairs_are_measured(sim: &Sim) {
    let sent: u64 = sim.clients.iter().filter_map(|c| c.participant.publisher.as_ref()).map(|p| p.stats.packets).sum();
    let nacked: u64 = sim.clients.iter().filter_map(|c| c.participant.publisher.as_ref()).map(|p| p.stats.nacked).sum();
    let share = nacked as f64 / sent as f64;
    assert!(share < 0.08, "{nacked} of {sent} packets were asked for by the server");
    let received: u64 = sim.slots().map(|s| s.stats.packets + s.stats.repaired).sum();
    let asked: u64 = sim.slots().map(|s| s.stats.nacks).sum();
    let share = asked as f64 / received as f64;
    assert!(share < 0.16, "{asked} of {received} packets were asked for by subscribers");
}

/// Clients without RTX get and send lost packets again as they were.
#[test]
fn five_percent_are_lost_without_rtx() {
    let mut sim = Sim::new(105).loss(0.05).delay(ms(20)).jitter(ms(5));
    for _ in 0..2 {
        sim.join_without_rtx(&microphone_and_camera());
    }
    sim.join(&microphone_and_camera());
    sim.run_until(secs(10), "sound and picture", Sim::everybody_gets_everything);
    let since = sim.now;
    sim.run(secs(20));
    sim.assert_clean();
    sim.assert_no_freeze(since, secs(1));
    assert!(sim.audio_gaps() < 0.01);
    assert_repairs_are_measured(&sim);
}

/// A long path: the round trip decides when to ask again.
#[test]
fn five_percent_are_lost_on_a_long_path() {
    let mut sim = Sim::new(110).loss(0.05).delay(ms(80)).jitter(ms(15));
    sim.join_many(2, &microphone_and_camera());
    sim.run_until(secs(12), "sound and picture", Sim::everybody_gets_everything);
    let since = sim.now;
    sim.run(secs(20));
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(1_500));
    let gaps = sim.audio_gaps();
    assert!(gaps < 0.02, "{gaps}");
    assert_repairs_are_measured(&sim);
}

#[test]
fn what_is_doubled_or_overtaken_is_put_right() {
    let mut sim = Sim::new(120).bandwidth(20_000_000).duplicate(0.1).reorder(0.05).jitter(ms(20)).delay(ms(40));
    sim.join_many(3, &microphone_and_camera());
    sim.run_until(secs(5), "sound and picture", Sim::everybody_gets_everything);
    let since = sim.now;
    sim.run(secs(15));
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(300));
    // (Some are on their way still.)
    let gaps = sim.audio_gaps();
    assert!(gaps < 0.001, "{gaps}");
}

/// One bad path is the business of whoever is on it.
#[test]
fn the_others_do_not_suffer() {
    let mut sim = Sim::new(130);
    sim.join_many(3, &microphone_and_camera());
    sim.run_until(secs(3), "sound and picture", Sim::everybody_gets_everything);
    let since = sim.now;
    sim.clients[2].down.conditions.loss = 0.4;
    sim.run(secs(15));
    sim.assert_clean();
    for viewer in [0, 1] {
        for slot in sim.client(viewer).subscriber.iter().flat_map(|s| &s.slots) {
            let freezes = slot.viewer().map(|v| v.freezes.iter().filter(|(at, _)| *at >= since).count());
            assert_eq!(freezes.unwrap_or(0), 0, "viewer {viewer}, slot {}", slot.mid);
            assert_eq!(slot.listener().map_or(0, |l| l.gaps()), 0);
        }
    }
    // Keyframes that one asks for cost all: at most one for each pause.
    let keyframes = sim.client(0).publisher.as_ref().map_or(0, |p| p.stats.keyframes);
    assert!(keyframes < 45, "{keyframes} keyframes in 15 s");
}

/// Loss in bursts, as Wi-Fi has it: nothing for 300 ms, again and again.
#[test]
fn bursts_of_loss_are_survived() {
    let mut sim = Sim::new(140).delay(ms(20));
    sim.join_many(2, &microphone_and_camera());
    sim.run_until(secs(3), "sound and picture", Sim::everybody_gets_everything);
    let since = sim.now;
    for _ in 0..6 {
        sim.set_offline(0, true);
        sim.run(ms(300));
        sim.set_offline(0, false);
        sim.run(ms(2_200));
    }
    sim.assert_clean();
    sim.assert_no_freeze(since, secs(1));
}

/// More than the path carries: what is lost is mended by keyframes, and the stream stays one.
#[test]
fn a_narrow_path_is_survived() {
    let mut sim = Sim::new(150).delay(ms(20));
    sim.join_many(2, &[TrackConfig::microphone(), TrackConfig::camera(4_000)]);
    sim.run_until(secs(3), "sound and picture", Sim::everybody_gets_everything);
    sim.clients[1].down.conditions.bandwidth = Some(500_000);
    sim.run(secs(15));
    sim.clients[1].down.conditions.bandwidth = None;
    sim.run(secs(2));
    let since = sim.now;
    sim.run(secs(3));
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(300));
}
