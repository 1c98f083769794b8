//! What the engine knows of a peer, for `stats`.
use super::Engine;
use super::peer::{Peer, Slot};
use super::stream::ReceiveStream;
use super::told;
use crate::egress::allocation::Limit;
use crate::engine::api::{BandwidthStats, ChosenLayer, LayerStats, PeerStats, SlotState, StreamStats};
use crate::ids::Rid;
use crate::rtp::codec::Kind;
use std::time::Instant;

impl Engine {
    pub(super) fn stats(&mut self, now: Instant, index: usize) -> PeerStats {
        let profile = self.peers[index].association.outbound().map(|o| o.profile().name().to_owned());
        let peer = &self.peers[index];
        let received = peer.streams().into_iter().map(|at| self.received_stats(now, peer, &self.streams[at]));
        let sent = peer.slots.iter().filter(|slot| !slot.retired).map(|slot| self.slot_stats(now, slot));
        PeerStats {
            connected: peer.connected,
            srtp_profile: profile,
            remote_address: peer.path.map(|p| p.remote.to_string()),
            rtt_ms: peer.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
            datagrams_in: peer.counts.datagrams_in,
            bytes_in: peer.counts.bytes_in,
            datagrams_out: peer.counts.datagrams_out,
            bytes_out: peer.counts.bytes_out,
            bandwidth: bandwidth_stats(peer),
            streams: received.chain(sent).collect(),
        }
    }

    fn received_stats(&self, now: Instant, peer: &Peer, s: &ReceiveStream) -> StreamStats {
        let live = s.is_live(now);
        let size = s.meter.as_ref().and_then(|meter| meter.size());
        StreamStats {
            mid: peer.receive.get(s.media).map(|m| m.mid.to_string()).unwrap_or_default(),
            track: s.track.map(|t| self.tracks[t].id.to_string()),
            rid: s.rid.as_ref().map(Rid::to_string),
            codec: Some(s.codec.name().to_owned()),
            ssrc: s.ssrc.0,
            packets: s.packets,
            bytes: s.bytes,
            lost: u64::try_from(s.reception.lost()).unwrap_or(0),
            retransmitted: s.repaired,
            nacks: s.nacked,
            keyframe_requests: s.keyframes.sent,
            jitter_ms: f64::from(s.reception.jitter_ticks()) * 1_000.0 / f64::from(s.kind.clock_rate()),
            bitrate_bps: if live { s.rate.bps() as u64 } else { 0 },
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
            fps: s.meter.as_ref().map(|meter| if live { f64::from(meter.fps()) } else { 0.0 }),
            ..StreamStats::default()
        }
    }

    fn slot_stats(&self, now: Instant, slot: &Slot) -> StreamStats {
        let current = slot.forwarder.current().and_then(|target| self.streams.get(target.stream.index as usize));
        let reported = slot.reported.as_ref();
        let video = slot.media.kind == Kind::Video && slot.track.is_some();
        let limited = video && slot.share.limit == Limit::Bandwidth;
        let layer = |shown: Option<ChosenLayer>| shown.filter(|_| video).map(layer_stats);
        StreamStats {
            mid: slot.media.mid.to_string(),
            track: slot.track.map(|t| self.tracks[t].id.to_string()),
            rid: current.and_then(|s| s.rid.as_ref()).map(Rid::to_string),
            codec: current.map(|s| s.codec.name().to_owned()),
            ssrc: slot.media.ssrc.0,
            packets: slot.packets,
            bytes: slot.octets,
            lost: reported.map_or(0, |r| u64::try_from(r.cumulative_lost).unwrap_or(0)),
            retransmitted: slot.repaired,
            nacks: slot.nacks,
            keyframe_requests: slot.keyframe_requests,
            jitter_ms: reported
                .map_or(0.0, |r| f64::from(r.jitter) * 1_000.0 / f64::from(slot.media.kind.clock_rate())),
            bitrate_bps: current.map_or(0, |s| if s.is_live(now) { slot.rate.bps() as u64 } else { 0 }),
            layer: layer(told::layer(slot.forwarder.current(), &self.streams)),
            target: layer(told::layer(slot.forwarder.target(), &self.streams)),
            state: slot.told.map(|state| state_name(state).to_owned()),
            limit: video.then(|| limit_name(slot.share.limit).to_owned()),
            need_bps: limited.then_some(slot.share.need_bps),
            have_bps: limited.then_some(slot.share.have_bps),
            ..StreamStats::default()
        }
    }
}

fn bandwidth_stats(peer: &Peer) -> Option<BandwidthStats> {
    let outgoing = peer.outgoing.as_deref()?;
    let estimate = outgoing.bandwidth.estimate();
    let outcome = &outgoing.allocation.outcome;
    Some(BandwidthStats {
        estimate_bps: estimate.has_feedback.then_some(estimate.bps),
        allocated_bps: outcome.allocated_bps,
        wanted_bps: outcome.wanted_bps,
        acked_bps: estimate.acked_bps,
        loss: f64::from(estimate.loss),
        queue_delay_ms: estimate.queue_delay.as_secs_f64() * 1_000.0,
        queued_bytes: outgoing.pacer.queued_bytes() as u64,
        limited_by: format!("{:?}", estimate.limited_by).to_lowercase(),
        probing: estimate.probing,
    })
}

fn layer_stats(layer: ChosenLayer) -> LayerStats {
    LayerStats { rid: layer.rid.as_ref().map(Rid::to_string), spatial: layer.spatial, temporal: layer.temporal }
}

fn state_name(state: SlotState) -> &'static str {
    match state {
        SlotState::Waiting => "waiting",
        SlotState::Live => "live",
        SlotState::Paused => "paused",
        SlotState::NoCodec => "noCodec",
    }
}

fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Publisher => "publisher",
        Limit::View => "view",
        Limit::Bandwidth => "bandwidth",
    }
}
