use super::super::script::{Backgrounds, Container, Job, batches, chunk, join, mix};
use super::*;
use crate::record::depacketize::Size;
use crate::record::manifest::{Ended, Participant, SizeChange, State, Track};
use proptest::prelude::*;

const CANVAS: Canvas = Canvas { width: 1280, height: 720 };
const GRID: Look = Look { layout: Layout::Grid, canvas: CANVAS, fps: 30 };
const SPEAKER: Look = Look { layout: Layout::Speaker, ..GRID };

fn session(participants: &[(&str, &str)], files: Vec<File>) -> Session {
    let participant =
        |(id, name): &(&str, &str)| Participant { id: (*id).into(), name: (*name).into(), joined_ms: 0, left_ms: None };
    Session {
        version: 1,
        id: "x".into(),
        room: "x".into(),
        started_at_ms: 0,
        ended_at_ms: None,
        state: State::Complete,
        ended: Some(Ended::Stopped),
        layout: None,
        participants: participants.iter().map(participant).collect(),
        files,
    }
}

fn track(kind: Kind, first_ms: u64, last_ms: u64) -> Track {
    let codec = if kind == Kind::Video { "VP8" } else { "opus" };
    let sizes = vec![SizeChange { at_ms: first_ms, size: Size { width: 640, height: 360 } }];
    let (id, codec) = (String::new(), codec.to_owned());
    Track { id, kind, codec, first_ms, last_ms, frames: 9, keyframes: 1, lost_packets: 0, sizes }
}

fn file(participant: &str, content: Content, video: Option<(u64, u64)>, audio: Option<(u64, u64)>) -> File {
    let video = video.map(|(first, last)| track(Kind::Video, first, last));
    let audio = audio.map(|(first, last)| track(Kind::Audio, first, last));
    let tracks: Vec<Track> = video.into_iter().chain(audio).collect();
    let start_ms = tracks.iter().map(|t| t.first_ms).min().unwrap_or(0);
    File {
        name: "x.webm".into(),
        participant: participant.into(),
        content,
        part: 1,
        start_ms,
        duration_ms: tracks.iter().map(|t| t.last_ms.saturating_sub(start_ms)).max().unwrap_or(0),
        tracks,
        gaps: Vec::new(),
        more_gaps: 0,
        av_offset: None,
        size: 1,
        sha256: None,
    }
}

/// `from-to name+video name …` in seconds; `+` where there is a picture.
fn told(plan: &Plan) -> Vec<String> {
    let seconds = |frame: u64| frame as f64 / f64::from(plan.look.fps);
    let scene = |s: &Scene| {
        let tile = |t: &Tile| format!("{}{}", plan.names[t.name], if t.video.is_some() { "+" } else { "" });
        let tiles: Vec<String> = s.tiles.iter().map(tile).collect();
        format!("{:.1}-{:.1} {}", seconds(s.frames.start), seconds(s.frames.end), tiles.join(" "))
    };
    plan.scenes.iter().map(scene).collect()
}

fn speech(at_ms: u64, loudest: &[&str]) -> Speech {
    Speech { at_ms, loudest: loudest.iter().map(|id| (*id).to_owned()).collect() }
}

#[test]
fn people_come_and_go_and_have_their_places_while_they_are_silent_and_dark() {
    let both = Some((1_000, 20_800));
    let mut ada = file("p1", Content::Camera, both, both);
    let gap = |kind, from_ms, to_ms, cause| Gap { kind, from_ms, to_ms, cause, packets: 0 };
    ada.gaps = vec![
        gap(Kind::Video, 9_800, 12_000, GapCause::Muted),
        gap(Kind::Video, 14_000, 17_000, GapCause::Loss),
        gap(Kind::Audio, 2_000, 5_000, GapCause::Muted),
    ];
    let bob = file("p2", Content::Camera, None, Some((5_000, 7_800)));
    let plan = Plan::new(&session(&[("p1", "Ada"), ("p2", "Bob"), ("p3", "Eve")], vec![ada, bob]), &[], GRID).unwrap();
    assert_eq!(
        told(&plan),
        ["0.0-4.0 Ada+", "4.0-7.0 Ada+ Bob", "7.0-9.0 Ada+", "9.0-11.0 Ada", "11.0-19.8 Ada+"],
        "what was lost stands still; Eve never published"
    );
    assert_eq!((plan.origin_ms, plan.frames), (1_000, 595));
    assert_eq!(plan.sounds, [Sound { file: 0, at_ms: 0 }, Sound { file: 1, at_ms: 4_000 }]);
}

#[test]
fn the_screen_is_large_else_who_speaks_for_more_than_a_word() {
    let camera = |id, to| file(id, Content::Camera, Some((0, to)), Some((0, to)));
    let screen = file("p2", Content::Screen, Some((20_000, 29_800)), None);
    let files = vec![camera("p1", 39_800), camera("p2", 39_800), camera("p3", 39_800), screen];
    let names = [("p1", "Ada"), ("p2", "Bob"), ("p3", "Eve")];
    let said = [
        speech(5_000, &["p3", "p1"]),
        speech(9_000, &[]),
        speech(10_000, &["p1"]),
        speech(10_500, &["p3"]),
        speech(15_000, &["p9", "p2"]),
    ];
    let plan = Plan::new(&session(&names, files.clone()), &said, SPEAKER).unwrap();
    assert_eq!(
        told(&plan),
        [
            "0.0-5.0 Ada+ Bob+ Eve+",
            "5.0-15.0 Eve+ Ada+ Bob+",
            "15.0-20.0 Bob+ Ada+ Eve+",
            "20.0-30.0 Bob (screen)+ Ada+ Bob+ Eve+",
            "30.0-39.8 Bob+ Ada+ Eve+"
        ]
    );
    let plan = Plan::new(&session(&names, files), &said, GRID).unwrap();
    assert_eq!(plan.scenes.len(), 3, "a grid does not care who speaks");
}

#[test]
fn a_room_that_is_full_of_pictures_shows_who_speaks_all_the_same() {
    let camera = |n: usize| file(&format!("p{n}"), Content::Camera, Some((0, 9_800)), None);
    let mut files: Vec<File> = (0..70).map(camera).collect();
    files.push(file("p0", Content::Screen, Some((0, 9_800)), None));
    let session = session(&[], files);
    let plan = Plan::new(&session, &[speech(5_000, &["p66"])], SPEAKER).unwrap();
    assert_eq!(plan.scenes[1].tiles.len(), 1 + MAX_OTHERS);
    assert!(told(&plan)[1].contains("p66+"), "{:?}", told(&plan));
    let plan = Plan::new(&session, &[], GRID).unwrap();
    assert_eq!(plan.scenes[0].tiles.len(), MAX_TILES);
    assert_eq!(Plan::new(&super::Session { files: vec![], ..session }, &[], GRID), Err(NothingRecorded));
}

#[test]
fn many_files_are_many_chunks_without_a_hole() {
    let camera = |n: u64| file(&format!("p{n}"), Content::Camera, Some((n * 1_000, n * 1_000 + 2_800)), None);
    let plan = Plan::new(&session(&[], (0..100).map(camera).collect()), &[], GRID).unwrap();
    let chunks = plan.chunks(10);
    assert!(chunks.len() > 8, "{}", chunks.len());
    let mut next = 0;
    for chunk in chunks {
        assert_eq!(chunk.start, next);
        next = chunk.end;
        let videos: BTreeSet<_> = plan.scenes[chunk].iter().flat_map(|s| &s.tiles).filter_map(|t| t.video).collect();
        assert!(videos.len() <= 10);
    }
    assert_eq!(next, plan.scenes.len());
}

fn wild_file() -> impl Strategy<Value = File> {
    let ms = || prop_oneof![0u64..100_000, any::<u64>()];
    let span = || proptest::option::of((ms(), ms()));
    let gap = (any::<bool>(), ms(), ms(), any::<bool>()).prop_map(|(video, from_ms, to_ms, muted)| Gap {
        kind: if video { Kind::Video } else { Kind::Audio },
        from_ms,
        to_ms,
        cause: if muted { GapCause::Muted } else { GapCause::Loss },
        packets: 0,
    });
    let gaps = proptest::collection::vec(gap, 0..6);
    (0u32..6, any::<bool>(), span(), span(), ms(), gaps).prop_map(|(who, screen, video, audio, start_ms, gaps)| {
        let content = if screen { Content::Screen } else { Content::Camera };
        File { start_ms, gaps, ..file(&format!("p{who}"), content, video, audio) }
    })
}

/// Every graph's inputs are there, every file is named plainly, and no name of a user is in an argument or a graph.
fn check(job: &Job) {
    for (name, text) in &job.files {
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'), "{name}");
        assert!(name.ends_with(".txt") || !text.contains('€'), "{name}: {text}");
    }
    assert!(!format!("{:?}", job.args).contains('€'));
}

proptest! {
    #[test]
    fn any_manifest_gives_a_plan_whose_scenes_follow_each_other(
        files in proptest::collection::vec(wild_file(), 0..12),
        said in proptest::collection::vec((any::<u64>(), 0u32..6), 0..20),
        joined in any::<u64>(),
        fps in 1u32..=60,
        large in any::<bool>(),
    ) {
        let mut session = session(&[("p1", "€';[out]%{pts}\\"), ("p1", "€2"), ("p2", "")], files);
        session.participants[1].joined_ms = joined;
        let mut said: Vec<_> = said.into_iter().map(|(at, who)| speech(at, &[&format!("p{who}")])).collect();
        said.sort_by_key(|s| s.at_ms);
        let layout = if large { Layout::Speaker } else { Layout::Grid };
        let Ok(plan) = Plan::new(&session, &said, Look { layout, canvas: CANVAS, fps }) else { return Ok(()) };
        let mut next = 0;
        for scene in &plan.scenes {
            prop_assert_eq!(scene.frames.start, next);
            prop_assert!(scene.frames.end > next);
            next = scene.frames.end;
            let videos: Vec<_> = scene.tiles.iter().filter_map(|t| t.video).collect();
            prop_assert_eq!(videos.iter().collect::<BTreeSet<_>>().len(), videos.len(), "a picture is in one place");
        }
        prop_assert_eq!(next, plan.frames);
        let backgrounds = Backgrounds::of(&plan);
        backgrounds.jobs(&plan, true, true).for_each(|job| check(&job));
        let chunks = plan.chunks(3);
        for (n, scenes) in chunks.iter().enumerate() {
            check(&chunk(&plan, &backgrounds, n, scenes.clone(), Container::WebM, |_| None));
        }
        (0..batches(&plan)).for_each(|n| check(&mix(&plan, n)));
        check(&join(&plan, &chunks, Container::Mp4));
    }
}
