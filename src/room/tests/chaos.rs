//! Thousands of inputs that make little sense, by seed. Nothing panics, `World` holds the room against the engine after
//! each, and clients that come back know the truth.
use super::client::{Client, assert_knows_the_truth};
use super::world::{SIMULCAST, World, claims, offer, settings, slots_offer};
use super::*;
use crate::engine;
use crate::engine::api::{ChosenLayer, Limit, PeerFailure, PeerStats, QualityWhy, SlotReport, SlotState, Speaker};
use crate::ids::{Mid, Rid};
use crate::room::messages::{ApiError, ErrorCode, Record, RecordAction};
use crate::rtp::Codec;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

struct Chaos {
    world: World,
    rng: StdRng,
    clients: Vec<Client>,
    resources: Vec<(HttpKind, String)>,
    /// Of the next association.
    association: u64,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut settings = settings();
        settings.limits.participants = 7;
        settings.limits.audio_slots = 5;
        settings.limits.video_slots = 6;
        settings.limits.tracks = 4;
        settings.limits.event_log_len = 40;
        settings.limits.requests_per_second = 1000;
        settings.limits.request_burst = 100_000;
        // Every other world is a large room when four are in it.
        settings.full_presence = if seed.is_multiple_of(2) { 100 } else { 3 };
        // Every third world is always recorded.
        settings.record_rooms = vec![RoomPattern::new(if seed.is_multiple_of(3) { "de*o" } else { "x*" })];
        let world = World::with(seed, settings);
        Self { world, rng: StdRng::seed_from_u64(!seed), clients: Vec::new(), resources: Vec::new(), association: 100 }
    }

    fn pick(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n.max(1))
    }
    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn step(&mut self) {
        match self.pick(21) {
            0 => self.arrive(),
            1 => self.lose(),
            2 | 3 => self.come_back(),
            4..=12 => self.request(),
            13..=15 => self.engine(),
            16 => self.http(),
            17 => self.nonsense(),
            18 => self.recorder(),
            _ => {
                let ms = [1, 100, 400, 2000, 6000][self.pick(5)];
                self.world.advance(Duration::from_millis(ms));
            }
        }
        for client in &mut self.clients {
            client.receive(&mut self.world);
        }
        self.clients.retain(|c| !matches!(c.closed, Some(1000 | 1001 | 4401 | 4403 | 4500)) && !is_stopped(c));
        self.world.out.clear();
    }

    fn arrive(&mut self) {
        if self.clients.len() > 6 || self.world.room.participants() >= 7 {
            return;
        }
        let identity = self.chance(30).then(|| ["ann", "ben"][self.pick(2)]);
        let mut claims = claims(identity, "Somebody");
        claims.grants.publish = self.chance(90);
        claims.grants.subscribe = self.chance(90);
        claims.grants.record = self.chance(60);
        claims.grants.moderate = self.chance(20);
        claims.expires_ms = self.chance(10).then_some(self.world.wall_ms + 20_000);
        let mut client = Client::new(claims);
        client.connect(&mut self.world);
        self.clients.push(client);
    }

    fn lose(&mut self) {
        let n = self.pick(self.clients.len());
        let noticed = self.chance(50);
        let Some(client) = self.clients.get_mut(n) else { return };
        if let (Some(socket), true) = (client.socket.take(), noticed) {
            self.world.input(Input::SocketClosed { socket });
        }
    }

    fn come_back(&mut self) {
        let n = self.pick(self.clients.len());
        // A fresh join of a session that is gone may find the room full; that ends this client.
        let full = self.world.room.participants() >= 7;
        let Some(client) = self.clients.get_mut(n).filter(|c| c.socket.is_none() && !full) else { return };
        client.connect(&mut self.world);
        client.receive(&mut self.world);
        client.repeat(&mut self.world);
    }

    fn request(&mut self) {
        let n = self.pick(self.clients.len());
        if self.clients.get(n).is_none_or(|c| c.socket.is_none() || c.state.is_none()) {
            return;
        }
        let (kind, data) = self.some_request(n);
        let client = &mut self.clients[n];
        client.ask(&mut self.world, kind, data);
        if self.chance(20) {
            // Impatience: everything that is not answered once more.
            self.clients[n].repeat(&mut self.world);
        }
    }

    fn some_track(&mut self, n: usize) -> String {
        let tracks: Vec<String> =
            self.clients[n].state.iter().flat_map(|s| &s.tracks).map(|t| t.track.clone()).collect();
        let at = self.pick(tracks.len() + 1);
        tracks.get(at).cloned().unwrap_or("t999".into())
    }

    fn some_participant(&mut self, n: usize) -> String {
        let state = self.clients[n].state.as_ref();
        let all: Vec<String> = state.iter().flat_map(|s| &s.participants).map(|p| p.participant.clone()).collect();
        let at = self.pick(all.len() + 1);
        all.get(at).cloned().unwrap_or("p999".into())
    }

    fn some_request(&mut self, n: usize) -> (&'static str, Value) {
        match self.pick(14) {
            0..=2 => ("negotiate", self.some_publish(n)),
            3 | 4 => ("negotiate", self.some_subscribe(n)),
            5 | 6 => ("view", self.some_view(n)),
            7 => ("track", json!({"track": self.some_track(n), "muted": self.chance(50)})),
            8 => ("set", json!({"name": "x".repeat(self.pick(70)), "attributes": {"a": self.pick(3), "b": null}})),
            9 => {
                let to = self.chance(50).then(|| vec![self.some_participant(n)]);
                let topic = ["a", "b", ""][self.pick(3)];
                let body = [json!(null), json!(1)][self.pick(2)].clone();
                ("say", json!({"to": to, "topic": topic, "body": body, "retain": self.chance(50)}))
            }
            10 => ("stats", json!(null)),
            11 | 12 => ("record", self.some_record(n)),
            _ if self.chance(10) => ("leave", json!({})),
            _ => (["candidate", "record", "moderate", "hello", "?"][self.pick(5)], json!({"pc": "pub"})),
        }
    }

    fn some_record(&mut self, n: usize) -> Value {
        let tracks = self.chance(40).then(|| (0..self.pick(4)).map(|_| self.some_track(n)).collect::<Vec<_>>());
        let action = ["start", "start", "stop"][self.pick(3)];
        json!({"action": action, "tracks": tracks, "force": self.chance(20)})
    }

    /// What the recorder has to say, also of recordings that it has never heard of.
    fn recorder(&mut self) {
        let event = match self.pick(5) {
            0 => RecordingEvent::Refused(ApiError::new(ErrorCode::Unsupported, "no")),
            1 => RecordingEvent::Ended([RecordingFailure::DiskFull, RecordingFailure::DiskError][self.pick(2)]),
            _ => RecordingEvent::Started { name: "name".into(), started_at_ms: self.world.wall_ms },
        };
        let begun = self.world.room.recorder.running().is_some_and(|(_, begun)| begun);
        // It is refused before it begins, or not at all.
        let refused_late = begun && matches!(event, RecordingEvent::Refused(_));
        if self.world.recorder.id.is_none() || refused_late || self.chance(20) {
            self.world.input(Input::Recording(RecordingId(999_999), event));
        } else {
            self.world.recording(event);
        }
    }

    /// The association of a client: mostly the one it has, sometimes another.
    fn client_of(&mut self, n: usize) -> u64 {
        if self.chance(10) {
            self.association += 1;
            return self.association;
        }
        n as u64
    }

    fn some_publish(&mut self, n: usize) -> Value {
        let association = self.client_of(n);
        let names = ["0", "1", "2", "3", "4"];
        let mut m_lines = Vec::new();
        let mut tracks = Vec::new();
        for mid in names {
            let direction = ["a=sendonly", "a=sendonly", "a=inactive", "a=sendrecv"][self.pick(4)];
            let video = mid > "1";
            let more = if video && self.chance(40) { SIMULCAST } else { direction };
            m_lines.push((["audio", "video"][usize::from(video)], mid, more));
            if self.chance(40) {
                let source = ["microphone", "camera", "screen", "screenAudio", "game"][self.pick(5)];
                tracks.push(json!({"mid": mid, "source": source}));
            }
        }
        let sdp = if self.chance(5) { "v=0\r\n".into() } else { offer(association, &m_lines) };
        let rev = self.clients[n].next_id + 1 - u64::from(self.chance(5)) * 3;
        let tracks = self.chance(50).then_some(tracks);
        json!({"pc": "pub", "rev": rev, "sdp": sdp, "tracks": tracks})
    }

    fn some_subscribe(&mut self, n: usize) -> Value {
        let association = self.client_of(n);
        let (audio, video) = (self.pick(8), self.pick(8));
        let mut sdp = slots_offer(association, audio, video);
        if self.chance(30) {
            sdp = sdp.replacen("a=recvonly", "a=inactive", self.pick(4));
        }
        json!({"pc": "sub", "rev": self.clients[n].next_id + 1, "sdp": sdp})
    }

    fn some_view(&mut self, n: usize) -> Value {
        let mut tracks = serde_json::Map::new();
        for _ in 0..self.pick(4) {
            let wish = json!({"w": self.pick(2000), "h": self.pick(1000), "paused": self.chance(30), "priority": self.pick(3)});
            tracks.insert(self.some_track(n), wish);
        }
        let follow = [json!(null), json!("speaker"), json!(self.some_participant(n))][self.pick(3)].clone();
        let last_n = self.chance(50).then(|| self.pick(9));
        let audio_n = self.chance(50).then(|| self.pick(9));
        json!({"tracks": tracks, "follow": follow, "lastN": last_n, "audioN": audio_n})
    }

    fn engine(&mut self) {
        let room = RoomId(7);
        let peers: Vec<PeerId> = self.world.engine.peers.keys().copied().chain([PeerId(9999)]).collect();
        let tracks: Vec<TrackId> = self.world.engine.tracks.keys().copied().chain([TrackId(9999)]).collect();
        let (peer, track) = (peers[self.pick(peers.len())], tracks[self.pick(tracks.len())]);
        let event = match self.pick(15) {
            0 => engine::Event::PeerConnected { room, peer },
            1 => engine::Event::PeerDisconnected { room, peer },
            2 => {
                let why = [PeerFailure::Closed, PeerFailure::ConsentExpired][self.pick(2)];
                engine::Event::PeerFailed { room, peer, why }
            }
            3 => engine::Event::TrackLive { room, track, codec: Codec::Vp8, encodings: vec![] },
            4 => engine::Event::TrackStalled { room, track },
            5 | 6 => {
                let speakers = (0..self.pick(4)).map(|_| tracks[self.pick(tracks.len())]).collect::<Vec<_>>();
                let speaker = |t| Speaker { track: t, level: self.rng.random_range(0..=127) };
                engine::Event::Speakers { room, speakers: speakers.into_iter().map(speaker).collect() }
            }
            7 => match self.world.engine.stats.pop() {
                Some((peer, token)) => {
                    engine::Event::Stats { room, peer, token, stats: Box::new(PeerStats::default()) }
                }
                None => engine::Event::Stats { room, peer, token: 77, stats: Box::new(PeerStats::default()) },
            },
            8 if self.chance(3) => engine::Event::RoomFailed { room },
            9 => {
                let names = ["q", "f", "x"].into_iter().filter(|_| self.rng.random()).collect::<Vec<_>>();
                let rids = names.into_iter().map(|n| Rid::try_from(n).expect("a rid")).collect();
                engine::Event::TrackWanted { room, track, rids }
            }
            11 => match self.world.engine.questions.pop() {
                Some((peer, token)) => engine::Event::Explained { room, peer, token, log: Box::default() },
                None => engine::Event::Explained { room, peer, token: 77, log: Box::default() },
            },
            10 => {
                let (score, why) =
                    [(5, QualityWhy::Good), (9, QualityWhy::Good), (3, QualityWhy::Loss), (0, QualityWhy::Silence)]
                        [self.pick(4)];
                engine::Event::Quality { room, peer, score, why }
            }
            _ => {
                let all: Vec<_> = self.world.engine.bindings.iter().map(|((p, m), t)| (*p, m.clone(), *t)).collect();
                let at = self.pick(all.len() + 1);
                let (peer, mid, track) = all.get(at).cloned().unwrap_or((peer, "v0".into(), track));
                let mid = Mid::try_from(mid.as_str()).expect("a mid");
                engine::Event::SlotState { room, peer, mid, track, report: self.some_report() }
            }
        };
        if matches!(event, engine::Event::RoomFailed { .. }) {
            // The engine forgets first.
            self.world.event(event);
            self.resources.clear();
        } else {
            self.world.event(event);
        }
    }

    fn some_report(&mut self) -> SlotReport {
        let state = [SlotState::Waiting, SlotState::Live, SlotState::Paused, SlotState::NoCodec][self.pick(4)];
        let limit = [Limit::Publisher, Limit::View, Limit::Bandwidth][self.pick(3)];
        let (need_bps, have_bps) = (Some(self.rng.random_range(0..1000)), self.chance(50).then_some(u64::MAX));
        let layer = ChosenLayer { rid: None, spatial: None, temporal: Some(self.rng.random_range(0..3)) };
        SlotReport { state, layer: self.chance(50).then_some(layer), limit, need_bps, have_bps }
    }

    fn http(&mut self) {
        let kind = [HttpKind::Whip, HttpKind::Whep][self.pick(2)];
        let at = self.pick(self.resources.len() + 1);
        let (known, resource) = self.resources.get(at).cloned().unwrap_or((kind, "unknown".into()));
        let request = match self.pick(8) {
            4 => HttpRequest::Inspect([Inspect::Room, Inspect::Recording][self.pick(2)].clone()),
            6 => {
                let action = [RecordAction::Start, RecordAction::Stop][self.pick(2)];
                HttpRequest::Record(Record { action, tracks: None, layout: None, force: false })
            }
            5 => HttpRequest::Inspect(Inspect::Decisions { participant: format!("p{}", self.pick(20)) }),
            0 => HttpRequest::Delete { kind: known, resource },
            1 => {
                let fragment = format!("a=ice-ufrag:u{:04}\r\na=ice-pwd:zyxwvutsrqponmlkjihgfe\r\n", self.pick(99));
                HttpRequest::Patch { kind: known, resource, fragment, if_match: None }
            }
            _ => {
                let sdp = match (self.chance(10), kind) {
                    (true, _) => "nonsense".into(),
                    (_, HttpKind::Whip) => offer(7, &[("audio", "0", "a=sendonly"), ("video", "1", "a=sendonly")]),
                    (_, HttpKind::Whep) => slots_offer(8, 1, 1),
                };
                let whep_of = self.chance(30).then(|| format!("p{}", self.pick(20)));
                let identity = self.chance(30).then_some("obs");
                HttpRequest::Create { kind, sdp, claims: claims(identity, "Http"), whep_of }
            }
        };
        self.world.input(Input::Http { http: HttpId(1), request });
        for output in &self.world.out {
            if let Output::Http { response: HttpResponse::Created { resource, .. }, .. } = output {
                self.resources.push((kind, resource.clone()));
            }
        }
    }

    fn nonsense(&mut self) {
        let n = self.pick(self.clients.len());
        let socket = self.clients.get(n).and_then(|c| c.socket).filter(|_| self.chance(50)).unwrap_or(SocketId(99_999));
        let values =
            [json!(null), json!(7), json!("x"), json!([[]]), json!({"pc": 1}), json!({"tracks": {"t1": null}})];
        let data = values[self.pick(values.len())].clone();
        let kinds = ["negotiate", "view", "track", "set", "say", "stats", "candidate", "moderate", "", "\u{0}"];
        let kind = kinds[self.pick(kinds.len())];
        let id = 1_000_000 + self.rng.random_range(0..u64::MAX / 2);
        match self.pick(4) {
            0 => self.world.input(Input::Pong { socket }),
            1 if socket == SocketId(99_999) => self.world.input(Input::SocketClosed { socket }),
            _ if socket == SocketId(99_999) => {
                self.world.request(socket, &json!({"id": id, "type": kind, "data": data}).to_string());
            }
            _ => drop(self.clients[n].ask(&mut self.world, kind, data)),
        }
    }

    /// Everybody comes back, and then knows the truth.
    fn settle(&mut self) {
        for client in &mut self.clients {
            for _ in 0..3 {
                if client.socket.is_none() {
                    let resumable = client
                        .welcome
                        .as_ref()
                        .is_some_and(|w| self.world.room.index.sessions.contains_key(&w.session));
                    if !resumable {
                        break;
                    }
                    client.connect(&mut self.world);
                    client.receive(&mut self.world);
                    client.repeat(&mut self.world);
                }
                client.receive(&mut self.world);
            }
        }
        for client in &mut self.clients {
            client.receive(&mut self.world);
        }
        if self.world.room.recorder.running().is_some_and(|(_, begun)| !begun) {
            self.world.recording_begins();
        }
        self.world.advance(Duration::from_millis(2500));
        for client in &mut self.clients {
            client.receive(&mut self.world);
        }
        for client in self.clients.iter().filter(|c| c.socket.is_some() && c.state.is_some()) {
            assert_knows_the_truth(&self.world, client);
            assert_eq!(client.unanswered.len(), 0, "{:?}", client.unanswered);
        }
    }
}

/// Told not to come back.
fn is_stopped(client: &Client) -> bool {
    client.closed == Some(4409)
}

#[test]
fn chaos_breaks_nothing() {
    for seed in 0..8 {
        let outcome = std::panic::catch_unwind(|| {
            let mut chaos = Chaos::new(seed);
            let mut most = 0;
            for _ in 0..20 {
                (0..100).for_each(|_| chaos.step());
                chaos.settle();
                most = most.max(chaos.world.engine.bindings.len());
            }
            assert!(most > 5, "a world in which nothing happens: {most}");
            assert!(chaos.world.recorder.last > 5, "hardly any recordings: {}", chaos.world.recorder.last);
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

/// Any JSON of some depth.
fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let word = proptest::sample::select(vec![
        "pc",
        "pub",
        "sub",
        "rev",
        "sdp",
        "tracks",
        "mid",
        "source",
        "camera",
        "t1",
        "p1",
        "w",
        "h",
        "lastN",
        "follow",
        "speaker",
        "track",
        "muted",
        "name",
        "attributes",
        "to",
        "topic",
        "body",
        "retain",
        "action",
        "",
        "\u{0}",
        "\u{10ffff}",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        let map = proptest::collection::btree_map(word.clone().prop_map(str::to_owned), inner.clone(), 0..6);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            map.prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn any_data_of_any_request_is_answered(data in any_json(), kind in 0usize..10) {
        let kinds = ["negotiate", "candidate", "view", "track", "set", "say", "moderate", "record", "hello", "x"];
        let mut world = World::new(1);
        let ann = world.enter("Ann");
        world.publish(ann, 2);
        let (answer, _) = world.ask(ann, 3, kinds[kind], data);
        proptest::prop_assert!(answer["ok"] == true || answer["error"]["message"] != "");
    }
}
