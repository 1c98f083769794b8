//! Both roles against each other, over a network that loses, repeats and reorders.
use super::rtc_dtls::{LocalIdentity, RtcDtls};
use super::*;
use crate::peer::config::{DtlsConfig, DtlsRole};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

struct End {
    dtls: RtcDtls,
    /// What arrives, and when.
    inbox: Vec<(Instant, Vec<u8>)>,
    events: Vec<DtlsEvent>,
}

impl End {
    fn new(identity: &LocalIdentity, role: DtlsRole, fingerprints: Vec<Fingerprint>) -> Self {
        let dtls = RtcDtls::new(identity, &DtlsConfig { role, fingerprints });
        Self { dtls, inbox: vec![], events: vec![] }
    }

    fn keying(&self) -> Option<&SrtpKeying> {
        self.events.iter().find_map(|event| match event {
            DtlsEvent::Connected(keying) => Some(keying),
            _ => None,
        })
    }
}

/// Client and server, and the network between them.
struct Pair {
    now: Instant,
    client: End,
    server: End,
    random: StdRng,
    loss: f64,
    /// Datagrams are cut down to records and handshake fragments of this size at most.
    fragment: Option<usize>,
    /// How likely a datagram has some bytes changed.
    damage: f64,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let (a, b) = (LocalIdentity::generate().unwrap(), LocalIdentity::generate().unwrap());
        Self {
            now: start(),
            client: End::new(&a, DtlsRole::Client, vec![b.fingerprint().clone()]),
            server: End::new(&b, DtlsRole::Server, vec![a.fingerprint().clone()]),
            random: StdRng::seed_from_u64(seed),
            loss: 0.0,
            fragment: None,
            damage: 0.0,
        }
    }

    fn run(&mut self, seconds: u64) {
        self.client.dtls.start(self.now);
        for _ in 0..seconds * 100 {
            self.turn(true);
            self.turn(false);
            self.now += Duration::from_millis(10);
        }
    }

    fn turn(&mut self, client: bool) {
        let now = self.now;
        let (from, to) = match client {
            true => (&mut self.client, &mut self.server),
            false => (&mut self.server, &mut self.client),
        };
        let due: Vec<_> = from.inbox.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, datagram) in due {
            let _ = from.dtls.handle_datagram(now, &datagram);
        }
        from.dtls.handle_timeout(now);
        from.events.extend(std::iter::from_fn(|| from.dtls.poll_event()));
        while let Some(datagram) = from.dtls.poll_transmit() {
            let pieces = self.fragment.map_or_else(|| vec![datagram.clone()], |size| cut(&datagram, size));
            for mut piece in pieces {
                let copies = if self.random.random_bool(self.loss / 2.0) { 2 } else { 1 };
                if self.random.random_bool(self.damage) {
                    for _ in 0..self.random.random_range(1..4) {
                        let at = self.random.random_range(0..piece.len());
                        piece[at] = self.random.random();
                    }
                }
                for _ in 0..copies {
                    if !self.random.random_bool(self.loss) {
                        // A spread of 40 ms is plenty of reordering.
                        to.inbox.push((now + Duration::from_millis(self.random.random_range(5..45)), piece.clone()));
                    }
                }
            }
        }
    }
}

/// Cuts the plaintext handshake messages of a datagram into fragments of `size`, each in a datagram of its own.
fn cut(datagram: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (mut out, mut rest) = (vec![], datagram);
    while rest.len() >= 13 {
        let length = usize::from(u16::from_be_bytes([rest[11], rest[12]]));
        let (record, after) = rest.split_at(13 + length);
        rest = after;
        if record[0] != 22 || record[4] != 0 {
            out.push(record.to_vec());
            continue;
        }
        let (header, body) = record[13..].split_at(12);
        let offset = u32::from_be_bytes([0, header[6], header[7], header[8]]) as usize;
        for (n, piece) in body.chunks(size).enumerate() {
            let mut handshake = header[..6].to_vec();
            handshake.extend(&((offset + n * size) as u32).to_be_bytes()[1..]);
            handshake.extend(&(piece.len() as u32).to_be_bytes()[1..]);
            handshake.extend(piece);
            let mut fragment = record[..11].to_vec();
            fragment.extend((handshake.len() as u16).to_be_bytes());
            fragment.extend(handshake);
            out.push(fragment);
        }
        if body.is_empty() {
            out.push(record.to_vec());
        }
    }
    out
}

#[test]
fn both_ends_get_the_same_keys() {
    let mut pair = Pair::new(1);
    pair.run(1);
    let (client, server) = (pair.client.keying().unwrap(), pair.server.keying().unwrap());
    assert_eq!((client.profile, &client.material), (SrtpProfile::AeadAes128Gcm, &server.material));
    assert!(client.we_are_client && !server.we_are_client && server.profile == client.profile);
    assert_eq!((pair.client.events.len(), pair.server.events.len()), (1, 1));
    assert_eq!((pair.client.dtls.poll_timeout(), pair.server.dtls.poll_timeout()), (None, None));

    pair.client.dtls.close(pair.now);
    pair.run(1);
    assert_eq!(pair.server.events.last(), Some(&DtlsEvent::Closed));
    assert_eq!(pair.server.dtls.handle_datagram(pair.now, &[22; 40]), Err(DropReason::NotConnected));
}

#[test]
fn a_bad_network_only_delays_the_handshake() {
    for seed in 0..120 {
        let mut pair = Pair::new(seed);
        pair.fragment = [None, Some(600), Some(100)][seed as usize / 3 % 3];
        // A flight in many datagrams is lost with one of them: the more pieces, the kinder the network.
        let losses = if pair.fragment.is_none() { [0.02, 0.05, 0.1] } else { [0.01, 0.02, 0.05] };
        pair.loss = losses[seed as usize % 3];
        pair.run(25);
        assert!(pair.client.keying().is_some(), "seed {seed}: client {:?}", pair.client.events);
        assert!(pair.server.keying().is_some(), "seed {seed}: server {:?}", pair.server.events);
    }
}

#[test]
fn a_certificate_that_the_sdp_does_not_name_is_refused() {
    let (a, b, c) =
        (LocalIdentity::generate().unwrap(), LocalIdentity::generate().unwrap(), LocalIdentity::generate().unwrap());
    for liar in [DtlsRole::Client, DtlsRole::Server] {
        let mut pair = Pair::new(1);
        let expected = |honest: &LocalIdentity, role| {
            if role == liar { c.fingerprint().clone() } else { honest.fingerprint().clone() }
        };
        pair.client = End::new(&a, DtlsRole::Client, vec![expected(&b, DtlsRole::Server)]);
        pair.server = End::new(&b, DtlsRole::Server, vec![expected(&a, DtlsRole::Client)]);
        pair.run(2);
        let deceived = if liar == DtlsRole::Client { &pair.server } else { &pair.client };
        assert_eq!(deceived.events, [DtlsEvent::Failed], "{liar:?}");
        // (A server that is refused may learn it only after its own last flight: the client refuses before that.)
        assert!(pair.client.keying().is_none() || liar == DtlsRole::Client);
    }
}

#[test]
fn any_of_several_fingerprints_will_do() {
    let (a, b) = (LocalIdentity::generate().unwrap(), LocalIdentity::generate().unwrap());
    let other = Fingerprint { hash: FingerprintHash::Sha512, value: vec![1; 64] };
    let mut pair = Pair::new(1);
    pair.client = End::new(&a, DtlsRole::Client, vec![other.clone(), b.fingerprint().clone()]);
    pair.server = End::new(&b, DtlsRole::Server, vec![other, a.fingerprint().clone()]);
    pair.run(1);
    assert!(pair.client.keying().is_some() && pair.server.keying().is_some());
}

#[test]
fn damaged_handshakes_end_without_a_panic() {
    for seed in 0..SEEDS {
        let mut pair = Pair::new(seed);
        pair.damage = 0.4;
        pair.run(3);
        if let (Some(client), Some(server)) = (pair.client.keying(), pair.server.keying()) {
            assert_eq!(client.material, server.material, "seed {seed}");
        }
    }
}

/// A message of any kind with any content, at any moment of the handshake.
#[test]
fn hostile_messages_end_without_a_panic() {
    for seed in 0..SEEDS {
        let mut pair = Pair::new(seed);
        pair.client.dtls.start(pair.now);
        for _ in 0..pair.random.random_range(0..12) {
            pair.turn(true);
            pair.turn(false);
            pair.now += Duration::from_millis(10);
        }
        for _ in 0..20 {
            let length = pair.random.random_range(0..200);
            let body: Vec<u8> =
                (0..length).map(|_| if pair.random.random() { 0 } else { pair.random.random() }).collect();
            let kind = [0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20][pair.random.random_range(0..12)];
            let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, length as u8 + 12];
            datagram.extend([kind, 0, 0, length as u8, 0, pair.random.random_range(0..6), 0, 0, 0, 0, 0, length as u8]);
            datagram.extend(body);
            for end in [&mut pair.client, &mut pair.server] {
                let _ = end.dtls.handle_datagram(pair.now, &datagram);
            }
        }
        pair.run(1);
    }
}

const SEEDS: u64 = 200;
