//! RTP header extensions (RFC 8285): known by URI, never by number.

macro_rules! extensions {
    ($($(#[$doc:meta])* $name:ident = $uri:literal,)*) => {
        /// The header extensions that the server understands or passes on.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Extension { $($(#[$doc])* $name,)* }
        impl Extension {
            pub const ALL: &'static [Extension] = &[$(Extension::$name,)*];
            pub fn uri(self) -> &'static str {
                match self { $(Extension::$name => $uri,)* }
            }
            pub fn from_uri(uri: &str) -> Option<Self> {
                match uri { $($uri => Some(Extension::$name),)* _ => None }
            }
        }
    };
}

extensions! {
    /// RFC 8843 section 15.
    Mid = "urn:ietf:params:rtp-hdrext:sdes:mid",
    /// RFC 8852.
    Rid = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    /// RFC 8852: on RTX packets, the rid of the repaired stream.
    RepairedRid = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    /// RFC 6464.
    AudioLevel = "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01.
    TransportCc = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    AbsSendTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    AbsCaptureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
    /// AV1 RTP payload specification, appendix A.
    DependencyDescriptor = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    VideoLayersAllocation = "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00",
    /// 3GPP TS 26.114: coordination of video orientation.
    VideoOrientation = "urn:3gpp:video-orientation",
    PlayoutDelay = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    VideoContentType = "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type",
    VideoTiming = "http://www.webrtc.org/experiments/rtp-hdrext/video-timing",
    ColorSpace = "http://www.webrtc.org/experiments/rtp-hdrext/color-space",
    /// RFC 5450.
    TransmissionOffset = "urn:ietf:params:rtp-hdrext:toffset",
}

/// Which extension has which id on one m-line. Ids are 1 to 14, or to 255 with two-byte headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionMap {
    ids: [u8; Extension::ALL.len()],
}

impl Default for ExtensionMap {
    fn default() -> Self {
        Self { ids: [0; Extension::ALL.len()] }
    }
}

impl ExtensionMap {
    /// Says that `extension` has `id`. Id 0 (padding) and 15 (reserved, RFC 8285 section 4.2) are not ids: they are refused.
    pub fn insert(&mut self, extension: Extension, id: u8) -> bool {
        let valid = id != 0 && id != 15;
        if valid {
            self.ids[extension as usize] = id;
        }
        valid
    }
    pub fn id(&self, extension: Extension) -> Option<u8> {
        match self.ids[extension as usize] {
            0 => None,
            id => Some(id),
        }
    }
    /// The extension of this id. Linear over a handful of bytes.
    pub fn extension(&self, id: u8) -> Option<Extension> {
        if id == 0 {
            return None;
        }
        self.ids.iter().position(|&i| i == id).map(|i| Extension::ALL[i])
    }
    pub fn iter(&self) -> impl Iterator<Item = (Extension, u8)> + '_ {
        Extension::ALL.iter().filter_map(|&e| self.id(e).map(|id| (e, id)))
    }
}
