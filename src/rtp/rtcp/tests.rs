//! The `rtcp` crate is the independent witness, both ways.

use super::*;
use ::rtcp as oracle;
use proptest::prelude::*;

fn one(bytes: &[u8]) -> Rtcp<'_> {
    let mut all = packets(bytes);
    let packet = all.next().unwrap().unwrap();
    assert!(all.next().is_none());
    packet
}

/// What the witness reads of a compound.
fn witness(bytes: &[u8]) -> Vec<Box<dyn oracle::packet::Packet>> {
    oracle::packet::unmarshal(&mut bytes::Bytes::copy_from_slice(bytes)).unwrap()
}

fn as_type<T: Clone + 'static>(bytes: &[u8]) -> T {
    let all = witness(bytes);
    assert_eq!(all.len(), 1);
    all[0].as_any().downcast_ref::<T>().unwrap().clone()
}

fn block() -> impl Strategy<Value = ReportBlock> {
    (any::<u32>(), any::<u8>(), -0x80_0000..0x80_0000i32, any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>())
        .prop_map(|(ssrc, fraction_lost, cumulative_lost, highest_sequence, jitter, last_sr, delay_since_last_sr)| {
            ReportBlock {
                ssrc: Ssrc(ssrc),
                fraction_lost,
                cumulative_lost,
                highest_sequence,
                jitter,
                last_sr,
                delay_since_last_sr,
            }
        })
}

fn same_block(ours: &ReportBlock, theirs: &oracle::reception_report::ReceptionReport) -> bool {
    ours.ssrc.0 == theirs.ssrc
        && ours.fraction_lost == theirs.fraction_lost
        && ours.cumulative_lost as u32 & 0xff_ffff == theirs.total_lost & 0xff_ffff
        && ours.highest_sequence == theirs.last_sequence_number
        && ours.jitter == theirs.jitter
        && ours.last_sr == theirs.last_sender_report
        && ours.delay_since_last_sr == theirs.delay
}

proptest! {
    #[test]
    fn reports_read_back(ssrc: u32, ntp: u64, rtp_timestamp: u32, packets: u32, octets: u32, blocks in prop::collection::vec(block(), 0..70)) {
        let info = SenderInfo { ssrc: Ssrc(ssrc), ntp, rtp_timestamp, packets, octets };
        let mut out = Vec::new();
        write_sender_report(&mut out, &info, &blocks);
        let mut read = Vec::new();
        for (i, packet) in super::packets(&out).enumerate() {
            match packet.unwrap() {
                Rtcp::SenderReport { ssrc, ntp, rtp_timestamp, packets, octets, reports } if i == 0 => {
                    prop_assert_eq!(SenderInfo { ssrc, ntp, rtp_timestamp, packets, octets }, info);
                    read.extend(reports);
                }
                Rtcp::ReceiverReport { ssrc, reports } if i > 0 => {
                    prop_assert_eq!(ssrc, info.ssrc);
                    read.extend(reports);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(&read, &blocks);

        let theirs = witness(&out);
        let sr = theirs[0].as_any().downcast_ref::<oracle::sender_report::SenderReport>().unwrap();
        prop_assert_eq!((sr.ssrc, sr.ntp_time, sr.rtp_time, sr.packet_count, sr.octet_count), (ssrc, ntp, rtp_timestamp, packets, octets));
        prop_assert!(blocks.iter().zip(&sr.reports).all(|(a, b)| same_block(a, b)));
        for (rr, blocks) in theirs[1..].iter().zip(blocks.chunks(31).skip(1)) {
            let rr = rr.as_any().downcast_ref::<oracle::receiver_report::ReceiverReport>().unwrap();
            prop_assert_eq!(rr.reports.len(), blocks.len());
            prop_assert!(blocks.iter().zip(&rr.reports).all(|(a, b)| same_block(a, b)));
        }
    }

    #[test]
    fn descriptions_and_byes_read_back(ssrcs in prop::collection::vec(any::<u32>(), 1..31), cname in "[a-z]{1,40}") {
        let mut out = Vec::new();
        write_cname(&mut out, Ssrc(ssrcs[0]), &cname);
        prop_assert!(matches!(one(&out), Rtcp::SourceDescription));
        let sdes: oracle::source_description::SourceDescription = as_type(&out);
        prop_assert_eq!(sdes.chunks.len(), 1);
        prop_assert_eq!((sdes.chunks[0].source, &sdes.chunks[0].items[0].text[..]), (ssrcs[0], cname.as_bytes()));

        out.clear();
        write_bye(&mut out, &ssrcs.iter().copied().map(Ssrc).collect::<Vec<_>>());
        let Rtcp::Bye { ssrcs: read } = one(&out) else { panic!() };
        prop_assert_eq!(read.map(|s| s.0).collect::<Vec<_>>(), ssrcs.clone());
        let bye: oracle::goodbye::Goodbye = as_type(&out);
        prop_assert_eq!(bye.sources, ssrcs);
    }

    #[test]
    fn nacks_read_back(sender: u32, media: u32, start: u16, steps in prop::collection::vec(1..40u16, 1..300)) {
        let sequences: Vec<u16> = steps.iter().scan(start, |at, step| { *at = at.wrapping_add(*step); Some(*at) }).collect();
        let mut out = Vec::new();
        write_nack(&mut out, Ssrc(sender), Ssrc(media), sequences.iter().copied());
        let mut read = Vec::new();
        for packet in packets(&out) {
            let Ok(Rtcp::Nack { sender: s, media: m, sequences }) = packet else { panic!() };
            prop_assert_eq!((s.0, m.0), (sender, media));
            read.extend(sequences);
        }
        prop_assert_eq!(&read, &sequences);
        use oracle::transport_feedbacks::transport_layer_nack::TransportLayerNack;
        let theirs: Vec<u16> = witness(&out)
            .iter()
            .flat_map(|p| p.as_any().downcast_ref::<TransportLayerNack>().unwrap().nacks.clone())
            .flat_map(|n| n.packet_list())
            .collect();
        prop_assert_eq!(theirs, sequences);
    }

    #[test]
    fn keyframe_requests_read_back(sender: u32, media: u32, entries in prop::collection::vec((any::<u32>(), any::<u8>()), 1..20)) {
        let mut out = Vec::new();
        write_pli(&mut out, Ssrc(sender), Ssrc(media));
        let Rtcp::Pli { sender: s, media: m } = one(&out) else { panic!() };
        prop_assert_eq!((s.0, m.0), (sender, media));
        let pli: oracle::payload_feedbacks::picture_loss_indication::PictureLossIndication = as_type(&out);
        prop_assert_eq!((pli.sender_ssrc, pli.media_ssrc), (sender, media));

        out.clear();
        write_fir(&mut out, Ssrc(sender), &entries.iter().map(|&(s, n)| (Ssrc(s), n)).collect::<Vec<_>>());
        let Rtcp::Fir { sender: s, entries: read } = one(&out) else { panic!() };
        prop_assert_eq!((s.0, read.map(|(s, n)| (s.0, n)).collect::<Vec<_>>()), (sender, entries.clone()));
        let fir: oracle::payload_feedbacks::full_intra_request::FullIntraRequest = as_type(&out);
        prop_assert_eq!(fir.fir.iter().map(|e| (e.ssrc, e.sequence_number)).collect::<Vec<_>>(), entries);
    }

    #[test]
    fn estimates_read_back(sender: u32, bits in 0..63u32, bitrate: u64, ssrcs in prop::collection::vec(any::<u32>(), 0..20)) {
        let bitrate = bitrate >> bits;
        let mut out = Vec::new();
        write_remb(&mut out, Ssrc(sender), bitrate, &ssrcs.iter().copied().map(Ssrc).collect::<Vec<_>>());
        let Rtcp::Remb { sender: s, bitrate_bps, ssrcs: read } = one(&out) else { panic!() };
        prop_assert_eq!((s.0, read.map(|s| s.0).collect::<Vec<_>>()), (sender, ssrcs.clone()));
        prop_assert!(bitrate_bps <= bitrate && bitrate - bitrate_bps <= bitrate >> 17);
        use oracle::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
        let remb: ReceiverEstimatedMaximumBitrate = as_type(&out);
        prop_assert_eq!((remb.sender_ssrc, remb.ssrcs), (sender, ssrcs));
        // The witness takes a mantissa of 0 for a number.
        prop_assert!(bitrate == 0 || remb.bitrate == bitrate_bps as f32);
    }

    #[test]
    fn transport_feedback_reads_back(
        base_sequence: u16,
        reference_time in -0x80_0000..0x80_0000i32,
        feedback_count: u8,
        runs in prop::collection::vec((prop_oneof![Just(None), (0..256i16).prop_map(Some), any::<i16>().prop_map(Some)], 1..40usize), 1..30),
    ) {
        let deltas: Vec<Option<i16>> = runs.iter().flat_map(|&(d, n)| std::iter::repeat_n(d, n)).collect();
        let head = FeedbackHead { sender: Ssrc(1), media: Ssrc(2), base_sequence, reference_time, feedback_count };
        let mut out = Vec::new();
        write_transport_feedback(&mut out, head, &deltas);
        let Rtcp::TransportFeedback(read) = one(&out) else { panic!() };
        prop_assert_eq!((read.base_sequence, read.reference_time, read.feedback_count), (base_sequence, reference_time, feedback_count));
        let mut ticks = i64::from(reference_time) * 256;
        let want: Vec<_> = deltas.iter().enumerate().map(|(i, d)| {
            ticks += i64::from(d.unwrap_or(0));
            (base_sequence.wrapping_add(i as u16), d.map(|_| ticks * 250))
        }).collect();
        prop_assert_eq!(read.arrivals().collect::<Vec<_>>(), want);

        use oracle::transport_feedbacks::transport_layer_cc::TransportLayerCc;
        let theirs: TransportLayerCc = as_type(&out);
        prop_assert_eq!(theirs.base_sequence_number, base_sequence);
        prop_assert_eq!(usize::from(theirs.packet_status_count), deltas.len());
        let micros: Vec<i64> = theirs.recv_deltas.iter().map(|d| d.delta).collect();
        prop_assert_eq!(micros, deltas.iter().flatten().map(|&d| i64::from(d) * 250).collect::<Vec<_>>());
    }

    #[test]
    fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0..6usize, format in 0..32u8) {
        if let [first, packet_type, a, b, ..] = bytes.as_mut_slice() {
            (*first, *packet_type) = (0x80 | *first & 0x20 | format, [200, 201, 203, 205, 206, 202][kind]);
            (*a, *b) = (0, *b % 32);
        }
        let mut count = 0;
        for packet in packets(&bytes).filter_map(Result::ok) {
            count += match packet {
                Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => reports.count(),
                Rtcp::Bye { ssrcs } | Rtcp::Remb { ssrcs, .. } => ssrcs.count(),
                Rtcp::Nack { sequences, .. } => sequences.count(),
                Rtcp::Fir { entries, .. } => entries.count(),
                Rtcp::TransportFeedback(f) => {
                    let n = f.arrivals().count();
                    prop_assert_eq!(n, usize::from(f.packet_count));
                    n
                }
                _ => 0,
            };
        }
        prop_assert!(count <= 8192 + 17 * bytes.len());
    }
}

#[test]
fn framing_errors_end_the_compound_and_others_do_not() {
    let mut out = Vec::new();
    // A BYE that counts two sources and carries none, then a PLI.
    out.extend([0x82, 203, 0, 0]);
    write_pli(&mut out, Ssrc(1), Ssrc(2));
    let read: Vec<_> = packets(&out).map(|p| p.is_ok()).collect();
    assert_eq!(read, [false, true]);
    // Longer than the datagram.
    out.extend([0x80, 201, 0, 9, 0, 0, 0, 1]);
    let read: Vec<_> = packets(&out).map(|p| p.is_ok()).collect();
    assert_eq!(read, [false, true, false]);
    for bad in [
        &[0x80][..],
        &[0x40, 201, 0, 0],
        &[0xa0, 201, 0, 0],
        &[0xa0, 206, 0, 1, 0, 0, 0, 5],
        &[0xa0, 206, 0, 1, 0, 0, 0, 0],
    ] {
        assert!(packets(bad).all(|p| p.is_err()), "{bad:x?}");
    }
}

#[test]
fn padding_of_the_last_packet_is_left_out() {
    let mut out = Vec::new();
    write_pli(&mut out, Ssrc(1), Ssrc(2));
    out[0] |= 0x20;
    out[3] += 1;
    out.extend([0, 0, 0, 4]);
    assert!(matches!(one(&out), Rtcp::Pli { sender: Ssrc(1), media: Ssrc(2) }));
    write_pli(&mut out, Ssrc(1), Ssrc(2));
    assert!(packets(&out).next().unwrap().is_err(), "padding amid a compound");
}

#[test]
fn estimates_beyond_64_bits_are_refused() {
    let mut out = Vec::new();
    write_remb(&mut out, Ssrc(1), u64::MAX, &[]);
    assert!(matches!(one(&out), Rtcp::Remb { bitrate_bps, .. } if bitrate_bps == 0x3ffff << 46));
    out[17] = 0xff;
    assert!(packets(&out).next().unwrap().is_err());
}

/// Captured from Firefox (the `rtcp` crate has it from webrtc-rs/srtp issue 7).
#[test]
fn feedback_from_firefox_is_read() {
    let bytes = [
        143, 205, 0, 9, 65, 227, 184, 49, 118, 243, 78, 96, 42, 68, 0, 17, 12, 162, 167, 1, 32, 17, 88, 0, 4, 0, 4, 8,
        108, 0, 4, 0, 4, 12, 0, 4, 0, 4, 4, 0,
    ];
    let Rtcp::TransportFeedback(f) = one(&bytes) else { panic!() };
    assert_eq!((f.base_sequence, f.packet_count, f.feedback_count), (10820, 17, 1));
    let arrivals: Vec<_> = f.arrivals().collect();
    assert_eq!(arrivals.len(), 17);
    assert_eq!(arrivals[0], (10820, Some((i64::from(f.reference_time) * 256 + 88) * 250)));
    assert!(arrivals.iter().all(|(_, at)| at.is_some()));
}
