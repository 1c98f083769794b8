//! Packets of two streams in any order and of any layers, and any wishes: no number stands for two packets, and each leads back to its own.
#![no_main]
use exedra::forward::{Forwarder, StreamKey, Target};
use exedra::rtp::codec::{FrameInfo, PictureId, Switching};
use exedra::rtp::layer::LayerSet;
use exedra::rtp::packet::{ExtensionSpans, PacketInfo};
use exedra::rtp::{Codec, Kind, LayerId, SeqNo};
use libfuzzer_sys::fuzz_target;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

const STREAMS: [StreamKey; 2] = [StreamKey { index: 1, generation: 1 }, StreamKey { index: 2, generation: 2 }];

fn set(bits: u16) -> LayerSet {
    let mut rest = bits;
    LayerSet::of(|_| {
        let bit = rest & 1 != 0;
        rest >>= 1;
        bit
    })
}

fn switching(kind: u8, bits: u16) -> Switching {
    match kind & 7 {
        0 => Switching::Temporal { from: bits as u8 & 7, to: (bits >> 8) as u8 & 7 },
        1 => Switching::Spatial,
        2 => Switching::To(set(bits)),
        3 => Switching::Fresh(set(bits)),
        _ => Switching::No,
    }
}

fuzz_target!(|steps: &[u8]| {
    let start = Instant::now();
    let mut now = start;
    let mut forwarder = Forwarder::new(Kind::Video, 3);
    let mut next = [SeqNo(40), SeqNo(70_000)];
    let mut mapped_to: HashMap<SeqNo, (StreamKey, SeqNo)> = HashMap::new();
    let mut came: HashSet<(usize, SeqNo)> = HashSet::new();
    let mut timestamp = [0u32; 2];
    for &[what, step, flags, layer, a, b, c, d] in steps.as_chunks::<8>().0 {
        let which = usize::from(what & 1);
        let stream = STREAMS[which];
        if what & 0x0e == 0 {
            let layers = LayerId { spatial: layer & 3, temporal: layer >> 2 & 7 };
            let target = (step & 7 != 0).then_some(Target { stream, layers });
            forwarder.set_target(target, flags & 1 != 0);
            if step == 8 {
                forwarder.pause();
            }
            continue;
        }
        // Mostly the next packet, sometimes far ahead or behind.
        let far = if what & 0x30 == 0 { i64::from(step as i8) << (what >> 6) } else { i64::from(step & 3) };
        let Some(seq) = next[which].0.checked_add_signed(far).map(SeqNo) else { continue };
        if !came.insert((which, seq)) {
            continue;
        }
        next[which] = next[which].max(seq);
        timestamp[which] = timestamp[which].wrapping_add(if flags & 1 != 0 { 3_000 } else { 0 });
        now += Duration::from_millis(u64::from(flags & 2));
        let codec = if flags & 4 != 0 { Codec::Vp8 } else { Codec::Av1 { profile: 0 } };
        let frame = FrameInfo {
            keyframe: flags & 0x18 == 0,
            frame_start: flags & 0x20 != 0,
            frame_end: flags & 0x40 != 0,
            spatial: layer & 7,
            temporal: layer >> 3 & 7,
            absent: set(u16::from_be_bytes([a, b])),
            switching: switching(what >> 4, u16::from_be_bytes([c, d])),
            top_spatial: c & 3,
            picture_id: (d & 1 != 0).then_some(PictureId { value: timestamp[which] as u16 & 0x7fff, wide: true }),
            frame_number: (d & 2 != 0).then_some(seq.0 as u16),
            ..FrameInfo::default()
        };
        let extensions = ExtensionSpans::default();
        let marker = flags & 0x80 != 0;
        let packet =
            PacketInfo { timestamp: timestamp[which], marker, codec, header_len: 12, payload_len: 9, frame, extensions };
        let Ok(mapped) = forwarder.map(stream, seq, &packet, now) else { continue };
        assert_eq!(mapped_to.insert(mapped.seq, (stream, seq)), None, "a number twice");
        assert!(forwarder.highest().is_some_and(|highest| mapped.seq <= highest));
        let origin = forwarder.origin(mapped.seq).expect("it was only just sent");
        assert_eq!((origin.stream, origin.seq, origin.filler), (stream, seq, mapped.filler));
        assert_eq!(origin.offsets, mapped.offsets);
        forwarder.awaits_keyframe();
    }
    for (out, packet) in mapped_to {
        let origin = forwarder.origin(out);
        assert!(origin.is_none_or(|o| (o.stream, o.seq) == packet));
    }
});
