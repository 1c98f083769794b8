//! What of a track is of use to anybody: told to its publisher, so that nobody encodes and uploads what nobody looks at.
//!
//! It goes by how large a track is shown, not by what paths carry: a layer that comes and goes with somebody's bandwidth is not to
//! be stopped and started each time.
use super::relay::Control;
use super::{Engine, Event, Owner};
use crate::egress::allocation::{Layer, Wish, useful_pixels};
use crate::ids::{Rid, ShardId, TrackId};
use crate::rtp::codec::Kind;
use smallvec::SmallVec;

/// How much of a track is of use. What is more comes later in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Need {
    /// Nobody looks at it.
    #[default]
    Nothing,
    /// Encodings of up to so many pixels.
    UpTo(u32),
    All,
}

impl Engine {
    /// Who looks at the track, or how, has changed, or what there is of it: the next flush sees to it.
    pub(super) fn demand_changed(&mut self, track: usize) {
        if let Some(entry) = self.tracks.get_mut(track).filter(|t| t.kind == Kind::Video && !t.demand_due) {
            entry.demand_due = true;
            self.batch.demands.push(track);
        }
    }

    /// Says what is wanted of the tracks whose demand has changed: to the room, or to the shard of the publisher.
    pub(super) fn settle_demands(&mut self) {
        while let Some(track) = self.batch.demands.pop() {
            let Some(entry) = self.tracks.get_mut(track).filter(|track| track.demand_due) else { continue };
            entry.demand_due = false;
            let need = self.need_here(track);
            let entry = &mut self.tracks[track];
            let changed = entry.need != need;
            entry.need = need;
            match entry.owner {
                Owner::Peer(owner) => self.tell_wanted(track, owner),
                Owner::Shard(home) if changed => {
                    let control = Control::Need { track: entry.id, need };
                    if let Some(batch) = self.relays.get_mut(usize::from(home.0)) {
                        batch.push_control(control);
                    }
                }
                Owner::Shard(_) => {}
            }
        }
    }

    /// A shard that mirrors the track says what its subscribers have use for.
    pub(super) fn handle_need(&mut self, from: ShardId, track: TrackId, need: Need) {
        let Some(&at) = self.track_ids.get(&track) else { return };
        let track = &mut self.tracks[at];
        if !track.mirrors.contains(&from) {
            return;
        }
        track.needs.retain(|(shard, _)| *shard != from);
        track.needs.push((from, need));
        self.demand_changed(at);
    }

    /// What the subscribers on this shard have use for.
    fn need_here(&self, at: usize) -> Need {
        let track = &self.tracks[at];
        if track.recorded.is_some() {
            return Need::All;
        }
        let mut sizes: SmallVec<[Layer; 8]> = SmallVec::new();
        sizes.extend(
            track.streams.iter().filter_map(|s| self.streams[*s].meter.as_ref()?.size()).map(|(width, height)| Layer {
                width,
                height,
                ..Layer::default()
            }),
        );
        let mut need = Need::Nothing;
        for &(peer, slot) in &track.subscribers {
            let Some(slot) = self.peers.get(peer).and_then(|p| p.slots.get(slot)) else { continue };
            need = need.max(match useful_pixels(&Wish::from(&slot.wish), &sizes) {
                u32::MAX => Need::All,
                pixels => Need::UpTo(pixels),
            });
            if need == Need::All {
                break;
            }
        }
        need
    }

    fn tell_wanted(&mut self, at: usize, owner: usize) {
        let Self { tracks, peers, streams, events, .. } = self;
        let track = &mut tracks[at];
        let need = track.needs.iter().map(|(_, need)| *need).chain([track.need]).max().unwrap_or_default();
        if need == Need::Nothing {
            return; // Whether anybody watches at all is the room's to know.
        }
        let Some(peer) = peers.get(owner) else { return };
        let mid = peer.published.iter().find(|(_, t)| *t == at).map(|(mid, _)| mid);
        let Some(media) = peer.receive.iter().find(|m| Some(&m.mid) == mid) else { return };
        // One of which nothing has come yet may be any size.
        let size = |rid: &Rid| {
            let mut own = track.streams.iter().map(|s| &streams[*s]);
            own.find(|s| s.rid.as_ref() == Some(rid)).and_then(|s| s.meter.as_ref()?.size())
        };
        let wanted = |rid: &&Rid| match (need, size(rid)) {
            (Need::UpTo(most), Some((width, height))) => u32::from(width) * u32::from(height) <= most,
            _ => true,
        };
        let rids: Vec<Rid> = media.rids.iter().filter(wanted).cloned().collect();
        let unsaid = track.wanted.is_none() && rids.len() == media.rids.len();
        if media.rids.is_empty() || unsaid || track.wanted.as_ref() == Some(&rids) {
            return;
        }
        track.wanted = Some(rids.clone());
        events.push_back(Event::TrackWanted { room: track.room, track: track.id, rids });
    }
}
