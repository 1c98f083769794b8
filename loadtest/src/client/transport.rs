//! ICE, DTLS and SRTP of one connection, from the client's side.
use super::earliest;
use super::ice::Ice;
use super::sdp::Answer;
use exedra::peer::LocalIdentity;
use exedra::peer::config::{DtlsConfig, DtlsRole, Fingerprint, IceCredentials};
use exedra::peer::dtls::rtc_dtls::RtcDtls;
use exedra::peer::dtls::{DtlsEvent, DtlsTransport};
use exedra::peer::srtp::{self, SrtpInbound, SrtpOutbound};
use exedra::rtp::header::{Datagram, classify};
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::SmallRng;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Datagrams that may wait to be sent.
const MAX_OUT: usize = 4_096;

/// See the module.
pub struct Transport {
    identity: LocalIdentity,
    rng: SmallRng,
    ice: Ice,
    /// Offered, and in use as soon as they are answered.
    offered: IceCredentials,
    dtls: Option<RtcDtls>,
    /// When the handshake wants to be called. It changes only when something was done to it, and asking costs more than a packet.
    dtls_timeout: Option<Instant>,
    srtp: Option<(SrtpOutbound, SrtpInbound)>,
    remote: Option<SocketAddr>,
    out: VecDeque<Vec<u8>>,
    /// Something went wrong for good: the handshake failed, or the server said close_notify.
    pub failed: bool,
    /// When media could flow for the first time.
    pub connected_at: Option<Instant>,
}

impl Transport {
    pub fn new(identity: &LocalIdentity, mut rng: SmallRng) -> Self {
        let offered = credentials(&mut rng);
        Self {
            identity: identity.clone(),
            rng,
            ice: Ice::new(offered.clone()),
            offered,
            dtls: None,
            dtls_timeout: None,
            srtp: None,
            remote: None,
            out: VecDeque::new(),
            failed: false,
            connected_at: None,
        }
    }

    pub fn credentials(&self) -> &IceCredentials {
        &self.offered
    }

    pub fn fingerprint(&self) -> &Fingerprint {
        self.identity.fingerprint()
    }

    /// New credentials for the next offer: an ICE restart.
    pub fn renew_credentials(&mut self) {
        self.offered = credentials(&mut self.rng);
    }

    /// Takes an answer: starts, restarts, or changes nothing.
    pub fn set_answer(&mut self, now: Instant, answer: &Answer) {
        self.remote = answer.candidates.first().copied().or(self.remote);
        if self.dtls.is_none() {
            let config = DtlsConfig { role: DtlsRole::Client, fingerprints: vec![answer.fingerprint.clone()] };
            self.dtls = Some(RtcDtls::new(&self.identity, &config));
        }
        if self.ice.remote() != Some(&answer.ice) {
            self.ice.start(now, self.offered.clone(), answer.ice.clone());
        }
        self.drive(now);
    }

    /// The client has another address now: it says so by a check.
    pub fn moved(&mut self, now: Instant) {
        self.ice.recheck(now);
        self.drive(now);
    }

    /// Where datagrams are to go.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Media can flow: there are keys.
    pub fn is_secure(&self) -> bool {
        self.srtp.is_some()
    }

    /// Checks are answered.
    pub fn is_connected(&self, now: Instant) -> bool {
        self.srtp.is_some() && self.ice.is_connected(now)
    }

    pub fn rtt(&self) -> Duration {
        self.ice.rtt()
    }

    pub fn outbound(&mut self) -> Option<&mut SrtpOutbound> {
        self.srtp.as_mut().map(|(outbound, _)| outbound)
    }

    pub fn inbound(&mut self) -> Option<&mut SrtpInbound> {
        self.srtp.as_mut().map(|(_, inbound)| inbound)
    }

    /// Takes a datagram. RTP and RTCP are the caller's business: it is told which it was.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Datagram {
        let kind = classify(datagram);
        match kind {
            Datagram::Stun => {
                if self.ice.handle_datagram(now, datagram)
                    && let Some(dtls) = &mut self.dtls
                {
                    dtls.start(now);
                }
            }
            Datagram::Dtls => {
                if let Some(dtls) = &mut self.dtls {
                    let _ = dtls.handle_datagram(now, datagram);
                }
            }
            other => return other,
        }
        self.drive(now);
        kind
    }

    /// Seals a compound and queues it.
    pub fn send_rtcp(&mut self, compound: &[u8]) {
        let Some((outbound, _)) = &mut self.srtp else { return };
        let mut out = vec![0; compound.len() + outbound.profile().rtcp_overhead()];
        if outbound.seal_rtcp(compound, &mut out).is_some() {
            self.send(out);
        }
    }

    /// Queues a datagram as it is. Beyond the bound the oldest goes.
    pub fn send(&mut self, datagram: Vec<u8>) {
        if self.out.len() >= MAX_OUT {
            self.out.pop_front();
        }
        self.out.push_back(datagram);
    }

    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let dtls_due = self.dtls_timeout.is_some_and(|at| at <= now);
        if !dtls_due && self.ice.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        if let Some(dtls) = self.dtls.as_mut().filter(|_| dtls_due) {
            dtls.handle_timeout(now);
        }
        self.drive(now);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.failed {
            return None;
        }
        earliest([self.ice.poll_timeout(), self.dtls_timeout])
    }

    fn drive(&mut self, now: Instant) {
        self.turn(now);
        self.dtls_timeout = self.dtls.as_ref().and_then(|d| d.poll_timeout());
    }

    fn turn(&mut self, now: Instant) {
        if self.failed {
            return;
        }
        while let Some(check) = self.ice.poll_check(now, &mut self.rng) {
            self.send(check);
        }
        while let Some(datagram) = self.dtls.as_mut().and_then(|d| d.poll_transmit()) {
            self.send(datagram);
        }
        while let Some(event) = self.dtls.as_mut().and_then(|d| d.poll_event()) {
            match event {
                DtlsEvent::Connected(keying) => {
                    let keys = srtp::from_keying_material(keying.profile, &keying.material, keying.we_are_client);
                    self.srtp = keys.ok();
                    self.connected_at.get_or_insert(now);
                }
                DtlsEvent::Closed | DtlsEvent::Failed => self.failed = true,
            }
        }
    }
}

fn credentials(rng: &mut SmallRng) -> IceCredentials {
    IceCredentials { ufrag: Alphanumeric.sample_string(rng, 8), pwd: Alphanumeric.sample_string(rng, 24) }
}
