//! One RTP stream of a track: packets in, whole frames out.
//!
//! A picture with a missing packet is not written, nor what refers to it: everything until the next keyframe, which is asked for.
//! Audio goes on at once; how much is missing shows in its timestamps.
use super::MediaPacket;
use super::depacketize::{Depacketizer, Picture, Size, opus};
use super::reorder::{Next, Packet, Reorder};
use crate::metrics::DropReason;
use crate::rtp::codec::{Codec, FrameInfo, opus::red_blocks};
use crate::rtp::seq::timestamp_distance;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A recording asks for no more keyframes than this.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);
/// Whoever gave none for so many requests is asked at twice the interval each time, up to 32 s: what it sends may be encrypted.
const PATIENCE: u32 = 5;
const MAX_BACK_OFF: u32 = 5;

/// A packet that is missing for so long is hardly to come: a keyframe is asked for while it is still waited for.
const HARDLY: Duration = Duration::from_millis(700);

/// A frame that is whole: a picture, or an Opus packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// RTP's.
    pub timestamp: u32,
    /// On our clock.
    pub captured_at: Instant,
    /// When its last packet came.
    pub arrived_at: Instant,
    pub data: Vec<u8>,
    /// A decoder may start here. Always set for audio.
    pub keyframe: bool,
    /// Of keyframes, where the codec tells it.
    pub size: Option<Size>,
    /// Matroska's CodecPrivate. Of keyframes of H.264 and AV1.
    pub configuration: Option<Vec<u8>>,
    /// Audio: dB below full scale (RFC 6464), where the sender told it.
    pub level: Option<u8>,
    /// Packets that are missing between the last frame and this one.
    pub lost: u64,
    /// Pictures are missing between the last frame and this keyframe.
    pub after_gap: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Reception {
    codec: Codec,
    reorder: Reorder,
    /// None for audio.
    assembly: Option<Assembly>,
    /// Timestamp of the last audio frame: redundancy repeats what came before.
    last_audio: Option<u32>,
    /// Packets that are missing since the last frame, and in all.
    newly_lost: u64,
    lost: u64,
    ready: VecDeque<Frame>,
    last_request: Option<Instant>,
    /// Requests since the last picture.
    unanswered: u32,
    /// When a keyframe last began to arrive.
    keyframe_arrived: Option<Instant>,
}

impl Reception {
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            reorder: Reorder::default(),
            assembly: Depacketizer::new(codec).map(Assembly::new),
            last_audio: None,
            newly_lost: 0,
            lost: 0,
            ready: VecDeque::new(),
            last_request: None,
            unanswered: 0,
            keyframe_arrived: None,
        }
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Packets that were missing until now, and are given up.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// A packet came: `now` is when. Of another codec than the stream's it is refused: that needs a reception of its own.
    pub fn handle_packet(&mut self, now: Instant, packet: MediaPacket<'_>) -> Result<(), DropReason> {
        if packet.info.codec != self.codec {
            return Err(DropReason::CodecNotNegotiated);
        }
        if packet.info.payload_len == 0 {
            return self.handle_padding(now, packet.seq); // It probes the path for bandwidth.
        }
        if packet.info.frame.keyframe {
            self.keyframe_arrived = Some(now);
        }
        let taken = self.reorder.push(now, packet);
        self.handle_timeout(now);
        taken
    }

    /// The packet of this number carried nothing (padding): it is not missing.
    pub fn handle_padding(&mut self, now: Instant, seq: crate::rtp::SeqNo) -> Result<(), DropReason> {
        let taken = self.reorder.push_empty(now, seq.0);
        self.handle_timeout(now);
        taken
    }

    /// Gives up what was waited for long enough. See [`deadline`](Self::deadline).
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(next) = self.reorder.pop(now) {
            self.take(next);
        }
    }

    /// The stream is interrupted on purpose: muted, unpublished, or replaced. What waits is given out, and whatever comes then is a
    /// new beginning: numbers may jump, and a picture starts with a keyframe.
    pub fn interrupt(&mut self) {
        let mut reorder = std::mem::take(&mut self.reorder);
        reorder.drain().for_each(|next| self.take(next));
        if let Some(assembly) = &mut self.assembly {
            assembly.break_off();
        }
    }

    /// True if a frame is ready.
    pub fn has_frame(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next whole frame.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// Since when a missing packet holds up what came behind it, if one does.
    pub fn is_waiting(&self) -> bool {
        self.reorder.deadline().is_some()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if no packet comes before.
    pub fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }

    /// True if a keyframe is to be asked for now. At most once in [`KEYFRAME_INTERVAL`].
    pub fn poll_keyframe_request(&mut self, now: Instant) -> bool {
        let Some(assembly) = &self.assembly else { return false };
        // One that came behind the missing packet will do.
        let hole = self.reorder.hole_since().filter(|since| self.keyframe_arrived.is_none_or(|at| at < *since));
        let wanted = match self.reorder.hole_since() {
            Some(_) => hole.is_some_and(|since| now >= since + HARDLY),
            None => assembly.awaits_keyframe,
        };
        let back_off = self.unanswered.saturating_sub(PATIENCE).min(MAX_BACK_OFF);
        let due = self.last_request.is_none_or(|at| now >= at + KEYFRAME_INTERVAL * (1 << back_off));
        if wanted && due {
            self.last_request = Some(now);
            self.unanswered = self.unanswered.saturating_add(1);
        }
        wanted && due
    }

    fn take(&mut self, next: Next) {
        match next {
            Next::Missing(n) => {
                self.newly_lost += n;
                self.lost += n;
                if let Some(assembly) = &mut self.assembly {
                    assembly.handle_missing();
                }
            }
            Next::Packet(packet) => match &mut self.assembly {
                None => self.take_audio(packet),
                Some(assembly) => {
                    let finished = assembly.push(packet);
                    for frame in finished.into_iter().flatten() {
                        self.unanswered = 0;
                        self.ready.push_back(Frame { lost: std::mem::take(&mut self.newly_lost), ..frame });
                    }
                }
            },
        }
    }

    fn take_audio(&mut self, packet: Packet) {
        if self.codec != Codec::Red {
            let timestamp = packet.info.timestamp;
            self.give_audio(&packet, timestamp, packet.payload.clone());
            return;
        }
        for block in red_blocks(&packet.payload) {
            let Ok(block) = block else { return };
            let timestamp = packet.info.timestamp.wrapping_sub(block.timestamp_offset.into());
            self.give_audio(&packet, timestamp, block.data.to_vec());
        }
    }

    /// One Opus packet, unless it repeats what was there or is none (DTX).
    fn give_audio(&mut self, packet: &Packet, timestamp: u32, data: Vec<u8>) {
        let seen = self.last_audio.is_some_and(|last| timestamp_distance(timestamp, last) <= 0);
        // A sender that starts its clock anew is not one that repeats.
        let anew = self.last_audio.is_some_and(|last| timestamp_distance(timestamp, last) < -48_000);
        if seen && !anew || opus::samples(&data).is_none() {
            return;
        }
        self.last_audio = Some(timestamp);
        let behind = timestamp_distance(packet.info.timestamp, timestamp).max(0) as u64;
        let earlier = Duration::from_micros(behind * 1_000_000 / 48_000);
        self.ready.push_back(Frame {
            timestamp,
            captured_at: packet.captured_at.checked_sub(earlier).unwrap_or(packet.captured_at),
            arrived_at: packet.arrived_at,
            data,
            keyframe: true,
            size: None,
            configuration: None,
            level: packet.level,
            lost: std::mem::take(&mut self.newly_lost),
            after_gap: false,
        });
    }
}

/// Joins packets to pictures.
#[derive(Debug)]
struct Assembly {
    depacketizer: Depacketizer,
    open: Option<Open>,
    awaits_keyframe: bool,
    /// A picture was given out.
    begun: bool,
    /// Packets are missing right before the next one, after a picture that was whole.
    gap: bool,
    /// What counts pictures in the last packet of the last whole one.
    last_count: Option<u16>,
}

/// The picture that is being received.
#[derive(Debug)]
struct Open {
    timestamp: u32,
    captured_at: Instant,
    arrived_at: Instant,
    count: Option<u16>,
    /// Its first packet was the first of a picture, and none is missing.
    whole: bool,
}

impl Assembly {
    fn new(depacketizer: Depacketizer) -> Self {
        Self { depacketizer, open: None, awaits_keyframe: true, begun: false, gap: true, last_count: None }
    }

    fn handle_missing(&mut self) {
        if let Some(open) = &mut self.open {
            open.whole = false;
            self.awaits_keyframe = true;
            self.depacketizer.discard();
        }
        self.gap = true;
    }

    fn break_off(&mut self) {
        self.handle_missing();
        (self.open, self.awaits_keyframe, self.last_count) = (None, true, None);
    }

    /// A packet ends at most two pictures: the one before, if it had no marker, and its own.
    fn push(&mut self, packet: Packet) -> [Option<Frame>; 2] {
        let info = packet.info;
        let mut finished = [None, None];
        if self.open.as_ref().is_some_and(|open| open.timestamp != info.timestamp) {
            finished[0] = self.close();
        }
        if self.open.is_none() {
            self.begin(&packet);
        } else {
            self.gap = false;
        }
        let Some(open) = &mut self.open else { return finished };
        open.arrived_at = open.arrived_at.max(packet.arrived_at);
        open.count = count(&info.frame);
        if open.whole && self.depacketizer.push(&packet.payload, &info.frame).is_err() {
            open.whole = false;
            self.awaits_keyframe = true;
            self.depacketizer.discard();
        }
        if info.marker {
            finished[1] = self.close();
        }
        finished
    }

    fn begin(&mut self, packet: &Packet) {
        let frame = &packet.info.frame;
        let starts = frame.frame_start && frame.spatial == 0;
        let whole = starts || !self.gap;
        if self.gap {
            // If pictures are counted on, what is missing was no picture: padding.
            let follows = self.last_count.zip(count(frame)).is_some_and(|(last, this)| {
                let mask = if frame.frame_number.is_some() || frame.picture_id.is_some_and(|id| id.wide) {
                    0x7fff
                } else {
                    0x7f
                };
                last.wrapping_add(1) & mask == this & mask
            });
            if !(starts && follows) {
                self.awaits_keyframe = true;
                self.depacketizer.discard();
            }
        }
        self.gap = false;
        self.open = Some(Open {
            timestamp: packet.info.timestamp,
            captured_at: packet.captured_at,
            arrived_at: packet.arrived_at,
            count: None,
            whole,
        });
    }

    fn close(&mut self) -> Option<Frame> {
        let open = self.open.take()?;
        self.last_count = open.count;
        if !open.whole {
            self.awaits_keyframe = true;
            return None;
        }
        let Ok(Picture { data, keyframe, size, configuration }) = self.depacketizer.finish() else {
            self.awaits_keyframe = true;
            self.depacketizer.discard();
            return None;
        };
        if self.awaits_keyframe && !keyframe {
            return None;
        }
        let after_gap = std::mem::take(&mut self.awaits_keyframe) && self.begun;
        self.begun = true;
        let Open { timestamp, captured_at, arrived_at, .. } = open;
        let (level, lost) = (None, 0);
        Some(Frame { timestamp, captured_at, arrived_at, data, keyframe, size, configuration, level, lost, after_gap })
    }
}

fn count(frame: &FrameInfo) -> Option<u16> {
    frame.frame_number.or(frame.picture_id.map(|id| id.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::reorder::tests::now;
    use crate::rtp::packet::PacketInfo;
    use crate::rtp::{Malformed, SeqNo, codec};

    const VP8: Codec = Codec::Vp8;

    struct Sender {
        reception: Reception,
        at: Instant,
        seq: u64,
        timestamp: u32,
        picture: u8,
    }

    impl Sender {
        fn new(codec: Codec) -> Self {
            Self { reception: Reception::new(codec), at: now(), seq: 100, timestamp: u32::MAX - 5_000, picture: 120 }
        }

        fn packet(&mut self, payload: &[u8], marker: bool, lost: bool) {
            let seq = SeqNo(self.seq);
            self.seq += 1;
            if !lost {
                send(&mut self.reception, self.at, seq, self.timestamp, payload, marker).unwrap();
            }
        }

        /// A frame of three packets, of which `lost` is lost.
        fn frame(&mut self, keyframe: bool, lost: Option<usize>) {
            let id = self.picture & 0x7f;
            self.picture = self.picture.wrapping_add(1);
            let tag: &[u8] = if keyframe { &[0x10, 2, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xf0, 0] } else { &[0x11, 2, 0] };
            self.packet(&[&[0x90, 0x80, id], tag].concat(), false, lost == Some(0));
            self.packet(&[0x80, 0x80, id, 1], false, lost == Some(1));
            self.packet(&[0x80, 0x80, id, 2], true, lost == Some(2));
            self.timestamp = self.timestamp.wrapping_add(3_000);
            self.at += Duration::from_millis(33);
        }

        fn frames(&mut self) -> Vec<(bool, u64)> {
            std::iter::from_fn(|| self.reception.poll_frame()).map(|f| (f.keyframe, f.lost)).collect()
        }

        fn wait(&mut self, ms: u64) {
            self.at += Duration::from_millis(ms);
            self.reception.handle_timeout(self.at);
        }
    }

    fn send(
        reception: &mut Reception,
        at: Instant,
        seq: SeqNo,
        timestamp: u32,
        payload: &[u8],
        marker: bool,
    ) -> Result<(), DropReason> {
        let codec = reception.codec();
        let frame =
            codec::describe(codec, payload, marker, None).map_err(|Malformed(_)| DropReason::DescriptorMalformed)?;
        let info = PacketInfo {
            timestamp,
            marker,
            codec,
            header_len: 0,
            payload_len: payload.len() as u16,
            frame,
            extensions: Default::default(),
        };
        reception.handle_packet(at, MediaPacket { seq, info: &info, captured_at: at, bytes: payload })
    }

    #[test]
    fn pictures_are_whole_and_begin_with_a_keyframe() {
        let mut s = Sender::new(VP8);
        assert!(s.reception.poll_keyframe_request(s.at), "at once");
        assert!(!s.reception.poll_keyframe_request(s.at + Duration::from_millis(999)));
        s.frame(false, None);
        s.wait(60);
        assert_eq!(s.frames(), []);
        assert!(s.reception.poll_keyframe_request(s.at + Duration::from_secs(1)));
        s.frame(true, None);
        s.frame(false, None);
        let key = s.reception.poll_frame().unwrap();
        assert_eq!((key.keyframe, key.size), (true, Some(Size { width: 320, height: 240 })));
        assert_eq!(key.data.len(), 12);
        assert_eq!(s.frames(), [(false, 0)]);
        assert!(!s.reception.poll_keyframe_request(s.at + Duration::from_secs(9)));
    }

    #[test]
    fn after_a_loss_nothing_is_written_until_a_keyframe() {
        for lost in 0..3 {
            let mut s = Sender::new(VP8);
            s.frame(true, None);
            s.frame(false, Some(lost));
            s.frame(false, None);
            s.wait(100);
            assert_eq!(s.frames(), [(true, 0)], "packet {lost}: it may still come");
            assert!(!s.reception.poll_keyframe_request(s.at), "packet {lost}");
            s.wait(600);
            assert!(s.reception.poll_keyframe_request(s.at), "packet {lost}");
            s.frame(true, None);
            s.wait(1_000);
            assert!(!s.reception.poll_keyframe_request(s.at), "packet {lost}: one is there already");
            assert_eq!(s.frames(), []);
            s.wait(400);
            s.frame(false, None);
            assert_eq!(s.frames(), [(true, 1), (false, 0)], "packet {lost}");
            assert_eq!(s.reception.lost(), 1);
        }
    }

    #[test]
    fn whoever_gives_no_keyframe_is_asked_less_and_less() {
        let mut s = Sender::new(VP8);
        let mut asked = Vec::new();
        for second in 0..200 {
            s.at += Duration::from_millis(967);
            s.frame(false, None);
            if s.reception.poll_keyframe_request(s.at) {
                asked.push(second);
            }
        }
        assert_eq!(asked, [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 99, 131, 163, 195]);
        s.frame(true, None);
        s.wait(60);
        s.frame(false, Some(0));
        s.frame(false, None);
        s.wait(2_100);
        s.frame(false, None);
        assert!(s.reception.poll_keyframe_request(s.at));
        assert!(s.reception.poll_keyframe_request(s.at + Duration::from_secs(1)), "it did answer");
    }

    #[test]
    fn what_comes_again_in_time_is_not_lost() {
        let mut s = Sender::new(VP8);
        s.frame(true, None);
        let (seq, timestamp) = (s.seq + 1, s.timestamp);
        s.frame(false, Some(1));
        s.frame(false, None);
        s.wait(1_500);
        let id = 121;
        send(&mut s.reception, s.at, SeqNo(seq), timestamp, &[0x80, 0x80, id, 1], false).unwrap();
        assert_eq!(s.frames(), [(true, 0), (false, 0), (false, 0)]);
    }

    #[test]
    fn missing_padding_is_no_loss_where_pictures_are_counted() {
        let mut s = Sender::new(VP8);
        s.frame(true, None);
        s.seq += 1;
        s.frame(false, None);
        s.wait(2_100);
        assert_eq!(s.frames(), [(true, 0), (false, 1)]);
        assert!(!s.reception.poll_keyframe_request(s.at));
        s.reception.handle_padding(s.at, SeqNo(s.seq)).unwrap();
        s.seq += 1;
        s.frame(false, None);
        assert_eq!(s.frames(), [(false, 0)]);
        s.frame(false, Some(0));
        s.seq += 3; // A whole frame is lost.
        s.picture += 1;
        s.frame(false, None);
        s.wait(2_100);
        assert_eq!(s.frames(), []);
    }

    #[test]
    fn an_interruption_is_a_new_beginning_and_no_loss() {
        let mut s = Sender::new(VP8);
        s.frame(true, None);
        s.wait(60);
        s.reception.interrupt();
        s.seq += 5_000;
        s.frame(false, None);
        s.frame(true, None);
        s.wait(60);
        assert_eq!(s.frames(), [(true, 0), (true, 0)]);
        assert_eq!(s.reception.lost(), 0);
    }

    #[test]
    fn redundant_audio_fills_what_is_missing() {
        let mut s = Sender::new(Codec::Red);
        let opus = |n: u8| vec![0x78, n];
        for n in 0..6u8 {
            let mut payload = vec![0x80 | 111];
            payload.extend(((960u32 << 10) | 2).to_be_bytes()[1..].iter());
            payload.push(111);
            payload.extend(opus(n.wrapping_sub(1)));
            payload.extend(opus(n));
            s.packet(&payload, false, n == 3);
            s.timestamp = s.timestamp.wrapping_add(960);
            s.at += Duration::from_millis(20);
        }
        s.wait(2_100);
        let frames: Vec<_> = std::iter::from_fn(|| s.reception.poll_frame()).collect();
        assert_eq!(frames.iter().map(|f| f.data[1]).collect::<Vec<_>>(), [255, 0, 1, 2, 3, 4, 5]);
        for pair in frames.windows(2) {
            assert_eq!(timestamp_distance(pair[1].timestamp, pair[0].timestamp), 960);
        }
        let repaired = &frames[4];
        assert_eq!(frames[5].captured_at - repaired.captured_at, Duration::from_millis(20));
        assert_eq!((repaired.lost, frames[5].lost), (1, 0));
    }
}
