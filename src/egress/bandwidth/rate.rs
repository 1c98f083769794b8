//! Bit rates over the last second.
use super::Micros;

const BIN: Micros = 50_000;
const BINS: usize = 24;

/// Bytes in bins of 50 ms. Times that go back by less than a second are fine; a jump forgets what was.
#[derive(Clone, Debug, Default)]
pub(super) struct RateWindow {
    bins: [u32; BINS],
    /// The number of the newest bin, counted from the epoch of its clock.
    newest: Option<i64>,
    first: i64,
}

impl RateWindow {
    pub fn add(&mut self, at: Micros, bytes: u16) {
        let bin = at.div_euclid(BIN);
        let newest = *self.newest.get_or_insert_with(|| {
            self.first = bin;
            bin
        });
        if bin > newest {
            for skipped in (newest + 1).max(bin - BINS as i64 + 1)..=bin {
                self.bins[slot(skipped)] = 0;
            }
            self.newest = Some(bin);
        } else if bin <= newest - BINS as i64 {
            return;
        }
        let sum = &mut self.bins[slot(bin)];
        *sum = sum.saturating_add(bytes.into());
    }

    /// Bits a second over the `window` (at most a second) that ends with the last full bin before `now`.
    pub fn bps(&self, now: Micros, window: Micros) -> f64 {
        let Some(newest) = self.newest else { return 0.0 };
        let end = now.div_euclid(BIN);
        let count = (window / BIN).clamp(1, BINS as i64 - 2).min((end - self.first).max(1));
        let bytes: u64 = (end - count..end)
            .filter(|&bin| bin <= newest && bin > newest - BINS as i64)
            .map(|bin| u64::from(self.bins[slot(bin)]))
            .sum();
        bytes as f64 * 8e6 / (count * BIN) as f64
    }
}

fn slot(bin: i64) -> usize {
    bin.rem_euclid(BINS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_has_its_rate_at_any_window() {
        let mut rate = RateWindow::default();
        for i in 0..300 {
            rate.add(i * 10_000, 1250);
        }
        for window in [100_000, 300_000, 1_000_000] {
            assert!((rate.bps(3_000_000, window) - 1e6).abs() < 2e4, "{window}");
        }
        assert_eq!(rate.bps(9_000_000, 500_000), 0.0);
    }

    #[test]
    fn times_from_anywhere_do_no_harm() {
        let mut rate = RateWindow::default();
        for at in [0, i64::MAX / 2, -i64::MAX / 2, 5, i64::MAX / 2 + 1] {
            rate.add(at, u16::MAX);
            assert!(rate.bps(at, 500_000) < 1e9);
        }
    }
}
