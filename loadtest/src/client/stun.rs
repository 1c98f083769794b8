//! Binding requests of a controlling agent (RFC 8445 section 7.2), and their answers.
use aws_lc_rs::hmac;
use exedra::peer::config::IceCredentials;
use exedra::peer::stun::{Class, Message};

const HEADER: usize = 20;
const MAGIC_COOKIE: u32 = 0x2112_A442;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802A;

/// A transaction id (RFC 8489 section 5).
pub type Transaction = [u8; 12];

/// A check that nominates its pair.
pub fn check(transaction: Transaction, local: &IceCredentials, remote: &IceCredentials) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend(0x0001u16.to_be_bytes());
    out.extend([0, 0]);
    out.extend(MAGIC_COOKIE.to_be_bytes());
    out.extend(transaction);
    attribute(&mut out, USERNAME, format!("{}:{}", remote.ufrag, local.ufrag).as_bytes());
    attribute(&mut out, PRIORITY, &[0x6e, 0, 1, 0xff]);
    attribute(&mut out, ICE_CONTROLLING, &[7; 8]);
    attribute(&mut out, USE_CANDIDATE, &[]);
    set_length(&mut out, 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, remote.pwd.as_bytes());
    let tag = hmac::sign(&key, &out);
    attribute(&mut out, MESSAGE_INTEGRITY, tag.as_ref());
    set_length(&mut out, 8);
    let crc = crc32(&out) ^ 0x5354_554e;
    attribute(&mut out, FINGERPRINT, &crc.to_be_bytes());
    set_length(&mut out, 0);
    out
}

/// The transaction that a genuine success answers.
pub fn answered(datagram: &[u8], remote: &IceCredentials) -> Option<Transaction> {
    let message = Message::parse(datagram).ok()?;
    let genuine = message.class == Class::Success && message.is_authentic(&remote.pwd);
    genuine.then(|| datagram.get(8..HEADER)?.try_into().ok())?
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Writes a length that counts `more` bytes than there are yet.
fn set_length(out: &mut [u8], more: usize) {
    let length = (out.len() - HEADER + more) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str) -> IceCredentials {
        IceCredentials { ufrag: name.to_owned(), pwd: format!("{name}-password-of-22-characters") }
    }

    #[test]
    fn the_server_takes_a_check_and_its_answer_is_known() {
        let (client, server) = (credentials("theirs"), credentials("ours"));
        let raw = check([5; 12], &client, &server);
        let message = Message::parse(&raw).unwrap();
        assert!(message.class == Class::Request && message.use_candidate && message.is_authentic(&server.pwd));
        assert_eq!(message.username, Some("ours:theirs"));
        let answer = message.success("192.0.2.1:5".parse().unwrap(), &server.pwd);
        assert_eq!(answered(&answer, &server), Some([5; 12]));
        assert_eq!(answered(&answer, &client), None);
    }
}
