//! What stands before the tag in a video packet: the codec's own bytes, as real encoders and packetizers write them, so far as a server reads them.
//! Behind the headers nothing is a picture.
use super::bits::Bits;
use super::layers::{Layering, Place};
use super::payload::{TAG, VideoCodec};

/// What a packet says of its frame.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub layering: Layering,
    pub place: Place,
    /// The first packet of the frame (of one spatial layer), and the last one.
    pub starts: bool,
    pub ends: bool,
    /// Picture id and TL0PICIDX, where the codec has them.
    pub pictures: (u16, u8),
    /// Width and height of the top layer.
    pub size: (u16, u16),
    /// Bytes that the payload is to have.
    pub len: usize,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub starts_frame: bool,
    /// Only told by the first packet of a frame.
    pub keyframe: bool,
    /// VP8 and VP9.
    pub picture_id: Option<u16>,
    pub tl0_pic_idx: Option<u8>,
    /// Bytes before the tag.
    pub len: usize,
}

/// More than any head has, and a tag: a payload cannot be shorter.
pub const LEAST_PAYLOAD: usize = 8 + TAG;

impl Shape {
    /// A packet of an encoding without layers.
    pub fn flat(starts: bool, ends: bool, keyframe: bool, pictures: (u16, u8), len: usize) -> Self {
        let layering = Layering::FLAT;
        let place = layering.place(u32::from(!keyframe), 0);
        Self { layering, place, starts, ends, pictures, size: (1_280, 720), len }
    }

    /// A decoder may begin with this frame.
    fn keyframe(&self) -> bool {
        self.place.key_picture && self.place.spatial == 0
    }

    /// Writes the head.
    pub fn write(&self, codec: VideoCodec, out: &mut Vec<u8>) {
        match codec {
            VideoCodec::Vp8 => self.write_vp8(out),
            VideoCodec::Vp9 => self.write_vp9(out),
            VideoCodec::H264 => self.write_h264(out),
            VideoCodec::Av1 => self.write_av1(out),
        }
    }

    /// No other frame refers to this one.
    fn discardable(&self) -> bool {
        self.place.temporal > 0 && self.place.temporal + 1 == self.layering.temporal
    }

    /// RFC 7741 section 4.2: extended, a 15-bit picture id, TL0PICIDX, with temporal layers TID and Y; then the frame header (RFC 6386 section 9.1).
    fn write_vp8(&self, out: &mut Vec<u8>) {
        let id = (self.pictures.0 | 0x8000).to_be_bytes();
        let first = 0x80 | if self.starts { 0x10 } else { 0 } | if self.discardable() { 0x20 } else { 0 };
        let layered = self.layering.temporal > 1;
        out.extend([first, if layered { 0xe0 } else { 0xc0 }, id[0], id[1], self.pictures.1]);
        if layered {
            out.push(self.place.temporal << 6 | u8::from(self.place.sync) << 5);
        }
        if self.starts {
            out.extend([0x10 | u8::from(!self.keyframe()), 0x02, 0x00]);
        }
        if self.starts && self.keyframe() {
            out.extend([0x9d, 0x01, 0x2a]);
            out.extend(self.size.0.to_le_bytes());
            out.extend(self.size.1.to_le_bytes());
        }
    }

    /// RFC 9628 section 4.2, not flexible; then the uncompressed header.
    fn write_vp9(&self, out: &mut Vec<u8>) {
        let (place, layering) = (&self.place, self.layering);
        let id = (self.pictures.0 | 0x8000).to_be_bytes();
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let structured = self.starts && self.keyframe();
        let for_no_upper =
            layering.spatial > 1 && (place.spatial + 1 == layering.spatial || layering.key && !place.key_picture);
        let first = 0x80
            | flag(!place.key_picture, 0x40)
            | flag(!layering.is_flat(), 0x20)
            | flag(self.starts, 0x08)
            | flag(self.ends, 0x04)
            | flag(structured, 0x02)
            | flag(for_no_upper, 0x01);
        out.extend([first, id[0], id[1]]);
        if !layering.is_flat() {
            let up = place.temporal == 0 || place.sync || layering.temporal == place.temporal + 1;
            let depends = place.refs[usize::from(!place.key_picture)] > 0 || place.key_picture && place.spatial > 0;
            out.push(place.temporal << 5 | flag(up, 0x10) | place.spatial << 1 | flag(depends, 1));
            out.push(self.pictures.1);
        }
        if structured {
            self.write_vp9_structure(out);
        }
        if self.starts && self.keyframe() {
            let (width, height) = layering.size(self.size, 0);
            let mut bits = Bits::default();
            // Frame marker, profile 0, a keyframe that is shown; the sync code; BT.709; the size.
            bits.put(8, 0x82).put(24, 0x49_8342).put(3, 2).put(1, 0);
            bits.put(16, u64::from(width) - 1).put(16, u64::from(height) - 1);
            out.extend(bits.bytes());
        } else if self.starts {
            out.push(0x86);
        }
    }

    /// The scalability structure (RFC 9628 section 4.2.1): sizes, and the pictures of a cycle.
    fn write_vp9_structure(&self, out: &mut Vec<u8>) {
        let layering = self.layering;
        out.push((layering.spatial - 1) << 5 | 0x10 | if layering.temporal > 1 { 0x08 } else { 0 });
        for spatial in 0..layering.spatial {
            let (width, height) = layering.size(self.size, spatial);
            out.extend(width.to_be_bytes());
            out.extend(height.to_be_bytes());
        }
        if layering.temporal > 1 {
            let cycle = 1 << (layering.temporal - 1);
            out.push(cycle as u8);
            for picture in cycle..2 * cycle {
                let place = layering.place(picture, 0);
                let up = place.temporal == 0 || place.sync;
                out.extend([place.temporal << 5 | u8::from(up) << 4 | 1 << 2, place.refs[0] / layering.spatial]);
            }
        }
    }

    /// RFC 6184: a keyframe begins with a STAP-A of both parameter sets and its first slice; all else are single NAL units.
    fn write_h264(&self, out: &mut Vec<u8>) {
        let nal = match (self.keyframe(), self.discardable()) {
            (true, _) => 0x65,
            (false, true) => 0x01,
            (false, false) => 0x41,
        };
        match (self.starts, self.keyframe()) {
            (true, true) => {
                out.push(0x78);
                for unit in [h264_sps(self.size), vec![0x68, 0xce, 0x3c, 0x80]] {
                    out.extend((unit.len() as u16).to_be_bytes());
                    out.extend(unit);
                }
                // The slice takes what is left of the packet.
                let left = self.len.max(out.len() + 4 + TAG) - out.len() - 2;
                out.extend((left as u16).to_be_bytes());
                out.extend([nal, 0x88]);
            }
            (true, false) => out.extend([nal, 0x9a]),
            (false, _) => out.extend([nal, 0x40]),
        }
    }

    /// Aggregation header Z, Y, W, N; a keyframe begins with a sequence header, then there is one frame, of which later packets are the rest.
    fn write_av1(&self, out: &mut Vec<u8>) {
        let (z, y) = (if self.starts { 0 } else { 0x80 }, if self.ends { 0 } else { 0x40 });
        let sequence = self.starts && self.keyframe();
        out.push(z | y | if sequence { 0x28 } else { 0x10 });
        if sequence {
            let header = av1_sequence_header(self.size);
            out.push(header.len() as u8);
            out.extend(header);
        }
        match (self.starts, self.layering.is_flat()) {
            (true, true) => out.push(0x30),
            (true, false) => out.extend([0x34, self.place.temporal << 5 | self.place.spatial << 3]),
            (false, _) => {}
        }
    }
}

/// A sequence parameter set of Constrained Baseline, level 3.1 (H.264 section 7.3.2.1.1).
fn h264_sps((width, height): (u16, u16)) -> Vec<u8> {
    let (across, down) = (u32::from(width).div_ceil(16), u32::from(height).div_ceil(16));
    let (right, bottom) = ((across * 16 - u32::from(width)) / 2, (down * 16 - u32::from(height)) / 2);
    let mut bits = Bits::default();
    bits.put(24, 0x42_e01f);
    // Ids and counters; one reference, no gaps; the size in macroblocks.
    bits.ue(0).ue(0).ue(2).ue(1).put(1, 0).ue(across - 1).ue(down - 1).put(2, 0b11);
    if right + bottom > 0 {
        bits.put(1, 1).ue(0).ue(right).ue(0).ue(bottom);
    } else {
        bits.put(1, 0);
    }
    // No VUI; the stop bit.
    bits.put(1, 0).put(1, 1);
    let mut unit = vec![0x67];
    for byte in bits.bytes() {
        // Emulation prevention (section 7.4.1).
        if byte <= 3 && unit.ends_with(&[0, 0]) {
            unit.push(3);
        }
        unit.push(byte);
    }
    unit
}

/// A sequence header OBU of the main profile without a size field (AV1 specification 5.5.1).
fn av1_sequence_header((width, height): (u16, u16)) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(8, 0x08);
    // Profile 0, neither still nor reduced, no timing, no delays; one operating point of level 3.1.
    bits.put(3, 0).put(4, 0).put(5, 0).put(12, 0).put(5, 5);
    bits.put(4, 15).put(4, 15).put(16, u64::from(width) - 1).put(16, u64::from(height) - 1);
    // No frame ids, the usual tools off, 8 bits 4:2:0.
    bits.put(1, 0).put(1, 0).put(2, 0).put(4, 0).put(1, 0).put(2, 0b10).put(3, 0).put(6, 0).put(2, 0).put(1, 0);
    // The trailing bit.
    bits.put(1, 1);
    bits.bytes()
}

impl VideoCodec {
    /// Writes the head of a packet of an encoding without layers.
    pub fn write(self, out: &mut Vec<u8>, starts: bool, ends: bool, keyframe: bool, pictures: (u16, u8)) {
        Shape::flat(starts, ends, keyframe, pictures, 0).write(self, out);
    }

    /// Reads what [`Shape::write`] wrote, whatever its numbers have become.
    pub fn read(self, bytes: &[u8]) -> Option<Head> {
        match self {
            Self::Vp8 => read_vp8(bytes),
            Self::Vp9 => read_vp9(bytes),
            Self::H264 => read_h264(bytes),
            Self::Av1 => read_av1(bytes),
        }
    }
}

const BARE: Head = Head { starts_frame: false, keyframe: false, picture_id: None, tl0_pic_idx: None, len: 0 };

/// A picture id of 15 bits.
fn wide_id(hi: u8, lo: u8) -> Option<u16> {
    (hi & 0x80 != 0).then(|| u16::from_be_bytes([hi & 0x7f, lo]))
}

fn read_vp8(bytes: &[u8]) -> Option<Head> {
    let &[first, present @ (0xc0 | 0xe0), hi, lo, tl0, next, ..] = bytes else { return None };
    let starts_frame = first & 0x17 == 0x10;
    let descriptor = if present == 0xe0 { 6 } else { 5 };
    let header = if present == 0xe0 { *bytes.get(6)? } else { next };
    let keyframe = starts_frame && header & 1 == 0;
    let len = descriptor + if starts_frame { 3 } else { 0 } + if keyframe { 7 } else { 0 };
    (first & 0x80 != 0).then_some(())?;
    Some(Head { starts_frame, keyframe, picture_id: Some(wide_id(hi, lo)?), tl0_pic_idx: Some(tl0), len })
}

fn read_vp9(bytes: &[u8]) -> Option<Head> {
    let &[first, hi, lo, ..] = bytes else { return None };
    let (starts_frame, mut len) = (first & 0x08 != 0, 3);
    let (mut spatial, mut tl0_pic_idx) = (0, None);
    if first & 0x20 != 0 {
        spatial = bytes.get(len)? >> 1 & 7;
        tl0_pic_idx = Some(*bytes.get(len + 1)?);
        len += 2;
    }
    if first & 0x02 != 0 {
        let head = *bytes.get(len)?;
        len += 1 + if head & 0x10 != 0 { 4 * (usize::from(head >> 5) + 1) } else { 0 };
        if head & 0x08 != 0 {
            // One reference for each picture.
            len += 1 + 2 * usize::from(*bytes.get(len)?);
        }
    }
    let keyframe = first & 0x40 == 0 && spatial == 0;
    if starts_frame {
        len += if keyframe { 9 } else { 1 };
    }
    (first & 0x80 != 0).then_some(())?;
    Some(Head { starts_frame, keyframe, picture_id: Some(wide_id(hi, lo)?), tl0_pic_idx, len })
}

fn read_h264(bytes: &[u8]) -> Option<Head> {
    match bytes {
        [0x78, rest @ ..] => {
            let mut at = 0;
            for _ in 0..2 {
                let size = rest.get(at..at + 2)?;
                at += 2 + usize::from(u16::from_be_bytes([size[0], size[1]]));
            }
            Some(Head { starts_frame: true, keyframe: true, len: 1 + at + 4, ..BARE })
        }
        [nal @ (0x01 | 0x41 | 0x65), slice, ..] => {
            Some(Head { starts_frame: slice & 0x80 != 0, keyframe: *nal == 0x65, len: 2, ..BARE })
        }
        _ => None,
    }
}

fn read_av1(bytes: &[u8]) -> Option<Head> {
    let (starts_frame, keyframe) = (bytes.first()? & 0x80 == 0, bytes.first()? & 0x08 != 0);
    let mut len = 1;
    if keyframe {
        len += 1 + usize::from(*bytes.get(len)?);
    }
    if starts_frame {
        len += if bytes.get(len)? & 0x04 != 0 { 2 } else { 1 };
    }
    Some(Head { starts_frame, keyframe, len, ..BARE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use exedra::rtp::codec::{Codec, H264Profile, describe};

    fn of(codec: VideoCodec) -> Codec {
        match codec {
            VideoCodec::Vp8 => Codec::Vp8,
            VideoCodec::Vp9 => Codec::Vp9 { profile: 0 },
            VideoCodec::H264 => Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 },
            VideoCodec::Av1 => Codec::Av1 { profile: 0 },
        }
    }

    /// Every packet that there can be.
    fn shapes(codec: VideoCodec) -> Vec<Shape> {
        let spatial = if matches!(codec, VideoCodec::Vp9 | VideoCodec::Av1) { 3 } else { 1 };
        let layerings = (1..=spatial).flat_map(|s| (1..=3).map(move |t| (s, t)));
        let layerings: Vec<_> = layerings.flat_map(|(s, t)| [true, false].map(|k| Layering::svc(s, t, k))).collect();
        let mut shapes = Vec::new();
        for layering in layerings {
            for (picture, spatial) in (0..9).flat_map(|p| (0..layering.spatial).map(move |s| (p, s))) {
                for (starts, ends) in [(true, false), (false, false), (false, true), (true, true)] {
                    let place = layering.place(picture, spatial);
                    shapes.push(Shape { layering, place, ..Shape::flat(starts, ends, false, (0x7fff, 255), 300) });
                }
            }
        }
        shapes
    }

    #[test]
    fn what_is_written_is_read() {
        for codec in VideoCodec::ALL {
            for shape in shapes(codec) {
                let mut out = Vec::new();
                shape.write(codec, &mut out);
                let len = out.len();
                out.resize(shape.len, 0xe8);
                let head = codec.read(&out).unwrap();
                assert_eq!((head.starts_frame, head.len), (shape.starts, len), "{codec:?} {shape:?}");
                assert_eq!(head.keyframe && shape.starts, shape.keyframe() && shape.starts, "{codec:?} {shape:?}");
                assert!(head.picture_id.is_none_or(|id| id == 0x7fff) && head.tl0_pic_idx.is_none_or(|id| id == 255));
            }
        }
    }

    /// The server reads these payloads as it reads those of real encoders.
    #[test]
    fn the_server_sees_frames_and_layers() {
        for codec in VideoCodec::ALL {
            for shape in shapes(codec) {
                let mut out = Vec::new();
                shape.write(codec, &mut out);
                out.resize(shape.len, 0x5a);
                let seen = describe(of(codec), &out, shape.ends, None).unwrap();
                assert_eq!(seen.keyframe, shape.keyframe() && shape.starts, "{codec:?} {shape:?}");
                assert_eq!(seen.frame_start, shape.starts, "{codec:?} {shape:?}");
                assert_eq!(seen.frame_end, shape.ends, "{codec:?} {shape:?}");
                // H.264 has no layers in its payload; AV1 has them only where an OBU begins.
                if matches!(codec, VideoCodec::Vp8 | VideoCodec::Vp9)
                    || codec == VideoCodec::Av1 && shape.starts && !seen.keyframe
                {
                    assert_eq!(
                        (seen.spatial, seen.temporal),
                        (shape.place.spatial, shape.place.temporal),
                        "{codec:?} {shape:?}"
                    );
                }
            }
        }
    }
}
