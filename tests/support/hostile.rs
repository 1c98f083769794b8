//! Datagrams that mean harm, or are broken.
use rtc::ice::attributes::control::AttrControlling;
use rtc::ice::attributes::priority::PriorityAttr;
use rtc::ice::attributes::use_candidate::UseCandidateAttr;
use rtc::stun::attributes::ATTR_USERNAME;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use rtc::stun::textattrs::Username;
use rtc_crypto::RTCCryptoProvider;

/// A connectivity check for `ufrag` that nominates its path, made with `password`.
pub fn check(ufrag: &str, password: &str) -> Vec<u8> {
    let provider = rtc_crypto::providers::AwsLcRsProvider::new();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.into(), provider.crypto());
    let parts: [Box<dyn Setter>; 8] = [
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(Username::new(ATTR_USERNAME, format!("{ufrag}:evil"))),
        Box::new(AttrControlling(u64::MAX)),
        Box::new(PriorityAttr(1_853_824_767)),
        Box::new(UseCandidateAttr::new()),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&parts).unwrap();
    message.raw.to_vec()
}

/// What somebody sends who was never here: none of it may be answered.
pub fn of_strangers(check: &[u8], recorded: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![check.to_vec(), recorded.to_vec(), client_hello(), alert()];
    // Cut everywhere, with a length field that still promises the rest.
    all.extend((0..check.len()).map(|len| check[..len].to_vec()));
    // A check without MESSAGE-INTEGRITY: the header and USERNAME alone.
    let username = 24 + usize::from(check[23]).next_multiple_of(4);
    let mut bare = check[..username].to_vec();
    bare[2..4].copy_from_slice(&(username as u16 - 20).to_be_bytes());
    all.push(bare);
    all.extend((0..=255).map(|first: u8| [&[first][..], &check[1..]].concat()));
    all
}

/// What somebody sends who can use the address of a peer, but knows no key: `ssrc` is one of that peer.
pub fn of_neighbours(ssrc: u32) -> Vec<Vec<u8>> {
    let mut all = vec![vec![0xff; 1200], vec![0x80], vec![22; 13], client_hello(), alert()];
    let hello = client_hello();
    all.extend((1..hello.len()).map(|len| hello[..len].to_vec()));
    let mut rtp = vec![0x90, 96, 0xff, 0xff, 0, 0, 0, 0];
    rtp.extend(ssrc.to_be_bytes());
    // An extension that claims more than there is.
    rtp.extend([0xbe, 0xde, 0xff, 0xff]);
    all.push(rtp.clone());
    all.extend((1..rtp.len()).map(|len| rtp[..len].to_vec()));
    for seq in [0_u16, 1, 0x7fff, 0x8000, 0xffff] {
        let mut forged = vec![0x80, 96];
        forged.extend(seq.to_be_bytes());
        forged.extend([0, 1, 2, 3]);
        forged.extend(ssrc.to_be_bytes());
        forged.extend([0x55; 900]);
        all.push(forged);
    }
    // A BYE and a PLI that nobody signed.
    for (kind, count) in [(203, 1), (206, 1)] {
        let mut rtcp = vec![0x80 | count, kind, 0, 2];
        rtcp.extend(ssrc.to_be_bytes());
        rtcp.extend(ssrc.to_be_bytes());
        rtcp.extend([0; 24]);
        all.push(rtcp);
    }
    all
}

/// The datagram with one bit of its payload changed.
pub fn flipped(datagram: &[u8]) -> Vec<u8> {
    let mut flipped = datagram.to_vec();
    let middle = datagram.len() / 2;
    flipped[middle] ^= 0x10;
    flipped
}

/// A fatal alert in plain text, as if before the handshake (RFC 6347 section 4.1, RFC 5246 section 7.2).
fn alert() -> Vec<u8> {
    vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 200, 0, 2, 2, 40]
}

/// A ClientHello that begins a new handshake, without extensions.
fn client_hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([7; 32]);
    // No session, no cookie, one suite, no compression.
    body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let len = body.len() as u8;
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 201, 0, len + 12];
    record.extend([1, 0, 0, len, 0, 0, 0, 0, 0, 0, 0, len]);
    record.extend(body);
    record
}
