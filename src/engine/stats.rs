//! What the engine knows of a peer, for `stats`.
use super::outgoing::Outgoing;
use super::{Engine, told};
use crate::engine::api::{BandwidthStats, PeerStats, StreamStats};
use crate::ids::Rid;
use std::time::Instant;

impl Engine {
    pub(super) fn stats(&mut self, now: Instant, index: usize) -> PeerStats {
        let profile = self.peers[index].association.outbound().map(|o| o.profile().name().to_owned());
        let peer = &self.peers[index];
        let received = peer.streams().into_iter().map(|at| &self.streams[at]).map(|s| StreamStats {
            mid: peer.receive.get(s.media).map(|m| m.mid.to_string()).unwrap_or_default(),
            track: s.track.map(|t| self.tracks[t].id.to_string()),
            rid: s.rid.as_ref().map(Rid::to_string),
            spatial: None,
            temporal: None,
            codec: Some(s.codec.name().to_owned()),
            ssrc: s.ssrc.0,
            packets: s.packets,
            bytes: s.bytes,
            lost: u64::try_from(s.reception.lost()).unwrap_or(0),
            retransmitted: s.repaired,
            nacks: s.nacked,
            keyframe_requests: s.keyframes.sent,
            jitter_ms: f64::from(s.reception.jitter_ticks()) * 1_000.0 / f64::from(s.kind.clock_rate()),
            bitrate_bps: if s.is_live(now) { s.rate.bps() as u64 } else { 0 },
        });
        let sent = peer.slots.iter().filter(|slot| !slot.retired).map(|slot| {
            let current = slot.forwarder.current().and_then(|target| self.streams.get(target.stream.index as usize));
            let layer = told::shown(slot, &self.streams);
            StreamStats {
                mid: slot.media.mid.to_string(),
                track: slot.track.map(|t| self.tracks[t].id.to_string()),
                rid: current.and_then(|s| s.rid.as_ref()).map(Rid::to_string),
                spatial: layer.as_ref().and_then(|layer| layer.spatial),
                temporal: layer.as_ref().and_then(|layer| layer.temporal),
                codec: current.map(|s| s.codec.name().to_owned()),
                ssrc: slot.media.ssrc.0,
                packets: slot.packets,
                bytes: slot.octets,
                lost: slot.reported.map_or(0, |r| u64::try_from(r.cumulative_lost).unwrap_or(0)),
                retransmitted: slot.repaired,
                nacks: slot.nacks,
                keyframe_requests: slot.keyframe_requests,
                jitter_ms: slot
                    .reported
                    .map_or(0.0, |r| f64::from(r.jitter) * 1_000.0 / f64::from(slot.media.kind.clock_rate())),
                bitrate_bps: current.map_or(0, |s| if s.is_live(now) { slot.rate.bps() as u64 } else { 0 }),
            }
        });
        PeerStats {
            connected: peer.connected,
            srtp_profile: profile,
            remote_address: peer.path.map(|p| p.remote.to_string()),
            rtt_ms: peer.rtt.map(|rtt| rtt.as_secs_f64() * 1_000.0),
            bandwidth: peer.outgoing.as_deref().map(bandwidth),
            datagrams_in: peer.counts.datagrams_in,
            bytes_in: peer.counts.bytes_in,
            datagrams_out: peer.counts.datagrams_out,
            bytes_out: peer.counts.bytes_out,
            streams: received.chain(sent).collect(),
        }
    }
}

fn bandwidth(outgoing: &Outgoing) -> BandwidthStats {
    let estimate = outgoing.bandwidth.estimate();
    let outcome = &outgoing.allocation.outcome;
    BandwidthStats {
        estimate_bps: estimate.has_feedback.then_some(estimate.bps),
        acked_bps: estimate.acked_bps,
        allocated_bps: outcome.allocated_bps,
        wanted_bps: outcome.wanted_bps,
        loss: f64::from(estimate.loss),
        queue_delay_ms: estimate.queue_delay.as_secs_f64() * 1_000.0,
        limited_by: format!("{:?}", estimate.limited_by).to_lowercase(),
        probing: estimate.probing,
    }
}
