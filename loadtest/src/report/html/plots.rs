//! Which plots a result gives.
use super::plot::{Axis, Kind, Plot, Scale, Series};
use crate::report::histogram::Histogram;
use crate::report::model::{GaveWay, Limit, LoadResult, Phase, Sample, ServerSample, Thresholds};
use crate::report::text::{clock, duration_us, number, percent};

const MIB: f64 = (1 << 20) as f64;
/// A histogram's columns are this part of a doubling wide.
const COLUMNS_PER_OCTAVE: f64 = 5.0;

fn seconds() -> Axis {
    Axis { show: |s| clock((s * 1e3) as u64), scale: Scale::Time(0.0) }
}

fn duration(scale: Scale) -> Axis {
    Axis { show: |us| duration_us(us.round() as u64), scale }
}

fn plain(show: fn(f64) -> String) -> Axis {
    Axis { show, scale: Scale::FromZero(0.0) }
}

fn plot(title: &str, note: String, x: Axis, y: Axis, series: Vec<Series>) -> Plot {
    let (shades, marks) = (Vec::new(), Vec::new());
    Plot { title: title.to_owned(), note, empty: "not measured", series, x, y, shades, limit: None, marks }
}

/// What each second brought.
pub fn over_time(result: &LoadResult) -> Vec<Plot> {
    let samples = &result.samples;
    let mut list = vec![packets(samples), losses(samples), latency(result), cpu(result)];
    if samples.iter().any(|s| s.server.is_some_and(|s| s.cpu_share.is_some())) {
        list.push(cpu_per_packet(result));
        list.push(memory(samples));
    }
    list.push(joined(samples));
    if samples.iter().any(|s| s.server.is_some_and(|s| s.sends > 0)) {
        list.push(calls(samples));
    }
    let (shades, end) = (shades(samples), samples.last().map_or(0.0, |s| s.at_ms as f64 / 1e3));
    for plot in &mut list {
        plot.shades.clone_from(&shades);
        plot.x.scale = Scale::Time(end);
    }
    list
}

fn of<'a>(samples: &'a [Sample], value: impl Fn(&Sample) -> Option<f64> + 'a) -> impl Iterator<Item = (f64, f64)> + 'a {
    samples.iter().filter_map(move |s| Some((s.at_ms as f64 / 1e3, value(s)?)))
}

fn of_server<'a>(
    samples: &'a [Sample],
    value: impl Fn(&Sample, &ServerSample) -> Option<f64> + 'a,
) -> impl Iterator<Item = (f64, f64)> + 'a {
    of(samples, move |s| value(s, s.server.as_ref()?))
}

/// The seconds before and after measuring.
fn shades(samples: &[Sample]) -> Vec<(f64, f64, &'static str)> {
    let mut shades: Vec<(f64, f64, &'static str)> = Vec::new();
    let mut before = 0.0;
    for sample in samples {
        let at = sample.at_ms as f64 / 1e3;
        match (sample.phase, shades.last_mut()) {
            (Phase::Measuring, _) => (),
            (phase, Some((_, to, what))) if *to == before && *what == phase.words() => *to = at,
            (phase, _) => shades.push((before, at, phase.words())),
        }
        before = at;
    }
    shades
}

fn packets(samples: &[Sample]) -> Plot {
    let got = Series::new("received by viewers", "c1", Kind::Area, of(samples, |s| Some(s.per_s(s.packets_received))));
    let sent = Series::line("sent by publishers", "c2", of(samples, |s| Some(s.per_s(s.packets_sent))));
    plot("Packets a second", String::new(), seconds(), plain(number), vec![got, sent])
}

/// Columns end at their second; a column before the first needs a beginning, which the point at zero gives.
fn losses(samples: &[Sample]) -> Plot {
    let columns = |value: fn(&Sample) -> u64| {
        let begins = samples.iter().map(|s| s.at_ms.saturating_sub(s.interval_ms) as f64 / 1e3);
        let last = samples.last().map(|s| (s.at_ms as f64 / 1e3, 0.0));
        let any = samples.iter().any(|s| value(s) > 0);
        let points = begins.zip(samples).map(move |(at, s)| (at, value(s) as f64)).chain(last);
        points.filter(|_| any).collect::<Vec<_>>()
    };
    let any_missing = samples.iter().any(|s| s.missing > 0);
    let missing = of(samples, |s| any_missing.then_some(s.missing as f64));
    let series = vec![
        Series::new("did not come at first", "c4", Kind::Columns, columns(|s| s.lost_before_repair)),
        Series::line("missing by then", "c5", missing),
        Series::new("dropped by the load test's sockets", "c0", Kind::Columns, columns(|s| s.generator.socket_drops)),
    ];
    let series = series.into_iter().filter(|s| !s.points.is_empty()).collect();
    let mut plot = plot("Packets lost, a second", String::new(), seconds(), plain(number), series);
    plot.empty = "Nothing was lost.";
    plot
}

fn latency(result: &LoadResult) -> Plot {
    let samples = &result.samples;
    let at = |value: fn(&Sample) -> u64| of(samples, move |s| (s.latency.count > 0).then(|| value(s).max(1) as f64));
    let series = vec![
        Series::new("max", "q4", Kind::Thin, at(|s| s.latency.max_us)),
        Series::new("p99.9", "q3", Kind::Thin, at(|s| s.latency.p999_us)),
        Series::line("p99", "q2", at(|s| s.latency.p99_us)),
        Series::line("p50", "q1", at(|s| s.latency.p50_us)),
    ];
    let mut plot = plot("Latency, one way", String::new(), seconds(), duration(Scale::Log), series);
    plot.limit = threshold(&result.thresholds);
    plot
}

fn threshold(thresholds: &Thresholds) -> Option<(f64, String)> {
    thresholds.max_p99_us.map(|us| (us as f64, format!("p99 at most {}", duration_us(us))))
}

fn cpu(result: &LoadResult) -> Plot {
    let samples = &result.samples;
    let cores = f64::from(result.machine.cores.max(1));
    let series = vec![
        Series::line("server", "c1", of_server(samples, |_, s| s.cpu_share)),
        Series::line("load test, busiest thread", "c2", of(samples, |s| Some(s.generator.cpu_share))),
        Series::new("whole machine", "c0", Kind::Thin, of(samples, move |s| Some(s.machine.busy_share * cores))),
    ];
    let y = Axis { show: percent, scale: Scale::FromZero(1.0) };
    let series = series.into_iter().filter(|s| s.points.iter().any(|p| p.1 > 0.0)).collect();
    plot("CPU", "100% is one core".to_owned(), seconds(), y, series)
}

fn cpu_per_packet(result: &LoadResult) -> Plot {
    let us = |s: &Sample, server: &ServerSample| {
        // Few packets share the cost of idling: that says nothing about a packet.
        let enough = s.per_s(server.packets_out) >= 500.0 && s.phase != Phase::Settling;
        Some(server.cpu_share? * s.interval_ms as f64 * 1e3 / server.packets_out as f64).filter(|_| enough)
    };
    let series = vec![Series::line("server", "c1", of_server(&result.samples, us))];
    let y = Axis { show: |us| format!("{} µs", number(us)), scale: Scale::FromZero(0.0) };
    let mut plot = plot("Server CPU for each packet forwarded", String::new(), seconds(), y, series);
    let floor = result.server.as_ref().and_then(|s| s.floor.as_ref());
    plot.limit = floor.map(|f| (f.ns_per_packet / 1e3, "floor: sealing and sending alone".to_owned()));
    plot
}

fn memory(samples: &[Sample]) -> Plot {
    let rss = of_server(samples, |_, s| s.rss_bytes.map(|rss| rss as f64 / MIB));
    let series = vec![Series::new("RSS", "c3", Kind::Area, rss)];
    let y = Axis { show: |mib| format!("{} MiB", number(mib)), scale: Scale::FromZero(0.0) };
    plot("Server memory", "RSS".to_owned(), seconds(), y, series)
}

fn joined(samples: &[Sample]) -> Plot {
    let series = vec![
        Series::new("in", "c3", Kind::Area, of(samples, |s| Some(s.joined as f64))),
        Series::new("should be in", "c0", Kind::Thin, of(samples, |s| Some(s.wanted as f64))),
    ];
    plot("People", String::new(), seconds(), plain(number), series)
}

fn calls(samples: &[Sample]) -> Plot {
    let series = vec![
        Series::line("send", "c1", of_server(samples, |s, server| Some(s.per_s(server.sends)))),
        Series::line("receive", "c2", of_server(samples, |s, server| Some(s.per_s(server.receives)))),
    ];
    plot("System calls of the server, a second", String::new(), seconds(), plain(number), series)
}

/// How figures are spread over all packets and people.
pub fn distributions(result: &LoadResult) -> Vec<Plot> {
    let mut list = Vec::new();
    let latency = result.totals.media().latency;
    if !latency.is_empty() {
        list.push(spread(&latency));
    }
    let joins = &result.totals.joins;
    let curves = [
        ("welcome", "q4", &joins.welcome),
        ("connected", "q3", &joins.connected),
        ("first packet", "q2", &joins.first_packet),
        ("first keyframe", "q1", &joins.first_keyframe),
    ];
    let series: Vec<Series> = curves
        .into_iter()
        .filter(|(_, _, histogram)| !histogram.is_empty())
        .map(|(name, class, histogram)| Series::line(name, class, cumulated(histogram)))
        .collect();
    if !series.is_empty() {
        let y = Axis { show: percent, scale: Scale::FromZero(1.0) };
        let mut plot =
            plot("Joining", "how many had got so far after how long".to_owned(), duration(Scale::Log), y, series);
        plot.marks = vec![(300_000.0, "300 ms".to_owned())];
        plot.marks.retain(|(at, _)| joins.first_packet.range_us().is_some_and(|(_, max)| max as f64 > at / 3.0));
        list.push(plot);
    }
    list
}

/// Columns of equal width on a logarithmic axis.
fn spread(histogram: &Histogram) -> Plot {
    let column = |us: u64| ((us.max(1) as f64).log2() * COLUMNS_PER_OCTAVE).floor() as i32;
    let edge = |column: i32| 2f64.powf(f64::from(column) / COLUMNS_PER_OCTAVE);
    let (min, max) = histogram.range_us().unwrap_or((1, 1));
    let (first, last) = (column(min), column(max));
    let mut columns = vec![0u64; (last - first + 1).max(1) as usize];
    for (low, high, n) in histogram.buckets_us() {
        if let Some(sum) = columns.get_mut((column(low.midpoint(high).clamp(min, max)) - first).max(0) as usize) {
            *sum += n;
        }
    }
    let shares = columns.into_iter().map(|n| n as f64 / histogram.count() as f64).chain([0.0]);
    let points = shares.enumerate().map(|(index, share)| (edge(first + index as i32), share));
    let series = vec![Series::new("packets", "c1", Kind::Columns, points)];
    let y = Axis { show: percent, scale: Scale::FromZero(0.0) };
    let mut plot = plot("Latency", "share of all packets".to_owned(), duration(Scale::Log), y, series);
    let quantiles = histogram.quantiles();
    plot.marks = [("p50", quantiles.p50_us), ("p99", quantiles.p99_us), ("p99.9", quantiles.p999_us)]
        .map(|(name, us)| (us as f64, format!("{name} {}", duration_us(us))))
        .into();
    plot
}

fn cumulated(histogram: &Histogram) -> Vec<(f64, f64)> {
    let mut sum = 0;
    let mut points: Vec<(f64, f64)> =
        histogram.range_us().map(|(min, _)| (min.max(1) as f64, 0.0)).into_iter().collect();
    points.extend(histogram.buckets_us().map(|(_, high, n)| {
        sum += n;
        (high.max(1) as f64, sum as f64 / histogram.count() as f64)
    }));
    points
}

/// Each load that was tried.
pub fn limit(limit: &Limit, thresholds: &Thresholds) -> Vec<Plot> {
    let steps = |what: fn(GaveWay, bool) -> bool, of: fn(&crate::report::model::LimitStep) -> f64| {
        let chosen = limit.steps.iter().filter(move |s| what(s.gave_way, s.passed));
        chosen.map(move |s| (s.load as f64, of(s))).collect::<Vec<_>>()
    };
    let series = |of| {
        vec![
            Series::new("carried", "good", Kind::Dots, steps(|_, passed| passed, of)),
            Series::new("failed", "bad", Kind::Dots, steps(|why, passed| !passed && why != GaveWay::Generator, of)),
            Series::new(
                "load test gave way",
                "c0",
                Kind::Dots,
                steps(|why, passed| !passed && why == GaveWay::Generator, of),
            ),
        ]
    };
    let x = || plain(number);
    let mut latency =
        plot("Latency p99", limit.unit.clone(), x(), duration(Scale::Log), series(|s| s.p99_us.max(1) as f64));
    latency.limit = threshold(thresholds);
    let y = Axis { show: percent, scale: Scale::FromZero(1.0) };
    let cpu =
        plot("Server CPU", "100% is one core".to_owned(), x(), y, series(|s| s.server_cpu_share.unwrap_or(f64::NAN)));
    vec![latency, cpu]
}
