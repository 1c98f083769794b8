//! Who gets what: brings slots, `slots.need`, `track.state` and `publish.layers` in line with the room, once after each input.
use super::api::HttpKind;
use super::membership::{binding, track_state};
use super::messages::{Event, SlotsNeed, Source, TrackStateKind, Why};
use super::participant::{Origin, Participant, Track};
use super::slots::{self, Bound, Candidate, Ranking, Rebind, Want, Wanted};
use super::timers::Timer;
use super::{At, Room, UNWATCHED};
use crate::engine::Command;
use crate::engine::api::{SlotState, Wish};
use crate::ids::{ParticipantId, TrackId};
use crate::rtp::Kind;

/// Why the watchers of a track are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewatch {
    /// Their engine must be told again what their slots show.
    Again,
    /// What they are told of the track may have changed.
    State,
}

impl Room {
    /// Does what follows from an input. A second call does nothing.
    pub(super) fn settle(&mut self, at: At) {
        self.rerank();
        for id in std::mem::take(&mut self.stale.subscribers) {
            self.reconcile(id);
        }
        for (id, track) in std::mem::take(&mut self.stale.states) {
            self.tell_state(id, track);
        }
        for track in std::mem::take(&mut self.stale.watched) {
            self.review_layers(at, track);
        }
        self.review_count(at);
    }

    /// Brings the ranking up to date, if it is not. Another ranking concerns everybody, unless it differs only where
    /// nobody reads who has no view of their own.
    pub(super) fn rerank(&mut self) {
        if !std::mem::take(&mut self.stale.reranked) {
            return;
        }
        let owners = self.speakers.order().iter().filter_map(|p| self.participants.get(p));
        let tracks = owners.flat_map(|p| &p.publisher.tracks).filter_map(|t| self.tracks.get(t));
        let spoke = self.speakers.order().iter().copied().filter(|p| self.speakers.has_spoken(*p));
        let ranking = Ranking::new(tracks.map(|t| (t.kind, t.candidate())), spoke);
        if ranking == self.stale.ranking {
            return;
        }
        let limits = &self.settings.limits;
        // One's own tracks are passed over.
        let read = limits.audio_slots.max(limits.video_slots) + limits.tracks;
        let near = !ranking.same_to(&self.stale.ranking, read);
        let reads_all = |p: &&Participant| p.subscriber.wish.is_some() || p.session().is_none();
        let concerned = self.participants.values().filter(|p| near || reads_all(p)).map(|p| p.id);
        self.stale.subscribers.extend(concerned);
        self.stale.ranking = ranking;
    }

    fn wanted(&self, participant: &Participant) -> Wanted {
        let (ranking, me) = (&self.stale.ranking, participant.id);
        let limits = &self.settings.limits;
        let limit = |kind| match kind {
            Kind::Audio => limits.audio_slots,
            Kind::Video => limits.video_slots,
        };
        if !participant.grants.subscribe {
            return Wanted::default();
        }
        match (&participant.origin, &participant.subscriber.wish) {
            (Origin::Http { kind: HttpKind::Whip, .. }, _) => Wanted::default(),
            (Origin::Http { kind: HttpKind::Whep, show, .. }, _) => self.staged(me, show.as_deref()),
            (Origin::Socket(_), None) => Wanted::by_default(ranking, me, limit),
            (Origin::Socket(_), Some(wish)) => {
                let find = |id| self.tracks.get(&id).map(|t| (t.kind, t.candidate()));
                Wanted::by_view(wish, ranking, me, find, limit)
            }
        }
    }

    /// What a WHEP viewer gets: one picture, and the sound that goes with it.
    fn staged(&self, me: ParticipantId, show: Option<&str>) -> Wanted {
        let Some(owner) = show.map_or_else(|| self.stage(me), |name| self.find_participant(name)) else {
            return Wanted::default();
        };
        let tracks: Vec<&Track> = match self.participants.get(&owner) {
            Some(p) => p.publisher.tracks.iter().filter_map(|t| self.tracks.get(t)).collect(),
            None => return Wanted::default(),
        };
        let pick = |kind, sources: [Source; 2]| {
            let of_kind = || tracks.iter().filter(move |t| t.kind == kind);
            let first = |source: &Source| of_kind().find(|t| t.source == *source);
            let track = sources.iter().find_map(first).or_else(|| of_kind().next());
            track.map(|t| Want { candidate: t.candidate(), why: Why::Stage }).into_iter().collect()
        };
        Wanted {
            audio: pick(Kind::Audio, [Source::ScreenAudio, Source::Microphone]),
            video: pick(Kind::Video, [Source::Screen, Source::Camera]),
        }
    }

    /// Who is on the stage: the latest screen share, else the last speaker with video, else the first with anything.
    fn stage(&self, me: ParticipantId) -> Option<ParticipantId> {
        let others = || self.tracks.values().filter(|t| t.owner != me);
        let screen = others().rev().find(|t| t.source == Source::Screen).map(|t| t.owner);
        let ranked = |list: &[Candidate]| list.iter().map(|c| c.owner).find(|owner| *owner != me);
        screen.or_else(|| ranked(&self.stale.ranking.video)).or_else(|| ranked(&self.stale.ranking.audio))
    }

    /// By id, else by identity, else by name.
    pub(super) fn find_participant(&self, name: &str) -> Option<ParticipantId> {
        let id = name.parse().ok().filter(|id| self.participants.contains_key(id));
        let publishes = |p: &&ParticipantId| self.participants.get(p).is_some_and(|p| !p.publisher.tracks.is_empty());
        let same = || self.index.identities.get(name);
        let by_identity = || same().and_then(|s| s.iter().find(publishes).or(s.first())).copied();
        let mut named = self.participants.values().filter(|p| p.name == name).map(|p| &p.id);
        id.or_else(by_identity).or_else(|| named.clone().find(publishes).or(named.next()).copied())
    }

    /// Brings one participant's slots in line with what it is to get.
    fn reconcile(&mut self, id: ParticipantId) {
        let Some(participant) = self.participants.get(&id) else { return };
        let mut wanted = self.wanted(participant);
        self.tell_need(id, &wanted);
        let Some(subscriber) = self.participants.get(&id).map(|p| &p.subscriber) else { return };
        wanted.truncate(&subscriber.slots);
        let agrees = slots::agrees(&subscriber.slots, &wanted);
        debug_assert_eq!(agrees, slots::reconcile(&subscriber.slots, &wanted).is_empty());
        if agrees && subscriber.wish.is_none() {
            return;
        }
        let changes = if agrees { Vec::new() } else { slots::reconcile(&subscriber.slots, &wanted) };
        let mut touched: Vec<TrackId> = Vec::new();
        if let Some(wish) = &subscriber.wish {
            touched.extend(wish.tracks.keys().filter(|t| self.tracks.contains_key(t)));
        }
        for change in changes {
            touched.extend(self.rebind(id, change));
        }
        for track in touched {
            self.tell_state(id, track);
        }
    }

    /// Empties or fills one slot. The tracks concerned.
    fn rebind(&mut self, id: ParticipantId, change: Rebind) -> [TrackId; 2] {
        let Some(subscriber) = self.participants.get_mut(&id).map(|p| &mut p.subscriber) else {
            return [TrackId(0); 2];
        };
        let Some(peer) = subscriber.link.peer else { return [TrackId(0); 2] };
        let follows_view = subscriber.wish.is_some();
        let Some(slot) = subscriber.slots.slot_mut(change.kind, change.number) else { return [TrackId(0); 2] };
        let new = change.want.map(|w| Bound { candidate: w.candidate, why: w.why, state: SlotState::Waiting });
        let old = std::mem::replace(&mut slot.bound, new).map(|b| b.candidate.track);
        let (mid, track) = (slot.mid.clone(), new.map(|b| b.candidate.track));
        let why = match (new, old) {
            (Some(bound), _) => bound.why,
            (None, Some(old)) if !self.tracks.contains_key(&old) => Why::Unpublished,
            (None, _) if follows_view => Why::View,
            (None, _) => Why::LastN,
        };
        if let Some(old) = old {
            self.unwatch(old, id);
        }
        if let Some(track) = track.and_then(|t| self.tracks.get_mut(&t)) {
            track.watchers.insert(id);
            self.stale.watched.insert(track.id);
        }
        let event = Event::SlotBind(binding(mid.as_str(), track, why));
        self.command(Command::Bind { peer, mid, track, wish: Wish::default() });
        self.tell(id, &event);
        [old.or(track), track.or(old)].map(|t| t.unwrap_or(TrackId(0)))
    }

    pub(super) fn unwatch(&mut self, track: TrackId, watcher: ParticipantId) {
        if let Some(track) = self.tracks.get_mut(&track) {
            track.watchers.remove(&watcher);
            self.stale.watched.insert(track.id);
        }
    }

    /// Says how many slots are of use, when that is more than before.
    fn tell_need(&mut self, id: ParticipantId, wanted: &Wanted) {
        let limits = self.settings.limits;
        let Some(participant) = self.participants.get_mut(&id).filter(|p| p.session().is_some()) else { return };
        if !participant.grants.subscribe {
            return;
        }
        let before = participant.subscriber.need;
        let need = SlotsNeed {
            audio: slots::step(wanted.audio.len(), limits.audio_slots).max(before.audio),
            video: slots::step(wanted.video.len(), limits.video_slots).max(before.video),
        };
        if need != before {
            participant.subscriber.need = need;
            self.tell(id, &Event::SlotsNeed(need));
        }
    }

    /// The same for a newcomer, whose snapshot says it. What it is going to watch is sent from now on, so that its first
    /// picture does not wait for the publisher.
    pub(super) fn expect(&mut self, at: At, id: ParticipantId) {
        let Some(participant) = self.participants.get(&id).filter(|p| p.grants.subscribe) else { return };
        let (wanted, limits) = (self.wanted(participant), self.settings.limits);
        let need = SlotsNeed {
            audio: slots::step(wanted.audio.len(), limits.audio_slots),
            video: slots::step(wanted.video.len(), limits.video_slots),
        };
        if let Some(participant) = self.participants.get_mut(&id) {
            participant.subscriber.need = need;
        }
        for want in wanted.video {
            let track = want.candidate.track;
            if self.wake(track) {
                self.timers.arm(Timer::Unwatched(track), at.now + UNWATCHED);
            }
        }
    }

    /// The snapshot has it already; the event spares a simple client to look there.
    pub(super) fn tell_newcomer(&mut self, id: ParticipantId) {
        let need = self.participants.get(&id).map(|p| p.subscriber.need);
        if let Some(need) = need.filter(|n| *n != SlotsNeed::default()) {
            self.tell(id, &Event::SlotsNeed(need));
        }
    }

    /// A `view` came: what is told of any track may change, also where its slot does not.
    pub(super) fn view_changed(&mut self, id: ParticipantId) {
        self.reconcile(id);
        let said = self.participants.get(&id).map(|p| p.subscriber.states.keys().copied().collect::<Vec<_>>());
        for track in said.unwrap_or_default() {
            self.tell_state(id, track);
        }
    }

    /// What is told of a track to everybody whose slots show it.
    pub(super) fn review_watchers(&mut self, track: TrackId) {
        self.rewatch(track, Rewatch::State);
    }

    pub(super) fn rewatch(&mut self, id: TrackId, what: Rewatch) {
        for watcher in self.tracks.get(&id).map(|t| t.watchers.clone()).unwrap_or_default() {
            if what == Rewatch::Again {
                self.bind_again(watcher, id);
            }
            self.tell_state(watcher, id);
        }
    }

    fn bind_again(&mut self, watcher: ParticipantId, track: TrackId) {
        let Some(subscriber) = self.participants.get_mut(&watcher).map(|p| &mut p.subscriber) else { return };
        let Some(peer) = subscriber.link.peer else { return };
        let mut slots = subscriber.slots.iter_mut();
        let Some(slot) = slots.find(|s| s.bound.is_some_and(|b| b.candidate.track == track)) else { return };
        if let Some(bound) = &mut slot.bound {
            bound.state = SlotState::Waiting;
        }
        let mid = slot.mid.clone();
        drop(slots);
        self.command(Command::Bind { peer, mid, track: Some(track), wish: Wish::default() });
    }

    /// Says what a participant gets of a track, when that is news.
    pub(super) fn tell_state(&mut self, id: ParticipantId, track: TrackId) {
        let Some(participant) = self.participants.get_mut(&id).filter(|p| p.session().is_some()) else { return };
        let states = &mut participant.subscriber.states;
        let Some(record) = self.tracks.get(&track) else {
            states.remove(&track);
            return;
        };
        let said = states.get(&track).copied();
        let Some(now) = state(participant, record, said).filter(|now| Some(*now) != said) else { return };
        participant.subscriber.states.insert(track, now);
        self.tell(id, &Event::TrackState(track_state(track, now.0, now.1)));
    }

    /// Has a publisher stop what nobody watches, after a while, and send it again at once when somebody does.
    fn review_layers(&mut self, at: At, id: TrackId) {
        let Some(track) = self.tracks.get_mut(&id).filter(|t| !t.rids.is_empty()) else { return };
        if track.watchers.is_empty() {
            if !track.unwanted {
                self.timers.arm_by(Timer::Unwatched(id), at.now + UNWATCHED);
            }
            return;
        }
        self.timers.disarm(Timer::Unwatched(id));
        self.wake(id);
    }

    /// Has a publisher send again what it was told not to send. Whether it had been.
    fn wake(&mut self, id: TrackId) -> bool {
        let Some(track) = self.tracks.get_mut(&id).filter(|t| t.unwanted) else { return false };
        track.unwanted = false;
        let (owner, event) = (track.owner, Event::PublishLayers(track.layers()));
        self.tell(owner, &event);
        true
    }

    /// Nobody has watched a track for a while.
    pub(super) fn unwatched(&mut self, id: TrackId) {
        let Some(track) = self.tracks.get_mut(&id).filter(|t| t.watchers.is_empty() && !t.unwanted) else { return };
        track.unwanted = true;
        let (owner, event) = (track.owner, Event::PublishLayers(track.layers()));
        self.tell(owner, &event);
    }
}

/// What to tell of a track. None when there is nothing to say (yet). `said` is what was told last.
fn state(
    participant: &Participant,
    track: &Track,
    said: Option<(TrackStateKind, Why)>,
) -> Option<(TrackStateKind, Why)> {
    use TrackStateKind::{Live, Paused, Unavailable};
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
        return (listed || said.is_some()).then_some((Paused, why));
    };
    match bound.state {
        _ if track.muted => Some((Paused, Why::Muted)),
        SlotState::NoCodec => Some((Unavailable, Why::Codec)),
        _ if track.stalled => Some((Paused, Why::Publisher)),
        SlotState::Live => Some((Live, bound.why)),
        SlotState::Paused => Some((Paused, Why::Bandwidth)),
        // A moment without packets after a change is no news; after another state it is.
        SlotState::Waiting => said.map(|_| (Paused, Why::Publisher)),
    }
}
