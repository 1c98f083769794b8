//! What an offer says of the transport that its m-lines share: BUNDLE, ICE, DTLS.
use crate::peer::config::{DtlsRole, Fingerprint, IceCredentials};
use crate::peer::sdp::{Attributes, Section, Session};

use super::NegotiateError;

/// Fingerprints believed of one offer. Clients send one for each hash.
const MAX_FINGERPRINTS: usize = 8;

/// A m-line that is offered, not stopped: its port may be 0 when it can only live in a bundle (RFC 8843 section 6).
pub(super) fn is_alive(section: &Section) -> bool {
    section.port != 0 || section.attributes.has("bundle-only")
}

/// The mids of `a=group:BUNDLE`, in order. None if there is no such group, or nothing in it.
pub(super) fn bundle<'a>(session: &Session<'a>) -> Option<Vec<&'a str>> {
    let groups = session.attributes.values("group");
    let mut lists =
        groups.filter_map(|g| g.strip_prefix("BUNDLE")).map(|g| g.split_ascii_whitespace().collect::<Vec<_>>());
    lists.find(|mids| !mids.is_empty())
}

/// The peer's side of the transport.
#[derive(Clone, Debug)]
pub(super) struct RemoteTransport {
    pub ice: IceCredentials,
    pub fingerprints: Vec<Fingerprint>,
    pub setup: Setup,
    /// Names the DTLS association (RFC 8842 section 4).
    pub tls_id: Option<String>,
}

/// `a=setup` of an offer (RFC 4145 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    Active,
    Passive,
    Actpass,
}

impl Setup {
    /// The role that this offer leaves to us. `settled` is the one that we have already, which an answer to an offer within
    /// the same association keeps (RFC 8842 section 5.3).
    pub fn our_role(self, settled: Option<DtlsRole>) -> DtlsRole {
        match self {
            Self::Active => DtlsRole::Server,
            Self::Passive => DtlsRole::Client,
            Self::Actpass => settled.unwrap_or(DtlsRole::Server),
        }
    }
}

impl RemoteTransport {
    /// From the first of `sections` that has ICE credentials of its own or the session's: of a bundle, only one has to
    /// (RFC 8843 section 7.1.3).
    pub fn read(session: &Attributes, sections: &[&Section]) -> Result<Self, NegotiateError> {
        if session.has("ice-lite") {
            return Err(NegotiateError::IceLite);
        }
        let with_ice = |s: &&&Section| s.attributes.has("ice-ufrag") || session.has("ice-ufrag");
        let section = sections.iter().find(with_ice).ok_or(NegotiateError::NoIceCredentials)?;
        let value = |name: &str| section.attributes.value(name).or_else(|| session.value(name));
        let ice = credentials(value("ice-ufrag"), value("ice-pwd"))?;
        let setup = match value("setup") {
            None | Some("actpass") => Setup::Actpass,
            Some("active") => Setup::Active,
            Some("passive") => Setup::Passive,
            Some(other) => return Err(NegotiateError::Setup(other.chars().take(32).collect())),
        };
        let tls_id = value("tls-id").filter(|id| id.len() <= 255).map(String::from);
        Ok(Self { ice, fingerprints: fingerprints(session, section)?, setup, tls_id })
    }

    /// Whether the peer still is who it was: the same certificate, and the same DTLS association.
    pub fn has_identity_of(&self, other: &Self) -> bool {
        let within = |a: &[Fingerprint], b: &[Fingerprint]| a.iter().all(|f| b.contains(f));
        let same_certificate =
            within(&self.fingerprints, &other.fingerprints) && within(&other.fingerprints, &self.fingerprints);
        let renamed = self.tls_id.is_some() && other.tls_id.is_some() && self.tls_id != other.tls_id;
        same_certificate && !renamed
    }
}

/// RFC 8839 section 5.4.
pub(super) fn credentials(ufrag: Option<&str>, pwd: Option<&str>) -> Result<IceCredentials, NegotiateError> {
    let (Some(ufrag), Some(pwd)) = (ufrag, pwd) else { return Err(NegotiateError::NoIceCredentials) };
    let valid = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    if !(4..=256).contains(&ufrag.len()) || !(22..=256).contains(&pwd.len()) || !valid(ufrag) || !valid(pwd) {
        return Err(NegotiateError::IceCredentials);
    }
    Ok(IceCredentials { ufrag: ufrag.into(), pwd: pwd.into() })
}

/// The m-line's own, else the session's. Those of unknown hashes are passed over, as long as one is left.
fn fingerprints(session: &Attributes, section: &Section) -> Result<Vec<Fingerprint>, NegotiateError> {
    let own = if section.attributes.has("fingerprint") { &section.attributes } else { session };
    let offered = own.values("fingerprint").next().ok_or(NegotiateError::NoFingerprint)?;
    let known: Vec<Fingerprint> =
        own.values("fingerprint").filter_map(|f| f.parse().ok()).take(MAX_FINGERPRINTS).collect();
    if known.is_empty() {
        return Err(NegotiateError::Fingerprint(offered.chars().take(40).collect()));
    }
    Ok(known)
}
