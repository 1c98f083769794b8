//! The result in a screenful of text.
use super::model::{LoadResult, Media, ServerFigures};
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
        let Some(media) = media.filter(|m| m.layers.len() > 1 || m.estimates.count > 0) else { continue };
        line(&format!("{name}: layers"), layers(media));
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
