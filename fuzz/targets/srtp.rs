//! Nothing that was not sealed with the keys is opened, whatever its lengths say; what we seal, we open.
#![no_main]
use exedra::peer::srtp::{SrtpProfile, SsrcState, from_keying_material};
use exedra::rtp::SeqNo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    let mut out = [0; 2048];
    for profile in SrtpProfile::PREFERENCE {
        let material = vec![7; profile.keying_material_len()];
        let Ok((mut outbound, mut inbound)) = from_keying_material(profile, &material, true) else { return };
        // With all bytes of the keys alike, both directions have the same.
        let header_len = packet.first().map_or(12, |n| usize::from(*n));
        let _ = inbound.open_rtp(&mut SsrcState::default(), header_len, 1, packet, &mut out);
        let _ = inbound.open_rtcp(packet, &mut out);
        let mut sealed = [0; 2048];
        if let Some((header, payload)) = packet.split_at_checked(12)
            && let Some(len) = outbound.seal_rtp(SeqNo(65_536 + 1), header, payload, &mut sealed)
        {
            let mut state = SsrcState::default();
            let got = inbound.open_rtp(&mut state, 12, 1, &sealed[..len], &mut out);
            // AES-CM and GCM both count the rollover in: it cannot pass for the first round.
            assert!(got.is_err());
            let len = outbound.seal_rtp(SeqNo(1), header, payload, &mut sealed).unwrap();
            assert_eq!(inbound.open_rtp(&mut state, 12, 1, &sealed[..len], &mut out), Ok((SeqNo(1), packet.len())));
            assert_eq!(&out[..packet.len()], packet);
        }
        if let Some(len) = outbound.seal_rtcp(packet, &mut sealed) {
            assert_eq!(inbound.open_rtcp(&sealed[..len], &mut out), Ok(packet.len()));
            assert_eq!(&out[..packet.len()], packet);
        }
    }
});
