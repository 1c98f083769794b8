//! What the publisher sends: sealed packets of a camera and a microphone.
use super::{AUDIO_LEVEL, Client, FRAME, OPUS, RigPlan, TRANSPORT_CC, VP8, VP8_RTX, payload_type};
use crate::client::VideoCodec;
use exedra::rtp::header::HeaderWriter;
use exedra::rtp::{SeqNo, Ssrc};

const VIDEO_SSRC: Ssrc = Ssrc(0x1000);
const VIDEO_RTX_SSRC: Ssrc = Ssrc(0x1001);
const AUDIO_SSRC: Ssrc = Ssrc(0x1002);
/// Header and tag of a forwarded video packet: its one extension is the transport-wide number.
const FORWARDED_OVERHEAD: usize = 12 + 8 + 16;
/// Forwarded with an audio level and a transport-wide number: 100 bytes.
const AUDIO_PAYLOAD: usize = 60;
/// Ticks of the 90 kHz clock from frame to frame.
const VIDEO_TICKS: u32 = 90 * FRAME.as_millis() as u32;
const AUDIO_TICKS: u32 = 960;

/// See the module.
pub struct Publisher {
    pub client: Client,
    plan: RigPlan,
    frames: u32,
    audio_frames: u32,
    next_video: SeqNo,
    next_audio: SeqNo,
    next_repair: SeqNo,
    transport_sequence: u16,
}

/// One packet's place.
struct Place {
    ssrc: Ssrc,
    payload_type: u8,
    seq: SeqNo,
    timestamp: u32,
    marker: bool,
    level: Option<u8>,
}

impl Publisher {
    pub(super) fn new(client: Client, plan: RigPlan) -> Self {
        Self {
            client,
            plan,
            frames: 0,
            audio_frames: 0,
            next_video: SeqNo(1),
            next_audio: SeqNo(1),
            next_repair: SeqNo(1),
            transport_sequence: 1,
        }
    }

    /// The next frame's packets.
    pub fn video_frame(&mut self, keyframe: bool) -> Vec<Vec<u8>> {
        let mut packets = Vec::with_capacity(self.plan.burst);
        for part in 0..self.plan.burst {
            let payload = self.video_payload(part, keyframe);
            let place = Place {
                ssrc: VIDEO_SSRC,
                payload_type: VP8,
                seq: self.next_video,
                timestamp: self.frames.wrapping_mul(VIDEO_TICKS),
                marker: part + 1 == self.plan.burst,
                level: None,
            };
            self.next_video = self.next_video.next();
            packets.push(self.seal(&place, &payload));
        }
        self.frames = self.frames.wrapping_add(1);
        packets
    }

    /// The next packet of the microphone: 20 ms of somebody who speaks.
    pub fn audio_packet(&mut self) -> Vec<u8> {
        let place = Place {
            ssrc: AUDIO_SSRC,
            payload_type: OPUS,
            seq: self.next_audio,
            timestamp: self.audio_frames.wrapping_mul(AUDIO_TICKS),
            marker: false,
            level: Some(30 + (self.audio_frames / 12 % 20) as u8),
        };
        self.next_audio = self.next_audio.next();
        self.audio_frames = self.audio_frames.wrapping_add(1);
        self.seal(&place, &[0x78; AUDIO_PAYLOAD])
    }

    /// The packet `back` before the next one of the camera, as RTX (RFC 4588).
    pub fn repair(&mut self, back: u64) -> Vec<u8> {
        let original = self.next_video.minus(back).unwrap_or(self.next_video);
        let mut payload = original.low().to_be_bytes().to_vec();
        payload.extend(self.video_payload(1, false));
        let place = Place {
            ssrc: VIDEO_RTX_SSRC,
            payload_type: VP8_RTX,
            seq: self.next_repair,
            timestamp: self.frames.wrapping_sub(1).wrapping_mul(VIDEO_TICKS),
            marker: false,
            level: None,
        };
        self.next_repair = self.next_repair.next();
        self.seal(&place, &payload)
    }

    /// Seconds of video so far.
    pub(super) fn seconds(&self) -> f64 {
        f64::from(self.frames) * FRAME.as_secs_f64()
    }

    /// SSRC, timestamp and number of packets of the camera, for its report.
    pub(super) fn video_counts(&self) -> (Ssrc, u32, u32) {
        (VIDEO_SSRC, self.frames.wrapping_mul(VIDEO_TICKS), self.next_video.0 as u32)
    }

    fn video_payload(&self, part: usize, keyframe: bool) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.plan.packet_len);
        let (picture_id, tl0_pic_idx) = (self.frames as u16 & 0x7fff, self.frames as u8);
        VideoCodec::Vp8.write(&mut payload, part == 0, false, keyframe, (picture_id, tl0_pic_idx));
        payload.resize(self.plan.packet_len.saturating_sub(FORWARDED_OVERHEAD).max(payload.len()), 0x5a);
        payload
    }

    fn seal(&mut self, place: &Place, payload: &[u8]) -> Vec<u8> {
        let Ok(kind) = payload_type(place.payload_type) else { return Vec::new() };
        let mut head = [0; 64];
        let mut writer =
            HeaderWriter::new(&mut head, place.marker, kind, place.seq.low(), place.timestamp, place.ssrc, false);
        writer.extension(TRANSPORT_CC, &self.transport_sequence.to_be_bytes());
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        if let Some(level) = place.level {
            writer.extension(AUDIO_LEVEL, &[level | 0x80]);
        }
        let len = writer.finish();
        let mut out = vec![0; len + payload.len() + self.client.outbound.profile().rtp_overhead()];
        let sealed = self.client.outbound.seal_rtp(place.seq, &head[..len], payload, &mut out).unwrap_or_default();
        out.truncate(sealed);
        out
    }
}
