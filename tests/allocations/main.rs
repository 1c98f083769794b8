//! What the packet path allocates in the steady state: nothing, whatever kind of packet it is.
//!
//! `cargo test --test allocations -- --nocapture` shows a line for each kind of packet; what allocates is told with its callers.
mod heap;

use exedra::engine::{Path, Sink};
use exedra::peer::srtp::{self, SrtpProfile, SsrcState};
use exedra::rtp::{Kind, SeqNo, Ssrc, TwccRecorder, rtcp};
use loadtest::rig::{Collecting, Counting, FRAME, Rig, RigPlan, slot_ssrc};
use std::time::Duration;

/// Turns that are watched, of each kind; and those before, in which queues get the length that they keep.
const TURNS: usize = 40;
const WARM: usize = 25;

const CHECKS: &str = "consent checks of everybody";

/// What some turns of the engine allocated.
struct Watched<'a> {
    kind: &'a str,
    allocations: u64,
    /// What may be allocated: for what is not a packet's.
    allowed: u64,
}

/// A call, and what was seen in it.
struct Bench {
    rig: Rig,
    seen: Vec<Watched<'static>>,
}

impl Bench {
    fn new(plan: RigPlan) -> Self {
        let rig = Rig::new(plan).expect("a connected call");
        Self { rig, seen: Vec::new() }
    }

    /// Watches `TURNS` turns of the engine. `prepare` makes what arrives in one turn, and may lose what it likes.
    fn watch(&mut self, kind: &'static str, prepare: impl Fn(&mut Rig) -> Vec<(Path, Vec<u8>)>) {
        let (mut allocations, mut datagrams) = (0, 0);
        let mut sink = Counting::default();
        for turn in 0..WARM + TURNS {
            let arrived = prepare(&mut self.rig);
            if turn == WARM {
                (allocations, datagrams, sink) = (0, 0, Counting::default());
                heap::callers();
            }
            datagrams += arrived.len();
            let ((), count) = heap::watch(|| deliver(&mut self.rig, &arrived, &mut sink));
            allocations += count;
            // Not the packet's own: events are for the room.
            self.rig.drop_events();
            self.rig.advance(FRAME, &mut Counting::default());
        }
        // The answer to a check is a vector: one a peer in two and a half seconds.
        let allowed = if kind == CHECKS { datagrams as u64 } else { 0 };
        self.note(kind, (allocations, allowed), datagrams, sink);
    }

    /// Watches the timers of `TURNS` frames.
    fn watch_timers(&mut self, kind: &'static str, step: Duration, media: impl Fn(&mut Rig) -> Vec<Vec<u8>>) {
        let (mut allocations, mut told) = (0, 0);
        let mut sink = Counting::default();
        for turn in 0..WARM + TURNS {
            if turn == WARM {
                (allocations, told, sink) = (0, 0, Counting::default());
                heap::callers();
            }
            let media = media(&mut self.rig);
            self.rig.deliver(&media, &mut Counting::default());
            self.rig.drop_events();
            self.rig.now += step;
            let ((), count) = heap::watch(|| self.rig.run_timers(&mut sink));
            allocations += count;
            // An event that tells who speaks owns the list.
            let before = self.rig.events;
            self.rig.drop_events();
            told += self.rig.events - before;
            self.rig.advance(Duration::ZERO, &mut Counting::default());
        }
        self.note(kind, (allocations, told), 0, sink);
    }

    fn note(&mut self, kind: &'static str, (allocations, allowed): (u64, u64), datagrams: usize, sink: Counting) {
        let callers = heap::callers();
        let subscribers = self.rig.subscribers.len();
        println!(
            "{subscribers:>5} subscribers, {kind:<34} {datagrams:>6} in {:>7} out {allocations:>6} allocations",
            sink.datagrams
        );
        callers.iter().for_each(|(frames, times)| println!("  {times} of the first:\n{frames}"));
        self.seen.push(Watched { kind, allocations, allowed });
    }

    fn assert_none(&self) {
        let guilty = self.seen.iter().filter(|w| w.allocations > w.allowed);
        let guilty: Vec<_> = guilty.map(|w| (w.kind, w.allocations, w.allowed)).collect();
        assert!(guilty.is_empty(), "in {TURNS} turns (kind, allocations, allowed): {guilty:?}");
    }
}

fn deliver(rig: &mut Rig, datagrams: &[(Path, Vec<u8>)], sink: &mut impl Sink) {
    for (path, datagram) in datagrams {
        rig.engine.handle_datagram(rig.now, *path, datagram);
    }
    rig.engine.flush(rig.now, sink);
}

fn from_publisher(rig: &Rig, datagrams: impl IntoIterator<Item = Vec<u8>>) -> Vec<(Path, Vec<u8>)> {
    datagrams.into_iter().map(|d| (rig.publisher_path(), d)).collect()
}

fn video(rig: &mut Rig) -> Vec<(Path, Vec<u8>)> {
    let frame = rig.publisher.video_frame(false);
    from_publisher(rig, frame)
}

/// A NACK for a whole frame, which was delivered before.
fn nack(rig: &mut Rig) -> Vec<(Path, Vec<u8>)> {
    let mut sink = Collecting::default();
    let frame = rig.publisher.video_frame(false);
    rig.deliver(&frame, &mut sink);
    let sequences = sink.sequences(slot_ssrc(0, Kind::Video));
    vec![rig.nack(0, &sequences)]
}

/// Transport-wide feedback of a subscriber.
fn feedback_in(rig: &mut Rig) -> Vec<(Path, Vec<u8>)> {
    let mut recorder = TwccRecorder::new();
    (0..50).for_each(|seq| recorder.record(rig.now, seq));
    let mut compound = Vec::new();
    rtcp::write_receiver_report(&mut compound, Ssrc(1), &[]);
    recorder.build_feedback(rig.now + Duration::from_millis(60), Ssrc(1), Ssrc(2), &mut compound);
    vec![rig.rtcp_of(0, &compound)]
}

fn keyframe_request(rig: &mut Rig) -> Vec<(Path, Vec<u8>)> {
    let mut compound = Vec::new();
    rtcp::write_receiver_report(&mut compound, Ssrc(1), &[]);
    rtcp::write_pli(&mut compound, Ssrc(1), slot_ssrc(0, Kind::Video));
    vec![rig.rtcp_of(0, &compound)]
}

/// Every kind of packet, in and out.
fn every_kind(subscribers: usize) -> Bench {
    let mut bench = Bench::new(RigPlan::video(subscribers));
    bench.watch("a video frame", video);
    bench.watch("a packet of audio", |rig| {
        let packet = rig.publisher.audio_packet();
        from_publisher(rig, [packet])
    });
    bench.watch("a frame in disorder", |rig| {
        let mut frame = video(rig);
        frame.reverse();
        frame
    });
    bench.watch("a frame twice", |rig| {
        let frame = video(rig);
        frame.iter().chain(&frame).cloned().collect()
    });
    bench.watch("a frame with a hole, then RTX", |rig| {
        let mut frame = video(rig);
        frame.remove(1);
        let repair = rig.publisher.repair(5);
        frame.extend(from_publisher(rig, [repair]));
        frame
    });
    bench.watch("NACK, answered by RTX", nack);
    bench.watch("keyframe request", keyframe_request);
    bench.watch("reports of everybody", Rig::reports);
    bench.watch("transport feedback of a subscriber", feedback_in);
    bench.watch(CHECKS, |rig| rig.subscribers.iter_mut().map(|s| (s.path, s.check())).collect());
    bench.watch("garbage of a known address", |rig| {
        let path = rig.publisher_path();
        [&[0x80, 96][..], &[0x80, 200, 0], &[0, 1, 0], &[22, 254, 253], &[]].map(|d| (path, d.to_vec())).into()
    });
    bench.watch_timers("NACK and feedback to a publisher", Duration::from_millis(60), |rig| {
        let mut frame = rig.publisher.video_frame(false);
        frame.remove(1);
        frame
    });
    bench.watch_timers("reports to everybody", Duration::from_millis(1_050), |rig| {
        let mut media = rig.publisher.video_frame(false);
        media.push(rig.publisher.audio_packet());
        media
    });
    bench.watch_timers("speakers", Duration::from_millis(260), |rig| vec![rig.publisher.audio_packet()]);
    bench
}

/// The publisher is on another shard: its packets come in batches. A copy for each shard is what it costs, and no allocation.
#[test]
fn a_relay() {
    let mut bench = Bench::new(RigPlan { relayed: true, ..RigPlan::video(50) });
    for (kind, audio) in [("a video frame by relay", false), ("a packet of audio by relay", true)] {
        let (mut allocations, mut sink) = (0, Counting::default());
        for turn in 0..WARM + TURNS {
            let rig = &mut bench.rig;
            let arrived = if audio { vec![rig.publisher.audio_packet()] } else { rig.publisher.video_frame(false) };
            if turn == WARM {
                (allocations, sink) = (0, Counting::default());
                heap::callers();
            }
            allocations += heap::watch(|| rig.deliver(&arrived, &mut sink)).1;
            rig.advance(FRAME, &mut Counting::default());
        }
        assert!(sink.datagrams >= 50 * TURNS as u64, "{kind}: {sink:?}");
        bench.note(kind, (allocations, 0), TURNS, sink);
    }
    bench.assert_none();
}

/// What is recorded is copied into batches, which come back empty.
#[test]
fn a_recording() {
    let mut bench = Bench::new(RigPlan { recorded: true, ..RigPlan::video(50) });
    bench.watch("a video frame, recorded", video);
    let recorded = bench.rig.metrics.recorded.value();
    assert!(recorded >= 6 * (WARM + TURNS) as u64, "{recorded} packets were handed over");
    bench.watch("a packet of audio, recorded", |rig| {
        let packet = rig.publisher.audio_packet();
        from_publisher(rig, [packet])
    });
    bench.watch("a frame in disorder, recorded", |rig| {
        let mut frame = video(rig);
        frame.reverse();
        frame
    });
    bench.watch_timers("batches for a recording", Duration::from_millis(25), |rig| rig.publisher.video_frame(false));
    bench.assert_none();
}

/// Every cipher that may be negotiated, both ways.
#[test]
fn srtp_of_every_profile() {
    for profile in SrtpProfile::PREFERENCE {
        let material: Vec<u8> = (0..profile.keying_material_len() as u8).collect();
        let (mut outbound, _) = srtp::from_keying_material(profile, &material, true).expect("keys");
        let (_, mut inbound) = srtp::from_keying_material(profile, &material, false).expect("keys");
        let (mut state, mut sealed, mut opened) = (SsrcState::default(), [0; 1_500], [0; 1_500]);
        let mut compound = Vec::new();
        rtcp::write_receiver_report(&mut compound, Ssrc(1), &[]);
        let mut header = [0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        let mut exchange = |n: u16| {
            header[2..4].copy_from_slice(&n.to_be_bytes());
            let len = outbound.seal_rtp(SeqNo(n.into()), &header, &[9; 1_100], &mut sealed).expect("sealed");
            inbound.open_rtp(&mut state, 12, n, &sealed[..len], &mut opened).expect("opened");
            let len = outbound.seal_rtcp(&compound, &mut sealed).expect("sealed");
            inbound.open_rtcp(&sealed[..len], &mut opened).expect("opened");
        };
        exchange(1);
        let ((), allocations) = heap::watch(|| (2..42).for_each(&mut exchange));
        let callers = heap::callers();
        println!("{}: {allocations} allocations in {TURNS} turns", profile.name());
        callers.iter().for_each(|(frames, times)| println!("  {times} of the first:\n{frames}"));
        assert_eq!(allocations, 0, "{}", profile.name());
    }
}

#[test]
fn one_subscriber() {
    every_kind(1).assert_none();
}

#[test]
fn fifty_subscribers() {
    every_kind(50).assert_none();
}

#[test]
fn a_thousand_subscribers() {
    every_kind(1_000).assert_none();
}
