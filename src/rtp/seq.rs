//! Numbers of RTP that must not mix, and their extension beyond the width that the wire gives them.

/// A synchronization source (RFC 3550 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ssrc(pub u32);

/// An RTP sequence number extended to 64 bits, so that it never wraps: `SeqNo / 65536` is SRTP's rollover counter
/// (RFC 3711 section 3.3.1). Only `rtp/` sees the `u16`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// The 16 bits that stand in the header.
    pub fn low(self) -> u16 {
        self.0 as u16
    }
    /// SRTP's rollover counter (RFC 3711 section 3.3.1).
    pub fn roc(self) -> u32 {
        (self.0 >> 16) as u32
    }
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
    pub fn plus(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
    /// `None` below zero.
    pub fn minus(self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }
    /// How many numbers lie from `earlier` to here; `None` when `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

/// Extends the sequence numbers of one stream: each to the [`SeqNo`] nearest to the highest one that was accepted
/// (RFC 3711 appendix A). The first is itself, so that SRTP's rollover counter starts at zero.
///
/// [`extend`](Self::extend) does not change the state, because a packet may only count once it is authenticated.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeqExtender {
    highest: Option<SeqNo>,
}

impl SeqExtender {
    pub fn new() -> Self {
        Self::default()
    }
    /// The extended number; `None` for one that would lie below zero: from before the first wrap, thus before the first packet.
    pub fn extend(&self, low: u16) -> Option<SeqNo> {
        let Some(highest) = self.highest else { return Some(SeqNo(u64::from(low))) };
        let step = i64::from(low.wrapping_sub(highest.low()) as i16);
        // Exactly half the circle away is ambiguous: RFC 3711 keeps the rollover counter.
        let step = if step == i64::from(i16::MIN) && highest.low() < 0x8000 { -step } else { step };
        highest.0.checked_add_signed(step).map(SeqNo)
    }
    /// Takes an authenticated number into account.
    pub fn accept(&mut self, seq: SeqNo) {
        if self.highest.is_none_or(|h| seq > h) {
            self.highest = Some(seq);
        }
    }
    /// [`extend`](Self::extend) and [`accept`](Self::accept) in one.
    pub fn advance(&mut self, low: u16) -> Option<SeqNo> {
        let seq = self.extend(low)?;
        self.accept(seq);
        Some(seq)
    }
    /// The highest number accepted.
    pub fn highest(&self) -> Option<SeqNo> {
        self.highest
    }
}

/// Ticks from `earlier` to `later` on the wrapping RTP clock: negative when `later` is in fact the earlier.
pub fn timestamp_distance(later: u32, earlier: u32) -> i32 {
    later.wrapping_sub(earlier) as i32
}

/// Extends 32-bit RTP timestamps to one that does not wrap, nearest to the last one given.
/// The first is shifted up by 2^32, so that no earlier one falls below zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimestampExtender {
    last: Option<u64>,
}

impl TimestampExtender {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn extend(&mut self, timestamp: u32) -> u64 {
        let extended = match self.last {
            None => (1 << 32) + u64::from(timestamp),
            Some(last) => last.saturating_add_signed(i64::from(timestamp_distance(timestamp, last as u32))),
        };
        self.last = Some(extended);
        extended
    }
}

/// A 7-bit payload type (RFC 3550 section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PayloadType(u8);

/// A payload type above 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payload type is 0 to 127")]
pub struct InvalidPayloadType;

impl TryFrom<u8> for PayloadType {
    type Error = InvalidPayloadType;
    fn try_from(n: u8) -> Result<Self, InvalidPayloadType> {
        if n < 128 { Ok(Self(n)) } else { Err(InvalidPayloadType) }
    }
}

impl PayloadType {
    /// The low seven bits of a byte, as they stand in an RTP or RED header.
    pub(super) fn from_low_bits(byte: u8) -> Self {
        Self(byte & 0x7f)
    }
    pub fn value(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequence_numbers_extend_to_the_nearest() {
        // (highest accepted, on the wire, extended)
        let table = [
            (None, 0, Some(0)),
            (None, 65535, Some(65535)),
            (Some(65535), 0, Some(65536)),
            (Some(65536), 65535, Some(65535)),
            (Some(2), 65535, None),
            (Some(2), 3, Some(3)),
            (Some(2), 2, Some(2)),
            (Some(100_000), 34_463, Some(99_999)),
            (Some(65_534), 10, Some(65_546)),
            (Some(3 << 16), 65_535, Some((3 << 16) - 1)),
            // Half the circle: the rollover counter stays.
            (Some(10), 10 + 32768, Some(10 + 32768)),
            (Some(40_000), 40_000 - 32_768, Some(40_000 - 32_768)),
            (Some(65_546), 10 + 32768, Some(65_546 + 32_768)),
        ];
        for (highest, low, want) in table {
            let extender = SeqExtender { highest: highest.map(SeqNo) };
            assert_eq!(extender.extend(low), want.map(SeqNo), "{highest:?} {low}");
        }
    }

    #[test]
    fn old_numbers_do_not_move_the_extender_back() {
        let mut e = SeqExtender::new();
        assert_eq!(e.advance(65_530), Some(SeqNo(65_530)));
        assert_eq!(e.advance(5), Some(SeqNo(65_541)));
        assert_eq!(e.advance(65_531), Some(SeqNo(65_531)));
        assert_eq!(e.highest(), Some(SeqNo(65_541)));
        assert_eq!((SeqNo(65_541).roc(), SeqNo(65_541).low()), (1, 5));
    }

    #[test]
    fn timestamps_wrap() {
        assert_eq!(timestamp_distance(5, u32::MAX), 6);
        assert_eq!(timestamp_distance(u32::MAX, 5), -6);
        let mut e = TimestampExtender::new();
        let a = e.extend(u32::MAX - 1);
        assert_eq!(e.extend(10), a + 12);
        assert_eq!(e.extend(u32::MAX - 1), a);
    }

    proptest! {
        #[test]
        fn a_stream_with_reordering_extends_to_what_was_sent(start: u16, steps in prop::collection::vec(-2000i64..2000, 1..300)) {
            let mut e = SeqExtender::new();
            let mut at = i64::from(start);
            e.advance(start);
            for step in steps {
                at = (at + step).max(i64::from(e.highest().unwrap().0 as u32) - 30_000);
                let got = e.advance(at as u16);
                prop_assert_eq!(got, u64::try_from(at).ok().map(SeqNo));
            }
        }
    }
}
