//! RTCP that goes out, each kind at its own time: reports, transport feedback, NACK, keyframe requests, REMB.
use super::peer::{Peer, Source};
use super::{Engine, Sink, Transmit};
use crate::rtp::codec::Kind;
use crate::rtp::rtcp::{self, ReportBlock, SenderInfo};
use smallvec::SmallVec;
use std::time::{Duration, Instant};

/// Between two sender or receiver reports. RFC 3550 section 6.2 has 5 s / bandwidth; browsers send video reports every second.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A compound is sent when it is this long, so that no datagram is fragmented.
const COMPOUND: usize = 1_000;
/// Without transport feedback: what a publisher may send at first, at least and at most, in bits a second.
const REMB_START: u64 = 2_000_000;
const REMB_LEAST: u64 = 150_000;
const REMB_MOST: u64 = 10_000_000;

impl Engine {
    /// When something of this is due next.
    pub(super) fn deadline(&self, now: Instant, index: usize) -> Option<Instant> {
        let peer = self.peers.get(index)?;
        if !peer.connected {
            return peer.association.poll_timeout();
        }
        let streams = peer.ssrcs.iter().filter_map(|(_, source)| match source {
            Source::Media(stream) => self.streams.get(*stream),
            Source::Repair(_) => None,
        });
        let repairs = streams.flat_map(|s| {
            let keyframe = s.keyframes.due_at(now);
            let nack = s.nack.as_ref().and_then(|nack| nack.next_timeout());
            keyframe.into_iter().chain(nack)
        });
        let feedback = peer.twcc.as_ref().and_then(|twcc| twcc.next_timeout());
        let estimate = peer.outgoing.as_ref().and_then(|outgoing| outgoing.bandwidth.poll_timeout());
        let allocation = peer.outgoing.as_ref().and_then(|outgoing| outgoing.allocation.due);
        let own = [peer.association.poll_timeout(), feedback, estimate, allocation, peer.report_due, peer.review_due];
        own.into_iter().flatten().chain(repairs).min()
    }

    pub(super) fn send_reports(&mut self, now: Instant, index: usize, sink: &mut impl Sink) {
        let peer = &mut self.peers[index];
        if !peer.connected {
            // Nothing can go out; what is due waits for the connection, which wakes the peer.
            peer.report_due = None;
            return;
        }
        let mut out = std::mem::take(&mut self.batch.rtcp);
        out.clear();
        if self.peers[index].report_due.is_some_and(|at| at <= now) {
            self.write_reports(now, index, &mut out, sink);
        }
        self.write_nacks(now, index, &mut out);
        self.write_keyframe_requests(now, index, &mut out);
        self.send_compound(index, &mut out, sink);
        self.send_transport_feedback(now, index, &mut out, sink);
        self.batch.rtcp = out;
    }

    fn write_reports(&mut self, now: Instant, index: usize, out: &mut Vec<u8>, sink: &mut impl Sink) {
        let ntp = self.ntp(now);
        let mut active = false;
        for at in 0..self.peers[index].slots.len() {
            let slot = &self.peers[index].slots[at];
            let Some(rtp_timestamp) = slot.forwarder.timestamp_at(now) else { continue };
            active |= slot.track.is_some();
            let info = SenderInfo {
                ssrc: slot.media.ssrc,
                ntp,
                rtp_timestamp,
                packets: slot.packets as u32,
                octets: slot.octets as u32,
            };
            rtcp::write_sender_report(out, &info, &[]);
            rtcp::write_cname(out, slot.media.ssrc, &self.peers[index].cname);
            if out.len() >= COMPOUND {
                self.send_compound(index, out, sink);
            }
        }
        let mut blocks: SmallVec<[ReportBlock; 8]> = SmallVec::new();
        let Self { peers, streams, .. } = self;
        let peer = &mut peers[index];
        for (ssrc, source) in &peer.ssrcs {
            let Source::Media(stream) = source else { continue };
            let stream = &mut streams[*stream];
            active |= stream.is_live(now);
            blocks.extend(stream.reception.report_block(now, *ssrc));
        }
        if !blocks.is_empty() {
            rtcp::write_receiver_report(out, peer.report_ssrc, &blocks);
            rtcp::write_cname(out, peer.report_ssrc, &peer.cname);
        }
        peer.report_due = active.then(|| now + REPORT_INTERVAL);
        self.review_quality(now, index, &blocks);
        if self.peers[index].remb.wanted && !blocks.is_empty() {
            self.write_remb(now, index, &blocks, out);
        }
    }

    /// A publisher that knows only REMB: raised while little is lost, lowered with loss, as GCC's loss-based part does
    /// (draft-ietf-rmcat-gcc-02 section 6).
    fn write_remb(&mut self, now: Instant, index: usize, blocks: &[ReportBlock], out: &mut Vec<u8>) {
        let Self { peers, streams, .. } = self;
        let peer = &mut peers[index];
        let worst = blocks.iter().map(|b| f64::from(b.fraction_lost) / 256.0).fold(0.0, f64::max);
        let received: f64 = blocks
            .iter()
            .filter_map(|b| peer.ssrcs.iter().find(|(ssrc, _)| *ssrc == b.ssrc))
            .filter_map(|(_, source)| match source {
                Source::Media(stream) => streams.get(*stream).filter(|s| s.is_live(now)).map(|s| s.rate.bps()),
                Source::Repair(_) => None,
            })
            .sum();
        let present = if peer.remb.bps == 0 { REMB_START } else { peer.remb.bps } as f64;
        let next = if worst > 0.10 {
            present.min(received.max(1.0)) * (1.0 - 0.5 * worst)
        } else if worst < 0.02 {
            // Only as far as it is used: an idle publisher earns no credit.
            (present * 1.08).min((received * 2.0).max(REMB_START as f64)).max(present.min(REMB_START as f64))
        } else {
            present
        };
        peer.remb.bps = (next as u64).clamp(REMB_LEAST, REMB_MOST);
        let ssrcs: SmallVec<[_; 8]> = blocks.iter().map(|b| b.ssrc).collect();
        rtcp::write_remb(out, peer.report_ssrc, peer.remb.bps, &ssrcs);
    }

    fn write_nacks(&mut self, now: Instant, index: usize, out: &mut Vec<u8>) {
        let Self { peers, streams, batch, metrics, .. } = self;
        let peer = &peers[index];
        let rtt = peer.rtt_or_default();
        for (ssrc, source) in &peer.ssrcs {
            let Source::Media(stream) = source else { continue };
            let stream = &mut streams[*stream];
            let Some(nack) = &mut stream.nack else { continue };
            batch.sequences.clear();
            nack.poll(now, rtt, &mut batch.sequences);
            if nack.take_keyframe_needed() && stream.kind == Kind::Video {
                stream.keyframes.want(); // Given up: only a keyframe mends it.
            }
            let Some(&first) = batch.sequences.first() else { continue };
            if stream.nack_probe.is_none_or(|(_, at)| now.saturating_duration_since(at) > Duration::from_secs(1)) {
                stream.nack_probe = Some((first, now));
            }
            stream.nacked += batch.sequences.len() as u64;
            metrics.nacks_out.add(batch.sequences.len() as u64);
            rtcp::write_nack(out, peer.report_ssrc, *ssrc, batch.sequences.iter().map(|s| s.low()));
        }
    }

    fn write_keyframe_requests(&mut self, now: Instant, index: usize, out: &mut Vec<u8>) {
        let Self { peers, streams, metrics, .. } = self;
        let peer = &peers[index];
        for (ssrc, source) in &peer.ssrcs {
            let Source::Media(at) = source else { continue };
            let stream = &mut streams[*at];
            if !stream.keyframes.is_due(now) {
                continue;
            }
            stream.keyframes.note_sent(now);
            metrics.keyframe_requests_out.add(1);
            let media = &peer.receive[stream.media];
            let feedback = media.codecs.iter().find(|c| c.codec == stream.codec).map(|c| c.feedback);
            match feedback {
                Some(f) if !f.pli && f.fir => {
                    rtcp::write_fir(out, peer.report_ssrc, &[(*ssrc, stream.keyframes.sent as u8)]);
                }
                _ => rtcp::write_pli(out, peer.report_ssrc, *ssrc),
            }
        }
    }

    fn send_transport_feedback(&mut self, now: Instant, index: usize, out: &mut Vec<u8>, sink: &mut impl Sink) {
        let Peer { twcc: Some(twcc), ssrcs, report_ssrc, .. } = &mut self.peers[index] else { return };
        let media = ssrcs.first().map_or(*report_ssrc, |(ssrc, _)| *ssrc);
        if twcc.build_feedback(now, *report_ssrc, media, out) {
            self.send_compound(index, out, sink);
        }
    }

    /// Seals and sends what was written, and empties it. What does not start with a report gets an empty one in front: not
    /// every peer takes reduced-size RTCP (RFC 5506).
    fn send_compound(&mut self, index: usize, out: &mut Vec<u8>, sink: &mut impl Sink) {
        const SENDER_REPORT: u8 = 200;
        const RECEIVER_REPORT: u8 = 201;
        if out.is_empty() {
            return;
        }
        let Self { peers, batch, .. } = self;
        let peer = &mut peers[index];
        if !matches!(out.get(1), Some(&(SENDER_REPORT | RECEIVER_REPORT))) {
            let mut report = [0x80, RECEIVER_REPORT, 0, 1, 0, 0, 0, 0];
            report[4..].copy_from_slice(&peer.report_ssrc.0.to_be_bytes());
            out.splice(0..0, report);
        }
        if let (Some(path), Some(outbound)) = (peer.path, peer.association.outbound())
            && let Some(len) = outbound.seal_rtcp(out, &mut batch.slab)
        {
            peer.counts.datagrams_out += 1;
            peer.counts.bytes_out += len as u64;
            sink.transmit(Transmit { path, contents: &batch.slab[..len], segment_size: None });
        }
        out.clear();
    }
}
