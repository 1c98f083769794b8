//! What signalling counts, and `/metrics`: everything that there is to count, in Prometheus' text format.
use super::close::CloseCode;
use crate::metrics::{DropReason, ShardMetrics};
use crate::recordings::{EndedWhy, RecordingMetrics};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Counters of signalling. Many tasks write them: atomics, unlike those of a shard.
#[derive(Debug, Default)]
pub struct SignalMetrics {
    /// Open WebSockets, those without a `hello` yet included.
    pub sockets: AtomicU64,
    pub frames_in: AtomicU64,
    pub frames_out: AtomicU64,
    pub rooms_opened: AtomicU64,
    /// Panics contained to one room.
    pub room_panics: AtomicU64,
    /// Rooms ended because their events overran them, or because their shard is gone.
    pub rooms_failed: AtomicU64,
    closes: Mutex<BTreeMap<CloseCode, u64>>,
    responses: Mutex<BTreeMap<u16, u64>>,
}

impl SignalMetrics {
    /// A close frame was sent, or a socket went without one.
    pub fn closed(&self, code: CloseCode) {
        count(&self.closes, code);
    }

    /// An HTTP request was answered.
    pub fn responded(&self, status: u16) {
        count(&self.responses, status);
    }
}

fn count(counters: &Mutex<BTreeMap<u16, u64>>, key: u16) {
    *counters.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
}

/// Writes it all. `rooms` and `participants` are those of this moment.
pub(super) fn render(
    signal: &SignalMetrics,
    recordings: &RecordingMetrics,
    shards: &[&ShardMetrics],
    rooms: usize,
    participants: usize,
) -> String {
    let mut text = Text(String::with_capacity(8 << 10));
    render_signal(&mut text, signal, rooms, participants);
    render_recordings(&mut text, recordings);
    render_shards(&mut text, shards);
    text.0
}

fn render_signal(text: &mut Text, m: &SignalMetrics, rooms: usize, participants: usize) {
    text.gauge("exedra_rooms", "Rooms that are open.", rooms as u64);
    text.gauge("exedra_participants", "Participants in all rooms.", participants as u64);
    text.gauge("exedra_sockets", "Open WebSockets.", m.sockets.load(Relaxed));
    for (name, help, counter) in [
        ("exedra_frames_in_total", "Frames read from WebSockets.", &m.frames_in),
        ("exedra_frames_out_total", "Frames written to WebSockets.", &m.frames_out),
        ("exedra_rooms_opened_total", "Rooms opened.", &m.rooms_opened),
        ("exedra_room_panics_total", "Panics of signalling that were contained to one room.", &m.room_panics),
        ("exedra_rooms_failed_total", "Rooms ended by an overrun, or by the loss of their shard.", &m.rooms_failed),
    ] {
        text.family(name, "counter", help);
        text.sample(name, "", counter.load(Relaxed));
    }
    text.labelled("exedra_socket_closes_total", "WebSockets closed, by code.", "code", &m.closes);
    text.labelled("exedra_http_responses_total", "HTTP requests answered, by status.", "status", &m.responses);
}

type RecordingField = fn(&RecordingMetrics) -> &AtomicU64;

/// Everything that recordings count: name, type, help.
const RECORDING_FIELDS: &[(&str, &str, &str, RecordingField)] = &[
    ("exedra_recordings_running", "gauge", "Recordings that run, or are being closed.", |m| &m.running),
    ("exedra_recordings_started_total", "counter", "Recordings that began.", |m| &m.started),
    ("exedra_recordings_refused_total", "counter", "Recordings that could not begin.", |m| &m.refused),
    ("exedra_recording_bytes_total", "counter", "Bytes of media written.", |m| &m.bytes),
    ("exedra_recording_packets_total", "counter", "RTP packets recorded.", |m| &m.packets),
    ("exedra_recording_lost_packets_total", "counter", "RTP packets for which the disk was too slow.", |m| &m.lost),
    ("exedra_recording_lost_events_total", "counter", "Chat and events for which it was.", |m| &m.events_left_out),
    ("exedra_recording_keyframe_requests_total", "counter", "Keyframes asked for by recordings.", |m| &m.keyframes),
    ("exedra_recording_queued_bytes", "gauge", "Bytes that wait for the threads that write.", |m| &m.queued),
    ("exedra_recording_files", "gauge", "Files that are being written.", |m| &m.files),
    ("exedra_recordings_free_bytes", "gauge", "Bytes free on the disk of recordings.", |m| &m.free),
    ("exedra_recordings_kept_bytes", "gauge", "Bytes of all recordings that there are.", |m| &m.kept_bytes),
    ("exedra_recordings_kept", "gauge", "Recordings that there are, those that run not counted.", |m| &m.kept),
    ("exedra_recordings_healed_total", "counter", "Recordings closed after a crash.", |m| &m.healed),
    (
        "exedra_recordings_heal_failures_total",
        "counter",
        "Recordings that could not be, and are left as they are.",
        |m| &m.heal_failures,
    ),
    ("exedra_recording_syncs_total", "counter", "Times that the disk was told to keep what was written.", |m| &m.syncs),
    ("exedra_recording_sync_failures_total", "counter", "Times that it did not.", |m| &m.sync_failures),
    ("exedra_uploads_waiting", "gauge", "Recordings that wait to be uploaded.", |m| &m.uploads_waiting),
    ("exedra_uploaded_recordings_total", "counter", "Recordings uploaded.", |m| &m.uploaded_recordings),
    ("exedra_uploaded_files_total", "counter", "Files of recordings uploaded.", |m| &m.uploaded_files),
    ("exedra_uploaded_bytes_total", "counter", "Bytes of recordings uploaded.", |m| &m.uploaded_bytes),
    ("exedra_upload_failures_total", "counter", "Times that an upload could not go on.", |m| &m.upload_failures),
];

fn render_recordings(text: &mut Text, m: &RecordingMetrics) {
    for (name, kind, help, field) in RECORDING_FIELDS {
        text.family(name, kind, help);
        text.sample(name, "", field(m).load(Relaxed));
    }
    let name = "exedra_recording_sync_seconds_total";
    text.family(name, "counter", "Time that took.");
    text.sample(name, "", m.sync_nanos.load(Relaxed) as f64 / 1e9);
    let name = "exedra_recordings_ended_total";
    text.family(name, "counter", "Recordings that ended, by reason.");
    for why in EndedWhy::ALL {
        text.sample(name, &format!("why=\"{}\"", why.label()), m.ended(*why));
    }
    let name = "exedra_recordings_deleted_total";
    text.family(name, "counter", "Recordings taken away, by the setting that wanted it.");
    text.sample(name, "setting=\"recordings-keep\"", m.deleted_age.load(Relaxed));
    text.sample(name, "setting=\"recordings-keep-bytes\"", m.deleted_bytes.load(Relaxed));
    let name = "exedra_recording_dropped_packets_total";
    text.family(name, "counter", "Packets of recorded tracks that went into no file, by reason.");
    for reason in DropReason::ALL.iter().filter(|reason| m.dropped(**reason) > 0) {
        text.sample(name, &format!("reason=\"{reason}\""), m.dropped(*reason));
    }
}

type Field = fn(&ShardMetrics) -> u64;

/// Everything that a shard counts, drops apart.
const SHARD_COUNTERS: &[(&str, &str, Field)] = &[
    ("exedra_datagrams_in_total", "UDP datagrams received.", |m| m.datagrams_in.value()),
    ("exedra_bytes_in_total", "Bytes of UDP payload received.", |m| m.bytes_in.value()),
    ("exedra_datagrams_out_total", "UDP datagrams sent.", |m| m.datagrams_out.value()),
    ("exedra_bytes_out_total", "Bytes of UDP payload sent.", |m| m.bytes_out.value()),
    ("exedra_sends_total", "System calls that sent datagrams.", |m| m.sends.value()),
    ("exedra_receives_total", "System calls that received datagrams.", |m| m.receives.value()),
    ("exedra_rtp_packets_in_total", "RTP packets opened from publishers.", |m| m.rtp_in.value()),
    ("exedra_rtp_packets_out_total", "RTP packets sealed for subscribers.", |m| m.rtp_out.value()),
    ("exedra_retransmissions_out_total", "RTP packets sent again.", |m| m.retransmissions_out.value()),
    ("exedra_feedbacks_in_total", "Transport-wide feedbacks and REMBs of subscribers.", |m| m.feedbacks_in.value()),
    ("exedra_probes_out_total", "RTP packets sent to see whether a path carries more.", |m| m.probes_out.value()),
    ("exedra_nacks_out_total", "Packets asked for again from publishers.", |m| m.nacks_out.value()),
    ("exedra_nacks_in_total", "Packets that subscribers asked for again.", |m| m.nacks_in.value()),
    ("exedra_keyframe_requests_out_total", "Keyframe requests sent.", |m| m.keyframe_requests_out.value()),
    ("exedra_keyframe_requests_in_total", "Keyframe requests received.", |m| m.keyframe_requests_in.value()),
    ("exedra_relayed_packets_total", "Packets handed to other shards.", |m| m.relayed.value()),
    ("exedra_relays_total", "Batches handed to other shards.", |m| m.relays.value()),
    ("exedra_recorded_packets_total", "Packets handed to recordings.", |m| m.recorded.value()),
    ("exedra_record_batches_total", "Batches handed to recordings.", |m| m.record_batches.value()),
    ("exedra_loops_total", "Turns of the shard's loop.", |m| m.loops.value()),
    ("exedra_panics_total", "Panics of the engine that were contained to one room.", |m| m.panics.value()),
];

fn render_shards(text: &mut Text, shards: &[&ShardMetrics]) {
    for (name, help, field) in SHARD_COUNTERS {
        text.family(name, "counter", help);
        for (shard, metrics) in shards.iter().enumerate() {
            text.sample(name, &format!("shard=\"{shard}\""), field(metrics));
        }
    }
    text.family("exedra_peers", "gauge", "Transport associations.");
    for (shard, metrics) in shards.iter().enumerate() {
        text.sample("exedra_peers", &format!("shard=\"{shard}\""), metrics.peers.value());
    }
    let seconds: [(&str, &str, &str, Field); 2] = [
        ("exedra_loop_seconds_total", "counter", "Time spent in turns of the loop, waiting not counted.", |m| {
            m.loop_nanos.value()
        }),
        ("exedra_loop_seconds_max", "gauge", "The longest turn of the loop so far.", |m| m.loop_nanos_max.value()),
    ];
    for (name, kind, help, field) in seconds {
        text.family(name, kind, help);
        for (shard, metrics) in shards.iter().enumerate() {
            text.sample(name, &format!("shard=\"{shard}\""), field(metrics) as f64 / 1e9);
        }
    }
    let name = "exedra_dropped_packets_total";
    text.family(name, "counter", "Packets that went no further, by reason.");
    for (shard, metrics) in shards.iter().enumerate() {
        for reason in DropReason::ALL {
            text.sample(name, &format!("shard=\"{shard}\",reason=\"{reason}\""), metrics.dropped(*reason));
        }
    }
}

/// Prometheus' text format, version 0.0.4. Writing to a String does not fail.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    fn labelled(&mut self, name: &str, help: &str, label: &str, counters: &Mutex<BTreeMap<u16, u64>>) {
        self.family(name, "counter", help);
        for (key, value) in counters.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.sample(name, &format!("{label}=\"{key}\""), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_sample_of_a_family_told_before() {
        let signal = SignalMetrics::default();
        signal.closed(4408);
        let shard = ShardMetrics::default();
        shard.drop_packet(DropReason::Duplicate);
        shard.loop_nanos.add(1_500_000_000);
        let text = render(&signal, &RecordingMetrics::default(), &[&shard, &shard], 2, 5);
        let mut families = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                families.push(rest.split(' ').next().unwrap());
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(families.last(), Some(&name.split('{').next().unwrap()), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.contains("exedra_dropped_packets_total{shard=\"1\",reason=\"duplicate\"} 1\n"));
        assert!(text.contains("exedra_loop_seconds_total{shard=\"0\"} 1.5\n"));
        assert!(text.contains("exedra_socket_closes_total{code=\"4408\"} 1\n"));
        assert!(text.contains("exedra_participants 5\n"));
    }
}
