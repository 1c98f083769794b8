//! Compounds are read to the end of every list, within a bound that follows from their length; NACKs survive being written again.
#![no_main]
use exedra::rtp::rtcp::{self, Rtcp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|compound: &[u8]| {
    let mut items = 0;
    let mut packets = 0;
    for packet in rtcp::packets(compound) {
        packets += 1;
        let Ok(packet) = packet else { continue };
        items += match packet {
            Rtcp::SenderReport { reports, .. } | Rtcp::ReceiverReport { reports, .. } => reports.count(),
            Rtcp::Bye { ssrcs } | Rtcp::Remb { ssrcs, .. } => ssrcs.count(),
            Rtcp::Fir { entries, .. } => entries.count(),
            Rtcp::Nack { sender, media, sequences } => {
                let mut written = Vec::new();
                rtcp::write_nack(&mut written, sender, media, sequences.clone());
                let again = rtcp::packets(&written).flatten().flat_map(|p| match p {
                    Rtcp::Nack { sequences, .. } => sequences,
                    other => panic!("{other:?}"),
                });
                let mut want: Vec<_> = sequences.clone().collect();
                let mut again: Vec<_> = again.collect();
                want.sort_unstable();
                want.dedup();
                again.sort_unstable();
                again.dedup();
                assert_eq!(again, want);
                sequences.count()
            }
            Rtcp::TransportFeedback(feedback) => {
                let told = feedback.arrivals().count();
                assert_eq!(told, usize::from(feedback.packet_count));
                assert!(told <= 8192);
                0
            }
            Rtcp::SourceDescription | Rtcp::Pli { .. } | Rtcp::Other { .. } => 0,
        };
    }
    assert!(packets <= compound.len() / 4 + 1 && items <= 17 * compound.len() / 4);
});
