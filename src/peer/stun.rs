//! The part of STUN (RFC 8489) that ICE-lite needs: read a Binding message, check it, write the answer.
//!
//! It reads what anybody may send: nothing is copied, every length is checked, and the number of attributes is bounded.
use crate::metrics::DropReason;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use std::net::{IpAddr, SocketAddr};

const HEADER: usize = 20;
const MAGIC_COOKIE: u32 = 0x2112_A442;
const INTEGRITY: usize = 20;
const INTEGRITY_ATTRIBUTE: usize = 4 + INTEGRITY;
const FINGERPRINT_ATTRIBUTE: usize = 8;
const FINGERPRINT_XOR: u32 = 0x5354_554E;
/// No check has more; a datagram of nothing but empty attributes stops here.
const MAX_ATTRIBUTES: usize = 32;

mod attribute {
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802A;
}

/// Of a Binding message: no other method is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// A Binding message that is well formed. Nothing in it may be believed before [`is_authentic`](Self::is_authentic).
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    raw: &'a [u8],
    pub class: Class,
    pub username: Option<&'a str>,
    pub use_candidate: bool,
    /// The sender takes the controlled role (ICE-CONTROLLED).
    pub controlled: bool,
    /// A comprehension-required attribute that we do not know: the first one.
    pub unknown: Option<u16>,
    /// Where MESSAGE-INTEGRITY starts.
    integrity: Option<usize>,
}

/// The ufrag of ours in the USERNAME of a Binding request: what finds the peer for an address that is not known yet.
/// `None` if this is no such request. Nothing is authenticated.
pub fn username_local_ufrag(datagram: &[u8]) -> Option<&str> {
    let message = Message::parse(datagram).ok()?;
    if message.class != Class::Request {
        return None;
    }
    // RFC 8445 section 7.2.2: the ufrag of whom it is sent to, a colon, the ufrag of the sender.
    message.username?.split_once(':').map(|(local, _)| local)
}

impl<'a> Message<'a> {
    /// Reads a Binding message. FINGERPRINT is checked if it is there.
    pub fn parse(datagram: &'a [u8]) -> Result<Message<'a>, DropReason> {
        Self::read(datagram).ok_or(DropReason::StunMalformed)
    }

    fn read(raw: &'a [u8]) -> Option<Message<'a>> {
        let class = match be16(raw, 0)? {
            0x0001 => Class::Request,
            0x0011 => Class::Indication,
            0x0101 => Class::Success,
            0x0111 => Class::Error,
            _ => return None,
        };
        let length = usize::from(be16(raw, 2)?);
        if be32(raw, 4)? != MAGIC_COOKIE || length % 4 != 0 || raw.len() != HEADER + length {
            return None;
        }
        let mut message = Message {
            raw,
            class,
            username: None,
            use_candidate: false,
            controlled: false,
            unknown: None,
            integrity: None,
        };
        let mut at = HEADER;
        for _ in 0..MAX_ATTRIBUTES {
            if at == raw.len() {
                return Some(message);
            }
            let kind = be16(raw, at)?;
            let length = usize::from(be16(raw, at + 2)?);
            let value = raw.get(at + 4..at + 4 + length)?;
            message.attribute(at, kind, value)?;
            at += 4 + length.next_multiple_of(4);
        }
        None
    }

    fn attribute(&mut self, at: usize, kind: u16, value: &'a [u8]) -> Option<()> {
        use attribute::*;
        if kind == FINGERPRINT {
            let expected = crc32(self.raw.get(..at)?) ^ FINGERPRINT_XOR;
            let last = at + FINGERPRINT_ATTRIBUTE == self.raw.len();
            return (last && value == expected.to_be_bytes()).then_some(());
        }
        // What follows MESSAGE-INTEGRITY is not authenticated, and is ignored (RFC 8489 section 14.5).
        if self.integrity.is_some() {
            return Some(());
        }
        match kind {
            USERNAME => self.username = Some(std::str::from_utf8(value).ok()?),
            MESSAGE_INTEGRITY if value.len() == INTEGRITY => self.integrity = Some(at),
            MESSAGE_INTEGRITY => return None,
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLED => self.controlled = true,
            PRIORITY | ICE_CONTROLLING | MESSAGE_INTEGRITY_SHA256 | XOR_MAPPED_ADDRESS | ERROR_CODE => {}
            unknown if unknown < 0x8000 => self.unknown = self.unknown.or(Some(unknown)),
            _ => {}
        }
        Some(())
    }

    /// True if MESSAGE-INTEGRITY is there and was made with this password (RFC 8489 section 14.5).
    pub fn is_authentic(&self, password: &str) -> bool {
        let Some(at) = self.integrity else { return false };
        let claimed = self.raw.get(at + 4..at + INTEGRITY_ATTRIBUTE);
        let tag = integrity(password, self.raw, at);
        claimed.zip(tag).is_some_and(|(claimed, tag)| verify_slices_are_equal(claimed, tag.as_ref()).is_ok())
    }

    /// The answer to this request, signed: `source` is where the request came from.
    pub fn success(&self, source: SocketAddr, password: &str) -> Vec<u8> {
        let mut answer = Writer::answer_to(self, 0x0101);
        answer.xor_mapped_address(source);
        answer.finish(password)
    }

    /// The refusal of this request, signed.
    pub fn refusal(&self, refusal: Refusal, password: &str) -> Vec<u8> {
        let mut answer = Writer::answer_to(self, 0x0111);
        match refusal {
            Refusal::RoleConflict => answer.error(487, "Role Conflict"),
            Refusal::UnknownAttribute(kind) => {
                answer.error(420, "Unknown Attribute");
                answer.attribute(attribute::UNKNOWN_ATTRIBUTES, &kind.to_be_bytes());
            }
        }
        answer.finish(password)
    }
}

/// Why a genuine request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Both take the same role: the other one has to change its own (RFC 8445 section 7.3.1.1).
    RoleConflict,
    /// A comprehension-required attribute that we do not know (RFC 8489 section 6.3.1).
    UnknownAttribute(u16),
}

/// Writes one message; the length in its header is kept true.
struct Writer(Vec<u8>);

impl Writer {
    fn answer_to(request: &Message<'_>, kind: u16) -> Self {
        // The longest answer, a success to an IPv6 address, has 76 bytes.
        let mut bytes = Vec::with_capacity(80);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 0]);
        // The magic cookie and the transaction id; `read` saw that they are there.
        bytes.extend(request.raw.iter().take(HEADER).skip(4));
        Self(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(kind.to_be_bytes());
        self.0.extend((value.len() as u16).to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.set_length(self.0.len());
    }

    fn set_length(&mut self, end: usize) {
        let length = (end - HEADER) as u16;
        self.0[2..4].copy_from_slice(&length.to_be_bytes());
    }

    /// RFC 8489 section 14.2: the address is exclusive-ored with the magic cookie and the transaction id.
    fn xor_mapped_address(&mut self, address: SocketAddr) {
        let mut value = [0; 20];
        value[2..4].copy_from_slice(&(address.port() ^ (MAGIC_COOKIE >> 16) as u16).to_be_bytes());
        let len = match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..].copy_from_slice(&ip.octets());
                20
            }
        };
        value[4..].iter_mut().zip(&self.0[4..HEADER]).for_each(|(byte, mask)| *byte ^= mask);
        self.attribute(attribute::XOR_MAPPED_ADDRESS, &value[..len]);
    }

    fn error(&mut self, code: u16, reason: &str) {
        let mut value = vec![0, 0, (code / 100) as u8, (code % 100) as u8];
        value.extend(reason.as_bytes());
        self.attribute(attribute::ERROR_CODE, &value);
    }

    fn finish(mut self, password: &str) -> Vec<u8> {
        if let Some(tag) = integrity(password, &self.0, self.0.len()) {
            self.attribute(attribute::MESSAGE_INTEGRITY, tag.as_ref());
        }
        // The checksum covers a header that counts the FINGERPRINT attribute already.
        let at = self.0.len();
        self.set_length(at + FINGERPRINT_ATTRIBUTE);
        let crc = crc32(&self.0) ^ FINGERPRINT_XOR;
        self.attribute(attribute::FINGERPRINT, &crc.to_be_bytes());
        self.0
    }
}

/// HMAC-SHA1 over what comes before offset `at`, with a header that ends the message after MESSAGE-INTEGRITY.
fn integrity(password: &str, raw: &[u8], at: usize) -> Option<hmac::Tag> {
    let length = u16::try_from(at.checked_sub(HEADER)? + INTEGRITY_ATTRIBUTE).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(raw.get(..2)?);
    context.update(&length.to_be_bytes());
    context.update(raw.get(4..at)?);
    Some(context.sign())
}

/// The CRC-32 of ISO 3309, as FINGERPRINT wants it.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let (mut crc, mut bit) = (n as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[n] = crc;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| TABLE[(crc as u8 ^ byte) as usize] ^ crc >> 8)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// What a Binding request of a test says.
    #[derive(Clone, Debug)]
    pub struct Request<'a> {
        pub username: &'a str,
        pub password: Option<&'a str>,
        pub transaction: [u8; 12],
        pub use_candidate: bool,
        pub controlled: bool,
        pub extra: Option<u16>,
    }

    impl Request<'_> {
        pub fn write(&self) -> Vec<u8> {
            let mut bytes = vec![0, 1, 0, 0];
            bytes.extend(MAGIC_COOKIE.to_be_bytes());
            bytes.extend(self.transaction);
            let mut w = Writer(bytes);
            w.attribute(attribute::USERNAME, self.username.as_bytes());
            w.attribute(attribute::PRIORITY, &[0x6e, 0, 1, 0xff]);
            let role = if self.controlled { attribute::ICE_CONTROLLED } else { attribute::ICE_CONTROLLING };
            w.attribute(role, &[7; 8]);
            if self.use_candidate {
                w.attribute(attribute::USE_CANDIDATE, &[]);
            }
            if let Some(kind) = self.extra {
                w.attribute(kind, &[1, 2, 3, 4, 5]);
            }
            match self.password {
                Some(password) => w.finish(password),
                None => w.0,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Request;
    use super::*;
    use proptest::prelude::*;
    use rtc::stun::message::{Message as Oracle, TransactionId};
    use rtc::stun::xoraddr::XorMappedAddress;

    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    fn request() -> Request<'static> {
        Request {
            username: "ours:theirs",
            password: Some(PASSWORD),
            transaction: [3; 12],
            use_candidate: true,
            controlled: false,
            extra: None,
        }
    }

    /// RFC 5769 section 2.1.
    #[test]
    fn the_request_of_the_rfc_is_authentic() {
        let raw: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
            \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
            \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
            \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
            \x80\x28\x00\x04\xe5\x7a\x3b\xcf";
        let message = Message::parse(raw).unwrap();
        assert_eq!((message.class, message.username, message.controlled), (Class::Request, Some("evtj:h6vY"), true));
        assert!(message.is_authentic(PASSWORD));
        assert!(!message.is_authentic("VOkJxbRl1RmTxUk/WvJxBu"));
        assert_eq!(username_local_ufrag(raw), Some("evtj"));
    }

    #[test]
    fn an_answer_is_read_by_others() {
        let raw = request().write();
        let message = Message::parse(&raw).unwrap();
        assert!(message.use_candidate && message.is_authentic(PASSWORD));
        for source in ["192.0.2.1:32853", "[2001:db8::1]:32853", "[::ffff:192.0.2.1]:32853"] {
            let source: SocketAddr = source.parse().unwrap();
            let answer = message.success(source, PASSWORD);
            let ours = Message::parse(&answer).unwrap();
            assert!(ours.class == Class::Success && ours.is_authentic(PASSWORD));

            use rtc::stun::attributes::ATTR_XORMAPPED_ADDRESS;
            use rtc_crypto::RTCCryptoProvider as _;
            let mut oracle = Oracle::new();
            oracle.unmarshal_binary(&answer).unwrap();
            assert_eq!(oracle.transaction_id, TransactionId([3; 12]));
            let provider = rtc_crypto::providers::AwsLcRsProvider::new();
            rtc::stun::integrity::MessageIntegrity::check(&mut oracle, PASSWORD.as_bytes(), provider.crypto()).unwrap();
            rtc::stun::fingerprint::FINGERPRINT.check(&oracle).unwrap();
            let mut mapped = XorMappedAddress::default();
            mapped.get_from_as(&oracle, ATTR_XORMAPPED_ADDRESS).unwrap();
            assert_eq!((mapped.ip, mapped.port), (source.ip().to_canonical(), source.port()));
        }
        for refusal in [Refusal::RoleConflict, Refusal::UnknownAttribute(0x7777)] {
            let answer = message.refusal(refusal, PASSWORD);
            let ours = Message::parse(&answer).unwrap();
            assert!(ours.class == Class::Error && ours.is_authentic(PASSWORD));
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let raw = request().write();
        // (Its own type changed, FINGERPRINT is an attribute that nobody knows.)
        let of_type = raw.len() - FINGERPRINT_ATTRIBUTE;
        for at in (0..raw.len()).filter(|at| !(of_type..of_type + 2).contains(at)) {
            let mut forged = raw.clone();
            forged[at] ^= 1;
            assert!(Message::parse(&forged).is_err(), "byte {at}: FINGERPRINT did not notice");
        }
        // Without FINGERPRINT, MESSAGE-INTEGRITY has to notice.
        let mut bare = raw[..raw.len() - FINGERPRINT_ATTRIBUTE].to_vec();
        let length = (bare.len() - HEADER) as u16;
        bare[2..4].copy_from_slice(&length.to_be_bytes());
        assert!(Message::parse(&bare).unwrap().is_authentic(PASSWORD));
        for at in 0..bare.len() {
            let mut forged = bare.clone();
            forged[at] ^= 1;
            assert!(!Message::parse(&forged).is_ok_and(|m| m.is_authentic(PASSWORD)), "byte {at}");
        }
    }

    #[test]
    fn an_attribute_that_must_be_understood_is_reported() {
        let raw = Request { extra: Some(0x0031), ..request() }.write();
        assert_eq!(Message::parse(&raw).unwrap().unknown, Some(0x0031));
        let raw = Request { extra: Some(0xC057), ..request() }.write();
        assert_eq!(Message::parse(&raw).unwrap().unknown, None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Message::parse(&bytes);
            // As above, with a header that gets past the first look.
            if bytes.len() >= HEADER {
                let length = (bytes.len() - HEADER) as u16;
                bytes[..8].copy_from_slice(&[0, 1, (length >> 8) as u8, length as u8, 0x21, 0x12, 0xa4, 0x42]);
                let _ = Message::parse(&bytes).map(|m| m.is_authentic(PASSWORD));
                let _ = username_local_ufrag(&bytes);
            }
        }
    }
}
