//! One subscription's state: which packet of a publisher becomes which packet of a slot.
//!
//! A slot is one RTP stream without end (RFC 3550): whatever source it shows, the sequence numbers have no holes that the
//! server made, timestamps go forward with the wall clock, and picture ids count on, so a decoder never notices a change.
//!
//! Frames above the wanted layers are left out (`layers`), and leave no hole in the sequence numbers (`record`), nor in VP8's picture
//! ids: receivers take a missing one for a lost frame, and wait for it. The picture ids of VP9 and the frame numbers of the dependency
//! descriptor keep their holes, because frames name those that they refer to by the difference, and in VP9's non-flexible mode
//! the place in the pattern follows from the number.
mod layers;
mod record;
mod run;

use crate::metrics::DropReason;
use crate::rtp::codec::{Codec, Kind};
use crate::rtp::packet::PacketInfo;
use crate::rtp::{LayerId, SeqNo, clock};
use layers::Layers;
use record::{FrameKey, Place};
use run::{Run, Runs};
use std::time::{Duration, Instant};

pub use run::Offsets;

/// One received RTP stream of the engine: an index and a generation, so that a key is never mistaken for its successor's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamKey {
    pub index: u32,
    pub generation: u32,
}

impl From<StreamKey> for u64 {
    fn from(key: StreamKey) -> u64 {
        u64::from(key.generation) << 32 | u64::from(key.index)
    }
}

impl From<u64> for StreamKey {
    fn from(number: u64) -> Self {
        Self { index: number as u32, generation: (number >> 32) as u32 }
    }
}

/// A stream, and how much of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    pub stream: StreamKey,
    /// The upper limit; [`LayerId::TOP`]: all of it.
    pub layers: LayerId,
}

impl Target {
    pub fn whole(stream: StreamKey) -> Self {
        Self { stream, layers: LayerId::TOP }
    }
}

/// Where a packet goes in the slot's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub seq: SeqNo,
    pub timestamp: u32,
    pub offsets: Offsets,
    /// The marker bit: the last packet of what the slot gets of a picture.
    pub marker: bool,
    /// It came late, and belongs to a frame that is left out; but its number was kept for it, because that was not known then. A packet
    /// of nothing but padding is to go out, so that the number is not missed.
    pub filler: bool,
    /// This packet is the first of a new source: what the source's history holds after it is to follow.
    pub starts: bool,
}

/// Which packet of which source a number of the slot's stream stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub stream: StreamKey,
    pub seq: SeqNo,
    pub offsets: Offsets,
    /// The slot's picture ends with it, whatever its own marker bit says.
    pub marked: bool,
    /// Padding was sent in its place.
    pub filler: bool,
    /// Video from before the last change of source: the keyframe that the change began with is all that a decoder needs.
    pub superseded: bool,
}

/// Follows one source at a time for one slot.
#[derive(Debug)]
pub struct Forwarder {
    kind: Kind,
    target: Option<Target>,
    runs: Runs,
    layers: Layers,
    newest: Option<Newest>,
    next_seq: SeqNo,
    /// Ticks that the slot's timestamps are ahead of the wall clock: a new source's first frame cannot have the timestamp of one
    /// that was sent already.
    ahead: u32,
    /// Keyframes of the target that came too late to go on with.
    refused: u8,
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
/// Timestamps are never further ahead of the clock than this: a decoder takes more for a broken stream.
const MAX_AHEAD: Duration = Duration::from_secs(2);
/// Frames of two encodings that were captured at one time are told to be so far apart, at most: less than a frame.
const SAME_TIME: Duration = Duration::from_millis(20);
/// Late keyframes that are not taken, one after the other.
const MAX_REFUSED: u8 = 2;

impl Forwarder {
    /// `first` is the first sequence number to be used; random, below 2^15, so that an early wrap cannot confuse SRTP (RFC 3711
    /// section 3.3.1).
    pub fn new(kind: Kind, first: u16) -> Self {
        Self {
            kind,
            target: None,
            runs: Runs::default(),
            layers: Layers::new(),
            newest: None,
            next_seq: SeqNo(u64::from(first & 0x7fff)),
            ahead: 0,
            refused: 0,
        }
    }

    /// What is to be forwarded. With `seamless` the present source goes on until a keyframe of the target is there (another
    /// encoding of the same track); without, it ends at once (another track). Of the same source, another limit of layers holds as
    /// soon as a decoder can follow.
    pub fn set_target(&mut self, target: Option<Target>, seamless: bool) {
        self.target = target;
        if !seamless && self.source() != target.map(|t| t.stream) {
            self.runs.close();
        }
    }

    /// Nothing is forwarded for a while (muted, or the subscriber is gone). What comes after starts like a new source, so that the
    /// packets in between leave no hole in the numbers.
    pub fn pause(&mut self) {
        self.runs.close();
    }

    pub fn target(&self) -> Option<Target> {
        self.target
    }

    /// What is forwarded now: the source, and the limit of layers in force.
    pub fn current(&self) -> Option<Target> {
        self.source().map(|stream| Target { stream, layers: self.layers.limit() })
    }

    /// Whether packets of `stream` are of any use now.
    pub fn follows(&self, stream: StreamKey) -> bool {
        self.source() == Some(stream) || self.target.is_some_and(|t| t.stream == stream)
    }

    /// True while nothing but a keyframe of the target lets its packets, or those of its spatial layer, go out.
    pub fn awaits_keyframe(&self) -> bool {
        let Some(target) = self.target.filter(|_| self.kind == Kind::Video) else { return false };
        self.source() != Some(target.stream) || self.layers.awaits_keyframe(target.layers)
    }

    /// Maps packet `seq` of `stream`, captured at `captured_at` on our clock.
    pub fn map(
        &mut self,
        stream: StreamKey,
        seq: SeqNo,
        packet: &PacketInfo,
        captured_at: Instant,
    ) -> Result<Mapped, DropReason> {
        if self.source() == Some(stream) {
            return self.map_within(stream, seq, packet, captured_at);
        }
        let Some(target) = self.target.filter(|t| t.stream == stream) else {
            return Err(DropReason::LayerNotSelected);
        };
        if self.runs.is_behind(stream, seq) {
            // It came late, after a pause or from before another encoding.
            return self.map_behind(stream, seq, packet);
        }
        let decodable = self.kind == Kind::Audio || (packet.frame.keyframe && packet.frame.frame_start);
        if !decodable {
            return Err(DropReason::AwaitingKeyframe);
        }
        if self.goes_back(captured_at) {
            self.refused += 1;
            return Err(DropReason::AwaitingKeyframe);
        }
        Ok(self.start(target, seq, packet, captured_at))
    }

    /// Which packet became `seq` of the slot's stream, and how.
    pub fn origin(&self, seq: SeqNo) -> Option<Origin> {
        let (run, input) = self.runs.by_output(seq)?;
        let place = run.place(input)?;
        let (offsets, Place { marked, filler, .. }) = (run.offsets(&place), place);
        let superseded = self.kind == Kind::Video && !self.runs.is_latest(run);
        Some(Origin { stream: run.stream, seq: input, offsets, marked, filler, superseded })
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

    fn source(&self) -> Option<StreamKey> {
        self.runs.open_run().map(|run| run.stream)
    }

    fn map_within(
        &mut self,
        stream: StreamKey,
        seq: SeqNo,
        packet: &PacketInfo,
        captured_at: Instant,
    ) -> Result<Mapped, DropReason> {
        let Some(run) = self.runs.open_mut() else { return Err(DropReason::OldSource) };
        if run.begins_after(seq) {
            return self.map_behind(stream, seq, packet);
        }
        let Some(gap) = seq.0.checked_sub(run.last().0 + 1) else { return self.map_late(seq, packet, captured_at) };
        let wanted = self.target.filter(|t| t.stream == stream).map(|t| t.layers);
        let admission = self.layers.admit(seq, gap, packet, wanted);
        run.limit = self.layers.limit();
        let (head, tail) = admission.missing;
        run.skip_missing(gap, head, tail);
        if !admission.kept {
            match admission.begins {
                true => run.skip_frame(seq, FrameKey::of(packet), packet.codec == Codec::Vp8),
                false => run.skip(seq),
            }
            return Err(DropReason::LayerNotSelected);
        }
        let place = run.extend(seq);
        let mapped = mapped(run, place, seq, packet, self.layers.ends_picture(seq, packet));
        self.next_seq = mapped.seq.next();
        self.note_newest(&mapped, packet, captured_at);
        Ok(mapped)
    }

    /// A packet of the present run behind its furthest one: it was missing until now, and has a number unless it was clear that it
    /// would be left out.
    fn map_late(&mut self, seq: SeqNo, packet: &PacketInfo, captured_at: Instant) -> Result<Mapped, DropReason> {
        let Some(run) = self.runs.open_mut() else { return Err(DropReason::OldSource) };
        let place = run.place(seq).ok_or(DropReason::LayerNotSelected)?;
        let key = FrameKey::of(packet);
        let excluded = self.layers.excludes(seq, packet, run.has_left_out(key));
        if excluded && !run.fill(seq, key) {
            return Err(DropReason::LayerNotSelected);
        }
        let marker = self.layers.ends_picture(seq, packet);
        let mapped = mapped(run, Place { filler: excluded, ..place }, seq, packet, marker);
        if mapped.seq >= self.next_seq {
            // All behind it was left out.
            run.sent(seq);
            self.next_seq = mapped.seq.next();
            self.note_newest(&mapped, packet, captured_at);
        }
        Ok(mapped)
    }

    /// A packet of an earlier run: it has the number of that, or none.
    fn map_behind(&mut self, stream: StreamKey, seq: SeqNo, packet: &PacketInfo) -> Result<Mapped, DropReason> {
        let (run, place) = self.runs.by_input(stream, seq).ok_or(DropReason::OldSource)?;
        let excluded = packet.frame.absent.contains(run.limit);
        if excluded && !run.fill(seq, FrameKey::of(packet)) {
            return Err(DropReason::LayerNotSelected);
        }
        Ok(mapped(run, Place { filler: excluded, ..place }, seq, packet, packet.marker))
    }

    fn start(&mut self, target: Target, seq: SeqNo, packet: &PacketInfo, captured_at: Instant) -> Mapped {
        let offsets = match self.newest {
            None => Offsets::default(),
            Some(last) => Offsets {
                timestamp: self.next_timestamp(last, captured_at).wrapping_sub(packet.timestamp),
                picture_id: after(last.picture_id, packet.frame.picture_id.map(|p| p.value)),
                tl0_pic_idx: match (last.tl0_pic_idx, packet.frame.tl0_pic_idx) {
                    (Some(last), Some(first)) => last.wrapping_add(1).wrapping_sub(first),
                    _ => 0,
                },
                frame_number: after(last.frame_number, packet.frame.frame_number),
            },
        };
        self.refused = 0;
        self.layers.start(seq, packet, target.layers);
        self.runs.open(Run::new(target.stream, self.layers.limit(), seq, self.next_seq, offsets));
        let marker = self.layers.ends_picture(seq, packet);
        let place = Place { out: self.next_seq, removed: 0, filler: false, marked: false };
        let timestamp = packet.timestamp.wrapping_add(offsets.timestamp);
        let mapped = Mapped { seq: place.out, timestamp, offsets, marker, filler: false, starts: true };
        if let Some(run) = self.runs.open_mut().filter(|_| marker && !packet.marker) {
            run.mark(seq);
        }
        self.next_seq = mapped.seq.next();
        self.newest = None;
        self.note_newest(&mapped, packet, captured_at);
        mapped
    }

    /// Whether a keyframe that is to replace what is forwarded now shows an earlier time than that: it came late, after it was asked for
    /// again. Another one is waited for, but not for ever: the clocks of two encodings may disagree.
    fn goes_back(&self, captured_at: Instant) -> bool {
        let shown = self.newest.filter(|_| self.source().is_some() && self.refused < MAX_REFUSED);
        let behind = shown.map(|n| n.captured_at.saturating_duration_since(captured_at));
        behind.is_some_and(|d| d > SAME_TIME && d < MAX_AHEAD)
    }

    /// The new source's first timestamp: as far after the last packet as it was captured after it.
    fn next_timestamp(&mut self, last: Newest, captured_at: Instant) -> u32 {
        let least = match self.kind {
            Kind::Audio => MIN_STEP_AUDIO,
            Kind::Video => MIN_STEP_VIDEO,
        };
        let elapsed = captured_at.saturating_duration_since(last.captured_at);
        let step = clock::ticks(elapsed, self.rate());
        // A source that was silent for hours: the 32-bit clock wraps, as it would have in one stream.
        if elapsed >= MAX_AHEAD {
            let ahead = std::mem::take(&mut self.ahead);
            return last.timestamp.wrapping_add(step).wrapping_sub(ahead);
        }
        let behind = clock::ticks(last.captured_at.saturating_duration_since(captured_at).min(MAX_AHEAD), self.rate());
        let ahead = self.ahead.saturating_add(behind).min(clock::ticks(MAX_AHEAD, self.rate()));
        let given = step.saturating_sub(ahead).max(least);
        self.ahead = (ahead + given).saturating_sub(step);
        last.timestamp.wrapping_add(given)
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

/// What becomes of a packet of `run` in this place.
fn mapped(run: &mut Run, place: Place, seq: SeqNo, packet: &PacketInfo, marker: bool) -> Mapped {
    let filler = place.filler;
    if marker && !packet.marker && !filler {
        run.mark(seq);
    }
    let offsets = run.offsets(&place);
    let timestamp = packet.timestamp.wrapping_add(offsets.timestamp);
    Mapped { seq: place.out, timestamp, offsets, marker: marker && !filler, filler, starts: false }
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
mod tests;
