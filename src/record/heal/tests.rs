use super::*;
use crate::record::webm::tests::{frames, sample};
use proptest::prelude::*;
use std::io::Cursor;

fn healed(file: &[u8]) -> (Healed, Vec<u8>) {
    let mut file = Cursor::new(file.to_vec());
    let healed = heal(&mut file).unwrap();
    (healed, file.into_inner())
}

#[test]
fn cut_anywhere_a_file_keeps_all_whole_frames() {
    let (file, written) = sample(4, false);
    let header = read::front(&mut Cursor::new(file.clone())).unwrap().unwrap().clusters as usize;
    let mut last = 0;
    for cut in 0..=file.len() {
        let torn = &file[..cut];
        let (outcome, closed) = healed(torn);
        if outcome == Healed::Nothing {
            assert!(cut < header + 200, "{cut}");
            assert_eq!(closed, torn);
            continue;
        }
        let Healed::Closed { duration, frames: count, .. } = outcome else { panic!("{cut}: {outcome:?}") };
        let (front, read) = frames(&closed);
        assert!(front.finished && front.complete && front.has_seek_head, "{cut}");
        assert_eq!(read[..], written[..read.len()], "{cut}");
        assert_eq!(count, read.len() as u64);
        // What the bytes hold is there: a frame is some 10 or 100 bytes, with what is around it.
        assert!(read.len() >= last, "{cut}");
        last = read.len();
        assert!((front.duration.unwrap() - duration as f64).abs() < 0.1);
        assert!(read.last().unwrap().1 <= duration as i64 && duration as i64 <= read.last().unwrap().1 + 120, "{cut}");
        assert_eq!(healed(&closed), (Healed::Whole, closed.clone()), "{cut}");
    }
    assert_eq!(last, written.len());
}

#[test]
fn healing_gives_what_finishing_would_have_given() {
    let (open, _) = sample(6, false);
    let (finished, _) = sample(6, true);
    assert_eq!(healed(&open).1, finished);
    assert_eq!(healed(&finished).0, Healed::Whole);
    // A finished file of which the end is missing.
    let cut = &finished[..finished.len() - 400];
    assert!(matches!(healed(cut).0, Healed::Closed { .. }));
}

#[test]
fn an_interrupted_healing_is_finished_by_the_next() {
    let (open, _) = sample(4, false);
    let torn = &open[..open.len() - 777];
    let (_, want) = healed(torn);
    // A disk on which only the first writes succeed.
    struct Failing(Cursor<Vec<u8>>, usize);
    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }
    impl Seek for Failing {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.1);
            self.1 -= n;
            if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { self.0.write(&bytes[..n]) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Cut for Failing {
        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.0.cut(len)
        }
    }
    let mut interrupted = 0;
    for bytes in 0..400 {
        let mut disk = Failing(Cursor::new(torn.to_vec()), bytes);
        interrupted += u32::from(heal(&mut disk).is_err());
        let (outcome, again) = healed(disk.0.get_ref());
        assert_ne!(outcome, Healed::Nothing, "{bytes}");
        assert_eq!(again, want, "{bytes}");
    }
    assert!(interrupted > 100);
}

#[test]
fn what_follows_the_last_cluster_is_cut_off() {
    let (file, written) = sample(3, false);
    for tail in [vec![0; 5_000], vec![0xff; 5_000], b"\x1f\x43\xb6\x75\x84\xe7\x81\x05\xa3".to_vec()] {
        let (_, closed) = healed(&[&file[..], &tail].concat());
        assert_eq!(frames(&closed).1, written);
        assert_eq!(closed, healed(&file).1);
    }
}

/// Found by fuzzing: all entries were made void, and what was left was no file.
#[test]
fn frames_of_tracks_that_no_entry_names_are_none() {
    let (mut file, _) = sample(3, false);
    let front = read::front(&mut Cursor::new(file.clone())).unwrap().unwrap();
    for entry in &front.tracks {
        let number = file[entry.at as usize..].windows(2).position(|two| two == [0xd7, 0x81]).unwrap();
        file[entry.at as usize + number + 2] = 9;
    }
    assert_eq!(healed(&file), (Healed::Nothing, file.clone()));
}

/// A duration that has no place would be written over the tracks.
#[test]
fn a_file_without_a_place_for_its_duration_is_left_alone() {
    let (mut file, _) = sample(3, false);
    let front = read::front(&mut Cursor::new(file.clone())).unwrap().unwrap();
    let (info, tracks) = (front.places.info as usize, front.places.tracks as usize);
    // An Info of ten bytes, one less than a duration has; the space up to the tracks is another Info's.
    file[info + 4] = 0x8a;
    let filler = &mut file[info + 15..tracks];
    assert!(filler.len() > 5);
    filler[..4].copy_from_slice(&[0x15, 0x49, 0xa9, 0x66]);
    filler[4] = 0x80 | (filler.len() as u8 - 5);
    assert_eq!(healed(&file), (Healed::Nothing, file.clone()));
}

proptest! {
    #[test]
    fn any_damage_is_survived(at in 0usize..8_000, bytes in prop::collection::vec(any::<u8>(), 1..40), cut in 0usize..8_000) {
        let (mut file, _) = sample(3, cut % 2 == 0);
        file.truncate(file.len() - cut % 2_000);
        let at = at % file.len();
        let n = bytes.len().min(file.len() - at);
        file[at..at + n].copy_from_slice(&bytes[..n]);
        let (outcome, closed) = healed(&file);
        if matches!(outcome, Healed::Closed { .. }) {
            prop_assert_eq!(healed(&closed).0, Healed::Whole);
        }
    }
}
