//! Who gets what: brings slots, `slots.need` and `publish.layers` in line with the room, once after each input.
use super::api::{HttpKind, Output};
use super::membership::binding;
use super::messages::{Event, SlotsNeed, Source, Why};
use super::participant::{Origin, Participant, Track};
use super::slots::{self, Bound, Candidate, Ranking, Rebind, Want, Wanted};
use super::timers::Timer;
use super::{At, Room};
use crate::engine::Command;
use crate::engine::api::Wish;
use crate::ids::{ParticipantId, TrackId};
use crate::rtp::Kind;
use std::time::Duration;

/// How long a track that is asked for again may take to come before anybody is told that it does not.
const WAKING: Duration = Duration::from_secs(3);

impl Room {
    /// Does what follows from an input. A second call does nothing.
    pub(super) fn settle(&mut self, at: At) {
        self.rerank();
        for id in std::mem::take(&mut self.stale.subscribers) {
            self.reconcile(id);
        }
        self.review_recording(at);
        for (id, track) in std::mem::take(&mut self.stale.states) {
            self.tell_state(at, id, track);
        }
        for track in std::mem::take(&mut self.stale.watched) {
            self.review_layers(at, track);
        }
        self.review_count(at);
        self.review_quality(at);
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
            track.map(|t| staged(kind, t.candidate())).into_iter().collect()
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
        if let Some(wish) = &subscriber.wish {
            let listed = wish.tracks.keys().filter(|t| self.tracks.contains_key(t));
            self.stale.states.extend(listed.map(|track| (id, *track)));
        }
        for change in changes {
            self.rebind(id, change);
        }
        self.look_again(id, &wanted);
    }

    /// Tells the engine how slots are looked at whose tracks stay.
    fn look_again(&mut self, id: ParticipantId, wanted: &Wanted) {
        let Some(subscriber) = self.participants.get_mut(&id).map(|p| &mut p.subscriber) else { return };
        let Some(peer) = subscriber.link.peer else { return };
        for (mid, track, wish) in slots::look_again(&mut subscriber.slots, wanted) {
            self.out.push_back(Output::Engine(Command::Bind { peer, mid, track: Some(track), wish }));
        }
    }

    /// Empties or fills one slot.
    fn rebind(&mut self, id: ParticipantId, change: Rebind) {
        let Some(subscriber) = self.participants.get_mut(&id).map(|p| &mut p.subscriber) else { return };
        let Some(peer) = subscriber.link.peer else { return };
        let follows_view = subscriber.wish.is_some();
        let Some(slot) = subscriber.slots.slot_mut(change.kind, change.number) else { return };
        let old = std::mem::replace(&mut slot.bound, change.want.map(Bound::new)).map(|b| b.candidate.track);
        let (mid, track) = (slot.mid.clone(), slot.track());
        let why = match (change.want, old) {
            (Some(want), _) => want.why,
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
        self.stale.states.extend([old, track].into_iter().flatten().map(|track| (id, track)));
        let event = Event::SlotBind(binding(mid.as_str(), track, why));
        self.command(Command::Bind { peer, mid, track, wish: change.want.map_or(Wish::default(), |w| w.wish) });
        self.tell(id, &event);
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
            self.ask_publisher(at, want.candidate.track, |track| track.demand.expect(at.now));
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
        self.stale.subscribers.insert(id);
        self.states_due(id);
    }

    /// The engine has forgotten a track: everybody whose slots show it binds it again.
    pub(super) fn bind_watchers(&mut self, id: TrackId) {
        for watcher in self.tracks.get(&id).map(|t| t.watchers.clone()).unwrap_or_default() {
            self.bind_again(watcher, id);
        }
        self.review_watchers(id);
    }

    fn bind_again(&mut self, watcher: ParticipantId, track: TrackId) {
        let Some(subscriber) = self.participants.get_mut(&watcher).map(|p| &mut p.subscriber) else { return };
        let Some(peer) = subscriber.link.peer else { return };
        let Some(slot) = subscriber.slots.iter_mut().find(|s| s.track() == Some(track)) else { return };
        let Some(bound) = &mut slot.bound else { return };
        bound.wait();
        let (mid, wish) = (slot.mid.clone(), bound.wish);
        self.out.push_back(Output::Engine(Command::Bind { peer, mid, track: Some(track), wish }));
    }

    /// What is of use of a track may have changed: has its publisher send more at once, and less after a while.
    fn review_layers(&mut self, at: At, id: TrackId) {
        let recorded = self.recorder.has(id);
        self.ask_publisher(at, id, |track| track.demand.review(at.now, recorded || !track.watchers.is_empty()));
    }

    /// Tells a publisher what is asked of it from now on, if `change` says that it is something else.
    fn ask_publisher(&mut self, at: At, id: TrackId, change: impl FnOnce(&mut Track) -> bool) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let was_active = track.demand.is_active();
        let changed = change(track);
        match track.demand.next_review() {
            Some(due) => self.timers.arm(Timer::Unwatched(id), due),
            None => self.timers.disarm(Timer::Unwatched(id)),
        }
        if !changed {
            return;
        }
        if !was_active {
            track.waking_until = Some(at.now + WAKING);
            self.timers.arm(Timer::Waking(id), at.now + WAKING);
        }
        let (owner, event) = (track.owner, Event::PublishLayers(track.layers()));
        self.tell(owner, &event);
    }

    /// A publisher that was asked to send a track again has had its time.
    pub(super) fn awake(&mut self, id: TrackId) {
        if let Some(track) = self.tracks.get_mut(&id) {
            track.waking_until = None;
            self.timers.disarm(Timer::Waking(id));
            self.review_watchers(id);
        }
    }
}

/// The one picture or sound of a WHEP viewer.
fn staged(kind: Kind, candidate: Candidate) -> Want {
    Want { candidate, why: Why::Stage, wish: slots::look(kind, &candidate, true) }
}
