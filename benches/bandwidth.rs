//! The bandwidth estimate on simulated paths of known capacity: `cargo bench --bench bandwidth`.
//!
//! Prints a table for each kind of path, and exits with 1 if a bound is missed. With `-- trace BPS RTT BUFFER LOSS STEP SECONDS` it prints one run.
#[path = "../tests/paths/mod.rs"]
mod paths;

use paths::measure::{self, SETTLED, STEADY_AFTER, STEP, path, run, scenario};
use paths::world::World;

const CAPACITIES: [f64; 9] = [300e3, 450e3, 600e3, 1e6, 1.5e6, 2e6, 3e6, 5e6, 10e6];
const RTTS: [u64; 3] = [20, 80, 200];
const BUFFERS: [u64; 3] = [50, 150, 500];
const LOSSES: [f64; 3] = [0.0, 0.03, 0.05];

fn main() {
    let args: Vec<f64> = std::env::args().skip_while(|a| a != "trace").skip(1).filter_map(|a| a.parse().ok()).collect();
    if !args.is_empty() {
        return trace(&args);
    }
    let mut missed = 0;
    missed += steady();
    missed += steps();
    missed += others();
    println!("{missed} missed");
    std::process::exit(i32::from(missed > 0));
}

fn steady() -> usize {
    let mut missed = 0;
    for bps in CAPACITIES {
        for rtt in RTTS {
            for buffer in BUFFERS {
                let mut lossless = 0.0;
                for loss in LOSSES {
                    let w = run(scenario(path(bps, rtt, buffer, loss), 60.0));
                    let v = &w.viewers[0];
                    let good = v.goodput(SETTLED, 60.0);
                    if loss == 0.0 {
                        lossless = good;
                    }
                    let u = measure::utilisation(&w, SETTLED, 60.0, bps);
                    let q = v.wait(SETTLED, 60.0, 0.95);
                    let q99 = v.wait(SETTLED, 60.0, 0.99);
                    let ratio = good / lossless;
                    let bad = u < 0.85 && loss == 0.0
                        || q > 0.15
                        || loss == 0.03 && ratio < 0.9
                        || loss > 0.03 && ratio < 0.85;
                    missed += usize::from(bad);
                    if bad || std::env::var("ALL").is_ok() {
                        println!(
                            "{} {:5.0}k rtt {rtt:3} buf {buffer:3} loss {loss:.2}: util {u:.2} (best {:5.0}) ratio {ratio:.2} q95 {:3.0} q99 {:3.0} switches {:3} pad {:.1}%",
                            if bad { "MISS" } else { "ok  " },
                            bps / 1e3,
                            measure::best(&w.scenario, bps) / 1e3,
                            q * 1e3,
                            q99 * 1e3,
                            v.switches,
                            100.0 * v.sum(0.0, 60.0, |s| s.padding_bytes) / v.sum(0.0, 60.0, |s| s.sent_bytes),
                        );
                    }
                }
            }
        }
    }
    missed
}

fn steps() -> usize {
    let mut missed = 0;
    for (high, low) in [(3e6, 600e3), (10e6, 1e6), (2e6, 1e6), (1e6, 300e3), (5e6, 3.5e6), (5e6, 300e3)] {
        for rtt in RTTS {
            for buffer in BUFFERS {
                for loss in [0.0, 0.03] {
                    let mut s = scenario(path(high, rtt, buffer, loss), 75.0);
                    s.steps = vec![(STEP, low), (STEP + 30.0, high)];
                    let w = run(s);
                    let (over, rise) = (measure::over_use(&w, STEP, low), measure::rise(&w, STEP + 30.0, high));
                    let u = measure::utilisation(&w, STEP + STEADY_AFTER, STEP + 30.0, low);
                    let q = w.viewers[0].wait(STEP + STEADY_AFTER, STEP + 30.0, 0.95);
                    let bad = over > 2.0 || rise > 10.0 || q > 0.15 || u < 0.85 && loss == 0.0;
                    missed += usize::from(bad);
                    if bad || std::env::var("ALL").is_ok() {
                        println!(
                            "{} {:5.0}k -> {:5.0}k rtt {rtt:3} buf {buffer:3} loss {loss:.2}: over {over:.1} s rise {rise:.1} s known {:.1} util {u:.2} q95 {:3.0}",
                            if bad { "MISS" } else { "ok  " },
                            high / 1e3,
                            low / 1e3,
                            measure::known(&w, STEP + 30.0, high),
                            q * 1e3
                        );
                    }
                }
            }
        }
    }
    missed
}

fn others() -> usize {
    for bps in [1e6, 3e6, 10e6] {
        for rtt in RTTS {
            for buffer in BUFFERS {
                let mut s = scenario(path(bps, rtt, buffer, 0.0), 120.0);
                s.tcp = vec![(20.0, 80.0)];
                let w = run(s);
                let v = &w.viewers[0];
                let tcp = w.tcp_bytes[0] as f64 * 8.0 / 60.0;
                let ours = v.goodput(30.0, 80.0);
                print!(
                    "tcp {:5.0}k rtt {rtt:3} buf {buffer:3}: ours {:5.0}k tcp {:5.0}k share {:.2} q95 {:3.0}; after: rise {:.1}",
                    bps / 1e3,
                    ours / 1e3,
                    tcp / 1e3,
                    ours / (bps / 2.0),
                    v.wait(30.0, 80.0, 0.95) * 1e3,
                    measure::rise(&w, 80.0, bps)
                );
                let mut s = scenario(path(bps, rtt, buffer, 0.0), 120.0);
                s.viewers = vec![0.0, 15.0, 30.0];
                let w = run(s);
                let g: Vec<f64> = w.viewers.iter().map(|v| v.goodput(60.0, 120.0)).collect();
                let sum: f64 = g.iter().sum();
                let jain = sum * sum / 3.0 / g.iter().map(|x| x * x).sum::<f64>();
                println!(
                    " | three: {:5.0} {:5.0} {:5.0} jain {jain:.2} total {:.2} q95 {:3.0}",
                    g[0] / 1e3,
                    g[1] / 1e3,
                    g[2] / 1e3,
                    sum / bps,
                    w.viewers[0].wait(60.0, 120.0, 0.95) * 1e3
                );
            }
        }
    }
    0
}

fn trace(args: &[f64]) {
    let get = |i: usize, d: f64| args.get(i).copied().unwrap_or(d);
    let bps = get(0, 3e6);
    let mut s = scenario(path(bps, get(1, 50.0) as u64, get(2, 200.0) as u64, get(3, 0.0)), get(5, 30.0));
    if get(4, 0.0) > 0.0 {
        s.steps = vec![(STEP, get(4, 0.0)), (STEP + 30.0, bps)];
    }
    s.seed = std::env::var("SEED").ok().and_then(|e| e.parse().ok()).unwrap_or(1);
    s.shape.burst = get(6, 0.0);
    s.shape.jitter = std::time::Duration::from_secs_f64(get(7, 0.0) / 1e3);
    if get(8, 0.0) > 0.0 {
        s.tcp = vec![(20.0, 60.0)];
    }
    s.viewers = (0..get(9, 1.0) as usize).map(|i| i as f64 * 10.0).collect();
    let w: World = run(s);
    for (i, v) in w.viewers.iter().enumerate() {
        println!("viewer {i}: {} switches", v.switches);
        let d = std::env::var("EVERY").ok().and_then(|e| e.parse().ok()).unwrap_or(0.5);
        for t in (1..=(w.scenario.seconds / d) as usize).map(|n| n as f64 * d) {
            let Some(s) = v.slices.get((t * 10.0).round() as usize - 1) else { continue };
            println!(
                "{t:5.1} est {:6.0} alloc {:6.0} media {:6.0} sent {:6.0} pad {:5.0} q95 {:4.0} ms {:?}",
                s.estimate / 1e3,
                s.allocated / 1e3,
                v.goodput(t - d, t) / 1e3,
                v.sent(t - d, t) / 1e3,
                v.sum(t - d, t, |s| s.padding_bytes) * 8.0 / d / 1e3,
                v.wait(t - d, t, 0.95) * 1e3,
                s.limited_by
            );
        }
    }
}
