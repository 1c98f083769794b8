//! H.264 (RFC 6184).
//!
//! Across a change of source a decoder needs: parameter sets and an IDR picture first. Nothing in the payload counts across
//! sources: `frame_num` and the picture order start anew with an IDR. Packets do not say where a frame begins; timestamps do.
use super::FrameInfo;
use super::resolution::Bits;
use crate::rtp::{Malformed, read};
use smallvec::SmallVec;

const SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Reads the NAL unit headers of a packet: single, STAP-A or FU-A. A keyframe begins with the packet that carries the SPS;
/// an IDR picture that begins without one is told by `idr_without_parameters`.
pub fn describe(payload: &[u8], marker: bool) -> Result<FrameInfo, Malformed> {
    let mut seen = Seen { frame_end: marker, discardable: true, ..FrameInfo::default() };
    let nal = read::u8(payload, 0)?;
    match nal & 0x1f {
        1..=23 => note_unit(&mut seen, nal, payload.get(1)),
        STAP_A => note_aggregate(&mut seen, &payload[1..])?,
        FU_A => {
            let fu = read::u8(payload, 1)?;
            // Only the first fragment has what follows the NAL header; the type is that of the whole unit.
            if fu & 0x80 != 0 {
                note_unit(&mut seen, nal & 0x60 | fu & 0x1f, payload.get(2));
            } else {
                seen.discardable &= nal & 0x60 == 0;
            }
        }
        // The interleaved mode, which nobody negotiates (section 6.4); or a NAL unit header that is encrypted end to end.
        _ => seen.discardable = false,
    }
    seen.idr_without_parameters &= !seen.keyframe;
    Ok(seen)
}

/// The size of the pictures by the sequence parameter set of a packet (ITU-T H.264 section 7.3.2.1.1).
pub(super) fn size(payload: &[u8]) -> Result<(u16, u16), Malformed> {
    let nal = read::u8(payload, 0)?;
    match nal & 0x1f {
        SPS => parse_sps(&payload[1..]),
        STAP_A => {
            let mut rest = &payload[1..];
            while !rest.is_empty() {
                let size = usize::from(read::u16(rest, 0)?);
                let (unit, after) =
                    rest[2..].split_at_checked(size).ok_or(Malformed("NAL unit longer than its packet"))?;
                if read::u8(unit, 0)? & 0x1f == SPS {
                    return parse_sps(&unit[1..]);
                }
                rest = after;
            }
            Err(Malformed("no sequence parameter set"))
        }
        FU_A if read::u8(payload, 1)? & 0x9f == 0x80 | SPS => parse_sps(&payload[2..]),
        _ => Err(Malformed("no sequence parameter set")),
    }
}

fn parse_sps(unit: &[u8]) -> Result<(u16, u16), Malformed> {
    // Without the bytes that keep start codes out of it (section 7.4.1.1). More than this has nothing that is of use here.
    let mut plain: SmallVec<[u8; 128]> = SmallVec::new();
    for &byte in unit.iter().take(128) {
        if byte != 3 || !plain.ends_with(&[0, 0]) {
            plain.push(byte);
        }
    }
    let profile = read::u8(&plain, 0)?;
    let mut bits = Bits::new(&plain[..]);
    bits.skip(24);
    bits.ue()?;
    let mut chroma = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.ue()?;
        bits.skip(u32::from(chroma == 3));
        bits.ue()?;
        bits.ue()?;
        bits.skip(1);
        if bits.flag()? {
            return Err(Malformed("scaling matrices are not read"));
        }
    }
    bits.ue()?;
    match bits.ue()? {
        0 => drop(bits.ue()?),
        1 => {
            bits.skip(1);
            bits.ue()?;
            bits.ue()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.ue()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.skip(1);
    let (columns, rows) = (bits.ue()?, bits.ue()?);
    let frames_only = bits.flag()?;
    bits.skip(if frames_only { 1 } else { 2 });
    let mut crop = [0; 4];
    if bits.flag()? {
        for side in &mut crop {
            *side = bits.ue()?;
        }
    }
    // Tables 6-1 and 7-19 to 7-22: cropping counts in units of chroma samples, and of fields.
    let fields = if frames_only { 1 } else { 2 };
    let (across, down) = (if matches!(chroma, 1 | 2) { 2 } else { 1 }, if chroma == 1 { 2 * fields } else { fields });
    let side = |blocks: u32, unit: u32, [a, b]: [u32; 2]| {
        let cropped = u64::from(unit) * (u64::from(a) + u64::from(b));
        let pixels = (16 * (u64::from(blocks) + 1)).checked_sub(cropped);
        pixels.and_then(|p| u16::try_from(p).ok()).ok_or(Malformed("a size that is none"))
    };
    let rows = rows.saturating_add(1).saturating_mul(fields).saturating_sub(1);
    Ok((side(columns, across, [crop[0], crop[1]])?, side(rows, down, [crop[2], crop[3]])?))
}

type Seen = FrameInfo;

/// The units of a STAP-A (section 5.7.1), each behind a 16-bit size.
fn note_aggregate(seen: &mut Seen, mut rest: &[u8]) -> Result<(), Malformed> {
    if rest.is_empty() {
        return Err(Malformed("STAP-A without a unit"));
    }
    while !rest.is_empty() {
        let size = usize::from(read::u16(rest, 0)?);
        let (unit, after) = rest[2..].split_at_checked(size).ok_or(Malformed("NAL unit longer than its packet"))?;
        note_unit(seen, read::u8(unit, 0)?, unit.get(1));
        rest = after;
    }
    Ok(())
}

/// `slice` is the byte behind the NAL header: its first bit is set when a slice is the first of its picture, for it begins
/// with `first_mb_in_slice` as an Exp-Golomb code, and 0 is written as one set bit.
fn note_unit(seen: &mut Seen, nal: u8, slice: Option<&u8>) {
    let first_slice = slice.is_some_and(|b| b & 0x80 != 0);
    seen.discardable &= nal & 0x60 == 0;
    match nal & 0x1f {
        SPS => {
            seen.keyframe = true;
            seen.frame_start = true;
        }
        ACCESS_UNIT_DELIMITER => seen.frame_start = true,
        IDR if first_slice => {
            seen.idr_without_parameters = true;
            seen.frame_start = true;
        }
        SLICE..=IDR => seen.frame_start |= first_slice,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart() {
        let none = FrameInfo::default();
        let start = FrameInfo { frame_start: true, ..none };
        let table: &[(&[u8], FrameInfo)] = &[
            (&[0x67, 0x42, 0xe0], FrameInfo { keyframe: true, ..start }),
            (&[0x68, 0xce], none),
            (&[0x65, 0x88], FrameInfo { idr_without_parameters: true, ..start }),
            (&[0x65, 0x40], none),
            (&[0x41, 0x9a], start),
            (&[0x01, 0x9a], FrameInfo { discardable: true, ..start }),
            (&[0x09, 0xf0], FrameInfo { discardable: true, ..start }),
            // STAP-A: SPS, PPS, IDR.
            (&[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68, 0, 2, 0x65, 0x88], FrameInfo { keyframe: true, ..start }),
            (&[0x78, 0, 1, 0x68, 0, 2, 0x65, 0x88], FrameInfo { idr_without_parameters: true, ..start }),
            // FU-A: start, middle, end.
            (&[0x7c, 0x85, 0x88], FrameInfo { idr_without_parameters: true, ..start }),
            (&[0x7c, 0x05, 0x88], none),
            (&[0x7c, 0x45, 0x88], none),
            (&[0x5c, 0x81, 0x9a], start),
            (&[0x7c, 0x87, 0x42], FrameInfo { keyframe: true, ..start }),
            // Types that mean nothing here say nothing.
            (&[0x1d, 0x85], none),
            (&[0x60, 0x01], none),
        ];
        for (payload, want) in table {
            assert_eq!(describe(payload, false), Ok(*want), "{payload:x?}");
        }
        for bad in [&[][..], &[0x78], &[0x78, 0], &[0x78, 0, 3, 0x67, 0x42], &[0x78, 0, 0], &[0x7c]] {
            assert!(describe(bad, false).is_err(), "{bad:x?}");
        }
    }
}
