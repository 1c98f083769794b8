//! The server itself, killed while it records a call: kill -9 at random instants. Each next one heals what the last has left: all files play, and lack
//! at most the last second. The publishers are applications of the `webrtc` crate.
use crate::ffmpeg::{self, Film};
use crate::publisher::{Sent, packets};
use crate::{VIDEO, film, folder};
use reqwest::Client;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8};
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until, timeout};
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionState,
    RTCSessionDescription, Registry, register_default_interceptors,
};

pub const ADMIN: &str = "an operator of the tests";
const PUBLISHERS: u32 = 2;
/// The payload types of the crate's default codecs.
const OPUS: u8 = 111;
const VP8: u8 = 96;
/// How long a server may take to start, or to heal; a publisher to connect.
const PATIENCE: Duration = Duration::from_secs(20);
/// A recording that was shorter may have nothing yet.
const SHORT_MS: u64 = 1_500;
/// What may be missing: a second, and what was on its way into the recording.
const MISSING_MS: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_at_any_instant_leaves_files_that_play() {
    film(0);
    // Chains of servers, side by side: kills in each.
    let (chains, kills) = if std::env::var_os("LONG").is_some() { (4, 50) } else { (3, 4) };
    let all: Vec<_> = (0..chains).map(|chain| tokio::spawn(kill_again_and_again(chain, kills))).collect();
    let mut missing = Vec::new();
    for chain in all {
        missing.extend(chain.await.unwrap());
    }
    missing.sort();
    println!("{} kills; milliseconds missing of each file: {missing:?}", chains * kills);
    assert!(missing.len() >= chains * kills, "hardly any file was looked at");
}

/// Gives how much is missing at the end of each file, in milliseconds.
async fn kill_again_and_again(chain: usize, kills: usize) -> Vec<u64> {
    let root = folder(&format!("killed-{chain}"));
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir(&root).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(chain as u64 + 1);
    let mut missing = Vec::new();
    let mut server = Server::start(&root);
    for kill in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lasts = Duration::from_millis(500 + (random >> 33) % 5_500);
        let mut publishers = Vec::new();
        for n in 1..=PUBLISHERS {
            publishers.push(Publisher::publish(&server, n).await);
        }
        let id = server.record().await;
        sleep_until(Instant::now() + lasts).await;
        server.child.kill().unwrap();
        let killed_at_ms = unix_ms();
        // Until it is gone, the folder is its own.
        block_in_place(|| server.child.wait()).unwrap();
        drop(publishers);
        server = Server::start(&root);
        let manifest = healed(&root.join(&id)).await;
        let thoroughly = (chain + kill).is_multiple_of(5);
        missing.extend(block_in_place(|| check(&root.join(&id), &manifest, killed_at_ms, thoroughly)));
    }
    missing
}

/// Waits until a recording that was left open is told to be healed.
async fn healed(folder: &Path) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(folder.join("session.json")).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        if manifest["state"] == "healed" {
            return manifest;
        }
        assert!(Instant::now() < until, "not healed: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn check(folder: &Path, manifest: &Value, killed_at_ms: u64, thoroughly: bool) -> Vec<u64> {
    assert_eq!(manifest["ended"], "crash");
    let number = |value: &Value| value.as_u64().unwrap();
    let began = number(&manifest["startedAtMs"]);
    let files = manifest["files"].as_array().unwrap();
    let lasted = killed_at_ms - began;
    assert!(files.len() == PUBLISHERS as usize || lasted < SHORT_MS, "{lasted} ms: {manifest}");
    let mut missing = Vec::new();
    for file in files {
        let path: PathBuf = folder.join(file["name"].as_str().unwrap());
        let probe = ffmpeg::probe(&path);
        assert_eq!(probe.complaints, "", "{}", path.display());
        let end = number(&file["startMs"]) + number(&file["durationMs"]);
        let lacks = lasted.saturating_sub(end);
        assert!(lacks <= MISSING_MS, "{}: ends at {end} of {lasted} ms: {manifest}", path.display());
        assert!((probe.duration_ms - number(&file["durationMs"]) as f64).abs() <= 60.0, "{}", path.display());
        if lasted >= SHORT_MS {
            assert_eq!((probe.codec("video"), probe.codec("audio")), ("vp8", "opus"), "{}", path.display());
            assert!(probe.frames("video") > 0, "{}", path.display());
        }
        if thoroughly {
            assert_eq!(ffmpeg::decode(&path), "", "{}", path.display());
        }
        missing.push(lacks);
    }
    missing
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A server as a process of its own. Killed when dropped.
pub struct Server {
    pub child: Child,
    port: u16,
    pub http: Client,
}

impl Server {
    pub fn start(root: &Path) -> Self {
        let flags = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--open", "--admin-token", ADMIN, "--recordings"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_exedra"));
        command.args(flags).arg(root).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        block_in_place(|| BufReader::new(child.stdout.take().unwrap()).read_line(&mut line)).unwrap();
        let ready = "Exedra is ready: http://localhost:";
        let port = line.trim().strip_prefix(ready).and_then(|port| port.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("{line:?}")), http: Client::new() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Starts a recording; gives its id.
    pub async fn record(&self) -> String {
        let request = self.http.post(self.url("/v1/admin/rooms/hall/recording")).bearer_auth(ADMIN);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        told["recording"].as_str().unwrap_or_else(|| panic!("{text}")).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the film in real time, over WHIP, until it is dropped.
pub struct Publisher {
    connection: Arc<dyn PeerConnection>,
    gone: Arc<AtomicBool>,
}

impl Publisher {
    pub async fn publish(server: &Server, number: u32) -> Self {
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().unwrap();
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let (told, mut state) = watch::channel(RTCPeerConnectionState::New);
        let built = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler(told)))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build();
        let connection: Arc<dyn PeerConnection> = Arc::new(built.await.unwrap());
        let (camera, microphone) = (2 * number, 2 * number + 1);
        let tracks = [local_track(RtpCodecKind::Video, camera), local_track(RtpCodecKind::Audio, microphone)];
        for track in &tracks {
            connection.add_track(track.clone()).await.unwrap();
        }
        let offer = connection.create_offer(None).await.unwrap();
        connection.set_local_description(offer).await.unwrap();
        let offer = connection.local_description().await.unwrap().sdp;
        let url = server.url(&format!("/v1/whip/hall/camera{number}"));
        let request = server.http.post(url).header("content-type", "application/sdp").body(offer);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let answer = RTCSessionDescription::answer(answer.text().await.unwrap()).unwrap();
        connection.set_remote_description(answer).await.unwrap();
        let connected = state.wait_for(|state| *state == RTCPeerConnectionState::Connected);
        timeout(PATIENCE, connected).await.expect("a publisher connects").unwrap();
        let gone = Arc::new(AtomicBool::new(false));
        tokio::spawn(send(tracks, (camera, microphone), Arc::clone(&gone)));
        Self { connection, gone }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        let connection = Arc::clone(&self.connection);
        tokio::spawn(async move { connection.close().await });
    }
}

/// Each packet at its time; the film has a keyframe a second.
async fn send(tracks: [Arc<TrackLocalStaticRTP>; 2], ssrcs: (u32, u32), gone: Arc<AtomicBool>) {
    let film: Vec<Sent> = packets(film(0), VIDEO[0].0);
    let began = Instant::now();
    for round in 0.. {
        for sent in film.iter().map(|sent| sent.in_round(round, &film)) {
            let due = Duration::from_nanos(sent.captured) + Film::LENGTH * round;
            sleep_until(began + due).await;
            if gone.load(Ordering::Relaxed) {
                return;
            }
            // What cannot be sent is lost.
            let _ = match sent.source {
                1 => tracks[0].write_rtp(sent.rtp(ssrcs.0, VP8)).await,
                _ => tracks[1].write_rtp(sent.rtp(ssrcs.1, OPUS)).await,
            };
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
    let track = Arc::new(TrackLocalStaticRTP::new(track));
    // Nobody reads what the server says of it: the film has keyframes enough.
    let unread = Arc::clone(&track);
    tokio::spawn(async move { while let Some(TrackLocalEvent::OnRtcpPacket(_)) = unread.poll().await {} });
    track
}

struct Handler(watch::Sender<RTCPeerConnectionState>);

impl PeerConnectionEventHandler for Handler {
    fn on_connection_state_change<'s: 'f, 'f>(
        &'s self,
        state: RTCPeerConnectionState,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'f>> {
        self.0.send_replace(state);
        Box::pin(async {})
    }
}
