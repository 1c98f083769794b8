//! The whole server over HTTP: real rooms, real offers, and the process itself with its signals and exit codes.
use exedra::config::{self, Invocation};
use exedra::server::{self, RunningServer};
use futures_util::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const LOCAL: [&str; 4] = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"];

async fn start(flags: &[&str]) -> RunningServer {
    let args = ["exedra"].iter().chain(&LOCAL).chain(flags).map(std::ffi::OsString::from);
    match config::load(args, []) {
        Ok(Invocation::Serve(config)) => server::start(*config).await.unwrap(),
        other => panic!("{other:?}"),
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(port: u16) -> Self {
        let url = format!("ws://127.0.0.1:{port}/v1/room");
        Self(tokio_tungstenite::connect_async(url).await.unwrap().0)
    }

    async fn join(port: u16, room: &str, name: &str) -> (Self, Value) {
        let mut client = Self::connect(port).await;
        let welcome = client.ask(1, "hello", json!({"room": room, "name": name})).await;
        assert_eq!(welcome["ok"], true, "{welcome}");
        (client, welcome["data"].clone())
    }

    /// Sends a request and reads on to its answer.
    async fn ask(&mut self, id: u64, kind: &str, data: Value) -> Value {
        let request = json!({"id": id, "type": kind, "data": data}).to_string();
        self.0.send(Message::text(request)).await.unwrap();
        self.until(|m| m["id"] == id).await
    }

    async fn event(&mut self, kind: &str) -> Value {
        self.until(|m| m["type"] == kind).await["data"].clone()
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = tokio::time::timeout(Duration::from_secs(5), self.0.next()).await;
            match frame.expect("it did not come within 5 s") {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if wanted(&message) {
                        return message;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn code(&mut self) -> u16 {
        loop {
            match tokio::time::timeout(Duration::from_secs(5), self.0.next()).await.expect("no close frame within 5 s")
            {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn offer(name: &str) -> String {
    std::fs::read_to_string(format!("tests/offers/{name}.sdp")).unwrap()
}

fn request(server: &RunningServer, method: Method, path: &str) -> reqwest::RequestBuilder {
    reqwest::Client::new().request(method, format!("http://{}{path}", server.http_addr))
}

async fn post(server: &RunningServer, path: &str, sdp: String) -> reqwest::Response {
    request(server, Method::POST, path).header("content-type", "application/sdp").body(sdp).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_meet_talk_and_part() {
    let server = start(&[]).await;
    let port = server.http_addr.port();
    let (mut ada, welcome) = Client::join(port, "größe", "Ada").await;
    assert_eq!(welcome["snapshot"]["room"]["name"], "größe");
    assert!(welcome["pingMs"].as_u64().is_some_and(|ms| ms > 0));
    let (mut bo, _) = Client::join(port, "größe", "Bo").await;
    assert_eq!(ada.event("participant.joined").await["name"], "Bo");

    let said = bo.ask(2, "say", json!({"topic": "chat", "body": {"text": "hi"}})).await;
    assert_eq!(said["ok"], true, "{said}");
    assert_eq!(ada.event("message").await["body"]["text"], "hi");
    assert_eq!(ada.ask(2, "fly", json!({})).await["error"]["code"], "unsupported");
    assert_eq!(bo.ask(3, "leave", json!({})).await["ok"], true);
    assert_eq!(bo.code().await, 1000);
    assert_eq!(ada.event("participant.left").await["why"], "left");
    drop(ada);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_on_the_socket_is_answered_with_where_to_send() {
    let server = start(&[]).await;
    let (mut ada, _) = Client::join(server.http_addr.port(), "a", "Ada").await;
    let answer = ada.ask(2, "negotiate", json!({"pc": "pub", "rev": 1, "sdp": offer("chromium-pub-simulcast")})).await;
    let sdp = answer["data"]["sdp"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let media = server.udp_addrs[0].port();
    assert!(sdp.contains(&format!(" 127.0.0.1 {media} typ host")), "{sdp}");
    assert!(sdp.contains("a=ice-lite") && sdp.contains("a=fingerprint:sha-256 "));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_on_another_socket() {
    let server = start(&[]).await;
    let port = server.http_addr.port();
    let (ada, welcome) = Client::join(port, "a", "Ada").await;
    drop(ada);
    let (_bo, _) = Client::join(port, "a", "Bo").await;
    let mut back = Client::connect(port).await;
    let resume = json!({"session": welcome["session"], "secret": welcome["secret"], "seq": welcome["seq"]});
    let answer = back.ask(1, "hello", json!({"room": "a", "name": "Ada", "resume": resume})).await;
    assert_eq!((&answer["data"]["resumed"], &answer["data"]["session"]), (&json!(true), &welcome["session"]));
    assert_eq!(back.event("participant.joined").await["name"], "Bo");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encoders_publish_and_players_watch_over_http() {
    let server = start(&["--ice-server", "stun:stun.example.org:3478"]).await;
    let (mut ada, _) = Client::join(server.http_addr.port(), "a", "Ada").await;
    for (path, sdp) in [
        ("/v1/whip/a/ffmpeg", "ffmpeg-pub"),
        ("/v1/whip/a/gst", "gstreamer-pub"),
        ("/v1/whip/a", "aiortc-pub"),
        ("/v1/whep/a", "gstreamer-sub"),
        ("/v1/whep/a/ffmpeg", "aiortc-sub"),
    ] {
        let created = post(&server, path, offer(sdp)).await;
        assert_eq!(created.status(), 201, "{path} {}", created.text().await.unwrap());
        assert_eq!(created.headers()["link"], "<stun:stun.example.org:3478>; rel=\"ice-server\"");
        let location = created.headers()["location"].to_str().unwrap().to_owned();
        let etag = created.headers()["etag"].to_str().unwrap().to_owned();
        assert!(created.text().await.unwrap().starts_with("v=0"), "{sdp}");
        if path == "/v1/whip/a/ffmpeg" {
            assert_eq!(ada.event("participant.joined").await["name"], "ffmpeg");
            assert_eq!(ada.event("track.published").await["kind"], "audio");
            trickle_and_restart(&server, &location, &etag, &offer(sdp)).await;
            continue;
        }
        assert_eq!(request(&server, Method::DELETE, &location).send().await.unwrap().status(), 204);
        assert_eq!(request(&server, Method::DELETE, &location).send().await.unwrap().status(), 404);
    }
    assert_eq!(post(&server, "/v1/whep/a/nobody", offer("aiortc-sub")).await.status(), 404);
    assert_eq!(post(&server, "/v1/whip/a", "v=0\r\n".into()).await.status(), 400);
    assert_eq!(post(&server, "/v1/whip/a", "garbage".into()).await.status(), 400);
    let metrics = request(&server, Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("exedra_participants 2\n"), "{metrics}");
    server.shutdown().await;
}

async fn trickle_and_restart(server: &RunningServer, resource: &str, etag: &str, offer: &str) {
    let patch = async |if_match: &str, body: String| {
        let request = request(server, Method::PATCH, resource).header("if-match", if_match);
        request.header("content-type", "application/trickle-ice-sdpfrag").body(body).send().await.unwrap()
    };
    let line = |name: &str| offer.lines().find(|l| l.starts_with(name)).unwrap().trim().to_owned();
    let (ufrag, pwd) = (line("a=ice-ufrag:"), line("a=ice-pwd:"));
    let media = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n";
    let candidate = "a=candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host\r\na=end-of-candidates\r\n";
    let trickle = format!("{ufrag}\r\n{pwd}\r\n{media}{candidate}");
    let answer = patch(etag, trickle.clone()).await;
    assert_eq!(answer.status(), 204, "{}", answer.text().await.unwrap());
    assert_eq!(patch("\"stale\"", trickle).await.status(), 412);

    let restart = format!("a=ice-ufrag:restarted\r\na=ice-pwd:0123456789012345678901\r\n{media}{candidate}");
    let answer = patch("*", restart).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/trickle-ice-sdpfrag");
    assert_ne!(answer.headers()["etag"].to_str().unwrap(), etag);
    assert!(answer.text().await.unwrap().contains("a=ice-ufrag:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_who_gets_what_and_why() {
    let server = start(&["--admin-token", "operators only, please"]).await;
    let port = server.http_addr.port();
    let (mut ada, _) = Client::join(port, "a", "Ada").await;
    let (mut bo, _) = Client::join(port, "a", "Bo").await;
    let publish = json!({"pc": "pub", "rev": 1, "sdp": offer("chromium-pub-simulcast")});
    assert_eq!(ada.ask(2, "negotiate", publish).await["ok"], true);
    let slots = json!({"pc": "sub", "rev": 1, "sdp": offer("aiortc-sub")});
    assert_eq!(bo.ask(2, "negotiate", slots).await["ok"], true);
    let look = async |path: &str| {
        let request = request(&server, Method::GET, path).bearer_auth("operators only, please");
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (_, rooms) = look("/v1/admin/rooms").await;
    assert_eq!(rooms, json!({"rooms": [{"room": "a", "participants": 2}]}));
    let (_, room) = look("/v1/admin/rooms/a").await;
    assert_eq!((&room["participants"][1]["name"], &room["participants"][1]["by"]), (&json!("Bo"), &json!("socket")));
    assert!(room["tracks"].as_array().is_some_and(|t| t.iter().any(|t| t["watchers"] == 1)), "{room}");
    let (status, decisions) = look("/v1/admin/rooms/a/participants/Bo/decisions").await;
    assert_eq!(status, 200, "{decisions}");
    assert_eq!((&decisions["participant"], &decisions["stats"]["connected"]), (&json!("p2"), &json!(false)));
    assert!(decisions["slots"].as_array().is_some_and(|s| !s.is_empty()), "{decisions}");
    assert!(decisions["log"]["entries"].is_array(), "{decisions}");
    assert_eq!(look("/v1/admin/rooms/a/participants/Ada/decisions").await.0, 404, "she receives nothing");
    assert_eq!(look("/v1/admin/rooms/a/participants/Carl/decisions").await.0, 404);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_served_whole_and_once() {
    let server = start(&[]).await;
    for (path, mime) in [
        ("/", "text/html; charset=utf-8"),
        ("/r/stand-up", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/sdk/exedra.js", "text/javascript; charset=utf-8"),
    ] {
        let response = request(&server, Method::GET, path).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &mime.parse().unwrap()),
            "{path}"
        );
        assert_eq!(response.headers()["cache-control"], "no-cache");
        assert!(response.headers()["content-security-policy"].to_str().unwrap().contains("script-src 'self'"));
        let again = request(&server, Method::GET, path).header("if-none-match", &response.headers()["etag"]);
        assert_eq!(again.send().await.unwrap().status(), 304, "{path}");
    }
    let schema: Value = request(&server, Method::GET, "/v1/schema.json").send().await.unwrap().json().await.unwrap();
    assert!(schema["$defs"]["Hello"].is_object());
    server.shutdown().await;
}

#[test]
fn the_process_prints_where_it_is_and_drains_at_a_signal() {
    let mut process = Process::start(&LOCAL);
    let port = process.port;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut ada, _) = runtime.block_on(Client::join(port, "a", "Ada"));
    process.signal("TERM");
    runtime.block_on(async {
        let bye = ada.event("bye").await;
        assert!(bye["action"].is_string(), "{bye}");
        assert_eq!(ada.code().await, 1001);
    });
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_bound_is_told_at_once() {
    let process = Process::start(&LOCAL);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (http, udp) = (format!("127.0.0.1:{}", process.port), taken.local_addr().unwrap().to_string());
    let output = run(&["--http", &http, "--udp", &udp]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("--http: {http}")) && told.contains(&format!("--udp: {udp}")), "{told}");
}

#[test]
fn exit_codes_and_tokens_of_the_command_line() {
    let wrong = run(&["--http", "here", "--max-rooms", "none"]);
    let told = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(told.contains("--http: \"here\"") && told.contains("--max-rooms: \"none\""), "{told}");
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(2));
    assert_eq!(run(&["--help"]).status.code(), Some(0));

    let secret = "a secret that is long enough";
    let token = run(&["token", "--room", "a", "--name", "Ada", "--secret", secret]);
    let token = String::from_utf8(token.stdout).unwrap();
    let guarded = Process::start(&[&LOCAL[..], &["--secret", secret]].concat());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client = Client::connect(guarded.port).await;
        let welcome = client.ask(1, "hello", json!({"token": token.trim()})).await;
        assert_eq!(welcome["ok"], true, "{welcome}");
    });
}

/// The binary, killed when dropped.
struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exedra"));
        let mut child = command.args(flags).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("Exedra is ready: http://localhost:").and_then(|p| p.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("{line:?}")) }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_exedra")).args(args).output().unwrap()
}
