//! `exedra compose`, by what FFmpeg decodes from what it made: pictures in their places, sound and picture in step.
use crate::ffmpeg::{self, probe};
use crate::publisher::{Network, record};
use crate::{VIDEO, film, folder};
use exedra::record::manifest::{Content, Ended, File, Gap, GapCause, Participant, Session, State, Track, VERSION};
use exedra::record::{Summary, TrackSummary};
use exedra::recordings::compose::{Canvas, Container, Error, Layout, Made, Request, Stop, compose};
use exedra::rtp::codec::Kind;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Two tiles beside each other: the middle of each.
const LEFT: &str = "crop=100:60:110:140";
const RIGHT: &str = "crop=100:60:430:140";

/// A session's folder that is made of films.
struct Stage {
    folder: PathBuf,
    session: Session,
}

impl Stage {
    fn new(name: &str) -> Self {
        let folder = folder(name);
        fs::remove_dir_all(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        let session = Session {
            version: VERSION,
            id: "20261123-1".into(),
            room: "../a room".into(),
            started_at_ms: 0,
            ended_at_ms: None,
            state: State::Complete,
            ended: Some(Ended::Stopped),
            layout: None,
            participants: Vec::new(),
            files: Vec::new(),
        };
        Self { folder, session }
    }

    /// Somebody shows the film of `VIDEO[at]`, from then on.
    fn person(&mut self, name: &str, at: usize, start_ms: u64) -> &mut File {
        let id = format!("p{}", self.session.participants.len() + 1);
        let (id, name, joined_ms) = (id.clone(), name.to_owned(), start_ms);
        self.session.participants.push(Participant { id: id.clone(), name, joined_ms, left_ms: None });
        let recorded = record(film(at), VIDEO[at].0, &Network::perfect());
        let path = crate::save(&self.folder, &format!("{id}-camera-1"), VIDEO[at].0, &recorded.file);
        let file = described(&path, &id, VIDEO[at].1, start_ms, &recorded.summary);
        self.session.files.push(file);
        self.session.files.last_mut().unwrap()
    }

    fn compose(&self, out: &str, look: Look) -> Result<(PathBuf, Made), Error> {
        fs::write(self.folder.join("session.json"), serde_json::to_vec(&self.session).unwrap()).unwrap();
        let out = self.folder.join(out);
        let container = if out.extension().unwrap() == "mp4" { Container::Mp4 } else { Container::WebM };
        let made = compose(&request(&self.folder, &out, container, look), false, &Stop::default())?;
        Ok((out, made))
    }
}

fn request(folder: &Path, out: &Path, container: Container, look: Look) -> Request {
    let (folder, out) = (folder.to_owned(), out.to_owned());
    let Look { layout, canvas, fps } = look;
    Request { folder, out, container, layout, canvas, fps, ffmpeg: None, font: None, force: false }
}

fn described(path: &Path, participant: &str, codec: &str, start_ms: u64, summary: &Summary) -> File {
    let ms = |d: Duration| start_ms + d.as_millis() as u64;
    let track = |kind, codec: &str, s: &TrackSummary| Track {
        id: "t".into(),
        kind,
        codec: codec.to_owned(),
        first_ms: ms(s.first),
        last_ms: ms(s.last),
        frames: s.frames,
        keyframes: s.keyframes,
        lost_packets: 0,
        sizes: s.sizes.clone(),
    };
    let video = summary.video.as_ref().map(|s| track(Kind::Video, &codec.to_uppercase(), s));
    let audio = summary.audio.as_ref().map(|s| track(Kind::Audio, "opus", s));
    File {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        participant: participant.to_owned(),
        content: Content::Camera,
        part: 1,
        start_ms: ms(summary.start),
        duration_ms: summary.duration.as_millis() as u64,
        tracks: video.into_iter().chain(audio).collect(),
        gaps: Vec::new(),
        more_gaps: 0,
        av_offset: None,
        size: summary.size,
        sha256: None,
    }
}

#[derive(Clone, Copy)]
struct Look {
    layout: Option<Layout>,
    canvas: Canvas,
    fps: u32,
}

fn look(layout: impl Into<Option<Layout>>, size: &str, fps: u32) -> Look {
    Look { layout: layout.into(), canvas: Canvas::try_from(size).unwrap(), fps }
}

/// Without that at the very start, which may count or not.
fn beeps(path: &Path) -> Vec<f64> {
    ffmpeg::beeps(path).into_iter().filter(|at| *at > 500.0).collect()
}

/// Both are there so often, each within 40 ms of where it belongs.
fn assert_at(found: &[f64], expected: &[f64], what: &str) {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() < 40.0;
    let fits = found.len() == expected.len() && found.iter().zip(expected).all(near);
    assert!(fits, "{what}: {found:?} instead of {expected:?}");
}

#[test]
fn everybody_is_in_one_picture_and_in_step_with_what_is_heard() {
    for out in ["out.mp4", "out.webm"] {
        let mut stage = Stage::new(&format!("composed-{}", &out[4..]));
        stage.person("Ada', [out] %{pts}\\ \u{202e}\n日本", 0, 10_000);
        // VP9 and H.264 have other decoders. Some 300 ms later the white and the tone are beside those of Ada.
        stage.person("Bob", if out == "out.mp4" { 1 } else { 3 }, 12_300);
        let (path, made) = stage.compose(out, look(Layout::Grid, "640x360", 30)).unwrap();
        assert_eq!(made.warnings, [] as [&str; 0]);
        let probe = probe(&path);
        assert_eq!((probe.complaints.as_str(), ffmpeg::decode(&path).as_str()), ("", ""), "{out}");
        assert_eq!(probe.size(), (640, 360));
        assert!((probe.duration_ms - 7_300.0).abs() < 60.0, "{out}: {}", probe.duration_ms);
        assert!((217..=219).contains(&probe.frames("video")), "{}", probe.frames("video"));
        // Alone each of them is in the middle, and covers both; together Ada is on the left, Bob on the right.
        let left = [1_000.0, 2_000.0, 3_000.0, 4_000.0, 5_300.0, 6_300.0];
        let right = [1_000.0, 2_000.0, 2_300.0, 3_300.0, 4_300.0, 5_300.0, 6_300.0];
        let heard = [1_000.0, 2_000.0, 2_300.0, 3_000.0, 3_300.0, 4_000.0, 4_300.0, 5_300.0, 6_300.0];
        assert_at(&ffmpeg::flashes_in(&path, LEFT), &left, "on the left");
        assert_at(&ffmpeg::flashes_in(&path, RIGHT), &right, "on the right");
        assert_at(&beeps(&path), &heard, "beeps");
        assert_eq!(fs::read_dir(&stage.folder).unwrap().count(), 4, "nothing else is left");
    }
}

#[test]
fn who_is_muted_is_not_seen_and_the_sound_goes_on() {
    let mut stage = Stage::new("composed-muted");
    let file = stage.person("Ada", 0, 0);
    let (kind, cause) = (Kind::Video, GapCause::Muted);
    file.gaps.push(Gap { kind, from_ms: 1_500, to_ms: 3_500, cause, packets: 0 });
    // As it was wished for when it was recorded.
    stage.session.layout = Some(Layout::Speaker);
    let (path, _) = stage.compose("out.mp4", look(None, "320x180", 25)).unwrap();
    assert_at(&ffmpeg::flashes_in(&path, "crop=40:20:20:20"), &[1_000.0, 4_000.0], "flashes");
    assert_at(&beeps(&path), &[1_000.0, 2_000.0, 3_000.0, 4_000.0], "beeps");
}

/// More files than one process has: two chunks of pictures, and two batches of sound. In the second chunk are files that began before it.
#[test]
fn a_session_of_many_files_has_no_seam() {
    let mut stage = Stage::new("composed-many");
    stage.person("somebody", 0, 0);
    let first = stage.session.files[0].clone();
    for n in 1..80 {
        let (mut file, ms) = (first.clone(), 1_000 * n);
        (file.participant, file.start_ms) = (format!("p{}", n + 1), ms);
        file.tracks.iter_mut().for_each(|t| (t.first_ms, t.last_ms) = (t.first_ms + ms, t.last_ms + ms));
        stage.session.files.push(file);
    }
    let (path, _) = stage.compose("out.mp4", look(Layout::Grid, "320x180", 10)).unwrap();
    let probe = probe(&path);
    assert_eq!((probe.complaints.as_str(), ffmpeg::decode(&path).as_str()), ("", ""));
    assert!((839..=841).contains(&probe.frames("video")), "{}", probe.frames("video"));
    // All flash and beep together.
    let seconds: Vec<f64> = (1..84).map(|n| f64::from(n) * 1_000.0).collect();
    assert_at(&beeps(&path), &seconds, "beeps");
    // While six are there, the one in the middle above.
    let flashes = ffmpeg::flashes_in(&path, "crop=20:20:150:25");
    let flashes: Vec<f64> = flashes.into_iter().filter(|at| (5_500.0..79_500.0).contains(at)).collect();
    assert_at(&flashes, &seconds[5..79], "flashes");
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let mut stage = Stage::new("composed-refused");
    stage.person("Ada", 0, 0);
    let grid = look(Layout::Grid, "320x180", 10);
    let refused = |stage: &Stage| stage.compose("out.mp4", grid).err().map(|e| e.to_string()).unwrap_or_default();
    stage.session.state = State::Recording;
    assert!(refused(&stage).contains("still being recorded"));
    stage.session.state = State::Complete;
    fs::write(stage.folder.join("out.mp4"), "mine").unwrap();
    assert!(refused(&stage).contains("--force"));
    fs::remove_file(stage.folder.join("out.mp4")).unwrap();
    for name in ["../x.webm", "/etc/passwd", ".hidden", "", "a:b"] {
        let mut bad = Stage { folder: stage.folder.clone(), session: stage.session.clone() };
        bad.session.files[0].name = name.into();
        assert!(refused(&bad).contains("outside"), "{name}");
    }
    stage.session.files[0].name = "p9-camera-1.webm".into();
    assert!(refused(&stage).contains("p9-camera-1.webm"));
    stage.session.files.clear();
    assert!(refused(&stage).contains("nothing in it"));
    let mut request = request(&stage.folder, &stage.folder.join("out.mp4"), Container::Mp4, grid);
    request.ffmpeg = Some("/nowhere/ffmpeg".into());
    let error = compose(&request, false, &Stop::default()).unwrap_err().to_string();
    assert!(error.contains("install FFmpeg"), "{error}");
    // A media file that is none: FFmpeg's own words are told.
    stage.person("Bob", 0, 0);
    fs::write(stage.folder.join("p2-camera-1.webm"), "no film").unwrap();
    let error = refused(&stage);
    assert!(error.contains("FFmpeg failed") && error.contains("p2-camera-1.webm"), "{error}");
    let left: Vec<_> = fs::read_dir(&stage.folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

/// Of a session that was healed the files are asked, because the manifest may know nothing of them.
#[test]
fn what_a_crash_left_is_composed_from_the_files_themselves() {
    let mut stage = Stage::new("composed-healed");
    stage.person("Ada", 0, 0).tracks.clear();
    stage.session.state = State::Healed;
    let (path, _) = stage.compose("out.webm", look(Layout::Grid, "320x180", 25)).unwrap();
    let seconds = [1_000.0, 2_000.0, 3_000.0, 4_000.0];
    assert_at(&ffmpeg::flashes_in(&path, "crop=40:20:140:70"), &seconds, "flashes");
    assert_at(&beeps(&path), &seconds, "beeps");
}

#[test]
fn ctrl_c_ends_it_and_leaves_nothing() {
    let mut stage = Stage::new("composed-interrupted");
    for n in 0..6 {
        stage.person("somebody", 0, n * 5_000);
    }
    fs::write(stage.folder.join("session.json"), serde_json::to_vec(&stage.session).unwrap()).unwrap();
    let out = stage.folder.join("out.webm");
    let mut child = Command::new(env!("CARGO_BIN_EXE_exedra"))
        .arg("compose")
        .arg(&stage.folder)
        .args(["--size", "1920x1080", "--fps", "60", "-o"])
        .arg(&out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = stage.folder.join("out.webm.part");
    let until = Instant::now() + Duration::from_secs(60);
    while !part.join("v0.webm").exists() {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "it renders");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ffmpeg = || {
        let mine = |dir: fs::DirEntry| fs::read_link(dir.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&part));
        fs::read_dir("/proc").unwrap().map_while(Result::ok).filter(|dir| dir.path().join("cwd").is_symlink()).any(mine)
    };
    assert!(ffmpeg());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("interrupted"), "{said}");
    assert!(!part.exists() && !out.exists() && !ffmpeg());
}
