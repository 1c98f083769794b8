//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1): reader and writer.
use super::write::FMT_TWCC;
use super::{Malformed, PT_TRANSPORT, Ssrc, read, write_feedback};

/// More packets than one feedback is believed to tell of: seconds at any rate, and a bound on the work that it causes.
const MAX_PACKETS: u16 = 8192;
const HEADER: usize = 16;

const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// One tick of arrival times, in microseconds.
pub(in crate::rtp) const TICK_MICROS: i64 = 250;
/// Ticks in one unit of the reference time (64 ms).
pub(in crate::rtp) const REFERENCE_TICKS: i64 = 256;

/// A feedback whose chunks and deltas were found to be all there.
#[derive(Clone, Debug)]
pub struct TransportFeedback<'a> {
    pub sender: Ssrc,
    pub media: Ssrc,
    /// The first transport-wide sequence number that it tells of.
    pub base_sequence: u16,
    /// How many it tells of: at most 8192.
    pub packet_count: u16,
    /// Units of 64 ms on the receiver's clock: 24 bits, signed.
    pub reference_time: i32,
    /// Counts the feedbacks of this receiver, to see that one was lost.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    /// `body` is what follows the common header, padding removed.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let packet_count = read::u16(body, 10)?;
        let time_and_count = read::u32(body, 12)?;
        if packet_count == 0 || packet_count > MAX_PACKETS {
            return Err(Malformed("feedback of no packets, or too many"));
        }
        let (mut at, mut told, mut delta_bytes) = (HEADER, 0u16, 0usize);
        while told < packet_count {
            let chunk = Chunk(read::u16(body, at)?);
            at += 2;
            let symbols = chunk.symbols().min(packet_count - told);
            if symbols == 0 {
                return Err(Malformed("feedback chunk of no packets"));
            }
            delta_bytes += chunk.delta_bytes(symbols)?;
            told += symbols;
        }
        let deltas = body.get(at..at + delta_bytes).ok_or(Malformed("feedback with too few deltas"))?;
        Ok(Self {
            sender: Ssrc(read::u32(body, 0)?),
            media: Ssrc(read::u32(body, 4)?),
            base_sequence: read::u16(body, 8)?,
            packet_count,
            reference_time: time_and_count as i32 >> 8,
            feedback_count: time_and_count as u8,
            chunks: &body[HEADER..at],
            deltas,
        })
    }

    /// Each transport-wide sequence number that it tells of, ascending from the base, and when the packet arrived: microseconds
    /// on the receiver's clock, `None` for one that has not.
    pub fn arrivals(&self) -> Arrivals<'a> {
        Arrivals {
            sequence: self.base_sequence,
            left: self.packet_count,
            chunks: self.chunks,
            chunk: Chunk(0),
            in_chunk: 0,
            at: 0,
            deltas: self.deltas,
            ticks: i64::from(self.reference_time) * REFERENCE_TICKS,
        }
    }
}

/// A packet status chunk (sections 3.1.2 to 3.1.4).
#[derive(Clone, Copy, Debug)]
struct Chunk(u16);

impl Chunk {
    fn symbols(self) -> u16 {
        match self.0 >> 14 {
            0b10 => 14,
            0b11 => 7,
            _ => self.0 & 0x1fff,
        }
    }
    fn symbol(self, i: u16) -> u8 {
        match self.0 >> 14 {
            0b10 => (self.0 >> 13u16.saturating_sub(i)) as u8 & 1,
            0b11 => (self.0 >> (2 * 6u16.saturating_sub(i))) as u8 & 3,
            _ => (self.0 >> 13) as u8 & 3,
        }
    }
    /// Bytes of deltas for the first `symbols`. The fourth symbol is reserved.
    fn delta_bytes(self, symbols: u16) -> Result<usize, Malformed> {
        if self.0 >> 15 == 0 {
            return Self::delta_len(self.symbol(0)).map(|len| len * usize::from(symbols));
        }
        (0..symbols).try_fold(0, |sum, i| Self::delta_len(self.symbol(i)).map(|len| sum + len))
    }
    fn delta_len(symbol: u8) -> Result<usize, Malformed> {
        match symbol {
            NOT_RECEIVED | SMALL_DELTA | LARGE_DELTA => Ok(usize::from(symbol)),
            _ => Err(Malformed("reserved feedback symbol")),
        }
    }
}

/// Iterator of [`TransportFeedback::arrivals`].
#[derive(Clone, Debug)]
pub struct Arrivals<'a> {
    sequence: u16,
    left: u16,
    chunks: &'a [u8],
    chunk: Chunk,
    /// Symbols of `chunk`, and the next of them.
    in_chunk: u16,
    at: u16,
    deltas: &'a [u8],
    ticks: i64,
}

impl Iterator for Arrivals<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        if self.at == self.in_chunk {
            let (chunk, rest) = self.chunks.split_first_chunk::<2>()?;
            self.chunk = Chunk(u16::from_be_bytes(*chunk));
            (self.chunks, self.in_chunk, self.at) = (rest, self.chunk.symbols(), 0);
        }
        let symbol = self.chunk.symbol(self.at);
        let delta = match symbol {
            SMALL_DELTA => self.deltas.first().map(|&d| (i64::from(d), 1)),
            LARGE_DELTA => self.deltas.first_chunk().map(|&d| (i64::from(i16::from_be_bytes(d)), 2)),
            _ => None,
        };
        let arrival = delta.map(|(ticks, len)| {
            self.deltas = &self.deltas[len..];
            self.ticks += ticks;
            self.ticks * TICK_MICROS
        });
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        self.left -= 1;
        self.at += 1;
        Some((sequence, arrival))
    }
}

/// What a feedback says at its head.
#[derive(Clone, Copy, Debug)]
pub(in crate::rtp) struct FeedbackHead {
    pub sender: Ssrc,
    pub media: Ssrc,
    pub base_sequence: u16,
    pub reference_time: i32,
    pub feedback_count: u8,
}

/// Writes a feedback. `deltas` has for each packet from the base on the ticks since the one received before (since the
/// reference time for the first), or `None`. It is not empty, and tells of at most 8192.
pub(in crate::rtp) fn write_transport_feedback(out: &mut Vec<u8>, head: FeedbackHead, deltas: &[Option<i16>]) {
    let deltas = &deltas[..deltas.len().min(MAX_PACKETS.into())];
    write_feedback(out, PT_TRANSPORT, FMT_TWCC, head.sender, head.media, |out| {
        out.extend_from_slice(&head.base_sequence.to_be_bytes());
        out.extend_from_slice(&(deltas.len() as u16).to_be_bytes());
        out.extend_from_slice(&((head.reference_time as u32) << 8 | u32::from(head.feedback_count)).to_be_bytes());
        let mut rest = deltas;
        while !rest.is_empty() {
            let (chunk, told) = chunk_for(rest);
            out.extend_from_slice(&chunk.to_be_bytes());
            rest = &rest[told..];
        }
        for &delta in deltas.iter().flatten() {
            match u8::try_from(delta) {
                Ok(small) => out.push(small),
                Err(_) => out.extend_from_slice(&delta.to_be_bytes()),
            }
        }
    });
}

fn symbol_for(delta: &Option<i16>) -> u8 {
    match delta {
        None => NOT_RECEIVED,
        Some(0..=255) => SMALL_DELTA,
        Some(_) => LARGE_DELTA,
    }
}

/// The chunk that tells most of what comes next, and how many packets it tells of.
fn chunk_for(deltas: &[Option<i16>]) -> (u16, usize) {
    let first = symbol_for(&deltas[0]);
    let run = deltas.iter().take_while(|d| symbol_for(d) == first).count();
    let one_bit = deltas.iter().take(14).take_while(|d| symbol_for(d) != LARGE_DELTA).count();
    let two_bit = deltas.len().min(7);
    // A vector may only be cut short by the end of the feedback.
    let one_bit = if one_bit == 14 || one_bit == deltas.len() { one_bit } else { 0 };
    if run >= one_bit.max(two_bit) {
        let run = run.min(MAX_PACKETS as usize - 1);
        return (u16::from(first) << 13 | run as u16, run);
    }
    if one_bit >= two_bit {
        let bits = deltas[..one_bit].iter().enumerate().map(|(i, d)| u16::from(symbol_for(d)) << (13 - i));
        return (0x8000 | bits.fold(0, |a, b| a | b), one_bit);
    }
    let bits = deltas[..two_bit].iter().enumerate().map(|(i, d)| u16::from(symbol_for(d)) << (12 - 2 * i));
    (0xc000 | bits.fold(0, |a, b| a | b), two_bit)
}
