//! Which packets were here already: rollover estimation and replay windows (RFC 3711 section 3.3).
use crate::metrics::DropReason;
use crate::rtp::SeqNo;

/// How far behind the newest packet one may come. A retransmission after a second of 1,000 packets is still taken.
const RTP_WINDOW: u64 = 1024;
const WORDS: usize = (RTP_WINDOW / 64) as usize;

/// What SRTP has to remember of one received SSRC. The caller owns one for each; it starts as `default()`.
#[derive(Clone, Debug, Default)]
pub struct SsrcState {
    highest: Option<u64>,
    /// One bit for each of the last 1,024 sequence numbers, at the number modulo 1,024.
    seen: [u64; WORDS],
}

impl SsrcState {
    /// The extended number that `sequence` most likely stands for (RFC 3711 section 3.3.1), if it is new.
    pub(super) fn estimate(&self, sequence: u16) -> Result<SeqNo, DropReason> {
        let Some(highest) = self.highest else { return Ok(SeqNo(sequence.into())) };
        let ahead = sequence.wrapping_sub(highest as u16);
        let index = match ahead < 0x8000 {
            true => highest.checked_add(ahead.into()),
            false => highest.checked_sub(u64::from(ahead.wrapping_neg())),
        };
        // SRTP's index is 48 bits (RFC 3711 section 3.3.1); before the first packet's rollover there is nothing.
        let index = index.filter(|i| *i < 1 << 48).ok_or(DropReason::SrtpReplayed)?;
        let old = index <= highest && (highest - index >= RTP_WINDOW || self.contains(index));
        if old { Err(DropReason::SrtpReplayed) } else { Ok(SeqNo(index)) }
    }

    /// Remembers a genuine packet.
    pub(super) fn accept(&mut self, SeqNo(index): SeqNo) {
        match self.highest {
            Some(highest) if index <= highest => {}
            Some(highest) if index - highest < RTP_WINDOW => {
                (highest + 1..index).for_each(|skipped| self.set(skipped, false));
                self.highest = Some(index);
            }
            _ => {
                self.seen = [0; WORDS];
                self.highest = Some(index);
            }
        }
        self.set(index, true);
    }

    fn contains(&self, index: u64) -> bool {
        self.seen[(index / 64) as usize % WORDS] >> (index % 64) & 1 == 1
    }

    fn set(&mut self, index: u64, seen: bool) {
        let word = &mut self.seen[(index / 64) as usize % WORDS];
        let bit = 1 << (index % 64);
        *word = if seen { *word | bit } else { *word & !bit };
    }
}

/// A replay window of 64 SRTCP indices.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexWindow {
    ssrc: u32,
    highest: u32,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

impl IndexWindow {
    fn check(&self, index: u32) -> Result<(), DropReason> {
        let fresh = match self.highest.checked_sub(index) {
            None => true,
            Some(age) => age < 64 && self.seen >> age & 1 == 0,
        };
        if fresh { Ok(()) } else { Err(DropReason::SrtpReplayed) }
    }

    fn accept(&mut self, index: u32) {
        match index.checked_sub(self.highest) {
            Some(ahead) if ahead > 0 => {
                self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
                self.highest = index;
            }
            _ => self.seen |= 1_u64.checked_shl(self.highest - index).unwrap_or(0),
        }
    }
}

/// The windows of the SSRCs that sent RTCP last. At most [`RtcpWindows::MAX`]: beyond that, the one that was silent
/// longest is forgotten (only the holder of the keys can bring that about).
#[derive(Debug, Default)]
pub(super) struct RtcpWindows {
    /// The most recently used comes last.
    windows: Vec<IndexWindow>,
}

impl RtcpWindows {
    const MAX: usize = 128;

    pub(super) fn check(&self, ssrc: u32, index: u32) -> Result<(), DropReason> {
        self.windows.iter().find(|w| w.ssrc == ssrc).map_or(Ok(()), |w| w.check(index))
    }

    pub(super) fn accept(&mut self, ssrc: u32, index: u32) {
        match self.windows.iter().position(|w| w.ssrc == ssrc) {
            Some(at) => {
                self.windows[at].accept(index);
                self.windows[at..].rotate_left(1);
            }
            None => {
                if self.windows.len() == Self::MAX {
                    self.windows.remove(0);
                }
                self.windows.push(IndexWindow { ssrc, highest: index, seen: 1 });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn take(state: &mut SsrcState, sequence: u16) -> Result<u64, DropReason> {
        let seq = state.estimate(sequence)?;
        state.accept(seq);
        Ok(seq.0)
    }

    #[test]
    fn the_rollover_is_followed_through_reordering() {
        let mut s = SsrcState::default();
        for (sequence, expected) in [
            (65530, Ok(65530)),
            (2, Ok(65538)),
            (65535, Ok(65535)),
            (65535, Err(DropReason::SrtpReplayed)),
            (1, Ok(65537)),
            (2, Err(DropReason::SrtpReplayed)),
            (1100, Ok(65536 + 1100)),
            (65533, Err(DropReason::SrtpReplayed)),
            (77, Ok(65536 + 77)),
        ] {
            assert_eq!(take(&mut s, sequence), expected, "{sequence}");
        }
    }

    #[test]
    fn nothing_comes_before_the_first_rollover() {
        let mut s = SsrcState::default();
        assert_eq!(take(&mut s, 3), Ok(3));
        assert_eq!(take(&mut s, 65535), Err(DropReason::SrtpReplayed));
    }

    proptest! {
        #[test]
        fn no_number_is_taken_twice(start in 0_u64..200_000, steps in prop::collection::vec(-600_i64..900, 1..400)) {
            let (mut s, mut at, mut taken) = (SsrcState::default(), start as i64 + 1000, HashSet::new());
            s.accept(SeqNo(at as u64));
            taken.insert(at as u64);
            let mut highest = at;
            for step in steps {
                at = (highest + step).max(0);
                let fresh = !taken.contains(&(at as u64)) && highest - at < RTP_WINDOW as i64;
                let got = take(&mut s, at as u16);
                prop_assert_eq!(got, if fresh { Ok(at as u64) } else { Err(DropReason::SrtpReplayed) });
                taken.insert(at as u64);
                highest = highest.max(at);
            }
        }

        #[test]
        fn no_rtcp_index_is_taken_twice(indices in prop::collection::vec(0_u32..300, 1..200)) {
            let (mut w, mut taken) = (RtcpWindows::default(), HashSet::new());
            let mut highest = 0;
            for index in indices {
                let fresh = !taken.contains(&index) && (index > highest || highest - index < 64);
                prop_assert_eq!(w.check(7, index).is_ok(), fresh);
                if fresh {
                    w.accept(7, index);
                    taken.insert(index);
                    highest = highest.max(index);
                }
            }
        }
    }

    #[test]
    fn the_number_of_rtcp_windows_is_bounded() {
        let mut w = RtcpWindows::default();
        (0..1000).for_each(|ssrc| w.accept(ssrc, 1));
        assert_eq!(w.windows.len(), RtcpWindows::MAX);
        assert_eq!(w.check(999, 1), Err(DropReason::SrtpReplayed));
    }
}
