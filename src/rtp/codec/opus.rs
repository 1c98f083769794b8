//! Opus (RFC 7587), and redundant audio around it (RED, RFC 2198).
//!
//! Across a change of source an Opus decoder needs nothing but sequence numbers and timestamps that go on. With RED, redundant
//! blocks of the first packets may repeat what the old source never sent; receivers drop them by their timestamps. RED blocks
//! name their payload types, which differ between connections: [`rewrite_red`].
use super::{FrameInfo, Switching};
use crate::rtp::layer::LayerSet;
use crate::rtp::{Malformed, PayloadType, read};

/// What every audio packet is: a frame that can be decoded by itself.
pub(super) const FRAME: FrameInfo = FrameInfo {
    keyframe: true,
    idr_without_parameters: false,
    frame_start: true,
    frame_end: true,
    spatial: 0,
    temporal: 0,
    absent: LayerSet::NONE,
    switching: Switching::No,
    top_spatial: 0,
    discardable: false,
    picture_id: None,
    tl0_pic_idx: None,
    frame_number: None,
};

/// More blocks than anybody sends; a bound on the work for one packet.
const MAX_BLOCKS: usize = 32;

/// One block of a RED packet (RFC 2198 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedBlock<'a> {
    pub payload_type: PayloadType,
    /// How many ticks before the packet's timestamp this block begins: 0 to 16383.
    pub timestamp_offset: u16,
    pub data: &'a [u8],
    /// The last block: the new audio. The others repeat older audio.
    pub is_primary: bool,
}

/// The blocks of a RED payload, oldest first, the primary last. Ends after an error.
pub fn red_blocks(payload: &[u8]) -> RedBlocks<'_> {
    RedBlocks { payload, header: 0, data: red_data_start(payload) }
}

/// Where the headers end.
fn red_data_start(payload: &[u8]) -> Result<usize, Malformed> {
    for n in 0..MAX_BLOCKS {
        if read::u8(payload, 4 * n)? & 0x80 == 0 {
            return Ok(4 * n + 1);
        }
    }
    Err(Malformed("too many RED blocks"))
}

/// Iterator of [`red_blocks`].
#[derive(Clone, Debug)]
pub struct RedBlocks<'a> {
    payload: &'a [u8],
    header: usize,
    /// Where the data of the next block begins.
    data: Result<usize, Malformed>,
}

impl<'a> Iterator for RedBlocks<'a> {
    type Item = Result<RedBlock<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.header >= self.payload.len() {
            return None;
        }
        let block = self.data.and_then(|data| self.block(data));
        if block.is_err() {
            self.header = self.payload.len();
        }
        Some(block)
    }
}

impl<'a> RedBlocks<'a> {
    fn block(&mut self, data: usize) -> Result<RedBlock<'a>, Malformed> {
        let payload = self.payload;
        let first = read::u8(payload, self.header)?;
        let payload_type = PayloadType::from_low_bits(first);
        if first & 0x80 == 0 {
            self.header = payload.len();
            let data = payload.get(data..).ok_or(Malformed("truncated"))?;
            return Ok(RedBlock { payload_type, timestamp_offset: 0, data, is_primary: true });
        }
        let bits = read::u32(payload, self.header)?;
        let end = data + (bits & 0x3ff) as usize;
        let timestamp_offset = (bits >> 10 & 0x3fff) as u16;
        let block = payload.get(data..end).ok_or(Malformed("RED block longer than its packet"))?;
        self.header += 4;
        self.data = Ok(end);
        Ok(RedBlock { payload_type, timestamp_offset, data: block, is_primary: false })
    }
}

/// The primary block: what to send to a receiver without RED.
pub fn red_primary(payload: &[u8]) -> Result<RedBlock<'_>, Malformed> {
    let mut primary = Err(Malformed("RED without a block"));
    for block in red_blocks(payload) {
        primary = Ok(block?);
    }
    primary
}

/// Writes each block's payload type as `map` says. When it knows none for a block, or the packet is malformed, the payload is
/// left as it was.
pub fn rewrite_red(payload: &mut [u8], map: impl Fn(PayloadType) -> Option<PayloadType>) -> Result<(), Malformed> {
    for block in red_blocks(payload) {
        map(block?.payload_type).ok_or(Malformed("RED block of an unknown payload type"))?;
    }
    let headers = red_data_start(payload)?;
    for byte in payload.iter_mut().take(headers).step_by(4) {
        if let Some(to) = map(PayloadType::from_low_bits(*byte)) {
            *byte = *byte & 0x80 | to.value();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pt(n: u8) -> PayloadType {
        n.try_into().unwrap()
    }

    fn red(redundant: &[(u8, u16, Vec<u8>)], primary: (u8, &[u8])) -> Vec<u8> {
        let mut out = Vec::new();
        for (pt, offset, data) in redundant {
            out.extend(
                (0x8000_0000 | u32::from(*pt) << 24 | u32::from(*offset) << 10 | data.len() as u32).to_be_bytes(),
            );
        }
        out.push(primary.0);
        redundant.iter().for_each(|(_, _, data)| out.extend(data));
        out.extend(primary.1);
        out
    }

    #[test]
    fn bad_blocks_are_refused() {
        assert_eq!(red_primary(&[]), Err(Malformed("RED without a block")));
        for bad in
            [&[0x80][..], &[0xef, 0, 0, 5], &[0xef, 0, 0, 5, 111], &[0xef, 0, 0, 5, 111, 1, 2, 3, 4], &[0x80; 200]]
        {
            assert!(red_primary(bad).is_err(), "{bad:x?}");
            let mut copy = bad.to_vec();
            assert!(rewrite_red(&mut copy, |_| Some(pt(1))).is_err());
            assert_eq!(copy, bad);
        }
        // An empty primary is DTX.
        assert_eq!(red_primary(&[111]).map(|b| (b.payload_type, b.data.len())), Ok((pt(111), 0)));
        let mut unknown = red(&[(5, 960, vec![1])], (111, &[2]));
        let before = unknown.clone();
        assert!(rewrite_red(&mut unknown, |p| (p == pt(111)).then_some(pt(96))).is_err());
        assert_eq!(unknown, before);
    }

    proptest! {
        #[test]
        fn blocks_read_back(
            redundant in prop::collection::vec((0..128u8, 0..16384u16, prop::collection::vec(any::<u8>(), 0..60)), 0..5),
            primary in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut packet = red(&redundant, (111, &primary));
            let blocks: Vec<_> = red_blocks(&packet).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(blocks.len(), redundant.len() + 1);
            for (block, (p, offset, data)) in blocks.iter().zip(&redundant) {
                prop_assert_eq!(*block, RedBlock { payload_type: pt(*p), timestamp_offset: *offset, data, is_primary: false });
            }
            prop_assert_eq!(red_primary(&packet).unwrap().data, &primary[..]);
            rewrite_red(&mut packet, |_| Some(pt(97))).unwrap();
            let renamed: Vec<_> = redundant.iter().map(|(_, o, d)| (97, *o, d.clone())).collect();
            prop_assert_eq!(packet, red(&renamed, (97, &primary)));
        }
    }
}
