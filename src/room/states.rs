//! What participants are told of the tracks that they get: `track.state`.
use super::messages::{Event, Layer, TrackState, TrackStateKind, Why};
use super::participant::{Participant, Track};
use super::slots::Bound;
use super::timers::Timer;
use super::{At, Room};
use crate::engine::api::{ChosenLayer, Limit, SlotState};
use crate::ids::{ParticipantId, TrackId};
use std::time::{Duration, Instant};

/// Another layer, or another number of bits, is told no more often than this.
const DETAILS_EVERY: Duration = Duration::from_secs(1);

/// What somebody gets of a track.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    kind: TrackStateKind,
    why: Why,
    layer: Option<ChosenLayer>,
    need_bps: Option<u64>,
    have_bps: Option<u64>,
}

/// What was told of a track, and when.
#[derive(Clone, Debug)]
pub(super) struct Told {
    state: State,
    at: Instant,
}

impl Told {
    pub fn message(&self, track: TrackId) -> TrackState {
        let State { kind, why, ref layer, need_bps, have_bps } = self.state;
        let layer = layer.as_ref().map(Into::into);
        TrackState { track: track.to_string(), state: kind, layer, why, need_bps, have_bps }
    }
}

impl From<&ChosenLayer> for Layer {
    fn from(layer: &ChosenLayer) -> Self {
        let &ChosenLayer { ref rid, spatial, temporal } = layer;
        Self { rid: rid.as_ref().map(ToString::to_string), spatial, temporal }
    }
}

impl State {
    fn plain(kind: TrackStateKind, why: Why) -> Self {
        Self { kind, why, layer: None, need_bps: None, have_bps: None }
    }

    /// What there is of a track in a slot that the engine fills.
    fn live(bound: &Bound) -> Self {
        let report = &bound.report;
        let (why, (need_bps, have_bps)) = match report.limit {
            Limit::Bandwidth => (Why::Bandwidth, (report.need_bps, report.have_bps)),
            Limit::View => (Why::View, (None, None)),
            Limit::Publisher => (bound.why, (None, None)),
        };
        Self { kind: TrackStateKind::Live, why, layer: report.layer.clone(), need_bps, have_bps }
    }

    /// Whether somebody could see the difference. Rates wander: a tenth is none.
    fn is_news_after(&self, told: &State) -> bool {
        let moved = |now: Option<u64>, then: Option<u64>| match (now, then) {
            (Some(now), Some(then)) => now.abs_diff(then) > then / 10,
            (now, then) => now.is_some() != then.is_some(),
        };
        let same = (self.kind, self.why, &self.layer) == (told.kind, told.why, &told.layer);
        !same || moved(self.need_bps, told.need_bps) || moved(self.have_bps, told.have_bps)
    }

    /// Whether the track came or went, or is gone for another reason: that is told whenever it happens.
    fn is_urgent_after(&self, told: &State) -> bool {
        self.kind != told.kind || (self.kind != TrackStateKind::Live && self.why != told.why)
    }
}

impl Room {
    /// Says what a participant gets of a track, when that is news.
    pub(super) fn tell_state(&mut self, at: At, id: ParticipantId, track: TrackId) {
        let Some(participant) = self.participants.get_mut(&id).filter(|p| p.session().is_some()) else { return };
        let states = &mut participant.subscriber.states;
        let Some(record) = self.tracks.get(&track) else {
            states.remove(&track);
            return;
        };
        let said = states.get(&track).cloned();
        let Some(state) = state(participant, record, said.is_some()) else { return };
        if let Some(said) = said.filter(|said| !state.is_urgent_after(&said.state)) {
            if !state.is_news_after(&said.state) {
                return;
            }
            if at.now < said.at + DETAILS_EVERY {
                return self.timers.arm_by(Timer::States(id), said.at + DETAILS_EVERY);
            }
        }
        let told = Told { state, at: at.now };
        let event = Event::TrackState(told.message(track));
        participant.subscriber.states.insert(track, told);
        self.tell(id, &event);
    }

    /// What was not told a moment ago may be told now.
    pub(super) fn states_due(&mut self, id: ParticipantId) {
        let Some(participant) = self.participants.get(&id) else { return };
        self.stale.states.extend(participant.subscriber.states.keys().map(|track| (id, *track)));
    }

    /// What is told of a track to everybody whose slots show it may have changed.
    pub(super) fn review_watchers(&mut self, id: TrackId) {
        let Some(track) = self.tracks.get(&id) else { return };
        self.stale.states.extend(track.watchers.iter().map(|watcher| (*watcher, id)));
    }
}

/// What there is to tell of a track. None when there is nothing (yet). `said`: something was told before.
fn state(participant: &Participant, track: &Track, said: bool) -> Option<State> {
    use TrackStateKind::{Paused, Unavailable};
    let subscriber = &participant.subscriber;
    if track.owner == participant.id {
        return None;
    }
    let wish = subscriber.wish.as_ref().map(|w| w.tracks.get(&track.id));
    let Some(bound) = subscriber.slots.bound_to(track.id) else {
        let listed = matches!(wish, Some(Some(_)));
        let why = match wish {
            Some(Some(wish)) if !wish.paused => Why::LastN,
            Some(_) => Why::View,
            None => Why::LastN,
        };
        return (listed || said).then(|| State::plain(Paused, why));
    };
    match bound.report.state {
        _ if track.muted => Some(State::plain(Paused, Why::Muted)),
        SlotState::NoCodec => Some(State::plain(Unavailable, Why::Codec)),
        _ if track.is_stalled() => Some(State::plain(Paused, Why::Publisher)),
        SlotState::Live => Some(State::live(bound)),
        SlotState::Paused => {
            let (need_bps, have_bps) = (bound.report.need_bps, bound.report.have_bps);
            Some(State { need_bps, have_bps, ..State::plain(Paused, Why::Bandwidth) })
        }
        // A moment without packets after a change is no news; after another state it is.
        SlotState::Waiting => said.then(|| State::plain(Paused, Why::Publisher)),
    }
}
