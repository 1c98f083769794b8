//! Short runs of the whole thing against a server of this build: everybody gets everything, and the reports are there. Correctness, not speed.
use loadtest::report::LoadResult;
use loadtest::report::model::Outcome;
use std::path::Path;
use std::process::Command;

/// The server beside the load test, where that looks for it. `cargo test --workspace` has built it; for `cargo test -p loadtest` it is built here when it is missing.
fn build_server() {
    let loadtest = Path::new(env!("CARGO_BIN_EXE_loadtest"));
    let server = loadtest.with_file_name(format!("exedra{}", std::env::consts::EXE_SUFFIX));
    if server.is_file() {
        return;
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--package", "exedra", "--bin", "exedra"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success() && server.is_file(), "no server at {}", server.display());
}

fn run(scenario: &str, options: &str) -> LoadResult {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (json, html) = (directory.join(format!("{scenario}.json")), directory.join(format!("{scenario}.html")));
    let [json_arg, html_arg] = [&json, &html].map(|file| file.to_str().unwrap().to_owned());
    let _ = (std::fs::remove_file(&json), std::fs::remove_file(&html));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg(scenario).args(options.split(' ')).args(["--json", &json_arg, "--html", &html_arg]);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    // 4: this machine is too slow for a load test; what is checked below must hold all the same.
    assert!(matches!(output.status.code(), Some(0 | 4)), "{scenario}: {:?}\n{told}", output.status);
    let result = LoadResult::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("</html>") && page.contains("<svg"), "{scenario}");
    assert!(told.contains(result.verdict.outcome.words().to_uppercase().as_str()), "{told}");
    check(scenario, &result, &told);
    result
}

fn check(scenario: &str, result: &LoadResult, told: &str) {
    let (totals, media) = (&result.totals, result.totals.media());
    assert_eq!(result.scenario.name, scenario);
    assert!(matches!(result.verdict.outcome, Outcome::Clean | Outcome::GeneratorLimited), "{scenario}: {told}");
    assert_eq!(totals.joins.failed, 0, "{scenario}: {told}");
    assert_eq!(totals.joins.joined, totals.joins.wanted, "{scenario}: {told}");
    assert_eq!((totals.fault_count, totals.silent_slots(), media.lost), (0, 0, 0), "{scenario}: {told}");
    assert!(media.received > 0 && media.received == media.expected, "{scenario}: {told}");
    assert!(media.latency.count() > 0 && totals.joins.first_packet.count() > 0, "{scenario}: {told}");
    assert!(result.samples.len() >= 3, "{scenario}: {} samples", result.samples.len());
    let server = result.server.as_ref().expect("the server that was started");
    assert!(server.packets_out > 0 && server.sends > 0, "{scenario}: {told}");
    assert!(result.generator.packets_sent > 0, "{scenario}: {told}");
}

#[test]
fn short_runs_are_clean() {
    build_server();
    let classroom = run("classroom", "--subscribers 5 --duration 3");
    assert_eq!((classroom.totals.publishers, classroom.totals.video.slots), (1, 5));
    let conference = run("conference", "--subscribers 4 --duration 3 --video-bps 500000");
    assert_eq!(conference.totals.video.slots, 4 * 3);
    let storm = run("join-storm", "--subscribers 3 --storm-rate 5 --stay 1 --duration 3 --video-bps 500000");
    assert!(storm.totals.incumbents.is_some_and(|m| m.received > 0 && m.lost == 0));
    assert!(storm.totals.joins.joined > 10);
}

#[test]
fn a_recording_is_complete_and_is_taken_away() {
    build_server();
    let result = run("conference", "--subscribers 3 --duration 12 --video-bps 300000 --record");
    let recording = result.recording.expect("it was recorded");
    // Stretches of three seconds, or of four when the seconds are late.
    let recordings = recording.recordings;
    assert!((1..=2).contains(&recordings) && recording.files == 3 * recordings, "{recording:?}");
    assert_eq!((recording.lost_packets, recording.gaps.len()), (0, 0), "{recording:?}");
    assert_eq!(recording.ended.get("stopped"), Some(&recordings), "{recording:?}");
    assert!(recording.bytes > 100_000 * recordings && recording.recorder_cpu_us > 0, "{recording:?}");
    assert!(recording.with.packets_out > 0 && recording.without.packets_out > 0, "{recording:?}");
    let beside = Path::new(env!("CARGO_BIN_EXE_loadtest")).parent().unwrap().read_dir().unwrap();
    let left = beside.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("loadtest-recordings-"));
    assert_eq!(left.count(), 0);
}
