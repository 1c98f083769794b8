//! RTCP (RFC 3550 section 6, RFC 4585, RFC 5104): compound packets read in place, and written into buffers that are used again.
//!
//! Reading allocates nothing: what a packet lists is an iterator over its bytes, and every count is held against the packet's
//! length before anything is made of it. Single packets without a leading report are taken too (RFC 5506).
mod feedback;
mod write;

pub use feedback::{Arrivals, TransportFeedback};
pub(super) use feedback::{FeedbackHead, REFERENCE_TICKS, TICK_MICROS, write_transport_feedback};
use write::{PT_TRANSPORT, write_feedback};
pub use write::{
    SenderInfo, write_bye, write_cname, write_fir, write_nack, write_pli, write_receiver_report, write_remb,
    write_sender_report,
};

use super::{Malformed, Ssrc, read};
use write::{FMT_AFB, FMT_FIR, FMT_NACK, FMT_PLI, FMT_TWCC, PT_BYE, PT_PAYLOAD, PT_RR, PT_SDES, PT_SR, REMB};

/// One packet of a compound.
#[derive(Clone, Debug)]
pub enum Rtcp<'a> {
    /// RFC 3550 section 6.4.1. `ntp` is 32.32 fixed point since 1900.
    SenderReport { ssrc: Ssrc, ntp: u64, rtp_timestamp: u32, packets: u32, octets: u32, reports: Reports<'a> },
    /// RFC 3550 section 6.4.2.
    ReceiverReport { ssrc: Ssrc, reports: Reports<'a> },
    /// RFC 3550 section 6.5; nothing of it is needed.
    SourceDescription,
    /// RFC 3550 section 6.6.
    Bye { ssrcs: Ssrcs<'a> },
    /// RFC 4585 section 6.2.1: the packets of `media` that are asked for again.
    Nack { sender: Ssrc, media: Ssrc, sequences: NackSequences<'a> },
    /// RFC 4585 section 6.3.1.
    Pli { sender: Ssrc, media: Ssrc },
    /// RFC 5104 section 4.3.1: the streams that are to send a keyframe, each with a number that repeats when the request does.
    Fir { sender: Ssrc, entries: FirEntries<'a> },
    /// draft-alvestrand-rmcat-remb-03: bits a second for all of `ssrcs` together.
    Remb { sender: Ssrc, bitrate_bps: u64, ssrcs: Ssrcs<'a> },
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1.
    TransportFeedback(TransportFeedback<'a>),
    /// Something else that is well framed. `format` is the five bits that hold a count or a feedback message type.
    Other { packet_type: u8, format: u8 },
}

/// What one receiver says of one stream (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: Ssrc,
    /// Packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// 24 bits, signed: duplicates make it negative.
    pub cumulative_lost: i32,
    /// The highest sequence number received, the number of wraps above it.
    pub highest_sequence: u32,
    /// In ticks of the stream's clock.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report, or 0.
    pub last_sr: u32,
    /// In 65536ths of a second since then.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    pub(super) const LEN: usize = 24;

    fn read(bytes: &[u8; Self::LEN]) -> Self {
        let word = |i: usize| u32::from_be_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Self {
            ssrc: Ssrc(word(0)),
            fraction_lost: bytes[4],
            cumulative_lost: (word(4) << 8) as i32 >> 8,
            highest_sequence: word(8),
            jitter: word(12),
            last_sr: word(16),
            delay_since_last_sr: word(20),
        }
    }
}

macro_rules! list {
    ($(#[$doc:meta])* $name:ident, $len:expr, $item:ty, $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name<'a>(std::slice::Iter<'a, [u8; $len]>);
        impl<'a> $name<'a> {
            /// Whatever follows the last whole item is left out.
            fn new(bytes: &'a [u8]) -> Self {
                Self(bytes.as_chunks().0.iter())
            }
        }
        impl Iterator for $name<'_> {
            type Item = $item;
            fn next(&mut self) -> Option<$item> {
                self.0.next().map($read)
            }
            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }
        }
        impl ExactSizeIterator for $name<'_> {}
    };
}

list!(/// The report blocks of a sender or receiver report.
    Reports, ReportBlock::LEN, ReportBlock, ReportBlock::read);
list!(/// A list of SSRCs.
    Ssrcs, 4, Ssrc, |b| Ssrc(u32::from_be_bytes(*b)));
list!(/// The entries of a full intra request: the stream, and the request's number.
    FirEntries, 8, (Ssrc, u8), |b| (Ssrc(u32::from_be_bytes([b[0], b[1], b[2], b[3]])), b[4]));
list!(/// Pairs of a packet identifier and a bit mask of the sixteen that follow it.
    NackPairs, 4, (u16, u16), |b| (u16::from_be_bytes([b[0], b[1]]), u16::from_be_bytes([b[2], b[3]])));

/// The sequence numbers of a NACK, in the order that they stand there: at most 17 for each four bytes.
#[derive(Clone, Debug)]
pub struct NackSequences<'a> {
    pairs: NackPairs<'a>,
    next: u16,
    /// Bit 0 stands for `next`.
    mask: u32,
}

impl Iterator for NackSequences<'_> {
    type Item = u16;
    fn next(&mut self) -> Option<u16> {
        if self.mask == 0 {
            let (first, following) = self.pairs.next()?;
            (self.next, self.mask) = (first, u32::from(following) << 1 | 1);
        }
        let skip = self.mask.trailing_zeros();
        let seq = self.next.wrapping_add(skip as u16);
        self.next = seq.wrapping_add(1);
        self.mask >>= skip + 1;
        Some(seq)
    }
}

/// The packets of a compound. A packet that is malformed in itself gives an error and the next one follows; where the framing
/// is wrong, the error is the last item.
pub fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound }
}

/// Iterator of [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Rtcp<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let framed = self.frame();
        if framed.is_err() {
            self.rest = &[];
        }
        Some(framed.and_then(|(first, packet_type, body)| parse(first, packet_type, body)))
    }
}

impl<'a> Packets<'a> {
    /// The five bits behind the padding bit, the packet type, and the body behind the common header without padding.
    fn frame(&mut self) -> Result<(u8, u8, &'a [u8]), Malformed> {
        let [first, packet_type, a, b] = read::array(self.rest, 0)?;
        if first >> 6 != 2 {
            return Err(Malformed("RTCP version is not 2"));
        }
        let len = 4 * (usize::from(u16::from_be_bytes([a, b])) + 1);
        let (packet, rest) =
            self.rest.split_at_checked(len).ok_or(Malformed("RTCP packet longer than its datagram"))?;
        self.rest = rest;
        let mut body = &packet[4..];
        if first & 0x20 != 0 {
            // Only the last packet of a compound is padded (RFC 3550 section 6.4.1).
            let padding = usize::from(*body.last().ok_or(Malformed("padding without a count"))?);
            if padding == 0 || padding > body.len() || !rest.is_empty() {
                return Err(Malformed("RTCP padding"));
            }
            body = &body[..body.len() - padding];
        }
        Ok((first & 0x1f, packet_type, body))
    }
}

/// `count` items of `len` bytes from `at` on.
fn counted(body: &[u8], at: usize, count: u8, len: usize) -> Result<&[u8], Malformed> {
    body.get(at..).and_then(|b| b.get(..usize::from(count) * len)).ok_or(Malformed("RTCP counts more than it carries"))
}

fn parse(format: u8, packet_type: u8, body: &[u8]) -> Result<Rtcp<'_>, Malformed> {
    let ssrc = |at| read::u32(body, at).map(Ssrc);
    Ok(match (packet_type, format) {
        (PT_SR, count) => Rtcp::SenderReport {
            ssrc: ssrc(0)?,
            ntp: read::u64(body, 4)?,
            rtp_timestamp: read::u32(body, 12)?,
            packets: read::u32(body, 16)?,
            octets: read::u32(body, 20)?,
            reports: Reports::new(counted(body, 24, count, ReportBlock::LEN)?),
        },
        (PT_RR, count) => {
            Rtcp::ReceiverReport { ssrc: ssrc(0)?, reports: Reports::new(counted(body, 4, count, ReportBlock::LEN)?) }
        }
        (PT_SDES, _) => Rtcp::SourceDescription,
        (PT_BYE, count) => Rtcp::Bye { ssrcs: Ssrcs::new(counted(body, 0, count, 4)?) },
        (PT_TRANSPORT, FMT_NACK) => Rtcp::Nack {
            sender: ssrc(0)?,
            media: ssrc(4)?,
            sequences: NackSequences { pairs: NackPairs::new(&body[8..]), next: 0, mask: 0 },
        },
        (PT_TRANSPORT, FMT_TWCC) => Rtcp::TransportFeedback(TransportFeedback::parse(body)?),
        (PT_PAYLOAD, FMT_PLI) => Rtcp::Pli { sender: ssrc(0)?, media: ssrc(4)? },
        (PT_PAYLOAD, FMT_FIR) => {
            ssrc(4)?;
            Rtcp::Fir { sender: ssrc(0)?, entries: FirEntries::new(&body[8..]) }
        }
        (PT_PAYLOAD, FMT_AFB) if body.get(8..12) == Some(REMB) => parse_remb(body)?,
        _ => Rtcp::Other { packet_type, format },
    })
}

fn parse_remb(body: &[u8]) -> Result<Rtcp<'_>, Malformed> {
    let [count, a, b, c] = read::array(body, 12)?;
    let exponent = u32::from(a >> 2);
    let mantissa = u64::from(u32::from_be_bytes([0, a & 3, b, c]));
    if exponent > mantissa.leading_zeros() {
        return Err(Malformed("REMB beyond 64 bits"));
    }
    Ok(Rtcp::Remb {
        sender: Ssrc(read::u32(body, 0)?),
        bitrate_bps: mantissa.checked_shl(exponent).unwrap_or(0),
        ssrcs: Ssrcs::new(counted(body, 16, count, 4)?),
    })
}

#[cfg(test)]
mod tests;
