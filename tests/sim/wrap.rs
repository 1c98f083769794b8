//! Numbers that begin again: sequence numbers, picture ids, timestamps.
use crate::world::{Sim, ms, secs};
use loadtest::client::TrackConfig;

/// The publisher's numbers wrap soon after the start, as they do for clients that begin at any number.
#[test]
fn the_publishers_numbers_wrap() {
    for (seed, loss) in [(300, 0.0), (301, 0.05)] {
        let mut sim = Sim::new(seed).loss(loss);
        sim.join(&[TrackConfig::microphone().starting_at(65_400), TrackConfig::camera(3_000).starting_at(65_450)]);
        sim.join(&[]);
        sim.run_until(secs(6), "sound and picture", Sim::everybody_gets_everything);
        let since = sim.now;
        sim.run(secs(10));
        let next = |mid| sim.client(0).publisher.as_ref().map(|p| p.next_sequences(mid)[0]).unwrap_or_default();
        assert!(next("0") > 65_700 && next("1") > 65_700, "both have wrapped");
        sim.assert_clean();
        sim.assert_no_freeze(since, ms(800));
        assert!(sim.audio_gaps() < 0.01);
    }
}

/// The slot's numbers wrap, which begin below 2^15: so many packets that they must. Picture ids wrap meanwhile too.
#[test]
fn the_slots_numbers_wrap() {
    let mut sim = Sim::new(310).loss(0.01);
    let many = TrackConfig::camera(1_000).mtu(40).every(ms(20));
    sim.join_to_publish(&[many]);
    sim.join(&[]);
    sim.run_until(secs(6), "a picture", |sim| sim.slots().any(|s| s.stats.packets > 0));
    let since = sim.now;
    for _ in 0..60 {
        sim.run(secs(1));
        if sim.slots().any(|s| s.stats.highest > Some(67_000)) {
            break;
        }
    }
    let slot = sim.slots().find(|s| s.viewer().is_some_and(|v| v.stats.frames > 0)).expect("a slot");
    assert!(slot.stats.highest > Some(67_000), "{:?}", slot.stats);
    assert!(slot.stats.repaired > 0, "{:?}", slot.stats);
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(800));
}
