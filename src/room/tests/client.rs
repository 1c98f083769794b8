//! A model of a client: it applies events over snapshots, and nothing else.
use super::world::World;
use super::*;
use crate::room::messages::{Event, QualityWhy, RecordingState, Snapshot, SpeakerLevel, Welcome};
use serde_json::{Value, json};

/// A client that may lose its socket at any moment.
#[derive(Default)]
pub struct Client {
    pub claims: Option<Claims>,
    pub socket: Option<SocketId>,
    pub welcome: Option<Welcome>,
    pub seq: u64,
    pub state: Option<Snapshot>,
    pub next_id: u64,
    /// Requests that wait for their answer.
    pub unanswered: BTreeMap<u64, Value>,
    pub answers: BTreeMap<u64, Value>,
    /// All messages that were heard, retained or not.
    pub heard: Vec<Value>,
    /// Closed by the server, with this code.
    pub closed: Option<u16>,
    /// Frames that came or went on the current socket; beyond `cut_at` the network is gone.
    pub frames: usize,
    pub cut_at: Option<usize>,
    pub pings: usize,
}

impl Client {
    pub fn new(claims: Claims) -> Self {
        Self { claims: Some(claims), next_id: 10, ..Self::default() }
    }

    /// Whether the next frame passes.
    fn passes(&mut self) -> bool {
        let passes = self.cut_at.is_none_or(|cut| self.frames < cut);
        self.frames += 1;
        passes
    }

    pub fn is_cut(&self) -> bool {
        self.cut_at.is_some_and(|cut| self.frames > cut)
    }

    /// Opens a socket and says hello; resumes if there is a session.
    pub fn connect(&mut self, world: &mut World) {
        let socket = world.socket();
        (self.socket, self.closed, self.frames) = (Some(socket), None, 0);
        let seq = self.seq;
        let resume = self.welcome.as_ref().map(|w| json!({"session": w.session, "secret": w.secret, "seq": seq}));
        let claims = self.claims.clone().expect("claims");
        if self.passes() {
            world.hello(socket, json!({"resume": resume}), claims);
        }
    }

    /// Sends what was asked and not answered once more.
    pub fn repeat(&mut self, world: &mut World) {
        for request in self.unanswered.clone().into_values() {
            self.send(world, &request);
        }
    }

    pub fn ask(&mut self, world: &mut World, kind: &str, data: Value) -> u64 {
        self.next_id += 1;
        let request = json!({"id": self.next_id, "type": kind, "data": data});
        self.unanswered.insert(self.next_id, request.clone());
        self.send(world, &request);
        self.next_id
    }

    fn send(&mut self, world: &mut World, request: &Value) {
        let Some(socket) = self.socket else { return };
        if self.passes() {
            world.request(socket, &request.to_string());
        }
    }

    /// Takes what the room has sent.
    pub fn receive(&mut self, world: &mut World) {
        let Some(socket) = self.socket else { return };
        for text in world.read(socket) {
            if !self.passes() {
                continue;
            }
            if let Some(code) = text.get("close") {
                self.closed = code.as_u64().map(|c| c as u16);
                self.socket = None;
            } else if text["type"] == "ping" {
                self.pings += 1;
                if self.passes() {
                    world.input(Input::Pong { socket });
                }
            } else if let Some(id) = text["id"].as_u64() {
                self.answered(id, &text);
            } else {
                self.told(&text);
            }
        }
    }

    fn answered(&mut self, id: u64, text: &Value) {
        if id == 1 {
            assert_eq!(text["ok"], true, "{text}");
            let welcome: Welcome = serde_json::from_value(text["data"].clone()).expect("a welcome");
            if let Some(snapshot) = welcome.snapshot.clone() {
                self.state = Some(snapshot);
            } else {
                assert_eq!(welcome.seq, self.seq, "what is not in a snapshot follows");
            }
            self.seq = welcome.seq;
            self.welcome = Some(welcome);
            return;
        }
        self.unanswered.remove(&id);
        if let Some(before) = self.answers.insert(id, text.clone()) {
            assert_eq!(before, *text, "the same request has the same answer");
        }
    }

    fn told(&mut self, text: &Value) {
        let seq = text["seq"].as_u64().unwrap_or_else(|| panic!("not numbered: {text}"));
        assert_eq!(seq, self.seq + 1, "no gap and nothing twice: {text}");
        self.seq = seq;
        let event: Event = serde_json::from_value(text.clone()).unwrap_or_else(|e| panic!("{e}: {text}"));
        if let Event::Message(message) = &event {
            self.heard.push(message.body.clone());
        }
        let state = self.state.as_mut().expect("a snapshot came first");
        apply(state, event);
    }
}

/// What an event does to what a client knows.
pub fn apply(state: &mut Snapshot, event: Event) {
    match event {
        Event::ParticipantJoined(p) => {
            assert!(state.participants.iter().all(|q| q.participant != p.participant), "joined twice");
            state.participants.push(p);
        }
        Event::ParticipantUpdated(p) => {
            let known = state.participants.iter_mut().find(|q| q.participant == p.participant);
            *known.expect("updated means known") = p;
        }
        Event::ParticipantLeft(left) => {
            let before = state.participants.len();
            state.participants.retain(|p| p.participant != left.participant);
            assert_eq!(state.participants.len() + 1, before, "left means known");
            assert!(state.tracks.iter().all(|t| t.participant != left.participant), "its tracks went before");
            state.quality.retain(|q| q.participant != left.participant);
        }
        Event::TrackPublished(t) => {
            assert!(state.tracks.iter().all(|u| u.track != t.track), "published twice");
            assert!(state.participants.iter().any(|p| p.participant == t.participant), "by somebody known");
            state.tracks.push(t);
        }
        Event::TrackUpdated(t) => {
            let known = state.tracks.iter_mut().find(|u| u.track == t.track);
            *known.expect("updated means known") = t;
        }
        Event::TrackUnpublished(t) => {
            let before = state.tracks.len();
            state.tracks.retain(|u| u.track != t.track);
            assert_eq!(state.tracks.len() + 1, before, "unpublished means known");
            state.states.retain(|s| s.track != t.track);
            state.layers.retain(|l| l.track != t.track);
        }
        Event::SlotsNeed(need) => {
            assert!(need.audio >= state.slots.need.audio && need.video >= state.slots.need.video, "never shrinks");
            state.slots.need = need;
        }
        Event::SlotBind(binding) => {
            state.slots.bindings.retain(|b| b.mid != binding.mid);
            if let Some(track) = &binding.track {
                assert!(state.tracks.iter().any(|t| t.track == *track), "a track that is known");
                state.slots.bindings.push(binding);
            }
        }
        Event::TrackState(now) => {
            assert!(state.tracks.iter().any(|t| t.track == now.track), "a track that is known");
            let before = state.states.iter().find(|s| s.track == now.track);
            assert_ne!(before, Some(&now), "said only when it changes");
            state.states.retain(|s| s.track != now.track);
            state.states.push(now);
        }
        Event::PublishLayers(layers) => {
            state.layers.retain(|l| l.track != layers.track);
            state.layers.push(layers);
        }
        Event::Speakers(speakers) => {
            let known = |s: &SpeakerLevel| state.participants.iter().any(|p| p.participant == s.participant);
            assert!(speakers.iter().all(known), "somebody known");
            state.speakers = speakers;
        }
        Event::Quality(changes) => {
            for now in changes {
                assert!(state.participants.iter().any(|p| p.participant == now.participant), "somebody known");
                // One's own is told to all again who came to know one since.
                let own = now.participant == state.you.participant;
                assert!(own || state.quality.iter().all(|q| *q != now), "said only when it changes");
                state.quality.retain(|q| q.participant != now.participant);
                if now.why != QualityWhy::Good {
                    state.quality.push(now);
                }
            }
        }
        Event::Message(message) if message.retain => {
            assert!(state.participants.iter().any(|p| p.participant == message.participant), "by somebody known");
            state.messages.retain(|m| m.topic != message.topic);
            if !message.body.is_null() {
                state.messages.push(message);
            }
        }
        Event::Message(message) => {
            let mut known = state.participants.iter().chain(&message.from);
            assert!(known.any(|p| p.participant == message.participant), "by somebody known");
        }
        Event::Recording(now) => {
            let runs = now.state == RecordingState::Started;
            assert!(!runs || state.recording.as_ref() != Some(&now), "said only when it changes");
            state.recording = runs.then_some(now);
        }
        Event::RoomUpdated(room) => state.room = room,
        Event::YouUpdated(you) => state.you = you,
        Event::Bye(_) => {}
    }
}

/// In an order that does not depend on how it came about.
pub fn sorted(mut state: Snapshot) -> Snapshot {
    let number = |id: &String| id[1..].parse::<u64>().expect("an id");
    state.participants.sort_by_key(|p| number(&p.participant));
    state.tracks.sort_by_key(|t| number(&t.track));
    state.slots.bindings.sort_by(|a, b| a.mid.cmp(&b.mid));
    state.states.sort_by_key(|s| number(&s.track));
    state.layers.sort_by_key(|l| number(&l.track));
    state.quality.sort_by_key(|q| number(&q.participant));
    state.messages.sort_by(|a, b| a.topic.cmp(&b.topic));
    state
}

/// A client that is up to date knows what the room knows.
pub fn assert_knows_the_truth(world: &World, client: &Client) {
    let id = client.welcome.as_ref().expect("joined").participant.parse().expect("an id");
    let participant = world.room.participants.get(&id).expect("it is in the room");
    assert_eq!(participant.session().expect("a session").log.last(), client.seq, "it is up to date");
    let truth = sorted(world.room.snapshot(participant));
    let known = sorted(client.state.clone().expect("a state"));
    assert_eq!(serde_json::to_value(known).expect("JSON"), serde_json::to_value(truth).expect("JSON"));
}
