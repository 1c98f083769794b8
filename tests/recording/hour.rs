//! An hour of one participant through the engine: from packets on a bad network to a file that FFmpeg judges. In virtual time.
//!
//! A camera with two encodings sends a film that flashes once a second, a microphone whose clock is 100 ppm fast beeps once a second of
//! its own. It is known when each flash and each beep was captured; where they stand in the file is compared with that.
use crate::ffmpeg::{self, Film};
use crate::folder;
use bytes::Bytes;
use exedra::engine::relay::RelayBatch;
use exedra::engine::{Command, Engine, Sink, Transmit};
use exedra::ids::{Mid, ParticipantId, PeerId, RecordingId, Rid, TrackId};
use exedra::metrics::ShardMetrics;
use exedra::peer::LocalIdentity;
use exedra::peer::config::{CodecParameters, Feedback, ReceiveMedia};
use exedra::record::disk::Folder;
use exedra::record::manifest::{Content, Ended, Gap, GapCause};
use exedra::record::session::{Event, Session, SessionId, TrackInfo};
use exedra::record::{MediaPacket, SessionStart, SourceId};
use exedra::rtp::header::{Datagram, classify};
use exedra::rtp::rtcp::{self, Rtcp, SenderInfo};
use exedra::rtp::{Codec, Extension, ExtensionMap, HeaderWriter, Kind, PayloadType, SeqNo, Ssrc};
use loadtest::rig::Client;
use rtp::codec::vp8::Vp8Payloader;
use rtp::packetizer::Payloader;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

type Nanos = u64;
const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MS;
const MINUTE: Nanos = 60 * SECOND;
/// Everything happens on a grid of this.
const STEP: Nanos = 5 * MS;

/// Pictures a second.
const RATE: u64 = 5;
const LOSS_PERCENT: u64 = 2;
const DELAY: Nanos = 20 * MS;
const JITTER: Nanos = 15 * MS;
const PPM: u64 = 100;
const NTP: u64 = 0xe000_0000_0000_0000;

const ADA: ParticipantId = ParticipantId(7);
const RECORDING: RecordingId = RecordingId(1);
const MID: u8 = 1;
const RID: u8 = 2;

/// What the engine sends, and hands over.
#[derive(Default)]
struct Out {
    datagrams: Vec<Vec<u8>>,
    #[expect(clippy::vec_box, reason = "a batch changes hands as a box")]
    batches: Vec<Box<RelayBatch>>,
}

impl Sink for Out {
    fn transmit(&mut self, transmit: Transmit<'_>) {
        self.datagrams.push(transmit.contents.to_vec());
    }
    fn record(&mut self, _: RecordingId, batch: &mut Box<RelayBatch>) -> bool {
        self.batches.push(std::mem::take(batch));
        true
    }
}

/// One RTP stream of the publisher.
struct Stream {
    ssrc: Ssrc,
    rid: Option<&'static str>,
    seq: SeqNo,
    offset: u32,
    /// Ticks a second, in millionths more.
    rate: u64,
    ppm: u64,
    packets: u32,
    kept: BTreeMap<u16, Vec<u8>>,
    payloader: Vp8Payloader,
    report_due: Nanos,
}

impl Stream {
    fn new(ssrc: u32, rid: Option<&'static str>, rate: u64, ppm: u64, began: Nanos) -> Self {
        let mut payloader = Vp8Payloader::default();
        payloader.enable_picture_id = true;
        let (seq, offset) = (SeqNo(65_000 + u64::from(ssrc % 100)), ssrc.wrapping_mul(0x9e37_79b1));
        let report_due = began + 700 * MS;
        Self { ssrc: Ssrc(ssrc), rid, seq, offset, rate, ppm, packets: 0, kept: BTreeMap::new(), payloader, report_due }
    }

    fn timestamp(&self, since: Nanos) -> u32 {
        let ticks =
            u128::from(since) * u128::from(self.rate) * u128::from(1_000_000 + self.ppm) / 1_000_000_000_000_000;
        self.offset.wrapping_add(ticks as u32)
    }

    fn packet(&mut self, client: &Client, since: Nanos, marker: bool, payload: &[u8]) -> Vec<u8> {
        let (kind, mid) = if self.rate == 90_000 { (96, "v") } else { (111, "a") };
        let kind = PayloadType::try_from(kind).unwrap();
        let mut head = [0; 64];
        let seq = self.seq;
        let mut writer = HeaderWriter::new(&mut head, marker, kind, seq.low(), self.timestamp(since), self.ssrc, false);
        writer.extension(MID, mid.as_bytes());
        if let Some(rid) = self.rid {
            writer.extension(RID, rid.as_bytes());
        }
        let len = writer.finish();
        let mut out = vec![0; len + payload.len() + client.outbound.profile().rtp_overhead()];
        client.outbound.seal_rtp(seq, &head[..len], payload, &mut out).unwrap();
        self.seq = seq.next();
        self.packets += 1;
        self.kept.insert(seq.low(), out.clone());
        if self.kept.len() > 600 {
            self.kept.remove(&seq.low().wrapping_sub(600));
        }
        out
    }
}

/// Somebody's connection: what they send in it, and what happened to it.
struct Publisher {
    client: Client,
    began: Nanos,
    cameras: [Stream; 2],
    microphone: Stream,
    pictures: u64,
    sounds: u64,
}

struct World {
    start: Instant,
    at: Nanos,
    engine: Engine,
    identity: LocalIdentity,
    films: [Film; 2],
    publisher: Publisher,
    tracks: [TrackId; 2],
    peers: u64,
    session: Session<Folder>,
    /// To the server, and to the publisher.
    flight: [BTreeMap<(Nanos, u64), Vec<u8>>; 2],
    sent: u64,
    random: u64,
    /// What is sent: camera, its large encoding, microphone.
    sends: [bool; 3],
    /// When flashes and beeps were captured, and sounds that were lost.
    flashes: Vec<Nanos>,
    beeps: Vec<Nanos>,
    lost_sounds: Vec<Nanos>,
    asked: Vec<Nanos>,
}

impl World {
    fn new(root: &std::path::Path) -> Self {
        let start = Instant::now();
        let identity = LocalIdentity::generate().unwrap();
        let mut engine = Engine::new(start, NTP, 1, identity.clone(), Arc::new(ShardMetrics::default()), 64);
        let id = SessionId::try_from("hour").unwrap();
        let disk = Folder::create(root, &id).unwrap();
        let began = SessionStart { instant: start, wall: SystemTime::now() };
        let mut session = Session::new(&id, "an hour", began, Codec::Vp8, 0, disk);
        session.handle_joined(start, ADA, "Ada");
        let films = [(160, 90), (320, 180)].map(|(width, height)| {
            Film::encode_at(&folder("hour-films"), RATE, Codec::Vp8, crate::SECONDS, width, height)
        });
        let publisher = Publisher::connect(&mut engine, start, &identity, PeerId(1), 0);
        let mut world = Self {
            start,
            at: 0,
            engine,
            identity,
            films,
            publisher,
            tracks: [TrackId(1), TrackId(2)],
            peers: 1,
            session,
            flight: Default::default(),
            sent: 0,
            random: 88_172_645_463_325_252,
            sends: [true; 3],
            flashes: Vec::new(),
            beeps: Vec::new(),
            lost_sounds: Vec::new(),
            asked: Vec::new(),
        };
        world.publish();
        world
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.at)
    }

    fn publish(&mut self) {
        let now = self.now();
        for (id, mid, kind) in [(self.tracks[0], "v", Kind::Video), (self.tracks[1], "a", Kind::Audio)] {
            let (peer, mid) = (PeerId(self.peers), Mid::try_from(mid).unwrap());
            self.engine.handle_command(now, Command::Publish { track: id, peer, mid, kind });
            self.engine.handle_command(now, Command::Record { track: id, to: Some(RECORDING) });
            self.session.handle_published(TrackInfo { id, participant: ADA, content: Content::Camera, kind });
        }
    }

    /// The connection is gone; ten seconds later there is another, with other numbers.
    fn reconnect(&mut self) {
        self.sends = [false; 3];
        self.flight = Default::default();
        self.run(self.at + 10 * SECOND);
        let now = self.now();
        self.engine.handle_command(now, Command::RemovePeer { peer: PeerId(self.peers) });
        self.tracks.into_iter().for_each(|track| self.session.handle_unpublished(track));
        self.peers += 1;
        self.tracks = self.tracks.map(|track| TrackId(track.0 + 2));
        let Self { engine, identity, peers, at, .. } = self;
        self.publisher = Publisher::connect(engine, now, identity, PeerId(*peers), *at);
        self.publish();
        self.sends = [true; 3];
    }

    fn mute(&mut self, which: usize, muted: bool) {
        let now = self.now();
        self.engine.handle_command(now, Command::SetMuted { track: self.tracks[which], muted });
        if muted {
            self.session.handle_muted(self.tracks[which]);
        }
        self.sends[2 * which] = !muted;
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    /// Puts a datagram on its way. True if it gets there.
    fn send(&mut self, way: usize, bytes: Vec<u8>) -> bool {
        self.sent += 1;
        let (at, lost) = (self.at + DELAY + self.below(JITTER), self.below(100) < LOSS_PERCENT);
        if !lost {
            self.flight[way].insert((at, self.sent), bytes);
        }
        !lost
    }

    fn run(&mut self, until: Nanos) {
        while self.at < until {
            self.at += STEP;
            self.send_pictures();
            self.send_sounds();
            self.send_reports();
            let (now, path) = (self.now(), self.publisher.client.path);
            while let Some(entry) = self.flight[0].first_entry().filter(|e| e.key().0 <= self.at) {
                self.engine.handle_datagram(now, path, &entry.remove());
            }
            if self.engine.poll_timeout().is_some_and(|at| at <= now) {
                self.engine.handle_timeout(now);
            }
            self.flush(now);
            while let Some(entry) = self.flight[1].first_entry().filter(|e| e.key().0 <= self.at) {
                let datagram = entry.remove();
                self.handle_rtcp(&datagram);
            }
            if self.at.is_multiple_of(50 * MS) {
                self.session.handle_timeout(now);
                while let Some(event) = self.session.poll_event() {
                    let Event::WantKeyframe { track, source } = event else { panic!("{event:?}") };
                    self.asked.push(self.at);
                    self.engine.handle_command(now, Command::Keyframe { track, source: source.0 });
                }
            }
            while self.engine.poll_event().is_some() {}
        }
    }

    fn flush(&mut self, now: Instant) {
        let mut out = Out::default();
        self.engine.flush(now, &mut out);
        for datagram in out.datagrams {
            self.send(1, datagram);
        }
        for media in out.batches.iter().flat_map(|batch| batch.media()) {
            let packet =
                MediaPacket { seq: media.seq, info: media.info, captured_at: media.captured_at, bytes: media.bytes };
            // Those that come twice are refused.
            let _ = self.session.handle_packet(now, media.track, SourceId(media.source), packet);
        }
    }

    /// A picture of each encoding, when it is time.
    fn send_pictures(&mut self) {
        let publisher = &mut self.publisher;
        let captured = publisher.began + publisher.pictures * SECOND / RATE;
        if captured > self.at {
            return;
        }
        let n = (publisher.pictures % (RATE * u64::from(crate::SECONDS))) as usize;
        publisher.pictures += 1;
        if !self.sends[0] {
            return;
        }
        if n.is_multiple_of(RATE as usize) {
            self.flashes.push(captured);
        }
        let since = captured - publisher.began;
        let mut packets = Vec::new();
        for (stream, film) in publisher.cameras.iter_mut().zip(&self.films).take(1 + usize::from(self.sends[1])) {
            let payloads = stream.payloader.payload(1_100, &film.pictures[n]).unwrap();
            let last = payloads.len() - 1;
            for (part, payload) in payloads.iter().enumerate() {
                packets.push(stream.packet(&publisher.client, since, part == last, payload));
            }
        }
        packets.into_iter().for_each(|packet| {
            self.send(0, packet);
        });
    }

    /// 20 ms of the microphone's clock, which is fast, are less.
    fn send_sounds(&mut self) {
        loop {
            let publisher = &mut self.publisher;
            let since = publisher.sounds * 20 * MS * 1_000_000 / (1_000_000 + PPM);
            let captured = publisher.began + since;
            if captured > self.at {
                return;
            }
            let n = publisher.sounds as usize;
            publisher.sounds += 1;
            if !self.sends[2] {
                continue;
            }
            if n.is_multiple_of(50) {
                self.beeps.push(captured);
            }
            let payload: Bytes = self.films[0].sounds[n % self.films[0].sounds.len()].clone();
            let packet = publisher.microphone.packet(&publisher.client, since + 1, false, &payload);
            if !self.send(0, packet) {
                self.lost_sounds.push(captured);
            }
        }
    }

    fn send_reports(&mut self) {
        let (at, publisher) = (self.at, &mut self.publisher);
        let [first, second] = &mut publisher.cameras;
        let mut compounds = Vec::new();
        for stream in [first, second, &mut publisher.microphone] {
            if stream.report_due > at {
                continue;
            }
            stream.report_due += if stream.rate == 90_000 { SECOND } else { 5 * SECOND };
            if stream.packets > 0 {
                let ntp = NTP + ((u128::from(at) << 32) / u128::from(SECOND)) as u64;
                let rtp_timestamp = stream.timestamp(at - publisher.began);
                let info = SenderInfo { ssrc: stream.ssrc, ntp, rtp_timestamp, packets: stream.packets, octets: 1 };
                let mut compound = Vec::new();
                rtcp::write_sender_report(&mut compound, &info, &[]);
                compounds.push(publisher.client.seal_rtcp(&compound));
            }
        }
        if self.sends.iter().any(|sends| *sends) {
            compounds.into_iter().for_each(|compound| {
                self.send(0, compound);
            });
        }
    }

    /// Sends again what is asked for. (There is a keyframe a second, whether or not one is asked for.)
    fn handle_rtcp(&mut self, datagram: &[u8]) {
        let mut opened = vec![0; datagram.len()];
        if classify(datagram) != Datagram::Rtcp {
            return;
        }
        let Ok(len) = self.publisher.client.inbound.open_rtcp(datagram, &mut opened) else { return };
        let mut again = Vec::new();
        for packet in rtcp::packets(&opened[..len]).flatten() {
            if let Rtcp::Nack { media, sequences, .. } = packet {
                let stream = self.publisher.cameras.iter().find(|s| s.ssrc == media);
                again.extend(sequences.filter_map(|low| stream?.kept.get(&low).cloned()));
            }
        }
        again.into_iter().for_each(|packet| {
            self.send(0, packet);
        });
    }
}

impl Publisher {
    fn connect(engine: &mut Engine, now: Instant, identity: &LocalIdentity, peer: PeerId, began: Nanos) -> Self {
        let receive = vec![media("v", Kind::Video), media("a", Kind::Audio)];
        let address = SocketAddr::from(([10, 1, 0, peer.0 as u8], 4_000));
        let client = Client::connect(engine, now, identity, peer, address, receive, Vec::new()).unwrap();
        let ssrc = 1_000 * peer.0 as u32;
        let camera = |n: u32, rid| Stream::new(ssrc + n, Some(rid), 90_000, 0, began);
        let cameras = [camera(1, "l"), camera(2, "h")];
        let microphone = Stream::new(ssrc + 3, None, 48_000, PPM, began);
        Self { client, began, cameras, microphone, pictures: 0, sounds: 0 }
    }
}

fn media(mid: &str, kind: Kind) -> ReceiveMedia {
    let (codec, number) = if kind == Kind::Video { (Codec::Vp8, 96) } else { (Codec::Opus, 111) };
    let feedback = Feedback { nack: kind == Kind::Video, pli: true, ..Feedback::default() };
    let payload_type = PayloadType::try_from(number).unwrap();
    let mut extensions = ExtensionMap::default();
    extensions.insert(Extension::Mid, MID);
    extensions.insert(Extension::Rid, RID);
    let rids = if kind == Kind::Video { vec!["l", "h"] } else { Vec::new() };
    ReceiveMedia {
        mid: Mid::try_from(mid).unwrap(),
        kind,
        codecs: vec![CodecParameters { codec, payload_type, rtx: None, feedback }],
        extensions,
        rids: rids.into_iter().map(|rid| Rid::try_from(rid).unwrap()).collect(),
        ssrcs: Vec::new(),
        active: true,
    }
}

/// How late each of `found` is against the nearest of `captured`, in milliseconds, by the minute of its capture.
fn lateness(found: &[f64], captured: &[Nanos], zero: f64) -> BTreeMap<u64, Vec<f64>> {
    let mut by_minute: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for at in found.iter().map(|at| at + zero) {
        let after = captured.partition_point(|c| (*c / MS) as f64 <= at);
        let near = captured[after.saturating_sub(1)..captured.len().min(after + 1)].iter();
        let off = |c: &&u64| (at - **c as f64 / 1e6).abs();
        let nearest = near.min_by(|a, b| off(a).total_cmp(&off(b))).expect("something was captured");
        by_minute.entry(nearest / MINUTE).or_default().push(at - *nearest as f64 / 1e6);
    }
    by_minute
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn covers(gaps: &[Gap], kind: Kind, from: f64, to: f64) -> bool {
    let within = |gap: &&Gap| gap.from_ms as f64 <= from + 1.0 && gap.to_ms as f64 >= to - 1.0;
    gaps.iter().filter(|gap| gap.kind == kind).any(|gap| within(&gap))
}

#[test]
fn an_hour_through_the_engine_stays_in_step() {
    let root = folder("hour");
    std::fs::remove_dir_all(root.join("hour")).ok();
    let mut world = World::new(&root);
    world.run(10 * MINUTE);
    world.mute(1, true);
    world.run(12 * MINUTE);
    world.mute(1, false);
    world.run(14 * MINUTE);
    // The encoder has no time for the large one for two minutes, and later for some seconds.
    world.sends[1] = false;
    world.run(16 * MINUTE);
    world.sends[1] = true;
    world.run(20 * MINUTE);
    world.mute(0, true);
    world.run(21 * MINUTE);
    world.mute(0, false);
    world.run(30 * MINUTE);
    world.reconnect();
    world.run(45 * MINUTE);
    world.sends[1] = false;
    world.run(45 * MINUTE + 10 * SECOND);
    world.sends[1] = true;
    world.run(60 * MINUTE);
    let now = world.now();
    let World { session, flashes, beeps, lost_sounds, asked, .. } = world;
    let (disk, manifest) = session.finish(now, Ended::Stopped);

    assert_eq!(manifest.files.len(), 1, "{:?}", manifest.files.iter().map(|f| &f.name).collect::<Vec<_>>());
    let file = &manifest.files[0];
    let path = disk.path().join(&file.name);
    assert_eq!(ffmpeg::decode(&path), "", "FFmpeg has nothing to complain of");
    let zero = file.start_ms as f64;
    let mut video = lateness(&ffmpeg::flashes(&path), &flashes, zero);
    let mut audio = lateness(&ffmpeg::beeps_in_samples(&path), &beeps, zero);
    let (mut worst, mut compared) = (0f64, 0);
    for minute in 0..60 {
        let (Some(video), Some(audio)) = (video.get_mut(&minute), audio.get_mut(&minute)) else {
            assert!([10, 11, 20].contains(&minute), "nothing of minute {minute}");
            continue;
        };
        let (video, audio) = (median(video), median(audio));
        worst = worst.max((audio - video).abs());
        compared += 1;
        assert!((audio - video).abs() < 40.0, "minute {minute}: sound {audio} ms late, picture {video} ms");
    }
    assert!(compared >= 57);
    let told = file.av_offset.expect("an offset");
    assert!(told.max_ms < 40.0, "{told:?}");

    // Wherever no picture is, there is a gap; and where a sound was lost.
    let times = ffmpeg::times(&path, "v");
    let holes = times.windows(2).filter(|pair| pair[1] - pair[0] > 300.0);
    let holes: Vec<_> = holes.map(|pair| (pair[0] + zero, pair[1] + zero)).collect();
    for (from, to) in &holes {
        assert!(covers(&file.gaps, Kind::Video, *from, *to), "nothing is told of {from} to {to} ms");
    }
    let untold = lost_sounds.iter().map(|at| (*at + DELAY) as f64 / 1e6).filter(|at| {
        let near = |gap: &&Gap| (gap.from_ms as f64) < at + 60.0 && gap.to_ms as f64 > at - 40.0;
        !file.gaps.iter().filter(|gap| gap.kind == Kind::Audio).any(|gap| near(&gap))
    });
    let untold = untold.count();
    assert!(untold * 200 <= lost_sounds.len(), "{untold} of {} lost sounds are not told of", lost_sounds.len());
    assert_eq!(file.more_gaps, 0);
    let of = |kind, cause| file.gaps.iter().filter(|g| g.kind == kind && g.cause == cause).count();
    for (kind, muted) in [(Kind::Audio, 1), (Kind::Video, 1)] {
        assert_eq!((of(kind, GapCause::Muted), of(kind, GapCause::PublisherGone)), (muted, 1), "{kind:?}");
    }
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= SECOND), "more than a keyframe a second was asked for");
    println!(
        "worst minute {worst:.1} ms apart, {} pictures in {} holes, {} of {} lost packets; {} sounds lost; {} keyframes asked for; told {told:?}",
        times.len(),
        holes.len(),
        file.tracks[0].lost_packets,
        of(Kind::Video, GapCause::Loss),
        lost_sounds.len(),
        asked.len(),
    );
}
