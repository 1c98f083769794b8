//! Codecs, and the little of each payload that forwarding needs.

/// What an m-line carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Audio,
    Video,
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
        match self.kind() {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        }
    }
}
