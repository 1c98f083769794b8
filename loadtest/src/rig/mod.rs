//! The engine on a test bench: one publisher with a camera and a microphone, and many subscribers, connected by real ICE and
//! DTLS, without a room, a socket or a clock. Benchmarks and the test of allocations drive it packet by packet.
mod client;
mod publisher;
mod relay;
mod sinks;

pub use client::Client;
pub use publisher::Publisher;
pub use sinks::{Collecting, Counting, Sending};

use exedra::engine::api::Wish;
use exedra::engine::{Command, Engine, Event, Path, Sink};
use exedra::ids::{Mid, PeerId, RecordingId, RoomId, ShardId, TrackId};
use exedra::metrics::ShardMetrics;
use exedra::peer::LocalIdentity;
use exedra::peer::config::{CodecParameters, Feedback, ReceiveMedia, SendMedia};
use exedra::rtp::rtcp::{self, ReportBlock, SenderInfo};
use exedra::rtp::{Codec, Extension, ExtensionMap, Kind, PayloadType, Ssrc};
use relay::Home;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The publisher's shard, where there are two; and the subscribers'.
const HOME: ShardId = ShardId(0);
const HERE: ShardId = ShardId(1);
const ROOM: RoomId = RoomId(1);
const VIDEO: TrackId = TrackId(1);
const AUDIO: TrackId = TrackId(2);
const RECORDING: RecordingId = RecordingId(1);
/// The NTP time at the start: any will do.
const NTP: u64 = 0xe000_0000_0000_0000;
/// Datagrams that one send may carry, as the kernel has it.
const SEGMENTS: usize = 64;
/// How often everybody says that they are there.
const REPORTS: Duration = Duration::from_secs(1);
/// From video frame to video frame.
pub const FRAME: Duration = Duration::from_millis(33);

const VP8: u8 = 96;
const VP8_RTX: u8 = 97;
const OPUS: u8 = 111;
const TRANSPORT_CC: u8 = 3;
const AUDIO_LEVEL: u8 = 4;

/// Who is there, and what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RigPlan {
    pub subscribers: usize,
    /// Packets of a video frame.
    pub burst: usize,
    /// Bytes of a forwarded video packet as the UDP payload that it is on the wire.
    pub packet_len: usize,
    /// The publisher is on a shard of its own, and its packets are relayed.
    pub relayed: bool,
    /// What is published is recorded.
    pub recorded: bool,
}

impl RigPlan {
    /// 1.5 Mbit/s at 30 frames a second.
    pub fn video(subscribers: usize) -> Self {
        Self { subscribers, burst: 6, packet_len: 1_150, relayed: false, recorded: false }
    }
}

/// See the module. `now` is virtual: [`advance`](Self::advance) is what lets it pass.
pub struct Rig {
    /// The subscribers' engine; the publisher's too, unless it is on another shard.
    pub engine: Engine,
    home: Option<Home>,
    pub metrics: Arc<ShardMetrics>,
    pub now: Instant,
    pub publisher: Publisher,
    pub subscribers: Vec<Client>,
    reports_due: Instant,
    /// Events of the engine so far.
    pub events: u64,
}

impl Rig {
    /// Connects everybody. A handshake takes about a millisecond of CPU time.
    pub fn new(plan: RigPlan) -> Result<Self, String> {
        Self::at(plan, |n| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 4_000)))
    }

    /// As [`new`](Self::new), with subscribers at these addresses, so that what is sent to them can arrive.
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    pub fn at(plan: RigPlan, address: impl Fn(usize) -> SocketAddr) -> Result<Self, String> {
        let now = Instant::now();
        let identity = LocalIdentity::generate().map_err(|e| e.to_string())?;
        let metrics = Arc::new(ShardMetrics::default());
        let new = || Engine::new(now, NTP, 1, identity.clone(), Arc::clone(&metrics), SEGMENTS);
        let (mut engine, mut home) = match plan.relayed {
            true => (new().on_shard(HERE, 2), Some(Home::new(new()))),
            false => (new(), None),
        };
        let publishers = home.as_mut().map_or(&mut engine, |home| &mut home.engine);
        let receive = vec![receive_media("v", Kind::Video)?, receive_media("a", Kind::Audio)?];
        let remote = SocketAddr::from(([10, 1, 0, 0], 4_000));
        let client = Client::connect(publishers, now, &identity, PeerId(1), remote, receive, Vec::new())?;
        for (track, mid, kind) in [(VIDEO, "v", Kind::Video), (AUDIO, "a", Kind::Audio)] {
            let mid = label(mid)?;
            publishers.handle_command(now, Command::Publish { track, peer: PeerId(1), mid, kind });
            publishers.handle_command(now, Command::Relay { track, to: HERE, on: plan.relayed });
            let to = plan.recorded.then_some(RECORDING);
            publishers.handle_command(now, Command::Record { track, to });
        }
        for (track, kind) in [(VIDEO, Kind::Video), (AUDIO, Kind::Audio)].into_iter().filter(|_| plan.relayed) {
            engine.handle_command(now, Command::Mirror { track, room: ROOM, kind, home: HOME });
        }
        let mut subscribers = Vec::with_capacity(plan.subscribers);
        for n in 0..plan.subscribers {
            let (peer, slots) = (PeerId(2 + n as u64), vec![slot(n, Kind::Video)?, slot(n, Kind::Audio)?]);
            subscribers.push(Client::connect(&mut engine, now, &identity, peer, address(n), Vec::new(), slots)?);
            for (mid, track) in [("v", VIDEO), ("a", AUDIO)] {
                engine.handle_command(
                    now,
                    Command::Bind { peer, mid: label(mid)?, track: Some(track), wish: Wish::default() },
                );
            }
        }
        let publisher = Publisher::new(client, plan);
        let mut rig = Self { engine, home, metrics, now, publisher, subscribers, reports_due: now, events: 0 };
        rig.warm_up(plan)?;
        Ok(rig)
    }

    /// Two seconds of call: everybody gets media, histories and queues have the sizes that they keep.
    fn warm_up(&mut self, plan: RigPlan) -> Result<(), String> {
        let mut sink = Counting::default();
        for n in 0..60 {
            let frame = self.publisher.video_frame(n == 0);
            self.deliver(&frame, &mut sink);
            let audio = self.publisher.audio_packet();
            self.deliver(&[audio], &mut sink);
            self.advance(FRAME, &mut sink);
        }
        let mut last = Counting::default();
        let frame = self.publisher.video_frame(false);
        self.deliver(&frame, &mut last);
        let (got, wanted) = (last.datagrams, (plan.burst * plan.subscribers) as u64);
        if got < wanted { Err(format!("{got} packets went out, not {wanted}")) } else { Ok(()) }
    }

    /// Where the publisher is.
    pub fn publisher_path(&self) -> Path {
        self.publisher.client.path
    }

    /// What the shard does with a batch from the publisher.
    pub fn deliver(&mut self, datagrams: &[Vec<u8>], sink: &mut impl Sink) {
        self.receive(datagrams);
        self.engine.flush(self.now, sink);
    }

    /// The way in of a batch from the publisher, without what the subscribers get of it: that is for the next flush.
    pub fn receive(&mut self, datagrams: &[Vec<u8>]) {
        let path = self.publisher_path();
        let engine = self.home.as_mut().map_or(&mut self.engine, |home| &mut home.engine);
        for datagram in datagrams {
            engine.handle_datagram(self.now, path, datagram);
        }
        if let Some(home) = &mut self.home {
            home.hand_over(self.now, &mut self.engine, &mut Counting::default());
        }
    }

    /// Lets time pass: what is due is done, and everybody reports once a second. Events are dropped.
    pub fn advance(&mut self, time: Duration, sink: &mut impl Sink) {
        self.now += time;
        if self.reports_due <= self.now {
            self.reports_due = self.now + REPORTS;
            let mut reports = self.reports().into_iter();
            let of_publisher = reports.next().map(|(_, datagram)| datagram);
            self.receive(of_publisher.as_slice());
            for (path, datagram) in reports {
                self.engine.handle_datagram(self.now, path, &datagram);
            }
            self.engine.flush(self.now, sink);
        }
        self.run_timers(sink);
        self.drop_events();
    }

    /// Does what is due now.
    pub fn run_timers(&mut self, sink: &mut impl Sink) {
        if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.engine.handle_timeout(self.now);
        }
        match &mut self.home {
            None => self.engine.flush(self.now, sink),
            Some(home) => home.run_timers(self.now, &mut self.engine, sink),
        }
    }

    /// Takes the engine's events, as the shard does.
    pub fn drop_events(&mut self) -> Option<Event> {
        let mut last = None;
        let mut at_home = || self.home.as_mut().and_then(|home| home.engine.poll_event());
        while let Some(event) = self.engine.poll_event().or_else(&mut at_home) {
            self.events += 1;
            last = Some(event);
        }
        last
    }

    /// A report of everybody: the publisher's sender report, and each subscriber's receiver report on its slots.
    pub fn reports(&mut self) -> Vec<(Path, Vec<u8>)> {
        let ntp = NTP + ((self.publisher.seconds() * 4_294_967_296.0) as u64);
        let mut compound = Vec::new();
        let (ssrc, rtp_timestamp, packets) = self.publisher.video_counts();
        let info = SenderInfo { ssrc, ntp, rtp_timestamp, packets, octets: packets.wrapping_mul(1_000) };
        rtcp::write_sender_report(&mut compound, &info, &[]);
        let publisher = &mut self.publisher.client;
        let mut reports = vec![(publisher.path, publisher.seal_rtcp(&compound))];
        for (n, subscriber) in self.subscribers.iter_mut().enumerate() {
            compound.clear();
            let block = |ssrc| ReportBlock {
                ssrc,
                fraction_lost: 0,
                cumulative_lost: 0,
                highest_sequence: 1,
                jitter: 1,
                last_sr: 0,
                delay_since_last_sr: 0,
            };
            let blocks = [Kind::Video, Kind::Audio].map(|kind| block(slot_ssrc(n, kind)));
            rtcp::write_receiver_report(&mut compound, Ssrc(1), &blocks);
            reports.push((subscriber.path, subscriber.seal_rtcp(&compound)));
        }
        reports
    }

    /// A NACK of a subscriber for packets of its video slot.
    pub fn nack(&mut self, subscriber: usize, sequences: &[u16]) -> (Path, Vec<u8>) {
        let mut compound = Vec::new();
        rtcp::write_receiver_report(&mut compound, Ssrc(1), &[]);
        let media = slot_ssrc(subscriber, Kind::Video);
        rtcp::write_nack(&mut compound, Ssrc(1), media, sequences.iter().copied());
        self.rtcp_of(subscriber, &compound)
    }

    /// A compound of a subscriber, sealed.
    pub fn rtcp_of(&mut self, subscriber: usize, compound: &[u8]) -> (Path, Vec<u8>) {
        let client = &mut self.subscribers[subscriber];
        (client.path, client.seal_rtcp(compound))
    }
}

/// The SSRC of a subscriber's slot. Its RTX SSRC is the next one.
pub fn slot_ssrc(subscriber: usize, kind: Kind) -> Ssrc {
    Ssrc(0x2000_0000 + 4 * subscriber as u32 + if kind == Kind::Audio { 2 } else { 0 })
}

fn label(mid: &str) -> Result<Mid, String> {
    Mid::try_from(mid).map_err(|e| e.to_string())
}

fn payload_type(n: u8) -> Result<PayloadType, String> {
    PayloadType::try_from(n).map_err(|_| "a payload type".into())
}

fn codecs(kind: Kind) -> Result<Vec<CodecParameters>, String> {
    let feedback = Feedback { nack: kind == Kind::Video, pli: true, fir: false, transport_cc: true, remb: false };
    Ok(vec![match kind {
        Kind::Video => CodecParameters {
            codec: Codec::Vp8,
            payload_type: payload_type(VP8)?,
            rtx: Some(payload_type(VP8_RTX)?),
            feedback,
        },
        Kind::Audio => CodecParameters { codec: Codec::Opus, payload_type: payload_type(OPUS)?, rtx: None, feedback },
    }])
}

fn extensions() -> ExtensionMap {
    let mut map = ExtensionMap::default();
    map.insert(Extension::TransportCc, TRANSPORT_CC);
    map.insert(Extension::AudioLevel, AUDIO_LEVEL);
    map
}

fn receive_media(mid: &str, kind: Kind) -> Result<ReceiveMedia, String> {
    Ok(ReceiveMedia {
        mid: label(mid)?,
        kind,
        codecs: codecs(kind)?,
        extensions: extensions(),
        rids: Vec::new(),
        ssrcs: Vec::new(),
        active: true,
    })
}

fn slot(subscriber: usize, kind: Kind) -> Result<SendMedia, String> {
    let ssrc = slot_ssrc(subscriber, kind);
    Ok(SendMedia {
        mid: label(if kind == Kind::Video { "v" } else { "a" })?,
        kind,
        codecs: codecs(kind)?,
        extensions: extensions(),
        mixed_headers: true,
        ssrc,
        rtx_ssrc: (kind == Kind::Video).then_some(Ssrc(ssrc.0 + 1)),
        active: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use exedra::peer::srtp::SsrcState;
    use exedra::rtp::Header;

    #[test]
    fn a_frame_reaches_every_subscriber_as_it_was_sent() {
        [false, true].into_iter().for_each(reaches_every_subscriber);
    }

    fn reaches_every_subscriber(relayed: bool) {
        let plan = RigPlan { subscribers: 3, burst: 4, packet_len: 700, relayed, recorded: false };
        let mut rig = Rig::new(plan).expect("a rig");
        let mut sink = Collecting::default();
        let frame = rig.publisher.video_frame(false);
        rig.deliver(&frame, &mut sink);
        for (n, subscriber) in rig.subscribers.iter_mut().enumerate() {
            let (mut srtp, ssrc) = (SsrcState::default(), slot_ssrc(n, Kind::Video));
            let mut got = 0;
            for (to, datagram) in &sink.datagrams {
                let header = Header::parse(datagram).expect("RTP");
                if *to != subscriber.path.remote || header.ssrc != ssrc {
                    continue;
                }
                let mut out = vec![0; datagram.len()];
                let opened = subscriber.inbound.open_rtp(&mut srtp, header.len, header.sequence, datagram, &mut out);
                assert!(opened.is_ok() && datagram.len() == plan.packet_len, "{opened:?}, {} bytes", datagram.len());
                got += 1;
            }
            assert_eq!(got, plan.burst);
        }
    }

    #[test]
    fn what_is_asked_for_again_comes_again() {
        let mut rig = Rig::new(RigPlan { subscribers: 1, burst: 3, packet_len: 500, relayed: false, recorded: false })
            .expect("a rig");
        let mut sink = Collecting::default();
        let frame = rig.publisher.video_frame(false);
        rig.deliver(&frame, &mut sink);
        let sequences = sink.sequences(slot_ssrc(0, Kind::Video));
        assert_eq!(sequences.len(), 3);
        let (path, nack) = rig.nack(0, &sequences);
        let mut again = Collecting::default();
        rig.engine.handle_datagram(rig.now, path, &nack);
        rig.engine.flush(rig.now, &mut again);
        assert_eq!(again.sequences(Ssrc(slot_ssrc(0, Kind::Video).0 + 1)).len(), 3, "by RTX");
    }
}
