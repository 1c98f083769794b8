//! Any text as an offer, to publish and to subscribe, and as a trickle fragment. What was accepted once is accepted again, and
//! changes nothing.
#![no_main]
use exedra::peer::config::Fingerprint;
use exedra::peer::negotiate::{AnswerContext, Change, ConnectionKind, Negotiation};
use exedra::peer::sdp::SdpLimits;
use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;

fuzz_target!(|text: &str| {
    let fingerprint: Fingerprint = format!("sha-256 {}", ["AB"; 32].join(":")).parse().expect("a fingerprint");
    let candidates =
        [SocketAddr::from(([192, 0, 2, 1], 7882)), SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 7882))];
    let limits = SdpLimits::default();
    let context = AnswerContext { fingerprint: &fingerprint, candidates: &candidates, limits: &limits };
    for kind in [ConnectionKind::Publish, ConnectionKind::Subscribe] {
        let mut seed = 0;
        let mut negotiation = Negotiation::new(kind, &mut || {
            seed += 1;
            seed
        });
        let before = negotiation.fragment(&context, text);
        assert!(before.is_err(), "a fragment before an offer");
        let Ok(first) = negotiation.answer(&context, text) else { continue };
        assert!(first.answer.len() <= 64 * 1024 + 16 * text.len());
        let again = negotiation.answer(&context, text).expect("accepted before");
        assert_eq!(again.change, Change::Same);
        assert_eq!(again.media.len(), first.media.len());
        let _ = negotiation.fragment(&context, text);
        negotiation.answer(&context, text).expect("accepted before");
    }
});
