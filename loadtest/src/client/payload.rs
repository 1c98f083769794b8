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
    /// Counts the frames of the encoding; those of its spatial layers one by one.
    pub frame: u32,
    /// Its layers, and how many frames back those are that it refers to. 0: none.
    pub spatial: u8,
    pub temporal: u8,
    pub refs: [u8; 2],
    /// The picture id that the publisher gave.
    pub picture: u16,
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
pub const TAG: usize = 43;

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
        out.extend([self.spatial << 4 | self.temporal, self.refs[0], self.refs[1]]);
        out.extend(self.picture.to_be_bytes());
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
            spatial: b[38] >> 4,
            temporal: b[38] & 0x0f,
            refs: [b[39], b[40]],
            picture: u16::from_be_bytes([b[41], b[42]]),
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

impl VideoCodec {
    pub const ALL: [VideoCodec; 4] = [Self::Vp8, Self::Vp9, Self::H264, Self::Av1];
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
            spatial: 2,
            temporal: 1,
            refs: [12, 1],
            picture: 0x7fff,
            part: 3,
            parts: 9,
            micros: 1 << 40,
            sent: 1 << 41,
            count: 80_000,
        };
        let mut out = Vec::new();
        tag.write(&mut out);
        assert_eq!((out.len(), Tag::read(&out)), (TAG, Some(tag)));
        assert_eq!(Tag::read(&out[1..]), None);
    }
}
