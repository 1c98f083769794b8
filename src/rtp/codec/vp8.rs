//! VP8 (RFC 7741).
//!
//! Across a change of source a decoder needs: a keyframe first; `PictureID` that goes on increasing (receivers order frames by
//! it, modulo 2^15); `TL0PICIDX` that goes on from the old source's (frames of higher temporal layers name the base layer
//! frame that they refer to). `KEYIDX` is left alone: it only matters between frames of one source.
//!
//! Each descriptor keeps the width of its picture id. Of a 7-bit id only the low bits are written, so a receiver that orders
//! by 15 bits sees it wrap early: browsers always send 15 bits, other senders are taken as they are.
use super::{FrameInfo, PictureId, Switching};
use crate::rtp::layer::{LayerId, LayerSet};
use crate::rtp::{Malformed, read};

/// The payload descriptor (RFC 7741 section 4.2).
struct Descriptor {
    non_reference: bool,
    /// First packet of the frame: S, and partition 0.
    starts_frame: bool,
    picture_id: Option<(PictureId, usize)>,
    tl0_pic_idx: Option<(u8, usize)>,
    temporal: u8,
    layer_sync: bool,
    len: usize,
}

impl Descriptor {
    fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let first = read::u8(payload, 0)?;
        let mut d = Self {
            non_reference: first & 0x20 != 0,
            starts_frame: first & 0x10 != 0 && first & 0x07 == 0,
            picture_id: None,
            tl0_pic_idx: None,
            temporal: 0,
            layer_sync: false,
            len: 1,
        };
        if first & 0x80 == 0 {
            return Ok(d);
        }
        let present = read::u8(payload, 1)?;
        d.len = 2;
        if present & 0x80 != 0 {
            let (id, n) = PictureId::read(payload, d.len)?;
            d.picture_id = Some((id, d.len));
            d.len += n;
        }
        if present & 0x40 != 0 {
            d.tl0_pic_idx = Some((read::u8(payload, d.len)?, d.len));
            d.len += 1;
        }
        if present & 0x30 != 0 {
            let byte = read::u8(payload, d.len)?;
            d.len += 1;
            if present & 0x20 != 0 {
                d.temporal = byte >> 6;
                d.layer_sync = byte & 0x20 != 0;
            }
        }
        Ok(d)
    }

    /// A frame with Y set depends on base layer frames alone; of the layers between, whose next frames may lean on what was left
    /// out, it says nothing: so only who follows the layer right below may go up.
    fn switching(&self) -> Switching {
        match self.temporal.checked_sub(1) {
            Some(from) if self.layer_sync => Switching::Temporal { from, to: self.temporal },
            _ => Switching::No,
        }
    }
}

/// Bytes of the payload descriptor: the frame's own stand behind it.
pub fn descriptor_len(payload: &[u8]) -> Result<usize, Malformed> {
    Descriptor::parse(payload).map(|d| d.len)
}

/// Reads the payload descriptor, and of a frame's first packet the payload header's P bit: clear in a keyframe.
pub fn describe(payload: &[u8], marker: bool) -> Result<FrameInfo, Malformed> {
    let descriptor = Descriptor::parse(payload)?;
    let header = read::u8(payload, descriptor.len)?;
    let mut frame = describe_descriptor(payload, marker)?;
    frame.keyframe = frame.frame_start && header & 1 == 0;
    if frame.keyframe {
        frame.switching = Switching::Fresh(LayerSet::ALL);
    }
    Ok(frame)
}

/// Reads the payload descriptor alone: says nothing of keyframes.
pub fn describe_descriptor(payload: &[u8], marker: bool) -> Result<FrameInfo, Malformed> {
    let d = Descriptor::parse(payload)?;
    Ok(FrameInfo {
        frame_start: d.starts_frame,
        frame_end: marker,
        temporal: d.temporal,
        absent: LayerSet::taking_in(LayerId { spatial: 0, temporal: d.temporal }).complement(),
        switching: d.switching(),
        discardable: d.non_reference,
        picture_id: d.picture_id.map(|(id, _)| id),
        tl0_pic_idx: d.tl0_pic_idx.map(|(idx, _)| idx),
        ..FrameInfo::default()
    })
}

/// The size of a keyframe's pictures (RFC 6386 section 9.1), of its first packet.
pub(super) fn size(payload: &[u8]) -> Result<(u16, u16), Malformed> {
    let d = Descriptor::parse(payload)?;
    let header: [u8; 10] = read::array(payload, d.len)?;
    if !d.starts_frame || header[0] & 1 != 0 || header[3..6] != [0x9d, 0x01, 0x2a] {
        return Err(Malformed("not the beginning of a keyframe"));
    }
    let side = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]) & 0x3fff;
    Ok((side(6), side(8)))
}

/// Writes a picture id and a TL0PICIDX over those that the descriptor has; what it has not is not added, and the length stays.
pub fn rewrite(payload: &mut [u8], picture_id: Option<u16>, tl0_pic_idx: Option<u8>) -> Result<(), Malformed> {
    let d = Descriptor::parse(payload)?;
    if let (Some(value), Some((_, at))) = (picture_id, d.picture_id) {
        PictureId::overwrite(payload, at, value)?;
    }
    if let (Some(value), Some((_, at))) = (tl0_pic_idx, d.tl0_pic_idx) {
        *payload.get_mut(at).ok_or(Malformed("truncated"))? = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_read_as_rfc_7741_draws_them() {
        let base = FrameInfo::default();
        let fresh = Switching::Fresh(LayerSet::ALL);
        let above = |temporal| LayerSet::of(|limit| limit.temporal < temporal);
        let id = |value, wide| Some(PictureId { value, wide });
        let table: &[(&[u8], FrameInfo)] = &[
            (&[0x10, 0x00], FrameInfo { keyframe: true, frame_start: true, switching: fresh, ..base }),
            (&[0x10, 0x01], FrameInfo { frame_start: true, ..base }),
            (&[0x00, 0x00], base),
            // S of another partition is no start of a frame.
            (&[0x11, 0x00], base),
            (&[0x30, 0x01], FrameInfo { frame_start: true, discardable: true, ..base }),
            (
                &[0x90, 0x80, 0x11, 0x00],
                FrameInfo { keyframe: true, frame_start: true, switching: fresh, picture_id: id(17, false), ..base },
            ),
            (
                &[0x90, 0x80, 0x92, 0x34, 0x00],
                FrameInfo { keyframe: true, frame_start: true, switching: fresh, picture_id: id(0x1234, true), ..base },
            ),
            (
                &[0x90, 0xf0, 0xff, 0xff, 7, 0xa3, 0x01],
                FrameInfo {
                    frame_start: true,
                    picture_id: id(0x7fff, true),
                    tl0_pic_idx: Some(7),
                    temporal: 2,
                    absent: above(2),
                    switching: Switching::Temporal { from: 1, to: 2 },
                    ..base
                },
            ),
            (&[0x80, 0x20, 0x40, 0x01], FrameInfo { temporal: 1, absent: above(1), ..base }),
            // Only K: the byte is there, its temporal id means nothing.
            (&[0x80, 0x10, 0xff, 0x01], base),
        ];
        for (payload, want) in table {
            assert_eq!(describe(payload, false), Ok(*want), "{payload:x?}");
            for cut in 0..payload.len() {
                assert!(describe(&payload[..cut], false).is_err(), "{payload:x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn rewriting_keeps_width_and_adds_nothing() {
        let table: &[(&[u8], &[u8])] = &[
            (&[0x90, 0xc0, 0x92, 0x34, 5, 0xaa], &[0x90, 0xc0, 0x80, 0x85, 9, 0xaa]),
            (&[0x90, 0xc0, 0x12, 5, 0xaa], &[0x90, 0xc0, 0x05, 9, 0xaa]),
            (&[0x90, 0x40, 5, 0xaa], &[0x90, 0x40, 9, 0xaa]),
            (&[0x10, 0xaa], &[0x10, 0xaa]),
        ];
        for (before, after) in table {
            let mut payload = before.to_vec();
            rewrite(&mut payload, Some(0x0085), Some(9)).unwrap();
            assert_eq!(payload, *after);
        }
    }
}
