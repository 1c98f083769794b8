//! A subscriber whose feedback says anything about what was sent, at any time: the estimate stays within its bounds, and its timers move on.
#![no_main]
use exedra::egress::bandwidth::{Bandwidth, MAX_BPS, MIN_BPS, Purpose};
use exedra::egress::pacer::{Class, Item, Pacer};
use exedra::rtp::rtcp::{self, Rtcp};
use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};

fuzz_target!(|data: &[u8]| {
    let (mut bandwidth, mut pacer, mut now) = (Bandwidth::new(), Pacer::new(), Instant::now());
    let (mut items, mut sent) = (vec![], 0u16);
    for chunk in data.chunks(40) {
        let [wait, packets, size, kind, rest @ ..] = chunk else { break };
        now += Duration::from_micros(u64::from(*wait)) * 4u32.pow(u32::from(kind & 7));
        for _ in 0..packets & 31 {
            let class = [Class::Audio, Class::Repair, Class::Video][usize::from(*packets) % 3];
            let _ = pacer.push(now, class, usize::from(*size) * 6, ());
        }
        pacer.poll(now, &mut bandwidth, &mut items);
        for item in items.drain(..) {
            let bytes = if let Item::Padding { bytes } = item { bytes } else { usize::from(*size) * 6 };
            sent = bandwidth.handle_sent(now, bytes, Purpose::Media);
        }
        let number = rest.iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        match kind >> 5 {
            0 => _ = bandwidth.handle_remb(now, number),
            1 => bandwidth.set_goal(now, number, number.rotate_left(9)),
            2 => _ = bandwidth.handle_report(now, u32::from(*size), number),
            3 => bandwidth.handle_rtt(Duration::from_micros(number)),
            _ => {
                // A feedback whose base is near what was sent last, or anywhere; what it says stands in the input.
                let base = if kind & 8 == 0 { sent.wrapping_sub(u16::from(*packets & 31)) } else { number as u16 };
                let count = if kind & 16 == 0 { u16::from(*packets & 31) + 1 } else { number as u16 >> 3 };
                let mut bytes = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
                bytes.extend(base.to_be_bytes());
                bytes.extend(count.to_be_bytes());
                bytes.extend(rest.iter().copied().cycle().take(if rest.is_empty() { 0 } else { 4 + 36 }));
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                let words = bytes.len() as u16 / 4 - 1;
                bytes[2..4].copy_from_slice(&words.to_be_bytes());
                for packet in rtcp::packets(&bytes).flatten() {
                    if let Rtcp::TransportFeedback(feedback) = packet {
                        let _ = bandwidth.handle_feedback(now, &feedback);
                    }
                }
            }
        }
        if let Some(at) = bandwidth.poll_timeout().filter(|at| *at <= now) {
            bandwidth.handle_timeout(now);
            assert!(bandwidth.poll_timeout().is_none_or(|next| next > at));
        }
        let estimate = bandwidth.estimate();
        assert!((MIN_BPS..=MAX_BPS).contains(&estimate.bps) && (MIN_BPS..=MAX_BPS).contains(&estimate.pacing_bps));
        assert!((0.0..=1.0).contains(&estimate.loss));
        assert!(pacer.queued_bytes() < 4 << 20);
    }
});
