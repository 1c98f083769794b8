//! What there is of a track: which of its streams are live, which layers they have, and by which of them the track is known.
use super::explain::KeyframeWhy;
use super::record::Part;
use super::stream::STREAM_SILENCE;
use super::{Engine, Event, Owner};
use crate::engine::api::SlotState;
use crate::forward::Target;
use crate::ids::Rid;
use crate::rtp::codec::Kind;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

/// An encoding must have this much more than the present one to replace it while both live: rates of one encoder wander.
const BETTER: f64 = 1.3;
/// How often a publisher's streams are looked through.
pub(super) const REVIEW_INTERVAL: Duration = Duration::from_millis(500);
/// How often the layers of a track that flows are looked at.
const LAYER_REVIEW: Duration = Duration::from_millis(100);

impl Engine {
    pub(super) fn attach_stream(&mut self, now: Instant, stream: usize, track: usize) {
        if self.streams[stream].track == Some(track) {
            return;
        }
        self.streams[stream].track = Some(track);
        self.tracks[track].streams.push(stream);
        self.choose_best(now, track);
    }

    pub(super) fn detach_stream(&mut self, stream: usize) {
        let Some(track) = self.streams[stream].track.take() else { return };
        self.streams[stream].recorded = Part::None;
        let Some(track) = self.tracks.get_mut(track) else { return };
        track.streams.retain(|&s| s != stream);
        if track.best == Some(stream) {
            track.best = None;
        }
    }

    /// Chooses the stream that the track is known by anew.
    pub(super) fn choose_best(&mut self, now: Instant, at: usize) {
        let Self { tracks, streams, .. } = self;
        let track = &tracks[at];
        let live = |s: &usize| streams[*s].is_live(now);
        let rate = |s: &usize| streams[*s].rate.bps();
        let candidate = track.streams.iter().copied().filter(live).max_by(|a, b| rate(a).total_cmp(&rate(b)));
        let present = track.best.filter(live);
        let best = match (present, candidate) {
            (Some(present), Some(candidate)) if rate(&candidate) > rate(&present) * BETTER => Some(candidate),
            (Some(present), _) => Some(present),
            (None, Some(candidate)) => Some(candidate),
            // Nothing is live: stay, so that what comes next goes on where it was.
            (None, None) => track.best,
        };
        let changed = best != track.best;
        self.tracks[at].best = best;
        self.review_recorded(now, at);
        self.tell_track(now, at);
        if changed {
            self.aim_subscribers(now, at);
        }
    }

    /// The track is known by another stream from now on.
    pub(super) fn aim_subscribers(&mut self, now: Instant, track: usize) {
        if self.tracks[track].kind == Kind::Video {
            return self.reconsider(now, track);
        }
        for n in 0..self.tracks[track].subscribers.len() {
            let (peer, slot) = self.tracks[track].subscribers[n];
            self.aim_slot(now, peer, slot, true);
        }
    }

    fn tell_track(&mut self, now: Instant, at: usize) {
        let Self { tracks, streams, events, .. } = self;
        let track = &mut tracks[at];
        let live = || track.streams.iter().filter(|s| streams[**s].is_live(now));
        let count = live().count();
        let Some(best) = track.best.filter(|_| count > 0) else { return };
        let state = (streams[best].codec, count);
        if track.told == Some(state) {
            return;
        }
        let encodings: Vec<Rid> = live().filter_map(|s| streams[*s].rid.clone()).collect();
        track.told = Some(state);
        events.push_back(Event::TrackLive { room: track.room, track: track.id, codec: state.0, encodings });
    }

    /// Points an audio slot at the stream that its track is heard by; sees to it that a video slot gets its share.
    pub(super) fn aim_slot(&mut self, now: Instant, index: usize, at: usize, seamless: bool) {
        let Self { peers, tracks, streams, .. } = self;
        let slot = &mut peers[index].slots[at];
        let Some(track) = slot.track.and_then(|t| tracks.get(t)) else { return };
        if track.kind == Kind::Audio {
            let best = track.best.map(|s| Target::whole(streams[s].key));
            slot.forwarder.set_target(best, seamless);
        }
        let video = track.kind == Kind::Video;
        if slot.told.is_none() {
            slot.told = Some(SlotState::Waiting);
            self.report_slot(now, index, at);
        }
        if video {
            self.want_allocation(now, index);
        }
    }

    /// Asks the publisher of what the slot waits for (or shows) for a keyframe.
    pub(super) fn want_keyframe(&mut self, now: Instant, index: usize, at: usize, why: KeyframeWhy) {
        let Self { peers, tracks, streams, .. } = self;
        let slot = &peers[index].slots[at];
        let Some(track) = slot.track.and_then(|t| tracks.get(t)).filter(|t| t.kind == Kind::Video && !t.muted) else {
            return;
        };
        let wanted = slot.forwarder.target().or(slot.forwarder.current());
        let Some(wanted) = wanted.map(|target| target.stream) else { return };
        let (owner, id) = (track.owner, track.id);
        let Some(stream) = streams.get_mut(wanted.index as usize).filter(|s| s.key == wanted) else { return };
        if stream.keyframes.want() {
            let rid = stream.rid.clone();
            self.note_keyframe(now, index, at, rid, why);
        }
        match owner {
            Owner::Peer(publisher) => self.touch(publisher),
            Owner::Shard(home) => self.ask_home(now, home, id, wanted.index as usize),
        }
    }

    /// The subscriber can receive (again): every slot that has nothing yet gets a keyframe asked for.
    pub(super) fn start_slots(&mut self, now: Instant, index: usize) {
        if let Some(outgoing) = self.peers[index].outgoing.as_deref_mut() {
            outgoing.allocation.forget_limits(now);
        }
        for at in 0..self.peers[index].slots.len() {
            self.aim_slot(now, index, at, true);
            // After an outage the decoder may have lost its reference.
            self.want_keyframe(now, index, at, KeyframeWhy::Subscriber);
        }
    }

    /// Looks at what there is of a track's layers, if it is time to: its subscribers choose anew when that changed. Called when
    /// packets come, so that of a track that is silent as a whole nothing is given up.
    pub(super) fn review_layers(&mut self, now: Instant, at: usize) {
        let Some(track) = self.tracks.get_mut(at) else { return };
        if track.kind != Kind::Video || track.review_at.is_some_and(|at| now < at) {
            return;
        }
        track.review_at = Some(now + LAYER_REVIEW);
        self.review_recorded(now, at);
        let Self { tracks, streams, .. } = self;
        let track = &mut tracks[at];
        let newest = track.streams.iter().map(|s| streams[*s].last_arrival).max().unwrap_or(now);
        let mut hasher = rustc_hash::FxHasher::default();
        for stream in track.streams.iter().map(|s| &streams[*s]) {
            let Some(meter) = &stream.meter else { continue };
            (stream.key.index, stream.key.generation, stream.flows(newest), meter.shape()).hash(&mut hasher);
        }
        let shape = hasher.finish();
        if std::mem::replace(&mut track.shape, shape) != shape {
            self.reconsider(now, at);
            self.demand_changed(at);
        }
    }

    /// Looks for streams of this peer that fell silent, and for better ones. Called from time to time.
    pub(super) fn review_streams(&mut self, now: Instant, index: usize) {
        let mut live = false;
        for n in 0..self.peers[index].published.len() {
            let Some(&(_, at)) = self.peers[index].published.get(n) else { break };
            self.choose_best(now, at);
            let Self { tracks, streams, events, .. } = self;
            let track = &mut tracks[at];
            let newest = track.streams.iter().map(|s| streams[*s].last_arrival).max();
            let silent = newest.is_some_and(|at| now.saturating_duration_since(at) >= 2 * STREAM_SILENCE);
            if silent && !track.muted && track.told.take().is_some() {
                events.push_back(Event::TrackStalled { room: track.room, track: track.id });
            }
            live |= !silent;
        }
        // Once all is silent, the next packet starts the watch again.
        self.peers[index].review_due = live.then(|| now + REVIEW_INTERVAL);
    }
}
