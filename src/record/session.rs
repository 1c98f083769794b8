//! A recording of one room: a file for each participant's camera and microphone and for each of its screens, the manifest, the events.
//!
//! Pure: it is told what happens, and writes to a [`Storage`]. One thread owns it, and calls [`handle_timeout`](Session::handle_timeout) at
//! least every 100 ms. Its queue is to be bounded by whoever fills it; what did not fit in is told by
//! [`interrupt_all`](Session::interrupt_all).
use super::MediaPacket;
use super::manifest::{
    Content, Ended, EventLine, File, GapCause, Layout, Participant, Session as Manifest, State, Track, VERSION,
};
use super::recorder::{self, Recorder, SessionStart, SourceId, Summary, TrackSummary};
use super::webm::{TrackCodec, extension};
use crate::ids::{ParticipantId, TrackId};
use crate::metrics::DropReason;
use crate::rtp::Kind;
use crate::rtp::codec::Codec;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, Seek, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The manifest is written anew at most this often.
const MANIFEST: Duration = Duration::from_secs(1);
/// What the manifest says of files that grow is renewed this often: so much of it a crash may cost.
const RENEWAL: Duration = Duration::from_secs(10);
/// Sound waits so long for the first packet of its picture, which tells the codec and so the kind of file. What comes until then is left out.
const PICTURE: Duration = Duration::from_millis(500);
/// What a manifest tells is bounded: beyond it media is dropped by name, and events are not written.
const MAX_FILES: usize = 2_000;
const MAX_PARTICIPANTS: usize = 10_000;
const MAX_EVENTS: u64 = 1_000_000;

/// A recording's name, and that of its folder: 1 to 64 of `a`-`z`, `0`-`9` and `-`, so that it is harmless in a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(String);

/// Not a name that a recording has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a recording's id is 1 to 64 of a-z, 0-9 and -")]
pub struct InvalidSessionId;

impl TryFrom<&str> for SessionId {
    type Error = InvalidSessionId;
    fn try_from(s: &str) -> Result<Self, InvalidSessionId> {
        let harmless = s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if s.is_empty() || s.len() > 64 || !harmless { Err(InvalidSessionId) } else { Ok(Self(s.to_owned())) }
    }
}

impl SessionId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a media file. Made of numbers and our own words only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileName(String);

impl FileName {
    fn new(participant: ParticipantId, content: Content, number: u32, part: u32, extension: &str) -> Self {
        let content = match content {
            Content::Camera => "camera",
            Content::Screen => "screen",
            Content::Other => "other",
            Content::Composite => "composite",
        };
        let number = if number > 1 { number.to_string() } else { String::new() };
        Self(format!("{participant}-{content}{number}-{part}.{extension}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a session's files go.
pub trait Storage {
    type File: Write + Seek;
    /// Makes a file that was not there.
    fn create(&mut self, name: &FileName) -> io::Result<Self::File>;
    /// The file is finished: gives its SHA-256 in hexadecimal. `None`: that will be told by [`Session::handle_hash`].
    fn close(&mut self, name: &FileName, file: Self::File) -> io::Result<Option<String>>;
    /// Takes a file away again in which nothing was written.
    fn discard(&mut self, name: &FileName, file: Self::File) -> io::Result<()>;
    /// Replaces `session.json` as a whole.
    fn write_manifest(&mut self, manifest: &Manifest) -> io::Result<()>;
    /// Adds a line to `events.jsonl`.
    fn write_event(&mut self, line: &EventLine) -> io::Result<()>;
}

/// A track that is to be recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrackInfo {
    pub id: TrackId,
    pub participant: ParticipantId,
    pub content: Content,
    pub kind: Kind,
}

/// What a session wants, or tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Ask the publisher of this track for a keyframe of this source. At most one a second for each track.
    WantKeyframe { track: TrackId, source: SourceId },
    /// It ended by itself: the disk is full, or refused to write. What was recorded is there.
    Ended(Ended),
}

/// See the module.
#[derive(Debug)]
pub struct Session<S: Storage> {
    storage: S,
    start: SessionStart,
    /// The video codec that was seen last: a file that begins with sound has a place for it.
    usual: Codec,
    manifest: Manifest,
    tracks: BTreeMap<TrackId, (TrackInfo, usize)>,
    groups: Vec<Group<S::File>>,
    events: VecDeque<Event>,
    event_lines: u64,
    changed: bool,
    manifest_written: Option<Instant>,
    renewed: Option<Instant>,
    floor: u64,
    /// Files that are closed and whose hash is to come.
    hashing: usize,
    /// The disk has refused something.
    failed: bool,
}

/// What goes into one file, or into the parts of it.
#[derive(Debug)]
struct Group<F> {
    participant: ParticipantId,
    content: Content,
    /// Counted from 1 among those of its participant and content.
    number: u32,
    /// Nothing but this goes into it.
    only: Option<Kind>,
    video: Option<TrackId>,
    audio: Option<TrackId>,
    /// The last codec of the video.
    codec: Option<Codec>,
    open: Option<Open<F>>,
    parts: u32,
    /// The first sound that came when the codec of the video was not known.
    sound_since: Option<Instant>,
}

#[derive(Debug)]
struct Open<F> {
    name: FileName,
    recorder: Recorder<F>,
    /// Its place in the manifest.
    file: usize,
    /// Those that were last in it, for the manifest.
    video: Option<TrackId>,
    audio: Option<TrackId>,
    codec: Codec,
}

impl<S: Storage> Session<S> {
    /// Begins a recording. `room` is what its owner named it; `usual` the video codec that is to be expected; `floor` the bytes that have to
    /// stay free on the disk.
    pub fn new(id: &SessionId, room: &str, start: SessionStart, usual: Codec, floor: u64, storage: S) -> Self {
        let manifest = Manifest {
            version: VERSION,
            id: id.0.clone(),
            room: room.to_owned(),
            started_at_ms: unix_ms(start.wall),
            ended_at_ms: None,
            state: State::Recording,
            ended: None,
            layout: None,
            participants: Vec::new(),
            files: Vec::new(),
        };
        Self {
            storage,
            start,
            usual,
            manifest,
            tracks: BTreeMap::new(),
            groups: Vec::new(),
            events: VecDeque::new(),
            event_lines: 0,
            changed: true,
            manifest_written: None,
            renewed: None,
            floor,
            hashing: 0,
            failed: false,
        }
    }

    /// How a composite of it is to be arranged.
    pub fn arrange(&mut self, layout: Layout) {
        self.manifest.layout = Some(layout);
        self.changed = true;
    }

    /// Somebody is in the room.
    pub fn handle_joined(&mut self, now: Instant, id: ParticipantId, name: &str) {
        if self.manifest.participants.len() < MAX_PARTICIPANTS {
            let (id, name, joined_ms) = (id.to_string(), name.to_owned(), self.ms(now));
            self.manifest.participants.push(Participant { id, name, joined_ms, left_ms: None });
            self.changed = true;
        }
    }

    /// Somebody left the room. Its files are closed.
    pub fn handle_left(&mut self, now: Instant, id: ParticipantId) {
        let (at, written) = (self.ms(now), id.to_string());
        let mut entries = self.manifest.participants.iter_mut().rev();
        if let Some(entry) = entries.find(|p| p.id == written && p.left_ms.is_none()) {
            entry.left_ms = Some(at);
        }
        self.changed = true;
        self.tracks.retain(|_, (info, _)| info.participant != id);
        for group in 0..self.groups.len() {
            if self.groups[group].participant == id {
                (self.groups[group].video, self.groups[group].audio) = (None, None);
                self.close_group(now, group);
            }
        }
    }

    /// A track is to be recorded. One that takes the place of another (published anew after a reconnect) goes on in its file.
    pub fn handle_published(&mut self, info: TrackInfo) {
        if self.tracks.contains_key(&info.id) {
            return;
        }
        let own = |g: &Group<S::File>| g.participant == info.participant && g.content == info.content;
        let takes = |g: &Group<S::File>| g.only.is_none_or(|kind| kind == info.kind) && g.track(info.kind).is_none();
        let free = self.groups.iter().position(|g| own(g) && takes(g));
        let group = free.unwrap_or_else(|| {
            let number = self.groups.iter().filter(|g| own(g)).count() as u32 + 1;
            let only = (info.content == Content::Other).then_some(info.kind);
            self.groups.push(Group::new(info.participant, info.content, number, only));
            self.groups.len() - 1
        });
        *self.groups[group].slot(info.kind) = Some(info.id);
        self.tracks.insert(info.id, (info, group));
    }

    /// A track is no longer published, or no longer recorded.
    pub fn handle_unpublished(&mut self, id: TrackId) {
        self.interrupt(id, GapCause::PublisherGone);
        if let Some((info, group)) = self.tracks.remove(&id) {
            *self.groups[group].slot(info.kind) = None;
        }
    }

    /// A track is muted. That it is heard or seen again shows by its packets.
    pub fn handle_muted(&mut self, id: TrackId) {
        self.interrupt(id, GapCause::Muted);
    }

    /// Packets of a track will be missing for a reason that is known.
    pub fn interrupt(&mut self, id: TrackId, cause: GapCause) {
        let Some((info, group)) = self.tracks.get(&id) else { return };
        if let Some(open) = &mut self.groups[*group].open {
            open.recorder.interrupt(info.kind, cause);
        }
    }

    /// Packets of whatever track did not get here.
    pub fn interrupt_all(&mut self, cause: GapCause) {
        let all: Vec<_> = self.tracks.keys().copied().collect();
        all.into_iter().for_each(|id| self.interrupt(id, cause));
    }

    /// A packet of a track.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        id: TrackId,
        source: SourceId,
        packet: MediaPacket<'_>,
    ) -> Result<(), DropReason> {
        if self.has_ended() {
            return Err(DropReason::Unwanted);
        }
        let &(info, group) = self.tracks.get(&id).ok_or(DropReason::Unwanted)?;
        let codec = packet.info.codec;
        if codec.kind() != info.kind {
            return Err(DropReason::CodecNotNegotiated);
        }
        if info.kind == Kind::Video {
            let at = &mut self.groups[group];
            at.codec = Some(codec);
            self.usual = codec;
            // Another codec is for another file.
            let other = |open: &Open<S::File>| TrackCodec::of(open.codec) != TrackCodec::of(codec);
            if at.open.as_ref().is_some_and(other) {
                self.close_group(now, group);
            }
        }
        if self.groups[group].waits_for_picture(now) {
            return Err(DropReason::Unwanted);
        }
        self.open_group(now, group)?;
        let Some(open) = &mut self.groups[group].open else { return Err(DropReason::Unwanted) };
        match info.kind {
            Kind::Video => open.video = Some(id),
            Kind::Audio => open.audio = Some(id),
        }
        open.recorder.handle_packet(now, source, packet)
    }

    /// An event of the room. Beyond a million they are not written.
    pub fn handle_event(&mut self, now: Instant, kind: &str, data: serde_json::Value) {
        if self.has_ended() || self.event_lines >= MAX_EVENTS {
            return;
        }
        self.event_lines += 1;
        let line = EventLine { t_ms: self.ms(now), kind: kind.to_owned(), data };
        let written = self.storage.write_event(&line);
        self.check(now, written);
    }

    /// So many bytes are free on the disk.
    pub fn handle_free_space(&mut self, now: Instant, free: u64) {
        if free < self.floor {
            self.fail(now, Ended::DiskFull);
        }
    }

    /// It cannot go on, for a reason that is the disk's. Told by [`Event::Ended`].
    pub fn fail(&mut self, now: Instant, why: Ended) {
        if !self.has_ended() {
            self.events.push_back(Event::Ended(why));
            self.close(now, why);
        }
    }

    /// The SHA-256 of a file whose [`Storage::close`] had none.
    pub fn handle_hash(&mut self, now: Instant, name: &FileName, hash: io::Result<String>) {
        self.hashing = self.hashing.saturating_sub(1);
        let hash = self.check(now, hash);
        if let Some(file) = self.manifest.files.iter_mut().find(|f| f.name == name.0) {
            file.sha256 = hash;
            self.changed = true;
        }
        if self.is_settled() {
            self.close_manifest();
        }
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        for group in 0..self.groups.len() {
            let Some(open) = &mut self.groups[group].open else { continue };
            let written = open.recorder.handle_timeout(now);
            while let Some(event) = open.recorder.poll_event() {
                if let (recorder::Event::WantKeyframe(source), Some(track)) = (event, open.video) {
                    self.events.push_back(Event::WantKeyframe { track, source });
                }
            }
            if self.check(now, written).is_none() {
                return;
            }
        }
        if self.renewed.is_none_or(|at| now >= at + RENEWAL) {
            self.renewed = Some(now);
            self.renew();
        }
        let due = self.manifest_written.is_none_or(|at| now >= at + MANIFEST);
        if self.changed && due && !self.has_ended() {
            (self.changed, self.manifest_written) = (false, Some(now));
            let written = self.storage.write_manifest(&self.manifest);
            self.check(now, written);
        }
    }

    /// What has come up.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Why it has ended.
    pub fn ended(&self) -> Option<Ended> {
        self.manifest.ended
    }

    pub fn has_ended(&self) -> bool {
        self.manifest.ended.is_some()
    }

    /// It has ended, and there is nothing left to wait for.
    pub fn is_settled(&self) -> bool {
        self.has_ended() && self.hashing == 0
    }

    /// Ends the recording: closes its files, and the manifest when all hashes are there. An error of the disk leaves files that can be
    /// healed.
    pub fn end(&mut self, now: Instant, ended: Ended) {
        if !self.has_ended() {
            self.close(now, ended);
        }
    }

    /// Ends it where hashes are not waited for.
    pub fn finish(mut self, now: Instant, ended: Ended) -> (S, Manifest) {
        self.end(now, ended);
        (self.storage, self.manifest)
    }

    /// Files that are being written, and the bytes in all of them.
    pub fn written(&self) -> (usize, u64) {
        let open = self.groups.iter().filter_map(|g| g.open.as_ref());
        let closed: u64 = self.manifest.files.iter().map(|f| f.size).sum();
        open.fold((0, closed), |(n, bytes), open| (n + 1, bytes + open.recorder.written()))
    }

    fn open_group(&mut self, now: Instant, at: usize) -> Result<(), DropReason> {
        let group = &mut self.groups[at];
        if group.open.is_some() {
            return Ok(());
        }
        if self.manifest.files.len() >= MAX_FILES {
            return Err(DropReason::Unwanted);
        }
        let codec = group.codec.unwrap_or(self.usual);
        let part = group.parts + 1;
        let kind = extension(&[TrackCodec::of(codec), TrackCodec::of(Codec::Opus)]);
        let name = FileName::new(group.participant, group.content, group.number, part, kind);
        let created = self.storage.create(&name);
        let Some(file) = self.check(now, created) else { return Err(DropReason::Unwanted) };
        let recorder = Recorder::new(now, self.start, Some(codec), Some(Codec::Opus), file);
        let group = &mut self.groups[at];
        group.parts = part;
        let file = self.manifest.files.len();
        self.manifest.files.push(File {
            name: name.0.clone(),
            participant: group.participant.to_string(),
            content: group.content,
            part,
            start_ms: millis(now.saturating_duration_since(self.start.instant)),
            duration_ms: 0,
            tracks: Vec::new(),
            gaps: Vec::new(),
            more_gaps: 0,
            av_offset: None,
            size: 0,
            sha256: None,
        });
        self.changed = true;
        group.open = Some(Open { name, recorder, file, video: group.video, audio: group.audio, codec });
        Ok(())
    }

    /// Writes into the manifest what the files that grow have come to.
    fn renew(&mut self) {
        for open in self.groups.iter().filter_map(|g| g.open.as_ref()).filter(|o| o.recorder.written() > 0) {
            // Size and duration are for files that are closed.
            let summary = Summary { size: 0, duration: Duration::ZERO, ..open.recorder.summary() };
            describe(&mut self.manifest.files[open.file], summary, None, (open.video, open.audio, open.codec));
            self.changed = true;
        }
    }

    fn close_group(&mut self, now: Instant, at: usize) {
        let Some(Open { name, recorder, file, video, audio, codec }) = self.groups[at].open.take() else { return };
        self.changed = true;
        let closed = recorder.finish(now).and_then(|(out, summary)| {
            if summary.size == 0 {
                return self.storage.discard(&name, out).map(|()| (summary, None));
            }
            self.storage.close(&name, out).map(|hash| (summary, hash))
        });
        match closed {
            Ok((summary, sha256)) => {
                self.hashing += usize::from(summary.size > 0 && sha256.is_none());
                describe(&mut self.manifest.files[file], summary, sha256, (video, audio, codec));
            }
            // When the session is ending already, the first reason stays.
            Err(error) => drop(self.check::<()>(now, Err(error))),
        }
    }

    /// An error of the disk ends the recording.
    fn check<T>(&mut self, now: Instant, result: io::Result<T>) -> Option<T> {
        let ended = match result {
            Ok(value) => return Some(value),
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                Ended::DiskFull
            }
            Err(_) => Ended::DiskError,
        };
        self.failed = true;
        self.fail(now, ended);
        None
    }

    fn close(&mut self, now: Instant, ended: Ended) {
        self.manifest.ended = Some(ended);
        self.manifest.ended_at_ms = Some(self.manifest.started_at_ms + self.ms(now));
        for group in 0..self.groups.len() {
            self.close_group(now, group);
        }
        // A file in which nothing was written is not there. What could not be closed is left as it is, to be healed.
        if !self.failed {
            self.manifest.files.retain(|f| f.size > 0);
        }
        self.close_manifest();
    }

    fn close_manifest(&mut self) {
        let open = self.manifest.files.iter().any(|f| f.sha256.is_none());
        self.manifest.state = if open { State::Recording } else { State::Complete };
        // If this fails too, the next start finds the session unfinished.
        let _ = self.storage.write_manifest(&self.manifest);
    }

    fn ms(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.start.instant))
    }
}

impl<F> Group<F> {
    fn new(participant: ParticipantId, content: Content, number: u32, only: Option<Kind>) -> Self {
        let (video, audio, codec, open) = (None, None, None, None);
        Self { participant, content, number, only, video, audio, codec, open, parts: 0, sound_since: None }
    }

    /// Whether a file that sound would begin now is to wait, for its kind is not known yet.
    fn waits_for_picture(&mut self, now: Instant) -> bool {
        let unknown = self.open.is_none() && self.codec.is_none() && self.video.is_some();
        unknown && now < *self.sound_since.get_or_insert(now) + PICTURE
    }

    fn track(&self, kind: Kind) -> Option<TrackId> {
        match kind {
            Kind::Video => self.video,
            Kind::Audio => self.audio,
        }
    }

    fn slot(&mut self, kind: Kind) -> &mut Option<TrackId> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }
}

/// Writes into the manifest what a file came to.
fn describe(file: &mut File, summary: Summary, sha256: Option<String>, of: (Option<TrackId>, Option<TrackId>, Codec)) {
    let (video, audio, codec) = of;
    let track = |id: Option<TrackId>, kind, codec: &str, s: TrackSummary| Track {
        id: id.map(|id| id.to_string()).unwrap_or_default(),
        kind,
        codec: codec.to_owned(),
        first_ms: millis(s.first),
        last_ms: millis(s.last),
        frames: s.frames,
        keyframes: s.keyframes,
        lost_packets: s.lost_packets,
        sizes: s.sizes,
    };
    let video = summary.video.map(|s| track(video, Kind::Video, codec.name(), s));
    let audio = summary.audio.map(|s| track(audio, Kind::Audio, Codec::Opus.name(), s));
    file.tracks = video.into_iter().chain(audio).collect();
    file.start_ms = millis(summary.start);
    file.duration_ms = millis(summary.duration);
    (file.gaps, file.more_gaps, file.av_offset) = (summary.gaps, summary.more_gaps, summary.av_offset);
    (file.size, file.sha256) = (summary.size, sha256);
}

fn millis(d: Duration) -> u64 {
    d.as_millis() as u64
}

fn unix_ms(at: SystemTime) -> u64 {
    millis(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests;
