//! Writers: each appends one packet to a buffer that the caller keeps, so that none allocates once the buffer has grown.
use super::{ReportBlock, Ssrc};

pub(super) const PT_SR: u8 = 200;
pub(super) const PT_RR: u8 = 201;
pub(super) const PT_SDES: u8 = 202;
pub(super) const PT_BYE: u8 = 203;
pub(super) const PT_TRANSPORT: u8 = 205;
pub(super) const PT_PAYLOAD: u8 = 206;
pub(super) const FMT_NACK: u8 = 1;
pub(super) const FMT_TWCC: u8 = 15;
pub(super) const FMT_PLI: u8 = 1;
pub(super) const FMT_FIR: u8 = 4;
pub(super) const FMT_AFB: u8 = 15;
pub(super) const REMB: &[u8] = b"REMB";

/// The five bits that count items hold no more than this.
const MAX_COUNT: usize = 31;
/// Pairs in one NACK; more go into further packets. Together they name up to 4352 packets.
const MAX_NACK_PAIRS: usize = 256;

/// What a sender says of one of its streams (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    pub ssrc: Ssrc,
    /// When, in NTP's 32.32 fixed point since 1900.
    pub ntp: u64,
    /// The same instant on the stream's clock.
    pub rtp_timestamp: u32,
    /// Packets and payload bytes sent so far, modulo 2^32.
    pub packets: u32,
    pub octets: u32,
}

/// Appends one packet: the common header, and a body that `fill` writes, made up to a multiple of four with zeros.
fn packet(out: &mut Vec<u8>, format: usize, packet_type: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0x80 | (format & 0x1f) as u8, packet_type, 0, 0]);
    fill(out);
    out.resize(start + (out.len() - start).next_multiple_of(4), 0);
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

/// A feedback message (RFC 4585 section 6.1).
pub(super) fn write_feedback(
    out: &mut Vec<u8>,
    packet_type: u8,
    format: u8,
    sender: Ssrc,
    media: Ssrc,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    packet(out, format.into(), packet_type, |out| {
        push_u32(out, sender.0);
        push_u32(out, media.0);
        fill(out);
    });
}

fn push_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn push_block(out: &mut Vec<u8>, block: &ReportBlock) {
    const LIMIT: i32 = 1 << 23;
    let lost = block.cumulative_lost.clamp(-LIMIT, LIMIT - 1) as u32 & 0x00ff_ffff;
    push_u32(out, block.ssrc.0);
    push_u32(out, u32::from(block.fraction_lost) << 24 | lost);
    push_u32(out, block.highest_sequence);
    push_u32(out, block.jitter);
    push_u32(out, block.last_sr);
    push_u32(out, block.delay_since_last_sr);
}

/// A sender report. Report blocks beyond 31 go into receiver reports behind it.
pub fn write_sender_report(out: &mut Vec<u8>, info: &SenderInfo, blocks: &[ReportBlock]) {
    let (blocks, more) = blocks.split_at(blocks.len().min(MAX_COUNT));
    packet(out, blocks.len(), PT_SR, |out| {
        push_u32(out, info.ssrc.0);
        out.extend_from_slice(&info.ntp.to_be_bytes());
        push_u32(out, info.rtp_timestamp);
        push_u32(out, info.packets);
        push_u32(out, info.octets);
        blocks.iter().for_each(|b| push_block(out, b));
    });
    if !more.is_empty() {
        write_receiver_report(out, info.ssrc, more);
    }
}

/// A receiver report, or several when there are more than 31 blocks.
pub fn write_receiver_report(out: &mut Vec<u8>, sender: Ssrc, blocks: &[ReportBlock]) {
    let (now, more) = blocks.split_at(blocks.len().min(MAX_COUNT));
    packet(out, now.len(), PT_RR, |out| {
        push_u32(out, sender.0);
        now.iter().for_each(|b| push_block(out, b));
    });
    if !more.is_empty() {
        write_receiver_report(out, sender, more);
    }
}

/// A source description with the canonical name, of which at most 255 bytes count (RFC 3550 section 6.5.1).
pub fn write_cname(out: &mut Vec<u8>, ssrc: Ssrc, cname: &str) {
    let text = &cname.as_bytes()[..cname.len().min(255)];
    packet(out, 1, PT_SDES, |out| {
        push_u32(out, ssrc.0);
        out.extend_from_slice(&[1, text.len() as u8]);
        out.extend_from_slice(text);
        // The end of the item list; the padding to a word follows.
        out.push(0);
    });
}

/// The end of streams, 31 to a packet.
pub fn write_bye(out: &mut Vec<u8>, ssrcs: &[Ssrc]) {
    for ssrcs in ssrcs.chunks(MAX_COUNT) {
        packet(out, ssrcs.len(), PT_BYE, |out| ssrcs.iter().for_each(|s| push_u32(out, s.0)));
    }
}

/// Asks for packets of `media` again. Numbers that ascend pack best, up to 17 in four bytes; nothing is written for none.
pub fn write_nack(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc, sequences: impl IntoIterator<Item = u16>) {
    let mut sequences = sequences.into_iter().peekable();
    while sequences.peek().is_some() {
        write_feedback(out, PT_TRANSPORT, FMT_NACK, sender, media, |out| {
            for _ in 0..MAX_NACK_PAIRS {
                let Some(first) = sequences.next() else { return };
                let mut mask = 0u16;
                while let Some(bit) = sequences.peek().map(|s| s.wrapping_sub(first)).filter(|d| *d <= 16) {
                    // A number given twice is asked for once.
                    mask |= if bit == 0 { 0 } else { 1 << (bit - 1) };
                    sequences.next();
                }
                push_u32(out, u32::from(first) << 16 | u32::from(mask));
            }
        });
    }
}

/// Asks for a keyframe of `media`.
pub fn write_pli(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc) {
    write_feedback(out, PT_PAYLOAD, FMT_PLI, sender, media, |_| {});
}

/// Asks for keyframes of streams, each with the request's number.
pub fn write_fir(out: &mut Vec<u8>, sender: Ssrc, entries: &[(Ssrc, u8)]) {
    write_feedback(out, PT_PAYLOAD, FMT_FIR, sender, Ssrc(0), |out| {
        for (ssrc, number) in entries {
            push_u32(out, ssrc.0);
            out.extend_from_slice(&[*number, 0, 0, 0]);
        }
    });
}

/// Tells what bitrate all of `ssrcs` (at most 255) may have together. It is rounded down to 18 significant bits.
pub fn write_remb(out: &mut Vec<u8>, sender: Ssrc, bitrate_bps: u64, ssrcs: &[Ssrc]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(255)];
    let exponent = (64 - bitrate_bps.leading_zeros()).saturating_sub(18);
    let mantissa = (bitrate_bps >> exponent) as u32;
    write_feedback(out, PT_PAYLOAD, FMT_AFB, sender, Ssrc(0), |out| {
        out.extend_from_slice(REMB);
        push_u32(out, (ssrcs.len() as u32) << 24 | exponent << 18 | mantissa);
        ssrcs.iter().for_each(|s| push_u32(out, s.0));
    });
}
