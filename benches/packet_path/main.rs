//! What a packet costs on its way through the server: `cargo bench --bench packet_path`.
//!
//! Criterion measures each step: CPU time of the thread for one turn (of so many packets: see the throughput). At the end a
//! table sets the engine beside the floor of the same run: a bare loop that seals, or seals and sends, the same packets to as
//! many sockets. The two take turns, so that they meet the same machine; only their ratio says something.
#[path = "../cases/mod.rs"]
mod cases;
#[path = "../../tests/allocations/heap.rs"]
mod heap;
mod table;

use cases::Case;
use criterion::{Criterion, Throughput};
use loadtest::floor::{self, thread_cpu};
use std::time::Duration;

const MANY: usize = 1_000;
/// As a filter: nothing but the table.
const TABLE: &str = "table";

fn main() {
    floor::serve_if_asked();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_000))
        .sample_size(20)
        .configure_from_args();
    let clock = clock_cost();
    for case in cases::all(MANY) {
        measure(&mut criterion, &case, clock);
    }
    criterion.final_summary();
    // With another filter only that was asked for.
    if std::env::args().skip(1).all(|argument| argument == "--bench" || argument == TABLE)
        && let Err(error) = table::print()
    {
        eprintln!("the table: {error}");
        std::process::exit(1);
    }
}

fn measure(criterion: &mut Criterion, case: &Case, clock: Duration) {
    let (group, name) = case.name.split_once('/').unwrap_or((&case.name, "all"));
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(case.packets as u64));
    // Made when it is measured, and not when a filter leaves it out.
    let mut turn = None;
    group.bench_function(name, |bencher| {
        let turn = turn.get_or_insert_with(&case.make);
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                turn.prepare();
                let before = thread_cpu();
                turn.run();
                spent += thread_cpu().saturating_sub(before).saturating_sub(clock);
            }
            spent.max(Duration::from_nanos(1))
        });
    });
    group.finish();
    if let Some(turn) = &mut turn {
        assert_allocates_nothing(&case.name, turn.as_mut());
    }
}

/// What reading the clock adds to what is measured: it is a system call.
fn clock_cost() -> Duration {
    let pair = |_| {
        let before = thread_cpu();
        thread_cpu().saturating_sub(before)
    };
    (0..1_000).map(pair).min().unwrap_or_default()
}

fn assert_allocates_nothing(name: &str, turn: &mut dyn cases::Turn) {
    let mut allocations = 0;
    for _ in 0..16 {
        turn.prepare();
        heap::callers();
        allocations += heap::watch(|| turn.run()).1;
    }
    let callers = heap::callers();
    assert_eq!(allocations, 0, "{name} allocates:\n{callers:?}");
}
