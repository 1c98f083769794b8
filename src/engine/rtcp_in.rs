//! RTCP that comes in: reports of publishers and subscribers, requests for packets and for keyframes.
use super::Engine;
use super::explain::KeyframeWhy;
use super::peer::Repair;
use crate::egress::bandwidth::Bandwidth;
use crate::metrics::DropReason;
use crate::rtp::rtcp::{self, ReportBlock, Rtcp};
use crate::rtp::{SeqNo, Ssrc};
use std::time::{Duration, Instant};

/// Retransmissions that one peer may have waiting for the next flush: two frames of 4K video.
const MAX_REPAIRS: usize = 512;
/// A round trip longer than this is a lie or a clock that was set.
const MAX_RTT: Duration = Duration::from_secs(10);

impl Engine {
    pub(super) fn handle_rtcp(&mut self, now: Instant, index: usize, datagram: &[u8]) -> Result<(), DropReason> {
        let inbound = self.peers[index].association.inbound().ok_or(DropReason::SrtpBeforeKeys)?;
        let len = inbound.open_rtcp(datagram, &mut self.batch.opened)?;
        // A viewer on libnice (GStreamer) checks its path every 25 s only: its reports are what says that it is there.
        self.peers[index].association.alive(now);
        self.handle_association(now, index);
        // Taken out while it is read, because what it says changes the engine.
        let opened = std::mem::take(&mut self.batch.opened);
        let mut result = Ok(());
        for packet in rtcp::packets(&opened[..len]) {
            match packet {
                Ok(packet) => self.handle_control(now, index, packet),
                Err(_) => result = Err(DropReason::RtcpMalformed),
            }
        }
        self.batch.opened = opened;
        result
    }

    fn handle_control(&mut self, now: Instant, index: usize, packet: Rtcp<'_>) {
        match packet {
            Rtcp::SenderReport { ssrc, ntp, rtp_timestamp, reports, .. } => {
                self.handle_sender_report(now, index, ssrc, ntp, rtp_timestamp);
                self.handle_report_blocks(now, index, reports);
            }
            Rtcp::ReceiverReport { reports, .. } => self.handle_report_blocks(now, index, reports),
            Rtcp::Nack { media, sequences, .. } => self.handle_nack(index, media, sequences),
            Rtcp::Pli { media, .. } => self.handle_keyframe_request(now, index, media),
            Rtcp::Fir { entries, .. } => entries.for_each(|(media, _)| self.handle_keyframe_request(now, index, media)),
            Rtcp::TransportFeedback(feedback) => {
                self.handle_estimate(now, index, |bandwidth| bandwidth.handle_feedback(now, &feedback));
            }
            Rtcp::Remb { bitrate_bps, .. } => {
                self.handle_estimate(now, index, |bandwidth| bandwidth.handle_remb(now, bitrate_bps));
            }
            Rtcp::SourceDescription | Rtcp::Bye { .. } | Rtcp::Other { .. } => {}
        }
    }

    fn handle_sender_report(&mut self, now: Instant, index: usize, ssrc: Ssrc, ntp: u64, timestamp: u32) {
        let Some(at) = self.stream_by_ssrc(index, ssrc) else { return };
        let stream = &mut self.streams[at];
        stream.reception.handle_sender_report(now, ntp);
        stream.clock.handle_report(ntp, timestamp);
        self.peers[index].clock.handle_report(now, ntp);
    }

    /// Something that the estimate of the peer's path is made from.
    fn handle_estimate(
        &mut self,
        now: Instant,
        index: usize,
        tell: impl FnOnce(&mut Bandwidth) -> Result<(), DropReason>,
    ) {
        let Some(outgoing) = &mut self.peers[index].outgoing else { return };
        if let Err(reason) = tell(&mut outgoing.bandwidth) {
            return self.drop_packet(reason);
        }
        self.metrics.feedbacks_in.add(1);
        self.follow_estimate(now, index, true);
        // No touch: feedback comes twenty times a second, and seldom changes more than a number.
        self.list(index);
        self.arm(now, index);
    }

    /// A report on our slots: what each lost, and all of them together since the last report.
    fn handle_report_blocks(&mut self, now: Instant, index: usize, blocks: impl Iterator<Item = ReportBlock>) {
        let (mut lost, mut sent) = (0, 0);
        for block in blocks {
            if let Some(expected) = self.handle_report_block(now, index, &block) {
                (lost, sent) = (lost + expected * u64::from(block.fraction_lost), sent + expected);
            }
        }
        let peer = &mut self.peers[index];
        let Some(outgoing) = &mut peer.outgoing else { return };
        if let Some(rtt) = peer.rtt {
            outgoing.bandwidth.handle_rtt(rtt);
        }
        // (At most 31 blocks of 2^16 packets each.)
        if sent > 0 && outgoing.bandwidth.handle_report(now, sent as u32, lost) {
            self.list(index);
        }
        self.follow_estimate(now, index, true);
    }

    /// What the subscriber says of a slot's stream: loss, jitter, and by our own report's time the round trip. Gives how many packets of the slot it tells of for the first time.
    fn handle_report_block(&mut self, now: Instant, index: usize, block: &ReportBlock) -> Option<u64> {
        let now_ntp = (self.ntp(now) >> 16) as u32;
        let peer = &mut self.peers[index];
        if block.last_sr != 0 {
            let units = now_ntp.wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr);
            let sample = Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16);
            if sample < MAX_RTT {
                peer.rtt = Some(peer.rtt.map_or(sample, |rtt| rtt * 7 / 8 + sample / 8));
            }
        }
        let slot = peer.slot_by_ssrc(block.ssrc)?;
        let before = peer.slots[slot].reported.replace(*block)?;
        // What it says is only a weight; a lie is no more than a turn of the low 16 bits.
        Some(u64::from(block.highest_sequence.wrapping_sub(before.highest_sequence) & 0xffff))
    }

    fn handle_nack(&mut self, index: usize, media: Ssrc, sequences: impl Iterator<Item = u16>) {
        let Self { peers, metrics, .. } = self;
        let peer = &mut peers[index];
        let Some(at) = peer.slot_by_ssrc(media) else { return };
        let slot = &mut peer.slots[at];
        let Some(highest) = slot.forwarder.highest() else { return };
        for low in sequences {
            metrics.nacks_in.add(1);
            slot.nacks += 1;
            let origin = behind(highest, low).and_then(|out| Some((out, slot.forwarder.origin(out)?)));
            match origin {
                // It would only take the place of what is shown now.
                Some((_, origin)) if origin.superseded => metrics.drop_packet(DropReason::OldSource),
                Some((out, origin)) if peer.repairs_due.len() < MAX_REPAIRS => {
                    peer.repairs_due.push(Repair { slot: at, out, origin });
                }
                Some(_) => metrics.drop_packet(DropReason::NackThrottled),
                None => metrics.drop_packet(DropReason::NackUnanswerable),
            }
        }
        if !peer.repairs_due.is_empty() {
            self.touch(index);
        }
    }

    fn handle_keyframe_request(&mut self, now: Instant, index: usize, media: Ssrc) {
        let Some(at) = self.peers[index].slot_by_ssrc(media) else { return };
        self.metrics.keyframe_requests_in.add(1);
        self.peers[index].slots[at].keyframe_requests += 1;
        self.want_keyframe(now, index, at, KeyframeWhy::Subscriber);
    }

    pub(super) fn stream_by_ssrc(&self, index: usize, ssrc: Ssrc) -> Option<usize> {
        self.peers[index].ssrcs.iter().find_map(|&(s, source)| match source {
            super::peer::Source::Media(stream) if s == ssrc => Some(stream),
            _ => None,
        })
    }
}

/// The extended number of `low`, which can only be at or before `highest`.
fn behind(highest: SeqNo, low: u16) -> Option<SeqNo> {
    let back = highest.low().wrapping_sub(low);
    (back < 0x8000).then(|| highest.0.checked_sub(u64::from(back)).map(SeqNo)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nack_names_a_packet_that_was_sent() {
        assert_eq!(behind(SeqNo(65_540), 4), Some(SeqNo(65_540)));
        assert_eq!(behind(SeqNo(65_540), 65_535), Some(SeqNo(65_535)));
        assert_eq!(behind(SeqNo(65_540), 5), None, "not sent yet");
        assert_eq!(behind(SeqNo(3), 65_535), None, "before the first");
    }
}
