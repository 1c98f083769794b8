//! One subscription's state: which packet of a publisher becomes which packet of a slot.
//!
//! A slot is one RTP stream without end (RFC 3550): whatever source it shows, the sequence numbers have no holes that the
//! server made, timestamps go forward with the wall clock, and picture ids count on, so a decoder never notices a change.
mod run;

use crate::metrics::DropReason;
use crate::rtp::codec::{Codec, Kind};
use crate::rtp::packet::PacketInfo;
use crate::rtp::{SeqNo, clock};
use run::{Run, Runs};
use std::time::Instant;

pub use run::Offsets;

/// One received RTP stream of the engine: an index and a generation, so that a key is never mistaken for its successor's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamKey {
    pub index: u32,
    pub generation: u32,
}

/// Where a packet goes in the slot's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub seq: SeqNo,
    pub timestamp: u32,
    pub offsets: Offsets,
    /// This packet is the first of a new source: what the source's history holds after it is to follow.
    pub starts: bool,
}

/// Follows one source at a time for one slot.
#[derive(Debug)]
pub struct Forwarder {
    kind: Kind,
    target: Option<StreamKey>,
    runs: Runs,
    newest: Option<Newest>,
    next_seq: SeqNo,
}

/// The packet that is furthest in the slot's stream.
#[derive(Clone, Copy, Debug)]
struct Newest {
    timestamp: u32,
    captured_at: Instant,
    picture_id: Option<u16>,
    tl0_pic_idx: Option<u8>,
    frame_number: Option<u16>,
}

/// The least step between two sources: 1/60 s of video, 20 ms of audio, in clock ticks.
const MIN_STEP_VIDEO: u32 = 1_500;
const MIN_STEP_AUDIO: u32 = 960;
/// Never jump further ahead than this beyond what the clock says, in seconds: a decoder takes more for a broken stream.
const MAX_AHEAD_SECONDS: u32 = 2;

impl Forwarder {
    /// `first` is the first sequence number to be used; random, below 2^15, so that an early wrap cannot confuse SRTP (RFC 3711
    /// section 3.3.1).
    pub fn new(kind: Kind, first: u16) -> Self {
        Self { kind, target: None, runs: Runs::default(), newest: None, next_seq: SeqNo(u64::from(first & 0x7fff)) }
    }

    /// What is to be forwarded. With `seamless` the present source goes on until a keyframe of the target is there (another
    /// encoding of the same track); without, it ends at once (another track).
    pub fn set_target(&mut self, target: Option<StreamKey>, seamless: bool) {
        self.target = target;
        if !seamless && self.runs.open_stream() != target {
            self.runs.close();
        }
    }

    /// Nothing is forwarded for a while (muted, or the subscriber is gone). What comes after starts like a new source, so that the
    /// packets in between leave no hole in the numbers.
    pub fn pause(&mut self) {
        self.runs.close();
    }

    pub fn target(&self) -> Option<StreamKey> {
        self.target
    }

    /// The source that is forwarded now.
    pub fn current(&self) -> Option<StreamKey> {
        self.runs.open_stream()
    }

    /// True while nothing can go out until a keyframe of the target comes.
    pub fn awaits_keyframe(&self) -> bool {
        self.kind == Kind::Video && self.target.is_some() && self.current() != self.target
    }

    /// Maps packet `seq` of `stream`, captured at `captured_at` on our clock.
    pub fn map(
        &mut self,
        stream: StreamKey,
        seq: SeqNo,
        packet: &PacketInfo,
        captured_at: Instant,
    ) -> Result<Mapped, DropReason> {
        if self.current() == Some(stream) {
            return self.map_within(stream, seq, packet, captured_at);
        }
        if self.target != Some(stream) {
            return Err(DropReason::LayerNotSelected);
        }
        if self.runs.is_behind(stream, seq) {
            // It came late, after a pause or from before another encoding: it has the number of its own run, or none.
            let run = self.runs.by_input(stream, seq).ok_or(DropReason::OldSource)?;
            return Ok(run.map(seq, packet.timestamp));
        }
        let decodable = self.kind == Kind::Audio || (packet.frame.keyframe && packet.frame.frame_start);
        if !decodable {
            return Err(DropReason::AwaitingKeyframe);
        }
        Ok(self.start(stream, seq, packet, captured_at))
    }

    /// Which packet became `seq` of the slot's stream, and how.
    pub fn origin(&self, seq: SeqNo) -> Option<(StreamKey, SeqNo, Offsets)> {
        let run = self.runs.by_output(seq)?;
        Some((run.stream, run.input(seq), run.offsets))
    }

    /// The highest sequence number used so far.
    pub fn highest(&self) -> Option<SeqNo> {
        self.newest.map(|_| SeqNo(self.next_seq.0 - 1))
    }

    /// The RTP timestamp that belongs to `now`, for a sender report (RFC 3550 section 6.4.1). `None` before the first packet.
    pub fn timestamp_at(&self, now: Instant) -> Option<u32> {
        let n = self.newest?;
        let rate = self.rate();
        Some(if now >= n.captured_at {
            n.timestamp.wrapping_add(clock::ticks(now - n.captured_at, rate))
        } else {
            n.timestamp.wrapping_sub(clock::ticks(n.captured_at - now, rate))
        })
    }

    fn rate(&self) -> u32 {
        self.kind.clock_rate()
    }

    fn map_within(
        &mut self,
        stream: StreamKey,
        seq: SeqNo,
        packet: &PacketInfo,
        captured_at: Instant,
    ) -> Result<Mapped, DropReason> {
        let (run, advances) = match self.runs.open_mut() {
            Some(run) if seq >= run.in_first => {
                let advances = seq > run.in_last;
                run.in_last = run.in_last.max(seq);
                (*run, advances)
            }
            // Before the switch: it may belong to an earlier run of the same source.
            _ => (*self.runs.by_input(stream, seq).ok_or(DropReason::OldSource)?, false),
        };
        let mapped = run.map(seq, packet.timestamp);
        if advances {
            self.next_seq = SeqNo(mapped.seq.0 + 1);
            self.note_newest(&mapped, packet, captured_at);
        }
        Ok(mapped)
    }

    fn start(&mut self, stream: StreamKey, seq: SeqNo, packet: &PacketInfo, captured_at: Instant) -> Mapped {
        let offsets = match self.newest {
            None => Offsets::default(),
            Some(last) => Offsets {
                timestamp: self.next_timestamp(&last, captured_at).wrapping_sub(packet.timestamp),
                picture_id: after(last.picture_id, packet.frame.picture_id.map(|p| p.value)),
                tl0_pic_idx: match (last.tl0_pic_idx, packet.frame.tl0_pic_idx) {
                    (Some(last), Some(first)) => last.wrapping_add(1).wrapping_sub(first),
                    _ => 0,
                },
                frame_number: after(last.frame_number, packet.frame.frame_number),
            },
        };
        let run = Run { stream, in_first: seq, in_last: seq, out_first: self.next_seq, offsets };
        self.runs.open(run);
        let mapped = Mapped { starts: true, ..run.map(seq, packet.timestamp) };
        self.next_seq = SeqNo(mapped.seq.0 + 1);
        self.newest = None;
        self.note_newest(&mapped, packet, captured_at);
        mapped
    }

    /// The new source's first timestamp: as far after the last packet as it was captured after it.
    fn next_timestamp(&self, last: &Newest, captured_at: Instant) -> u32 {
        let least = match self.kind {
            Kind::Audio => MIN_STEP_AUDIO,
            Kind::Video => MIN_STEP_VIDEO,
        };
        let elapsed = captured_at.saturating_duration_since(last.captured_at);
        let step = clock::ticks(elapsed, self.rate());
        // A source that was silent for hours: the 32-bit clock wraps, as it would have in one stream.
        let step = if elapsed.as_secs() < u64::from(MAX_AHEAD_SECONDS) { step.max(least) } else { step };
        last.timestamp.wrapping_add(step)
    }

    fn note_newest(&mut self, mapped: &Mapped, packet: &PacketInfo, captured_at: Instant) {
        let frame = &packet.frame;
        let o = &mapped.offsets;
        let previous = self.newest;
        self.newest = Some(Newest {
            timestamp: mapped.timestamp,
            captured_at,
            picture_id: frame
                .picture_id
                .map(|p| p.value.wrapping_add(o.picture_id))
                .or(previous.and_then(|n| n.picture_id)),
            tl0_pic_idx: frame
                .tl0_pic_idx
                .map(|t| t.wrapping_add(o.tl0_pic_idx))
                .or(previous.and_then(|n| n.tl0_pic_idx)),
            frame_number: frame
                .frame_number
                .map(|f| f.wrapping_add(o.frame_number))
                .or(previous.and_then(|n| n.frame_number)),
        });
    }
}

/// What is to be added to `first` so that it comes right after `last`.
fn after(last: Option<u16>, first: Option<u16>) -> u16 {
    match (last, first) {
        (Some(last), Some(first)) => last.wrapping_add(1).wrapping_sub(first),
        _ => 0,
    }
}

/// True if packets of `codec` carry something that a change of source changes in the payload itself.
pub fn rewrites_payload(codec: Codec, offsets: &Offsets) -> bool {
    match codec {
        Codec::Vp8 => offsets.picture_id != 0 || offsets.tl0_pic_idx != 0,
        Codec::Vp9 { .. } => offsets.picture_id != 0 || offsets.tl0_pic_idx != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::codec::{FrameInfo, PictureId};
    use crate::rtp::packet::ExtensionSpans;
    use proptest::prelude::*;
    use std::time::Duration;

    const A: StreamKey = StreamKey { index: 1, generation: 1 };
    const B: StreamKey = StreamKey { index: 2, generation: 2 };

    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    fn packet(codec: Codec, timestamp: u32, keyframe: bool, picture_id: u16) -> PacketInfo {
        let frame = FrameInfo {
            keyframe,
            frame_start: true,
            picture_id: Some(PictureId { value: picture_id & 0x7fff, wide: true }),
            tl0_pic_idx: Some(picture_id as u8),
            ..FrameInfo::default()
        };
        let extensions = ExtensionSpans::default();
        PacketInfo { timestamp, marker: true, codec, header_len: 12, payload_len: 100, frame, extensions }
    }

    #[test]
    fn video_begins_with_a_keyframe() {
        let t = start();
        let mut f = Forwarder::new(Kind::Video, 100);
        f.set_target(Some(A), false);
        assert!(f.awaits_keyframe());
        assert_eq!(f.map(A, SeqNo(7), &packet(Codec::Vp8, 0, false, 1), t), Err(DropReason::AwaitingKeyframe));
        let first = f.map(A, SeqNo(8), &packet(Codec::Vp8, 3_000, true, 2), t).unwrap();
        assert_eq!((first.seq, first.timestamp, first.starts), (SeqNo(100), 3_000, true));
        assert!(!f.awaits_keyframe());
        let late = f.map(A, SeqNo(7), &packet(Codec::Vp8, 0, false, 1), t);
        assert_eq!(late, Err(DropReason::OldSource), "before the start");
        assert_eq!(f.map(B, SeqNo(8), &packet(Codec::Vp8, 0, true, 2), t), Err(DropReason::LayerNotSelected));
    }

    #[test]
    fn a_gap_keeps_its_numbers_until_it_is_filled() {
        let t = start();
        let mut f = Forwarder::new(Kind::Audio, 0);
        f.set_target(Some(A), false);
        let seqs = [(10, 0), (11, 1), (14, 4), (12, 2), (13, 3), (15, 5)];
        for (input, output) in seqs {
            let mapped = f.map(A, SeqNo(input), &packet(Codec::Opus, input as u32 * 960, false, 0), t).unwrap();
            assert_eq!(mapped.seq, SeqNo(output));
            assert_eq!(f.origin(SeqNo(output)).map(|(s, i, _)| (s, i)), Some((A, SeqNo(input))));
        }
        assert_eq!(f.origin(SeqNo(6)), None, "not sent yet");
    }

    #[test]
    fn a_switch_is_invisible_in_every_number() {
        let t = start();
        let mut f = Forwarder::new(Kind::Video, 0);
        f.set_target(Some(A), false);
        f.map(A, SeqNo(500), &packet(Codec::Vp8, 90_000, true, 40), t).unwrap();
        let a = f.map(A, SeqNo(501), &packet(Codec::Vp8, 93_000, false, 41), t + Duration::from_millis(33)).unwrap();
        f.set_target(Some(B), true);
        // The old source goes on until the new one's keyframe is there.
        assert!(f.map(A, SeqNo(502), &packet(Codec::Vp8, 96_000, false, 42), t + Duration::from_millis(66)).is_ok());
        let before = f.map(B, SeqNo(9), &packet(Codec::Vp8, 5, false, 7), t + Duration::from_millis(66));
        assert_eq!(before, Err(DropReason::AwaitingKeyframe));
        let key = packet(Codec::Vp8, 3_005, true, 8);
        let b = f.map(B, SeqNo(10), &key, t + Duration::from_millis(100)).unwrap();
        assert_eq!(b.seq, SeqNo(a.seq.0 + 2));
        assert_eq!(b.timestamp, 96_000 + 34 * 90, "34 ms after the last");
        assert_eq!(8u16.wrapping_add(b.offsets.picture_id) & 0x7fff, 43);
        assert_eq!(8u8.wrapping_add(b.offsets.tl0_pic_idx), 43);
        // What the subscriber asks for again is found on either side.
        assert_eq!(f.origin(SeqNo(1)).map(|(s, i, _)| (s, i)), Some((A, SeqNo(501))));
        assert_eq!(f.origin(SeqNo(3)).map(|(s, i, _)| (s, i)), Some((B, SeqNo(10))));
    }

    #[test]
    fn a_pause_leaves_no_hole() {
        let t = start();
        let mut f = Forwarder::new(Kind::Audio, 0);
        f.set_target(Some(A), false);
        f.map(A, SeqNo(10), &packet(Codec::Opus, 9_600, false, 0), t).unwrap();
        f.pause();
        let later = t + Duration::from_secs(10);
        let after = f.map(A, SeqNo(510), &packet(Codec::Opus, 489_600, false, 0), later).unwrap();
        assert_eq!((after.seq, after.timestamp), (SeqNo(1), 489_600));
        assert_eq!(f.origin(SeqNo(0)).map(|(_, i, _)| i), Some(SeqNo(10)));
    }

    #[test]
    fn what_is_late_begins_nothing() {
        let t = start();
        let mut f = Forwarder::new(Kind::Audio, 0);
        f.set_target(Some(A), false);
        let map = |f: &mut Forwarder, seq: u64| {
            f.map(A, SeqNo(seq), &packet(Codec::Opus, 960 * seq as u32, false, 0), t + Duration::from_millis(20 * seq))
        };
        map(&mut f, 10).unwrap();
        map(&mut f, 13).unwrap();
        f.pause();
        let late = map(&mut f, 11).unwrap();
        assert_eq!((late.seq, late.starts), (SeqNo(1), false), "asked for again before the pause");
        assert_eq!(map(&mut f, 9), Err(DropReason::OldSource));
        let next = map(&mut f, 60).unwrap();
        assert_eq!((next.seq, next.starts), (SeqNo(4), true));
        assert_eq!(map(&mut f, 12).unwrap().seq, SeqNo(2));
        assert_eq!(map(&mut f, 59), Err(DropReason::OldSource));
    }

    #[test]
    fn what_came_in_a_pause_has_no_number() {
        let t = start();
        let mut f = Forwarder::new(Kind::Video, 100);
        f.set_target(Some(A), false);
        let map = |f: &mut Forwarder, seq: u64, keyframe| {
            let at = t + Duration::from_millis(40 * seq);
            f.map(A, SeqNo(seq), &packet(Codec::Vp8, 3_600 * seq as u32, keyframe, seq as u16), at)
        };
        map(&mut f, 1, true).unwrap();
        map(&mut f, 2, false).unwrap();
        f.pause();
        f.pause();
        assert!(f.awaits_keyframe());
        assert_eq!(map(&mut f, 9, false), Err(DropReason::AwaitingKeyframe));
        let resumed = map(&mut f, 10, true).unwrap();
        assert_eq!((resumed.seq, resumed.timestamp), (SeqNo(102), 36_000));
        assert_eq!(map(&mut f, 5, false), Err(DropReason::OldSource), "it came late");
        let origins: Vec<_> = (100..103).filter_map(|out| Some(f.origin(SeqNo(out))?.1)).collect();
        assert_eq!(origins, [SeqNo(1), SeqNo(2), SeqNo(10)]);
    }

    #[test]
    fn another_track_ends_the_old_one_at_once() {
        let t = start();
        let mut f = Forwarder::new(Kind::Video, 0);
        f.set_target(Some(A), false);
        f.map(A, SeqNo(1), &packet(Codec::Vp8, 0, true, 1), t).unwrap();
        f.set_target(Some(B), false);
        let old = f.map(A, SeqNo(2), &packet(Codec::Vp8, 3_000, false, 2), t);
        assert_eq!(old, Err(DropReason::LayerNotSelected));
        // An hour later the timestamps are an hour on.
        let later = t + Duration::from_secs(3_600);
        let b = f.map(B, SeqNo(1), &packet(Codec::Vp8, 77, true, 1), later).unwrap();
        assert_eq!(b.timestamp, 3_600 * 90_000);
        assert_eq!(f.timestamp_at(later + Duration::from_secs(1)), Some(3_601 * 90_000));
    }

    proptest! {
        /// Any interleaving of sources, loss and reordering: numbers never repeat within a source, grow from source to
        /// source, and each one leads back to the packet that it stands for.
        #[test]
        fn every_number_leads_back_to_its_packet(
            steps in prop::collection::vec((any::<bool>(), 1u64..4, any::<bool>(), 0u64..3), 1..200),
        ) {
            let mut t = start();
            let mut f = Forwarder::new(Kind::Video, 30_000);
            let mut next = [SeqNo(65_000), SeqNo(10)];
            let mut seen = std::collections::HashMap::new();
            let mut last_timestamp: Option<u32> = None;
            for (second, step, keyframe, back) in steps {
                let key = if second { B } else { A };
                f.set_target(Some(key), true);
                let n = &mut next[usize::from(second)];
                *n = SeqNo(n.0 + step);
                let seq = SeqNo(n.0 - back);
                t += Duration::from_millis(10);
                let p = packet(Codec::Vp8, seq.0 as u32 * 900, keyframe, seq.0 as u16);
                let Ok(mapped) = f.map(key, seq, &p, t) else { continue };
                if let Some((stream, original)) = seen.insert(mapped.seq, (key, seq)) {
                    prop_assert_eq!((stream, original), (key, seq), "one number for two packets");
                }
                prop_assert_eq!(f.origin(mapped.seq).map(|(s, i, _)| (s, i)), Some((key, seq)));
                if mapped.starts
                    && let Some(last) = last_timestamp
                {
                    prop_assert!((mapped.timestamp.wrapping_sub(last) as i32) > 0);
                }
                last_timestamp = f.newest.map(|n| n.timestamp);
            }
        }
    }
}
