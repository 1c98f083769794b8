//! Calls through a real server, with an independent WebRTC stack as the client: over UDP, DTLS and SRTP on the loopback
//! interface, and the room's own API.
mod support;

use exedra::server::RunningServer;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use serde_json::{Value, json};
use support::media::{PARTS, Source, assert_one_stream, picture, read_opus, read_vp8};
use support::peer::{Incoming, OPUS, Peer, Rtcp, SrtpProtectionProfile, VP8, rtp_seq, rtp_ssrc};
use support::room::Room;
use support::{drops, hostile, within};
use tokio::sync::oneshot;

/// Somebody who sends a camera and a microphone.
struct Publisher {
    room: Room,
    peer: Peer,
    /// Track ids.
    microphone: String,
    camera: String,
    /// The server's answer.
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
        Self { room, peer, microphone, camera, answer }
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
        let mut group =
            line("a=ssrc-group:FID ").into_iter().flat_map(str::split_whitespace).map(|s| s.parse().unwrap());
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

/// Holds that nothing of a slot comes twice or out of order; packets may be missing.
fn assert_goes_forward(packets: &[rtp::Packet]) {
    for pair in packets.windows(2) {
        let step = pair[1].header.sequence_number.wrapping_sub(pair[0].header.sequence_number);
        assert!((1..0x8000).contains(&step), "{:?} {:?}", pair[0].header, pair[1].header);
    }
}

fn pli(media_ssrc: u32) -> Rtcp {
    Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc })
}

fn nack(media_ssrc: u32, seq: u16) -> Rtcp {
    let nacks = vec![NackPair { packet_id: seq, lost_packets: 0 }];
    Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_and_sound_arrive_as_they_were_sent() {
    let server = support::start().await;
    let mut ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 2).await;
    let (audio, video) = (bo.audio[0].clone(), bo.video[0].clone());
    assert_eq!(bo.bound(&ada.microphone).await["mid"], audio.mid);
    assert_eq!(bo.bound(&ada.camera).await["mid"], video.mid);
    bo.state(&ada.camera, "live").await;

    let pictures = bo.peer.rtp(video.ssrc, 40).await;
    assert!(read_vp8(&pictures[0].payload).keyframe, "a slot starts with a keyframe");
    assert!(pictures.iter().all(|p| p.header.payload_type == VP8));
    assert_one_stream(&pictures);
    for pair in pictures.windows(2) {
        let [last, next] = [0, 1].map(|i| read_vp8(&pair[i].payload));
        let expected = if next.part == 0 { (last.frame + 1, PARTS - 1) } else { (last.frame, next.part - 1) };
        assert_eq!((next.frame, last.part), expected);
        assert_eq!(pair[0].header.marker, last.part == PARTS - 1);
        let step = if next.part == 0 { 3_600 } else { 0 };
        assert_eq!(pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp), step);
    }

    let sound = bo.peer.rtp(audio.ssrc, 20).await;
    assert_one_stream(&sound);
    for pair in sound.windows(2) {
        assert_eq!(read_opus(&pair[1].payload).frame, read_opus(&pair[0].payload).frame + 1);
        assert_eq!(pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp), 960);
    }
    assert!(sound.iter().all(|p| p.header.payload_type == OPUS && read_opus(&p.payload).label == b'a'));
    keyframes_are_had_for_the_asking(&mut ada, &mut bo).await;
    reports_and_statistics_say_what_happened(&mut bo).await;
    let camera = ssrcs(b'a').1;
    let of_camera = |r: &ReceiverReport| r.reports.iter().any(|b| b.ssrc == camera && b.total_lost == 0);
    ada.peer.rtcp::<ReceiverReport>("a receiver report", of_camera).await;
    let of_camera = |r: &ReceiverEstimatedMaximumBitrate| r.ssrcs.contains(&camera) && r.bitrate > 100_000.0;
    ada.peer.rtcp::<ReceiverEstimatedMaximumBitrate>("REMB, for want of transport-cc", of_camera).await;
    server.shutdown().await;
}

async fn keyframes_are_had_for_the_asking(ada: &mut Publisher, bo: &mut Viewer) {
    let (ssrc, known) = (bo.video[0].ssrc, ada.peer.keyframe_requests());
    bo.peer.send_rtcp(vec![pli(ssrc)]);
    ada.peer.keyframe_request(known).await;
    bo.peer.until("a keyframe", |i| rtp_of(i, ssrc).filter(|p| read_vp8(&p.payload).keyframe).map(drop)).await;
}

async fn reports_and_statistics_say_what_happened(bo: &mut Viewer) {
    for ssrc in [bo.audio[0].ssrc, bo.video[0].ssrc] {
        let report = bo.peer.rtcp::<SenderReport>("a sender report", |r| r.ssrc == ssrc).await;
        assert!(report.packet_count > 0 && report.ntp_time > 0, "{report:?}");
    }
    let stats = bo.room.ask("stats", Value::Null).await;
    assert_eq!(stats["sub"]["srtpProfile"], "AEAD_AES_128_GCM", "{stats}");
    assert_eq!((&stats["sub"]["connected"], &stats["sub"]["remoteAddress"]), (&json!(true), &json!(bo.peer.addr())));
    let streams = stats["sub"]["streams"].as_array().unwrap();
    let video = streams.iter().find(|s| s["ssrc"] == bo.video[0].ssrc).unwrap();
    assert_eq!((&video["codec"], &video["keyframeRequests"]), (&json!("VP8"), &json!(1)), "{stats}");
    assert!(video["packets"].as_u64() > Some(40), "{stats}");
}

fn rtp_of(incoming: &Incoming, ssrc: u32) -> Option<rtp::Packet> {
    match incoming {
        Incoming::Rtp(packet) if packet.header.ssrc == ssrc => Some(packet.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_viewer_gets_the_protection_that_it_offers() {
    use SrtpProtectionProfile::{Srtp_Aead_Aes_256_Gcm, Srtp_Aes128_Cm_Hmac_Sha1_80};
    let server = support::start().await;
    let _ada = Publisher::join(&server, "Ada", b'a').await;
    for (profile, name) in
        [(Srtp_Aead_Aes_256_Gcm, "AEAD_AES_256_GCM"), (Srtp_Aes128_Cm_Hmac_Sha1_80, "AES_CM_128_HMAC_SHA1_80")]
    {
        let mut viewer = Viewer::join(&server, name, &[profile], 1).await;
        let video = viewer.peer.rtp(viewer.video[0].ssrc, 20).await;
        assert_one_stream(&video);
        assert!(video.iter().all(|p| read_vp8(&p.payload).label == b'a'));
        assert_eq!(viewer.room.ask("stats", Value::Null).await["sub"]["srtpProfile"], name);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_changes_its_source_stays_one_stream() {
    let server = support::start().await;
    let ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    let ssrc = bo.video[0].ssrc;
    bo.bound(&ada.camera).await;
    let mut cy = Publisher::join(&server, "Cy", b'c').await;
    let mut packets = bo.peer.rtp(ssrc, 20).await;
    let known = cy.peer.keyframe_requests();

    for (publisher, label) in [(&cy, b'c'), (&ada, b'a'), (&cy, b'c')] {
        let view = json!({"tracks": {(publisher.camera.clone()): {"w": 320, "h": 240}}});
        bo.room.ask("view", view).await;
        assert_eq!(bo.bound(&publisher.camera).await["mid"], bo.video[0].mid);
        let at = packets.len();
        while packets.iter().skip(at).filter(|p| read_vp8(&p.payload).label == label).count() < 20 {
            packets.extend(bo.peer.rtp(ssrc, 1).await);
        }
    }
    cy.peer.keyframe_request(known).await;
    assert_one_stream(&packets);
    let mut switches = 0;
    for pair in packets.windows(2) {
        let [last, next] = [0, 1].map(|i| read_vp8(&pair[i].payload));
        let [(last_id, last_tl0), (next_id, next_tl0)] = [0, 1].map(|i| picture(&pair[i].payload));
        let new = u16::from(next.part == 0);
        assert_eq!(next_id.wrapping_sub(last_id) & 0x7fff, new, "the picture id goes on");
        assert_eq!(u16::from(next_tl0.wrapping_sub(last_tl0)), new, "so does TL0PICIDX");
        if last.label != next.label {
            switches += 1;
            assert!(next.keyframe, "a source starts with a keyframe: {next:?}");
            assert_ne!(pair[0].header.timestamp, pair[1].header.timestamp);
        }
    }
    assert_eq!(switches, 3);

    // What was sent of an earlier source is of no use behind the keyframe of the next. What was sent of this one is had again as it was.
    let before = drops(&server, "old_source").await;
    let gone = packets.iter().rfind(|p| read_vp8(&p.payload).label == b'a').unwrap();
    let sent = packets.last().unwrap();
    bo.peer.send_rtcp(vec![nack(ssrc, gone.header.sequence_number), nack(ssrc, sent.header.sequence_number)]);
    let repair = bo.peer.rtp(bo.video[0].rtx.unwrap(), 1).await.remove(0);
    assert_eq!(repair.payload[..2], sent.header.sequence_number.to_be_bytes());
    assert_eq!((&repair.payload[2..], repair.header.timestamp), (&sent.payload[..], sent.header.timestamp));
    until_dropped(&server, "old_source", before + 1).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_slots_come_without_a_break_in_the_old_ones() {
    let server = support::start().await;
    let ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    let first = bo.video[0].ssrc;
    bo.bound(&ada.camera).await;
    let cy = Publisher::join(&server, "Cy", b'c').await;
    let mut packets = bo.peer.rtp(first, 10).await;
    bo.peer.add_slot(RtpCodecKind::Audio);
    bo.peer.add_slot(RtpCodecKind::Video);
    let answer = bo.room.ask("negotiate", json!({"pc": "sub", "rev": 2, "sdp": bo.peer.offer(false)})).await;
    let answer = answer["sdp"].as_str().unwrap();
    bo.peer.answer(answer);
    let (audio, video) = slots_of(answer);
    assert_eq!((video[0].ssrc, video[0].rtx, video.len()), (first, bo.video[0].rtx, 2));
    assert_eq!((audio[0].ssrc, audio.len()), (bo.audio[0].ssrc, 2));

    assert_eq!(bo.bound(&cy.camera).await["mid"], video[1].mid);
    assert_eq!(bo.bound(&cy.microphone).await["mid"], audio[1].mid);
    let mut second = Vec::new();
    while second.len() < 20 || packets.len() < 40 {
        let of_either = |i: &Incoming| rtp_of(i, first).or_else(|| rtp_of(i, video[1].ssrc));
        let packet = bo.peer.until("pictures of both", of_either).await;
        if packet.header.ssrc == first { packets.push(packet) } else { second.push(packet) }
    }
    assert_one_stream(&packets);
    assert_one_stream(&second);
    assert!(read_vp8(&second[0].payload).keyframe);
    assert!(packets.iter().all(|p| read_vp8(&p.payload).label == b'a'));
    assert!(second.iter().all(|p| read_vp8(&p.payload).label == b'c'));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_packet_comes_again_once_in_a_round_trip() {
    let server = support::start().await;
    let _ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    let SlotInfo { ssrc, rtx, .. } = bo.video[0].clone();
    let rtx = rtx.expect("RTX was offered");
    bo.peer.rtp(ssrc, 10).await;
    let (tell, lost) = oneshot::channel();
    let mut tell = Some(tell);
    bo.peer.lose(Box::new(move |datagram| {
        rtp_ssrc(datagram) == Some(ssrc) && tell.take().is_some_and(|tell| tell.send(rtp_seq(datagram)).is_ok())
    }));
    let seq = within("a loss", lost).await.unwrap();
    let after = |i: &Incoming| rtp_of(i, ssrc).filter(|p| p.header.sequence_number == seq.wrapping_add(1));
    let after = bo.peer.until("the packet after the lost one", after).await;

    bo.peer.send_rtcp(vec![nack(ssrc, seq), nack(ssrc, seq), nack(ssrc, seq)]);
    let repair = bo.peer.rtp(rtx, 1).await.remove(0);
    assert_eq!(repair.payload[..2], seq.to_be_bytes(), "the original sequence number (RFC 4588 section 4)");
    assert_ne!(repair.header.payload_type, VP8);
    let (repaired, next) = (read_vp8(&repair.payload[2..]), read_vp8(&after.payload));
    let before = if next.part == 0 { (next.frame - 1, PARTS - 1) } else { (next.frame, next.part - 1) };
    assert_eq!((repaired.label, repaired.frame, repaired.part), (b'a', before.0, before.1));
    let step = if next.part == 0 { 3_600 } else { 0 };
    assert_eq!(after.header.timestamp.wrapping_sub(repair.header.timestamp), step);

    let mut later = 0;
    let watched = |i: &Incoming| {
        assert!(rtp_of(i, rtx).is_none(), "it came twice: {i:?}");
        later += u32::from(rtp_of(i, ssrc).is_some());
        (later == 60).then_some(())
    };
    bo.peer.until("60 packets", watched).await;
    until_dropped(&server, "nack_throttled", 2).await;
    bo.peer.send_rtcp(vec![nack(ssrc, seq), nack(ssrc, seq.wrapping_add(5_000))]);
    let again = bo.peer.rtp(rtx, 1).await.remove(0);
    assert_eq!(again.header.sequence_number, repair.header.sequence_number.wrapping_add(1));
    assert_eq!(again.payload, repair.payload);
    until_dropped(&server, "nack_unanswerable", 1).await;
    assert_eq!(drops(&server, "nack_throttled").await, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_on_the_way_up_is_asked_for_and_passed_on() {
    let server = support::start().await;
    let mut ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    let (ssrc, camera) = (bo.video[0].ssrc, ssrcs(b'a').1);
    let before = bo.peer.rtp(ssrc, 20).await.pop().unwrap();
    ada.peer.withhold(camera);
    let request = ada.peer.rtcp::<TransportLayerNack>("a NACK", |n| n.media_ssrc == camera).await;
    let lost = ada.peer.withheld().unwrap();
    assert_eq!(request.nacks[0].packet_id, rtp_seq(&lost));
    ada.peer.send_raw(server.udp_addrs[0], &lost);

    let mut packets = vec![before];
    while packets.windows(2).all(|p| p[1].header.sequence_number == p[0].header.sequence_number.wrapping_add(1)) {
        packets.extend(bo.peer.rtp(ssrc, 1).await);
    }
    packets.extend(bo.peer.rtp(ssrc, 30).await);
    let first = packets[0].header.sequence_number;
    packets.sort_by_key(|p| p.header.sequence_number.wrapping_sub(first));
    assert_one_stream(&packets);
    packets.iter().for_each(|p| assert_eq!(read_vp8(&p.payload).label, b'a'));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_muted_camera_is_still_and_goes_on_with_a_keyframe() {
    let server = support::start().await;
    let mut ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    let (audio, video) = (bo.audio[0].ssrc, bo.video[0].ssrc);
    bo.state(&ada.camera, "live").await;
    let mut last = bo.peer.rtp(video, 10).await.pop().unwrap();

    ada.room.ask("track", json!({"track": ada.camera, "muted": true})).await;
    let updated = bo.room.event("track.updated", |t| t["track"] == ada.camera).await;
    assert_eq!(updated["muted"], true);
    assert_eq!(bo.state(&ada.camera, "paused").await["why"], "muted");
    until_dropped(&server, "muted", 1).await;
    // What was on its way before arrived before this much sound.
    let mut sounds = 0;
    let drained = |i: &Incoming| {
        last = rtp_of(i, video).unwrap_or_else(|| last.clone());
        sounds += u32::from(rtp_of(i, audio).is_some());
        (sounds == 5).then_some(())
    };
    bo.peer.until("sound", drained).await;
    let mut sounds = 0;
    let still = |i: &Incoming| {
        assert!(rtp_of(i, video).is_none(), "a muted picture: {i:?}");
        sounds += u32::from(rtp_of(i, audio).is_some());
        (sounds == 20).then_some(())
    };
    bo.peer.until("sound", still).await;

    ada.room.ask("track", json!({"track": ada.camera, "muted": false})).await;
    bo.state(&ada.camera, "live").await;
    let mut packets = vec![last];
    packets.extend(bo.peer.rtp(video, 10).await);
    let first = read_vp8(&packets[1].payload);
    assert!(first.keyframe);
    assert_one_stream(&packets);

    // Nothing of the time between can be asked for, and what was sent before it is of no use any more.
    let (last, resumed) = (read_vp8(&packets[0].payload).frame, packets[1].header.sequence_number);
    assert!(first.frame > last + 1);
    let before = drops(&server, "old_source").await;
    bo.peer.send_rtcp((1..=8).map(|back| nack(video, resumed.wrapping_sub(back))).collect());
    until_dropped(&server, "old_source", before + 8).await;
    bo.peer.send_rtcp(vec![nack(video, resumed)]);
    let repair = bo.peer.rtp(bo.video[0].rtx.unwrap(), 1).await.remove(0);
    assert_eq!(repair.payload[..2], resumed.to_be_bytes());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_is_gone_for_everybody() {
    let server = support::start().await;
    let mut ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    bo.peer.rtp(bo.video[0].ssrc, 1).await;
    let participant = ada.room.welcome["participant"].clone();

    ada.room.ask("leave", Value::Null).await;
    for track in [&ada.camera, &ada.microphone] {
        bo.room.event("track.unpublished", |t| t["track"] == *track && t["participant"] == participant).await;
    }
    assert_eq!(bo.room.event("participant.left", |p| p["participant"] == participant).await["why"], "left");
    let emptied = bo.room.event("slot.bind", |b| b["track"].is_null() && b["mid"] == bo.video[0].mid).await;
    assert_eq!(emptied["why"], "unpublished");
    ada.peer.closed().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_closed_is_replaced_by_another() {
    let server = support::start().await;
    let mut ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    let ssrc = bo.video[0].ssrc;
    let mut packets = bo.peer.rtp(ssrc, 10).await;
    bo.state(&ada.camera, "live").await;
    ada.peer.close();
    assert_eq!(bo.state(&ada.camera, "paused").await["why"], "publisher");

    ada.peer = camera_and_microphone(b'A').await;
    let tracks = json!([{"mid": "0", "source": "microphone"}, {"mid": "1", "source": "camera"}]);
    let request = json!({"pc": "pub", "rev": 2, "sdp": ada.peer.offer(false), "tracks": tracks});
    let answer = ada.room.ask("negotiate", request).await;
    assert_eq!(answer["tracks"], json!([{"mid": "0", "track": ada.microphone}, {"mid": "1", "track": ada.camera}]));
    ada.peer.answer(answer["sdp"].as_str().unwrap());
    ada.peer.connected().await;
    ada.peer.send_media(sources(b'A'));
    bo.state(&ada.camera, "live").await;
    while packets.iter().filter(|p| read_vp8(&p.payload).label == b'A').count() < 10 {
        packets.extend(bo.peer.rtp(ssrc, 1).await);
    }
    assert_one_stream(&packets);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_outlives_ice_restarts_and_new_addresses() {
    let server = support::start().await;
    let mut ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    let ssrc = bo.video[0].ssrc;
    let mut packets = bo.peer.rtp(ssrc, 10).await;

    // The same address, new credentials.
    let tracks = json!([{"mid": "0", "source": "microphone"}, {"mid": "1", "source": "camera"}]);
    let request = json!({"pc": "pub", "rev": 2, "sdp": ada.peer.offer(true), "tracks": tracks});
    let answer = ada.room.ask("negotiate", request).await;
    let answer = answer["sdp"].as_str().unwrap();
    assert_ne!(line(answer, "a=ice-ufrag:"), line(&ada.answer, "a=ice-ufrag:"));
    ada.peer.answer(answer);
    ada.peer.checked(line(answer, "a=ice-ufrag:")).await;
    // This stack sends nothing until its new check is answered; what it sends then all arrives.
    packets.extend(bo.peer.rtp(ssrc, 60).await);
    assert_goes_forward(&packets);
    bo.peer.forget();
    assert_one_stream(&bo.peer.rtp(ssrc, 30).await);

    // Another network: what was sent to the old address is lost, and the stream goes on at the new one.
    bo.peer.migrate().await;
    bo.peer.forget();
    let answer = bo.room.ask("negotiate", json!({"pc": "sub", "rev": 2, "sdp": bo.peer.offer(true)})).await;
    let answer = answer["sdp"].as_str().unwrap();
    assert_eq!(slots_of(answer).1[0].ssrc, ssrc, "a slot keeps its SSRC");
    bo.peer.answer(answer);
    let packets = bo.peer.rtp(ssrc, 60).await;
    assert_one_stream(&packets);
    let stats = bo.room.ask("stats", Value::Null).await;
    assert_eq!(stats["sub"]["remoteAddress"], json!(bo.peer.addr()));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_network_brings_back_the_same_stream() {
    let server = support::start().await;
    let mut ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    let ssrc = bo.video[0].ssrc;
    bo.state(&ada.camera, "live").await;
    let mut packets = bo.peer.rtp(ssrc, 10).await;

    // A publisher without network: its picture stands still.
    ada.peer.set_offline(true);
    assert_eq!(bo.state(&ada.camera, "paused").await["why"], "publisher");
    ada.peer.set_offline(false);
    bo.state(&ada.camera, "live").await;
    packets.extend(bo.peer.rtp(ssrc, 40).await);
    assert_goes_forward(&packets);

    let who = bo.room.welcome["participant"].clone();
    let became = |connection: &'static str| {
        let who = who.clone();
        move |p: &Value| p["participant"] == who && p["connection"] == connection
    };
    bo.peer.set_offline(true);
    ada.room.event("participant.updated", became("lost")).await;
    bo.peer.forget();
    bo.peer.set_offline(false);
    ada.room.event("participant.updated", became("live")).await;
    let packets = bo.peer.rtp(ssrc, 40).await;
    assert!(read_vp8(&packets[0].payload).keyframe, "who was away needs a keyframe");
    assert_one_stream(&packets);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whip_and_whep_carry_media_too() {
    let server = support::start().await;
    let http = reqwest::Client::new();
    let url = |path: &str| format!("http://{}{path}", server.http_addr);
    let post = async |path: &str, peer: &Peer| {
        let request = http.post(url(path)).header("content-type", "application/sdp").body(peer.offer(false));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 201);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let answer = response.text().await.unwrap();
        peer.answer(&answer);
        (location, answer)
    };
    let mut camera = camera_and_microphone(b'a').await;
    let (whip, answer) = post("/v1/whip/a/cam", &camera).await;
    camera.connected().await;
    camera.send_media(sources(b'a'));

    let mut player = slots(&[], 1).await;
    let (whep, played) = post("/v1/whep/a/cam", &player).await;
    player.connected().await;
    let (audio, video) = slots_of(&played);
    let mut packets = player.rtp(video[0].ssrc, 20).await;
    assert!(read_vp8(&packets[0].payload).keyframe);
    let sound = player.rtp(audio[0].ssrc, 10).await;
    assert_one_stream(&sound);
    assert!(sound.iter().all(|p| read_opus(&p.payload).label == b'a'));

    // A restart with a fragment (RFC 9725 section 4.3.2): the rest of the answer stays.
    let offer = camera.offer(true);
    let credentials = ["a=ice-ufrag:", "a=ice-pwd:"];
    let fragment: String = credentials.map(|name| format!("{name}{}\r\n", line(&offer, name))).concat();
    let request = http.patch(url(&whip)).header("if-match", "*");
    let request = request.header("content-type", "application/trickle-ice-sdpfrag").body(fragment);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let restarted = response.text().await.unwrap();
    let answer =
        credentials.iter().fold(answer, |sdp, name| sdp.replace(line(&sdp.clone(), name), line(&restarted, name)));
    camera.answer(&answer);
    camera.checked(line(&answer, "a=ice-ufrag:")).await;
    packets.extend(player.rtp(video[0].ssrc, 60).await);
    assert_goes_forward(&packets);

    assert_eq!(http.delete(url(&whip)).send().await.unwrap().status(), 204);
    camera.closed().await;
    assert_eq!(http.delete(url(&whep)).send().await.unwrap().status(), 204);
    player.closed().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_datagrams_change_nothing_and_are_counted() {
    let server = support::start().await;
    let mut ada = Publisher::join(&server, "Ada", b'a').await;
    let mut bo = Viewer::join(&server, "Bo", &[], 1).await;
    let ssrc = bo.video[0].ssrc;
    let mut packets = bo.peer.rtp(ssrc, 30).await;
    let target = server.udp_addrs[0];

    // A stranger, who knows the user name fragment but not the password.
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let ufrag = line(&ada.answer, "a=ice-ufrag:");
    let check = hostile::check(ufrag, "not the password of this session");
    let recorded = ada.peer.sent_of(ssrcs(b'a').1);
    let datagrams = hostile::of_strangers(&check, &recorded[0]);
    for datagram in &datagrams {
        stranger.send_to(datagram, target).await.unwrap();
    }
    // Somebody who can send from the very address of the publisher, and of the viewer.
    let camera = ssrcs(b'a').1;
    for (peer, ssrc) in [(&ada.peer, camera), (&bo.peer, ssrc)] {
        for datagram in hostile::of_neighbours(ssrc) {
            peer.send_raw(target, &datagram);
        }
    }
    for datagram in recorded.iter().flat_map(|d| [d.clone(), hostile::flipped(d)]) {
        ada.peer.send_raw(target, &datagram);
    }

    packets.extend(bo.peer.rtp(ssrc, 90).await);
    assert_one_stream(&packets);
    assert!(packets.iter().all(|p| read_vp8(&p.payload).label == b'a'));
    let known = ada.peer.keyframe_requests();
    bo.peer.send_rtcp(vec![pli(ssrc)]);
    ada.peer.keyframe_request(known).await;
    let expected = [
        "not_media",
        "unknown_peer",
        "stun_malformed",
        "stun_unauthenticated",
        "dtls_malformed",
        "srtp_unauthenticated",
        "srtp_replayed",
        "rtp_malformed",
    ];
    for reason in expected {
        until_dropped(&server, reason, 1).await;
    }
    // The media thread has sent all that it had to say by the time it answers this.
    bo.room.ask("stats", Value::Null).await;
    let answered = stranger.try_recv_from(&mut [0; 2048]);
    assert!(answered.is_err(), "a stranger was answered: {answered:?}");
    server.shutdown().await;
}

/// Waits until so many packets were dropped for `reason`.
async fn until_dropped(server: &RunningServer, reason: &str, count: u64) {
    let enough = async {
        while drops(server, reason).await < count {
            tokio::task::yield_now().await;
        }
    };
    within(&format!("{count} drops for {reason}"), enough).await;
}

/// The rest of the first line that begins with `name`.
fn line<'a>(sdp: &'a str, name: &str) -> &'a str {
    sdp.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {sdp}"))
}
