//! A descriptor that can be read can be rewritten, and reads the same afterwards but for the ids.
#![no_main]
use exedra::rtp::Codec;
use exedra::rtp::codec::{self, FrameInfo, PictureId, vp9};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let Ok(frame) = codec::describe(Codec::Vp9 { profile: 0 }, payload, false, None) else { return };
    let mut copy = payload.to_vec();
    vp9::rewrite(&mut copy, Some(0x7fff), Some(0xa5)).expect("what can be read can be rewritten");
    let after = codec::describe(Codec::Vp9 { profile: 0 }, &copy, false, None).expect("what was rewritten can be read");
    let picture_id = frame.picture_id.map(|id| PictureId { value: if id.wide { 0x7fff } else { 0x7f }, wide: id.wide });
    assert_eq!(after, FrameInfo { picture_id, tl0_pic_idx: frame.tl0_pic_idx.map(|_| 0xa5), ..frame });
});
