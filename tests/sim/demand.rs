//! Many tracks on one path; and what publishers are told to send.
use crate::fitting::camera;
use crate::world::{Sim, ms, secs};
use loadtest::client::participant::Heard;
use loadtest::client::video::Shown;
use serde_json::{Value, json};
use std::time::Instant;

const PUBLISHERS: usize = 9;

/// Nine publish, the tenth watches: the first one on the stage, all others in tiles.
fn nine_tracks(seed: u64) -> (Sim, usize) {
    let mut sim = Sim::new(seed);
    for _ in 0..PUBLISHERS {
        sim.join_to_publish(&[camera()]);
    }
    sim.run(secs(1));
    let viewer = sim.join(&[]);
    sim.run(ms(500));
    let tile = |n: usize| {
        let (w, h) = if n == 0 { (1_280, 720) } else { (640, 360) };
        (sim.client(n).own["0"].clone(), json!({"w": w, "h": h}))
    };
    let tracks: serde_json::Map<_, _> = (0..PUBLISHERS).map(tile).collect();
    let stage = sim.client(0).participant.clone();
    sim.with(viewer, |p, _| p.request("view", json!({"tracks": tracks, "follow": stage})));
    (sim, viewer)
}

fn widen(sim: &mut Sim, viewer: usize, kbps: u64) {
    sim.clients[viewer].down.conditions.bandwidth = Some(kbps * 1_000);
    sim.clients[viewer].down.queued.get_or_insert_default();
}

fn all_shown(sim: &Sim, viewer: usize) -> Vec<Option<Shown>> {
    (0..PUBLISHERS).map(|n| sim.shown(viewer, n, "0")).collect()
}

#[test]
fn a_small_picture_for_everybody_comes_before_a_large_one_for_anybody() {
    let (mut sim, viewer) = nine_tracks(800);
    widen(&mut sim, viewer, 1_900);
    sim.run(secs(25));
    let shown = all_shown(&sim, viewer);
    println!("1.9 Mbit/s: {shown:?}");
    let encoding = |n: usize| shown[n].map(|s| s.encoding);
    assert!((0..PUBLISHERS).all(|n| encoding(n).is_some()), "everybody is seen: {shown:?}");
    assert!((1..PUBLISHERS).all(|n| encoding(n) <= encoding(0)), "the stage comes first: {shown:?}");
    assert!(encoding(0) >= Some(1), "what is left is the stage's: {shown:?}");
    let queueing = sim.clients[viewer].down.queueing(sim.now - secs(10));
    assert!(queueing.p95 < ms(150), "{queueing:?}");
    sim.assert_clean();
}

/// Not even the small ones fit: some are paused, with the reason and the missing bits; when the path becomes wider they come back by themselves.
#[test]
fn what_does_not_fit_is_paused_and_comes_back() {
    let (mut sim, viewer) = nine_tracks(810);
    widen(&mut sim, viewer, 8_000);
    sim.run(secs(15));
    assert!(all_shown(&sim, viewer).iter().all(Option::is_some));
    widen(&mut sim, viewer, 400);
    sim.run(secs(15));
    let shown = all_shown(&sim, viewer);
    println!("400 kbit/s: {shown:?}");
    assert!(shown[0].is_some(), "the stage is shown: {shown:?}");
    let paused: Vec<usize> = (0..PUBLISHERS).filter(|n| shown[*n].is_none()).collect();
    assert!(!paused.is_empty() && paused.len() < PUBLISHERS, "{shown:?}");
    for n in &paused {
        let state = sim.state(viewer, *n, "0").expect("it is told");
        assert_eq!((&state["state"], &state["why"]), (&json!("paused"), &json!("bandwidth")), "{state}");
        let bits = |key: &str| state[key].as_u64().unwrap_or_default();
        assert!(bits("needBps") >= bits("haveBps") && bits("needBps") < 400_000, "{state}");
    }
    let queueing = sim.clients[viewer].down.queueing(sim.now - secs(10));
    assert!(queueing.p95 < ms(150), "{queueing:?}");
    widen(&mut sim, viewer, 8_000);
    let took = sim.run_until(secs(25), "everybody's picture", |sim| all_shown(sim, viewer).iter().all(Option::is_some));
    println!("all are back after {took:?}");
    let live = |n: usize| sim.state(viewer, n, "0").is_some_and(|state| state["state"] == "live");
    assert!(paused.into_iter().all(live), "it is told");
    sim.assert_clean();
}

/// When something was last told of a publisher's layers, and what.
fn told(sim: &Sim, publisher: usize) -> Option<(Instant, Vec<String>)> {
    let told = sim.client(publisher).heard.iter().rev().find(|h| h.kind == "publish.layers")?;
    let names = told.data["wanted"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Some((told.at, names.map(str::to_owned).collect()))
}

fn sending(sim: &Sim) -> Vec<bool> {
    sim.client(0).publisher.as_ref().map(|p| p.sending("0")).unwrap_or_default()
}

/// Layers that nobody is served by are stopped after five seconds, and wanted at once when somebody is.
#[test]
fn what_nobody_needs_is_stopped() {
    let mut sim = Sim::new(820);
    sim.join_to_publish(&[camera()]);
    let viewers = [sim.join(&[]), sim.join(&[])];
    sim.run_until(secs(3), "a picture", |sim| viewers.iter().all(|v| sim.sees(*v, 0, "0")));
    let looked = sim.now;
    sim.look(viewers[0], &[(0, "0", 320, 180)]);
    sim.look(viewers[1], &[(0, "0", 640, 360)]);
    sim.run_until(secs(8), "the large layer to stop", |sim| sending(sim) == [true, true, false]);
    let stopped = sim.now - looked;
    assert!(stopped > secs(4), "{stopped:?}");
    sim.look(viewers[1], &[(0, "0", 320, 180)]);
    sim.run_until(secs(8), "the middle layer to stop", |sim| sending(sim) == [true, false, false]);
    assert_eq!(told(&sim, 0).map(|(_, wanted)| wanted), Some(vec!["q".to_owned()]));
    sim.run(secs(2));
    let encoding = |sim: &Sim, v: usize| sim.shown(v, 0, "0").map(|s| s.encoding);
    assert_eq!([encoding(&sim, viewers[0]), encoding(&sim, viewers[1])], [Some(0); 2]);
    let began = sim.now;
    sim.look(viewers[1], &[(0, "0", 1_280, 720)]);
    sim.run_until(ms(200), "all to be wanted", |sim| sending(sim) == [true; 3]);
    let took = sim.run_until(secs(6), "the large picture", |sim| encoding(sim, viewers[1]) == Some(2));
    println!("wanted after {:?}, seen after {took:?}", told(&sim, 0).map(|(at, _)| at - began));
    sim.run(secs(1));
    assert_eq!(encoding(&sim, viewers[0]), Some(0), "the other one has what it needs");
    // Nobody looks.
    viewers.into_iter().for_each(|v| sim.look(v, &[]));
    sim.run_until(secs(8), "everything to stop", |sim| sending(sim) == [false; 3]);
    let packets = |sim: &Sim| sim.client(0).publisher.as_ref().map_or(0, |p| p.stats.packets);
    // What is left of the last frames.
    sim.run(ms(100));
    let before = packets(&sim);
    sim.run(secs(3));
    assert_eq!(packets(&sim), before, "nothing is sent upstream");
    sim.look(viewers[0], &[(0, "0", 320, 180)]);
    sim.run_until(secs(1), "the picture", |sim| sim.sees(viewers[0], 0, "0"));
    sim.run(secs(7));
    assert_eq!(sending(&sim), [true, false, false]);
    sim.assert_clean();
}

fn make(sim: &mut Sim, encodings: &[&str]) {
    let encodings: Vec<String> = encodings.iter().map(|e| (*e).to_owned()).collect();
    sim.with(0, |p, _| p.publisher.iter_mut().for_each(|p| p.set_made("0", &encodings)));
}

/// Encodings that are offered and never sent, that come late, stop, and come back: what arrives is what counts.
#[test]
fn what_is_offered_and_not_sent_is_not_waited_for() {
    for seed in [830, 831, 832] {
        let mut sim = Sim::new(seed);
        sim.join_to_publish(&[camera().without("f")]);
        let viewer = sim.join(&[]);
        let shows = |encoding: u8| move |sim: &Sim| sim.shown(viewer, 0, "0").is_some_and(|s| s.encoding == encoding);
        sim.run_until(secs(3), "the best that there is", shows(1));
        sim.run(secs(20));
        assert!(shows(1)(&sim));
        let since = sim.now;
        for (made, shown) in [
            (&["q", "h", "f"][..], 2),
            (&["h"], 1),
            (&["q", "h", "f"], 2),
            (&["q"], 0),
            (&["f", "q"], 2),
            (&["q", "h"], 1),
        ] {
            make(&mut sim, made);
            let took = sim.run_until(secs(8), "the best that there is", shows(shown));
            println!("{made:?}: {took:?}");
            sim.run(secs(6));
            assert!(shows(shown)(&sim), "it stays");
        }
        sim.assert_clean();
        sim.assert_no_freeze(since, ms(1_500));
    }
}

/// Who joins late, and who comes back to a socket that was closed, knows what is wanted of his tracks.
#[test]
fn a_publisher_that_resumes_knows_what_is_wanted() {
    let mut sim = Sim::new(840);
    sim.join(&[camera()]);
    let viewer = sim.join(&[]);
    sim.run_until(secs(3), "a picture", |sim| sim.sees(viewer, 0, "0"));
    sim.look(viewer, &[(0, "0", 320, 180)]);
    sim.run_until(secs(8), "the large layers to stop", |sim| sending(sim) == [true, false, false]);
    sim.close_socket(0);
    sim.look(viewer, &[(0, "0", 1_280, 720)]);
    sim.run(secs(2));
    sim.open_socket(0);
    sim.run_until(secs(1), "all to be wanted", |sim| sending(sim) == [true; 3]);
    sim.run(secs(6));
    let heard = |h: &&Heard| h.kind == "publish.layers";
    let last = sim.client(0).heard.iter().rev().find(heard).map(|h| h.data.clone()).expect("it was told");
    assert_eq!(last["wanted"].as_array().map(Vec::len), Some(3), "{last}");
    sim.assert_clean();
}
