//! Any bytes as a client's WebSocket frames: no panic, nothing beyond the bound, and however they are cut they say the same.
#![no_main]
use exedra::signal::ws::{Breach, Decoder, Message};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 300;

fn decode(bytes: &[u8], piece: usize) -> (Vec<Message>, Option<Breach>) {
    let mut decoder = Decoder::new(LIMIT);
    let mut messages = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            match decoder.decode(&mut piece) {
                Ok(message) => messages.extend(message),
                Err(breach) => return (messages, Some(breach)),
            }
        }
    }
    (messages, None)
}

fuzz_target!(|data: &[u8]| {
    let [piece, bytes @ ..] = data else { return };
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, usize::from(*piece).max(1)));
    for message in &whole.0 {
        match message {
            Message::Text(text) => assert!(text.len() <= LIMIT),
            Message::Ping(payload) => assert!(payload.len() <= 125),
            Message::Pong | Message::Close => {}
        }
    }
});
