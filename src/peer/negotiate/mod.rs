//! Offer in, answer and [`PeerConfig`] out (RFC 3264, RFC 8829): pure, bounded, and seeded, so that simulations repeat.
//!
//! The client always offers. An m-line that cannot be used is answered with port 0 and a reason; an offer of which nothing can
//! be used, or that contradicts what was agreed before, is an error and changes nothing.
mod answer;
mod codecs;
mod error;
mod media;
mod section;
mod transport;

use std::collections::HashSet;
use std::net::SocketAddr;

use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::ids::Mid;
use crate::peer::config::{DtlsConfig, DtlsRole, Fingerprint, IceConfig, IceCredentials, PeerConfig};
use crate::peer::sdp::{self, SdpLimits, Section, Session};
use crate::rtp::{Kind, Ssrc};

pub use error::{NegotiateError, Rejection};
pub use media::{Direction, Msid};
use section::{AcceptedSection, OfferedSection, Round, Slot};
use transport::RemoteTransport;

/// Which way media flows on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// The client sends (`pub`, WHIP).
    Publish,
    /// The client receives (`sub`, WHEP): each m-line is a slot.
    Subscribe,
}

/// What an answer says of the server.
#[derive(Clone, Copy, Debug)]
pub struct AnswerContext<'a> {
    /// Of our certificate.
    pub fingerprint: &'a Fingerprint,
    /// Where we can be reached, the preferred first. IPv4 and IPv6 may mix.
    pub candidates: &'a [SocketAddr],
    pub limits: &'a SdpLimits,
}

/// What stays between the negotiations of one connection: m-lines, slots, credentials.
#[derive(Clone, Debug)]
pub struct Negotiation {
    kind: ConnectionKind,
    random: StdRng,
    cname: String,
    association: Option<Association>,
    /// By m-line. None where it was stopped or rejected, so that another may take its place.
    lines: Vec<Option<Line>>,
    config: Option<PeerConfig>,
}

/// A negotiation that succeeded.
#[derive(Clone, Debug)]
pub struct Negotiated {
    pub answer: String,
    pub config: PeerConfig,
    pub change: Change,
    /// By m-line of the offer.
    pub media: Vec<NegotiatedMedia>,
}

/// What an offer does to the association.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first offer, or one of another client instance (a reloaded page): nothing of the old association, m-lines and slots
    /// included, is of use any more.
    New,
    /// New ICE credentials for the same DTLS association (RFC 8445 section 2.4).
    IceRestart,
    /// The association stays as it is; m-lines and directions may have changed.
    Same,
}

/// What became of one m-line.
#[derive(Clone, Debug)]
pub struct NegotiatedMedia {
    /// None if the offer names none and the m-line was not taken.
    pub mid: Option<Mid>,
    /// None if it is neither audio nor video.
    pub kind: Option<Kind>,
    pub msid: Option<Msid>,
    /// The direction that the client offered.
    pub offered: Direction,
    pub outcome: MediaOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaOutcome {
    /// Media may flow, if `active`. `slot` is the number that an audio and a video slot share (connection `sub`): both are in
    /// one MediaStream.
    Accepted { active: bool, slot: Option<usize> },
    /// Answered with port 0.
    Rejected(Rejection),
}

/// What a fragment does.
#[derive(Clone, Debug)]
pub enum FragmentOutcome {
    /// Candidates: a lite agent has no use for them.
    Trickle,
    /// An ICE restart, with the fragment that answers it.
    Restart { fragment: String, config: Box<PeerConfig> },
}

impl Negotiation {
    /// `random` is asked four times, for the seed of all that is chosen later: passwords too, so it has to be unguessable.
    pub fn new(kind: ConnectionKind, random: &mut impl FnMut() -> u64) -> Self {
        let mut seed = [0; 32];
        seed.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random().to_le_bytes()));
        let mut random = StdRng::from_seed(seed);
        let cname = random_token(&mut random, 16);
        Self { kind, random, cname, association: None, lines: Vec::new(), config: None }
    }

    /// Takes an offer. After an error everything is as it was.
    pub fn answer(&mut self, context: &AnswerContext, offer: &str) -> Result<Negotiated, NegotiateError> {
        let offer = sdp::parse(offer, context.limits, self.max_sections(context))?;
        let mut next = self.clone();
        let negotiated = next.negotiate(context, &offer)?;
        *self = next;
        Ok(negotiated)
    }

    /// Takes an `application/trickle-ice-sdpfrag` (RFC 9725 section 4.3): other ICE credentials than before are an ICE restart.
    pub fn fragment(&mut self, context: &AnswerContext, fragment: &str) -> Result<FragmentOutcome, NegotiateError> {
        let fragment = sdp::parse_fragment(fragment, context.limits, self.max_sections(context))?;
        let (Some(association), Some(config)) = (&mut self.association, &mut self.config) else {
            return Err(NegotiateError::NotNegotiated);
        };
        let attributes = || [&fragment.attributes].into_iter().chain(fragment.sections.iter().map(|s| &s.attributes));
        let value = |name: &str| attributes().find_map(|a| a.value(name));
        if value("ice-ufrag").is_none_or(|ufrag| ufrag == association.remote.ice.ufrag) {
            return Ok(FragmentOutcome::Trickle);
        }
        association.remote.ice = transport::credentials(value("ice-ufrag"), value("ice-pwd"))?;
        association.local = random_credentials(&mut self.random);
        config.ice = association.ice();
        let mids = config.receive.iter().map(|m| (&m.mid, m.kind)).chain(config.send.iter().map(|m| (&m.mid, m.kind)));
        let fragment = answer::restart_fragment(context, &association.local, &mids.collect::<Vec<_>>());
        Ok(FragmentOutcome::Restart { fragment, config: Box::new(config.clone()) })
    }

    fn max_sections(&self, context: &AnswerContext) -> usize {
        match self.kind {
            ConnectionKind::Publish => context.limits.publish_sections,
            ConnectionKind::Subscribe => context.limits.subscribe_sections,
        }
    }

    fn negotiate(&mut self, context: &AnswerContext, offer: &Session) -> Result<Negotiated, NegotiateError> {
        let offered = OfferedSection::read(offer)?;
        let change = self.associate(offer, &offered)?;
        self.retire_lines(&offered)?;
        let mut round = Round::new(&offer.attributes, context.limits, self.kind);
        let mut outcomes = Vec::with_capacity(offered.len());
        for section in &offered {
            outcomes.push(match round.accept(section) {
                Ok(accepted) => self.open_line(context.limits, section.index, accepted)?,
                Err(rejection) => {
                    self.lines[section.index] = None;
                    Err(rejection)
                }
            });
        }
        if change == Change::New && outcomes.iter().all(Result::is_err) {
            return Err(NegotiateError::NothingAccepted(reasons(&outcomes)));
        }
        let media = outcomes.iter().zip(&offered).map(|(outcome, o)| NegotiatedMedia::new(offer, o, outcome)).collect();
        let sections: Vec<Option<AcceptedSection>> = outcomes.into_iter().map(Result::ok).collect();
        // associate() leaves an association behind, or fails.
        let association = self.association.as_ref().ok_or(NegotiateError::NothingOffered)?;
        let config = self.describe_peer(association, &sections);
        let answer = answer::Answer { context, association, cname: &self.cname, offer, sections: &sections }.write();
        self.config = Some(config.clone());
        Ok(Negotiated { answer, config, change, media })
    }

    /// Continues the association, or begins another.
    fn associate(&mut self, offer: &Session, offered: &[OfferedSection]) -> Result<Change, NegotiateError> {
        let sections: Vec<&Section> = offered.iter().filter(|o| o.is_bundled).map(|o| o.section).collect();
        if let (Some(association), []) = (&mut self.association, sections.as_slice()) {
            // Everything was stopped: there is no transport left to speak about, and clients forget theirs.
            association.version += 1;
            association.is_idle = true;
            return Ok(Change::Same);
        }
        if sections.is_empty() {
            let outside = offered.iter().any(|o| o.is_alive);
            return Err(if outside { NegotiateError::OutsideBundle } else { NegotiateError::NothingOffered });
        }
        let remote = RemoteTransport::read(&offer.attributes, &sections)?;
        let origin = offer.origin.unwrap_or_default().chars().take(256).collect();
        if let Some(association) = self.association.as_mut().filter(|a| a.continues(&remote, &origin)) {
            let restart = association.remote.ice != remote.ice;
            if restart {
                association.local = random_credentials(&mut self.random);
            }
            association.version += 1;
            association.is_idle = false;
            (association.remote, association.origin) = (remote, origin);
            return Ok(if restart { Change::IceRestart } else { Change::Same });
        }
        // The SDP session may outlive the association. Clients read its id into a signed number.
        let session = self.association.as_ref().filter(|a| a.origin == origin).map(|a| (a.session_id, a.version + 1));
        let (session_id, version) = session.unwrap_or_else(|| (self.random.next_u64() >> 1, 1));
        let (role, local) = (remote.setup.our_role(None), random_credentials(&mut self.random));
        self.association = Some(Association { session_id, version, origin, role, local, remote, is_idle: false });
        self.lines.clear();
        Ok(Change::New)
    }

    /// m-lines keep their places and kinds (RFC 3264 section 8): forgets those that were stopped or replaced.
    fn retire_lines(&mut self, offered: &[OfferedSection]) -> Result<(), NegotiateError> {
        if offered.len() < self.lines.len() {
            return Err(NegotiateError::FewerSections { offered: offered.len(), agreed: self.lines.len() });
        }
        self.lines.resize_with(offered.len(), || None);
        for (line, offered) in self.lines.iter_mut().zip(offered) {
            let Some(agreed) = line else { continue };
            if !offered.is_alive || offered.mid != agreed.mid {
                *line = None;
            } else if offered.kind() != Some(agreed.kind) {
                let now = offered.section.media.chars().take(32).collect();
                return Err(NegotiateError::KindChanged { line: offered.index + 1, mid: agreed.mid.clone(), now });
            }
        }
        Ok(())
    }

    /// Gives an m-line its place, and on `sub` its slot: the one that it had, or a new one.
    fn open_line<'a>(
        &mut self,
        limits: &SdpLimits,
        index: usize,
        mut accepted: AcceptedSection<'a>,
    ) -> Result<Result<AcceptedSection<'a>, Rejection>, NegotiateError> {
        let known = self.lines[index].take();
        if self.kind == ConnectionKind::Subscribe {
            let mut slot =
                match known.and_then(|line| line.slot).map_or_else(|| self.new_slot(limits, accepted.kind), Ok) {
                    Ok(slot) => slot,
                    Err(rejection) => return Ok(Err(rejection)),
                };
            let changed = |payload_type| NegotiateError::PayloadTypeChanged {
                line: index + 1,
                mid: accepted.mid.clone(),
                payload_type,
            };
            slot.remember(&accepted.codecs).map_err(changed)?;
            accepted.slot = Some(slot);
        }
        self.lines[index] = Some(Line { mid: accepted.mid.clone(), kind: accepted.kind, slot: accepted.slot.clone() });
        Ok(Ok(accepted))
    }

    /// The lowest number that no slot of this kind has, and SSRCs that no slot has.
    fn new_slot(&mut self, limits: &SdpLimits, kind: Kind) -> Result<Slot, Rejection> {
        let limit = match kind {
            Kind::Audio => limits.audio_slots,
            Kind::Video => limits.video_slots,
        };
        let slots = || self.lines.iter().flatten().filter_map(|l| l.slot.as_ref().map(|s| (l.kind, s)));
        let taken: HashSet<usize> = slots().filter(|(k, _)| *k == kind).map(|(_, s)| s.number).collect();
        let number = (0..limit).find(|n| !taken.contains(n)).ok_or(Rejection::TooManySlots { kind, limit })?;
        let mut used: HashSet<u32> = slots().flat_map(|(_, s)| [s.ssrc.0, s.rtx_ssrc.0]).chain([0]).collect();
        let mut fresh = || loop {
            let ssrc = self.random.next_u32();
            if used.insert(ssrc) {
                return Ssrc(ssrc);
            }
        };
        Ok(Slot::new(number, fresh(), fresh()))
    }

    fn describe_peer(&self, association: &Association, sections: &[Option<AcceptedSection>]) -> PeerConfig {
        let accepted = || sections.iter().flatten();
        let (receive, send) = match self.kind {
            ConnectionKind::Publish => (accepted().map(AcceptedSection::receive_media).collect(), Vec::new()),
            ConnectionKind::Subscribe => (Vec::new(), accepted().filter_map(AcceptedSection::send_media).collect()),
        };
        let dtls = DtlsConfig { role: association.role, fingerprints: association.remote.fingerprints.clone() };
        PeerConfig { ice: association.ice(), dtls, receive, send, cname: self.cname.clone() }
    }
}

/// One DTLS association, and how both sides name the SDP session around it.
#[derive(Clone, Debug)]
struct Association {
    /// Ours.
    session_id: u64,
    version: u64,
    /// Theirs.
    origin: String,
    role: DtlsRole,
    local: IceCredentials,
    remote: RemoteTransport,
    /// Every m-line was stopped.
    is_idle: bool,
}

impl Association {
    fn ice(&self) -> IceConfig {
        IceConfig { local: self.local.clone(), remote: self.remote.ice.clone() }
    }

    /// Whether an offer belongs to this association. Some clients change the session id with every offer: who still has the
    /// same ICE credentials is the same.
    fn continues(&self, remote: &RemoteTransport, origin: &String) -> bool {
        let same_session = self.origin == *origin && !self.is_idle || self.remote.ice == remote.ice;
        same_session && remote.has_identity_of(&self.remote) && remote.setup.our_role(Some(self.role)) == self.role
    }
}

/// An m-line in use.
#[derive(Clone, Debug)]
struct Line {
    mid: Mid,
    kind: Kind,
    slot: Option<Slot>,
}

impl NegotiatedMedia {
    fn new(offer: &Session, offered: &OfferedSection, outcome: &Result<AcceptedSection, Rejection>) -> Self {
        let outcome = match outcome {
            Ok(a) => MediaOutcome::Accepted { active: a.is_active(), slot: a.slot.as_ref().map(|s| s.number) },
            Err(rejection) => MediaOutcome::Rejected(rejection.clone()),
        };
        let is_named = offered.has_mid || matches!(outcome, MediaOutcome::Accepted { .. });
        Self {
            mid: is_named.then(|| offered.mid.clone()),
            kind: offered.kind(),
            msid: Msid::read(offered.section),
            offered: Direction::read(offered.section, &offer.attributes),
            outcome,
        }
    }
}

/// What is wrong with each m-line, for a message.
fn reasons(outcomes: &[Result<AcceptedSection, Rejection>]) -> String {
    let reasons =
        outcomes.iter().enumerate().filter_map(|(i, o)| o.as_ref().err().map(|r| format!("m-line {}: {r}", i + 1)));
    reasons.take(8).collect::<Vec<_>>().join("; ")
}

/// 95 bits to be found by, and 190 bits to prove it (RFC 8445 section 5.3 asks for 24 and 128).
fn random_credentials(random: &mut StdRng) -> IceCredentials {
    IceCredentials { ufrag: random_token(random, 16), pwd: random_token(random, 32) }
}

fn random_token(random: &mut StdRng, length: usize) -> String {
    random.sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

#[cfg(test)]
mod tests;
