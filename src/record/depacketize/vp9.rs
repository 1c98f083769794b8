//! VP9 (RFC 9628): the frames of all spatial layers of a picture become one superframe (VP9 bitstream specification, annex B).
//!
//! By the specification a superframe has one frame that is shown. Encoders of layers mark all of them as shown: who receives only the lower
//! layers has to see them. libvpx shows the last one all the same, but FFmpeg's decoder, and so VLC, mpv and Firefox, show each. So in
//! what is recorded all but the last are hidden.
mod header;

use super::{Picture, Size, append};
use crate::rtp::Malformed;
use crate::rtp::codec::{FrameInfo, vp9};

/// The superframe index counts frames with three bits.
const MAX_FRAMES: usize = 8;

/// The frames of a picture, and where each layer's begins.
#[derive(Debug, Default)]
struct Frames {
    data: Vec<u8>,
    starts: Vec<usize>,
}

/// See [`super::Depacketizer`].
#[derive(Debug, Default)]
pub struct Vp9 {
    frames: Frames,
    /// The largest layer, as the scalability structure tells it.
    structure: Option<Size>,
    references: header::References,
}

impl Vp9 {
    pub(super) fn push(&mut self, payload: &[u8], info: &FrameInfo) -> Result<(), Malformed> {
        let Frames { data, starts } = &mut self.frames;
        if info.frame_start || starts.is_empty() {
            if starts.len() == MAX_FRAMES {
                return Err(Malformed("more than eight layers in a VP9 picture"));
            }
            starts.push(data.len());
        }
        if let Some((width, height)) = vp9::structure_size(payload)? {
            self.structure = Some(Size { width: width.into(), height: height.into() });
        }
        append(data, payload.get(vp9::descriptor_len(payload)?..).unwrap_or_default())
    }

    pub(super) fn finish(&mut self) -> Result<Picture, Malformed> {
        let mut frames = std::mem::take(&mut self.frames);
        let structure = self.structure.take();
        if frames.data.is_empty() {
            return Err(Malformed("empty frame"));
        }
        let key = header::keyframe_size(&frames.data)?;
        // Of several layers the first one's header tells the smallest.
        let size = key.map(|own| structure.filter(|s| s.width >= own.width && s.height >= own.height).unwrap_or(own));
        // A header that cannot be read is left as it is.
        if let Ok(Some(hidden)) = self.hide_lower(&frames) {
            frames = hidden;
        }
        let Frames { mut data, starts } = frames;
        if starts.len() > 1 {
            append_index(&mut data, &starts);
        }
        Ok(Picture { data, keyframe: key.is_some(), size, configuration: None })
    }

    pub(super) fn discard(&mut self) {
        *self = Self::default();
    }

    /// Follows what the frames of a picture leave for those after them. If there are several: them with all but the last hidden.
    fn hide_lower(&mut self, frames: &Frames) -> Result<Option<Frames>, Malformed> {
        let Frames { data, starts } = frames;
        let mut hidden = Frames::default();
        for (n, &start) in starts.iter().enumerate() {
            let next = starts.get(n + 1).copied();
            let frame = &data[start..next.unwrap_or(data.len())];
            let header = header::read(frame, &self.references)?;
            header.iter().for_each(|header| self.references.follow(header));
            if starts.len() == 1 {
                return Ok(None);
            }
            hidden.starts.push(hidden.data.len());
            match header.filter(|_| next.is_some()) {
                Some(header) => header.hide(frame, &mut hidden.data),
                None => hidden.data.extend_from_slice(frame),
            }
        }
        Ok(Some(hidden))
    }
}

/// The superframe index: marker, sizes, marker (annex B.2).
fn append_index(data: &mut Vec<u8>, starts: &[usize]) {
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    let sizes: Vec<usize> = starts.iter().zip(ends).map(|(start, end)| end - start).collect();
    let largest = sizes.iter().copied().max().unwrap_or(0) as u32;
    let width = (4 - largest.leading_zeros() as usize / 8).max(1);
    let marker = 0xc0 | (width as u8 - 1) << 3 | (sizes.len() as u8 - 1);
    data.push(marker);
    sizes.iter().for_each(|size| data.extend_from_slice(&(*size as u32).to_le_bytes()[..width]));
    data.push(marker);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::Codec;
    use crate::rtp::codec::describe;

    /// A keyframe of profile 0, shown: marker, sync code, colours, size; and a byte of body.
    pub fn key(width: u16, height: u16) -> Vec<u8> {
        let bits = u64::from(width - 1) << 16 | u64::from(height - 1);
        // 10 0 0 0 0 1 0 | sync | 001 0 | width-1 | height-1 | pad
        let mut out = vec![0x82, 0x49, 0x83, 0x42];
        out.extend(((0b0010u64 << 32 | bits) << 4).to_be_bytes()[3..].iter());
        out.push(0x55);
        out
    }

    fn push(d: &mut Vp9, payload: &[u8]) {
        let info = describe(Codec::Vp9 { profile: 0 }, payload, false, None).unwrap();
        d.push(payload, &info).unwrap();
    }

    #[test]
    fn a_frame_without_layers_is_as_it_is() {
        let mut d = Vp9::default();
        let frame = key(160, 90);
        push(&mut d, &[&[0x88, 0x05][..], &frame[..4]].concat());
        push(&mut d, &[&[0x84, 0x05][..], &frame[4..]].concat());
        let picture = d.finish().unwrap();
        assert_eq!((picture.keyframe, picture.size), (true, Some(Size { width: 160, height: 90 })));
        assert_eq!(picture.data, frame);
        push(&mut d, &[0xcc, 0x06, 0x86, 1]);
        assert!(!d.finish().unwrap().keyframe);
    }

    #[test]
    fn layers_become_a_superframe() {
        let mut d = Vp9::default();
        let base = key(320, 180);
        // The structure tells two layers; B and E of layer 0, then of layer 1.
        let structure = [0xaa | 0x04, 0x05, 0x00, 9, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 1, 0x04, 1];
        push(&mut d, &[&structure[..], &base].concat());
        push(&mut d, &[0xec, 0x05, 0x03, 9, 0x86, 1, 2, 3]);
        let picture = d.finish().unwrap();
        assert_eq!((picture.keyframe, picture.size), (true, Some(Size { width: 640, height: 360 })));
        let index = [0xc1, base.len() as u8, 4, 0xc1];
        assert_eq!(picture.data, [&base[..], &[0x86, 1, 2, 3], &index].concat());
    }

    #[test]
    fn sizes_of_a_superframe_take_as_many_bytes_as_the_largest_needs() {
        let mut data = vec![0; 300];
        append_index(&mut data, &[0, 20]);
        assert_eq!(data[300..], [0xc9, 20, 0, 24, 1, 0xc9]);
    }
}
