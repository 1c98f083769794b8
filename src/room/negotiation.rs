//! Offers and answers of a participant's connections, and what they make of its tracks and slots.
use super::Room;
use super::demand::Demand;
use super::messages::{
    ApiError, ErrorCode, Event, MidTrack, Negotiate, Negotiated, Pc, Source, TrackOffer, TrackUnpublished, Why,
};
use super::participant::{Origin, Track};
use super::requests::bad;
use super::slots::{Slot, Slots};
use super::timers::Timer;
use crate::engine::Command;
use crate::engine::api::Wish;
use crate::ids::{Mid, ParticipantId, PeerId, TrackId};
use crate::peer::config::{PeerConfig, ReceiveMedia};
use crate::peer::negotiate::{AnswerContext, Change, ConnectionKind, MediaOutcome, NegotiatedMedia, Negotiation};
use crate::rtp::Kind;
use rand::RngCore;
use std::collections::BTreeMap;

/// A negotiation that the engine knows of.
pub(super) struct Connected {
    pub sdp: String,
    pub config: PeerConfig,
    media: Vec<NegotiatedMedia>,
    /// The association is a new one: what the engine knew of the old one is gone.
    fresh: bool,
}

/// Which source an m-line is to be.
struct Intent<'a> {
    media: &'a ReceiveMedia,
    source: Source,
    name: Option<String>,
}

impl Room {
    /// The request `negotiate`.
    pub(super) fn negotiate(&mut self, id: ParticipantId, data: Negotiate) -> Result<Negotiated, ApiError> {
        match data.pc {
            Pc::Pub => self.granted(id, |g| g.publish, "publish")?,
            Pc::Sub => self.granted(id, |g| g.subscribe, "subscribe")?,
        }
        let current = self.participants.get(&id).map_or(0, |p| p.link(data.pc).rev);
        if data.rev <= current {
            let message = format!("rev: the current one is {current}, and {} is not greater", data.rev);
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        self.check_offers(data.tracks.as_deref().unwrap_or_default())?;
        let connected = self.connect(id, data.pc, &data.sdp)?;
        if let Some(participant) = self.participants.get_mut(&id) {
            participant.link_mut(data.pc).rev = data.rev;
        }
        let tracks = match data.pc {
            Pc::Pub => Some(self.publish(id, &connected, data.tracks.as_deref())),
            Pc::Sub => {
                self.take_slots(id, &connected);
                None
            }
        };
        self.review_connection(id);
        Ok(Negotiated { rev: data.rev, sdp: connected.sdp, tracks })
    }

    fn check_offers(&self, offers: &[TrackOffer]) -> Result<(), ApiError> {
        let limit = self.settings.limits.tracks;
        if offers.len() > limit {
            return Err(ApiError::new(ErrorCode::LimitReached, format!("tracks: at most {limit}")));
        }
        for (i, offer) in offers.iter().enumerate() {
            if Mid::try_from(offer.mid.as_str()).is_err() {
                return Err(bad(format!("tracks[{i}].mid: 1 to 32 printable ASCII characters")));
            }
            if offer.name.as_ref().is_some_and(|n| n.chars().count() > 64) {
                return Err(bad(format!("tracks[{i}].name: at most 64 characters")));
            }
            if matches!(&offer.source, Source::Other(s) if s.is_empty() || s.len() > 32) {
                return Err(bad(format!("tracks[{i}].source: 1 to 32 bytes")));
            }
        }
        Ok(())
    }

    /// Answers an offer and has the engine make, change or replace the association.
    pub(super) fn connect(&mut self, id: ParticipantId, pc: Pc, offer: &str) -> Result<Connected, ApiError> {
        let Some(participant) = self.participants.get_mut(&id) else {
            return Err(ApiError::new(ErrorCode::Internal, "the session is gone"));
        };
        let link = participant.link_mut(pc);
        let kind = match pc {
            Pc::Pub => ConnectionKind::Publish,
            Pc::Sub => ConnectionKind::Subscribe,
        };
        let rng = &mut self.rng;
        let make = || Box::new(Negotiation::new(kind, &mut || rng.next_u64()));
        let negotiation = link.negotiation.get_or_insert_with(make);
        let limits = self.settings.sdp_limits();
        let (fingerprint, candidates) = (&self.settings.fingerprint, self.settings.candidates.as_slice());
        let context = AnswerContext { fingerprint, candidates, limits: &limits };
        let negotiated = negotiation.answer(&context, offer).map_err(|e| bad(format!("sdp: {e}")))?;
        let config = negotiated.config;
        link.etag.clone_from(&config.ice.local.ufrag);
        let known = link.peer.filter(|_| negotiated.change != Change::New);
        match known {
            Some(peer) => self.command(Command::UpdatePeer { peer, config: Box::new(config.clone()) }),
            None => self.replace_peer(id, pc, config.clone()),
        }
        Ok(Connected { sdp: negotiated.answer, config, media: negotiated.media, fresh: known.is_none() })
    }

    fn replace_peer(&mut self, id: ParticipantId, pc: Pc, config: PeerConfig) {
        self.remove_peer(id, pc);
        let peer = self.ids.peer();
        self.index.peers.insert(peer, (id, pc));
        if let Some(participant) = self.participants.get_mut(&id) {
            participant.link_mut(pc).peer = Some(peer);
        }
        tracing::info!(participant = %id, ?pc, %peer, "connects");
        self.command(Command::AddPeer { peer, room: self.id, config: Box::new(config) });
    }

    /// Forgets an association; its negotiation goes on, so that an offer can replace it.
    pub(super) fn remove_peer(&mut self, id: ParticipantId, pc: Pc) {
        let Some(link) = self.participants.get_mut(&id).map(|p| p.link_mut(pc)) else { return };
        link.down = false;
        if let Some(peer) = link.peer.take() {
            self.index.peers.remove(&peer);
            self.command(Command::RemovePeer { peer });
        }
        self.forget_quality(id, pc);
    }

    /// Makes the participant's tracks what the m-lines say. Which m-line became which track.
    pub(super) fn publish(
        &mut self,
        id: ParticipantId,
        connected: &Connected,
        offers: Option<&[TrackOffer]>,
    ) -> Vec<MidTrack> {
        let Some(publisher) = self.participants.get_mut(&id).map(|p| &mut p.publisher) else { return Vec::new() };
        publisher.orphaned_until = None;
        let mids = offers.unwrap_or_default().iter().filter_map(|o| Mid::try_from(o.mid.as_str()).ok());
        publisher.listed.extend(mids);
        // m-lines come and go under names that the client chooses: only those there are count.
        publisher.listed.retain(|mid| connected.config.receive.iter().any(|m| m.mid == *mid));
        let old: BTreeMap<Mid, TrackId> =
            publisher.tracks.iter().filter_map(|t| Some((self.tracks.get(t)?.mid.clone(), *t))).collect();
        let mut intents: BTreeMap<Mid, Intent> = BTreeMap::new();
        for media in connected.config.receive.iter().filter(|m| m.active) {
            if let Some(intent) = self.intent(id, media, old.get(&media.mid), offers) {
                intents.insert(media.mid.clone(), intent);
            }
        }
        for (mid, track) in &old {
            let same =
                |i: &Intent| self.tracks.get(track).is_some_and(|t| t.source == i.source && t.kind == i.media.kind);
            if !intents.get(mid).is_some_and(same) {
                self.unpublish(*track);
            }
        }
        intents.into_iter().filter_map(|(mid, intent)| self.publish_one(id, mid, intent, connected.fresh)).collect()
    }

    /// What an m-line is to be: as listed, else as it was, else by its kind. None if it was withdrawn.
    fn intent<'a>(
        &self,
        id: ParticipantId,
        media: &'a ReceiveMedia,
        old: Option<&TrackId>,
        offers: Option<&[TrackOffer]>,
    ) -> Option<Intent<'a>> {
        let listed = self.participants.get(&id)?.publisher.listed.contains(&media.mid);
        let by_kind = match media.kind {
            Kind::Audio => Source::Microphone,
            Kind::Video => Source::Camera,
        };
        if let Some(offer) = offers.unwrap_or_default().iter().find(|o| o.mid == media.mid.as_str()) {
            let fits = match (&offer.source, media.kind) {
                (Source::Other(_), _) => true,
                (Source::Microphone | Source::ScreenAudio, kind) => kind == Kind::Audio,
                (Source::Camera | Source::Screen, kind) => kind == Kind::Video,
            };
            let source = if fits { offer.source.clone() } else { by_kind };
            return Some(Intent { media, source, name: offer.name.clone() });
        }
        match old.and_then(|t| self.tracks.get(t)) {
            _ if listed && offers.is_some() => None,
            Some(track) => Some(Intent { media, source: track.source.clone(), name: track.name.clone() }),
            None if listed => None,
            None => Some(Intent { media, source: by_kind, name: None }),
        }
    }

    /// Keeps the track that the m-line was, or makes a new one. None when there are too many.
    fn publish_one(&mut self, id: ParticipantId, mid: Mid, intent: Intent, fresh: bool) -> Option<MidTrack> {
        let participant = self.participants.get_mut(&id)?;
        let peer = participant.publisher.link.peer?;
        let kept =
            participant.publisher.tracks.iter().copied().find(|t| self.tracks.get(t).is_some_and(|t| t.mid == mid));
        if let Some(track) = kept {
            self.keep_track(track, peer, intent, fresh);
            return Some(MidTrack { mid: mid.to_string(), track: track.to_string() });
        }
        if participant.publisher.tracks.len() >= self.settings.limits.tracks {
            return None;
        }
        let demand = match participant.origin {
            Origin::Socket(_) => Demand::new(intent.media.kind, &intent.media.rids),
            // Who publishes over HTTP cannot be told what is of use.
            Origin::Http { .. } => Demand::default(),
        };
        let track = Track {
            id: self.ids.track(),
            owner: id,
            mid: mid.clone(),
            kind: intent.media.kind,
            source: intent.source,
            name: intent.name,
            muted: false,
            rids: intent.media.rids.clone(),
            stalled: false,
            watchers: Default::default(),
            demand,
            waking_until: None,
        };
        participant.publisher.tracks.push(track.id);
        self.speakers.join(id);
        self.presence.publishes(id, true);
        let (answer, event) = (MidTrack { mid: mid.to_string(), track: track.id.to_string() }, track.message());
        self.command(Command::Publish { track: track.id, peer, mid, kind: track.kind });
        self.stale.watched.insert(track.id);
        self.tracks.insert(track.id, track);
        (self.stale.reranked, self.stale.recording) = (true, true);
        self.notice(id);
        self.tell_all(&Event::TrackPublished(event));
        Some(answer)
    }

    fn keep_track(&mut self, id: TrackId, peer: PeerId, intent: Intent, fresh: bool) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let (before, asked) = (track.message(), track.layers());
        track.name = intent.name;
        let other_rids = track.rids != intent.media.rids;
        track.rids.clone_from(&intent.media.rids);
        if fresh || other_rids {
            track.demand.renew(track.kind, &track.rids);
        }
        let (owner, layers) = (track.owner, Some(track.layers()).filter(|l| track.demand.is_told() && *l != asked));
        let after = track.message();
        let (mid, kind, muted) = (track.mid.clone(), track.kind, track.muted);
        if fresh {
            track.stalled = false;
            self.command(Command::Publish { track: id, peer, mid, kind });
            if muted {
                self.command(Command::SetMuted { track: id, muted });
            }
            self.record_again(id);
            self.bind_watchers(id);
        }
        self.stale.watched.insert(id);
        if let Some(layers) = layers {
            self.tell(owner, &Event::PublishLayers(layers));
        }
        if after != before {
            self.tell_all(&Event::TrackUpdated(after));
        }
    }

    /// Its slots are emptied when the room settles.
    pub(super) fn unpublish(&mut self, id: TrackId) {
        let Some(track) = self.tracks.remove(&id) else { return };
        if let Some(owner) = self.participants.get_mut(&track.owner) {
            owner.publisher.tracks.retain(|t| *t != id);
            if owner.publisher.tracks.is_empty() {
                self.presence.publishes(track.owner, false);
                self.review_standing(track.owner);
            }
        }
        self.timers.disarm(Timer::Unwatched(id));
        self.timers.disarm(Timer::Waking(id));
        self.command(Command::Unpublish { track: id });
        (self.stale.reranked, self.stale.recording) = (true, true);
        for participant in self.participants.values_mut() {
            participant.subscriber.states.remove(&id);
        }
        let (track, participant) = (id.to_string(), track.owner.to_string());
        self.tell_all(&Event::TrackUnpublished(TrackUnpublished { track, participant }));
    }

    pub(super) fn unpublish_all(&mut self, id: ParticipantId) {
        for track in self.participants.get(&id).map(|p| p.publisher.tracks.clone()).unwrap_or_default() {
            self.unpublish(track);
        }
    }

    /// Makes the participant's slots what the m-lines say. A slot that is still there keeps its track.
    pub(super) fn take_slots(&mut self, id: ParticipantId, connected: &Connected) {
        let Some(participant) = self.participants.get_mut(&id) else { return };
        let Some(peer) = participant.subscriber.link.peer else { return };
        let mut old = std::mem::take(&mut participant.subscriber.slots);
        let mut slots = Slots::default();
        for (mid, kind, number, active) in slots_of(&connected.media) {
            let at = old.of(kind).iter().position(|s| s.mid == mid && s.number == number);
            let bound = at.and_then(|at| old.of_mut(kind).remove(at).bound);
            slots.of_mut(kind).push(Slot { mid, number, active, bound });
        }
        if connected.fresh {
            for slot in slots.iter_mut().filter(|s| s.active) {
                let Some(bound) = &mut slot.bound else { continue };
                bound.wait();
                self.stale.states.insert((id, bound.candidate.track));
                let (mid, track, wish) = (slot.mid.clone(), Some(bound.candidate.track), bound.wish);
                self.out.push_back(super::Output::Engine(Command::Bind { peer, mid, track, wish }));
            }
        }
        participant.subscriber.slots = slots;
        self.drop_slots(id, old);
        self.stale.subscribers.insert(id);
    }

    /// Slots that are gone: nothing is sent on them any more.
    pub(super) fn drop_slots(&mut self, id: ParticipantId, gone: Slots) {
        let peer = self.participants.get(&id).and_then(|p| p.subscriber.link.peer);
        for slot in gone.iter() {
            let Some(track) = slot.track() else { continue };
            if let Some(peer) = peer {
                self.command(Command::Bind { peer, mid: slot.mid.clone(), track: None, wish: Wish::default() });
            }
            self.unwatch(track, id);
            self.stale.states.insert((id, track));
            self.tell(id, &Event::SlotBind(super::membership::binding(slot.mid.as_str(), None, Why::View)));
        }
    }
}

/// The slots of an answer: mid, kind, number, and whether media may flow.
fn slots_of(media: &[NegotiatedMedia]) -> impl Iterator<Item = (Mid, Kind, usize, bool)> {
    media.iter().filter_map(|m| match m.outcome {
        MediaOutcome::Accepted { active, slot: Some(number) } => Some((m.mid.clone()?, m.kind?, number, active)),
        _ => None,
    })
}
