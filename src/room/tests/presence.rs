//! Who is told of whom: everybody of everybody in a small room; in a large one of those who do something.
use super::world::{World, brief_of, claims, settings};
use super::*;
use crate::engine;
use crate::engine::api::Speaker;
use serde_json::{Value, json};

/// A room that is large from the fifth participant on, and small again with three.
fn world() -> World {
    let mut settings = settings();
    settings.full_presence = 4;
    World::with(1, settings)
}

fn ids(participants: &Value) -> Vec<&str> {
    participants.as_array().into_iter().flatten().filter_map(|p| p["participant"].as_str()).collect()
}

/// Joins that many, and reads away what that made of events.
fn crowd(world: &mut World, count: usize) -> Vec<SocketId> {
    let sockets: Vec<_> = (0..count).map(|_| world.enter("Somebody")).collect();
    world.advance(Duration::from_secs(2));
    sockets.iter().for_each(|socket| drop(world.read(*socket)));
    sockets
}

#[test]
fn in_a_large_room_those_who_only_watch_are_counted() {
    let mut world = world();
    let ann = world.enter("Ann");
    for n in 2..=4 {
        world.enter("Somebody");
        assert_eq!(brief_of(&world.read(ann)), [format!("participant.joined p{n} live")]);
    }
    let (_, welcome) = world.join(claims(None, "Silent"));
    let told = world.read(ann);
    assert_eq!(brief_of(&told), ["room.updated"], "at once when the room becomes large");
    assert_eq!(told[0]["data"]["participants"], json!({"total": 5, "viewers": 5}));
    assert_eq!(ids(&welcome["snapshot"]["participants"]), ["p1", "p2", "p3", "p4", "p5"], "the list, and oneself");
    let (late, welcome) = world.join(claims(None, "Silent"));
    assert_eq!(ids(&welcome["snapshot"]["participants"]), ["p1", "p2", "p3", "p4", "p6"]);
    assert_eq!(welcome["snapshot"]["room"]["participants"], json!({"total": 5, "viewers": 5}), "as told last");
    world.ok(late, 2, "leave", json!({}));
    world.enter("Silent");
    world.enter("Silent");
    assert_eq!(brief_of(&world.read(ann)), Vec::<String>::new(), "not more than once a second");
    world.advance(Duration::from_secs(1));
    let told = world.read(ann);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["data"]["participants"]["total"], 7);
    world.advance(Duration::from_secs(1));
    assert_eq!(brief_of(&world.read(ann)), Vec::<String>::new(), "nothing has changed");
}

#[test]
fn who_does_something_for_all_to_see_is_told_before_it() {
    for (kind, data, then) in [
        ("set", json!({"attributes": {"hand": true}}), vec![]),
        ("say", json!({"topic": "chat", "body": "Hello"}), vec!["message p7 chat"]),
    ] {
        let mut world = world();
        let sockets = crowd(&mut world, 7);
        let (ann, silent) = (sockets[0], sockets[6]);
        let (_, own) = world.ask(silent, 2, kind, data);
        let told = world.read(ann);
        let pushed_out = "participant.left p1 unlisted";
        assert_eq!(brief_of(&told[..1]), ["participant.joined p7 live"]);
        assert_eq!(brief_of(&told[1..]), then, "p1 itself is not told that it left the list");
        assert_eq!(
            brief_of(&world.read(sockets[1])),
            [vec!["participant.joined p7 live", pushed_out], then.clone()].concat()
        );
        let itself = if kind == "set" {
            vec![pushed_out, "participant.updated p7 live"]
        } else {
            [vec![pushed_out], then].concat()
        };
        assert_eq!(brief_of(&own), itself, "it knows itself");
        let (_, welcome) = world.join(claims(None, "Late"));
        assert_eq!(ids(&welcome["snapshot"]["participants"]), ["p2", "p3", "p4", "p7", "p8"]);
    }
    let mut world = world();
    let sockets = crowd(&mut world, 7);
    world.publish(sockets[6], 2);
    assert_eq!(
        brief_of(&world.read(sockets[0])),
        ["participant.joined p7 live", "track.published p7 t1 false", "track.published p7 t2 false", "room.updated"],
        "who publishes takes nobody's place"
    );
    let (_, welcome) =
        world.join(Claims { grants: Grants { moderate: true, ..Grants::default() }, ..claims(None, "Mo") });
    assert_eq!(brief_of(&world.read(sockets[0])), ["participant.joined p8 live"], "and so does who moderates");
    assert_eq!(ids(&welcome["snapshot"]["participants"]), ["p1", "p2", "p3", "p4", "p7", "p8"]);
}

#[test]
fn a_raised_hand_stays_on_the_list_longer_than_a_word() {
    let mut world = world();
    let sockets = crowd(&mut world, 9);
    world.ok(sockets[4], 2, "set", json!({"attributes": {"hand": true}}));
    for socket in &sockets[5..] {
        world.ok(*socket, 2, "say", json!({"topic": "chat", "body": "Hello"}));
    }
    let list = |world: &mut World| ids(&world.join(claims(None, "Late")).1["snapshot"]["participants"])[..4].join(" ");
    assert_eq!(list(&mut world), "p5 p7 p8 p9");
    world.ok(sockets[4], 3, "set", json!({"attributes": {"hand": null}}));
    world.ok(sockets[6], 4, "say", json!({"topic": "chat", "body": "Again"}));
    world.ok(sockets[0], 2, "say", json!({"topic": "chat", "body": "Me too"}));
    assert_eq!(list(&mut world), "p1 p5 p7 p9", "p8 was silent the longest");
}

#[test]
fn what_concerns_a_silent_viewer_is_told_to_itself_only() {
    let mut world = world();
    let sockets = crowd(&mut world, 6);
    let (ann, silent) = (sockets[0], sockets[5]);
    let (_, own) = world.ask(silent, 2, "set", json!({"name": "Otto"}));
    assert_eq!(brief_of(&own), ["participant.updated p6 live"]);
    let (_, own) = world.ask(silent, 3, "say", json!({"topic": "chat", "body": "psst", "to": ["p2"]}));
    assert_eq!(brief_of(&own), ["message p6 chat"]);
    assert_eq!(brief_of(&world.read(ann)), Vec::<String>::new());
    let heard = world.read(sockets[1]);
    assert_eq!(brief_of(&heard), ["message p6 chat"]);
    assert_eq!(heard[0]["data"]["from"]["name"], "Otto", "who is known to nobody says who it is");
    world.ok(ann, 2, "say", json!({"topic": "chat", "body": "yes?", "to": ["p6"]}));
    let heard = world.read(silent);
    assert_eq!(heard[0]["data"].get("from"), None);
    world.input(Input::SocketClosed { socket: silent });
    world.advance(Duration::from_secs(31));
    let told = brief_of(&world.read(ann));
    assert!(told.iter().all(|t| !t.contains("p6")), "{told:?}");
}

#[test]
fn a_room_that_becomes_small_again_is_told_everybody() {
    let mut world = world();
    let sockets = crowd(&mut world, 6);
    for socket in &sockets[1..3] {
        world.ok(*socket, 2, "leave", json!({}));
    }
    assert_eq!(
        brief_of(&world.read(sockets[0])),
        ["participant.left p2 left", "room.updated", "participant.left p3 left"]
    );
    world.ok(sockets[3], 2, "leave", json!({}));
    world.advance(Duration::from_secs(1));
    let told = world.read(sockets[0]);
    assert_eq!(
        brief_of(&told),
        ["participant.left p4 left", "participant.joined p5 live", "participant.joined p6 live", "room.updated"]
    );
    assert_eq!(told[3]["data"].get("participants"), None);
    world.enter("Somebody");
    assert_eq!(brief_of(&world.read(sockets[0])), ["participant.joined p7 live"]);
}

#[test]
fn everybody_is_found_page_by_page() {
    let mut world = world();
    let sockets = crowd(&mut world, 12);
    let mut found = Vec::new();
    let mut after = Value::Null;
    for request in 2.. {
        let page = world.ok(sockets[0], request, "participants", json!({"after": after, "limit": 5}));
        found.extend(ids(&page["participants"]).into_iter().map(str::to_owned));
        assert_eq!(page["total"], 12);
        match page.get("next") {
            Some(next) => after = next.clone(),
            None => break,
        }
    }
    assert_eq!(found, (1..=12).map(|n| format!("p{n}")).collect::<Vec<_>>());
    let page = world.ok(sockets[0], 90, "participants", json!({}));
    assert_eq!(ids(&page["participants"]).len(), 12);
    let page = world.ok(sockets[0], 91, "participants", json!({"after": "p99", "limit": 0}));
    assert_eq!(page, json!({"participants": [], "total": 12}));
    let (answer, _) = world.ask(sockets[0], 92, "participants", json!({"after": "t1"}));
    assert_eq!(answer["error"]["code"], "bad_request");
}

#[test]
fn levels_are_told_more_rarely_the_more_hear_them() {
    let mut settings = settings();
    settings.full_presence = 4;
    settings.limits.participants = 700;
    let mut world = World::with(1, settings);
    let ann = world.enter("Ann");
    let [microphone, _] = world.publish(ann, 2);
    for _ in 0..599 {
        world.enter("Somebody");
    }
    world.advance(Duration::from_secs(2));
    world.read(ann);
    let mut told = Vec::new();
    for level in 0..8 {
        let speakers = vec![Speaker { track: microphone, level: 30 + level }];
        world.event(engine::Event::Speakers { room: RoomId(7), speakers });
        told.extend(world.read(ann));
        world.advance(Duration::from_millis(50));
        told.extend(world.read(ann));
    }
    world.event(engine::Event::Speakers { room: RoomId(7), speakers: vec![] });
    world.advance(Duration::from_millis(200));
    told.extend(world.read(ann));
    told.retain(|t| t["type"] == "speakers");
    // 600 hear it: every 200 ms.
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(told[3]["data"], json!([]), "the last is always told");
}
