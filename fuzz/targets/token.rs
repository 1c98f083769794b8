//! Any text as a token: nobody comes in by a guess.
#![no_main]
use exedra::room::Grants;
use exedra::signal::auth::{Access, Secret, Visitor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let secret = Secret::try_from("0123456789abcdef0123456789abcdef").expect("long enough");
    let access = Access { secret: Some(secret), open: false, guests: Grants::default() };
    let visitor = Visitor { token: Some(text), room: Some("room"), name: Some(text) };
    assert!(access.admit(visitor, 1_700_000_000_000).is_err());
});
