//! What the room is told of a slot: when something changed that somebody could see.
use super::api::{ChosenLayer, Limit, SlotReport, SlotState};
use super::peer::Slot;
use super::stream::ReceiveStream;
use super::{Engine, Event};
use crate::egress::allocation;
use crate::forward::Target;
use crate::rtp::codec::Kind;
use slab::Slab;
use std::time::{Duration, Instant};

/// Bits that are missing are told anew when they are so much more or less, and not sooner than this.
const STEP: f64 = 0.1;
const PATIENCE: Duration = Duration::from_secs(1);

impl Engine {
    /// Says what the slot does, unless that was said.
    pub(super) fn report_slot(&mut self, now: Instant, index: usize, at: usize) {
        let Self { peers, tracks, streams, events, .. } = self;
        let peer = &mut peers[index];
        let Some(slot) = peer.slots.get_mut(at) else { return };
        let (Some(state), Some(track)) = (slot.told, slot.track.and_then(|t| tracks.get(t))) else { return };
        let report = report(slot, state, streams);
        if !slot.reported_last.as_ref().is_none_or(|(last, then)| is_news(last, &report, now - *then)) {
            return;
        }
        slot.reported_last = Some((report.clone(), now));
        let (mid, track) = (slot.media.mid.clone(), track.id);
        events.push_back(Event::SlotState { room: peer.room, peer: peer.id, mid, track, report });
    }
}

fn report(slot: &Slot, state: SlotState, streams: &Slab<ReceiveStream>) -> SlotReport {
    if slot.media.kind == Kind::Audio {
        return SlotReport::plain(state);
    }
    let share = &slot.share;
    let missing = |bps: u64| (share.limit == allocation::Limit::Bandwidth).then_some(bps);
    SlotReport {
        state,
        layer: layer(slot.forwarder.current(), streams).filter(|_| state == SlotState::Live),
        limit: match share.limit {
            allocation::Limit::Publisher => Limit::Publisher,
            allocation::Limit::View => Limit::View,
            allocation::Limit::Bandwidth => Limit::Bandwidth,
        },
        need_bps: missing(share.need_bps),
        have_bps: missing(share.have_bps),
    }
}

/// A target in the room's words.
pub(super) fn layer(target: Option<Target>, streams: &Slab<ReceiveStream>) -> Option<ChosenLayer> {
    let current = target?;
    let stream = streams.get(current.stream.index as usize).filter(|s| s.key == current.stream)?;
    let top = stream.meter.as_ref().map(|meter| meter.top()).unwrap_or_default();
    Some(ChosenLayer {
        rid: stream.rid.clone(),
        spatial: top.spatial.map(|top| top.min(current.layers.spatial)),
        temporal: top.temporal.map(|top| top.min(current.layers.temporal)),
    })
}

fn is_news(last: &SlotReport, report: &SlotReport, since: Duration) -> bool {
    let differ = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) as f64 > a as f64 * STEP,
        (a, b) => a != b,
    };
    let missing = differ(last.need_bps, report.need_bps) || differ(last.have_bps, report.have_bps);
    (last.state, &last.layer, last.limit) != (report.state, &report.layer, report.limit) || missing && since >= PATIENCE
}
