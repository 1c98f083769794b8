//! A publisher in virtual time, with clocks of its own, a network that loses and delays, and a file that says what became of it.
use super::*;
use crate::record::depacketize::opus;
use crate::record::reorder::tests::now;
use crate::record::webm::tests::{Frame as Block, frames};
use crate::rtp::clock::{PeerClock, StreamClock};
use crate::rtp::codec::describe;
use crate::rtp::packet::PacketInfo;
use crate::rtp::seq::SeqNo;
use std::collections::BTreeMap;
use std::io::Cursor;

const OPUS_LEN: usize = 40;

/// A generator that gives the same numbers each time (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// On its way: to arrive at the key's time.
enum InFlight {
    Media { source: SourceId, seq: u64, timestamp: u32, marker: bool, payload: Vec<u8> },
    Report { kind: Kind, ntp: u64, timestamp: u32 },
}

/// Nanoseconds since the session began, on the true clock.
type Nanos = u64;
const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MS;

/// A publisher's stream: its numbers, and its clock.
struct Stream {
    source: SourceId,
    codec: Codec,
    seq: u64,
    first_timestamp: u32,
    /// How fast its RTP clock runs.
    ppm: i64,
    began: Nanos,
    clock: StreamClock,
}

impl Stream {
    fn new(source: u64, codec: Codec, ppm: i64, began: Nanos) -> Self {
        let clock = StreamClock::new(codec.clock_rate());
        let first_timestamp = u32::MAX - 90_000 * 20 + source as u32 * 77_777;
        Self { source: SourceId(source), codec, seq: 1_000, first_timestamp, ppm, began, clock }
    }

    fn timestamp(&self, at: Nanos) -> u32 {
        let passed = i128::from(at) - i128::from(self.began);
        let ticks = passed * i128::from(self.codec.clock_rate()) * i128::from(1_000_000 + self.ppm) / 1_000_000;
        self.first_timestamp.wrapping_add((ticks / 1_000_000_000) as u32)
    }
}

struct World {
    start: Instant,
    random: Random,
    recorder: Recorder<Cursor<Vec<u8>>>,
    flight: BTreeMap<(Nanos, u64), InFlight>,
    count: u64,
    peer: PeerClock,
    video: Stream,
    audio: Stream,
    keyframe_at: Option<Nanos>,
    requests: Vec<Nanos>,
    gaps: Vec<Gap>,
    loss_percent: u64,
    frame: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let start = now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_428_900);
        let video = Stream::new(1, Codec::Vp8, 0, 0);
        let audio = Stream::new(2, Codec::Opus, 100, 0);
        let began = SessionStart { instant: start, wall };
        let recorder = Recorder::new(start, began, Some(Codec::Vp8), Some(Codec::Opus), Cursor::new(Vec::new()));
        Self {
            start,
            random: Random(seed),
            recorder,
            flight: BTreeMap::new(),
            count: 0,
            peer: PeerClock::default(),
            video,
            audio,
            keyframe_at: None,
            requests: Vec::new(),
            gaps: Vec::new(),
            loss_percent: 2,
            frame: 0,
        }
    }

    fn send(&mut self, at: Nanos, what: InFlight) {
        // Reordering comes by itself, of a delay that varies.
        let delay = 20 * MS + self.random.below(30) * MS;
        let lost = matches!(what, InFlight::Media { .. }) && self.random.below(100) < self.loss_percent;
        // Most of what is lost is sent again, after a round trip; a fifth is lost for good.
        let again = if !lost {
            0
        } else if self.random.below(5) == 0 {
            return;
        } else {
            120 * MS
        };
        self.count += 1;
        self.flight.insert((at + delay + again, self.count), what);
    }

    /// A picture of two packets: the tag of RFC 6386, then when it was captured.
    fn send_picture(&mut self, at: Nanos) {
        let keyframe = self.keyframe_at.take_if(|due| *due <= at).is_some();
        let mut first =
            if keyframe { vec![0x10, 0x10, 2, 0, 0x9d, 1, 0x2a, 160, 0, 90, 0] } else { vec![0x10, 0x11, 2, 0] };
        first.extend(at.to_be_bytes());
        self.frame += 1;
        let timestamp = self.video.timestamp(at);
        // An encoder takes its time.
        let sent = at + 10 * MS + self.random.below(10) * MS;
        for (payload, marker) in [(first, false), (vec![0x00, 9, 9, 9], true)] {
            let (source, seq) = (self.video.source, self.video.seq);
            self.video.seq += 1;
            self.send(sent, InFlight::Media { source, seq, timestamp, marker, payload });
        }
    }

    fn send_sound(&mut self, at: Nanos) {
        let mut payload = vec![0x78];
        payload.extend(at.to_be_bytes());
        payload.resize(OPUS_LEN, 1);
        let (source, seq, timestamp) = (self.audio.source, self.audio.seq, self.audio.timestamp(at));
        self.audio.seq += 1;
        self.send(at + 20 * MS, InFlight::Media { source, seq, timestamp, marker: false, payload });
    }

    /// The publisher's clock is wrong by an hour, and 40 ppm slow.
    fn send_report(&mut self, kind: Kind, at: Nanos) {
        let own = at as i128 + 3_600 * SECOND as i128 - at as i128 * 40 / 1_000_000;
        let ntp = ((own as u128) << 32) / 1_000_000_000;
        let stream = if kind == Kind::Video { &self.video } else { &self.audio };
        let timestamp = stream.timestamp(at);
        self.send(at, InFlight::Report { kind, ntp: ntp as u64, timestamp });
    }

    fn deliver(&mut self, until: Nanos) {
        while let Some(entry) = self.flight.first_entry().filter(|e| e.key().0 <= until) {
            let ((at, _), what) = entry.remove_entry();
            let now = self.start + Duration::from_nanos(at);
            match what {
                InFlight::Report { kind, ntp, timestamp } => {
                    let stream = if kind == Kind::Video { &mut self.video } else { &mut self.audio };
                    self.peer.handle_report(now, ntp);
                    stream.clock.handle_report(ntp, timestamp);
                }
                InFlight::Media { source, seq, timestamp, marker, payload } => {
                    let stream = if source == self.audio.source { &mut self.audio } else { &mut self.video };
                    if stream.source != source {
                        continue;
                    }
                    stream.clock.handle_packet(now, timestamp);
                    let captured_at = stream.clock.captured_at(&self.peer, timestamp).unwrap_or(now);
                    let info = PacketInfo {
                        timestamp,
                        marker,
                        codec: stream.codec,
                        header_len: 0,
                        payload_len: payload.len() as u16,
                        frame: describe(stream.codec, &payload, marker, None).unwrap(),
                        extensions: Default::default(),
                    };
                    let packet = MediaPacket { seq: SeqNo(seq), info: &info, captured_at, bytes: &payload };
                    let _ = self.recorder.handle_packet(now, source, packet);
                }
            }
        }
        self.recorder.handle_timeout(self.start + Duration::from_nanos(until)).unwrap();
        while let Some(event) = self.recorder.poll_event() {
            match event {
                Event::WantKeyframe(_) => {
                    self.keyframe_at = Some(until + 60 * MS);
                    self.requests.push(until);
                }
                Event::Gap(gap) => self.gaps.push(gap),
                Event::Size(_) => {}
            }
        }
    }

    /// Runs from `from` to `to`; `talks` says when there is sound, `shows` when there are pictures.
    fn run(&mut self, from: Nanos, to: Nanos, talks: bool, shows: bool) {
        let mut at = from;
        while at < to {
            // 20 ms of the publisher's audio clock, which is fast, are less.
            if talks {
                let step = 20 * MS * 1_000_000 / (1_000_000 + self.audio.ppm as u64);
                let n = (at - self.audio.began).div_ceil(step);
                let next = self.audio.began + n * step;
                if next < at + 20 * MS {
                    self.send_sound(next);
                }
            }
            if shows && (at / MS).is_multiple_of(100) {
                self.send_picture(at);
            }
            if (at / MS).is_multiple_of(1_000) {
                self.send_report(Kind::Video, at + 3 * MS);
            }
            if (at / MS) % 5_000 == 2_500 / 20 * 20 {
                self.send_report(Kind::Audio, at + 7 * MS);
            }
            at += 20 * MS;
            self.deliver(at);
        }
    }

    fn finish(self, at: Nanos) -> (Vec<u8>, Summary, Vec<Gap>, Vec<Nanos>) {
        let (file, summary) = self.recorder.finish(self.start + Duration::from_nanos(at)).unwrap();
        (file.into_inner(), summary, self.gaps, self.requests)
    }
}

/// When a block was captured, in milliseconds, if it is not silence.
fn captured((track, _, keyframe, data): &Block) -> Option<i64> {
    let at = match (track, keyframe) {
        (0, true) => 10,
        (0, false) => 3,
        _ if data.len() == OPUS_LEN => 1,
        _ => return None,
    };
    let nanos = u64::from_be_bytes(data[at..at + 8].try_into().unwrap());
    Some((nanos / MS) as i64)
}

/// How late each track's blocks stand against their capture, in milliseconds, by minute: the extremes.
fn lateness(blocks: &[Block], zero: i64) -> BTreeMap<(i64, usize), (i64, i64)> {
    let mut by_minute = BTreeMap::new();
    for block in blocks {
        let Some(captured) = captured(block) else { continue };
        let late = block.1 + zero - captured;
        let (least, most) = by_minute.entry((captured / 60_000, block.0)).or_insert((late, late));
        (*least, *most) = ((*least).min(late), (*most).max(late));
    }
    by_minute
}

#[test]
fn what_was_on_its_way_when_it_was_muted_does_not_end_the_gap() {
    let mut world = World::new(3);
    world.run(0, 5 * SECOND, true, true);
    world.recorder.interrupt(Kind::Audio, GapCause::Muted);
    world.run(5 * SECOND, 5 * SECOND + 60 * MS, true, true);
    world.run(5 * SECOND + 60 * MS, 8 * SECOND, false, true);
    world.run(8 * SECOND, 12 * SECOND, true, true);
    let (_, summary, ..) = world.finish(12 * SECOND);
    let muted: Vec<_> = summary.gaps.iter().filter(|g| g.cause == GapCause::Muted).collect();
    let [Gap { kind: Kind::Audio, from_ms, to_ms, .. }] = muted[..] else { panic!("{muted:?}") };
    assert!((5_000..5_100).contains(from_ms) && (7_950..8_100).contains(to_ms), "{muted:?}");
}

#[test]
fn an_hour_with_loss_drift_mutes_and_a_reconnect_stays_in_step() {
    let mut world = World::new(7);
    let minute = 60 * SECOND;
    world.run(0, 10 * minute, true, true);
    // The microphone is muted for two minutes, then the camera for one.
    world.recorder.interrupt(Kind::Audio, GapCause::Muted);
    world.run(10 * minute, 12 * minute, false, true);
    world.run(12 * minute, 20 * minute, true, true);
    world.recorder.interrupt(Kind::Video, GapCause::Muted);
    world.run(20 * minute, 21 * minute, true, false);
    world.run(21 * minute, 30 * minute, true, true);
    // The publisher is away for ten seconds, and comes back with other numbers and clocks.
    for kind in [Kind::Audio, Kind::Video] {
        world.recorder.interrupt(kind, GapCause::PublisherGone);
    }
    let back = 30 * minute + 10 * SECOND;
    world.run(30 * minute, back, false, false);
    world.video = Stream::new(11, Codec::Vp8, 30, back);
    world.audio = Stream::new(12, Codec::Opus, 100, back);
    world.peer = PeerClock::default();
    world.run(back, 60 * minute, true, true);
    let (file, summary, gaps, requests) = world.finish(60 * minute);

    let (front, blocks) = frames(&file);
    assert!(front.complete);
    let zero = summary.start.as_millis() as i64;
    let late = lateness(&blocks, zero);
    for minute in 0..60 {
        let at = |track| late.get(&(minute, track)).copied();
        let (Some(video), Some(audio)) = (at(0), at(1)) else {
            // Nothing of the muted one; whatever is there is told in the gaps.
            assert!([10, 11, 20].contains(&minute), "{minute}");
            continue;
        };
        let worst = (audio.1 - video.0).abs().max((audio.0 - video.1).abs());
        assert!(worst < 40, "minute {minute}: audio {audio:?} ms late, video {video:?} ms");
    }
    // Sound has neither holes nor overlaps, and every time goes up.
    let mut next = None;
    for (_, time, _, data) in blocks.iter().filter(|b| b.0 == 1) {
        let due = next.unwrap_or(*time as f64);
        assert!((*time as f64 - due).abs() < 1.5, "{time} {due}");
        next = Some(due + f64::from(opus::samples(data).unwrap()) / 48.0);
    }
    let video: Vec<_> = blocks.iter().filter(|b| b.0 == 0).collect();
    assert!(video.windows(2).all(|pair| pair[0].1 < pair[1].1));

    // Every picture that was captured is in the file, or in a gap that is told.
    let offset = summary.av_offset.expect("both were there");
    assert!(offset.samples > 2_500 && offset.max_ms < 40.0, "{offset:?}");
    let shown: std::collections::BTreeSet<i64> = video.iter().filter_map(|b| captured(b)).collect();
    let told = |at: i64| {
        summary
            .gaps
            .iter()
            .any(|g| g.kind == Kind::Video && (g.from_ms as i64 - 60..=g.to_ms as i64 + 60).contains(&at))
    };
    for at in (0..3_600_000).step_by(100) {
        assert!(
            shown.contains(&at) || told(at) || !(1_000..=3_599_800).contains(&at),
            "{at} is neither shown nor told"
        );
    }
    let causes = |cause| summary.gaps.iter().filter(|g| g.cause == cause).count();
    assert_eq!((causes(GapCause::Muted), causes(GapCause::PublisherGone)), (2, 2));
    assert!(causes(GapCause::Loss) > 100, "{}", causes(GapCause::Loss));
    assert_eq!(summary.gaps, gaps);
    assert!(requests.windows(2).all(|pair| pair[1] - pair[0] >= SECOND), "one keyframe request a second at most");
}

#[test]
fn what_a_crash_would_lose_is_less_than_a_second() {
    let mut world = World::new(3);
    world.loss_percent = 0;
    for tenth in 0..300 {
        world.run(tenth * SECOND / 10, (tenth + 1) * SECOND / 10, true, true);
        let at = (tenth + 1) as i64 * 100;
        let file = world.recorder.out.writer.as_ref().map(|w| w.get_ref().get_ref().clone());
        let Some(file) = file.filter(|f| !f.is_empty()) else {
            assert!(at < 1_000, "{at}");
            continue;
        };
        let (_, blocks) = frames(&file);
        for track in [0, 1] {
            let newest = blocks.iter().filter(|b| b.0 == track).filter_map(captured).max().unwrap_or(0);
            assert!(at - newest <= 1_000, "track {track} at {at}: {newest}");
        }
    }
}

#[test]
fn an_encoding_that_replaces_another_begins_with_its_keyframe() {
    let mut world = World::new(5);
    world.loss_percent = 0;
    world.run(0, 5 * SECOND, true, true);
    let old = std::mem::replace(&mut world.video, Stream::new(9, Codec::Vp8, 0, 5 * SECOND));
    let before = world.requests.len();
    world.run(5 * SECOND, 8 * SECOND, true, true);
    assert!(world.requests.len() > before, "it was asked for a keyframe");
    assert_ne!(old.source, world.video.source);
    let (file, summary, ..) = world.finish(8 * SECOND);
    let (_, blocks) = frames(&file);
    let first_new = blocks.iter().find(|b| b.0 == 0 && captured(b).unwrap() >= 5_000).unwrap();
    assert!(first_new.2, "a keyframe");
    let zero = summary.start.as_millis() as i64;
    let late = lateness(&blocks, zero);
    assert!(late.values().all(|(least, most)| *least > -40 && *most < 80), "{late:?}");
    assert_eq!(summary.video.unwrap().keyframes, 2);
}

#[test]
fn another_codec_needs_another_file() {
    let mut world = World::new(5);
    world.run(0, SECOND, true, true);
    let payload = [0x10, 0x30, 0x10];
    let codec = Codec::Av1 { profile: 0 };
    let info = PacketInfo {
        timestamp: 0,
        marker: true,
        codec,
        header_len: 0,
        payload_len: 3,
        frame: describe(codec, &payload, true, None).unwrap(),
        extensions: Default::default(),
    };
    let at = world.start + Duration::from_secs(1);
    let packet = MediaPacket { seq: SeqNo(1), info: &info, captured_at: at, bytes: &payload };
    assert_eq!(world.recorder.handle_packet(at, SourceId(3), packet), Err(DropReason::CodecNotNegotiated));
}

#[test]
fn nothing_recorded_is_an_empty_file() {
    let world = World::new(1);
    let (file, summary, ..) = world.finish(SECOND);
    assert_eq!((file.len(), summary.size), (0, 0));
    assert_eq!((summary.video, summary.audio, summary.av_offset), (None, None, None));
}
