//! Two offers and a fragment, separated by NUL, as a client may send them on one connection.
#![no_main]
use exedra::peer::config::{Fingerprint, FingerprintHash};
use exedra::peer::negotiate::{AnswerContext, ConnectionKind, Negotiation};
use exedra::peer::sdp::SdpLimits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let fingerprint = Fingerprint { hash: FingerprintHash::Sha256, value: vec![0; 32] };
    let limits = SdpLimits::default();
    let context = AnswerContext { fingerprint: &fingerprint, candidates: &[], limits: &limits };
    for kind in [ConnectionKind::Publish, ConnectionKind::Subscribe] {
        let mut negotiation = Negotiation::new(kind, &mut || 1);
        for offer in text.split('\0').take(3) {
            let _ = negotiation.answer(&context, offer);
            let _ = negotiation.fragment(&context, offer);
        }
    }
});
