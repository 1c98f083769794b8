//! WHIP and WHEP.
use super::world::{SIMULCAST, World, brief_of, claims, offer, slots_offer};
use super::*;
use crate::engine;
use crate::engine::api::{ChosenLayer, Limit, PeerFailure, PeerStats, SlotReport, SlotState};
use crate::engine::explain::{Decision, DecisionLog, What};
use crate::room::messages::{Door, ErrorCode, RoomReport};
use serde_json::{Value, json};

fn ask(world: &mut World, request: HttpRequest) -> HttpResponse {
    world.input(Input::Http { http: HttpId(1), request });
    let at = world.out.iter().position(|o| matches!(o, Output::Http { .. })).expect("an answer");
    match world.out.remove(at) {
        Output::Http { response, .. } => response,
        other => panic!("{other:?}"),
    }
}

fn whip(world: &mut World, claims: Claims) -> HttpResponse {
    let sdp = offer(1, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST)]);
    ask(world, HttpRequest::Create { kind: HttpKind::Whip, sdp, claims, whep_of: None })
}

fn whep(world: &mut World, of: Option<&str>) -> HttpResponse {
    let whep_of = of.map(str::to_owned);
    let sdp = slots_offer(5, 1, 1);
    ask(world, HttpRequest::Create { kind: HttpKind::Whep, sdp, claims: claims(None, "Viewer"), whep_of })
}

fn created(response: HttpResponse) -> (ParticipantId, String, String) {
    match response {
        HttpResponse::Created { participant, resource, etag, .. } => (participant, resource, etag),
        other => panic!("{other:?}"),
    }
}

fn failed(response: HttpResponse) -> ErrorCode {
    match response {
        HttpResponse::Failed(error) => error.code,
        other => panic!("{other:?}"),
    }
}

fn bindings(world: &World) -> Vec<(String, u64)> {
    world.engine.bindings.iter().map(|((_, mid), track)| (mid.clone(), track.0)).collect()
}

#[test]
fn a_whip_publisher_comes_and_goes() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    let (participant, resource, _) = created(whip(&mut world, claims(Some("cam"), "Camera 1")));
    assert_eq!((participant, resource.len()), (ParticipantId(2), 32));
    assert_eq!(
        brief_of(&world.read(ann)),
        ["participant.joined p2 live", "track.published p2 t1 false", "track.published p2 t2 false"]
    );
    // OBS starts again.
    created(whip(&mut world, claims(Some("cam"), "Camera 1")));
    assert_eq!(brief_of(&world.read(ann))[..3].last().map(String::as_str), Some("participant.left p2 replaced"));
    let gone = HttpRequest::Delete { kind: HttpKind::Whip, resource };
    assert_eq!(failed(ask(&mut world, gone)), ErrorCode::NotFound);
    world.read(ann);
    let peer = world.peer(ParticipantId(3), Pc::Pub);
    world.event(engine::Event::PeerFailed { room: RoomId(7), peer, why: PeerFailure::ConsentExpired });
    assert_eq!(brief_of(&world.read(ann)).last().map(String::as_str), Some("participant.left p3 failed"));
    world.ok(ann, 9, "leave", json!({}));
    assert_eq!(world.room.participants(), 0);
}

#[test]
fn what_cannot_be_is_refused_and_leaves_no_trace() {
    let mut world = World::new(1);
    let none = Grants { publish: false, subscribe: false, ..Grants::default() };
    assert_eq!(failed(whip(&mut world, Claims { grants: none, ..claims(None, "x") })), ErrorCode::Forbidden);
    let create = |sdp: &str| HttpRequest::Create {
        kind: HttpKind::Whip,
        sdp: sdp.into(),
        claims: claims(Some("x"), "x"),
        whep_of: None,
    };
    assert_eq!(failed(ask(&mut world, create("nonsense"))), ErrorCode::BadRequest);
    assert_eq!(failed(whep(&mut world, Some("p9"))), ErrorCode::NotFound);
    assert_eq!(world.room.participants(), 0);
    assert!(world.room.index.identities.is_empty() && world.room.index.resources.is_empty());
    assert_eq!(world.room.poll_timeout(), None);
}

#[test]
fn a_whep_viewer_sees_the_stage() {
    let mut world = World::new(1);
    let (_, resource, _) = created(whep(&mut world, None));
    assert_eq!(bindings(&world), []);
    let ann = world.enter("Ann");
    world.publish(ann, 2);
    assert_eq!(bindings(&world), [("a0".to_owned(), 1), ("v0".to_owned(), 2)], "the first with video");
    let ben = world.enter("Ben");
    world.publish(ben, 2);
    let speak = |track| {
        let speakers = vec![engine::api::Speaker { track: TrackId(track), level: 20 }];
        engine::Event::Speakers { room: RoomId(7), speakers }
    };
    world.event(speak(3));
    world.advance(Duration::from_millis(300));
    assert_eq!(bindings(&world), [("a0".to_owned(), 3), ("v0".to_owned(), 4)], "the last speaker");
    let sdp = offer(1, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST), ("video", "2", "a=sendonly")]);
    let tracks = json!([{"mid": "2", "source": "screen"}]);
    world.ok(ann, 3, "negotiate", json!({"pc": "pub", "rev": 9, "sdp": sdp, "tracks": tracks}));
    assert_eq!(bindings(&world), [("a0".to_owned(), 1), ("v0".to_owned(), 5)], "the shared screen");
    world.ok(ann, 4, "leave", json!({}));
    assert_eq!(bindings(&world), [("a0".to_owned(), 3), ("v0".to_owned(), 4)]);
    let delete = HttpRequest::Delete { kind: HttpKind::Whep, resource };
    assert!(matches!(ask(&mut world, delete), HttpResponse::Done));
    assert_eq!(bindings(&world), []);
}

#[test]
fn a_whep_viewer_of_one_finds_them_again() {
    let mut world = World::new(1);
    created(whip(&mut world, claims(Some("cam"), "Camera 1")));
    for of in ["p1", "cam", "Camera 1"] {
        created(whep(&mut world, Some(of)));
    }
    assert_eq!(bindings(&world).iter().filter(|(mid, track)| mid == "v0" && *track == 2).count(), 3);
    created(whip(&mut world, claims(Some("cam"), "Camera 1")));
    assert_eq!(bindings(&world).iter().filter(|(mid, track)| mid == "v0" && *track == 4).count(), 2);
}

#[test]
fn patch_trickles_and_restarts() {
    let mut world = World::new(1);
    let (_, resource, etag) = created(whip(&mut world, claims(None, "x")));
    let patch = |fragment: &str, if_match: Option<&str>| HttpRequest::Patch {
        kind: HttpKind::Whip,
        resource: resource.clone(),
        fragment: fragment.into(),
        if_match: if_match.map(str::to_owned),
    };
    let trickle = "a=ice-ufrag:ufrag0001\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n";
    let restart = "a=ice-ufrag:other\r\na=ice-pwd:zyxwvutsrqponmlkjihgfe\r\n";
    let quoted = format!("\"{etag}\"");
    assert!(matches!(ask(&mut world, patch(trickle, Some(&quoted))), HttpResponse::Done));
    assert!(matches!(ask(&mut world, patch(trickle, None)), HttpResponse::Done));
    assert!(matches!(ask(&mut world, patch(trickle, Some("\"other\""))), HttpResponse::PreconditionFailed));
    assert!(matches!(ask(&mut world, patch(trickle, Some("*"))), HttpResponse::Done));
    let log = world.engine.log.len();
    match ask(&mut world, patch(restart, Some("*"))) {
        HttpResponse::Restarted { etag: new, fragment } => {
            assert_ne!(new, etag);
            assert!(fragment.contains(&format!("a=ice-ufrag:{new}")), "{fragment}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.engine.log[log..], ["update c1"]);
    assert!(matches!(ask(&mut world, patch(trickle, Some(&quoted))), HttpResponse::PreconditionFailed));
    let wrong = HttpRequest::Delete { kind: HttpKind::Whep, resource: resource.clone() };
    assert_eq!(failed(ask(&mut world, wrong)), ErrorCode::NotFound, "a WHIP resource is none of WHEP");
}

fn shown(response: HttpResponse) -> Value {
    match response {
        HttpResponse::Shown(json) => serde_json::from_str(&json).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

/// What was answered to an operator since the last time.
fn answered(world: &mut World) -> Option<HttpResponse> {
    let at = world.out.iter().position(|o| matches!(o, Output::Http { .. }))?;
    match world.out.remove(at) {
        Output::Http { response, .. } => Some(response),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operator_sees_who_is_there_and_what_is_sent() {
    let mut world = World::new(1);
    created(whip(&mut world, claims(Some("cam"), "Camera 1")));
    created(whep(&mut world, None));
    let (ann, _) = world.join(claims(Some("ann"), "Ann"));
    world.subscribe(ann, 2, 2, 2);
    world.ok(ann, 3, "view", json!({"tracks": {"t2": {"w": 320, "h": 180}}}));
    let room: RoomReport =
        serde_json::from_value(shown(ask(&mut world, HttpRequest::Inspect(Inspect::Room)))).expect("a report");
    let people: Vec<_> = room.participants.iter().map(|p| (p.by, p.identity.as_deref(), p.slots, p.filled)).collect();
    assert_eq!(people, [(Door::Whip, Some("cam"), 0, 0), (Door::Whep, None, 2, 2), (Door::Socket, Some("ann"), 4, 2)]);
    let tracks: Vec<_> = room.tracks.iter().map(|t| (t.track.track.as_str(), t.watchers, t.active)).collect();
    assert_eq!(tracks, [("t1", 2, true), ("t2", 2, true)]);
}

#[test]
fn an_operator_sees_why_or_that_nobody_answers() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    world.publish(ann, 2);
    let (ben, _) = world.join(claims(Some("ben"), "Ben"));
    world.subscribe(ben, 2, 2, 2);
    world.ok(ben, 3, "view", json!({"tracks": {"t2": {"w": 320, "h": 180, "priority": 3}}}));
    let peer = world.peer(ParticipantId(2), Pc::Sub);
    let report = SlotReport {
        state: SlotState::Live,
        layer: Some(ChosenLayer { rid: None, spatial: Some(1), temporal: None }),
        limit: Limit::Bandwidth,
        need_bps: Some(700_000),
        have_bps: Some(400_000),
    };
    let mid = "v0".try_into().expect("a mid");
    world.event(engine::Event::SlotState { room: RoomId(7), peer, mid, track: TrackId(2), report });
    let question = |of: &str| HttpRequest::Inspect(Inspect::Decisions { participant: of.into() });
    assert_eq!(failed(ask(&mut world, question("p9"))), ErrorCode::NotFound);
    assert_eq!(failed(ask(&mut world, question("p1"))), ErrorCode::NotFound, "she receives nothing");

    world.input(Input::Http { http: HttpId(5), request: question("ben") });
    assert!(answered(&mut world).is_none(), "the engine is asked first");
    engine_answers(&mut world);
    let decisions = shown(answered(&mut world).expect("an answer"));
    assert_eq!(decisions["stats"]["bytesOut"], 77);
    assert_eq!(decisions["log"]["entries"][0]["atMs"], 5);
    assert_eq!(
        decisions["slots"][1],
        json!({
            "mid": "v0", "kind": "video", "track": "t2", "why": "lastN",
            "wish": {"w": 320, "h": 180, "priority": 3, "stage": false, "screen": false},
            "state": "live", "layer": {"spatial": 1}, "limit": "bandwidth", "needBps": 700_000, "haveBps": 400_000
        })
    );
    world.input(Input::Http { http: HttpId(6), request: question("ben") });
    world.advance(Duration::from_millis(1999));
    assert!(answered(&mut world).is_none());
    world.advance(Duration::from_millis(1));
    assert_eq!(failed(answered(&mut world).expect("an answer")), ErrorCode::Unavailable);
    world.input(Input::Http { http: HttpId(7), request: question("ben") });
    world.ok(ben, 9, "leave", json!({}));
    assert_eq!(failed(answered(&mut world).expect("an answer")), ErrorCode::NotFound, "nobody waits for who is gone");
    engine_answers(&mut world);
    assert!(answered(&mut world).is_none());
}

fn engine_answers(world: &mut World) {
    for (peer, token) in std::mem::take(&mut world.engine.stats) {
        let stats = Box::new(PeerStats { bytes_out: 77, ..PeerStats::default() });
        world.event(engine::Event::Stats { room: RoomId(7), peer, token, stats });
    }
    for (peer, token) in std::mem::take(&mut world.engine.questions) {
        let what = What::Probe { estimate_bps: 400_000, wanted_bps: 700_000 };
        let log = Box::new(DecisionLog { entries: vec![Decision { at_ms: 5, what }], allocations: vec![] });
        // What nobody asked changes nothing.
        world.event(engine::Event::Explained { room: RoomId(7), peer, token: token + 1, log: log.clone() });
        world.event(engine::Event::Explained { room: RoomId(7), peer, token, log: log.clone() });
        world.event(engine::Event::Explained { room: RoomId(7), peer, token, log });
    }
}
