//! What is to be thought of a run. The rule above all: what the load test itself could not carry is never told as the server's failure.
use super::model::{GeneratorFigures, LoadResult, Media, Outcome, Phase, Sample, Totals, Verdict, share};
use super::text::{count, duration_us, number, percent};

/// A thread that is busier than this has no time left for what comes in bursts.
const BUSY_SHARE: f64 = 0.95;
/// The part of the measured seconds that may be that busy.
const BUSY_SECONDS: f64 = 0.1;
/// An event loop that comes this late to one in a hundred of its duties is no client any more: its packets come in lumps, its repairs too late. (Latencies
/// are the kernel's stamps, and do not have this in them.)
const LATE_US: u64 = 20_000;
/// The part of the load that must really have been offered.
const OFFERED: f64 = 0.99;
/// What a hypervisor may take.
const STEAL_SHARE: f64 = 0.1;
/// What other programs may take of the machine.
const FOREIGN_SHARE: f64 = 0.25;

/// Judges a run by its thresholds. The result's own verdict is not looked at.
pub fn verdict(result: &LoadResult) -> Verdict {
    let trouble = Trouble::of(result);
    let findings = findings(result, &trouble);
    let blamed = findings.iter().filter(|f| !f.excused).map(|f| f.outcome);
    let outcome = match blamed.max_by_key(|o| *o == Outcome::Broken) {
        Some(outcome) => outcome,
        None if !findings.is_empty() || trouble.offered_too_little => Outcome::GeneratorLimited,
        None => Outcome::Clean,
    };
    let mut reasons: Vec<String> = findings.iter().filter(|f| !f.excused).map(|f| f.what.clone()).collect();
    reasons.extend(trouble.words);
    let excused = findings.into_iter().filter(|f| f.excused);
    reasons.extend(excused.map(|f| format!("{} (may not be the server's doing)", f.what)));
    Verdict { outcome, reasons }
}

impl Outcome {
    pub fn words(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::ServerLost => "the server failed",
            Self::GeneratorLimited => "nothing can be said about the server",
            Self::Broken => "broken",
        }
    }

    /// What the program ends with: 0 clean, 1 the server failed, 4 nothing can be said about the server. (2: it could not run; 3: worse than compared.)
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::ServerLost | Self::Broken => 1,
            Self::GeneratorLimited => 4,
        }
    }
}

/// Something that should not be.
struct Finding {
    outcome: Outcome,
    what: String,
    /// The load test may have caused it.
    excused: bool,
}

fn findings(result: &LoadResult, trouble: &Trouble) -> Vec<Finding> {
    let totals = &result.totals;
    let mut findings = Vec::new();
    let mut find = |outcome, excused, what| findings.push(Finding { outcome, what, excused });
    if totals.fault_count > 0 {
        let first = totals.faults.first().map_or("", String::as_str);
        find(Outcome::Broken, false, format!("faults: {}, the first: {first}", count(totals.fault_count)));
    }
    if totals.joins.joined == 0 {
        find(Outcome::Broken, trouble.any(), "nobody got in".to_owned());
    } else if totals.joins.failed > 0 {
        let what = format!("{} of {} did not get in", count(totals.joins.failed), count(totals.joins.wanted));
        find(Outcome::Broken, trouble.any(), what);
    }
    let silent = totals.silent_slots();
    if silent > 0 {
        let slots = totals.audio.slots + totals.video.slots + totals.impaired.as_ref().map_or(0, |m| m.slots);
        find(Outcome::Broken, trouble.any(), format!("{} of {} slots got nothing", count(silent), count(slots)));
    }
    find_losses(result, trouble, &mut find);
    let most = result.thresholds.max_impaired_loss_share;
    if let Some(media) = totals.impaired.as_ref().filter(|m| m.loss_share() > most) {
        let (lost, most) = (percent(media.loss_share()), percent(most));
        let what = format!("{lost} of the packets never came to those with a bad network, more than {most}");
        find(Outcome::ServerLost, trouble.any(), what);
    }
    let p99 = totals.media().latency.quantile_us(0.99);
    if let Some((p99, most)) = p99.zip(result.thresholds.max_p99_us).filter(|(p99, most)| p99 > most) {
        let what = format!("p99 latency {}, more than {}", duration_us(p99), duration_us(most));
        find(Outcome::ServerLost, trouble.any(), what);
    }
    findings
}

fn find_losses(result: &LoadResult, trouble: &Trouble, find: &mut impl FnMut(Outcome, bool, String)) {
    let (media, allowed) = (result.totals.media(), &result.thresholds);
    let blame = server_losses(&media, &result.generator);
    // Packets that our sockets dropped are known to be ours and taken off. What remains is the server's, unless we were so busy that this account may
    // have holes and the server itself knows of nothing.
    let server_knows = result.server.as_ref().is_some_and(|s| s.socket_drops > 0 || !send_drops(s).is_empty());
    let excused =
        |all: u64, blamed: u64| blamed == 0 && all > 0 || trouble.disturbed || trouble.overloaded && !server_knows;
    let exceeds = |packets: u64, most: f64| packets > 0 && share(packets, media.expected) > most;
    if exceeds(media.lost, allowed.max_loss_share) {
        let blamed = exceeds(blame.lost, allowed.max_loss_share).then_some(blame.lost);
        let what = format!(
            "{} of {} packets never came ({})",
            count(blamed.unwrap_or(media.lost)),
            count(media.expected),
            percent(share(blamed.unwrap_or(media.lost), media.expected))
        );
        find(Outcome::ServerLost, excused(media.lost, blamed.unwrap_or(0)), what);
    }
    if exceeds(media.lost_before_repair, allowed.max_repair_share) {
        let blamed = exceeds(blame.lost_before_repair, allowed.max_repair_share).then_some(blame.lost_before_repair);
        let shown = blamed.unwrap_or(media.lost_before_repair);
        let what = format!(
            "{} packets ({}) did not come at first and {} of them again",
            count(shown),
            percent(share(shown, media.expected)),
            count(media.repaired.min(shown))
        );
        find(Outcome::ServerLost, excused(media.lost_before_repair, blamed.unwrap_or(0)), what);
    }
}

/// Losses that our sockets cannot explain.
pub(super) struct ServerLosses {
    pub lost_before_repair: u64,
    pub lost: u64,
}

pub(super) fn server_losses(media: &Media, generator: &GeneratorFigures) -> ServerLosses {
    ServerLosses {
        lost_before_repair: media.lost_before_repair.saturating_sub(generator.datagrams_dropped_at_most()),
        lost: media.lost.saturating_sub(generator.datagrams_dropped_at_most()),
    }
}

/// Datagrams that the server had and its kernel did not take.
pub(super) fn send_drops(server: &super::model::ServerFigures) -> Vec<(&str, u64)> {
    let reasons = ["send_buffer_full", "send_failed"].into_iter();
    reasons.filter_map(|reason| server.drops.get(reason).map(|n| (reason, *n))).filter(|(_, n)| *n > 0).collect()
}

/// Signs that the load test, or the machine under it, could not keep up.
struct Trouble {
    words: Vec<String>,
    offered_too_little: bool,
    /// More than full sockets, whose losses are counted to the packet.
    overloaded: bool,
    /// The machine was not the server's to use: even what the server knows to have lost may be for want of CPU.
    disturbed: bool,
}

impl Trouble {
    fn of(result: &LoadResult) -> Self {
        let generator = &result.generator;
        let offered_too_little = (generator.packets_sent as f64) < OFFERED * generator.packets_due as f64;
        let mut words = overload(result);
        if offered_too_little {
            let (sent, due) = (count(generator.packets_sent), count(generator.packets_due));
            words.push(format!("the load test sent {sent} of {due} packets that were due"));
        }
        let overloaded = !words.is_empty();
        let disturbances = disturbances(result);
        let disturbed = !disturbances.is_empty();
        words.splice(0..0, disturbances);
        if generator.socket_drops > 0 {
            let (drops, most) = (count(generator.socket_drops), count(generator.datagrams_per_buffer_max.max(1)));
            words.insert(
                0,
                format!("the load test's own sockets were full: {drops} buffers of up to {most} datagrams dropped"),
            );
        }
        Self { words, offered_too_little, overloaded, disturbed }
    }

    fn any(&self) -> bool {
        !self.words.is_empty()
    }
}

/// Signs that others had the machine, or that the run was cut off, in words.
fn disturbances(result: &LoadResult) -> Vec<String> {
    let mut words = Vec::new();
    if result.interrupted {
        words.push("it was stopped before its end".to_owned());
    }
    if let Some(cores) = result.disturbance() {
        words.push(format!("other programs used {} of the {} cores", number(cores), result.machine.cores));
    }
    if seconds_with(result, |s| s.machine.steal_share >= STEAL_SHARE) > BUSY_SECONDS {
        words.push("the hypervisor took more than a tenth of the machine".to_owned());
    }
    words
}

/// Signs that the load test had too little CPU, in words.
fn overload(result: &LoadResult) -> Vec<String> {
    let (generator, mut words) = (&result.generator, Vec::new());
    if generator.unsent > 0 {
        words.push(format!("the kernel did not take {} datagrams from the load test", count(generator.unsent)));
    }
    let busy = seconds_with(result, |s| s.generator.cpu_share >= BUSY_SHARE);
    if busy > BUSY_SECONDS {
        words.push(format!("a thread of the load test had no time left in {} of the measured seconds", percent(busy)));
    }
    if let Some(late) = generator.loop_lag.quantile_us(0.99).filter(|late| *late > LATE_US) {
        words.push(format!("the load test's event loop was late: {} at p99", duration_us(late)));
    }
    words
}

/// The share of the measured seconds of which that is true.
fn seconds_with(result: &LoadResult, what: fn(&Sample) -> bool) -> f64 {
    let measuring = || result.samples.iter().filter(|s| s.phase == Phase::Measuring);
    share(measuring().filter(|s| what(s)).count() as u64, measuring().count() as u64)
}

impl LoadResult {
    /// Cores that other programs used, if it was more than a quarter of the machine: then what takes long says nothing.
    pub fn disturbance(&self) -> Option<f64> {
        self.foreign_cores().filter(|cores| *cores > FOREIGN_SHARE * f64::from(self.machine.cores))
    }
}

impl Totals {
    /// Slots that were to get something and did not.
    pub fn silent_slots(&self) -> u64 {
        let impaired = self.impaired.as_ref().map_or(0, |m| m.silent_slots);
        self.audio.silent_slots + self.video.silent_slots + impaired
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    fn outcome(change: impl FnOnce(&mut LoadResult)) -> (Outcome, String) {
        let mut result = example::classroom();
        change(&mut result);
        let verdict = verdict(&result);
        (verdict.outcome, verdict.reasons.join("; "))
    }

    fn busy(result: &mut LoadResult) {
        result.samples.iter_mut().for_each(|s| s.generator.cpu_share = 0.99);
    }

    #[test]
    fn all_is_well() {
        assert_eq!(outcome(|_| ()), (Outcome::Clean, String::new()));
    }

    #[test]
    fn a_busy_generator_that_lost_nothing_is_clean_and_says_so() {
        let (outcome, why) = outcome(busy);
        assert_eq!(outcome, Outcome::Clean);
        assert!(why.contains("had no time left in 100%"), "{why}");
    }

    #[test]
    fn one_packet_lost_for_good_is_the_servers() {
        let (outcome, why) = outcome(|r| r.totals.video.lost = 1);
        assert_eq!(outcome, Outcome::ServerLost);
        assert!(why.starts_with("1 of "), "{why}");
    }

    #[test]
    fn repairs_are_allowed_up_to_a_share() {
        let (few, _) = outcome(|r| r.totals.video.lost_before_repair = r.totals.video.expected / 2_000);
        let (many, why) = outcome(|r| r.totals.video.lost_before_repair = r.totals.video.expected / 500);
        assert_eq!((few, many), (Outcome::Clean, Outcome::ServerLost), "{why}");
    }

    #[test]
    fn what_our_sockets_dropped_is_not_the_servers() {
        let (outcome, why) = outcome(|r| (r.totals.video.lost, r.generator.socket_drops) = (900, 1_000));
        assert_eq!(outcome, Outcome::GeneratorLimited);
        assert!(why.starts_with("the load test's own sockets were full: 1,000"), "{why}");
    }

    #[test]
    fn what_our_sockets_did_not_drop_is_the_servers() {
        let (outcome, why) = outcome(|r| (r.totals.video.lost, r.generator.socket_drops) = (9_000, 10));
        assert_eq!(outcome, Outcome::ServerLost);
        assert!(why.starts_with("8,990 of "), "{why}");
    }

    #[test]
    fn a_generator_without_time_blames_only_a_server_that_knows_of_it() {
        let lose = |r: &mut LoadResult| {
            busy(r);
            r.totals.video.lost = 9_000;
        };
        assert_eq!(outcome(lose).0, Outcome::GeneratorLimited);
        let known = outcome(|r| {
            lose(r);
            r.server.get_or_insert_default().drops.insert("send_buffer_full".to_owned(), 9_000);
        });
        assert_eq!(known.0, Outcome::ServerLost);
        let starved = outcome(|r| {
            lose(r);
            r.server.get_or_insert_default().socket_drops = 9_000;
            r.samples.iter_mut().for_each(|s| s.machine.busy_share = 1.0);
        });
        assert_eq!(starved.0, Outcome::GeneratorLimited, "{}", starved.1);
    }

    #[test]
    fn latency_is_judged_only_when_asked_and_only_by_a_generator_in_time() {
        let slow = |r: &mut LoadResult| {
            r.totals.video.latency.record_many_us(80_000, 1 << 40);
            r.thresholds.max_p99_us = Some(50_000);
        };
        assert_eq!(outcome(slow).0, Outcome::ServerLost);
        let late = |r: &mut LoadResult| {
            slow(r);
            r.generator.loop_lag.record_many_us(60_000, 1 << 40);
        };
        assert_eq!(outcome(late).0, Outcome::GeneratorLimited);
        assert_eq!(
            outcome(|r| {
                slow(r);
                r.thresholds.max_p99_us = None;
            })
            .0,
            Outcome::Clean
        );
    }

    #[test]
    fn a_busy_machine_says_nothing_about_latency() {
        let slow = |r: &mut LoadResult| {
            r.totals.video.latency.record_many_us(80_000, 1 << 40);
            r.thresholds.max_p99_us = Some(50_000);
            r.samples.iter_mut().for_each(|s| s.machine.busy_share = 1.0);
        };
        let (outcome, why) = outcome(slow);
        assert_eq!(outcome, Outcome::GeneratorLimited);
        assert!(why.starts_with("other programs used 1.43 of the 2 cores"), "{why}");
    }

    #[test]
    fn silence_and_faults() {
        assert_eq!(outcome(|r| r.totals.video.silent_slots = 3).0, Outcome::Broken);
        assert_eq!(outcome(|r| r.totals.joins.failed = 3).0, Outcome::Broken);
        assert_eq!(outcome(|r| r.totals.joins.joined = 0).0, Outcome::Broken);
        let excused = |r: &mut LoadResult| (r.totals.video.silent_slots, r.generator.unsent) = (3, 1);
        assert_eq!(outcome(excused).0, Outcome::GeneratorLimited);
        // No load makes a server forge packets.
        assert_eq!(
            outcome(|r| {
                excused(r);
                r.totals.fault_count = 1;
            })
            .0,
            Outcome::Broken
        );
        assert_eq!(super::verdict(&LoadResult::default()).outcome, Outcome::Broken);
    }

    #[test]
    fn what_is_cut_off_is_not_lost() {
        let stopped = |r: &mut LoadResult| (r.interrupted, r.totals.video.lost) = (true, 10);
        assert_eq!(outcome(stopped).0, Outcome::GeneratorLimited);
    }

    #[test]
    fn a_load_that_was_not_offered_shows_nothing() {
        assert_eq!(outcome(|r| r.generator.packets_sent /= 2).0, Outcome::GeneratorLimited);
    }

    #[test]
    fn a_bad_network_is_judged_by_what_was_missing_in_the_end() {
        let lossy = |r: &mut LoadResult| {
            let mut impaired = r.totals.video.clone();
            (impaired.lost_before_repair, impaired.repaired) = (50_000, 49_990);
            impaired.lost = 10;
            r.totals.impaired = Some(impaired);
        };
        assert_eq!(outcome(lossy).0, Outcome::Clean);
        let lost = |r: &mut LoadResult| {
            lossy(r);
            r.totals.impaired.get_or_insert_default().lost = 50_000;
        };
        assert_eq!(outcome(lost).0, Outcome::ServerLost);
        // Those with a good network lose nothing by it.
        assert_eq!(
            outcome(|r| {
                lossy(r);
                r.totals.video.lost = 1;
            })
            .0,
            Outcome::ServerLost
        );
    }
}
