//! Codecs, and the little of each payload that forwarding needs.
//!
//! What a decoder needs when its stream changes source is told in the module of each codec. Common to all: begin with a packet
//! whose [`FrameInfo::keyframe`] is set, continue sequence numbers and timestamps, and give the frames of the new source
//! increasing numbers in whatever counts frames (VP8 and VP9 picture ids, the dependency descriptor's frame number).
pub mod av1;
pub mod h264;
pub mod opus;
pub mod resolution;
pub mod vp8;
pub mod vp9;

use super::dd::DependencyDescriptor;
use super::layer::LayerSet;
use super::{Malformed, read};

/// What one packet says of the frame it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameInfo {
    /// A decoder may start here: the first packet of a keyframe (of the lowest spatial layer, where there are several).
    /// Always set for audio.
    pub keyframe: bool,
    /// H.264 without a dependency descriptor: an IDR picture begins, without parameter sets in this packet. A decoder may start
    /// here only if it knows them from before or from SDP.
    pub idr_without_parameters: bool,
    /// The first packet of a frame (of one spatial layer). With H.264 more than one packet of a frame may say so.
    pub frame_start: bool,
    /// The last packet of a frame (of one spatial layer; the marker bit ends the whole picture).
    pub frame_end: bool,
    pub spatial: u8,
    pub temporal: u8,
    /// The limits at which a receiver does without this frame.
    pub absent: LayerSet,
    /// Which limits a receiver may raise its own to, from this frame on.
    pub switching: Switching,
    /// With a dependency descriptor: the highest spatial layer that the sender makes at present. 0 otherwise.
    pub top_spatial: u8,
    /// No other frame refers to this one.
    pub discardable: bool,
    pub picture_id: Option<PictureId>,
    /// VP8, VP9: the running index of temporal base layer pictures.
    pub tl0_pic_idx: Option<u8>,
    /// The dependency descriptor's frame number.
    pub frame_number: Option<u16>,
}

/// What the layers that a receiver follows may become with a frame, if all that it needed at its own limit was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Switching {
    /// It says nothing of that.
    #[default]
    No,
    /// Who follows temporal layers up to `from` may follow those up to `to` of the same spatial layers.
    Temporal { from: u8, to: u8 },
    /// Who follows the spatial layer below this frame's may follow this one, too.
    Spatial,
    /// Who is to get this frame may follow any of these.
    To(LayerSet),
    /// Anybody may: the frame refers to no other.
    Fresh(LayerSet),
}

/// A picture id of VP8 or VP9: 7 or 15 bits wide on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PictureId {
    pub value: u16,
    /// 15 bits.
    pub wide: bool,
}

impl PictureId {
    /// Reads one: its first bit says whether it takes two bytes (RFC 7741 section 4.2). Gives the id and its length.
    fn read(payload: &[u8], at: usize) -> Result<(PictureId, usize), Malformed> {
        let first = read::u8(payload, at)?;
        if first & 0x80 == 0 {
            return Ok((Self { value: u16::from(first), wide: false }, 1));
        }
        Ok((Self { value: read::u16(payload, at)? & 0x7fff, wide: true }, 2))
    }

    /// Overwrites the one at `at` in its own width: of a 7-bit id only the low seven bits of `value` are written.
    fn overwrite(payload: &mut [u8], at: usize, value: u16) -> Result<(), Malformed> {
        let (old, _) = Self::read(payload, at)?;
        let narrow = [(value & 0x7f) as u8];
        let wide = (value | 0x8000).to_be_bytes();
        let bytes: &[u8] = if old.wide { &wide } else { &narrow };
        let slot = payload.get_mut(at..at + bytes.len()).ok_or(Malformed("truncated"))?;
        slot.copy_from_slice(bytes);
        Ok(())
    }
}

/// Reads what a packet says of its frame. `payload` is without padding, and not empty; `marker` is that of the RTP header.
///
/// With a dependency descriptor, nothing is read of the payload but the VP8 or VP9 descriptor, because the rest may be
/// encrypted end to end.
pub fn describe(
    codec: Codec,
    payload: &[u8],
    marker: bool,
    dd: Option<&DependencyDescriptor>,
) -> Result<FrameInfo, Malformed> {
    if payload.is_empty() {
        return Err(Malformed("empty payload"));
    }
    let described = match (codec, dd) {
        (Codec::Opus, _) => return Ok(opus::FRAME),
        (Codec::Red, _) => return opus::red_blocks(payload).try_for_each(|b| b.map(drop)).map(|()| opus::FRAME),
        (Codec::Vp8, None) => return vp8::describe(payload, marker),
        (Codec::Vp8, Some(_)) => vp8::describe_descriptor(payload, marker)?,
        (Codec::Vp9 { .. }, None) => return vp9::describe(payload, marker),
        (Codec::Vp9 { .. }, Some(_)) => vp9::describe(payload, marker)?,
        (Codec::Av1 { .. }, None) => return av1::describe(payload, marker),
        (Codec::H264 { .. }, None) => return h264::describe(payload, marker),
        (Codec::Av1 { .. } | Codec::H264 { .. }, Some(_)) => FrameInfo::default(),
    };
    Ok(dd.map_or(described, |dd| dd.describe(described)))
}

/// What an m-line carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Audio,
    Video,
}

impl Kind {
    /// Ticks a second of the RTP clock, of all codecs of this kind that the server knows.
    pub fn clock_rate(self) -> u32 {
        match self {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        }
    }
}

/// A codec, with those of its parameters that decide whether a decoder takes the stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    Opus,
    /// Redundant audio data (RFC 2198) around Opus.
    Red,
    Vp8,
    Vp9 {
        profile: u8,
    },
    Av1 {
        profile: u8,
    },
    /// `profile` is profile_idc and the constraint bits of profile-level-id, the level left out (RFC 6184 section 8.1).
    H264 {
        profile: H264Profile,
        packetization_mode: u8,
    },
}

/// The profiles of H.264 that WebRTC knows, as RFC 6184 table 5 reads them from profile-level-id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    /// High 4:4:4 Predictive.
    PredictiveHigh444,
}

impl Codec {
    pub fn kind(self) -> Kind {
        match self {
            Codec::Opus | Codec::Red => Kind::Audio,
            _ => Kind::Video,
        }
    }
    /// True if a decoder of this description takes a stream of `other`. For H.264 that is more than itself: single NAL unit mode
    /// is a part of packetization mode 1 (RFC 6184 section 6.3); and what says Baseline is in practice Constrained Baseline
    /// (x264 writes no other, and FFmpeg offers it as `420016`).
    pub fn decodes(self, other: Codec) -> bool {
        use H264Profile::{Baseline, ConstrainedBaseline};
        match (self, other) {
            (
                Codec::H264 { profile, packetization_mode },
                Codec::H264 { profile: sent, packetization_mode: sent_mode },
            ) => {
                let alike = |p| matches!(p, Baseline | ConstrainedBaseline);
                (profile == sent || alike(profile) && alike(sent)) && packetization_mode >= sent_mode
            }
            _ => self == other,
        }
    }
    /// The encoding name of `a=rtpmap`, as registered.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Red => "red",
            Codec::Vp8 => "VP8",
            Codec::Vp9 { .. } => "VP9",
            Codec::Av1 { .. } => "AV1",
            Codec::H264 { .. } => "H264",
        }
    }
    /// Ticks a second of the RTP clock.
    pub fn clock_rate(self) -> u32 {
        self.kind().clock_rate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Codec; 6] = [
        Codec::Opus,
        Codec::Red,
        Codec::Vp8,
        Codec::Vp9 { profile: 0 },
        Codec::Av1 { profile: 0 },
        Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 },
    ];

    proptest! {
        #[test]
        fn garbage_never_panics(mut payload in prop::collection::vec(any::<u8>(), 0..64), dd in prop::collection::vec(any::<u8>(), 0..40), marker: bool) {
            let dd = super::super::dd::Structures::default().parse(&dd).ok();
            for codec in ALL {
                let _ = describe(codec, &payload, marker, None);
                let _ = describe(codec, &payload, marker, dd.as_ref());
            }
            let _ = vp8::rewrite(&mut payload, Some(70), Some(7));
            let _ = vp9::rewrite(&mut payload, Some(70), Some(7));
            let _ = opus::rewrite_red(&mut payload, Some);
        }
    }
}
