//! kill -9 at random instants: each time all files play, and at most a second is missing.
use crate::ffmpeg::{self, Film};
use crate::publisher::{Sent, packets};
use crate::{VIDEO, film, folder, load_film};
use exedra::ids::{ParticipantId, TrackId};
use exedra::record::disk::{Folder, heal_all};
use exedra::record::manifest::{Content, Ended, State};
use exedra::record::session::{Session, SessionId, TrackInfo};
use exedra::record::{SessionStart, SourceId};
use exedra::rtp::{Codec, codec::Kind};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

const CHILD: &str = "EXEDRA_TEST_RECORD_INTO";
/// What the two participants show.
const FILMS: [usize; 2] = [0, 2];
const ID: &str = "20261123-1";
/// How much faster than life the child records.
const SPEED: u32 = 10;
const TICK: Duration = Duration::from_millis(20);

/// Records two participants until it is killed; says after each tick how far the session is, in milliseconds.
fn record_for_ever(root: &Path) {
    let began = SessionStart { instant: Instant::now(), wall: SystemTime::now() };
    let id = SessionId::try_from(ID).unwrap();
    let storage = Folder::create(root, &id).unwrap();
    let mut session = Session::new(&id, "a room", began, Codec::Vp8, 0, storage);
    let people = FILMS.map(|at| packets(&load_film(at), VIDEO[at].0));
    for n in 0..people.len() as u64 {
        let (participant, content) = (ParticipantId(n + 1), Content::Camera);
        session.handle_joined(began.instant, participant, "somebody");
        for (id, kind) in [(2 * n, Kind::Video), (2 * n + 1, Kind::Audio)] {
            session.handle_published(TrackInfo { id: TrackId(id), participant, content, kind });
        }
    }
    let mut at = Duration::ZERO;
    loop {
        let now = began.instant + at;
        for (n, film) in people.iter().enumerate() {
            for (sent, captured) in due(film, at) {
                let track = TrackId(2 * n as u64 + sent.source - 1);
                sent.deliver(began.instant, captured, |packet| {
                    session.handle_packet(now, track, SourceId(track.0), packet).unwrap();
                });
            }
        }
        session.handle_timeout(now);
        assert!(!session.has_ended());
        at += TICK;
        println!("at {}", at.as_millis());
        std::thread::sleep(TICK / SPEED);
    }
}

/// What is captured within the tick, of a film that begins anew when it ends.
pub fn due(film: &[Sent], at: Duration) -> impl Iterator<Item = (Sent, Duration)> + '_ {
    let length = Film::LENGTH;
    let round = (at.as_nanos() / length.as_nanos()) as u32;
    let within = at - length * round;
    let these = film.iter().filter(move |s| (within..within + TICK).contains(&Duration::from_nanos(s.captured)));
    these.map(move |s| (s.in_round(round, film), Duration::from_nanos(s.captured) + length * round))
}

#[test]
fn killed_at_any_instant_all_files_play_and_lack_at_most_a_second() {
    if let Some(root) = std::env::var_os(CHILD) {
        record_for_ever(Path::new(&root));
    }
    // The films are encoded before, not by each child.
    for at in FILMS {
        film(at);
    }
    let times = if std::env::var_os("LONG").is_some() { 200 } else { 20 };
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for time in 0..times {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let root = folder(&format!("crash-{time}"));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).unwrap();
        let reached = kill_after(&root, 200 + (random >> 33) % 9_000);
        assert_healed(&root, reached, time % 10 == 0);
    }
}

/// Lets a child record until the session has lasted so many milliseconds, and kills it; gives how far it had come.
fn kill_after(root: &Path, ms: u64) -> u64 {
    let name = "crash::killed_at_any_instant_all_files_play_and_lack_at_most_a_second";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut reached = 0;
    for at in lines.filter_map(|line| line.strip_prefix("at ")?.parse().ok()) {
        reached = at;
        if reached >= ms {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(reached >= ms, "the child ended by itself");
    reached
}

fn assert_healed(root: &Path, reached: u64, by_ffmpeg: bool) {
    let told: Vec<_> = heal_all(root).unwrap().into_iter().map(Result::unwrap).collect();
    let id = SessionId::try_from(ID).unwrap();
    let folder = Folder::open(root, &id).unwrap();
    assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let manifest = folder.manifest().unwrap();
    // If there was nothing yet, there is no file.
    assert_eq!(told.len(), 1);
    assert_eq!((manifest.state, manifest.ended), (State::Healed, Some(Ended::Crash)));
    assert!(reached < 1_200 || manifest.files.len() == 2, "{reached} {manifest:?}");
    for file in &manifest.files {
        let path: PathBuf = folder.path().join(&file.name);
        let end = file.start_ms + file.duration_ms;
        assert!(reached.saturating_sub(end) <= 1_000, "{}: {end} of {reached} ms", file.name);
        let metadata = path.metadata().unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (file.size, 0o600));
        assert_eq!(file.sha256.as_deref().map(str::len), Some(64));
        if by_ffmpeg {
            let probe = ffmpeg::probe(&path);
            assert_eq!(probe.complaints, "", "{}", path.display());
            assert_eq!(ffmpeg::decode(&path), "", "{}", path.display());
            assert!((probe.duration_ms - file.duration_ms as f64).abs() < 1.0);
        }
    }
    assert!(heal_all(root).unwrap().is_empty(), "it is healed");
}

#[test]
fn links_and_names_lead_nowhere() {
    let root = folder("links");
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir(&root).unwrap();
    let elsewhere = folder("elsewhere");
    let id = SessionId::try_from("taken").unwrap();
    std::os::unix::fs::symlink(&elsewhere, root.join("taken")).unwrap();
    assert!(Folder::create(&root, &id).is_err(), "there is something of this name");
    assert!(Folder::open(&root, &id).is_err(), "a link is no folder");
    for hostile in ["../../etc", "a\0b", &"x".repeat(10_000), "\u{202e}gpj", ".", "A"] {
        assert!(SessionId::try_from(hostile).is_err(), "{hostile:?}");
    }
    // A manifest that somebody wrote names a file elsewhere: it is not touched.
    let id = SessionId::try_from("forged").unwrap();
    drop(Folder::create(&root, &id).unwrap());
    let victim = elsewhere.join("victim");
    std::fs::write(&victim, "precious").unwrap();
    for name in ["../../elsewhere/victim", "link"] {
        let file = serde_json::json!({
            "name": name, "participant": "p1", "content": "camera", "part": 1, "startMs": 0, "durationMs": 0,
            "tracks": [], "gaps": [], "size": 0
        });
        let forged = serde_json::json!({
            "version": 1, "id": "forged", "room": "r", "startedAtMs": 0, "state": "recording", "participants": [], "files": [file]
        });
        std::fs::write(root.join("forged/session.json"), forged.to_string()).unwrap();
        let _ = std::os::unix::fs::symlink(&victim, root.join("forged/link"));
        let told = heal_all(&root).unwrap();
        assert!(told.iter().all(Result::is_err) && !told.is_empty(), "{name}: {told:?}");
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}
