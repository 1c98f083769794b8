//! What somebody publishes.
use super::head::LEAST_PAYLOAD;
use super::layers::Layering;
use super::ms;
use super::payload::VideoCodec;
use exedra::rtp::Kind;
use std::time::Duration;

/// Payload bytes of one packet, unless the track says otherwise.
const MTU: usize = 1_100;
/// Of the largest encoding of a camera.
const SIZE: (u16, u16) = (1_280, 720);

/// A track to publish.
#[derive(Clone, Debug)]
pub struct TrackConfig {
    pub kind: Kind,
    /// `microphone`, `camera`, …
    pub source: String,
    /// Between two frames.
    pub interval: Duration,
    /// One without a name, or several with.
    pub encodings: Vec<EncodingConfig>,
    /// The first sequence number of each stream; random below 2^15 when absent.
    pub first_sequence: Option<u16>,
    /// Audio: dB below full scale.
    pub level: u8,
    /// Payload bytes of one packet.
    pub mtu: usize,
    /// Audio: offer to send lost packets again.
    pub nack: bool,
    /// Video: send lost packets again as RTX, else under their own number.
    pub rtx: bool,
    /// Video.
    pub codec: VideoCodec,
    /// Packets of exactly `mtu` bytes: frames take turns between one number of packets and the next, so that the bitrate holds.
    pub even: bool,
    /// Spread the packets of a frame over so much time. Zero: one burst.
    pub pace: Duration,
    /// Video: how the frames of each encoding depend on each other.
    pub layering: Layering,
    /// Video: send the dependency descriptor.
    pub descriptor: bool,
    /// Video: how far the size of a frame may be from the mean, as a share of it.
    pub noise: f32,
}

#[derive(Clone, Debug)]
pub struct EncodingConfig {
    pub rid: Option<String>,
    /// Of a frame that is no keyframe, on average. With spatial layers: of the top one; each below it takes a third.
    pub frame_bytes: usize,
    /// Width and height (of the top spatial layer), as keyframes tell them.
    pub size: (u16, u16),
    /// The encoder makes it; else it is offered, and never sent.
    pub made: bool,
}

impl TrackConfig {
    /// 20 ms of Opus at 32 kbit/s, lost packets asked for again.
    pub fn microphone() -> Self {
        Self {
            kind: Kind::Audio,
            source: "microphone".into(),
            interval: ms(20),
            encodings: vec![EncodingConfig { rid: None, frame_bytes: 80, size: SIZE, made: true }],
            first_sequence: None,
            level: 30,
            mtu: MTU,
            nack: true,
            rtx: true,
            codec: VideoCodec::Vp8,
            even: false,
            pace: Duration::ZERO,
            layering: Layering::FLAT,
            descriptor: false,
            noise: 0.0,
        }
    }
    /// 20 frames a second of `frame_bytes` each.
    pub fn camera(frame_bytes: usize) -> Self {
        Self {
            kind: Kind::Video,
            source: "camera".into(),
            interval: ms(50),
            encodings: vec![EncodingConfig { rid: None, frame_bytes, size: SIZE, made: true }],
            ..Self::microphone()
        }
    }
    /// Encodings by name and size of a frame, the largest last; each has half the width of the next.
    pub fn simulcast(encodings: &[(&str, usize)]) -> Self {
        let encoding = |(index, (rid, frame_bytes)): (usize, &(&str, usize))| {
            let shift = encodings.len() - 1 - index;
            EncodingConfig {
                rid: Some((*rid).into()),
                frame_bytes: *frame_bytes,
                size: (SIZE.0 >> shift, SIZE.1 >> shift),
                made: true,
            }
        };
        Self { encodings: encodings.iter().enumerate().map(encoding).collect(), ..Self::camera(0) }
    }
    /// Offers an encoding that it does not send.
    pub fn without(mut self, rid: &str) -> Self {
        let named = |e: &&mut EncodingConfig| e.rid.as_deref() == Some(rid);
        self.encodings.iter_mut().filter(named).for_each(|e| e.made = false);
        self
    }
    pub fn source(mut self, source: &str) -> Self {
        self.source = source.into();
        self
    }
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }
    pub fn starting_at(mut self, sequence: u16) -> Self {
        self.first_sequence = Some(sequence);
        self
    }
    pub fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }
    pub fn without_rtx(mut self) -> Self {
        self.rtx = false;
        self
    }
    pub fn mtu(mut self, mtu: usize) -> Self {
        self.mtu = mtu.max(LEAST_PAYLOAD);
        self
    }
    pub fn codec(mut self, codec: VideoCodec) -> Self {
        self.codec = codec;
        self
    }
    pub fn even(mut self) -> Self {
        self.even = true;
        self
    }
    pub fn paced(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }
    /// Frames depend on each other like this. Where the payload does not tell it, the dependency descriptor does.
    pub fn layered(mut self, layering: Layering) -> Self {
        self.layering = layering;
        self.descriptor |= !layering.is_flat() && matches!(self.codec, VideoCodec::H264 | VideoCodec::Av1);
        self
    }
    pub fn described(mut self) -> Self {
        self.descriptor = true;
        self
    }
    pub fn noisy(mut self, share: f32) -> Self {
        self.noise = share;
        self
    }
    /// Width and height of the largest encoding; each of the others has half those of the next.
    pub fn sized(mut self, width: u16, height: u16) -> Self {
        for (shift, encoding) in self.encodings.iter_mut().rev().enumerate() {
            encoding.size = ((width >> shift).max(1), (height >> shift).max(1));
        }
        self
    }
}
