//! The bandwidth estimate, the pacer and the allocation on simulated paths, in virtual time: a few cells of the matrix that
//! `cargo bench --bench bandwidth` runs as a whole. Ratios and virtual seconds only; nothing here depends on the machine.
mod link;
mod measure;
mod source;
mod tcp;
mod world;

use measure::{SETTLED, STEADY_AFTER, STEP, STEP_BACK, jain, path, run, scenario};
use std::time::Duration;
use world::{Scenario, World};

#[test]
fn a_steady_path_is_used_without_a_queue() {
    for (bps, rtt, buffer) in [(300e3, 80, 150), (1e6, 20, 50), (3e6, 200, 500), (10e6, 80, 50)] {
        let world = run(scenario(path(bps, rtt, buffer, 0.0), 40.0));
        let viewer = &world.viewers[0];
        let used = measure::utilisation(&world.scenario, viewer.goodput(SETTLED, 40.0), bps);
        assert!(used >= 0.85, "{bps}: {used}");
        assert!(viewer.wait(SETTLED, 40.0, 0.95) < 0.15, "{bps}");
        assert!(viewer.padding_share(SETTLED, 40.0) < 0.06, "{bps}: {}", viewer.padding_share(SETTLED, 40.0));
        assert!(viewer.changes(SETTLED, 40.0) <= 4.0, "{bps}");
    }
}

#[test]
fn losses_that_are_not_congestion_cost_little() {
    for bps in [1e6, 3e6] {
        let of = |loss| run(scenario(path(bps, 80, 150, loss), 40.0)).viewers[0].goodput(SETTLED, 40.0);
        assert!(of(0.03) >= 0.9 * of(0.0), "{bps}");
    }
}

#[test]
fn a_step_down_is_followed_and_a_step_up_is_used() {
    for (high, low, rtt, buffer) in [(3e6, 600e3, 80, 150), (10e6, 1e6, 200, 500), (2e6, 1e6, 20, 50)] {
        let mut plan = scenario(path(high, rtt, buffer, 0.0), STEP_BACK + 20.0);
        plan.steps = vec![(STEP, low), (STEP_BACK, high)];
        // One run may meet the allocator's waiting after a failure; the median of three does not.
        let worlds = [1, 2, 3].map(|seed| run(Scenario { seed, ..plan.clone() }));
        let median = |figure: &dyn Fn(&World) -> f64| {
            let mut figures = worlds.each_ref().map(figure);
            figures.sort_by(f64::total_cmp);
            figures[1]
        };
        let over = median(&|w| measure::over_use(w, STEP, low));
        assert!(over <= 2.0, "{high} to {low}: over-use for {over} s");
        let wait = median(&|w| w.viewers[0].wait(STEP + STEADY_AFTER, STEP_BACK, 0.95));
        assert!(wait < 0.15, "{high} to {low}: {wait} s");
        let known = median(&|w| measure::known(w, STEP_BACK, high));
        let rise = median(&|w| measure::rise(w, STEP_BACK, high));
        assert!(rise.max(known) <= 10.0, "{low} to {high}: known after {known} s, used after {rise} s");
    }
}

#[test]
fn three_mbit_are_known_within_three_seconds() {
    for rtt in [20, 200] {
        let world = run(scenario(path(3e6, rtt, 150, 0.0), 10.0));
        let known = measure::known(&world, 0.0, 3e6);
        assert!(known <= 3.0, "RTT {rtt}: {known} s");
    }
}

#[test]
fn a_tcp_flow_does_not_take_everything_and_leaves_no_trace() {
    let mut plan = scenario(path(3e6, 80, 150, 0.0), 100.0);
    plan.tcp = vec![(20.0, 80.0)];
    let world = run(plan);
    let share = world.viewers[0].goodput(30.0, 80.0) / 1.5e6;
    assert!((0.15..1.8).contains(&share), "{share}");
    assert!(world.tcp_bytes[0] as f64 * 8.0 / 60.0 > 0.5e6, "nor do we");
    assert!(measure::known(&world, 80.0, 3e6) <= 10.0);
}

#[test]
fn three_viewers_behind_one_path_share_it() {
    let mut plan = scenario(path(3e6, 80, 150, 0.0), 90.0);
    plan.viewers = vec![0.0, 10.0, 20.0];
    let world = run(plan);
    let rates: Vec<f64> = world.viewers.iter().map(|v| v.goodput(45.0, 90.0)).collect();
    assert!(jain(&rates) > 0.7, "{rates:?}");
    assert!(rates.iter().sum::<f64>() > 0.6 * 3e6, "{rates:?}");
    assert!(world.viewers[0].wait(45.0, 90.0, 0.95) < 0.15);
}

#[test]
fn jitter_and_token_buckets_are_no_congestion() {
    for (jitter, burst) in [(30, 0.0), (0, 32e3)] {
        let mut plan = scenario(path(3e6, 80, 150, 0.0), 40.0);
        (plan.shape.jitter, plan.shape.burst) = (Duration::from_millis(jitter), burst);
        let world = run(plan);
        let used = measure::utilisation(&world.scenario, world.viewers[0].goodput(SETTLED, 40.0), 3e6);
        assert!(used >= 0.85, "jitter {jitter} ms, bucket {burst}: {used}");
        assert!(world.viewers[0].wait(SETTLED, 40.0, 0.95) < 0.15);
    }
}

#[test]
fn little_to_send_is_no_reason_to_forget_the_path() {
    // Only the smallest pictures are of use: nothing is probed for, and nothing is lost.
    let mut plan = scenario(path(3e6, 80, 150, 0.0), 40.0);
    plan.top = 0;
    let world = run(plan);
    let viewer = &world.viewers[0];
    assert!(viewer.padding_share(SETTLED, 40.0) < 0.001);
    assert!(viewer.slices.iter().skip(20).all(|slice| slice.estimate > 450e3));
}
