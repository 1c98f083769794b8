//! Somebody who is in the room, has all keys, and lies about what he got and what he looks at: the others do not notice.
use crate::fitting::microphone_and_layers;
use crate::heap;
use crate::lies::{self, Claim};
use crate::world::{Sim, ms, secs};
use exedra::metrics::DropReason;
use exedra::rtp::Ssrc;
use loadtest::client::Feedback;
use loadtest::client::participant::Pc;
use serde_json::{Value, json};

/// The SSRC of a video slot of a client.
fn video_ssrc(sim: &Sim, client: usize) -> Ssrc {
    let slots = sim.client(client).subscriber.iter().flat_map(|s| &s.slots);
    let slot = slots.filter(|s| s.viewer().is_some()).find_map(|s| s.ssrc);
    slot.expect("a video slot")
}

/// A publisher, two honest viewers, and one who says what `lie` gives, fifty times in ten seconds. The honest ones see the top layer all the time.
fn among_the_honest(seed: u64, feedback: Feedback, lie: impl Fn(&Sim, u32, Ssrc) -> Vec<Vec<u8>>) -> Sim {
    let mut sim = Sim::new(seed);
    sim.join_to_publish(&microphone_and_layers());
    let honest = [sim.join(&[]), sim.join(&[])];
    let liar = sim.join_with(&[], |settings| settings.feedback = feedback);
    sim.run(secs(25));
    let top = |sim: &Sim, v: usize| sim.shown(v, 0, "1").is_some_and(|s| (s.encoding, s.temporal) == (2, 2));
    assert!(honest.iter().all(|v| top(&sim, *v)), "before the lies: {:?}", honest.map(|v| sim.shown(v, 0, "1")));
    let since = sim.now;
    let keyframes = |sim: &Sim| sim.client(0).publisher.as_ref().map_or(0, |p| p.stats.keyframes);
    let (before, media) = (keyframes(&sim), video_ssrc(&sim, liar));
    let mut live = Vec::new();
    for step in 0..50 {
        for compound in lie(&sim, step, media) {
            sim.with(liar, |p, _| p.send_rtcp(Pc::Sub, &compound));
        }
        sim.run(ms(200));
        assert!(honest.iter().all(|v| top(&sim, *v)), "{:?}", honest.map(|v| sim.shown(v, 0, "1")));
        live.push(heap::live());
    }
    sim.assert_clean();
    for v in honest {
        let viewer = sim.slot(v, 0, "1").and_then(|s| s.viewer()).expect("a slot");
        let freezes = viewer.freezes.iter().filter(|(at, _)| *at >= since).count();
        assert_eq!(freezes, 0, "viewer {v}");
    }
    // Everybody pays for keyframes: one liar gets no more than a few.
    let asked = keyframes(&sim) - before;
    println!("{asked} keyframes in ten seconds of lies; live bytes {:?} to {:?}", live[10], live[49]);
    assert!(asked <= 45, "{asked} keyframes");
    let growth =
        live[40..].iter().max().copied().unwrap_or_default() - live[10..20].iter().max().copied().unwrap_or_default();
    assert!(growth < 256 << 10, "{growth} bytes more at the end");
    sim
}

#[test]
fn feedback_of_what_was_never_sent() {
    for (seed, feedback) in [(600, Feedback::Nothing), (601, Feedback::TransportCc), (602, Feedback::Remb)] {
        let sim = among_the_honest(seed, feedback, |_, step, media| lies::at(step, media));
        let dropped = |reason| sim.dropped(reason);
        assert!(dropped(DropReason::RtcpMalformed) > 0, "counts beyond the packet");
        let named = [
            DropReason::FeedbackImpossible,
            DropReason::FeedbackStale,
            DropReason::FeedbackClock,
            DropReason::RembImplausible,
            DropReason::NackUnanswerable,
        ];
        println!("{:?}", named.map(|reason| (reason, dropped(reason))));
        assert!(dropped(DropReason::FeedbackImpossible) > 0 && dropped(DropReason::RembImplausible) > 0);
        assert!(dropped(DropReason::NackUnanswerable) > 0);
    }
}

/// Everything arrives at once, he says: he gets no more than there is, and harms only himself.
#[test]
fn somebody_who_claims_that_all_is_well() {
    let sim = among_the_honest(610, Feedback::Nothing, |_, step, media| {
        let claims = (0..200u16).map(|n| Claim {
            base: n.wrapping_mul(300),
            count: 300,
            reference: step as i32 * 3,
            feedback: step as u8,
            delta: Some(0),
        });
        claims.map(|claim| claim.write(Ssrc(1), media)).collect()
    });
    let bits = sim.received(3) as f64 * 8.0 / (sim.now - sim.start).as_secs_f64();
    assert!(bits < 6e6, "{bits:.0} bit/s: he is not flooded");
}

fn refused(sim: &Sim, client: usize) -> usize {
    sim.client(client).problems.iter().filter(|p| p.starts_with("refused")).count()
}

/// Views of what is not there, or cannot be.
#[test]
fn views_that_cannot_be() {
    let mut sim = Sim::new(620);
    sim.join_to_publish(&microphone_and_layers());
    let honest = sim.join(&[]);
    let liar = sim.join(&[]);
    sim.run_until(secs(3), "pictures", |sim| sim.sees(honest, 0, "1") && sim.sees(liar, 0, "1"));
    sim.run(secs(15));
    let since = sim.now;
    let many = |n: usize| -> Value {
        let tracks: serde_json::Map<_, _> =
            (0..n).map(|t| (format!("t{}", 1_000 + t), json!({"w": 640, "h": 360}))).collect();
        tracks.into()
    };
    let track = sim.client(0).own["1"].clone();
    let taken = [
        json!({"tracks": {}, "lastN": 0}),
        json!({"tracks": many(1_000)}),
        json!({"tracks": {&track: {"w": 16_384, "h": 65_535, "priority": i32::MIN}}}),
        json!({"tracks": {&track: {"w": 1, "h": 1, "fps": 0.001, "priority": i32::MAX}}}),
        json!({"tracks": {&track: {"w": 0, "h": 0}}, "follow": "p999"}),
        json!({"tracks": {&track: {"w": 640, "h": 360, "paused": true}}, "follow": "speaker", "audioN": 65_535, "lastN": 65_535}),
    ];
    for view in taken {
        sim.with(liar, |p, _| p.request("view", view.clone()));
        sim.run(ms(300));
        assert_eq!(refused(&sim, liar), 0, "{view}: {:?}", sim.client(liar).problems);
    }
    let refusals = [
        json!({"tracks": many(1_025)}),
        json!({"tracks": {"": {"w": 1, "h": 1}}}),
        json!({"tracks": {}, "follow": "nobody"}),
        json!({"tracks": {"x".repeat(4_000): {"w": 1, "h": 1}}}),
    ];
    for (n, view) in refusals.into_iter().enumerate() {
        sim.with(liar, |p, _| p.request("view", view));
        sim.run(ms(300));
        assert_eq!(refused(&sim, liar), n + 1, "refusal {n}: {:?}", sim.client(liar).problems);
    }
    // Faster than anybody scrolls.
    for round in 0..300u16 {
        let size = 1 + round * 7 % 1_280;
        sim.with(liar, |p, _| p.request("view", json!({"tracks": {&track: {"w": size, "h": size}}})));
        sim.run(ms(5));
    }
    sim.run(secs(2));
    sim.with(liar, |p, _| p.request("view", json!({"tracks": {&track: {"w": 1_280, "h": 720}}})));
    sim.run_until(secs(8), "the liar's picture", |sim| sim.sees(liar, 0, "1"));
    let viewer = sim.slot(honest, 0, "1").and_then(|s| s.viewer()).expect("a slot");
    let freezes: Vec<_> = viewer.freezes.iter().filter(|(at, _)| *at >= since).collect();
    assert!(freezes.is_empty(), "{freezes:?}");
    let mut faults: Vec<String> = sim.client(honest).faults();
    faults.extend(sim.client(0).faults());
    assert!(faults.is_empty(), "{faults:?}");
}
