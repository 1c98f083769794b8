//! Whatever a file holds: healing it ends, and what is healed once is whole.
//! The input is what is put in place of a part of a growing file, or a file by itself.
#![no_main]
use exedra::record::heal::{Healed, heal};
use exedra::record::webm::{TrackCodec, TrackIndex, Writer};
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use std::time::{Duration, SystemTime};

fn growing() -> Vec<u8> {
    let tracks = [TrackCodec::H264, TrackCodec::Opus { channels: 2 }];
    let mut writer = Writer::new(Cursor::new(Vec::new()), &tracks, SystemTime::UNIX_EPOCH);
    for n in 0..60 {
        let at = Duration::from_millis(n * 50);
        writer.write(TrackIndex(usize::from(n % 3 != 0)), at, Duration::ZERO, n % 9 == 0, &[n as u8; 7]).unwrap();
    }
    writer.flush().unwrap();
    writer.get_ref().get_ref().clone()
}

fuzz_target!(|bytes: &[u8]| {
    let mut file = bytes.to_vec();
    if let Some((&[high, low, keep], patch)) = bytes.split_first_chunk::<3>()
        && keep & 1 == 0
    {
        file = growing();
        let at = usize::from(u16::from_be_bytes([high, low])) % file.len();
        let n = patch.len().min(file.len() - at);
        file[at..at + n].copy_from_slice(&patch[..n]);
        if keep & 2 != 0 {
            file.truncate(at + n);
        }
    }
    let mut file = Cursor::new(file);
    let before = file.get_ref().clone();
    match heal(&mut file).unwrap() {
        Healed::Closed { .. } => {
            assert_eq!(heal(&mut file).unwrap(), Healed::Whole);
        }
        Healed::Whole | Healed::Nothing => assert_eq!(*file.get_ref(), before),
    }
});
