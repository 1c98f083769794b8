//! Our answers as an independent implementation reads them: the peer connection of the `rtc` crate, without sockets.
#![allow(clippy::disallowed_methods, reason = "a test may read the clock")]

use std::net::SocketAddr;
use std::time::Instant;

use exedra::peer::config::{Fingerprint, FingerprintHash};
use exedra::peer::negotiate::{AnswerContext, Change, ConnectionKind, MediaOutcome, Negotiated, Negotiation};
use exedra::peer::sdp::SdpLimits;
use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

/// The client of one test, and the server's side of its negotiation.
struct Client {
    pc: RTCPeerConnection,
    negotiation: Negotiation,
}

impl Client {
    fn new(kind: ConnectionKind) -> Self {
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let pc = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .build(Instant::now())
            .unwrap();
        let mut seed = 0;
        let mut random = || {
            seed += 1;
            seed
        };
        Self { pc, negotiation: Negotiation::new(kind, &mut random) }
    }

    fn send(&mut self, kind: RtpCodecKind, encodings: Vec<RTCRtpCodingParameters>) {
        let audio = kind == RtpCodecKind::Audio;
        let codec = RTCRtpCodec {
            mime_type: if audio { MIME_TYPE_OPUS } else { MIME_TYPE_VP8 }.into(),
            clock_rate: if audio { 48_000 } else { 90_000 },
            channels: if audio { 2 } else { 0 },
            ..Default::default()
        };
        let encoding = |rtp_coding_parameters| RTCRtpEncodingParameters {
            rtp_coding_parameters,
            active: true,
            codec: codec.clone(),
            ..Default::default()
        };
        let encodings = encodings.into_iter().map(encoding).collect();
        let track = MediaStreamTrack::new("s".into(), format!("{kind:?}"), "l".into(), kind, encodings);
        let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Sendonly, ..Default::default() };
        self.pc.add_transceiver_from_track(track, Some(init)).unwrap();
    }

    fn receive(&mut self, kind: RtpCodecKind) {
        let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
        self.pc.add_transceiver_from_kind(kind, Some(init)).unwrap();
    }

    /// Offers, and takes the answer.
    fn negotiate(&mut self) -> Negotiated {
        let fingerprint = Fingerprint { hash: FingerprintHash::Sha256, value: (0..32).collect() };
        let candidates: Vec<SocketAddr> = ["127.0.0.1:7882", "[::1]:7882"].map(|a| a.parse().unwrap()).to_vec();
        let limits = SdpLimits::default();
        let context = AnswerContext { fingerprint: &fingerprint, candidates: &candidates, limits: &limits };
        let offer = self.pc.create_offer(None).unwrap();
        self.pc.set_local_description(Instant::now(), offer).unwrap();
        let offer = self.pc.local_description().unwrap().sdp;
        let negotiated = self.negotiation.answer(&context, &offer).unwrap_or_else(|e| panic!("{e}\n{offer}"));
        let answer = RTCSessionDescription::answer(negotiated.answer.clone()).unwrap();
        let taken = self.pc.set_remote_description(Instant::now(), answer);
        taken.unwrap_or_else(|e| panic!("{e}\n{}", negotiated.answer));
        negotiated
    }
}

fn stream(ssrc: u32, rid: &str) -> RTCRtpCodingParameters {
    RTCRtpCodingParameters { ssrc: Some(ssrc), rid: rid.into(), ..Default::default() }
}

#[test]
fn a_publisher_takes_the_answer() {
    let mut client = Client::new(ConnectionKind::Publish);
    client.send(RtpCodecKind::Audio, vec![stream(1000, "")]);
    client.send(RtpCodecKind::Video, vec![stream(2000, "")]);
    let first = client.negotiate();
    assert_eq!(first.change, Change::New);
    let declared: Vec<u32> = first.config.receive.iter().flat_map(|m| &m.ssrcs).map(|s| s.ssrc.0).collect();
    assert_eq!(declared, [1000, 2000]);
    assert_eq!(first.config.ice.remote.ufrag.len(), 16);

    client.send(RtpCodecKind::Video, vec![stream(3000, "")]);
    assert_eq!(client.negotiate().change, Change::Same);
    client.pc.restart_ice();
    assert_eq!(client.negotiate().change, Change::IceRestart);
}

#[test]
fn a_publisher_with_encodings_takes_the_answer() {
    let mut client = Client::new(ConnectionKind::Publish);
    client.send(RtpCodecKind::Video, vec![stream(1, "q"), stream(2, "h"), stream(3, "f")]);
    let media = &client.negotiate().config.receive[0];
    assert_eq!(media.rids.iter().map(|r| r.as_str()).collect::<Vec<_>>(), ["q", "h", "f"]);
}

#[test]
fn a_subscriber_takes_the_answer() {
    let mut client = Client::new(ConnectionKind::Subscribe);
    for _ in 0..4 {
        client.receive(RtpCodecKind::Audio);
        client.receive(RtpCodecKind::Video);
    }
    let first = client.negotiate();
    assert_eq!(first.config.send.len(), 8);
    client.receive(RtpCodecKind::Video);
    let second = client.negotiate();
    assert_eq!(second.change, Change::Same);
    assert_eq!(second.media[8].outcome, MediaOutcome::Accepted { active: true, slot: Some(4) });
    let ssrcs = |n: &Negotiated| n.config.send.iter().take(8).map(|s| (s.ssrc, s.rtx_ssrc)).collect::<Vec<_>>();
    assert_eq!(ssrcs(&first), ssrcs(&second));
}
