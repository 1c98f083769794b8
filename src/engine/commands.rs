//! Commands: what the room wants of the engine. Each computes the wanted state and moves towards it; a second one does nothing.
use super::api::Wish;
use super::peer::{Counts, Peer, Remb, Slot};
use super::quality::Quality;
use super::relay::Place;
use super::{Command, Engine, Event, Owner, Track};
use crate::ids::{Mid, PeerId, RoomId, TrackId};
use crate::peer::association::Association;
use crate::peer::config::{PeerConfig, ReceiveMedia, SendMedia};
use crate::rtp::Ssrc;
use crate::rtp::clock::PeerClock;
use crate::rtp::codec::Kind;
use rand::Rng;
use slab::Slab;
use smallvec::SmallVec;
use std::time::Instant;

/// Local user name fragments that one peer may have: of now, and of the last ICE restarts.
const MAX_UFRAGS: usize = 3;

impl Engine {
    /// Carries out a command. Call [`flush`](Self::flush) after it.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::AddPeer { peer, room, config } => self.add_peer(now, peer, room, &config),
            Command::UpdatePeer { peer, config } => self.update_peer(now, peer, &config),
            Command::RemovePeer { peer } => self.remove_peer(now, peer),
            Command::Publish { track, peer, mid, kind } => self.publish(now, track, peer, mid, kind),
            Command::Unpublish { track } => self.unpublish(track),
            Command::SetMuted { track, muted } => self.set_muted(now, track, muted),
            Command::Bind { peer, mid, track, wish } => self.bind(now, peer, &mid, track, wish),
            Command::Mirror { track, room, kind, home } => self.mirror(track, room, kind, home),
            Command::Relay { track, to, on } => self.set_relay(track, to, on),
            Command::Record { track, to } => self.record(now, track, to),
            Command::Keyframe { track, source } => self.ask_for_recording(now, track, source.into()),
            Command::Stats { peer, token } => self.tell_stats(now, peer, token),
            Command::Explain { peer, token } => self.explain(peer, token),
        }
        self.at_work = None;
    }

    fn add_peer(&mut self, now: Instant, id: PeerId, room: RoomId, config: &PeerConfig) {
        if self.peer_ids.contains_key(&id) {
            return self.update_peer(now, id, config);
        }
        self.at_work = Some(room);
        let association = Association::new(now, &self.identity, config);
        let report_ssrc = Ssrc(self.rng.random());
        let index = self.peers.insert(Peer {
            id,
            room,
            association,
            path: None,
            paths: Vec::new(),
            connected: false,
            overhead: 0,
            ufrags: Vec::new(),
            cname: config.cname.clone(),
            receive: Vec::new(),
            published: Vec::new(),
            ssrcs: Vec::new(),
            repairs: Slab::new(),
            clock: PeerClock::default(),
            twcc: None,
            report_due: None,
            review_due: None,
            rtt: None,
            remb: Remb::default(),
            quality: Quality::default(),
            slots: Vec::new(),
            pending: SmallVec::new(),
            repairs_due: Vec::new(),
            outgoing: None,
            listed: false,
            stirred: false,
            armed: None,
            counts: Counts::default(),
            report_ssrc,
        });
        self.peer_ids.insert(id, index);
        self.rooms.entry(room).or_default().peers += 1;
        self.metrics.peers.set(self.peers.len() as u64);
        self.configure(index, config);
        self.touch(index);
    }

    fn update_peer(&mut self, now: Instant, id: PeerId, config: &PeerConfig) {
        let Some(&index) = self.peer_ids.get(&id) else { return };
        self.at_work = Some(self.peers[index].room);
        self.peers[index].association.update(now, config);
        self.configure(index, config);
        self.handle_association(now, index);
        self.touch(index);
    }

    /// Takes over the m-lines of a description. What was bound or published stays so.
    fn configure(&mut self, index: usize, config: &PeerConfig) {
        self.learn_ufrag(index, &config.ice.local.ufrag);
        let before = std::mem::replace(&mut self.peers[index].receive, config.receive.clone());
        self.follow_media(index, &before);
        let peer = &mut self.peers[index];
        let feedback = || config.receive.iter().flat_map(|m| m.codecs.iter().map(|c| c.feedback));
        peer.remb.wanted = !feedback().any(|f| f.transport_cc) && feedback().any(|f| f.remb);
        for slot in 0..self.peers[index].slots.len() {
            let mid = &self.peers[index].slots[slot].media.mid;
            if !config.send.iter().any(|media| media.mid == *mid) {
                self.release_slot(index, slot);
                self.peers[index].slots[slot].retired = true;
            }
        }
        if !config.send.is_empty() {
            self.peers[index].outgoing.get_or_insert_default();
        }
        for media in &config.send {
            self.configure_slot(index, media);
        }
    }

    /// The m-lines changed: streams find theirs again by mid, and end with it.
    fn follow_media(&mut self, index: usize, before: &[ReceiveMedia]) {
        for at in self.peers[index].streams() {
            let mid = before.get(self.streams[at].media).map(|media| &media.mid);
            match self.peers[index].receive.iter().position(|media| Some(&media.mid) == mid) {
                Some(media) => self.streams[at].media = media,
                None => self.forget_stream(index, at),
            }
        }
    }

    /// Checks with this user name fragment are the peer's. After an ICE restart the one before stays good for a while.
    fn learn_ufrag(&mut self, index: usize, ufrag: &str) {
        let peer = &mut self.peers[index];
        if peer.ufrags.iter().any(|known| **known == *ufrag) {
            return;
        }
        peer.ufrags.push(ufrag.into());
        let forgotten = (peer.ufrags.len() > MAX_UFRAGS).then(|| peer.ufrags.remove(0));
        self.ufrags.insert(ufrag.into(), Place::Here(index));
        self.announce_ufrag(ufrag, true);
        if let Some(forgotten) = forgotten {
            self.ufrags.remove(&forgotten);
            self.announce_ufrag(&forgotten, false);
        }
    }

    fn configure_slot(&mut self, index: usize, media: &SendMedia) {
        let (first, first_repair) = (self.random_u16(), self.random_u16());
        let peer = &mut self.peers[index];
        if let Some(slot) = peer.slot_by_mid(&media.mid) {
            peer.slots[slot].media = media.clone();
            return;
        }
        let slot = Slot::new(media.clone(), first, first_repair);
        // Others know a slot by its place, so a new one takes the place of one that is gone.
        match peer.slots.iter().position(|slot| slot.retired) {
            Some(at) => {
                peer.slots[at] = slot;
                // What still waits has the numbers of the slot that is gone.
                if let Some(outgoing) = &mut peer.outgoing {
                    outgoing.pacer.retain(|job| job.source.slot as usize != at);
                }
            }
            None => peer.slots.push(slot),
        }
    }

    fn remove_peer(&mut self, now: Instant, id: PeerId) {
        let Some(index) = self.peer_ids.remove(&id) else { return };
        let tracks: Vec<TrackId> =
            self.peers[index].published.iter().map(|&(_, track)| self.tracks[track].id).collect();
        for track in tracks {
            self.unpublish(track);
        }
        for slot in 0..self.peers[index].slots.len() {
            self.release_slot(index, slot);
        }
        for stream in self.peers[index].streams() {
            self.streams.remove(stream);
            self.batch.streams.retain(|&s| s != stream);
        }
        self.batch.peers.retain(|&p| p != index);
        let mut peer = self.peers.remove(index);
        for &path in &peer.paths {
            self.forget_path(index, path);
        }
        for ufrag in &peer.ufrags {
            self.ufrags.remove(ufrag);
            self.announce_ufrag(ufrag, false);
        }
        peer.association.close(now);
        self.last_words(peer);
        self.metrics.peers.set(self.peers.len() as u64);
    }

    /// Lets a removed peer's farewell (close_notify) go out with the next flush.
    fn last_words(&mut self, mut peer: Peer) {
        while let Some(farewell) = peer.association.poll_transmit() {
            self.farewells.push(farewell);
        }
        if let Some(room) = self.rooms.get_mut(&peer.room) {
            room.peers = room.peers.saturating_sub(1);
            if room.peers == 0 {
                self.rooms.remove(&peer.room);
            }
        }
    }

    fn publish(&mut self, now: Instant, id: TrackId, peer: PeerId, mid: Mid, kind: Kind) {
        let Some(&owner) = self.peer_ids.get(&peer) else { return };
        if self.track_ids.contains_key(&id) {
            return;
        }
        let before =
            self.peers[owner].published.iter().find(|(m, _)| *m == mid).map(|&(_, track)| self.tracks[track].id);
        if let Some(before) = before {
            self.unpublish(before);
        }
        let room = self.peers[owner].room;
        let track = self.tracks.insert(Track::new(id, room, kind, Owner::Peer(owner)));
        self.track_ids.insert(id, track);
        if let Some(media) = self.rooms.get_mut(&room).filter(|_| kind == Kind::Audio) {
            media.audio.push(track);
        }
        self.peers[owner].published.push((mid.clone(), track));
        // Packets may have come before the command did.
        let media = self.peers[owner].receive.iter().position(|m| m.mid == mid);
        for at in self.peers[owner].streams() {
            let stream = &self.streams[at];
            if Some(stream.media) == media && stream.kind == kind {
                self.attach_stream(now, at, track);
            }
        }
    }

    pub(super) fn unpublish(&mut self, id: TrackId) {
        let Some(&index) = self.track_ids.get(&id) else { return };
        self.stop_recording(index);
        self.track_ids.remove(&id);
        let track = self.tracks.remove(index);
        for (peer, slot) in track.subscribers {
            self.peers[peer].slots[slot].show_nothing();
        }
        let Owner::Peer(owner) = track.owner else {
            // A mirrored stream belongs to nobody else.
            return track.streams.into_iter().for_each(|at| self.forget_mirrored(at));
        };
        for stream in track.streams {
            if let Some(stream) = self.streams.get_mut(stream) {
                stream.track = None;
            }
        }
        self.peers[owner].published.retain(|&(_, t)| t != index);
        if let Some(media) = self.rooms.get_mut(&track.room) {
            media.audio.retain(|&t| t != index);
        }
    }

    fn set_muted(&mut self, now: Instant, id: TrackId, muted: bool) {
        let Some(&index) = self.track_ids.get(&id) else { return };
        let Self { tracks, peers, .. } = self;
        let track = &mut tracks[index];
        if track.muted == muted {
            return;
        }
        track.muted = muted;
        if let Some(recorded) = &track.recorded {
            self.recordings.hurry(recorded);
        }
        for &(peer, slot) in &track.subscribers {
            peers[peer].slots[slot].forwarder.pause();
        }
        if track.kind == Kind::Video {
            self.reconsider(now, index);
        }
    }

    fn bind(&mut self, now: Instant, peer: PeerId, mid: &Mid, track: Option<TrackId>, wish: Wish) {
        let Some(&index) = self.peer_ids.get(&peer) else { return };
        let Some(slot) = self.peers[index].slot_by_mid(mid) else { return };
        let wanted = track.and_then(|id| self.track_ids.get(&id).copied());
        let shown = &mut self.peers[index].slots[slot];
        let looked_at_anew = std::mem::replace(&mut shown.wish, wish) != wish;
        if shown.track == wanted {
            if let Some(track) = wanted.filter(|_| looked_at_anew) {
                shown.share.memory.fresh = true;
                self.want_allocation(now, index);
                self.demand_changed(track);
            }
            return;
        }
        self.release_slot(index, slot);
        let Some(wanted) = wanted else { return };
        let (shown, subscribers) = (&mut self.peers[index].slots[slot], &mut self.tracks[wanted].subscribers);
        (shown.track, shown.place) = (Some(wanted), subscribers.len());
        subscribers.push((index, slot));
        self.demand_changed(wanted);
        self.aim_slot(now, index, slot, false);
    }

    /// Takes the slot away from the track that it shows.
    fn release_slot(&mut self, peer: usize, slot: usize) {
        let shown = &mut self.peers[peer].slots[slot];
        let (place, track) = (shown.place, shown.show_nothing());
        track.into_iter().for_each(|track| self.demand_changed(track));
        let Some(track) = track.and_then(|track| self.tracks.get_mut(track)) else { return };
        debug_assert_eq!(track.subscribers.get(place), Some(&(peer, slot)));
        track.subscribers.swap_remove(place);
        // The last one stands there now.
        if let Some(&(peer, slot)) = track.subscribers.get(place) {
            self.peers[peer].slots[slot].place = place;
        }
    }

    fn tell_stats(&mut self, now: Instant, id: PeerId, token: u64) {
        let Some(&index) = self.peer_ids.get(&id) else { return };
        let room = self.peers[index].room;
        let stats = Box::new(self.stats(now, index));
        self.events.push_back(Event::Stats { room, peer: id, token, stats });
    }
}
