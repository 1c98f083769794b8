//! Layers within one encoding: spatial and temporal.

/// A spatial and a temporal layer of one RTP stream, each counted from 0. As a limit it stands for all layers up to both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LayerId {
    /// 0 to 3.
    pub spatial: u8,
    /// 0 to 7.
    pub temporal: u8,
}

impl LayerId {
    /// As a limit: everything.
    pub const TOP: Self = Self { spatial: 3, temporal: 7 };

    /// Whether `layer` is at or below this limit in both.
    pub fn includes(self, layer: LayerId) -> bool {
        layer.spatial <= self.spatial && layer.temporal <= self.temporal
    }
}

/// A set of limits: four spatial by four temporal ones, a bit each. Temporal layers above the third above the base are not told
/// apart: no encoder of this trade makes more than four.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LayerSet(u16);

const SPATIAL: u8 = 4;
const TEMPORAL: u8 = 4;
const ROW: u16 = 0x000f;
/// One bit in each row.
const ROWS: u16 = 0x1111;

impl LayerSet {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u16::MAX);

    /// The limits that take in `layer`.
    pub fn taking_in(layer: LayerId) -> Self {
        let (spatial, temporal) = place(layer);
        Self((ROW << temporal & ROW) * (ROWS << (4 * spatial)))
    }

    /// All limits, in their order. The temporal id of each row's last one is 7, for it takes in all.
    pub fn limits() -> impl Iterator<Item = LayerId> {
        let temporal = |bit| if bit % TEMPORAL == TEMPORAL - 1 { 7 } else { bit % TEMPORAL };
        (0..SPATIAL * TEMPORAL).map(move |bit| LayerId { spatial: bit / TEMPORAL, temporal: temporal(bit) })
    }

    /// Those for which `test` holds; it is asked in their order.
    pub fn of(mut test: impl FnMut(LayerId) -> bool) -> Self {
        let bits = Self::limits().enumerate().map(|(bit, limit)| u16::from(test(limit)) << bit);
        Self(bits.fold(0, |set, bit| set | bit))
    }

    pub fn contains(self, limit: LayerId) -> bool {
        let (spatial, temporal) = place(limit);
        self.0 >> (4 * spatial + temporal) & 1 != 0
    }
    /// Whether there is a limit of this spatial layer in it.
    pub fn has_spatial(self, spatial: u8) -> bool {
        self.0 >> (4 * spatial.min(SPATIAL - 1)) & ROW != 0
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub fn complement(self) -> Self {
        Self(!self.0)
    }

    /// Of every spatial layer that has the temporal limit `from`: those up to `to` as well.
    pub fn raised(self, from: u8, to: u8) -> Self {
        let (from, to) = (from.min(TEMPORAL - 1), to.min(TEMPORAL - 1));
        if to < from {
            return self;
        }
        let (present, columns) = (self.0 >> from & ROWS, ROW >> (TEMPORAL - 1 - (to - from)) << from & ROW);
        Self(self.0 | (present * columns))
    }

    /// Spatial layer `to` gets the temporal limits of layer `from`, in addition to its own or (`instead`) in their place.
    pub fn copied(self, from: u8, to: u8, instead: bool) -> Self {
        let (from, to) = (from.min(SPATIAL - 1), to.min(SPATIAL - 1));
        let row = (self.0 >> (4 * from) & ROW) << (4 * to);
        let kept = if instead { self.0 & !(ROW << (4 * to)) } else { self.0 };
        Self(kept | row)
    }

    /// Without the limits of spatial layers above `spatial`.
    pub fn up_to_spatial(self, spatial: u8) -> Self {
        let bits = 4 * (u32::from(spatial.min(SPATIAL - 1)) + 1);
        Self(self.0 & (u32::MAX >> (32 - bits)) as u16)
    }

    /// The best limit at or below `limit`: a higher spatial layer before a higher temporal one.
    pub fn best_within(self, limit: LayerId) -> Option<LayerId> {
        let (spatial, temporal) = place(limit);
        let columns = (ROW >> (TEMPORAL - 1 - temporal)) * ROWS;
        let bits = self.up_to_spatial(spatial).0 & columns;
        let top = 15u8.checked_sub(bits.leading_zeros() as u8)?;
        let (spatial, temporal) = (top / TEMPORAL, top % TEMPORAL);
        // The last one takes in all that the limit does.
        Some(LayerId { spatial, temporal: if temporal == TEMPORAL - 1 { limit.temporal } else { temporal } })
    }
}

fn place(layer: LayerId) -> (u8, u8) {
    (layer.spatial.min(SPATIAL - 1), layer.temporal.min(TEMPORAL - 1))
}

impl std::fmt::Debug for LayerSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LayerSet({:04x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(spatial: u8, temporal: u8) -> LayerId {
        LayerId { spatial, temporal }
    }

    #[test]
    fn limits_take_in_what_is_at_or_below_them() {
        for layer in (0..4).flat_map(|s| (0..8).map(move |t| id(s, t))) {
            let set = LayerSet::taking_in(layer);
            for limit in (0..4).flat_map(|s| (0..8).map(move |t| id(s, t))) {
                let classed = |l: LayerId| id(l.spatial, l.temporal.min(3));
                assert_eq!(set.contains(limit), classed(limit).includes(classed(layer)), "{layer:?} {limit:?}");
            }
            assert_eq!(LayerSet::of(|limit| limit.includes(id(layer.spatial, layer.temporal.min(3)))), set);
        }
    }

    #[test]
    fn rows_are_raised_and_copied() {
        let base = LayerSet::of(|l| l.temporal == 0 && l.spatial < 2);
        let raised = base.raised(0, 1);
        assert_eq!(raised, LayerSet::of(|l| l.temporal <= 1 && l.spatial < 2));
        assert_eq!(base.raised(1, 3), base, "no limit has temporal layer 1");
        assert_eq!(raised.raised(0, 7), LayerSet::of(|l| l.spatial < 2));
        let copied = raised.copied(1, 3, false);
        assert!(copied.has_spatial(3) && !copied.has_spatial(2));
        assert_eq!(copied.copied(2, 3, true), raised);
        assert_eq!(LayerSet::ALL.up_to_spatial(1), LayerSet::of(|l| l.spatial < 2));
        assert_eq!(LayerSet::ALL.up_to_spatial(3), LayerSet::ALL);
    }

    proptest! {
        #[test]
        fn the_best_limit_is_the_best(bits: u16, spatial in 0u8..4, temporal in 0u8..8) {
            let (set, limit) = (LayerSet(bits), id(spatial, temporal));
            let all = (0..=spatial).flat_map(|s| (0..=temporal).map(move |t| id(s, t)));
            let best = all.filter(|l| set.contains(*l)).max();
            prop_assert_eq!(set.best_within(limit), best);
        }
    }
}
