//! AV1 (RTP Payload Format For AV1, version 1.0).
//!
//! Across a change of source a decoder needs: the first packet of a coded video sequence (N bit), which carries the sequence
//! header. Nothing in the payload counts across sources; with the dependency descriptor its frame number must go on increasing.
use super::FrameInfo;
use super::resolution::Bits;
use crate::rtp::{Malformed, read};

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;

/// Reads the aggregation header (section 4.4), and the header of the first OBU where the packet begins with one.
///
/// Layers are told, but no limit does without a packet: one that continues an OBU does not say which layer it is of, nor does any
/// say what refers to it. Who sends layers sends the dependency descriptor.
pub fn describe(payload: &[u8], marker: bool) -> Result<FrameInfo, Malformed> {
    let aggregation = read::u8(payload, 0)?;
    let continues = aggregation & 0x80 != 0;
    let obu_count = aggregation >> 4 & 3;
    let new_sequence = aggregation & 0x08 != 0;
    if continues && new_sequence {
        return Err(Malformed("a coded video sequence cannot begin with a continuation"));
    }
    let mut frame = FrameInfo { frame_end: marker, ..FrameInfo::default() };
    let element = first_element(&payload[1..], obu_count)?;
    if continues {
        return Ok(frame);
    }
    // obu_header (AV1 specification 5.3.2).
    let header = read::u8(element, 0)?;
    if header & 0x80 != 0 {
        // The forbidden bit: the OBU is encrypted end to end.
        (frame.keyframe, frame.frame_start) = (new_sequence, new_sequence);
        return Ok(frame);
    }
    let obu = header >> 3 & 0x0f;
    if header & 0x04 != 0 {
        let extension = read::u8(element, 1)?;
        frame.temporal = extension >> 5;
        frame.spatial = extension >> 3 & 3;
    }
    frame.keyframe = new_sequence || obu == SEQUENCE_HEADER;
    frame.frame_start = frame.keyframe || matches!(obu, TEMPORAL_DELIMITER | FRAME_HEADER | FRAME);
    Ok(frame)
}

/// The largest picture of the sequence, by the sequence header that begins the packet (AV1 specification 5.5.1).
pub(super) fn size(payload: &[u8]) -> Result<(u16, u16), Malformed> {
    let aggregation = read::u8(payload, 0)?;
    let element = first_element(&payload[1..], aggregation >> 4 & 3)?;
    let header = read::u8(element, 0)?;
    if aggregation & 0x80 != 0 || header & 0x80 != 0 || header >> 3 & 0x0f != SEQUENCE_HEADER {
        return Err(Malformed("no sequence header"));
    }
    let mut at = if header & 0x04 != 0 { 2 } else { 1 };
    if header & 0x02 != 0 {
        at += leb128(element.get(at..).unwrap_or_default())?.1;
    }
    let mut bits = Bits::new(element.get(at..).unwrap_or_default());
    bits.skip(4);
    if bits.flag()? {
        bits.skip(5); // A still picture: one operating point.
    } else {
        skip_operating_points(&mut bits)?;
    }
    let (width, height) = (bits.u(4)? + 1, bits.u(4)? + 1);
    let side = |n: u32| n.saturating_add(1).min(u16::MAX.into()) as u16;
    Ok((side(bits.u(width)?), side(bits.u(height)?)))
}

fn skip_operating_points(bits: &mut Bits<'_>) -> Result<(), Malformed> {
    let mut delay_bits = None;
    if bits.flag()? {
        // timing_info (5.5.3), decoder_model_info (5.5.4).
        bits.skip(64);
        if bits.flag()? {
            bits.ue()?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.u(5)? + 1);
            bits.skip(42);
        }
    }
    let has_display_delay = bits.flag()?;
    for _ in 0..=bits.u(5)? {
        bits.skip(12);
        if bits.u(5)? > 7 {
            bits.skip(1);
        }
        if let Some(n) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * n + 1);
        }
        if has_display_delay && bits.flag()? {
            bits.skip(4);
        }
    }
    Ok(())
}

/// The first OBU element: sized, unless it is the only one of a packet that counts its elements.
fn first_element(elements: &[u8], obu_count: u8) -> Result<&[u8], Malformed> {
    if obu_count == 1 {
        return Ok(elements);
    }
    let (size, n) = leb128(elements)?;
    elements.get(n..).and_then(|e| e.get(..size)).ok_or(Malformed("OBU longer than its packet"))
}

/// A leb128 of at most 32 bits (AV1 specification 4.10.5): the value, and how many bytes it took.
pub(in crate::rtp) fn leb128(bytes: &[u8]) -> Result<(usize, usize), Malformed> {
    let mut value = 0u64;
    for i in 0..8 {
        let byte = read::u8(bytes, i)?;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| Malformed("leb128 beyond 32 bits"))?;
            return Ok((value as usize, i + 1));
        }
    }
    Err(Malformed("leb128 longer than eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart() {
        let base = FrameInfo::default();
        let start = FrameInfo { frame_start: true, ..base };
        let table: &[(&[u8], FrameInfo)] = &[
            // N, one OBU: sequence header.
            (&[0x18, 0x08, 0], FrameInfo { keyframe: true, ..start }),
            // Without N, a sequence header still starts a sequence.
            (&[0x20, 0x02, 0x08, 0, 0x30, 0], FrameInfo { keyframe: true, ..start }),
            (&[0x10, 0x30, 0], start),
            (&[0x10, 0x18, 0], start),
            // A tile group is not the start of a frame.
            (&[0x10, 0x20, 0], base),
            // Continuation of an OBU.
            (&[0x90, 0xff, 0xff], base),
            // T=2 S=1.
            (&[0x10, 0x34, 0x48, 0], FrameInfo { temporal: 2, spatial: 1, ..start }),
            // The forbidden bit: only N is believed.
            (&[0x10, 0xb0, 0], base),
            (&[0x18, 0xb0, 0], FrameInfo { keyframe: true, ..start }),
            // W=0: every element is sized.
            (&[0x00, 0x81, 0x00, 0x30], start),
        ];
        for (payload, want) in table {
            assert_eq!(describe(payload, false), Ok(*want), "{payload:x?}");
        }
        for bad in [&[][..], &[0x10], &[0x98, 0x08], &[0x20, 0x05, 0x08], &[0x10, 0x34], &[0, 0x80], &[0, 0]] {
            assert!(describe(bad, false).is_err(), "{bad:x?}");
        }
        assert!(leb128(&[0xff, 0xff, 0xff, 0xff, 0x1f]).is_err(), "33 bits");
        assert!(leb128(&[0x80; 9]).is_err());
        assert_eq!(leb128(&[0xe5, 0x8e, 0x26]), Ok((624_485, 3)));
    }
}
