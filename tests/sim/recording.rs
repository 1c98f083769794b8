//! Recordings: what is handed over, of which layer, and what it costs others.
use crate::tape::Taken;
use crate::world::{Sim, ms, secs, seeds};
use exedra::metrics::DropReason;
use exedra::record::manifest::{File, GapCause};
use exedra::room::RoomLimits;
use loadtest::client::TrackConfig;
use std::time::Duration;

fn camera() -> TrackConfig {
    TrackConfig::camera(2_500)
}

fn simulcast() -> TrackConfig {
    TrackConfig::simulcast(&[("q", 400), ("h", 1_200), ("f", 3_500)])
}

/// The frames of which every packet was handed over, by encoding and number: when they were captured, in milliseconds.
fn whole_frames(taken: &[Taken]) -> Vec<(u64, u8)> {
    let mut parts = std::collections::BTreeMap::new();
    for packet in taken {
        let tag = packet.tag;
        let entry = parts.entry((tag.micros, tag.encoding)).or_insert((0u16, tag.parts));
        entry.0 += 1;
    }
    parts.into_iter().filter(|(_, (got, all))| got == all).map(|((micros, e), _)| (micros / 1_000, e)).collect()
}

/// The longest time without a whole frame, in milliseconds.
fn longest_pause(frames: &[(u64, u8)]) -> u64 {
    frames.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or(u64::MAX)
}

fn since(taken: Vec<Taken>, sim: &Sim, ago: Duration) -> Vec<Taken> {
    taken.into_iter().filter(|p| p.at + ago > sim.now).collect()
}

#[test]
fn the_largest_encoding_is_recorded_whatever_is_looked_at() {
    let mut sim = Sim::new(1_000);
    let publisher = sim.join_to_publish(&[simulcast()]);
    let viewer = sim.join(&[]);
    sim.run_until(secs(4), "a picture", |sim| sim.sees(viewer, 0, "0"));
    sim.look(viewer, &[(publisher, "0", 320, 180)]);
    sim.run(secs(10));
    let sending = |sim: &Sim| sim.client(0).publisher.as_ref().map(|p| p.sending("0")).unwrap_or_default();
    assert_eq!(sending(&sim), [true, false, false], "nobody has use for more");
    sim.record(publisher, &["0"]);
    sim.run(secs(5));
    assert_eq!(sending(&sim), [true, true, true]);
    let last = since(sim.taken(publisher, "0"), &sim, secs(2));
    assert!(!last.is_empty() && last.iter().all(|p| p.tag.encoding == 2), "{:?}", last.last());
    assert_eq!(sim.shown(viewer, 0, "0").map(|shown| shown.encoding), Some(0));
    sim.stop_recording(publisher, "0");
    sim.run(ms(100));
    let before = sim.taken(publisher, "0").len();
    sim.run(secs(12));
    assert_eq!(sim.taken(publisher, "0").len(), before, "nothing more comes");
    assert_eq!(sending(&sim), [true, false, false]);
    sim.assert_clean();
}

#[test]
fn another_encoding_takes_over_without_a_hole() {
    for seed in seeds(1_010, 3) {
        let mut sim = Sim::new(seed).loss(0.01);
        let publisher = sim.join_to_publish(&[simulcast()]);
        sim.join(&[]);
        sim.run(secs(2));
        sim.record(publisher, &["0"]);
        sim.run(secs(5));
        let made = |sim: &mut Sim, made: &[&str]| {
            let made: Vec<String> = made.iter().map(ToString::to_string).collect();
            sim.with(publisher, |p, _| p.publisher.as_mut().expect("a publisher").set_made("0", &made));
        };
        // The encoder has no time for the largest one for a while. It is missed until the next keyframe of the other.
        made(&mut sim, &["q", "h"]);
        sim.run(secs(5));
        let last = since(sim.taken(publisher, "0"), &sim, secs(2));
        assert!(last.iter().all(|p| p.tag.encoding == 1), "{:?}", last.last());
        let before = sim.tape.as_ref().expect("a tape").packets.len();
        // It comes back: the present one goes on until it is there.
        made(&mut sim, &["q", "h", "f"]);
        sim.run(secs(5));
        let anew = &sim.taken(publisher, "0")[before - 40..];
        assert!(longest_pause(&whole_frames(anew)) <= 100, "{:?}", whole_frames(anew));
        let last = since(anew.to_vec(), &sim, secs(2));
        assert!(last.iter().all(|p| p.tag.encoding == 2), "{:?}", last.last());
        let of = |encoding: u8| anew.iter().filter(move |p| p.tag.encoding == encoding);
        let begins = of(2).map(|p| p.at).min().expect("the largest");
        let ends = of(1).map(|p| p.at).max().expect("the middle one");
        assert!(ends <= begins + ms(300), "both go on for {:?}", ends - begins);
        let (manifest, _) = sim.finish_tape();
        let file = &manifest.files[0];
        assert!(file.gaps.iter().all(|gap| gap.to_ms - gap.from_ms < 2_500), "{:?}", file.gaps);
        let sizes: Vec<u32> = file.tracks[0].sizes.iter().map(|change| change.size.width).collect();
        assert_eq!(sizes, [1_280, 640, 1_280]);
    }
}

#[test]
fn publishers_of_every_shard_are_recorded() {
    for shards in 1..=3 {
        let mut sim = Sim::on_shards(1_020, RoomLimits::default(), shards);
        let all: Vec<usize> = (0..3).map(|_| sim.join(&[TrackConfig::microphone(), camera()])).collect();
        sim.run_until(secs(5), "sound and picture", Sim::everybody_gets_everything);
        all.iter().for_each(|publisher| sim.record(*publisher, &["0", "1"]));
        sim.run(secs(10));
        let batches = sim.tape.as_ref().expect("a tape").batches;
        assert!(batches <= 10 * 51 * shards, "{batches} batches in ten seconds from {shards} shards");
        let handed_over: u64 = sim.metrics.iter().map(|m| m.recorded.value()).sum();
        let (manifest, packets) = sim.finish_tape();
        assert_eq!(handed_over, packets.len() as u64);
        assert_eq!(manifest.files.len(), 3);
        for file in &manifest.files {
            assert_eq!(file.tracks.len(), 2, "{file:?}");
            assert!(file.tracks.iter().all(|t| t.last_ms - t.first_ms > 9_000 && t.lost_packets == 0), "{file:?}");
            assert!(file.gaps.is_empty(), "{file:?}");
        }
        sim.assert_clean();
    }
}

#[test]
fn what_finds_no_room_is_dropped_by_name_and_the_rest_is_recorded() {
    let mut sim = Sim::new(1_030);
    let publisher = sim.join_to_publish(&[camera()]);
    sim.join(&[]);
    sim.run(secs(2));
    sim.record(publisher, &["0"]);
    sim.run(secs(3));
    if let Some(tape) = &mut sim.tape {
        tape.refuse = 20;
    }
    sim.run(secs(5));
    let taken = sim.taken(publisher, "0");
    let missing: u64 = taken.windows(2).map(|pair| pair[1].seq - pair[0].seq - 1).sum();
    assert!(missing > 20);
    assert_eq!(sim.dropped(DropReason::RecordingFull), missing);
    let (manifest, _) = sim.finish_tape();
    let file = &manifest.files[0];
    assert_eq!(file.gaps.len(), 1, "{:?}", file.gaps);
    assert_eq!(file.tracks[0].lost_packets, missing);
    assert!(file.tracks[0].last_ms > 7_800, "{:?}", file.tracks);
}

/// Lost pictures and packets of a file.
fn holes(file: &File) -> (u64, u64) {
    (
        file.gaps.iter().filter(|g| g.cause == GapCause::Loss).map(|g| g.to_ms - g.from_ms).sum(),
        file.tracks[0].lost_packets,
    )
}

#[test]
fn a_recording_has_fewer_holes_than_any_viewer() {
    for seed in seeds(1_040, 3) {
        let mut sim = Sim::new(seed);
        let viewers = [sim.join(&[]), sim.join(&[])];
        sim.conditions.loss = 0.08;
        sim.conditions.delay = ms(60);
        let publisher = sim.join_to_publish(&[camera().every(ms(33)), TrackConfig::microphone()]);
        sim.run_until(secs(10), "a picture", |sim| viewers.iter().all(|v| sim.sees(*v, publisher, "0")));
        sim.record(publisher, &["0", "1"]);
        sim.run(secs(2));
        let frames = |sim: &Sim| sim.client(publisher).publisher.as_ref().expect("a publisher").frames("0")[0];
        let shown =
            |sim: &Sim, viewer| sim.slot(viewer, publisher, "0").and_then(|s| s.viewer()).map_or(0, |v| v.stats.frames);
        let before = (frames(&sim), viewers.map(|v| shown(&sim, v)));
        let recorded_before = whole_frames(&sim.taken(publisher, "0")).len();
        for _ in 0..15 {
            sim.run(secs(3));
            // Now and then nothing comes back for a while, so that what is lost cannot be asked for.
            sim.clients[publisher].down.conditions.offline = true;
            sim.run(ms(700));
            sim.clients[publisher].down.conditions.offline = false;
        }
        let sent = u64::from(frames(&sim) - before.0);
        let recorded = (whole_frames(&sim.taken(publisher, "0")).len() - recorded_before) as u64;
        let (manifest, _) = sim.finish_tape();
        let (missing_ms, lost) = holes(&manifest.files[0]);
        for (viewer, before) in viewers.into_iter().zip(before.1) {
            let shown = shown(&sim, viewer) - before;
            let frozen = sim.slot(viewer, publisher, "0").and_then(|s| s.viewer()).map_or(0, |v| v.stats.frozen_ms);
            println!(
                "{sent} sent, {recorded} recorded, {lost} packets lost, {missing_ms} ms in gaps; {shown} shown, {frozen} ms frozen"
            );
            assert!(recorded > shown && (sent - recorded) * 100 < sent, "{recorded} of {sent} recorded, {shown} shown");
            assert!(missing_ms * 4 < frozen, "{missing_ms} ms missing, {frozen} ms frozen");
        }
    }
}

/// What viewers got, with and without a recording.
#[test]
fn a_recording_costs_viewers_nothing() {
    let run = |recorded: bool| {
        let mut sim = Sim::new(1_050).loss(0.01);
        let publisher = sim.join_to_publish(&[camera(), TrackConfig::microphone()]);
        sim.run_until(secs(5), "two tracks", |sim| sim.client(publisher).own.len() == 2);
        if recorded {
            sim.record(publisher, &["0", "1"]);
        }
        let viewers = [sim.join(&[]), sim.join(&[])];
        sim.run(secs(20));
        sim.assert_clean();
        let got = viewers.map(|v| (sim.received(v), sim.slot(v, publisher, "0").map(|s| s.stats.packets)));
        (got, sim.taken_in_all())
    };
    let ((without, nothing), (with, taken)) = (run(false), run(true));
    assert_eq!(without, with);
    assert!(nothing == 0 && taken > 1_000, "{nothing} {taken}");
}

#[test]
fn a_recording_asks_for_no_more_than_a_keyframe_a_second() {
    let mut sim = Sim::new(1_060);
    let publisher = sim.join_to_publish(&[camera()]);
    sim.join(&[]);
    sim.run(secs(3));
    // Nothing is asked for while nobody wants it, and none of this reaches the publisher.
    sim.clients[publisher].down.conditions.offline = true;
    let asked = |sim: &Sim| sim.metrics.iter().map(|m| m.keyframe_requests_out.value()).sum::<u64>();
    let before = asked(&sim);
    sim.record(publisher, &["0"]);
    sim.run(ms(50));
    assert_eq!(asked(&sim) - before, 1, "at once");
    sim.run(ms(3_900));
    assert_eq!(asked(&sim) - before, 4, "and once a second");
    sim.clients[publisher].down.conditions.offline = false;
    sim.run(secs(4));
    assert!(asked(&sim) - before <= 6);
    let (manifest, _) = sim.finish_tape();
    assert!(manifest.files[0].tracks[0].frames > 50, "{manifest:?}");
}

#[test]
fn what_is_muted_is_not_recorded_and_goes_on_with_a_keyframe() {
    let mut sim = Sim::new(1_070);
    let publisher = sim.join_to_publish(&[camera(), TrackConfig::microphone()]);
    sim.join(&[]);
    sim.run(secs(2));
    sim.record(publisher, &["0", "1"]);
    sim.run(secs(3));
    for mid in ["0", "1"] {
        sim.with(publisher, |p, _| p.mute(mid, true));
    }
    sim.run(ms(200));
    let before = sim.taken_in_all();
    sim.run(secs(3));
    assert_eq!(sim.taken_in_all(), before);
    for mid in ["0", "1"] {
        sim.with(publisher, |p, _| p.mute(mid, false));
    }
    sim.run(secs(2));
    let video = sim.taken(publisher, "0");
    let first = video.iter().find(|p| p.at + ms(2_100) > sim.now).expect("a picture");
    assert!(first.tag.keyframe, "{first:?}");
    assert!(sim.taken_in_all() > before + 100);
}

#[test]
fn whoever_leaves_is_recorded_no_more_and_comes_back_as_somebody_else() {
    let mut sim = Sim::new(1_080);
    let first = sim.join_to_publish(&[camera()]);
    let second = sim.join_to_publish(&[camera()]);
    sim.join(&[]);
    sim.run(secs(2));
    sim.record(first, &["0"]);
    sim.record(second, &["0"]);
    sim.run(secs(2));
    sim.leave(first);
    sim.run(secs(2));
    assert!(since(sim.taken(second, "0"), &sim, ms(100)).len() > 1);
    sim.with(second, |p, now| p.unpublish(now, "0"));
    sim.run(ms(500));
    let before = sim.taken_in_all();
    sim.run(secs(1));
    assert_eq!(sim.taken_in_all(), before);
    let third = sim.join_to_publish(&[camera()]);
    sim.run(secs(1));
    sim.record(third, &["0"]);
    sim.run(secs(2));
    assert!(sim.taken(third, "0").len() > 50);
    sim.assert_clean();
}
