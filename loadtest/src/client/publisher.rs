//! The sending side: synthetic frames as RTP, kept for a while to be sent again, and reports.
use super::payload::{TAG, Tag, VP8_HEAD, Vp8};
use super::sdp::{self, AnsweredMedia, Direction, Media, extension_id};
use super::transport::Transport;
use super::{Epoch, earliest, ms};
use exedra::rtp::rtcp::{self, Rtcp, SenderInfo};
use exedra::rtp::{Extension, HeaderWriter, Kind, PayloadType, SeqNo, Ssrc};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Payload bytes of one packet, unless the track says otherwise.
const MTU: usize = 1_100;
/// Packets kept to be sent again.
const KEPT: usize = 1_024;
const REPORTS: Duration = Duration::from_secs(1);
/// For how long from its first packet a stream says by extensions which it is.
const LABELLED: Duration = Duration::from_secs(1);
/// Keyframes are so much larger than other frames.
const KEYFRAME_FACTOR: usize = 4;
/// Least time between two keyframes of an encoding.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(200);

/// A track to publish.
#[derive(Clone, Debug)]
pub struct TrackConfig {
    pub kind: Kind,
    /// `microphone`, `camera`, …
    pub source: String,
    /// Between two frames.
    pub interval: Duration,
    /// One without a name, or several with.
    pub encodings: Vec<EncodingConfig>,
    /// The first sequence number of each stream; random below 2^15 when absent.
    pub first_sequence: Option<u16>,
    /// Audio: dB below full scale.
    pub level: u8,
    /// Payload bytes of one packet.
    pub mtu: usize,
    /// Audio: offer to send lost packets again.
    pub nack: bool,
    /// Video: send lost packets again as RTX, else under their own number.
    pub rtx: bool,
}

#[derive(Clone, Debug)]
pub struct EncodingConfig {
    pub rid: Option<String>,
    /// Of a frame that is no keyframe.
    pub frame_bytes: usize,
}

impl TrackConfig {
    /// 20 ms of Opus at 32 kbit/s, lost packets asked for again.
    pub fn microphone() -> Self {
        Self {
            kind: Kind::Audio,
            source: "microphone".into(),
            interval: ms(20),
            encodings: vec![EncodingConfig { rid: None, frame_bytes: 80 }],
            first_sequence: None,
            level: 30,
            mtu: MTU,
            nack: true,
            rtx: true,
        }
    }
    /// 20 frames a second of `frame_bytes` each.
    pub fn camera(frame_bytes: usize) -> Self {
        Self {
            kind: Kind::Video,
            source: "camera".into(),
            interval: ms(50),
            encodings: vec![EncodingConfig { rid: None, frame_bytes }],
            ..Self::microphone()
        }
    }
    pub fn simulcast(encodings: &[(&str, usize)]) -> Self {
        let encoding =
            |(rid, frame_bytes): &(&str, usize)| EncodingConfig { rid: Some((*rid).into()), frame_bytes: *frame_bytes };
        Self { encodings: encodings.iter().map(encoding).collect(), ..Self::camera(0) }
    }
    pub fn source(mut self, source: &str) -> Self {
        self.source = source.into();
        self
    }
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }
    pub fn starting_at(mut self, sequence: u16) -> Self {
        self.first_sequence = Some(sequence);
        self
    }
    pub fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }
    pub fn without_rtx(mut self) -> Self {
        self.rtx = false;
        self
    }
    pub fn mtu(mut self, mtu: usize) -> Self {
        self.mtu = mtu.max(VP8_HEAD + TAG);
        self
    }
}

/// What was sent and received on the sending side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PublishStats {
    pub packets: u64,
    pub retransmitted: u64,
    /// Packets that the server asked for again.
    pub nacked: u64,
    pub keyframe_requests: u64,
    pub keyframes: u64,
    /// Transport-wide feedbacks that came.
    pub feedbacks: u64,
    /// Receiver reports on our streams.
    pub reports: u64,
}

/// Publishes some tracks over one transport.
pub struct Publisher {
    pub transport: Transport,
    pub stats: PublishStats,
    id: (u32, u8),
    epoch: Epoch,
    tracks: Vec<Track>,
    transport_sequence: u16,
    next_report: Option<Instant>,
}

struct Track {
    config: TrackConfig,
    mid: String,
    muted: bool,
    /// Not offered any more.
    stopped: bool,
    next_frame: Option<Instant>,
    streams: Vec<Stream>,
}

struct Stream {
    rid: Option<String>,
    frame_bytes: usize,
    paused: bool,
    ssrc: Ssrc,
    rtx: Option<Ssrc>,
    next: SeqNo,
    next_rtx: SeqNo,
    timestamp_offset: u32,
    picture_id: u16,
    tl0_pic_idx: u8,
    frame: u32,
    keyframe_wanted: bool,
    last_keyframe: Option<Instant>,
    first_sent: Option<Instant>,
    kept: VecDeque<Kept>,
    packets: u32,
    octets: u32,
}

struct Kept {
    seq: SeqNo,
    timestamp: u32,
    marker: bool,
    /// The payload where it is sent again as RTX, else the sealed datagram.
    bytes: Vec<u8>,
}

impl Publisher {
    /// `id` marks the media: whose it is, and from which of their publishers.
    pub fn new(transport: Transport, id: (u32, u8), epoch: Epoch, rng: &mut SmallRng, tracks: &[TrackConfig]) -> Self {
        let mut publisher = Self {
            transport,
            stats: PublishStats::default(),
            id,
            epoch,
            tracks: Vec::new(),
            transport_sequence: rng.random(),
            next_report: None,
        };
        tracks.iter().for_each(|t| publisher.add(rng, t.clone()));
        publisher
    }

    /// One more track, for the next offer.
    pub fn add(&mut self, rng: &mut SmallRng, config: TrackConfig) {
        let streams = config.encodings.iter().map(|e| Stream::new(rng, &config, e)).collect();
        let mid = self.tracks.len().to_string();
        self.tracks.push(Track { config, mid, muted: false, stopped: false, next_frame: None, streams });
    }

    /// Stops a track, for the next offer.
    pub fn stop(&mut self, mid: &str) {
        self.tracks.iter_mut().filter(|t| t.mid == mid).for_each(|t| t.stopped = true);
    }

    /// The m-lines of an offer.
    pub fn media(&self) -> Vec<Media> {
        self.tracks.iter().map(Track::media).collect()
    }

    /// `tracks` of the request `negotiate`.
    pub fn offers(&self) -> Vec<serde_json::Value> {
        let live = self.tracks.iter().filter(|t| !t.stopped);
        live.map(|t| serde_json::json!({"mid": t.mid, "source": t.config.source})).collect()
    }

    pub fn set_answer(&mut self, media: &[AnsweredMedia]) {
        for track in &mut self.tracks {
            let answered = media.iter().find(|m| m.mid == track.mid);
            track.stopped |= answered.is_none_or(|m| !m.active);
        }
    }

    /// Nothing of a muted track is sent. It goes on with a keyframe.
    pub fn set_muted(&mut self, mid: &str, muted: bool) {
        for track in self.tracks.iter_mut().filter(|t| t.mid == mid) {
            track.muted = muted;
            track.streams.iter_mut().for_each(|s| s.keyframe_wanted = true);
        }
    }

    /// Sends only these encodings of a track; the others go on with a keyframe when they are wanted again.
    pub fn set_layers(&mut self, mid: &str, wanted: &[String]) {
        for track in self.tracks.iter_mut().filter(|t| t.mid == mid) {
            for stream in &mut track.streams {
                let paused = stream.rid.as_ref().is_some_and(|rid| !wanted.contains(rid));
                stream.keyframe_wanted |= stream.paused && !paused;
                stream.paused = paused;
            }
        }
    }

    /// How loud an audio track is from now on.
    pub fn set_level(&mut self, mid: &str, level: u8) {
        self.tracks.iter_mut().filter(|t| t.mid == mid).for_each(|t| t.config.level = level);
    }

    /// Frames captured so far of each encoding of a track.
    pub fn frames(&self, mid: &str) -> Vec<u32> {
        let track = self.tracks.iter().find(|t| t.mid == mid);
        track.map(|t| t.streams.iter().map(|s| s.frame).collect()).unwrap_or_default()
    }

    /// The sequence numbers that come next, extended: for tests of their wrap.
    pub fn next_sequences(&self, mid: &str) -> Vec<u64> {
        let track = self.tracks.iter().find(|t| t.mid == mid);
        track.map(|t| t.streams.iter().map(|s| s.next.0).collect()).unwrap_or_default()
    }

    /// An opened RTCP compound.
    pub fn handle_rtcp(&mut self, now: Instant, compound: &[u8]) {
        for packet in rtcp::packets(compound).flatten() {
            match packet {
                Rtcp::Nack { media, sequences, .. } => {
                    for low in sequences {
                        self.stats.nacked += 1;
                        self.resend(media, low);
                    }
                }
                Rtcp::Pli { media, .. } => self.want_keyframe(now, media),
                Rtcp::Fir { entries, .. } => entries.for_each(|(media, _)| self.want_keyframe(now, media)),
                Rtcp::ReceiverReport { reports, .. } => self.stats.reports += reports.count() as u64,
                Rtcp::TransportFeedback(_) => self.stats.feedbacks += 1,
                _ => {}
            }
        }
    }

    fn want_keyframe(&mut self, _now: Instant, media: Ssrc) {
        self.stats.keyframe_requests += 1;
        let streams = self.tracks.iter_mut().flat_map(|t| &mut t.streams);
        streams.filter(|s| s.ssrc == media).for_each(|s| s.keyframe_wanted = true);
    }

    fn resend(&mut self, media: Ssrc, low: u16) {
        let Self { tracks, transport, transport_sequence, stats, .. } = self;
        for track in tracks {
            let mid = &track.mid;
            let Some(stream) = track.streams.iter_mut().find(|s| s.ssrc == media) else { continue };
            let Some(kept) = stream.kept.iter().rev().find(|k| k.seq.low() == low) else { return };
            stats.retransmitted += 1;
            let Some(rtx) = stream.rtx else { return transport.send(kept.bytes.clone()) };
            let seq = stream.next_rtx;
            stream.next_rtx = seq.next();
            let mut head = [0; 96];
            let mut writer = HeaderWriter::new(
                &mut head,
                kept.marker,
                payload_type(sdp::VP8_RTX),
                seq.low(),
                kept.timestamp,
                rtx,
                false,
            );
            writer.extension(extension_id(Extension::Mid), mid.as_bytes());
            if let Some(rid) = &stream.rid {
                writer.extension(extension_id(Extension::RepairedRid), rid.as_bytes());
            }
            writer.extension(extension_id(Extension::TransportCc), &transport_sequence.to_be_bytes());
            *transport_sequence = transport_sequence.wrapping_add(1);
            let len = writer.finish();
            let mut payload = kept.seq.low().to_be_bytes().to_vec();
            payload.extend(&kept.bytes);
            seal(transport, seq, &head[..len], &payload);
            return;
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
        if !self.transport.is_secure() || self.transport.failed {
            return;
        }
        for index in 0..self.tracks.len() {
            while self.tracks[index].next_frame.is_none_or(|at| at <= now) {
                let track = &mut self.tracks[index];
                let at = track.next_frame.unwrap_or(now);
                // Whoever slept goes on from now: a camera does not catch up.
                let base = if now.saturating_duration_since(at) >= track.config.interval { now } else { at };
                track.next_frame = Some(base + track.config.interval);
                if !track.muted && !track.stopped {
                    self.capture(now, index);
                }
            }
        }
        if self.next_report.is_none_or(|at| at <= now) {
            self.next_report = Some(now + REPORTS);
            self.report(now);
        }
    }

    /// One frame of each encoding of a track.
    fn capture(&mut self, now: Instant, index: usize) {
        let Self { tracks, transport, transport_sequence, stats, epoch, id, .. } = self;
        let track = &mut tracks[index];
        let micros = epoch.micros(now);
        for (encoding, stream) in track.streams.iter_mut().enumerate().filter(|(_, s)| !s.paused) {
            let tag = Tag {
                publisher: id.0,
                generation: id.1,
                track: index as u8,
                encoding: encoding as u8,
                keyframe: false,
                frame: stream.frame,
                part: 0,
                parts: 1,
                micros,
            };
            stats.packets += stream.send_frame(now, &track.config, &track.mid, tag, transport, transport_sequence);
            stats.keyframes += u64::from(stream.last_keyframe == Some(now));
        }
    }

    fn report(&mut self, now: Instant) {
        let mut out = Vec::new();
        for track in self.tracks.iter().filter(|t| !t.stopped) {
            for stream in track.streams.iter().filter(|s| s.packets > 0 && !s.paused) {
                let rtp_timestamp = stream.timestamp(self.epoch.micros(now), track.config.kind);
                let (packets, octets) = (stream.packets, stream.octets);
                let ntp = self.epoch.ntp(now);
                let info = SenderInfo { ssrc: stream.ssrc, ntp, rtp_timestamp, packets, octets };
                rtcp::write_sender_report(&mut out, &info, &[]);
                rtcp::write_cname(&mut out, stream.ssrc, "loadtest");
            }
        }
        if !out.is_empty() {
            self.transport.send_rtcp(&out);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let transport = self.transport.poll_timeout();
        if !self.transport.is_secure() || self.transport.failed {
            return transport;
        }
        // What has not begun yet begins as soon as media can flow.
        let ready = self.transport.connected_at;
        let frames = self.tracks.iter().filter(|t| !t.stopped && !t.muted).map(|t| t.next_frame.or(ready));
        earliest(frames.chain([transport, self.next_report.or(ready)]))
    }
}

impl Track {
    fn media(&self) -> Media {
        let named = self.streams.iter().filter_map(|s| s.rid.clone()).collect::<Vec<_>>();
        Media {
            mid: self.mid.clone(),
            kind: self.config.kind,
            direction: if self.stopped { Direction::Inactive } else { Direction::Send },
            audio_nack: self.config.nack,
            rtx: self.config.rtx,
            ssrcs: self.streams.iter().filter(|_| named.is_empty()).map(|s| (s.ssrc, s.rtx)).collect(),
            rids: named,
        }
    }
}

impl Stream {
    fn new(rng: &mut SmallRng, track: &TrackConfig, config: &EncodingConfig) -> Self {
        let first = track.first_sequence.unwrap_or_else(|| rng.random_range(0..0x8000));
        Self {
            rid: config.rid.clone(),
            frame_bytes: config.frame_bytes,
            paused: false,
            ssrc: Ssrc(rng.random()),
            rtx: (track.kind == Kind::Video && track.rtx).then(|| Ssrc(rng.random())),
            next: SeqNo(first.into()),
            next_rtx: SeqNo(rng.random_range(0..0x8000)),
            timestamp_offset: rng.random(),
            picture_id: rng.random_range(0..0x8000),
            tl0_pic_idx: rng.random(),
            frame: 0,
            keyframe_wanted: true,
            last_keyframe: None,
            first_sent: None,
            kept: VecDeque::new(),
            packets: 0,
            octets: 0,
        }
    }

    fn timestamp(&self, micros: u64, kind: Kind) -> u32 {
        self.timestamp_offset.wrapping_add((micros * u64::from(kind.clock_rate()) / 1_000_000) as u32)
    }

    /// Sends one frame; how many packets it took.
    fn send_frame(
        &mut self,
        now: Instant,
        config: &TrackConfig,
        mid: &str,
        mut tag: Tag,
        transport: &mut Transport,
        transport_sequence: &mut u16,
    ) -> u64 {
        let rested = self.last_keyframe.is_none_or(|at| now.saturating_duration_since(at) >= KEYFRAME_PAUSE);
        let video = config.kind == Kind::Video;
        tag.keyframe = video && self.keyframe_wanted && rested;
        if tag.keyframe {
            (self.keyframe_wanted, self.last_keyframe) = (false, Some(now));
        }
        let bytes = self.frame_bytes * if tag.keyframe { KEYFRAME_FACTOR } else { 1 };
        tag.parts = if video { bytes.div_ceil(config.mtu).max(1) as u16 } else { 1 };
        let first_sent = *self.first_sent.get_or_insert(now);
        let labelled = tag.keyframe || now.saturating_duration_since(first_sent) < LABELLED;
        let timestamp = self.timestamp(tag.micros, config.kind);
        for part in 0..tag.parts {
            tag.part = part;
            let mut payload = Vec::with_capacity(config.mtu + 64);
            if video {
                let (picture_id, tl0_pic_idx) = (self.picture_id, self.tl0_pic_idx);
                Vp8 { starts_frame: part == 0, picture_id, tl0_pic_idx, keyframe: tag.keyframe }.write(&mut payload);
            } else {
                payload.push(0x78); // One 20 ms frame of fullband CELT (RFC 6716 section 3.1).
            }
            tag.write(&mut payload);
            let rest = bytes.saturating_sub(usize::from(part) * config.mtu).min(config.mtu);
            payload.resize(payload.len().max(rest), 0x5a);
            let marker = !video || part + 1 == tag.parts;
            let mut head = [0; 96];
            let kind = payload_type(if video { sdp::VP8 } else { sdp::OPUS });
            let seq = self.next;
            let mut writer = HeaderWriter::new(&mut head, marker, kind, seq.low(), timestamp, self.ssrc, false);
            if labelled {
                writer.extension(extension_id(Extension::Mid), mid.as_bytes());
                if let Some(rid) = &self.rid {
                    writer.extension(extension_id(Extension::Rid), rid.as_bytes());
                }
            }
            if !video {
                writer.extension(extension_id(Extension::AudioLevel), &[config.level | 0x80]);
            }
            writer.extension(extension_id(Extension::TransportCc), &transport_sequence.to_be_bytes());
            *transport_sequence = transport_sequence.wrapping_add(1);
            let len = writer.finish();
            let Some(sealed) = seal(transport, seq, &head[..len], &payload) else { return 0 };
            self.packets = self.packets.wrapping_add(1);
            self.octets = self.octets.wrapping_add(payload.len() as u32);
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            let bytes = if self.rtx.is_some() { payload } else { sealed };
            self.kept.push_back(Kept { seq, timestamp, marker, bytes });
            self.next = seq.next();
        }
        self.frame = self.frame.wrapping_add(1);
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(1);
        u64::from(tag.parts)
    }
}

/// Seals and queues a packet; gives what was queued.
fn seal(transport: &mut Transport, seq: SeqNo, header: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let outbound = transport.outbound()?;
    let mut out = vec![0; header.len() + payload.len() + outbound.profile().rtp_overhead()];
    outbound.seal_rtp(seq, header, payload, &mut out)?;
    transport.send(out.clone());
    Some(out)
}

fn payload_type(n: u8) -> PayloadType {
    PayloadType::try_from(n).unwrap_or_else(|_| unreachable!("payload types of this module are below 128"))
}
