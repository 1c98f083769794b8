//! Packets of a stream in any order and of any content become frames, or nothing: without a panic, and within bounds.
//! Each packet: codec and marker (once: the first byte), steps of number, timestamp and time, length, payload.
#![no_main]
use exedra::record::{MediaPacket, Reception};
use exedra::rtp::codec::{self, Codec, H264Profile};
use exedra::rtp::packet::PacketInfo;
use exedra::rtp::SeqNo;
use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};

const CODECS: [Codec; 6] = [
    Codec::Opus,
    Codec::Red,
    Codec::Vp8,
    Codec::Vp9 { profile: 0 },
    Codec::Av1 { profile: 0 },
    Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 },
];

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let codec = CODECS[usize::from(first) % CODECS.len()];
    let mut reception = Reception::new(codec);
    let (mut now, mut seq, mut timestamp, mut sent) = (Instant::now(), 1u64 << 20, u32::MAX - 9_000, 0);
    while let Some((&[flags, step, wait, len], after)) = rest.split_first_chunk::<4>() {
        let (payload, after) = after.split_at(usize::from(len).min(after.len()));
        rest = after;
        now += Duration::from_millis(u64::from(wait) * 4);
        seq = seq.wrapping_add_signed(i64::from(step as i8 / 8).max(-9));
        timestamp = timestamp.wrapping_add(u32::from(flags >> 2) * 960);
        let marker = flags & 1 != 0;
        let Ok(frame) = codec::describe(codec, payload, marker, None) else { continue };
        let payload_len = payload.len() as u16;
        let extensions = Default::default();
        let info = PacketInfo { timestamp, marker, codec, header_len: 0, payload_len, frame, extensions };
        sent += payload.len();
        if flags & 2 != 0 && wait == 255 {
            reception.interrupt();
        }
        let _ = reception.handle_packet(now, MediaPacket { seq: SeqNo(seq), info: &info, captured_at: now, bytes: payload });
        seq += 1;
        reception.poll_keyframe_request(now);
    }
    reception.interrupt();
    let mut given = 0;
    while let Some(frame) = reception.poll_frame() {
        assert!(!frame.data.is_empty());
        given += frame.data.len();
    }
    // An OBU or a NAL unit of one byte gets a size of up to four more.
    assert!(given <= 5 * sent + 64, "{given} of {sent}");
});
