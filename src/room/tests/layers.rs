//! How tracks are looked at, what is asked of their publishers, and what their viewers are told of it.
use super::world::{SIMULCAST, World, brief_of, claims, offer};
use super::*;
use crate::engine;
use crate::engine::api::{ChosenLayer, Limit, SlotReport, SlotState};
use crate::ids::{Mid, Rid};
use crate::rtp::Codec;
use serde_json::{Value, json};

const ROOM: RoomId = RoomId(7);
const CAMERA: TrackId = TrackId(2);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
fn rid(name: &str) -> Rid {
    Rid::try_from(name).expect("a rid")
}

/// The `publish.layers` that a socket was sent since the last time.
fn layers(world: &mut World, socket: SocketId) -> Vec<Value> {
    let texts = world.read(socket);
    texts.into_iter().filter(|t| t["type"] == "publish.layers").map(|t| t["data"].clone()).collect()
}

/// Ann publishes microphone t1 and camera t2, Ben has two slots of each kind.
fn two() -> (World, SocketId, SocketId) {
    let mut world = World::new(1);
    let (ann, ben) = (world.enter("Ann"), world.enter("Ben"));
    world.publish(ann, 2);
    world.subscribe(ben, 2, 2, 2);
    world.read(ann);
    world.read(ben);
    world.engine.log.clear();
    (world, ann, ben)
}

/// Nobody is to be thought dead meanwhile.
fn wait(world: &mut World, sockets: &[SocketId], time: Duration) {
    let end = world.now + time;
    while world.now < end {
        world.advance(secs(1).min(end.duration_since(world.now)));
        sockets.iter().for_each(|socket| world.input(Input::Pong { socket: *socket }));
    }
}

#[test]
fn a_view_says_how_slots_are_looked_at() {
    let (mut world, _, ben) = two();
    let steps = [
        (json!({"tracks": {"t2": {"w": 640, "h": 360}}}), vec!["bind c2 v0 t2 640x360"]),
        (json!({"tracks": {"t2": {"w": 640, "h": 360}}}), vec![]),
        (
            json!({"tracks": {"t2": {"w": 320, "h": 180, "fps": 15, "priority": 2}}}),
            vec!["bind c2 v0 t2 320x180@15 +2"],
        ),
        (json!({"tracks": {"t2": {"w": 320, "h": 0, "fps": -1}, "t1": {"w": 9, "h": 9}}}), vec!["bind c2 v0 t2"]),
        (json!({"tracks": {"t2": {"w": 0, "h": 0, "fps": 1e300}}}), vec![]),
        (json!({"tracks": {"t2": {"w": 99, "h": 99}}, "follow": "p1"}), vec!["bind c2 v0 t2 99x99 stage"]),
        (json!({"follow": "p1"}), vec!["bind c2 v0 t2 stage"]),
        (json!({"lastN": 3}), vec!["bind c2 v0 t2"]),
        (json!({"tracks": {"t2": {"paused": true}, "t777": {"w": 65535, "h": 65535}}}), vec!["bind c2 v0 -"]),
        (json!({"tracks": {"t2": {"w": 16, "h": 9}}}), vec!["bind c2 v0 t2 16x9"]),
    ];
    for (id, (view, commands)) in (10..).zip(steps) {
        world.ok(ben, id, "view", view.clone());
        assert_eq!(std::mem::take(&mut world.engine.log), commands, "{view}");
    }
    // Another connection is told all of it.
    let sdp = super::world::slots_offer(2, 2, 2);
    world.ok(ben, 30, "negotiate", json!({"pc": "sub", "rev": 30, "sdp": sdp}));
    assert_eq!(world.engine.log, ["remove c2", "add c3", "bind c3 a0 t1", "bind c3 v0 t2 16x9"]);
}

#[test]
fn a_screen_is_looked_at_as_one() {
    let (mut world, ann, ben) = two();
    let sdp = offer(1, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST), ("video", "2", "a=sendonly")]);
    let tracks = json!([{"mid": "2", "source": "screen"}]);
    world.ok(ann, 3, "negotiate", json!({"pc": "pub", "rev": 3, "sdp": sdp, "tracks": tracks}));
    assert_eq!(world.engine.log, ["update c1", "publish t3 c1 2", "bind c2 v1 t3 screen"]);
    world.engine.log.clear();
    world.ok(ben, 3, "view", json!({"tracks": {"t3": {"w": 1920, "h": 1080}}, "lastN": 1}));
    assert_eq!(world.engine.log, ["bind c2 v1 t3 1920x1080 screen"]);
    let sdp = super::world::slots_offer(9, 1, 1);
    let claims = claims(None, "Viewer");
    let request = HttpRequest::Create { kind: HttpKind::Whep, sdp, claims, whep_of: None };
    world.input(Input::Http { http: HttpId(1), request });
    assert_eq!(world.engine.log[2..], ["bind c3 a0 t1", "bind c3 v0 t3 stage screen"], "who plays has a stage only");
}

fn report(state: SlotState, limit: Limit, layer: Option<(&str, u8)>, bps: Option<(u64, u64)>) -> SlotReport {
    let layer = layer.map(|(name, t)| ChosenLayer { rid: Some(rid(name)), spatial: None, temporal: Some(t) });
    SlotReport { state, layer, limit, need_bps: bps.map(|b| b.0), have_bps: bps.map(|b| b.1) }
}

#[test]
fn a_state_says_what_is_seen_and_what_is_missing() {
    use Limit::{Bandwidth, Publisher, View};
    use SlotState::{Live, Paused};
    let (mut world, _, ben) = two();
    let peer = world.peer(ParticipantId(2), Pc::Sub);
    let mut step = |after: u64, report| {
        world.advance(ms(after));
        let mid = Mid::try_from("v0").expect("a mid");
        world.event(engine::Event::SlotState { room: ROOM, peer, mid, track: CAMERA, report });
        let mut told: Vec<Value> = world.read(ben).into_iter().filter(|t| t["type"] == "track.state").collect();
        assert!(told.len() < 2, "{told:?}");
        told.pop().map_or(Value::Null, |t| t["data"].clone())
    };
    let q = Some(("q", 1));
    let live = |layer: Value, why: &str| json!({"track": "t2", "state": "live", "layer": layer, "why": why});
    let (low, high) = (json!({"rid": "q", "temporal": 1}), json!({"rid": "f", "temporal": 2}));
    assert_eq!(step(0, report(Live, Publisher, q, None)), live(low.clone(), "lastN"));
    assert_eq!(step(500, report(Live, View, q, None)), Value::Null, "details a second later");
    assert_eq!(step(500, report(Live, View, q, None)), live(low.clone(), "view"));
    let mut short = live(low, "bandwidth");
    (short["needBps"], short["haveBps"]) = (json!(500_000), json!(300_000));
    assert_eq!(step(1000, report(Live, Bandwidth, q, Some((500_000, 300_000)))), short);
    assert_eq!(step(5000, report(Live, Bandwidth, q, Some((540_000, 280_000)))), Value::Null, "a tenth is no news");
    short["needBps"] = json!(560_000);
    assert_eq!(step(0, report(Live, Bandwidth, q, Some((560_000, 300_000)))), short);
    let paused = json!({"track": "t2", "state": "paused", "why": "bandwidth", "needBps": 90_000, "haveBps": 40_000});
    assert_eq!(step(10, report(Paused, Bandwidth, None, Some((90_000, 40_000)))), paused, "at once");
    assert_eq!(step(10, report(Live, Publisher, Some(("f", 2)), None)), live(high, "lastN"), "at once");
    assert_eq!(step(10, report(Live, Publisher, q, None)), Value::Null);
    assert_eq!(step(10, report(Live, Publisher, Some(("f", 2)), None)), Value::Null);
    let tracks = world.join(claims(None, "Carl")).1["snapshot"]["states"].clone();
    assert_eq!(tracks, json!([]), "what Ben gets is Ben's");
    world.input(Input::Pong { socket: ben });
    world.advance(secs(4));
    assert_eq!(world.read(ben).iter().filter(|t| t["type"] == "track.state").count(), 0, "there and back is no news");
}

#[test]
fn what_is_put_off_is_told_in_the_end() {
    let (mut world, _, ben) = two();
    let peer = world.peer(ParticipantId(2), Pc::Sub);
    for n in 0..40 {
        let name = ["q", "f"][n % 2];
        let report = report(SlotState::Live, Limit::Publisher, Some((name, 0)), None);
        let mid = Mid::try_from("v0").expect("a mid");
        world.event(engine::Event::SlotState { room: ROOM, peer, mid, track: CAMERA, report });
        world.advance(ms(130));
        world.input(Input::Pong { socket: ben });
    }
    world.advance(secs(1));
    let told = world.read(ben);
    let told: Vec<&Value> = told.iter().filter(|t| t["type"] == "track.state").collect();
    assert!((4..=7).contains(&told.len()), "5.2 s, once a second: {told:?}");
    assert_eq!(told.last().map(|t| &t["data"]["layer"]["rid"]), Some(&json!("f")), "the truth comes last");
}

#[test]
fn what_nobody_watches_is_not_sent_and_comes_back_at_once() {
    let mut world = World::new(1);
    let (ann, ben) = (world.enter("Ann"), world.enter("Ben"));
    world.publish(ann, 2);
    world.read(ann);
    world.advance(Duration::from_millis(4999));
    assert_eq!(world.read(ann), Vec::<Value>::new());
    world.advance(Duration::from_millis(1));
    assert_eq!(layers(&mut world, ann), [json!({"track": "t2", "wanted": [], "active": false})]);
    world.subscribe(ben, 2, 2, 2);
    assert_eq!(layers(&mut world, ann), [json!({"track": "t2", "wanted": ["q", "f"], "active": true})]);
    world.ok(ben, 9, "view", json!({"lastN": 0}));
    world.input(Input::Pong { socket: ann });
    world.advance(secs(5));
    assert_eq!(layers(&mut world, ann), [json!({"track": "t2", "wanted": [], "active": false})]);
    world.enter("Carl");
    assert_eq!(layers(&mut world, ann).len(), 1, "in time for a newcomer");
    world.advance(secs(4));
    world.input(Input::Pong { socket: ann });
    world.input(Input::Pong { socket: ben });
    world.advance(secs(1));
    assert_eq!(layers(&mut world, ann).len(), 1, "who does not watch after all");
    world.ok(ben, 10, "view", json!({"lastN": 1}));
    world.read(ann);
    world.ok(ben, 3, "view", json!({"lastN": 0}));
    world.advance(secs(3));
    world.ok(ben, 4, "view", json!({"lastN": 1}));
    world.advance(secs(4));
    assert_eq!(layers(&mut world, ann), Vec::<Value>::new(), "3 s unwatched are nothing");
}

#[test]
fn only_what_is_of_use_is_asked_for() {
    let (mut world, ann, ben) = two();
    let wanted = |world: &mut World, names: &str| {
        let rids = names.split_whitespace().map(rid).collect();
        world.event(engine::Event::TrackWanted { room: ROOM, track: CAMERA, rids });
    };
    let asked = |names: &str| {
        let names: Vec<&str> = names.split_whitespace().collect();
        vec![json!({"track": "t2", "active": !names.is_empty(), "wanted": names})]
    };
    let all = [ann, ben];
    wanted(&mut world, "q");
    wait(&mut world, &all, ms(4999));
    assert_eq!(layers(&mut world, ann), Vec::<Value>::new());
    wait(&mut world, &all, ms(1));
    assert_eq!(layers(&mut world, ann), asked("q"));
    wanted(&mut world, "q f");
    assert_eq!(layers(&mut world, ann), asked("q f"), "at once");
    wanted(&mut world, "q");
    wait(&mut world, &all, secs(4));
    wanted(&mut world, "q f x");
    wait(&mut world, &all, secs(6));
    assert_eq!(layers(&mut world, ann), Vec::<Value>::new(), "somebody looked elsewhere for a moment");
    wanted(&mut world, "q");
    wait(&mut world, &all, secs(5));
    assert_eq!(layers(&mut world, ann), asked("q"));
    // A resume is told by the snapshot, and another connection begins with all.
    let (session, secret) = world.session(ann);
    let socket = world.socket();
    let resume = json!({"resume": {"session": session, "secret": secret, "seq": 0}});
    world.input(Input::SocketClosed { socket: ann });
    world.hello(socket, resume, claims(None, "Ann"));
    let ann = socket;
    assert_eq!(layers(&mut world, ann).pop(), asked("q").pop());
    let participant = &world.room.participants[&ParticipantId(1)];
    let snapshot = serde_json::to_value(world.room.snapshot(participant)).expect("JSON");
    assert_eq!(snapshot["layers"], json!(asked("q")));
    let sdp = offer(2, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST)]);
    world.ok(ann, 9, "negotiate", json!({"pc": "pub", "rev": 9, "sdp": sdp}));
    let participant = &world.room.participants[&ParticipantId(1)];
    let snapshot = serde_json::to_value(world.room.snapshot(participant)).expect("JSON");
    assert_eq!(snapshot["layers"], json!(asked("q f")));
    wanted(&mut world, "q");
    wanted(&mut world, "f");
    wait(&mut world, &[ann, ben], secs(5));
    assert_eq!(layers(&mut world, ann), asked("f"));
}

#[test]
fn one_encoding_stops_too_and_its_silence_is_no_news() {
    let (mut world, ann, ben) = two();
    let sdp = offer(1, &[("audio", "0", "a=sendonly"), ("video", "1", SIMULCAST), ("video", "2", "a=sendonly")]);
    let tracks = json!([{"mid": "2", "source": "screen"}]);
    world.ok(ann, 3, "negotiate", json!({"pc": "pub", "rev": 3, "sdp": sdp, "tracks": tracks}));
    let (track, all) = (TrackId(3), [ann, ben]);
    let live = engine::Event::TrackLive { room: ROOM, track, codec: Codec::Vp8, encodings: vec![] };
    world.event(live.clone());
    world.ok(ben, 3, "view", json!({"tracks": {"t2": {"w": 640, "h": 360}}}));
    wait(&mut world, &all, secs(5));
    assert_eq!(layers(&mut world, ann), [json!({"track": "t3", "wanted": [], "active": false})]);
    world.event(engine::Event::TrackStalled { room: ROOM, track });
    world.read(ben);
    let (_, events) = world.ask(ben, 4, "view", json!({"tracks": {"t3": {"w": 640, "h": 360}}}));
    assert_eq!(layers(&mut world, ann), [json!({"track": "t3", "wanted": [], "active": true})]);
    assert_eq!(brief_of(&events), ["slot.bind null v0 view", "slot.bind t3 v1 view"], "nothing of its silence");
    let carl = world.enter("Carl");
    let events = world.subscribe(carl, 2, 2, 2);
    assert!(brief_of(&events).iter().all(|t| t.starts_with("slot")), "it has a moment to come: {events:?}");
    world.event(live);
    assert_eq!(brief_of(&world.read(carl)), Vec::<String>::new());
    world.event(engine::Event::TrackStalled { room: ROOM, track });
    assert_eq!(brief_of(&world.read(carl)), ["track.state t3 paused publisher"], "it is asked for, so this is news");
}

#[test]
fn who_does_not_send_again_is_told_of_after_a_moment() {
    let (mut world, ann, ben) = two();
    let all = [ann, ben];
    world.event(engine::Event::TrackLive { room: ROOM, track: CAMERA, codec: Codec::Vp8, encodings: vec![] });
    world.ok(ben, 3, "view", json!({}));
    wait(&mut world, &all, secs(5));
    world.event(engine::Event::TrackStalled { room: ROOM, track: CAMERA });
    let carl = world.enter("Carl");
    world.subscribe(carl, 2, 2, 2);
    wait(&mut world, &[ann, ben, carl], ms(2999));
    assert_eq!(brief_of(&world.read(carl)), Vec::<String>::new());
    wait(&mut world, &[ann, ben, carl], ms(1));
    assert_eq!(brief_of(&world.read(carl)), ["track.state t2 paused publisher"]);
}

#[test]
fn who_publishes_over_http_is_asked_for_nothing() {
    let mut world = World::new(1);
    let ann = world.enter("Ann");
    let sdp = offer(1, &[("video", "0", SIMULCAST)]);
    let request = HttpRequest::Create { kind: HttpKind::Whip, sdp, claims: claims(None, "Cam"), whep_of: None };
    world.input(Input::Http { http: HttpId(1), request });
    wait(&mut world, &[ann], secs(20));
    world.event(engine::Event::TrackStalled { room: ROOM, track: TrackId(1) });
    world.read(ann);
    let events = world.subscribe(ann, 2, 1, 1);
    assert_eq!(brief_of(&events), ["slot.bind t1 v0 lastN", "track.state t1 paused publisher"]);
}
