//! A call between two applications of the `webrtc` crate: its own sockets, its own driver, its default interceptors.
//! What a test sees here is what such an application sees. Packets on the wire are the matter of `webrtc_peer.rs`.
mod support {
    pub mod media;
    pub mod room;
    pub mod server;
}

use exedra::server::RunningServer;
use interceptor::{Attribute, Interceptor, Packet as Intercepted, Registry, Slot, StreamInfo, TaggedPacket};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use rtc::sansio::Protocol;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::media::{PARTS, Source, assert_one_stream, picture, read_opus, read_vp8};
use support::room::Room;
use support::server::{start, within};
use tokio::sync::{mpsc, watch};
use webrtc::error::Error;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionState,
    RTCSessionDescription, register_default_interceptors,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

const LABEL: u8 = b'a';
const MICROPHONE: u32 = 0x1001;
const CAMERA: u32 = 0x2002;
/// The payload types of the crate's default codecs.
const OPUS: u8 = 111;
const VP8: u8 = 96;
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_between_applications_of_the_crate() {
    let server = start().await;
    let mut ada = Room::join(&server, "a", "Ada").await;
    let mut publisher = Publisher::new().await;
    let sources = json!([{"mid": "0", "source": "microphone"}, {"mid": "1", "source": "camera"}]);
    let tracks = publisher.connection.negotiate(&mut ada, "pub", sources).await["tracks"].clone();
    publisher.connection.connected().await;
    publisher.send_media();

    let mut bo = Viewer::join(&server).await;
    let (sound, mut pictures) = bo.sound_and_pictures().await;
    assert_sound(&sound.packets);
    assert!(read_vp8(&pictures.packets[0].payload).keyframe, "a slot starts with a keyframe");

    // A keyframe comes only for the asking, and the publisher's application hears that somebody asked.
    let known = *publisher.keyframe_requests.borrow();
    let slot = pictures.packets[0].header.ssrc;
    pictures
        .track
        .write_rtcp(vec![Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: slot })])
        .await
        .unwrap();
    within("a PLI", publisher.keyframe_requests.wait_for(|n| *n > known)).await.unwrap();
    let at = pictures.packets.len();
    while !pictures.packets[at..].iter().any(|p| read_vp8(&p.payload).keyframe) {
        pictures.read(1).await;
    }
    assert_pictures(&pictures.packets);
    let stats = bo.room.ask("stats", Value::Null).await;
    let stream = stats["sub"]["streams"].as_array().unwrap().iter().find(|s| s["ssrc"] == slot).unwrap();
    assert_eq!(stream["keyframeRequests"], 1, "{stats}");

    publisher.connection.pc.close().await.unwrap();
    let camera = tracks[1]["track"].clone();
    let paused = |s: &Value| s["track"] == camera && s["state"] == "paused";
    assert_eq!(bo.room.event("track.state", paused).await["why"], "publisher");
    ada.ask("leave", Value::Null).await;
    for track in tracks.as_array().unwrap() {
        bo.room.event("track.unpublished", |t| t["track"] == track["track"]).await;
    }
    let left = bo.room.event("participant.left", |p| p["participant"] == ada.welcome["participant"]).await;
    assert_eq!(left["why"], "left");
    bo.connection.pc.close().await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whip_publisher_that_closes_is_gone() {
    let server = start().await;
    let mut bo = Viewer::join(&server).await;
    let mut publisher = Publisher::new().await;
    let url = format!("http://{}/v1/whip/a/cam", server.http_addr);
    let request = reqwest::Client::new().post(url).header("content-type", "application/sdp");
    let response = request.body(publisher.connection.offer().await).send().await.unwrap();
    assert_eq!(response.status(), 201);
    publisher.connection.answer(&response.text().await.unwrap()).await;
    publisher.connection.connected().await;
    publisher.send_media();
    let (sound, pictures) = bo.sound_and_pictures().await;
    assert_sound(&sound.packets);
    assert_pictures(&pictures.packets);

    publisher.connection.pc.close().await.unwrap();
    let left = bo.room.event("participant.left", |_| true).await;
    assert_eq!(left["why"], "left", "close_notify is a farewell");
    for _ in 0..2 {
        bo.room.event("track.unpublished", |t| t["participant"] == left["participant"]).await;
    }
    bo.connection.pc.close().await.unwrap();
    server.shutdown().await;
}

/// Holds that this is all that was sent, byte for byte and in order.
fn assert_pictures(packets: &[rtp::Packet]) {
    assert_one_stream(packets);
    for pair in packets.windows(2) {
        let [last, next] = [0, 1].map(|i| read_vp8(&pair[i].payload));
        let expected = if next.part == 0 { (last.frame + 1, PARTS - 1) } else { (last.frame, next.part - 1) };
        assert_eq!((next.frame, last.part), expected);
        assert_eq!((next.label, pair[0].header.marker), (LABEL, last.part == PARTS - 1));
        let [(last_id, _), (next_id, _)] = [0, 1].map(|i| picture(&pair[i].payload));
        assert_eq!(next_id.wrapping_sub(last_id) & 0x7fff, u16::from(next.part == 0));
    }
}

/// The same of sound.
fn assert_sound(packets: &[rtp::Packet]) {
    assert_one_stream(packets);
    for pair in packets.windows(2) {
        let [last, next] = [0, 1].map(|i| read_opus(&pair[i].payload));
        assert_eq!((next.label, next.frame), (LABEL, last.frame + 1));
        assert_eq!(pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp), 960);
    }
}

/// An application that sends a camera and a microphone.
struct Publisher {
    connection: Connection,
    microphone: Arc<TrackLocalStaticRTP>,
    camera: Arc<TrackLocalStaticRTP>,
    /// How often the camera's RTCP reader was told of a lost picture.
    keyframe_requests: watch::Receiver<u32>,
}

impl Publisher {
    async fn new() -> Self {
        let connection = Connection::new().await;
        let microphone = local_track(RtpCodecKind::Audio, MICROPHONE);
        let camera = local_track(RtpCodecKind::Video, CAMERA);
        for track in [&microphone, &camera] {
            connection.pc.add_track(track.clone()).await.unwrap();
        }
        let (asked, keyframe_requests) = watch::channel(0);
        tokio::spawn(read_keyframe_requests(camera.clone(), asked));
        Self { connection, microphone, camera, keyframe_requests }
    }

    /// Sends in real time until the connection is closed. A keyframe comes first, and whenever one is asked for.
    fn send_media(&self) {
        let (microphone, camera) = (self.microphone.clone(), self.camera.clone());
        let mut requests = self.keyframe_requests.clone();
        requests.mark_changed();
        tokio::spawn(async move {
            let (mut sound, mut picture) = (Source::new(LABEL, MICROPHONE, OPUS), Source::new(LABEL, CAMERA, VP8));
            let mut ticks = tokio::time::interval(AUDIO_INTERVAL);
            loop {
                ticks.tick().await;
                if microphone.write_rtp(sound.opus()).await.is_err() {
                    return;
                }
                if sound.frame.is_multiple_of(2) {
                    continue;
                }
                let keyframe = requests.has_changed().unwrap_or_default();
                requests.mark_unchanged();
                for packet in picture.vp8_frame(keyframe, 3_600) {
                    let _ = camera.write_rtp(packet).await;
                }
            }
        });
    }
}

async fn read_keyframe_requests(camera: Arc<TrackLocalStaticRTP>, asked: watch::Sender<u32>) {
    while let Some(event) = camera.poll().await {
        let TrackLocalEvent::OnRtcpPacket(packets) = event else { continue };
        let requests = packets.iter().filter_map(|p| p.as_any().downcast_ref::<PictureLossIndication>());
        for request in requests {
            assert_eq!(request.media_ssrc, CAMERA);
            asked.send_modify(|n| *n += 1);
        }
    }
}

fn local_track(kind: RtpCodecKind, ssrc: u32) -> Arc<TrackLocalStaticRTP> {
    let (mime_type, clock_rate, channels) = match kind {
        RtpCodecKind::Video => (MIME_TYPE_VP8, 90_000, 0),
        _ => (MIME_TYPE_OPUS, 48_000, 2),
    };
    let codec = RTCRtpCodec { mime_type: mime_type.into(), clock_rate, channels, ..Default::default() };
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
    let encoding = RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..Default::default() };
    let track = MediaStreamTrack::new("stream".into(), mime_type.into(), mime_type.into(), kind, vec![encoding]);
    Arc::new(TrackLocalStaticRTP::new(track))
}

/// An application that watches.
struct Viewer {
    room: Room,
    connection: Connection,
}

impl Viewer {
    async fn join(server: &RunningServer) -> Self {
        let mut room = Room::join(server, "a", "Bo").await;
        let mut connection = Connection::new().await;
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
            connection.pc.add_transceiver_from_kind(kind, Some(init)).await.unwrap();
        }
        connection.negotiate(&mut room, "sub", json!([])).await;
        connection.connected().await;
        Self { room, connection }
    }

    /// The beginning of both streams, from the first packet that `on_track` gave.
    async fn sound_and_pictures(&mut self) -> (Received, Received) {
        let (mut sound, mut pictures) = (None, None);
        while sound.is_none() || pictures.is_none() {
            let track = within("a track", self.connection.tracks.recv()).await.unwrap();
            let slot = if track.kind().await == RtpCodecKind::Audio { &mut sound } else { &mut pictures };
            assert!(slot.is_none(), "one track for each slot");
            *slot = Some(Received { track, packets: Vec::new() });
        }
        let (mut sound, mut pictures) = (sound.unwrap(), pictures.unwrap());
        sound.read(20).await;
        pictures.read(40).await;
        (sound, pictures)
    }
}

/// A remote track, and what was read of it.
struct Received {
    track: Arc<dyn TrackRemote>,
    packets: Vec<rtp::Packet>,
}

impl Received {
    async fn read(&mut self, count: usize) {
        let enough = self.packets.len() + count;
        while self.packets.len() < enough {
            let event = within("RTP", self.track.poll()).await.expect("the track lives as long as the connection");
            if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                self.packets.push(packet);
            }
        }
    }
}

/// A connection of the crate, and what its handler was told.
struct Connection {
    pc: Box<dyn PeerConnection>,
    states: mpsc::UnboundedReceiver<RTCPeerConnectionState>,
    tracks: mpsc::UnboundedReceiver<Arc<dyn TrackRemote>>,
}

impl Connection {
    async fn new() -> Self {
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let (states_in, states) = mpsc::unbounded_channel();
        let (tracks_in, tracks) = mpsc::unbounded_channel();
        let pc = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry.with(Slot::from(14_000), DeliverPli::default()))
            .with_handler(Arc::new(Handler { states: states_in, tracks: tracks_in }))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        Self { pc: Box::new(pc), states, tracks }
    }

    async fn offer(&self) -> String {
        let offer = self.pc.create_offer(None).await.unwrap();
        self.pc.set_local_description(offer).await.unwrap();
        self.pc.local_description().await.unwrap().sdp
    }

    async fn answer(&self, sdp: &str) {
        self.pc.set_remote_description(RTCSessionDescription::answer(sdp.to_owned()).unwrap()).await.unwrap();
    }

    async fn negotiate(&mut self, room: &mut Room, pc: &str, tracks: Value) -> Value {
        let request = json!({"pc": pc, "rev": 1, "sdp": self.offer().await, "tracks": tracks});
        let answer = room.ask("negotiate", request).await;
        self.answer(answer["sdp"].as_str().unwrap()).await;
        answer
    }

    async fn connected(&mut self) {
        while within("a connection", self.states.recv()).await.unwrap() != RTCPeerConnectionState::Connected {}
    }
}

struct Handler {
    states: mpsc::UnboundedSender<RTCPeerConnectionState>,
    tracks: mpsc::UnboundedSender<Arc<dyn TrackRemote>>,
}

/// What an async method of the crate's traits gives, written out.
type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl PeerConnectionEventHandler for Handler {
    fn on_connection_state_change<'s: 'f, 'f>(&'s self, state: RTCPeerConnectionState) -> Boxed<'f> {
        let _ = self.states.send(state);
        Box::pin(async {})
    }

    fn on_track<'s: 'f, 'f>(&'s self, track: Arc<dyn TrackRemote>) -> Boxed<'f> {
        let _ = self.tracks.send(track);
        Box::pin(async {})
    }
}

/// The last interceptor, as the crate's example of RTCP has it: lets the application hear of lost pictures. The rest of a
/// compound packet is for the interceptors before it. The crate gives all of it to the track of its first report.
#[derive(Default)]
struct DeliverPli {
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for DeliverPli {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut packet: TaggedPacket) -> Result<(), Error> {
        if let Intercepted::Rtcp(packets) = &mut packet.message.packet {
            packets.retain(|p| p.as_any().is::<PictureLossIndication>());
            packet.message.add(Attribute::DeliverToApplication);
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

impl Interceptor for DeliverPli {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
