//! RTCP of a peer that has the keys and does not tell the truth: well framed or not, but never what happened.
use exedra::rtp::Ssrc;
use exedra::rtp::rtcp::{ReportBlock, write_nack, write_pli, write_receiver_report, write_remb};

/// A transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1) as it is said, whatever it says.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub base: u16,
    pub count: u16,
    /// Units of 64 ms, of which 24 bits count.
    pub reference: i32,
    pub feedback: u8,
    /// Of every packet, in units of 250 µs; `None`: none has arrived.
    pub delta: Option<i16>,
}

impl Claim {
    pub fn write(&self, sender: Ssrc, media: Ssrc) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(sender.0.to_be_bytes());
        body.extend(media.0.to_be_bytes());
        body.extend(self.base.to_be_bytes());
        body.extend(self.count.to_be_bytes());
        body.extend(((self.reference as u32) << 8 | u32::from(self.feedback)).to_be_bytes());
        // Run lengths of at most 13 bits: of large deltas, or of packets that did not arrive.
        let symbol: u16 = if self.delta.is_some() { 2 } else { 0 };
        let mut left = self.count;
        while left > 0 {
            let run = left.min(0x1fff);
            body.extend((symbol << 13 | run).to_be_bytes());
            left -= run;
        }
        if let Some(delta) = self.delta {
            (0..self.count).for_each(|_| body.extend(delta.to_be_bytes()));
        }
        packet(205, 15, body)
    }
}

/// A packet with this body, made up to whole words.
fn packet(packet_type: u8, format: u8, mut body: Vec<u8>) -> Vec<u8> {
    body.resize(body.len().next_multiple_of(4), 0);
    let words = (body.len() / 4) as u16;
    [&[0x80 | format, packet_type], &words.to_be_bytes()[..], &body].concat()
}

/// REMB with an exponent and a mantissa that need not fit together.
pub fn remb(sender: Ssrc, exponent: u8, mantissa: u32) -> Vec<u8> {
    let mut body = sender.0.to_be_bytes().to_vec();
    body.extend([0; 4]);
    body.extend(b"REMB");
    body.extend((u32::from(exponent & 0x3f) << 18 | mantissa & 0x3_ffff).to_be_bytes());
    packet(206, 15, body)
}

/// All that can be claimed at one moment; `step` counts them, `media` is a stream that is received.
pub fn at(step: u32, media: Ssrc) -> Vec<Vec<u8>> {
    let me = Ssrc(0xbad);
    let feedback = step as u8;
    let claim = Claim { base: 0, count: 300, reference: 0, feedback, delta: Some(4) };
    let mut all = Vec::new();
    for base in [0, 1, 0x7fff, 0x8000, 0xffff, (step * 997) as u16] {
        all.push(Claim { base, ..claim }.write(me, media));
        // As many as there can be, none of which was sent.
        all.push(Claim { base, count: 0xffff, delta: None, ..claim }.write(me, media));
        all.push(Claim { base, count: 8_192, delta: None, ..claim }.write(me, media));
    }
    // In the past, in the far future, back and forth by days; deltas that only go back.
    for reference in [-0x80_0000, -1, 0x7f_ffff, (step as i32 % 2) * 0x40_0000, -(step as i32) * 1_000] {
        all.push(Claim { reference, ..claim }.write(me, media));
        all.push(Claim { reference, delta: Some(i16::MIN), ..claim }.write(me, media));
        all.push(Claim { reference, delta: Some(i16::MAX), ..claim }.write(me, media));
    }
    // More than it carries, and nothing at all.
    all.push(packet(205, 15, [&me.0.to_be_bytes()[..], &[0; 4], &[0, 0, 0xff, 0xff, 0, 0, 0, 0, 0x9f, 0xff]].concat()));
    all.push(Claim { count: 0, ..claim }.write(me, media));
    for (exponent, mantissa) in [(0, 0), (0, 1), (63, 1), (63, 0x3_ffff), (46, 0x3_ffff), (62, 2)] {
        all.push(remb(me, exponent, mantissa));
    }
    all.extend(reports(media));
    all
}

/// Reports, requests and estimates that the codec of RTCP can write.
fn reports(media: Ssrc) -> Vec<Vec<u8>> {
    let me = Ssrc(0xbad);
    let block = |ssrc, fraction_lost, highest_sequence| ReportBlock {
        ssrc,
        fraction_lost,
        cumulative_lost: i32::MIN,
        highest_sequence,
        jitter: u32::MAX,
        last_sr: 0xffff_ffff,
        delay_since_last_sr: u32::MAX,
    };
    let write = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    vec![
        write(&|out| write_receiver_report(out, me, &vec![block(media, 255, u32::MAX); 31])),
        write(&|out| write_receiver_report(out, me, &[block(Ssrc(1), 255, 0), block(media, 128, 7)])),
        write(&|out| write_remb(out, me, u64::MAX, &[media; 255])),
        write(&|out| write_nack(out, me, media, 0..2_000)),
        write(&|out| write_nack(out, me, Ssrc(1), 0..100)),
        write(&|out| (0..50).for_each(|_| write_pli(out, me, media))),
    ]
}
