//! The figures that stand for a run: what a comparison compares, with the noise that each has from run to run.
use super::model::{LoadResult, Media};
use super::text;

/// One figure of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Stays the same over versions.
    pub key: &'static str,
    pub name: &'static str,
    pub unit: Unit,
    pub value: f64,
    pub better: Better,
    /// Two runs of the same program differ by up to this part of the old value, or by up to `noise_at_least`, whichever is more.
    pub noise_share: f64,
    pub noise_at_least: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    Microseconds,
    Bytes,
    Share,
    PerSecond,
    Count,
    Ratio,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Lower,
    Higher,
    /// Told, not judged.
    Neither,
}

impl Unit {
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds if value >= 10_000.0 => text::duration_us((value / 1e3).round() as u64),
            Self::Nanoseconds => format!("{} ns", text::number(value)),
            Self::Microseconds => text::duration_us(value.max(0.0).round() as u64),
            Self::Bytes => text::bytes(value),
            Self::Share => text::percent(value),
            Self::PerSecond => format!("{}/s", text::number(value)),
            Self::Count => text::number(value),
            Self::Ratio => format!("{}×", text::number(value)),
        }
    }
}

/// What can be told of this run; what was not measured is not there.
pub fn figures(result: &LoadResult) -> Vec<Figure> {
    let media = result.totals.media();
    let mut list = List(Vec::with_capacity(32));
    server_figures(result, &mut list);
    media_figures(&media, &mut list);
    let incumbents = result.totals.incumbents.as_ref().filter(|m| m.expected > 0);
    let lost = incumbents.map(Media::loss_share);
    list.lower("incumbentLoss", "Packets lost to those already in", Unit::Share, lost, 0.0, 1e-5);
    join_figures(result, &mut list);
    let limit = result.limit.as_ref().and_then(|l| l.carried);
    list.higher("limit", "Highest load carried", Unit::Count, limit.map(|n| n as f64), 0.10, 1.0);
    let per_packet = result.generator.cpu_ns_per_received_packet();
    list.push("generatorCpu", "Load test CPU per packet", Unit::Nanoseconds, per_packet, Better::Neither, 0.10, 0.0);
    list.0
}

fn server_figures(result: &LoadResult, list: &mut List) {
    let Some(server) = &result.server else { return };
    use Unit::{Bytes, Count, Nanoseconds, PerSecond, Ratio};
    list.lower("cpuPerPacket", "Server CPU per packet", Nanoseconds, server.cpu_ns_per_packet(), 0.10, 20.0);
    list.lower("timesFloor", "Server CPU against the floor", Ratio, server.times_the_floor(), 0.10, 0.02);
    let forwarded = (server.packets_out > 0).then(|| server.packets_out_per_s());
    list.higher("forwarded", "Packets forwarded", PerSecond, forwarded, 0.03, 10.0);
    list.higher("sendBatch", "Datagrams per send call", Count, server.datagrams_per_send(), 0.15, 0.2);
    list.push(
        "receiveBatch",
        "Datagrams per receive call",
        Count,
        server.datagrams_per_receive(),
        Better::Neither,
        0.2,
        0.2,
    );
    let Some(memory) = &server.memory else { return };
    list.lower("rssPerPeer", "Server memory per peer", Bytes, memory.bytes_per_peer(), 0.10, 2_048.0);
    list.lower("rssMax", "Server memory at most", Bytes, Some(memory.rss_max_bytes as f64), 0.10, 2_097_152.0);
    let growth = memory.rss_end_bytes as f64 - memory.rss_joined_bytes as f64;
    list.lower("rssGrowth", "Server memory grown since all were in", Bytes, Some(growth.max(0.0)), 0.25, 4_194_304.0);
}

fn media_figures(media: &Media, list: &mut List) {
    if media.expected == 0 {
        return;
    }
    use Unit::{Count, Microseconds, Share};
    let repair = super::model::share(media.lost_before_repair, media.expected);
    list.lower("loss", "Packets that never came", Share, Some(media.loss_share()), 0.0, 1e-5);
    list.lower("repair", "Packets that needed repair", Share, Some(repair), 0.5, 2e-4);
    let at = |share| media.latency.quantile_us(share).map(|us| us as f64);
    list.lower("latencyP50", "Latency p50", Microseconds, at(0.5), 0.25, 100.0);
    list.lower("latencyP99", "Latency p99", Microseconds, at(0.99), 0.35, 500.0);
    list.lower("latencyP999", "Latency p99.9", Microseconds, at(0.999), 0.60, 2_000.0);
    list.push("latencyMax", "Latency max", Microseconds, at(1.0), Better::Neither, 1.0, 10_000.0);
    list.lower("freezes", "Freezes", Count, Some(media.freezes as f64), 0.5, 2.0);
    let longest = media.longest_freeze_ms as f64 * 1e3;
    list.lower("longestFreeze", "Longest freeze", Microseconds, Some(longest), 0.5, 200_000.0);
}

fn join_figures(result: &LoadResult, list: &mut List) {
    let joins = &result.totals.joins;
    for (key, name, histogram) in [
        ("welcomeP99", "Join to welcome p99", &joins.welcome),
        ("connectedP99", "Join to connected p99", &joins.connected),
        ("firstPacketP99", "Join to first packet p99", &joins.first_packet),
        ("firstKeyframeP99", "Join to first keyframe p99", &joins.first_keyframe),
    ] {
        let p99 = histogram.quantile_us(0.99).map(|us| us as f64);
        list.lower(key, name, Unit::Microseconds, p99, 0.35, 20_000.0);
    }
}

struct List(Vec<Figure>);

impl List {
    fn lower(&mut self, key: &'static str, name: &'static str, unit: Unit, value: Option<f64>, noise: f64, least: f64) {
        self.push(key, name, unit, value, Better::Lower, noise, least);
    }

    fn higher(
        &mut self,
        key: &'static str,
        name: &'static str,
        unit: Unit,
        value: Option<f64>,
        noise: f64,
        least: f64,
    ) {
        self.push(key, name, unit, value, Better::Higher, noise, least);
    }

    #[allow(clippy::too_many_arguments, reason = "a table of figures, one a line")]
    fn push(
        &mut self,
        key: &'static str,
        name: &'static str,
        unit: Unit,
        value: Option<f64>,
        better: Better,
        noise_share: f64,
        noise_at_least: f64,
    ) {
        let figure = value.filter(|v| v.is_finite()).map(|value| Figure {
            key,
            name,
            unit,
            value,
            better,
            noise_share,
            noise_at_least,
        });
        self.0.extend(figure);
    }
}
