//! One peer's transport association: ICE-lite, DTLS and SRTP, wired together.
use super::config::PeerConfig;
use super::dtls::rtc_dtls::{LocalIdentity, RtcDtls};
use super::dtls::{DtlsEvent, DtlsTransport, SrtpKeying};
use super::ice::{IceAgent, IceEvent, IceFailure, Path};
use super::srtp::{self, SrtpInbound, SrtpOutbound};
use crate::metrics::DropReason;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long the handshake may take once ICE has found a path.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssociationEvent {
    /// ICE and DTLS are done: [`Association::inbound`] and [`Association::outbound`] are there. Said once.
    Connected,
    /// No sign of life for some seconds (after `Connected` only).
    Disconnected,
    /// The peer is there again after `Disconnected`.
    Reconnected,
    /// Datagrams on this path are this peer's from now on.
    PathAdded(Path),
    /// And from now on no more.
    PathRemoved(Path),
    /// [`Association::path`] is this one from now on.
    PathSelected(Path),
    /// The association is of no more use. Said once.
    Failed(AssociationFailure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssociationFailure {
    /// No ICE check came in time.
    NeverConnected,
    /// There were checks, and for 30 s there are no more.
    ConsentExpired,
    /// The DTLS handshake failed or took too long, or the certificate is not the one of the SDP.
    Dtls,
    /// The peer said close_notify.
    Closed,
}

/// Sans-IO: `handle_*` takes a datagram or the time; after each, drain `poll_event` and `poll_transmit`.
pub struct Association {
    ice: IceAgent,
    dtls: Box<dyn DtlsTransport>,
    srtp: Option<Srtp>,
    handshake_by: Option<Instant>,
    failed: bool,
    events: VecDeque<AssociationEvent>,
}

struct Srtp {
    outbound: SrtpOutbound,
    inbound: SrtpInbound,
}

impl Association {
    pub fn new(now: Instant, identity: &LocalIdentity, config: &PeerConfig) -> Self {
        Self {
            ice: IceAgent::new(now, &config.ice),
            dtls: Box::new(RtcDtls::new(identity, &config.dtls)),
            srtp: None,
            handshake_by: None,
            failed: false,
            events: VecDeque::new(),
        }
    }

    /// Takes a renegotiation: new ICE credentials are an ICE restart. DTLS goes on as it is (RFC 8842 section 5.5: a new
    /// association would need a new fingerprint or role, and is a new peer to us).
    pub fn update(&mut self, now: Instant, config: &PeerConfig) {
        self.ice.update(now, &config.ice);
    }

    /// Takes a STUN datagram, from anywhere.
    pub fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), DropReason> {
        if self.failed {
            return Err(DropReason::NotConnected);
        }
        let result = self.ice.handle_stun(now, path, datagram);
        self.drain(now);
        result
    }

    /// Takes a DTLS datagram. It has an effect only on a path that passed ICE.
    pub fn handle_dtls(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), DropReason> {
        if !self.ice.knows(&path) {
            return Err(DropReason::DtlsBeforeIce);
        }
        if self.failed {
            return Err(DropReason::NotConnected);
        }
        let result = self.dtls.handle_datagram(now, datagram);
        self.drain(now);
        result
    }

    /// Notes that a media packet was genuine: media is a sign of life as good as a check.
    pub fn alive(&mut self, now: Instant) {
        if self.srtp.is_some() && !self.failed {
            self.ice.alive(now);
            self.drain(now);
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.failed {
            return;
        }
        self.ice.handle_timeout(now);
        self.dtls.handle_timeout(now);
        if self.handshake_by.is_some_and(|by| now >= by) {
            self.fail(AssociationFailure::Dtls);
        }
        self.drain(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.failed {
            return None;
        }
        [self.ice.poll_timeout(), self.dtls.poll_timeout(), self.handshake_by].into_iter().flatten().min()
    }

    /// The next datagram to send: an answer to a check, or a part of the DTLS handshake.
    pub fn poll_transmit(&mut self) -> Option<(Path, Vec<u8>)> {
        if let Some(answer) = self.ice.poll_transmit() {
            return Some(answer);
        }
        let path = self.ice.selected()?;
        self.dtls.poll_transmit().map(|datagram| (path, datagram))
    }

    pub fn poll_event(&mut self) -> Option<AssociationEvent> {
        self.events.pop_front()
    }

    /// Opens what the peer sends. `None` until connected.
    pub fn inbound(&mut self) -> Option<&mut SrtpInbound> {
        self.srtp.as_mut().map(|srtp| &mut srtp.inbound)
    }

    /// Seals what we send. `None` until connected.
    pub fn outbound(&mut self) -> Option<&mut SrtpOutbound> {
        self.srtp.as_mut().map(|srtp| &mut srtp.outbound)
    }

    /// Where to send: the path that the peer nominated last.
    pub fn path(&self) -> Option<Path> {
        self.ice.selected()
    }

    /// True from `Connected` on, while the peer is there.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some() && !self.failed && self.ice.is_connected()
    }

    /// Says goodbye (close_notify); send what [`poll_transmit`](Self::poll_transmit) has, then drop this.
    pub fn close(&mut self, now: Instant) {
        self.dtls.close(now);
        self.failed = true;
    }

    /// Turns what ICE and DTLS say into events, in the order in which things happened.
    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.ice.poll_event() {
            self.handle_ice_event(now, event);
        }
        while let Some(event) = self.dtls.poll_event() {
            match event {
                DtlsEvent::Connected(keying) => self.connect(&keying),
                DtlsEvent::Closed => self.fail(AssociationFailure::Closed),
                // After the handshake, a fatal alert is the peer's rude way to leave.
                DtlsEvent::Failed if self.srtp.is_some() => self.fail(AssociationFailure::Closed),
                DtlsEvent::Failed => self.fail(AssociationFailure::Dtls),
            }
        }
    }

    fn handle_ice_event(&mut self, now: Instant, event: IceEvent) {
        let connected = self.srtp.is_some();
        match event {
            IceEvent::Connected => {
                self.handshake_by = Some(now + HANDSHAKE_WITHIN);
                self.dtls.start(now);
            }
            IceEvent::Disconnected if connected => self.events.push_back(AssociationEvent::Disconnected),
            IceEvent::Reconnected if connected => self.events.push_back(AssociationEvent::Reconnected),
            // Not connected yet: to the outside, nothing has changed.
            IceEvent::Disconnected | IceEvent::Reconnected => {}
            IceEvent::PathAdded(path) => self.events.push_back(AssociationEvent::PathAdded(path)),
            IceEvent::PathRemoved(path) => self.events.push_back(AssociationEvent::PathRemoved(path)),
            IceEvent::PathSelected(path) => self.events.push_back(AssociationEvent::PathSelected(path)),
            IceEvent::Failed(IceFailure::NeverConnected) => self.fail(AssociationFailure::NeverConnected),
            IceEvent::Failed(IceFailure::ConsentExpired) => self.fail(AssociationFailure::ConsentExpired),
        }
    }

    fn connect(&mut self, keying: &SrtpKeying) {
        match srtp::from_keying_material(keying.profile, &keying.material, keying.we_are_client) {
            Ok((outbound, inbound)) => {
                self.srtp = Some(Srtp { outbound, inbound });
                self.handshake_by = None;
                self.events.push_back(AssociationEvent::Connected);
            }
            Err(_) => self.fail(AssociationFailure::Dtls),
        }
    }

    fn fail(&mut self, why: AssociationFailure) {
        if !self.failed {
            self.failed = true;
            self.events.push_back(AssociationEvent::Failed(why));
        }
    }
}

#[cfg(test)]
mod tests;
