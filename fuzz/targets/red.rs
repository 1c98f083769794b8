//! The blocks of a RED packet lie within it, and keep their place when their payload types are rewritten.
#![no_main]
use exedra::rtp::PayloadType;
use exedra::rtp::codec::opus;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let to = PayloadType::try_from(96).expect("96 is a payload type");
    let mut copy = payload.to_vec();
    let rewritten = opus::rewrite_red(&mut copy, |_| Some(to));
    let Ok(primary) = opus::red_primary(payload) else {
        assert!(rewritten.is_err() && copy == payload);
        return;
    };
    assert!(rewritten.is_ok() && payload.ends_with(primary.data));
    let sizes =
        |p: &[u8]| opus::red_blocks(p).map(|b| b.map(|b| (b.data.len(), b.timestamp_offset))).collect::<Vec<_>>();
    assert_eq!(sizes(payload), sizes(&copy));
    assert!(opus::red_blocks(&copy).all(|b| b.is_ok_and(|b| b.payload_type == to)));
});
