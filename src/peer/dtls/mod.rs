//! DTLS (RFC 6347) as WebRTC uses it: to agree on SRTP keys (RFC 5764), and to prove who holds the certificate that the
//! SDP names (RFC 8122).
//!
//! [`DtlsTransport`] is the border: another implementation can take the place of [`rtc_dtls`].
mod client_hello;
mod records;
pub mod rtc_dtls;

use super::config::{Fingerprint, FingerprintHash};
use super::srtp::SrtpProfile;
use crate::metrics::DropReason;
use aws_lc_rs::digest;
use std::time::Instant;

/// One DTLS association, sans-IO. `poll_*` is to be drained after every call.
pub trait DtlsTransport: Send {
    /// There is a path to the peer: a client begins the handshake. A server waits, and a second call does nothing.
    fn start(&mut self, now: Instant);
    /// Takes a datagram from a path that ICE vouches for.
    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason>;
    fn handle_timeout(&mut self, now: Instant);
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll_transmit(&mut self) -> Option<Vec<u8>>;
    fn poll_event(&mut self) -> Option<DtlsEvent>;
    /// Says close_notify if the handshake is done. Nothing follows.
    fn close(&mut self, now: Instant);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DtlsEvent {
    /// The handshake is done, and the peer's certificate has one of the fingerprints that were asked for.
    Connected(SrtpKeying),
    /// The peer said close_notify.
    Closed,
    /// The handshake failed, or the peer sent a fatal alert. Nothing follows.
    Failed,
}

/// What DTLS exported for SRTP (RFC 5764 section 4.2).
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKeying {
    pub profile: SrtpProfile,
    pub material: Vec<u8>,
    /// Our role.
    pub we_are_client: bool,
}

impl std::fmt::Debug for SrtpKeying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SrtpKeying({}, …)", self.profile.name())
    }
}

impl Fingerprint {
    /// True if this is the fingerprint of that certificate (DER).
    pub fn matches(&self, certificate: &[u8]) -> bool {
        fingerprint(self.hash, certificate) == self.value
    }
}

/// The digest of a certificate (DER).
fn fingerprint(hash: FingerprintHash, certificate: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        FingerprintHash::Sha256 => &digest::SHA256,
        FingerprintHash::Sha384 => &digest::SHA384,
        FingerprintHash::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, certificate).as_ref().to_vec()
}

#[cfg(test)]
mod tests;
