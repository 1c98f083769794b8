//! Recordings, proven with FFmpeg: it encodes, our recorder gets the RTP packets over a bad network, and FFmpeg reads the files.
//!
//! The film flashes and beeps once a second, so that sound and picture can be compared where they come out of the decoders.
#![allow(clippy::disallowed_methods, reason = "a test may read the clock")]
mod compose;
mod crash;
mod ffmpeg;
mod full;
mod hour;
mod publisher;
mod server;
mod service;

use exedra::record::heal::{Healed, heal};
use exedra::record::webm::{TrackCodec, extension};
use exedra::rtp::Codec;
use exedra::rtp::codec::H264Profile;
use ffmpeg::{Film, Probe};
use publisher::{Network, record};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const SECONDS: u32 = 5;
const VIDEO: [(Codec, &str); 4] = [
    (Codec::Vp8, "vp8"),
    (Codec::Vp9 { profile: 0 }, "vp9"),
    (Codec::Av1 { profile: 0 }, "av1"),
    (Codec::H264 { profile: H264Profile::ConstrainedBaseline, packetization_mode: 1 }, "h264"),
];

/// The film of each codec that most tests send, encoded once.
fn film(at: usize) -> &'static Film {
    static FILMS: [OnceLock<Film>; VIDEO.len()] = [const { OnceLock::new() }; VIDEO.len()];
    FILMS[at].get_or_init(|| Film::encode(&folder("films"), VIDEO[at].0, SECONDS, 160, 90))
}

/// The same, after another process has encoded it.
fn load_film(at: usize) -> Film {
    Film::load(&folder("films"), VIDEO[at].0, SECONDS, 160)
}

/// A directory of one test's own.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recording-{name}"));
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn save(folder: &Path, name: &str, codec: Codec, file: &[u8]) -> PathBuf {
    let tracks = [TrackCodec::of(codec), TrackCodec::of(Codec::Opus)];
    let path = folder.join(format!("{name}.{}", extension(&tracks)));
    std::fs::write(&path, file).unwrap();
    path
}

/// Both of FFmpeg's programs read it without a word, it is as long as it says, and sound and picture are in step.
fn assert_plays(path: &Path, codec: &str, want_ms: f64, tolerance_ms: f64) -> Probe {
    let probe = ffmpeg::probe(path);
    assert_eq!(probe.complaints, "", "{}", path.display());
    assert_eq!(ffmpeg::decode(path), "", "{}", path.display());
    assert_eq!(probe.codec("video"), codec);
    assert_eq!(probe.codec("audio"), "opus");
    assert!((probe.duration_ms - want_ms).abs() <= tolerance_ms, "{}: {} ms", path.display(), probe.duration_ms);
    let (flashes, beeps) = (ffmpeg::flashes(path), ffmpeg::beeps(path));
    assert!(flashes.len() >= 2 && beeps.len() >= 2, "{flashes:?} {beeps:?}");
    let mut compared = 0;
    for flash in flashes {
        // A flash that was lost has no beep of its own beside it; one that is there has.
        if let Some(beep) = beeps.iter().find(|beep| (*beep - flash).abs() < 400.0) {
            assert!((beep - flash).abs() < 40.0, "{}: flash {flash} ms, beep {beep} ms", path.display());
            compared += 1;
        }
    }
    assert!(compared >= 2, "{}", path.display());
    probe
}

#[test]
fn every_codec_is_recorded_frame_by_frame() {
    let folder = folder("codecs");
    for (at, (codec, name)) in VIDEO.into_iter().enumerate() {
        let film = film(at);
        let recorded = record(film, codec, &Network::perfect());
        let path = save(&folder, name, codec, &recorded.file);
        let probe = assert_plays(&path, name, f64::from(SECONDS) * 1_000.0, 60.0);
        assert_eq!(probe.frames("video"), film.pictures.len() as u64, "{name}");
        assert_eq!(probe.size(), (160, 90), "{name}");
        assert_eq!(recorded.summary.gaps, [], "{name}");
        assert!(
            recorded.summary.av_offset.is_some_and(|o| o.max_ms < 20.0),
            "{name}: {:?}",
            recorded.summary.av_offset
        );
        // It is what the encoder made, to the byte: decoded, each picture is the same.
        assert_eq!(ffmpeg::picture_hashes(&path), ffmpeg::picture_hashes(&film.original), "{name}");
    }
}

#[test]
fn a_network_that_reorders_and_repeats_changes_nothing() {
    let folder = folder("reordered");
    for (at, (codec, name)) in VIDEO.into_iter().enumerate() {
        let film = film(at);
        let recorded = record(film, codec, &Network { reorder: true, ..Network::perfect() });
        let path = save(&folder, name, codec, &recorded.file);
        let probe = assert_plays(&path, name, f64::from(SECONDS) * 1_000.0, 60.0);
        assert_eq!(probe.frames("video"), film.pictures.len() as u64, "{name}");
        assert_eq!(ffmpeg::picture_hashes(&path), ffmpeg::picture_hashes(&film.original), "{name}");
    }
}

#[test]
fn losses_leave_gaps_that_are_told_and_no_decoder_notices() {
    let folder = folder("losses");
    for (at, (codec, name)) in VIDEO.into_iter().enumerate() {
        let film = &Film::encode(&folder, codec, 2 * SECONDS, 160, 90);
        let network = Network { reorder: true, loss_percent: 2, seed: 11 + at as u64 };
        let recorded = record(film, codec, &network);
        let path = save(&folder, name, codec, &recorded.file);
        let probe = assert_plays(&path, name, f64::from(2 * SECONDS) * 1_000.0, 1_100.0);
        let video = recorded.summary.video.as_ref().unwrap();
        assert_eq!(probe.frames("video"), video.frames, "{name}");
        assert!(video.lost_packets > 0 && !recorded.summary.gaps.is_empty(), "{name}: {:?}", recorded.summary);
        assert!(video.frames < film.pictures.len() as u64, "{name}");
    }
}

#[test]
fn a_picture_that_changes_its_size_stays_in_one_file() {
    let folder = folder("sizes");
    for (codec, name) in VIDEO {
        let mut film = Film::encode(&folder, codec, 3, 160, 90);
        film.append(Film::encode(&folder, codec, 3, 320, 180));
        let recorded = record(&film, codec, &Network::perfect());
        let path = save(&folder, name, codec, &recorded.file);
        let probe = ffmpeg::probe(&path);
        assert_eq!(probe.complaints, "", "{name}");
        assert_eq!(ffmpeg::decode(&path), "", "{name}");
        assert_eq!(probe.frames("video"), film.pictures.len() as u64, "{name}");
        let sizes: Vec<_> =
            recorded.summary.video.unwrap().sizes.iter().map(|c| (c.size.width, c.size.height)).collect();
        assert_eq!(sizes, [(160, 90), (320, 180)], "{name}");
    }
}

#[test]
fn a_file_that_a_crash_cut_off_plays_and_is_healed() {
    let folder = folder("cut");
    for (at, (codec, name)) in VIDEO.into_iter().enumerate() {
        let film = film(at);
        let growing = record(film, codec, &Network::perfect()).growing;
        // At odd places in the last third: within a head, a block, a cluster.
        for part in [67, 74, 81, 93, 99] {
            let cut = growing.len() * part / 100 + part;
            let path = save(&folder, &format!("{name}-{part}"), codec, &growing[..cut]);
            // As it is, it plays to the end, where players say that it ends too soon.
            let frames = ffmpeg::probe(&path).frames("video");
            let mut file = Cursor::new(growing[..cut].to_vec());
            let Healed::Closed { duration, .. } = heal(&mut file).unwrap() else { panic!("{name} {part}") };
            let path = save(&folder, &format!("{name}-{part}-healed"), codec, file.get_ref());
            let probe = ffmpeg::probe(&path);
            assert_eq!(probe.complaints, "", "{name} {part}");
            assert_eq!(ffmpeg::decode(&path), "", "{name} {part}");
            assert!(
                (probe.duration_ms - duration as f64).abs() < 1.0,
                "{name} {part}: {} {duration}",
                probe.duration_ms
            );
            assert!(probe.frames("video") + 1 >= frames, "{name} {part}");
        }
    }
}
