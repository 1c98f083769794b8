//! The result in a screenful of text.
use super::model::{CpuTime, LoadResult, Media, Recording, ServerFigures};
use super::promises::{Kept, promises};
use super::text::{bytes, count, duration_us, number, percent};
use super::{Histogram, model};
use std::fmt::Write as _;

/// For a terminal, at the end of a run.
pub fn summary(result: &LoadResult) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\n{}: {}", result.scenario.name, result.scenario.summary);
    let _ = writeln!(text, "  {}", result.verdict.outcome.words().to_uppercase());
    for reason in &result.verdict.reasons {
        let _ = writeln!(text, "  - {reason}");
    }
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<26}{value}");
    };
    for (name, media) in [("audio", &result.totals.audio), ("video", &result.totals.video)] {
        if media.expected > 0 {
            line(&format!("{name} packets"), packets(media));
            line(&format!("{name} latency"), quantiles(&media.latency));
        }
    }
    for (name, media) in [("already in", &result.totals.incumbents), ("bad network", &result.totals.impaired)] {
        if let Some(media) = media.as_ref().filter(|m| m.expected > 0) {
            line(&format!("{name}: packets"), packets(media));
            line(&format!("{name}: latency"), quantiles(&media.latency));
        }
    }
    let impaired = result.totals.impaired.as_ref();
    for (name, media) in [("video", Some(&result.totals.video)), ("bad network", impaired)] {
        let Some(media) = media else { continue };
        if media.layers.keys().any(|layer| layer != model::ONLY_LAYER) {
            line(&format!("{name}: layers"), layers(media));
        }
        if media.estimates.count > 0 {
            line(&format!("{name}: estimate"), estimates(&media.estimates));
        }
    }
    if result.totals.video.expected > 0 {
        let video = &result.totals.video;
        line(
            "freezes",
            format!("{}, the longest {}", count(video.freezes), duration_us(video.longest_freeze_ms * 1_000)),
        );
    }
    let joins = &result.totals.joins;
    line("joined", format!("{} of {}", count(joins.joined), count(joins.wanted)));
    for (name, histogram) in [
        ("join to welcome", &joins.welcome),
        ("join to first packet", &joins.first_packet),
        ("join to first keyframe", &joins.first_keyframe),
    ] {
        if !histogram.is_empty() {
            line(name, quantiles(histogram));
        }
    }
    if let Some(server) = &result.server {
        server_lines(server, &mut line);
    }
    if let Some(recording) = &result.recording {
        recording_lines(recording, &mut line);
    }
    let generator = &result.generator;
    let per_packet =
        generator.cpu_ns_per_received_packet().map_or(String::new(), |ns| format!(", {} ns a packet", number(ns)));
    line("load test CPU", format!("{} of a core{per_packet}", percent(generator.cpu.share(generator.measured_ms))));
    if let Some(limit) = &result.limit {
        let carried = limit.carried.map_or("nothing".to_owned(), |n| format!("{} {}", count(n), limit.unit));
        line("highest load carried", format!("{carried}. {}", limit.why));
    }
    let broken: Vec<_> = promises(result).into_iter().filter(|p| p.kept == Kept::No).collect();
    for promise in broken {
        line("promise not kept", format!("{}: {}, promised {}", promise.what, promise.measured, promise.promised));
    }
    text
}

fn packets(media: &Media) -> String {
    let repair = model::share(media.lost_before_repair, media.expected);
    format!(
        "{}, lost {}, needed repair {} ({}), silent slots {}",
        count(media.received),
        count(media.lost),
        count(media.lost_before_repair),
        percent(repair),
        count(media.silent_slots)
    )
}

/// Which layers were shown in the end, and on how many slots.
pub(super) fn layers(media: &Media) -> String {
    let each = media.layers.iter().map(|(layer, slots)| format!("{}: {layer}", count(*slots)));
    each.collect::<Vec<_>>().join("; ")
}

/// What the server believed the paths to carry.
pub(super) fn estimates(estimates: &model::Estimates) -> String {
    let megabits = |bps: u64| format!("{:.2}", bps as f64 / 1e6);
    let mean = estimates.sum_bps.checked_div(estimates.count).unwrap_or(0);
    let (least, mean, most) = (megabits(estimates.least_bps), megabits(mean), megabits(estimates.most_bps));
    format!("{least} to {most} Mbit/s, {mean} on average, of {} paths", count(estimates.count))
}

fn quantiles(histogram: &Histogram) -> String {
    let q = histogram.quantiles();
    let [p50, p99, p999, max] = [q.p50_us, q.p99_us, q.p999_us, q.max_us].map(duration_us);
    format!("p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")
}

fn server_lines(server: &ServerFigures, line: &mut impl FnMut(&str, String)) {
    if server.packets_out > 0 {
        line("forwarded", format!("{} packets a second", number(server.packets_out_per_s())));
    } else if let Some(cpu) = server.cpu {
        line("server CPU", format!("{} of a core", percent(cpu.share(server.measured_ms))));
    }
    if let Some((ns, cpu)) = server.cpu_ns_per_packet().zip(server.cpu) {
        let floor =
            server.times_the_floor().map_or(String::new(), |times| format!(", {} times the floor", number(times)));
        let share = percent(cpu.share(server.measured_ms));
        line("server CPU", format!("{share} of a core, {} ns a packet{floor}", number(ns)));
    }
    if let Some(batch) = server.datagrams_per_send() {
        line("datagrams per send call", number(batch));
    }
    if let Some(memory) = server.memory {
        let each = memory.bytes_per_peer().map_or(String::new(), |n| format!(", {} for each peer", bytes(n)));
        line("server memory", format!("{} at most{each}", bytes(memory.rss_max_bytes as f64)));
    }
    for (reason, n) in &server.drops {
        line("dropped by the server", format!("{} {reason}", count(*n)));
    }
    if server.socket_drops > 0 {
        line("server's socket was full", format!("{} datagrams", count(server.socket_drops)));
    }
}

fn recording_lines(recording: &Recording, line: &mut impl FnMut(&str, String)) {
    for (name, stretches) in [("without recording", &recording.without), ("with recording", &recording.with)] {
        let Some(ns) = stretches.ns_per_packet() else { continue };
        let cpu = CpuTime { user_us: stretches.call_cpu_us, system_us: 0 }.share(stretches.measured_ms);
        let seconds = stretches.measured_ms / 1_000;
        let repaired = count(stretches.lost_before_repair);
        line(
            &format!("{name}: call"),
            format!("{} of a core, {} ns a packet, {repaired} repaired, {seconds} s", percent(cpu), number(ns)),
        );
        line(&format!("{name}: latency"), quantiles(&stretches.latency));
    }
    let own = CpuTime { user_us: recording.recorder_cpu_us, system_us: 0 }.share(recording.recorded_ms);
    let share =
        recording.cost_share().map_or(String::new(), |share| format!(", in all {} of forwarding", percent(share)));
    line("recorder's CPU", format!("{} of a core{share}", percent(own)));
    let gaps: u64 = recording.gaps.values().sum();
    let (files, lost) = (count(recording.files), count(recording.lost_packets));
    if recording.refused > 0 {
        line("recordings refused", count(recording.refused));
    }
    let ended = recording.ended.iter().map(|(how, n)| format!("{n} {how}")).collect::<Vec<_>>().join(", ");
    line(
        "recorded",
        format!(
            "{files} files, {}, {lost} packets missing, {} gaps; {ended}",
            bytes(recording.bytes as f64),
            count(gaps)
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn layers_and_estimates_are_told_where_there_are_any() {
        let mut result = example::classroom();
        result.totals.video.layers.insert(model::ONLY_LAYER.to_owned(), 300);
        assert!(!summary(&result).contains("layers"));
        let mut impaired = result.totals.video.clone();
        impaired.layers = [("encoding 1, S0 T2".to_owned(), 2), ("encoding 0, S0 T1".to_owned(), 1)].into();
        for bps in [900_000, 500_000, 1_000_000] {
            impaired.estimates.add(bps);
        }
        result.totals.impaired = Some(impaired);
        let text = summary(&result);
        assert!(text.contains("1: encoding 0, S0 T1; 2: encoding 1, S0 T2"), "{text}");
        assert!(text.contains("0.50 to 1.00 Mbit/s, 0.80 on average, of 3 paths"), "{text}");
    }
}
