//! What one m-line offers beside its codecs: direction, header extensions, encodings, streams.
use std::collections::HashSet;

use crate::ids::Rid;
use crate::peer::config::DeclaredSsrc;
use crate::peer::sdp::{Attributes, SdpLimits, Section};
use crate::rtp::{Extension, ExtensionMap, PayloadType, Ssrc};

use super::ConnectionKind;
use super::codecs::AcceptedCodec;

/// Which way media flows, seen by who says it (RFC 8866 section 6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The m-line's own direction, else the session's, else both ways.
    pub(super) fn read(section: &Section, session: &Attributes) -> Self {
        let all = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];
        let of = |attributes: &Attributes| all.into_iter().find(|d| attributes.has(d.name()));
        of(&section.attributes).or_else(|| of(session)).unwrap_or(Self::SendRecv)
    }
    pub(super) fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }
    pub(super) fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// The stream and the track that the client says an m-line belongs to (RFC 8830).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Msid {
    pub stream: String,
    pub track: Option<String>,
}

impl Msid {
    /// From `a=msid`, else from the older `a=ssrc:… msid:…`.
    pub(super) fn read(section: &Section) -> Option<Self> {
        let older = || {
            let values = section.attributes.values("ssrc").filter_map(|v| v.split_once(' '));
            values.filter_map(|(_, attribute)| attribute.strip_prefix("msid:")).next()
        };
        let value = section.attributes.value("msid").or_else(older)?;
        let short = |s: &&str| s.len() <= 128;
        let mut ids = value.split_ascii_whitespace().filter(short).map(String::from);
        Some(Self { stream: ids.next()?, track: ids.next() })
    }
}

/// An `a=extmap` of the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AcceptedExtension {
    pub extension: Extension,
    pub id: u8,
    /// The answer's direction of the extension, where the offer names one.
    pub direction: Option<Direction>,
}

/// Ids that the m-lines of a bundle share: one meaning for each (RFC 8843 section 9.1.1 asks that of the offerer).
#[derive(Default)]
pub(super) struct ExtensionIds(ExtensionMap);

impl ExtensionIds {
    fn admit(&mut self, extension: Extension, id: u8) -> bool {
        match (self.0.extension(id), self.0.id(extension)) {
            (None, None) => self.0.insert(extension, id),
            (other, known) => other == Some(extension) && known == Some(id),
        }
    }
}

/// The header extensions answered on an m-line, with the offer's ids (RFC 8285 section 6).
pub(super) fn accept_extensions(
    section: &Section,
    session: &Attributes,
    connection: ConnectionKind,
    ids: &mut ExtensionIds,
    limit: usize,
) -> Vec<AcceptedExtension> {
    let mut accepted: Vec<AcceptedExtension> = Vec::new();
    for value in section.attributes.values("extmap").chain(session.values("extmap")) {
        let Some(offered) = parse_extmap(value, connection) else { continue };
        let twice = accepted.iter().any(|a| a.extension == offered.extension);
        let wanted = connection == ConnectionKind::Publish || is_for_subscribers(offered.extension);
        if wanted && !twice && accepted.len() < limit && ids.admit(offered.extension, offered.id) {
            accepted.push(offered);
        }
    }
    accepted
}

fn is_for_subscribers(extension: Extension) -> bool {
    use Extension::*;
    match extension {
        Mid | AudioLevel | AbsCaptureTime | DependencyDescriptor | VideoOrientation | PlayoutDelay | ColorSpace
        | VideoContentType | VideoTiming | AbsSendTime | TransportCc => true,
        Rid | RepairedRid | VideoLayersAllocation | TransmissionOffset => false,
    }
}

/// `<id>[/<direction>] <URI> [<attributes>]`. None if it is unknown, or not for the way that media flows.
fn parse_extmap(value: &str, connection: ConnectionKind) -> Option<AcceptedExtension> {
    let mut tokens = value.split_ascii_whitespace();
    let (id, uri) = (tokens.next()?, tokens.next()?);
    let (id, direction) = id.split_once('/').map_or((id, None), |(id, direction)| (id, Some(direction)));
    let flows = match connection {
        ConnectionKind::Publish => ("sendonly", Direction::RecvOnly),
        ConnectionKind::Subscribe => ("recvonly", Direction::SendOnly),
    };
    let direction = match direction {
        None => None,
        Some(d) if d == flows.0 || d == "sendrecv" => Some(flows.1),
        Some(_) => return None,
    };
    Some(AcceptedExtension { extension: Extension::from_uri(uri)?, id: id.parse().ok()?, direction })
}

/// An encoding of the answer: `a=rid:<rid> recv[ <restrictions>]`.
#[derive(Clone, Debug)]
pub(super) struct AcceptedRid {
    pub rid: Rid,
    pub restrictions: String,
}

/// The encodings that the client may send (RFC 8853), in its order. None without a header extension that names them.
pub(super) fn accept_rids(
    section: &Section,
    codecs: &[AcceptedCodec],
    extensions: &[AcceptedExtension],
    limit: usize,
) -> Vec<AcceptedRid> {
    if !extensions.iter().any(|e| e.extension == Extension::Rid) {
        return Vec::new();
    }
    let offered: Vec<(&str, &str)> = section.attributes.values("rid").filter_map(offered_rid).collect();
    let order: Vec<&str> = match section.attributes.value("simulcast").and_then(offered_simulcast) {
        Some(list) => list.split(';').filter_map(|alternatives| alternatives.split(',').next()).collect(),
        // One encoding may have a name without being one of several (RFC 8851).
        None if offered.len() == 1 => offered.iter().map(|(id, _)| *id).collect(),
        None => Vec::new(),
    };
    let mut accepted: Vec<AcceptedRid> = Vec::new();
    for id in order {
        let id = id.trim().trim_start_matches('~');
        let Some((_, restrictions)) = offered.iter().find(|(offered, _)| *offered == id) else { continue };
        let (Some(rid), Some(restrictions)) = (parse_rid(id), answered_restrictions(restrictions, codecs)) else {
            continue;
        };
        if accepted.len() < limit && accepted.iter().all(|a| a.rid != rid) {
            accepted.push(AcceptedRid { rid, restrictions });
        }
    }
    accepted
}

/// `<id> send[ <restrictions>]`
fn offered_rid(value: &str) -> Option<(&str, &str)> {
    let (id, rest) = value.split_once(' ')?;
    let (direction, restrictions) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
    (direction == "send").then_some((id, restrictions.trim()))
}

/// The send list of `send q;h;f recv x`. Older clients wrote ` send rid=q;h;f`.
fn offered_simulcast(value: &str) -> Option<&str> {
    let mut tokens = value.split_ascii_whitespace();
    tokens.find(|token| *token == "send")?;
    let list = tokens.next()?;
    Some(list.strip_prefix("rid=").unwrap_or(list))
}

/// `1*(alpha-numeric / "-" / "_")` (RFC 8851 section 10).
fn parse_rid(id: &str) -> Option<Rid> {
    let valid = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if valid { Rid::try_from(id).ok() } else { None }
}

/// An answer repeats the restrictions, with the payload types that it takes (RFC 8851 section 6.3). None if none is left.
fn answered_restrictions(offered: &str, codecs: &[AcceptedCodec]) -> Option<String> {
    let taken = |pt: &&str| {
        let pt = pt.parse().ok().and_then(|n: u8| PayloadType::try_from(n).ok());
        codecs.iter().any(|c| pt == Some(c.parameters.payload_type) || pt.is_some() && pt == c.parameters.rtx)
    };
    let mut answered = Vec::new();
    for restriction in offered.split(';').map(str::trim).filter(|r| !r.is_empty()) {
        if let Some(list) = restriction.strip_prefix("pt=") {
            let list: Vec<&str> = list.split(',').filter(taken).collect();
            if list.is_empty() {
                return None;
            }
            answered.push(format!("pt={}", list.join(",")));
        } else if restriction.len() <= 64 && restriction.bytes().all(|b| b.is_ascii_graphic()) {
            answered.push(restriction.to_owned());
        }
    }
    Some(answered.join(";"))
}

/// The streams that `a=ssrc` declares, each with the one that retransmits it. `known` holds those of all m-lines: an SSRC has
/// one meaning in a bundle, and the first m-line that names it has it.
pub(super) fn declared_ssrcs(section: &Section, known: &mut HashSet<Ssrc>, limits: &SdpLimits) -> Vec<DeclaredSsrc> {
    let parse = |text: &str| text.parse().ok().filter(|&n| n != 0).map(Ssrc);
    let mut ssrcs: Vec<Ssrc> = Vec::new();
    for value in section.attributes.values("ssrc") {
        let Some(ssrc) = value.split_ascii_whitespace().next().and_then(parse) else { continue };
        if !ssrcs.contains(&ssrc) && ssrcs.len() < limits.ssrcs && !known.contains(&ssrc) {
            ssrcs.push(ssrc);
        }
    }
    let mut streams: Vec<DeclaredSsrc> = ssrcs.iter().map(|&ssrc| DeclaredSsrc { ssrc, rtx: None }).collect();
    for value in section.attributes.values("ssrc-group").take(2 * limits.ssrcs) {
        let mut tokens = value.split_ascii_whitespace();
        let (semantics, first, second) = (tokens.next(), tokens.next().and_then(parse), tokens.next().and_then(parse));
        let (Some(first), Some(second)) = (first, second) else { continue };
        let repairs = matches!(semantics, Some("FID" | "FEC-FR" | "FEC"));
        if !repairs || first == second || known.contains(&second) || !streams.iter().any(|s| s.ssrc == first) {
            continue;
        }
        // The second repairs the first: it is no stream of its own.
        streams.retain(|s| s.ssrc != second);
        if let Some(stream) = streams.iter_mut().find(|s| s.ssrc == first && semantics == Some("FID")) {
            stream.rtx = Some(second);
        }
        ssrcs.push(second);
    }
    known.extend(ssrcs);
    streams
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::negotiate::codecs;
    use crate::peer::sdp::parse;
    use crate::rtp::Kind;

    const RID: &str = "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\na=rtpmap:96 VP8/90000\n";

    fn rids(lines: &str) -> Vec<String> {
        let text = format!("v=0\nm=video 9 UDP/TLS/RTP/SAVPF 96\n{lines}");
        let session = parse(&text, &SdpLimits::default(), 1).unwrap();
        let section = &session.sections[0];
        let codecs = codecs::accept(section, Kind::Video, ConnectionKind::Publish, false, 8);
        let mut ids = ExtensionIds::default();
        let extensions = accept_extensions(section, &session.attributes, ConnectionKind::Publish, &mut ids, 8);
        let rids = accept_rids(section, &codecs, &extensions, 4);
        rids.iter().map(|r| format!("{} {}", r.rid, r.restrictions).trim().to_owned()).collect()
    }

    #[test]
    fn encodings_come_in_the_order_of_simulcast() {
        let three = "a=rid:q send\na=rid:h send\na=rid:f send\n";
        assert_eq!(rids(&format!("{RID}{three}a=simulcast:send f;~h;q")), ["f", "h", "q"]);
        assert_eq!(rids(&format!("{RID}{three}a=simulcast: send rid=q;h")), ["q", "h"]);
        assert_eq!(rids(&format!("{RID}{three}a=simulcast:recv x send q,h;f;q;nobody")), ["q", "f"]);
        assert_eq!(rids(&format!("{RID}{three}a=simulcast:recv q;h;f")), [""; 0]);
        assert_eq!(rids(&format!("{three}a=simulcast:send q;h;f")), [""; 0], "no header extension names them");
        assert_eq!(rids(&format!("{RID}a=rid:1 send max-width=640;pt=96,97")), ["1 max-width=640;pt=96"]);
        assert_eq!(rids(&format!("{RID}a=rid:1 send pt=97")), [""; 0]);
        assert_eq!(rids(&format!("{RID}{three}")), [""; 0]);
        assert_eq!(rids(&format!("{RID}a=rid:a=b send\na=rid:a.b send\na=simulcast:send a=b;a.b")), [""; 0]);
        let many: String = (0..9).map(|i| format!("a=rid:{i} send\n")).collect();
        assert_eq!(rids(&format!("{RID}{many}a=simulcast:send 0;1;2;3;4;5")), ["0", "1", "2", "3"]);
    }

    #[test]
    fn streams_are_declared_once_and_repair_streams_are_not_streams() {
        let text = "v=0\nm=video 9 x 96\na=ssrc:1 cname:x\na=ssrc:2 cname:x\na=ssrc:3 cname:x\na=ssrc:1 msid:s t\na=ssrc:0 cname:x\n\
            a=ssrc:-4 x\na=ssrc-group:FID 1 2\na=ssrc-group:FEC-FR 1 3\na=ssrc-group:FID 7 8\na=ssrc-group:FID 1\n\
            m=video 9 x 96\na=ssrc:2 cname:y\na=ssrc:5 cname:y\na=ssrc-group:FID 5 1";
        let session = parse(text, &SdpLimits::default(), 2).unwrap();
        let mut known = HashSet::new();
        let mut of = |i: usize| declared_ssrcs(&session.sections[i], &mut known, &SdpLimits::default());
        assert_eq!(of(0), [DeclaredSsrc { ssrc: Ssrc(1), rtx: Some(Ssrc(2)) }]);
        assert_eq!(of(1), [DeclaredSsrc { ssrc: Ssrc(5), rtx: None }]);
        assert_eq!(Msid::read(&session.sections[0]), Some(Msid { stream: "s".into(), track: Some("t".into()) }));
    }

    #[test]
    fn extensions_keep_their_ids_and_each_id_one_meaning() {
        let text = "v=0\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\nm=audio 9 x 1\n\
            a=extmap:1/sendonly urn:ietf:params:rtp-hdrext:ssrc-audio-level vad=on\na=extmap:15 urn:3gpp:video-orientation\n\
            a=extmap:2/recvonly urn:ietf:params:rtp-hdrext:toffset\na=extmap:200 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\n\
            a=extmap:5 urn:unknown\nm=audio 9 x 1\na=extmap:1 urn:3gpp:video-orientation\na=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid";
        let session = parse(text, &SdpLimits::default(), 2).unwrap();
        let mut ids = ExtensionIds::default();
        let mut of = |i: usize| {
            let section = &session.sections[i];
            let taken = accept_extensions(section, &session.attributes, ConnectionKind::Publish, &mut ids, 8);
            taken.iter().map(|e| (e.extension, e.id, e.direction)).collect::<Vec<_>>()
        };
        let first = [
            (Extension::AudioLevel, 1, Some(Direction::RecvOnly)),
            (Extension::Rid, 200, None),
            (Extension::Mid, 4, None),
        ];
        assert_eq!(of(0), first);
        assert_eq!(of(1), [(Extension::Mid, 4, None)]);
    }
}
