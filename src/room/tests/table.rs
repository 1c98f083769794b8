//! One request or event at a time: what goes in, and what everybody hears of it.
use super::world::{SIMULCAST, World, brief_of, claims, offer, settings, slots_offer};
use super::*;
use crate::engine;
use crate::engine::api::{PeerFailure, PeerStats, SlotReport, SlotState, Speaker};
use crate::ids::Mid;
use crate::rtp::Codec;
use serde_json::{Value, json};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
fn p(n: u64) -> ParticipantId {
    ParticipantId(n)
}

#[test]
fn a_welcome_says_what_there_is() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    world.publish(ann, 2);
    let (_, welcome) = world.join(claims(None, "Ben"));
    assert_eq!(welcome["resumed"], false);
    assert_eq!(welcome["seq"], 0);
    assert_eq!(welcome["participant"], "p2");
    assert_eq!((&welcome["pingMs"], &welcome["graceMs"]), (&json!(5000), &json!(30000)));
    assert_eq!(welcome["revs"], json!({"pub": 0, "sub": 0}));
    assert_eq!(welcome["iceServers"], json!([]));
    assert_eq!(welcome["limits"]["videoSlots"], 25);
    let snapshot = &welcome["snapshot"];
    assert_eq!(
        snapshot["room"],
        json!({"name": "demo", "locked": false, "recording": false, "startedAtMs": 1_800_000_000_000u64})
    );
    assert_eq!(
        snapshot["you"]["grants"],
        json!({"publish": true, "subscribe": true, "say": true, "moderate": false, "record": false})
    );
    assert_eq!(snapshot["participants"].as_array().map(Vec::len), Some(2), "yourself included");
    assert_eq!(
        snapshot["tracks"][1],
        json!({"track": "t2", "participant": "p1", "source": "camera", "kind": "video", "muted": false, "simulcast": true})
    );
    assert_eq!(snapshot["slots"], json!({"need": {"audio": 2, "video": 2}, "bindings": []}));
    assert_eq!(brief_of(&world.read(ann)), ["participant.joined p2 live"]);
}

#[test]
fn requests_are_answered_as_the_contract_says() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    world.enter("Ben");
    world.publish(ann, 2);
    let long = "x".repeat(17_000);
    let many: Vec<String> = (0..1025).map(|n| format!("p{n}")).collect();
    let cases: Vec<(&str, Value, &str)> = vec![
        ("candidate", json!({"pc": "pub", "candidate": "candidate:1 1 udp 1 192.0.2.7 9 typ host"}), "ok"),
        ("candidate", json!({"pc": "sub", "candidate": null}), "ok"),
        ("candidate", json!({}), "bad_request data: missing field `pc`"),
        ("view", json!({"tracks": {"t2": {"w": 640, "h": 360, "fps": 20, "priority": 2}}, "lastN": 4}), "ok"),
        ("view", json!({"tracks": {"t2": {"w": "wide"}}}), "bad_request tracks.t2.w: invalid type"),
        ("view", json!({"tracks": {"camera": {}}}), "bad_request tracks: \"camera\" is not a track id"),
        ("view", json!({"follow": "me"}), "bad_request follow"),
        ("view", json!({"lastN": -1}), "bad_request lastN"),
        ("track", json!({"track": "t1", "muted": true}), "ok"),
        ("track", json!({"track": "t1"}), "bad_request data: missing field `muted`"),
        ("track", json!({"track": "t99", "muted": true}), "not_found track"),
        ("set", json!({"name": ""}), "bad_request name"),
        ("set", json!({"name": "Anna", "attributes": {"hand": true}}), "ok"),
        ("set", json!({"attributes": []}), "bad_request attributes"),
        ("set", json!({"attributes": {"big": long}}), "limit_reached attributes"),
        ("say", json!({"topic": "chat", "body": "hi"}), "ok"),
        ("say", json!({"topic": "", "body": "hi"}), "bad_request topic"),
        ("say", json!({"body": "hi"}), "bad_request data: missing field `topic`"),
        ("say", json!({"topic": "chat", "body": long}), "limit_reached body"),
        ("say", json!({"topic": "chat", "to": []}), "bad_request to"),
        ("say", json!({"topic": "chat", "to": many}), "bad_request to"),
        ("say", json!({"topic": "chat", "to": ["p9"]}), "not_found to"),
        ("say", json!({"topic": "chat", "to": ["p2"], "retain": true}), "bad_request to"),
        ("moderate", json!({"action": "kick", "participant": "p2"}), "forbidden the grant \"moderate\" is missing"),
        ("record", json!({"action": "start"}), "forbidden the grant \"record\" is missing"),
        ("dance", json!({}), "unsupported there is no request \"dance\""),
        ("hello", json!({}), "conflict this socket has said hello already"),
        ("negotiate", json!({"pc": "pub", "rev": 9, "sdp": "nonsense"}), "bad_request sdp: "),
        ("negotiate", json!({"pc": "pub", "rev": 2, "sdp": ""}), "conflict rev: the current one is 2"),
        (
            "negotiate",
            json!({"pc": "pub", "rev": 9, "sdp": "", "tracks": [{"mid": "", "source": "camera"}]}),
            "bad_request tracks[0].mid",
        ),
        (
            "negotiate",
            json!({"pc": "pub", "rev": 9, "sdp": "", "tracks": vec![json!({"mid": "0", "source": "camera"}); 9]}),
            "limit_reached tracks",
        ),
        ("stats", json!(null), ""),
    ];
    for (n, (kind, data, want)) in cases.into_iter().enumerate() {
        let id = 100 + n as u64;
        world.advance(secs(1));
        world.input(Input::Pong { socket: ann });
        world.request(ann, &json!({"id": id, "type": kind, "data": data}).to_string());
        let texts = world.read(ann);
        let answer = texts.iter().find(|t| t["id"] == id);
        let got = match answer {
            None => String::new(),
            Some(a) if a["ok"] == true => "ok".into(),
            Some(a) => format!(
                "{} {}",
                a["error"]["code"].as_str().unwrap_or_default(),
                a["error"]["message"].as_str().unwrap_or_default()
            ),
        };
        assert!(got.starts_with(want) && got.is_empty() == want.is_empty(), "{kind} {data}: {got:?}, not {want:?}");
        assert!(texts.iter().all(|t| t.get("close").is_none()), "errors do not close");
    }
    let (carl, _) = world.join(Claims {
        grants: Grants { moderate: true, record: true, publish: false, subscribe: false, say: false },
        ..claims(None, "Carl")
    });
    for (id, kind, data, want) in [
        (2, "moderate", json!({"action": "lock"}), "unsupported"),
        (3, "record", json!({"action": "start", "tracks": []}), "bad_request"),
        (4, "moderate", json!({"action": "sing"}), "bad_request"),
        (5, "say", json!({"topic": "chat"}), "forbidden"),
        (6, "view", json!({}), "forbidden"),
        (7, "negotiate", json!({"pc": "sub", "rev": 1, "sdp": ""}), "forbidden"),
        (8, "negotiate", json!({"pc": "pub", "rev": 1, "sdp": ""}), "forbidden"),
        (9, "track", json!({"track": "t1", "muted": true}), "forbidden"),
    ] {
        let (answer, _) = world.ask(carl, id, kind, data);
        assert_eq!(answer["error"]["code"], want, "{kind}: {answer}");
    }
}

#[test]
fn publishing_is_told_to_all_and_answered_first() {
    let mut world = World::new(1);
    let (ann, ben) = (world.enter("Ann"), world.enter("Ben"));
    world.read(ann);
    let sdp = offer(1, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST), ("video", "2", "a=sendonly")]);
    let tracks = json!([{"mid": "0", "source": "microphone"}, {"mid": "2", "source": "screen", "name": "Slides"}]);
    world.request(
        ann,
        &json!({"id": 2, "type": "negotiate", "data": {"pc": "pub", "rev": 1, "sdp": sdp, "tracks": tracks}})
            .to_string(),
    );
    let texts = world.read(ann);
    assert_eq!(
        brief_of(&texts),
        ["answer true", "track.published p1 t1 false", "track.published p1 t2 false", "track.published p1 t3 false"]
    );
    let answer = &texts[0]["data"];
    assert_eq!(
        answer["tracks"],
        json!([{"mid": "0", "track": "t1"}, {"mid": "1", "track": "t2"}, {"mid": "2", "track": "t3"}])
    );
    assert!(answer["sdp"].as_str().is_some_and(|s| s.contains("a=ice-lite")));
    assert_eq!(world.engine.log, ["add c1", "publish t1 c1 0", "publish t2 c1 1", "publish t3 c1 2"]);
    let texts = world.read(ben);
    assert_eq!(
        texts[2]["data"],
        json!({"track": "t3", "participant": "p1", "source": "screen", "kind": "video", "name": "Slides", "muted": false, "simulcast": false})
    );

    // The screen is no longer listed, the microphone has another name, the camera is stopped.
    let sdp = offer(1, &[("audio", "0", "a=sendonly"), ("video", "1", "a=inactive"), ("video", "2", "a=sendonly")]);
    let tracks = json!([{"mid": "0", "source": "microphone", "name": "Good one"}]);
    let data = world.ok(ann, 3, "negotiate", json!({"pc": "pub", "rev": 2, "sdp": sdp, "tracks": tracks}));
    assert_eq!(data["tracks"], json!([{"mid": "0", "track": "t1"}]));
    assert_eq!(
        brief_of(&world.read(ben)),
        ["track.unpublished p1 t2", "track.unpublished p1 t3", "track.updated p1 t1 false"]
    );
    // Another source on the same m-line is another track.
    let sdp = offer(1, &[("audio", "0", "a=sendonly"), ("video", "1", "a=inactive"), ("video", "2", "a=inactive")]);
    let tracks = json!([{"mid": "0", "source": "screenAudio"}]);
    world.ok(ann, 4, "negotiate", json!({"pc": "pub", "rev": 7, "sdp": sdp, "tracks": tracks}));
    assert_eq!(brief_of(&world.read(ben)), ["track.unpublished p1 t1", "track.published p1 t4 false"]);
    world.ok(ann, 5, "leave", json!({}));
    assert_eq!(brief_of(&world.read(ben)), ["track.unpublished p1 t4", "participant.left p1 left"]);
}

#[test]
fn a_new_association_keeps_the_tracks_and_binds_them_again() {
    let mut world = World::new(1);
    let (ann, ben) = (world.enter("Ann"), world.enter("Ben"));
    world.publish(ann, 2);
    let events = world.subscribe(ben, 2, 2, 2);
    assert_eq!(brief_of(&events[events.len() - 2..]), ["slot.bind t1 a0 lastN", "slot.bind t2 v0 lastN"]);
    world.ok(ann, 3, "track", json!({"track": "t1", "muted": true}));
    world.engine.log.clear();
    world.read(ben);
    let sdp = offer(2, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST)]);
    let data = world.ok(ann, 4, "negotiate", json!({"pc": "pub", "rev": 3, "sdp": sdp}));
    assert_eq!(data["tracks"], json!([{"mid": "0", "track": "t1"}, {"mid": "1", "track": "t2"}]), "the same tracks");
    assert_eq!(
        world.engine.log,
        [
            "remove c1",
            "add c3",
            "publish t1 c3 0",
            "muted t1 true",
            "bind c2 a0 t1",
            "publish t2 c3 1",
            "bind c2 v0 t2"
        ]
    );
    assert_eq!(world.read(ben), Vec::<Value>::new(), "nothing that the others would notice");
    world.engine.log.clear();
    world.ok(ben, 5, "negotiate", json!({"pc": "sub", "rev": 3, "sdp": slots_offer(2, 2, 2)}));
    assert_eq!(world.engine.log, ["remove c2", "add c4", "bind c4 a0 t1", "bind c4 v0 t2"]);
}

#[test]
fn slots_follow_what_is_published() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    world.subscribe(ann, 2, 2, 2);
    let ben = world.enter("Ben");
    world.publish(ben, 2);
    let texts = world.read(ann);
    assert_eq!(
        brief_of(&texts),
        [
            "participant.joined p2 live",
            "track.published p2 t1 false",
            "track.published p2 t2 false",
            "slot.bind t1 a0 lastN",
            "slot.bind t2 v0 lastN"
        ]
    );
    for name in ["Carl", "Dora"] {
        let socket = world.enter(name);
        world.publish(socket, 2);
    }
    let texts = world.read(ann);
    let need: Vec<_> = texts.iter().filter(|t| t["type"] == "slots.need").map(|t| t["data"].clone()).collect();
    assert_eq!(need, [json!({"audio": 4, "video": 4})]);
    let events = world.subscribe(ann, 3, 4, 4);
    assert_eq!(brief_of(&events), ["slot.bind t5 a2 lastN", "slot.bind t6 v2 lastN"]);
    world.ok(ben, 3, "leave", json!({}));
    assert_eq!(
        brief_of(&world.read(ann)),
        [
            "track.unpublished p2 t1",
            "track.unpublished p2 t2",
            "participant.left p2 left",
            "slot.bind null a0 unpublished",
            "slot.bind null v0 unpublished"
        ]
    );
    // Offering fewer slots takes away the last ones.
    let mut m_lines = slots_offer(1, 4, 4);
    m_lines = m_lines.replacen("a=mid:v2\r\na=rtcp-mux\r\na=recvonly", "a=mid:v2\r\na=rtcp-mux\r\na=inactive", 1);
    let (_, events) = world.ask(ann, 4, "negotiate", json!({"pc": "sub", "rev": 9, "sdp": m_lines}));
    assert_eq!(brief_of(&events), ["slot.bind null v2 lastN", "slot.bind t6 v0 lastN"], "moves to a slot that works");
}

#[test]
fn states_are_told_when_they_change_and_to_those_concerned() {
    let mut world = World::new(1);
    let (ann, ben, carl) = (world.enter("Ann"), world.enter("Ben"), world.enter("Carl"));
    world.publish(ben, 2);
    world.subscribe(ann, 2, 2, 2);
    let [ann_sub, ben_pub] = [world.peer(p(1), Pc::Sub), world.peer(p(2), Pc::Pub)];
    let (room, track) = (RoomId(7), TrackId(2));
    let mid = Mid::try_from("v0").expect("a mid");
    let slot = |state| engine::Event::SlotState {
        room,
        peer: ann_sub,
        mid: mid.clone(),
        track,
        report: SlotReport::plain(state),
    };
    let live = engine::Event::TrackLive { room, track, codec: Codec::Vp8, encodings: vec![] };
    let stalled = engine::Event::TrackStalled { room, track };
    world.read(ann);
    world.read(carl);
    let mut step = |event: engine::Event| {
        world.event(event);
        (brief_of(&world.read(ann)), world.read(carl).len())
    };
    assert_eq!(step(slot(SlotState::Waiting)), (vec![], 0));
    assert_eq!(step(slot(SlotState::Live)), (vec!["track.state t2 live lastN".to_owned()], 0));
    assert_eq!(step(slot(SlotState::Live)), (vec![], 0));
    assert_eq!(step(stalled.clone()), (vec!["track.state t2 paused publisher".to_owned()], 0));
    assert_eq!(step(stalled), (vec![], 0));
    assert_eq!(step(live), (vec!["track.state t2 live lastN".to_owned()], 0));
    assert_eq!(step(slot(SlotState::NoCodec)), (vec!["track.state t2 unavailable codec".to_owned()], 0));
    step(slot(SlotState::Live));
    world.ok(ben, 3, "track", json!({"track": "t2", "muted": true}));
    assert_eq!(brief_of(&world.read(ann)), ["track.updated p2 t2 true", "track.state t2 paused muted"]);
    world.ok(ben, 4, "track", json!({"track": "t2", "muted": true}));
    assert_eq!(world.read(ann), Vec::<Value>::new());
    world.ok(ben, 5, "track", json!({"track": "t2", "muted": false}));
    assert_eq!(brief_of(&world.read(ann)), ["track.updated p2 t2 false", "track.state t2 live lastN"]);
    let (_, events) = world.ask(ann, 6, "view", json!({"tracks": {"t2": {"paused": true}}}));
    assert_eq!(brief_of(&events), ["slot.bind null v0 view", "track.state t2 paused view"]);
    let (_, events) = world.ask(ann, 7, "view", json!({"tracks": {"t2": {"w": 640, "h": 360}}}));
    assert_eq!(brief_of(&events), ["slot.bind t2 v0 view", "track.state t2 paused publisher"]);
    let (_, events) = world.ask(ann, 8, "view", json!({"tracks": {"t2": {"w": 64, "h": 36}}}));
    assert_eq!(events, Vec::<Value>::new(), "the same wish does nothing");
    world.event(engine::Event::PeerFailed { room, peer: ben_pub, why: PeerFailure::ConsentExpired });
    assert_eq!(
        brief_of(&world.read(ann)),
        ["participant.updated p2 lost", "track.state t1 paused publisher"],
        "the tracks wait"
    );
    world.advance(secs(4));
    world.input(Input::Pong { socket: ben });
    for _ in 0..7 {
        world.advance(secs(4));
        for socket in [ann, ben, carl] {
            world.input(Input::Pong { socket });
        }
    }
    let told: Vec<_> = brief_of(&world.read(ann)).into_iter().filter(|t| !t.starts_with("ping")).collect();
    assert_eq!(
        told,
        [
            "track.unpublished p2 t1",
            "track.unpublished p2 t2",
            "participant.updated p2 live",
            "slot.bind null a0 unpublished",
            "slot.bind null v0 unpublished"
        ]
    );
}

#[test]
fn speakers_are_told_and_the_latest_get_the_slots() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    world.subscribe(ann, 2, 3, 1);
    for name in ["Ben", "Carl"] {
        let socket = world.enter(name);
        world.publish(socket, 2);
    }
    world.read(ann);
    let speak = |track| engine::Event::Speakers {
        room: RoomId(7),
        speakers: vec![Speaker { track: TrackId(track), level: 30 }],
    };
    world.event(speak(3));
    let texts = world.read(ann);
    assert_eq!(texts[0]["data"], json!([{"participant": "p3", "level": 0.76}]));
    assert_eq!(texts.len(), 1);
    world.advance(Duration::from_millis(299));
    assert_eq!(world.read(ann), Vec::<Value>::new());
    world.advance(Duration::from_millis(1));
    assert_eq!(brief_of(&world.read(ann)), ["slot.bind t4 v0 lastN"]);
    world.event(engine::Event::Speakers { room: RoomId(7), speakers: vec![] });
    assert_eq!(world.read(ann)[0]["data"], json!([]));
}

#[test]
fn who_spoke_last_keeps_a_slot_and_a_lively_talk_moves_few() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    world.subscribe(ann, 2, 4, 4);
    let others: Vec<SocketId> = ["Ben", "Carl", "Dora", "Emil"].into_iter().map(|name| world.enter(name)).collect();
    for socket in &others {
        world.publish(*socket, 2);
    }
    world.ok(ann, 3, "view", json!({"lastN": 2, "audioN": 2}));
    // Participants 2 to 5 have the microphones 1, 3, 5, 7 and the cameras 2, 4, 6, 8.
    let mut say = |who: &[u64], time: u64| {
        let speakers = who.iter().map(|p| Speaker { track: TrackId(2 * p - 3), level: 30 }).collect();
        world.event(engine::Event::Speakers { room: RoomId(7), speakers });
        world.advance(Duration::from_millis(time));
        for socket in others.iter().chain([&ann]) {
            world.input(Input::Pong { socket: *socket });
        }
        let mut shown: Vec<u64> = world.engine.bindings.values().map(|t| t.0).collect();
        shown.sort_unstable();
        (shown, world.read(ann).iter().filter(|t| t["type"] == "slot.bind").count())
    };
    assert_eq!(say(&[], 2000).0, [1, 2, 3, 4], "nobody has spoken: who came first");
    assert_eq!(say(&[4], 2000).0, [1, 2, 5, 6], "a speaker takes the place of who was silent the longest");
    assert_eq!(say(&[5], 2000).0, [5, 6, 7, 8]);
    assert_eq!(say(&[5, 4], 2000), (vec![5, 6, 7, 8], 0));
    assert_eq!(say(&[2], 2000).0, [1, 2, 7, 8], "Emil was there longer, and has spoken until later than Dora");
    assert_eq!(say(&[2], 200).1 + say(&[3], 200).1 + say(&[], 2000).1, 0, "a cough");
    // All four in turn, half a second each, for a minute: an order holds for 1.5 s.
    let binds: usize = (0..120).map(|n| say(&[2 + n % 4], 500).1).sum();
    assert!(binds <= 40 * 8, "{binds}");
    let (shown, _) = say(&[3], 2000);
    assert!(shown.contains(&3) && shown.contains(&4), "who speaks on is shown in the end");
}

#[test]
fn messages_reach_whom_they_are_for_and_retained_ones_wait() {
    let mut world = World::new(1);
    let (ann, ben, carl) = (world.enter("Ann"), world.enter("Ben"), world.enter("Carl"));
    for socket in [ann, ben, carl] {
        world.read(socket);
    }
    let (answer, events) = world.ask(ann, 2, "say", json!({"to": ["p2"], "topic": "chat", "body": {"text": "psst"}}));
    assert_eq!(answer["data"]["seq"], events[0]["seq"]);
    assert_eq!(
        events[0]["data"],
        json!({"participant": "p1", "to": ["p2"], "topic": "chat", "body": {"text": "psst"}, "retain": false, "atMs": world.wall_ms})
    );
    assert_eq!(world.read(ben).len(), 1);
    assert_eq!(world.read(carl).len(), 0);
    for (id, topic, body) in
        [(3, "notes", json!("one")), (4, "notes", json!("two")), (5, "poll", json!(1)), (6, "poll", json!(null))]
    {
        world.ok(ann, id, "say", json!({"topic": topic, "body": body, "retain": true}));
    }
    let (_, welcome) = world.join(claims(None, "Dora"));
    let bodies: Vec<_> =
        welcome["snapshot"]["messages"].as_array().expect("a list").iter().map(|m| m["body"].clone()).collect();
    assert_eq!(bodies, [json!("two")]);
}

#[test]
fn attributes_are_merged_and_nothing_new_is_not_told() {
    let mut world = World::new(1);
    let (ann, ben) = (world.enter("Ann"), world.enter("Ben"));
    world.read(ann);
    world.ok(ann, 2, "set", json!({"attributes": {"hand": {"up": true, "at": 7}, "mood": "good"}}));
    world.ok(ann, 3, "set", json!({"attributes": {"hand": {"at": null}, "mood": null}, "name": "Anna"}));
    world.ok(ann, 4, "set", json!({"attributes": {"nothing": null}}));
    let texts = world.read(ben);
    assert_eq!(texts.len(), 2);
    assert_eq!(
        (&texts[1]["data"]["attributes"], &texts[1]["data"]["name"]),
        (&json!({"hand": {"up": true}}), &json!("Anna"))
    );
}

#[test]
fn stats_wait_for_the_engine_but_not_forever() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    assert_eq!(world.ok(ann, 2, "stats", json!({})), json!({}), "no connection, no stats");
    world.publish(ann, 3);
    world.subscribe(ann, 4, 1, 1);
    world.request(ann, r#"{"id":5,"type":"stats"}"#);
    world.request(ann, r#"{"id":5,"type":"stats"}"#);
    world.read(ann);
    let queries = std::mem::take(&mut world.engine.stats);
    assert_eq!(queries.len(), 2, "asked once of each connection");
    for (peer, token) in queries {
        assert_eq!(world.read(ann), Vec::<Value>::new());
        let stats = Box::new(PeerStats { bytes_in: peer.0, ..PeerStats::default() });
        world.event(engine::Event::Stats { room: RoomId(7), peer, token, stats });
    }
    let answer = world.read(ann).remove(0);
    assert_eq!((&answer["data"]["pub"]["bytesIn"], &answer["data"]["sub"]["bytesIn"]), (&json!(1), &json!(2)));
    world.request(ann, r#"{"id":6,"type":"stats"}"#);
    world.advance(secs(2));
    let answer = world.read(ann).remove(0);
    assert_eq!((&answer["error"]["code"], &answer["error"]["retryable"]), (&json!("unavailable"), &json!(true)));
    world.request(ann, r#"{"id":6,"type":"stats"}"#);
    assert_eq!(world.engine.stats.len(), 4, "what is retryable may be asked again with the same id");
}

#[test]
fn the_heartbeat_is_the_servers_and_silence_ends_it() {
    let mut world = World::new(1);
    let (ann, ben) = (world.enter("Ann"), world.enter("Ben"));
    world.read(ann);
    for _ in 0..3 {
        world.advance(secs(5));
        let t = world.wall_ms;
        assert_eq!(world.read(ann), [json!({"type": "ping", "t": t})]);
        world.input(Input::Pong { socket: ann });
        world.request(ben, r#"{"id":2,"type":"dance"}"#);
    }
    world.read(ben);
    for _ in 0..2 {
        world.advance(secs(5));
        world.input(Input::Pong { socket: ann });
    }
    assert_eq!(brief_of(&world.read(ben)), ["ping", "close 4408"]);
    let told = |texts: Vec<Value>| brief_of(&texts).into_iter().filter(|t| t != "ping").collect::<Vec<_>>();
    assert_eq!(told(world.read(ann)), ["participant.updated p2 lost"]);
    for _ in 0..6 {
        world.advance(secs(5));
        world.input(Input::Pong { socket: ann });
    }
    assert_eq!(told(world.read(ann)), ["participant.left p2 timeout"]);
}

#[test]
fn an_identity_is_in_the_room_once() {
    let mut world = World::new(1);
    let (ben, _) = world.join(claims(None, "Ben"));
    let (ann, _) = world.join(claims(Some("ann"), "Ann"));
    world.publish(ann, 2);
    world.read(ann);
    world.read(ben);
    let (again, welcome) = world.join(claims(Some("ann"), "Ann"));
    assert_eq!(welcome["participant"], "p3");
    assert_eq!(brief_of(&world.read(ann)), ["bye stop replaced", "close 4409"]);
    assert_eq!(
        brief_of(&world.read(ben)),
        [
            "track.unpublished p2 t1",
            "track.unpublished p2 t2",
            "participant.left p2 replaced",
            "participant.joined p3 live"
        ]
    );
    world.input(Input::SocketClosed { socket: ann });
    assert_eq!(world.room.participants(), 2);
    assert_eq!(world.read(again), Vec::<Value>::new());
}

#[test]
fn a_token_that_expires_ends_the_session() {
    let mut world = World::new(1);
    let ben = world.enter("Ben");
    let expires_ms = Some(world.wall_ms + 7_000);
    let (ann, _) = world.join(Claims { expires_ms, ..claims(Some("ann"), "Ann") });
    world.advance(secs(6));
    world.input(Input::Pong { socket: ben });
    world.advance(secs(1));
    assert_eq!(brief_of(&world.read(ann)), ["ping", "bye stop expired", "close 4401"]);
    assert_eq!(brief_of(&world.read(ben)).last().map(String::as_str), Some("participant.left p2 expired"));
    let (_, _) = world.join(Claims { expires_ms: Some(u64::MAX), ..claims(None, "Carl") });
}

#[test]
fn a_flood_is_slowed_then_closed() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    let mut outcome = BTreeMap::new();
    for id in 2..2000 {
        world.request(ann, &json!({"id": id, "type": "candidate", "data": {"pc": "pub"}}).to_string());
        for text in world.read(ann) {
            let what = match text.get("close") {
                Some(code) => code.to_string(),
                None if text["ok"] == true => "ok".into(),
                None => text["error"]["code"].as_str().unwrap_or_default().to_owned(),
            };
            *outcome.entry(what).or_insert(0) += 1;
            if outcome.contains_key("4429") {
                assert_eq!(
                    outcome,
                    BTreeMap::from([("ok".into(), 60), ("rate_limited".into(), 480), ("4429".into(), 1)])
                );
                return;
            }
        }
    }
    panic!("it was never closed: {outcome:?}");
}

#[test]
fn a_full_room_says_so_and_an_empty_one_too() {
    let mut settings = settings();
    settings.limits.participants = 1;
    let mut world = World::with(1, settings);
    let ann = world.enter("Ann");
    let ben = world.socket();
    world.hello(ben, json!({}), claims(None, "Ben"));
    let texts = world.read(ben);
    assert_eq!(texts[0]["error"]["code"], "limit_reached");
    assert_eq!(texts[1], json!({"close": 4403}));
    world.ok(ann, 2, "leave", json!({}));
    assert_eq!(world.room.participants(), 0, "World checks that Empty was said");
}

#[test]
fn draining_and_a_failed_engine_end_every_session() {
    for (input, code, reason) in [
        (Input::Drain { url: Some("https://b.example/".into()) }, 1001, "draining"),
        (Input::Engine(engine::Event::RoomFailed { room: RoomId(7) }), 4500, "media failed"),
    ] {
        let mut world = World::new(1);
        let (ann, ben) = (world.enter("Ann"), world.enter("Ben"));
        world.publish(ann, 2);
        world.read(ben);
        world.input(input);
        let texts = world.read(ben);
        assert_eq!(brief_of(&texts), [format!("bye rejoin {reason}"), format!("close {code}")]);
        assert_eq!(texts[0]["data"].get("url").is_some(), code == 1001);
    }
}

#[test]
fn a_join_touches_each_session_once() {
    let mut settings = settings();
    settings.limits.audio_slots = 3;
    settings.limits.video_slots = 3;
    settings.full_presence = 200;
    let (settings, ids) = (Arc::new(settings), Arc::new(IdSource::default()));
    let world = World::new(1);
    let rng = rand::SeedableRng::seed_from_u64(1);
    let mut room = Room::new(RoomId(7), "large", settings, ids, rng, world.wall_ms);
    let mut step = |input: Input| {
        room.handle(world.now, world.wall_ms, input);
        std::iter::from_fn(|| room.poll_output()).count()
    };
    for n in 1..=200 {
        let (socket, claims) = (SocketId(n), claims(None, "Somebody"));
        let outputs = step(Input::Hello { socket, id: 1, hello: Default::default(), claims });
        assert_eq!(outputs, n as usize + 1, "one event for each of the others, the answer, and slots.need");
        let data = json!({"pc": "sub", "rev": 1, "sdp": slots_offer(n, 3, 3)});
        let request = messages::Request { id: 2, kind: "negotiate".into(), data };
        let outputs = step(Input::Request { socket, request });
        assert_eq!(
            outputs,
            2 + 12.min((n as usize - 1) * 4),
            "participant {n}: a command, the answer, two for each slot"
        );
        let sdp = offer(1000 + n, &[("audio", "0", "a=sendonly"), ("video", "1", "a=sendonly")]);
        let request =
            messages::Request { id: 3, kind: "negotiate".into(), data: json!({"pc": "pub", "rev": 1, "sdp": sdp}) };
        let outputs = step(Input::Request { socket, request });
        let binds = if n <= 4 { 4 * (n as usize - 1) } else { 0 };
        let needs = if n == 4 { 3 } else { 0 };
        assert_eq!(outputs, 4 + 2 * n as usize + binds + needs, "participant {n}: two events for each");
    }
}
