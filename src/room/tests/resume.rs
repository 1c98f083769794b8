//! A network that breaks at every point of a session, and a session that does not notice.
use super::client::{Client, assert_knows_the_truth};
use super::world::{SIMULCAST, World, brief_of, claims, offer, settings, slots_offer};
use super::*;
use crate::engine;
use crate::engine::api::{ChosenLayer, QualityWhy, SlotReport, SlotState, Speaker};
use serde_json::{Value, json};

fn resume(world: &mut World, welcome: &Value, seq: u64, claims: Claims) -> (SocketId, Vec<Value>) {
    let socket = world.socket();
    let resume = json!({"session": welcome["session"], "secret": welcome["secret"], "seq": seq});
    world.hello(socket, json!({"resume": resume}), claims);
    let texts = world.read(socket);
    (socket, texts)
}

#[test]
fn what_was_missed_follows_the_answer() {
    let mut world = World::new(1);
    let (ann, welcome) = world.join(claims(None, "Ann"));
    let ben = world.enter("Ben");
    assert_eq!(brief_of(&world.read(ann)), ["participant.joined p2 live"]);
    world.input(Input::SocketClosed { socket: ann });
    world.publish(ben, 2);
    let (ann, texts) = resume(&mut world, &welcome, 2, claims(None, "Ann"));
    assert_eq!(
        brief_of(&texts),
        [
            "answer true p1",
            "participant.updated p1 lost",
            "track.published p2 t1 false",
            "track.published p2 t2 false",
            "participant.updated p1 live"
        ]
    );
    assert_eq!((&texts[0]["data"]["resumed"], &texts[0]["data"]["seq"]), (&json!(true), &json!(2)));
    assert_eq!(texts[0]["data"].get("snapshot"), None);
    let seqs: Vec<_> = texts[1..].iter().map(|t| t["seq"].as_u64()).collect();
    assert_eq!(seqs, [3, 4, 5, 6].map(Some));
    // A newer socket takes over from one that is still open.
    let (_, texts) = resume(&mut world, &welcome, 6, claims(None, "Ann"));
    assert_eq!(brief_of(&texts), ["answer true p1"]);
    assert_eq!(brief_of(&world.read(ann)), ["close 4409"]);
    world.input(Input::SocketClosed { socket: ann });
    world.advance(Duration::from_secs(4));
    assert_eq!(world.room.participants(), 2, "the old socket's end is not the session's");
}

#[test]
fn too_far_behind_gets_a_snapshot_and_a_stranger_nothing() {
    let mut settings = settings();
    settings.limits.event_log_len = 4;
    let mut world = World::with(1, settings);
    let (ann, welcome) = world.join(claims(None, "Ann"));
    for n in 0..5 {
        world.ok(ann, 2 + n, "say", json!({"topic": "chat", "body": n}));
    }
    for seq in [0, 99] {
        let (_, texts) = resume(&mut world, &welcome, seq, claims(None, "Ann"));
        let data = &texts[0]["data"];
        assert_eq!((&data["resumed"], &data["seq"]), (&json!(true), &json!(6)));
        assert!(data.get("snapshot").is_some());
        assert_eq!(texts.len(), 1);
    }
    let mut wrong = welcome.clone();
    wrong["secret"] = json!("0123456789abcdef0123456789abcdef");
    let (_, texts) = resume(&mut world, &wrong, 5, claims(None, "Ann"));
    assert_eq!(texts[0]["error"]["code"], "unauthorized");
    assert_eq!(texts[1], json!({"close": 4401}));
    let (_, texts) = resume(&mut world, &welcome, 5, claims(Some("eve"), "Eve"));
    assert_eq!(texts[0]["error"]["code"], "unauthorized");
    wrong["session"] = json!("gone");
    let (_, texts) = resume(&mut world, &wrong, 5, claims(None, "Ann"));
    let data = &texts[0]["data"];
    assert_eq!((&data["resumed"], &data["participant"]), (&json!(false), &json!("p2")));
    assert!(data.get("snapshot").is_some());
}

#[test]
fn a_token_on_resume_renews_what_is_allowed() {
    let mut world = World::new(1);
    let expires_ms = Some(world.wall_ms + 60_000);
    let first = Claims { expires_ms, ..claims(Some("ann"), "Ann") };
    let (ann, welcome) = world.join(first.clone());
    world.publish(ann, 2);
    let seq = world.read(ann).last().map_or(3, |t| t["seq"].as_u64().unwrap_or(3));
    let less = Claims { grants: Grants { publish: false, ..Grants::default() }, ..first.clone() };
    let (_, texts) = resume(&mut world, &welcome, seq, less);
    assert_eq!(
        brief_of(&texts),
        ["answer true p1", "you.updated p1", "track.unpublished p1 t1", "track.unpublished p1 t2"]
    );
    // Without a token the secret is enough to come back, but renews nothing.
    let more = Claims { grants: Grants { moderate: true, ..Grants::default() }, ..claims(None, "Ann") };
    let (socket, texts) = resume(&mut world, &welcome, seq + 3, more);
    assert_eq!(brief_of(&texts), ["answer true p1"]);
    for _ in 0..12 {
        world.advance(Duration::from_secs(5));
        world.input(Input::Pong { socket });
    }
    assert!(brief_of(&world.read(socket)).contains(&"close 4401".to_owned()), "still expires");
}

#[test]
fn the_same_request_again_has_no_second_effect() {
    let mut settings = settings();
    settings.limits.answer_cache_len = 3;
    let mut world = World::with(1, settings);
    let (ann, welcome) = world.join(claims(None, "Ann"));
    let say = |id: u64| json!({"id": id, "type": "say", "data": {"topic": "chat", "body": id}}).to_string();
    world.request(ann, &say(2));
    let first = world.read(ann);
    assert_eq!(brief_of(&first), ["answer true", "message p1 chat"]);
    world.request(ann, &say(2));
    assert_eq!(world.read(ann), first[..1]);
    world.input(Input::SocketClosed { socket: ann });
    let (ann, texts) = resume(&mut world, &welcome, 1, claims(None, "Ann"));
    assert_eq!(brief_of(&texts)[0], "answer true p1");
    world.request(ann, &say(2));
    assert_eq!(world.read(ann), first[..1]);
    let sdp = offer(1, &[("audio", "0", "a=sendonly")]);
    let negotiate = json!({"id": 3, "type": "negotiate", "data": {"pc": "pub", "rev": 1, "sdp": sdp}}).to_string();
    world.request(ann, &negotiate);
    let answer = world.read(ann).remove(0);
    world.request(ann, &negotiate);
    assert_eq!(world.read(ann), [answer]);
    for id in 4..6 {
        world.request(ann, &say(id));
    }
    world.read(ann);
    world.request(ann, &say(2));
    assert_eq!(world.read(ann)[0]["error"]["code"], "conflict");
}

/// What the client under test does, step by step.
fn step(client: &mut Client, world: &mut World, n: usize) {
    let own: Vec<String> = client.state.iter().flat_map(|s| &s.tracks).map(|t| t.track.clone()).collect();
    let me = client.welcome.as_ref().map(|w| w.participant.clone()).unwrap_or_default();
    let mine = client.state.iter().flat_map(|s| &s.tracks).find(|t| t.participant == me).map(|t| t.track.clone());
    match n {
        0 => drop(client.ask(world, "negotiate", json!({"pc": "sub", "rev": 1, "sdp": slots_offer(1, 2, 2)}))),
        1 => {
            let sdp = offer(2, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST)]);
            client.ask(world, "negotiate", json!({"pc": "pub", "rev": 1, "sdp": sdp}));
        }
        2 => drop(client.ask(world, "say", json!({"topic": "chat", "body": "one"}))),
        3 => drop(client.ask(world, "set", json!({"name": "Annie", "attributes": {"hand": true}}))),
        4 => drop(client.ask(world, "track", json!({"track": mine.unwrap_or("t1".into()), "muted": true}))),
        5 => drop(client.ask(
            world,
            "view",
            json!({"lastN": 1, "tracks": own.last().map(|t| json!({t: {"w": 640, "h": 360}}))}),
        )),
        6 => drop(client.ask(world, "negotiate", json!({"pc": "sub", "rev": 2, "sdp": slots_offer(1, 4, 4)}))),
        7 => drop(client.ask(world, "say", json!({"topic": "notes", "body": "two", "retain": true}))),
        8 => {
            let sdp =
                offer(3, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST), ("video", "2", "a=sendonly")]);
            let tracks = json!([{"mid": "2", "source": "screen"}]);
            client.ask(world, "negotiate", json!({"pc": "pub", "rev": 2, "sdp": sdp, "tracks": tracks}));
        }
        9 => drop(client.ask(world, "say", json!({"topic": "chat", "body": "three"}))),
        _ => {}
    }
}

/// What the others and the engine do meanwhile.
fn meanwhile(others: &mut [Client], world: &mut World, n: usize) {
    let room = RoomId(7);
    match n {
        0 => others[0].connect(world),
        1 => {
            let sdp = offer(11, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST)]);
            others[0].ask(world, "negotiate", json!({"pc": "pub", "rev": 1, "sdp": sdp}));
        }
        2 => others[1].connect(world),
        3 => {
            let sdp = offer(12, &[("audio", "0", "a=sendonly"), ("video", "1", "a=sendonly")]);
            others[1].ask(world, "negotiate", json!({"pc": "pub", "rev": 1, "sdp": sdp}));
        }
        4 => {
            for ((peer, mid), track) in world.engine.bindings.clone() {
                let mid = mid.as_str().try_into().expect("a mid");
                let layer = ChosenLayer { rid: None, spatial: None, temporal: Some(1) };
                let report = SlotReport { layer: Some(layer), ..SlotReport::plain(SlotState::Live) };
                world.event(engine::Event::SlotState { room, peer, mid, track, report });
            }
            for track in world.engine.tracks.keys().copied().collect::<Vec<_>>() {
                let rids = vec!["q".try_into().expect("a rid")];
                world.event(engine::Event::TrackWanted { room, track, rids });
            }
        }
        5 => {
            let speakers = world.engine.tracks.keys().rev().map(|t| Speaker { track: *t, level: 40 }).collect();
            world.event(engine::Event::Speakers { room, speakers });
            for peer in world.engine.peers.keys().copied().collect::<Vec<_>>() {
                world.event(engine::Event::Quality { room, peer, score: 3, why: QualityWhy::Loss });
            }
        }
        6 => drop(others[0].ask(world, "say", json!({"topic": "chat", "body": "from Ben"}))),
        7 => drop(others[1].ask(world, "leave", json!({}))),
        8 => {
            let track = *world.engine.tracks.keys().next().expect("a track");
            world.event(engine::Event::TrackStalled { room, track });
        }
        _ => world.event(engine::Event::Speakers { room, speakers: vec![] }),
    }
}

const STEPS: usize = 12;

/// Runs a session whose first socket dies after `cut` frames. `told`: the server notices before the client is back.
/// How many frames there were.
fn run(cut: Option<usize>, told: bool, log_len: usize) -> usize {
    let mut settings = settings();
    settings.limits.event_log_len = log_len;
    let world = &mut World::with(42, settings);
    let mut ann = Client::new(claims(None, "Ann"));
    let mut others = [Client::new(claims(None, "Ben")), Client::new(claims(None, "Carl"))];
    ann.cut_at = cut;
    ann.connect(world);
    ann.receive(world);
    let mut frames = 0;
    for n in 0..STEPS {
        if ann.is_cut() {
            frames = ann.frames;
            let old = ann.socket.take();
            ann.cut_at = None;
            if let (true, Some(socket)) = (told, old) {
                world.input(Input::SocketClosed { socket });
            }
            meanwhile(&mut others, world, n);
            ann.connect(world);
            ann.receive(world);
            ann.repeat(world);
        } else {
            meanwhile(&mut others, world, n);
        }
        if ann.welcome.is_some() {
            step(&mut ann, world, n);
        }
        world.advance(Duration::from_millis(700));
        ann.receive(world);
        others.iter_mut().for_each(|c| c.receive(world));
    }
    if ann.is_cut() {
        let old = ann.socket.take();
        ann.cut_at = None;
        if let (true, Some(socket)) = (told, old) {
            world.input(Input::SocketClosed { socket });
        }
        ann.connect(world);
        ann.receive(world);
        ann.repeat(world);
    }
    for client in [&mut ann, &mut others[0]] {
        client.receive(world);
        client.receive(world);
    }
    assert_eq!(ann.unanswered, BTreeMap::new(), "every request is answered");
    assert!(ann.answers.values().all(|a| a["ok"] == true), "{:?}", ann.answers);
    assert_knows_the_truth(world, &ann);
    assert_knows_the_truth(world, &others[0]);
    let said: Vec<_> = others[0].heard.iter().filter(|b| *b != "from Ben").cloned().collect();
    let mut once = said.clone();
    once.dedup();
    assert_eq!(said, once, "said once each");
    if ann.answers.len() == 10 {
        assert_eq!(said, ["one", "two", "three"]);
    }
    frames.max(ann.frames)
}

#[test]
fn a_session_survives_a_cut_at_every_point() {
    let frames = run(None, false, 1024);
    assert!(frames > 50, "{frames} frames are no session");
    for cut in 1..frames {
        for told in [false, true] {
            for log_len in [1024, 3] {
                let outcome = std::panic::catch_unwind(|| run(Some(cut), told, log_len));
                assert!(outcome.is_ok(), "cut after {cut} frames, told: {told}, log of {log_len}");
            }
        }
    }
}
