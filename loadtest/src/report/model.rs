//! The result of a load test: what `--json` writes and all reports are made from.
//!
//! Names carry their units: `_us` and `_ms` are durations, `_bytes` sizes, `_share` a part of a whole from 0 to 1 (of CPU time: cores, so that two busy
//! cores are 2.0). Counts have no unit. In JSON the names are in camelCase. Fields that an older file lacks read as zero, none or empty.
use super::histogram::{Histogram, Quantiles};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

/// The version of the format. It is raised when a field changes its meaning or goes; a new field does not raise it.
pub const SCHEMA: u32 = 1;

/// Everything about one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadResult {
    pub schema: u32,
    /// Of the load test.
    pub version: String,
    /// Milliseconds since 1970, when the first client joined.
    pub started_unix_ms: u64,
    /// The command line, word for word.
    pub command: Vec<String>,
    pub machine: Machine,
    pub scenario: Scenario,
    pub thresholds: Thresholds,
    pub totals: Totals,
    /// None for a server of which nothing but its media is known.
    pub server: Option<ServerFigures>,
    /// `--record`: what it costs to record the room.
    pub recording: Option<Recording>,
    pub generator: GeneratorFigures,
    /// It was stopped (Ctrl-C) before its end.
    pub interrupted: bool,
    /// What `--find-limit` found. All else is then of the highest load that was carried.
    pub limit: Option<Limit>,
    pub verdict: Verdict,
    /// One for each second, from the first join to the end.
    pub samples: Vec<Sample>,
}

/// Where it ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    pub cpu_model: String,
    pub cores: u32,
    pub memory_bytes: u64,
    pub kernel: String,
    /// The load average of the last minute before the run began: what else went on.
    #[serde(serialize_with = "rounded")]
    pub load_before: f64,
    /// The greatest socket buffers that a process may ask for.
    pub rmem_max_bytes: u64,
    pub wmem_max_bytes: u64,
}

/// What was played.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Scenario {
    /// `classroom`, `conference`, …
    pub name: String,
    /// One sentence for people: "1 publisher at 1.5 Mbit/s, 300 viewers".
    pub summary: String,
    /// How long was measured, once all were in.
    pub duration_ms: u64,
    /// Every option that shapes the load, defaults included, so that a comparison knows whether it compares like with like.
    pub options: BTreeMap<String, serde_json::Value>,
}

/// What is asked of the server. Loss that the generator itself made is not counted against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Thresholds {
    /// The share of packets that may be missing in the end.
    #[serde(serialize_with = "rounded")]
    pub max_loss_share: f64,
    /// The share of packets that may need repair.
    #[serde(serialize_with = "rounded")]
    pub max_repair_share: f64,
    /// bad-network: the share of packets that may be missing in the end for those whose network the load test spoils.
    #[serde(serialize_with = "rounded")]
    pub max_impaired_loss_share: f64,
    /// None: latency is told, not judged.
    pub max_p99_us: Option<u64>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { max_loss_share: 0.0, max_repair_share: 0.001, max_impaired_loss_share: 0.01, max_p99_us: None }
    }
}

/// What came of the media and the joins. But for latencies, packets are counted from the first to the last of each slot's numbers, whatever the phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// From the first join to the end.
    pub elapsed_ms: u64,
    pub publishers: u64,
    pub subscribers: u64,
    pub joins: Joins,
    pub audio: Media,
    pub video: Media,
    /// join-storm, churn: what those who were in before the storm got, and nobody else.
    pub incumbents: Option<Media>,
    /// bad-network: what those got whose network the load test spoils. They are in no other sum.
    pub impaired: Option<Media>,
    pub churn: Option<Churn>,
    /// What a server may never do, however loaded: streams that a decoder would have stumbled over though every packet came, wrong answers. How many, and
    /// the first ones in words. (Connections that failed are counted in `joins`.)
    pub fault_count: u64,
    pub faults: Vec<String>,
}

/// How people came in. Times run from the first call of the client to the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Joins {
    pub wanted: u64,
    pub joined: u64,
    /// Refused, or not in within the time that a client has for it.
    pub failed: u64,
    /// Joins that were begun in a second.
    #[serde(serialize_with = "rounded")]
    pub rate_per_s: f64,
    /// To the answer of signalling.
    pub welcome: Histogram,
    /// To the end of the DTLS handshake.
    pub connected: Histogram,
    pub first_packet: Histogram,
    /// To the first picture that can be shown.
    pub first_keyframe: Histogram,
}

/// How the layer of a video without layers is called.
pub const ONLY_LAYER: &str = "encoding 0, S0 T0";

/// Estimates of paths, in bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Estimates {
    /// How many there were.
    pub count: u64,
    pub least_bps: u64,
    pub sum_bps: u64,
    pub most_bps: u64,
}

impl Estimates {
    pub fn add(&mut self, bps: u64) {
        self.merge(&Self { count: 1, least_bps: bps, sum_bps: bps, most_bps: bps });
    }

    pub fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            self.least_bps = if self.count == 0 { other.least_bps } else { self.least_bps.min(other.least_bps) };
        }
        self.count += other.count;
        self.sum_bps += other.sum_bps;
        self.most_bps = self.most_bps.max(other.most_bps);
    }
}

/// What a kind of slot got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Media {
    /// Slots that were to get something, and those of them that never did.
    pub slots: u64,
    pub silent_slots: u64,
    /// Packets that were to come: every number from the first that came to the last.
    pub expected: u64,
    /// Packets that came, each counted once, however it came.
    pub received: u64,
    pub received_bytes: u64,
    /// Packets that did not come when their followers did, and were neither only late (`reordered`): they were asked for again, or would have been.
    pub lost_before_repair: u64,
    /// Of these, the ones that came again, by RTX or under their own number.
    pub repaired: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Packets that came after a later one without having been asked for.
    pub reordered: u64,
    /// Packets asked for, each time that they were.
    pub nacks: u64,
    pub keyframe_requests: u64,
    /// Frames that could be shown.
    pub frames: u64,
    /// Times without a frame that were longer than 200 ms and three frames, while the publisher sent.
    pub freezes: u64,
    pub frozen_ms: u64,
    pub longest_freeze_ms: u64,
    /// One way: from when the packet was sealed to be handed to the sender's kernel to when the receiver's kernel got it, by its own stamp. Repaired ones
    /// included. Only
    /// packets of the measuring phase.
    pub latency: Histogram,
    /// Video slots by the layers that they showed last.
    pub layers: BTreeMap<String, u64>,
    /// bad-network: what the server believed the paths of these clients to carry in the end.
    pub estimates: Estimates,
}

/// Comings and goings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Churn {
    pub joins: u64,
    pub leaves: u64,
    pub resumes: u64,
    pub failed_resumes: u64,
    /// Views set, layers asked for, tracks muted.
    pub changes: u64,
    /// Of the server, five minutes after the start (or after a tenth of a shorter run), and at the end, with as many people in. Descriptors: before the
    /// first visitor came, and when the last had left.
    pub rss_early_bytes: u64,
    pub rss_late_bytes: u64,
    /// Of the server, before the first join, and when all have left.
    pub descriptors_before: u64,
    pub descriptors_after: u64,
}

/// Of the server's process, between the first and the last second in which all were in; from /proc and its /metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerFigures {
    /// "exedra 0.1.0", or the address of a server of another make.
    pub name: String,
    pub pid: Option<u32>,
    /// Threads that forward media, each of which can use one core. Zero: not known, taken for one.
    pub shards: u32,
    pub measured_ms: u64,
    /// In the process and in the kernel on its behalf; none without a pid.
    pub cpu: Option<CpuTime>,
    /// RTP packets out; counted by the receivers where the server does not tell.
    pub packets_out: u64,
    pub packets_in: u64,
    /// All datagrams: RTP, RTCP, STUN, DTLS. Zero where the server does not tell, as all that follows but memory.
    pub datagrams_out: u64,
    pub datagrams_in: u64,
    pub bytes_out: u64,
    pub bytes_in: u64,
    /// System calls that sent and that received datagrams.
    pub sends: u64,
    pub receives: u64,
    pub retransmissions: u64,
    pub nacks_in: u64,
    pub nacks_out: u64,
    pub keyframe_requests_in: u64,
    pub keyframe_requests_out: u64,
    /// Packets dropped, by reason, without zeros.
    pub drops: BTreeMap<String, u64>,
    /// Datagrams that the kernel dropped because the server's socket was full (/proc/net/udp).
    pub socket_drops: u64,
    /// The longest turn of a shard's loop.
    pub loop_max_us: u64,
    pub memory: Option<Memory>,
    /// What the same packets cost on this machine with nothing but sealing and sending, measured in the same run.
    pub floor: Option<Floor>,
}

/// CPU time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CpuTime {
    pub user_us: u64,
    pub system_us: u64,
}

/// A process and what it holds. `peers` are the transport associations at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Before the first join, once all were in, the greatest, and at the end of measuring.
    pub rss_before_bytes: u64,
    pub rss_joined_bytes: u64,
    pub rss_max_bytes: u64,
    pub rss_end_bytes: u64,
    pub descriptors_before: u64,
    pub descriptors_end: u64,
    pub peers: u64,
}

/// `--record`: the room was recorded in every other stretch of the measuring, so that the same call is seen with a recording and without.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Recording {
    /// How long a stretch was, its first second included, of which nothing is counted but the recorder's CPU.
    pub stretch_ms: u64,
    pub without: Stretches,
    pub with: Stretches,
    /// CPU of the threads that record, from the first start until all files were closed.
    pub recorder_cpu_us: u64,
    /// How long it recorded, in all.
    pub recorded_ms: u64,
    /// Recordings that the server refused to begin: a full disk.
    pub refused: u64,
    /// What the recordings' own manifests say: recordings, files, bytes, packets that never came, gaps and their causes.
    pub recordings: u64,
    pub files: u64,
    pub bytes: u64,
    pub lost_packets: u64,
    pub gaps: BTreeMap<String, u64>,
    /// How they ended.
    pub ended: BTreeMap<String, u64>,
}

/// All stretches of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stretches {
    pub measured_ms: u64,
    /// CPU of all threads of the server that do not record, and of each by its name.
    pub call_cpu_us: u64,
    pub threads_us: BTreeMap<String, u64>,
    /// RTP packets that the server sent, and those that viewers had to ask for again.
    pub packets_out: u64,
    pub lost_before_repair: u64,
    pub latency: Histogram,
    /// Of the machine, with whatever else ran on it: a mean.
    #[serde(serialize_with = "rounded")]
    pub machine_busy_share: f64,
}

impl Stretches {
    /// CPU of the call, in nanoseconds for each RTP packet that was sent.
    pub fn ns_per_packet(&self) -> Option<f64> {
        (self.packets_out > 0).then(|| self.call_cpu_us as f64 * 1e3 / self.packets_out as f64)
    }
}

impl Recording {
    /// What recording costs, as a share of what forwarding does: the CPU of its own threads, and what the call's threads used more for each packet.
    pub fn cost_share(&self) -> Option<f64> {
        let (with, without) = (self.with.ns_per_packet()?, self.without.ns_per_packet()?);
        let forwarding = self.without.call_cpu_us as f64 / self.without.measured_ms.max(1) as f64;
        let recorder = self.recorder_cpu_us as f64 / self.recorded_ms.max(1) as f64;
        (forwarding > 0.0).then(|| recorder / forwarding + (with - without) / without)
    }
}

/// A bare loop that seals and sends the same packets to as many sockets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Floor {
    #[serde(serialize_with = "rounded")]
    pub ns_per_packet: f64,
    /// What the loop did: "1,150 bytes to 300 sockets, runs of 8".
    pub what: String,
}

/// Of the load test itself: whether it kept up. It is measured over the same time as the server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GeneratorFigures {
    pub measured_ms: u64,
    pub cpu: CpuTime,
    /// Threads that carry load. Each can use one core.
    pub threads: u32,
    /// The busiest second of the busiest thread.
    #[serde(serialize_with = "rounded")]
    pub cpu_share_max: f64,
    /// How late the event loop came to what was due.
    pub loop_lag: Histogram,
    /// Buffers that the kernel dropped because a socket of ours was full, in the whole run. With GRO one of them holds up to
    /// `datagrams_per_buffer_max` datagrams; the kernel does not tell how many it were.
    pub socket_drops: u64,
    /// The most datagrams that came in one buffer.
    pub datagrams_per_buffer_max: u64,
    /// Datagrams that the kernel did not take from us.
    pub unsent: u64,
    /// Media packets that publishers were to send by the clock, and those that they sent, repairs not counted.
    pub packets_due: u64,
    pub packets_sent: u64,
    /// Of all that was sent, what the server's transport-wide feedback says of that it came, and that it did not (or not yet).
    pub packets_acknowledged: u64,
    pub packets_missed: u64,
    pub packets_received: u64,
    /// bad-network: datagrams that the emulated network took away, on the way to clients and on the way from them.
    pub emulated_losses_down: u64,
    pub emulated_losses_up: u64,
    /// What the kernel granted for each socket.
    pub receive_buffer_bytes: u64,
}

/// One second. Counts are those of the second, not sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sample {
    /// Since the first join, at the end of the second; and how long the second was.
    pub at_ms: u64,
    pub interval_ms: u64,
    pub phase: Phase,
    /// People who should be in, and who are in.
    pub wanted: u64,
    pub joined: u64,
    /// Media packets of our publishers, and those that our subscribers got.
    pub packets_sent: u64,
    pub packets_received: u64,
    pub bytes_received: u64,
    /// See `Media`.
    pub lost_before_repair: u64,
    pub repaired: u64,
    /// Of all packets so far, those that had not come by the end of this second. They may still be repaired.
    pub missing: u64,
    pub duplicates: u64,
    pub reordered: u64,
    pub latency: Quantiles,
    /// From joining to the first packet, of those whose first packet came in this second.
    pub first_packet: Quantiles,
    pub server: Option<ServerSample>,
    pub generator: GeneratorSample,
    pub machine: MachineSample,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// People come in; nothing is promised of latency yet.
    #[default]
    Joining,
    Measuring,
    /// Nothing is sent any more; what is on its way still comes.
    Settling,
}

/// The server in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerSample {
    /// Cores used; none without a pid.
    #[serde(serialize_with = "rounded_option")]
    pub cpu_share: Option<f64>,
    pub rss_bytes: Option<u64>,
    pub descriptors: Option<u64>,
    pub packets_in: u64,
    pub packets_out: u64,
    pub datagrams_out: u64,
    pub sends: u64,
    pub receives: u64,
    pub drops: u64,
    pub socket_drops: u64,
}

/// The load test in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GeneratorSample {
    /// Of the busiest thread: 1.0 is all that it can do.
    #[serde(serialize_with = "rounded")]
    pub cpu_share: f64,
    pub loop_lag_max_us: u64,
    pub socket_drops: u64,
    pub unsent: u64,
}

/// All cores together, from /proc/stat: 1.0 is all that the machine has. In the busy share is what interrupts took (the kernel's work for packets that it
/// charges to nobody), and what the hypervisor took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineSample {
    #[serde(serialize_with = "rounded")]
    pub busy_share: f64,
    #[serde(serialize_with = "rounded")]
    pub interrupt_share: f64,
    #[serde(serialize_with = "rounded")]
    pub steal_share: f64,
}

/// What `--find-limit` did and found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limit {
    /// What was raised: "viewers".
    pub unit: String,
    /// The highest load that was carried, and the lowest that was not.
    pub carried: Option<u64>,
    pub failed: Option<u64>,
    pub gave_way: GaveWay,
    /// In words.
    pub why: String,
    pub steps: Vec<LimitStep>,
}

/// One load that was tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitStep {
    pub load: u64,
    pub passed: bool,
    pub gave_way: GaveWay,
    pub why: String,
    #[serde(serialize_with = "rounded")]
    pub server_loss_share: f64,
    pub p99_us: u64,
    #[serde(serialize_with = "rounded")]
    pub packets_per_s: f64,
    #[serde(serialize_with = "rounded_option")]
    pub server_cpu_share: Option<f64>,
    #[serde(serialize_with = "rounded")]
    pub generator_cpu_share: f64,
}

/// What set the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GaveWay {
    /// It held.
    #[default]
    Nothing,
    /// The server's threads, or the machine, had nothing left.
    ServerCpu,
    /// The server's sockets were full, on the way in or out, with CPU to spare.
    SocketBuffers,
    Latency,
    /// Loss, silence or faults for none of these reasons.
    Server,
    /// The load test itself: nothing is known about the server's limit but that it is not lower.
    Generator,
}

/// What is to be thought of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verdict {
    pub outcome: Outcome,
    /// Why, the most telling first; for a clean run what was noticed beside.
    pub reasons: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everybody got everything within the thresholds.
    Clean,
    /// The server lost packets, or was slower than it may be.
    ServerLost,
    /// The load test, or the machine under it, could not keep up: nothing can be said about the server.
    GeneratorLimited,
    /// Streams were wrong, somebody got nothing or did not get in, or nothing was measured.
    #[default]
    Broken,
}

impl Totals {
    /// Audio and video together.
    pub fn media(&self) -> Media {
        let mut media = self.audio.clone();
        media.merge(&self.video);
        media
    }
}

impl Media {
    /// Adds what other slots got.
    pub fn merge(&mut self, other: &Self) {
        self.slots += other.slots;
        self.silent_slots += other.silent_slots;
        self.expected += other.expected;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.lost_before_repair += other.lost_before_repair;
        self.repaired += other.repaired;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.nacks += other.nacks;
        self.keyframe_requests += other.keyframe_requests;
        self.frames += other.frames;
        self.freezes += other.freezes;
        self.frozen_ms += other.frozen_ms;
        self.longest_freeze_ms = self.longest_freeze_ms.max(other.longest_freeze_ms);
        self.latency.merge(&other.latency);
        other.layers.iter().for_each(|(layer, slots)| *self.layers.entry(layer.clone()).or_default() += slots);
        self.estimates.merge(&other.estimates);
    }

    /// Packets that never came, as a share of those that were to come.
    pub fn loss_share(&self) -> f64 {
        share(self.lost, self.expected)
    }
}

impl CpuTime {
    pub fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }

    /// Cores used over `elapsed_ms`.
    pub fn share(self, elapsed_ms: u64) -> f64 {
        self.total_us() as f64 / 1e3 / elapsed_ms.max(1) as f64
    }
}

impl ServerFigures {
    /// All that the server did, in nanoseconds for each RTP packet that it sent.
    pub fn cpu_ns_per_packet(&self) -> Option<f64> {
        let cpu = self.cpu.filter(|_| self.packets_out > 0)?;
        Some(cpu.total_us() as f64 * 1e3 / self.packets_out as f64)
    }

    /// CPU for each packet, as a multiple of the floor.
    pub fn times_the_floor(&self) -> Option<f64> {
        let floor = self.floor.as_ref().filter(|f| f.ns_per_packet > 0.0)?;
        Some(self.cpu_ns_per_packet()? / floor.ns_per_packet)
    }

    /// Cores that it can use for media.
    pub fn capacity(&self) -> f64 {
        f64::from(self.shards.max(1))
    }

    pub fn packets_out_per_s(&self) -> f64 {
        self.packets_out as f64 * 1e3 / self.measured_ms.max(1) as f64
    }

    /// Datagrams that one send call carries: the GSO batch.
    pub fn datagrams_per_send(&self) -> Option<f64> {
        (self.sends > 0).then(|| self.datagrams_out as f64 / self.sends as f64)
    }

    /// Datagrams that one receive call brings: recvmmsg and GRO.
    pub fn datagrams_per_receive(&self) -> Option<f64> {
        (self.receives > 0).then(|| self.datagrams_in as f64 / self.receives as f64)
    }
}

impl Memory {
    /// What one more transport association costs.
    pub fn bytes_per_peer(&self) -> Option<f64> {
        let grown = self.rss_joined_bytes.saturating_sub(self.rss_before_bytes);
        (self.peers > 0 && self.rss_before_bytes > 0).then(|| grown as f64 / self.peers as f64)
    }
}

impl GeneratorFigures {
    /// Datagrams that full sockets of ours may have cost at most.
    pub fn datagrams_dropped_at_most(&self) -> u64 {
        self.socket_drops.saturating_mul(self.datagrams_per_buffer_max.max(1))
    }

    pub fn cpu_ns_per_received_packet(&self) -> Option<f64> {
        (self.packets_received > 0).then(|| self.cpu.total_us() as f64 * 1e3 / self.packets_received as f64)
    }
}

impl LoadResult {
    /// Cores that neither the server nor the load test used while it was measured: other programs. None if the server's share is not known.
    pub fn foreign_cores(&self) -> Option<f64> {
        let measuring = || self.samples.iter().filter(|s| s.phase == Phase::Measuring);
        let seconds = measuring().count();
        let charged = |m: &MachineSample| m.busy_share - m.interrupt_share - m.steal_share;
        let busy = measuring().map(|s| charged(&s.machine)).sum::<f64>() / seconds.max(1) as f64;
        let server = self.server.as_ref()?;
        let own = server.cpu?.share(server.measured_ms) + self.generator.cpu.share(self.generator.measured_ms);
        (seconds > 0).then(|| (busy * f64::from(self.machine.cores) - own).max(0.0))
    }
}

impl Sample {
    /// A count of this second, as a rate.
    pub fn per_s(&self, count: u64) -> f64 {
        count as f64 * 1e3 / self.interval_ms.max(1) as f64
    }

    /// Packets that did not come at first, as a share of all of this second.
    pub fn loss_share(&self) -> f64 {
        share(self.lost_before_repair, self.packets_received + self.lost_before_repair.saturating_sub(self.repaired))
    }
}

/// A part of a whole; nothing of nothing is zero.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Six decimals are enough for people, and come back the same.
pub(super) fn rounded<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 1e6).round() / 1e6)
}

fn rounded_option<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => rounded(value, serializer),
        None => serializer.serialize_none(),
    }
}
