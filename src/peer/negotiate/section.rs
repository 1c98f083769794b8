//! One m-line, from the offer to the answer and to the engine's view of it.
use std::collections::HashSet;

use crate::ids::Mid;
use crate::peer::config::{CodecParameters, DeclaredSsrc, ReceiveMedia, SendMedia};
use crate::peer::sdp::{Attributes, SdpLimits, Section, Session};
use crate::rtp::{Extension, ExtensionMap, Kind, Ssrc};

use super::codecs::{self, AcceptedCodec};
use super::media::{self, AcceptedExtension, AcceptedRid, Direction, ExtensionIds};
use super::{ConnectionKind, NegotiateError, Rejection, transport};

/// An m-line of the offer.
pub(super) struct OfferedSection<'a> {
    /// Counted from 0.
    pub index: usize,
    pub section: &'a Section<'a>,
    /// Its place, written in decimal, if the offer gives it no name.
    pub mid: Mid,
    pub has_mid: bool,
    /// False when it was stopped.
    pub is_alive: bool,
    /// Whether it uses the one transport of the connection.
    pub is_bundled: bool,
}

impl<'a> OfferedSection<'a> {
    /// All m-lines of an offer. A mid names one of them.
    pub fn read(session: &'a Session<'a>) -> Result<Vec<Self>, NegotiateError> {
        let alive = session.sections.iter().filter(|s| transport::is_alive(s)).count();
        let bundle = transport::bundle(session);
        if bundle.is_none() && alive > 1 {
            return Err(NegotiateError::NotBundled(alive));
        }
        let mut mids = HashSet::new();
        let mut read = |(index, section): (usize, &'a Section<'a>)| {
            let named = section.attributes.value("mid");
            if let Some(mid) = named.filter(|mid| !mids.insert(*mid)) {
                return Err(NegotiateError::DuplicateMid { line: index + 1, mid: mid.chars().take(40).collect() });
            }
            let place = index.to_string();
            let mid = named.unwrap_or(&place);
            let is_alive = transport::is_alive(section);
            // Alone, an m-line needs no bundle.
            let is_bundled = is_alive && (alive == 1 || bundle.as_ref().is_some_and(|b| b.contains(&mid)));
            let mid = Mid::try_from(mid).map_err(|_| NegotiateError::InvalidMid(index + 1))?;
            Ok(Self { index, section, mid, has_mid: named.is_some(), is_alive, is_bundled })
        };
        session.sections.iter().enumerate().map(&mut read).collect()
    }

    pub fn kind(&self) -> Option<Kind> {
        match self.section.media {
            "audio" => Some(Kind::Audio),
            "video" => Some(Kind::Video),
            _ => None,
        }
    }

    /// The kind of an m-line that can be used at all.
    fn usable_kind(&self) -> Result<Kind, Rejection> {
        let short = |text: &str| text.chars().take(40).collect();
        let Section { media, protocol, attributes, .. } = self.section;
        if !self.is_alive {
            return Err(Rejection::Stopped);
        }
        let kind = self.kind().ok_or_else(|| Rejection::Kind(short(media)))?;
        if !protocol.ends_with("RTP/SAVPF") && !protocol.ends_with("RTP/SAVP") {
            return Err(Rejection::Protocol(short(protocol)));
        }
        if !self.is_bundled {
            return Err(Rejection::NotBundled);
        }
        if !attributes.has("rtcp-mux") && !attributes.has("rtcp-mux-only") {
            return Err(Rejection::NoRtcpMux);
        }
        Ok(kind)
    }
}

/// What one round of negotiation shares between its m-lines.
pub(super) struct Round<'r> {
    session: &'r Attributes<'r>,
    limits: &'r SdpLimits,
    connection: ConnectionKind,
    ids: ExtensionIds,
    ssrcs: HashSet<Ssrc>,
}

impl<'r> Round<'r> {
    pub fn new(session: &'r Attributes<'r>, limits: &'r SdpLimits, connection: ConnectionKind) -> Self {
        Self { session, limits, connection, ids: ExtensionIds::default(), ssrcs: HashSet::new() }
    }

    /// What the answer takes of an m-line, or why it takes nothing.
    pub fn accept(&mut self, offered: &OfferedSection<'r>) -> Result<AcceptedSection<'r>, Rejection> {
        let kind = offered.usable_kind()?;
        let section = offered.section;
        let (connection, session, limits) = (self.connection, self.session, self.limits);
        let mut extensions = media::accept_extensions(section, session, connection, &mut self.ids, limits.extensions);
        let has_transport_cc = extensions.iter().any(|e| e.extension == Extension::TransportCc);
        let codecs = codecs::accept(section, kind, connection, has_transport_cc, limits.codecs);
        if codecs.is_empty() {
            return Err(Rejection::NoCodec {
                offered: codecs::offered_names(section),
                supported: codecs::supported(kind),
            });
        }
        if !codecs.iter().any(|c| c.parameters.feedback.transport_cc) {
            // Numbers that nobody gives feedback about are a waste.
            extensions.retain(|e| e.extension != Extension::TransportCc);
        }
        let direction = Direction::read(section, session);
        let (rids, ssrcs, answered) = match connection {
            ConnectionKind::Publish => (
                media::accept_rids(section, &codecs, &extensions, limits.rids),
                media::declared_ssrcs(section, &mut self.ssrcs, limits),
                if direction.sends() { Direction::RecvOnly } else { Direction::Inactive },
            ),
            ConnectionKind::Subscribe => {
                (Vec::new(), Vec::new(), if direction.receives() { Direction::SendOnly } else { Direction::Inactive })
            }
        };
        let mid = offered.mid.clone();
        let mixed_headers = section.attributes.has("extmap-allow-mixed") || session.has("extmap-allow-mixed");
        Ok(AcceptedSection { section, mid, kind, answered, codecs, extensions, mixed_headers, rids, ssrcs, slot: None })
    }
}

/// An m-line of the answer.
#[derive(Debug)]
pub(super) struct AcceptedSection<'a> {
    /// As it was offered.
    pub section: &'a Section<'a>,
    pub mid: Mid,
    pub kind: Kind,
    pub answered: Direction,
    pub codecs: Vec<AcceptedCodec<'a>>,
    pub extensions: Vec<AcceptedExtension>,
    pub mixed_headers: bool,
    pub rids: Vec<AcceptedRid>,
    pub ssrcs: Vec<DeclaredSsrc>,
    pub slot: Option<Slot>,
}

impl AcceptedSection<'_> {
    pub fn is_active(&self) -> bool {
        self.answered != Direction::Inactive
    }
    fn codec_parameters(&self) -> Vec<CodecParameters> {
        self.codecs.iter().map(|c| c.parameters.clone()).collect()
    }
    fn extension_map(&self) -> ExtensionMap {
        let mut map = ExtensionMap::default();
        for e in &self.extensions {
            map.insert(e.extension, e.id);
        }
        map
    }
    /// The slot's second SSRC, if there is something to retransmit.
    pub fn rtx_ssrc(&self) -> Option<Ssrc> {
        let slot = self.slot.as_ref().filter(|_| self.codecs.iter().any(|c| c.parameters.rtx.is_some()));
        slot.map(|s| s.rtx_ssrc)
    }
    pub fn receive_media(&self) -> ReceiveMedia {
        ReceiveMedia {
            mid: self.mid.clone(),
            kind: self.kind,
            codecs: self.codec_parameters(),
            extensions: self.extension_map(),
            rids: self.rids.iter().map(|r| r.rid.clone()).collect(),
            ssrcs: self.ssrcs.clone(),
            active: self.is_active(),
        }
    }
    pub fn send_media(&self) -> Option<SendMedia> {
        Some(SendMedia {
            mid: self.mid.clone(),
            kind: self.kind,
            codecs: self.codec_parameters(),
            extensions: self.extension_map(),
            mixed_headers: self.mixed_headers,
            ssrc: self.slot.as_ref()?.ssrc,
            rtx_ssrc: self.rtx_ssrc(),
            active: self.is_active(),
        })
    }
}

/// What never changes of an m-line on which we send.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub number: usize,
    pub ssrc: Ssrc,
    pub rtx_ssrc: Ssrc,
    /// Every codec that was ever negotiated.
    codecs: Vec<CodecParameters>,
}

impl Slot {
    pub fn new(number: usize, ssrc: Ssrc, rtx_ssrc: Ssrc) -> Self {
        Self { number, ssrc, rtx_ssrc, codecs: Vec::new() }
    }

    /// Checks that each payload type means what it did, and remembers new ones. The error is the payload type that does not.
    pub fn remember(&mut self, codecs: &[AcceptedCodec]) -> Result<(), u8> {
        for new in codecs.iter().map(|c| &c.parameters) {
            let numbers = |c: &CodecParameters| [Some(c.payload_type), c.rtx];
            let Some(old) = self.codecs.iter_mut().find(|old| old.codec == new.codec) else {
                let taken = self.codecs.iter().flat_map(numbers).flatten();
                if let Some(pt) = taken.into_iter().find(|pt| numbers(new).contains(&Some(*pt))) {
                    return Err(pt.value());
                }
                self.codecs.push(new.clone());
                continue;
            };
            if old.payload_type != new.payload_type {
                return Err(new.payload_type.value());
            }
            match (old.rtx, new.rtx) {
                (Some(before), Some(now)) if before != now => return Err(now.value()),
                _ => old.rtx = old.rtx.or(new.rtx),
            }
        }
        Ok(())
    }
}
