//! The service on a real folder, with its real threads; and the order in which a recording does things, in virtual time.
use super::task::Task;
use super::*;
use crate::engine::relay::{RelayBatch, RelayedMedia};
use crate::ids::{ParticipantId, ShardId, TrackId};
use crate::record::SessionStart;
use crate::record::disk::{Folder, heal_session};
use crate::record::manifest::{Ended, GapCause, Layout, Session as Manifest, State};
use crate::record::session::Session;
use crate::room::messages::Source;
use crate::rtp::codec::describe;
use crate::rtp::packet::PacketInfo;
use crate::rtp::{Codec, Kind, SeqNo};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::UNIX_EPOCH;
use tokio::sync::mpsc::UnboundedReceiver;

const ROOM: RoomId = RoomId(3);
const ID: RecordingId = RecordingId(9);
const TRACK: TrackId = TrackId(4);
const ADA: ParticipantId = ParticipantId(7);
const SOUND: &[u8] = &[0x78; 40];

/// A folder of one test's own, which goes with it.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("exedra-recordings-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn settings(&self) -> Settings {
        Settings {
            root: self.0.clone(),
            min_free: 0,
            quota: None,
            keep: None,
            keep_bytes: None,
            queue: 1 << 20,
            upload: None,
        }
    }

    fn manifest(&self, name: &str) -> Manifest {
        Folder::open(&self.0, &SessionId::try_from(name).unwrap()).unwrap().manifest().unwrap()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn info(n: u64) -> PacketInfo {
    PacketInfo {
        timestamp: (n * 960) as u32,
        marker: true,
        codec: Codec::Opus,
        header_len: 0,
        payload_len: SOUND.len() as u16,
        frame: describe(Codec::Opus, SOUND, true, None).unwrap(),
        extensions: Default::default(),
    }
}

fn media(n: u64, info: &PacketInfo, captured_at: Instant) -> RelayedMedia<'_> {
    RelayedMedia { track: TRACK, source: 1, seq: SeqNo(n), info, captured_at, bytes: SOUND }
}

/// Sound of 20 ms for each of these numbers.
fn batch(from: Instant, numbers: std::ops::Range<u64>) -> Box<RelayBatch> {
    let infos: Vec<_> = numbers.map(|n| (n, info(n))).collect();
    let at = |n: u64| from + Duration::from_millis(20 * n);
    Box::new(RelayBatch::of_media(ShardId(0), infos.iter().map(|(n, info)| media(*n, info, at(*n)))))
}

fn published() -> RecordingCommand {
    RecordingCommand::Published { track: TRACK, participant: ADA, kind: Kind::Audio, source: Source::Microphone }
}

/// A service, its room's ear, and its shard.
struct World {
    recordings: Recordings,
    notices: UnboundedReceiver<Notice>,
    shard: crate::net::tap::ShardTaps,
    began: Instant,
    /// Of the recording that is talked about. None has that of one before.
    id: RecordingId,
}

impl World {
    fn new(settings: Settings) -> Self {
        let taps = Taps::default();
        let shard = taps.of_shard();
        let (notices, heard) = mpsc::unbounded_channel();
        let recordings = Recordings::new(Some(settings), Vec::new(), taps, notices);
        Self { recordings, notices: heard, shard, began: Instant::now(), id: ID }
    }

    fn say(&self, command: RecordingCommand) {
        self.recordings.handle(ROOM, self.id, command);
    }

    fn start(&self, name: &str) {
        self.say(RecordingCommand::Start { room: name.to_owned(), layout: Some(RecordLayout::Speaker) });
    }

    async fn told(&mut self) -> RecordingEvent {
        let told = tokio::time::timeout(Duration::from_secs(20), self.notices.recv()).await;
        let Notice { room, recording, event } = told.expect("in time").expect("a notice");
        assert_eq!((room, recording), (ROOM, self.id));
        event
    }

    async fn started(&mut self) -> String {
        match self.told().await {
            RecordingEvent::Started { name, .. } => name,
            other => panic!("{other:?}"),
        }
    }

    /// Sound for so many 20 ms is handed over.
    fn send(&mut self, numbers: std::ops::Range<u64>) {
        assert!(self.shard.record(self.id, &mut batch(self.began, numbers)));
    }

    /// Until its files are closed.
    async fn closed(&self) {
        while self.recordings.metrics().running.load(Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_recording_begins_ends_and_is_whole() {
    let root = Root::new("whole");
    let mut w = World::new(root.settings());
    let hostile = format!("../../etc/passwd\0\u{202e}{}", "x".repeat(10_000));
    w.start(&hostile);
    w.say(RecordingCommand::Joined { participant: ADA, name: "../Ada".into() });
    w.say(published());
    let name = w.started().await;
    w.send(0..100);
    w.say(RecordingCommand::Event { kind: "message", data: r#"{"text":"hello"}"#.into() });
    w.say(RecordingCommand::Stop(RecordingStop::Asked));
    w.closed().await;

    let manifest = root.manifest(&name);
    assert_eq!(manifest.layout, Some(Layout::Speaker));
    assert_eq!((manifest.state, manifest.ended), (State::Complete, Some(Ended::Stopped)));
    assert_eq!((manifest.room, manifest.participants[0].name.as_str()), (hostile, "../Ada"));
    let folder = root.0.join(&name);
    let names: Vec<_> = fs::read_dir(&root.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [name.as_str()], "nothing else is made");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let [file] = &manifest.files[..] else { panic!("{:?}", manifest.files) };
    assert_eq!((file.name.as_str(), file.tracks[0].frames), ("p7-camera-1.webm", 100));
    let bytes = fs::read(folder.join(&file.name)).unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let hash: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!((file.size, file.sha256.as_ref()), (bytes.len() as u64, Some(&hash)));
    let events = fs::read_to_string(folder.join("events.jsonl")).unwrap();
    assert!(events.contains(r#""type":"message","data":{"text":"hello"}}"#), "{events}");

    let m = w.recordings.metrics();
    assert_eq!((m.ended(EndedWhy::Stopped), m.packets.load(Relaxed), m.lost.load(Relaxed)), (1, 100, 0));
    assert_eq!((m.files.load(Relaxed), m.queued.load(Relaxed), m.kept.load(Relaxed)), (0, 0, 1));
}

#[tokio::test]
async fn none_begins_where_there_is_no_room_for_it() {
    let root = Root::new("refused");
    let gone = Settings { root: root.0.join("gone"), ..root.settings() };
    for (settings, want) in [
        (Settings { min_free: u64::MAX, ..root.settings() }, "have to stay so"),
        (Settings { quota: Some(0), ..root.settings() }, "take 0 bytes already"),
        (gone, "is gone"),
    ] {
        let mut w = World::new(settings);
        w.start("a room");
        let RecordingEvent::Refused(error) = w.told().await else { panic!("{want}") };
        assert!(error.message.contains(want) && error.retryable, "{error:?}");
        assert_eq!(w.recordings.metrics().refused.load(Relaxed), 1);
    }
    assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
}

#[test]
fn a_root_is_made_private_or_said_to_be_none() {
    let root = Root::new("root");
    let at = |name: &str| Settings { root: root.0.join(name), ..root.settings() };
    at("new").prepare().unwrap();
    assert_eq!(fs::metadata(root.0.join("new")).unwrap().permissions().mode() & 0o777, 0o700);
    at("new").prepare().expect("it is there");
    fs::write(root.0.join("file"), "").unwrap();
    assert!(at("file").prepare().unwrap_err().ends_with("is not a directory"));
    assert!(at("no/where").prepare().unwrap_err().contains("cannot be used"));
    // An operator may keep recordings elsewhere.
    std::os::unix::fs::symlink(root.0.join("new"), root.0.join("link")).unwrap();
    at("link").prepare().unwrap();
    assert_eq!(fs::read_dir(root.0.join("new")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_quota_that_is_used_up_ends_what_runs() {
    let root = Root::new("quota");
    let mut w = World::new(Settings { quota: Some(1), ..root.settings() });
    w.start("a room");
    w.say(published());
    let name = w.started().await;
    w.send(0..200);
    let RecordingEvent::Ended(why) = w.told().await else { panic!("it goes on") };
    assert_eq!(why, RecordingFailure::DiskFull);
    w.closed().await;
    let manifest = root.manifest(&name);
    assert_eq!((manifest.state, manifest.ended), (State::Complete, Some(Ended::DiskFull)));
    assert_eq!(w.recordings.metrics().ended(EndedWhy::DiskFull), 1);
    // What runs no more hears nothing, and hurts nobody.
    w.say(RecordingCommand::Stop(RecordingStop::Asked));
    w.start("a room");
    assert!(matches!(w.told().await, RecordingEvent::Refused(_)));
}

#[tokio::test]
async fn a_folder_that_is_taken_away_ends_the_recording_and_nothing_else() {
    let root = Root::new("removed");
    let mut w = World::new(root.settings());
    w.start("a room");
    let name = w.started().await;
    fs::remove_dir_all(root.0.join(&name)).unwrap();
    w.say(published());
    w.send(0..100);
    let RecordingEvent::Ended(why) = w.told().await else { panic!("it goes on") };
    assert_eq!(why, RecordingFailure::DiskError);
    w.closed().await;
    assert_eq!(fs::read_dir(&root.0).unwrap().count(), 0);
    w.start("a room");
    w.started().await;
}

#[tokio::test]
async fn a_shutdown_closes_what_runs() {
    let root = Root::new("shutdown");
    let mut w = World::new(root.settings());
    w.start("a room");
    w.say(published());
    let name = w.started().await;
    w.send(0..100);
    w.recordings.shutdown(Duration::from_secs(20)).await;
    let manifest = root.manifest(&name);
    assert_eq!((manifest.state, manifest.ended, manifest.files.len()), (State::Complete, Some(Ended::Shutdown), 1));
}

#[tokio::test]
async fn what_runs_is_not_healed_and_what_a_crash_left_is() {
    let root = Root::new("heal");
    let mut w = World::new(root.settings());
    w.start("a room");
    w.say(published());
    let name = w.started().await;
    w.send(0..100);
    while w.recordings.metrics().bytes.load(Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let id = SessionId::try_from(name.as_str()).unwrap();
    assert_eq!(heal_session(&root.0, &id).unwrap(), None, "it is locked");
    assert!(heal_session(&root.0, &id).is_ok() && root.manifest(&name).state == State::Recording);
    // A copy of it is what a crash would have left now.
    let copy = root.0.join("20200101-000000-0000");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(root.0.join(&name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let other = World::new(root.settings());
    while other.recordings.metrics().healed.load(Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(root.manifest("20200101-000000-0000").state, State::Healed);
    assert_eq!(root.manifest(&name).state, State::Recording, "another server is no reason to heal it");
    let mut told = Vec::new();
    assert!(tool::heal(&root.0, &mut told).unwrap());
    tool::list(&root.0, 0, &mut told).unwrap();
    let told = String::from_utf8(told).unwrap();
    assert!(told.starts_with("there is nothing to heal\n"), "{told}");
    assert!(told.contains("2020") && told.contains(" healed ") && told.contains(&name), "{told}");
    w.say(RecordingCommand::Stop(RecordingStop::Asked));
    w.closed().await;
    assert_eq!(root.manifest(&name).state, State::Complete);
}

#[tokio::test]
async fn what_is_old_is_taken_away_unless_somebody_needs_it() {
    let root = Root::new("old");
    let mut w = World::new(Settings { keep: Some(Duration::ZERO), ..root.settings() });
    let mut names = Vec::new();
    for n in 0..2 {
        w.id = RecordingId(n);
        w.start("a room");
        w.say(published());
        names.push(w.started().await);
        w.send(0..100);
        w.say(RecordingCommand::Stop(RecordingStop::Asked));
        w.closed().await;
    }
    w.id = ID;
    w.start("a room");
    names.push(w.started().await);
    let needed = SessionId::try_from(names[0].as_str()).unwrap();
    w.recordings.hold(move |id| *id == needed);
    keep::tidy(&w.recordings.0);
    let is_there: Vec<_> = names.iter().map(|name| root.0.join(name).exists()).collect();
    assert_eq!(is_there, [true, false, true], "needed, old, and one that runs");
    assert_eq!(w.recordings.metrics().deleted_age.load(Relaxed), 1);
}

#[test]
fn what_ends_something_waits_for_the_packets_from_before_it() {
    let root = Root::new("order");
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let id = SessionId::try_from("order").unwrap();
    let began = SessionStart { instant: start, wall: UNIX_EPOCH };
    let folder = Folder::create(&root.0, &id).unwrap();
    let mut task = Task::new(Session::new(&id, "a room", began, Codec::Vp8, 0, folder), Vec::new(), Arc::default());
    let said = |ms, command| Said { at: at(ms), command };
    task.pending().push_back(said(0, published()));
    task.handle_pending(at(0), false);
    for n in 0..50 {
        task.handle_batch(at(20 * n), &batch(start, n..n + 1));
        task.handle_timeout(at(20 * n), 0);
    }
    // Muted when 50 packets were sent; the last three of them are still on their way.
    task.pending().push_back(said(1_060, RecordingCommand::Muted { track: TRACK }));
    task.handle_pending(at(1_065), true);
    task.handle_batch(at(1_080), &batch(start, 50..53));
    task.handle_timeout(at(1_080), 0);
    task.handle_pending(at(1_115), false);
    assert_eq!(task.pending().len(), 1, "packets wait");
    task.handle_pending(at(1_115), true);
    assert!(task.pending().is_empty());
    for n in 54..150 {
        task.handle_timeout(at(20 * n), 0);
    }
    task.handle_batch(at(3_000), &batch(start, 150..200));
    task.pending().push_back(said(4_000, RecordingCommand::Stop(RecordingStop::Asked)));
    task.handle_pending(at(4_100), true);
    assert!(task.session().is_settled());
    let gaps = &root.manifest("order").files[0].gaps;
    assert_eq!(gaps.iter().map(|g| g.cause).collect::<Vec<_>>(), [GapCause::Muted], "{gaps:?}");
    assert!((1_000..1_100).contains(&gaps[0].from_ms), "{gaps:?}");
}

#[test]
fn what_finds_no_room_in_the_queue_is_a_gap_of_the_disk() {
    let root = Root::new("lost");
    let start = Instant::now();
    let id = SessionId::try_from("lost").unwrap();
    let folder = Folder::create(&root.0, &id).unwrap();
    let session = Session::new(&id, "a room", SessionStart { instant: start, wall: UNIX_EPOCH }, Codec::Vp8, 0, folder);
    let mut task = Task::new(session, Vec::new(), Arc::default());
    task.pending().push_back(Said { at: start, command: published() });
    task.handle_pending(start, true);
    task.handle_batch(start, &batch(start, 0..50));
    task.handle_timeout(start + Duration::from_secs(1), 0);
    task.handle_lost(0);
    task.handle_lost(20);
    task.handle_batch(start + Duration::from_secs(2), &batch(start, 70..100));
    task.session().end(start + Duration::from_secs(3), Ended::Stopped);
    let gaps = &root.manifest("lost").files[0].gaps;
    assert_eq!(gaps.iter().map(|g| g.cause).collect::<Vec<_>>(), [GapCause::Disk], "{gaps:?}");
}
