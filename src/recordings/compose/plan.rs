//! What is to be seen and heard when: from a manifest to scenes. Pure.
//!
//! Time is cut where something changes: somebody comes or goes, a picture begins or stops, a screen is shared, somebody else speaks.
//! Between two cuts is a [`Scene`]. Scenes lie on the frames of the composite, so that rounding adds up to nothing.
use super::layout::{Canvas, Place, grid, speaker};
use crate::record::manifest::{Content, EventLine, File, Gap, GapCause, Layout, Session};
use crate::rtp::Kind;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Pictures at a time. Of more, those who are seen come first.
pub const MAX_TILES: usize = 64;
/// Pictures beside the large one.
const MAX_OTHERS: usize = 6;
/// A picture stands for so long after its last frame, in milliseconds.
const LAST_FRAME: u64 = 200;
/// Who speaks for less than this does not become the large picture, in milliseconds.
const SHORT_SPEECH: u64 = 1_500;
/// A pause of the picture that is shorter stays a still picture, in milliseconds.
const SHORT_PAUSE: u64 = 700;
/// A session is not longer than 60 days, whatever its manifest says.
const LONGEST: u64 = 60 * 24 * 3_600_000;

/// How a composite looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    pub layout: Layout,
    pub canvas: Canvas,
    /// Frames per second, 1 to 60.
    pub fps: u32,
}

/// Everything that a composite is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub look: Look,
    /// The composite's zero, in milliseconds since the session began.
    pub origin_ms: u64,
    /// Frames of the whole.
    pub frames: u64,
    /// Without a hole from frame 0 to the last one. Never empty.
    pub scenes: Vec<Scene>,
    pub videos: Vec<Video>,
    pub sounds: Vec<Sound>,
    /// As people call themselves: not fit for anything but to be shown.
    pub names: Vec<String>,
}

/// A stretch in which nothing changes but the pictures themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scene {
    /// Frames of the composite. Never empty.
    pub frames: Range<u64>,
    pub tiles: Vec<Tile>,
}

/// Somebody, or a screen, on the canvas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tile {
    pub place: Place,
    /// Index into [`Plan::names`].
    pub name: usize,
    /// Index into [`Plan::videos`]. `None`: there is no picture at present.
    pub video: Option<usize>,
}

/// The picture of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Video {
    /// Index into the manifest's files.
    pub file: usize,
    /// As the manifest writes it.
    pub codec: String,
    /// The file's zero, in milliseconds since the session began.
    pub start_ms: u64,
    /// Of its first frame, likewise.
    pub first_ms: u64,
    /// When it is to be seen, likewise.
    shown: Vec<Range<u64>>,
}

/// The sound of a file. It has no holes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sound {
    /// Index into the manifest's files.
    pub file: usize,
    /// Of its first sample, in milliseconds after the composite's zero.
    pub at_ms: u64,
}

/// Who spoke, from here on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Speech {
    /// Milliseconds since the session began.
    pub at_ms: u64,
    /// Participants, loudest first.
    pub loudest: Vec<String>,
}

impl Speech {
    /// Of a line of `events.jsonl` that tells it.
    pub fn of(line: EventLine) -> Option<Self> {
        #[derive(Deserialize)]
        struct Level {
            participant: String,
        }
        if line.kind != "speakers" {
            return None;
        }
        let levels: Vec<Level> = serde_json::from_value(line.data).ok()?;
        Some(Self { at_ms: line.t_ms, loudest: levels.into_iter().map(|l| l.participant).collect() })
    }
}

/// There is no sound and no picture in any file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is nothing in it: no file with sound or picture")]
pub struct NothingRecorded;

impl Plan {
    /// Makes a plan of a manifest and of who spoke when, in the order of time.
    pub fn new(session: &Session, speech: &[Speech], look: Look) -> Result<Self, NothingRecorded> {
        let mut cast = Cast::new(session);
        let (origin, end) = cast.bounds(session).ok_or(NothingRecorded)?;
        let frame = |ms: u64| (ms.clamp(origin, end) - origin) * u64::from(look.fps) / 1_000;
        let frames = frame(end).max(1);
        let sounds = std::mem::take(&mut cast.sounds);
        let scenes = Stage::new(&cast, look).play(cast.changes(speech, look.layout), frame, frames);
        Ok(Self {
            look,
            origin_ms: origin,
            frames,
            scenes,
            videos: cast.videos,
            sounds: sounds.into_iter().map(|s| Sound { at_ms: s.at_ms.saturating_sub(origin), ..s }).collect(),
            names: cast.names,
        })
    }

    /// Of the whole, in milliseconds.
    pub fn length_ms(&self) -> u64 {
        self.frames * 1_000 / u64::from(self.look.fps)
    }

    /// Runs of scenes that together need no more than so many videos; a scene that needs more is alone.
    pub fn chunks(&self, videos: usize) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let (mut start, mut used) = (0, BTreeSet::new());
        for (n, scene) in self.scenes.iter().enumerate() {
            let own: BTreeSet<usize> = scene.tiles.iter().filter_map(|t| t.video).collect();
            if n > start && used.union(&own).count() > videos {
                chunks.push(start..n);
                (start, used) = (n, BTreeSet::new());
            }
            used.extend(own);
        }
        chunks.push(start..self.scenes.len());
        chunks
    }
}

/// Who and what may be on the canvas.
struct Cast {
    names: Vec<String>,
    /// The participants' places in `names`.
    participants: BTreeMap<String, usize>,
    seats: Vec<Seat>,
    videos: Vec<Video>,
    /// Times are still those of the session.
    sounds: Vec<Sound>,
}

/// Somebody while there are files of it, or a screen.
struct Seat {
    name: usize,
    screen: bool,
    here: Range<u64>,
    videos: Vec<usize>,
}

impl Cast {
    fn new(session: &Session) -> Self {
        let mut cast = Self {
            names: Vec::new(),
            participants: BTreeMap::new(),
            seats: Vec::new(),
            videos: Vec::new(),
            sounds: Vec::new(),
        };
        for participant in &session.participants {
            let name = cast.name(&participant.id);
            if !participant.name.is_empty() {
                cast.names[name].clone_from(&participant.name);
            }
        }
        for (n, file) in session.files.iter().enumerate() {
            if file.content != Content::Composite {
                cast.add_file(session, n, file);
            }
        }
        cast
    }

    fn name(&mut self, id: &str) -> usize {
        if let Some(name) = self.participants.get(id) {
            return *name;
        }
        self.names.push(id.to_owned());
        self.participants.insert(id.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    fn add_file(&mut self, session: &Session, n: usize, file: &File) {
        let mut here: Option<Range<u64>> = None;
        let mut video = None;
        for track in file.tracks.iter().filter(|t| t.frames > 0) {
            let first = track.first_ms.min(LONGEST);
            let end = track.last_ms.clamp(first, LONGEST) + LAST_FRAME;
            here = Some(here.map_or(first..end, |h| h.start.min(first)..h.end.max(end)));
            match track.kind {
                Kind::Audio => self.sounds.push(Sound { file: n, at_ms: first }),
                Kind::Video => {
                    let (start_ms, shown) = (file.start_ms.min(LONGEST), shown(first..end, &file.gaps));
                    let codec = track.codec.clone();
                    self.videos.push(Video { file: n, codec, start_ms, first_ms: first, shown });
                    video = Some(self.videos.len() - 1);
                }
            }
        }
        let Some(here) = here else { return };
        let name = self.name(&file.participant);
        match (file.content, video) {
            (Content::Screen, Some(video)) => {
                self.names.push(format!("{} (screen)", self.names[name]));
                let stretches = self.videos[video].shown.clone();
                let seat = |here| Seat { name: self.names.len() - 1, screen: true, here, videos: vec![video] };
                self.seats.extend(stretches.into_iter().map(seat));
            }
            // The sound of a screen has no place on the canvas.
            (Content::Screen, None) => {}
            _ => self.seat(session, name, here, &file.participant, video),
        }
    }

    /// A place for a participant's camera file. Files of one stay in the room are one place.
    fn seat(&mut self, session: &Session, name: usize, here: Range<u64>, id: &str, video: Option<usize>) {
        let of = |p: &&crate::record::manifest::Participant| p.id == id && p.joined_ms <= here.end;
        let stay = session.participants.iter().rev().find(of);
        let since = stay.map_or(0, |p| p.joined_ms);
        let own = |s: &&mut Seat| s.name == name && !s.screen && s.here.end > since;
        match self.seats.iter_mut().rev().find(own) {
            Some(seat) => {
                seat.here = seat.here.start.min(here.start)..seat.here.end.max(here.end);
                seat.videos.extend(video);
            }
            None => self.seats.push(Seat { name, screen: false, here, videos: video.into_iter().collect() }),
        }
    }

    /// From the first to the last of all, in milliseconds since the session began.
    fn bounds(&self, session: &Session) -> Option<(u64, u64)> {
        let files = || session.files.iter().filter(|f| f.content != Content::Composite);
        let tracks = || files().flat_map(|f| &f.tracks).filter(|t| t.frames > 0);
        let start = tracks().map(|t| t.first_ms.min(LONGEST)).min()?;
        let end = tracks().map(|t| t.last_ms.min(LONGEST)).max()?;
        // The last picture, or the last packet of sound, lasts a while.
        Some((start, end.max(start) + 40))
    }

    /// What changes when, in milliseconds since the session began.
    fn changes(&self, speech: &[Speech], layout: Layout) -> Vec<(u64, Change)> {
        let mut changes = Vec::new();
        for (n, seat) in self.seats.iter().enumerate() {
            changes.extend([(seat.here.start, Change::Here(n, true)), (seat.here.end, Change::Here(n, false))]);
        }
        for (n, video) in self.videos.iter().enumerate() {
            let times = |s: &Range<u64>| [(s.start, Change::Shown(n, true)), (s.end, Change::Shown(n, false))];
            changes.extend(video.shown.iter().flat_map(times));
        }
        if layout == Layout::Speaker {
            changes.extend(self.speakers(speech).into_iter().map(|(at, name)| (at, Change::Speaks(name))));
        }
        // What ends comes before what begins at the same time.
        changes.sort_by_key(|(at, change)| (*at, matches!(change, Change::Here(_, true) | Change::Shown(_, true))));
        changes
    }

    /// Who is to be large from when on. Silence changes nothing, and neither does who speaks only shortly.
    fn speakers(&self, speech: &[Speech]) -> Vec<(u64, usize)> {
        let mut turns: Vec<(u64, usize)> = Vec::new();
        for Speech { at_ms, loudest } in speech {
            let Some(name) = loudest.iter().find_map(|id| self.participants.get(id)) else { continue };
            if turns.last().is_none_or(|(_, last)| last != name) {
                turns.push((*at_ms, *name));
            }
        }
        let mut kept: Vec<(u64, usize)> = Vec::new();
        for (n, (at, name)) in turns.iter().enumerate() {
            let lasts = turns.get(n + 1).map_or(u64::MAX, |(next, _)| next.saturating_sub(*at));
            if lasts >= SHORT_SPEECH && kept.last().is_none_or(|(_, last)| last != name) {
                kept.push((*at, *name));
            }
        }
        kept
    }
}

/// When a video is to be seen: not while it is muted, or its publisher is away.
fn shown(whole: Range<u64>, gaps: &[Gap]) -> Vec<Range<u64>> {
    let away = |g: &&Gap| {
        let cause = matches!(g.cause, GapCause::Muted | GapCause::PublisherGone);
        g.kind == Kind::Video && cause && g.to_ms.saturating_sub(g.from_ms) >= SHORT_PAUSE
    };
    let mut gaps: Vec<_> = gaps.iter().filter(away).collect();
    gaps.sort_by_key(|g| g.from_ms);
    let (mut from, mut shown) = (whole.start, Vec::new());
    for gap in gaps {
        let until = gap.from_ms.saturating_add(LAST_FRAME).min(whole.end);
        if until > from {
            shown.push(from..until);
        }
        from = from.max(gap.to_ms);
    }
    if from < whole.end {
        shown.push(from..whole.end);
    }
    shown
}

/// Something of what is on the canvas changes.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A seat is taken, or empty.
    Here(usize, bool),
    Shown(usize, bool),
    /// Index into the names.
    Speaks(usize),
}

/// What is on the canvas at a time.
struct Stage<'a> {
    cast: &'a Cast,
    look: Look,
    here: BTreeSet<usize>,
    shown: BTreeSet<usize>,
    speaker: Option<usize>,
}

impl<'a> Stage<'a> {
    fn new(cast: &'a Cast, look: Look) -> Self {
        Self { cast, look, here: BTreeSet::new(), shown: BTreeSet::new(), speaker: None }
    }

    fn play(mut self, changes: Vec<(u64, Change)>, frame: impl Fn(u64) -> u64, frames: u64) -> Vec<Scene> {
        let mut scenes: Vec<Scene> = Vec::new();
        let mut from = 0;
        let mut add = |frames: Range<u64>, tiles: Vec<Tile>| match scenes.last_mut() {
            Some(last) if last.tiles == tiles => last.frames.end = frames.end,
            _ => scenes.push(Scene { frames, tiles }),
        };
        for (at, change) in changes {
            let at = frame(at).min(frames);
            if at > from {
                add(from..at, self.tiles());
                from = at;
            }
            self.apply(change);
        }
        if from < frames {
            add(from..frames, self.tiles());
        }
        scenes
    }

    fn apply(&mut self, change: Change) {
        let (set, n, is) = match change {
            Change::Here(seat, is) => (&mut self.here, seat, is),
            Change::Shown(video, is) => (&mut self.shown, video, is),
            Change::Speaks(name) => {
                self.speaker = Some(name);
                return;
            }
        };
        if is {
            set.insert(n)
        } else {
            set.remove(&n)
        };
    }

    fn tiles(&self) -> Vec<Tile> {
        let mut seats: Vec<&Seat> = self.here.iter().map(|n| &self.cast.seats[*n]).collect();
        seats.sort_by_key(|s| (!s.screen, s.here.start));
        match self.look.layout {
            Layout::Grid => {
                if seats.len() > MAX_TILES {
                    seats.sort_by_key(|s| self.video(s).is_none());
                    seats.truncate(MAX_TILES);
                }
                let places = grid(self.look.canvas, seats.len());
                places.into_iter().zip(seats).map(|(place, seat)| self.tile(place, seat)).collect()
            }
            Layout::Speaker => self.one_large(seats),
        }
    }

    /// The first screen is large, else who speaks, else whoever has a picture.
    fn one_large(&self, mut seats: Vec<&Seat>) -> Vec<Tile> {
        let speaks = |s: &&Seat| !s.screen && Some(s.name) == self.speaker;
        let large = (seats.iter().position(|s| s.screen))
            .or_else(|| seats.iter().position(&speaks))
            .or_else(|| seats.iter().position(|s| self.video(s).is_some()))
            .unwrap_or(0);
        if seats.is_empty() {
            return Vec::new();
        }
        let large = seats.remove(large);
        if seats.len() > MAX_OTHERS {
            // Who speaks is to be seen in any case.
            seats.sort_by_key(|s| (!s.screen && !speaks(s), self.video(s).is_none()));
            seats.truncate(MAX_OTHERS);
            seats.sort_by_key(|s| (!s.screen, s.here.start));
        }
        let (place, places) = speaker(self.look.canvas, seats.len());
        let others = places.into_iter().zip(seats).map(|(place, seat)| self.tile(place, seat));
        std::iter::once(self.tile(place, large)).chain(others).collect()
    }

    fn tile(&self, place: Place, seat: &Seat) -> Tile {
        Tile { place, name: seat.name, video: self.video(seat) }
    }

    /// What a seat shows: of several videos the one that began last.
    fn video(&self, seat: &Seat) -> Option<usize> {
        seat.videos.iter().rev().copied().find(|v| self.shown.contains(v))
    }
}

#[cfg(test)]
mod tests;
