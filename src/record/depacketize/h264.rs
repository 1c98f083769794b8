//! H.264 (RFC 6184): access units with a length before each NAL unit, and the parameter sets as `avcC`.
//!
//! Parameter sets also stay in the keyframes that bring them: a stream changes its size by new ones, and the file goes on.
use super::{Picture, Size, append};
use crate::record::bits::Bits;
use crate::rtp::Malformed;

const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const FILLER: u8 = 12;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// The parameter sets of a stream are some 40 bytes; more than this is not kept.
const MAX_PARAMETER_SET: usize = 256;

/// See [`super::Depacketizer`].
#[derive(Debug, Default)]
pub struct H264 {
    data: Vec<u8>,
    fragment: Option<Vec<u8>>,
    parameters: Parameters,
    /// What the picture has: an IDR slice, a sequence and a picture parameter set.
    idr: bool,
    has_sps: bool,
    has_pps: bool,
    /// Packets were lost since the last keyframe: parameter sets may have been among them.
    doubtful: bool,
}

/// Those that came last.
#[derive(Debug, Default)]
struct Parameters {
    sps: Option<(Sps, Vec<u8>)>,
    pps: Option<Vec<u8>>,
}

impl H264 {
    pub(super) fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (&header, rest) = payload.split_first().ok_or(Malformed("truncated"))?;
        match header & 0x1f {
            1..=23 => self.push_unit(payload),
            STAP_A => self.push_aggregate(rest),
            FU_A => self.push_fragment(header, rest),
            _ => Err(Malformed("a NAL unit of the interleaved mode")),
        }
    }

    /// A STAP-A (section 5.7.1).
    fn push_aggregate(&mut self, mut rest: &[u8]) -> Result<(), Malformed> {
        while !rest.is_empty() {
            let (size, after) = rest.split_first_chunk::<2>().ok_or(Malformed("truncated"))?;
            let size = usize::from(u16::from_be_bytes(*size));
            let (unit, after) = after.split_at_checked(size).ok_or(Malformed("NAL unit longer than its packet"))?;
            self.push_unit(unit)?;
            rest = after;
        }
        Ok(())
    }

    /// An FU-A (section 5.8).
    fn push_fragment(&mut self, indicator: u8, rest: &[u8]) -> Result<(), Malformed> {
        let (&header, rest) = rest.split_first().ok_or(Malformed("truncated"))?;
        let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
        let mut unit = match (self.fragment.take(), start) {
            (None, true) => vec![indicator & 0xe0 | header & 0x1f],
            (Some(begun), false) => begun,
            (None, false) => return Err(Malformed("a fragment without its beginning")),
            (Some(_), true) => return Err(Malformed("a fragment without its end")),
        };
        append(&mut unit, rest)?;
        if end {
            return self.push_unit(&unit);
        }
        self.fragment = Some(unit);
        Ok(())
    }

    fn push_unit(&mut self, unit: &[u8]) -> Result<(), Malformed> {
        let Some(header) = unit.first() else { return Ok(()) };
        match header & 0x1f {
            ACCESS_UNIT_DELIMITER | FILLER => return Ok(()),
            IDR => self.idr = true,
            SPS if unit.len() <= MAX_PARAMETER_SET => {
                self.parameters.sps = Some((Sps::parse(unit)?, unit.to_vec()));
                self.has_sps = true;
            }
            PPS if unit.len() <= MAX_PARAMETER_SET => {
                self.parameters.pps = Some(unit.to_vec());
                self.has_pps = true;
            }
            SPS | PPS => return Err(Malformed("a parameter set larger than is recorded")),
            _ => {}
        }
        append(&mut self.data, &(unit.len() as u32).to_be_bytes())?;
        append(&mut self.data, unit)
    }

    pub(super) fn finish(&mut self) -> Result<Picture, Malformed> {
        let data = std::mem::take(&mut self.data);
        let idr = std::mem::take(&mut self.idr);
        let fresh = std::mem::take(&mut self.has_sps) & std::mem::take(&mut self.has_pps);
        if self.fragment.take().is_some() || data.is_empty() {
            return Err(Malformed("an access unit that is not whole"));
        }
        // A sender that repeats no parameter sets is believed at its second keyframe after a loss.
        let trusted = fresh || !self.doubtful;
        self.doubtful &= !idr;
        let known = match &self.parameters {
            Parameters { sps: Some((parsed, sps)), pps: Some(pps) } if idr && trusted => Some((parsed, sps, pps)),
            _ => None,
        };
        let size = known.map(|(parsed, _, _)| parsed.size);
        let configuration = known.map(|(parsed, sps, pps)| parsed.configuration(sps, pps));
        Ok(Picture { data, keyframe: size.is_some(), size, configuration })
    }

    pub(super) fn discard(&mut self) {
        let parameters = std::mem::take(&mut self.parameters);
        *self = Self { parameters, doubtful: true, ..Self::default() };
    }
}

/// What a sequence parameter set tells (H.264 section 7.3.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sps {
    size: Size,
    /// chroma_format_idc, bit depths less 8: of the high profiles.
    chroma: Option<[u8; 3]>,
}

impl Sps {
    fn parse(unit: &[u8]) -> Result<Self, Malformed> {
        let raw = without_emulation_prevention(unit);
        let &[_, profile, _, _, ..] = &raw[..] else { return Err(Malformed("truncated")) };
        let bits = &mut Bits::new(&raw[4..]);
        bits.ue()?; // seq_parameter_set_id
        const HIGH: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
        let chroma = if HIGH.contains(&profile) { Some(chroma(bits)?) } else { None };
        bits.ue()?; // log2_max_frame_num_minus4
        skip_picture_order(bits)?;
        bits.ue()?; // max_num_ref_frames
        bits.skip(1)?;
        let (width, height) = (bits.ue()?.saturating_add(1), bits.ue()?.saturating_add(1));
        let frame_only = bits.flag()?;
        bits.skip(if frame_only { 1 } else { 2 })?;
        let crop = if bits.flag()? { [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?] } else { [0; 4] };
        let (unit_x, unit_y) = match chroma.map_or(1, |c| c[0]) {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let fields = if frame_only { 1 } else { 2 };
        let side = |blocks: u32, crop: [u32; 2], unit: u32| {
            let cropped = crop[0].saturating_add(crop[1]).saturating_mul(unit);
            blocks.saturating_mul(16).checked_sub(cropped).filter(|s| (1..=16_384).contains(s))
        };
        let width = side(width, [crop[0], crop[1]], unit_x);
        let height = side(height.saturating_mul(fields), [crop[2], crop[3]], unit_y * fields);
        match (width, height) {
            (Some(width), Some(height)) => Ok(Self { size: Size { width, height }, chroma }),
            _ => Err(Malformed("a picture of no sensible size")),
        }
    }

    /// `avcC` (ISO/IEC 14496-15 section 5.3.3.1.2), with lengths of four bytes.
    fn configuration(&self, sps: &[u8], pps: &[u8]) -> Vec<u8> {
        let mut out = vec![1, sps[1], sps[2], sps[3], 0xff, 0xe1];
        out.extend((sps.len() as u16).to_be_bytes());
        out.extend(sps);
        out.push(1);
        out.extend((pps.len() as u16).to_be_bytes());
        out.extend(pps);
        if let Some([format, luma, chroma]) = self.chroma
            && matches!(sps[1], 100 | 110 | 122 | 144)
        {
            out.extend([0xfc | format, 0xf8 | luma, 0xf8 | chroma, 0]);
        }
        out
    }
}

fn chroma(bits: &mut Bits<'_>) -> Result<[u8; 3], Malformed> {
    let format = bits.ue()?;
    if format > 3 {
        return Err(Malformed("chroma_format_idc beyond 3"));
    }
    if format == 3 {
        bits.skip(1)?;
    }
    let depths = [bits.ue()?, bits.ue()?];
    if depths.iter().any(|depth| *depth > 6) {
        return Err(Malformed("more than 14 bits a sample"));
    }
    bits.skip(1)?;
    if bits.flag()? {
        for list in 0..if format == 3 { 12 } else { 8 } {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Ok([format as u8, depths[0] as u8, depths[1] as u8])
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Result<(), Malformed> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = last.wrapping_add(bits.se()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Ok(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Result<(), Malformed> {
    match bits.ue()? {
        0 => bits.ue().map(drop),
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            let count = bits.ue()?;
            if count > 255 {
                return Err(Malformed("more than 255 frames in a picture order cycle"));
            }
            (0..count).try_for_each(|_| bits.se().map(drop))
        }
        _ => Ok(()),
    }
}

/// Without the 3 of each 0 0 3 (section 7.4.1).
fn without_emulation_prevention(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of x264, baseline, 160x90 (cropped from 96 lines).
    const SPS_160X90: [u8; 24] = [
        0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x02, 0x8d, 0xf9, 0x30, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03,
        0x00, 0x14, 0x0f, 0x12, 0x26, 0x48,
    ];
    const PPS_UNIT: [u8; 5] = [0x68, 0xcb, 0x83, 0xcb, 0x20];

    fn stap(units: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0x78];
        for unit in units {
            out.extend((unit.len() as u16).to_be_bytes());
            out.extend(*unit);
        }
        out
    }

    #[test]
    fn aggregates_and_fragments_become_an_access_unit() {
        let mut d = H264::default();
        d.push(&stap(&[&[0x09, 0xf0], &SPS_160X90, &PPS_UNIT])).unwrap();
        d.push(&[0x7c, 0x85, 0x88, 1]).unwrap();
        d.push(&[0x7c, 0x05, 2]).unwrap();
        d.push(&[0x7c, 0x45, 3]).unwrap();
        let picture = d.finish().unwrap();
        assert_eq!((picture.keyframe, picture.size), (true, Some(Size { width: 160, height: 90 })));
        let want = [&[0, 0, 0, 24][..], &SPS_160X90, &[0, 0, 0, 5], &PPS_UNIT, &[0, 0, 0, 5, 0x65, 0x88, 1, 2, 3]];
        assert_eq!(picture.data, want.concat());
        let avcc = [&[1, 0x42, 0xc0, 0x0a, 0xff, 0xe1, 0, 24][..], &SPS_160X90, &[1, 0, 5], &PPS_UNIT].concat();
        assert_eq!(picture.configuration, Some(avcc));
        d.push(&[0x41, 0x9a]).unwrap();
        assert!(!d.finish().unwrap().keyframe);
    }

    #[test]
    fn parameters_that_may_have_been_lost_are_not_guessed() {
        let mut d = H264::default();
        let idr = [0x65, 0x88];
        d.push(&idr).unwrap();
        assert!(!d.finish().unwrap().keyframe, "no parameters were seen");
        d.push(&stap(&[&SPS_160X90, &PPS_UNIT, &idr])).unwrap();
        assert!(d.finish().unwrap().keyframe);
        d.push(&idr).unwrap();
        assert!(d.finish().unwrap().keyframe, "they are known");
        d.discard();
        d.push(&idr).unwrap();
        assert!(!d.finish().unwrap().keyframe, "new ones may have been lost");
        d.push(&idr).unwrap();
        assert!(d.finish().unwrap().keyframe, "this sender repeats none");
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let mut d = H264::default();
        assert!(d.push(&[0x7c, 0x45, 3]).is_err());
        d.push(&[0x7c, 0x85, 0x88]).unwrap();
        assert!(d.finish().is_err());
        assert!(d.push(&stap(&[&SPS_160X90[..6]])).is_err(), "a cut parameter set");
        assert!(d.push(&[0x78, 0, 9, 1]).is_err());
    }
}
