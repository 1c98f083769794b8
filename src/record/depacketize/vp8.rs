//! VP8 (RFC 7741): a frame is what stands behind the payload descriptors of its packets.
use super::{Picture, Size, append};
use crate::rtp::Malformed;
use crate::rtp::codec::vp8;

/// See [`super::Depacketizer`].
#[derive(Debug, Default)]
pub struct Vp8 {
    data: Vec<u8>,
}

impl Vp8 {
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        append(&mut self.data, payload.get(vp8::descriptor_len(payload)?..).unwrap_or_default())
    }

    pub(super) fn finish(&mut self) -> Result<Picture, Malformed> {
        let data = std::mem::take(&mut self.data);
        // The frame tag's lowest bit is 0 for a keyframe (RFC 6386 section 9.1).
        let keyframe = data.first().ok_or(Malformed("empty frame"))? & 1 == 0;
        let size = if keyframe { Some(size(&data)?) } else { None };
        Ok(Picture { data, keyframe, size, configuration: None })
    }

    pub(super) fn discard(&mut self) {
        self.data.clear();
    }
}

/// A keyframe's start code, and its size: 14 bits each, little-endian; the upper two are for scaling (RFC 6386 section 9.1).
fn size(data: &[u8]) -> Result<Size, Malformed> {
    let &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = data else {
        return Err(Malformed("no start code in a VP8 keyframe"));
    };
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let size = Size { width: side(w0, w1), height: side(h0, h1) };
    if size.width == 0 || size.height == 0 { Err(Malformed("a picture without a size")) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_of_two_packets_is_joined_and_tells_its_size() {
        let mut d = Vp8::default();
        d.push(&[0x90, 0x80, 0x11, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0]).unwrap();
        d.push(&[0x80, 0x80, 0x11, 0x00, 7]).unwrap();
        let picture = d.finish().unwrap();
        assert_eq!(picture.data, [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 7]);
        assert_eq!((picture.keyframe, picture.size), (true, Some(Size { width: 320, height: 240 })));
        d.push(&[0x10, 0x11, 0x02]).unwrap();
        let picture = d.finish().unwrap();
        assert_eq!((picture.keyframe, picture.size, picture.data.len()), (false, None, 2));
        d.push(&[0x10, 0x10, 0, 0, 0]).unwrap();
        assert!(d.finish().is_err(), "a keyframe without its start code");
        assert!(d.finish().is_err(), "nothing");
    }
}
