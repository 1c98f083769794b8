//! `--record`: the room is recorded in every other stretch of the measuring, so that one run shows the same call with a recording and without.
use crate::server::{Server, State};
use loadtest::carrier::Second;
use loadtest::kernel::Threads;
use loadtest::report::model::{MachineSample, Phase, Recording, Stretches};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// As the server's threads that record are called.
const RECORDER: &str = "rec";
/// At most so long, and at least twice with a recording and twice without where there is time for it.
const STRETCH: Duration = Duration::from_secs(10);
/// What a start or a stop stirs up is not counted to either side.
const UNSETTLED: Duration = Duration::from_secs(1);
/// How long the server may take to close all files.
const CLOSING: Duration = Duration::from_secs(30);
const OUT: &str = "exedra_rtp_packets_out_total";

/// Where recordings go, and how one asks for them.
#[derive(Clone, Debug)]
pub struct RecordPlan {
    pub folder: PathBuf,
    pub room: String,
    token: String,
}

impl RecordPlan {
    /// The server's token for operators is made up for the run.
    pub fn new(folder: PathBuf, room: String) -> Self {
        Self { folder, room, token: format!("{:032x}", rand::random::<u128>()) }
    }

    /// What the server is to be started with.
    pub fn arguments(&self) -> Vec<String> {
        ["--recordings".into(), self.folder.display().to_string(), "--admin-token".into(), self.token.clone()].into()
    }

    fn ask(&self, server: &Server, method: &str) -> Result<u16, String> {
        let path = format!("/v1/admin/rooms/{}/recording", self.room);
        server.administer(method, &path, &self.token).map(|(status, _)| status)
    }
}

/// Turns the recording on and off, and adds up what is seen meanwhile.
pub struct Recorder {
    plan: RecordPlan,
    stretch: Duration,
    figures: Recording,
    /// Since when it is as it is, from the beginning of measuring.
    turned: Option<Instant>,
    on: bool,
    before: Option<Seen>,
    first: Option<Threads>,
}

/// The server at the end of a second.
struct Seen {
    at: Instant,
    threads: Threads,
    packets_out: u64,
}

impl Recorder {
    pub fn new(plan: RecordPlan, duration: Duration) -> Self {
        let stretch = Duration::from_secs((duration.as_secs() / 4).max(2)).min(STRETCH);
        let figures = Recording { stretch_ms: stretch.as_millis() as u64, ..Recording::default() };
        Self { plan, stretch, figures, turned: None, on: false, before: None, first: None }
    }

    /// A second has passed.
    pub fn note(
        &mut self,
        second: &Second,
        machine: &MachineSample,
        state: &State,
        server: &Server,
    ) -> Result<(), String> {
        let now = Instant::now();
        let threads = server.threads().ok_or("the server's threads cannot be looked at")?;
        let seen = Seen { at: now, threads, packets_out: state.counter(OUT) };
        let before = self.before.replace(seen);
        if second.phase != Phase::Measuring {
            return if self.on { self.turn(now, server) } else { Ok(()) };
        }
        let Some(turned) = self.turned else {
            self.first = self.before.as_ref().map(|seen| seen.threads.clone());
            self.turned = Some(now);
            return Ok(());
        };
        let (Some(before), Some(seen)) = (&before, &self.before) else { return Ok(()) };
        if before.at < turned + UNSETTLED {
            return Ok(());
        }
        let side = if self.on { &mut self.figures.with } else { &mut self.figures.without };
        count(side, before, seen, second, machine);
        // Seconds may be late: of each stretch at least one is counted.
        if now >= turned + self.stretch {
            self.turn(now, server)?;
        }
        Ok(())
    }

    /// Starts or stops the recording.
    fn turn(&mut self, now: Instant, server: &Server) -> Result<(), String> {
        if self.on {
            self.figures.recorded_ms += self.turned.map_or(0, |at| (now - at).as_millis() as u64);
        }
        let (method, what) = if self.on { ("DELETE", "stopped") } else { ("POST", "started") };
        let status = self.plan.ask(server, method)?;
        // A full disk ends a recording before it is stopped.
        let ended_before = self.on && matches!(status, 404 | 409);
        // There may be no room for another one: then it stays as it is.
        if !self.on && status == 503 {
            self.figures.refused += 1;
            self.turned = Some(Instant::now());
            return Ok(());
        }
        if !(200..300).contains(&status) && !ended_before {
            return Err(format!("the recording could not be {what}: {status}"));
        }
        (self.on, self.turned) = (!self.on, Some(Instant::now()));
        Ok(())
    }

    /// Waits until all files are closed, and gives what was seen.
    pub fn finish(mut self, server: &Server) -> Result<Recording, String> {
        if self.on {
            self.turn(Instant::now(), server)?;
        }
        let patience = Instant::now() + CLOSING;
        while self.sum_up()? {
            if Instant::now() > patience {
                return Err(format!("recordings in {} are not closed", self.plan.folder.display()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let last = server.threads().ok_or("the server's threads cannot be looked at")?;
        if let Some(first) = &self.first {
            let call = |threads: &Threads| call_nanos(threads).values().sum::<u64>();
            let all = last.all.saturating_sub(first.all);
            self.figures.recorder_cpu_us = all.saturating_sub(call(&last).saturating_sub(call(first))) / 1_000;
        }
        Ok(self.figures)
    }

    /// Reads the manifests. Whether some recording still runs.
    fn sum_up(&mut self) -> Result<bool, String> {
        let told = |e: std::io::Error| format!("{}: {e}", self.plan.folder.display());
        let sums = Recording { recordings: 0, files: 0, bytes: 0, lost_packets: 0, ..self.figures.clone() };
        let mut sums = Recording { gaps: Default::default(), ended: Default::default(), ..sums };
        let mut running = false;
        for entry in std::fs::read_dir(&self.plan.folder).map_err(told)?.flatten() {
            let Some(manifest) = manifest(&entry.path()) else { continue };
            // Where the disk is full, the manifest cannot say that it ended.
            running |= manifest["state"] == "recording" && self.figures.refused == 0;
            sums.recordings += 1;
            *sums.ended.entry(manifest["ended"].as_str().unwrap_or("open").to_owned()).or_default() += 1;
            for file in list(&manifest["files"]) {
                (sums.files, sums.bytes) = (sums.files + 1, sums.bytes + file["size"].as_u64().unwrap_or(0));
                let lost = list(&file["tracks"]).map(|track| track["lostPackets"].as_u64().unwrap_or(0));
                sums.lost_packets += lost.sum::<u64>();
                for gap in list(&file["gaps"]) {
                    *sums.gaps.entry(gap["cause"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
                }
            }
        }
        self.figures = sums;
        Ok(running)
    }
}

fn manifest(folder: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(folder.join("session.json")).ok()?).ok()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Nanoseconds of the threads that do not record, by name; those of a pool are one.
fn call_nanos(threads: &Threads) -> std::collections::BTreeMap<String, u64> {
    let mut sums = std::collections::BTreeMap::new();
    for (name, nanos) in threads.each.values().filter(|(name, _)| !name.starts_with(RECORDER)) {
        *sums.entry(name.clone()).or_default() += nanos;
    }
    sums
}

fn count(side: &mut Stretches, before: &Seen, now: &Seen, second: &Second, machine: &MachineSample) {
    let ms = (now.at - before.at).as_millis() as u64;
    let busy = side.machine_busy_share * side.measured_ms as f64 + machine.busy_share * ms as f64;
    side.measured_ms += ms;
    side.machine_busy_share = busy / side.measured_ms.max(1) as f64;
    let earlier = call_nanos(&before.threads);
    for (name, nanos) in call_nanos(&now.threads) {
        let us = nanos.saturating_sub(earlier.get(&name).copied().unwrap_or(0)) / 1_000;
        side.call_cpu_us += us;
        *side.threads_us.entry(name).or_default() += us;
    }
    side.packets_out += now.packets_out.saturating_sub(before.packets_out);
    side.lost_before_repair += second.media.lost_before_repair;
    side.latency.merge(&second.latencies);
}
