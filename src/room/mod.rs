//! A room, purely: who is in it, what they publish, who gets which track in which slot, and what each session is told.
//! No I/O and no clock: `signal` runs one task for each room around it, so a panic ends one room and no other.
//!
//! Read `Room` first, then follow a request (`requests`), what it changes (`membership`, `negotiation`), and what follows
//! from it for the slots (`subscriptions`, and `slots` for the rules), for what viewers are told of it (`states`), and for what
//! publishers are asked to send (`demand`).
pub mod api;
pub mod messages;
pub mod settings;

mod demand;
mod http;
mod media;
mod membership;
mod negotiation;
mod participant;
mod presence;
mod quality;
mod queries;
mod recording;
mod requests;
mod session;
pub mod shards;
mod slots;
mod speakers;
mod states;
mod subscriptions;
mod timers;

#[cfg(test)]
mod tests;

pub use api::{
    Claims, Grants, HttpId, HttpKind, HttpRequest, HttpResponse, Input, Inspect, Output, RecordingCommand,
    RecordingEvent, RecordingFailure, RecordingStop, SocketId,
};
pub use settings::{IdSource, RoomLimits, RoomSettings};

use crate::engine::Command;
use crate::ids::{ParticipantId, PeerId, RoomId, TrackId};
use messages::{Event, Message, Pc};
use participant::{Participant, Track};
use presence::Presence;
use quality::Checkup;
use rand::rngs::StdRng;
use recording::Recorder;
use rustc_hash::FxHashMap;
use session::{EventText, History};
use slots::Ranking;
use speakers::Speakers;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use timers::{Timer, Timers};

/// One room: facts go in by `handle`, what is to be done comes out by `poll_output`.
#[derive(Debug)]
pub struct Room {
    id: RoomId,
    about: messages::Room,
    settings: Arc<RoomSettings>,
    ids: Arc<IdSource>,
    rng: StdRng,
    participants: BTreeMap<ParticipantId, Participant>,
    tracks: BTreeMap<TrackId, Track>,
    /// By topic.
    retained: BTreeMap<String, Message>,
    speakers: Speakers,
    presence: Presence,
    checkup: Checkup,
    recorder: Recorder,
    /// What many were told, for those who come back.
    history: History,
    index: Index,
    /// Questions that wait for the engine, by token.
    queries: FxHashMap<u64, queries::Query>,
    last_query: u64,
    timers: Timers,
    stale: Stale,
    out: VecDeque<Output>,
}

/// Who is meant by what.
#[derive(Debug, Default)]
struct Index {
    sockets: FxHashMap<SocketId, ParticipantId>,
    /// Keyed by what clients send, so hashed with a seed.
    sessions: HashMap<String, ParticipantId>,
    resources: HashMap<String, ParticipantId>,
    identities: HashMap<String, BTreeSet<ParticipantId>>,
    peers: FxHashMap<PeerId, (ParticipantId, Pc)>,
}

/// What an input has put out of date, and `settle` brings up to date again, once.
#[derive(Debug, Default)]
struct Stale {
    ranking: Ranking,
    /// The ranking no longer is that of the room: every subscriber may want something else.
    reranked: bool,
    subscribers: BTreeSet<ParticipantId>,
    /// Tracks of which something else may be of use now.
    watched: BTreeSet<TrackId>,
    /// What somebody was told of a track may no longer be true.
    states: BTreeSet<(ParticipantId, TrackId)>,
    /// Who is here, or what is published: the recording may have to know.
    recording: bool,
}

/// The time of an input: the monotonic clock for deadlines, Unix milliseconds for what people read.
#[derive(Clone, Copy, Debug)]
struct At {
    now: Instant,
    wall_ms: u64,
}

impl Room {
    /// An empty room. `rng` makes secrets, resource ids and ICE credentials: seed it from the operating system, save in
    /// a simulation.
    pub fn new(
        id: RoomId,
        name: &str,
        settings: Arc<RoomSettings>,
        ids: Arc<IdSource>,
        rng: StdRng,
        wall_ms: u64,
    ) -> Self {
        let about = messages::Room {
            name: name.into(),
            locked: false,
            recording: false,
            started_at_ms: wall_ms,
            participants: None,
        };
        let history = History::new(&settings.limits);
        let recorder = Recorder::new(settings.record_rooms.iter().any(|pattern| pattern.matches(name)));
        Self {
            id,
            about,
            settings,
            ids,
            rng,
            participants: BTreeMap::new(),
            tracks: BTreeMap::new(),
            retained: BTreeMap::new(),
            speakers: Speakers::default(),
            presence: Presence::default(),
            checkup: Checkup::default(),
            recorder,
            history,
            index: Index::default(),
            queries: FxHashMap::default(),
            last_query: 0,
            timers: Timers::default(),
            stale: Stale::default(),
            out: VecDeque::new(),
        }
    }

    /// Takes one fact. Whatever the client sent, it is answered and nothing breaks.
    pub fn handle(&mut self, now: Instant, wall_ms: u64, input: Input) {
        let at = At { now, wall_ms };
        match input {
            Input::Hello { socket, id, hello, claims } => self.hello(at, socket, id, hello, claims),
            Input::Request { socket, request } => self.request(at, socket, request),
            Input::Pong { socket } => self.pong(at, socket),
            Input::SocketClosed { socket } => self.socket_closed(at, socket),
            Input::Http { http, request } => self.http(at, http, request),
            Input::Engine(event) => self.engine_event(at, event),
            Input::Recording(id, event) => self.recording_event(at, id, event),
            Input::Drain { url } => self.dissolve("draining", url.as_deref(), 1001, RecordingStop::Shutdown),
        }
        self.settle(at);
        if self.participants.is_empty() {
            self.emptied();
        }
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant, wall_ms: u64) {
        let at = At { now, wall_ms };
        let was_empty = self.participants.is_empty();
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Participant(participant) => self.participant_due(at, participant),
                Timer::Query(token) => self.finish_query(token),
                Timer::Unwatched(track) => drop(self.stale.watched.insert(track)),
                Timer::Waking(track) => self.awake(track),
                Timer::States(participant) => self.states_due(participant),
                Timer::Speakers => self.speakers_due(at),
                Timer::Levels => self.review_levels(at),
                Timer::Recording => self.recording_due(at),
                // Whoever settles looks.
                Timer::Count | Timer::Quality => {}
            }
        }
        self.settle(at);
        if self.participants.is_empty() && !was_empty {
            self.emptied();
        }
    }

    /// When to call `handle_timeout` at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next thing to do. Ask until there is none, after every `handle` and `handle_timeout`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// How many there are, those of WHIP and WHEP included.
    pub fn participants(&self) -> usize {
        self.participants.len()
    }

    /// Nobody is here any more. Should somebody come before the room is dropped, it begins anew.
    fn emptied(&mut self) {
        self.end_recording(RecordingStop::RoomEnded, None);
        self.recorder.begin_anew();
        self.timers.disarm(Timer::Recording);
        self.retained.clear();
        self.forget_presence();
        self.out.push_back(Output::Empty);
    }

    fn command(&mut self, command: Command) {
        self.out.push_back(Output::Engine(command));
    }

    /// Tells every session.
    fn tell_all(&mut self, event: &Event) {
        self.tell_those(event, |_| true);
    }

    fn tell_others(&mut self, than: ParticipantId, event: &Event) {
        self.tell_those(event, |p| p.id != than);
    }

    /// Tells many: the text is made once and kept once.
    fn tell_those(&mut self, event: &Event, who: impl Fn(&Participant) -> bool) {
        let text = EventText::new(event);
        self.record_event(event, &text);
        let place = self.history.push(text.clone());
        for participant in self.participants.values_mut().filter(|p| who(p)) {
            if let Some(session) = participant.session_mut() {
                session.tell_shared(&text, place, &mut self.out);
            }
        }
    }

    /// Tells a few, of what nobody else is to know.
    fn tell_these(&mut self, event: &Event, whom: &BTreeSet<ParticipantId>) {
        let text = EventText::new(event);
        for id in whom {
            if let Some(session) = self.participants.get_mut(id).and_then(Participant::session_mut) {
                session.tell(&text, &mut self.out);
            }
        }
    }

    /// Tells one session, and answers the event's number there.
    fn tell(&mut self, participant: ParticipantId, event: &Event) -> u64 {
        let session = self.participants.get_mut(&participant).and_then(Participant::session_mut);
        session.map_or(0, |s| s.tell(&EventText::new(event), &mut self.out))
    }

    /// 128 random bits, in hexadecimal.
    fn secret(&mut self) -> String {
        format!("{:032x}", rand::Rng::random::<u128>(&mut self.rng))
    }
}
