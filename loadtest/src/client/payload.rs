//! What synthetic packets carry: whose they are, which frame and which part of it, and when they were sent.

/// Leads each payload behind the codec's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Whoever sends: chosen by the test, the same for all its tracks.
    pub publisher: u32,
    /// Whoever begins anew counts this up.
    pub generation: u8,
    /// Which track of theirs, and which encoding of it.
    pub track: u8,
    pub encoding: u8,
    pub keyframe: bool,
    /// Counts the frames of the encoding.
    pub frame: u32,
    /// Which packet of the frame, of how many.
    pub part: u16,
    pub parts: u16,
    /// When the frame was captured: microseconds since the epoch.
    pub micros: u64,
    /// When the packet was first sealed to be sent, on the same clock.
    pub sent: u64,
    /// Counts the packets of the encoding.
    pub count: u32,
}

const MAGIC: u16 = 0xE8ED;
/// Bytes that a tag takes.
pub const TAG: usize = 38;

impl Tag {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(MAGIC.to_be_bytes());
        out.extend(self.publisher.to_be_bytes());
        out.extend([self.generation, self.track, self.encoding, u8::from(self.keyframe)]);
        out.extend(self.frame.to_be_bytes());
        out.extend(self.part.to_be_bytes());
        out.extend(self.parts.to_be_bytes());
        out.extend(self.micros.to_be_bytes());
        out.extend(self.sent.to_be_bytes());
        out.extend(self.count.to_be_bytes());
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let b: &[u8; TAG] = bytes.first_chunk()?;
        (b[..2] == MAGIC.to_be_bytes()).then(|| Self {
            publisher: u32::from_be_bytes([b[2], b[3], b[4], b[5]]),
            generation: b[6],
            track: b[7],
            encoding: b[8],
            keyframe: b[9] != 0,
            frame: u32::from_be_bytes([b[10], b[11], b[12], b[13]]),
            part: u16::from_be_bytes([b[14], b[15]]),
            parts: u16::from_be_bytes([b[16], b[17]]),
            micros: u64::from_be_bytes([b[18], b[19], b[20], b[21], b[22], b[23], b[24], b[25]]),
            sent: u64::from_be_bytes([b[26], b[27], b[28], b[29], b[30], b[31], b[32], b[33]]),
            count: u32::from_be_bytes([b[34], b[35], b[36], b[37]]),
        })
    }

    /// The same track, whichever encoding.
    pub fn same_track(&self, other: &Self) -> bool {
        (self.publisher, self.generation, self.track) == (other.publisher, other.generation, other.track)
    }

    /// The same encoding of the same track.
    pub fn same_source(&self, other: &Self) -> bool {
        self.same_track(other) && self.encoding == other.encoding
    }
}

/// A video codec whose payloads can be imitated so far that a server cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    Vp8,
    Vp9,
    H264,
    Av1,
}

/// What stands before the tag in a video packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub starts_frame: bool,
    /// Only told by the first packet of a frame.
    pub keyframe: bool,
    /// VP8 and VP9.
    pub picture_id: Option<u16>,
    /// VP8.
    pub tl0_pic_idx: Option<u8>,
}

impl VideoCodec {
    pub const ALL: [VideoCodec; 4] = [Self::Vp8, Self::Vp9, Self::H264, Self::Av1];

    /// Bytes before the tag.
    pub fn head_len(self) -> usize {
        match self {
            Self::Vp8 => 6,
            Self::Vp9 => 4,
            Self::H264 | Self::Av1 => 2,
        }
    }

    /// Writes the head of a packet. `last`: the frame ends with it. `pictures`: picture id and TL0PICIDX, where the codec has them.
    pub fn write(self, out: &mut Vec<u8>, starts: bool, last: bool, keyframe: bool, pictures: (u16, u8)) {
        let id = (pictures.0 | 0x8000).to_be_bytes();
        match self {
            // RFC 7741 section 4.2: extended, a 15-bit picture id, TL0PICIDX; then the frame header's first byte.
            Self::Vp8 => {
                let first = 0x80 | if starts { 0x10 } else { 0 };
                out.extend([first, 0xc0, id[0], id[1], pictures.1, u8::from(!keyframe)]);
            }
            // RFC 9628 section 4.2: I, P, B, E; then the frame marker and the frame type.
            Self::Vp9 => {
                let p = if keyframe { 0 } else { 0x40 };
                let (b, e) = (if starts { 0x08 } else { 0 }, if last { 0x04 } else { 0 });
                out.extend([0x80 | p | b | e, id[0], id[1], if keyframe { 0x82 } else { 0x86 }]);
            }
            // RFC 6184: single NAL units; a parameter set begins a keyframe, slices follow.
            Self::H264 => out.extend(match (starts, keyframe) {
                (true, true) => [0x67, 0x42],
                (true, false) => [0x41, 0x9a],
                (false, true) => [0x65, 0x40],
                (false, false) => [0x41, 0x40],
            }),
            // Aggregation header Z, Y, W = 1, N; then a sequence header or a frame.
            Self::Av1 => {
                let (z, y) = (if starts { 0 } else { 0x80 }, if last { 0 } else { 0x40 });
                let n = if starts && keyframe { 0x08 } else { 0 };
                out.extend([z | y | 0x10 | n, if keyframe { 0x08 } else { 0x30 }]);
            }
        }
    }

    /// Reads what [`write`](Self::write) wrote, whatever its numbers have become.
    pub fn read(self, bytes: &[u8]) -> Option<Head> {
        let bare = Head { starts_frame: false, keyframe: false, picture_id: None, tl0_pic_idx: None };
        let id = |hi: u8, lo: u8| (hi & 0x80 != 0).then(|| u16::from_be_bytes([hi & 0x7f, lo]));
        match (self, bytes) {
            (Self::Vp8, &[first, 0xc0, hi, lo, tl0, frame, ..]) if first & 0x80 != 0 => Some(Head {
                starts_frame: first & 0x17 == 0x10,
                keyframe: frame & 1 == 0,
                picture_id: Some(id(hi, lo)?),
                tl0_pic_idx: Some(tl0),
            }),
            (Self::Vp9, &[first, hi, lo, _, ..]) if first & 0x80 != 0 => Some(Head {
                starts_frame: first & 0x08 != 0,
                keyframe: first & 0x40 == 0,
                picture_id: Some(id(hi, lo)?),
                ..bare
            }),
            (Self::H264, &[0x67, ..]) => Some(Head { starts_frame: true, keyframe: true, ..bare }),
            (Self::H264, &[nal @ (0x41 | 0x65), slice, ..]) => {
                Some(Head { starts_frame: slice & 0x80 != 0, keyframe: nal == 0x65, ..bare })
            }
            (Self::Av1, &[aggregation, obu, ..]) => {
                Some(Head { starts_frame: aggregation & 0x80 == 0, keyframe: obu == 0x08, ..bare })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let tag = Tag {
            publisher: 7,
            generation: 3,
            track: 1,
            encoding: 2,
            keyframe: true,
            frame: 70_000,
            part: 3,
            parts: 9,
            micros: 1 << 40,
            sent: 1 << 41,
            count: 80_000,
        };
        for codec in VideoCodec::ALL {
            for (starts, last, keyframe) in
                [(true, false, true), (false, true, true), (true, true, false), (false, false, false)]
            {
                let mut out = Vec::new();
                codec.write(&mut out, starts, last, keyframe, (0x7fff, 255));
                tag.write(&mut out);
                let head = codec.read(&out).unwrap();
                assert_eq!((head.starts_frame, head.keyframe), (starts, keyframe), "{codec:?}");
                assert!(head.picture_id.is_none_or(|id| id == 0x7fff) && head.tl0_pic_idx.is_none_or(|id| id == 255));
                assert_eq!(Tag::read(&out[codec.head_len()..]), Some(tag));
                assert_eq!((out.len(), Tag::read(&out)), (codec.head_len() + TAG, None));
            }
        }
    }

    /// The server reads these payloads as it reads those of real encoders.
    #[test]
    fn the_server_sees_frames_and_keyframes() {
        use exedra::rtp::codec::{Codec, H264Profile, describe};
        let of = |codec| match codec {
            VideoCodec::Vp8 => Codec::Vp8,
            VideoCodec::Vp9 => Codec::Vp9 { profile: 0 },
            VideoCodec::H264 => Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 },
            VideoCodec::Av1 => Codec::Av1 { profile: 0 },
        };
        for codec in VideoCodec::ALL {
            for (part, keyframe) in [(0, true), (1, true), (0, false), (1, false)] {
                let mut out = Vec::new();
                codec.write(&mut out, part == 0, part == 1, keyframe, (7, 7));
                out.resize(100, 0x5a);
                let seen = describe(of(codec), &out, part == 1, None).unwrap();
                assert_eq!(seen.keyframe, keyframe && part == 0, "{codec:?} {part}");
                assert_eq!(seen.frame_start, part == 0, "{codec:?} {part} {keyframe}");
                assert_eq!(seen.frame_end, part == 1, "{codec:?} {part}");
            }
        }
    }
}
