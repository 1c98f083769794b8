//! [`DtlsTransport`] on rtc-dtls (DTLS 1.2; a peer that offers 1.3 takes 1.2).
use super::client_hello::best_srtp_profile;
use super::records::RecordGuard;
use super::{DtlsEvent, DtlsTransport, SrtpKeying, fingerprint};
use crate::metrics::DropReason;
use crate::peer::config::{DtlsConfig, DtlsRole, Fingerprint, FingerprintHash};
use crate::peer::srtp::SrtpProfile;
use bytes::BytesMut;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error;
use rtc_crypto::RTCCryptoProvider;
use rtc_crypto::providers::AwsLcRsProvider;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// DTLS belongs to the ICE session, which may move from address to address; rtc-dtls wants one, so it gets this.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 65535);
/// RFC 5764 section 4.2.
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";
/// What a record may carry, so that the datagram passes every tunnel.
const MTU: usize = 1150;
/// When a flight without an answer is sent again, at first; half as long again each time.
const CLIENT_REPEATS_AFTER: Duration = Duration::from_millis(500);
/// A client repeats itself (browsers after 50 ms, most others after 1 s) and is answered at once, so a server's timer is
/// the last resort. It is long, because a client built on rtc-dtls (webrtc-rs) loses its own timer to a repetition.
const SERVER_REPEATS_AFTER: Duration = Duration::from_secs(4);
/// A peer that repeats itself is answered again no sooner than this; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(75);
/// rtc-dtls gives up at the eighth repetition; this many may be asked for by the peer.
const MAX_PROVOKED: u32 = 5;
/// How often a HelloVerifyRequest is repeated.
const MAX_VERIFY_REQUESTS: u32 = 16;

/// The certificate of this process, and what goes with it. Cheap to clone.
#[derive(Clone)]
pub struct LocalIdentity(Arc<Identity>);

struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    fingerprint: Fingerprint,
}

/// No certificate could be made: the source of randomness failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot make a DTLS certificate: {0}")]
pub struct IdentityError(String);

impl LocalIdentity {
    /// Makes a key (ECDSA P-256) and a certificate for it.
    pub fn generate() -> Result<Self, IdentityError> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let certificate = Certificate::generate_self_signed(vec!["exedra".to_owned()], provider.crypto())
            .map_err(|error| IdentityError(error.to_string()))?;
        let der = certificate.certificate.first().ok_or_else(|| IdentityError("it is empty".to_owned()))?;
        let hash = FingerprintHash::Sha256;
        let fingerprint = Fingerprint { hash, value: fingerprint(hash, der) };
        Ok(Self(Arc::new(Identity { provider, certificate, fingerprint })))
    }

    /// For `a=fingerprint`: SHA-256.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.0.fingerprint
    }
}

/// One association on rtc-dtls.
pub struct RtcDtls {
    identity: LocalIdentity,
    config: DtlsConfig,
    /// A server makes it when it has seen what the ClientHello offers.
    endpoint: Option<Endpoint>,
    guard: RecordGuard,
    phase: Phase,
    repetition: Repetition,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<DtlsEvent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshaking,
    Established,
    Over,
}

/// When the last flight is to be sent again. rtc-dtls has a fixed interval; it is set so short that this decides.
#[derive(Clone, Copy, Debug)]
struct Repetition {
    sent: Option<Instant>,
    after: Duration,
    pause: Duration,
    provoked: u32,
    verify_requests: u32,
}

impl Repetition {
    fn start(role: DtlsRole, sent: Option<Instant>) -> Self {
        let after = match role {
            DtlsRole::Client => CLIENT_REPEATS_AFTER,
            DtlsRole::Server => SERVER_REPEATS_AFTER,
        };
        Self { sent, after, pause: FIRST_PAUSE, provoked: 0, verify_requests: 0 }
    }

    fn due(&self) -> Option<Instant> {
        self.sent.map(|sent| sent + self.after)
    }

    /// True if a peer that repeats itself may be answered again.
    fn may_be_provoked(&self, now: Instant) -> bool {
        self.provoked < MAX_PROVOKED && self.sent.is_some_and(|sent| now >= sent + self.pause)
    }
}

impl RtcDtls {
    /// A client starts with [`start`](DtlsTransport::start), a server when the peer does.
    pub fn new(identity: &LocalIdentity, config: &DtlsConfig) -> Self {
        Self {
            identity: identity.clone(),
            config: config.clone(),
            endpoint: None,
            guard: RecordGuard::default(),
            phase: Phase::Handshaking,
            repetition: Repetition::start(config.role, None),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    fn handshake_config(&self, profiles: &[SrtpProfile]) -> Result<Arc<HandshakeConfig>, Error> {
        let fingerprints = self.config.fingerprints.clone();
        let verify = move |chain: &[Vec<u8>], _: &[_]| {
            let leaf = chain.first().ok_or(Error::ErrNoMatchingCertificateFingerprint)?;
            let known = fingerprints.iter().any(|fingerprint| fingerprint.matches(leaf));
            if known { Ok(()) } else { Err(Error::ErrNoMatchingCertificateFingerprint) }
        };
        let config = ConfigBuilder::default()
            .with_crypto_provider(self.identity.0.provider.clone())
            .with_certificates(vec![self.identity.0.certificate.clone()])
            .with_srtp_protection_profiles(profiles.iter().map(|profile| wire_profile(*profile)).collect())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // There is no chain to verify: the fingerprint in the SDP says whom to trust.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_flight_interval(Duration::from_millis(1))
            .with_mtu(MTU)
            .build(self.config.role == DtlsRole::Client, Some(PEER))?;
        Ok(Arc::new(config))
    }

    /// Makes the server's endpoint, for the profile that we like best of those that the client offers.
    fn accept(&mut self, client_hello: &[u8]) -> Result<(), DropReason> {
        let config = best_srtp_profile(client_hello).and_then(|profile| self.handshake_config(&[profile]).ok());
        let Some(config) = config else {
            self.fail();
            return Err(DropReason::DtlsMalformed);
        };
        self.endpoint = Some(Endpoint::new(PEER, TransportProtocol::UDP, Some(config)));
        Ok(())
    }

    fn read(&mut self, now: Instant, records: Vec<u8>) -> Result<(), DropReason> {
        let endpoint = self.endpoint.as_mut().ok_or(DropReason::DtlsMalformed)?;
        let result = endpoint.read(now, PEER, None, BytesMut::from(&records[..]));
        if self.collect() {
            self.repetition = Repetition::start(self.config.role, Some(now));
        }
        match result {
            Ok(events) => {
                events.into_iter().for_each(|event| self.handle_event(event));
                Ok(())
            }
            // A fatal alert. Any other error of an established association is one bad record.
            Err(Error::ErrAlertFatalOrClose) => {
                self.fail();
                Ok(())
            }
            Err(_) if self.phase == Phase::Established => Err(DropReason::DtlsMalformed),
            Err(error) => {
                tracing::debug!(%error, "DTLS handshake failed");
                self.fail();
                Err(DropReason::DtlsMalformed)
            }
        }
    }

    fn handle_event(&mut self, event: EndpointEvent) {
        match event {
            EndpointEvent::HandshakeComplete => match self.keying() {
                Some(keying) => {
                    self.phase = Phase::Established;
                    self.guard.established();
                    self.events.push_back(DtlsEvent::Connected(keying));
                }
                None => self.fail(),
            },
            EndpointEvent::PeerClosed => {
                self.phase = Phase::Over;
                self.endpoint = None;
                self.events.push_back(DtlsEvent::Closed);
            }
            // Application data (data channels) is not taken.
            _ => {}
        }
    }

    fn keying(&self) -> Option<SrtpKeying> {
        let state = self.endpoint.as_ref()?.get_connection_state(PEER)?;
        let profile = SrtpProfile::from_id(state.srtp_protection_profile() as u16)?;
        let leaf = state.peer_certificates.first()?;
        if !self.config.fingerprints.iter().any(|fingerprint| fingerprint.matches(leaf)) {
            return None;
        }
        let material = state.export_keying_material(EXPORTER_LABEL, &[], profile.keying_material_len()).ok()?;
        let we_are_client = self.config.role == DtlsRole::Client;
        Some(SrtpKeying { profile, material: material.as_ref().to_vec(), we_are_client })
    }

    /// Takes what is to be sent; true if there is something.
    fn collect(&mut self) -> bool {
        let before = self.transmits.len();
        if let Some(endpoint) = &mut self.endpoint {
            self.transmits.extend(std::iter::from_fn(|| endpoint.poll_transmit()).map(|t| t.message.to_vec()));
        }
        self.transmits.len() > before
    }

    /// A server that waits for the ClientHello with its cookie. HelloVerifyRequest is not sent again by time, but if the
    /// first ClientHello is (RFC 6347 section 4.2.4).
    fn awaits_cookie(&self) -> bool {
        self.config.role == DtlsRole::Server && self.guard.messages() == 1
    }

    /// The peer has repeated itself: it may not have our last flight.
    fn answer_repetition(&mut self, now: Instant) {
        if self.phase != Phase::Handshaking || !self.repetition.may_be_provoked(now) {
            return;
        }
        self.repetition.pause *= 2;
        if !self.awaits_cookie() {
            self.repetition.provoked += 1;
            self.repeat(now);
        } else if self.repetition.verify_requests < MAX_VERIFY_REQUESTS {
            let kept = self.repetition;
            let records = self.guard.repetition();
            let _ = self.read(now, records);
            self.repetition = Repetition { sent: Some(now), verify_requests: kept.verify_requests + 1, ..kept };
        }
    }

    /// Sends the last flight again.
    fn repeat(&mut self, now: Instant) {
        self.repetition.sent = Some(now);
        let Some(endpoint) = &mut self.endpoint else { return };
        let Some(timer) = endpoint.poll_timeout(&PEER) else { return };
        let result = endpoint.handle_timeout(PEER, now.max(timer));
        self.collect();
        if result.is_err() {
            self.fail();
        }
    }

    fn fail(&mut self) {
        self.phase = Phase::Over;
        self.endpoint = None;
        self.events.push_back(DtlsEvent::Failed);
    }
}

impl DtlsTransport for RtcDtls {
    fn start(&mut self, now: Instant) {
        if self.config.role == DtlsRole::Server || self.endpoint.is_some() || self.phase != Phase::Handshaking {
            return;
        }
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        let started = self
            .handshake_config(&SrtpProfile::PREFERENCE)
            .and_then(|config| endpoint.connect(now, PEER, config, None));
        self.endpoint = Some(endpoint);
        self.collect();
        self.repetition.sent = Some(now);
        if started.is_err() {
            self.fail();
        }
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        if self.phase == Phase::Over {
            return Err(DropReason::NotConnected);
        }
        let received = self.guard.handle(datagram)?;
        if self.endpoint.is_none()
            && self.config.role == DtlsRole::Server
            && let Some(hello) = &received.client_hello
        {
            self.accept(hello)?;
        }
        if !received.records.is_empty() {
            return self.read(now, received.records);
        }
        if received.repeated {
            self.answer_repetition(now);
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| now >= due) {
            self.repetition.after = self.repetition.after * 3 / 2;
            self.repeat(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let awaits_answer = self.endpoint.as_ref()?.poll_timeout(&PEER).is_some();
        if self.phase == Phase::Handshaking && awaits_answer && !self.awaits_cookie() {
            self.repetition.due()
        } else {
            None
        }
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    fn close(&mut self, now: Instant) {
        if self.phase == Phase::Established
            && let Some(endpoint) = &mut self.endpoint
        {
            endpoint.stop(now, PEER);
            self.collect();
        }
        self.phase = Phase::Over;
        self.endpoint = None;
    }
}

fn wire_profile(profile: SrtpProfile) -> SrtpProtectionProfile {
    SrtpProtectionProfile::from(profile.id())
}
