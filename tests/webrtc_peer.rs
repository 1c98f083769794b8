//! Calls through a real server, with an independent WebRTC stack as the client: over UDP, DTLS and SRTP on the loopback
//! interface, and the room's own API.
mod support;

use exedra::server::RunningServer;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::sender_report::SenderReport;
use serde_json::{Value, json};
use support::media::{Source, picture, read_opus, read_vp8};
use support::peer::{Incoming, OPUS, Peer, SrtpProtectionProfile, VP8};
use support::room::Room;

/// Somebody who sends a camera and a microphone.
struct Publisher {
    room: Room,
    peer: Peer,
    microphone: String,
    camera: String,
    rev: u64,
    answer: String,
}

impl Publisher {
    async fn join(server: &RunningServer, name: &str, label: u8) -> Self {
        let mut room = Room::join(server, "a", name).await;
        let mut peer = camera_and_microphone(label).await;
        let tracks = json!([{"mid": "0", "source": "microphone"}, {"mid": "1", "source": "camera"}]);
        let request = json!({"pc": "pub", "rev": 1, "sdp": peer.offer(false), "tracks": tracks});
        let answer = room.ask("negotiate", request).await;
        let track = |mid: &str| {
            let tracks = answer["tracks"].as_array().unwrap();
            tracks.iter().find(|t| t["mid"] == mid).unwrap()["track"].as_str().unwrap().to_owned()
        };
        let (microphone, camera) = (track("0"), track("1"));
        let answer = answer["sdp"].as_str().unwrap().to_owned();
        peer.answer(&answer);
        peer.connected().await;
        peer.send_media(sources(label));
        Self { room, peer, microphone, camera, rev: 1, answer }
    }
}

/// SSRCs that tell whose they are.
fn ssrcs(label: u8) -> (u32, u32) {
    (0x1000 + u32::from(label), 0x2000 + u32::from(label))
}

async fn camera_and_microphone(label: u8) -> Peer {
    let (microphone, camera) = ssrcs(label);
    let mut peer = Peer::new(&[]).await;
    peer.add_source(RtpCodecKind::Audio, microphone);
    peer.add_source(RtpCodecKind::Video, camera);
    peer
}

fn sources(label: u8) -> Vec<Source> {
    let (microphone, camera) = ssrcs(label);
    vec![Source::new(label, microphone, OPUS), Source::new(label, camera, VP8)]
}

/// A m-line of `sub`, as the answer describes it.
#[derive(Clone, Debug)]
struct SlotInfo {
    mid: String,
    ssrc: u32,
    rtx: Option<u32>,
}

/// Somebody who watches.
struct Viewer {
    room: Room,
    peer: Peer,
    audio: Vec<SlotInfo>,
    video: Vec<SlotInfo>,
}

impl Viewer {
    async fn join(server: &RunningServer, name: &str, profiles: &[SrtpProtectionProfile], pairs: usize) -> Self {
        let mut room = Room::join(server, "a", name).await;
        let peer = slots(profiles, pairs).await;
        let answer = room.ask("negotiate", json!({"pc": "sub", "rev": 1, "sdp": peer.offer(false)})).await;
        let sdp = answer["sdp"].as_str().unwrap();
        peer.answer(sdp);
        let (audio, video) = slots_of(sdp);
        let mut viewer = Self { room, peer, audio, video };
        viewer.peer.connected().await;
        viewer
    }

    async fn bound(&mut self, track: &str) -> Value {
        self.room.event("slot.bind", |b| b["track"] == track).await
    }

    async fn state(&mut self, track: &str, state: &str) -> Value {
        self.room.event("track.state", |s| s["track"] == track && s["state"] == state).await
    }
}

async fn slots(profiles: &[SrtpProtectionProfile], pairs: usize) -> Peer {
    let peer = Peer::new(profiles).await;
    for _ in 0..pairs {
        peer.add_slot(RtpCodecKind::Audio);
        peer.add_slot(RtpCodecKind::Video);
    }
    peer
}

/// The audio and the video slots that an answer describes.
fn slots_of(sdp: &str) -> (Vec<SlotInfo>, Vec<SlotInfo>) {
    let (mut audio, mut video) = (Vec::new(), Vec::new());
    for section in sdp.split("\r\nm=").skip(1) {
        let line = |name: &str| section.lines().find_map(|l| l.strip_prefix(name));
        let mut group = line("a=ssrc-group:FID ").into_iter().flat_map(str::split_whitespace).map(|s| s.parse().unwrap());
        let ssrc = group.next().or_else(|| line("a=ssrc:")?.split_whitespace().next()?.parse().ok());
        let slot = SlotInfo {
            mid: line("a=mid:").unwrap().to_owned(),
            ssrc: ssrc.unwrap_or_else(|| panic!("a slot without a=ssrc: {section}")),
            rtx: group.next(),
        };
        if section.starts_with("audio") { audio.push(slot) } else { video.push(slot) }
    }
    (audio, video)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_and_sound_arrive_as_they_were_sent() {
    let server = support::start().await;
    let mut ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 2).await;
    let (audio, video) = (bo.audio[0].clone(), bo.video[0].clone());
    assert_eq!(bo.bound(&ada.microphone).await["mid"], audio.mid);
    assert_eq!(bo.bound(&ada.camera).await["mid"], video.mid);

    let sound = bo.peer.rtp(audio.ssrc, 20).await;
    for (packet, next) in sound.iter().zip(&sound[1..]) {
        assert_eq!(next.header.sequence_number, packet.header.sequence_number.wrapping_add(1));
        assert_eq!(next.header.timestamp, packet.header.timestamp.wrapping_add(960));
        assert_eq!(read_opus(&next.payload).frame, read_opus(&packet.payload).frame + 1);
    }
    assert!(sound.iter().all(|p| p.header.payload_type == OPUS && read_opus(&p.payload).label == b'a'));
    server.shutdown().await;
}
