//! A histogram of durations with logarithmic buckets: a fixed size, no allocation after it was made, and quantiles that are at most 1/32 too high.
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Buckets of each power of two are this many.
const STEPS: u64 = 32;
/// Below this each microsecond has its own bucket.
const EXACT: u64 = 2 * STEPS;
/// The last bucket takes everything from 2^26 µs (67 s) on.
const TOP_BITS: u32 = 26;
const BUCKETS: usize = (EXACT + (TOP_BITS - EXACT.ilog2()) as u64 * STEPS) as usize + 1;

/// Counts durations by microseconds. About 5.7 KB: let the receivers of a thread share one.
///
/// In JSON: `{"minUs", "maxUs", "sumUs", "buckets": [[upper edge in µs, count], …]}` with the buckets that are not empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum_us: u64,
    min_us: u64,
    max_us: u64,
}

/// What a histogram says in a few numbers, in microseconds; all zero while `count` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Quantiles {
    pub count: u64,
    #[serde(serialize_with = "super::model::rounded")]
    pub mean_us: f64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), count: 0, sum_us: 0, min_us: u64::MAX, max_us: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, duration: Duration) {
        self.record_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn record_us(&mut self, us: u64) {
        self.record_many_us(us, 1);
    }

    /// `n` durations of the same length: the packets of one batch.
    pub fn record_many_us(&mut self, us: u64, n: u64) {
        if n == 0 {
            return;
        }
        self.counts[bucket(us)] += n;
        self.count += n;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(n));
        self.min_us = self.min_us.min(us);
        self.max_us = self.max_us.max(us);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a = a.saturating_add(*b));
        self.count = self.count.saturating_add(other.count);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.min_us = self.min_us.min(other.min_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Forgets everything and keeps its memory.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        (self.count, self.sum_us, self.min_us, self.max_us) = (0, 0, u64::MAX, 0);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn mean_us(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us as f64 / self.count as f64)
    }

    /// The shortest and the longest, to the microsecond.
    pub fn range_us(&self) -> Option<(u64, u64)> {
        (self.count > 0).then_some((self.min_us, self.max_us))
    }

    /// What this share (0 to 1) of all durations keeps: never too low, and at most 1/32 too high.
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let wanted = ((self.count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, self.count.max(1));
        let mut sum = 0;
        for (index, n) in self.counts.iter().enumerate() {
            sum = n.saturating_add(sum);
            if sum >= wanted {
                return Some(upper_edge_us(index).clamp(self.min_us, self.max_us));
            }
        }
        None
    }

    pub fn quantiles(&self) -> Quantiles {
        let at = |share| self.quantile_us(share).unwrap_or(0);
        Quantiles {
            count: self.count,
            mean_us: self.mean_us().unwrap_or(0.0),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.max_us,
        }
    }

    /// The buckets that are not empty: the lowest and the highest duration of each (both included), and how many it has.
    pub fn buckets_us(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let lower = |index: usize| if index == 0 { 0 } else { upper_edge_us(index - 1) + 1 };
        let filled = self.counts.iter().enumerate().filter(|(_, n)| **n > 0);
        filled.map(move |(index, n)| (lower(index), upper_edge_us(index).min(self.max_us), *n))
    }
}

/// Bucket `index` has the durations up to `upper_edge_us(index)` that no lower bucket has.
fn bucket(us: u64) -> usize {
    if us < EXACT {
        return us as usize;
    }
    let octave = us.ilog2() - EXACT.ilog2();
    if octave >= TOP_BITS - EXACT.ilog2() {
        return BUCKETS - 1;
    }
    let step = (us >> (octave + 1)) - STEPS;
    (EXACT + u64::from(octave) * STEPS + step) as usize
}

fn upper_edge_us(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    if bucket >= BUCKETS as u64 - 1 {
        return u64::MAX - 1;
    }
    let (octave, step) = ((bucket - EXACT) / STEPS, (bucket - EXACT) % STEPS);
    ((STEPS + step + 1) << (octave + 1)) - 1
}

/// The form of a histogram in JSON.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    min_us: u64,
    max_us: u64,
    sum_us: u64,
    buckets: Vec<(u64, u64)>,
}

impl From<Histogram> for Wire {
    fn from(histogram: Histogram) -> Self {
        let buckets = histogram.buckets_us().map(|(_, upper, n)| (upper, n)).collect();
        let (min_us, max_us) = histogram.range_us().unwrap_or((0, 0));
        Self { min_us, max_us, sum_us: histogram.sum_us, buckets }
    }
}

impl From<Wire> for Histogram {
    fn from(wire: Wire) -> Self {
        let mut histogram = Self::default();
        for (upper, n) in wire.buckets {
            let counts = &mut histogram.counts[bucket(upper)];
            *counts = counts.saturating_add(n);
            histogram.count = histogram.count.saturating_add(n);
        }
        if histogram.count > 0 {
            let min_us = wire.min_us.min(wire.max_us);
            (histogram.sum_us, histogram.min_us, histogram.max_us) = (wire.sum_us, min_us, wire.max_us);
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|us| histogram.record_us(*us));
        histogram
    }

    fn durations() -> impl Strategy<Value = Vec<u64>> {
        let any = prop_oneof![0..100u64, 0..100_000u64, 0..1u64 << TOP_BITS];
        proptest::collection::vec(any, 1..300)
    }

    proptest! {
        #[test]
        fn quantiles_are_never_low_and_at_most_a_thirty_second_high(mut values in durations(), share in 0.0..=1.0f64) {
            let found = of(&values).quantile_us(share).unwrap();
            values.sort_unstable();
            let rank = ((values.len() as f64 * share).ceil() as usize).max(1);
            let truth = values[rank - 1];
            prop_assert!(found >= truth, "{found} < {truth}");
            prop_assert!(found <= truth + truth / 32, "{found} is far above {truth}");
        }

        #[test]
        fn merged_is_what_one_would_have_counted(a in durations(), b in durations()) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }

        #[test]
        fn comes_back_from_json(values in durations()) {
            let histogram = of(&values);
            let text = serde_json::to_string(&histogram).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        }

        #[test]
        fn any_duration_has_a_bucket_that_holds_it(us in any::<u64>()) {
            let index = bucket(us);
            prop_assert!(us <= upper_edge_us(index) || us == u64::MAX);
            prop_assert!(index == 0 || us > upper_edge_us(index - 1));
        }

        #[test]
        fn any_json_is_taken_or_refused(upper in any::<u64>(), n in any::<u64>(), max in any::<u64>()) {
            let text = format!(r#"{{"maxUs": {max}, "buckets": [[{upper}, {n}], [{upper}, {n}]]}}"#);
            let histogram: Histogram = serde_json::from_str(&text).unwrap();
            let _ = histogram.quantiles();
        }
    }

    #[test]
    fn empty_says_nothing_and_cleared_is_empty() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile_us(0.5), histogram.mean_us(), histogram.range_us()), (None, None, None));
        assert_eq!(histogram.quantiles(), Quantiles::default());
        histogram.record(Duration::from_millis(3));
        histogram.record_many_us(7, 0);
        assert_eq!(histogram.quantiles().p99_us, 3_000);
        histogram.clear();
        assert_eq!(histogram, Histogram::default());
    }
}
