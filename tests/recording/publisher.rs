//! Sends a film as RTP over a network, into a recorder; in virtual time. The packets are made by the `rtc` crates.
use crate::ffmpeg::Film;
use bytes::Bytes;
use exedra::record::{Event, MediaPacket, Recorder, SessionStart, SourceId, Summary};
use exedra::rtp::packet::PacketInfo;
use exedra::rtp::{Codec, SeqNo, codec};
use rtp::codec::{av1::Av1Payloader, h264::H264Payloader, vp8::Vp8Payloader, vp9::Vp9Payloader};
use rtp::packetizer::Payloader;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::{Duration, Instant, SystemTime};

const MTU: usize = 1_100;
const MS: u64 = 1_000_000;

/// What happens on the way.
pub struct Network {
    /// Packets overtake each other, and come twice.
    pub reorder: bool,
    /// They never come.
    pub loss_percent: u64,
    pub seed: u64,
}

impl Network {
    pub fn perfect() -> Self {
        Self { reorder: false, loss_percent: 0, seed: 1 }
    }
}

pub struct Recorded {
    pub file: Vec<u8>,
    /// The file as it was before it was finished.
    pub growing: Vec<u8>,
    pub summary: Summary,
}

/// A packet of a film.
#[derive(Clone)]
pub struct Sent {
    /// 1: the picture, 2: the sound.
    pub source: u64,
    codec: Codec,
    seq: u64,
    timestamp: u32,
    marker: bool,
    /// Nanoseconds since the film began.
    pub captured: u64,
    payload: Bytes,
}

impl Sent {
    /// The same packet when the film runs again.
    pub fn in_round(&self, round: u32, film: &[Sent]) -> Sent {
        let count = film.iter().filter(|s| s.source == self.source).count() as u64;
        let ticks = Film::LENGTH.as_secs() as u32 * self.codec.clock_rate();
        Sent {
            seq: self.seq + u64::from(round) * count,
            timestamp: self.timestamp.wrapping_add(round * ticks),
            ..self.clone()
        }
    }

    /// As it is on the wire of a stream.
    pub fn rtp(&self, ssrc: u32, payload_type: u8) -> rtp::Packet {
        let header = rtp::header::Header {
            version: 2,
            marker: self.marker,
            payload_type,
            sequence_number: self.seq as u16,
            timestamp: self.timestamp,
            ssrc,
            ..Default::default()
        };
        rtp::Packet { header, payload: self.payload.clone() }
    }

    /// Hands it over as a shard would that mirrors its track.
    pub fn deliver(&self, start: Instant, captured: Duration, to: impl FnOnce(MediaPacket<'_>)) {
        let mut bytes = vec![0; 12];
        bytes.extend_from_slice(&self.payload);
        let info = PacketInfo {
            timestamp: self.timestamp,
            marker: self.marker,
            codec: self.codec,
            header_len: 12,
            payload_len: self.payload.len() as u16,
            frame: codec::describe(self.codec, &self.payload, self.marker, None).unwrap(),
            extensions: Default::default(),
        };
        to(MediaPacket { seq: SeqNo(self.seq), info: &info, captured_at: start + captured, bytes: &bytes });
    }
}

/// Sends the film, and gives the file.
pub fn record(film: &Film, video: Codec, network: &Network) -> Recorded {
    let start = Instant::now();
    let wall = SystemTime::now();
    let out = Cursor::new(Vec::new());
    let mut recorder = Recorder::new(start, SessionStart { instant: start, wall }, Some(video), Some(Codec::Opus), out);
    let mut arrivals = BTreeMap::new();
    let mut random = network.seed;
    let mut below = |n: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % n
    };
    for (n, sent) in packets(film, video).into_iter().enumerate() {
        // The first two seconds are spared, so that there is something to compare.
        if sent.captured > 2_000 * MS && below(100) < network.loss_percent {
            continue;
        }
        let delay = 30 * MS + if network.reorder { below(60) * MS } else { 0 };
        if network.reorder && below(20) == 0 {
            arrivals.insert((sent.captured + delay + below(200) * MS, 2 * n + 1), sent.clone());
        }
        arrivals.insert((sent.captured + delay, 2 * n), sent);
    }
    let mut end = start;
    let mut requests = 0;
    for ((at, _), sent) in arrivals {
        let now = start + Duration::from_nanos(at);
        end = now;
        // Those that come twice are refused.
        sent.deliver(start, Duration::from_nanos(sent.captured), |packet| {
            let _ = recorder.handle_packet(now, SourceId(sent.source), packet);
        });
        recorder.handle_timeout(now).unwrap();
        while let Some(event) = recorder.poll_event() {
            requests += u32::from(matches!(event, Event::WantKeyframe(_)));
        }
    }
    let growing = recorder.file().map(|file| file.get_ref().clone()).unwrap_or_default();
    assert!(requests >= 1);
    let (file, summary) = recorder.finish(end).unwrap();
    Recorded { file: file.into_inner(), growing, summary }
}

/// The film's packets, by when they were captured.
pub fn packets(film: &Film, video: Codec) -> Vec<Sent> {
    let mut payloader = payloader(video);
    let mut sent = Vec::new();
    let mut seq = 65_000;
    for (n, picture) in film.pictures.iter().enumerate() {
        let captured = film.picture_time(n);
        let timestamp = (u32::MAX - 200_000).wrapping_add((captured * 9 / 100_000) as u32);
        let payloads = payloader.payload(MTU, picture).unwrap();
        let last = payloads.len() - 1;
        for (part, payload) in payloads.into_iter().enumerate() {
            sent.push(Sent { source: 1, codec: video, seq, timestamp, marker: part == last, captured, payload });
            seq += 1;
        }
    }
    for (n, packet) in film.sounds.iter().enumerate() {
        let captured = n as u64 * 20 * MS;
        let (timestamp, payload) = (77 + n as u32 * 960, packet.clone());
        sent.push(Sent { source: 2, codec: Codec::Opus, seq: n as u64, timestamp, marker: false, captured, payload });
    }
    sent.sort_by_key(|s| s.captured);
    sent
}

fn payloader(codec: Codec) -> Box<dyn Payloader> {
    match codec {
        Codec::Vp8 => {
            let mut payloader = Vp8Payloader::default();
            payloader.enable_picture_id = true;
            Box::new(payloader)
        }
        Codec::Vp9 { .. } => Box::new(Vp9Payloader::default()),
        Codec::Av1 { .. } => Box::new(Av1Payloader::default()),
        Codec::H264 { .. } => Box::new(H264Payloader::default()),
        Codec::Opus | Codec::Red => unreachable!("no video"),
    }
}
