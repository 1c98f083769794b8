//! From a datagram to the peer that it is for: by address, and for STUN by the user name fragment.
use super::peer::MAX_SSRCS;
use super::relay::Place;
use super::{Engine, Event};
use crate::engine::api::PeerFailure;
use crate::metrics::DropReason;
use crate::peer::association::{AssociationEvent, AssociationFailure};
use crate::peer::{Path, stun};
use crate::rtp::header::{Datagram, classify};
use std::time::Instant;

const _: () = assert!(MAX_SSRCS < 1 << 16);

impl Engine {
    /// A datagram arrived on `path`. What is not authentic has no effect and gets no answer.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        self.metrics.datagrams_in.add(1);
        self.metrics.bytes_in.add(datagram.len() as u64);
        let kind = classify(datagram);
        let result = self.place(kind, path, datagram).and_then(|place| match place {
            Place::Here(index) => self.dispatch(now, index, kind, path, datagram),
            Place::There(shard) => self.hand_over(shard, path, datagram),
        });
        self.dispatched(path, result);
    }

    /// As [`handle_datagram`](Self::handle_datagram), of one that another shard received. It goes no further than here.
    pub(super) fn handle_handed_over(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let kind = classify(datagram);
        let result = self.place(kind, path, datagram).and_then(|place| match place {
            Place::Here(index) => self.dispatch(now, index, kind, path, datagram),
            Place::There(_) => Err(DropReason::UnknownPeer),
        });
        self.dispatched(path, result);
    }

    fn dispatched(&mut self, path: Path, result: Result<(), DropReason>) {
        if let Err(reason) = result {
            tracing::trace!(%reason, from = %path.remote, "dropped");
            self.drop_packet(reason);
        }
        self.at_work = None;
    }

    fn place(&self, kind: Datagram, path: Path, datagram: &[u8]) -> Result<Place, DropReason> {
        match kind {
            Datagram::Unknown => Err(DropReason::NotMedia),
            // A check names its peer: an address may have been another's, and a new address is how paths change.
            Datagram::Stun => self.place_by_ufrag(datagram),
            _ => self.paths.get(&(path.socket, path.remote)).copied().ok_or(DropReason::UnknownPeer),
        }
    }

    fn dispatch(
        &mut self,
        now: Instant,
        index: usize,
        kind: Datagram,
        path: Path,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let peer = self.peers.get_mut(index).ok_or(DropReason::UnknownPeer)?;
        self.at_work = Some(peer.room);
        peer.counts.datagrams_in += 1;
        peer.counts.bytes_in += datagram.len() as u64;
        match kind {
            Datagram::Rtp => self.handle_rtp(now, index, datagram),
            Datagram::Rtcp => self.handle_rtcp(now, index, datagram),
            Datagram::Stun | Datagram::Dtls | Datagram::Unknown => {
                let handled = match kind {
                    Datagram::Stun => peer.association.handle_stun(now, path, datagram),
                    _ => peer.association.handle_dtls(now, path, datagram),
                };
                self.handle_association(now, index);
                self.touch(index);
                handled
            }
        }
    }

    fn place_by_ufrag(&self, datagram: &[u8]) -> Result<Place, DropReason> {
        let ufrag = stun::username_local_ufrag(datagram).ok_or(DropReason::StunMalformed)?;
        self.ufrags.get(ufrag).copied().ok_or(DropReason::UnknownPeer)
    }

    /// The address is no more this peer's. Somebody else may have come to it since.
    pub(super) fn forget_path(&mut self, index: usize, path: Path) {
        if self.paths.get(&(path.socket, path.remote)) == Some(&Place::Here(index)) {
            self.paths.remove(&(path.socket, path.remote));
            self.announce_path(path, false);
        }
    }

    /// Takes up what the association has to say.
    pub(super) fn handle_association(&mut self, now: Instant, index: usize) {
        while let Some(event) = self.peers.get_mut(index).and_then(|p| p.association.poll_event()) {
            let peer = &mut self.peers[index];
            let (room, id) = (peer.room, peer.id);
            let _span = tracing::info_span!("peer", %room, %id).entered();
            match event {
                AssociationEvent::Connected | AssociationEvent::Reconnected => {
                    peer.connected = true;
                    peer.path = peer.association.path();
                    let srtp = peer.association.outbound().map(|o| o.profile().name());
                    let path = peer.path.map(|p| p.remote);
                    tracing::info!(?path, srtp, "connected");
                    self.events.push_back(Event::PeerConnected { room, peer: id });
                    self.start_slots(now, index);
                }
                AssociationEvent::Disconnected => {
                    peer.connected = false;
                    tracing::info!("no sign of life: nothing is sent until it is back");
                    peer.slots.iter_mut().for_each(|slot| slot.forwarder.pause());
                    if let Some(outgoing) = &mut peer.outgoing {
                        outgoing.pacer.clear();
                    }
                    self.events.push_back(Event::PeerDisconnected { room, peer: id });
                }
                AssociationEvent::PathAdded(path) => {
                    peer.paths.push(path);
                    self.paths.insert((path.socket, path.remote), Place::Here(index));
                    self.announce_path(path, true);
                }
                AssociationEvent::PathRemoved(path) => {
                    peer.paths.retain(|known| *known != path);
                    self.forget_path(index, path);
                }
                AssociationEvent::PathSelected(path) => {
                    tracing::debug!(path = %path.remote, socket = path.socket, "path");
                    peer.path = Some(path);
                }
                AssociationEvent::Failed(why) => {
                    peer.connected = false;
                    tracing::info!(?why, "given up");
                    let why = match why {
                        AssociationFailure::NeverConnected => PeerFailure::NeverConnected,
                        AssociationFailure::ConsentExpired => PeerFailure::ConsentExpired,
                        AssociationFailure::Dtls => PeerFailure::Dtls,
                        AssociationFailure::Closed => PeerFailure::Closed,
                    };
                    self.events.push_back(Event::PeerFailed { room, peer: id, why });
                }
            }
        }
    }
}
