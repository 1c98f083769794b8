//! A real handshake through a network that loses, repeats, cuts and alters datagrams as the input says: four bytes for each.
#![no_main]
use exedra::peer::config::{DtlsConfig, DtlsRole};
use exedra::peer::dtls::rtc_dtls::{LocalIdentity, RtcDtls};
use exedra::peer::dtls::{DtlsEvent, DtlsTransport};
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Instant;

static IDENTITIES: LazyLock<[LocalIdentity; 2]> =
    LazyLock::new(|| [(); 2].map(|()| LocalIdentity::generate().expect("a key pair")));
const TIMEOUTS: usize = 16;

fuzz_target!(|script: &[u8]| {
    let mut now = Instant::now();
    let mut ends = [DtlsRole::Client, DtlsRole::Server].map(|role| {
        let us = usize::from(role == DtlsRole::Server);
        let config = DtlsConfig { role, fingerprints: vec![IDENTITIES[1 - us].fingerprint().clone()] };
        RtcDtls::new(&IDENTITIES[us], &config)
    });
    ends.iter_mut().for_each(|end| end.start(now));
    let mut in_flight = VecDeque::new();
    let mut keys = [None, None];
    let undisturbed = script.as_chunks::<4>().0.iter().all(|[action, ..]| action % 8 < 4);
    let mut script = script.as_chunks::<4>().0.iter();
    let mut timeouts = 0;
    loop {
        for (i, end) in ends.iter_mut().enumerate() {
            in_flight.extend(std::iter::from_fn(|| end.poll_transmit()).map(|datagram| (1 - i, datagram)));
            while let Some(event) = end.poll_event() {
                if let DtlsEvent::Connected(keying) = event {
                    keys[i] = Some(keying.material);
                }
            }
        }
        let Some((to, mut datagram)) = in_flight.pop_front() else {
            let Some(next) = ends.iter().filter_map(|end| end.poll_timeout()).min() else { break };
            timeouts += 1;
            if timeouts > TIMEOUTS {
                break;
            }
            now = now.max(next);
            ends.iter_mut().for_each(|end| end.handle_timeout(now));
            continue;
        };
        let &[action, high, low, value] = script.next().unwrap_or(&[0; 4]);
        let at = usize::from(u16::from_be_bytes([high, low])) % datagram.len().max(1);
        match action % 8 {
            4 => continue,
            5 => in_flight.push_back((to, datagram.clone())),
            6 => datagram[at] ^= value,
            7 => datagram.truncate(at),
            _ => {}
        }
        let _ = ends[to].handle_datagram(now, &datagram);
    }
    match keys {
        [Some(client), Some(server)] => assert_eq!(client, server, "both are connected, so both have the same keys"),
        _ => assert!(!undisturbed, "connected through a network that does nothing"),
    }
});
