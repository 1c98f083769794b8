//! What anybody may send before anything is known of them: read, checked, answered; and a change of one byte is noticed.
#![no_main]
use exedra::peer::stun::{self, Message, Refusal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let _ = stun::username_local_ufrag(datagram);
    let Ok(request) = Message::parse(datagram) else { return };
    let _ = request.is_authentic("a password of 22 chars");
    let source = ([192, 0, 2, 1], 1).into();
    for answer in [request.success(source, "p"), request.refusal(Refusal::RoleConflict, "p")] {
        assert!(Message::parse(&answer).is_ok_and(|answer| answer.is_authentic("p")));
    }
});
