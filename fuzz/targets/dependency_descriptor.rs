//! A row of descriptors of one stream: each with its length before it.
#![no_main]
use exedra::rtp::codec::{self, H264Profile};
use exedra::rtp::{Codec, dd};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let codec = Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 };
    let mut structures = dd::Structures::default();
    let mut rest = stream;
    while let Some((&len, after)) = rest.split_first() {
        let (value, after) = after.split_at(after.len().min(len.into()));
        rest = after;
        let Ok(descriptor) = structures.parse(value) else { continue };
        let frame = codec::describe(codec, &[0], false, Some(&descriptor)).expect("the payload is not read");
        assert!(frame.spatial <= 3 && frame.temporal <= 7 && descriptor.indications().count() <= 32);
        assert!(structures.targets().iter().all(|&(spatial, temporal)| spatial <= 3 && temporal <= 7));
        structures.resolution(frame.spatial);
        let mut copy = value.to_vec();
        dd::set_frame_number(&mut copy, 0x1234).expect("what can be read can be rewritten");
        assert_eq!(dd::Structures::clone(&structures).parse(&copy).map(|d| d.frame_number), Ok(0x1234));
    }
});
