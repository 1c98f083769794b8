//! Slots that show another source: a decoder must not notice.
use crate::calls::microphone_and_camera;
use crate::world::{Sim, ms, secs, seeds};
use loadtest::client::TrackConfig;
use loadtest::client::video::Viewer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

/// The viewer of a client that has only one video in use: whichever shows something.
fn only_viewer(sim: &Sim, client: usize) -> &Viewer {
    let slots = &sim.client(client).subscriber.as_ref().expect("a subscriber").slots;
    let mut live = slots.iter().filter(|s| s.track.is_some()).filter_map(|s| s.viewer());
    live.next().expect("a slot that shows something")
}

fn look_at(sim: &mut Sim, viewer: usize, publisher: usize) {
    let track = sim.client(publisher).own["1"].clone();
    sim.with(viewer, |p, _| p.request("view", json!({"tracks": {track: {"w": 640, "h": 360}}})));
}

/// One slot, shown one publisher after the other.
fn switch_around(mut sim: Sim, rounds: u64, within: u64) {
    sim.join_many(4, &microphone_and_camera());
    let viewer = sim.join_with_one_slot();
    sim.run_until(secs(10), "sound and picture", Sim::everybody_gets_everything);
    let mut rng = StdRng::seed_from_u64(sim.seed);
    for _ in 0..rounds {
        let publisher = rng.random_range(0..4);
        look_at(&mut sim, viewer, publisher);
        sim.run_until(ms(within), "the other picture", |sim| sim.sees(viewer, publisher, "1"));
        sim.run(ms(rng.random_range(0..900)));
    }
    sim.assert_clean();
    let switches = only_viewer(&sim, viewer).stats.switches;
    assert!(switches > rounds / 2, "{switches} switches in {rounds} rounds: the slot was rebound");
}

#[test]
fn another_source_is_the_same_stream() {
    switch_around(Sim::new(200), 25, 400);
}

#[test]
fn another_source_is_the_same_stream_on_a_bad_network() {
    for seed in seeds(210, 3) {
        switch_around(Sim::new(seed).loss(0.03).reorder(0.03).jitter(ms(10)).delay(ms(30)), 15, 3_000);
    }
}

/// Faster than a keyframe can come.
#[test]
fn a_view_that_changes_all_the_time() {
    let mut sim = Sim::new(220).delay(ms(40));
    sim.join_many(3, &microphone_and_camera());
    let viewer = sim.join_with_one_slot();
    sim.run_until(secs(4), "sound and picture", Sim::everybody_gets_everything);
    for round in 0..60 {
        look_at(&mut sim, viewer, round % 3);
        // (Twenty requests a second are allowed.)
        sim.run(ms(60));
    }
    let since = sim.now;
    sim.run(secs(2));
    sim.assert_clean();
    let last = only_viewer(&sim, viewer).last().expect("a frame");
    assert_eq!(last.tag.publisher, 2);
    sim.assert_no_freeze(since + ms(500), ms(300));
}

fn encodings() -> [TrackConfig; 1] {
    [TrackConfig::simulcast(&[("q", 400), ("h", 1_500), ("f", 4_500)])]
}

fn set_layers(sim: &mut Sim, layers: &[&str]) {
    let layers: Vec<String> = layers.iter().map(|l| (*l).to_owned()).collect();
    sim.with(0, |p, _| {
        if let Some(publisher) = &mut p.publisher {
            publisher.set_made("0", &layers);
        }
    });
}

fn encoding_shown(sim: &Sim) -> Option<u8> {
    only_viewer(sim, 1).last().map(|l| l.tag.encoding)
}

#[test]
fn encodings_that_stop_and_return() {
    let mut sim = Sim::new(230);
    sim.join(&encodings());
    sim.join(&[]);
    sim.run_until(secs(4), "a picture", Sim::everybody_gets_everything);
    sim.run_until(secs(6), "the best encoding", |sim| encoding_shown(sim) == Some(2));
    let since = sim.now;
    // What stops is missed after a second; what is left takes over with its keyframe.
    for (layers, shown) in [(&["q", "h"][..], 1), (&["q"], 0), (&["q", "h", "f"], 2), (&["q"], 0), (&["q", "h"], 1)] {
        set_layers(&mut sim, layers);
        sim.run_until(secs(5), "the encoding that is left", |sim| encoding_shown(sim) == Some(shown));
        sim.run(secs(1));
    }
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(2_500));
    assert!(only_viewer(&sim, 1).stats.layer_switches >= 5);
}

/// Nobody looks: the publisher is told so, stops, and begins anew when somebody does.
#[test]
fn what_nobody_watches_is_not_sent() {
    let mut sim = Sim::new(240);
    sim.join(&encodings());
    sim.join(&[]);
    sim.run_until(secs(4), "a picture", Sim::everybody_gets_everything);
    sim.with(1, |p, _| p.request("view", json!({"tracks": {}})));
    sim.run(secs(8));
    let packets = |sim: &Sim| sim.client(0).publisher.as_ref().map_or(0, |p| p.stats.packets);
    let before = packets(&sim);
    sim.run(secs(5));
    assert_eq!(packets(&sim), before, "nothing is sent");
    let track = sim.client(0).own["0"].clone();
    sim.with(1, |p, _| p.request("view", json!({"tracks": {track: {"w": 640, "h": 360}}})));
    sim.run_until(secs(2), "the picture again", |sim| sim.sees(1, 0, "0"));
    sim.run(secs(3));
    sim.assert_clean();
}

/// Who speaks is shown, when there is one slot for all.
#[test]
fn the_speaker_is_followed() {
    let mut sim = Sim::new(250);
    for _ in 0..4 {
        sim.join(&[TrackConfig::microphone().level(127), TrackConfig::camera(1_800)]);
    }
    let viewer = sim.join_with_one_slot();
    sim.run_until(secs(4), "sound and picture", Sim::everybody_gets_everything);
    sim.run(secs(1));
    for speaker in [2, 0, 3, 1] {
        for other in 0..4 {
            let level = if other == speaker { 15 } else { 127 };
            sim.with(other, |p, _| {
                if let Some(publisher) = &mut p.publisher {
                    publisher.set_level("0", level);
                }
            });
        }
        sim.run_until(secs(6), "the speaker", |sim| sim.sees(viewer, speaker, "1"));
        sim.run(secs(2));
        assert!(sim.sees(viewer, speaker, "1"));
    }
    sim.assert_clean();
}
