//! Puts load on a server, and says what became of every packet.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "this is where time comes from")]
mod floor_command;
mod recording;
mod run;
mod server;

use clap::Parser;
use loadtest::report::limit::{self, Controller};
use loadtest::report::model::{LoadResult, Thresholds};
use loadtest::report::output::ReportArgs;
use loadtest::report::view::View;
use loadtest::scenario::{Name, Options};
use recording::RecordPlan;
use server::{Server, Started};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A call with synthetic media, by real protocol clients on one thread: each packet says whose it is and when it was sent, so that every loss is seen
/// and every latency measured.
///
/// `loadtest floor --help`: what sealing and sending alone costs this machine.
///
/// Exit codes: 0 all is well; 1 the server failed (loss, silence, faults, a threshold); 2 it could not run; 3 worse than --compare;
/// 4 the load test itself could not keep up, which says nothing about the server.
#[derive(Parser, Clone)]
#[command(name = "loadtest", version)]
struct Args {
    scenario: Name,
    #[command(flatten)]
    options: Options,
    /// Where the server's HTTP is (http://host:port). Without it a server is started on loopback, from the program beside this one.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The process id of the server, if it is on this machine: its CPU and memory are measured.
    #[arg(long, value_name = "PID", requires = "server")]
    server_pid: Option<u32>,
    /// Another option for the server that is started here, as --server-arg=--log=debug. Can be given again.
    #[arg(long, value_name = "ARG", conflicts_with = "server", allow_hyphen_values = true)]
    server_arg: Vec<String>,
    /// Measure the floor as well, in the same run: what the same packets cost when they are sealed and sent, and nothing else. It takes some ten seconds.
    #[arg(long)]
    floor: bool,
    /// Record the room in every other stretch of the measuring (10 s each, or a quarter of --duration): what recording costs, and whether viewers
    /// notice. For a server that is started here.
    #[arg(long, conflicts_with_all = ["server", "find_limit"])]
    record: bool,
    /// --record: where to. Without it into a folder beside this program, which is taken away again.
    #[arg(long, value_name = "DIR", requires = "record")]
    record_into: Option<PathBuf>,
    /// Raise the load until packets are lost or late, and say what gave way. Each step gets a server of its own, unless --server is given.
    #[arg(long)]
    find_limit: bool,
    /// --find-limit: no step is larger.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    max_load: u64,
    #[command(flatten)]
    report: ReportArgs,
}

fn main() -> ExitCode {
    loadtest::floor::serve_if_asked();
    if std::env::args().nth(1).is_some_and(|scenario| scenario == floor_command::NAME) {
        return floor_command::run(std::env::args().skip(1));
    }
    let args = Args::parse();
    let stop = Arc::new(AtomicBool::new(false));
    let started = Started::default();
    watch_signals(&stop, &started);
    match load(&args, &stop, &started) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn load(args: &Args, stop: &Arc<AtomicBool>, started: &Started) -> Result<u8, String> {
    let output = args.report.clone().open()?;
    let mut view = View::stderr();
    let record = args.record.then(|| Tape::new(args)).transpose()?;
    let plan = record.as_ref().map(|tape| &tape.plan);
    let recording = plan.map(RecordPlan::arguments).unwrap_or_default();
    let arguments: Vec<String> = args.server_arg.iter().cloned().chain(recording).collect();
    let mut play = |options: &Options, thresholds: Thresholds| {
        let mut server = match &args.server {
            Some(url) => Server::find(url, args.server_pid)?,
            None => Server::start(&arguments, started)?,
        };
        let expected = args.scenario.expected_time(options).as_millis() as u64;
        view.begin(&format!("{}: {}", args.scenario.text(), args.scenario.summary(options)), expected);
        let result = run::run(args.scenario, options, thresholds, &mut server, plan, stop, &mut |s| view.update(s));
        result.map_err(|error| match server.log() {
            Some(log) => format!("{error} (the server's log: {})", log.display()),
            None => error,
        })
    };
    let mut result = if args.find_limit {
        find_limit(args, stop, &mut play)?
    } else {
        play(&args.options, args.report.thresholds(Thresholds::default()))?
    };
    if args.floor && !stop.load(Ordering::Relaxed) {
        view.note("measuring the floor");
        let floor = floor_command::of(&result)?;
        if let Some(server) = &mut result.server {
            server.floor = floor;
        }
    }
    output.finish(&result)
}

/// Where recordings go; what was made for them is taken away in the end.
struct Tape {
    plan: RecordPlan,
    own: bool,
}

impl Tape {
    fn new(args: &Args) -> Result<Self, String> {
        let beside = || std::env::current_exe().map_err(|e| e.to_string());
        let own = args.record_into.is_none();
        let folder = match &args.record_into {
            Some(folder) => folder.clone(),
            // Not in /tmp, which may be in memory: what is written is to reach a disk.
            None => beside()?.with_file_name(format!("loadtest-recordings-{}", std::process::id())),
        };
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(Self { plan: RecordPlan::new(folder, args.options.room.clone()), own })
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        if self.own {
            let _ = std::fs::remove_dir_all(&self.plan.folder);
        }
    }
}

/// Runs one load after the other until the limit is known. The result is that of the highest load that was carried, or of the last.
fn find_limit(
    args: &Args,
    stop: &AtomicBool,
    play: &mut dyn FnMut(&Options, Thresholds) -> Result<LoadResult, String>,
) -> Result<LoadResult, String> {
    let name = args.scenario;
    let start = match name {
        Name::JoinStorm | Name::Churn => args.options.storm_rate(name),
        _ => args.options.subscribers(name),
    };
    let mut controller = Controller::new(name.unit(), start.into(), args.max_load);
    while let Some(step) = controller.next() {
        let result = play(&name.with_load(&args.options, step.load), args.report.thresholds(limit::thresholds()))?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        controller.take(step, result);
    }
    controller.into_result().ok_or_else(|| "stopped before the end of the first step".to_owned())
}

/// Ctrl-C, SIGTERM and a terminal that goes end the run, with its figures so far; the second time they end the program.
fn watch_signals(stop: &Arc<AtomicBool>, started: &Started) {
    let (stop, started) = (Arc::clone(stop), started.clone());
    let watch = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if stop.swap(true, Ordering::Relaxed) {
                    started.end();
                    std::process::exit(2);
                }
            }
        });
    };
    // Without it Ctrl-C simply ends the program.
    let _ = std::thread::Builder::new().name("signals".into()).spawn(watch);
}
