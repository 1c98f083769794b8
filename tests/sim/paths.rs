//! Networks that change or go away while a call goes on.
use crate::calls::microphone_and_camera;
use crate::world::{Sim, ms, secs, seeds};
use loadtest::client::participant::Pc;

fn call(seed: u64) -> Sim {
    let mut sim = Sim::new(seed).delay(ms(20));
    sim.join_many(2, &microphone_and_camera());
    sim.run_until(secs(3), "sound and picture", Sim::everybody_gets_everything);
    sim
}

fn both_see(sim: &Sim) -> bool {
    sim.sees(0, 1, "1") && sim.sees(1, 0, "1")
}

/// From Wi-Fi to mobile: the client nominates its new path, and media follows at once.
#[test]
fn another_address_is_followed() {
    let mut sim = call(400);
    let since = sim.now;
    for _ in 0..5 {
        sim.run(secs(3));
        sim.move_client(0);
    }
    sim.run(secs(10));
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(500));
    let gaps = sim.audio_gaps();
    assert!(gaps < 0.02, "{gaps}");
}

/// An ICE restart in the middle of a call is heard by nobody.
#[test]
fn an_ice_restart_is_not_noticed() {
    let mut sim = call(410);
    let since = sim.now;
    for round in 0..6 {
        for pc in Pc::BOTH {
            sim.with(round % 2, |p, now| p.restart_ice(now, pc));
        }
        sim.run(secs(3));
    }
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(100));
    assert_eq!(sim.audio_gaps(), 0.0);
}

/// A restart together with another address, while packets are lost.
#[test]
fn a_restart_elsewhere_on_a_bad_network() {
    for seed in seeds(420, 4) {
        let mut sim = Sim::new(seed).delay(ms(30)).loss(0.05);
        sim.join_many(2, &microphone_and_camera());
        sim.run_until(secs(10), "sound and picture", Sim::everybody_gets_everything);
        let since = sim.now;
        for _ in 0..4 {
            sim.move_client(0);
            Pc::BOTH.into_iter().for_each(|pc| sim.with(0, |p, now| p.restart_ice(now, pc)));
            sim.run(secs(4));
        }
        sim.assert_clean();
        sim.assert_no_freeze(since, secs(2));
    }
}

/// Twenty seconds without any network, the socket included: it heals by itself.
#[test]
fn an_outage_heals() {
    for (seed, moves) in [(430, false), (431, true)] {
        let mut sim = call(seed);
        sim.run(secs(2));
        sim.set_offline(0, true);
        sim.close_socket(0);
        sim.run(secs(20));
        let lost = |sim: &Sim| sim.client(1).participants.values().filter(|p| p["connection"] == "lost").count();
        assert_eq!(lost(&sim), 1, "the other one is told");
        sim.set_offline(0, false);
        if moves {
            sim.move_client(0);
        }
        sim.open_socket(0);
        let took = sim.run_until(secs(5), "the picture", both_see);
        assert!(took < secs(2), "{took:?}");
        let since = sim.now + ms(1);
        sim.run(secs(10));
        assert_eq!(lost(&sim), 0);
        sim.assert_clean();
        sim.assert_no_freeze(since, ms(300));
        assert_eq!(sim.client(1).events.get("participant.left"), None, "nobody has left");
    }
}

/// Forty seconds: the server has given the connections up, the session too. The client comes back as somebody new.
#[test]
fn a_long_outage_begins_anew() {
    let mut sim = call(440);
    sim.set_offline(0, true);
    sim.close_socket(0);
    sim.run(secs(45));
    assert_eq!((sim.room.participants(), sim.peers()), (1, 2));
    sim.set_offline(0, false);
    sim.open_socket(0);
    sim.run_until(secs(3), "sound and picture", both_see);
    sim.assert_clean();
}

/// Only the media is gone for longer than the server waits; the socket lives. The connections are built anew.
#[test]
fn media_that_was_blocked_for_long_comes_back() {
    let mut sim = call(450);
    sim.set_offline(0, true);
    sim.run(secs(45));
    sim.set_offline(0, false);
    sim.run_until(secs(30), "the picture", both_see);
    let since = sim.now + ms(1);
    sim.run(secs(5));
    sim.assert_clean();
    sim.assert_no_freeze(since, ms(300));
}

/// The socket alone breaks at every point of a session; media goes on, and nothing is lost of what was said.
#[test]
fn a_socket_that_breaks_at_any_point() {
    for cut in 0..45 {
        let mut sim = Sim::new(460 + cut).delay(ms(15));
        sim.join(&microphone_and_camera());
        sim.run(ms(200));
        sim.join(&microphone_and_camera());
        sim.run(ms(cut * 8));
        sim.close_socket(1);
        sim.run(ms(cut % 7 * 150));
        sim.open_socket(1);
        sim.run(ms(50));
        sim.with(1, |p, _| p.request("say", serde_json::json!({"topic": "chat", "body": "here"})));
        sim.run(ms(20));
        sim.close_socket(1);
        sim.run(ms(100));
        sim.open_socket(1);
        sim.run_until(secs(4), "sound and picture", Sim::everybody_gets_everything);
        sim.run(ms(500));
        sim.assert_clean();
        assert_eq!((sim.client(0).said, sim.client(1).said), (1, 1), "cut {cut}: said once");
    }
}
