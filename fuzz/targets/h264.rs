//! No payload is too odd to be described or refused.
#![no_main]
use exedra::rtp::Codec;
use exedra::rtp::codec::{self, H264Profile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let codec = Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 };
    if let Ok(frame) = codec::describe(codec, payload, true, None) {
        assert!(frame.frame_end && (frame.frame_start || !frame.keyframe));
    }
});
