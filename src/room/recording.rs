//! The recording of a room: who wants it, what it is told, and what the participants are told of it.
//!
//! There is one at a time. Whoever asks for it is one of its owners, and it ends when no owner is left, or nobody is in the room.
//! An owner who leaves still is one, so that neither a reload nor an early departure ends it.
use super::api::{HttpId, HttpResponse, Output, RecordingCommand, RecordingEvent, RecordingFailure, RecordingStop};
use super::messages::{
    self as msg, ApiError, ErrorCode, Event, Record, RecordAction, RecordLayout, RecordingState, RecordingWhy,
};
use super::participant::{Participant, Track};
use super::presence::Standing;
use super::queries::shown;
use super::requests::{ENTRIES, Reply, bad, now};
use super::session::EventText;
use super::timers::Timer;
use super::{At, Index, Room};
use crate::engine::Command;
use crate::ids::{ParticipantId, RecordingId, TrackId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long it may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(4);
/// After which time a room that is always recorded tries again.
const RETRY: Duration = Duration::from_secs(60);

/// Owners that are remembered although they have left.
const OWNERS: usize = 64;
/// How owners are written that are no participants.
const ADMIN: &str = "admin";
const SERVER: &str = "server";

/// The recording of one room.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    /// As soon as anybody publishes, the server wants it.
    always: bool,
    /// An operator stopped what is always recorded: the server leaves it at that until the room is empty.
    dismissed: bool,
    /// It failed, and the server does not try again before.
    retry_at: Option<Instant>,
    run: Option<Run>,
}

/// From `Start` to `Stop`.
#[derive(Debug)]
struct Run {
    id: RecordingId,
    /// Name and start, in Unix milliseconds, once it has begun.
    begun: Option<(String, u64)>,
    owners: BTreeMap<Owner, Wish>,
    /// Who is to be told when it has begun.
    waiting: Vec<Asker>,
    /// Whom it was told of.
    present: BTreeSet<ParticipantId>,
    /// What it gets.
    tracks: BTreeSet<TrackId>,
    /// Who speaks, as it was told.
    speaking: Vec<String>,
    /// What the participants were told.
    told: Option<msg::Recording>,
}

/// Who wants a recording.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// The room is always recorded.
    Server,
    Admin,
    /// By its token: it may come back.
    Identity(String),
    Guest(ParticipantId),
}

/// What an owner wants.
#[derive(Debug)]
struct Wish {
    /// Who it was when it asked.
    asked: Option<ParticipantId>,
    /// None: all.
    tracks: Option<BTreeSet<TrackId>>,
}

#[derive(Clone, Copy, Debug)]
enum Asker {
    Request(ParticipantId, u64),
    Http(HttpId),
}

impl Recorder {
    /// `always`: the room is recorded whenever anybody publishes.
    pub fn new(always: bool) -> Self {
        Self { always, ..Self::default() }
    }

    /// The room is empty: nothing of what was decided holds for those who come next.
    pub fn begin_anew(&mut self) {
        *self = Self::new(self.always);
    }

    /// The one that there is, and whether it has begun.
    #[cfg(test)]
    pub fn running(&self) -> Option<(RecordingId, bool)> {
        self.run.as_ref().map(|run| (run.id, run.begun.is_some()))
    }

    /// Whether this track is being recorded.
    pub fn has(&self, track: TrackId) -> bool {
        self.run.as_ref().is_some_and(|run| run.tracks.contains(&track))
    }
}

impl Room {
    /// The request `record`.
    pub(super) fn record(&mut self, at: At, id: ParticipantId, request: u64, data: Record) -> Result<Reply, ApiError> {
        self.granted(id, |g| g.record, "record")?;
        match data.action {
            RecordAction::Start => {
                let owner = self.owner(id);
                let wish = Wish { asked: Some(id), tracks: self.choice(data.tracks)? };
                // All are going to be told that it is one of the owners.
                self.notice(id);
                match self.start_recording(at, owner, wish, data.layout, Asker::Request(id, request)) {
                    Some(recording) => now(recording),
                    None => Ok(Reply::Later),
                }
            }
            RecordAction::Stop if data.force => {
                self.granted(id, |g| g.moderate, "moderate")?;
                now(self.stop_recording(id, true)?)
            }
            RecordAction::Stop => now(self.stop_recording(id, false)?),
        }
    }

    /// The same for an operator, who stops it for all.
    pub(super) fn record_for_operator(
        &mut self,
        at: At,
        http: HttpId,
        data: Record,
    ) -> Result<Option<HttpResponse>, ApiError> {
        if data.action == RecordAction::Stop {
            self.recorder.dismissed = true;
            let by = Some(ADMIN.to_owned());
            self.end_recording(RecordingStop::Asked, by.clone());
            return shown(&msg::Recording { by, ..msg::Recording::default() }).map(Some);
        }
        if self.participants.is_empty() {
            return Err(ApiError::new(ErrorCode::NotFound, "nobody is in this room"));
        }
        let wish = Wish { asked: None, tracks: self.choice(data.tracks)? };
        self.recorder.dismissed = false;
        let recording = self.start_recording(at, Owner::Admin, wish, data.layout, Asker::Http(http));
        recording.map(|recording| shown(&recording)).transpose()
    }

    /// The tracks that somebody wants. None: all.
    fn choice(&self, tracks: Option<Vec<String>>) -> Result<Option<BTreeSet<TrackId>>, ApiError> {
        let Some(tracks) = tracks else { return Ok(None) };
        if !(1..=ENTRIES).contains(&tracks.len()) {
            return Err(bad("tracks: 1 to 1024 of them, or leave it out to record all"));
        }
        let known = |(n, track): (usize, &String)| {
            let id = track.parse::<TrackId>().ok().filter(|id| self.tracks.contains_key(id));
            id.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("tracks[{n}]: there is no such track")))
        };
        tracks.iter().enumerate().map(known).collect::<Result<_, _>>().map(Some)
    }

    fn owner(&self, id: ParticipantId) -> Owner {
        let identity = self.participants.get(&id).and_then(|p| p.identity.clone());
        identity.map_or(Owner::Guest(id), Owner::Identity)
    }

    /// One more who wants it. None: it has to begin first, and the answer comes then.
    fn start_recording(
        &mut self,
        at: At,
        owner: Owner,
        wish: Wish,
        layout: Option<RecordLayout>,
        asker: Asker,
    ) -> Option<msg::Recording> {
        if self.recorder.run.is_none() {
            self.begin_recording(at, layout);
        }
        self.stale.recording = true;
        let Self { index, participants, recorder, .. } = self;
        let run = recorder.run.as_mut()?;
        if run.owners.len() >= OWNERS {
            run.owners.retain(|owner, _| owner.is_there(index, participants));
        }
        run.owners.insert(owner, wish);
        if run.begun.is_none() {
            run.waiting.push(asker);
            return None;
        }
        self.recording_that_runs()
    }

    fn begin_recording(&mut self, at: At, layout: Option<RecordLayout>) {
        let id = self.ids.recording();
        tracing::info!(recording = %id, "begins");
        self.recorder.run = Some(Run {
            id,
            begun: None,
            owners: BTreeMap::new(),
            waiting: Vec::new(),
            present: BTreeSet::new(),
            tracks: BTreeSet::new(),
            speaking: Vec::new(),
            told: None,
        });
        self.stale.recording = true;
        self.timers.arm(Timer::Recording, at.now + BEGIN_WITHIN);
        let room = self.about.name.clone();
        self.out.push_back(Output::Recording(id, RecordingCommand::Start { room, layout }));
    }

    /// One less who wants it. Those who are gone want nothing any more once somebody says stop.
    fn stop_recording(&mut self, id: ParticipantId, force: bool) -> Result<msg::Recording, ApiError> {
        let stopped = |by: Option<String>| msg::Recording { by, ..msg::Recording::default() };
        let me = self.owner(id);
        let Some(run) = &self.recorder.run else { return Ok(stopped(None)) };
        let is_left = |owner: &Owner| match owner {
            Owner::Server | Owner::Admin => true,
            _ if force || *owner == me => false,
            _ => owner.is_there(&self.index, &self.participants),
        };
        let left: BTreeSet<Owner> = run.owners.keys().filter(|o| is_left(o)).cloned().collect();
        if left.is_empty() {
            let by = Some(id.to_string());
            self.end_recording(RecordingStop::Asked, by.clone());
            return Ok(stopped(by));
        }
        let took_part = run.owners.contains_key(&me) || (force && left.len() < run.owners.len());
        if !took_part {
            return Err(self.cannot_stop(&left));
        }
        if let Some(run) = &mut self.recorder.run {
            run.owners.retain(|owner, _| left.contains(owner));
        }
        self.stale.recording = true;
        Ok(self.recording_that_runs().unwrap_or_default())
    }

    /// Why somebody who has not asked for it cannot stop it.
    fn cannot_stop(&self, owners: &BTreeSet<Owner>) -> ApiError {
        if owners.contains(&Owner::Server) {
            return ApiError::new(ErrorCode::Forbidden, "this room is always recorded: its server is set up so");
        }
        if owners.contains(&Owner::Admin) {
            return ApiError::new(ErrorCode::Forbidden, "an operator of the server has this room recorded");
        }
        let present = owners.iter().filter_map(|o| self.participants.get(&self.face(o)?));
        let names: Vec<&str> = present.map(|p| p.name.as_str()).take(3).collect();
        let message = format!(
            "the recording was started by {}, who can stop it; with the grant \"moderate\", `force` stops it",
            names.join(", ")
        );
        ApiError::new(ErrorCode::Conflict, message)
    }

    /// Ends it, if there is one. `by`: who stopped it, as its participants are told.
    pub(super) fn end_recording(&mut self, stop: RecordingStop, by: Option<String>) {
        let begun = self.recorder.run.as_ref().and_then(|run| run.begun.clone());
        self.tell_end(begun, msg::Recording { by, ..msg::Recording::default() });
        let error = ApiError::new(ErrorCode::Conflict, "the recording was stopped before it began");
        if let Some(run) = self.release(&error) {
            tracing::info!(recording = %run.id, ?stop, "ends");
            self.out.push_back(Output::Recording(run.id, RecordingCommand::Stop(stop)));
        }
    }

    /// It is over. Those who wait for its beginning hear why there is none, and the shards are told.
    fn release(&mut self, error: &ApiError) -> Option<Run> {
        let mut run = self.recorder.run.take()?;
        self.timers.disarm(Timer::Recording);
        for track in &run.tracks {
            self.command_record(*track, None);
        }
        self.stale.watched.extend(&run.tracks);
        for asker in std::mem::take(&mut run.waiting) {
            self.answer_asker(asker, Err(error.clone()));
        }
        Some(run)
    }

    /// Tells that a recording is over, if it had begun.
    fn tell_end(&mut self, begun: Option<(String, u64)>, end: msg::Recording) {
        let Some((name, started_at_ms)) = begun else { return };
        let (recording, started_at_ms) = (Some(name), Some(started_at_ms));
        self.about.recording = false;
        self.tell_all(&Event::Recording(msg::Recording { recording, started_at_ms, ..end }));
        self.tell_all(&Event::RoomUpdated(self.about.clone()));
    }

    /// What became of it. Of one that the room has given up nothing is heard.
    pub(super) fn recording_event(&mut self, at: At, id: RecordingId, event: RecordingEvent) {
        let Some(run) = self.recorder.run.as_mut().filter(|run| run.id == id) else { return };
        match event {
            RecordingEvent::Started { .. } if run.begun.is_some() => {}
            RecordingEvent::Started { name, started_at_ms } => {
                tracing::info!(recording = %id, name, "has begun");
                run.begun = Some((name, started_at_ms));
                self.timers.disarm(Timer::Recording);
                self.recording_begun();
            }
            RecordingEvent::Refused(error) => self.recording_refused(at, &error),
            RecordingEvent::Ended(failure) => {
                let why = match failure {
                    RecordingFailure::DiskFull => RecordingWhy::DiskFull,
                    RecordingFailure::DiskError => RecordingWhy::DiskError,
                };
                tracing::warn!(recording = %id, ?why, "ended by itself");
                let error = ApiError::retry(ErrorCode::Unavailable, "the server's disk is full, or fails", 5000);
                // First of all: it takes nothing any more, also not how it ended.
                let begun = self.release(&error).and_then(|run| run.begun);
                let (state, why) = (RecordingState::Failed, Some(why));
                self.tell_end(begun, msg::Recording { state, why, ..msg::Recording::default() });
                self.try_later(at);
            }
        }
    }

    fn recording_begun(&mut self) {
        let recording = self.recording_that_runs().unwrap_or_default();
        let waiting = self.recorder.run.as_mut().map(|run| std::mem::take(&mut run.waiting)).unwrap_or_default();
        for asker in waiting {
            self.answer_asker(asker, Ok(&recording));
        }
        self.about.recording = true;
        self.stale.recording = true;
        self.recorder.retry_at = None;
        self.tell_recording(None);
        self.tell_all(&Event::RoomUpdated(self.about.clone()));
    }

    fn recording_refused(&mut self, at: At, error: &ApiError) {
        tracing::warn!(error = error.message, "the recording cannot begin");
        let by_server = self.release(error).is_some_and(|run| run.owners.contains_key(&Owner::Server));
        // Those who count on it have to know; once, however often it is tried.
        if by_server && self.recorder.retry_at.is_none() {
            let (state, why) = (RecordingState::Failed, Some(RecordingWhy::Refused));
            self.tell_all(&Event::Recording(msg::Recording { state, why, ..msg::Recording::default() }));
        }
        self.try_later(at);
    }

    fn try_later(&mut self, at: At) {
        if self.recorder.always {
            self.recorder.retry_at = Some(at.now + RETRY);
            self.timers.arm(Timer::Recording, at.now + RETRY);
        }
    }

    /// It has not begun in time, or it is time to try again.
    pub(super) fn recording_due(&mut self, at: At) {
        self.stale.recording = true;
        let Some(run) = self.recorder.run.as_ref().filter(|run| run.begun.is_none()) else { return };
        let id = run.id;
        let error = ApiError::retry(ErrorCode::Unavailable, "the server's recorder did not answer in time", 2000);
        self.recording_refused(at, &error);
        // Should it begin after all, nobody wants it.
        self.out.push_back(Output::Recording(id, RecordingCommand::Stop(RecordingStop::Asked)));
    }

    fn answer_asker(&mut self, asker: Asker, result: Result<&msg::Recording, ApiError>) {
        match asker {
            Asker::Request(id, request) => self.answer(id, request, &result, None),
            Asker::Http(http) => {
                let response = result.and_then(shown).unwrap_or_else(HttpResponse::Failed);
                self.out.push_back(Output::Http { http, response });
            }
        }
    }

    // What it is told, and what is told of it.

    /// Brings what the recording knows in line with the room. A second call does nothing.
    pub(super) fn review_recording(&mut self, at: At) {
        if !std::mem::take(&mut self.stale.recording) {
            return;
        }
        self.review_always(at);
        let Some(run) = &self.recorder.run else { return };
        let id = run.id;
        let wanted: BTreeSet<TrackId> = self.tracks.keys().copied().filter(|t| run.wants(*t)).collect();
        for track in run.tracks.difference(&wanted).copied().collect::<Vec<_>>() {
            self.unrecord(id, track);
        }
        self.review_present(id);
        let recorded = self.recorder.run.as_ref().map(|run| &run.tracks);
        for track in wanted.iter().filter(|t| recorded.is_none_or(|r| !r.contains(t))).copied().collect::<Vec<_>>() {
            self.record_track(id, track);
        }
        if self.about.recording {
            self.tell_recording(None);
        }
    }

    /// A room that is always recorded is, once anybody publishes.
    fn review_always(&mut self, at: At) {
        let Recorder { always, dismissed, retry_at, run } = &self.recorder;
        let wanted = *always && !dismissed && !self.presence.publishers().is_empty();
        let owned = run.as_ref().is_some_and(|run| run.owners.contains_key(&Owner::Server));
        if !wanted || owned || retry_at.is_some_and(|retry| at.now < retry && run.is_none()) {
            return;
        }
        if run.is_none() {
            self.begin_recording(at, None);
        }
        if let Some(run) = &mut self.recorder.run {
            run.owners.insert(Owner::Server, Wish { asked: None, tracks: None });
        }
    }

    /// It is told of all that everybody is told of. Who was once told of is there until it leaves.
    fn review_present(&mut self, id: RecordingId) {
        let Some(run) = &mut self.recorder.run else { return };
        let participants = &self.participants;
        let left: Vec<ParticipantId> = run.present.iter().copied().filter(|p| !participants.contains_key(p)).collect();
        for participant in left {
            run.present.remove(&participant);
            self.out.push_back(Output::Recording(id, RecordingCommand::Left { participant }));
        }
        for (participant, Participant { name, .. }) in
            participants.iter().filter(|(_, p)| p.standing != Standing::Unlisted)
        {
            if run.present.insert(*participant) {
                let joined = RecordingCommand::Joined { participant: *participant, name: name.clone() };
                self.out.push_back(Output::Recording(id, joined));
            }
        }
    }

    fn record_track(&mut self, id: RecordingId, track: TrackId) {
        let Some(&Track { owner: participant, kind, ref source, muted, .. }) = self.tracks.get(&track) else { return };
        let published = RecordingCommand::Published { track, participant, kind, source: source.clone() };
        self.out.push_back(Output::Recording(id, published));
        if muted {
            self.out.push_back(Output::Recording(id, RecordingCommand::Muted { track }));
        }
        if let Some(run) = &mut self.recorder.run {
            run.tracks.insert(track);
        }
        self.stale.watched.insert(track);
        self.command_record(track, Some(id));
    }

    fn unrecord(&mut self, id: RecordingId, track: TrackId) {
        if let Some(run) = &mut self.recorder.run {
            run.tracks.remove(&track);
        }
        self.stale.watched.insert(track);
        self.command_record(track, None);
        self.out.push_back(Output::Recording(id, RecordingCommand::Unpublished { track }));
    }

    /// The engine has forgotten a track and knows it again.
    pub(super) fn record_again(&mut self, track: TrackId) {
        let run = self.recorder.run.as_ref().filter(|run| run.tracks.contains(&track));
        if let Some(id) = run.map(|run| run.id) {
            self.command_record(track, Some(id));
        }
    }

    /// Nothing is said of a track that the engine does not know at the moment: it forgets by itself, and `record_again` follows.
    fn command_record(&mut self, track: TrackId, to: Option<RecordingId>) {
        let owner = self.tracks.get(&track).and_then(|t| self.participants.get(&t.owner));
        if owner.is_some_and(|owner| owner.publisher.link.peer.is_some()) {
            self.command(Command::Record { track, to });
        }
    }

    pub(super) fn record_muted(&mut self, track: TrackId, muted: bool) {
        let run = self.recorder.run.as_ref().filter(|run| muted && run.tracks.contains(&track));
        if let Some(id) = run.map(|run| run.id) {
            self.out.push_back(Output::Recording(id, RecordingCommand::Muted { track }));
        }
    }

    /// Everybody is told something: the recording keeps most of it.
    pub(super) fn record_event(&mut self, event: &Event, text: &EventText) {
        let Some(run) = &self.recorder.run else { return };
        let Some(kind) = event.recorded_as() else { return };
        let Some(data) = text.data(kind) else { return };
        self.out.push_back(Output::Recording(run.id, RecordingCommand::Event { kind, data: data.into() }));
    }

    /// Who speaks was told: the recording keeps when somebody begins and ends, and not how loud each word was.
    pub(super) fn record_speakers(&mut self) {
        let Some(run) = &mut self.recorder.run else { return };
        let told = self.speakers.told();
        if run.speaking.iter().eq(told.iter().map(|s| &s.participant)) {
            return;
        }
        run.speaking = told.iter().map(|s| s.participant.clone()).collect();
        let data = msg::text(&told);
        self.out.push_back(Output::Recording(run.id, RecordingCommand::Event { kind: "speakers", data }));
    }

    /// Somebody is new, and may be the face of an owner. Its welcome says the same.
    pub(super) fn recording_joined(&mut self, id: ParticipantId) {
        self.stale.recording = true;
        if self.about.recording {
            self.tell_recording(Some(id));
        }
    }

    fn tell_recording(&mut self, but: Option<ParticipantId>) {
        let recording = self.recording_that_runs();
        let Some(run) = self.recorder.run.as_mut().filter(|run| run.told != recording) else { return };
        run.told.clone_from(&recording);
        if let Some(recording) = recording {
            self.tell_those(&Event::Recording(recording), |p| Some(p.id) != but);
        }
        self.record_speakers();
    }

    /// What there is to say of it, once it has begun.
    pub(super) fn recording_that_runs(&self) -> Option<msg::Recording> {
        let run = self.recorder.run.as_ref()?;
        let (name, started_at_ms) = run.begun.clone()?;
        let all = run.owners.values().any(|wish| wish.tracks.is_none());
        let chosen = || self.tracks.keys().filter(|t| run.wants(**t)).map(ToString::to_string).collect();
        let owner = |(owner, wish): (&Owner, &Wish)| match (owner, self.face(owner).or(wish.asked)) {
            (_, Some(participant)) => participant.to_string(),
            (Owner::Admin, None) => ADMIN.to_owned(),
            (_, None) => SERVER.to_owned(),
        };
        Some(msg::Recording {
            state: RecordingState::Started,
            recording: Some(name),
            started_at_ms: Some(started_at_ms),
            owners: run.owners.iter().map(owner).collect(),
            tracks: (!all).then(chosen),
            by: None,
            why: None,
        })
    }

    /// Who an owner is at present: of an identity that is there more than once, who came last.
    fn face(&self, owner: &Owner) -> Option<ParticipantId> {
        match owner {
            Owner::Server | Owner::Admin => None,
            Owner::Identity(identity) => self.index.identities.get(identity)?.last().copied(),
            Owner::Guest(id) => Some(*id),
        }
    }
}

impl Run {
    fn wants(&self, track: TrackId) -> bool {
        self.owners.values().any(|wish| wish.tracks.as_ref().is_none_or(|tracks| tracks.contains(&track)))
    }
}

impl Owner {
    /// Whether it could say that it does not want it any more.
    fn is_there(&self, index: &Index, participants: &BTreeMap<ParticipantId, Participant>) -> bool {
        match self {
            Owner::Server | Owner::Admin => true,
            Owner::Identity(identity) => index.identities.contains_key(identity),
            Owner::Guest(id) => participants.contains_key(id),
        }
    }
}
