//! The matrix
#[path = "../tests/paths/link.rs"]
mod link;
#[path = "../tests/paths/source.rs"]
mod source;
#[path = "../tests/paths/tcp.rs"]
mod tcp;
#[path = "../tests/paths/world.rs"]
mod world;
use link::Shape;
use std::time::{Duration, Instant};
use world::{Scenario, World};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let get = |i: usize, d: f64| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(d);
    let (c, rtt, buffer, loss) = (get(1, 3e6), get(2, 50.0), get(3, 200.0), get(4, 0.0));
    let step = get(5, 0.0);
    let secs = get(6, 30.0);
    let shape = Shape {
        bps: c,
        delay: Duration::from_secs_f64(rtt / 2e3),
        buffer: Duration::from_secs_f64(buffer / 1e3),
        loss,
        jitter: Duration::ZERO,
        burst: get(7, 0.0),
    };
    let steps = if step > 0.0 { vec![(20.0, step), (40.0, c)] } else { vec![] };
    let nv = get(8, 1.0) as usize;
    let tcp = if get(9, 0.0) > 0.0 { vec![(10.0, 40.0)] } else { vec![] };
    let s = Scenario {
        name: "x".into(),
        seed: 1,
        shape,
        steps,
        seconds: secs,
        tracks: if c < 1e6 { 2 } else { 4 },
        viewers: (0..nv).map(|i| i as f64 * 10.0).collect(),
        tcp,
        feedback: Duration::from_millis(60),
        top: 5,
    };
    let before = Instant::now();
    let w = World::new(Instant::now(), s).run();
    eprintln!("took {:?}", before.elapsed());
    for (i, v) in w.viewers.iter().enumerate() {
        println!("viewer {i} switches {}", v.switches);
        for (i, _) in v.slices.iter().enumerate().filter(|(i, _)| i % 5 == 4) {
            let t = (i + 1) as f64 / 10.0;
            let s = &v.slices[i];
            let q = v.wait(t - 0.5, t, 0.95);
            println!(
                "{t:5.1} est {:6.0} alloc {:6.0} media {:6.0} sent {:6.0} pad {:5.0} q95 {:4.0} ms paced {:3.0}",
                s.estimate / 1e3,
                s.allocated / 1e3,
                v.goodput(t - 0.5, t) / 1e3,
                v.sent(t - 0.5, t) / 1e3,
                v.sum(t - 0.5, t, |s| s.padding_bytes) * 8.0 / 500.0,
                q * 1e3,
                s.paced * 1e3
            );
        }
    }
    println!("{:?}", w.tcp_bytes);
}
