//! Recordings: who may start and stop them, what the recorder is told, and what everybody is told.
use super::world::{World, brief_of, claims, offer, settings};
use super::*;
use crate::room::messages::{ApiError, ErrorCode, Record, RecordAction};
use serde_json::{Value, json};

/// Somebody who may record.
fn recordist(identity: Option<&str>, name: &str) -> Claims {
    let grants = Grants { record: true, ..Grants::default() };
    Claims { grants, ..claims(identity, name) }
}

/// A room of Ann, who may record and publishes, and Ben, who does not and may not.
fn room() -> (World, [SocketId; 2], [TrackId; 2]) {
    let mut world = World::new(1);
    let (ann, _) = world.join(recordist(Some("ann"), "Ann"));
    let tracks = world.publish(ann, 2);
    let ben = world.enter("Ben");
    world.out.clear();
    (world, [ann, ben], tracks)
}

/// Asks for a recording, which begins.
fn start(world: &mut World, socket: SocketId, id: u64) -> Value {
    let already = world.recorder.id.is_some();
    world.request(socket, &json!({"id": id, "type": "record", "data": {"action": "start"}}).to_string());
    if !already {
        world.recording_begins();
    }
    let texts = world.read(socket);
    let answer = texts.iter().find(|t| t["id"] == id).expect("an answer");
    assert_eq!(answer["ok"], true, "{answer}");
    answer["data"].clone()
}

/// Time passes, in which these answer pings.
fn pass(world: &mut World, sockets: &[SocketId], seconds: u64) {
    for _ in 0..seconds {
        world.advance(Duration::from_secs(1));
        sockets.iter().for_each(|socket| world.input(Input::Pong { socket: *socket }));
    }
}

/// What was told of the recording.
fn told(world: &mut World, socket: SocketId) -> Vec<Value> {
    world.read(socket).into_iter().filter(|t| t["type"] == "recording").map(|t| t["data"].clone()).collect()
}

fn log(world: &mut World) -> Vec<String> {
    std::mem::take(&mut world.recorder.log)
}

#[test]
fn a_recording_is_told_what_there_is_and_what_happens() {
    let (mut world, [ann, ben], [mic, camera]) = room();
    world.ok(ann, 3, "track", json!({"track": mic.to_string(), "muted": true}));
    start(&mut world, ann, 4);
    let began = ["start demo", "joined p1 Ann", "joined p2 Ben", "published t1 p1 microphone", "muted t1"];
    let began: Vec<_> =
        began.into_iter().chain(["published t2 p1 camera", "event recording", "event room.updated"]).collect();
    assert_eq!(log(&mut world), began);
    assert_eq!(world.engine.recorded.keys().copied().collect::<Vec<_>>(), [mic, camera]);
    world.ok(ann, 5, "track", json!({"track": mic.to_string(), "muted": false}));
    world.ok(ann, 6, "track", json!({"track": mic.to_string(), "muted": true}));
    world.ok(ben, 3, "say", json!({"topic": "chat", "body": "hello"}));
    world.ok(ben, 4, "say", json!({"topic": "chat", "body": "a secret", "to": ["p1"]}));
    let happened = ["event track.updated", "muted t1", "event track.updated", "event message"];
    assert_eq!(log(&mut world), happened, "what is said to some is not kept");
    // Another camera, and a publisher that goes.
    let sdp = offer(1, &[("audio", "0", "a=sendonly"), ("video", "1", "a=inactive"), ("video", "2", "a=sendonly")]);
    world.ok(ann, 7, "negotiate", json!({"pc": "pub", "rev": 7, "sdp": sdp}));
    assert_eq!(world.engine.recorded.keys().map(|t| t.0).collect::<Vec<_>>(), [1, 3]);
    world.ok(ann, 8, "leave", json!({}));
    let happened = ["event track.unpublished", "event track.published", "unpublished t2", "published t3 p1 camera"];
    let left = ["event track.unpublished", "event track.unpublished", "event participant.left"];
    let left = left.into_iter().chain(["unpublished t1", "unpublished t3", "left p1"]);
    assert_eq!(log(&mut world), happened.into_iter().chain(left).collect::<Vec<_>>());
    world.input(Input::SocketClosed { socket: ben });
    world.advance(Duration::from_secs(31));
    let ended = ["event participant.updated", "event participant.left", "left p2"];
    let ended = ended.into_iter().chain(["event recording", "event room.updated", "stop RoomEnded"]);
    assert_eq!(log(&mut world), ended.collect::<Vec<_>>());
}

#[test]
fn everybody_knows_and_so_do_those_who_come_later() {
    let (mut world, [ann, ben], _) = room();
    let answer = start(&mut world, ann, 3);
    let running = json!({"state": "started", "recording": "k1", "startedAtMs": world.wall_ms, "owners": ["p1"]});
    assert_eq!(answer, running);
    let texts = world.read(ben);
    assert_eq!(brief_of(&texts), ["recording started", "room.updated"]);
    assert_eq!((&texts[0]["data"], &texts[1]["data"]["recording"]), (&running, &json!(true)));
    let (_, welcome) = world.join(claims(None, "Carl"));
    assert_eq!(welcome["snapshot"]["room"]["recording"], true);
    assert_eq!(welcome["snapshot"]["recording"], running);
    let (answer, texts) = world.ask(ann, 4, "record", json!({"action": "stop"}));
    assert_eq!(answer["data"], json!({"state": "stopped", "owners": [], "by": "p1"}));
    assert_eq!(brief_of(&texts), ["participant.joined p3 live", "recording stopped", "room.updated"]);
    let stopped =
        json!({"state": "stopped", "recording": "k1", "startedAtMs": world.wall_ms, "owners": [], "by": "p1"});
    assert_eq!(told(&mut world, ben), [stopped]);
    assert_eq!(log(&mut world).last().expect("a stop"), "stop Asked");
    assert!(world.engine.recorded.is_empty());
    // Stopping what does not run, and starting anew.
    assert_eq!(world.ok(ann, 5, "record", json!({"action": "stop"})), json!({"state": "stopped", "owners": []}));
    assert_eq!(start(&mut world, ann, 6)["recording"], "k2");
}

#[test]
fn it_takes_a_grant_and_tracks_that_there_are() {
    let (mut world, [ann, ben], _) = room();
    let cases = [
        (ben, json!({"action": "start"}), "forbidden", "the grant \"record\" is missing"),
        (ben, json!({"action": "stop"}), "forbidden", "the grant \"record\" is missing"),
        (ann, json!({"action": "stop", "force": true}), "forbidden", "the grant \"moderate\" is missing"),
        (ann, json!({"action": "pause"}), "bad_request", "action: unknown variant"),
        (ann, json!({"action": "start", "tracks": []}), "bad_request", "tracks: 1 to 1024"),
        (ann, json!({"action": "start", "tracks": ["t1", "t9"]}), "not_found", "tracks[1]: there is no such track"),
    ];
    for (n, (socket, data, code, message)) in cases.into_iter().enumerate() {
        let (answer, _) = world.ask(socket, 10 + n as u64, "record", data);
        assert_eq!(answer["error"]["code"], code);
        assert!(answer["error"]["message"].as_str().is_some_and(|m| m.starts_with(message)), "{answer}");
    }
    assert_eq!(log(&mut world).len(), 0);
}

#[test]
fn several_owners_are_one_recording_which_ends_with_the_last_of_them() {
    let (mut world, [ann, ben], _) = room();
    let (carl, _) = world.join(recordist(None, "Carl"));
    start(&mut world, ann, 3);
    let (answer, texts) = world.ask(carl, 3, "record", json!({"action": "start"}));
    assert_eq!(answer["data"]["owners"], json!(["p1", "p3"]), "at once");
    assert_eq!(brief_of(&texts).last().expect("an event"), "recording started");
    assert_eq!(start(&mut world, carl, 4)["owners"], json!(["p1", "p3"]), "once more changes nothing");
    world.read(ben);
    let answer = world.ok(ann, 4, "record", json!({"action": "stop"}));
    assert_eq!((&answer["state"], &answer["owners"]), (&json!("started"), &json!(["p3"])), "Carl still wants it");
    assert_eq!(told(&mut world, ben).last().expect("told")["owners"], json!(["p3"]));
    let (answer, _) = world.ask(ann, 5, "record", json!({"action": "stop"}));
    assert_eq!(answer["error"]["code"], "conflict");
    assert!(answer["error"]["message"].as_str().is_some_and(|m| m.contains("by Carl,")), "{answer}");
    let answer = world.ok(carl, 5, "record", json!({"action": "stop"}));
    assert_eq!(answer["state"], "stopped");
}

#[test]
fn an_owner_who_leaves_does_not_end_it_and_anybody_with_the_grant_may_then() {
    let (mut world, [ann, ben], _) = room();
    let (carl, _) = world.join(recordist(None, "Carl"));
    start(&mut world, ann, 3);
    world.ok(ann, 4, "leave", json!({}));
    assert!(world.room.about.recording);
    world.read(ben);
    // Ann reloads: it is hers again.
    let (ann, welcome) = world.join(recordist(Some("ann"), "Ann"));
    assert_eq!(welcome["snapshot"]["recording"]["owners"], json!(["p4"]));
    assert_eq!(told(&mut world, ben)[0]["owners"], json!(["p4"]));
    assert_eq!(world.ask(carl, 4, "record", json!({"action": "stop"})).0["error"]["code"], "conflict");
    world.ok(ann, 5, "leave", json!({}));
    assert_eq!(world.ok(carl, 5, "record", json!({"action": "stop"}))["state"], "stopped");
}

#[test]
fn a_moderator_may_stop_it_for_all() {
    let (mut world, [ann, _], _) = room();
    start(&mut world, ann, 3);
    let mut boss = recordist(None, "Boss");
    boss.grants.moderate = true;
    let (boss, _) = world.join(boss);
    assert_eq!(world.ask(boss, 3, "record", json!({"action": "stop"})).0["error"]["code"], "conflict");
    let answer = world.ok(boss, 4, "record", json!({"action": "stop", "force": true}));
    assert_eq!((&answer["state"], &answer["by"]), (&json!("stopped"), &json!("p3")));
}

#[test]
fn only_what_somebody_chose_is_recorded_and_asked_for() {
    let (mut world, [ann, ben], [mic, camera]) = room();
    let (carl, _) = world.join(recordist(None, "Carl"));
    let layers = |world: &mut World| {
        let texts = world.read(ann).into_iter().filter(|t| t["type"] == "publish.layers");
        texts.map(|t| t["data"]["active"].as_bool().expect("a bool")).collect::<Vec<_>>()
    };
    pass(&mut world, &[ann, ben, carl], 6);
    assert_eq!(layers(&mut world), [false], "nobody looks at it");
    let mic_only = json!({"action": "start", "tracks": [mic.to_string()]});
    world.request(ann, &json!({"id": 3, "type": "record", "data": mic_only}).to_string());
    world.recording_begins();
    assert_eq!(told(&mut world, ben)[0]["tracks"], json!([mic.to_string()]));
    assert_eq!(world.engine.recorded.keys().copied().collect::<Vec<_>>(), [mic]);
    assert!(layers(&mut world).is_empty());
    start(&mut world, carl, 3);
    assert_eq!(told(&mut world, ben)[0]["tracks"], json!(null), "all of it");
    assert_eq!(world.engine.recorded.keys().copied().collect::<Vec<_>>(), [mic, camera]);
    assert_eq!(layers(&mut world), [true], "a recording looks at all");
    pass(&mut world, &[ann, ben, carl], 60);
    assert!(layers(&mut world).is_empty());
    let camera_only = json!({"action": "start", "tracks": [camera.to_string()]});
    assert_eq!(world.ok(carl, 4, "record", camera_only)["tracks"], json!([mic.to_string(), camera.to_string()]));
    world.ok(ann, 4, "record", json!({"action": "stop"}));
    assert_eq!(world.engine.recorded.keys().copied().collect::<Vec<_>>(), [camera]);
    assert_eq!(log(&mut world).last().expect("a line"), "event recording");
    world.ok(carl, 5, "record", json!({"action": "stop"}));
    pass(&mut world, &[ann, ben, carl], 6);
    assert_eq!(layers(&mut world), [false]);
}

#[test]
fn a_publisher_that_connects_anew_is_recorded_on() {
    let (mut world, [ann, _], tracks) = room();
    start(&mut world, ann, 3);
    log(&mut world);
    let peer = world.peer(ParticipantId(1), Pc::Pub);
    let why = crate::engine::api::PeerFailure::ConsentExpired;
    world.event(crate::engine::Event::PeerFailed { room: RoomId(7), peer, why });
    assert!(world.engine.recorded.is_empty());
    let sdp = offer(2, &[("audio", "0", "a=sendonly"), ("video", "1", world::SIMULCAST)]);
    world.ok(ann, 4, "negotiate", json!({"pc": "pub", "rev": 4, "sdp": sdp}));
    assert_eq!(world.engine.recorded.keys().copied().collect::<Vec<_>>(), tracks);
    assert!(log(&mut world).iter().all(|line| line.starts_with("event participant.updated")), "its files go on");
}

#[test]
fn who_asks_hears_why_there_is_none() {
    let (mut world, [ann, _], _) = room();
    let ask = |world: &mut World, id: u64| {
        world.request(ann, &json!({"id": id, "type": "record", "data": {"action": "start"}}).to_string());
        world.request(ann, &json!({"id": id, "type": "record", "data": {"action": "start"}}).to_string());
        assert!(world.read(ann).is_empty(), "not known yet");
    };
    ask(&mut world, 3);
    world.recording(RecordingEvent::Refused(ApiError::new(ErrorCode::Unsupported, "no --recordings")));
    let texts = world.read(ann);
    assert_eq!((texts.len(), &texts[0]["error"]["message"]), (1, &json!("no --recordings")), "and nobody else");
    // No answer at all.
    ask(&mut world, 4);
    world.advance(Duration::from_secs(5));
    let texts = world.read(ann);
    let error = &texts.iter().find(|t| t["id"] == 4).expect("an answer")["error"];
    assert_eq!((&error["code"], &error["retryable"]), (&json!("unavailable"), &json!(true)));
    assert_eq!(log(&mut world).last().expect("a stop"), "stop Asked");
    // An answer that is too late.
    let late = RecordingEvent::Started { name: "late".into(), started_at_ms: 0 };
    world.input(Input::Recording(RecordingId(2), late));
    assert!(!world.room.about.recording);
    // Stopped by oneself before it began.
    ask(&mut world, 5);
    let (answer, texts) = world.ask(ann, 6, "record", json!({"action": "stop"}));
    assert_eq!(answer["data"]["state"], "stopped");
    assert_eq!((&texts[0]["id"], &texts[0]["error"]["code"]), (&json!(5), &json!("conflict")));
}

#[test]
fn a_full_disk_ends_it_and_it_may_be_started_again() {
    let (mut world, [ann, ben], _) = room();
    start(&mut world, ann, 3);
    world.read(ben);
    world.recording(RecordingEvent::Ended(RecordingFailure::DiskFull));
    let texts = world.read(ben);
    assert_eq!(brief_of(&texts), ["recording failed diskFull", "room.updated"]);
    assert_eq!((&texts[0]["data"]["recording"], &texts[1]["data"]["recording"]), (&json!("k1"), &json!(false)));
    assert!(world.engine.recorded.is_empty());
    assert_eq!(start(&mut world, ann, 4)["recording"], "k2");
}

#[test]
fn a_server_that_goes_away_says_so_to_the_recording() {
    let (mut world, [ann, ben], _) = room();
    start(&mut world, ann, 3);
    world.input(Input::Drain { url: None });
    assert_eq!(log(&mut world).last().expect("a stop"), "stop Shutdown");
    assert_eq!(brief_of(&world.read(ben)).iter().filter(|t| t.starts_with("recording")).count(), 2);
}

fn http(world: &mut World, request: HttpRequest) -> Option<Value> {
    world.input(Input::Http { http: HttpId(1), request });
    shown(world)
}

fn shown(world: &mut World) -> Option<Value> {
    let at = world.out.iter().position(|o| matches!(o, Output::Http { .. }))?;
    match world.out.remove(at) {
        Output::Http { response: HttpResponse::Shown(json), .. } => serde_json::from_str(&json).ok(),
        Output::Http { response: HttpResponse::Failed(error), .. } => serde_json::to_value(error).ok(),
        other => panic!("{other:?}"),
    }
}

fn operator(action: RecordAction) -> HttpRequest {
    HttpRequest::Record(Record { action, tracks: None, layout: None, force: false })
}

#[test]
fn an_operator_starts_looks_and_stops_for_all() {
    let (mut world, [ann, ben], _) = room();
    assert_eq!(
        http(&mut world, HttpRequest::Inspect(Inspect::Recording)),
        Some(json!({"state": "stopped", "owners": []}))
    );
    assert_eq!(http(&mut world, operator(RecordAction::Start)), None);
    world.recording_begins();
    let running = json!({"state": "started", "recording": "k1", "startedAtMs": world.wall_ms, "owners": ["admin"]});
    assert_eq!(shown(&mut world), Some(running.clone()));
    assert_eq!(http(&mut world, HttpRequest::Inspect(Inspect::Recording)), Some(running));
    assert_eq!(world.ask(ann, 3, "record", json!({"action": "stop"})).0["error"]["code"], "forbidden");
    start(&mut world, ann, 4);
    let stopped = http(&mut world, operator(RecordAction::Stop)).expect("an answer");
    assert_eq!((&stopped["state"], &stopped["by"]), (&json!("stopped"), &json!("admin")));
    assert_eq!(told(&mut world, ben).last().expect("told")["by"], "admin");
    assert_eq!(http(&mut world, operator(RecordAction::Stop)).expect("an answer")["state"], "stopped");
}

#[test]
fn a_room_that_is_always_recorded_begins_with_the_first_who_publishes() {
    let mut settings = settings();
    settings.record_rooms = vec![RoomPattern::new("class-*"), RoomPattern::new("dem*")];
    let mut world = World::with(1, settings);
    let mut boss = recordist(None, "Boss");
    boss.grants.moderate = true;
    let (ann, _) = world.join(boss);
    assert_eq!(world.recorder.id, None, "there is nothing to record yet");
    world.publish(ann, 2);
    world.read(ann);
    // It cannot begin: all are told, once, and it is tried again.
    for n in 0..3 {
        world.recording(RecordingEvent::Refused(ApiError::retry(ErrorCode::Unavailable, "full", 0)));
        let told: Vec<Value> = told(&mut world, ann);
        assert_eq!(
            told,
            if n == 0 { vec![json!({"state": "failed", "owners": [], "why": "refused"})] } else { vec![] }
        );
        pass(&mut world, &[ann], 59);
        assert_eq!(world.recorder.id, None);
        pass(&mut world, &[ann], 2);
    }
    world.recording_begins();
    let (ben, welcome) = world.join(recordist(None, "Ben"));
    assert_eq!(welcome["snapshot"]["recording"]["owners"], json!(["server"]));
    for force in [false, true] {
        let mut boss = recordist(None, "Boss");
        boss.grants.moderate = true;
        let (boss, _) = world.join(boss);
        let (answer, _) = world.ask(boss, 4, "record", json!({"action": "stop", "force": force}));
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("this room is always recorded"), "{answer}");
    }
    assert_eq!(http(&mut world, operator(RecordAction::Stop)).expect("an answer")["state"], "stopped");
    world.publish(ben, 5);
    assert_eq!(world.recorder.id, None, "an operator's word holds");
}

#[test]
fn a_large_room_tells_the_recording_of_those_who_do_something() {
    let mut settings = settings();
    settings.full_presence = 3;
    let mut world = World::with(1, settings);
    let (ann, _) = world.join(recordist(None, "Ann"));
    world.publish(ann, 2);
    let viewers: Vec<SocketId> = (0..5).map(|n| world.enter(&format!("Viewer {n}"))).collect();
    start(&mut world, ann, 3);
    let joined =
        |world: &mut World| log(world).into_iter().filter(|l| l.starts_with("joined") || l.starts_with("left"));
    assert_eq!(joined(&mut world).collect::<Vec<_>>(), ["joined p1 Ann", "joined p2 Viewer 0", "joined p3 Viewer 1"]);
    for (n, viewer) in viewers.iter().enumerate() {
        world.ok(*viewer, 3, "say", json!({"topic": "chat", "body": n}));
    }
    let names = ["joined p4 Viewer 2", "joined p5 Viewer 3", "joined p6 Viewer 4"];
    assert_eq!(joined(&mut world).collect::<Vec<_>>(), names, "who makes place on the list is still there");
    world.ok(viewers[0], 4, "leave", json!({}));
    assert_eq!(joined(&mut world).collect::<Vec<_>>(), ["left p2"]);
}

#[test]
fn who_makes_it_begin_says_how_a_composite_is_arranged() {
    let (mut world, [ann, _], _) = room();
    log(&mut world);
    world.request(ann, r#"{"id": 9, "type": "record", "data": {"action": "start", "layout": "speaker"}}"#);
    assert!(log(&mut world).contains(&"start demo Speaker".to_owned()));
    let (answer, _) = world.ask(ann, 10, "record", json!({"action": "start", "layout": "a heap"}));
    assert_eq!(answer["error"]["code"], "bad_request");
}
