//! A whole association against a peer that is not ours (`rtc`'s RTCPeerConnection), over a network that loses, repeats
//! and reorders; and what strangers may try.
use super::*;
use crate::peer::config::*;
use crate::peer::ice::testing::{check, credentials, path};
use crate::peer::srtp::SsrcState;
use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_VP8, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::*;
use rtc::rtp_transceiver::{RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use std::net::SocketAddr;
use std::sync::Arc;

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

fn ours() -> SocketAddr {
    ([10, 0, 0, 1], 7882).into()
}

fn theirs() -> SocketAddr {
    ([10, 0, 0, 2], 2000).into()
}

/// An `RTCPeerConnection` that offers one VP8 track.
struct Browser {
    pc: RTCPeerConnection,
    sender: RTCRtpSenderId,
    connected: bool,
}

impl Browser {
    fn new(now: Instant) -> Self {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let scheme = rtc_crypto::SignatureScheme::EcdsaP256Sha256;
        let params = CertificateParams::new(vec!["b".to_owned()]).unwrap();
        let certificate = RTCCertificate::generate(provider.crypto(), scheme, params).unwrap();
        let mut media = MediaEngine::default();
        media.register_default_codecs().unwrap();
        let setting =
            SettingEngineBuilder::new().with_crypto_provider(provider).with_answering_dtls_role(RTCDtlsRole::Client);
        let mut pc = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().with_certificates(vec![certificate]).build())
            .with_setting_engine(setting.build())
            .with_media_engine(media)
            .build(now)
            .unwrap();
        let (network, address, port) = ("udp".to_owned(), theirs().ip().to_string(), theirs().port());
        let base_config = CandidateConfig { network, address, port, component: 1, ..Default::default() };
        let candidate = CandidateHostConfig { base_config, ..Default::default() }.new_candidate_host().unwrap();
        pc.add_local_candidate(RTCIceCandidate::from(&candidate).to_json().unwrap()).unwrap();
        let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Sendonly, ..Default::default() };
        let sender = RTCRtpSenderId::from(pc.add_transceiver_from_track(Self::track(), Some(init)).unwrap());
        Self { pc, sender, connected: false }
    }

    fn track() -> MediaStreamTrack {
        let codec = RTCRtpCodec { mime_type: MIME_TYPE_VP8.into(), clock_rate: 90000, ..Default::default() };
        let rtp_coding_parameters = RTCRtpCodingParameters { ssrc: Some(1000), ..Default::default() };
        let encoding = RTCRtpEncodingParameters { rtp_coding_parameters, active: true, codec, ..Default::default() };
        MediaStreamTrack::new("s".into(), "t".into(), "l".into(), RtpCodecKind::Video, vec![encoding])
    }

    fn offer(&mut self, now: Instant) -> String {
        let offer = self.pc.create_offer(None).unwrap();
        self.pc.set_local_description(now, offer).unwrap();
        self.pc.local_description().unwrap().sdp
    }

    fn answer(&mut self, now: Instant, identity: &LocalIdentity, local: &IceCredentials) {
        let hex: Vec<String> = identity.fingerprint().value.iter().map(|b| format!("{b:02X}")).collect();
        let lines = [
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE 0".to_owned(),
            format!("a=fingerprint:sha-256 {}", hex.join(":")),
            "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtcp-mux\r\na=setup:passive".to_owned(),
            format!("a=ice-ufrag:{}\r\na=ice-pwd:{}", local.ufrag, local.pwd),
            format!("a=candidate:1 1 udp 2130706431 {} {} typ host", ours().ip(), ours().port()),
            "a=end-of-candidates\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\n".to_owned(),
        ];
        let answer = RTCSessionDescription::answer(lines.join("\r\n")).unwrap();
        self.pc.set_remote_description(now, answer).unwrap();
    }

    fn handle(&mut self, now: Instant, datagram: &[u8]) {
        let transport = TransportContext {
            local_addr: theirs(),
            peer_addr: ours(),
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let _ = self.pc.handle_read(TaggedBytesMut { now, transport, message: BytesMut::from(datagram) });
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        while let Some(event) = self.pc.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(RTCPeerConnectionState::Connected) = event {
                self.connected = true;
            }
        }
        while self.pc.poll_read().is_some() {}
        std::iter::from_fn(|| self.pc.poll_write()).map(|t| t.message.to_vec()).collect()
    }
}

fn attribute<'a>(sdp: &'a str, name: &str) -> &'a str {
    sdp.lines().find_map(|line| line.strip_prefix(name)).unwrap()
}

fn config(offer: &str, local: &IceCredentials) -> PeerConfig {
    let remote = IceCredentials {
        ufrag: attribute(offer, "a=ice-ufrag:").to_owned(),
        pwd: attribute(offer, "a=ice-pwd:").to_owned(),
    };
    let value =
        attribute(offer, "a=fingerprint:sha-256 ").split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    PeerConfig {
        ice: IceConfig { local: local.clone(), remote },
        dtls: DtlsConfig {
            role: DtlsRole::Server,
            fingerprints: vec![Fingerprint { hash: FingerprintHash::Sha256, value }],
        },
        receive: vec![],
        send: vec![],
        cname: "test".into(),
    }
}

/// The network: what arrives where, and when.
struct Network {
    random: StdRng,
    loss: f64,
    to_us: Vec<(Instant, Vec<u8>)>,
    to_them: Vec<(Instant, Vec<u8>)>,
}

impl Network {
    fn send(random: &mut StdRng, loss: f64, inbox: &mut Vec<(Instant, Vec<u8>)>, now: Instant, datagram: &[u8]) {
        let copies = if random.random_bool(loss / 2.0) { 2 } else { 1 };
        for _ in 0..copies {
            if !random.random_bool(loss) {
                inbox.push((now + Duration::from_millis(random.random_range(5..40)), datagram.to_vec()));
            }
        }
    }
}

struct World {
    now: Instant,
    browser: Browser,
    association: Association,
    network: Network,
    events: Vec<AssociationEvent>,
    media: Vec<Vec<u8>>,
}

impl World {
    fn new(seed: u64, loss: f64) -> Self {
        let now = start();
        let identity = LocalIdentity::generate().unwrap();
        let mut browser = Browser::new(now);
        let local = credentials("ours");
        let config = config(&browser.offer(now), &local);
        browser.answer(now, &identity, &local);
        let association = Association::new(now, &identity, &config);
        let network = Network { random: StdRng::seed_from_u64(seed), loss, to_us: vec![], to_them: vec![] };
        Self { now, browser, association, network, events: vec![], media: vec![] }
    }

    fn run(&mut self, for_at_most: Duration, until: impl Fn(&Self) -> bool) {
        let end = self.now + for_at_most;
        while self.now < end && !until(self) {
            self.turn();
            self.now += Duration::from_millis(5);
        }
    }

    fn turn(&mut self) {
        let (now, network) = (self.now, &mut self.network);
        let due: Vec<_> = network.to_us.extract_if(.., |(at, _)| *at <= now).collect();
        let path = Path { socket: 0, remote: theirs(), local_ip: None };
        for (_, datagram) in due {
            let _ = match datagram[0] {
                0..=3 => self.association.handle_stun(now, path, &datagram),
                20..=63 => self.association.handle_dtls(now, path, &datagram),
                _ => {
                    self.media.push(datagram);
                    Ok(())
                }
            };
        }
        self.association.handle_timeout(now);
        self.events.extend(std::iter::from_fn(|| self.association.poll_event()));
        while let Some((to, datagram)) = self.association.poll_transmit() {
            assert_eq!(to, path);
            Network::send(&mut network.random, network.loss, &mut network.to_them, now, &datagram);
        }
        let due: Vec<_> = network.to_them.extract_if(.., |(at, _)| *at <= now).collect();
        due.iter().for_each(|(_, datagram)| self.browser.handle(now, datagram));
        let _ = self.browser.pc.handle_timeout(now);
        for datagram in self.browser.drain() {
            Network::send(&mut network.random, network.loss, &mut network.to_us, now, &datagram);
        }
    }
}

#[test]
fn an_independent_peer_connects_and_its_media_opens() {
    let mut w = World::new(1, 0.0);
    w.run(Duration::from_secs(5), |w| w.browser.connected && w.association.is_connected());
    let path = Path { socket: 0, remote: theirs(), local_ip: None };
    use AssociationEvent::*;
    assert_eq!(w.events, [PathAdded(path), PathSelected(path), Connected]);
    let header =
        rtc::rtp::Header { version: 2, payload_type: 96, sequence_number: 7, ssrc: 1000, ..Default::default() };
    let packet = rtc::rtp::Packet { header, payload: Bytes::from_static(b"a frame") };
    w.browser.pc.rtp_sender(w.browser.sender).unwrap().write_rtp(w.now, packet).unwrap();
    w.run(Duration::from_secs(1), |w| !w.media.is_empty());
    let sealed = w.media.remove(0);
    let inbound = w.association.inbound().unwrap();
    let header_len = sealed.len() - inbound.profile().rtp_overhead() - b"a frame".len();
    let mut out = [0; 100];
    let sequence = u16::from_be_bytes([sealed[2], sealed[3]]);
    let (_, len) = inbound.open_rtp(&mut SsrcState::default(), header_len, sequence, &sealed, &mut out).unwrap();
    assert_eq!(&out[header_len..len], b"a frame");

    w.browser.pc.close().unwrap();
    w.run(Duration::from_secs(1), |w| w.events.len() > 3);
    assert_eq!(w.events[3..], [Failed(AssociationFailure::Closed)]);
}

#[test]
fn a_bad_network_only_delays_the_connection() {
    for seed in 0..60 {
        let mut w = World::new(seed, [0.01, 0.03, 0.05][seed as usize % 3]);
        w.run(Duration::from_secs(25), |w| w.browser.connected && w.association.is_connected());
        assert!(w.association.is_connected(), "seed {seed}: {:?}", w.events);
        assert!(w.browser.connected, "seed {seed}: the other side");
    }
}

#[test]
fn strangers_have_no_effect() {
    let now = start();
    let identity = LocalIdentity::generate().unwrap();
    let local = credentials("ours");
    let config = config(&Browser::new(now).offer(now), &local);
    let mut a = Association::new(now, &identity, &config);
    let before = a.poll_timeout();
    assert_eq!(a.handle_dtls(now, path(1), &[22; 100]), Err(DropReason::DtlsBeforeIce));
    let forged = check(&IceCredentials { pwd: "wrong-password-of-22-chars".to_owned(), ..local.clone() }, true);
    assert_eq!(a.handle_stun(now, path(1), &forged), Err(DropReason::StunUnauthenticated));
    assert!(a.poll_event().is_none() && a.poll_transmit().is_none() && a.path().is_none());
    assert!(a.inbound().is_none() && a.outbound().is_none() && a.poll_timeout() == before);

    // A genuine check opens its own path, and no other.
    a.handle_stun(now, path(1), &check(&local, true)).unwrap();
    assert_eq!(a.handle_dtls(now, path(2), &[22; 100]), Err(DropReason::DtlsBeforeIce));
    assert_eq!(a.handle_dtls(now, path(1), &[22; 100]), Err(DropReason::DtlsMalformed));
    while a.poll_event().is_some() {}
    // Who comes as far as that and never shakes hands is given up.
    for seconds in 1..40 {
        let _ = a.handle_stun(now + Duration::from_secs(seconds), path(1), &check(&local, true));
        a.handle_timeout(now + Duration::from_secs(seconds));
    }
    assert_eq!(a.poll_event(), Some(AssociationEvent::Failed(AssociationFailure::Dtls)));
    assert_eq!((a.poll_event(), a.poll_timeout()), (None, None));
}

#[test]
fn an_association_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Association>();
}
