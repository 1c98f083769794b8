//! VP9 (RFC 9628).
//!
//! Across a change of source a decoder needs: a keyframe of spatial layer 0 first; a picture id that goes on increasing, the
//! same in all layers of a picture; `TL0PICIDX` that goes on, where the source has it (non-flexible mode). References are
//! relative (`P_DIFF`), or follow from the scalability structure, which the keyframe repeats; neither needs rewriting.
//! The descriptor is never encrypted end to end, because the packetizer writes it.
use super::resolution::{Bits, Sizes};
use super::{FrameInfo, PictureId, Switching};
use crate::rtp::layer::{LayerId, LayerSet};
use crate::rtp::{Malformed, read};

const MAX_REFERENCES: usize = 3;

/// The payload descriptor (RFC 9628 section 4.2).
struct Descriptor {
    inter_predicted: bool,
    begins: bool,
    ends: bool,
    picture_id: Option<(PictureId, usize)>,
    temporal: u8,
    spatial: u8,
    switching_up: bool,
    tl0_pic_idx: Option<(u8, usize)>,
    not_for_upper_layers: bool,
    /// Where the sizes of the spatial layers stand, and how many they are.
    sizes: Option<(usize, usize)>,
    len: usize,
}

impl Descriptor {
    fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let first = read::u8(payload, 0)?;
        let flag = |bit: u8| first & bit != 0;
        let (has_id, has_layers, flexible, has_structure) = (flag(0x80), flag(0x20), flag(0x10), flag(0x02));
        let mut d = Self {
            inter_predicted: flag(0x40),
            begins: flag(0x08),
            ends: flag(0x04),
            picture_id: None,
            temporal: 0,
            spatial: 0,
            switching_up: false,
            tl0_pic_idx: None,
            not_for_upper_layers: flag(0x01),
            sizes: None,
            len: 1,
        };
        if has_id {
            let (id, n) = PictureId::read(payload, d.len)?;
            d.picture_id = Some((id, d.len));
            d.len += n;
        }
        if has_layers {
            let byte = read::u8(payload, d.len)?;
            d.temporal = byte >> 5;
            d.switching_up = byte & 0x10 != 0;
            d.spatial = (byte >> 1) & 7;
            d.len += 1;
            if !flexible {
                d.tl0_pic_idx = Some((read::u8(payload, d.len)?, d.len));
                d.len += 1;
            }
        }
        if flexible && d.inter_predicted {
            d.skip_references(payload)?;
        }
        if has_structure {
            d.skip_structure(payload)?;
        }
        Ok(d)
    }

    /// U: pictures of higher temporal layers will not refer to any before this one. P clear: one may come from the next lower spatial
    /// layer (section 4.2).
    fn switching(&self) -> Switching {
        match (self.inter_predicted, self.spatial) {
            (false, 0) => Switching::Fresh(LayerSet::ALL),
            (false, _) => Switching::Spatial,
            (true, _) if self.switching_up => Switching::Temporal { from: self.temporal, to: 7 },
            _ => Switching::No,
        }
    }

    fn skip_references(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        for _ in 0..MAX_REFERENCES {
            let more = read::u8(payload, self.len)? & 1 != 0;
            self.len += 1;
            if !more {
                return Ok(());
            }
        }
        Err(Malformed("more than three reference indices"))
    }

    /// The scalability structure (section 4.2.1).
    fn skip_structure(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let head = read::u8(payload, self.len)?;
        self.len += 1;
        if head & 0x10 != 0 {
            let layers = usize::from(head >> 5) + 1;
            self.sizes = Some((self.len, layers));
            self.len += 4 * layers;
        }
        if head & 0x08 != 0 {
            let pictures = read::u8(payload, self.len)?;
            self.len += 1;
            for _ in 0..pictures {
                let references = usize::from(read::u8(payload, self.len)? >> 2 & 3);
                self.len += 1 + references;
            }
        }
        if self.len > payload.len() { Err(Malformed("truncated")) } else { Ok(()) }
    }
}

/// Reads the payload descriptor.
pub fn describe(payload: &[u8], _marker: bool) -> Result<FrameInfo, Malformed> {
    let d = Descriptor::parse(payload)?;
    Ok(FrameInfo {
        keyframe: d.begins && !d.inter_predicted && d.spatial == 0,
        frame_start: d.begins,
        frame_end: d.ends,
        spatial: d.spatial,
        temporal: d.temporal,
        absent: LayerSet::taking_in(LayerId { spatial: d.spatial, temporal: d.temporal }).complement(),
        switching: d.switching(),
        // Z speaks of upper spatial layers only; that no later picture refers to this one is not said.
        discardable: false,
        picture_id: d.picture_id.map(|(id, _)| id),
        tl0_pic_idx: d.tl0_pic_idx.map(|(idx, _)| idx),
        ..FrameInfo::default()
    })
}

/// Bytes of the payload descriptor: the frame's own stand behind it.
pub fn descriptor_len(payload: &[u8]) -> Result<usize, Malformed> {
    Descriptor::parse(payload).map(|d| d.len)
}

/// Width and height of the highest spatial layer, where the packet carries a scalability structure with sizes.
pub fn structure_size(payload: &[u8]) -> Result<Option<(u16, u16)>, Malformed> {
    let d = Descriptor::parse(payload)?;
    let Some((at, layers)) = d.sizes else { return Ok(None) };
    let top = at + 4 * (layers - 1);
    Ok(Some((read::u16(payload, top)?, read::u16(payload, top + 2)?)))
}

/// The sizes of a keyframe's spatial layers: as the scalability structure has them, or the uncompressed header of the only one (VP9
/// bitstream specification, section 6.2).
pub(super) fn sizes(payload: &[u8]) -> Result<Sizes, Malformed> {
    let d = Descriptor::parse(payload)?;
    let mut sizes = Sizes::default();
    if let Some((at, count)) = d.sizes {
        for (layer, size) in sizes.iter_mut().enumerate().take(count) {
            *size = (read::u16(payload, at + 4 * layer)?, read::u16(payload, at + 4 * layer + 2)?);
        }
        return Ok(sizes);
    }
    let mut bits = Bits::new(payload.get(d.len..).unwrap_or_default());
    if bits.u(2)? != 2 {
        return Err(Malformed("no frame marker"));
    }
    let profile = bits.u(1)? | bits.u(1)? << 1;
    bits.skip(u32::from(profile == 3));
    let (shows_existing, is_inter) = (bits.flag()?, bits.flag()?);
    bits.skip(2);
    if shows_existing || is_inter || bits.u(24)? != 0x49_8342 {
        return Err(Malformed("not the beginning of a keyframe"));
    }
    bits.skip(u32::from(profile >= 2));
    const RGB: u32 = 7;
    if bits.u(3)? == RGB {
        bits.skip(u32::from(profile & 1 != 0));
    } else {
        bits.skip(if profile & 1 != 0 { 4 } else { 1 });
    }
    sizes[0] = (bits.u(16)?.saturating_add(1).min(0xffff) as u16, bits.u(16)?.saturating_add(1).min(0xffff) as u16);
    Ok(sizes)
}

/// Whether frames of upper spatial layers of the same picture do without this one (the Z bit).
pub fn not_for_upper_layers(payload: &[u8]) -> Result<bool, Malformed> {
    Descriptor::parse(payload).map(|d| d.not_for_upper_layers)
}

/// Writes a picture id and a TL0PICIDX over those that the descriptor has; what it has not is not added, and the length stays.
/// Of a 7-bit picture id only the low seven bits are written.
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
    fn descriptors_read_as_rfc_9628_draws_them() {
        let id = |value, wide| Some(PictureId { value, wide });
        let start = FrameInfo { frame_start: true, ..FrameInfo::default() };
        let key = FrameInfo { keyframe: true, switching: Switching::Fresh(LayerSet::ALL), ..start };
        let above = |spatial, temporal| LayerSet::of(|limit| limit.spatial < spatial || limit.temporal < temporal);
        let table: &[(&[u8], FrameInfo)] = &[
            (&[0x08], key),
            (&[0x0c], FrameInfo { frame_end: true, ..key }),
            (&[0x48], start),
            (&[0x88, 0x05], FrameInfo { picture_id: id(5, false), ..key }),
            (&[0x88, 0x92, 0x34], FrameInfo { picture_id: id(0x1234, true), ..key }),
            // Non-flexible, T=2 U=1 S=1 D=1, TL0PICIDX 9: an upper layer of a keyframe is no place to start.
            (
                &[0xa8, 0x92, 0x34, 0x53, 9],
                FrameInfo {
                    picture_id: id(0x1234, true),
                    temporal: 2,
                    spatial: 1,
                    absent: above(1, 2),
                    switching: Switching::Spatial,
                    tl0_pic_idx: Some(9),
                    ..start
                },
            ),
            // Flexible, inter-predicted with two references; T=1 without U.
            (
                &[0xf8, 0x05, 0x20, 0x03, 0x04],
                FrameInfo { picture_id: id(5, false), temporal: 1, absent: above(0, 1), ..start },
            ),
            // A structure of two spatial layers with sizes and one picture with one reference.
            (&[0x0a, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 1, 0x04, 1], key),
        ];
        for (payload, want) in table {
            assert_eq!(describe(payload, false), Ok(*want), "{payload:x?}");
            for cut in 0..payload.len() {
                assert!(describe(&payload[..cut], false).is_err(), "{payload:x?} cut at {cut}");
            }
        }
        assert!(describe(&[0x50, 1, 1, 1, 1, 0], false).is_err(), "four references");
    }

    #[test]
    fn rewriting_keeps_width_and_adds_nothing() {
        let table: &[(&[u8], &[u8])] = &[
            (&[0xa8, 0x92, 0x34, 0x53, 1, 0xaa], &[0xa8, 0x80, 0x85, 0x53, 9, 0xaa]),
            (&[0xb8, 0x12, 0x53, 0xaa], &[0xb8, 0x05, 0x53, 0xaa]),
            (&[0x08, 0xaa], &[0x08, 0xaa]),
        ];
        for (before, after) in table {
            let mut payload = before.to_vec();
            rewrite(&mut payload, Some(0x0085), Some(9)).unwrap();
            assert_eq!(payload, *after);
        }
    }
}
