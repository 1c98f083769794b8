//! From a datagram to the peer that it is for: by address, and for STUN by the user name fragment.
use super::peer::MAX_SSRCS;
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
        if let Err(reason) = self.dispatch(now, path, datagram) {
            tracing::trace!(%reason, from = %path.remote, "dropped");
            self.drop_packet(reason);
        }
        self.at_work = None;
    }

    fn dispatch(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), DropReason> {
        let kind = classify(datagram);
        let index = match kind {
            Datagram::Unknown => return Err(DropReason::NotMedia),
            // A check names its peer: an address may have been another's, and a new address is how paths change.
            Datagram::Stun => self.peer_by_ufrag(datagram)?,
            _ => *self.paths.get(&(path.socket, path.remote)).ok_or(DropReason::UnknownPeer)?,
        };
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

    fn peer_by_ufrag(&self, datagram: &[u8]) -> Result<usize, DropReason> {
        let ufrag = stun::username_local_ufrag(datagram).ok_or(DropReason::StunMalformed)?;
        self.ufrags.get(ufrag).copied().ok_or(DropReason::UnknownPeer)
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
                    self.events.push_back(Event::PeerDisconnected { room, peer: id });
                }
                AssociationEvent::PathAdded(path) => {
                    peer.paths.push(path);
                    self.paths.insert((path.socket, path.remote), index);
                }
                AssociationEvent::PathRemoved(path) => {
                    peer.paths.retain(|known| *known != path);
                    if self.paths.get(&(path.socket, path.remote)) == Some(&index) {
                        self.paths.remove(&(path.socket, path.remote));
                    }
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
