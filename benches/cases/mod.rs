//! What is measured, for the benchmark of time and for that of instructions.
use exedra::egress::allocation;
use exedra::engine::Path;
use exedra::forward::{Forwarder, StreamKey, Target};
use exedra::peer::srtp::{SrtpInbound, SrtpOutbound, SrtpProfile, SsrcState};
use exedra::rtp::codec::{self, Codec};
use exedra::rtp::header::HeaderWriter;
use exedra::rtp::packet::{ExtensionSpans, PacketInfo};
use exedra::rtp::{Header, Kind, PayloadType, SeqNo, Ssrc, TwccRecorder};
use loadtest::client::VideoCodec;
use loadtest::rig::{Collecting, Counting, FRAME, Rig, RigPlan, slot_ssrc};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Packets in one turn of what is measured packet by packet.
const BATCH: usize = 64;
const HEADER: usize = 12;
const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const VIDEO: usize = 1_150;
const AUDIO: usize = 100;

/// Something that is done again and again: only `run` is measured.
pub trait Turn {
    fn prepare(&mut self);
    fn run(&mut self);
}

pub struct Case {
    /// `group/what`.
    pub name: String,
    /// Packets in one turn: what a cost is divided by.
    pub packets: usize,
    pub make: Box<dyn Fn() -> Box<dyn Turn>>,
}

/// All cases. `many` is how many subscribers "many" are: connecting them takes long where instructions are counted.
pub fn all(many: usize) -> Vec<Case> {
    let mut cases = vec![
        case("parse/vp8", BATCH, || Box::new(Parse::new())),
        case("open/1150", BATCH, || Box::new(Open::new(VIDEO))),
        case("open/100", BATCH, || Box::new(Open::new(AUDIO))),
        case("rewrite/vp8", BATCH, || Box::new(Rewrite::new())),
        case("seal/1150", BATCH, || Box::new(Seal::new(VIDEO))),
        case("seal/100", BATCH, || Box::new(Seal::new(AUDIO))),
        case("twcc/record and build", BATCH, || Box::new(Twcc::new())),
        case("receive/1150", RigPlan::video(1).burst, || Box::new(Receive::new(RigPlan::video(1)))),
        case("receive/by relay", RigPlan::video(1).burst, || {
            Box::new(Receive::new(RigPlan { relayed: true, ..RigPlan::video(1) }))
        }),
        case("receive/recorded", RigPlan::video(1).burst, || {
            Box::new(Receive::new(RigPlan { recorded: true, ..RigPlan::video(1) }))
        }),
        case("nack/answered by rtx", RigPlan::video(1).burst, || Box::new(Nack { rig: rig(1), nack: None })),
    ];
    cases.push(case(&format!("route/{many}"), BATCH, move || Box::new(Route { rig: rig(many), at: 0 })));
    for subscribers in [1, 50, many] {
        let packets = subscribers * RigPlan::video(subscribers).burst;
        cases.push(case(&format!("flush/{subscribers}"), packets, move || Box::new(Flush { rig: rig(subscribers) })));
    }
    for slots in [9, 50] {
        cases.push(case(&format!("allocate/{slots} slots"), slots, move || Box::new(Allocate::new(slots))));
    }
    cases.push(case("flush/audio 200", 200, || Box::new(FlushAudio { rig: rig(200) })));
    cases
}

fn case(name: &str, packets: usize, make: impl Fn() -> Box<dyn Turn> + 'static) -> Case {
    Case { name: name.to_owned(), packets, make: Box::new(make) }
}

fn rig(subscribers: usize) -> Rig {
    Rig::new(RigPlan::video(subscribers)).unwrap_or_else(|error| panic!("{subscribers} subscribers: {error}"))
}

fn payload_type() -> PayloadType {
    PayloadType::try_from(96).unwrap_or_else(|_| unreachable!("96 is one"))
}

fn keys() -> (SrtpOutbound, SrtpInbound) {
    let outbound = SrtpOutbound::new(PROFILE, &[1; 16], &[2; 12]);
    let inbound = SrtpInbound::new(PROFILE, &[1; 16], &[2; 12]);
    outbound.ok().zip(inbound.ok()).unwrap_or_else(|| unreachable!("lengths are those of the profile"))
}

/// A VP8 payload that fills a packet of `len` bytes on the wire.
fn payload(len: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    VideoCodec::Vp8.write(&mut payload, true, false, false, (7, 7));
    payload.resize(len - HEADER - PROFILE.rtp_overhead(), 0x5a);
    payload
}

/// Which layers a subscriber gets of so many cameras with three encodings of three temporal layers each, when not all of it fits.
struct Allocate {
    path: allocation::Path,
    slots: Vec<allocation::Slot>,
    layers: Vec<allocation::Layer>,
    scratch: allocation::Scratch,
    now_ms: u64,
}

impl Allocate {
    fn new(slots: usize) -> Self {
        let encodings = [(0u8, 320u16, 180u16, 150_000u32), (1, 640, 360, 500_000), (2, 1_280, 720, 2_500_000)];
        let layers = |_| {
            encodings.into_iter().flat_map(|(encoding, width, height, bps)| {
                (0..3u8).map(move |temporal| allocation::Layer {
                    encoding,
                    temporal,
                    fps: 30 >> (2 - temporal),
                    width,
                    height,
                    bps: bps / 4 * (u32::from(temporal) + 2),
                    ..Default::default()
                })
            })
        };
        let slot = |n: usize| allocation::Slot { first: 9 * n as u16, count: 9, ..Default::default() };
        Self {
            path: allocation::Path { budget_bps: Some(700_000 * slots as u64), ..Default::default() },
            slots: (0..slots).map(slot).collect(),
            layers: (0..slots).flat_map(layers).collect(),
            scratch: allocation::Scratch::default(),
            now_ms: 0,
        }
    }
}

impl Turn for Allocate {
    fn prepare(&mut self) {
        self.now_ms += 1_000;
        for (slot, choice) in self.slots.iter_mut().zip(self.scratch.choices()) {
            (slot.current, slot.memory) = (choice.layer, choice.memory);
        }
    }
    fn run(&mut self) {
        black_box(allocation::allocate(self.now_ms, &self.path, &self.slots, &self.layers, &mut self.scratch));
    }
}

/// Header, extensions and codec descriptor of opened packets.
struct Parse(Vec<Vec<u8>>);

impl Parse {
    fn new() -> Self {
        let packet = |n: usize| {
            let mut head = [0; 64];
            let mut writer = HeaderWriter::new(&mut head, false, payload_type(), n as u16, 1, Ssrc(1), false);
            let len = writer.extension(3, &[0, n as u8]).extension(1, b"v").finish();
            [&head[..len], &payload(VIDEO)].concat()
        };
        Self((0..BATCH).map(packet).collect())
    }
}

impl Turn for Parse {
    fn prepare(&mut self) {}
    fn run(&mut self) {
        for packet in &self.0 {
            let header = Header::parse(black_box(packet)).ok();
            let frame = header.and_then(|header| {
                header.extensions(packet).for_each(|extension| {
                    black_box(extension);
                });
                let payload = packet.get(header.payload_range(packet).ok()?)?;
                codec::describe(Codec::Vp8, payload, header.marker, None).ok()
            });
            black_box(frame);
        }
    }
}

/// SRTP of one publisher, into one buffer.
struct Open {
    keys: (SrtpOutbound, SrtpInbound),
    state: SsrcState,
    next: SeqNo,
    payload: Vec<u8>,
    sealed: Vec<Vec<u8>>,
    out: Vec<u8>,
}

impl Open {
    fn new(len: usize) -> Self {
        let sealed = vec![vec![0; len]; BATCH];
        Self {
            keys: keys(),
            state: SsrcState::default(),
            next: SeqNo(1),
            payload: payload(len),
            sealed,
            out: vec![0; len],
        }
    }
}

impl Turn for Open {
    fn prepare(&mut self) {
        for out in &mut self.sealed {
            HeaderWriter::new(out, false, payload_type(), self.next.low(), 1, Ssrc(1), false).finish();
            self.keys.0.seal_rtp_parts(self.next, HEADER, &[], &self.payload, out);
            self.next = self.next.next();
        }
    }
    fn run(&mut self) {
        for packet in &self.sealed {
            let sequence = u16::from_be_bytes([packet[2], packet[3]]);
            let opened = self.keys.1.open_rtp(&mut self.state, HEADER, sequence, packet, &mut self.out);
            assert!(black_box(opened).is_ok());
        }
    }
}

/// A slot's numbers for each packet, its header, and the descriptor with other numbers.
struct Rewrite {
    forwarder: Forwarder,
    next: SeqNo,
    payload: Vec<u8>,
    info: PacketInfo,
    at: Instant,
    out: [u8; HEADER],
}

impl Rewrite {
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn new() -> Self {
        let payload = payload(VIDEO);
        let frame = codec::FrameInfo { keyframe: true, frame_start: true, ..codec::FrameInfo::default() };
        let info = PacketInfo {
            timestamp: 1,
            marker: false,
            codec: Codec::Vp8,
            header_len: HEADER as u16,
            payload_len: payload.len() as u16,
            frame: codec::describe(Codec::Vp8, &payload, false, None).map_or(frame, |f| codec::FrameInfo {
                keyframe: true,
                frame_start: true,
                ..f
            }),
            extensions: ExtensionSpans::default(),
        };
        let mut forwarder = Forwarder::new(Kind::Video, 1);
        forwarder.set_target(Some(Target::whole(STREAM)), true);
        Self { forwarder, next: SeqNo(1), payload, info, at: Instant::now(), out: [0; HEADER] }
    }
}

const STREAM: StreamKey = StreamKey { index: 1, generation: 1 };

impl Turn for Rewrite {
    fn prepare(&mut self) {}
    fn run(&mut self) {
        for _ in 0..BATCH {
            self.next = self.next.next();
            self.info.timestamp = self.info.timestamp.wrapping_add(500);
            let mapped = self.forwarder.map(STREAM, self.next, black_box(&self.info), self.at);
            let Ok(mapped) = mapped else { unreachable!("it is the source") };
            let (seq, timestamp) = (mapped.seq.low(), mapped.timestamp);
            HeaderWriter::new(&mut self.out, false, payload_type(), seq, timestamp, Ssrc(9), false).finish();
            let rewritten = codec::vp8::rewrite(&mut self.payload, Some(seq), Some(seq as u8));
            black_box((&self.out, rewritten.is_ok()));
        }
    }
}

/// Header and seal, out of place.
struct Seal {
    keys: (SrtpOutbound, SrtpInbound),
    next: SeqNo,
    payload: Vec<u8>,
    out: Vec<u8>,
}

impl Seal {
    fn new(len: usize) -> Self {
        Self { keys: keys(), next: SeqNo(1), payload: payload(len), out: vec![0; len * BATCH] }
    }
}

impl Turn for Seal {
    fn prepare(&mut self) {}
    fn run(&mut self) {
        let len = self.out.len() / BATCH;
        for out in self.out.chunks_exact_mut(len) {
            HeaderWriter::new(out, false, payload_type(), self.next.low(), 1, Ssrc(1), false).finish();
            let sealed = self.keys.0.seal_rtp_parts(self.next, HEADER, &[], &self.payload, out);
            assert!(black_box(sealed).is_some());
            self.next = self.next.next();
        }
    }
}

/// Arrivals of a publisher's packets, and the feedback on them.
struct Twcc {
    recorder: TwccRecorder,
    next: u16,
    now: Instant,
    out: Vec<u8>,
}

impl Twcc {
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn new() -> Self {
        Self { recorder: TwccRecorder::new(), next: 0, now: Instant::now(), out: Vec::with_capacity(2_000) }
    }
}

impl Turn for Twcc {
    fn prepare(&mut self) {
        self.out.clear();
    }
    fn run(&mut self) {
        for _ in 0..BATCH {
            self.next = self.next.wrapping_add(1);
            self.now += Duration::from_micros(900);
            self.recorder.record(self.now, self.next);
        }
        self.now += Duration::from_millis(50);
        assert!(self.recorder.build_feedback(self.now, Ssrc(1), Ssrc(2), &mut self.out));
    }
}

/// What the engine does for a packet before anybody gets it: route, open, parse, store, note. By relay: that, the copy for another
/// shard, and what this one does with it. Recorded: that, and the copy for the recording.
struct Receive {
    rig: Rig,
    frame: Vec<Vec<u8>>,
}

impl Receive {
    fn new(plan: RigPlan) -> Self {
        let rig = Rig::new(plan).unwrap_or_else(|error| panic!("a call: {error}"));
        Self { rig, frame: Vec::new() }
    }
}

impl Turn for Receive {
    fn prepare(&mut self) {
        self.rig.advance(FRAME, &mut Counting::default());
        self.frame = self.rig.publisher.video_frame(false);
    }
    fn run(&mut self) {
        self.rig.receive(&self.frame);
    }
}

/// From an address to its peer, and no further: the packet is too short.
struct Route {
    rig: Rig,
    at: usize,
}

impl Turn for Route {
    fn prepare(&mut self) {
        self.at += 1;
    }
    fn run(&mut self) {
        for n in 0..BATCH {
            // Far from each other, as packets of many peers come.
            let from = (self.at + n * 37) % self.rig.subscribers.len();
            let path = self.rig.subscribers[from].path;
            self.rig.engine.handle_datagram(self.rig.now, path, black_box(&[0x80, 96]));
        }
    }
}

/// A frame to every subscriber: mapped, joined into runs, sealed; and thrown away.
struct Flush {
    rig: Rig,
}

impl Turn for Flush {
    fn prepare(&mut self) {
        let rig = &mut self.rig;
        rig.advance(FRAME, &mut Counting::default());
        let frame = rig.publisher.video_frame(false);
        rig.receive(&frame);
    }
    fn run(&mut self) {
        let mut sink = Counting::default();
        self.rig.engine.flush(self.rig.now, &mut sink);
        black_box(sink);
    }
}

/// A packet of audio to every subscriber.
struct FlushAudio {
    rig: Rig,
}

impl Turn for FlushAudio {
    fn prepare(&mut self) {
        let rig = &mut self.rig;
        rig.advance(Duration::from_millis(20), &mut Counting::default());
        let packet = rig.publisher.audio_packet();
        rig.receive(&[packet]);
    }
    fn run(&mut self) {
        let mut sink = Counting::default();
        self.rig.engine.flush(self.rig.now, &mut sink);
        black_box(sink);
    }
}

/// A NACK for a whole frame, from the datagram to the retransmissions.
struct Nack {
    rig: Rig,
    nack: Option<(Path, Vec<u8>)>,
}

impl Turn for Nack {
    fn prepare(&mut self) {
        let rig = &mut self.rig;
        rig.advance(FRAME, &mut Counting::default());
        let (frame, mut sink) = (rig.publisher.video_frame(false), Collecting::default());
        rig.deliver(&frame, &mut sink);
        let sequences = sink.sequences(slot_ssrc(0, Kind::Video));
        self.nack = Some(rig.nack(0, &sequences));
    }
    fn run(&mut self) {
        let Some((path, nack)) = &self.nack else { return };
        let mut sink = Counting::default();
        self.rig.engine.handle_datagram(self.rig.now, *path, nack);
        self.rig.engine.flush(self.rig.now, &mut sink);
        assert!(sink.datagrams >= RigPlan::video(1).burst as u64, "{} retransmissions", sink.datagrams);
    }
}
