//! What a run is judged by.
use super::link::Shape;
use super::source;
use super::world::{IP_OVERHEAD, Scenario, World};
use exedra::egress::allocation::RAISE_SHARE;
use std::time::{Duration, Instant};

/// Before this, a run is still starting; what is steady is measured from here on: seconds.
pub const SETTLED: f64 = 10.0;
/// A path changes at this time, and after it again.
pub const STEP: f64 = 20.0;
pub const STEP_BACK: f64 = 50.0;
/// After a step the allocator waits for ten seconds before it raises again.
pub const STEADY_AFTER: f64 = 12.0;
/// A set of layers fits if it leaves a tenth free: keyframes, retransmissions and frames of uneven size need room.
const FITS: f64 = 0.9;
/// The share of a path that datagrams of usual size have: the rest is IP and UDP.
const PAYLOAD_SHARE: f64 = 1_140.0 / (1_140.0 + IP_OVERHEAD as f64);

pub fn path(bps: f64, rtt_ms: u64, buffer_ms: u64, loss: f64) -> Shape {
    let ms = Duration::from_millis;
    Shape { bps, delay: ms(rtt_ms) / 2, buffer: ms(buffer_ms), loss, jitter: Duration::ZERO, burst: 0.0 }
}

pub fn scenario(shape: Shape, seconds: f64) -> Scenario {
    Scenario {
        seed: 1,
        shape,
        steps: vec![],
        seconds,
        tracks: if shape.bps < 1e6 { 2 } else { 4 },
        viewers: vec![0.0],
        tcp: vec![],
        feedback: Duration::from_millis(60),
        top: source::RUNGS.len() - 1,
    }
}

pub fn run(scenario: Scenario) -> World {
    World::new(start(), scenario).run()
}

#[expect(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

/// What the best fitting set of layers needs on a path: bits a second.
pub fn best(scenario: &Scenario, bps: f64) -> f64 {
    source::total_bps(&source::best(scenario.tracks, scenario.top, FITS * bps * PAYLOAD_SHARE))
}

/// What arrived, of what the best fitting layers need.
pub fn utilisation(scenario: &Scenario, goodput: f64, bps: f64) -> f64 {
    goodput / best(scenario, bps)
}

/// Jain's index of fairness: 1 if all have the same, 1/n if one has all.
pub fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    sum * sum / (rates.len() as f64 * rates.iter().map(|r| r * r).sum::<f64>())
}

/// From a step down to `bps` on: seconds until for half a second no more is sent than the path carries and nothing waits for more than
/// 150 ms.
pub fn over_use(world: &World, step: f64, bps: f64) -> f64 {
    let viewer = &world.viewers[0];
    let mut quiet_since = step;
    let mut at = step;
    while at < step + 15.0 {
        let over = viewer.sent(at - 0.1, at + 0.1) > 1.05 * bps && viewer.wait(at, at + 0.1, 1.0) > 0.05;
        if over || viewer.wait(at, at + 0.1, 0.5) > 0.15 {
            quiet_since = at + 0.1;
        }
        if at - quiet_since > 0.5 {
            break;
        }
        at += 0.1;
    }
    quiet_since - step
}

/// From a step up to `bps` on: seconds until 90 % of what the best fitting layers need arrive, over a second.
pub fn rise(world: &World, step: f64, bps: f64) -> f64 {
    let want = 0.9 * best(&world.scenario, bps);
    let mut at = step;
    while at + 1.0 < world.scenario.seconds && world.viewers[0].goodput(at, at + 1.0) < want {
        at += 0.1;
    }
    at - step
}

/// From a step up to `bps` on: seconds until the estimate is high enough for the best fitting layers.
pub fn known(world: &World, step: f64, bps: f64) -> f64 {
    let want = best(&world.scenario, bps) / RAISE_SHARE;
    let slices = world.viewers[0].slices.iter().skip((step * 10.0) as usize);
    slices.take_while(|slice| slice.estimate < want).count() as f64 / 10.0
}
