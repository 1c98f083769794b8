//! WHIP and WHEP.
use super::world::{SIMULCAST, World, brief_of, claims, offer, slots_offer};
use super::*;
use crate::engine;
use crate::engine::api::PeerFailure;
use crate::room::messages::ErrorCode;
use serde_json::json;

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
