//! EBML (RFC 8794), and the elements of Matroska (RFC 9559) that a recording has.

/// Element ids, with their marker bits.
pub mod id {
    pub const EBML: u32 = 0x1A45_DFA3;
    pub const EBML_VERSION: u32 = 0x4286;
    pub const EBML_READ_VERSION: u32 = 0x42F7;
    pub const EBML_MAX_ID_LENGTH: u32 = 0x42F2;
    pub const EBML_MAX_SIZE_LENGTH: u32 = 0x42F3;
    pub const DOC_TYPE: u32 = 0x4282;
    pub const DOC_TYPE_VERSION: u32 = 0x4287;
    pub const DOC_TYPE_READ_VERSION: u32 = 0x4285;
    pub const VOID: u32 = 0xEC;

    pub const SEGMENT: u32 = 0x1853_8067;
    pub const SEEK_HEAD: u32 = 0x114D_9B74;
    pub const SEEK: u32 = 0x4DBB;
    pub const SEEK_ID: u32 = 0x53AB;
    pub const SEEK_POSITION: u32 = 0x53AC;

    pub const INFO: u32 = 0x1549_A966;
    pub const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
    pub const DURATION: u32 = 0x4489;
    pub const DATE_UTC: u32 = 0x4461;
    pub const MUXING_APP: u32 = 0x4D80;
    pub const WRITING_APP: u32 = 0x5741;

    pub const TRACKS: u32 = 0x1654_AE6B;
    pub const TRACK_ENTRY: u32 = 0xAE;
    pub const TRACK_NUMBER: u32 = 0xD7;
    pub const TRACK_UID: u32 = 0x73C5;
    pub const TRACK_TYPE: u32 = 0x83;
    pub const FLAG_LACING: u32 = 0x9C;
    pub const LANGUAGE: u32 = 0x22_B59C;
    pub const CODEC_ID: u32 = 0x86;
    pub const CODEC_PRIVATE: u32 = 0x63A2;
    pub const CODEC_DELAY: u32 = 0x56AA;
    pub const SEEK_PRE_ROLL: u32 = 0x56BB;
    pub const VIDEO: u32 = 0xE0;
    pub const FLAG_INTERLACED: u32 = 0x9A;
    pub const PIXEL_WIDTH: u32 = 0xB0;
    pub const PIXEL_HEIGHT: u32 = 0xBA;
    pub const AUDIO: u32 = 0xE1;
    pub const SAMPLING_FREQUENCY: u32 = 0xB5;
    pub const CHANNELS: u32 = 0x9F;

    pub const CLUSTER: u32 = 0x1F43_B675;
    pub const TIMESTAMP: u32 = 0xE7;
    pub const SIMPLE_BLOCK: u32 = 0xA3;

    pub const CUES: u32 = 0x1C53_BB6B;
    pub const CUE_POINT: u32 = 0xBB;
    pub const CUE_TIME: u32 = 0xB3;
    pub const CUE_TRACK_POSITIONS: u32 = 0xB7;
    pub const CUE_TRACK: u32 = 0xF7;
    pub const CUE_CLUSTER_POSITION: u32 = 0xF1;
}

/// A size that is not known yet, in eight bytes (RFC 8794 section 6.2).
pub const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// An id as it is written: its marker bits tell its length.
pub fn put_id(out: &mut Vec<u8>, id: u32) {
    let bytes = id.to_be_bytes();
    let skip = id.leading_zeros() as usize / 8;
    out.extend_from_slice(&bytes[skip.min(3)..]);
}

/// A size in as few bytes as it takes.
pub fn put_size(out: &mut Vec<u8>, size: u64) {
    // All ones mean that the size is unknown, so the largest value of a length is not used.
    let width = (1..8).find(|n| size < (1 << (7 * n)) - 1).unwrap_or(8);
    out.extend_from_slice(&size_of_width(size, width));
}

/// The value of a size of eight bytes, without its marker.
fn wide_size(size: u64) -> [u8; 8] {
    (size & ((1 << 56) - 1)).to_be_bytes()
}

/// A size in eight bytes.
pub fn size_of_eight(size: u64) -> [u8; 8] {
    let mut bytes = wide_size(size);
    bytes[0] = 0x01;
    bytes
}

/// A size in `width` bytes, 1 to 8. It must fit.
pub fn size_of_width(size: u64, width: usize) -> Vec<u8> {
    let mut bytes = wide_size(size)[8 - width.clamp(1, 8)..].to_vec();
    bytes[0] |= 0x80 >> (bytes.len() - 1);
    bytes
}

pub fn put_bytes(out: &mut Vec<u8>, id: u32, value: &[u8]) {
    put_id(out, id);
    put_size(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// An unsigned integer in as few bytes as it takes.
pub fn put_uint(out: &mut Vec<u8>, id: u32, value: u64) {
    let skip = (value.leading_zeros() as usize / 8).min(7);
    put_bytes(out, id, &value.to_be_bytes()[skip..]);
}

pub fn put_float(out: &mut Vec<u8>, id: u32, value: f64) {
    put_bytes(out, id, &value.to_be_bytes());
}

/// An element that holds others.
pub fn put_master(out: &mut Vec<u8>, id: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    put_bytes(out, id, &body);
}

/// A Void element of exactly `len` bytes in all. Of one byte there is none: nothing is written then.
pub fn put_void(out: &mut Vec<u8>, len: usize) {
    match len {
        0 | 1 => return,
        2..=127 => out.extend_from_slice(&[id::VOID as u8, 0x80 | (len - 2) as u8]),
        128.. => {
            out.push(id::VOID as u8);
            out.extend_from_slice(&size_of_eight(len as u64 - 9));
        }
    }
    let filler = if len < 128 { len - 2 } else { len - 9 };
    out.resize(out.len() + filler, 0);
}

/// The head of an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    pub id: u32,
    /// `None`: not known.
    pub size: Option<u64>,
    /// Bytes of the head itself.
    pub len: usize,
}

/// No head is longer.
pub const MAX_HEAD: usize = 12;

/// Reads the head of an element; `None` if there is none, or not all of it.
pub fn head(bytes: &[u8]) -> Option<Head> {
    let first = *bytes.first()?;
    let id_len = first.leading_zeros() as usize + 1;
    if id_len > 4 {
        return None;
    }
    let id = bytes.get(..id_len)?.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let (size, size_len) = size(bytes.get(id_len..)?)?;
    Some(Head { id, size, len: id_len + size_len })
}

/// Reads a size, and how many bytes it took.
fn size(bytes: &[u8]) -> Option<(Option<u64>, usize)> {
    let first = *bytes.first()?;
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return None;
    }
    let mask = (1u64 << (7 * len)) - 1;
    let value = bytes.get(..len)?.iter().fold(0, |v, byte| v << 8 | u64::from(*byte)) & mask;
    Some(((value != mask).then_some(value), len))
}

/// The elements of a body, with their bodies. Ends before one that is not all there.
pub fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        let head = head(bytes)?;
        let size = usize::try_from(head.size?).ok()?;
        let (body, rest) = bytes.get(head.len..)?.split_at_checked(size)?;
        bytes = rest;
        Some((head.id, body))
    })
}

/// An unsigned integer of at most eight bytes.
pub fn uint(body: &[u8]) -> Option<u64> {
    (body.len() <= 8).then(|| body.iter().fold(0, |v, byte| v << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn voids_have_their_length() {
        for len in [2, 3, 100, 127, 128, 129, 700] {
            let mut out = Vec::new();
            put_void(&mut out, len);
            let head = head(&out).unwrap();
            assert_eq!((out.len(), head.id), (len, id::VOID));
            assert_eq!(head.size, Some((len - head.len) as u64));
        }
        assert_eq!(head(&[&[0xEC][..], &UNKNOWN_SIZE].concat()).unwrap().size, None);
    }

    proptest! {
        #[test]
        fn elements_read_back(id_at in 0usize..4, value: u64, body in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let id = [id::VOID, id::DURATION, id::TIMESTAMP_SCALE, id::SEGMENT][id_at];
            let mut out = Vec::new();
            put_uint(&mut out, id, value);
            put_master(&mut out, id, |out| put_bytes(out, id, &body));
            let read: Vec<_> = elements(&out).collect();
            prop_assert_eq!(read.len(), 2);
            prop_assert_eq!((read[0].0, uint(read[0].1)), (id, Some(value)));
            prop_assert_eq!(elements(read[1].1).collect::<Vec<_>>(), vec![(id, &body[..])]);
            let _ = elements(&out[cut.min(out.len())..]).count();
            let mut sized = Vec::new();
            put_id(&mut sized, id);
            put_size(&mut sized, value >> 8);
            prop_assert_eq!(head(&sized).unwrap().size, Some(value >> 8).filter(|v| *v < (1 << 56) - 1));
        }
    }
}
