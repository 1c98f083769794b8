//! The doors and the driver, over real HTTP, around a room that does as it is told. What a real room says is tested elsewhere.
use super::auth::{Secret, TokenClaims, sign};
use super::hub::Machine;
use super::*;
use crate::engine::{Command, Event};
use crate::ids::{ParticipantId, PeerId, RoomId, ShardId};
use crate::net::tap::Taps;
use crate::peer::config::{DtlsConfig, DtlsRole, IceConfig, IceCredentials, PeerConfig};
use crate::recordings::Recordings;
use crate::room::api::{Grants, HttpRequest, HttpResponse, Input, Output, SocketId, Text};
use crate::room::messages::{ApiError, ErrorCode};
use futures_util::{SinkExt, StreamExt};
use reqwest::Method as HttpMethod;
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Answers a hello with `{}`, echoes requests, and obeys `panic`, `flood`, `close` and `peer`.
struct Puppet {
    id: RoomId,
    sockets: HashSet<SocketId>,
    resources: u32,
    /// Drains are not heard.
    stubborn: bool,
    outputs: VecDeque<Output>,
}

impl Puppet {
    fn answer(&mut self, socket: SocketId, id: u64, data: Value) {
        let text = json!({"id": id, "ok": true, "data": data}).to_string();
        self.outputs.push_back(Output::Send { socket, text: Text::plain(text) });
    }

    fn gone(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
        if self.sockets.is_empty() && self.resources == 0 {
            self.outputs.push_back(Output::Empty);
        }
    }

    fn request(&mut self, socket: SocketId, id: u64, kind: &str, data: Value) {
        match kind {
            "panic" => panic!("as told"),
            "flood" => {
                let text = Text::plain(json!({"seq": 1, "pad": "x".repeat(10_000)}).to_string());
                let flood = std::iter::repeat_n(text, 2000);
                self.outputs.extend(flood.map(|text| Output::Send { socket, text }));
            }
            "dig in" => {
                self.stubborn = true;
                self.answer(socket, id, data);
            }
            "leave" => {
                self.answer(socket, id, data);
                self.outputs.push_back(Output::Close { socket, code: 1000, reason: "bye" });
                self.gone(socket);
            }
            "peer" => {
                let config = Box::new(peer_config());
                self.outputs.push_back(Output::Engine(Command::AddPeer { peer: PeerId(id), room: self.id, config }));
                self.answer(socket, id, data);
            }
            _ => self.answer(socket, id, data),
        }
    }

    fn http(&mut self, request: HttpRequest) -> HttpResponse {
        let failed =
            |code| HttpResponse::Failed(ApiError { code, message: "no".into(), retryable: false, retry_after_ms: 0 });
        match request {
            HttpRequest::Create { sdp, .. } if sdp == "bad" => failed(ErrorCode::BadRequest),
            HttpRequest::Create { sdp, .. } if sdp == "odd" => failed(ErrorCode::Unsupported),
            HttpRequest::Create { sdp, claims, whep_of, .. } => {
                self.resources += 1;
                let sdp = format!("{sdp} answered for {} of {whep_of:?}", claims.name);
                let (resource, etag) = ("f00d".into(), "tag-1".into());
                HttpResponse::Created { participant: ParticipantId(1), resource, etag, sdp }
            }
            HttpRequest::Patch { resource, .. } | HttpRequest::Delete { resource, .. } if resource != "f00d" => {
                failed(ErrorCode::NotFound)
            }
            HttpRequest::Patch { if_match, .. } => match if_match.as_deref() {
                Some("*") => HttpResponse::Restarted { etag: "tag-2".into(), fragment: "a=ice-ufrag:x".into() },
                Some("tag-1") => HttpResponse::Done,
                _ => HttpResponse::PreconditionFailed,
            },
            HttpRequest::Delete { .. } => {
                self.resources -= 1;
                HttpResponse::Done
            }
            HttpRequest::Record(data) => HttpResponse::Shown(json!({"asked": format!("{data:?}")}).to_string()),
            HttpRequest::Inspect(what) => HttpResponse::Shown(json!({"asked": format!("{what:?}")}).to_string()),
        }
    }
}

impl Machine for Puppet {
    fn handle(&mut self, _: Instant, _: u64, input: Input) {
        match input {
            Input::Hello { socket, id, claims, .. } => {
                self.sockets.insert(socket);
                self.answer(socket, id, json!({"name": claims.name}));
            }
            Input::Request { socket, request } => self.request(socket, request.id, &request.kind, request.data),
            Input::Pong { .. } | Input::Recording(..) => {}
            Input::SocketClosed { socket } => self.gone(socket),
            Input::Http { http, request } => {
                let response = self.http(request);
                self.outputs.push_back(Output::Http { http, response });
            }
            Input::Engine(_) => {
                for socket in &self.sockets {
                    self.outputs.push_back(Output::Send { socket: *socket, text: Text::plain(r#"{"type":"engine"}"#) });
                }
            }
            Input::Drain { .. } if self.stubborn => {}
            Input::Drain { .. } => {
                for socket in self.sockets.drain() {
                    self.outputs.push_back(Output::Send { socket, text: Text::plain(r#"{"type":"bye"}"#) });
                    self.outputs.push_back(Output::Close { socket, code: 1001, reason: "the server goes away" });
                }
            }
        }
    }
    fn handle_timeout(&mut self, _: Instant, _: u64) {}
    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
    fn participants(&self) -> usize {
        self.sockets.len()
    }
}

fn peer_config() -> PeerConfig {
    let credentials = IceCredentials { ufrag: "aaaa".into(), pwd: "b".repeat(22) };
    PeerConfig {
        ice: IceConfig { local: credentials.clone(), remote: credentials },
        dtls: DtlsConfig { role: DtlsRole::Server, fingerprints: Vec::new() },
        receive: Vec::new(),
        send: Vec::new(),
        cname: "test".into(),
    }
}

struct Server {
    addr: SocketAddr,
    hub: Hub,
    commands: mpsc::Receiver<Command>,
    _stop: watch::Sender<bool>,
}

fn settings(access: Access) -> Settings {
    let limits = Limits {
        frame_bytes: 64 << 10,
        sdp_bytes: 16 << 10,
        sockets: 100,
        sockets_per_address: 100,
        connections: 100,
        outbox: OutboxLimits { messages: 256, bytes: 1 << 20 },
    };
    let ice_servers = vec![IceServer { urls: vec!["stun:stun.example.org".into()], username: None, credential: None }];
    Settings { access, admin: None, cors: Origins::Any, ice_servers, limits }
}

const OPEN: Access = Access { secret: None, open: true, guests: Grants::USUAL };

fn secret() -> Secret {
    Secret::try_from("0123456789abcdef").unwrap()
}

fn closed() -> Access {
    Access { secret: Some(secret()), ..Access::default() }
}

fn token(room: &str, sub: Option<&str>, lifetime_s: i64) -> String {
    let exp = (clock::wall_ms() / 1000).saturating_add_signed(lifetime_s);
    let sub = sub.map(str::to_owned);
    sign(&secret(), &TokenClaims { room: room.into(), sub, name: None, grants: None, exp, nbf: None }).unwrap()
}

async fn start(settings: Settings) -> Server {
    let (engine, commands) = mpsc::channel(64);
    let make_room: hub::MakeRoom = Box::new(|id, _| {
        Box::new(Puppet { id, sockets: HashSet::new(), resources: 0, stubborn: false, outputs: VecDeque::new() })
    });
    let recordings = Recordings::new(None, Vec::new(), Taps::default(), mpsc::unbounded_channel().0);
    let hub = Hub::new(make_room, 3, vec![engine], recordings, Arc::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(Signal::new(settings, hub.clone(), Vec::new()).serve(listener, stopped));
    Server { addr, hub, commands, _stop: stop }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(server: &Server) -> Self {
        let url = format!("ws://{}/v1/room", server.addr);
        Self(tokio_tungstenite::connect_async(url).await.unwrap().0)
    }

    async fn join(server: &Server, room: &str) -> Self {
        let mut client = Self::connect(server).await;
        let answer = client.ask(json!({"id": 1, "type": "hello", "data": {"room": room, "name": "Ada"}})).await;
        assert_eq!(answer, json!({"id": 1, "ok": true, "data": {"name": "Ada"}}));
        client
    }

    async fn send(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.unwrap();
    }

    async fn ask(&mut self, request: Value) -> Value {
        self.send(request.to_string()).await;
        self.text().await
    }

    async fn text(&mut self) -> Value {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Reads on to the close frame.
    async fn code(&mut self) -> u16 {
        let within = Duration::from_secs(20);
        loop {
            match tokio::time::timeout(within, self.0.next()).await.expect("no close frame came") {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_hello_and_what_follows() {
    let server = start(settings(OPEN)).await;
    let mut client = Client::join(&server, "a").await;
    client.send(json!({"type": "pong", "t": 1}).to_string()).await;
    let echo = client.ask(json!({"id": 2, "type": "say", "data": {"body": "hi"}})).await;
    assert_eq!(echo["data"]["body"], "hi");
    assert_eq!(server.hub.population(), (1, 1));
    client.send(json!({"id": 3, "type": "leave"}).to_string()).await;
    assert_eq!(client.code().await, 1000);
    until(|| server.hub.population() == (0, 0)).await;
    until(|| server.hub.metrics().sockets.load(std::sync::atomic::Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn the_subprotocol_is_agreed_to() {
    let server = start(settings(OPEN)).await;
    let mut request = format!("ws://{}/v1/room", server.addr).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "other, exedra.v1".parse().unwrap());
    let (_, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
}

#[tokio::test]
async fn a_websocket_ping_is_answered() {
    let server = start(settings(OPEN)).await;
    let mut client = Client::join(&server, "a").await;
    client.0.send(Message::Ping(vec![1, 2, 3].into())).await.unwrap();
    let answer = client.0.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong(vec![1, 2, 3].into()));
}

#[tokio::test]
async fn bad_first_frames_have_their_codes() {
    let server = start(settings(OPEN)).await;
    for (frame, code) in [
        (Message::text("{"), 4400),
        (Message::text("[1]"), 4400),
        (Message::text(r#"{"type":"hello"}"#), 4400),
        (Message::text(r#"{"id":1,"type":"say"}"#), 4400),
        (Message::text(r#"{"type":"pong"}"#), 4400),
        (Message::text(r#"{"id":1,"type":"hello","data":[]}"#), 4400),
        (Message::text(r#"{"id":1,"type":"hello","data":{"room":"a"}}"#), 4400),
        (Message::text(r#"{"id":1,"type":"hello","data":{"room":"a b","name":"x"}}"#), 4400),
        (Message::binary(vec![1, 2, 3]), 1003),
        (Message::text("x".repeat(65 << 10)), 1009),
        (Message::text("x".repeat(2 << 20)), 1009),
    ] {
        let what = format!("{frame:.60}");
        let mut client = Client::connect(&server).await;
        // A large frame may be refused before all of it is written.
        let _ = client.0.send(frame).await;
        assert_eq!(client.code().await, code, "{what}");
    }
    assert_eq!(server.hub.population(), (0, 0));
}

#[tokio::test]
async fn bad_later_frames_have_theirs() {
    let server = start(settings(OPEN)).await;
    for (frame, code) in [
        (Message::text("{"), 4400),
        (Message::text("null"), 4400),
        (Message::text("{\"id\":7}"), 4400),
        (Message::binary(vec![0]), 1003),
        (Message::text("x".repeat(65 << 10)), 1009),
    ] {
        let mut client = Client::join(&server, "a").await;
        client.0.send(frame).await.unwrap();
        assert_eq!(client.code().await, code);
    }
    let mut client = Client::join(&server, "a").await;
    for id in 0..400 {
        let _ = client.0.feed(Message::text(json!({"id": id, "type": "say"}).to_string())).await;
    }
    let _ = client.0.flush().await;
    assert_eq!(client.code().await, 4429);
    until(|| server.hub.population() == (0, 0)).await;
}

#[tokio::test]
async fn a_hello_that_does_not_come() {
    let server = start(settings(OPEN)).await;
    let mut client = Client::connect(&server).await;
    client.0.send(Message::Ping(Vec::new().into())).await.unwrap();
    let began = clock::now();
    assert_eq!(client.code().await, 4408);
    assert!((4..7).contains(&began.elapsed().as_secs()));
}

#[tokio::test]
async fn tokens_open_their_room() {
    let server = start(settings(closed())).await;
    let other = sign(
        &Secret::try_from("another secret, quite another").unwrap(),
        &TokenClaims { room: "a".into(), sub: None, name: None, grants: None, exp: u64::from(u32::MAX), nbf: None },
    );
    for (data, code, words) in [
        (json!({"room": "a", "name": "x"}), 4401, "a token is needed"),
        (json!({"token": token("a", None, -35)}), 4401, "the token expired 3"),
        (json!({"token": other.unwrap()}), 4401, "signed with another secret"),
        (json!({"token": "eyJhbGciOiJub25lIn0.eyJyb29tIjoiYSIsImV4cCI6MTkwMDAwMDAwMH0."}), 4401, ""),
        (json!({"token": token("a", None, 60), "room": "b"}), 4403, "another room"),
    ] {
        let mut client = Client::connect(&server).await;
        let answer = client.ask(json!({"id": 9, "type": "hello", "data": data})).await;
        assert_eq!((&answer["id"], &answer["ok"]), (&json!(9), &json!(false)));
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{answer}");
        assert_eq!(client.code().await, code);
    }
    let mut client = Client::connect(&server).await;
    let good = json!({"id": 1, "type": "hello", "data": {"token": token("a", Some("ada"), 60)}});
    assert_eq!(client.ask(good).await["data"]["name"], "ada");
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_and_the_others_are_not() {
    let server = start(settings(OPEN)).await;
    let mut slow = Client::join(&server, "a").await;
    let mut other = Client::join(&server, "a").await;
    slow.send(json!({"id": 2, "type": "flood"}).to_string()).await;
    assert_eq!(other.ask(json!({"id": 2, "type": "say", "data": 1})).await["data"], 1);
    assert_eq!(slow.code().await, 4408);
    until(|| server.hub.population() == (1, 1)).await;
}

#[tokio::test]
async fn a_panic_ends_one_room_and_no_other() {
    let mut server = start(settings(OPEN)).await;
    let mut bystander = Client::join(&server, "b").await;
    let mut first = Client::join(&server, "a").await;
    let mut second = Client::join(&server, "a").await;
    first.ask(json!({"id": 77, "type": "peer"})).await;
    assert!(matches!(server.commands.recv().await, Some(Command::AddPeer { peer: PeerId(77), .. })));

    second.send(json!({"id": 2, "type": "panic"}).to_string()).await;
    assert_eq!((first.code().await, second.code().await), (4500, 4500));
    assert!(matches!(server.commands.recv().await, Some(Command::RemovePeer { peer: PeerId(77) })));
    assert_eq!(bystander.ask(json!({"id": 2, "type": "say", "data": 1})).await["data"], 1);
    assert_eq!(server.hub.population(), (1, 1));
    let text = get(&server, "/metrics").await.text().await.unwrap();
    assert!(text.contains("exedra_room_panics_total 1\n"), "{text}");
    // The name is free again.
    Client::join(&server, "a").await;
}

#[tokio::test]
async fn events_reach_their_room_and_an_overrun_ends_it() {
    let server = start(settings(OPEN)).await;
    let mut client = Client::join(&server, "a").await;
    let event = Event::PeerConnected { room: RoomId(2), peer: PeerId(1) };
    // Ids are handed out in order: the socket is 1, its room 2. One of nobody is dropped.
    server.hub.dispatch(ShardId(0), Event::PeerConnected { room: RoomId(99), peer: PeerId(1) });
    server.hub.dispatch(ShardId(0), event.clone());
    assert_eq!(client.text().await["type"], "engine");
    // Nothing else runs meanwhile, on this runtime of one thread.
    (0..=hub::EVENTS * 2).for_each(|_| server.hub.dispatch(ShardId(0), event.clone()));
    assert_eq!(client.code().await, 4500);
}

#[tokio::test]
async fn rooms_and_sockets_are_limited() {
    let limited = Settings { limits: Limits { sockets: 4, ..settings(OPEN).limits }, ..settings(OPEN) };
    let server = start(limited).await;
    let mut clients = Vec::new();
    for room in ["a", "b", "c"] {
        clients.push(Client::join(&server, room).await);
    }
    let mut refused = Client::connect(&server).await;
    let answer = refused.ask(json!({"id": 1, "type": "hello", "data": {"room": "d", "name": "x"}})).await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["retryable"]), (&json!("limit_reached"), &json!(true)));
    assert!(tokio_tungstenite::connect_async(format!("ws://{}/v1/room", server.addr)).await.is_err());
    assert_eq!(refused.code().await, 4429);
    drop(clients);
    until(|| server.hub.population() == (0, 0)).await;
    Client::join(&server, "d").await;
}

#[tokio::test]
async fn a_drain_tells_everybody_and_lets_nobody_in() {
    let server = start(settings(OPEN)).await;
    let mut client = Client::join(&server, "a").await;
    assert_eq!(get(&server, "/readyz").await.status(), 200);
    let mut late = Client::connect(&server).await;
    server.hub.drain(None, Duration::from_secs(5)).await;
    assert_eq!(client.text().await["type"], "bye");
    assert_eq!(client.code().await, 1001);
    assert_eq!(get(&server, "/readyz").await.status(), 503);
    assert_eq!(get(&server, "/healthz").await.status(), 200);
    let answer = late.ask(json!({"id": 1, "type": "hello", "data": {"room": "a", "name": "x"}})).await;
    assert_eq!(answer["error"]["code"], "unavailable");
    assert_eq!(late.code().await, 1001);
}

#[tokio::test]
async fn a_drain_has_a_bound() {
    let server = start(settings(OPEN)).await;
    let mut client = Client::join(&server, "a").await;
    client.ask(json!({"id": 2, "type": "dig in"})).await;
    let began = clock::now();
    server.hub.drain(None, Duration::from_millis(300)).await;
    assert!((300..2000).contains(&began.elapsed().as_millis()));
    assert_eq!(client.code().await, 1001);
    assert_eq!(server.hub.population(), (0, 0));
}

#[tokio::test]
async fn whip_from_offer_to_delete() {
    let server = start(settings(OPEN)).await;
    let created = sdp(&server, "/v1/whip/gr%C3%B6%C3%9Fe/cam1", "offer").await;
    assert_eq!(created.status(), 201);
    let header = |name: &str| created.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/sdp");
    assert_eq!(header("etag"), "\"tag-1\"");
    assert_eq!(header("accept-patch"), "application/trickle-ice-sdpfrag");
    assert_eq!(header("link"), "<stun:stun.example.org>; rel=\"ice-server\"");
    assert_eq!(header("access-control-allow-origin"), "*");
    assert!(header("access-control-expose-headers").contains("location"));
    let resource = header("location");
    assert_eq!(resource, "/v1/whip/gr%C3%B6%C3%9Fe/resource/f00d");
    assert_eq!(created.text().await.unwrap(), "offer answered for cam1 of None");

    let patch = async |etag: Option<&str>, kind: &str| {
        let request = request(&server, HttpMethod::PATCH, &resource).header("content-type", kind).body("a=candidate");
        let request = etag.into_iter().fold(request, |r, etag| r.header("if-match", etag));
        request.send().await.unwrap()
    };
    let frag = "application/trickle-ice-sdpfrag";
    assert_eq!(patch(Some("\"tag-1\""), frag).await.status(), 204);
    assert_eq!(patch(Some("\"tag-0\""), frag).await.status(), 412);
    assert_eq!(patch(None, frag).await.status(), 428);
    assert_eq!(patch(Some("*"), "application/sdp").await.status(), 415);
    let restarted = patch(Some("*"), frag).await;
    assert_eq!((restarted.status().as_u16(), &restarted.headers()["etag"]), (200, &"\"tag-2\"".parse().unwrap()));

    let missing = resource.replace("f00d", "beef");
    assert_eq!(request(&server, HttpMethod::DELETE, &missing).send().await.unwrap().status(), 404);
    assert_eq!(request(&server, HttpMethod::DELETE, &resource).send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn every_error_of_http_is_a_problem() {
    let server = start(settings(OPEN)).await;
    let post = |path: &str| request(&server, HttpMethod::POST, path).header("content-type", "application/sdp");
    let whip = "/v1/whip/a";
    for (request, status) in [
        (post(whip).body("bad"), 400),
        (post(whip).body("odd"), 422),
        (post(whip).body(vec![0xff, 0xfe]), 400),
        (post(whip).body("x".repeat(17 << 10)), 413),
        (post(whip).header("accept", "text/html").body("offer"), 406),
        (post(whip).header("authorization", "Basic eDp5").body("offer"), 401),
        (request(&server, HttpMethod::POST, whip).header("content-type", "text/plain").body("offer"), 415),
        (request(&server, HttpMethod::POST, whip).body("offer"), 415),
        (post("/v1/whip/a%20b").body("offer"), 400),
        (post("/v1/whip/a%FFb").body("offer"), 400),
        (post("/v1/whep/nobody-here").body("offer"), 404),
        (request(&server, HttpMethod::GET, whip), 405),
        (request(&server, HttpMethod::PUT, whip), 405),
        (request(&server, HttpMethod::DELETE, "/v1/whip/none/resource/x"), 404),
        (request(&server, HttpMethod::GET, "/v1/nothing"), 404),
        (request(&server, HttpMethod::GET, "/nothing.js"), 404),
        (request(&server, HttpMethod::POST, "/"), 405),
        (request(&server, HttpMethod::GET, "/v1/room"), 400),
    ] {
        let request = request.build().unwrap();
        let what = format!("{} {}", request.method(), request.url().path());
        let response = reqwest::Client::new().execute(request).await.unwrap();
        assert_eq!(response.status(), status, "{what}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{what}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["status"], status, "{what}");
        assert!(body["detail"].as_str().is_some_and(|d| !d.is_empty()), "{what}");
    }
}

#[tokio::test]
async fn whip_with_tokens() {
    let server = start(settings(closed())).await;
    let post = async |path: &str, token: Option<String>| {
        let request = request(&server, HttpMethod::POST, path).header("content-type", "application/sdp").body("offer");
        token.into_iter().fold(request, |r, token| r.bearer_auth(token)).send().await.unwrap()
    };
    let refused = post("/v1/whip/a", None).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["www-authenticate"]),
        (401, &"Bearer realm=\"exedra\"".parse().unwrap())
    );
    let stale = post("/v1/whip/a", Some(token("a", None, -5))).await;
    assert_eq!(stale.status(), 401);
    assert!(stale.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    assert_eq!(post("/v1/whip/b", Some(token("a", None, 60))).await.status(), 403);
    assert_eq!(post("/v1/whip/a/bob", Some(token("a", Some("ada"), 60))).await.status(), 403);
    assert_eq!(post("/v1/whip/a/ada", Some(token("a", Some("ada"), 60))).await.status(), 201);
    let watched = post("/v1/whep/a/ada", Some(token("a", None, 60))).await;
    assert_eq!(watched.headers()["location"], "/v1/whep/a/resource/f00d");
    assert!(watched.text().await.unwrap().ends_with("of Some(\"ada\")"));
}

#[tokio::test]
async fn operators_look_with_their_own_token_only() {
    let rooms = "/v1/admin/rooms";
    let closed_door = start(settings(OPEN)).await;
    let off = get(&closed_door, rooms).await;
    assert_eq!(off.status(), 403);
    assert!(off.text().await.unwrap().contains("--admin-token"), "it says how to switch it on");
    let admin = Secret::try_from("operators only, please").ok();
    let server = start(Settings { admin, ..settings(closed()) }).await;
    let ask = async |path: &str, token: Option<&str>| {
        let request = request(&server, HttpMethod::GET, path);
        token.into_iter().fold(request, |r, token| r.bearer_auth(token)).send().await.unwrap()
    };
    let mut client = Client::connect(&server).await;
    let hello = json!({"id": 1, "type": "hello", "data": {"token": token("größe", Some("ada"), 60)}});
    assert_eq!(client.ask(hello).await["ok"], true);
    let guest = token("größe", Some("ada"), 60);
    for wrong in [None, Some("operators only, pleasf"), Some("0123456789abcdef"), Some(guest.as_str())] {
        for path in [rooms, "/v1/admin/rooms/gr%C3%B6%C3%9Fe", "/v1/admin/rooms/none/participants/x/decisions"] {
            assert_eq!(ask(path, wrong).await.status(), 401, "{path} {wrong:?}");
        }
    }
    let right = Some("operators only, please");
    let list = ask(rooms, right).await;
    assert_eq!(list.headers()["cache-control"], "no-store");
    assert_eq!(list.json::<Value>().await.unwrap(), json!({"rooms": [{"room": "größe", "participants": 1}]}));
    let room = ask("/v1/admin/rooms/gr%C3%B6%C3%9Fe", right).await;
    assert_eq!(room.headers()["content-type"], "application/json");
    assert_eq!(room.json::<Value>().await.unwrap(), json!({"asked": "Room"}));
    let decisions = ask("/v1/admin/rooms/gr%C3%B6%C3%9Fe/participants/Ada%20B/decisions", right).await;
    assert_eq!(decisions.json::<Value>().await.unwrap(), json!({"asked": "Decisions { participant: \"Ada B\" }"}));
    for (path, status) in [("/v1/admin/rooms/none", 404), ("/v1/admin/rooms/a%20b", 404), ("/v1/admin/nothing", 404)] {
        assert_eq!(ask(path, right).await.status(), status, "{path}");
    }
    assert_eq!(request(&server, HttpMethod::POST, rooms).send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn operators_have_rooms_recorded() {
    let admin = Secret::try_from("operators only, please").ok();
    let server = start(Settings { admin, ..settings(OPEN) }).await;
    let ask = async |method: HttpMethod, room: &str, token: &str, body: &'static str| {
        let request = request(&server, method, &format!("/v1/admin/rooms/{room}/recording"));
        let response = request.bearer_auth(token).body(body).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["asked"].as_str().unwrap_or("").to_owned())
    };
    let right = "operators only, please";
    let _client = Client::join(&server, "a").await;
    for method in [HttpMethod::GET, HttpMethod::POST, HttpMethod::DELETE] {
        assert_eq!(ask(method.clone(), "a", "a guess", "").await.0, 401);
        assert_eq!(ask(method, "none", right, "").await.0, 404);
    }
    assert_eq!(ask(HttpMethod::GET, "a", right, "").await, (200, "Recording".into()));
    let start = |tracks| format!("Record {{ action: Start, tracks: {tracks}, layout: None, force: false }}");
    assert_eq!(ask(HttpMethod::POST, "a", right, "").await, (200, start("None")));
    assert_eq!(ask(HttpMethod::POST, "a", right, r#"{"tracks":["t1"]}"#).await, (200, start(r#"Some(["t1"])"#)));
    let arranged = start("None").replace("layout: None", "layout: Some(Speaker)");
    assert_eq!(ask(HttpMethod::POST, "a", right, r#"{"layout":"speaker"}"#).await, (200, arranged));
    for bad in ["{", "[]", r#"{"tracks":7}"#, r#"{"layout":"heap"}"#] {
        assert_eq!(ask(HttpMethod::POST, "a", right, bad).await.0, 400, "{bad}");
    }
    let stop = "Record { action: Stop, tracks: None, layout: None, force: true }";
    assert_eq!(ask(HttpMethod::DELETE, "a", right, "").await, (200, stop.into()));
}

#[tokio::test]
async fn a_page_of_another_origin_may_ask_first() {
    let server = start(settings(OPEN)).await;
    let response = request(&server, HttpMethod::OPTIONS, "/v1/whip/a")
        .header("origin", "https://meet.example.org")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_lowercase();
    assert_eq!(header("access-control-allow-origin"), "*");
    assert!(header("access-control-allow-methods").contains("patch"));
    assert!(header("access-control-allow-headers").contains("authorization"));
    assert_eq!(header("accept-post"), "application/sdp");

    let only = Origins::Only(vec![origin::Origin::try_from("https://meet.example.org").unwrap()]);
    let strict = start(Settings { cors: only, ..settings(OPEN) }).await;
    let mut socket = format!("ws://{}/v1/room", strict.addr).into_client_request().unwrap();
    socket.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    assert!(tokio_tungstenite::connect_async(socket).await.is_err());
}

#[tokio::test]
async fn pages_are_not_led_out_of_their_folder() {
    let server = start(settings(OPEN)).await;
    for path in [
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/..%2fCargo.toml",
        "/.hidden",
        "/sdk/../../Cargo.toml",
        "//etc/passwd",
    ] {
        // Written by hand: a client would tidy the path up.
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let mut response = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 404"), "{path}: {response}");
        assert!(response.contains("content-security-policy: default-src 'none'; script-src 'self'"));
    }
}

fn request(server: &Server, method: HttpMethod, path: &str) -> reqwest::RequestBuilder {
    reqwest::Client::new().request(method, format!("http://{}{path}", server.addr))
}

async fn get(server: &Server, path: &str) -> reqwest::Response {
    request(server, HttpMethod::GET, path).send().await.unwrap()
}

async fn sdp(server: &Server, path: &str, body: &'static str) -> reqwest::Response {
    request(server, HttpMethod::POST, path).header("content-type", "application/sdp").body(body).send().await.unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true within 5 s");
}
