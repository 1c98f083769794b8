//! Puts load on a server over its room API, and says what became of every packet.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "this is where time comes from")]
mod call;
mod outcome;
mod server;

use call::{Phase, Plan};
use clap::{Parser, ValueEnum};
use exedra::peer::LocalIdentity;
use loadtest::client::{Epoch, TrackConfig};
use outcome::Report;
use server::Server;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::sleep;

/// A call with synthetic media: each packet says whose it is and when it was sent, so that every loss is seen and every latency
/// measured. The figures go to stdout as JSON, a summary to stderr. Exit code 1: packets were lost for good, a stream was broken, or
/// somebody got nothing.
#[derive(Parser, Clone)]
struct Args {
    scenario: Scenario,
    /// classroom: how many watch. conference: how many take part.
    #[arg(long, default_value_t = 50)]
    subscribers: usize,
    /// Seconds to measure, once all have joined.
    #[arg(long, default_value_t = 10)]
    duration: u64,
    /// Where the server's HTTP is. Without it a server is started on loopback, from the program beside this one, and its CPU time measured.
    #[arg(long)]
    server: Option<String>,
    /// The room to join.
    #[arg(long, default_value = "loadtest")]
    room: String,
    /// People who join in one second.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Bits a second of each camera, at 25 frames a second.
    #[arg(long, default_value_t = 1_200_000)]
    video_bps: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// One publishes microphone and camera, all others watch.
    Classroom,
    /// Everybody publishes and watches everybody.
    Conference,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    match LocalSet::new().block_on(&runtime, run(args)) {
        Ok(report) => {
            println!("{}", report.json());
            eprintln!("{}", report.summary());
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(2)
}

async fn run(args: Args) -> Result<Report, String> {
    let server = Server::find_or_start(args.server.as_deref()).await?;
    let identity = LocalIdentity::generate().map_err(|e| e.to_string())?;
    let epoch = Epoch { start: Instant::now(), ntp: ntp_now() };
    let (phase, phases) = watch::channel(Phase::Run);
    let mut calls = Vec::new();
    let pause = Duration::from_secs(1) / args.rate.max(1);
    for id in 0..people(&args) {
        let plan = Plan {
            http: server.http.clone(),
            room: args.room.clone(),
            id,
            publish: tracks(&args, id),
            expects: expected(&args, id),
            epoch,
            identity: identity.clone(),
        };
        calls.push(tokio::task::spawn_local(call::run(plan, phases.clone())));
        sleep(pause).await;
    }
    sleep(Duration::from_secs(2)).await;
    let before = server.usage().await;
    sleep(Duration::from_secs(args.duration)).await;
    let after = server.usage().await;
    // Nothing more is sent; what is on its way, or was asked for again, still comes.
    let _ = phase.send(Phase::Settle);
    sleep(Duration::from_millis(1_500)).await;
    let _ = phase.send(Phase::End);
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.map_err(|e| e.to_string())??);
    }
    Ok(Report::new(&format!("{:?}", args.scenario).to_lowercase(), args.duration, &results, before.zip(after)))
}

fn people(args: &Args) -> u32 {
    let subscribers = args.subscribers as u32;
    match args.scenario {
        Scenario::Classroom => subscribers + 1,
        Scenario::Conference => subscribers,
    }
}

fn tracks(args: &Args, id: u32) -> Vec<TrackConfig> {
    let camera = TrackConfig::camera(args.video_bps / 8 / 25).every(Duration::from_millis(40));
    match args.scenario {
        Scenario::Classroom if id > 0 => Vec::new(),
        _ => vec![TrackConfig::microphone(), camera],
    }
}

/// How many slots of each kind are to get something.
fn expected(args: &Args, id: u32) -> usize {
    match args.scenario {
        Scenario::Classroom => usize::from(id > 0),
        Scenario::Conference => args.subscribers.saturating_sub(1),
    }
}

/// The time as NTP has it (RFC 3550 section 4).
fn ntp_now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ((since_1970.as_secs() + 2_208_988_800) << 32) + ((u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000)
}
