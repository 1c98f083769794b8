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
        match self.kind {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        }
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
                picture_id: after(last.picture_id, packet.frame.picture_id),
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
            picture_id: frame.picture_id.map(|p| p.wrapping_add(o.picture_id)).or(previous.and_then(|n| n.picture_id)),
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
