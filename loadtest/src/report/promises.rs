//! What Exedra promises of its speed and size, held against a run: only what that run can show.
use super::model::{LoadResult, Phase, Sample};
use super::text::{bytes, count, duration_us, number, percent};

/// One promise and what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    pub what: String,
    pub promised: String,
    pub measured: String,
    pub kept: Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Yes,
    No,
    /// Not, but other programs used the machine: it says nothing.
    Unclear,
}

impl Kept {
    pub fn words(self) -> &'static str {
        match self {
            Self::Yes => "kept",
            Self::No => "not kept",
            Self::Unclear => "machine was busy",
        }
    }
}

/// Below this share of its capacity a server is lightly loaded: if a packet has no more receivers than this, either. The last of a
/// thousand waits for 999 sends, however little else there is to do.
const LIGHT: f64 = 0.3;
const LIGHT_VIEWERS: u64 = 50;
/// Delivery is promised up to so many, a few publishers included.
const PROMISED_VIEWERS: u64 = 1_050;
/// A churn that was shorter has not come to rest.
const LONG_MS: u64 = 600_000;
/// With fewer viewers it is the fixed cost of the process that is divided among them.
const MANY: u64 = 500;
/// Recording costs less than this share of what forwarding does.
const RECORDING: f64 = 0.15;
/// A viewer that gets fewer packets a second than this is idle: keep-alives and reports.
const IDLE_PER_S: f64 = 2.0;

/// The promises that this run is a test of.
pub fn promises(result: &LoadResult) -> Vec<Promise> {
    let mut list = Vec::new();
    cpu(result, &mut list);
    delivery(result, &mut list);
    joins(result, &mut list);
    memory(result, &mut list);
    recording(result, &mut list);
    if result.disturbance().is_some() {
        let times = list.iter_mut().filter(|p| p.what.contains("p50") || p.what.contains("p99"));
        times.filter(|p| p.kept == Kept::No).for_each(|p| p.kept = Kept::Unclear);
    }
    list
}

fn promise(list: &mut Vec<Promise>, kept: bool, what: &str, promised: &str, measured: String) {
    let kept = if kept { Kept::Yes } else { Kept::No };
    list.push(Promise { what: what.to_owned(), promised: promised.to_owned(), measured, kept });
}

fn cpu(result: &LoadResult, list: &mut Vec<Promise>) {
    let Some(server) = &result.server else { return };
    if let Some(times) = server.times_the_floor() {
        let audio_only = result.totals.video.expected == 0;
        let most = if audio_only { 2.0 } else { 1.5 };
        let what = "Server CPU per packet, against a bare loop that seals and sends";
        promise(list, times <= most, what, &format!("at most {}×", number(most)), format!("{}×", number(times)));
    }
    let (idle, peers) = (is_idle(result), server.memory.map_or(0, |m| m.peers));
    if let Some(cpu) = server.cpu.filter(|_| idle && peers >= MANY) {
        let share = cpu.share(server.measured_ms) * 1e3 / peers as f64;
        let what = "CPU of 1,000 connected silent peers";
        let measured = format!("{} (of {} peers)", percent(share), count(peers));
        promise(list, share < 0.01, what, "below 1% of a core", measured);
    }
}

fn recording(result: &LoadResult, list: &mut Vec<Promise>) {
    let Some(recording) = &result.recording else { return };
    if let Some(share) = recording.cost_share() {
        let what = "CPU of recording, against that of forwarding";
        promise(list, share < RECORDING, what, &format!("below {}", percent(RECORDING)), percent(share));
    }
    let missing = recording.gaps.get("disk").copied().unwrap_or(0);
    promise(list, missing == 0, "Gaps of recordings because the disk could not follow", "none", count(missing));
}

fn delivery(result: &LoadResult, list: &mut Vec<Promise>) {
    let media = result.totals.media();
    if media.expected == 0 || result.totals.subscribers > PROMISED_VIEWERS {
        return;
    }
    let lost = format!("{} of {}", count(media.lost), count(media.expected));
    promise(list, media.lost == 0, "Packets lost", "none", lost);
    let (Some(p50), Some(p99)) = (media.latency.quantile_us(0.5), media.latency.quantile_us(0.99)) else { return };
    let few = result.totals.subscribers <= LIGHT_VIEWERS;
    let light = few && server_load(result).is_some_and(|load| load < LIGHT);
    if light {
        promise(list, p50 < 500, "Latency p50, lightly loaded", "below 0.5 ms", duration_us(p50));
        promise(list, p99 < 3_000, "Latency p99, lightly loaded", "below 3 ms", duration_us(p99));
    } else {
        promise(list, p99 < 25_000, "Latency p99 with up to 1,000 viewers", "below 25 ms", duration_us(p99));
    }
    if let Some(incumbents) = &result.totals.incumbents {
        let lost = format!("{} of {}", count(incumbents.lost), count(incumbents.expected));
        promise(list, incumbents.lost == 0, "Packets lost to those already in", "none", lost);
    }
}

fn joins(result: &LoadResult, list: &mut Vec<Promise>) {
    let far = result.totals.impaired.is_some();
    if let Some(p99) = result.totals.joins.first_packet.quantile_us(0.99).filter(|_| !far) {
        let what = format!("Join to first packet p99, at {} joins a second", number(result.totals.joins.rate_per_s));
        promise(list, p99 < 300_000, &what, "below 300 ms at 100/s", duration_us(p99));
    }
}

fn memory(result: &LoadResult, list: &mut Vec<Promise>) {
    let memory = result.server.as_ref().and_then(|s| s.memory);
    let grown =
        memory.filter(|m| m.rss_before_bytes > 0).map(|m| m.rss_joined_bytes.saturating_sub(m.rss_before_bytes));
    if let Some(grown) = grown.filter(|_| result.totals.subscribers >= MANY) {
        let (viewers, idle) = (result.totals.subscribers, is_idle(result));
        let (what, most) = match idle {
            true => ("Server memory per idle viewer", 40.0),
            false => ("Server memory per viewer, up to 20 slots", 120.0),
        };
        let each = grown as f64 / viewers as f64;
        let measured = format!("{} (of {})", bytes(each), count(viewers));
        promise(list, each < most * 1024.0, what, &format!("below {} KiB at 1,000", number(most)), measured);
    }
    let long = result.scenario.name == "churn" && result.scenario.duration_ms >= LONG_MS;
    if let Some(churn) = result.totals.churn.as_ref().filter(|c| long && c.rss_early_bytes > 0) {
        let grown = churn.rss_late_bytes as f64 / churn.rss_early_bytes as f64 - 1.0;
        let what = "Server memory at the end of the churn, against minute five";
        promise(
            list,
            grown <= 0.05,
            what,
            "at most 5% more",
            format!("{}{}", if grown > 0.0 { "+" } else { "" }, percent(grown)),
        );
        let left = churn.descriptors_after.saturating_sub(churn.descriptors_before);
        promise(list, left == 0, "File descriptors left behind", "none", count(left));
    }
}

/// The server's CPU as a share of what it can use.
fn server_load(result: &LoadResult) -> Option<f64> {
    let server = result.server.as_ref()?;
    Some(server.cpu?.share(server.measured_ms) / server.capacity())
}

/// Nobody got any media while it was measured.
fn is_idle(result: &LoadResult) -> bool {
    let measuring = || result.samples.iter().filter(|s| s.phase == Phase::Measuring);
    let idle = |s: &Sample| s.per_s(s.packets_received) < IDLE_PER_S * s.joined as f64;
    measuring().count() > 0 && measuring().all(idle)
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn only_what_the_run_shows_is_held_against_it() {
        let what = |result: &LoadResult| promises(result).into_iter().map(|p| (p.what, p.kept)).collect::<Vec<_>>();
        let run = what(&example::classroom());
        assert_eq!(run[0].0, "Server CPU per packet, against a bare loop that seals and sends");
        assert!(run.iter().any(|(what, kept)| what == "Packets lost" && *kept == Kept::Yes));
        assert!(what(&LoadResult::default()).is_empty());
    }

    #[test]
    fn a_broken_promise_is_told() {
        let mut result = example::classroom();
        result.totals.video.lost = 1;
        result.server.get_or_insert_default().cpu.get_or_insert_default().user_us *= 9;
        let broken: Vec<_> = promises(&result).into_iter().filter(|p| p.kept == Kept::No).map(|p| p.what).collect();
        assert_eq!(broken.len(), 2, "{broken:?}");
    }

    #[test]
    fn silent_peers_are_idle() {
        let mut result = example::classroom();
        result.samples.iter_mut().for_each(|s| s.packets_received = 0);
        result.totals.subscribers = 1_000;
        result.server.get_or_insert_default().memory.get_or_insert_default().peers = 1_000;
        let found = promises(&result);
        assert!(found.iter().any(|p| p.what == "CPU of 1,000 connected silent peers"));
        assert!(found.iter().any(|p| p.what == "Server memory per idle viewer"));
    }
}
