//! AV1 (RTP Payload Format For AV1, version 1.0): OBUs are put together from their fragments, and each gets its size.
//! Temporal delimiters, padding and tile lists are left out, as Matroska wants it.
use super::{Picture, Size, append};
use crate::record::bits::Bits;
use crate::rtp::Malformed;

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;

/// See [`super::Depacketizer`].
#[derive(Debug, Default)]
pub struct Av1 {
    data: Vec<u8>,
    /// The OBU that goes on in the next packet: header, extension, payload; without a size.
    fragment: Option<Vec<u8>>,
    sequence: Option<(Sequence, Vec<u8>)>,
    key: bool,
}

impl Av1 {
    /// Reads the aggregation header and the OBU elements (section 4.4).
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (&aggregation, mut rest) = payload.split_first().ok_or(Malformed("truncated"))?;
        let (first_continues, last_goes_on) = (aggregation & 0x80 != 0, aggregation & 0x40 != 0);
        let count = usize::from(aggregation >> 4 & 3);
        let mut index = 0;
        while !rest.is_empty() {
            index += 1;
            // With a count, the last element has no size: it takes what is left.
            let (element, after) = if index == count {
                (rest, &[][..])
            } else {
                let (size, n) = leb128(rest)?;
                rest.get(n..).and_then(|r| r.split_at_checked(size)).ok_or(Malformed("OBU longer than its packet"))?
            };
            rest = after;
            self.push_element(element, index == 1 && first_continues, rest.is_empty() && last_goes_on)?;
        }
        Ok(())
    }

    fn push_element(&mut self, element: &[u8], continues: bool, goes_on: bool) -> Result<(), Malformed> {
        let mut obu = match (self.fragment.take(), continues) {
            (Some(begun), true) => begun,
            (None, false) => Vec::new(),
            (Some(_), false) => return Err(Malformed("an OBU that does not go on")),
            (None, true) => return Err(Malformed("an OBU without its beginning")),
        };
        append(&mut obu, element)?;
        if goes_on {
            self.fragment = Some(obu);
            return Ok(());
        }
        self.push_obu(&obu)
    }

    /// Writes an OBU with a size field (AV1 specification 5.3).
    fn push_obu(&mut self, obu: &[u8]) -> Result<(), Malformed> {
        let Some(&header) = obu.first() else { return Ok(()) };
        if header & 0x80 != 0 {
            return Err(Malformed("the forbidden bit of an OBU header"));
        }
        let kind = header >> 3 & 0x0f;
        let header_len = if header & 0x04 != 0 { 2 } else { 1 };
        let mut body = obu.get(header_len..).ok_or(Malformed("truncated"))?;
        if header & 0x02 != 0 {
            // Senders should leave the size out, and some do not.
            let (size, n) = leb128(body)?;
            body = body.get(n..n.saturating_add(size)).ok_or(Malformed("OBU longer than its element"))?;
        }
        if matches!(kind, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            return Ok(());
        }
        let from = self.data.len();
        append(&mut self.data, &[header | 0x02])?;
        append(&mut self.data, &obu[1..header_len])?;
        put_leb128(&mut self.data, body.len() as u32);
        append(&mut self.data, body)?;
        match kind {
            SEQUENCE_HEADER => self.sequence = Some((Sequence::parse(body)?, self.data[from..].to_vec())),
            FRAME | FRAME_HEADER => {
                let reduced = self.sequence.as_ref().is_some_and(|(s, _)| s.reduced_still);
                self.key |= is_keyframe(body, reduced)?;
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<Picture, Malformed> {
        let data = std::mem::take(&mut self.data);
        let sequence = self.sequence.take();
        let key = std::mem::take(&mut self.key);
        if self.fragment.take().is_some() || data.is_empty() {
            return Err(Malformed("a temporal unit that is not whole"));
        }
        let start = sequence.filter(|_| key);
        let size = start.as_ref().map(|(s, _)| s.size);
        let configuration = start.map(|(s, obu)| [&s.configuration()[..], &obu].concat());
        Ok(Picture { data, keyframe: size.is_some(), size, configuration })
    }

    pub(super) fn discard(&mut self) {
        *self = Self::default();
    }
}

/// The beginning of a frame header (AV1 specification 5.9.2): `show_existing_frame`, `frame_type`.
fn is_keyframe(body: &[u8], reduced_still: bool) -> Result<bool, Malformed> {
    if reduced_still {
        return Ok(true);
    }
    let mut bits = Bits::new(body);
    Ok(!bits.flag()? && bits.u(2)? == 0)
}

/// What a sequence header tells of the stream (AV1 specification 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sequence {
    profile: u8,
    level: u8,
    tier: bool,
    reduced_still: bool,
    size: Size,
    /// `high_bitdepth` to `chroma_sample_position`, as the third byte of `av1C` has them.
    colour: u8,
}

impl Sequence {
    /// The four bytes of `av1C` (AV1 Codec ISO Media File Format Binding, section 2.3.3). The sequence header stands behind them.
    fn configuration(&self) -> [u8; 4] {
        [0x81, self.profile << 5 | self.level, u8::from(self.tier) << 7 | self.colour, 0]
    }

    fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let bits = &mut Bits::new(body);
        let profile = bits.u(3)? as u8;
        bits.skip(1)?; // still_picture
        let reduced_still = bits.flag()?;
        let (level, tier) = if reduced_still { (bits.u(5)? as u8, false) } else { operating_points(bits)? };
        let (width_bits, height_bits) = (bits.u(4)? + 1, bits.u(4)? + 1);
        let size =
            Size { width: bits.u(width_bits)?.saturating_add(1), height: bits.u(height_bits)?.saturating_add(1) };
        if !reduced_still && bits.flag()? {
            bits.skip(7)?; // frame ids
        }
        bits.skip(3)?; // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
        if !reduced_still {
            skip_tools(bits)?;
        }
        bits.skip(3)?; // enable_superres, enable_cdef, enable_restoration
        let colour = colour(bits, profile)?;
        Ok(Self { profile, level, tier, reduced_still, size, colour })
    }
}

/// Timing, decoder model and operating points; gives level and tier of the first one.
fn operating_points(bits: &mut Bits<'_>) -> Result<(u8, bool), Malformed> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.skip(64)?; // num_units_in_display_tick, time_scale
        if bits.flag()? {
            bits.ue()?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.u(5)? + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let display_delay = bits.flag()?;
    let mut first = None;
    for _ in 0..=bits.u(5)? {
        bits.skip(12)?;
        let level = bits.u(5)? as u8;
        let tier = level > 7 && bits.flag()?;
        if let Some(n) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * n + 1)?;
        }
        if display_delay && bits.flag()? {
            bits.skip(4)?;
        }
        first.get_or_insert((level, tier));
    }
    first.ok_or(Malformed("no operating point"))
}

fn skip_tools(bits: &mut Bits<'_>) -> Result<(), Malformed> {
    bits.skip(4)?; // interintra, masked compound, warped motion, dual filter
    let order_hint = bits.flag()?;
    if order_hint {
        bits.skip(2)?;
    }
    let screen_content = bits.flag()? || bits.flag()?;
    if screen_content && !bits.flag()? {
        bits.skip(1)?;
    }
    if order_hint {
        bits.skip(3)?;
    }
    Ok(())
}

/// `color_config` (5.5.2).
fn colour(bits: &mut Bits<'_>, profile: u8) -> Result<u8, Malformed> {
    let high = bits.flag()?;
    let twelve = profile == 2 && high && bits.flag()?;
    let mono = profile != 1 && bits.flag()?;
    let described = if bits.flag()? { (bits.u(8)?, bits.u(8)?, bits.u(8)?) } else { (2, 2, 2) };
    const SRGB: (u32, u32, u32) = (1, 13, 0);
    let (x, y, position) = if mono {
        bits.skip(1)?;
        (true, true, 0)
    } else if described == SRGB {
        (false, false, 0)
    } else {
        bits.skip(1)?;
        let (x, y) = match profile {
            0 => (true, true),
            1 => (false, false),
            _ if twelve => {
                let x = bits.flag()?;
                (x, x && bits.flag()?)
            }
            _ => (true, false),
        };
        (x, y, if x && y { bits.u(2)? as u8 } else { 0 })
    };
    let flags = [high, twelve, mono, x, y].iter().fold(0, |byte, flag| byte << 1 | u8::from(*flag));
    Ok(flags << 2 | position)
}

/// A leb128 of at most 32 bits (AV1 specification 4.10.5): the value, and how many bytes it took.
fn leb128(bytes: &[u8]) -> Result<(usize, usize), Malformed> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| Malformed("leb128 beyond 32 bits"))?;
            return Ok((value as usize, i + 1));
        }
    }
    Err(Malformed("leb128 without an end"))
}

fn put_leb128(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence header of libaom, 160x90, main profile, level 2.0: OBU header, size, body.
    const LIBAOM: [u8; 12] = [0x0a, 0x0a, 0x00, 0x00, 0x00, 0x03, 0xb4, 0xfd, 0x93, 0x6b, 0xe4, 0x01];

    #[test]
    fn obus_are_joined_sized_and_delimiters_left_out() {
        let mut d = Av1::default();
        let sequence = &LIBAOM[2..];
        // W=2: a delimiter (sized), then the sequence header's beginning; it goes on.
        let mut first = vec![0x60, 0x01, 0x10, 0x08];
        first.extend(&sequence[..5]);
        d.push(&first).unwrap();
        // W=0, the first continues: every element is sized.
        let mut second = vec![0x80, 5];
        second.extend(&sequence[5..]);
        second.extend([3, 0x30, 0x10, 0xaa]);
        d.push(&second).unwrap();
        let picture = d.finish().unwrap();
        assert!(picture.keyframe);
        assert_eq!(picture.size, Some(Size { width: 160, height: 90 }));
        assert_eq!(picture.data, [&LIBAOM[..], &[0x32, 2, 0x10, 0xaa]].concat());
        assert_eq!(picture.configuration, Some([&[0x81, 0x00, 0x0c, 0x00][..], &LIBAOM].concat()));
        // An inter frame: frame_type 1.
        d.push(&[0x10, 0x30, 0x30]).unwrap();
        let picture = d.finish().unwrap();
        assert_eq!((picture.keyframe, picture.data), (false, vec![0x32, 1, 0x30]));
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let mut d = Av1::default();
        assert!(d.push(&[0x90, 1, 2]).is_err(), "no beginning");
        d.push(&[0x50, 0x30, 0x10]).unwrap();
        assert!(d.finish().is_err(), "no end");
        d.push(&[0x50, 0x30, 0x10]).unwrap();
        assert!(d.push(&[0x10, 0x30, 0x10]).is_err(), "it does not go on");
        d.discard();
        assert!(d.push(&[0x10, 0xb0, 0x10]).is_err(), "encrypted");
        assert!(d.push(&[0x20, 9, 1]).is_err());
        assert!(d.finish().is_err());
    }
}
