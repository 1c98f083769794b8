//! How well connections do: what is told, when, and to whom.
use super::world::{World, brief_of, claims, settings};
use super::*;
use crate::engine;
use crate::engine::api::QualityWhy;
use serde_json::{Value, json};

const ROOM: RoomId = RoomId(7);

fn quality(world: &mut World, participant: u64, pc: Pc, score: u8, why: QualityWhy) {
    let peer = world.peer(ParticipantId(participant), pc);
    world.event(engine::Event::Quality { room: ROOM, peer, score, why });
}

/// The `quality` events that a socket was sent since the last time.
fn told(world: &mut World, socket: SocketId) -> Vec<Value> {
    let texts = world.read(socket);
    texts.into_iter().filter(|t| t["type"] == "quality").map(|t| t["data"].clone()).collect()
}

fn entry(participant: u64, up: u8, down: u8, why: &str) -> Value {
    json!({"participant": format!("p{participant}"), "up": up, "down": down, "why": why})
}

#[test]
fn changes_are_told_to_all_together_once_a_second() {
    let mut world = World::new(1);
    let (ann, ben) = (world.enter("Ann"), world.enter("Ben"));
    world.publish(ann, 2);
    world.subscribe(ann, 3, 1, 1);
    world.subscribe(ben, 2, 1, 1);
    quality(&mut world, 1, Pc::Pub, 5, QualityWhy::Good);
    assert_eq!(told(&mut world, ben), Vec::<Value>::new(), "nothing to wish for is no news");
    quality(&mut world, 1, Pc::Pub, 3, QualityWhy::Loss);
    assert_eq!(told(&mut world, ben), [json!([entry(1, 3, 5, "loss")])]);
    quality(&mut world, 1, Pc::Sub, 2, QualityWhy::Bandwidth);
    quality(&mut world, 2, Pc::Sub, 4, QualityWhy::Delay);
    quality(&mut world, 2, Pc::Sub, 1, QualityWhy::Loss);
    assert_eq!(told(&mut world, ben), Vec::<Value>::new());
    world.advance(Duration::from_secs(1));
    let both = json!([entry(1, 3, 2, "bandwidth"), entry(2, 5, 1, "loss")]);
    assert_eq!(told(&mut world, ben), std::slice::from_ref(&both));
    assert_eq!(told(&mut world, ann).pop(), Some(both), "oneself too");
    let (carl, welcome) = world.join(claims(None, "Carl"));
    assert_eq!(welcome["snapshot"]["quality"][0], entry(1, 3, 2, "bandwidth"));
    quality(&mut world, 1, Pc::Sub, 5, QualityWhy::Good);
    quality(&mut world, 1, Pc::Sub, 2, QualityWhy::Bandwidth);
    world.advance(Duration::from_secs(3));
    assert_eq!(told(&mut world, carl), Vec::<Value>::new(), "there and back is no news");
    // A network that is gone, and an association that is replaced.
    let peer = world.peer(ParticipantId(1), Pc::Sub);
    world.event(engine::Event::PeerDisconnected { room: ROOM, peer });
    assert_eq!(told(&mut world, carl), [json!([entry(1, 3, 0, "lost")])]);
    let sdp = super::world::slots_offer(77, 1, 1);
    world.ok(ann, 9, "negotiate", json!({"pc": "sub", "rev": 9, "sdp": sdp}));
    world.advance(Duration::from_secs(1));
    assert_eq!(told(&mut world, carl), [json!([entry(1, 3, 5, "loss")])]);
}

#[test]
fn in_a_large_room_what_concerns_a_silent_viewer_is_told_to_itself() {
    let mut settings = settings();
    settings.full_presence = 4;
    let mut world = World::with(1, settings);
    let sockets: Vec<_> = (0..7).map(|_| world.enter("Somebody")).collect();
    let (ann, silent) = (sockets[0], sockets[6]);
    world.subscribe(silent, 2, 1, 1);
    world.subscribe(ann, 2, 1, 1);
    sockets.iter().for_each(|socket| drop(world.read(*socket)));
    quality(&mut world, 7, Pc::Sub, 1, QualityWhy::Loss);
    assert_eq!(told(&mut world, silent), [json!([entry(7, 5, 1, "loss")])]);
    assert_eq!(told(&mut world, ann), Vec::<Value>::new());
    world.advance(Duration::from_secs(1));
    quality(&mut world, 1, Pc::Sub, 4, QualityWhy::Delay);
    assert_eq!(told(&mut world, silent), [json!([entry(1, 5, 4, "delay")])]);
    world.advance(Duration::from_secs(1));
    world.read(ann);
    world.ok(silent, 3, "say", json!({"topic": "chat", "body": "Hello"}));
    let texts = world.read(ann);
    assert_eq!(brief_of(&texts), ["participant.joined p7 live", "message p7 chat", "quality"]);
    assert_eq!(texts[2]["data"], json!([entry(7, 5, 1, "loss")]), "who comes onto the list is told of whole");
}
