//! A disk that is really full: a small file system of memory, in a mount namespace of the test's own.
use crate::ffmpeg;
use crate::publisher::packets;
use crate::{VIDEO, film, folder, load_film};
use exedra::ids::{ParticipantId, TrackId};
use exedra::record::disk::{Folder, heal_session};
use exedra::record::manifest::{Content, Ended, State};
use exedra::record::session::{Session, SessionId, TrackInfo};
use exedra::record::{SessionStart, SourceId};
use exedra::rtp::{Codec, codec::Kind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

const CHILD: &str = "EXEDRA_TEST_FILL";
const NAME: &str = "full::a_full_disk_ends_the_recording_and_what_is_there_plays";
const TICK: Duration = Duration::from_millis(20);

#[test]
fn a_full_disk_ends_the_recording_and_what_is_there_plays() {
    if let Some(root) = std::env::var_os(CHILD) {
        return fill(Path::new(&root));
    }
    film(0);
    let root = folder("full");
    let test = std::env::current_exe().unwrap();
    let script = r#"mount -t tmpfs -o size=128k none "$1" && exec "$2" --exact "$3" --nocapture"#;
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .args([root.as_os_str(), test.as_os_str(), NAME.as_ref()])
        .env(CHILD, &root)
        .output()
        .expect("unshare (util-linux)");
    let told = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && told.contains("it plays"), "{told}");
}

/// Records on the small file system until it is full.
fn fill(root: &Path) {
    let ballast = root.join("ballast");
    std::fs::write(&ballast, vec![0; 32 << 10]).unwrap();
    let began = SessionStart { instant: Instant::now(), wall: SystemTime::now() };
    let id = SessionId::try_from("full").unwrap();
    let storage = Folder::create(root, &id).unwrap();
    let mut session = Session::new(&id, "a room", began, Codec::Vp8, 0, storage);
    for (track, kind) in [(0, Kind::Video), (1, Kind::Audio)] {
        let (id, participant) = (TrackId(track), ParticipantId(1));
        session.handle_published(TrackInfo { id, participant, content: Content::Camera, kind });
    }
    let film = packets(&load_film(0), VIDEO[0].0);
    let mut at = Duration::ZERO;
    while !session.has_ended() {
        let now = began.instant + at;
        for (sent, captured) in crate::crash::due(&film, at) {
            let track = TrackId(sent.source - 1);
            sent.deliver(began.instant, captured, |packet| {
                let _ = session.handle_packet(now, track, SourceId(track.0), packet);
            });
        }
        session.handle_timeout(now);
        at += TICK;
        assert!(at < Duration::from_secs(600), "it is never full");
    }
    let (_, manifest) = session.finish(began.instant + at, Ended::Stopped);
    assert_eq!(manifest.ended, Some(Ended::DiskFull));
    // There is room again.
    std::fs::remove_file(ballast).unwrap();
    heal_session(root, &id).unwrap();
    let folder = Folder::open(root, &id).unwrap();
    let manifest = folder.manifest().unwrap();
    assert_eq!(manifest.state, State::Healed);
    let [file] = &manifest.files[..] else { panic!("{manifest:?}") };
    let lacks = at.as_millis() as u64 - (file.start_ms + file.duration_ms);
    assert!(lacks <= 1_500 && file.duration_ms > 1_000, "{lacks} ms are missing of {at:?}: {file:?}");
    let path = folder.path().join(&file.name);
    assert_eq!((ffmpeg::probe(&path).complaints.as_str(), ffmpeg::decode(&path).as_str()), ("", ""));
    println!("it plays");
}
