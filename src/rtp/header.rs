//! The RTP header (RFC 3550 section 5.1) with its extensions (RFC 8285): read from a packet, written into a buffer.
use super::{Malformed, PayloadType, Ssrc, read};
use std::ops::Range;

/// What a datagram on a media port is, by its first bytes (RFC 7983, RFC 5761 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Datagram {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
    Unknown,
}

/// Sorts a datagram. It may still be malformed.
pub fn classify(datagram: &[u8]) -> Datagram {
    match *datagram {
        [0..=3, ..] => Datagram::Stun,
        [20..=63, ..] => Datagram::Dtls,
        // RTCP's packet types 192 to 223 would read as payload types 64 to 95, which RTP may not use beside it.
        [128..=191, second, ..] if matches!(second & 0x7f, 64..=95) => Datagram::Rtcp,
        [128..=191, _, ..] => Datagram::Rtp,
        _ => Datagram::Unknown,
    }
}

const FIXED: usize = 12;
const ONE_BYTE: u16 = 0xbede;
const TWO_BYTE: u16 = 0x1000;

/// An RTP header, read once. It owns nothing: [`extensions`](Self::extensions) takes the packet again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub marker: bool,
    pub payload_type: PayloadType,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: Ssrc,
    /// The P bit: the payload ends in padding, see [`strip_padding`](Self::strip_padding).
    pub has_padding: bool,
    pub csrc_count: u8,
    /// Bytes of the fixed header, the CSRCs and the extension block: where the payload begins, and what SRTP authenticates
    /// without encrypting it.
    pub len: usize,
    extensions: ExtensionBlock,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ExtensionBlock {
    form: Form,
    start: u16,
    end: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Absent,
    OneByte,
    TwoByte,
}

impl Header {
    /// Reads the header of a packet of at most 65535 bytes, protected by SRTP or not. An extension block of an unknown profile
    /// counts into `len`, and holds no extensions.
    pub fn parse(packet: &[u8]) -> Result<Header, Malformed> {
        let fixed: [u8; FIXED] = read::array(packet, 0)?;
        if fixed[0] >> 6 != 2 {
            return Err(Malformed("RTP version is not 2"));
        }
        if packet.len() > usize::from(u16::MAX) {
            return Err(Malformed("RTP packet too long"));
        }
        let csrc_count = fixed[0] & 0x0f;
        let mut len = FIXED + 4 * usize::from(csrc_count);
        let mut extensions = ExtensionBlock { form: Form::Absent, start: 0, end: 0 };
        if fixed[0] & 0x10 != 0 {
            let start = len + 4;
            let end = start + 4 * usize::from(read::u16(packet, len + 2)?);
            let form = match read::u16(packet, len)? {
                ONE_BYTE => Form::OneByte,
                profile if profile & 0xfff0 == TWO_BYTE => Form::TwoByte,
                _ => Form::Absent,
            };
            if end <= packet.len() {
                extensions = ExtensionBlock { form, start: start as u16, end: end as u16 };
            }
            len = end;
        }
        if len > packet.len() {
            return Err(Malformed("RTP header longer than the packet"));
        }
        Ok(Header {
            marker: fixed[1] & 0x80 != 0,
            payload_type: PayloadType::from_low_bits(fixed[1]),
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: Ssrc(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
            has_padding: fixed[0] & 0x20 != 0,
            csrc_count,
            len,
            extensions,
        })
    }

    /// The extensions in the packet (or the prefix of it) that this header was read from: id and value. What is truncated, or
    /// follows an id that RFC 8285 reserves, is left out.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        let range = usize::from(self.extensions.start)..usize::from(self.extensions.end);
        Extensions { form: self.extensions.form, rest: packet.get(range).unwrap_or(&[]) }
    }

    /// The value of the extension with this id.
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        self.extensions(packet).find(|&(i, _)| i == id).map(|(_, value)| value)
    }

    /// Where the payload lies in the unprotected packet, its padding left out.
    pub fn payload_range(&self, packet: &[u8]) -> Result<Range<usize>, Malformed> {
        let payload = packet.get(self.len..).ok_or(Malformed("truncated"))?;
        Ok(self.len..self.len + self.strip_padding(payload)?.len())
    }

    /// The payload without its padding. Padding-only packets give an empty slice. Call it after SRTP: the count is encrypted.
    pub fn strip_padding<'a>(&self, payload: &'a [u8]) -> Result<&'a [u8], Malformed> {
        if !self.has_padding {
            return Ok(payload);
        }
        match payload.last() {
            Some(&n) if n > 0 => payload
                .len()
                .checked_sub(usize::from(n))
                .and_then(|end| payload.get(..end))
                .ok_or(Malformed("more padding than payload")),
            _ => Err(Malformed("padding without a count")),
        }
    }
}

/// Iterator of [`Header::extensions`].
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    form: Form,
    rest: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (id, len, rest) = loop {
            break match (self.form, self.rest) {
                (Form::Absent, _) | (_, []) => None,
                (_, [0, rest @ ..]) => {
                    self.rest = rest;
                    continue;
                }
                (Form::OneByte, [head, rest @ ..]) => {
                    // Id 15, and id 0 with a length, end the block (RFC 8285 section 4.2).
                    let id = head >> 4;
                    (id != 0 && id != 15).then_some((id, usize::from(head & 0x0f) + 1, rest))
                }
                (Form::TwoByte, [id, len, rest @ ..]) => Some((*id, usize::from(*len), rest)),
                (Form::TwoByte, [_]) => None,
            };
        }
        .or_else(|| {
            self.rest = &[];
            None
        })?;
        let Some((value, rest)) = rest.split_at_checked(len) else {
            self.rest = &[];
            return None;
        };
        self.rest = rest;
        Some((id, value))
    }
}

/// Writes an RTP header with extensions into a buffer: `new`, `extension` for each, `finish`.
///
/// An extension that cannot be written (an id or a length that the form does not allow, a full buffer) is left out, for it
/// must not cost the packet.
#[derive(Debug)]
pub struct HeaderWriter<'a> {
    out: &'a mut [u8],
    two_byte: bool,
    /// Bytes written so far; 0 when not even the fixed header fits.
    len: usize,
}

impl<'a> HeaderWriter<'a> {
    /// Writes the fixed header. `two_byte` chooses the form of all extensions: it takes ids to 255 and values to 255 bytes, and
    /// may only be used where `extmap-allow-mixed` was negotiated, or where the peer uses it itself.
    pub fn new(
        out: &'a mut [u8],
        marker: bool,
        payload_type: PayloadType,
        sequence: u16,
        timestamp: u32,
        ssrc: Ssrc,
        two_byte: bool,
    ) -> Self {
        let mut len = 0;
        if let Some(fixed) = out.first_chunk_mut::<FIXED>() {
            fixed[0] = 0x80;
            fixed[1] = u8::from(marker) << 7 | payload_type.value();
            fixed[2..4].copy_from_slice(&sequence.to_be_bytes());
            fixed[4..8].copy_from_slice(&timestamp.to_be_bytes());
            fixed[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
            len = FIXED;
        }
        Self { out, two_byte, len }
    }

    /// Sets the P bit: the caller ends the payload in padding, the last byte of it the count.
    pub fn padding(&mut self) -> &mut Self {
        if self.len > 0 {
            self.out[0] |= 0x20;
        }
        self
    }

    /// Appends an extension.
    pub fn extension(&mut self, id: u8, value: &[u8]) -> &mut Self {
        let (head, head_len) = if self.two_byte {
            ([id, value.len() as u8], 2)
        } else {
            ([id << 4 | (value.len().wrapping_sub(1) as u8 & 0x0f), 0], 1)
        };
        let allowed = match self.two_byte {
            true => id != 0 && value.len() <= 255,
            false => matches!(id, 1..=14) && matches!(value.len(), 1..=16),
        };
        // The block's own header comes with its first extension; the block ends on a multiple of four.
        let start = if self.len == FIXED { FIXED + 4 } else { self.len };
        let end = start + head_len + value.len();
        if !allowed || self.len == 0 || end.next_multiple_of(4) > self.out.len() {
            return self;
        }
        self.out[start..start + head_len].copy_from_slice(&head[..head_len]);
        self.out[start + head_len..end].copy_from_slice(value);
        self.len = end;
        self
    }

    /// Closes the extension block, and says how long the header is. 0 when the buffer is shorter than 12 bytes.
    pub fn finish(&mut self) -> usize {
        if self.len > FIXED {
            let end = self.len.next_multiple_of(4);
            self.out[self.len..end].fill(0);
            self.len = end;
            self.out[0] |= 0x10;
            let profile = if self.two_byte { TWO_BYTE } else { ONE_BYTE };
            let words = ((end - FIXED - 4) / 4) as u16;
            self.out[FIXED..FIXED + 2].copy_from_slice(&profile.to_be_bytes());
            self.out[FIXED + 2..FIXED + 4].copy_from_slice(&words.to_be_bytes());
        }
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pt(n: u8) -> PayloadType {
        n.try_into().unwrap()
    }

    #[test]
    fn datagrams_are_told_apart() {
        let table = [
            (&[][..], Datagram::Unknown),
            (&[0x00, 0x01], Datagram::Stun),
            (&[4, 0], Datagram::Unknown),
            (&[22, 0xfe], Datagram::Dtls),
            (&[64, 0], Datagram::Unknown),
            (&[0x80], Datagram::Unknown),
            (&[0x80, 111], Datagram::Rtp),
            (&[0x90, 0x80 | 96], Datagram::Rtp),
            (&[0x80, 63], Datagram::Rtp),
            (&[0x80, 192], Datagram::Rtcp),
            (&[0x81, 200], Datagram::Rtcp),
            (&[0x8f, 205], Datagram::Rtcp),
            (&[0x80, 223], Datagram::Rtcp),
            (&[0x80, 224], Datagram::Rtp),
            (&[192, 200], Datagram::Unknown),
        ];
        for (bytes, want) in table {
            assert_eq!(classify(bytes), want, "{bytes:?}");
        }
    }

    #[test]
    fn one_byte_extensions_stop_at_reserved_ids_and_truncation() {
        let packet = |block: &[u8]| {
            let mut p =
                vec![0x90, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7, 0xbe, 0xde, 0, (block.len() / 4) as u8];
            p.extend_from_slice(block);
            p.extend_from_slice(b"payload");
            p
        };
        type Values<'a> = &'a [(u8, &'a [u8])];
        let table: &[(&[u8], Values<'_>)] = &[
            (&[0x10, 0xaa, 0, 0], &[(1, &[0xaa])]),
            (&[0, 0x10, 0xaa, 0], &[(1, &[0xaa])]),
            (&[0x10, 0xaa, 0xf0, 0x20, 0x20, 0xbb, 0, 0], &[(1, &[0xaa])]),
            (&[0x10, 0xaa, 0x01, 0x20], &[(1, &[0xaa])]),
            (&[0x10, 0xaa, 0x22, 0x00], &[(1, &[0xaa])]),
            (&[0x10, 0xaa, 0x21, 1, 2, 0, 0, 0], &[(1, &[0xaa]), (2, &[1, 2])]),
        ];
        for (block, want) in table {
            let p = packet(block);
            let h = Header::parse(&p).unwrap();
            assert_eq!(h.extensions(&p).collect::<Vec<_>>(), *want, "{block:x?}");
            assert_eq!(&p[h.payload_range(&p).unwrap()], b"payload");
            assert_eq!(h.len, 16 + block.len());
            assert!(h.marker && h.sequence == 0x1234 && h.timestamp == 9 && h.ssrc == Ssrc(7));
        }
    }

    #[test]
    fn headers_that_lie_about_their_length_are_refused() {
        assert!(Header::parse(&[0x80; 11]).is_err());
        assert!(Header::parse(&[0x40; 12]).is_err());
        assert!(Header::parse(&[0x81; 15]).is_err(), "a CSRC that is not there");
        assert!(Header::parse(&[0x90; 14]).is_err(), "half an extension header");
        let mut p = [0u8; 20];
        (p[0], p[12], p[13], p[15]) = (0x90, 0xbe, 0xde, 2);
        assert!(Header::parse(&p).is_err(), "two words claimed, one there");
        p[15] = 1;
        assert!(Header::parse(&p).is_ok());
    }

    #[test]
    fn padding_is_counted_before_it_is_believed() {
        let mut p = [0u8; 16];
        p[0] = 0xa0;
        for (count, want) in [(1, Some(3)), (4, Some(0)), (0, None), (5, None), (255, None)] {
            p[15] = count;
            let h = Header::parse(&p).unwrap();
            assert_eq!(h.payload_range(&p).ok().map(|r| r.len()), want);
        }
        let empty = Header::parse(&p[..12]).unwrap();
        assert!(empty.payload_range(&p[..12]).is_err());
    }

    #[test]
    fn what_cannot_be_written_is_left_out() {
        let mut out = [0u8; 32];
        let mut w = HeaderWriter::new(&mut out, false, pt(1), 1, 1, Ssrc(1), false);
        let len = w.extension(0, &[1]).extension(15, &[1]).extension(3, &[]).extension(3, &[0; 17]).finish();
        assert_eq!(len, 12);
        let mut w = HeaderWriter::new(&mut out, false, pt(1), 1, 1, Ssrc(1), false);
        let len = w.extension(1, &[9; 14]).extension(2, &[0; 16]).finish();
        assert_eq!(len, 32);
        assert_eq!(HeaderWriter::new(&mut [0; 11], true, pt(1), 1, 1, Ssrc(1), true).extension(1, &[1]).finish(), 0);
    }

    type Written = (bool, bool, u8, u16, u32, u32, Vec<(u8, Vec<u8>)>);

    fn written() -> impl Strategy<Value = Written> {
        any::<bool>().prop_flat_map(|two_byte| {
            let id = if two_byte { 1..=255u8 } else { 1..=14u8 };
            let len = if two_byte { 0..=40usize } else { 1..=16usize };
            let extensions = prop::collection::vec((id, prop::collection::vec(any::<u8>(), len)), 0..6);
            (Just(two_byte), any::<bool>(), 0..128u8, any::<u16>(), any::<u32>(), any::<u32>(), extensions)
        })
    }

    proptest! {
        #[test]
        fn a_written_header_reads_back((two_byte, marker, p, seq, ts, ssrc, extensions) in written()) {
            let mut out = [0xffu8; 400];
            let mut w = HeaderWriter::new(&mut out, marker, pt(p), seq, ts, Ssrc(ssrc), two_byte);
            for (id, value) in &extensions {
                w.extension(*id, value);
            }
            let len = w.finish();
            let h = Header::parse(&out[..len]).unwrap();
            prop_assert_eq!((h.marker, h.payload_type, h.sequence, h.timestamp, h.ssrc), (marker, pt(p), seq, ts, Ssrc(ssrc)));
            prop_assert_eq!(h.len, len);
            let read: Vec<_> = h.extensions(&out).map(|(id, v)| (id, v.to_vec())).collect();
            prop_assert_eq!(&read, &extensions);
            // The independent reader agrees.
            use rtc::shared::marshal::Unmarshal;
            let oracle = rtp::header::Header::unmarshal(&mut &out[..len]).unwrap();
            prop_assert_eq!(oracle.sequence_number, seq);
            for (id, value) in &extensions {
                let first = extensions.iter().find(|(i, _)| i == id).map(|(_, v)| v);
                if first == Some(value) {
                    prop_assert_eq!(oracle.get_extension(*id).map(|b| b.to_vec()), Some(value.clone()));
                }
            }
        }

        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), two_byte: bool) {
            classify(&bytes);
            if let [a, _, _, _, _, _, _, _, _, _, _, _, b, c, ..] = bytes.as_mut_slice() {
                (*a, *b, *c) = (*a & 0x3f | 0x80, if two_byte { 0x10 } else { 0xbe }, if two_byte { 0 } else { 0xde });
            }
            if let Ok(h) = Header::parse(&bytes) {
                prop_assert!(h.len <= bytes.len());
                h.extensions(&bytes).for_each(drop);
                let _ = h.payload_range(&bytes);
            }
        }
    }
}
