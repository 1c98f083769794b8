//! What a sender says that it means to send: video-layers-allocation00 of the WebRTC project (`docs/native-code/rtp-hdrext/` of its
//! source), a header extension with the target bit rate, size and frame rate of each layer of each encoding.
//!
//! ```text
//! RID (2) NS (2) sl_bm (4)          index of the stream it came on; streams less one; spatial layers of every stream
//! sl0_bm (4) sl1_bm (4) …           where sl_bm is 0: of each stream, filled up to a byte
//! #tl (2) …                         temporal layers less one of each spatial layer, filled up to a byte
//! target bit rates                  kbit/s, leb128: of each temporal layer, all below it included
//! width-1 (16) height-1 (16) fps (8)  of each spatial layer: all of them or none
//! ```
use super::codec::av1::leb128;
use super::{Malformed, read};
use smallvec::SmallVec;

/// Streams, and spatial layers of each.
const MAX_STREAMS: u8 = 4;
const MAX_SPATIAL: u8 = 4;
const MAX_LAYERS: usize = MAX_STREAMS as usize * MAX_SPATIAL as usize;
/// Bytes that size and frame rate of one spatial layer take.
const RESOLUTION: usize = 5;

/// What all streams of a sender are to be.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VideoLayersAllocation {
    /// Index of the stream that it came on. Streams are numbered in the order of `a=simulcast`.
    pub stream: u8,
    /// Those that are sent, by stream and spatial id. A stream without any is not sent.
    pub layers: SmallVec<[SpatialLayer; MAX_LAYERS]>,
}

/// One spatial layer of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SpatialLayer {
    pub stream: u8,
    pub spatial: u8,
    /// 1 to 4.
    pub temporal_layers: u8,
    /// kbit/s by temporal layer: what somebody needs who is to get it, with all that it depends on.
    pub target_kbps: [u32; 4],
    /// `None` where the sender left it out, as it does while nothing of it changes.
    pub resolution: Option<Resolution>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// 1 to 65,536.
    pub width: u32,
    pub height: u32,
    /// Frames a second, at most.
    pub fps: u8,
}

impl SpatialLayer {
    /// kbit/s of all its temporal layers.
    pub fn total_kbps(&self) -> u32 {
        let top = self.temporal_layers.clamp(1, 4) - 1;
        self.target_kbps[usize::from(top)]
    }
}

impl VideoLayersAllocation {
    /// Reads an extension value. A single byte of zero says that nothing is sent.
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let head = read::u8(value, 0)?;
        if value == [0] {
            return Ok(Self::default());
        }
        let mut at = 1;
        let layers = parse_masks(value, head, &mut at)?;
        let mut allocation = Self { stream: head >> 6, layers };
        let counts = at;
        at += allocation.layers.len().div_ceil(4);
        for (n, layer) in allocation.layers.iter_mut().enumerate() {
            layer.temporal_layers = (read::u8(value, counts + n / 4)? >> (6 - n % 4 * 2) & 3) + 1;
        }
        for layer in &mut allocation.layers {
            for kbps in &mut layer.target_kbps[..usize::from(layer.temporal_layers)] {
                let (rate, len) = leb128(value.get(at..).unwrap_or_default())?;
                *kbps = u32::try_from(rate).unwrap_or(u32::MAX);
                at += len;
            }
        }
        let rest = value.get(at..).unwrap_or_default();
        match rest.len() {
            0 => {}
            n if n == RESOLUTION * allocation.layers.len() => {
                for (layer, bytes) in allocation.layers.iter_mut().zip(rest.as_chunks::<RESOLUTION>().0) {
                    layer.resolution = Some(Resolution::of(*bytes));
                }
            }
            _ => return Err(Malformed("sizes of some layers only")),
        }
        Ok(allocation)
    }

    /// The layers of one stream; none if it is not sent.
    pub fn of_stream(&self, stream: u8) -> impl Iterator<Item = &SpatialLayer> {
        self.layers.iter().filter(move |layer| layer.stream == stream)
    }
}

impl Resolution {
    fn of(bytes: [u8; RESOLUTION]) -> Self {
        let [w1, w2, h1, h2, fps] = bytes;
        let side = |bytes| u32::from(u16::from_be_bytes(bytes)) + 1;
        Self { width: side([w1, w2]), height: side([h1, h2]), fps }
    }
}

/// Which layers there are: a mask of four bits for all streams, or one for each.
fn parse_masks(value: &[u8], head: u8, at: &mut usize) -> Result<SmallVec<[SpatialLayer; MAX_LAYERS]>, Malformed> {
    let (streams, shared) = ((head >> 4 & 3) + 1, head & 0x0f);
    let mut layers = SmallVec::new();
    for stream in 0..streams {
        let mask = match shared {
            0 => read::u8(value, *at + usize::from(stream / 2))? >> (4 - 4 * (stream % 2)) & 0x0f,
            mask => mask,
        };
        let present = (0..MAX_SPATIAL).filter(|spatial| mask >> spatial & 1 != 0);
        layers.extend(present.map(|spatial| SpatialLayer { stream, spatial, ..SpatialLayer::default() }));
    }
    if shared == 0 {
        *at += usize::from(streams.div_ceil(2));
    }
    if head >> 6 >= streams {
        return Err(Malformed("on a stream beyond those that it tells of"));
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The inverse of `parse`.
    fn write(allocation: &VideoLayersAllocation, streams: u8) -> Vec<u8> {
        let masks: Vec<u8> =
            (0..streams).map(|s| allocation.of_stream(s).fold(0, |mask, l| mask | 1 << l.spatial)).collect();
        let shared = masks.iter().all(|m| *m == masks[0] && *m != 0);
        let mut out = vec![allocation.stream << 6 | (streams - 1) << 4 | if shared { masks[0] } else { 0 }];
        if !shared {
            out.extend(masks.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).unwrap_or(&0)));
        }
        for four in allocation.layers.chunks(4) {
            let byte = four.iter().enumerate().fold(0, |b, (n, l)| b | (l.temporal_layers - 1) << (6 - 2 * n));
            out.push(byte);
        }
        for layer in &allocation.layers {
            for &kbps in &layer.target_kbps[..usize::from(layer.temporal_layers)] {
                let mut rest = kbps;
                while rest > 0x7f {
                    out.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                out.push(rest as u8);
            }
        }
        for resolution in allocation.layers.iter().filter_map(|l| l.resolution) {
            out.extend(((resolution.width - 1) as u16).to_be_bytes());
            out.extend(((resolution.height - 1) as u16).to_be_bytes());
            out.push(resolution.fps);
        }
        out
    }

    #[test]
    fn a_simulcast_sender_is_read() {
        // Stream 1 of three; one spatial layer each, with two, one and three temporal layers; sizes.
        let mut value = vec![0x61, 0b01_00_10_00, 100, 0x96, 1, 0xf4, 3, 0xe8, 7, 0xdc, 0x0b, 0xc4, 0x13];
        for (width, height) in [(319u16, 179u16), (639, 359), (1279, 719)] {
            value.extend(width.to_be_bytes());
            value.extend(height.to_be_bytes());
            value.push(30);
        }
        let got = VideoLayersAllocation::parse(&value).unwrap();
        assert_eq!(got.stream, 1);
        let seen: Vec<_> = got.layers.iter().map(|l| (l.stream, l.temporal_layers, l.total_kbps())).collect();
        assert_eq!(seen, [(0, 2, 150), (1, 1, 500), (2, 3, 2_500)]);
        assert_eq!(got.layers[2].target_kbps, [1_000, 1_500, 2_500, 0]);
        assert_eq!(got.layers[0].resolution, Some(Resolution { width: 320, height: 180, fps: 30 }));
        for cut in 0..value.len() {
            let whole = cut == 13; // Without the sizes it is complete.
            assert_eq!(VideoLayersAllocation::parse(&value[..cut]).is_ok(), whole, "cut at {cut}");
        }
    }

    /// As Chromium 156 sent it while there was no bit rate for the third encoding.
    #[test]
    fn chromium_is_read() {
        let value = [
            0x11, 0xa0, 0x28, 0x3c, 0x64, 0x96, 0x01, 0xe1, 0x01, 0xf7, 0x02, 0, 0xef, 0, 0x86, 0x15, 1, 0xdf, 1, 0x0d,
            0x15,
        ];
        let got = VideoLayersAllocation::parse(&value).unwrap();
        let layer = |stream, target_kbps, width, height| SpatialLayer {
            stream,
            spatial: 0,
            temporal_layers: 3,
            target_kbps,
            resolution: Some(Resolution { width, height, fps: 21 }),
        };
        assert_eq!(got.layers[..], [layer(0, [40, 60, 100, 0], 240, 135), layer(1, [150, 225, 375, 0], 480, 270)]);
    }

    #[test]
    fn streams_may_differ_and_be_silent() {
        // Two streams, of which only the second is sent, with spatial layers 0 and 2.
        let got = VideoLayersAllocation::parse(&[0x50, 0x05, 0x00, 10, 20]).unwrap();
        assert_eq!(got.of_stream(0).count(), 0);
        assert_eq!(got.of_stream(1).map(|l| (l.spatial, l.total_kbps())).collect::<Vec<_>>(), [(0, 10), (2, 20)]);
        assert_eq!(VideoLayersAllocation::parse(&[0]), Ok(VideoLayersAllocation::default()));
        assert!(VideoLayersAllocation::parse(&[]).is_err());
        assert!(VideoLayersAllocation::parse(&[0xc1, 0, 1]).is_err(), "the fourth of one");
        let absurd = [0x01, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(VideoLayersAllocation::parse(&absurd).is_err());
    }

    prop_compose! {
        fn any_allocation()(
            streams in 1u8..=4,
            stream in 0u8..4,
            masks in prop::array::uniform4(0u8..16),
            rates in prop::collection::vec(any::<u32>(), 64),
            temporal in prop::collection::vec(1u8..=4, 16),
            sizes in prop::option::of(prop::collection::vec((1u32..=65_536, 1u32..=65_536, any::<u8>()), 16)),
        ) -> (u8, VideoLayersAllocation) {
            let mut layers = SmallVec::new();
            for stream in 0..streams {
                for spatial in (0..4).filter(|s| masks[usize::from(stream)] >> s & 1 != 0) {
                    let n = layers.len();
                    let mut target_kbps = [0; 4];
                    let count = usize::from(temporal[n]);
                    target_kbps[..count].copy_from_slice(&rates[4 * n..4 * n + count]);
                    let resolution = sizes.as_ref().map(|s| s[n]).map(|(width, height, fps)| Resolution { width, height, fps });
                    layers.push(SpatialLayer { stream, spatial, temporal_layers: temporal[n], target_kbps, resolution });
                }
            }
            (streams, VideoLayersAllocation { stream: stream % streams, layers })
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back((streams, allocation) in any_allocation()) {
            let value = write(&allocation, streams);
            prop_assume!(value != [0]);
            prop_assert_eq!(VideoLayersAllocation::parse(&value), Ok(allocation));
        }

        #[test]
        fn garbage_never_panics(value in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = VideoLayersAllocation::parse(&value);
        }
    }
}
