//! What a viewer would have seen: packets put in order, joined to frames, and decoded in name.
use super::head::Head;
use super::payload::{Tag, VideoCodec};
use super::ring::Ring;
use exedra::rtp::SeqNo;
use std::collections::VecDeque;
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
/// Frames that later ones may refer to.
const REFERENCES: usize = 32;
/// A decoder goes on without a frame that is missing for so long, if what follows does not need it.
const GIVEN_UP: Duration = Duration::from_millis(100);

/// How far, in milliseconds, a slot that begins anew may be off its old line of time: what the server cannot know of the delay.
pub(super) const REBASED: i32 = 500;

/// A packet of a slot, opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoPacket {
    pub codec: VideoCodec,
    pub timestamp: u32,
    pub marker: bool,
    pub head: Head,
    pub tag: Tag,
    pub descriptor: Option<Described>,
}

/// The mandatory part of a dependency descriptor (RTP Payload Format For AV1, appendix A.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    pub starts_frame: bool,
    pub ends_frame: bool,
    pub frame: u16,
    /// It has the template structure.
    pub structured: bool,
}

impl Described {
    pub fn read(value: &[u8]) -> Option<Self> {
        let [first, high, low] = *value.first_chunk()?;
        let structured = value.get(3).is_some_and(|flags| flags & 0x80 != 0);
        let frame = u16::from_be_bytes([high, low]);
        Some(Self { starts_frame: first & 0x80 != 0, ends_frame: first & 0x40 != 0, frame, structured })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Packet(VideoPacket),
    /// A number that was used for nothing.
    Filler,
}

impl Entry {
    fn packet(&self) -> Option<&VideoPacket> {
        match self {
            Entry::Packet(packet) => Some(packet),
            Entry::Filler => None,
        }
    }
}

/// Which layers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    pub encoding: u8,
    pub spatial: u8,
    pub temporal: u8,
}

/// What is known of the video of one slot.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct VideoStats {
    /// Frames decoded, and how many of them were keyframes.
    pub frames: u64,
    pub keyframes: u64,
    /// Frames that were given up for a later keyframe, or for want of what they refer to.
    pub skipped: u64,
    /// Frames that came although what they refer to was never sent to us: what a decoder would show broken.
    pub broken: u64,
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
    packets: Ring<Entry>,
    /// The packet that the next frame begins with; `None` until a keyframe came.
    next: Option<u64>,
    last: Option<Decoded>,
    /// Frames decoded since the last keyframe: of one source.
    decoded: VecDeque<u32>,
    /// The temporal and the highest spatial layers of the last pictures of the source.
    temporals: [u8; 8],
    spatials: [u8; 2],
    /// The source has spatial layers.
    spatial: bool,
    /// Something was lost on the way since then, so that frames may refer to it.
    damaged: bool,
    /// Only a keyframe helps.
    lost_base: bool,
    fault: Option<String>,
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
            decoded: VecDeque::new(),
            temporals: [0; 8],
            spatials: [0; 2],
            spatial: false,
            damaged: false,
            lost_base: false,
            fault: None,
            expected_since: None,
        }
    }
}

impl Viewer {
    /// A packet arrived, or was recovered. Gives what is wrong with it.
    pub fn handle_packet(&mut self, now: Instant, seq: SeqNo, packet: VideoPacket) -> Option<String> {
        self.expected_since.get_or_insert(now);
        if let Some(known) = self.packets.get(seq.0) {
            return (*known != Entry::Packet(packet))
                .then(|| format!("video {}: one number for {known:?} and {packet:?}", seq.0));
        }
        if self.next.is_some_and(|next| seq.0 + REMEMBERED < next) {
            return None;
        }
        let fault = self.check(seq.0, &packet);
        if !self.packets.insert(seq.0, Entry::Packet(packet)) {
            self.next = None;
            return fault;
        }
        // Only the end of a frame, or what was missing, can make something whole.
        let ends = packet.tag.part + 1 == packet.tag.parts;
        let in_line = self.packets.highest() == Some(seq.0) && !ends && !packet.head.starts_frame;
        if !in_line {
            self.advance_all(now);
        }
        fault.or_else(|| self.fault.take())
    }

    /// A packet of nothing but padding.
    pub fn handle_filler(&mut self, now: Instant, seq: SeqNo) {
        if self.packets.get(seq.0).is_some() || self.next.is_some_and(|next| seq.0 + REMEMBERED < next) {
            return;
        }
        if self.packets.insert(seq.0, Entry::Filler) {
            self.advance_all(now);
        } else {
            self.next = None;
        }
    }

    fn advance_all(&mut self, now: Instant) {
        while self.advance(now) {}
        self.packets.forget_below(self.next.unwrap_or(0).saturating_sub(REMEMBERED));
    }

    /// Which layers the last pictures were of.
    pub fn shown(&self) -> Option<Shown> {
        let tag = self.last?.tag;
        // Of a picture that is not complete yet, the upper layers are still to come.
        let spatial = self.spatials.into_iter().max().unwrap_or_default();
        let temporal = self.temporals.into_iter().max().unwrap_or_default();
        Some(Shown { encoding: tag.encoding, spatial, temporal })
    }

    /// The last frame decoded.
    pub fn last(&self) -> Option<Decoded> {
        self.last
    }

    /// True if packets are here that cannot be decoded.
    pub fn is_stuck(&self) -> bool {
        self.lost_base || self.packets.highest().is_some_and(|last| self.next.is_none_or(|next| last >= next))
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
            Some(next) if self.packets.get(next) == Some(&Entry::Filler) => {
                self.next = Some(next + 1);
                return true;
            }
            Some(next) if self.packets.get(next).is_some() => next,
            _ => return self.skip(now),
        };
        match self.frame_at(from) {
            Frame::Whole { end, first } => {
                self.next = Some(end + 1);
                match self.is_decodable(&first.tag) {
                    true => self.decode(now, first),
                    false => self.pass_over(&first.tag),
                }
                true
            }
            Frame::Cut { end } => {
                self.stats.cut += 1;
                self.next = Some(end);
                true
            }
            Frame::Incomplete => self.skip(now),
        }
    }

    /// All that the frame refers to was decoded.
    fn is_decodable(&self, tag: &Tag) -> bool {
        let same = self.last.is_some_and(|last| last.tag.same_source(tag));
        let known = |back: &u8| *back == 0 || same && self.decoded.contains(&tag.frame.wrapping_sub((*back).into()));
        tag.keyframe || tag.refs.iter().any(|back| *back > 0) && tag.refs.iter().all(known)
    }

    /// A whole frame is here that cannot be decoded.
    fn pass_over(&mut self, tag: &Tag) {
        self.lost_base |= tag.temporal == 0;
        self.spatial |= tag.spatial > 0;
        if self.damaged {
            self.stats.skipped += 1;
            return;
        }
        self.stats.broken += 1;
        self.damaged = true;
        self.fault = Some(format!("a frame without those that it refers to: {tag:?} after {:?}", self.last));
    }

    /// What cannot be decoded for want of a packet is passed over when a whole keyframe is there; after a while also for a frame that can do without.
    fn skip(&mut self, now: Instant) -> bool {
        let beyond = self.next.unwrap_or(0);
        let starts = self.packets.from(beyond).filter(|(_, e)| e.packet().is_some_and(|p| p.head.starts_frame));
        let starts: Vec<(u64, Tag)> = starts.filter_map(|(seq, e)| Some((seq, e.packet()?.tag))).collect();
        let keyframes = starts.iter().rev().filter(|(_, tag)| tag.keyframe);
        let patient = self.next.is_none() || self.waiting(now) < GIVEN_UP;
        let others = starts.iter().filter(|(_, tag)| !patient && self.is_decodable(tag));
        let whole = |start: &(u64, Tag)| match self.frame_at(start.0) {
            Frame::Whole { end, first } => Some((end, first)),
            _ => None,
        };
        let Some((end, first)) = keyframes.chain(others).find_map(whole) else { return false };
        if let Some(last) = self.last.filter(|l| l.tag.same_source(&first.tag)) {
            self.stats.skipped += u64::from(first.tag.frame.saturating_sub(last.tag.frame + 1));
        }
        self.damaged = true;
        self.decode(now, first);
        self.next = Some(end + 1);
        true
    }

    fn frame_at(&self, from: u64) -> Frame {
        let first = self.packets.get(from).and_then(Entry::packet).filter(|p| p.head.starts_frame);
        let Some(first) = first else { return Frame::Incomplete };
        for (count, (seq, entry)) in self.packets.from(from).enumerate() {
            let Some(packet) = entry.packet().filter(|_| seq == from + count as u64) else { return Frame::Incomplete };
            if count > 0 && packet.head.starts_frame {
                return Frame::Cut { end: seq };
            }
            if packet.tag.part + 1 == packet.tag.parts {
                return Frame::Whole { end: seq, first: *first };
            }
        }
        Frame::Incomplete
    }

    fn decode(&mut self, now: Instant, first: VideoPacket) {
        let tag = first.tag;
        self.stats.frames += 1;
        self.stats.keyframes += u64::from(tag.keyframe);
        if let Some(last) = self.last {
            let same_track = last.tag.same_track(&tag);
            self.stats.switches += u64::from(!same_track);
            self.stats.layer_switches += u64::from(same_track && last.tag.encoding != tag.encoding);
            if !last.tag.same_source(&tag) {
                (self.temporals, self.spatials, self.spatial) = ([0; 8], [0; 2], false);
            }
        }
        if tag.keyframe {
            self.decoded.clear();
            (self.damaged, self.lost_base) = (false, false);
        }
        self.spatial |= tag.spatial > 0;
        if tag.temporal == 0 && !self.spatial {
            // Nothing behind it refers to what was before it.
            self.damaged = false;
        }
        if self.decoded.len() == REFERENCES {
            self.decoded.pop_front();
        }
        self.decoded.push_back(tag.frame);
        if self.last.is_none_or(|last| last.tag.picture != tag.picture) {
            self.temporals.rotate_left(1);
            self.spatials = [self.spatials[1], 0];
        }
        self.temporals[7] = tag.temporal;
        self.spatials[1] = tag.spatial;
        if let Some(since) = self.expected_since.replace(now) {
            // The publisher itself may send few frames.
            let interval = self.last.filter(|l| l.tag.same_source(&tag)).map_or(0, |l| {
                let pictures = (tag.picture.wrapping_sub(l.tag.picture) & 0x7fff).max(1);
                tag.micros.saturating_sub(l.tag.micros) / u64::from(pictures)
            });
            self.note_gap(now, now.saturating_duration_since(since), Duration::from_micros(interval));
        }
        self.last = Some(Decoded { at: now, tag, timestamp: first.timestamp });
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
        let neighbour = |at: Option<u64>| at.and_then(|at| self.packets.get(at)).and_then(Entry::packet);
        let (before, after) = (neighbour(seq.checked_sub(1)), neighbour(Some(seq + 1)));
        let pairs = [before.map(|b| (b, packet)), after.map(|a| (packet, a))];
        let alone = wrong_alone(packet);
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

/// What is wrong with a packet by itself.
fn wrong_alone(packet: &VideoPacket) -> Option<&'static str> {
    let VideoPacket { head, tag, descriptor, .. } = packet;
    let (first, last) = (tag.part == 0, tag.part + 1 == tag.parts);
    if head.starts_frame != first || first && head.keyframe != tag.keyframe {
        return Some("a descriptor that does not fit");
    }
    let described =
        |d: &Described| (d.starts_frame, d.ends_frame) == (first, last) && d.structured == (first && tag.keyframe);
    (!descriptor.as_ref().is_none_or(described)).then_some("a dependency descriptor that does not fit")
}

/// What is wrong with `b` right behind `a`.
fn wrong_order(a: &VideoPacket, b: &VideoPacket) -> Option<&'static str> {
    let same_source = a.tag.same_source(&b.tag);
    let same_picture = same_source && (a.tag.picture, a.tag.micros) == (b.tag.picture, b.tag.micros);
    if !b.head.starts_frame {
        let continues = same_picture && a.tag.frame == b.tag.frame && a.tag.part + 1 == b.tag.part && !a.marker;
        let frame = |p: &VideoPacket| p.descriptor.map(|d| d.frame);
        return match (continues, same_numbers(a, b) && frame(a) == frame(b)) {
            (false, _) => Some("a packet of a frame without the one before"),
            (true, false) => Some("two numbers for one frame"),
            (true, true) => None,
        };
    }
    if same_picture {
        let fits = same_numbers(a, b) && !a.marker && a.tag.spatial < b.tag.spatial;
        return (!fits).then_some("two layers of a picture that do not fit");
    }
    if !same_source && !b.tag.keyframe {
        return Some("a source that does not begin with a keyframe");
    }
    if a.tag.part + 1 == a.tag.parts && !a.marker {
        return Some("a picture that ends without a marker");
    }
    wrong_time(a, b, same_source).or_else(|| wrong_numbers(a, b, same_source))
}

/// Timestamp, picture id and TL0PICIDX are those of one picture.
fn same_numbers(a: &VideoPacket, b: &VideoPacket) -> bool {
    let of = |p: &VideoPacket| (p.timestamp, p.head.picture_id, p.head.tl0_pic_idx);
    of(a) == of(b)
}

/// What is wrong with the time of a picture right behind another.
fn wrong_time(a: &VideoPacket, b: &VideoPacket, same_source: bool) -> Option<&'static str> {
    let step = b.timestamp.wrapping_sub(a.timestamp) as i32;
    if step <= 0 {
        return Some("a timestamp that does not advance");
    }
    let adjacent = b.tag.picture == (a.tag.picture + 1) & 0x7fff;
    if !same_source || !a.marker || b.tag.keyframe && !adjacent {
        return None;
    }
    let elapsed = (b.tag.micros.saturating_sub(a.tag.micros) * 90_000 / 1_000_000) as i32;
    // A slot that was taken away and given back meanwhile has begun anew, by the server's clock.
    let most = if b.tag.keyframe { REBASED * 90 } else { 4 };
    ((step - elapsed).abs() > most).then_some("a timestamp that does not follow the capture")
}

/// What is wrong with the numbers of a picture right behind another.
fn wrong_numbers(a: &VideoPacket, b: &VideoPacket, same_source: bool) -> Option<&'static str> {
    let steps = a.head.picture_id.zip(b.head.picture_id).map(|(a, b)| b.wrapping_sub(a) & 0x7fff);
    let pictures = b.tag.picture.wrapping_sub(a.tag.picture) & 0x7fff;
    let begins = !same_source || b.tag.keyframe;
    let ids_fit = match (b.codec, steps) {
        (VideoCodec::Vp8, step) => step == Some(1),
        // References are differences of picture ids: those of frames that are left out are left out.
        (VideoCodec::Vp9, Some(step)) => {
            if begins {
                (1..0x4000).contains(&step)
            } else {
                step == pictures
            }
        }
        (_, step) => step.is_none(),
    };
    if !ids_fit {
        return Some("picture ids that do not go on");
    }
    let base = b.head.tl0_pic_idx.zip(a.head.tl0_pic_idx).map(|(b, a)| b.wrapping_sub(a));
    if base.is_some_and(|step| step != u8::from(b.tag.temporal == 0)) {
        return Some("a TL0PICIDX that does not go on");
    }
    let frames = a.descriptor.zip(b.descriptor).map(|(a, b)| b.frame.wrapping_sub(a.frame));
    let exact = b.tag.frame.wrapping_sub(a.tag.frame) as u16;
    let frames_fit = frames.is_none_or(|step| if begins { (1..0x8000).contains(&step) } else { step == exact });
    (!frames_fit).then_some("frame numbers that do not go on")
}

#[cfg(test)]
mod tests {
    use super::super::head::Shape;
    use super::super::layers::Layering;
    use super::*;

    /// The packets of a source as they would come without a server in between: two for each frame.
    fn stream(codec: VideoCodec, layering: Layering, pictures: u32) -> Vec<VideoPacket> {
        let mut packets = Vec::new();
        let mut tl0 = 9u8;
        for picture in 0..pictures {
            tl0 = tl0.wrapping_add(u8::from(layering.place(picture, 0).temporal == 0));
            for spatial in 0..layering.spatial {
                let place = layering.place(picture, spatial);
                for part in 0..2 {
                    let frame = picture * u32::from(layering.spatial) + u32::from(spatial);
                    let id = (0x7ffe + picture as u16) & 0x7fff;
                    let flat = Shape::flat(part == 0, part == 1, false, (id, tl0), 200);
                    let mut payload = Vec::new();
                    Shape { layering, place, ..flat }.write(codec, &mut payload);
                    payload.resize(200, 0);
                    let keyframe = picture == 0 && spatial == 0;
                    let tag = Tag {
                        publisher: 1,
                        generation: 0,
                        track: 0,
                        encoding: 0,
                        keyframe,
                        frame,
                        spatial,
                        temporal: place.temporal,
                        refs: place.refs,
                        picture: id,
                        part,
                        parts: 2,
                        micros: u64::from(picture) * 40_000,
                        sent: 0,
                        count: 0,
                    };
                    let size = (keyframe && part == 0).then_some((640, 360));
                    let value = layering.descriptor(&place, (part == 0, part == 1), frame as u16, size);
                    packets.push(VideoPacket {
                        codec,
                        timestamp: picture * 3_600,
                        marker: part == 1 && spatial + 1 == layering.spatial,
                        head: codec.read(&payload).unwrap(),
                        tag,
                        descriptor: Described::read(&value),
                    });
                }
            }
        }
        packets
    }

    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn play(packets: &[VideoPacket]) -> (Viewer, Vec<String>) {
        let (mut viewer, start) = (Viewer::default(), Instant::now());
        let mut faults = Vec::new();
        for (seq, packet) in packets.iter().enumerate() {
            let now = start + Duration::from_micros(packet.tag.micros);
            faults.extend(viewer.handle_packet(now, SeqNo(1_000 + seq as u64), *packet));
        }
        (viewer, faults)
    }

    /// Only some frames, as a server forwards them: VP8 numbers are closed up, the marker ends what is left of a picture.
    fn thinned(packets: &[VideoPacket], keep: impl Fn(&Tag) -> bool) -> Vec<VideoPacket> {
        let mut kept: Vec<VideoPacket> = packets.iter().filter(|p| keep(&p.tag)).copied().collect();
        for at in 0..kept.len() {
            let ends = kept[at].tag.part == 1;
            kept[at].marker = ends && kept.get(at + 1).is_none_or(|next| next.tag.picture != kept[at].tag.picture);
            if kept[at].codec == VideoCodec::Vp8 {
                kept[at].head.picture_id = Some(at as u16 / 2);
            }
        }
        kept
    }

    fn layerings(codec: VideoCodec) -> Vec<Layering> {
        match codec {
            VideoCodec::Vp8 | VideoCodec::H264 => vec![Layering::temporal(1), Layering::temporal(3)],
            _ => vec![Layering::temporal(3), Layering::svc(3, 3, true), Layering::svc(3, 2, false)],
        }
    }

    #[test]
    fn what_a_server_may_leave_out_is_not_missed() {
        for codec in VideoCodec::ALL {
            for layering in layerings(codec) {
                let all = stream(codec, layering, 40);
                for (spatial, temporal) in
                    (0..layering.spatial).flat_map(|s| (0..layering.temporal).map(move |t| (s, t)))
                {
                    let kept = thinned(&all, |tag| {
                        let unused = layering.key && tag.refs[0] > 0 && tag.spatial < spatial && tag.micros > 0;
                        tag.spatial <= spatial && tag.temporal <= temporal && !unused
                    });
                    let (viewer, faults) = play(&kept);
                    assert!(faults.is_empty(), "{codec:?} {layering:?}: {}", faults[0]);
                    assert_eq!(viewer.stats.frames, kept.len() as u64 / 2);
                    assert_eq!(
                        viewer.shown(),
                        Some(Shown { encoding: 0, spatial, temporal }),
                        "{codec:?} {layering:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_breaks_pictures_is_told() {
        for codec in VideoCodec::ALL {
            for layering in layerings(codec) {
                let all = stream(codec, layering, 40);
                // The frame of a base layer that all after it refer to.
                let base = 8 * u32::from(layering.spatial);
                let (viewer, faults) = play(&thinned(&all, |tag| tag.frame != base));
                assert!(viewer.stats.broken > 0, "{codec:?} {layering:?}");
                assert!(faults.iter().any(|f| f.contains("refers to")), "{codec:?} {layering:?}: {faults:?}");
                let spoilt = |spoil: fn(&mut VideoPacket)| {
                    let mut packets = all.clone();
                    let at = (packets.len() / 2) | 1;
                    spoil(&mut packets[at]);
                    play(&packets).1.len()
                };
                assert_eq!(spoilt(|_| ()), 0);
                assert!(spoilt(|p| p.timestamp = p.timestamp.wrapping_sub(90_000)) > 0);
                assert!(spoilt(|p| p.marker = !p.marker) > 0 || layering.spatial > 1);
                assert!(spoilt(|p| p.tag.publisher = 2) > 0);
                assert!(spoilt(|p| p.descriptor = p.descriptor.map(|d| Described { frame: d.frame + 1, ..d })) > 0);
                let numbered = matches!(codec, VideoCodec::Vp8 | VideoCodec::Vp9);
                assert!(spoilt(|p| p.head.picture_id = p.head.picture_id.map(|id| id ^ 1)) > 0 || !numbered);
            }
        }
    }

    /// A frame that nothing refers to is lost: a decoder goes on. One of the base layer: it waits for a keyframe.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn a_loss_is_not_the_servers_fault() {
        let layering = Layering::temporal(3);
        let all = stream(VideoCodec::Vp8, layering, 60);
        for (frame, recovers) in [(9, true), (8, false)] {
            let (mut viewer, start) = (Viewer::default(), Instant::now());
            for (seq, packet) in all.iter().enumerate().filter(|(_, p)| p.tag.frame != frame) {
                let now = start + Duration::from_micros(packet.tag.micros);
                assert_eq!(viewer.handle_packet(now, SeqNo(seq as u64), *packet), None);
            }
            assert_eq!(viewer.is_stuck(), !recovers, "frame {frame}");
            assert_eq!(viewer.stats.broken, 0);
            assert_eq!(viewer.stats.frames > 50, recovers, "{:?}", viewer.stats);
        }
    }
}
