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
