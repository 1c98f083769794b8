//! Binding messages are read, and what is answered to them is well formed and signed. None of a fuzzer's is authentic.
#![no_main]
use exedra::peer::stun::{Message, Refusal, username_local_ufrag};
use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;

const PASSWORD: &str = "an ICE password of ours";

fuzz_target!(|datagram: &[u8]| {
    let ufrag = username_local_ufrag(datagram);
    let Ok(message) = Message::parse(datagram) else {
        assert_eq!(ufrag, None);
        return;
    };
    assert!(!message.is_authentic(PASSWORD));
    let port = u16::from_be_bytes([datagram[0], datagram[1]]);
    for source in
        [SocketAddr::from(([192, 0, 2, 1], port)), SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port))]
    {
        let success = message.success(source, PASSWORD);
        assert!(Message::parse(&success).is_ok_and(|m| m.is_authentic(PASSWORD)));
    }
    for refusal in [Refusal::RoleConflict, Refusal::UnknownAttribute(port)] {
        let refused = message.refusal(refusal, PASSWORD);
        assert!(Message::parse(&refused).is_ok_and(|m| m.is_authentic(PASSWORD)));
    }
});
