//! The tables of the report.
use super::escape;
use crate::report::compare::{Change, Comparison};
use crate::report::histogram::Histogram;
use crate::report::model::{Limit, LoadResult, Media, ServerFigures, share};
use crate::report::summary::{estimates, layers};
use crate::report::text::{bytes, count, duration_us, number, percent};
use std::fmt::Write as _;

pub fn comparison(out: &mut String, comparison: &Comparison) {
    out.push_str("<h2>Against the earlier run</h2>");
    if !comparison.differences.is_empty() {
        out.push_str("<p class=lead>Not alike: ");
        let differences: Vec<String> = comparison.differences.iter().map(|d| escape(d)).collect();
        let _ = write!(out, "{}.</p>", differences.join("; "));
    }
    out.push_str("<table class=held><tr><th><th>old<th>new<th>ratio<th><th>taken for noise");
    for row in &comparison.rows {
        let class = match row.change {
            Change::Better => "good",
            Change::Worse => "bad",
            Change::Same => "same",
        };
        let _ = write!(
            out,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td><mark class={class}>{}</mark><td class=faint>{}",
            row.new.name,
            row.new.unit.show(row.old),
            row.new.unit.show(row.new.value),
            row.ratio_text(),
            row.change.word(),
            row.noise_text()
        );
    }
    out.push_str("</table>");
}

pub fn limit(out: &mut String, limit: &Limit) {
    let unit = escape(&limit.unit);
    let _ = write!(
        out,
        "<table><tr><th>{unit}<th>packets/s<th>p99<th>lost by the server<th>server CPU<th>load test CPU<th><th class=w>why"
    );
    for step in &limit.steps {
        let (class, word) = match step.passed {
            true => ("good", "carried"),
            false => ("bad", step.gave_way.words()),
        };
        let _ = write!(
            out,
            "<tr><td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td><mark class={class}>{word}</mark><td>{}",
            count(step.load),
            number(step.packets_per_s),
            duration_us(step.p99_us),
            percent(step.server_loss_share),
            step.server_cpu_share.map_or("–".to_owned(), percent),
            percent(step.generator_cpu_share),
            escape(&step.why)
        );
    }
    out.push_str("</table>");
}

/// Everything that was counted.
pub fn figures(out: &mut String, result: &LoadResult) {
    out.push_str("<div class=columns>");
    media(out, result);
    durations(out, result);
    if let Some(server) = &result.server {
        list(out, "Server", &server_rows(server));
    }
    list(out, "Load test", &generator_rows(result));
    if let Some(churn) = &result.totals.churn {
        let rows = [
            ("joins", count(churn.joins)),
            ("leaves", count(churn.leaves)),
            ("resumes", count(churn.resumes)),
            ("failed resumes", count(churn.failed_resumes)),
            ("changes of view or layer", count(churn.changes)),
            (
                "server memory early and late",
                format!("{}, {}", bytes(churn.rss_early_bytes as f64), bytes(churn.rss_late_bytes as f64)),
            ),
            (
                "descriptors before and after",
                format!("{}, {}", count(churn.descriptors_before), count(churn.descriptors_after)),
            ),
        ];
        list(out, "Churn", &rows.map(|(name, value)| (name.to_owned(), value)));
    }
    out.push_str("</div>");
    if !result.totals.faults.is_empty() {
        let _ = write!(out, "<h3>Faults ({}), the first ones</h3><ul class=faults>", count(result.totals.fault_count));
        result.totals.faults.iter().for_each(|fault| {
            let _ = write!(out, "<li>{}", escape(fault));
        });
        out.push_str("</ul>");
    }
}

type Row = (String, String);
/// A figure of a kind of slots: its name, and how it is shown.
type MediaRow = (&'static str, fn(&Media) -> String);

fn list(out: &mut String, title: &str, rows: &[Row]) {
    let _ = write!(out, "<div><h3>{title}</h3><table>");
    for (name, value) in rows {
        let _ = write!(out, "<tr><td>{}<td class=n>{}", escape(name), escape(value));
    }
    out.push_str("</table></div>");
}

/// One line for each figure, one column for each kind of slots.
fn media(out: &mut String, result: &LoadResult) {
    let totals = &result.totals;
    let all = [
        ("audio", Some(&totals.audio)),
        ("video", Some(&totals.video)),
        ("those already in", totals.incumbents.as_ref()),
        ("with a bad network", totals.impaired.as_ref()),
    ];
    let kinds: Vec<(&str, &Media)> =
        all.into_iter().filter_map(|(name, m)| Some((name, m.filter(|m| m.slots > 0)?))).collect();
    if kinds.is_empty() {
        return;
    }
    out.push_str("<div><h3>Media, at the receivers</h3><table><tr><th>");
    kinds.iter().for_each(|(name, _)| {
        let _ = write!(out, "<th>{name}");
    });
    let rows: [MediaRow; 17] = [
        ("slots", |m| count(m.slots)),
        ("silent slots", |m| count(m.silent_slots)),
        ("packets expected", |m| count(m.expected)),
        ("received", |m| count(m.received)),
        ("bytes", |m| bytes(m.received_bytes as f64)),
        ("did not come at first", |m| {
            format!("{} ({})", count(m.lost_before_repair), percent(share(m.lost_before_repair, m.expected)))
        }),
        ("of these repaired", |m| count(m.repaired)),
        ("lost", |m| format!("{} ({})", count(m.lost), percent(m.loss_share()))),
        ("duplicates", |m| count(m.duplicates)),
        ("reordered", |m| count(m.reordered)),
        ("packets asked for again", |m| count(m.nacks)),
        ("keyframes asked for", |m| count(m.keyframe_requests)),
        ("frames", |m| if m.frames > 0 { count(m.frames) } else { "–".to_owned() }),
        ("freezes", |m| if m.frames > 0 { count(m.freezes) } else { "–".to_owned() }),
        ("layers shown in the end", |m| if m.layers.is_empty() { "–".to_owned() } else { layers(m) }),
        ("the server's estimate", |m| match m.estimates.count {
            0 => "–".to_owned(),
            _ => estimates(&m.estimates),
        }),
        ("longest freeze", |m| if m.frames > 0 { duration_us(m.longest_freeze_ms * 1_000) } else { "–".to_owned() }),
    ];
    for (name, value) in rows {
        let _ = write!(out, "<tr><td>{name}");
        kinds.iter().for_each(|(_, m)| {
            let _ = write!(out, "<td class=n>{}", value(m));
        });
    }
    out.push_str("</table></div>");
}

fn durations(out: &mut String, result: &LoadResult) {
    let (totals, joins) = (&result.totals, &result.totals.joins);
    let rows: [(&str, Option<&Histogram>); 9] = [
        ("audio latency", Some(&totals.audio.latency)),
        ("video latency", Some(&totals.video.latency)),
        ("latency of those already in", totals.incumbents.as_ref().map(|m| &m.latency)),
        ("latency with a bad network", totals.impaired.as_ref().map(|m| &m.latency)),
        ("join to welcome", Some(&joins.welcome)),
        ("join to connected", Some(&joins.connected)),
        ("join to first packet", Some(&joins.first_packet)),
        ("join to first keyframe", Some(&joins.first_keyframe)),
        ("load test late by", Some(&result.generator.loop_lag)),
    ];
    out.push_str("<div><h3>Durations</h3><table><tr><th><th>p50<th>p90<th>p99<th>p99.9<th>max<th>of");
    for (name, histogram) in rows {
        let Some(histogram) = histogram.filter(|h| !h.is_empty()) else { continue };
        let q = histogram.quantiles();
        let _ = write!(out, "<tr><td>{name}");
        for us in [q.p50_us, q.p90_us, q.p99_us, q.p999_us, q.max_us] {
            let _ = write!(out, "<td class=n>{}", duration_us(us));
        }
        let _ = write!(out, "<td class=n>{}", count(q.count));
    }
    out.push_str("</table></div>");
}

fn server_rows(server: &ServerFigures) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("packets out", format!("{}, {}/s", count(server.packets_out), number(server.packets_out_per_s())));
    row("packets in", count(server.packets_in));
    if let Some(cpu) = server.cpu {
        let part = share(cpu.system_us, cpu.total_us());
        row(
            "CPU",
            format!("{} of a core, {} of it in the kernel", percent(cpu.share(server.measured_ms)), percent(part)),
        );
    }
    if let Some(ns) = server.cpu_ns_per_packet() {
        row("CPU per packet", format!("{} ns", number(ns)));
    }
    if let Some(floor) = &server.floor {
        row("floor per packet", format!("{} ns ({})", number(floor.ns_per_packet), floor.what));
    }
    if server.sends > 0 {
        row("datagrams per send call", server.datagrams_per_send().map_or("–".to_owned(), number));
        row("datagrams per receive call", server.datagrams_per_receive().map_or("–".to_owned(), number));
        row("send calls", count(server.sends));
        row("receive calls", count(server.receives));
        row("sent again", count(server.retransmissions));
        row(
            "packets asked for by viewers, of publishers",
            format!("{}, {}", count(server.nacks_in), count(server.nacks_out)),
        );
        let keyframes = format!("{}, {}", count(server.keyframe_requests_in), count(server.keyframe_requests_out));
        row("keyframes asked for by viewers, of publishers", keyframes);
        row("longest turn of the loop", duration_us(server.loop_max_us));
    }
    if let Some(memory) = server.memory {
        let steps = [memory.rss_before_bytes, memory.rss_joined_bytes, memory.rss_end_bytes].map(|n| bytes(n as f64));
        row("RSS before, with all in, at the end", steps.join(", "));
        row("RSS at most", bytes(memory.rss_max_bytes as f64));
        row("descriptors before, at the end", format!("{}, {}", memory.descriptors_before, memory.descriptors_end));
        row("peers", count(memory.peers));
    }
    row("dropped: socket was full", count(server.socket_drops));
    server.drops.iter().for_each(|(reason, n)| row(&format!("dropped: {reason}"), count(*n)));
    rows
}

fn generator_rows(result: &LoadResult) -> Vec<Row> {
    let generator = &result.generator;
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("CPU", format!("{} of a core", percent(generator.cpu.share(generator.measured_ms))));
    row("busiest second of a thread", percent(generator.cpu_share_max));
    if let Some(ns) = generator.cpu_ns_per_received_packet() {
        row("CPU per packet received", format!("{} ns", number(ns)));
    }
    row("packets sent, of those due", format!("{} of {}", count(generator.packets_sent), count(generator.packets_due)));
    row("dropped by its own sockets", count(generator.socket_drops));
    row("not taken by the kernel", count(generator.unsent));
    row("socket buffer", bytes(generator.receive_buffer_bytes as f64));
    if generator.emulated_losses_down + generator.emulated_losses_up > 0 {
        let lost =
            format!("{} down, {} up", count(generator.emulated_losses_down), count(generator.emulated_losses_up));
        row("taken by the emulated network", lost);
    }
    rows
}
