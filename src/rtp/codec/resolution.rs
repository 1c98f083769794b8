//! How large the pictures are that begin with a keyframe: read where its first packet says so in the clear.
use super::{Codec, av1, h264, vp8, vp9};
use crate::rtp::dd::Structures;
use crate::rtp::{Malformed, read};

/// Spatial layers whose sizes are told apart.
pub const SPATIAL_LAYERS: usize = 4;

/// Width and height in pixels by spatial layer; 0 where it is not known. Where only the last one is known, it is that of the highest
/// layer there is.
pub type Sizes = [(u16, u16); SPATIAL_LAYERS];

/// What the first packet of a keyframe says, and the dependency descriptor's structure, which knows better. `None` if neither
/// says anything: the payload may be encrypted end to end.
pub fn sizes(codec: Codec, payload: &[u8], structures: &Structures) -> Option<Sizes> {
    let mut sizes = Sizes::default();
    for (spatial, size) in sizes.iter_mut().enumerate() {
        if let Some((width, height)) = structures.resolution(spatial as u8) {
            *size = (u16::try_from(width).unwrap_or(u16::MAX), u16::try_from(height).unwrap_or(u16::MAX));
        }
    }
    if sizes[0].0 > 0 {
        return Some(sizes);
    }
    let read = match codec {
        Codec::Vp8 => vp8::size(payload).map(single),
        Codec::Vp9 { .. } => vp9::sizes(payload),
        Codec::H264 { .. } => h264::size(payload).map(single),
        // Of the highest layer, whichever that is.
        Codec::Av1 { .. } => av1::size(payload).map(|size| {
            let mut sizes = Sizes::default();
            sizes[SPATIAL_LAYERS - 1] = size;
            sizes
        }),
        Codec::Opus | Codec::Red => return None,
    };
    read.ok().filter(|sizes| sizes.iter().any(|(width, height)| *width > 0 && *height > 0))
}

fn single(size: (u16, u16)) -> Sizes {
    let mut sizes = Sizes::default();
    sizes[0] = size;
    sizes
}

/// Reads bits, the highest first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        let byte = read::u8(self.bytes, self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit != 0)
    }
    /// At most 32 bits.
    pub fn u(&mut self, n: u32) -> Result<u32, Malformed> {
        let mut value = 0;
        for _ in 0..n {
            value = value << 1 | u32::from(self.flag()?);
        }
        Ok(value)
    }
    pub fn skip(&mut self, n: u32) {
        self.at = self.at.saturating_add(n as usize);
    }
    /// An Exp-Golomb code (ITU-T H.264 section 9.1): as `uvlc` of AV1 (section 4.10.3).
    pub fn ue(&mut self) -> Result<u32, Malformed> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(Malformed("Exp-Golomb code beyond 32 bits"));
            }
        }
        Ok((1u32 << zeros) - 1 + self.u(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::H264Profile;
    use super::*;
    use proptest::prelude::*;

    const H264: Codec = Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 };

    fn of(codec: Codec, payload: &[u8]) -> Option<(u16, u16)> {
        sizes(codec, payload, &Structures::default())?.into_iter().max()
    }

    #[test]
    fn keyframes_say_how_large_they_are() {
        // RFC 6386 section 9.1: the scale in the upper two bits is no part of the size.
        let vp8 = [0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0x68, 0x81];
        assert_eq!(of(Codec::Vp8, &vp8), Some((640, 360)));
        assert_eq!(of(Codec::Vp8, &vp8[..9]), None);
        assert_eq!(
            of(Codec::Vp8, &[0x10, 0x11, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]),
            None,
            "no keyframe"
        );
        // Two spatial layers in the scalability structure.
        let vp9 = [0x0a, 0x30, 1, 64, 0, 180, 2, 128, 1, 104];
        let all = sizes(Codec::Vp9 { profile: 0 }, &vp9, &Structures::default());
        assert_eq!(all, Some([(320, 180), (640, 360), (0, 0), (0, 0)]));
        // None: the uncompressed header of a keyframe of 1280x720.
        let header = [0x08, 0x82, 0x49, 0x83, 0x42, 0x40, 0x4f, 0xf0, 0x2c, 0xf0];
        assert_eq!(of(Codec::Vp9 { profile: 0 }, &header), Some((1_280, 720)));
    }

    #[test]
    fn a_sequence_parameter_set_says_how_large_pictures_are() {
        // x264, constrained baseline level 3.1: 1280x720, alone and behind another unit in a STAP-A.
        let sps = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe8, 0x06, 0xd0, 0xa1, 0x35];
        assert_eq!(of(H264, &sps), Some((1_280, 720)));
        let mut aggregate = vec![24, 0, 2, 9, 0x10, 0, sps.len() as u8];
        aggregate.extend(sps);
        assert_eq!(of(H264, &aggregate), Some((1_280, 720)));
        assert_eq!(of(H264, &[0x68, 0xce, 0x3c, 0x80]), None);
    }

    #[test]
    fn a_sequence_header_says_how_large_pictures_are() {
        // Profile 0, one operating point of level 8 in tier 0, 16 and 15 bits: 1920x1080.
        let mut bits = Written::default();
        bits.put(3, 0).put(1, 0).put(1, 0).put(1, 0).put(1, 0).put(5, 0).put(12, 0).put(5, 8).put(1, 0);
        bits.put(4, 10).put(4, 10).put(11, 1_919).put(11, 1_079).put(16, 0);
        let mut payload = vec![0x18, 0x08];
        payload.extend(&bits.bytes);
        assert_eq!(of(Codec::Av1 { profile: 0 }, &payload), Some((1_920, 1_080)));
    }

    #[derive(Default)]
    struct Written {
        bytes: Vec<u8>,
        count: usize,
    }

    impl Written {
        fn put(&mut self, n: u32, value: u32) -> &mut Self {
            for bit in (0..n).rev() {
                if self.count.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (7 - self.count % 8);
                self.count += 1;
            }
            self
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            for codec in [Codec::Vp8, Codec::Vp9 { profile: 0 }, H264, Codec::Av1 { profile: 0 }] {
                let _ = sizes(codec, &payload, &Structures::default());
            }
            for first in [0x67u8, 0x7c, 24] {
                let mut unit = vec![first];
                unit.extend(&payload);
                let _ = of(H264, &unit);
            }
        }
    }
}
