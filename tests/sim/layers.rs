//! One slot, fifty changes of layer, for each codec: a decoder notices nothing.
use crate::world::{Sim, ms, secs};
use loadtest::client::video::Shown;
use loadtest::client::{Layering, TrackConfig, VideoCodec};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

const SWITCHES: usize = 50;

fn simulcast(codec: VideoCodec, layering: Layering) -> TrackConfig {
    let encodings = TrackConfig::simulcast(&[("q", 600), ("h", 1_500), ("f", 4_500)]);
    encodings.codec(codec).every(ms(40)).layered(layering).paced(ms(10))
}

fn svc(codec: VideoCodec, layering: Layering) -> TrackConfig {
    TrackConfig::camera(4_500).codec(codec).every(ms(40)).layered(layering).described().paced(ms(10))
}

/// Whether the picture that is shown is the right one for this height, out of 180, 360 and 720 lines.
fn has_size(shown: Shown, height: u16) -> bool {
    let size = match height {
        ..=180 => 0,
        181..=360 => 1,
        _ => 2,
    };
    // Simulcast has its sizes in encodings, SVC in spatial layers.
    shown.encoding.max(shown.spatial) == size
}

/// Whether it has as many of the 25 frames a second as are asked for, and not many more.
fn has_rate(shown: Shown, fps: Option<u8>) -> bool {
    let temporal = match fps {
        Some(..=6) => 0,
        Some(..=12) => 1,
        _ => 2,
    };
    shown.temporal == temporal
}

/// The viewer changes its size and frame rate again and again. Gives how long the longest change took, in milliseconds.
fn switch(seed: u64, camera: TrackConfig) -> u128 {
    let name = format!("{:?} {}", camera.codec, camera.layering);
    let mut sim = Sim::new(seed);
    sim.join_to_publish(&[camera]);
    let viewer = sim.join(&[]);
    sim.run_until(secs(4), "a picture", |sim| sim.sees(viewer, 0, "0"));
    sim.run(secs(3));
    let mut rng = StdRng::seed_from_u64(sim.seed);
    let since = sim.now;
    let (mut last, mut slowest) = ((0, None), 0);
    for _ in 0..SWITCHES {
        let wish = loop {
            let fps = [None, None, Some(6), Some(12)][rng.random_range(0..4)];
            let wish = ([180, 360, 720][rng.random_range(0..3)], fps);
            if wish != last {
                break wish;
            }
        };
        last = wish;
        let (height, fps) = wish;
        let track = sim.client(0).own["0"].clone();
        let mut view = json!({"w": height * 16 / 9, "h": height});
        if let Some(fps) = fps {
            view["fps"] = fps.into();
        }
        sim.with(viewer, |p, _| p.request("view", json!({"tracks": {track: view}})));
        let shown = |sim: &Sim| sim.shown(viewer, 0, "0");
        let sized = |sim: &Sim| shown(sim).is_some_and(|shown| has_size(shown, height));
        let right = |sim: &Sim| sized(sim) && shown(sim).is_some_and(|shown| has_rate(shown, fps));
        let asked = sim.now;
        sim.run_until(secs(4), &format!("{name}: {height} lines"), sized);
        slowest = slowest.max((sim.now - asked).as_millis());
        // What is right for a moment, while layers change, does not count.
        while !right(&sim) {
            sim.run_until(secs(6), &format!("{name}: {height} lines at {fps:?}"), right);
            sim.run(ms(400));
            assert!(sim.now - asked < secs(7), "{name}: {height} lines at {fps:?}: {:?}", shown(&sim));
        }
        sim.run(ms([100, 700, 1_500, 7_000][rng.random_range(0..4)]));
        assert!(right(&sim), "{name}: {height} lines at {fps:?} do not stay: {:?}", shown(&sim));
    }
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(300));
    sim.assert_no_holes(viewer);
    let slot = sim.slot(viewer, 0, "0").expect("a slot");
    let stats = &slot.viewer().expect("video").stats;
    assert_eq!(stats.broken, 0, "{name}: {stats:?}");
    // A keyframe that comes between two packets of another encoding's frame ends that frame: it is not shown.
    assert!(stats.cut <= stats.layer_switches / 2, "{name}: {stats:?}");
    let (cut, longest, fillers) = (stats.cut, stats.longest_freeze_ms, slot.stats.fillers);
    println!(
        "{name}: {SWITCHES} changes, the slowest after {slowest} ms; {cut} frames cut short, {longest} ms without a frame, {fillers} fillers"
    );
    slowest
}

#[test]
fn fifty_changes_of_simulcast_layers() {
    for (n, codec) in VideoCodec::ALL.into_iter().enumerate() {
        let slowest = switch(900 + n as u64, simulcast(codec, Layering::temporal(3)));
        assert!(slowest < 2_500, "{codec:?}: {slowest} ms");
    }
}

#[test]
fn fifty_changes_of_spatial_layers() {
    for (n, codec) in [VideoCodec::Vp9, VideoCodec::Av1].into_iter().enumerate() {
        for key in [true, false] {
            let slowest = switch(910 + 2 * n as u64 + u64::from(key), svc(codec, Layering::svc(3, 3, key)));
            assert!(slowest < 2_500, "{codec:?}: {slowest} ms");
        }
    }
}

/// VP9 without the dependency descriptor: its own tells the layers.
#[test]
fn fifty_changes_of_vp9_by_its_own_descriptor() {
    let mut camera = svc(VideoCodec::Vp9, Layering::svc(3, 3, true));
    camera.descriptor = false;
    switch(920, camera);
}

/// The same while packets are lost and overtaken: no fault that a loss does not explain, and the picture goes on.
#[test]
fn changes_of_layers_on_a_bad_network() {
    for (seed, codec, layering) in [
        (930, VideoCodec::Vp8, Layering::temporal(3)),
        (931, VideoCodec::H264, Layering::temporal(2)),
        (932, VideoCodec::Vp9, Layering::svc(3, 3, true)),
        (3, VideoCodec::Vp9, Layering::svc(3, 3, true)),
        (933, VideoCodec::Av1, Layering::svc(2, 3, false)),
    ] {
        let camera = if layering.spatial > 1 { svc(codec, layering) } else { simulcast(codec, layering) };
        let mut sim = Sim::new(seed).loss(0.02).reorder(0.02).jitter(ms(10)).delay(ms(25));
        sim.join_to_publish(&[camera]);
        let viewers = [sim.join(&[]), sim.join(&[])];
        sim.run_until(secs(10), "a picture", |sim| viewers.iter().all(|v| sim.sees(*v, 0, "0")));
        let since = sim.now;
        let mut rng = StdRng::seed_from_u64(sim.seed);
        for _ in 0..SWITCHES {
            let height = [180, 360, 720][rng.random_range(0..3)];
            sim.look(viewers[rng.random_range(0..2)], &[(0, "0", height * 16 / 9, height)]);
            sim.run(ms(rng.random_range(100..1_500)));
        }
        sim.assert_clean();
        sim.assert_no_freeze(since, ms(1_500));
    }
}
