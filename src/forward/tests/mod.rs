mod layered;
mod model;

use super::*;
use crate::rtp::codec::{FrameInfo, PictureId};
use crate::rtp::packet::ExtensionSpans;
use proptest::prelude::*;
use std::time::Duration;

const A: StreamKey = StreamKey { index: 1, generation: 1 };
const B: StreamKey = StreamKey { index: 2, generation: 2 };

#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

fn packet(codec: Codec, timestamp: u32, keyframe: bool, picture_id: u16) -> PacketInfo {
    let frame = FrameInfo {
        keyframe,
        frame_start: true,
        picture_id: Some(PictureId { value: picture_id & 0x7fff, wide: true }),
        tl0_pic_idx: Some(picture_id as u8),
        ..FrameInfo::default()
    };
    let extensions = ExtensionSpans::default();
    PacketInfo { timestamp, marker: true, codec, header_len: 12, payload_len: 100, frame, extensions }
}

#[test]
fn video_begins_with_a_keyframe() {
    let t = start();
    let mut f = Forwarder::new(Kind::Video, 100);
    f.set_target(Some(Target::whole(A)), false);
    assert!(f.awaits_keyframe());
    assert_eq!(f.map(A, SeqNo(7), &packet(Codec::Vp8, 0, false, 1), t), Err(DropReason::AwaitingKeyframe));
    let first = f.map(A, SeqNo(8), &packet(Codec::Vp8, 3_000, true, 2), t).unwrap();
    assert_eq!((first.seq, first.timestamp, first.starts), (SeqNo(100), 3_000, true));
    assert!(!f.awaits_keyframe());
    let late = f.map(A, SeqNo(7), &packet(Codec::Vp8, 0, false, 1), t);
    assert_eq!(late, Err(DropReason::OldSource), "before the start");
    assert_eq!(f.map(B, SeqNo(8), &packet(Codec::Vp8, 0, true, 2), t), Err(DropReason::LayerNotSelected));
}

#[test]
fn a_gap_keeps_its_numbers_until_it_is_filled() {
    let t = start();
    let mut f = Forwarder::new(Kind::Audio, 0);
    f.set_target(Some(Target::whole(A)), false);
    let seqs = [(10, 0), (11, 1), (14, 4), (12, 2), (13, 3), (15, 5)];
    for (input, output) in seqs {
        let mapped = f.map(A, SeqNo(input), &packet(Codec::Opus, input as u32 * 960, false, 0), t).unwrap();
        assert_eq!(mapped.seq, SeqNo(output));
        assert_eq!(f.origin(SeqNo(output)).map(|o| (o.stream, o.seq)), Some((A, SeqNo(input))));
    }
    assert_eq!(f.origin(SeqNo(6)), None, "not sent yet");
}

#[test]
fn a_switch_is_invisible_in_every_number() {
    let t = start();
    let mut f = Forwarder::new(Kind::Video, 0);
    f.set_target(Some(Target::whole(A)), false);
    f.map(A, SeqNo(500), &packet(Codec::Vp8, 90_000, true, 40), t).unwrap();
    let a = f.map(A, SeqNo(501), &packet(Codec::Vp8, 93_000, false, 41), t + Duration::from_millis(33)).unwrap();
    f.set_target(Some(Target::whole(B)), true);
    // The old source goes on until the new one's keyframe is there.
    assert!(f.map(A, SeqNo(502), &packet(Codec::Vp8, 96_000, false, 42), t + Duration::from_millis(66)).is_ok());
    let before = f.map(B, SeqNo(9), &packet(Codec::Vp8, 5, false, 7), t + Duration::from_millis(66));
    assert_eq!(before, Err(DropReason::AwaitingKeyframe));
    let key = packet(Codec::Vp8, 3_005, true, 8);
    let b = f.map(B, SeqNo(10), &key, t + Duration::from_millis(100)).unwrap();
    assert_eq!(b.seq, SeqNo(a.seq.0 + 2));
    assert_eq!(b.timestamp, 96_000 + 34 * 90, "34 ms after the last");
    assert_eq!(8u16.wrapping_add(b.offsets.picture_id) & 0x7fff, 43);
    assert_eq!(8u8.wrapping_add(b.offsets.tl0_pic_idx), 43);
    // What the subscriber asks for again is found on either side.
    assert_eq!(f.origin(SeqNo(1)).map(|o| (o.stream, o.seq)), Some((A, SeqNo(501))));
    assert_eq!(f.origin(SeqNo(3)).map(|o| (o.stream, o.seq)), Some((B, SeqNo(10))));
    let superseded: Vec<bool> = (0..4).map(|n| f.origin(SeqNo(n)).unwrap().superseded).collect();
    assert_eq!(superseded, [true, true, true, false]);
}

#[test]
fn switches_to_and_fro_do_not_make_the_clock_run_away() {
    let t = start();
    let mut f = Forwarder::new(Kind::Video, 0);
    f.set_target(Some(Target::whole(A)), false);
    let mut last: Option<u32> = None;
    // Each encoding's frame of one time: the second of the two is shown a little after the first, and the next ones are in time again.
    for n in 0..100u64 {
        let at = t + Duration::from_millis(500 * n);
        for (stream, key) in [(A, 0), (B, 1)] {
            f.set_target(Some(Target::whole(stream)), true);
            let p = packet(Codec::Vp8, 45_000 * n as u32 + 7 * key, true, n as u16);
            let mapped = f.map(stream, SeqNo(100 + n), &p, at).unwrap();
            assert!(last.is_none_or(|l| (mapped.timestamp.wrapping_sub(l) as i32) > 0));
            assert!(mapped.timestamp.wrapping_sub(45_000 * n as u32) <= MIN_STEP_VIDEO);
            last = Some(mapped.timestamp);
        }
    }
}

#[test]
fn a_keyframe_that_came_late_does_not_turn_time_back() {
    let (t, ms) = (start(), Duration::from_millis);
    let mut f = Forwarder::new(Kind::Video, 0);
    f.set_target(Some(Target::whole(A)), false);
    f.map(A, SeqNo(1), &packet(Codec::Vp8, 0, true, 1), t).unwrap();
    f.map(A, SeqNo(2), &packet(Codec::Vp8, 9_000, false, 2), t + ms(100)).unwrap();
    f.set_target(Some(Target::whole(B)), true);
    let key = |seq: u64, at| (SeqNo(seq), packet(Codec::Vp8, seq as u32 * 900, true, seq as u16), at);
    let mut map = |(seq, packet, at)| f.map(B, seq, &packet, at).map(|m| m.timestamp);
    assert_eq!(map(key(5, t + ms(40))), Err(DropReason::AwaitingKeyframe));
    assert_eq!(map(key(6, t + ms(50))), Err(DropReason::AwaitingKeyframe));
    // Its clock is to blame, then.
    assert_eq!(map(key(7, t + ms(60))), Ok(9_000 + MIN_STEP_VIDEO));
}

#[test]
fn a_pause_leaves_no_hole() {
    let t = start();
    let mut f = Forwarder::new(Kind::Audio, 0);
    f.set_target(Some(Target::whole(A)), false);
    f.map(A, SeqNo(10), &packet(Codec::Opus, 9_600, false, 0), t).unwrap();
    f.pause();
    let later = t + Duration::from_secs(10);
    let after = f.map(A, SeqNo(510), &packet(Codec::Opus, 489_600, false, 0), later).unwrap();
    assert_eq!((after.seq, after.timestamp), (SeqNo(1), 489_600));
    assert_eq!(f.origin(SeqNo(0)).map(|o| o.seq), Some(SeqNo(10)));
}

#[test]
fn what_is_late_begins_nothing() {
    let t = start();
    let mut f = Forwarder::new(Kind::Audio, 0);
    f.set_target(Some(Target::whole(A)), false);
    let map = |f: &mut Forwarder, seq: u64| {
        f.map(A, SeqNo(seq), &packet(Codec::Opus, 960 * seq as u32, false, 0), t + Duration::from_millis(20 * seq))
    };
    map(&mut f, 10).unwrap();
    map(&mut f, 13).unwrap();
    f.pause();
    let late = map(&mut f, 11).unwrap();
    assert_eq!((late.seq, late.starts), (SeqNo(1), false), "asked for again before the pause");
    assert_eq!(map(&mut f, 9), Err(DropReason::OldSource));
    let next = map(&mut f, 60).unwrap();
    assert_eq!((next.seq, next.starts), (SeqNo(4), true));
    assert_eq!(map(&mut f, 12).unwrap().seq, SeqNo(2));
    assert_eq!(map(&mut f, 59), Err(DropReason::OldSource));
}

#[test]
fn what_came_in_a_pause_has_no_number() {
    let t = start();
    let mut f = Forwarder::new(Kind::Video, 100);
    f.set_target(Some(Target::whole(A)), false);
    let map = |f: &mut Forwarder, seq: u64, keyframe| {
        let at = t + Duration::from_millis(40 * seq);
        f.map(A, SeqNo(seq), &packet(Codec::Vp8, 3_600 * seq as u32, keyframe, seq as u16), at)
    };
    map(&mut f, 1, true).unwrap();
    map(&mut f, 2, false).unwrap();
    f.pause();
    f.pause();
    assert!(f.awaits_keyframe());
    assert_eq!(map(&mut f, 9, false), Err(DropReason::AwaitingKeyframe));
    let resumed = map(&mut f, 10, true).unwrap();
    assert_eq!((resumed.seq, resumed.timestamp), (SeqNo(102), 36_000));
    assert_eq!(map(&mut f, 5, false), Err(DropReason::OldSource), "it came late");
    let origins: Vec<_> = (100..103).filter_map(|out| Some(f.origin(SeqNo(out))?.seq)).collect();
    assert_eq!(origins, [SeqNo(1), SeqNo(2), SeqNo(10)]);
}

#[test]
fn another_track_ends_the_old_one_at_once() {
    let t = start();
    let mut f = Forwarder::new(Kind::Video, 0);
    f.set_target(Some(Target::whole(A)), false);
    f.map(A, SeqNo(1), &packet(Codec::Vp8, 0, true, 1), t).unwrap();
    f.set_target(Some(Target::whole(B)), false);
    let old = f.map(A, SeqNo(2), &packet(Codec::Vp8, 3_000, false, 2), t);
    assert_eq!(old, Err(DropReason::LayerNotSelected));
    // An hour later the timestamps are an hour on.
    let later = t + Duration::from_secs(3_600);
    let b = f.map(B, SeqNo(1), &packet(Codec::Vp8, 77, true, 1), later).unwrap();
    assert_eq!(b.timestamp, 3_600 * 90_000);
    assert_eq!(f.timestamp_at(later + Duration::from_secs(1)), Some(3_601 * 90_000));
}

proptest! {
    /// Any interleaving of sources, loss and reordering: numbers never repeat within a source, grow from source to
    /// source, and each one leads back to the packet that it stands for.
    #[test]
    fn every_number_leads_back_to_its_packet(
        steps in prop::collection::vec((any::<bool>(), 1u64..4, any::<bool>(), 0u64..3), 1..200),
    ) {
        let mut t = start();
        let mut f = Forwarder::new(Kind::Video, 30_000);
        let mut next = [SeqNo(65_000), SeqNo(10)];
        let mut seen = std::collections::HashMap::new();
        let mut last_timestamp: Option<u32> = None;
        for (second, step, keyframe, back) in steps {
            let key = if second { B } else { A };
            f.set_target(Some(Target::whole(key)), true);
            let n = &mut next[usize::from(second)];
            *n = SeqNo(n.0 + step);
            let seq = SeqNo(n.0 - back);
            t += Duration::from_millis(10);
            let p = packet(Codec::Vp8, seq.0 as u32 * 900, keyframe, seq.0 as u16);
            let Ok(mapped) = f.map(key, seq, &p, t) else { continue };
            if let Some((stream, original)) = seen.insert(mapped.seq, (key, seq)) {
                prop_assert_eq!((stream, original), (key, seq), "one number for two packets");
            }
            prop_assert_eq!(f.origin(mapped.seq).map(|o| (o.stream, o.seq)), Some((key, seq)));
            if mapped.starts
                && let Some(last) = last_timestamp
            {
                prop_assert!((mapped.timestamp.wrapping_sub(last) as i32) > 0);
            }
            last_timestamp = f.newest.map(|n| n.timestamp);
        }
    }
}
