//! H.264 (RFC 6184).
//!
//! Across a change of source a decoder needs: parameter sets and an IDR picture first. Nothing in the payload counts across
//! sources: `frame_num` and the picture order start anew with an IDR. Packets do not say where a frame begins; timestamps do.
use super::FrameInfo;
use crate::rtp::{Malformed, read};

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
