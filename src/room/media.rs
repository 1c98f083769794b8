//! What the engine has to say.
use super::messages::{Event, LeftWhy, Pc, Source};
use super::participant::Origin;
use super::timers::Timer;
use super::{At, RecordingStop, Room};
use crate::engine::api::{self as engine, PeerFailure, SlotReport};
use crate::ids::{Mid, ParticipantId, PeerId, Rid, TrackId};
use std::time::Duration;

/// How long tracks wait for another connection after theirs was closed on purpose.
const CLOSED: Duration = Duration::from_secs(5);

impl Room {
    pub(super) fn engine_event(&mut self, at: At, event: engine::Event) {
        if event.room() != self.id {
            return;
        }
        match event {
            engine::Event::PeerConnected { peer, .. } => self.peer_down(peer, false),
            engine::Event::PeerDisconnected { peer, .. } => self.peer_down(peer, true),
            engine::Event::PeerFailed { peer, why, .. } => self.peer_failed(at, peer, why),
            engine::Event::TrackLive { track, .. } => {
                self.track_stalled(track, false);
                self.awake(track);
            }
            engine::Event::TrackStalled { track, .. } => self.track_stalled(track, true),
            engine::Event::SlotState { peer, mid, track, report, .. } => self.slot_state(peer, &mid, track, report),
            engine::Event::TrackWanted { track, rids, .. } => self.track_wanted(track, &rids),
            engine::Event::Quality { peer, score, why, .. } => self.quality_came(peer, score, why),
            engine::Event::Speakers { speakers, .. } => self.heard_speakers(at, &speakers),
            engine::Event::Stats { peer, token, stats, .. } => self.stats_came(peer, token, *stats),
            engine::Event::Explained { peer, token, log, .. } => self.explained(peer, token, *log),
            engine::Event::RoomFailed { .. } => self.dissolve("media failed", None, 4500, RecordingStop::RoomEnded),
        }
    }

    fn peer_down(&mut self, peer: PeerId, down: bool) {
        let Some((id, pc)) = self.index.peers.get(&peer).copied() else { return };
        if let Some(participant) = self.participants.get_mut(&id) {
            participant.link_mut(pc).down = down;
            self.review_connection(id);
            self.review_health(id);
        }
    }

    /// The association is dead. What was published over it waits a while for another; a WHIP or WHEP peer is nothing else.
    fn peer_failed(&mut self, at: At, peer: PeerId, why: PeerFailure) {
        let Some((id, pc)) = self.index.peers.get(&peer).copied() else { return };
        let Some(participant) = self.participants.get_mut(&id) else { return };
        if let Origin::Http { .. } = participant.origin {
            let why = if why == PeerFailure::Closed { LeftWhy::Left } else { LeftWhy::Failed };
            return self.leave(id, why);
        }
        participant.link_mut(pc).negotiation = None;
        let patience = if why == PeerFailure::Closed { CLOSED } else { self.settings.grace };
        let mut tracks = Vec::new();
        match pc {
            Pc::Pub if participant.publisher.tracks.is_empty() => {}
            Pc::Pub => {
                participant.publisher.orphaned_until = Some(at.now + patience);
                tracks.clone_from(&participant.publisher.tracks);
            }
            Pc::Sub => {
                let slots = std::mem::take(&mut participant.subscriber.slots);
                self.drop_slots(id, slots);
            }
        }
        self.remove_peer(id, pc);
        for track in tracks {
            self.track_stalled(track, true);
            self.awake(track);
        }
        self.review_connection(id);
        self.arm_participant(id);
    }

    fn track_stalled(&mut self, id: TrackId, stalled: bool) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if std::mem::replace(&mut track.stalled, stalled) != stalled {
            self.review_watchers(id);
        }
    }

    fn track_wanted(&mut self, id: TrackId, rids: &[Rid]) {
        if let Some(track) = self.tracks.get_mut(&id) {
            track.demand.handle_wanted(rids);
            self.stale.watched.insert(id);
        }
    }

    fn slot_state(&mut self, peer: PeerId, mid: &Mid, track: TrackId, report: SlotReport) {
        let Some((id, Pc::Sub)) = self.index.peers.get(&peer).copied() else { return };
        let Some(participant) = self.participants.get_mut(&id) else { return };
        let Some(slot) = participant.subscriber.slots.iter_mut().find(|s| s.mid == *mid) else { return };
        if let Some(bound) = slot.bound.as_mut().filter(|b| b.candidate.track == track) {
            bound.report = report;
            self.stale.states.insert((id, track));
        }
    }

    fn heard_speakers(&mut self, at: At, speakers: &[engine::Speaker]) {
        let mut heard: Vec<(ParticipantId, u8)> = Vec::new();
        for speaker in speakers {
            // The sound of a film is nobody speaking.
            let track = self.tracks.get(&speaker.track).filter(|t| t.source != Source::ScreenAudio);
            let Some(owner) = track.map(|t| t.owner) else { continue };
            // Loudest first, so the first of a participant is its level.
            if heard.len() < 10 && heard.iter().all(|(p, _)| *p != owner) {
                heard.push((owner, speaker.level));
            }
        }
        self.speakers.handle_levels(at.now, &heard);
        self.review_levels(at);
        self.speakers_due(at);
    }

    /// Tells who speaks and how loud, if that is news, and if it was not told a moment ago to a great many.
    pub(super) fn review_levels(&mut self, at: At) {
        let due = self.speakers.told_at().map(|told| told + self.presence.pause(self.participants.len()));
        match due.filter(|due| *due > at.now) {
            _ if !self.speakers.is_news() => self.timers.disarm(Timer::Levels),
            Some(due) => self.timers.arm(Timer::Levels, due),
            None => {
                self.timers.disarm(Timer::Levels);
                self.speakers.tell_at(at.now);
                self.tell_levels();
            }
        }
    }

    pub(super) fn tell_levels(&mut self) {
        let event = Event::Speakers(self.speakers.tell().to_vec());
        self.record_speakers();
        self.tell_those(&event, |p| p.grants.subscribe);
    }

    /// Somebody may have spoken for long enough to count as a speaker.
    pub(super) fn speakers_due(&mut self, at: At) {
        if self.speakers.reorder(at.now) {
            self.stale.reranked = true;
        }
        match self.speakers.next_reorder(at.now) {
            Some(due) => self.timers.arm(Timer::Speakers, due),
            None => self.timers.disarm(Timer::Speakers),
        }
    }
}
