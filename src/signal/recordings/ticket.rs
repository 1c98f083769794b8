//! Tickets: the right to read one recording for a while, in a form that fits into an address.
//!
//! A `<video>` cannot send `Authorization`, and the token itself must not stand in addresses, which are logged and kept. A ticket is
//! `{expiry}-{HMAC-SHA-256 of the id and the expiry}`, in hexadecimal, by a key that is made anew with each start of the server.
use crate::record::session::SessionId;
use aws_lc_rs::hmac;
use std::fmt::Write;

/// How long a ticket is good for, in milliseconds. A page that stays open asks for another one.
pub const LIFETIME_MS: u64 = 3_600_000;

/// Makes tickets, and checks them.
pub struct Tickets(hmac::Key);

impl Tickets {
    /// `key`: random.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// Good until `expires_ms` (Unix milliseconds).
    pub fn issue(&self, id: &SessionId, expires_ms: u64) -> String {
        let tag = hmac::sign(&self.0, &message(id, expires_ms));
        tag.as_ref().iter().fold(format!("{expires_ms:x}-"), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Whether it is ours, for this recording, and still good. Takes the same time wherever it is wrong.
    pub fn admits(&self, id: &SessionId, ticket: &str, now_ms: u64) -> bool {
        let Some((expires, tag)) = ticket.split_once('-') else { return false };
        let (Ok(expires_ms), Some(tag)) = (u64::from_str_radix(expires, 16), bytes(tag)) else { return false };
        hmac::verify(&self.0, &message(id, expires_ms), &tag).is_ok() && now_ms < expires_ms
    }
}

fn message(id: &SessionId, expires_ms: u64) -> Vec<u8> {
    format!("recording {} {expires_ms}", id.as_str()).into_bytes()
}

fn bytes(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_for_one_recording_and_for_a_while() {
        let id = |text: &str| SessionId::try_from(text).unwrap();
        let tickets = Tickets::new(&[7; 32]);
        let ticket = tickets.issue(&id("a-1"), 5_000);
        assert!(tickets.admits(&id("a-1"), &ticket, 4_999));
        assert!(!tickets.admits(&id("a-1"), &ticket, 5_000), "over");
        assert!(!tickets.admits(&id("a-2"), &ticket, 0), "of another recording");
        assert!(!Tickets::new(&[8; 32]).admits(&id("a-1"), &ticket, 0), "of another server");
        let (expires, tag) = ticket.split_once('-').unwrap();
        assert_eq!(tag.len(), 64);
        let later = format!("{:x}-{tag}", u64::from_str_radix(expires, 16).unwrap() + 1);
        let flipped = format!("{expires}-{}{}", if tag.starts_with('0') { '1' } else { '0' }, &tag[1..]);
        for forged in
            [later, flipped, String::new(), "-".into(), format!("{expires}-"), format!("{expires}-{}", &tag[1..])]
        {
            assert!(!tickets.admits(&id("a-1"), &forged, 0), "{forged}");
        }
        assert!(!tickets.admits(&id("a-1"), &format!("{expires}-{}", "ä".repeat(32)), 0));
    }
}
