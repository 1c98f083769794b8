//! People who come, talk, mute themselves, and go.
use crate::world::{Sim, ms, secs};
use loadtest::client::TrackConfig;

pub fn microphone_and_camera() -> [TrackConfig; 2] {
    [TrackConfig::microphone(), TrackConfig::camera(1_800)]
}

#[test]
fn two_people_hear_and_see_each_other() {
    let mut sim = Sim::new(1);
    sim.join_many(2, &microphone_and_camera());
    let took = sim.run_until(secs(2), "sound and picture", Sim::everybody_gets_everything);
    assert!(took < ms(300), "{took:?} on a path of 20 ms both ways");
    let since = sim.now;
    sim.run(secs(10));
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(100));
    assert_eq!(sim.audio_gaps(), 0.0);
    for (viewer, publisher) in [(0, 1), (1, 0)] {
        let error = |mid| sim.slot(viewer, publisher, mid).and_then(|s| s.clock_error(sim.epoch())).expect("reports");
        let skew = error("0") - error("1");
        assert!(skew.abs() < 0.02, "lips are off by {skew} s");
    }
}

#[test]
fn twenty_people_in_one_room() {
    let mut sim = Sim::new(2).jitter(ms(5));
    let track = [TrackConfig::microphone().every(ms(60)), TrackConfig::camera(900).every(ms(100))];
    sim.join_many(20, &track);
    let took = sim.run_until(secs(8), "sound and picture of everybody", Sim::everybody_gets_everything);
    let since = sim.now;
    sim.run(secs(3));
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(200));
    assert_eq!(sim.audio_gaps(), 0.0, "after {took:?}");
}

#[test]
fn a_newcomer_sees_everybody_soon_and_nobody_notices() {
    let mut sim = Sim::new(3);
    sim.join_many(4, &microphone_and_camera());
    sim.run_until(secs(3), "sound and picture", Sim::everybody_gets_everything);
    let since = sim.now;
    sim.run(secs(2));
    for _ in 0..3 {
        sim.join(&microphone_and_camera());
        let took = sim.run_until(secs(2), "the newcomer's picture", Sim::everybody_gets_everything);
        // Not all at once: first it is found out what the path carries.
        assert!(took < ms(600), "{took:?}");
        sim.run(secs(1));
    }
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(300));
    assert_eq!(sim.audio_gaps(), 0.0);
}

#[test]
fn people_come_and_go() {
    let mut sim = Sim::new(4).loss(0.01).delay(ms(30)).jitter(ms(10));
    sim.join_many(3, &microphone_and_camera());
    sim.run(secs(3));
    for round in 0..6 {
        let newcomer = sim.join(&microphone_and_camera());
        sim.run(secs(2));
        sim.leave(newcomer);
        sim.run(ms(700));
        if round % 2 == 0 {
            sim.close_socket(newcomer);
        }
    }
    sim.run(secs(2));
    sim.assert_clean();
    let peers = sim.peers();
    assert_eq!((sim.room.participants(), peers), (3, 6));
    for client in 0..3 {
        let left = sim.client(client).events.get("participant.left").copied();
        assert_eq!(left, Some(6), "client {client}");
        assert_eq!(sim.client(client).tracks.len(), 6);
    }
}

#[test]
fn what_is_muted_stops_and_goes_on() {
    let mut sim = Sim::new(5);
    sim.join_many(2, &microphone_and_camera());
    sim.run_until(secs(2), "sound and picture", Sim::everybody_gets_everything);
    for round in 0..4 {
        for mid in ["0", "1"] {
            sim.with(0, |p, _| p.mute(mid, true));
        }
        sim.run(ms(400));
        let packets = |sim: &Sim| ["0", "1"].map(|mid| sim.slot(1, 0, mid).expect("a slot").stats.packets);
        let muted = packets(&sim);
        sim.run(secs(3 + 4 * (round % 2)));
        assert_eq!(packets(&sim), muted, "nothing of a muted track arrives");
        let frames = |sim: &Sim| sim.slot(1, 0, "1").and_then(|s| s.viewer()).map_or(0, |v| v.stats.frames);
        let before = frames(&sim);
        for mid in ["0", "1"] {
            sim.with(0, |p, _| p.mute(mid, false));
        }
        sim.run_until(ms(400), "the picture", |sim| frames(sim) > before);
        sim.run(secs(1));
    }
    sim.assert_clean();
    assert_eq!(sim.audio_gaps(), 0.0);
    let viewer = sim.slot(1, 0, "1").and_then(|s| s.viewer()).expect("a slot");
    assert_eq!((viewer.stats.skipped, viewer.stats.cut), (0, 0));
}

#[test]
fn a_screen_is_shared_and_taken_away() {
    let mut sim = Sim::new(6);
    sim.join_many(3, &microphone_and_camera());
    sim.run_until(secs(2), "sound and picture", Sim::everybody_gets_everything);
    let since = sim.now;
    for round in 0..3 {
        let screen = TrackConfig::camera(4_000).source("screen").every(ms(200));
        sim.with(0, |p, now| p.publish(now, screen));
        let mid = (2 + round).to_string();
        let seen = |sim: &Sim| {
            let viewer = |v| sim.slot(v, 0, &mid).and_then(|s| s.viewer()).and_then(|v| v.last());
            [1, 2].into_iter().all(|v| viewer(v).is_some_and(|last| last.tag.track == 2 + round))
        };
        sim.run_until(secs(2), "the screen", seen);
        sim.run(secs(2));
        sim.with(0, |p, now| p.unpublish(now, &mid));
        sim.run(secs(1));
        assert_eq!(sim.client(1).tracks.len(), 6);
    }
    sim.assert_clean();
    for (viewer, publisher) in [(1, 0), (2, 0), (0, 1)] {
        let viewer = sim.slot(viewer, publisher, "1").and_then(|s| s.viewer()).expect("a slot");
        assert!(viewer.freezes.iter().all(|(at, _)| *at < since), "the cameras go on: {:?}", viewer.freezes);
    }
}
