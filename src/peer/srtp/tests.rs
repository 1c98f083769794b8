//! Against an implementation that is not ours, in both directions.
use super::*;
use proptest::prelude::*;
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;

const SSRC: u32 = 0x1234_5678;

fn oracle_profile(profile: SrtpProfile) -> ProtectionProfile {
    match profile {
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    }
}

fn master(profile: SrtpProfile) -> (Vec<u8>, Vec<u8>) {
    ((1..=profile.key_len() as u8).collect(), (101..=100 + profile.salt_len() as u8).collect())
}

fn oracle(profile: SrtpProfile) -> Context {
    let (key, salt) = master(profile);
    let provider = rtc_crypto::providers::AwsLcRsProvider::new();
    use rtc_crypto::RTCCryptoProvider as _;
    Context::new(&key, &salt, oracle_profile(profile), None, None, provider.crypto()).unwrap()
}

fn ours(profile: SrtpProfile) -> (SrtpOutbound, SrtpInbound) {
    let (key, salt) = master(profile);
    (SrtpOutbound::new(profile, &key, &salt).unwrap(), SrtpInbound::new(profile, &key, &salt).unwrap())
}

/// A header with an extension, as browsers send it.
fn header(sequence: u16) -> Vec<u8> {
    let mut h = vec![0x90, 96];
    h.extend(sequence.to_be_bytes());
    h.extend(7_u32.to_be_bytes());
    h.extend(SSRC.to_be_bytes());
    h.extend([0xbe, 0xde, 0, 1, 0x31, 9, 9, 0]);
    h
}

fn receiver_report() -> Vec<u8> {
    let mut p = vec![0x80, 201, 0, 1];
    p.extend(SSRC.to_be_bytes());
    p.extend([0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
    p
}

#[test]
fn rtp_is_sealed_and_opened_as_others_do_it() {
    for profile in SrtpProfile::PREFERENCE {
        let (outbound, inbound) = ours(profile);
        let (mut seals, mut opens) = (oracle(profile), oracle(profile));
        let mut state = SsrcState::default();
        // Over one rollover of the sequence number, with payloads of every length in between.
        for n in 0..400_u64 {
            let seq = SeqNo(65_400 + n);
            let (header, payload) = (header(seq.0 as u16), vec![n as u8; n as usize * 3]);
            let plain = [&header[..], &payload].concat();
            let mut out = [0; 1500];

            let len = outbound.seal_rtp(seq, &header, &payload, &mut out).unwrap();
            assert_eq!(len, plain.len() + profile.rtp_overhead());
            assert_eq!(opens.decrypt_rtp(&out[..len]).unwrap(), plain, "{profile:?} {n}");

            let sealed = seals.encrypt_rtp(&plain).unwrap();
            assert_eq!(sealed, out[..len], "{profile:?} {n}");
            let got = inbound.open_rtp(&mut state, header.len(), seq.0 as u16, &sealed, &mut out).unwrap();
            assert_eq!((got, &out[..plain.len()]), ((seq, plain.len()), &plain[..]));
        }
    }
}

#[test]
fn a_payload_in_two_parts_is_the_same_as_in_one() {
    for profile in SrtpProfile::PREFERENCE {
        let (outbound, _) = ours(profile);
        let (header, payload) = (header(9), [5; 300]);
        let (mut whole, mut parts) = ([0; 400], [0; 400]);
        let len = outbound.seal_rtp(SeqNo(9), &header, &payload, &mut whole).unwrap();
        for split in [0, 2, 16] {
            parts[..header.len()].copy_from_slice(&header);
            let (head, tail) = payload.split_at(split);
            assert_eq!(outbound.seal_rtp_parts(SeqNo(9), header.len(), head, tail, &mut parts), Some(len));
            assert_eq!(whole, parts);
        }
        assert_eq!(outbound.seal_rtp(SeqNo(9), &header, &payload, &mut whole[..len - 1]), None);
        assert_eq!(outbound.seal_rtp_parts(SeqNo(9), 4, &payload, &[], &mut parts), None);
    }
}

#[test]
fn rtcp_is_sealed_and_opened_as_others_do_it() {
    for profile in SrtpProfile::PREFERENCE {
        let (mut outbound, mut inbound) = ours(profile);
        let (mut seals, mut opens) = (oracle(profile), oracle(profile));
        let plain = receiver_report();
        for _ in 0..100 {
            let mut out = [0; 200];
            let len = outbound.seal_rtcp(&plain, &mut out).unwrap();
            assert_eq!(len, plain.len() + profile.rtcp_overhead());
            assert_eq!(opens.decrypt_rtcp(&out[..len]).unwrap(), plain);

            let sealed = seals.encrypt_rtcp(&plain).unwrap();
            assert_eq!(inbound.open_rtcp(&sealed, &mut out), Ok(plain.len()));
            assert_eq!(&out[..plain.len()], plain);
            assert_eq!(inbound.open_rtcp(&sealed, &mut out), Err(DropReason::SrtpReplayed));
        }
    }
}

/// rtc-srtp 0.21.1 takes any AES-CM packet with a cleared E bit without looking at the tag.
#[test]
fn rtcp_that_is_not_encrypted_still_needs_a_tag() {
    for profile in SrtpProfile::PREFERENCE {
        let (_, mut inbound) = ours(profile);
        let mut forged = receiver_report();
        let mut out = [0; 200];
        forged.extend(match profile {
            SrtpProfile::AesCm128HmacSha1_80 => [&[0, 0, 0, 1][..], &[0; CM_TAG]].concat(),
            _ => [&[0; 16][..], &[0, 0, 0, 1]].concat(),
        });
        assert_eq!(inbound.open_rtcp(&forged, &mut out), Err(DropReason::SrtpUnauthenticated), "{profile:?}");
    }
}

const CM_TAG: usize = 10;

#[test]
fn what_is_forged_changes_nothing() {
    for profile in SrtpProfile::PREFERENCE {
        let (mut outbound, mut inbound) = ours(profile);
        let mut state = SsrcState::default();
        let (header, mut sealed, mut out) = (header(1000), [0; 200], [0; 200]);
        let len = outbound.seal_rtp(SeqNo(1000), &header, &[1; 50], &mut sealed).unwrap();
        for at in 0..len {
            let mut forged = sealed;
            forged[at] ^= 0x10;
            let sequence = u16::from_be_bytes([forged[2], forged[3]]);
            let got = inbound.open_rtp(&mut state, header.len(), sequence, &forged[..len], &mut out);
            assert_eq!(got, Err(DropReason::SrtpUnauthenticated), "{profile:?} byte {at}");
        }
        for cut in 0..len {
            assert!(inbound.open_rtp(&mut state, header.len(), 1000, &sealed[..cut], &mut out).is_err());
        }
        assert!(inbound.open_rtp(&mut state, header.len(), 1000, &sealed[..len], &mut out).is_ok());
        let again = inbound.open_rtp(&mut state, header.len(), 1000, &sealed[..len], &mut out);
        assert_eq!(again, Err(DropReason::SrtpReplayed));

        let len = outbound.seal_rtcp(&receiver_report(), &mut sealed).unwrap();
        for at in 0..len {
            let mut forged = sealed;
            forged[at] ^= 0x10;
            assert!(inbound.open_rtcp(&forged[..len], &mut out).is_err(), "{profile:?} byte {at}");
            assert!(inbound.open_rtcp(&sealed[..at], &mut out).is_err());
        }
        assert!(inbound.open_rtcp(&sealed[..len], &mut out).is_ok());
    }
}

#[test]
fn both_ends_agree_on_who_has_which_key() {
    for profile in SrtpProfile::PREFERENCE {
        let material: Vec<u8> = (0..profile.keying_material_len() as u8).collect();
        let (client_out, client_in) = from_keying_material(profile, &material, true).unwrap();
        let (server_out, server_in) = from_keying_material(profile, &material, false).unwrap();
        let (header, mut sealed, mut out) = (header(1), [0; 200], [0; 200]);
        for (from, to) in [(&client_out, &server_in), (&server_out, &client_in)] {
            let len = from.seal_rtp(SeqNo(1), &header, b"hello", &mut sealed).unwrap();
            assert!(to.open_rtp(&mut SsrcState::default(), header.len(), 1, &sealed[..len], &mut out).is_ok());
        }
        assert!(from_keying_material(profile, &material[1..], true).is_err());
        assert_eq!(SrtpProfile::from_id(profile.id()), Some(profile));
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(packet in prop::collection::vec(any::<u8>(), 0..200), header_len in 0_usize..220) {
        let mut out = [0; 256];
        for profile in SrtpProfile::PREFERENCE {
            let (_, mut inbound) = ours(profile);
            let mut state = SsrcState::default();
            prop_assert!(inbound.open_rtp(&mut state, header_len, 5, &packet, &mut out).is_err());
            prop_assert!(inbound.open_rtcp(&packet, &mut out).is_err());
        }
    }
}
