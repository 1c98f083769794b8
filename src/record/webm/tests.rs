use super::read::{self, Front};
use super::*;
use proptest::prelude::*;
use std::io::Cursor;

const VIDEO: TrackIndex = TrackIndex(0);
const AUDIO: TrackIndex = TrackIndex(1);
const TRACKS: [TrackCodec; 2] = [TrackCodec::Vp8, TrackCodec::Opus { channels: 2 }];

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn began() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// Track, time, keyframe, data.
pub type Frame = (usize, i64, bool, Vec<u8>);

pub fn frames(file: &[u8]) -> (Front, Vec<Frame>) {
    let mut file = Cursor::new(file.to_vec());
    let front = read::front(&mut file).unwrap().expect("a front");
    let mut all = Vec::new();
    let mut at = front.clusters;
    while let Some(cluster) = read::cluster(&mut file, at).unwrap() {
        all.extend(cluster.blocks().map(|(b, _)| (b.track.0, b.time, b.keyframe, b.data.to_vec())));
        if !cluster.complete {
            break;
        }
        at = cluster.end();
    }
    (front, all)
}

/// Seconds of video at 10 frames a second with a keyframe every 2 s, and audio of 20 ms, each frame's bytes its own.
pub fn sample(seconds: u64, finish: bool) -> (Vec<u8>, Vec<Frame>) {
    let mut writer = Writer::new(Cursor::new(Vec::new()), &TRACKS, began());
    let mut written = Vec::new();
    for n in 0..seconds * 50 {
        if n % 5 == 0 {
            let keyframe = n % 100 == 0;
            let data = vec![n as u8; 90];
            if keyframe {
                writer.describe(VIDEO, Some(Size { width: 160, height: 90 }), None).unwrap();
            }
            writer.write(VIDEO, ms(n * 20), Duration::ZERO, keyframe, &data).unwrap();
            written.push((0, n as i64 * 20, keyframe, data));
        }
        let data = vec![0xfc, n as u8, 1];
        writer.write(AUDIO, ms(n * 20), ms(20), true, &data).unwrap();
        written.push((1, n as i64 * 20, true, data));
    }
    if !finish {
        writer.flush().unwrap();
        return (writer.get_ref().get_ref().clone(), written);
    }
    let (file, length) = writer.finish().unwrap();
    assert_eq!(length, file.get_ref().len() as u64);
    (file.into_inner(), written)
}

#[test]
fn a_file_reads_back_as_written() {
    let (file, written) = sample(7, true);
    let (front, read) = frames(&file);
    assert_eq!(read, written);
    assert!(front.finished && front.complete && front.has_seek_head);
    assert_eq!(front.duration, Some(7_000.0));
    let video = &front.tracks[0];
    assert_eq!((video.codec.as_str(), video.width, video.height, video.is_video), ("V_VP8", 160, 90, true));
    assert_eq!(front.tracks[1].configuration.as_ref().map(Vec::len), Some(19));
}

#[test]
fn a_growing_file_is_readable_and_says_that_it_is_not_finished() {
    let (file, written) = sample(3, false);
    let (front, read) = frames(&file);
    assert_eq!(read, written);
    assert!(!front.finished && front.duration.is_none() && !front.has_seek_head);
}

#[test]
fn clusters_are_short_and_begin_at_keyframes() {
    let (file, _) = sample(7, true);
    let mut file = Cursor::new(file);
    let mut at = read::front(&mut file).unwrap().unwrap().clusters;
    let mut times = Vec::new();
    while let Some(cluster) = read::cluster(&mut file, at).unwrap() {
        let keyframes: Vec<_> =
            cluster.blocks().enumerate().filter(|(_, (b, _))| b.track == VIDEO && b.keyframe).collect();
        assert!(keyframes.iter().all(|(n, _)| *n == 0));
        assert!(cluster.blocks().all(|(b, _)| b.time - cluster.time < 1_000));
        times.push(cluster.time);
        at = cluster.end();
    }
    assert_eq!(times, [0, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000]);
}

#[test]
fn what_is_learnt_late_is_written_over_its_place() {
    let tracks = [TrackCodec::H264, TrackCodec::Opus { channels: 2 }];
    let mut writer = Writer::new(Cursor::new(Vec::new()), &tracks, began());
    writer.write(AUDIO, ms(0), ms(20), true, &[0xfc, 1]).unwrap();
    writer.flush().unwrap();
    let (front, _) = frames(writer.get_ref().get_ref());
    assert_eq!((front.tracks[0].width, &front.tracks[0].configuration), (16, &None));
    let configuration: Vec<u8> = (0..200).collect();
    writer.describe(VIDEO, Some(Size { width: 1280, height: 720 }), Some(&configuration)).unwrap();
    writer.write(VIDEO, ms(20), Duration::ZERO, true, &[1, 2, 3]).unwrap();
    writer.describe(VIDEO, Some(Size { width: 640, height: 360 }), Some(&[9])).unwrap();
    let (file, _) = writer.finish().unwrap();
    let (front, read) = frames(file.get_ref());
    let video = &front.tracks[0];
    assert_eq!((video.width, video.height, video.configuration.as_ref()), (1280, 720, Some(&configuration)));
    assert_eq!(read.len(), 2);
}

#[test]
fn a_track_without_a_frame_is_taken_out_and_a_file_without_any_is_not_written() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), &TRACKS, began());
    writer.write(AUDIO, ms(0), ms(20), true, &[0xfc, 1]).unwrap();
    let (file, _) = writer.finish().unwrap();
    let (front, read) = frames(file.get_ref());
    assert_eq!((front.tracks.len(), front.tracks[0].number, read.len()), (1, 2, 1));
    let (file, length) = Writer::new(Cursor::new(Vec::new()), &TRACKS, began()).finish().unwrap();
    assert_eq!((file.get_ref().len(), length), (0, 0));
}

#[test]
fn h264_makes_it_matroska() {
    assert_eq!(extension(&TRACKS), "webm");
    assert_eq!(extension(&[TrackCodec::H264]), "mkv");
}

proptest! {
    #[test]
    fn any_frames_read_back(
        frames_in in prop::collection::vec(
            (0usize..2, 0u64..40_000, any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), 0..9u8), 1..60)
    ) {
        let mut writer = Writer::new(Cursor::new(Vec::new()), &TRACKS, began());
        let mut written = Vec::new();
        for (track, at, keyframe, data, then) in frames_in {
            writer.write(TrackIndex(track), ms(at), Duration::ZERO, keyframe, &data).unwrap();
            written.push((track, at as i64, keyframe, data));
            if then == 0 {
                writer.flush().unwrap();
            }
        }
        let (file, _) = writer.finish().unwrap();
        let (front, read) = frames(file.get_ref());
        prop_assert_eq!(read, written);
        prop_assert!(front.complete);
    }

    #[test]
    fn reading_garbage_ends(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0usize..3_000, xor in 1u8..) {
        let _ = read::front(&mut Cursor::new(bytes.clone()));
        let _ = read::cluster(&mut Cursor::new(bytes), 0);
        let (mut file, _) = sample(2, at % 2 == 0);
        let at = at % file.len();
        file[at] ^= xor;
        let mut file = Cursor::new(file);
        if let Some(front) = read::front(&mut file).unwrap() {
            let mut at = front.clusters;
            while let Some(cluster) = read::cluster(&mut file, at).unwrap() {
                let _ = cluster.blocks().count();
                prop_assert!(cluster.end() > at);
                at = cluster.end();
            }
        }
    }
}
