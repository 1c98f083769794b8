//! What losses say: which share is the path's own, whatever is sent, and which comes from sending too much.
use super::Micros;

/// An observation is made of so many packets over so long, at least.
const MIN_PACKETS: u32 = 20;
const INTERVAL: Micros = 400_000;
/// No path is believed to lose more than this by itself.
const MAX_INHERENT: f64 = 0.25;
/// Loss above the inherent one from which on less is to be sent.
const TOO_MUCH: f64 = 0.07;

#[derive(Clone, Debug, Default)]
pub(super) struct LossDetector {
    told: u32,
    lost: i64,
    since: Option<Micros>,
    /// Smoothed share of packets lost.
    share: f64,
    inherent: f64,
}

impl LossDetector {
    /// Packets that were told of for the first time, and how many of them were lost; fewer than none when lost ones came late.
    pub fn handle(&mut self, now: Micros, told: u32, lost: i64) -> Option<f64> {
        self.told = self.told.saturating_add(told);
        self.lost += lost;
        let since = *self.since.get_or_insert(now);
        if self.told < MIN_PACKETS || now - since < INTERVAL {
            return None;
        }
        let share = (self.lost.max(0) as f64 / f64::from(self.told)).clamp(0.0, 1.0);
        (self.told, self.lost, self.since) = (0, 0, Some(now));
        self.observe(share)
    }

    /// The share lost of late. Says by how much it is above what the path loses by itself, if that is too much.
    pub fn observe(&mut self, share: f64) -> Option<f64> {
        self.share += (share - self.share) * 0.3;
        let excess = share - self.inherent;
        // Down fast, up slowly: what stays although less is sent does not come from sending.
        let gain = if excess < 0.0 { 0.5 } else { 0.08 };
        self.inherent = (self.inherent + excess * gain).clamp(0.0, MAX_INHERENT);
        (excess > TOO_MUCH).then_some(excess)
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
