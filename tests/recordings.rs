//! Recordings over HTTP, by the whole server: who sees what, pieces of files, and what is refused.
use exedra::config::{self, Invocation};
use exedra::server::{self, RunningServer};
use exedra::signal::auth::{Secret, TokenClaims, sign};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};

const SECRET: &str = "a secret that is long enough";
const ADMIN: &str = "operators only, please";
const TEA: &str = "20261123-101500-7f3a";
const LAB: &str = "20261123-111500-0001";
const RUNS: &str = "20261123-121500-0002";
const FILE: &str = "p1-camera-1.webm";

/// A server with three recordings: one of the room `tea`, one of `lab`, and one of `tea` that somebody is writing.
struct World {
    server: RunningServer,
    root: PathBuf,
    /// Or the server would heal it.
    _lock: File,
}

impl World {
    async fn start(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recordings-{name}"));
        let _ = std::fs::remove_dir_all(&root);
        keep(&root, TEA, "tea", true);
        keep(&root, LAB, "lab", true);
        keep(&root, RUNS, "tea", false);
        let lock = File::open(root.join(RUNS).join("events.jsonl")).unwrap();
        lock.try_lock().unwrap();
        let server = start(&["--recordings", root.to_str().unwrap()]).await;
        Self { server, root, _lock: lock }
    }

    async fn ask(&self, method: Method, path: &str, token: &str, headers: &[(&str, &str)]) -> Response {
        ask(&self.server, method, path, token, headers).await
    }

    async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let answer = self.ask(Method::GET, path, token, &[]).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

async fn start(flags: &[&str]) -> RunningServer {
    let local = ["exedra", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--secret", SECRET, "--admin-token", ADMIN];
    match config::load(local.iter().chain(flags).map(std::ffi::OsString::from), []) {
        Ok(Invocation::Serve(config)) => server::start(*config).await.unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn ask(server: &RunningServer, method: Method, path: &str, token: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = reqwest::Client::new().request(method, format!("http://{}{path}", server.http_addr));
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

fn media() -> Vec<u8> {
    (0..200_000u32).map(|n| (n % 251) as u8).collect()
}

fn keep(root: &Path, id: &str, room: &str, finished: bool) {
    let folder = root.join(id);
    std::fs::create_dir_all(&folder).unwrap();
    let mut file = json!({"name": FILE, "participant": "p1", "content": "camera", "part": 1, "startMs": 0, "tracks": [],
        "durationMs": 0, "gaps": [], "size": 0});
    let mut manifest = json!({"version": 1, "id": id, "room": room, "startedAtMs": 1_795_428_900_000u64, "state": "recording",
        "participants": [{"id": "p1", "name": "Ada", "joinedMs": 0}]});
    if finished {
        (file["size"], file["sha256"]) = (json!(media().len()), json!("5eed"));
        (manifest["state"], manifest["ended"]) = (json!("complete"), json!("stopped"));
        manifest["endedAtMs"] = json!(1_795_428_960_000u64);
    }
    manifest["files"] = json!([file]);
    std::fs::write(folder.join(FILE), media()).unwrap();
    std::fs::write(folder.join("events.jsonl"), "{\"tMs\":1,\"type\":\"message\",\"data\":{}}\n").unwrap();
    std::fs::write(folder.join("session.json"), manifest.to_string()).unwrap();
}

fn token(room: &str, grants: &[&str]) -> String {
    let grants = Some(grants.iter().map(|&g| g.to_owned()).collect());
    let claims = TokenClaims { room: room.into(), sub: None, name: None, grants, exp: 4_000_000_000, nbf: None };
    sign(&Secret::try_from(SECRET).unwrap(), &claims).unwrap()
}

fn text<'a>(answer: &'a Response, header: &str) -> &'a str {
    answer.headers()[header].to_str().unwrap()
}

fn file_of(id: &str) -> String {
    format!("/v1/recordings/{id}/files/{FILE}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_sees_its_room_and_the_operator_sees_all() {
    let world = World::start("scope").await;
    let ids = |list: &Value| {
        let all = list["recordings"].as_array().unwrap_or_else(|| panic!("{list}")).iter();
        all.map(|r| r["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let tea = token("tea", &["record"]);
    let (_, all) = world.get("/v1/recordings", ADMIN).await;
    assert_eq!(ids(&all), [RUNS, LAB, TEA]);
    assert_eq!(ids(&world.get("/v1/recordings?room=lab", ADMIN).await.1), [LAB]);
    let (_, first) = world.get("/v1/recordings?limit=2", ADMIN).await;
    let next = first["next"].as_str().unwrap();
    assert_eq!(ids(&world.get(&format!("/v1/recordings?limit=2&after={next}"), ADMIN).await.1), [TEA]);
    let (_, own) = world.get("/v1/recordings", &tea).await;
    assert_eq!(ids(&own), [RUNS, TEA]);
    let told = &own["recordings"][1];
    assert_eq!((&told["durationMs"], &told["participants"]), (&json!(60_000), &json!(["Ada"])));
    assert_eq!(world.get("/v1/recordings?room=lab", &tea).await.0, 403);

    let (status, other) = world.get(&format!("/v1/recordings/{LAB}"), &tea).await;
    let (_, none) = world.get("/v1/recordings/20200101-000000-0000", &tea).await;
    assert_eq!((status, other), (404, none), "that it is there does not show");
    for (method, path) in [(Method::GET, file_of(LAB)), (Method::DELETE, format!("/v1/recordings/{LAB}"))] {
        assert_eq!(world.ask(method, &path, &tea, &[]).await.status(), 404);
    }
    for (who, status) in [
        (String::new(), 401),
        (token("tea", &["publish", "moderate"]), 403),
        ("not a token".into(), 401),
        (tea.replace('.', "x"), 401),
    ] {
        for path in ["/v1/recordings".to_owned(), format!("/v1/recordings/{TEA}"), file_of(TEA)] {
            let answer = world.ask(Method::GET, &path, &who, &[]).await;
            assert_eq!(answer.status(), status, "{path} {who}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
    }
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_whole_or_in_parts() {
    let world = World::start("files").await;
    let (path, media) = (file_of(TEA), media());
    let part = async |range: &str| world.ask(Method::GET, &path, ADMIN, &[("range", range)]).await;
    let whole = world.ask(Method::GET, &path, ADMIN, &[]).await;
    let headers = whole.headers().clone();
    for (name, value) in [
        ("content-type", "video/webm"),
        ("accept-ranges", "bytes"),
        ("etag", "\"5eed\""),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(headers["content-security-policy"].to_str().unwrap().contains("sandbox"));
    assert!(headers["cache-control"].to_str().unwrap().contains("private"));
    assert!(whole.bytes().await.unwrap() == media);

    let middle = part("bytes=70000-139999").await;
    assert_eq!((middle.status().as_u16(), text(&middle, "content-range")), (206, "bytes 70000-139999/200000"));
    assert!(middle.bytes().await.unwrap() == media[70_000..140_000]);
    assert!(part("bytes=-10").await.bytes().await.unwrap() == media[199_990..]);
    let beyond = part("bytes=200000-").await;
    assert_eq!((beyond.status().as_u16(), text(&beyond, "content-range")), (416, "bytes */200000"));
    assert_eq!(part("bytes=0-1,5-6").await.status(), 200);
    let changed = world.ask(Method::GET, &path, ADMIN, &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).await;
    assert_eq!(changed.status(), 200);
    assert_eq!(world.ask(Method::GET, &path, ADMIN, &[("if-none-match", "\"5eed\"")]).await.status(), 304);
    let head = world.ask(Method::HEAD, &path, ADMIN, &[("range", "bytes=0-99")]).await;
    assert_eq!((head.status().as_u16(), text(&head, "content-length")), (206, "100"));
    assert_eq!(head.bytes().await.unwrap().len(), 0);
    let home = world.ask(Method::HEAD, &format!("{path}?download=1"), ADMIN, &[]).await;
    let attached = format!("attachment; filename=\"{TEA}-{FILE}\"");
    assert_eq!(home.headers()["content-disposition"], attached.as_str());

    for (name, kind) in [("session.json", "application/json"), ("events.jsonl", "application/x-ndjson; charset=utf-8")]
    {
        let answer = world.ask(Method::GET, &format!("/v1/recordings/{TEA}/files/{name}"), ADMIN, &[]).await;
        assert_eq!((answer.status().as_u16(), text(&answer, "content-type")), (200, kind), "{name}");
    }
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_grows_is_served_as_far_as_it_is() {
    let world = World::start("grows").await;
    let path = file_of(RUNS);
    let first = world.ask(Method::GET, &path, ADMIN, &[("range", "bytes=199990-")]).await;
    assert_eq!(&first.headers()["content-range"], "bytes 199990-199999/200000");
    assert_eq!((first.headers().get("etag"), &first.headers()["cache-control"]), (None, &"no-store".parse().unwrap()));
    let mut longer = media();
    longer.extend([7; 1000]);
    std::fs::write(world.root.join(RUNS).join(FILE), &longer).unwrap();
    let more = world.ask(Method::GET, &path, ADMIN, &[("range", "bytes=200000-")]).await;
    assert!(more.bytes().await.unwrap() == longer[200_000..]);
    let (_, told) = world.get(&format!("/v1/recordings/{RUNS}"), ADMIN).await;
    assert_eq!((&told["files"][0]["size"], &told["bytes"]), (&json!(201_000), &json!(201_000)));
    assert!(told["durationMs"].as_u64().is_some_and(|ms| ms > 0) && told["eventsBytes"] == 37, "{told}");
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_gets_a_ticket_instead_of_the_token() {
    let world = World::start("tickets").await;
    let (_, told) = world.get(&format!("/v1/recordings/{TEA}"), &token("tea", &["record"])).await;
    let url = told["files"][0]["url"].as_str().unwrap();
    let ticket = url.split_once("ticket=").unwrap().1;
    assert_eq!(world.ask(Method::GET, url, "", &[("range", "bytes=0-0")]).await.status(), 206);
    let events = told["eventsUrl"].as_str().unwrap();
    assert_eq!(world.ask(Method::GET, events, "", &[]).await.status(), 200);
    for bad in [
        format!("{}?ticket={ticket}", file_of(LAB)),
        format!("{}?ticket={}", file_of(TEA), &ticket[1..]),
        format!("{}?ticket=", file_of(TEA)),
        format!("/v1/recordings/{TEA}?ticket={ticket}"),
        format!("/v1/recordings?ticket={ticket}"),
    ] {
        assert_eq!(world.ask(Method::GET, &bad, "", &[]).await.status(), 401, "{bad}");
    }
    let delete = world.ask(Method::DELETE, &format!("/v1/recordings/{TEA}?ticket={ticket}"), "", &[]).await;
    assert_eq!(delete.status(), 401, "a ticket is to read with");
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_ended_can_be_deleted() {
    let world = World::start("delete").await;
    let delete = async |id: &str, who: &str| {
        world.ask(Method::DELETE, &format!("/v1/recordings/{id}"), who, &[]).await.status().as_u16()
    };
    let tea = token("tea", &["record"]);
    assert_eq!(delete(RUNS, &tea).await, 409);
    assert_eq!(delete(TEA, &tea).await, 204);
    assert_eq!(delete(TEA, &tea).await, 404);
    assert_eq!(delete(LAB, ADMIN).await, 204);
    assert!(!world.root.join(TEA).exists() && !world.root.join(LAB).exists() && world.root.join(RUNS).exists());
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_elsewhere_lead_nowhere() {
    let world = World::start("hostile").await;
    std::fs::write(world.root.join("secret"), "secret").unwrap();
    let long = "a".repeat(10_000);
    for id in ["..", "%2e%2e", "..%2f..%2fetc", "a%00b", "%ff", "A", "%e2%80%ae", "%2e", &long] {
        for path in [format!("/v1/recordings/{id}"), format!("/v1/recordings/{id}/files/session.json")] {
            let answer = world.ask(Method::GET, &path, ADMIN, &[]).await;
            assert!(matches!(answer.status().as_u16(), 400 | 404 | 414 | 431), "{path:.80}: {}", answer.status());
        }
    }
    for name in ["..%2fsecret", "%2e%2e%2fsecret", "a%00b", "%ff", "nothing.webm", ".", "session.json.new", &long] {
        let answer = world.ask(Method::GET, &format!("/v1/recordings/{TEA}/files/{name}"), ADMIN, &[]).await;
        assert!(matches!(answer.status().as_u16(), 400 | 404 | 414 | 431), "{name:.80}: {}", answer.status());
    }
    world.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_who_may_record_see_the_room_that_they_name() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recordings-guests");
    let _ = std::fs::remove_dir_all(&root);
    keep(&root, TEA, "tea", true);
    let root = root.to_str().unwrap();
    for (flags, may) in [(&["--open", "--open-grants", "publish,record"][..], true), (&["--open"], false)] {
        let server = start(&[&["--recordings", root], flags].concat()).await;
        for (path, status) in [
            ("/v1/recordings?room=tea".to_owned(), if may { 200 } else { 401 }),
            ("/v1/recordings".to_owned(), 401),
            (format!("/v1/recordings/{TEA}?room=tea"), if may { 200 } else { 401 }),
            (format!("/v1/recordings/{TEA}?room=lab"), if may { 404 } else { 401 }),
            (format!("/v1/recordings/{TEA}"), 401),
            (format!("{}?room=tea", file_of(TEA)), if may { 200 } else { 401 }),
        ] {
            assert_eq!(ask(&server, Method::GET, &path, "", &[]).await.status(), status, "{path} {flags:?}");
        }
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_recordings_says_so() {
    let server = start(&[]).await;
    for path in ["/v1/recordings", "/v1/recordings/a", "/v1/recordings/a/files/b"] {
        let answer = ask(&server, Method::GET, path, ADMIN, &[]).await;
        assert_eq!(answer.status(), 404);
        assert!(answer.text().await.unwrap().contains("--recordings DIR"));
    }
    assert_eq!(
        ask(&server, Method::GET, "/recordings", "", &[]).await.headers()["content-type"],
        "text/html; charset=utf-8"
    );
    server.shutdown().await;
}
