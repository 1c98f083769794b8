//! The sizes that keyframes tell: of any payload of any codec.
#![no_main]
use exedra::rtp::Codec;
use exedra::rtp::codec::{H264Profile, resolution};
use exedra::rtp::dd::Structures;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let h264 = Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 };
    for codec in [Codec::Vp8, Codec::Vp9 { profile: 0 }, Codec::Av1 { profile: 0 }, h264] {
        let sizes = resolution::sizes(codec, payload, &Structures::default());
        assert!(sizes.is_none_or(|s| s.iter().any(|(width, height)| *width > 0 && *height > 0)));
    }
});
