//! Layers of model publishers through a forwarder: what a decoder gets can be decoded, and has no holes.
use super::model::{Frame, Layering, stream};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};

const ALL: [Layering; 4] = [Layering::Vp8, Layering::Vp9, Layering::Full, Layering::Key];

fn layer(spatial: u8, temporal: u8) -> LayerId {
    LayerId { spatial, temporal }
}

/// One stream into one slot, and what came out.
struct Call {
    frames: Vec<Frame>,
    forwarder: Forwarder,
    start: Instant,
    /// By the packets' numbers: what became of each.
    fates: BTreeMap<SeqNo, Result<Mapped, DropReason>>,
    /// Those that came behind later ones.
    late: HashSet<SeqNo>,
}

impl Call {
    fn new(frames: Vec<Frame>, limit: LayerId) -> Self {
        let mut forwarder = Forwarder::new(Kind::Video, 1_000);
        forwarder.set_target(Some(Target { stream: A, layers: limit }), false);
        Self { frames, forwarder, start: start(), fates: BTreeMap::new(), late: HashSet::new() }
    }

    fn want(&mut self, limit: LayerId) {
        self.forwarder.set_target(Some(Target { stream: A, layers: limit }), true);
    }

    fn deliver(&mut self, seq: SeqNo, packet: &PacketInfo) {
        let at = self.start + Duration::from_micros(u64::from(packet.timestamp) * 100 / 9);
        let fate = self.forwarder.map(A, seq, packet, at);
        if self.fates.last_key_value().is_some_and(|(last, _)| *last > seq) {
            self.late.insert(seq);
        }
        assert!(self.fates.insert(seq, fate).is_none());
    }

    /// Delivers the pictures of this range in order.
    fn play(&mut self, pictures: std::ops::Range<u32>) {
        let due: Vec<_> = self.frames.iter().filter(|f| pictures.contains(&f.picture)).cloned().collect();
        due.iter().flat_map(|f| &f.packets).for_each(|(seq, packet)| self.deliver(*seq, packet));
    }

    /// How many packets of a frame went out, were filled in, and were left out.
    fn count(&self, frame: &Frame) -> (usize, usize, usize) {
        let mut count = (0, 0, 0);
        for fate in frame.packets.iter().filter_map(|(seq, _)| self.fates.get(seq)) {
            match fate {
                Ok(Mapped { filler: false, .. }) => count.0 += 1,
                Ok(Mapped { filler: true, .. }) => count.1 += 1,
                Err(DropReason::LayerNotSelected) => count.2 += 1,
                Err(_) => {}
            }
        }
        count
    }

    fn sent(&self, frame: &Frame) -> bool {
        self.count(frame).0 > 0
    }

    /// Layers of the frames that went out, of the pictures of this range.
    fn layers(&self, pictures: std::ops::Range<u32>) -> Vec<(u8, u8)> {
        let frames = self.frames.iter().filter(|f| pictures.contains(&f.picture) && self.sent(f));
        frames.map(|f| (f.layer.spatial, f.layer.temporal)).collect()
    }

    /// What must hold whatever was wanted, lost and late.
    fn check(&self) {
        let started = self.fates.iter().find(|(_, f)| f.is_ok()).map(|(seq, _)| *seq);
        for frame in &self.frames {
            let (sent, filled, left_out) = self.count(frame);
            assert!(
                sent == 0 || filled + left_out == 0,
                "{:?} of {}: {sent} {filled} {left_out}",
                frame.layer,
                frame.picture
            );
            // What came too late to be decided on in time goes out where references are named, even if they are not there.
            let named = frame.packets[0].1.codec != Codec::Vp8;
            let excused = named && frame.packets.iter().all(|(seq, _)| self.late.contains(seq));
            if sent > 0 && !excused && started.is_some_and(|s| frame.packets[0].0 > s) {
                for &other in &frame.refers {
                    let other = &self.frames[other];
                    let lost = other.packets.iter().all(|(seq, _)| !self.fates.contains_key(seq));
                    assert!(
                        lost || self.sent(other),
                        "{:?} of {} needs {:?} of {}",
                        frame.layer,
                        frame.picture,
                        other.layer,
                        other.picture
                    );
                }
            }
        }
        let mut numbers: HashMap<SeqNo, SeqNo> = HashMap::new();
        for (seq, mapped) in self.fates.iter().filter_map(|(seq, f)| Some((seq, f.ok()?))) {
            assert_eq!(numbers.insert(mapped.seq, *seq), None, "two packets with one number");
            if let Some(origin) = self.forwarder.origin(mapped.seq) {
                assert_eq!((origin.seq, origin.filler), (*seq, mapped.filler));
                assert_eq!(origin.offsets, mapped.offsets);
            }
        }
    }

    /// Numbers up to the highest that nothing was sent as.
    fn holes(&self) -> usize {
        let sent = self.fates.values().flatten().count();
        self.forwarder.highest().map_or(0, |h| (h.0 - 1_000 + 1) as usize - sent)
    }
}

#[test]
fn a_limit_holds_from_the_next_picture_on() {
    for layering in [Layering::Vp8, Layering::Vp9, Layering::Full] {
        let mut call = Call::new(stream(layering, 40, &[], &[2, 1, 3], 7), LayerId::TOP);
        call.play(0..9);
        call.want(layer(0, 0));
        call.play(9..16);
        let got = call.layers(9..16);
        assert_eq!(got, [(0, 0)], "{layering:?}: picture 12 alone");
        call.check();
        assert_eq!(call.holes(), 0);
        assert_eq!(call.forwarder.current().map(|t| t.layers), Some(layer(0, 0)));
    }
}

#[test]
fn temporal_layers_come_back_where_the_publisher_says_so() {
    for layering in ALL {
        let mut call = Call::new(stream(layering, 60, &[], &[2], 7), layer(3, 0));
        call.play(0..17);
        assert!(call.layers(1..17).iter().all(|(_, t)| *t == 0), "{layering:?}");
        call.want(LayerId::TOP);
        assert!(!call.forwarder.awaits_keyframe(), "{layering:?}");
        call.play(17..60);
        // Whatever is made, of the pictures from the next base layer picture, or VP8's next synchronisation, on.
        let all = call.frames.iter().filter(|f| f.picture >= 34).count();
        let upper = if layering == Layering::Key { 3 } else { 1 };
        assert_eq!(call.layers(34..60).len(), all / upper, "{layering:?}");
        call.check();
        assert_eq!(call.holes(), 0);
    }
}

#[test]
fn spatial_layers_come_back_with_a_keyframe() {
    for layering in [Layering::Vp9, Layering::Full, Layering::Key] {
        let mut call = Call::new(stream(layering, 60, &[30], &[2], 7), layer(0, 7));
        call.play(0..10);
        assert!(call.layers(0..10).iter().all(|(s, _)| *s == 0));
        call.want(LayerId::TOP);
        assert!(call.forwarder.awaits_keyframe(), "{layering:?}");
        call.play(10..30);
        assert!(call.layers(10..30).iter().all(|(s, _)| *s == 0), "{layering:?}");
        call.play(30..40);
        assert!(!call.forwarder.awaits_keyframe());
        let got = call.layers(30..32);
        let want = if layering == Layering::Key {
            &[(0, 0), (1, 0), (2, 0), (2, 2)][..]
        } else {
            &[(0, 0), (1, 0), (2, 0), (0, 2), (1, 2), (2, 2)]
        };
        assert_eq!(got, want, "{layering:?}");
        call.check();
    }
}

#[test]
fn down_among_layers_that_do_without_each_other_waits_for_a_keyframe() {
    let mut call = Call::new(stream(Layering::Key, 60, &[30], &[2], 7), LayerId::TOP);
    call.play(0..10);
    call.want(layer(0, 7));
    assert!(call.forwarder.awaits_keyframe());
    call.play(10..40);
    // Until it is here, as little of the present one as can be.
    assert!(call.layers(10..30).iter().all(|l| *l == (2, 0)));
    assert!(call.layers(30..40).iter().all(|(s, _)| *s == 0));
    assert_eq!(call.layers(30..40).len(), 10);
    call.check();
}

#[test]
fn the_marker_ends_what_is_left_of_a_picture() {
    for layering in ALL {
        for spatial in 0..3 {
            let mut call = Call::new(stream(layering, 20, &[], &[2, 3], 7), layer(spatial, 7));
            call.play(0..20);
            for picture in 0..20 {
                let packets = call.frames.iter().filter(|f| f.picture == picture).flat_map(|f| &f.packets);
                let sent = packets.filter_map(|(seq, _)| call.fates[seq].ok());
                let markers: Vec<bool> = sent.map(|m| m.marker).collect();
                let last = markers.len() - 1;
                assert!(
                    markers.iter().enumerate().all(|(at, marker)| *marker == (at == last)),
                    "{layering:?} {markers:?}"
                );
            }
            // A retransmission has it, too.
            let marked = call.fates.iter().filter_map(|(seq, f)| Some((seq, f.ok()?)));
            for (seq, mapped) in marked {
                let original =
                    call.frames.iter().flat_map(|f| &f.packets).find(|(s, _)| s == seq).map(|(_, p)| p.marker);
                let origin = call.forwarder.origin(mapped.seq).unwrap();
                assert_eq!(original.unwrap_or_default() || origin.marked, mapped.marker);
            }
        }
    }
}

#[test]
fn a_layer_that_is_made_no_more_is_replaced_by_the_next_one() {
    // Of L3T3 the highest spatial layer is not made from picture 20 on.
    let mut frames = stream(Layering::Full, 40, &[], &[2], 7);
    frames.retain(|f| f.picture < 20 || f.layer.spatial < 2);
    let mut seq = 7;
    for frame in &mut frames {
        let gone = frame.picture >= 20;
        for (number, packet) in &mut frame.packets {
            *number = SeqNo(seq);
            seq += 1;
            if gone {
                packet.frame.top_spatial = 1;
                packet.marker = packet.frame.frame_end && frame.layer.spatial == 1;
            }
        }
    }
    let mut call = Call::new(frames, LayerId::TOP);
    call.play(0..40);
    assert_eq!(call.layers(20..40).len(), 40);
    assert!(!call.forwarder.awaits_keyframe());
    // With `L3T3_KEY` the next one was left out, so that only a keyframe helps.
    let mut frames = stream(Layering::Key, 40, &[30], &[2], 7);
    frames.retain(|f| f.picture < 20 || f.picture >= 30 || f.layer.spatial < 2);
    for frame in frames.iter_mut().filter(|f| (20..30).contains(&f.picture)) {
        for (_, PacketInfo { frame, .. }) in &mut frame.packets {
            frame.top_spatial = 1;
            frame.absent = frame.absent.copied(1, 2, true).copied(1, 3, true);
        }
    }
    let mut call = Call::new(frames, LayerId::TOP);
    call.play(0..20);
    assert!(!call.forwarder.awaits_keyframe());
    call.play(20..30);
    assert!(call.forwarder.awaits_keyframe());
    call.play(30..40);
    assert!(!call.forwarder.awaits_keyframe());
    assert_eq!(call.layers(31..40).len(), 9);
}

#[test]
fn picture_ids_have_no_holes_and_the_others_keep_theirs() {
    for (layering, step) in [(Layering::Vp8, 1), (Layering::Vp9, 4)] {
        let mut call = Call::new(stream(layering, 80, &[], &[1, 2], 7), layer(0, 0));
        call.play(0..80);
        let mut before = None;
        for (seq, mapped) in call.fates.iter().filter_map(|(seq, f)| Some((seq, f.ok()?))) {
            let packet = call.frames.iter().flat_map(|f| &f.packets).find(|(s, _)| s == seq).unwrap().1;
            if packet.frame.frame_start {
                let id = packet.frame.picture_id.unwrap().value.wrapping_add(mapped.offsets.picture_id) & 0x7fff;
                assert!(before.is_none_or(|b| id == b + step), "{layering:?} {before:?} {id}");
                before = Some(id);
            }
        }
        assert!(before.is_some());
    }
}

#[test]
fn a_number_kept_for_a_frame_that_is_left_out_is_filled() {
    // Pictures of two packets: 7-8 T0, 9-10 T2, 11-12 T1, 13-14 T2, 15-16 T0.
    let mut call = Call::new(stream(Layering::Vp8, 40, &[], &[2], 7), layer(0, 0));
    let packets: Vec<_> = call.frames.iter().flat_map(|f| f.packets.clone()).collect();
    let mut deliver = |n: u64| call.deliver(SeqNo(n), &packets[n as usize - 7].1);
    // Of what is missing before 11 it is clear what it is; of 13 and 14 nothing is known before they come.
    for n in [7, 8, 9, 11, 12, 15, 10, 13, 14, 16] {
        deliver(n);
    }
    let fates: Vec<_> = call.fates.values().map(|f| f.map(|m| (m.seq.0 - 1_000, m.filler))).collect();
    let (sent, filled, out) = (|n| Ok((n, false)), |n| Ok((n, true)), Err(DropReason::LayerNotSelected));
    assert_eq!(fates, [sent(0), sent(1), out, out, out, out, filled(2), filled(3), sent(4), sent(5)]);
    assert!(call.forwarder.origin(SeqNo(1_002)).is_some_and(|o| o.filler && o.seq == SeqNo(13)));
    call.check();
}

#[test]
fn a_late_picture_that_a_receiver_may_wait_for_goes_out_if_it_can_be_decoded() {
    // 11 and 12 are the picture of T1, which leans on T0 alone. It has its picture id still.
    let mut call = Call::new(stream(Layering::Vp8, 40, &[], &[2], 7), layer(0, 0));
    let packets: Vec<_> = call.frames.iter().flat_map(|f| f.packets.clone()).collect();
    for n in [7, 8, 9, 10, 13, 14, 15, 11, 12, 16] {
        call.deliver(SeqNo(n), &packets[n as usize - 7].1);
    }
    let sent = call.fates.values().flatten().map(|m| (m.seq.0 - 1_000, m.filler));
    assert!(sent.eq((0..6).map(|n| (n, false))));
    let id = |n: u64| packets[n as usize - 7].1.frame.picture_id.unwrap().value;
    let sent_id = |n: u64| id(n).wrapping_add(call.fates[&SeqNo(n)].unwrap().offsets.picture_id);
    assert_eq!([sent_id(7), sent_id(11), sent_id(15)], [0, 1, 2]);
    call.check();
}

#[test]
fn numbers_that_nothing_was_sent_behind_are_given_back() {
    let mut call = Call::new(stream(Layering::Vp8, 40, &[], &[2], 7), layer(0, 0));
    let packets: Vec<_> = call.frames.iter().flat_map(|f| f.packets.clone()).collect();
    // 9 is missing when all behind it is left out; then it comes; and 13 is missing when another source begins.
    for n in [7, 8, 11, 12, 9, 10, 14] {
        call.deliver(SeqNo(n), &packets[n as usize - 7].1);
    }
    call.check();
    assert_eq!((call.forwarder.highest(), call.holes()), (Some(SeqNo(1_001)), 0));
    call.forwarder.set_target(Some(Target::whole(B)), true);
    let key = packets[0].1;
    assert_eq!(call.forwarder.map(B, SeqNo(50), &key, call.start).map(|m| m.seq), Ok(SeqNo(1_002)));
    let late = call.forwarder.map(A, SeqNo(13), &packets[6].1, call.start);
    assert_eq!(late, Err(DropReason::LayerNotSelected));
}

#[test]
fn a_nack_finds_its_packet_though_every_other_frame_was_left_out() {
    let mut call = Call::new(stream(Layering::Vp8, 700, &[], &[3], 65_000), layer(0, 1));
    call.play(0..700);
    call.check();
    assert_eq!(call.holes(), 0);
    // 2,100 packets of the source, of which half went out: the last 900 of them are known.
    let highest = call.forwarder.highest().unwrap();
    assert!((0..900).all(|back| call.forwarder.origin(SeqNo(highest.0 - back)).is_some()));
    // With nothing left out for long enough, there is no record any more.
    let mut call = Call::new(stream(Layering::Vp8, 1_500, &[20], &[3], 7), layer(0, 1));
    call.play(0..10);
    call.want(LayerId::TOP);
    call.play(10..1_500);
    assert!(!call.forwarder.runs.open_run().unwrap().is_recorded());
    call.check();
    assert_eq!(call.holes(), 0);
}

prop_compose! {
    fn any_layer()(spatial in 0u8..4, temporal in 0u8..4) -> LayerId {
        if spatial == 3 { LayerId::TOP } else { layer(spatial, temporal) }
    }
}

proptest! {
    /// Any layering, loss, order of arrival and wishes: no number twice, none missing that is not missing for the loss, frames whole, and
    /// each decodable by what went out.
    #[test]
    fn what_goes_out_can_be_decoded(
        layering in prop::sample::select(&ALL[..]),
        keys in prop::collection::vec(1u32..60, 0..4),
        sizes in prop::collection::vec(1usize..4, 1..6),
        first in 0u64..200,
        wishes in prop::collection::vec((0u32..60, any_layer()), 0..8),
        // Packets that come late, by so many, or (0) not at all.
        late in prop::collection::hash_map(0usize..400, 0usize..30, 0..30),
    ) {
        let frames = stream(layering, 60, &keys, &sizes, first);
        let mut call = Call::new(frames, LayerId::TOP);
        let packets: Vec<_> = call.frames.iter().flat_map(|f| f.packets.iter().map(|p| (f.picture, *p))).collect();
        let mut order: Vec<(usize, usize)> = Vec::new();
        let mut lost = 0;
        for at in 0..packets.len() {
            match late.get(&at) {
                // The first packet starts it.
                _ if at == 0 => order.push((at, at)),
                Some(0) => lost += 1,
                Some(by) => order.push((at + by, at)),
                None => order.push((at, at)),
            }
        }
        order.sort();
        let mut wishes = wishes.clone();
        for (_, at) in order {
            let (picture, (seq, packet)) = packets[at];
            wishes.retain(|(when, limit)| {
                let due = *when <= picture;
                if due {
                    call.want(*limit);
                }
                !due
            });
            call.deliver(seq, &packet);
        }
        call.check();
        prop_assert!(call.holes() <= lost, "{} holes, {lost} lost", call.holes());
    }
}
