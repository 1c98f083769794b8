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
}

const MAGIC: u16 = 0xE8ED;
/// Bytes that a tag takes.
pub const TAG: usize = 26;

impl Tag {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(MAGIC.to_be_bytes());
        out.extend(self.publisher.to_be_bytes());
        out.extend([self.generation, self.track, self.encoding, u8::from(self.keyframe)]);
        out.extend(self.frame.to_be_bytes());
        out.extend(self.part.to_be_bytes());
        out.extend(self.parts.to_be_bytes());
        out.extend(self.micros.to_be_bytes());
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

/// The VP8 payload descriptor that the publisher writes (RFC 7741 section 4.2): extended, a 15-bit picture id, TL0PICIDX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8 {
    pub starts_frame: bool,
    pub picture_id: u16,
    pub tl0_pic_idx: u8,
    /// The P bit of the frame header is clear: only in the first packet of a frame.
    pub keyframe: bool,
}

/// Bytes before the tag in a video packet: the descriptor, and one of the frame header.
pub const VP8_HEAD: usize = 6;

impl Vp8 {
    pub fn write(&self, out: &mut Vec<u8>) {
        let first = 0x80 | if self.starts_frame { 0x10 } else { 0 };
        let id = (self.picture_id | 0x8000).to_be_bytes();
        out.extend([first, 0xc0, id[0], id[1], self.tl0_pic_idx, u8::from(!self.keyframe)]);
    }

    /// Reads what [`write`](Self::write) wrote, whatever its numbers have become.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [first, 0xc0, hi, lo, tl0_pic_idx, frame] = *bytes.first_chunk::<VP8_HEAD>()? else { return None };
        (first & 0x80 != 0 && hi & 0x80 != 0).then(|| Self {
            starts_frame: first & 0x17 == 0x10,
            picture_id: u16::from_be_bytes([hi & 0x7f, lo]),
            tl0_pic_idx,
            keyframe: frame & 1 == 0,
        })
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
        };
        let head = Vp8 { starts_frame: true, picture_id: 0x7fff, tl0_pic_idx: 255, keyframe: true };
        let mut out = Vec::new();
        head.write(&mut out);
        tag.write(&mut out);
        assert_eq!((Vp8::read(&out), Tag::read(&out[VP8_HEAD..])), (Some(head), Some(tag)));
        assert_eq!((out.len(), Tag::read(&out)), (VP8_HEAD + TAG, None));
    }
}
