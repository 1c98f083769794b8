//! Packets with any transport-wide number at any time: what the recorder writes is always read, and fits into datagrams.
#![no_main]
use exedra::rtp::rtcp::{self, Rtcp};
use exedra::rtp::{Ssrc, TwccRecorder};
use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};

fuzz_target!(|steps: &[u8]| {
    let mut recorder = TwccRecorder::new();
    let mut now = Instant::now();
    let (mut seq, mut out) = (0u16, Vec::new());
    for &[wait, jump, scale] in steps.as_chunks().0 {
        now += Duration::from_micros(u64::from(wait)) * 4u32.pow(u32::from(scale & 7));
        seq = seq.wrapping_add_signed(i16::from(jump as i8) << (scale >> 5));
        recorder.record(now, seq);
        if scale & 8 == 0 {
            continue;
        }
        out.clear();
        recorder.build_feedback(now, Ssrc(1), Ssrc(2), &mut out);
        for packet in rtcp::packets(&out) {
            let Ok(Rtcp::TransportFeedback(feedback)) = packet else { panic!("{packet:?}") };
            assert_eq!(feedback.arrivals().count(), usize::from(feedback.packet_count));
            assert!(feedback.packet_count <= 400);
        }
    }
});
