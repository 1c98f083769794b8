use super::*;
use crate::record::reorder::tests::now;
use crate::rtp::SeqNo;
use crate::rtp::codec::describe;
use crate::rtp::packet::PacketInfo;
use serde_json::json;
use std::cell::RefCell;
use std::io::Cursor;
use std::rc::Rc;

/// A disk in memory, which may refuse.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Disk>>);

#[derive(Default)]
struct Disk {
    closed: BTreeMap<String, u64>,
    discarded: Vec<String>,
    manifests: Vec<Manifest>,
    events: Vec<EventLine>,
    /// Bytes that may still be written.
    space: Option<usize>,
    hashes_later: bool,
}

struct MemoryFile(Cursor<Vec<u8>>, Memory);

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(space) = &mut self.1.0.borrow_mut().space {
            *space = space.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        }
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for MemoryFile {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Storage for Memory {
    type File = MemoryFile;
    fn create(&mut self, _: &FileName) -> io::Result<MemoryFile> {
        Ok(MemoryFile(Cursor::new(Vec::new()), self.clone()))
    }
    fn close(&mut self, name: &FileName, file: MemoryFile) -> io::Result<Option<String>> {
        let old = self.0.borrow_mut().closed.insert(name.to_string(), file.0.get_ref().len() as u64);
        assert_eq!(old, None, "{name} was there");
        Ok((!self.0.borrow().hashes_later).then(|| "00".repeat(32)))
    }
    fn discard(&mut self, name: &FileName, file: MemoryFile) -> io::Result<()> {
        assert!(file.0.get_ref().is_empty());
        self.0.borrow_mut().discarded.push(name.to_string());
        Ok(())
    }
    fn write_manifest(&mut self, manifest: &Manifest) -> io::Result<()> {
        self.0.borrow_mut().manifests.push(manifest.clone());
        Ok(())
    }
    fn write_event(&mut self, line: &EventLine) -> io::Result<()> {
        self.0.borrow_mut().events.push(line.clone());
        Ok(())
    }
}

const ADA: ParticipantId = ParticipantId(7);
const CAMERA: TrackInfo = TrackInfo { id: TrackId(1), participant: ADA, content: Content::Camera, kind: Kind::Video };
const MICROPHONE: TrackInfo =
    TrackInfo { id: TrackId(2), participant: ADA, content: Content::Camera, kind: Kind::Audio };

struct World {
    session: Session<Memory>,
    disk: Memory,
    start: Instant,
    at: u64,
    seq: u64,
    keyframe: bool,
}

impl World {
    fn new() -> Self {
        let start = now();
        let disk = Memory::default();
        let id = SessionId::try_from("20261123-1").unwrap();
        let began = SessionStart { instant: start, wall: UNIX_EPOCH + Duration::from_secs(1_795_428_900) };
        let mut session = Session::new(&id, "../../etc/\u{202e}room", began, Codec::Vp8, 1_000_000, disk.clone());
        session.handle_joined(start, ADA, "Ada");
        Self { session, disk, start, at: 0, seq: 1, keyframe: false }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.at)
    }

    fn send(&mut self, track: TrackInfo, codec: Codec, payload: &[u8]) -> Result<(), DropReason> {
        let rate = codec.clock_rate();
        let info = PacketInfo {
            timestamp: (self.at * u64::from(rate) / 1_000) as u32,
            marker: true,
            codec,
            header_len: 0,
            payload_len: payload.len() as u16,
            frame: describe(codec, payload, true, None).unwrap(),
            extensions: Default::default(),
        };
        let now = self.now();
        let packet = MediaPacket { seq: SeqNo(self.seq), info: &info, captured_at: now, bytes: payload };
        self.session.handle_packet(now, track.id, SourceId(track.id.0), packet)
    }

    /// For so many milliseconds: pictures of this codec every 100 ms, sound every 20.
    fn run(&mut self, ms: u64, video: Option<(TrackInfo, Codec)>, audio: Option<TrackInfo>) {
        for _ in 0..ms / 20 {
            self.seq += 1;
            if let Some((track, codec)) = video
                && self.at.is_multiple_of(100)
            {
                // One number for each packet of a stream.
                let seq = std::mem::replace(&mut self.seq, self.at / 100 + 1);
                let payload: &[u8] = match (codec, std::mem::take(&mut self.keyframe)) {
                    (Codec::Vp8, true) => &[0x10, 0x10, 2, 0, 0x9d, 1, 0x2a, 160, 0, 90, 0],
                    (Codec::Vp8, false) => &[0x10, 0x11, 2, 0],
                    (_, true) => &[0x0c, 0x82, 0x49, 0x83, 0x42, 0x20, 0x09, 0xf0, 0x05, 0x90, 0x55],
                    (_, false) => &[0x4c, 0x86, 1],
                };
                let _ = self.send(track, codec, payload);
                self.seq = seq;
            }
            if let Some(track) = audio {
                let _ = self.send(track, Codec::Opus, &[0x78; 40]);
            }
            self.at += 20;
            self.session.handle_timeout(self.now());
            while let Some(event) = self.session.poll_event() {
                match event {
                    Event::WantKeyframe { track, .. } => {
                        assert_eq!(Some(track), video.map(|(v, _)| v.id));
                        self.keyframe = true;
                    }
                    Event::Ended(_) => assert!(self.session.has_ended()),
                }
            }
        }
    }
}

#[test]
fn camera_and_microphone_are_one_file_and_a_screen_another() {
    let mut w = World::new();
    let screen = TrackInfo { id: TrackId(3), content: Content::Screen, ..CAMERA };
    for track in [CAMERA, MICROPHONE, screen] {
        w.session.handle_published(track);
    }
    w.run(3_000, Some((CAMERA, Codec::Vp8)), Some(MICROPHONE));
    w.run(3_000, Some((screen, Codec::Vp8)), Some(MICROPHONE));
    w.session.handle_event(w.now(), "message", json!({"text": "hello"}));
    let now = w.now();
    let (_, manifest) = w.session.finish(now, Ended::Stopped);
    let names: Vec<_> = manifest.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["p7-camera-1.webm", "p7-screen-1.webm"]);
    let camera = &manifest.files[0];
    assert_eq!(
        camera.tracks.iter().map(|t| (t.id.as_str(), t.codec.as_str())).collect::<Vec<_>>(),
        [("t1", "VP8"), ("t2", "opus")]
    );
    assert!(camera.duration_ms > 5_800 && camera.sha256.is_some() && camera.av_offset.is_some(), "{camera:?}");
    assert_eq!(manifest.files[1].tracks.len(), 1);
    assert!((3_000..3_400).contains(&manifest.files[1].start_ms), "{}", manifest.files[1].start_ms);
    assert_eq!((manifest.state, manifest.ended), (State::Complete, Some(Ended::Stopped)));
    assert_eq!(manifest.ended_at_ms, Some(1_795_428_906_000));
    let disk = w.disk.0.borrow();
    assert_eq!(
        disk.closed.values().copied().collect::<Vec<_>>(),
        manifest.files.iter().map(|f| f.size).collect::<Vec<_>>()
    );
    assert_eq!(disk.events, [EventLine { t_ms: 6_000, kind: "message".into(), data: json!({"text": "hello"}) }]);
    assert_eq!(disk.manifests.first().map(|m| m.state), Some(State::Recording), "there from the start");
    assert_eq!(disk.manifests.last(), Some(&manifest));
    assert!(disk.manifests.len() < 8, "{}", disk.manifests.len());
}

#[test]
fn the_manifest_of_a_running_session_tells_of_gaps() {
    let mut w = World::new();
    for track in [CAMERA, MICROPHONE] {
        w.session.handle_published(track);
    }
    w.run(4_000, Some((CAMERA, Codec::Vp8)), Some(MICROPHONE));
    w.session.handle_muted(MICROPHONE.id);
    w.run(2_000, Some((CAMERA, Codec::Vp8)), None);
    w.run(16_000, Some((CAMERA, Codec::Vp8)), Some(MICROPHONE));
    let disk = w.disk.0.borrow();
    let manifest = disk.manifests.last().unwrap();
    let file = &manifest.files[0];
    assert_eq!((manifest.state, file.size, file.duration_ms, &file.sha256), (State::Recording, 0, 0, &None));
    assert_eq!(file.gaps.iter().map(|g| (g.kind, g.cause)).collect::<Vec<_>>(), [(Kind::Audio, GapCause::Muted)]);
    assert!((3_900..4_100).contains(&file.gaps[0].from_ms) && (5_900..6_100).contains(&file.gaps[0].to_ms));
    assert!(file.tracks.iter().all(|t| t.last_ms > 9_000), "{:?}", file.tracks);
    assert!(disk.manifests.len() < 8, "{}", disk.manifests.len());
}

#[test]
fn another_codec_begins_another_part() {
    let mut w = World::new();
    w.session.handle_published(MICROPHONE);
    w.run(2_000, None, Some(MICROPHONE));
    w.session.handle_published(CAMERA);
    w.run(2_000, Some((CAMERA, Codec::Vp9 { profile: 0 })), Some(MICROPHONE));
    w.session.handle_left(w.now(), ADA);
    assert_eq!(w.session.written().0, 0, "its files are closed");
    let now = w.now();
    let (_, manifest) = w.session.finish(now, Ended::RoomEnded);
    let parts: Vec<_> = manifest.files.iter().map(|f| (f.name.as_str(), f.part, f.tracks.len())).collect();
    assert_eq!(parts, [("p7-camera-1.webm", 1, 1), ("p7-camera-2.webm", 2, 2)]);
    assert!((1_900..2_100).contains(&manifest.files[1].start_ms), "{}", manifest.files[1].start_ms);
    assert_eq!(manifest.participants[0].left_ms, Some(4_000));
}

#[test]
fn a_track_that_is_published_anew_goes_on_in_its_file() {
    let mut w = World::new();
    for track in [CAMERA, MICROPHONE] {
        w.session.handle_published(track);
    }
    w.run(2_000, Some((CAMERA, Codec::Vp8)), Some(MICROPHONE));
    w.session.handle_unpublished(CAMERA.id);
    w.run(1_000, None, Some(MICROPHONE));
    let again = TrackInfo { id: TrackId(9), ..CAMERA };
    w.session.handle_published(again);
    w.run(2_000, Some((again, Codec::Vp8)), Some(MICROPHONE));
    let now = w.now();
    let (_, manifest) = w.session.finish(now, Ended::Stopped);
    assert_eq!(manifest.files.len(), 1);
    let file = &manifest.files[0];
    let gaps: Vec<_> = file.gaps.iter().map(|g| (g.kind, g.cause)).collect();
    assert_eq!(gaps, [(Kind::Video, GapCause::PublisherGone)]);
    assert!(file.gaps[0].from_ms < 2_000 && file.gaps[0].to_ms >= 3_000, "{:?}", file.gaps);
    assert_eq!(file.tracks[0].id, "t9");
}

#[test]
fn a_full_disk_ends_the_recording_with_a_reason() {
    let mut w = World::new();
    w.session.handle_published(MICROPHONE);
    w.disk.0.borrow_mut().space = Some(4_000);
    w.run(4_000, None, Some(MICROPHONE));
    assert!(w.session.has_ended());
    assert_eq!(w.send(MICROPHONE, Codec::Opus, &[0x78; 9]), Err(DropReason::Unwanted));
    let now = w.now();
    let (_, manifest) = w.session.finish(now, Ended::Stopped);
    assert_eq!((manifest.ended, manifest.state), (Some(Ended::DiskFull), State::Recording), "to be healed");
    assert_eq!(manifest.files.len(), 1);
    let mut w = World::new();
    w.session.handle_published(MICROPHONE);
    w.run(1_000, None, Some(MICROPHONE));
    w.session.handle_free_space(w.now(), 1_000_000);
    assert!(!w.session.has_ended());
    w.session.handle_free_space(w.now(), 999_999);
    assert_eq!(w.session.poll_event(), Some(Event::Ended(Ended::DiskFull)));
    assert_eq!(w.disk.0.borrow().manifests.last().map(|m| m.state), Some(State::Complete));
}

#[test]
fn what_was_never_heard_leaves_no_file() {
    let mut w = World::new();
    w.session.handle_published(CAMERA);
    // Pictures, but never a keyframe.
    for _ in 0..30 {
        w.run(100, Some((CAMERA, Codec::Vp8)), None);
        w.keyframe = false;
    }
    let now = w.now();
    let (_, manifest) = w.session.finish(now, Ended::Stopped);
    assert_eq!(manifest.files, []);
    assert_eq!(w.disk.0.borrow().discarded, ["p7-camera-1.webm"]);
}

#[test]
fn the_manifest_is_complete_when_all_hashes_are_there() {
    let mut w = World::new();
    w.disk.0.borrow_mut().hashes_later = true;
    for track in [CAMERA, MICROPHONE] {
        w.session.handle_published(track);
    }
    w.run(1_000, Some((CAMERA, Codec::Vp8)), Some(MICROPHONE));
    w.run(1_000, Some((CAMERA, Codec::Vp9 { profile: 0 })), Some(MICROPHONE));
    let now = w.now();
    w.session.end(now, Ended::Stopped);
    assert!(w.session.has_ended() && !w.session.is_settled());
    let last = |w: &World| w.disk.0.borrow().manifests.last().cloned().unwrap();
    assert_eq!((last(&w).state, last(&w).ended), (State::Recording, Some(Ended::Stopped)));
    let names: Vec<_> = w.disk.0.borrow().closed.keys().map(|name| FileName(name.clone())).collect();
    assert_eq!(names.len(), 2);
    w.session.handle_hash(now, &names[0], Ok("ab".repeat(32)));
    assert!(!w.session.is_settled());
    w.session.handle_hash(now, &names[1], Ok("cd".repeat(32)));
    assert!(w.session.is_settled());
    assert_eq!(last(&w).state, State::Complete);
    assert_eq!(last(&w).files[1].sha256, Some("cd".repeat(32)));
}

#[test]
fn a_file_that_cannot_be_read_again_is_left_to_be_healed() {
    let mut w = World::new();
    w.disk.0.borrow_mut().hashes_later = true;
    w.session.handle_published(MICROPHONE);
    w.run(1_000, None, Some(MICROPHONE));
    let now = w.now();
    w.session.end(now, Ended::Stopped);
    let name = FileName(w.disk.0.borrow().closed.keys().next().unwrap().clone());
    w.session.handle_hash(now, &name, Err(io::ErrorKind::Other.into()));
    assert!(w.session.is_settled());
    let disk = w.disk.0.borrow();
    let manifest = disk.manifests.last().unwrap();
    assert_eq!((manifest.state, manifest.ended, manifest.files.len()), (State::Recording, Some(Ended::Stopped), 1));
}

#[test]
fn tracks_of_other_sources_are_files_alone() {
    let mut w = World::new();
    let other = |id, kind| TrackInfo { id: TrackId(id), content: Content::Other, kind, ..CAMERA };
    let (picture, sound) = (other(4, Kind::Video), other(5, Kind::Audio));
    for track in [picture, sound] {
        w.session.handle_published(track);
    }
    w.run(1_000, Some((picture, Codec::Vp8)), Some(sound));
    // Published anew, it goes on where it was.
    w.session.handle_unpublished(sound.id);
    let sound = other(6, Kind::Audio);
    w.session.handle_published(sound);
    w.run(1_000, Some((picture, Codec::Vp8)), Some(sound));
    let now = w.now();
    let (_, manifest) = w.session.finish(now, Ended::Stopped);
    let mut files: Vec<_> =
        manifest.files.iter().map(|f| (f.name.as_str(), f.tracks[0].kind, f.tracks.len())).collect();
    files.sort_by_key(|f| f.0);
    assert_eq!(files, [("p7-other-1.webm", Kind::Video, 1), ("p7-other2-1.webm", Kind::Audio, 1)]);
}
