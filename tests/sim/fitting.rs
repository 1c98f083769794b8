//! Subscribers on narrow paths: each gets the best that fits, soon, and keeps it.
use crate::world::{Sim, ms, secs, seeds};
use exedra::room::RoomLimits;
use loadtest::client::video::Shown;
use loadtest::client::{Feedback, Layering, TrackConfig};
use std::time::{Duration, Instant};

/// Bytes of a frame of each encoding, at 30 frames a second: about 150, 500 and 2,000 kbit/s on the wire.
const FRAMES: [(&str, usize); 3] = [("q", 580), ("h", 1_960), ("f", 7_900)];
const INTERVAL: Duration = Duration::from_millis(33);
/// RTP header and extensions, and the SRTP tag.
const OVERHEAD: usize = 44;
/// A microphone, on the wire.
const AUDIO_BPS: f64 = 50.0 * (80.0 + 44.0) * 8.0;

/// A camera with three encodings of three temporal layers.
pub fn camera() -> TrackConfig {
    TrackConfig::simulcast(&FRAMES).every(INTERVAL).layered(Layering::temporal(3)).noisy(0.2).paced(ms(15))
}

pub fn microphone_and_layers() -> [TrackConfig; 2] {
    [TrackConfig::microphone(), camera()]
}

/// Bits a second on the wire of an encoding up to a temporal layer.
fn rate(encoding: usize, temporal: u8) -> f64 {
    let layering = Layering::temporal(3);
    let cycle = (4..8).map(|picture| layering.place(picture, 0).temporal).filter(|t| *t <= temporal);
    let bytes = cycle.map(|t| {
        let payload = FRAMES[encoding].1 as f64 * layering.share(t);
        payload + (payload / 1_100.0).ceil() * OVERHEAD as f64
    });
    bytes.sum::<f64>() * 8.0 / (4.0 * INTERVAL.as_secs_f64())
}

/// What takes most of what fits, audio included. A smaller picture at the full rate is better than a larger one at a quarter of it, so that there are
/// seven steps.
fn best_fitting(bandwidth: u64) -> f64 {
    let steps = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)];
    let rates = steps.map(|(encoding, temporal)| rate(encoding, temporal) + AUDIO_BPS);
    rates.into_iter().filter(|rate| *rate < bandwidth as f64 * FITS).fold(0.0, f64::max)
}

/// What takes more of a path than this does not fit: the frames of a stream are not all of one size.
const FITS: f64 = 0.85;

/// A narrow path, in both directions as long.
#[derive(Clone, Copy, Debug)]
struct Narrow {
    kbps: u64,
    rtt_ms: u64,
    buffer_ms: u64,
    loss: f64,
}

impl Sim {
    /// `client` is behind this from now on.
    fn narrow(&mut self, client: usize, path: Narrow) {
        let client = &mut self.clients[client];
        for link in [&mut client.up, &mut client.down] {
            link.conditions.delay = ms(path.rtt_ms / 2);
            link.conditions.loss = path.loss;
        }
        client.down.conditions.bandwidth = Some(path.kbps * 1_000);
        client.down.conditions.buffer = ms(path.buffer_ms);
        client.down.queued.get_or_insert_default();
    }

    /// Bits a second that `client` receives until `time` has passed.
    fn rate_during(&mut self, client: usize, time: Duration) -> f64 {
        let before = self.received(client);
        self.run(time);
        (self.received(client) - before) as f64 * 8.0 / time.as_secs_f64()
    }
}

/// How often what is shown changed from `since` on, and when. What does not last for half a second is no change.
struct Changes {
    shown: Option<Shown>,
    candidate: (Option<Shown>, Option<Instant>),
    at: Vec<Instant>,
}

impl Changes {
    fn new() -> Self {
        Self { shown: None, candidate: (None, None), at: Vec::new() }
    }
    fn look(&mut self, now: Instant, shown: Option<Shown>) {
        if shown == self.shown || shown.is_none() {
            self.candidate = (None, None);
        } else if shown != self.candidate.0 {
            self.candidate = (shown, Some(now));
        } else if self.candidate.1.is_some_and(|since| now - since >= ms(500)) {
            if self.shown.is_some() {
                self.at.push(now);
            }
            self.shown = shown;
        }
    }
}

fn paths() -> Vec<Narrow> {
    let kbps = [300, 450, 700, 1_000, 1_600, 2_000, 2_500, 3_000, 5_000, 10_000];
    let path = |n: usize| Narrow {
        kbps: kbps[n % 10],
        rtt_ms: [20, 60, 120, 200][n % 4],
        buffer_ms: [500, 200, 100][n % 3],
        loss: [0.0, 0.0, 0.01, 0.02, 0.05][(n + n / 10) % 5],
    };
    (0..20).map(path).collect()
}

/// Twenty people on twenty paths look at one: everybody gets the best that fits, and the queues stay short.
#[test]
fn everybody_gets_what_fits_his_own_path() {
    for seed in seeds(700, 2) {
        let mut sim = Sim::new(seed);
        sim.join_to_publish(&microphone_and_layers());
        for path in paths() {
            let viewer = sim.join(&[]);
            sim.narrow(viewer, path);
        }
        sim.run(secs(20));
        let since = sim.now;
        let keyframes = |sim: &Sim| sim.client(0).publisher.as_ref().map_or(0, |p| p.stats.keyframes);
        let before: Vec<u64> = (1..=20).map(|viewer| sim.received(viewer)).collect();
        let keyframes_before = keyframes(&sim);
        sim.run(secs(30));
        let mut bad = Vec::new();
        for (viewer, path) in (1..).zip(paths()) {
            let rate = (sim.received(viewer) - before[viewer - 1]) as f64 * 8.0 / 30.0;
            let share = rate / best_fitting(path.kbps * 1_000);
            let queueing = sim.clients[viewer].down.queueing(since);
            let shown = sim.shown(viewer, 0, "1");
            if share < 0.85 {
                let told = sim.told(viewer);
                println!("{:#?}", &told[told.len().saturating_sub(12)..]);
            }
            println!("{path:?}: {:.0} kbit/s, {share:.2} of the best that fits; {queueing:?}; {shown:?}", rate / 1e3);
            // What is lost on the way is sent again; it is lost before the receiver counts it.
            if share < 0.85 || queueing.p95 > ms(150) {
                bad.push((path, share, queueing));
            }
        }
        println!("{} keyframes in 30 s", keyframes(&sim) - keyframes_before);
        sim.assert_clean();
        assert!(bad.is_empty(), "{bad:?}");
    }
}

/// On a path that loses nothing and carries everything, nothing is ever asked for again: what the server numbers, it sends.
#[test]
fn a_good_path_needs_no_repair() {
    for (seed, camera) in [(760, TrackConfig::camera(6_000).every(INTERVAL)), (761, camera()), (762, camera())] {
        let mut sim = Sim::new(seed);
        sim.join_to_publish(&[TrackConfig::microphone(), camera]);
        let viewers = [sim.join(&[]), sim.join(&[]), sim.join(&[])];
        sim.run_until(secs(3), "a picture", |sim| viewers.iter().all(|v| sim.sees(*v, 0, "1")));
        sim.run(secs(15));
        for viewer in viewers {
            for slot in sim.client(viewer).subscriber.iter().flat_map(|s| &s.slots) {
                let (lost, expected) = (slot.ledger.lost_before_repair(), slot.ledger.expected());
                assert_eq!(lost, 0, "viewer {viewer}, slot {}: of {expected} packets; {:?}", slot.mid, slot.stats);
            }
        }
        sim.assert_clean();
    }
}

/// Those with good paths are as well off as without the others.
#[test]
fn none_harms_another() {
    let paths: Vec<Narrow> = paths().into_iter().filter(|p| p.kbps >= 2_500).take(6).collect();
    let of = |crowd: bool| {
        let mut sim = Sim::on_shards(711, RoomLimits::default(), 2);
        sim.join_to_publish(&microphone_and_layers());
        for path in &paths {
            let viewer = sim.join(&[]);
            sim.narrow(viewer, *path);
        }
        for path in self::paths().into_iter().filter(|p| crowd && p.kbps < 2_500) {
            let viewer = sim.join(&[]);
            sim.narrow(viewer, path);
        }
        sim.run(secs(20));
        let since = sim.now;
        let before: Vec<u64> = (1..=paths.len()).map(|viewer| sim.received(viewer)).collect();
        sim.run(secs(20));
        sim.assert_clean();
        let of = |(viewer, before): (usize, &u64)| {
            let slot = sim.slot(viewer, 0, "1").expect("a slot");
            let freezes = slot.viewer().map_or(0, |v| v.freezes.iter().filter(|(at, _)| *at >= since).count());
            (sim.received(viewer) - before, freezes)
        };
        (1..).zip(&before).map(of).collect::<Vec<_>>()
    };
    let (alone, together) = (of(false), of(true));
    for ((path, (alone, freezes)), (bytes, freezes_together)) in paths.iter().zip(alone).zip(together) {
        let share = bytes as f64 / alone as f64;
        println!("{path:?}: {share:.3} of what it gets alone; freezes {freezes} and {freezes_together}");
        assert!(share > 0.93, "{path:?}: {share}");
        assert!(freezes_together <= freezes, "{path:?}: {freezes_together} freezes, {freezes} alone");
    }
}

/// From 3 Mbit/s to 600 kbit/s and back.
#[test]
fn a_path_becomes_narrow_and_wide_again() {
    for seed in seeds(720, 3) {
        let rtt_ms = [20, 60, 200][(seed % 3) as usize];
        let wide = Narrow { kbps: 3_000, rtt_ms, buffer_ms: 300, loss: 0.0 };
        let mut sim = Sim::new(seed);
        sim.join_to_publish(&microphone_and_layers());
        let viewer = sim.join(&[]);
        sim.narrow(viewer, wide);
        let top = |sim: &Sim| sim.shown(viewer, 0, "1").is_some_and(|s| (s.encoding, s.temporal) == (2, 2));
        let took = sim.run_until(secs(12), "the top layer", top);
        println!("RTT {rtt_ms} ms: the top layer after {took:?}");
        sim.run(secs(10));
        for _ in 0..2 {
            let since = sim.now;
            sim.narrow(viewer, Narrow { kbps: 600, ..wide });
            sim.run(secs(15));
            let recovery = sim.clients[viewer].down.recovery(since, secs(15));
            let queueing = sim.clients[viewer].down.queueing(since + secs(5));
            let rate = sim.rate_during(viewer, secs(10));
            let share = rate / best_fitting(600_000);
            println!("  narrow: {recovery:?}; then {queueing:?}, {share:.2} of the best that fits");
            let profile = || sim.clients[viewer].down.profile(since, secs(10));
            let (over_use, drained) = (recovery.over_use, recovery.drained);
            assert!(over_use <= secs(2) && drained <= secs(3), "{recovery:?}: {:?}", profile());
            assert!(queueing.p95 < ms(150), "{queueing:?}");
            assert!(share >= 0.85, "{share}");
            sim.narrow(viewer, wide);
            let took = sim.run_until(secs(10), "the top layer again", top);
            println!("  wide: the top layer after {took:?}");
            sim.run(secs(10));
        }
        sim.assert_clean();
        let viewer = sim.slot(viewer, 0, "1").and_then(|s| s.viewer()).expect("a slot");
        println!("  freezes: {:?}", viewer.freezes.iter().map(|(at, gap)| (*at - sim.start, *gap)).collect::<Vec<_>>());
        assert_eq!(viewer.stats.broken, 0);
        assert!(viewer.freezes.iter().all(|(_, gap)| *gap < secs(1)), "{:?}", viewer.freezes);
    }
}

/// A client that knows no transport-wide feedback.
#[test]
fn an_estimate_of_the_receivers_own_is_followed() {
    let path = Narrow { kbps: 1_000, rtt_ms: 60, buffer_ms: 300, loss: 0.0 };
    let mut sim = Sim::new(730);
    sim.join_to_publish(&microphone_and_layers());
    let viewer = sim.join_with(&[], |settings| settings.feedback = Feedback::Remb);
    sim.narrow(viewer, path);
    sim.run(secs(40));
    let since = sim.now;
    let rate = sim.rate_during(viewer, secs(20));
    let queueing = sim.clients[viewer].down.queueing(since);
    let share = rate / best_fitting(1_000_000);
    println!("{share:.2} of the best that fits; {queueing:?}; {:?}", sim.shown(viewer, 0, "1"));
    assert!(share >= 0.85 && queueing.p95 < ms(150), "{share}, {queueing:?}");
    sim.assert_clean();
}

/// A client that tells nothing: it gets everything, as there is no reason to give it less. On a path that does not carry that its reports of loss
/// are all there is to go by.
#[test]
fn a_client_that_tells_nothing() {
    let mut sim = Sim::new(740);
    sim.join_to_publish(&microphone_and_layers());
    let wide = sim.join_with(&[], |settings| settings.feedback = Feedback::Nothing);
    let narrow = sim.join_with(&[], |settings| settings.feedback = Feedback::Nothing);
    sim.narrow(narrow, Narrow { kbps: 1_200, rtt_ms: 40, buffer_ms: 300, loss: 0.0 });
    sim.run_until(secs(3), "the top layer", |sim| sim.shown(wide, 0, "1").is_some_and(|s| s.encoding == 2));
    sim.run(secs(20));
    let since = sim.now;
    sim.run(secs(20));
    let queueing = sim.clients[narrow].down.queueing(since);
    println!("narrow: {queueing:?}; {:?}", sim.shown(narrow, 0, "1"));
    assert!(sim.shown(wide, 0, "1").is_some_and(|s| (s.encoding, s.temporal) == (2, 2)));
    assert!(queueing.lost < 0.1, "{queueing:?}");
    sim.assert_clean();
}

/// Five minutes on a path that does not change, with frames of all sizes: nothing changes more often than every ten seconds.
#[test]
fn a_steady_path_is_quiet() {
    for (seed, kbps, loss) in [(750, 1_300, 0.0), (751, 640, 0.0), (752, 2_300, 0.01)] {
        let mut sim = Sim::new(seed);
        let noisy = camera().noisy(0.4);
        sim.join_to_publish(&[TrackConfig::microphone(), noisy]);
        let viewer = sim.join(&[]);
        sim.narrow(viewer, Narrow { kbps, rtt_ms: 60, buffer_ms: 250, loss });
        sim.run(secs(20));
        let mut changes = Changes::new();
        // What encoders make wanders by a tenth, over half a minute.
        for step in 0..3_000u32 {
            if step % 100 == 0 {
                let factor = 1.0 + 0.1 * (f64::from(step) / 150.0).sin();
                let before = 1.0 + 0.1 * (f64::from(step.saturating_sub(100)) / 150.0).sin();
                sim.with(0, |p, _| p.publisher.iter_mut().for_each(|p| p.scale("1", factor / before)));
            }
            sim.run(ms(100));
            changes.look(sim.now, sim.shown(viewer, 0, "1"));
        }
        let at: Vec<Duration> = changes.at.iter().map(|at| *at - sim.start).collect();
        println!("{kbps} kbit/s: {} changes in five minutes: {at:?}", at.len());
        let close = at.windows(2).find(|pair| pair[1] - pair[0] < secs(10));
        assert!(close.is_none(), "{kbps} kbit/s: two changes within ten seconds: {close:?}");
        assert!(at.len() <= 10, "{kbps} kbit/s: {at:?}");
        sim.assert_clean();
    }
}
