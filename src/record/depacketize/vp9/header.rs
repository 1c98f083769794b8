//! The uncompressed header of a VP9 frame (VP9 bitstream specification, section 6.2), read to its end: so that a frame can be hidden.
use super::super::Size;
use crate::record::bits::{Bits, BitsMut};
use crate::rtp::Malformed;

const SYNC_CODE: u32 = 0x49_83_42;

/// What a decoder keeps from frame to frame, as far as headers depend on it: how large the frames in its eight slots are.
#[derive(Clone, Debug, Default)]
pub struct References([Option<Size>; 8]);

/// What there is to know of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub keyframe: bool,
    pub shown: bool,
    pub size: Size,
    /// Where `show_frame` stands: bits from the frame's start.
    show_at: usize,
    /// Slots that the frame goes into.
    refresh: u32,
    /// Its length in bits, without those that fill the last byte.
    len: usize,
}

impl References {
    /// The frame was decoded.
    pub fn follow(&mut self, header: &Header) {
        for (slot, size) in self.0.iter_mut().enumerate() {
            if header.refresh >> slot & 1 == 1 {
                *size = Some(header.size);
            }
        }
    }
}

/// The header as far as a keyframe's size. `None`: no keyframe.
pub fn keyframe_size(frame: &[u8]) -> Result<Option<Size>, Malformed> {
    let mut bits = Bits::new(frame);
    let Some((profile, true)) = front(&mut bits)? else { return Ok(None) };
    bits.skip(2)?; // show_frame, error_resilient_mode
    sync_code(&mut bits)?;
    color_config(&mut bits, profile)?;
    size(&mut bits).map(Some)
}

/// The profile, and whether it is a keyframe. `None`: it shows a frame that was decoded before.
fn front(bits: &mut Bits<'_>) -> Result<Option<(u32, bool)>, Malformed> {
    if bits.u(2)? != 2 {
        return Err(Malformed("no VP9 frame marker"));
    }
    let profile = u32::from(bits.flag()?) + 2 * u32::from(bits.flag()?);
    if profile == 3 {
        bits.skip(1)?;
    }
    let shows_another = bits.flag()?;
    Ok(if shows_another { None } else { Some((profile, !bits.flag()?)) })
}

fn sync_code(bits: &mut Bits<'_>) -> Result<(), Malformed> {
    if bits.u(24)? == SYNC_CODE { Ok(()) } else { Err(Malformed("no sync code in a VP9 keyframe")) }
}

fn size(bits: &mut Bits<'_>) -> Result<Size, Malformed> {
    Ok(Size { width: bits.u(16)? + 1, height: bits.u(16)? + 1 })
}

/// Reads a frame's header. `None`: it shows a frame that was decoded before, and has nothing more to say.
pub fn read(frame: &[u8], known: &References) -> Result<Option<Header>, Malformed> {
    let mut bits = Bits::new(frame);
    let Some((profile, keyframe)) = front(&mut bits)? else { return Ok(None) };
    let show_at = bits.at();
    let (shown, resilient) = (bits.flag()?, bits.flag()?);
    let intra_only = !keyframe && !shown && bits.flag()?;
    if !keyframe && !resilient {
        bits.skip(2)?; // reset_frame_context
    }
    let (mut refresh, size);
    if keyframe || intra_only {
        sync_code(&mut bits)?;
        if keyframe || profile > 0 {
            color_config(&mut bits, profile)?;
        }
        refresh = 0xff;
        if intra_only {
            refresh = bits.u(8)?;
        }
        size = frame_size(&mut bits)?;
    } else {
        refresh = bits.u(8)?;
        size = size_with_refs(&mut bits, known)?;
        bits.skip(1)?; // allow_high_precision_mv
        if !bits.flag()? {
            bits.skip(2)?; // raw_interpolation_filter
        }
    }
    if !resilient {
        bits.skip(2)?; // refresh_frame_context, frame_parallel_decoding_mode
    }
    bits.skip(2)?; // frame_context_idx
    loop_filter(&mut bits)?;
    quantization(&mut bits)?;
    segmentation(&mut bits)?;
    tiles(&mut bits, size)?;
    bits.skip(16)?; // header_size_in_bytes
    Ok(Some(Header { keyframe, shown, size, show_at, refresh, len: bits.at() }))
}

impl Header {
    /// The same frame, decoded but not shown. The header of one that is no keyframe then says whether it is intra-only, which makes it one bit longer.
    pub fn hide(&self, frame: &[u8], out: &mut Vec<u8>) {
        let inserted = self.shown && !self.keyframe;
        let mut bits = Bits::new(frame);
        let mut header = BitsMut::new(out);
        for at in 0..self.len {
            let bit = bits.flag().unwrap_or_default();
            header.push(bit && at != self.show_at);
            // After show_frame and error_resilient_mode.
            if inserted && at == self.show_at + 1 {
                header.push(false);
            }
        }
        out.extend_from_slice(frame.get(self.len.div_ceil(8)..).unwrap_or_default());
    }
}

fn color_config(bits: &mut Bits<'_>, profile: u32) -> Result<(), Malformed> {
    const RGB: u32 = 7;
    if profile >= 2 {
        bits.skip(1)?; // ten_or_twelve_bit
    }
    let odd_profile = profile == 1 || profile == 3;
    if bits.u(3)? != RGB {
        bits.skip(if odd_profile { 4 } else { 1 }) // color_range; subsampling and a reserved bit
    } else if odd_profile {
        bits.skip(1)
    } else {
        Ok(())
    }
}

fn frame_size(bits: &mut Bits<'_>) -> Result<Size, Malformed> {
    let size = size(bits)?;
    render_size(bits)?;
    Ok(size)
}

fn render_size(bits: &mut Bits<'_>) -> Result<(), Malformed> {
    if bits.flag()? { bits.skip(32) } else { Ok(()) }
}

/// The three references, and the size: that of one of them, or one of its own.
fn size_with_refs(bits: &mut Bits<'_>, known: &References) -> Result<Size, Malformed> {
    let mut slots = [0; 3];
    for slot in &mut slots {
        *slot = bits.u(3)? as usize;
        bits.skip(1)?; // sign bias
    }
    for slot in slots {
        if bits.flag()? {
            let size = known.0[slot].ok_or(Malformed("a VP9 frame is as large as one that is not there"))?;
            render_size(bits)?;
            return Ok(size);
        }
    }
    frame_size(bits)
}

fn loop_filter(bits: &mut Bits<'_>) -> Result<(), Malformed> {
    bits.skip(9)?; // level, sharpness
    let has_deltas = bits.flag()?;
    if has_deltas && bits.flag()? {
        for _ in 0..4 + 2 {
            if bits.flag()? {
                bits.skip(7)?;
            }
        }
    }
    Ok(())
}

fn quantization(bits: &mut Bits<'_>) -> Result<(), Malformed> {
    bits.skip(8)?; // base_q_idx
    for _ in 0..3 {
        if bits.flag()? {
            bits.skip(5)?;
        }
    }
    Ok(())
}

fn segmentation(bits: &mut Bits<'_>) -> Result<(), Malformed> {
    if !bits.flag()? {
        return Ok(());
    }
    let probabilities = |bits: &mut Bits<'_>, n: u32| {
        (0..n).try_for_each(|_| if bits.flag()? { bits.skip(8) } else { Ok::<_, Malformed>(()) })
    };
    if bits.flag()? {
        probabilities(bits, 7)?;
        if bits.flag()? {
            probabilities(bits, 3)?;
        }
    }
    if bits.flag()? {
        bits.skip(1)?; // segmentation_abs_or_delta_update
        for _ in 0..8 {
            // Quantizer, loop filter, reference, skip: the bits of their values, with the signs of the first two.
            for value in [8 + 1, 6 + 1, 2, 0] {
                if bits.flag()? {
                    bits.skip(value)?;
                }
            }
        }
    }
    Ok(())
}

fn tiles(bits: &mut Bits<'_>, size: Size) -> Result<(), Malformed> {
    let columns = size.width.div_ceil(8).div_ceil(8);
    let least = (0..).find(|log2| 64 << log2 >= columns).unwrap_or(0);
    let most = (1..).find(|log2| columns >> log2 < 4).unwrap_or(1) - 1;
    for _ in least..most {
        if !bits.flag()? {
            break;
        }
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unusual_byte_groupings, reason = "bits are grouped by the fields that they make up")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bits of a header, as `(value, how many)`.
    fn frame(parts: &[(u32, u32)], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut bits = BitsMut::new(&mut out);
        for &(value, n) in parts {
            (0..n).rev().for_each(|at| bits.push(value >> at & 1 == 1));
        }
        [&out, body].concat()
    }

    /// What stands in each header behind the size: contexts, loop filter with two deltas, quantizer, segments, tiles of 960 pixels, length.
    const REST: [(u32, u32); 21] = [
        (0b01, 2), // refresh_frame_context, frame_parallel_decoding_mode
        (1, 2),
        (33, 6),
        (5, 3),
        (0b11, 2),
        (0b1000_0011, 8), // a delta of the first reference
        (0b0_0001, 5),    // and of the last mode
        (0b0000_011, 7),
        (120, 8),
        (0b0_0_1, 3),
        (0b1010_1, 5),
        (1, 1), // segmentation
        (0b1_0000000_0, 9),
        (1, 1),
        (0, 1),
        (0b1, 1), // the first segment's quantizer
        (0b0111_0000_1, 9),
        (0, 31),
        (0, 1), // tile columns, of at most two
        (0b10, 2),
        (77, 16),
    ];

    fn key(width: u32, height: u32) -> Vec<u8> {
        let front = [(0b10_00_0_0_1_0, 8), (SYNC_CODE, 24), (0b001_0, 4), (width - 1, 16), (height - 1, 16), (0, 1)];
        frame(&[&front, &REST[..]].concat(), &[0xaa, 0x55])
    }

    /// A frame that is predicted from slot 2, as large as that.
    fn inter() -> Vec<u8> {
        let front = [(0b10_00_0_1_1_0, 8), (0, 2), (0b0000_0110, 8), (0b010_0_000_0_000_0, 12), (0b1, 1), (0b0_1_1, 3)];
        frame(&[&front, &REST[..]].concat(), &[0xaa, 0x55])
    }

    #[test]
    fn headers_are_read_to_their_end() {
        let mut known = References::default();
        assert!(read(&inter(), &known).is_err(), "nobody knows how large it is");
        let key = key(960, 540);
        let read_key = read(&key, &known).unwrap().unwrap();
        assert_eq!((read_key.keyframe, read_key.shown, read_key.size), (true, true, Size { width: 960, height: 540 }));
        assert_eq!(read_key.len.div_ceil(8), key.len() - 2);
        known.follow(&read_key);
        let inter = inter();
        let read_inter = read(&inter, &known).unwrap().unwrap();
        assert_eq!((read_inter.keyframe, read_inter.refresh, read_inter.size), (false, 6, read_key.size));
        assert_eq!(read_inter.len.div_ceil(8), inter.len() - 2);
        assert_eq!(read(&[0b10_00_1_011], &known), Ok(None), "it shows another one");
    }

    #[test]
    fn hidden_frames_are_the_same_but_for_that() {
        let mut known = References::default();
        known.follow(&read(&key(960, 540), &known).unwrap().unwrap());
        for (shown, more) in [(key(960, 540), 0), (inter(), 1)] {
            let header = read(&shown, &known).unwrap().unwrap();
            let mut hidden = Vec::new();
            header.hide(&shown, &mut hidden);
            let want = Header { shown: false, len: header.len + more, ..header };
            assert_eq!(read(&hidden, &known).unwrap().unwrap(), want);
            assert_eq!(hidden[hidden.len() - 2..], [0xaa, 0x55]);
        }
    }

    proptest! {
        #[test]
        fn any_header_that_can_be_read_can_be_hidden(mut bytes in prop::collection::vec(any::<u8>(), 12..60), sync in any::<bool>()) {
            bytes[0] = 0x80 | bytes[0] & 0x07;
            if sync {
                // A keyframe of profile 0.
                bytes[0] &= 0xfb;
                bytes[1..4].copy_from_slice(&[0x49, 0x83, 0x42]);
            }
            let known = References([Some(Size { width: 1_280, height: 720 }); 8]);
            if let Ok(Some(header)) = read(&bytes, &known) {
                let mut hidden = Vec::new();
                header.hide(&bytes, &mut hidden);
                let longer = usize::from(header.shown && !header.keyframe);
                let again = read(&hidden, &known).unwrap().unwrap();
                prop_assert_eq!(&again, &Header { shown: false, len: header.len + longer, ..header.clone() });
                prop_assert_eq!(&hidden[again.len.div_ceil(8)..], &bytes[header.len.div_ceil(8)..]);
            }
        }
    }
}
