//! An independent WebRTC peer: the `rtc` crate's connection behind a socket of our own, so that a test sees every packet
//! as it arrives, and can lose, repeat and forge datagrams.
use super::media::Source;
use super::within;
use bytes::BytesMut;
use interceptor::{Interceptor, Packet as Intercepted, Registry, Slot, StreamInfo, TaggedPacket};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::configuration::{RTCConfigurationBuilder, RTCOfferOptions};
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCDtlsTransportState, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use rtc::rtp_transceiver::{RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc_crypto::{RTCCryptoProvider, SignatureScheme};
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

pub use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;

pub type Rtcp = Box<dyn rtcp::Packet>;
/// Says of an inbound datagram, still protected, whether it is lost.
pub type Loss = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// Sent datagrams that are remembered, to be repeated.
const REMEMBERED: usize = 64;
const VIDEO_INTERVAL: Duration = Duration::from_millis(40);
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);

/// What a peer got.
#[derive(Debug)]
pub enum Incoming {
    Rtp(rtp::Packet),
    Rtcp(Rtcp),
    State(RTCPeerConnectionState),
    /// The server said close_notify.
    Closed,
    /// The server answered a connectivity check that was made for this user name fragment.
    Checked(String),
}

pub struct Peer {
    link: Arc<Link>,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    keyframe_requests: watch::Receiver<u32>,
    tasks: Vec<JoinHandle<()>>,
    senders: Vec<RTCRtpSenderId>,
}

/// What the tasks of a peer share.
struct Link {
    socket: Mutex<Arc<UdpSocket>>,
    state: Mutex<State>,
    wake: Notify,
    incoming: mpsc::UnboundedSender<Incoming>,
}

struct State {
    pc: RTCPeerConnection,
    closed: bool,
    /// No network: what is sent and what comes is lost.
    offline: bool,
    loss: Option<Loss>,
    /// The stream whose next datagram is not sent but withheld, and what was withheld.
    withhold: Option<u32>,
    withheld: Option<Vec<u8>>,
    /// The checks that have no answer yet: transaction id, and the server's user name fragment.
    checks: VecDeque<([u8; 12], String)>,
    sent: VecDeque<Vec<u8>>,
}

impl Peer {
    /// A peer with a socket on the loopback interface. No profiles: those that the crate offers by itself.
    pub async fn new(profiles: &[SrtpProtectionProfile]) -> Self {
        let socket = bind().await;
        let addr = socket.local_addr().unwrap();
        let (tx, incoming) = mpsc::unbounded_channel();
        let (requests, keyframe_requests) = watch::channel(0);
        let tap = Tap { incoming: tx.clone(), requests, read: VecDeque::new(), write: VecDeque::new() };
        let pc = connection(addr, tap, profiles);
        let state = Mutex::new(State {
            pc,
            closed: false,
            offline: false,
            loss: None,
            withhold: None,
            withheld: None,
            checks: VecDeque::new(),
            sent: VecDeque::new(),
        });
        let link = Arc::new(Link { socket: Mutex::new(socket), state, wake: Notify::new(), incoming: tx });
        let driver = tokio::spawn(drive(link.clone()));
        Self { link, incoming, keyframe_requests, tasks: vec![driver], senders: Vec::new() }
    }

    /// Where datagrams of this peer come from.
    pub fn addr(&self) -> SocketAddr {
        self.link.socket().local_addr().unwrap()
    }

    /// Another network: what is sent from now on comes from another address, and the old one is deaf.
    pub async fn migrate(&self) {
        *self.link.socket.lock().unwrap() = bind().await;
        self.link.wake.notify_one();
    }

    /// Adds a camera (VP8) or a microphone (Opus) to send.
    pub fn add_source(&mut self, kind: RtpCodecKind, ssrc: u32) {
        let (mime_type, clock_rate, channels) = match kind {
            RtpCodecKind::Video => (MIME_TYPE_VP8, 90_000, 0),
            _ => (MIME_TYPE_OPUS, 48_000, 2),
        };
        let codec = RTCRtpCodec { mime_type: mime_type.into(), clock_rate, channels, ..Default::default() };
        let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
        let encoding =
            RTCRtpEncodingParameters { rtp_coding_parameters: coding, active: true, codec, ..Default::default() };
        let id = format!("{mime_type} {ssrc}");
        let track = MediaStreamTrack::new("camera".into(), id.clone(), id, kind, vec![encoding]);
        let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Sendonly, ..Default::default() };
        let id = self.with(|pc, _| pc.add_transceiver_from_track(track, Some(init)).unwrap());
        self.senders.push(RTCRtpSenderId::from(id));
    }

    /// Adds a m-line to receive with.
    pub fn add_slot(&self, kind: RtpCodecKind) {
        self.with(|pc, _| pc.add_transceiver_from_kind(kind, None).unwrap());
    }

    pub fn offer(&self, ice_restart: bool) -> String {
        let addr = self.addr();
        self.with(|pc, now| {
            let offer = pc.create_offer(Some(RTCOfferOptions { ice_restart })).unwrap();
            pc.set_local_description(now, offer).unwrap();
            if ice_restart {
                add_candidate(pc, addr);
            }
            pc.local_description().unwrap().sdp
        })
    }

    pub fn answer(&self, sdp: &str) {
        let answer = RTCSessionDescription::answer(sdp.to_owned()).unwrap();
        self.with(|pc, now| pc.set_remote_description(now, answer).unwrap());
    }

    /// Sends frames and packets of the sources in their order, in real time, until the peer is dropped. A keyframe comes
    /// first, and whenever one is asked for.
    pub fn send_media(&mut self, mut sources: Vec<Source>) {
        let (link, senders) = (self.link.clone(), self.senders.clone());
        let mut requests = self.keyframe_requests.clone();
        requests.mark_changed();
        self.tasks.push(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(AUDIO_INTERVAL);
            let mut elapsed = Duration::ZERO;
            loop {
                ticks.tick().await;
                elapsed += AUDIO_INTERVAL;
                let video_due = elapsed.as_millis().is_multiple_of(VIDEO_INTERVAL.as_millis());
                for (source, sender) in sources.iter_mut().zip(&senders) {
                    let packets = match source.payload_type == OPUS {
                        true => vec![source.opus()],
                        false if video_due => {
                            let keyframe = requests.has_changed().unwrap_or_default();
                            requests.mark_unchanged();
                            source.vp8_frame(keyframe, 3600)
                        }
                        false => continue,
                    };
                    link.with(|pc, now| {
                        for packet in packets {
                            let _ = pc.rtp_sender(*sender).unwrap().write_rtp(now, packet);
                        }
                    });
                }
            }
        }));
    }

    /// Waits until more keyframes than `known` were asked for, and says how many.
    pub async fn keyframe_request(&mut self, known: u32) -> u32 {
        *within("a keyframe request", self.keyframe_requests.wait_for(|n| *n > known)).await.unwrap()
    }

    /// Keyframe requests so far.
    pub fn keyframe_requests(&self) -> u32 {
        *self.keyframe_requests.borrow()
    }

    pub async fn connected(&mut self) {
        let connected = |i: &Incoming| matches!(i, Incoming::State(RTCPeerConnectionState::Connected)).then_some(());
        self.until("a connection", connected).await;
    }

    /// Waits until the server said close_notify.
    pub async fn closed(&mut self) {
        self.until("close_notify", |i| matches!(i, Incoming::Closed).then_some(())).await;
    }

    /// Waits until the server answered a check that was made for its user name fragment `ufrag`.
    pub async fn checked(&mut self, ufrag: &str) {
        let checked = |i: &Incoming| matches!(i, Incoming::Checked(u) if u == ufrag).then_some(());
        self.until("the answer to a check", checked).await;
    }

    /// The first RTCP packet of a kind that arrives and fits.
    pub async fn rtcp<T: rtcp::Packet + Clone + 'static>(&mut self, what: &str, fits: impl Fn(&T) -> bool) -> T {
        let found = |i: &Incoming| match i {
            Incoming::Rtcp(packet) => packet.as_any().downcast_ref::<T>().filter(|p| fits(p)).cloned(),
            _ => None,
        };
        self.until(what, found).await
    }

    /// The first of what arrives that `wanted` takes. All before it is forgotten.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Incoming) -> Option<T>) -> T {
        within(what, async {
            loop {
                let incoming = self.incoming.recv().await.expect("the driver lives as long as its peer");
                if let Some(found) = wanted(&incoming) {
                    return found;
                }
            }
        })
        .await
    }

    /// The next RTP packets of a stream, in the order of their arrival.
    pub async fn rtp(&mut self, ssrc: u32, count: usize) -> Vec<rtp::Packet> {
        let mut packets = Vec::new();
        while packets.len() < count {
            let take = |i: &Incoming| match i {
                Incoming::Rtp(packet) if packet.header.ssrc == ssrc => Some(packet.clone()),
                _ => None,
            };
            packets.push(self.until(&format!("RTP of {ssrc:#x}"), take).await);
        }
        packets
    }

    /// Forgets what has arrived up to now.
    pub fn forget(&mut self) {
        while self.incoming.try_recv().is_ok() {}
    }

    /// Sends RTCP in one compound.
    pub fn send_rtcp(&self, packets: Vec<Rtcp>) {
        self.with(|pc, now| {
            let receiver = pc.get_receivers().next().expect("a slot");
            pc.rtp_receiver(receiver).unwrap().write_rtcp(now, packets).unwrap();
        });
    }

    pub fn lose(&self, loss: Loss) {
        self.link.state.lock().unwrap().loss = Some(loss);
    }

    /// Takes the network away, or gives it back.
    pub fn set_offline(&self, offline: bool) {
        self.link.state.lock().unwrap().offline = offline;
    }

    /// Loses the next datagram of this stream on the way up.
    pub fn withhold(&self, ssrc: u32) {
        self.link.state.lock().unwrap().withhold = Some(ssrc);
    }

    /// What was lost on the way up.
    pub fn withheld(&self) -> Option<Vec<u8>> {
        self.link.state.lock().unwrap().withheld.clone()
    }

    /// Datagrams that were sent of this stream lately, protected as they went.
    pub fn sent_of(&self, ssrc: u32) -> Vec<Vec<u8>> {
        let state = self.link.state.lock().unwrap();
        state.sent.iter().filter(|d| rtp_ssrc(d) == Some(ssrc)).cloned().collect()
    }

    /// Sends a datagram past the connection, from its very address.
    pub fn send_raw(&self, to: SocketAddr, datagram: &[u8]) {
        self.link.socket().try_send_to(datagram, to).unwrap();
    }

    /// Says close_notify.
    pub fn close(&self) {
        self.with(|pc, _| pc.close().unwrap());
    }

    pub fn with<R>(&self, work: impl FnOnce(&mut RTCPeerConnection, Instant) -> R) -> R {
        self.link.with(work)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Link {
    fn socket(&self) -> Arc<UdpSocket> {
        self.socket.lock().unwrap().clone()
    }

    /// Works on the connection, and sends what that gave.
    fn with<R>(&self, work: impl FnOnce(&mut RTCPeerConnection, Instant) -> R) -> R {
        let mut state = self.state.lock().unwrap();
        let result = work(&mut state.pc, now());
        self.flush(&mut state);
        self.wake.notify_one();
        result
    }

    fn flush(&self, state: &mut State) {
        let socket = self.socket();
        while let Some(datagram) = state.pc.poll_write() {
            let (to, bytes) = (datagram.transport.peer_addr, datagram.message.to_vec());
            if state.offline {
                continue;
            }
            if state.withhold.is_some() && state.withhold == rtp_ssrc(&bytes) {
                state.withhold = None;
                state.withheld = Some(bytes);
                continue;
            }
            let _ = socket.try_send_to(&bytes, to);
            state.note_check(&bytes);
            if rtp_ssrc(&bytes).is_some() {
                if state.sent.len() == REMEMBERED {
                    state.sent.pop_front();
                }
                state.sent.push_back(bytes);
            }
        }
        while let Some(event) = state.pc.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(s) = event {
                let _ = self.incoming.send(Incoming::State(s));
            }
        }
        while state.pc.poll_read().is_some() {}
        if !state.closed && state.is_closed() {
            state.closed = true;
            let _ = self.incoming.send(Incoming::Closed);
        }
    }
}

impl State {
    fn is_closed(&mut self) -> bool {
        let (sender, receiver) = (self.pc.get_senders().next(), self.pc.get_receivers().next());
        let sending = sender.and_then(|id| Some(self.pc.rtp_sender(id)?.transport()?.state()));
        let receiving = receiver.and_then(|id| Some(self.pc.rtp_receiver(id)?.transport()?.state()));
        sending.or(receiving) == Some(RTCDtlsTransportState::Closed)
    }

    /// Remembers a Binding request, to know its answer (RFC 8489 section 5).
    fn note_check(&mut self, datagram: &[u8]) {
        const BINDING_REQUEST: [u8; 2] = [0, 1];
        let Some((header, attributes)) = datagram.split_first_chunk::<20>() else { return };
        if header[..2] != BINDING_REQUEST {
            return;
        }
        // USERNAME is its first attribute here: "theirs:ours".
        let Some(name) = attributes.get(4..).and_then(|a| a.split(|b| *b == b':').next()) else { return };
        let transaction = header[8..].try_into().unwrap();
        self.checks.push_back((transaction, String::from_utf8_lossy(name).into_owned()));
    }

    /// Whose answer this is.
    fn answered_check(&mut self, datagram: &[u8]) -> Option<String> {
        const BINDING_SUCCESS: [u8; 2] = [1, 1];
        let header = datagram.first_chunk::<20>().filter(|h| h[..2] == BINDING_SUCCESS)?;
        let at = self.checks.iter().position(|(transaction, _)| header[8..] == transaction[..])?;
        self.checks.remove(at).map(|(_, ufrag)| ufrag)
    }
}

/// Carries datagrams and time between the socket and the connection.
async fn drive(link: Arc<Link>) {
    let mut buffer = vec![0; 2048];
    loop {
        let socket = link.socket();
        let addr = socket.local_addr().unwrap();
        let due = link.state.lock().unwrap().pc.poll_timeout();
        let due = due.unwrap_or_else(|| now() + Duration::from_secs(1));
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let Ok((len, from)) = received else { continue };
                let mut state = link.state.lock().unwrap();
                if state.offline || state.loss.as_mut().is_some_and(|lost| lost(&buffer[..len])) {
                    continue;
                }
                if let Some(ufrag) = state.answered_check(&buffer[..len]) {
                    let _ = link.incoming.send(Incoming::Checked(ufrag));
                }
                let transport = TransportContext {
                    local_addr: addr, peer_addr: from, transport_protocol: TransportProtocol::UDP, ecn: None,
                };
                let message = BytesMut::from(&buffer[..len]);
                let _ = state.pc.handle_read(TaggedBytesMut { now: now(), transport, message });
                link.flush(&mut state);
            }
            () = tokio::time::sleep_until(due.into()) => {
                let mut state = link.state.lock().unwrap();
                let _ = state.pc.handle_timeout(now());
                link.flush(&mut state);
            }
            () = link.wake.notified() => {}
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the clock of a client")]
fn now() -> Instant {
    Instant::now()
}

async fn bind() -> Arc<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.writable().await.unwrap();
    Arc::new(socket)
}

/// The payload type of Opus in the crate's default codecs.
pub const OPUS: u8 = 111;
/// The payload type of VP8 in the crate's default codecs.
pub const VP8: u8 = 96;

fn connection(addr: SocketAddr, tap: Tap, profiles: &[SrtpProtectionProfile]) -> RTCPeerConnection {
    let provider: Arc<dyn RTCCryptoProvider> = Arc::new(rtc_crypto::providers::AwsLcRsProvider::new());
    let params = CertificateParams::new(vec!["peer".into()]).unwrap();
    let certificate = RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params).unwrap();
    let mut engine = MediaEngine::default();
    engine.register_default_codecs().unwrap();
    let mut settings = SettingEngineBuilder::new().with_crypto_provider(provider).with_include_loopback_candidate(true);
    settings = settings.with_discard_local_candidates_during_ice_restart(true);
    if !profiles.is_empty() {
        settings = settings.with_srtp_protection_profiles(profiles.to_vec());
    }
    let mut pc = RTCPeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().with_certificates(vec![certificate]).build())
        .with_setting_engine(settings.build())
        .with_media_engine(engine)
        .with_interceptor_registry(Registry::new().with(Slot::from(500), tap))
        .build(now())
        .unwrap();
    add_candidate(&mut pc, addr);
    pc
}

fn add_candidate(pc: &mut RTCPeerConnection, addr: SocketAddr) {
    let base_config = CandidateConfig {
        network: "udp".into(),
        address: addr.ip().to_string(),
        port: addr.port(),
        component: 1,
        ..Default::default()
    };
    let host = CandidateHostConfig { base_config, ..Default::default() }.new_candidate_host().unwrap();
    pc.add_local_candidate(RTCIceCandidate::from(&host).to_json().unwrap()).unwrap();
}

/// The SSRC of a datagram that is SRTP (RFC 7983, RFC 5761 section 4), which is not encrypted.
pub fn rtp_ssrc(datagram: &[u8]) -> Option<u32> {
    let rtp = matches!(datagram.first()?, 128..=191) && !matches!(datagram.get(1)? & 0x7f, 64..=95);
    rtp.then(|| Some(u32::from_be_bytes(datagram.get(8..12)?.try_into().ok()?))).flatten()
}

/// The sequence number of a datagram that is SRTP.
pub fn rtp_seq(datagram: &[u8]) -> u16 {
    u16::from_be_bytes([datagram[2], datagram[3]])
}

/// The interceptor next to the wire: all that was decrypted, retransmissions and RTCP too, before the crate works on it.
struct Tap {
    incoming: mpsc::UnboundedSender<Incoming>,
    requests: watch::Sender<u32>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        match &packet.message.packet {
            Intercepted::Rtp(rtp) => {
                let _ = self.incoming.send(Incoming::Rtp(rtp.clone()));
            }
            Intercepted::Rtcp(rtcp) => {
                for each in rtcp {
                    if each.as_any().is::<PictureLossIndication>() || each.as_any().is::<FullIntraRequest>() {
                        self.requests.send_modify(|n| *n += 1);
                    }
                    let _ = self.incoming.send(Incoming::Rtcp(each.clone()));
                }
            }
            _ => {}
        }
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
