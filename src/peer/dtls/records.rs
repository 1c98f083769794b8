//! What stands between the network and the DTLS implementation: it bounds every length before it is believed, puts
//! fragmented handshake messages together (Chromium's and Firefox's ClientHello come in two datagrams), orders them, and
//! hands them on by whole flights.
//!
//! rtc-dtls 0.21.1 would do the first three itself, at a risk: it recurses once for each fragment, keeps up to 2 MB and
//! any number of empty ones, and stops its retransmission timer for good when a part of a flight arrives.
use crate::metrics::DropReason;

const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
/// RFC 6347 section 4.1: 2^14, and 2,048 for the expansion by the cipher.
const MAX_RECORD: usize = (1 << 14) + 2048;
/// A certificate chain of any browser has less than 4 KiB.
const MAX_MESSAGE: usize = 16 * 1024;
/// No flight has more messages (a server's has five).
const MAX_MESSAGES_AHEAD: u16 = 8;
/// No handshake has more (a server sends eight, with HelloVerifyRequest and Finished): rtc-dtls keeps them all.
const MAX_MESSAGES: u16 = 16;
/// Bytes of handshake messages that are held until their flight is complete.
const MAX_HELD: usize = 48 * 1024;
/// Records that are encrypted, or end the epoch: Finished and ChangeCipherSpec, and their repetitions.
const MAX_SEALED_RECORDS: u32 = 64;

mod content {
    pub const CHANGE_CIPHER_SPEC: u8 = 20;
    pub const ALERT: u8 = 21;
    pub const HANDSHAKE: u8 = 22;
    pub const APPLICATION_DATA: u8 = 23;
}

mod message {
    pub const CLIENT_HELLO: u8 = 1;
    pub const HELLO_VERIFY_REQUEST: u8 = 3;
    pub const SERVER_HELLO_DONE: u8 = 14;
    pub const CERTIFICATE_VERIFY: u8 = 15;
}

/// What a datagram amounts to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// Records for the DTLS implementation; empty if there are none yet.
    pub records: Vec<u8>,
    /// The body of a ClientHello that is among them.
    pub client_hello: Option<Vec<u8>>,
    /// The peer repeats what it had sent already, so it may not have got our last flight.
    pub repeated: bool,
}

/// One direction of one association: what the peer sends.
#[derive(Debug, Default)]
pub(super) struct RecordGuard {
    /// The number of the next handshake message to hand on, and of the next record in epoch 0.
    next_message: u16,
    next_record: u64,
    /// Messages from `next_message` on, not all complete.
    held: Vec<Partial>,
    sealed_records: u32,
    established: bool,
}

/// A handshake message of which some bytes are here.
#[derive(Debug)]
struct Partial {
    number: u16,
    kind: u8,
    body: Vec<u8>,
    /// Which bytes are here: disjoint ranges in order.
    ranges: Vec<(usize, usize)>,
}

impl RecordGuard {
    /// How many messages were handed on.
    pub fn messages(&self) -> u16 {
        self.next_message
    }

    /// The handshake is done: from now on, only what is encrypted passes, and little of it.
    pub fn established(&mut self) {
        *self = Self { established: true, ..Self::default() };
    }

    /// Takes a datagram apart. An error means that nothing of it was of use.
    pub fn handle(&mut self, datagram: &[u8]) -> Result<Received, DropReason> {
        let mut received = Received::default();
        let mut rest = datagram;
        let mut first_error = None;
        while !rest.is_empty() {
            let Some(record) = Record::split_off(&mut rest) else {
                first_error.get_or_insert(DropReason::DtlsMalformed);
                break;
            };
            if let Err(reason) = self.handle_record(&record, &mut received) {
                first_error.get_or_insert(reason);
            }
        }
        self.hand_on_flight(&mut received);
        match first_error {
            Some(reason) if received == Received::default() => Err(reason),
            _ => Ok(received),
        }
    }

    fn handle_record(&mut self, record: &Record<'_>, received: &mut Received) -> Result<(), DropReason> {
        match (record.kind, record.epoch) {
            (content::HANDSHAKE, 0) if self.established => Err(DropReason::Duplicate),
            (content::HANDSHAKE, 0) => self.handle_fragments(record.body, received),
            (content::CHANGE_CIPHER_SPEC, 0) if self.established => Err(DropReason::Duplicate),
            (content::CHANGE_CIPHER_SPEC, 0) if record.body == [1] => {
                self.count_sealed()?;
                self.write_plain(record.kind, record.body, &mut received.records);
                Ok(())
            }
            // Before there are keys, an alert is all that a peer can say; afterwards anybody could have sent it.
            (content::ALERT, 0) if !self.established && is_final_alert(record.body) => {
                self.write_plain(record.kind, record.body, &mut received.records);
                Ok(())
            }
            (content::HANDSHAKE, 1) => {
                self.count_sealed()?;
                received.records.extend_from_slice(record.raw);
                Ok(())
            }
            (content::ALERT, 1) => {
                received.records.extend_from_slice(record.raw);
                Ok(())
            }
            (content::APPLICATION_DATA, 1) => Err(DropReason::Unwanted),
            _ => Err(DropReason::DtlsMalformed),
        }
    }

    fn count_sealed(&mut self) -> Result<(), DropReason> {
        self.sealed_records += 1;
        if self.sealed_records > MAX_SEALED_RECORDS { Err(DropReason::RateLimited) } else { Ok(()) }
    }

    /// A record may hold several messages, or pieces of them (RFC 6347 section 4.2.3).
    fn handle_fragments(&mut self, mut rest: &[u8], received: &mut Received) -> Result<(), DropReason> {
        while !rest.is_empty() {
            let fragment = Fragment::split_off(&mut rest).ok_or(DropReason::DtlsMalformed)?;
            match fragment.number.checked_sub(self.next_message) {
                None => received.repeated = true,
                Some(ahead) if ahead < MAX_MESSAGES_AHEAD && fragment.number < MAX_MESSAGES => self.hold(&fragment)?,
                Some(_) => return Err(DropReason::DtlsMalformed),
            }
        }
        Ok(())
    }

    fn hold(&mut self, fragment: &Fragment<'_>) -> Result<(), DropReason> {
        let at = match self.held.iter().position(|held| held.number == fragment.number) {
            Some(at) => at,
            None => {
                let held: usize = self.held.iter().map(|held| held.body.len()).sum();
                if held + fragment.length > MAX_HELD {
                    return Err(DropReason::TooLarge);
                }
                self.held.push(Partial::new(fragment));
                self.held.len() - 1
            }
        };
        self.held.get_mut(at).and_then(|held| held.fill(fragment)).ok_or(DropReason::DtlsMalformed)
    }

    /// Hands on what is in order and complete, if it ends a flight.
    fn hand_on_flight(&mut self, received: &mut Received) {
        self.held.sort_by_key(|held| held.number);
        let in_order = self.held.iter().zip(self.next_message..).take_while(|(held, number)| held.is_next(*number));
        let ends_flight = |kind| {
            use message::*;
            matches!(kind, CLIENT_HELLO | HELLO_VERIFY_REQUEST | SERVER_HELLO_DONE | CERTIFICATE_VERIFY)
        };
        let kinds: Vec<u8> = in_order.map(|(held, _)| held.kind).collect();
        let Some(last) = kinds.iter().rposition(|kind| ends_flight(*kind)) else { return };
        let flight: Vec<Partial> = self.held.drain(..=last).collect();
        // What was not encrypted came before what was: the order of the flight.
        let after = std::mem::take(&mut received.records);
        for held in flight {
            self.next_message += 1;
            self.write_plain(content::HANDSHAKE, &held.whole(), &mut received.records);
            if held.kind == message::CLIENT_HELLO {
                received.client_hello = Some(held.body);
            }
        }
        received.records.extend(after);
    }

    /// A record of epoch 0. It gets a number of ours: the peer's is not authenticated, and one message may have come in
    /// several records.
    fn write_plain(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>) {
        out.extend([kind, 0xfe, 0xfd, 0, 0]);
        out.extend(&self.next_record.to_be_bytes()[2..]);
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
        self.next_record += 1;
    }

    /// A record that says nothing but that the peer repeats itself.
    pub fn repetition(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_plain(content::HANDSHAKE, &[message::CLIENT_HELLO, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut out);
        out
    }
}

/// Fatal, or close_notify (RFC 5246 section 7.2).
fn is_final_alert(body: &[u8]) -> bool {
    matches!(body, [2, _] | [_, 0])
}

struct Record<'a> {
    raw: &'a [u8],
    kind: u8,
    epoch: u16,
    body: &'a [u8],
}

impl<'a> Record<'a> {
    fn split_off(rest: &mut &'a [u8]) -> Option<Record<'a>> {
        let (header, _) = rest.split_first_chunk::<RECORD_HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        if header[1] != 0xfe || length > MAX_RECORD {
            return None;
        }
        let (raw, after) = rest.split_at_checked(RECORD_HEADER + length)?;
        *rest = after;
        let epoch = u16::from_be_bytes([header[3], header[4]]);
        Some(Record { raw, kind: header[0], epoch, body: &raw[RECORD_HEADER..] })
    }
}

struct Fragment<'a> {
    kind: u8,
    length: usize,
    number: u16,
    offset: usize,
    bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn split_off(rest: &mut &'a [u8]) -> Option<Fragment<'a>> {
        let (header, after) = rest.split_first_chunk::<HANDSHAKE_HEADER>()?;
        let be24 = |at: usize| header[at..at + 3].iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
        let (length, offset, fragment_length) = (be24(1), be24(6), be24(9));
        if length > MAX_MESSAGE || offset + fragment_length > length {
            return None;
        }
        let (bytes, after) = after.split_at_checked(fragment_length)?;
        *rest = after;
        let number = u16::from_be_bytes([header[4], header[5]]);
        Some(Fragment { kind: header[0], length, number, offset, bytes })
    }
}

impl Partial {
    /// More pieces than that, and somebody plays with us: 16 KiB in datagrams of 1,200 bytes make 14.
    const MAX_RANGES: usize = 32;

    fn new(fragment: &Fragment<'_>) -> Self {
        Self { number: fragment.number, kind: fragment.kind, body: vec![0; fragment.length], ranges: Vec::new() }
    }

    /// `None` if the fragment contradicts those before it.
    fn fill(&mut self, fragment: &Fragment<'_>) -> Option<()> {
        if fragment.kind != self.kind || fragment.length != self.body.len() || self.ranges.len() > Self::MAX_RANGES {
            return None;
        }
        let (start, end) = (fragment.offset, fragment.offset + fragment.bytes.len());
        self.body.get_mut(start..end)?.copy_from_slice(fragment.bytes);
        self.ranges.push((start, end));
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|next, kept| {
            let joins = next.0 <= kept.1;
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        Some(())
    }

    fn is_next(&self, number: u16) -> bool {
        self.number == number && self.ranges == [(0, self.body.len())]
    }

    /// The message in one piece, with its header.
    fn whole(&self) -> Vec<u8> {
        let length = &(self.body.len() as u32).to_be_bytes()[1..];
        let mut out = vec![self.kind];
        out.extend(length);
        out.extend(self.number.to_be_bytes());
        out.extend([0, 0, 0]);
        out.extend(length);
        out.extend(&self.body);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, 0xfe, 0xfd];
        out.extend(epoch.to_be_bytes());
        out.extend([0, 0, 0, 0, 0, 9]);
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
        out
    }

    fn fragment(kind: u8, number: u16, length: usize, offset: usize, bytes: &[u8]) -> Vec<u8> {
        let be24 = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
        let number = number.to_be_bytes().to_vec();
        [vec![kind], be24(length), number, be24(offset), be24(bytes.len()), bytes.to_vec()].concat()
    }

    fn handshake(kind: u8, number: u16, length: usize, offset: usize, bytes: &[u8]) -> Vec<u8> {
        record(content::HANDSHAKE, 0, &fragment(kind, number, length, offset, bytes))
    }

    /// The handshake messages in what the guard hands on.
    fn messages(records: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
        let (mut rest, mut out) = (records, vec![]);
        while let Some(record) = Record::split_off(&mut rest) {
            let mut body = record.body;
            while let Some(f) = Fragment::split_off(&mut body) {
                assert_eq!((f.offset, f.bytes.len()), (0, f.length));
                out.push((f.kind, f.number, f.bytes.to_vec()));
            }
        }
        out
    }

    #[test]
    fn a_client_hello_in_two_datagrams_comes_out_in_one_piece() {
        let hello: Vec<u8> = (0..1401).map(|n| n as u8).collect();
        let (one, two) = hello.split_at(1175);
        let parts = [handshake(1, 0, 1401, 0, one), handshake(1, 0, 1401, 1175, two)];
        for order in [[0, 1], [1, 0]] {
            let mut guard = RecordGuard::default();
            assert_eq!(guard.handle(&parts[order[0]]), Ok(Received::default()));
            let received = guard.handle(&parts[order[1]]).unwrap();
            assert_eq!(messages(&received.records), [(1, 0, hello.clone())]);
            assert_eq!(received.client_hello.as_deref(), Some(&hello[..]));
            // Again: nothing new, but the peer waits for something.
            let again = guard.handle(&parts[0]).unwrap();
            assert_eq!(again, Received { repeated: true, ..Received::default() });
        }
    }

    #[test]
    fn a_flight_is_handed_on_when_it_is_complete_and_in_order() {
        let mut guard = RecordGuard::default();
        guard.handle(&handshake(message::CLIENT_HELLO, 0, 1, 0, &[0])).unwrap();
        let verify = handshake(message::CERTIFICATE_VERIFY, 3, 2, 0, &[3, 3]);
        let sealed = [record(content::CHANGE_CIPHER_SPEC, 0, &[1]), record(content::HANDSHAKE, 1, &[7; 30])].concat();
        let certificate_and_key =
            record(content::HANDSHAKE, 0, &[fragment(11, 1, 1, 0, &[1]), fragment(16, 2, 1, 0, &[2])].concat());
        assert!(guard.handle(&verify).unwrap().records.is_empty());
        let received = guard.handle(&[certificate_and_key, sealed.clone()].concat()).unwrap();
        let plain: usize = 3 * (RECORD_HEADER + HANDSHAKE_HEADER) + 4;
        assert_eq!(messages(&received.records[..plain]), [(11, 1, vec![1]), (16, 2, vec![2]), (15, 3, vec![3, 3])]);
        assert!(received.records.ends_with(&[7; 30]) && received.records.len() == plain + sealed.len());
    }

    #[test]
    fn what_the_lengths_promise_is_not_believed() {
        let mut guard = RecordGuard::default();
        for bad in [
            handshake(1, 0, MAX_MESSAGE + 1, 0, &[1]),
            handshake(1, 0, 10, 8, &[1, 2, 3]),
            handshake(1, MAX_MESSAGES_AHEAD, 1, 0, &[1]),
            handshake(1, 0, 10, 0, &[1])[..24].to_vec(),
            record(content::HANDSHAKE, 0, &[1, 0, 0]),
            record(content::HANDSHAKE, 2, &[1; 40]),
            record(99, 0, &[1; 40]),
            vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            vec![22],
        ] {
            assert_eq!(guard.handle(&bad), Err(DropReason::DtlsMalformed), "{bad:?}");
        }
        // Fragments that contradict each other.
        guard.handle(&handshake(1, 0, 100, 0, &[1])).unwrap();
        assert!(guard.handle(&handshake(2, 0, 100, 1, &[1])).is_err());
        assert!(guard.handle(&handshake(1, 0, 101, 1, &[1])).is_err());
    }

    #[test]
    fn a_flood_is_held_within_bounds() {
        let mut guard = RecordGuard::default();
        for round in 0..2000 {
            for number in 0..20 {
                let _ = guard.handle(&handshake(11, number, MAX_MESSAGE, round * 2 % MAX_MESSAGE, &[1]));
                let _ = guard.handle(&handshake(11, number, MAX_MESSAGE, 0, &[]));
            }
            let _ = guard.handle(&record(content::HANDSHAKE, 1, &[1; 100]));
        }
        assert!(guard.held.iter().map(|held| held.body.len()).sum::<usize>() <= MAX_HELD);
        assert!(guard.held.iter().all(|held| held.ranges.len() <= Partial::MAX_RANGES + 1));
        assert_eq!(guard.handle(&record(content::HANDSHAKE, 1, &[1; 100])), Err(DropReason::RateLimited));
    }

    #[test]
    fn a_handshake_without_end_is_cut_off() {
        let mut guard = RecordGuard::default();
        let handed_on = (0..100).filter(|n| guard.handle(&handshake(1, *n, 1, 0, &[0])).is_ok()).count();
        assert_eq!(handed_on, usize::from(MAX_MESSAGES));
    }

    #[test]
    fn after_the_handshake_only_what_is_encrypted_passes() {
        let mut guard = RecordGuard::default();
        guard.established();
        assert!(guard.handle(&handshake(1, 0, 1, 0, &[1])).is_err());
        assert!(guard.handle(&record(content::ALERT, 0, &[2, 40])).is_err());
        assert!(guard.handle(&record(content::CHANGE_CIPHER_SPEC, 0, &[1])).is_err());
        assert!(guard.handle(&record(content::APPLICATION_DATA, 1, &[1; 50])).is_err());
        assert!(guard.handle(&record(content::ALERT, 1, &[1; 26])).is_ok());
    }

    proptest! {
        #[test]
        fn fragments_in_any_order_make_the_message(
            body in prop::collection::vec(any::<u8>(), 1..600),
            size in 20_usize..200,
            shuffle in any::<prop::sample::Index>(),
            repeat in any::<prop::sample::Index>(),
        ) {
            let pieces = body.chunks(size).enumerate();
            let mut parts: Vec<_> = pieces.map(|(n, piece)| handshake(1, 0, body.len(), n * size, piece)).collect();
            parts.push(parts[repeat.index(parts.len())].clone());
            let at = shuffle.index(parts.len());
            parts.rotate_left(at);
            let mut guard = RecordGuard::default();
            let hello = parts.iter().filter_map(|part| guard.handle(part).ok()?.client_hello).collect::<Vec<_>>();
            prop_assert_eq!(hello, [body]);
        }

        #[test]
        fn garbage_never_panics(
            head in prop::sample::select(vec![20_u8, 21, 22, 23, 25]),
            epoch in 0_u16..3,
            body in prop::collection::vec(any::<u8>(), 0..80),
            cut in 0_usize..100,
        ) {
            let mut guard = RecordGuard::default();
            let whole = record(head, epoch, &body);
            let _ = guard.handle(&whole);
            let _ = guard.handle(&whole[..cut.min(whole.len())]);
            let _ = guard.handle(&body);
        }
    }
}
