//! From RTP payloads to frames as files keep them.
//!
//! A depacketizer gets the packets of one picture in their order, none missing, and gives the picture: for VP8 its frame, for VP9 the
//! superframe of all its layers, for AV1 a temporal unit without its delimiter, for H.264 an access unit with NAL unit lengths.
pub mod av1;
pub mod h264;
pub mod opus;
pub mod vp8;
pub mod vp9;

use crate::rtp::Malformed;
use crate::rtp::codec::{Codec, FrameInfo, Kind};

/// No picture is longer, in bytes. One that is, is dropped.
pub const MAX_PICTURE: usize = 4 << 20;

/// Width and height of a picture in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

/// A picture as a file keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Picture {
    pub data: Vec<u8>,
    /// A decoder may start here.
    pub keyframe: bool,
    /// Of keyframes, where the codec tells it.
    pub size: Option<Size>,
    /// What a decoder has to be told before, in the form of Matroska's CodecPrivate. Of keyframes of H.264 (`avcC`) and AV1 (`av1C`).
    pub configuration: Option<Vec<u8>>,
}

/// The depacketizer of a video codec.
#[derive(Debug)]
pub enum Depacketizer {
    Vp8(vp8::Vp8),
    Vp9(vp9::Vp9),
    Av1(av1::Av1),
    H264(h264::H264),
}

impl Depacketizer {
    /// `None` for audio: each of its packets is a frame.
    pub fn new(codec: Codec) -> Option<Self> {
        debug_assert!(codec.kind() == Kind::Video || matches!(codec, Codec::Opus | Codec::Red));
        match codec {
            Codec::Opus | Codec::Red => None,
            Codec::Vp8 => Some(Self::Vp8(vp8::Vp8::default())),
            Codec::Vp9 { .. } => Some(Self::Vp9(vp9::Vp9::default())),
            Codec::Av1 { .. } => Some(Self::Av1(av1::Av1::default())),
            Codec::H264 { .. } => Some(Self::H264(h264::H264::default())),
        }
    }

    /// Takes the next packet of the picture. After an error the picture is lost: [`discard`](Self::discard) it.
    pub fn push(&mut self, payload: &[u8], info: &FrameInfo) -> Result<(), Malformed> {
        match self {
            Self::Vp8(d) => d.push(payload),
            Self::Vp9(d) => d.push(payload, info),
            Self::Av1(d) => d.push(payload),
            Self::H264(d) => d.push(payload),
        }
    }

    /// The picture, now that all of its packets were pushed.
    pub fn finish(&mut self) -> Result<Picture, Malformed> {
        match self {
            Self::Vp8(d) => d.finish(),
            Self::Vp9(d) => d.finish(),
            Self::Av1(d) => d.finish(),
            Self::H264(d) => d.finish(),
        }
    }

    /// Packets are missing: what was pushed since the last picture is of no use.
    pub fn discard(&mut self) {
        match self {
            Self::Vp8(d) => d.discard(),
            Self::Vp9(d) => d.discard(),
            Self::Av1(d) => d.discard(),
            Self::H264(d) => d.discard(),
        }
    }
}

/// Appends within [`MAX_PICTURE`].
fn append(data: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Malformed> {
    if data.len() + bytes.len() > MAX_PICTURE {
        return Err(Malformed("a picture larger than is recorded"));
    }
    data.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::codec::{self, H264Profile};
    use proptest::prelude::*;

    const VIDEO: [Codec; 4] = [
        Codec::Vp8,
        Codec::Vp9 { profile: 0 },
        Codec::Av1 { profile: 0 },
        Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 },
    ];

    proptest! {
        #[test]
        fn garbage_never_panics(
            packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), 0..5u8), 0..40)
        ) {
            for codec in VIDEO {
                let mut depacketizer = Depacketizer::new(codec).unwrap();
                for (payload, then) in &packets {
                    let info = codec::describe(codec, payload, *then == 0, None).unwrap_or_default();
                    let _ = depacketizer.push(payload, &info);
                    match then {
                        0 => drop(depacketizer.finish()),
                        1 => depacketizer.discard(),
                        _ => {}
                    }
                }
            }
        }
    }
}
