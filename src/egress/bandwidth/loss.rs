//! What losses say: which share is the path's own, whatever is sent, and which comes from sending too much.
use super::Micros;

/// An observation is made of so many packets over so long, at least.
const MIN_PACKETS: u32 = 20;
const INTERVAL: Micros = 400_000;
/// No path is believed to lose more than this by itself.
const MAX_INHERENT: f64 = 0.25;
/// So many lost in a row, and none besides, are an outage, of which the rate at which is sent is hardly the reason: what was lost then weighs so much.
const OUTAGE: i64 = 8;
const OUTAGE_WEIGHT: f64 = 0.3;
/// Before more is known, a path may lose so much by itself.
const USUAL: f64 = 0.03;
/// With so much lost there is no waiting for more.
const MUCH: f64 = 0.3;
const SOON: Micros = 100_000;
/// Packets lost behind a standing queue, as a share of all: it overflows.
const OVERFLOW: f64 = 0.025;
/// Loss above the inherent one from which on less is to be sent.
const TOO_MUCH: f64 = 0.07;

#[derive(Clone, Debug, Default)]
pub(super) struct LossDetector {
    told: u32,
    lost: i64,
    /// Those lost while there was a queue that did not drain.
    queued: u32,
    /// Packets lost in a row count as one.
    runs: u32,
    since: Option<Micros>,
    /// Smoothed share of packets lost.
    share: f64,
    inherent: f64,
}

/// What losses of late say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// A queue that does not drain overflows.
    Overflow,
    /// So much more is lost than the path loses by itself: a share of all packets.
    Excess(f64),
}

/// Packets that a feedback told of for the first time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub told: u32,
    /// Of them lost; fewer than none when lost ones came late.
    pub lost: i64,
    /// Lost behind a queue that had not drained for a while.
    pub queued: u32,
    /// How often lost ones came after one that arrived.
    pub runs: u32,
    in_run: bool,
}

impl Tally {
    pub fn add(&mut self, counts: bool, lost: i64, behind_queue: bool) {
        if counts {
            self.told += 1;
            self.lost += lost;
            self.queued += u32::from(lost > 0 && behind_queue);
            self.runs += u32::from(lost > 0 && !self.in_run);
            self.in_run = lost > 0;
        }
    }
}

impl LossDetector {
    /// What feedback told. A verdict comes a few times a second, and says that less should be sent.
    pub fn handle(&mut self, now: Micros, tally: Tally) -> Option<Verdict> {
        self.told = self.told.saturating_add(tally.told);
        self.lost += tally.lost;
        self.queued = self.queued.saturating_add(tally.queued);
        self.runs = self.runs.saturating_add(tally.runs);
        let elapsed = now - *self.since.get_or_insert(now);
        let share = (self.lost.max(0) as f64 / f64::from(self.told.max(1))).clamp(0.0, 1.0);
        let enough = self.told >= MIN_PACKETS;
        let much = enough && elapsed >= SOON && share > MUCH;
        if !much && (!enough || elapsed < INTERVAL) {
            return None;
        }
        let overflow = self.queued >= 3 && f64::from(self.queued) > OVERFLOW * f64::from(self.told);
        let own = (self.lost - i64::from(self.queued)).max(0) as f64 / f64::from(self.told.max(1));
        let chance = self.is_chance();
        // (What a full queue drops may be as many in a row.)
        let outage = self.runs == 1 && self.lost >= OUTAGE && self.queued == 0;
        (self.told, self.lost, self.queued, self.runs, self.since) = (0, 0, 0, 0, Some(now));
        let excess = self.observe(share, own.min(share));
        match overflow {
            true => Some(Verdict::Overflow),
            false if excess <= TOO_MUCH || chance => None,
            false => Some(Verdict::Excess(if outage { excess * OUTAGE_WEIGHT } else { excess })),
        }
    }

    /// Few packets may lose much by chance: within three standard deviations of what the path loses by itself.
    fn is_chance(&self) -> bool {
        let (n, p) = (f64::from(self.told), self.inherent.max(USUAL));
        (self.lost as f64) < n * p + 3.0 * (n * p * (1.0 - p)).sqrt()
    }

    /// The share lost of late, and how much of it may be the path's own. Gives how much is lost above what the path loses by itself.
    pub fn observe(&mut self, share: f64, own: f64) -> f64 {
        self.share += (share - self.share) * 0.3;
        let excess = share - self.inherent;
        // Down fast, up slowly: what stays although less is sent does not come from sending.
        let gain = if own < self.inherent { 0.3 } else { 0.08 };
        self.inherent = (self.inherent + (own - self.inherent) * gain).clamp(0.0, MAX_INHERENT);
        excess
    }

    /// What the path loses by itself: 0 to 0.25.
    pub fn inherent(&self) -> f64 {
        self.inherent
    }

    /// Share of packets lost, smoothed: 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Losses are well above what the path loses by itself: no time to send more.
    pub fn forbids_growth(&self) -> bool {
        self.share - self.inherent > 0.04
    }
}
