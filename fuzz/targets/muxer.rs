//! Whatever frames a recording has: a file of them reads back as it was written, and one that was torn anywhere holds, once it is healed, what was
//! written up to there. The input is the frames, and where it is torn.
#![no_main]
use exedra::record::heal::{Healed, heal};
use exedra::record::webm::read;
use exedra::record::webm::{TrackCodec, TrackIndex, Writer};
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use std::time::{Duration, SystemTime};

const TRACKS: [&[TrackCodec]; 4] = [
    &[TrackCodec::Vp8, TrackCodec::Opus { channels: 2 }],
    &[TrackCodec::H264, TrackCodec::Opus { channels: 1 }],
    &[TrackCodec::Opus { channels: 2 }],
    &[TrackCodec::Av1],
];

/// Track, milliseconds, keyframe, bytes.
type Frame = (usize, i64, bool, Vec<u8>);

fn frames(file: &[u8]) -> Vec<Frame> {
    let mut file = Cursor::new(file.to_vec());
    let mut all = Vec::new();
    let Some(front) = read::front(&mut file).unwrap() else { return all };
    let mut at = front.clusters;
    while let Some(cluster) = read::cluster(&mut file, at).unwrap() {
        all.extend(cluster.blocks().map(|(b, _)| (b.track.0, b.time, b.keyframe, b.data.to_vec())));
        at = cluster.end();
    }
    all
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[kind, high, low], ops)) = bytes.split_first_chunk() else { return };
    let tracks = TRACKS[usize::from(kind) % TRACKS.len()];
    let mut writer = Writer::new(Cursor::new(Vec::new()), tracks, SystemTime::UNIX_EPOCH);
    let mut written: Vec<Frame> = Vec::new();
    let mut flushed = 0;
    let mut last = [0u64; 2];
    for (n, op) in ops.chunks_exact(3).enumerate() {
        let [what, step, length] = [op[0], op[1], op[2]];
        if what & 0xf0 == 0xf0 {
            writer.flush().unwrap();
            flushed = written.len();
            continue;
        }
        let track = usize::from(what & 1) % tracks.len();
        // Up to 2 s, and now and then a minute.
        let ms = if what & 0x0e == 0x0e { 60_000 } else { u64::from(step) * 8 };
        // No track is far ahead of the other.
        last[track] = (last[track] + ms).max(last[1 - track].saturating_sub(500));
        // A few bytes, or some tens of kilobytes: with lengths of one to three bytes.
        let data = vec![n as u8; usize::from(length) * if what & 0x10 == 0 { 1 } else { 300 }];
        let keyframe = what & 0x20 != 0 || !tracks[track].is_video();
        writer.write(TrackIndex(track), Duration::from_millis(last[track]), Duration::ZERO, keyframe, &data).unwrap();
        written.push((track, last[track] as i64, keyframe, data));
    }
    let growing = frames(writer.get_ref().get_ref());
    assert!(growing.len() >= flushed && written.starts_with(&growing));

    let torn = {
        let file = writer.get_ref().get_ref();
        let at = usize::from(u16::from_be_bytes([high, low]));
        file[..at % (file.len() + 1)].to_vec()
    };
    let mut healed = Cursor::new(torn);
    let whole = frames(healed.get_ref());
    let outcome = heal(&mut healed).unwrap();
    assert!(matches!(outcome, Healed::Closed { .. }) == !whole.is_empty());
    assert_eq!(frames(healed.get_ref()), whole);

    let (file, length) = writer.finish().unwrap();
    assert_eq!(length, file.get_ref().len() as u64);
    assert_eq!(frames(file.get_ref()), written);
    let mut file = file;
    assert_eq!(heal(&mut file).unwrap(), if written.is_empty() { Healed::Nothing } else { Healed::Whole });
});
