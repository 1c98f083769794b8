//! What came of it, as JSON and for people.
use crate::call::Outcome;
use crate::server::Usage;
use exedra::rtp::Kind;
use loadtest::client::subscriber::{Latencies, Slot};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Instant;

/// Everything that was measured. Times are in milliseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    scenario: String,
    seconds: u64,
    participants: usize,
    publishers: usize,
    /// From the first call of the client to: the welcome, the first packet, the first picture.
    welcome_ms: Quantiles,
    first_packet_ms: Quantiles,
    first_keyframe_ms: Quantiles,
    /// Slots that were to show something and never did.
    silent: usize,
    audio: Media,
    video: Media,
    /// Datagrams that this machine did not take from us.
    unsent: u64,
    server: Option<Spent>,
    /// What a decoder would have stumbled over, and answers that were refused: the first ones.
    faults: Vec<String>,
}

#[derive(Serialize, Default)]
struct Quantiles {
    p50: Option<u64>,
    p99: Option<u64>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Media {
    slots: usize,
    packets: u64,
    /// Packets that subscribers asked for again, those that came as RTX, and those that never came.
    asked_again: u64,
    repaired: u64,
    lost_for_good: u64,
    /// From capture to arrival.
    latency_ms: Quantiles,
    longest_freeze_ms: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spent {
    forwarded: u64,
    forwarded_per_second: u64,
    send_calls_per_packet: f64,
    cpu_share: Option<f64>,
    cpu_ns_per_packet: Option<u64>,
}

impl Report {
    pub fn new(scenario: &str, seconds: u64, outcomes: &[Outcome], usage: Option<(Usage, Usage)>) -> Self {
        let slots: Vec<(&Outcome, &Slot)> = outcomes
            .iter()
            .flat_map(|o| o.participant.subscriber.iter().flat_map(|s| &s.slots).map(move |s| (o, s)))
            .collect();
        let since = |outcome: &Outcome, at: Option<Instant>| at.map(|at| (at - outcome.began).as_millis() as u64);
        let first = |of: fn(&Slot) -> Option<Instant>| {
            quantiles(outcomes.iter().filter_map(|o| {
                let slots = o.participant.subscriber.iter().flat_map(|s| &s.slots);
                since(o, slots.filter_map(of).min())
            }))
        };
        let faults = outcomes.iter().flat_map(|o| o.participant.faults()).take(20).collect();
        Self {
            scenario: scenario.to_owned(),
            seconds,
            participants: outcomes.len(),
            publishers: outcomes.iter().filter(|o| o.participant.publisher.is_some()).count(),
            welcome_ms: quantiles(outcomes.iter().filter_map(|o| since(o, o.participant.joined_at))),
            first_packet_ms: first(|s| s.stats.first_packet),
            first_keyframe_ms: first(|s| s.stats.first_keyframe),
            silent: outcomes.iter().map(silent).sum(),
            audio: Media::new(slots.iter().map(|(_, s)| *s).filter(|s| s.kind == Kind::Audio)),
            video: Media::new(slots.iter().map(|(_, s)| *s).filter(|s| s.kind == Kind::Video)),
            unsent: outcomes.iter().map(|o| o.unsent).sum(),
            server: usage.map(|(before, after)| Spent::new(seconds, before, after)),
            faults,
        }
    }

    /// Nothing is missing and nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.silent == 0 && self.audio.lost_for_good + self.video.lost_for_good == 0 && self.faults.is_empty()
    }

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    pub fn summary(&self) -> String {
        let show = |q: &Quantiles| {
            let one = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
            format!("{} / {} ms", one(q.p50), one(q.p99))
        };
        let mut text = format!(
            "{} for {} s: {} participants, {} of them publish\n",
            self.scenario, self.seconds, self.participants, self.publishers
        );
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<28}{value}");
        };
        line("welcome (p50 / p99)", show(&self.welcome_ms));
        line("first packet", show(&self.first_packet_ms));
        line("first keyframe", show(&self.first_keyframe_ms));
        for (name, media) in [("audio", &self.audio), ("video", &self.video)] {
            line(&format!("{name} latency"), show(&media.latency_ms));
            line(
                &format!("{name} packets"),
                format!(
                    "{}, asked again {}, by RTX {}, lost for good {}",
                    media.packets, media.asked_again, media.repaired, media.lost_for_good
                ),
            );
        }
        line("longest freeze", format!("{} ms", self.video.longest_freeze_ms));
        if let Some(server) = &self.server {
            line("forwarded", format!("{} packets a second", server.forwarded_per_second));
            line("send calls", format!("{:.3} for each packet", server.send_calls_per_packet));
            if let (Some(share), Some(ns)) = (server.cpu_share, server.cpu_ns_per_packet) {
                line("server CPU", format!("{ns} ns for each packet, {:.0}% of a core", share * 100.0));
            }
        }
        if self.silent > 0 {
            line("slots without anything", self.silent.to_string());
        }
        self.faults.iter().for_each(|fault| line("fault", fault.clone()));
        text
    }
}

/// How many slots of somebody should have got something and did not.
fn silent(outcome: &Outcome) -> usize {
    let slots = || outcome.participant.subscriber.iter().flat_map(|s| &s.slots);
    let got = |kind| slots().filter(|s| s.kind == kind && s.stats.packets > 0).count();
    [Kind::Audio, Kind::Video].into_iter().map(|kind| outcome.expects.saturating_sub(got(kind))).sum()
}

impl Media {
    fn new<'a>(slots: impl Iterator<Item = &'a Slot>) -> Self {
        let (mut media, mut latencies) = (Self::default(), Latencies::default());
        for slot in slots.filter(|s| s.stats.packets > 0) {
            media.slots += 1;
            media.packets += slot.stats.packets;
            media.asked_again += slot.stats.nacks;
            media.repaired += slot.stats.repaired;
            media.lost_for_good += slot.lost_for_good();
            let freeze = slot.viewer().map_or(0, |v| v.stats.longest_freeze_ms);
            media.longest_freeze_ms = media.longest_freeze_ms.max(freeze);
            latencies.merge(&slot.latencies);
        }
        media.latency_ms = Quantiles { p50: latencies.quantile(0.5), p99: latencies.quantile(0.99) };
        media
    }
}

impl Spent {
    fn new(seconds: u64, before: Usage, after: Usage) -> Self {
        let forwarded = after.forwarded - before.forwarded;
        let cpu = after.cpu_seconds.zip(before.cpu_seconds).map(|(after, before)| after - before);
        let seconds = seconds.max(1) as f64;
        Self {
            forwarded: forwarded as u64,
            forwarded_per_second: (forwarded / seconds) as u64,
            send_calls_per_packet: (after.send_calls - before.send_calls) / forwarded.max(1.0),
            cpu_share: cpu.map(|cpu| cpu / seconds),
            cpu_ns_per_packet: cpu.map(|cpu| (cpu * 1e9 / forwarded.max(1.0)) as u64),
        }
    }
}

fn quantiles(values: impl Iterator<Item = u64>) -> Quantiles {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    let at = |share: f64| values.get(((values.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
    Quantiles { p50: at(0.5), p99: at(0.99) }
}
