//! Datagrams to a DTLS server before and amid the handshake, each with its length in two bytes before it, and timeouts between.
#![no_main]
use exedra::peer::config::{DtlsConfig, DtlsRole, Fingerprint};
use exedra::peer::dtls::rtc_dtls::{LocalIdentity, RtcDtls};
use exedra::peer::dtls::{DtlsEvent, DtlsTransport};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::Instant;

static IDENTITY: LazyLock<LocalIdentity> = LazyLock::new(|| LocalIdentity::generate().expect("a key pair"));

fuzz_target!(|stream: &[u8]| {
    let fingerprint: Fingerprint = format!("sha-256 {}", ["AB"; 32].join(":")).parse().expect("a fingerprint");
    let config = DtlsConfig { role: DtlsRole::Server, fingerprints: vec![fingerprint] };
    let mut dtls = RtcDtls::new(&IDENTITY, &config);
    let mut now = Instant::now();
    dtls.start(now);
    let (mut rest, mut sent) = (stream, 0);
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = u16::from_be_bytes(*len);
        let (datagram, after) = after.split_at(after.len().min(usize::from(len & 0x7fff)));
        rest = after;
        let _ = dtls.handle_datagram(now, datagram);
        if len & 0x8000 != 0
            && let Some(timeout) = dtls.poll_timeout()
        {
            now = now.max(timeout);
            dtls.handle_timeout(now);
        }
        while let Some(transmit) = dtls.poll_transmit() {
            sent += transmit.len();
        }
        while let Some(event) = dtls.poll_event() {
            assert!(!matches!(event, DtlsEvent::Connected(_)), "without the certificate");
        }
    }
    assert!(sent <= 64 * 1024 + 64 * stream.len());
});
