//! `loadtest floor`: what sealing and sending costs this machine; and the floor that goes with a run.
use clap::Parser;
use loadtest::floor::{self, FloorPlan};
use loadtest::report::model::{Floor, LoadResult};
use std::process::ExitCode;

/// What it is called on the command line, in the place of a scenario.
pub const NAME: &str = "floor";
/// Bytes that a server's packets are longer or shorter than the publisher's: not enough to matter.
const AUDIO_OVERHEAD: u64 = 40;
const ROUNDS: usize = 60;
const REPEATS: usize = 3;

/// Measures the floor: what sealing packets and sending them costs this machine, and nothing else.
#[derive(Parser)]
#[command(name = "loadtest floor")]
struct Arguments {
    #[command(flatten)]
    plan: FloorPlan,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Does what the command line says behind `loadtest`.
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    let result = floor::measure(&arguments.plan).and_then(|r| {
        if arguments.json { serde_json::to_string_pretty(&r).map_err(|e| e.to_string()) } else { Ok(r.to_string()) }
    });
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Measures the floor for the packets of a run: pictures in bursts of a frame, sound packet by packet, each as often as the run had it.
pub fn of(result: &LoadResult) -> Result<Option<Floor>, String> {
    let option = |key: &str| result.scenario.options.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let subscribers = (result.totals.subscribers as usize).clamp(1, 1_000);
    let (packet, fps) = (option("packetBytes").max(100), option("fps").max(1));
    let burst = (option("videoBps") as f64 / 8.0 / packet as f64 / fps as f64).round().max(1.0) as usize;
    let plan = FloorPlan { subscribers, repeats: REPEATS, rounds: ROUNDS, ..FloorPlan::default() };
    let video = FloorPlan { burst, packet_len: packet as usize, interval_ms: 1_000 / fps, ..plan.clone() };
    let audio_len = (option("audioBps") / 400 + AUDIO_OVERHEAD) as usize;
    let audio = FloorPlan { burst: 1, packet_len: audio_len, interval_ms: 20, ..plan };
    let (mut nanos, mut packets, mut what) = (0.0, 0.0, Vec::new());
    for (plan, received) in [(video, result.totals.video.received), (audio, result.totals.audio.received)] {
        if received > 0 {
            let cost = floor::measure(&plan)?.floor.cpu_nanos;
            nanos += cost * received as f64;
            packets += received as f64;
            what.push(format!("{cost:.0} ns for {} bytes in runs of {}", plan.packet_len, plan.burst));
        }
    }
    if packets == 0.0 {
        return Ok(None);
    }
    let what = format!("{}, to {subscribers} sockets at the pace of the run", what.join("; "));
    Ok(Some(Floor { ns_per_packet: nanos / packets, what }))
}
