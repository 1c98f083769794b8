//! Datagrams from a peer that passed ICE, in both roles. The first byte of each says how long it is: a short one is
//! often a whole handshake message.
#![no_main]
use exedra::peer::config::{DtlsConfig, DtlsRole, Fingerprint, FingerprintHash};
use exedra::peer::dtls::DtlsTransport;
use exedra::peer::dtls::rtc_dtls::{LocalIdentity, RtcDtls};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

static IDENTITY: LazyLock<LocalIdentity> = LazyLock::new(|| LocalIdentity::generate().unwrap());

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    for role in [DtlsRole::Server, DtlsRole::Client] {
        let fingerprints = vec![Fingerprint { hash: FingerprintHash::Sha256, value: vec![0; 32] }];
        let mut dtls = RtcDtls::new(&IDENTITY, &DtlsConfig { role, fingerprints });
        dtls.start(now);
        let mut rest = data;
        while let Some((length, after)) = rest.split_first() {
            let (datagram, after) = after.split_at(after.len().min(usize::from(*length) * 4));
            let _ = dtls.handle_datagram(now, datagram);
            rest = after;
            now += Duration::from_millis(100);
            dtls.handle_timeout(now);
            while dtls.poll_transmit().is_some() || dtls.poll_event().is_some() {}
        }
    }
});
