//! RTCP that comes in: reports of publishers and subscribers, requests for packets and for keyframes.
use super::Engine;
use super::peer::Repair;
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
                reports.for_each(|block| self.handle_report_block(now, index, &block));
            }
            Rtcp::ReceiverReport { reports, .. } => {
                reports.for_each(|block| self.handle_report_block(now, index, &block));
            }
            Rtcp::Nack { media, sequences, .. } => self.handle_nack(index, media, sequences),
            Rtcp::Pli { media, .. } => self.handle_keyframe_request(now, index, media),
            Rtcp::Fir { entries, .. } => entries.for_each(|(media, _)| self.handle_keyframe_request(now, index, media)),
            // The estimate of a path's capacity is made from these; nothing is allocated by it yet.
            Rtcp::Remb { .. } | Rtcp::TransportFeedback(_) => {}
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

    /// What the subscriber says of a slot's stream: loss, jitter, and by our own report's time the round trip.
    fn handle_report_block(&mut self, now: Instant, index: usize, block: &ReportBlock) {
        let now_ntp = (self.ntp(now) >> 16) as u32;
        let peer = &mut self.peers[index];
        if block.last_sr != 0 {
            let units = now_ntp.wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr);
            let sample = Duration::from_nanos((u64::from(units) * 1_000_000_000) >> 16);
            if sample < MAX_RTT {
                peer.rtt = Some(peer.rtt.map_or(sample, |rtt| rtt * 7 / 8 + sample / 8));
            }
        }
        if let Some(slot) = peer.slot_by_ssrc(block.ssrc) {
            peer.slots[slot].reported = Some(*block);
        }
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
                Some((out, (stream, seq, offsets))) if peer.repairs_due.len() < MAX_REPAIRS => {
                    peer.repairs_due.push(Repair { slot: at, out, stream, seq, offsets });
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
        self.want_keyframe(now, index, at);
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
