//! No payload is too odd to be described or refused.
#![no_main]
use exedra::rtp::Codec;
use exedra::rtp::codec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let codec = Codec::Av1 { profile: 0 };
    if let Ok(frame) = codec::describe(codec, payload, true, None) {
        assert!(frame.frame_end && (frame.frame_start || !frame.keyframe));
    }
});
