//! A room with a clock, and a model of the engine that holds every command against what it knows.
use super::*;
use crate::engine;
use crate::engine::api::Wish;
use crate::ids::Mid;
use crate::peer::config::{Fingerprint, FingerprintHash, PeerConfig};
use crate::room::messages::{Hello, Request};
use crate::room::presence::Standing;
use rand::SeedableRng;
use serde_json::{Value, json};

pub struct World {
    pub room: Room,
    pub now: Instant,
    pub wall_ms: u64,
    pub engine: Engine,
    pub recorder: Recording,
    /// What came out, save for commands, oldest first.
    pub out: Vec<Output>,
    last_socket: u64,
}

/// What the recorder would know.
#[derive(Default)]
pub struct Recording {
    /// The one that runs.
    pub id: Option<RecordingId>,
    pub present: BTreeSet<ParticipantId>,
    pub tracks: BTreeMap<TrackId, ParticipantId>,
    pub last: u64,
    /// In order, as text.
    pub log: Vec<String>,
}

/// What the engine would know.
#[derive(Default)]
pub struct Engine {
    pub peers: BTreeMap<PeerId, PeerConfig>,
    pub tracks: BTreeMap<TrackId, (PeerId, Mid)>,
    pub bindings: BTreeMap<(PeerId, String), TrackId>,
    /// How the slot that shows something is looked at.
    pub wishes: BTreeMap<(PeerId, String), Wish>,
    pub muted: BTreeSet<TrackId>,
    pub recorded: BTreeMap<TrackId, RecordingId>,
    pub stats: Vec<(PeerId, u64)>,
    /// Of `Explain`.
    pub questions: Vec<(PeerId, u64)>,
    /// In order, as text.
    pub log: Vec<String>,
}

pub fn settings() -> RoomSettings {
    let fingerprint = Fingerprint { hash: FingerprintHash::Sha256, value: (0..32).collect() };
    RoomSettings::new(fingerprint, vec!["192.0.2.1:7882".parse().expect("an address")])
}

pub fn claims(identity: Option<&str>, name: &str) -> Claims {
    Claims { identity: identity.map(str::to_owned), name: name.into(), grants: Grants::default(), expires_ms: None }
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, settings())
    }

    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    pub fn with(seed: u64, settings: RoomSettings) -> Self {
        let (now, wall_ms) = (Instant::now(), 1_800_000_000_000);
        let (settings, ids) = (Arc::new(settings), Arc::new(IdSource::default()));
        let room = Room::new(RoomId(7), "demo", settings, ids, StdRng::seed_from_u64(seed), wall_ms);
        let (engine, recorder) = (Engine::default(), Recording::default());
        Self { room, now, wall_ms, engine, recorder, out: Vec::new(), last_socket: 0 }
    }

    pub fn socket(&mut self) -> SocketId {
        self.last_socket += 1;
        SocketId(self.last_socket)
    }

    pub fn input(&mut self, input: Input) {
        self.room.handle(self.now, self.wall_ms, input);
        let empties = self.drain();
        assert_eq!(empties, usize::from(self.room.participants() == 0), "Empty is said exactly when it is");
    }

    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.room.poll_timeout().filter(|due| *due <= end) {
            self.set_clock(due);
            self.room.handle_timeout(self.now, self.wall_ms);
            self.drain();
            assert!(self.room.poll_timeout().is_none_or(|next| next > self.now), "a timer that does not advance");
        }
        self.set_clock(end);
    }

    fn set_clock(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.now);
        self.wall_ms += elapsed.as_millis() as u64;
        self.now = self.now.max(now);
    }

    fn drain(&mut self) -> usize {
        let mut empties = 0;
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Engine(command) => self.engine.take(command),
                Output::Recording(id, command) => self.recorder.take(id, command),
                Output::Empty => empties += 1,
                other => self.out.push(other),
            }
        }
        self.check();
        self.check_settled();
        empties
    }

    /// However often the room is brought in line with itself: once is enough.
    fn check_settled(&mut self) {
        (self.room.stale.reranked, self.room.stale.recording) = (true, true);
        self.room.stale.subscribers = self.room.participants.keys().copied().collect();
        self.room.stale.watched = self.room.tracks.keys().copied().collect();
        let now = At { now: self.now, wall_ms: self.wall_ms };
        let timers = self.room.poll_timeout();
        self.room.settle(now);
        assert!(self.room.out.is_empty(), "a second call does nothing: {:?}", self.room.out);
        assert_eq!(self.room.poll_timeout(), timers);
    }

    pub fn hello(&mut self, socket: SocketId, data: Value, claims: Claims) {
        let hello: Hello = serde_json::from_value(data).expect("a hello");
        self.input(Input::Hello { socket, id: 1, hello, claims });
    }

    pub fn request(&mut self, socket: SocketId, text: &str) {
        let request: Request = serde_json::from_str(text).expect("a request");
        self.input(Input::Request { socket, request });
    }

    pub fn event(&mut self, event: engine::Event) {
        self.input(Input::Engine(event));
    }

    /// What became of the recording that runs.
    pub fn recording(&mut self, event: RecordingEvent) {
        let id = self.recorder.id.expect("a recording");
        if matches!(event, RecordingEvent::Refused(_) | RecordingEvent::Ended(_)) {
            self.recorder.id = None;
        }
        self.input(Input::Recording(id, event));
    }

    /// The recording has begun.
    pub fn recording_begins(&mut self) {
        let (name, started_at_ms) = (self.recorder.id.expect("a recording").to_string(), self.wall_ms);
        self.recording(RecordingEvent::Started { name, started_at_ms });
    }

    /// What was sent to a socket since the last time, as JSON; closes as `{"close": code}`.
    pub fn read(&mut self, socket: SocketId) -> Vec<Value> {
        let mut texts = Vec::new();
        self.out.retain(|output| match output {
            Output::Send { socket: s, text } if *s == socket => {
                texts.push(serde_json::from_str(&text.to_string()).expect("JSON"));
                false
            }
            Output::Close { socket: s, code, .. } if *s == socket => {
                texts.push(json!({"close": code}));
                false
            }
            _ => true,
        });
        texts
    }

    /// Joins, and gives the socket and the welcome.
    pub fn join(&mut self, claims: Claims) -> (SocketId, Value) {
        let socket = self.socket();
        self.hello(socket, json!({}), claims);
        let mut texts = self.read(socket);
        let answer = texts.remove(0);
        assert_eq!(answer["ok"], true, "{answer}");
        // The one whose joining makes the room a large one hears of that too.
        texts.retain(|t| t["type"] != "room.updated");
        // Who may subscribe is told at once how many slots to offer, as event 1.
        let need = &answer["data"]["snapshot"]["slots"]["need"];
        let told = json!({"seq": 1, "type": "slots.need", "data": need});
        let subscribes = answer["data"]["snapshot"]["you"]["grants"]["subscribe"] == true;
        assert_eq!(texts, if subscribes { vec![told] } else { vec![] });
        (socket, answer["data"].clone())
    }

    /// Joins by name, on an open server.
    pub fn enter(&mut self, name: &str) -> SocketId {
        self.join(claims(None, name)).0
    }

    /// Sends a request with an id of its own, and gives the answer and what else came before and after it.
    pub fn ask(&mut self, socket: SocketId, id: u64, kind: &str, data: Value) -> (Value, Vec<Value>) {
        self.request(socket, &json!({"id": id, "type": kind, "data": data}).to_string());
        let mut texts = self.read(socket);
        let at = texts.iter().position(|t| t["id"] == id).unwrap_or_else(|| panic!("no answer in {texts:?}"));
        let answer = texts.remove(at);
        (answer, texts)
    }

    /// As `ask`, and it must succeed.
    pub fn ok(&mut self, socket: SocketId, id: u64, kind: &str, data: Value) -> Value {
        let (answer, _) = self.ask(socket, id, kind, data);
        assert_eq!(answer["ok"], true, "{kind}: {answer}");
        answer["data"].clone()
    }

    /// Publishes a microphone (mid 0) and a camera (mid 1); their track ids.
    pub fn publish(&mut self, socket: SocketId, id: u64) -> [TrackId; 2] {
        let sdp = offer(1, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST)]);
        let data = self.ok(socket, id, "negotiate", json!({"pc": "pub", "rev": id, "sdp": sdp}));
        [0, 1].map(|i| data["tracks"][i]["track"].as_str().expect("a track").parse().expect("an id"))
    }

    /// Offers that many slots of each kind.
    pub fn subscribe(&mut self, socket: SocketId, id: u64, audio: usize, video: usize) -> Vec<Value> {
        let data = json!({"pc": "sub", "rev": id, "sdp": slots_offer(1, audio, video)});
        let (answer, events) = self.ask(socket, id, "negotiate", data);
        assert_eq!(answer["ok"], true, "{answer}");
        events
    }

    /// Id and secret of the session on a socket.
    pub fn session(&self, socket: SocketId) -> (String, String) {
        let session = self.room.participants[&self.room.index.sockets[&socket]].session().expect("a session");
        (session.id.clone(), session.secret.clone())
    }

    /// The peer of a participant.
    pub fn peer(&self, participant: ParticipantId, pc: Pc) -> PeerId {
        self.room.participants[&participant].link(pc).peer.expect("a peer")
    }

    /// Holds the room against itself and against the engine.
    fn check(&self) {
        let room = &self.room;
        let mut watchers: BTreeMap<TrackId, BTreeSet<ParticipantId>> = BTreeMap::new();
        let mut peers = BTreeSet::new();
        for (id, participant) in &room.participants {
            peers.extend([Pc::Pub, Pc::Sub].into_iter().filter_map(|pc| participant.link(pc).peer));
            let mut seen = BTreeSet::new();
            for slot in participant.subscriber.slots.iter() {
                let peer = participant.subscriber.link.peer.expect("slots have a peer");
                let key = (peer, slot.mid.to_string());
                assert_eq!(self.engine.bindings.get(&key).copied(), slot.track(), "the engine knows");
                let Some(track) = slot.track() else { continue };
                let wish = slot.bound.as_ref().map(|b| &b.wish);
                assert_eq!(self.engine.wishes.get(&key), wish, "and how it is looked at");
                assert!(seen.insert(track), "one slot for each track");
                assert_ne!(room.tracks[&track].owner, *id, "nobody gets their own");
                watchers.entry(track).or_default().insert(*id);
            }
            assert!(participant.subscriber.states.keys().all(|t| room.tracks.contains_key(t)));
            for track in &participant.publisher.tracks {
                assert_eq!(room.tracks[track].owner, *id);
            }
        }
        for (id, track) in &room.tracks {
            assert_eq!(track.watchers, watchers.remove(id).unwrap_or_default(), "watchers of {id}");
            assert!(room.participants[&track.owner].publisher.tracks.contains(id));
            if room.participants[&track.owner].publisher.link.peer.is_some() {
                assert!(self.engine.tracks.contains_key(id), "{id} is known to the engine");
                assert_eq!(self.engine.muted.contains(id), track.muted);
            }
        }
        assert!(watchers.is_empty());
        let slots = room.participants.values().flat_map(|p| p.subscriber.slots.iter());
        let bound = slots.filter(|s| s.bound.is_some()).count();
        assert_eq!(self.engine.bindings.len(), bound, "the engine fills no slot that is gone");
        assert_eq!(peers, self.engine.peers.keys().copied().collect(), "the engine has the room's peers");
        assert_eq!(peers, room.index.peers.keys().copied().collect());
        let publishes = |p: &&ParticipantId| !room.participants[p].publisher.tracks.is_empty();
        assert_eq!(room.presence.publishers().iter().count(), room.participants.keys().filter(publishes).count());
        assert!(room.participants.keys().filter(publishes).all(|p| room.speakers.order().contains(p)));
        self.check_recording();
    }

    /// The recording gets what the recorder was told of, and nothing else.
    fn check_recording(&self) {
        let room = &self.room;
        let running = room.recorder.running();
        assert_eq!(running.map(|(id, _)| id), self.recorder.id, "one recording, and each ends");
        assert_eq!(room.about.recording, running.is_some_and(|(_, begun)| begun));
        let Some(id) = self.recorder.id else {
            assert!(self.engine.recorded.is_empty(), "nothing is recorded for nobody");
            return;
        };
        let listed = |p: &&Participant| p.standing != Standing::Unlisted;
        assert!(room.participants.values().filter(listed).all(|p| self.recorder.present.contains(&p.id)));
        assert!(self.recorder.present.iter().all(|p| room.participants.contains_key(p)));
        let known = |track: &&TrackId| {
            assert_eq!(room.tracks[track].owner, self.recorder.tracks[track]);
            room.participants[&room.tracks[track].owner].publisher.link.peer.is_some()
        };
        let recorded: BTreeMap<_, _> = self.recorder.tracks.keys().filter(known).map(|t| (*t, id)).collect();
        assert_eq!(recorded, self.engine.recorded, "what is told is recorded, and nothing else");
    }
}

impl Recording {
    fn take(&mut self, id: RecordingId, command: RecordingCommand) {
        self.log.push(brief_recording(&command));
        if let RecordingCommand::Start { .. } = command {
            assert_eq!(self.id, None, "one at a time");
            assert!(id.0 > self.last, "an id is not used twice");
            *self = Self { id: Some(id), last: id.0, log: std::mem::take(&mut self.log), ..Self::default() };
            return;
        }
        assert_eq!(self.id, Some(id), "nothing before its start and after its end: {command:?}");
        match command {
            RecordingCommand::Start { .. } => {}
            RecordingCommand::Joined { participant, .. } => assert!(self.present.insert(participant), "joined twice"),
            RecordingCommand::Left { participant } => {
                assert!(self.tracks.values().all(|owner| *owner != participant), "its tracks went before");
                assert!(self.present.remove(&participant), "left means known");
            }
            RecordingCommand::Published { track, participant, .. } => {
                assert!(self.present.contains(&participant), "by somebody known");
                assert_eq!(self.tracks.insert(track, participant), None, "published twice");
            }
            RecordingCommand::Unpublished { track } => {
                assert!(self.tracks.remove(&track).is_some(), "unpublished means known");
            }
            RecordingCommand::Muted { track } => assert!(self.tracks.contains_key(&track), "muted means known"),
            RecordingCommand::Event { kind, data } => {
                let data: Value = serde_json::from_str(&data).expect("JSON");
                let event = json!({"type": kind, "data": data});
                serde_json::from_value::<Event>(event).expect("an event");
            }
            RecordingCommand::Stop(_) => {
                self.id = None;
            }
        }
    }
}

fn brief_recording(command: &RecordingCommand) -> String {
    match command {
        RecordingCommand::Start { room, layout } => match layout {
            Some(layout) => format!("start {room} {layout:?}"),
            None => format!("start {room}"),
        },
        RecordingCommand::Joined { participant, name } => format!("joined {participant} {name}"),
        RecordingCommand::Left { participant } => format!("left {participant}"),
        RecordingCommand::Published { track, participant, source, .. } => {
            format!("published {track} {participant} {}", json!(source).as_str().unwrap_or_default())
        }
        RecordingCommand::Unpublished { track } => format!("unpublished {track}"),
        RecordingCommand::Muted { track } => format!("muted {track}"),
        RecordingCommand::Event { kind, .. } => format!("event {kind}"),
        RecordingCommand::Stop(why) => format!("stop {why:?}"),
    }
}

impl Engine {
    fn take(&mut self, command: Command) {
        self.log.push(brief(&command));
        match command {
            Command::AddPeer { peer, config, .. } => {
                assert!(self.peers.insert(peer, *config).is_none(), "a peer id is not used twice");
            }
            Command::UpdatePeer { peer, config } => {
                assert!(self.peers.insert(peer, *config).is_some(), "the peer is there");
            }
            Command::RemovePeer { peer } => {
                assert!(self.peers.remove(&peer).is_some(), "the peer is there");
                self.bindings.retain(|(p, _), _| *p != peer);
                self.wishes.retain(|(p, _), _| *p != peer);
                let ended: BTreeSet<_> = self.tracks.iter().filter(|(_, (p, _))| *p == peer).map(|(t, _)| *t).collect();
                self.tracks.retain(|t, _| !ended.contains(t));
                self.muted.retain(|t| !ended.contains(t));
                self.recorded.retain(|t, _| !ended.contains(t));
            }
            Command::Publish { track, peer, mid, kind } => {
                let media = self.peers[&peer].receive.iter().find(|m| m.mid == mid).expect("the m-line is there");
                assert_eq!((media.kind, media.active), (kind, true));
                self.tracks.insert(track, (peer, mid));
                self.recorded.remove(&track);
                // Slots that showed it have to be told again.
                let bindings = &self.bindings;
                self.wishes.retain(|slot, _| bindings.get(slot) != Some(&track));
            }
            Command::Unpublish { track } => {
                self.tracks.remove(&track);
                self.muted.remove(&track);
                self.recorded.remove(&track);
            }
            Command::SetMuted { track, muted } => {
                match muted {
                    true => self.muted.insert(track),
                    false => self.muted.remove(&track),
                };
            }
            Command::Bind { peer, mid, track, wish } => {
                let key = (peer, mid.to_string());
                if let Some(track) = track {
                    let media = self.peers[&peer].send.iter().find(|m| m.mid == mid).expect("the slot is there");
                    assert!(media.active);
                    let before = (self.bindings.insert(key.clone(), track), self.wishes.insert(key, wish));
                    assert_ne!(before, (Some(track), Some(wish)), "said already");
                } else {
                    self.bindings.remove(&key);
                    self.wishes.remove(&key);
                }
            }
            Command::Record { track, to } => {
                assert!(self.tracks.contains_key(&track), "the track is there");
                let before = match to {
                    Some(to) => self.recorded.insert(track, to),
                    None => self.recorded.remove(&track),
                };
                assert_ne!(before, to, "said already");
            }
            Command::Explain { peer, token } => self.questions.push((peer, token)),
            Command::Stats { peer, token } => self.stats.push((peer, token)),
            Command::Mirror { .. } | Command::Relay { .. } | Command::Keyframe { .. } => {
                panic!("a room says nothing of that: {command:?}")
            }
        }
    }
}

/// How a slot is looked at, if that says anything: `640x360@15 +2 stage screen`.
fn brief_wish(wish: &Wish) -> String {
    let mut text = String::new();
    if wish.width > 0 {
        text += &format!(" {}x{}", wish.width, wish.height);
    }
    text += &wish.fps.map_or(String::new(), |fps| format!("@{fps}"));
    if wish.priority != 0 {
        text += &format!(" {:+}", wish.priority);
    }
    text + if wish.stage { " stage" } else { "" } + if wish.screen { " screen" } else { "" }
}

fn brief(command: &Command) -> String {
    match command {
        Command::AddPeer { peer, .. } => format!("add {peer}"),
        Command::UpdatePeer { peer, .. } => format!("update {peer}"),
        Command::RemovePeer { peer } => format!("remove {peer}"),
        Command::Publish { track, peer, mid, .. } => format!("publish {track} {peer} {mid}"),
        Command::Unpublish { track } => format!("unpublish {track}"),
        Command::SetMuted { track, muted } => format!("muted {track} {muted}"),
        Command::Bind { peer, mid, track, wish } => {
            let track = track.map_or("-".into(), |t| t.to_string());
            format!("bind {peer} {mid} {track}{}", brief_wish(wish))
        }
        Command::Explain { peer, token } => format!("explain {peer} {token}"),
        Command::Stats { peer, token } => format!("stats {peer} {token}"),
        Command::Record { track, to } => format!("record {track} {}", to.map_or("-".into(), |to| to.to_string())),
        Command::Mirror { track, .. } | Command::Relay { track, .. } | Command::Keyframe { track, .. } => {
            format!("relay {track}")
        }
    }
}

pub const SIMULCAST: &str = "a=sendonly\r\na=rid:q send\r\na=rid:f send\r\na=simulcast:send q;f\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:5 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";

/// The offer of a client as simple as it can be: an m-line for each `(kind, mid, more lines)`. Another `client` is another
/// association.
pub fn offer(client: u64, m_lines: &[(&str, &str, &str)]) -> String {
    let mids: Vec<&str> = m_lines.iter().map(|(_, mid, _)| *mid).collect();
    let mut text =
        format!("v=0\r\no=- {client} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n", mids.join(" "));
    text += &format!("a=ice-ufrag:ufrag{client:04}\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=setup:actpass\r\n");
    text += &format!("a=fingerprint:sha-256 {}\r\n", vec![format!("{:02X}", client % 256); 32].join(":"));
    for (kind, mid, more) in m_lines {
        let codec = match *kind {
            "audio" => "111\r\na=rtpmap:111 opus/48000/2",
            _ => "96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96",
        };
        text += &format!("m={kind} 9 UDP/TLS/RTP/SAVPF {codec}\r\na=mid:{mid}\r\na=rtcp-mux\r\n{more}\r\n");
    }
    text
}

/// An offer of slots: audio `a0`, `a1`, …, video `v0`, `v1`, …
pub fn slots_offer(client: u64, audio: usize, video: usize) -> String {
    let name = |prefix: &str, n| (0..n).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
    let (audio, video) = (name("a", audio), name("v", video));
    let mut m_lines: Vec<(&str, &str, &str)> = Vec::new();
    // In pairs, as a client that asks for more later has them too.
    for i in 0..audio.len().max(video.len()) {
        m_lines.extend(audio.get(i).map(|mid| ("audio", mid.as_str(), "a=recvonly")));
        m_lines.extend(video.get(i).map(|mid| ("video", mid.as_str(), "a=recvonly")));
    }
    offer(client, &m_lines)
}

/// `type` and the values at `keys` of each text, in one line each.
pub fn brief_of(texts: &[Value]) -> Vec<String> {
    let line = |t: &Value| -> String {
        if let Some(code) = t.get("close") {
            return format!("close {code}");
        }
        let data = &t["data"];
        let keys = [
            "participant",
            "track",
            "mid",
            "state",
            "why",
            "wanted",
            "active",
            "muted",
            "connection",
            "topic",
            "action",
            "reason",
        ];
        let mut line = t["type"].as_str().unwrap_or("answer").to_owned();
        if let Some(ok) = t.get("ok") {
            line += &format!(" {ok}");
        }
        for value in keys.iter().filter_map(|k| data.get(k)) {
            line += " ";
            line += &value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        }
        line
    };
    texts.iter().map(line).collect()
}
