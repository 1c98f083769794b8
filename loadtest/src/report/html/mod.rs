//! The report that one looks at: one HTML file with everything in it, no script, light and dark.
mod plot;
mod plots;
mod tables;

use super::compare::Comparison;
use super::model::{LoadResult, Outcome};
use super::promises::{Kept, Promise, promises};
use super::text::{bytes, clock, count, duration_us, number, percent};
use std::fmt::Write as _;

/// The whole page.
pub fn page(result: &LoadResult, comparison: Option<&Comparison>) -> String {
    let mut out = String::with_capacity(128 << 10);
    let title = escape(&result.scenario.name);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>\
         <meta name=color-scheme content='light dark'><title>Load test: {title}</title>\n<style>{}</style>\n<main>",
        include_str!("style.css")
    );
    header(&mut out, result);
    verdict(&mut out, result);
    tiles(&mut out, result);
    held(&mut out, &promises(result));
    if let Some(comparison) = comparison {
        tables::comparison(&mut out, comparison);
    }
    if let Some(limit) = &result.limit {
        out.push_str("<h2>The limit</h2>");
        let _ = write!(out, "<p class=lead>{}</p>", escape(&limit.why));
        section(&mut out, &plots::limit(limit, &result.thresholds));
        tables::limit(&mut out, limit);
    }
    if !result.samples.is_empty() {
        let heading = if result.limit.is_some() { "The highest load carried, over time" } else { "Over time" };
        let _ = write!(out, "<h2>{heading}</h2>");
        section(&mut out, &plots::over_time(result));
    }
    let distributions = plots::distributions(result);
    if !distributions.is_empty() {
        out.push_str("<h2>How it is spread</h2>");
        section(&mut out, &distributions);
    }
    out.push_str("<h2>All figures</h2>");
    tables::figures(&mut out, result);
    footer(&mut out, result);
    out.push_str("</main></html>\n");
    out
}

/// Text as HTML has it, in attributes too.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn section(out: &mut String, plots: &[plot::Plot]) {
    out.push_str("<div class=plots>");
    plots.iter().for_each(|plot| out.push_str(&plot.svg()));
    out.push_str("</div>");
}

fn header(out: &mut String, result: &LoadResult) {
    let scenario = &result.scenario;
    let machine = &result.machine;
    let _ = write!(out, "<header><h1>{}</h1><p>{}</p>", escape(&scenario.name), escape(&scenario.summary));
    let server = result.server.as_ref().map_or(String::new(), |s| format!("{} · ", escape(&s.name)));
    let _ = write!(
        out,
        "<p class=faint>{server}{} · {} cores · {} · measured for {}</p></header>",
        date(result.started_unix_ms),
        machine.cores,
        escape(&machine.cpu_model),
        clock(scenario.duration_ms)
    );
}

fn verdict(out: &mut String, result: &LoadResult) {
    let verdict = &result.verdict;
    let (class, words) = match verdict.outcome {
        Outcome::Clean => ("good", "Clean: everybody got everything, within the thresholds"),
        Outcome::ServerLost => ("bad", "The server failed"),
        Outcome::Broken => ("bad", "Broken"),
        Outcome::GeneratorLimited => {
            ("unsure", "Nothing can be said about the server: the load test or the machine could not keep up")
        }
    };
    let found = result.limit.as_ref().and_then(|l| Some((l.carried?, &l.unit)));
    let (class, words) = match found {
        Some((carried, unit)) => ("good", format!("{} {} carried", count(carried), escape(unit))),
        None => (class, words.to_owned()),
    };
    let _ = write!(out, "<section class='verdict {class}'><h2>{words}</h2>");
    let reasons = if found.is_some() { &[] } else { verdict.reasons.as_slice() };
    if !reasons.is_empty() {
        out.push_str("<ul>");
        reasons.iter().for_each(|reason| {
            let _ = write!(out, "<li>{}", escape(reason));
        });
        out.push_str("</ul>");
    }
    let asked = &result.thresholds;
    let latency = asked.max_p99_us.map_or("not judged".to_owned(), |us| format!("p99 at most {}", duration_us(us)));
    let _ = write!(
        out,
        "<p class=faint>Asked: at most {} of the packets missing, {} repaired; latency {latency}.</p></section>",
        percent(asked.max_loss_share),
        percent(asked.max_repair_share),
    );
}

/// The few figures that one wants to know first.
fn tiles(out: &mut String, result: &LoadResult) {
    let media = result.totals.media();
    let joins = &result.totals.joins;
    let server = result.server.as_ref();
    let mut list: Vec<(String, &str, String)> = Vec::new();
    let rate = server.filter(|s| s.packets_out > 0).map(super::model::ServerFigures::packets_out_per_s);
    if let Some(rate) = rate {
        let bits = server.map_or(0.0, |s| s.bytes_out as f64 * 8e3 / s.measured_ms.max(1) as f64);
        list.push((
            number(rate),
            "packets/s forwarded",
            if bits > 0.0 { super::text::bits_per_s(bits) } else { String::new() },
        ));
    }
    if media.expected > 0 {
        let repair = super::model::share(media.lost_before_repair, media.expected);
        list.push((percent(media.loss_share()), "packets lost", format!("{} repaired", percent(repair))));
    }
    if let Some(media) = result.totals.impaired.as_ref().filter(|m| m.expected > 0) {
        let repair = super::model::share(media.lost_before_repair, media.expected);
        let beside = format!("{} repaired", percent(repair));
        list.push((percent(media.loss_share()), "lost with a bad network", beside));
    }
    if !media.latency.is_empty() {
        let q = media.latency.quantiles();
        list.push((
            duration_us(q.p99_us),
            "p99 latency",
            format!("p50 {}, max {}", duration_us(q.p50_us), duration_us(q.max_us)),
        ));
    }
    if let Some(ns) = server.and_then(super::model::ServerFigures::cpu_ns_per_packet) {
        let floor = server.and_then(super::model::ServerFigures::times_the_floor);
        let beside = floor.map_or(String::new(), |times| format!("{}× the floor", number(times)));
        list.push((format!("{} µs", number(ns / 1e3)), "CPU per packet", beside));
    }
    if let Some(memory) = server.and_then(|s| s.memory) {
        let beside = memory.bytes_per_peer().map_or(String::new(), |n| format!("{} per peer", bytes(n)));
        list.push((bytes(memory.rss_max_bytes as f64), "server memory", beside));
    }
    if let Some(p99) = joins.first_packet.quantile_us(0.99) {
        let beside = format!("{} of {} in", count(joins.joined), count(joins.wanted));
        list.push((duration_us(p99), "to first packet, p99", beside));
    }
    out.push_str("<section class=tiles>");
    for (value, name, beside) in list {
        let beside = escape(&beside);
        let _ = write!(out, "<div class=tile><b>{value}</b><span>{name}</span><small>{beside}</small></div>");
    }
    out.push_str("</section>");
}

fn held(out: &mut String, promises: &[Promise]) {
    if promises.is_empty() {
        return;
    }
    out.push_str("<h2>Promised and measured</h2><table class=held><tr><th><th>promised<th>measured<th>");
    for promise in promises {
        let class = match promise.kept {
            Kept::Yes => "good",
            Kept::No => "bad",
            Kept::Unclear => "same",
        };
        let word = promise.kept.words();
        let _ = write!(
            out,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td><mark class={class}>{word}</mark>",
            escape(&promise.what),
            escape(&promise.promised),
            escape(&promise.measured)
        );
    }
    out.push_str("</table>");
}

fn footer(out: &mut String, result: &LoadResult) {
    let (machine, command) = (&result.machine, result.command.join(" "));
    let _ = write!(
        out,
        "<h2>Where and how</h2><table><tr><td>Command<td><code>{}</code>\
         <tr><td>Machine<td>{}, {} cores, {} of memory<tr><td>Kernel<td>{}, socket buffers up to {} in and {} out\
         <tr><td>Load before<td>{}<tr><td>Load test<td>{}, schema {}</table>",
        escape(&command),
        escape(&machine.cpu_model),
        machine.cores,
        bytes(machine.memory_bytes as f64),
        escape(&machine.kernel),
        bytes(machine.rmem_max_bytes as f64),
        bytes(machine.wmem_max_bytes as f64),
        number(machine.load_before),
        escape(&result.version),
        result.schema
    );
    out.push_str("<table class=options>");
    for (name, value) in &result.scenario.options {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let _ = write!(out, "<tr><td>{}<td>{}", escape(name), escape(&value));
    }
    out.push_str("</table>");
}

/// The day and the time in UTC (Howard Hinnant's civil_from_days).
fn date(unix_ms: u64) -> String {
    let (days, seconds) = ((unix_ms / 86_400_000) as i64, unix_ms / 1_000 % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::super::compare::compare;
    use super::super::{example, limit, model};
    use super::*;

    /// `LOADTEST_LOOK=DIR cargo test -p loadtest --lib html` leaves the pages there, to be looked at.
    fn look(name: &str, html: &str) {
        if let Some(directory) = std::env::var_os("LOADTEST_LOOK") {
            std::fs::write(std::path::Path::new(&directory).join(name), html).unwrap();
        }
    }

    fn failed() -> LoadResult {
        let mut result = example::classroom();
        result.totals.video.lost = 420;
        result.totals.video.lost_before_repair = 9_300;
        result.totals.video.repaired = 8_880;
        (result.totals.fault_count, result.totals.faults) = (1, vec!["<script>alert(1)</script>".to_owned()]);
        for (second, sample) in result.samples.iter_mut().enumerate().skip(25).take(4) {
            sample.lost_before_repair = 2_000 + second as u64 * 7;
            sample.missing = 105 * (second as u64 - 24);
        }
        result.server.get_or_insert_default().cpu.get_or_insert_default().user_us *= 2;
        result.verdict = crate::report::verdict(&result);
        result
    }

    fn searched() -> LoadResult {
        let mut result = example::classroom();
        let mut controller = limit::Controller::new("viewers", 300, 5_000);
        while let Some(step) = controller.next() {
            let load = step.load as f64 / 1_720.0;
            controller.finished(model::LimitStep {
                load: step.load,
                passed: load < 1.0,
                gave_way: if load < 1.0 { model::GaveWay::Nothing } else { model::GaveWay::ServerCpu },
                why: if load < 1.0 { String::new() } else { "p99 latency 61 ms, more than 50 ms".to_owned() },
                p99_us: (1_500.0 * (load * 3.6).exp()) as u64,
                packets_per_s: step.load as f64 * 210.0,
                server_cpu_share: Some(load.min(1.0)),
                generator_cpu_share: load * 0.8,
                ..Default::default()
            });
        }
        result.limit = Some(controller.limit());
        result.thresholds = limit::thresholds();
        result
    }

    #[test]
    fn each_kind_of_result_gives_a_page_of_its_own_without_script() {
        let (clean, failed, searched) = (example::classroom(), failed(), searched());
        let compared = compare(&clean, &failed).unwrap();
        for (name, html, holds) in [
            ("clean.html", page(&clean, None), "Clean: everybody"),
            ("failed.html", page(&failed, Some(&compared)), "Against the earlier run"),
            ("searched.html", page(&searched, None), "The limit"),
            ("empty.html", page(&LoadResult::default(), None), "Broken"),
        ] {
            look(name, &html);
            assert!(html.contains(holds), "{name}");
            assert!(!html.contains("<script") && !html.contains("NaN") && !html.contains("http"), "{name}");
            assert_eq!(html.matches("<table").count(), html.matches("</table>").count(), "{name}");
            assert_eq!(html.matches("<div").count(), html.matches("</div>").count(), "{name}");
            assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count(), "{name}");
        }
    }

    /// Some of the numbers of a result, replaced by none or by much.
    fn distort(value: &mut serde_json::Value, dice: &mut impl Iterator<Item = u8>) {
        match value {
            serde_json::Value::Number(number) => match dice.next().unwrap_or(0) % 8 {
                0 => *number = 0.into(),
                1 => *number = 1_000_000_007u32.into(),
                _ => (),
            },
            serde_json::Value::Array(list) => list.iter_mut().for_each(|v| distort(v, dice)),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(|v| distort(v, dice)),
            _ => (),
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn any_figures_give_a_page(dice in proptest::collection::vec(proptest::prelude::any::<u8>(), 64)) {
            let good = searched();
            let mut json = serde_json::to_value(&good).unwrap();
            distort(&mut json, &mut dice.iter().copied().cycle());
            json["schema"] = model::SCHEMA.into();
            let mut result: LoadResult = serde_json::from_value(json).unwrap();
            result.verdict = crate::report::verdict(&result);
            let compared = compare(&good, &result).unwrap();
            let html = page(&result, Some(&compared));
            proptest::prop_assert!(!html.contains("NaN") && !html.contains("inf "), "nonsense");
            let _ = (compared.table(), crate::report::summary::summary(&result));
        }
    }

    #[test]
    fn dates() {
        assert_eq!(
            [date(0), date(951_827_696_000), date(1_795_416_000_000)],
            ["1970-01-01 00:00 UTC", "2000-02-29 12:34 UTC", "2026-11-23 06:40 UTC"]
        );
    }
}
