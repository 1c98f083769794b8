//! Packets that leave together arrive one after another, the farther apart the narrower the path: the dispersion of packet pairs
//! (Keshav 1991; Jain and Dovrolis 2002). It costs nothing, and it is easily wrong (token buckets, radio links that collect packets), so it
//! is never taken for the estimate: it only says when a probe is worth its bits.
use super::Micros;
use super::delay::Arrived;

/// Pairs are compared with the limit times this.
const FASTER: f64 = 1.3;
/// Weight of one pair in the share of fast ones.
const GAIN: f64 = 0.07;
/// So few within the last one to two windows tell nothing.
const MIN_PAIRS: u32 = 10;
const WINDOW: Micros = 1_500_000;
const MIN_BYTES: u16 = 400;
/// Half a tick of arrival times.
const HALF_TICK: Micros = 125;

#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    last: Option<Arrived>,
    /// Share of pairs that came faster than the limit allows, of late.
    fast: f64,
    /// How many there were in this window, and in the one before; none from before the limit was measured.
    count: u32,
    earlier: u32,
    since: Micros,
    /// When the limit was measured there were fast pairs as well: they say nothing here.
    useless: bool,
}

impl Pairs {
    /// A packet in order, and the limit in bits a second, if one is known.
    pub fn handle_arrival(&mut self, packet: Arrived, limit_bps: Option<f64>) {
        let (Some(last), Some(limit)) = (self.last.replace(packet), limit_bps) else { return };
        let adjacent = packet.total.wrapping_sub(last.total) == u32::from(packet.bytes);
        if !adjacent || packet.sent != last.sent || packet.bytes < MIN_BYTES {
            return;
        }
        let gap = (packet.arrival - last.arrival).max(HALF_TICK) as f64;
        let fast = f64::from(packet.bytes) * 8e6 / gap > FASTER * limit;
        self.fast += (f64::from(u8::from(fast)) - self.fast) * GAIN;
        if packet.sent - self.since > WINDOW {
            (self.earlier, self.count, self.since) = (self.count, 0, packet.sent);
        }
        self.count = self.count.saturating_add(1);
    }

    /// The limit has been measured: what pairs say from here on is compared with it.
    pub fn handle_limit(&mut self) {
        if self.count.saturating_add(self.earlier) >= MIN_PAIRS {
            self.useless = self.fast > 0.4;
        }
        (self.fast, self.count, self.earlier) = (0.0, 0, 0);
    }

    /// Whether the path seems to carry more than the limit now; `None` if it cannot be told.
    pub fn promise_more(&self) -> Option<bool> {
        (!self.useless && self.count.saturating_add(self.earlier) >= MIN_PAIRS).then_some(self.fast > 0.45)
    }
}
