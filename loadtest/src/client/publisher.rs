//! The sending side: synthetic frames as RTP, kept for a while to be sent again, and reports.
use super::feedback::Feedback;
use super::head::Shape;
use super::layers::Place;
use super::payload::Tag;
use super::sdp::{self, AnsweredMedia, Direction, Media, extension_id};
use super::track::{EncodingConfig, TrackConfig};
use super::transport::Transport;
use super::{Epoch, earliest};
use exedra::rtp::rtcp::{self, Rtcp, SenderInfo};
use exedra::rtp::{Extension, HeaderWriter, Kind, PayloadType, SeqNo, Ssrc};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets kept to be sent again.
const KEPT: usize = 1_024;
const REPORTS: Duration = Duration::from_secs(1);
/// For how long from its first packet a stream says by extensions which it is.
const LABELLED: Duration = Duration::from_secs(1);
/// Keyframes are so much larger than other frames.
const KEYFRAME_FACTOR: usize = 4;
/// Packets sealed in one turn: few, so that each says when it is handed to the kernel, and not when the first of its burst was.
const BURST: usize = 4;
/// Least time between two keyframes of an encoding.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(200);

/// What was sent and received on the sending side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PublishStats {
    pub packets: u64,
    /// Packets that there should be by the clock: those of frames that were skipped because nobody called in time, too.
    pub due: u64,
    pub retransmitted: u64,
    /// Packets that the server asked for again.
    pub nacked: u64,
    pub keyframe_requests: u64,
    pub keyframes: u64,
    /// Transport-wide feedbacks that came.
    pub feedbacks: u64,
    /// Packets that feedback says of that they came, and that they did not. One that was only late may be in both.
    pub acknowledged: u64,
    pub missed: u64,
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
    /// Frames of which there are packets to send.
    pending: VecDeque<Pending>,
}

/// A frame that is on its way out.
struct Pending {
    track: usize,
    stream: usize,
    /// Of the next packet.
    tag: Tag,
    timestamp: u32,
    /// Bytes of a packet's payload, and of the last one's.
    size: usize,
    last_size: usize,
    place: Place,
    pictures: (u16, u8),
    /// The last frame of its picture.
    ends_picture: bool,
    labelled: bool,
    /// When the next packet is due, and how much later the one after it.
    due: Instant,
    gap: Duration,
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
    config: EncodingConfig,
    /// Somebody wants it, as the server says.
    wanted: bool,
    /// The encoder makes it.
    made: bool,
    ssrc: Ssrc,
    rtx: Option<Ssrc>,
    next: SeqNo,
    next_rtx: SeqNo,
    timestamp_offset: u32,
    /// Of the last picture.
    picture_id: u16,
    tl0_pic_idx: u8,
    /// Pictures since the last keyframe.
    picture: u32,
    frame: u32,
    rng: SmallRng,
    count: u32,
    /// Bytes that were not sent for want of a whole packet.
    credit: usize,
    /// Packets of the last frame.
    parts: u16,
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
    /// The dependency descriptor, if there is one.
    descriptor: Vec<u8>,
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
            pending: VecDeque::new(),
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

    /// What the server wants of a track: nothing at all if it is not `active`, else these encodings where they have names. What is wanted again
    /// goes on with a keyframe.
    pub fn set_wanted(&mut self, mid: &str, active: bool, wanted: &[String]) {
        for stream in self.streams_of(mid) {
            let named = stream.config.rid.as_ref().is_none_or(|rid| wanted.contains(rid));
            stream.keyframe_wanted |= !stream.wanted && active && named;
            stream.wanted = active && named;
        }
    }

    /// The encoder makes only these encodings of a track, as if it had no time for others.
    pub fn set_made(&mut self, mid: &str, made: &[String]) {
        for stream in self.streams_of(mid) {
            let named = stream.config.rid.as_ref().is_none_or(|rid| made.contains(rid));
            stream.keyframe_wanted |= !stream.made && named;
            stream.made = named;
        }
    }

    /// Frames are so much larger or smaller from now on.
    pub fn scale(&mut self, mid: &str, factor: f64) {
        for stream in self.streams_of(mid) {
            stream.config.frame_bytes = (stream.config.frame_bytes as f64 * factor) as usize;
        }
    }

    fn streams_of(&mut self, mid: &str) -> impl Iterator<Item = &mut Stream> {
        self.tracks.iter_mut().filter(move |t| t.mid == mid).flat_map(|t| &mut t.streams)
    }

    /// Encodings of a track that are sent.
    pub fn sending(&self, mid: &str) -> Vec<bool> {
        let track = self.tracks.iter().find(|t| t.mid == mid);
        track.map(|t| t.streams.iter().map(Stream::is_sent).collect()).unwrap_or_default()
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

    /// Sends no media any more, without telling anybody. What is asked for again still goes out.
    pub fn fall_silent(&mut self) {
        self.tracks.iter_mut().for_each(|t| t.muted = true);
        self.pending.clear();
    }

    /// Which of somebody's publishers this is.
    pub fn generation(&self) -> u8 {
        self.id.1
    }

    /// How many encodings a track has.
    pub fn encodings(&self, track: u8) -> usize {
        self.tracks.get(usize::from(track)).map_or(0, |t| t.streams.len())
    }

    /// Whether the frames of a track are of several layers.
    pub fn is_layered(&self, track: u8) -> bool {
        self.tracks.get(usize::from(track)).is_some_and(|t| !t.config.layering.is_flat())
    }

    /// Packets sent so far of one encoding: a receiver's last tag counts up to here.
    pub fn sent(&self, track: u8, encoding: u8) -> Option<u32> {
        self.tracks.get(usize::from(track))?.streams.get(usize::from(encoding)).map(|s| s.count)
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
                Rtcp::TransportFeedback(feedback) => {
                    self.stats.feedbacks += 1;
                    for (_, arrival) in feedback.arrivals() {
                        let count =
                            if arrival.is_some() { &mut self.stats.acknowledged } else { &mut self.stats.missed };
                        *count += 1;
                    }
                }
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
            let mut head = [0; 256];
            let kind = payload_type(sdp::payload_type(track.config.codec) + 1);
            let two_byte = kept.descriptor.len() > 16;
            let mut writer = HeaderWriter::new(&mut head, kept.marker, kind, seq.low(), kept.timestamp, rtx, two_byte);
            writer.extension(extension_id(Extension::Mid), mid.as_bytes());
            if let Some(rid) = &stream.config.rid {
                writer.extension(extension_id(Extension::RepairedRid), rid.as_bytes());
            }
            if !kept.descriptor.is_empty() {
                writer.extension(extension_id(Extension::DependencyDescriptor), &kept.descriptor);
            }
            writer.extension(extension_id(Extension::TransportCc), &transport_sequence.to_be_bytes());
            *transport_sequence = transport_sequence.wrapping_add(1);
            let len = writer.finish();
            let mut payload = kept.seq.low().to_be_bytes().to_vec();
            payload.extend(&kept.bytes);
            if let Some(sealed) = sealed(transport, seq, &head[..len], &payload) {
                transport.send(sealed);
            }
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
                let live = !track.muted && !track.stopped;
                let missed = now.saturating_duration_since(at).as_nanos() / track.config.interval.as_nanos().max(1);
                // Whoever slept goes on from now: a camera does not catch up.
                let base = if missed > 0 { now } else { at };
                track.next_frame = Some(base + track.config.interval);
                if live {
                    let parts: u64 = track.streams.iter().filter(|s| s.is_sent()).map(|s| u64::from(s.parts)).sum();
                    self.stats.due += missed as u64 * parts;
                    self.capture(now, index);
                }
            }
        }
        self.send_due(now);
        if self.next_report.is_none_or(|at| at <= now) {
            self.next_report = Some(now + REPORTS);
            self.report(now);
        }
    }

    /// One frame of each encoding of a track.
    fn capture(&mut self, now: Instant, index: usize) {
        let Self { tracks, stats, epoch, id, pending, .. } = self;
        let Some(track) = tracks.get_mut(index) else { return };
        for (encoding, stream) in track.streams.iter_mut().enumerate().filter(|(_, s)| s.is_sent()) {
            let source = (id.0, id.1, index as u8, encoding as u8);
            let micros = epoch.micros(now);
            stream.begin_picture(now, &track.config);
            for spatial in 0..track.config.layering.spatial {
                let frame = stream.frame(now, &track.config, source, spatial, micros);
                stats.due += u64::from(frame.tag.parts);
                stats.keyframes += u64::from(frame.tag.keyframe);
                pending.push_back(frame);
            }
        }
    }

    /// Seals packets whose time has come, a few at once.
    fn send_due(&mut self, now: Instant) {
        let Self { tracks, transport, transport_sequence, stats, epoch, pending, .. } = self;
        let mut left = BURST;
        let mut at = 0;
        while let Some(frame) = pending.get_mut(at).filter(|_| left > 0) {
            let (track_index, stream_index) = (frame.track, frame.stream);
            let Some(track) = tracks.get_mut(track_index) else { break };
            let Some(stream) = track.streams.get_mut(stream_index) else { break };
            while left > 0 && frame.due <= now && frame.tag.part < frame.tag.parts {
                frame.tag.sent = epoch.micros(now);
                let sent = stream.send_packet(&track.config, &track.mid, frame, transport, transport_sequence);
                stats.packets += u64::from(sent);
                frame.tag.part += 1;
                frame.due += frame.gap;
                left -= 1;
            }
            if frame.tag.part == frame.tag.parts {
                pending.remove(at);
            } else {
                // What is behind it of the same stream waits; other streams have their own pace.
                at += 1;
                while pending.get(at).is_some_and(|f| (f.track, f.stream) == (track_index, stream_index)) {
                    at += 1;
                }
            }
        }
    }

    fn report(&mut self, now: Instant) {
        let mut out = Vec::new();
        for track in self.tracks.iter().filter(|t| !t.stopped) {
            for stream in track.streams.iter().filter(|s| s.packets > 0 && s.is_sent()) {
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
        let packets = self.pending.iter().map(|f| Some(f.due));
        earliest(frames.chain(packets).chain([transport, self.next_report.or(ready)]))
    }
}

impl Track {
    fn media(&self) -> Media {
        let named = self.streams.iter().filter_map(|s| s.config.rid.clone()).collect::<Vec<_>>();
        Media {
            mid: self.mid.clone(),
            kind: self.config.kind,
            direction: if self.stopped { Direction::Inactive } else { Direction::Send },
            audio_nack: self.config.nack,
            rtx: self.config.rtx,
            feedback: Feedback::TransportCc,
            codecs: vec![self.config.codec],
            ssrcs: self.streams.iter().filter(|_| named.is_empty()).map(|s| (s.ssrc, s.rtx)).collect(),
            rids: named,
        }
    }
}

impl Stream {
    fn new(rng: &mut SmallRng, track: &TrackConfig, config: &EncodingConfig) -> Self {
        let first = track.first_sequence.unwrap_or_else(|| rng.random_range(0..0x8000));
        Self {
            config: config.clone(),
            wanted: true,
            made: config.made,
            ssrc: Ssrc(rng.random()),
            rtx: (track.kind == Kind::Video && track.rtx).then(|| Ssrc(rng.random())),
            next: SeqNo(first.into()),
            next_rtx: SeqNo(rng.random_range(0..0x8000)),
            timestamp_offset: rng.random(),
            picture_id: rng.random_range(0..0x8000),
            tl0_pic_idx: rng.random(),
            picture: 0,
            frame: 0,
            rng: SmallRng::from_rng(rng),
            count: 0,
            credit: 0,
            parts: 1,
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

    fn is_sent(&self) -> bool {
        self.wanted && self.made
    }

    /// Another picture is captured: a keyframe if one is wanted.
    fn begin_picture(&mut self, now: Instant, config: &TrackConfig) {
        let rested = self.last_keyframe.is_none_or(|at| now.saturating_duration_since(at) >= KEYFRAME_PAUSE);
        self.picture += 1;
        if config.kind == Kind::Video && self.keyframe_wanted && rested {
            (self.keyframe_wanted, self.last_keyframe, self.picture) = (false, Some(now), 0);
        }
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        let place = config.layering.place(self.picture, 0);
        self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(u8::from(place.temporal == 0));
    }

    /// Bytes of a frame.
    fn frame_size(&mut self, config: &TrackConfig, place: &Place) -> usize {
        let (layering, mean) = (config.layering, self.config.frame_bytes);
        if config.kind == Kind::Audio || layering.is_flat() && config.noise == 0.0 {
            return mean * if place.key_picture && config.kind == Kind::Video { KEYFRAME_FACTOR } else { 1 };
        }
        let above = i32::from(layering.spatial - 1 - place.spatial);
        let share = if place.key_picture { KEYFRAME_FACTOR as f64 } else { layering.share(place.temporal) };
        let noise = 1.0 + f64::from(config.noise) * self.rng.random_range(-1.0..=1.0);
        (mean as f64 * share * noise / 3f64.powi(above)) as usize
    }

    /// The next frame of the picture: of one spatial layer.
    fn frame(
        &mut self,
        now: Instant,
        config: &TrackConfig,
        (publisher, generation, track, encoding): (u32, u8, u8, u8),
        spatial: u8,
        micros: u64,
    ) -> Pending {
        let video = config.kind == Kind::Video;
        let place = config.layering.place(self.picture, spatial);
        let mut tag = Tag {
            publisher,
            generation,
            track,
            encoding,
            keyframe: video && place.key_picture && spatial == 0,
            frame: self.frame,
            spatial,
            temporal: place.temporal,
            refs: place.refs,
            picture: self.picture_id,
            part: 0,
            parts: 1,
            micros,
            sent: 0,
            count: 0,
        };
        let bytes = self.frame_size(config, &place);
        let (size, last_size) = match (video, config.even) {
            (false, _) => (bytes, bytes),
            (true, true) => {
                let whole = ((self.credit + bytes) / config.mtu).max(1);
                self.credit = (self.credit + bytes).saturating_sub(whole * config.mtu);
                tag.parts = whole as u16;
                (config.mtu, config.mtu)
            }
            (true, false) => {
                tag.parts = bytes.div_ceil(config.mtu).max(1) as u16;
                (config.mtu, bytes - (usize::from(tag.parts) - 1) * config.mtu)
            }
        };
        let first_sent = *self.first_sent.get_or_insert(now);
        let pace = config.pace / u32::from(config.layering.spatial);
        let frame = Pending {
            track: usize::from(tag.track),
            stream: usize::from(tag.encoding),
            tag,
            timestamp: self.timestamp(tag.micros, config.kind),
            size,
            last_size,
            place,
            pictures: (self.picture_id, self.tl0_pic_idx),
            ends_picture: spatial + 1 == config.layering.spatial,
            labelled: tag.keyframe || now.saturating_duration_since(first_sent) < LABELLED,
            // One layer after the other.
            due: now + pace * u32::from(spatial),
            gap: pace / u32::from(tag.parts),
        };
        self.parts = tag.parts;
        self.frame = self.frame.wrapping_add(1);
        frame
    }

    /// Seals and queues the next packet of a frame.
    fn send_packet(
        &mut self,
        config: &TrackConfig,
        mid: &str,
        frame: &Pending,
        transport: &mut Transport,
        transport_sequence: &mut u16,
    ) -> bool {
        let tag = Tag { count: self.count, ..frame.tag };
        let (video, last) = (config.kind == Kind::Video, tag.part + 1 == tag.parts);
        let full = self.kept.len() == KEPT;
        let mut payload = if full { self.kept.pop_front().map(|k| k.bytes).unwrap_or_default() } else { Vec::new() };
        payload.clear();
        let len = if last { frame.last_size } else { frame.size };
        if video {
            let shape = Shape {
                layering: config.layering,
                place: frame.place,
                starts: tag.part == 0,
                ends: last,
                pictures: frame.pictures,
                size: self.config.size,
                len,
            };
            shape.write(config.codec, &mut payload);
        } else {
            payload.push(0x78); // One 20 ms frame of fullband CELT (RFC 6716 section 3.1).
        }
        tag.write(&mut payload);
        payload.resize(payload.len().max(len), 0x5a);
        let marker = !video || last && frame.ends_picture;
        let structured = tag.keyframe && tag.part == 0;
        let descriptor = if video && config.descriptor {
            let size = structured.then_some(self.config.size);
            config.layering.descriptor(&frame.place, (tag.part == 0, last), tag.frame as u16, size)
        } else {
            Vec::new()
        };
        let mut head = [0; 256];
        let kind = payload_type(if video { sdp::payload_type(config.codec) } else { sdp::OPUS });
        let seq = self.next;
        let mut writer =
            HeaderWriter::new(&mut head, marker, kind, seq.low(), frame.timestamp, self.ssrc, descriptor.len() > 16);
        if frame.labelled {
            writer.extension(extension_id(Extension::Mid), mid.as_bytes());
            if let Some(rid) = &self.config.rid {
                writer.extension(extension_id(Extension::Rid), rid.as_bytes());
            }
        }
        if !video {
            writer.extension(extension_id(Extension::AudioLevel), &[config.level | 0x80]);
        }
        if !descriptor.is_empty() {
            writer.extension(extension_id(Extension::DependencyDescriptor), &descriptor);
        }
        writer.extension(extension_id(Extension::TransportCc), &transport_sequence.to_be_bytes());
        *transport_sequence = transport_sequence.wrapping_add(1);
        let len = writer.finish();
        let Some(sealed) = sealed(transport, seq, &head[..len], &payload) else { return false };
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        let bytes = if self.rtx.is_some() { payload } else { sealed.clone() };
        transport.send(sealed);
        self.kept.push_back(Kept { seq, timestamp: frame.timestamp, marker, bytes, descriptor });
        (self.next, self.count) = (seq.next(), self.count.wrapping_add(1));
        true
    }
}

/// Seals a packet.
fn sealed(transport: &mut Transport, seq: SeqNo, header: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let outbound = transport.outbound()?;
    let mut out = vec![0; header.len() + payload.len() + outbound.profile().rtp_overhead()];
    outbound.seal_rtp(seq, header, payload, &mut out)?;
    Some(out)
}

fn payload_type(n: u8) -> PayloadType {
    PayloadType::try_from(n).unwrap_or_else(|_| unreachable!("payload types of this module are below 128"))
}
