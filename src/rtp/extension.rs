//! RTP header extensions (RFC 8285): known by URI, never by number; and the values of those that the server reads or writes.
use super::{Malformed, read};

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

/// Loudness of the audio in a packet (RFC 6464).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// dB below full scale: 0 is loudest, 127 is silence.
    pub level: u8,
    /// The V bit: the sender believes that somebody speaks.
    pub voice: bool,
}

impl AudioLevel {
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        read::u8(value, 0).map(|b| Self { level: b & 0x7f, voice: b & 0x80 != 0 })
    }
    /// The value to write; a level above 127 counts as silence.
    pub fn to_bytes(self) -> [u8; 1] {
        [self.level.min(127) | u8::from(self.voice) << 7]
    }
}

/// When a packet's first sample was captured
/// (<http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsCaptureTime {
    /// On the capturer's clock: NTP's 32.32 fixed point, seconds since 1900.
    pub ntp: u64,
    /// How far the capturer's clock is ahead of that of whoever sends this packet on: signed 32.32 seconds. The last hop adjusts it.
    pub clock_offset: Option<i64>,
}

impl AbsCaptureTime {
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let ntp = read::u64(value, 0)?;
        let clock_offset = match value.len() {
            8 => None,
            16 => Some(read::u64(value, 8)? as i64),
            _ => return Err(Malformed("absolute capture time is 8 or 16 bytes")),
        };
        Ok(Self { ntp, clock_offset })
    }
    /// The same moment on the clock of the sender's reports.
    pub fn sender_ntp(self) -> u64 {
        self.ntp.wrapping_sub(self.clock_offset.unwrap_or(0) as u64)
    }
    /// Writes the value into `out`, and says how many of its bytes are used: 8 or 16.
    pub fn write(self, out: &mut [u8; 16]) -> usize {
        out[..8].copy_from_slice(&self.ntp.to_be_bytes());
        match self.clock_offset {
            None => 8,
            Some(offset) => {
                out[8..].copy_from_slice(&offset.to_be_bytes());
                16
            }
        }
    }
}

/// The transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2). Version 2 of the extension,
/// four bytes, begins with it too.
pub fn parse_transport_seq(value: &[u8]) -> Result<u16, Malformed> {
    read::u16(value, 0)
}

/// Absolute send time: 24 bits of fixed point seconds, 6.18, from an NTP time of 32.32.
pub fn abs_send_time(ntp: u64) -> [u8; 3] {
    let [.., a, b, c] = ((ntp >> 14) as u32).to_be_bytes();
    [a, b, c]
}

/// The text of `mid`, `rid` and `repaired-rid` (RFC 7941): at most 255 bytes; `Mid` and `Rid` judge it further.
pub fn parse_label(value: &[u8]) -> Result<&str, Malformed> {
    if value.is_empty() {
        return Err(Malformed("empty label"));
    }
    std::str::from_utf8(value).map_err(|_| Malformed("label is not UTF-8"))
}

/// How to turn the picture before it is shown (3GPP TS 26.114 section 7.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoOrientation {
    pub back_camera: bool,
    pub flipped: bool,
    /// Degrees clockwise: 0, 90, 180 or 270.
    pub rotation: u16,
}

impl VideoOrientation {
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let b = read::u8(value, 0)?;
        Ok(Self { back_camera: b & 8 != 0, flipped: b & 4 != 0, rotation: u16::from(b & 3) * 90 })
    }
    pub fn to_bytes(self) -> [u8; 1] {
        [u8::from(self.back_camera) << 3 | u8::from(self.flipped) << 2 | (self.rotation / 90 % 4) as u8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_and_uris_map_both_ways() {
        let mut map = ExtensionMap::default();
        for (i, &e) in Extension::ALL.iter().enumerate() {
            assert_eq!(Extension::from_uri(e.uri()), Some(e));
            assert!(map.insert(e, i as u8 + 16));
            assert_eq!(map.extension(i as u8 + 16), Some(e));
        }
        assert!(!map.insert(Extension::Mid, 0) && !map.insert(Extension::Mid, 15));
        assert_eq!(map.extension(0), None);
    }

    #[test]
    fn send_time_keeps_six_bits_of_seconds() {
        assert_eq!(abs_send_time(0), [0, 0, 0]);
        assert_eq!(abs_send_time(1 << 32), [0x04, 0, 0]);
        assert_eq!(abs_send_time(65 << 32 | 1 << 31), [0x06, 0, 0]);
    }

    proptest! {
        #[test]
        fn values_read_back(level in 0..128u8, voice: bool, ntp: u64, clock_offset: Option<i64>, turns in 0..4u16, flipped: bool) {
            let audio = AudioLevel { level, voice };
            prop_assert_eq!(AudioLevel::parse(&audio.to_bytes()), Ok(audio));
            let capture = AbsCaptureTime { ntp, clock_offset };
            let mut out = [0; 16];
            let n = capture.write(&mut out);
            prop_assert_eq!(AbsCaptureTime::parse(&out[..n]), Ok(capture));
            let orientation = VideoOrientation { back_camera: voice, flipped, rotation: turns * 90 };
            prop_assert_eq!(VideoOrientation::parse(&orientation.to_bytes()), Ok(orientation));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = (AudioLevel::parse(&bytes), AbsCaptureTime::parse(&bytes), VideoOrientation::parse(&bytes));
            let _ = (parse_transport_seq(&bytes), parse_label(&bytes));
        }
    }
}
