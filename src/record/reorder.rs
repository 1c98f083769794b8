//! Packets of one RTP stream in their order. What is missing is waited for longer than a live viewer would, because NACKs go on.
use super::MediaPacket;
use crate::metrics::DropReason;
use crate::rtp::extension::{AudioLevel, Extension};
use crate::rtp::packet::PacketInfo;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a missing packet is waited for, from when the one behind it came.
pub const WAIT: Duration = Duration::from_secs(2);
/// The first packet is held for this long, in case it is not the first.
const START_WAIT: Duration = Duration::from_millis(50);
/// What may wait. Beyond it a missing packet is not waited for.
const MAX_PACKETS: usize = 4_096;
const MAX_BYTES: usize = 8 << 20;

/// A packet that was taken in.
#[derive(Debug)]
pub struct Packet {
    pub info: PacketInfo,
    pub captured_at: Instant,
    pub arrived_at: Instant,
    pub payload: Vec<u8>,
    /// RFC 6464: dB below full scale, where the sender told it.
    pub level: Option<u8>,
}

/// What comes next in the stream.
#[derive(Debug)]
pub enum Next {
    Packet(Packet),
    /// So many packets are not to be had.
    Missing(u64),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reorder {
    /// By number, with when it came. `None`: the number carried nothing.
    waiting: BTreeMap<u64, (Instant, Option<Packet>)>,
    bytes: usize,
    /// The number that is due.
    next: Option<u64>,
    first_arrival: Option<Instant>,
    /// Since when the due number has been missed.
    hole_since: Option<Instant>,
}

impl Reorder {
    /// Takes a packet in, unless it is here already or its place has been passed.
    pub fn push(&mut self, now: Instant, packet: MediaPacket<'_>) -> Result<(), DropReason> {
        let payload = packet.payload();
        let level = packet.info.extensions.values(packet.bytes).find(|(e, _)| *e == Extension::AudioLevel);
        let kept = Packet {
            info: *packet.info,
            captured_at: packet.captured_at,
            arrived_at: now,
            payload: payload.to_vec(),
            level: level.and_then(|(_, value)| AudioLevel::parse(value).ok()).map(|l| l.level),
        };
        self.insert(now, packet.seq.0, Some(kept))
    }

    /// The packet of this number carries nothing: it was padding.
    pub fn push_empty(&mut self, now: Instant, seq: u64) -> Result<(), DropReason> {
        self.insert(now, seq, None)
    }

    fn insert(&mut self, now: Instant, seq: u64, packet: Option<Packet>) -> Result<(), DropReason> {
        if self.next.is_some_and(|next| seq < next) {
            return Err(DropReason::TooOld);
        }
        if self.waiting.contains_key(&seq) {
            return Err(DropReason::Duplicate);
        }
        self.first_arrival.get_or_insert(now);
        self.bytes += packet.as_ref().map_or(0, |p| p.payload.len());
        self.waiting.insert(seq, (now, packet));
        Ok(())
    }

    /// The next packet, or that there is none in its place. `None`: wait.
    pub fn pop(&mut self, now: Instant) -> Option<Next> {
        loop {
            let (&seq, &(arrived, _)) = self.waiting.first_key_value()?;
            let next = match self.next {
                Some(next) => next,
                None if self.first_arrival.is_some_and(|at| now < at + START_WAIT) && !self.is_full() => return None,
                None => seq,
            };
            if seq == next {
                self.hole_since = None;
                self.next = Some(seq + 1);
                let (_, (_, packet)) = self.waiting.pop_first()?;
                let Some(packet) = packet else { continue };
                self.bytes -= packet.payload.len();
                return Some(Next::Packet(packet));
            }
            let since = *self.hole_since.get_or_insert(arrived);
            if now < since + WAIT && !self.is_full() {
                return None;
            }
            self.hole_since = None;
            self.next = Some(seq);
            return Some(Next::Missing(seq - next));
        }
    }

    /// When [`pop`](Self::pop) may have something, if nothing comes before.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.waiting.is_empty(), self.next, self.hole_since) {
            (true, _, _) => None,
            (_, None, _) => self.first_arrival.map(|at| at + START_WAIT),
            (_, _, since) => since.map(|at| at + WAIT),
        }
    }

    /// Since when a missing packet is waited for.
    pub fn hole_since(&self) -> Option<Instant> {
        self.hole_since
    }

    /// Everything that waits, now: whatever is missing will not come.
    pub fn drain(&mut self) -> impl Iterator<Item = Next> + '_ {
        std::iter::from_fn(move || {
            let (seq, packet) = loop {
                match self.waiting.pop_first()? {
                    (seq, (_, Some(packet))) => break (seq, packet),
                    (seq, (_, None)) => self.next = self.next.map(|next| if next == seq { seq + 1 } else { next }),
                }
            };
            let next = self.next.unwrap_or(seq);
            if seq > next {
                self.next = Some(seq);
                self.waiting.insert(seq, (packet.arrived_at, Some(packet)));
                return Some(Next::Missing(seq - next));
            }
            self.next = Some(seq + 1);
            self.bytes -= packet.payload.len();
            Some(Next::Packet(packet))
        })
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_PACKETS || self.bytes >= MAX_BYTES
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rtp::codec::Codec;
    use crate::rtp::{FrameInfo, SeqNo};
    use proptest::prelude::*;

    #[allow(clippy::disallowed_methods)]
    pub fn now() -> Instant {
        Instant::now()
    }

    fn push(reorder: &mut Reorder, now: Instant, seq: u64) -> Result<(), DropReason> {
        let bytes = seq.to_be_bytes();
        let info = PacketInfo {
            timestamp: 0,
            marker: false,
            codec: Codec::Opus,
            header_len: 0,
            payload_len: 8,
            frame: FrameInfo::default(),
            extensions: Default::default(),
        };
        reorder.push(now, MediaPacket { seq: SeqNo(seq), info: &info, captured_at: now, bytes: &bytes })
    }

    /// Numbers, and what is missing as a negative count.
    fn popped(reorder: &mut Reorder, now: Instant) -> Vec<i64> {
        std::iter::from_fn(|| reorder.pop(now)).map(number).collect()
    }

    fn number(next: Next) -> i64 {
        match next {
            Next::Packet(p) => u64::from_be_bytes(p.payload.try_into().unwrap()) as i64,
            Next::Missing(n) => -(n as i64),
        }
    }

    #[test]
    fn a_missing_packet_is_waited_for_and_then_told() {
        let t0 = now();
        let ms = |n| t0 + Duration::from_millis(n);
        let mut r = Reorder::default();
        for seq in [11, 10, 12, 15] {
            push(&mut r, ms(0), seq).unwrap();
        }
        assert_eq!(popped(&mut r, ms(0)), [0i64; 0], "there may be an earlier one");
        assert_eq!(r.deadline(), Some(ms(50)));
        assert_eq!(popped(&mut r, ms(50)), [10, 11, 12]);
        assert_eq!(push(&mut r, ms(60), 11), Err(DropReason::TooOld));
        assert_eq!(push(&mut r, ms(60), 15), Err(DropReason::Duplicate));
        push(&mut r, ms(500), 13).unwrap();
        assert_eq!(popped(&mut r, ms(500)), [13]);
        assert_eq!(popped(&mut r, ms(600)), [0i64; 0]);
        assert_eq!(r.deadline(), Some(ms(2_000)), "it is missed since 15 came");
        assert_eq!(popped(&mut r, ms(1_999)), [0i64; 0]);
        assert_eq!(popped(&mut r, ms(2_000)), [-1, 15]);
        assert_eq!(r.deadline(), None);
    }

    #[test]
    fn padding_leaves_no_hole() {
        let t0 = now();
        let mut r = Reorder::default();
        push(&mut r, t0, 1).unwrap();
        r.push_empty(t0, 2).unwrap();
        push(&mut r, t0, 3).unwrap();
        r.push_empty(t0, 4).unwrap();
        assert_eq!(popped(&mut r, t0 + START_WAIT), [1, 3]);
        push(&mut r, t0, 7).unwrap();
        assert_eq!(r.drain().map(number).collect::<Vec<_>>(), [-2, 7]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let t0 = now();
        let mut r = Reorder::default();
        push(&mut r, t0, 0).unwrap();
        assert_eq!(popped(&mut r, t0 + START_WAIT), [0]);
        for seq in 2..2 + MAX_PACKETS as u64 {
            push(&mut r, t0 + START_WAIT, seq).unwrap();
            let all = popped(&mut r, t0 + START_WAIT);
            assert!(r.waiting.len() < MAX_PACKETS);
            assert_eq!(all.is_empty(), seq < 1 + MAX_PACKETS as u64);
        }
    }

    proptest! {
        #[test]
        fn every_number_comes_once_and_in_order(
            order in prop::collection::vec((0u64..60, any::<bool>(), 0u64..300), 1..120)
        ) {
            let mut at = now();
            let mut r = Reorder::default();
            let mut got = Vec::new();
            for (seq, empty, wait) in order {
                at += Duration::from_millis(wait);
                let _ = if empty { r.push_empty(at, seq) } else { push(&mut r, at, seq) };
                got.extend(std::iter::from_fn(|| r.pop(at)));
            }
            got.extend(r.drain());
            let mut last = -1;
            for n in got.into_iter().map(number) {
                if n >= 0 {
                    prop_assert!(n > last);
                    last = n;
                }
            }
            prop_assert_eq!((r.bytes, r.waiting.len()), (0, 0));
        }
    }
}
