//! What a viewer would have seen: packets put in order, joined to frames, and decoded in name.
use super::payload::{Head, Tag};
use super::ring::Ring;
use exedra::rtp::SeqNo;
use std::time::{Duration, Instant};

/// Packets that wait for others. Beyond it all are given up.
const MAX_WAITING: usize = 2_048;
/// Packets behind the decoder that are remembered to check their successors.
const REMEMBERED: u64 = 64;
/// Frames that are further apart than this are a freeze that is noted.
pub const FREEZE: Duration = Duration::from_millis(500);
/// From here on, and if three frames are missing, somebody notices.
const NOTICED: Duration = Duration::from_millis(200);
/// Freezes that are remembered one by one.
const MAX_FREEZES: usize = 256;

/// How far, in milliseconds, a slot that begins anew may be off its old line of time: what the server cannot know of the delay.
pub(super) const REBASED: i32 = 500;

/// A packet of a slot, opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoPacket {
    pub timestamp: u32,
    pub marker: bool,
    pub head: Head,
    pub tag: Tag,
}

/// What is known of the video of one slot.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct VideoStats {
    /// Frames decoded, and how many of them were keyframes.
    pub frames: u64,
    pub keyframes: u64,
    /// Frames that were given up for a later keyframe.
    pub skipped: u64,
    /// Changes of track, and of encoding within a track.
    pub switches: u64,
    pub layer_switches: u64,
    /// Frames that a change of source cut short.
    pub cut: u64,
    /// The longest time between two frames while they were expected, in milliseconds.
    pub longest_freeze_ms: u64,
    /// Times without a frame above 200 ms and three frames, once there had been one; and how long they were together.
    pub freezes: u64,
    pub frozen_ms: u64,
}

/// See the module.
pub struct Viewer {
    pub stats: VideoStats,
    /// When and how long: gaps between two frames above [`FREEZE`].
    pub freezes: Vec<(Instant, Duration)>,
    packets: Ring<VideoPacket>,
    /// The packet that the next frame begins with; `None` until a keyframe came.
    next: Option<u64>,
    last: Option<Decoded>,
    /// Since when a frame is expected: the last one, or the start.
    expected_since: Option<Instant>,
}

/// The last frame decoded.
#[derive(Clone, Copy, Debug)]
pub struct Decoded {
    pub at: Instant,
    pub tag: Tag,
    pub timestamp: u32,
}

impl Default for Viewer {
    fn default() -> Self {
        Self {
            stats: VideoStats::default(),
            freezes: Vec::new(),
            packets: Ring::new(MAX_WAITING),
            next: None,
            last: None,
            expected_since: None,
        }
    }
}

impl Viewer {
    /// A packet arrived, or was recovered. Gives what is wrong with it.
    pub fn handle_packet(&mut self, now: Instant, seq: SeqNo, packet: VideoPacket) -> Option<String> {
        self.expected_since.get_or_insert(now);
        if let Some(known) = self.packets.get(seq.0) {
            return (*known != packet).then(|| format!("video {}: one number for {known:?} and {packet:?}", seq.0));
        }
        if self.next.is_some_and(|next| seq.0 + REMEMBERED < next) {
            return None;
        }
        let fault = self.check(seq.0, &packet);
        if !self.packets.insert(seq.0, packet) {
            self.next = None;
            return fault;
        }
        // Only the end of a frame, or what was missing, can make something whole.
        let in_line = self.packets.highest() == Some(seq.0) && !packet.marker && !packet.head.starts_frame;
        while !in_line && self.advance(now) {}
        self.packets.forget_below(self.next.unwrap_or(0).saturating_sub(REMEMBERED));
        fault
    }

    /// The last frame decoded.
    pub fn last(&self) -> Option<Decoded> {
        self.last
    }

    /// True if packets are here that cannot be decoded.
    pub fn is_stuck(&self) -> bool {
        self.packets.highest().is_some_and(|last| self.next.is_none_or(|next| last >= next))
    }

    /// How long a frame has been expected.
    pub fn waiting(&self, now: Instant) -> Duration {
        self.expected_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Nothing is expected until the next packet: the source was muted, taken away or exchanged.
    pub fn rest(&mut self) {
        self.expected_since = None;
    }

    /// Notes a freeze that goes on.
    pub fn finish(&mut self, now: Instant) {
        if let Some(since) = self.expected_since.take() {
            self.note_gap(now, now.saturating_duration_since(since), Duration::ZERO);
        }
    }

    /// Decodes the next frame, if it is whole.
    fn advance(&mut self, now: Instant) -> bool {
        let from = match self.next {
            Some(next) if self.packets.get(next).is_some() => next,
            _ => return self.skip_to_keyframe(now),
        };
        match self.frame_at(from) {
            Frame::Whole { end, first } => {
                self.decode(now, first);
                self.next = Some(end + 1);
                true
            }
            Frame::Cut { end } => {
                self.stats.cut += 1;
                self.next = Some(end);
                true
            }
            Frame::Incomplete => self.skip_to_keyframe(now),
        }
    }

    /// What cannot be decoded for want of a packet is passed over when a whole keyframe is there.
    fn skip_to_keyframe(&mut self, now: Instant) -> bool {
        let beyond = self.next.unwrap_or(0);
        let starts: Vec<u64> = self
            .packets
            .from(beyond)
            .filter(|(_, p)| p.head.starts_frame && p.tag.keyframe)
            .map(|(seq, _)| seq)
            .collect();
        for start in starts.into_iter().rev() {
            if let Frame::Whole { end, first } = self.frame_at(start) {
                if let Some(last) = self.last.filter(|l| l.tag.same_source(&first.tag)) {
                    self.stats.skipped += u64::from(first.tag.frame.saturating_sub(last.tag.frame + 1));
                }
                self.decode(now, first);
                self.next = Some(end + 1);
                return true;
            }
        }
        false
    }

    fn frame_at(&self, from: u64) -> Frame {
        let Some(first) = self.packets.get(from).filter(|p| p.head.starts_frame) else { return Frame::Incomplete };
        for (count, (seq, packet)) in self.packets.from(from).enumerate() {
            if seq != from + count as u64 {
                return Frame::Incomplete;
            }
            if count > 0 && packet.head.starts_frame {
                return Frame::Cut { end: seq };
            }
            if packet.marker {
                return Frame::Whole { end: seq, first: *first };
            }
        }
        Frame::Incomplete
    }

    fn decode(&mut self, now: Instant, first: VideoPacket) {
        self.stats.frames += 1;
        self.stats.keyframes += u64::from(first.tag.keyframe);
        if let Some(last) = self.last {
            let same_track = last.tag.same_track(&first.tag);
            self.stats.switches += u64::from(!same_track);
            self.stats.layer_switches += u64::from(same_track && last.tag.encoding != first.tag.encoding);
        }
        if let Some(since) = self.expected_since.replace(now) {
            // The publisher itself may send few frames.
            let interval = self.last.filter(|l| l.tag.same_source(&first.tag)).map_or(0, |l| {
                let frames = first.tag.frame.wrapping_sub(l.tag.frame).max(1);
                first.tag.micros.saturating_sub(l.tag.micros) / u64::from(frames)
            });
            self.note_gap(now, now.saturating_duration_since(since), Duration::from_micros(interval));
        }
        self.last = Some(Decoded { at: now, tag: first.tag, timestamp: first.timestamp });
    }

    fn note_gap(&mut self, now: Instant, gap: Duration, interval: Duration) {
        if self.last.is_some() && gap > NOTICED && gap > interval * 3 {
            self.stats.freezes += 1;
            self.stats.frozen_ms += gap.as_millis() as u64;
        }
        self.stats.longest_freeze_ms = self.stats.longest_freeze_ms.max(gap.as_millis() as u64);
        if gap > FREEZE && self.freezes.len() < MAX_FREEZES {
            self.freezes.push((now, gap));
        }
    }

    /// Holds a packet against its neighbours: what a decoder would stumble over.
    fn check(&self, seq: u64, packet: &VideoPacket) -> Option<String> {
        let before = seq.checked_sub(1).and_then(|s| self.packets.get(s));
        let after = self.packets.get(seq + 1);
        let pairs = [before.map(|b| (b, packet)), after.map(|a| (packet, a))];
        let alone = (packet.head.starts_frame != (packet.tag.part == 0)
            || packet.head.starts_frame && packet.head.keyframe != packet.tag.keyframe)
            .then_some("a descriptor that does not fit");
        let fault = alone.or_else(|| pairs.into_iter().flatten().find_map(|(a, b)| wrong_order(a, b)));
        fault.map(|what| format!("video {seq}: {what}: {before:?} {packet:?} {after:?}"))
    }
}

enum Frame {
    Whole {
        end: u64,
        first: VideoPacket,
    },
    /// Another frame begins at `end` before this one ended.
    Cut {
        end: u64,
    },
    Incomplete,
}

/// What is wrong with `b` right behind `a`.
fn wrong_order(a: &VideoPacket, b: &VideoPacket) -> Option<&'static str> {
    let same_source = a.tag.same_source(&b.tag);
    if !b.head.starts_frame {
        let continues = same_source && a.tag.frame == b.tag.frame && a.tag.part + 1 == b.tag.part && !a.marker;
        let same_numbers = a.timestamp == b.timestamp
            && a.head.picture_id == b.head.picture_id
            && a.head.tl0_pic_idx == b.head.tl0_pic_idx;
        return match (continues, same_numbers) {
            (false, _) => Some("a packet of a frame without the one before"),
            (true, false) => Some("two numbers for one frame"),
            (true, true) => None,
        };
    }
    let step = b.timestamp.wrapping_sub(a.timestamp) as i32;
    if step <= 0 {
        return Some("a timestamp that does not advance");
    }
    if b.head.picture_id != a.head.picture_id.map(|id| (id + 1) & 0x7fff) {
        return Some("a hole in the picture ids");
    }
    if b.head.tl0_pic_idx != a.head.tl0_pic_idx.map(|id| id.wrapping_add(1)) {
        return Some("a hole in TL0PICIDX");
    }
    if same_source && a.marker && b.tag.frame == a.tag.frame.wrapping_add(1) {
        let elapsed = (b.tag.micros.saturating_sub(a.tag.micros) * 90_000 / 1_000_000) as i32;
        // A slot that was taken away and given back meanwhile has begun anew, by the server's clock.
        let most = if b.tag.keyframe { REBASED * 90 } else { 4 };
        return ((step - elapsed).abs() > most).then_some("a timestamp that does not follow the capture");
    }
    // Another source, or another part of the same one.
    (!b.tag.keyframe).then_some("a source that does not begin with a keyframe")
}
