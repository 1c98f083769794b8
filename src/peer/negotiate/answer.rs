//! Writing: the answer, and the fragment that answers an ICE restart.
use std::fmt;
use std::net::SocketAddr;

use crate::ids::Mid;
use crate::peer::config::{CodecParameters, DtlsRole, Feedback, IceCredentials};
use crate::peer::sdp::{Attributes, Section, Session};
use crate::rtp::Kind;

use super::{AcceptedSection, AnswerContext, Association, transport};

/// Lines, each ended by CRLF.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing into a String does not fail.
        let _ = fmt::write(&mut self.0, line);
        self.0.push_str("\r\n");
    }
}

/// Everything that an answer is written from. `sections` are parallel to the offer's: None is answered with port 0.
pub(super) struct Answer<'a> {
    pub context: &'a AnswerContext<'a>,
    pub association: &'a Association,
    pub cname: &'a str,
    pub offer: &'a Session<'a>,
    pub sections: &'a [Option<AcceptedSection<'a>>],
}

impl Answer<'_> {
    pub fn write(&self) -> String {
        let mut text = Text::default();
        self.session(&mut text);
        let mut is_first = true;
        for (offered, accepted) in self.offer.sections.iter().zip(self.sections) {
            match accepted {
                None => rejected(&mut text, offered),
                Some(accepted) => {
                    self.accepted(&mut text, accepted, is_first);
                    is_first = false;
                }
            }
        }
        text.0
    }

    fn session(&self, text: &mut Text) {
        let Association { session_id, version, .. } = self.association;
        text.line(format_args!("v=0"));
        text.line(format_args!("o=- {session_id} {version} IN IP4 0.0.0.0"));
        text.line(format_args!("s=-"));
        text.line(format_args!("t=0 0"));
        if let Some(offered) = transport::bundle(self.offer) {
            let mids = self.sections.iter().flatten().map(|a| a.mid.as_str()).filter(|mid| offered.contains(mid));
            bundle_line(text, mids);
        }
        if self.offer.attributes.has("extmap-allow-mixed") {
            text.line(format_args!("a=extmap-allow-mixed"));
        }
        text.line(format_args!("a=msid-semantic: WMS *"));
        text.line(format_args!("a=ice-lite"));
    }

    fn accepted(&self, text: &mut Text, accepted: &AcceptedSection, is_first: bool) {
        let offered = accepted.section;
        let formats = Formats(accepted);
        text.line(format_args!("m={} 9 {}{formats}", offered.media, offered.protocol));
        text.line(format_args!("c=IN IP4 0.0.0.0"));
        if offered.attributes.has("mid") {
            text.line(format_args!("a=mid:{}", accepted.mid));
        }
        text.line(format_args!("a={}", accepted.answered.name()));
        text.line(format_args!("a=rtcp-mux"));
        if offered.attributes.has("rtcp-rsize") {
            text.line(format_args!("a=rtcp-rsize"));
        }
        if offered.attributes.has("extmap-allow-mixed") && !self.offer.attributes.has("extmap-allow-mixed") {
            text.line(format_args!("a=extmap-allow-mixed"));
        }
        self.transport(text, accepted, is_first);
        for e in &accepted.extensions {
            match e.direction {
                None => text.line(format_args!("a=extmap:{} {}", e.id, e.extension.uri())),
                Some(d) => text.line(format_args!("a=extmap:{}/{} {}", e.id, d.name(), e.extension.uri())),
            }
        }
        for codec in &accepted.codecs {
            codec_lines(text, &codec.parameters, codec.rtpmap, codec.fmtp.as_deref());
        }
        rid_lines(text, accepted);
        self.stream_lines(text, accepted);
    }

    /// Of a bundle, only the first m-line needs it all; clients that look at their own m-line alone are served too.
    fn transport(&self, text: &mut Text, accepted: &AcceptedSection, is_first: bool) {
        ice_lines(text, &self.association.local);
        let offers_trickle = |options: &str| options.split([' ', ',']).any(|o| o == "trickle");
        let options = |a: &Attributes| a.values("ice-options").any(offers_trickle);
        if options(&accepted.section.attributes) || options(&self.offer.attributes) {
            text.line(format_args!("a=ice-options:trickle"));
        }
        text.line(format_args!("a=fingerprint:{}", self.context.fingerprint));
        let setup = match self.association.role {
            DtlsRole::Client => "active",
            DtlsRole::Server => "passive",
        };
        text.line(format_args!("a=setup:{setup}"));
        if is_first {
            candidate_lines(text, self.context.candidates);
        }
    }

    fn stream_lines(&self, text: &mut Text, accepted: &AcceptedSection) {
        let Some(slot) = accepted.slot.as_ref().filter(|_| accepted.answered.sends()) else { return };
        let kind = kind_name(accepted.kind);
        text.line(format_args!("a=msid:slot-{0} {kind}-{0}", slot.number));
        let repair = accepted.rtx_ssrc();
        if let Some(rtx) = repair {
            text.line(format_args!("a=ssrc-group:FID {} {}", slot.ssrc.0, rtx.0));
        }
        for ssrc in [Some(slot.ssrc), repair].into_iter().flatten() {
            text.line(format_args!("a=ssrc:{} cname:{}", ssrc.0, self.cname));
        }
    }
}

/// The fragment that answers an ICE restart by PATCH (RFC 9725 section 4.3.3, RFC 8840 section 9).
pub(super) fn restart_fragment(context: &AnswerContext, local: &IceCredentials, mids: &[(&Mid, Kind)]) -> String {
    let mut text = Text::default();
    text.line(format_args!("a=ice-lite"));
    text.line(format_args!("a=ice-options:trickle"));
    bundle_line(&mut text, mids.iter().map(|(mid, _)| mid.as_str()));
    let Some((mid, kind)) = mids.first() else { return text.0 };
    text.line(format_args!("m={} 9 UDP/TLS/RTP/SAVPF 0", kind_name(*kind)));
    text.line(format_args!("a=mid:{mid}"));
    ice_lines(&mut text, local);
    candidate_lines(&mut text, context.candidates);
    text.0
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}

/// An m-line that is not taken, or was stopped (RFC 3264 section 6): it keeps a place and a format.
fn rejected(text: &mut Text, offered: &Section) {
    let format = offered.formats.first().unwrap_or(&"0");
    text.line(format_args!("m={} 0 {} {format}", offered.media, offered.protocol));
    text.line(format_args!("c=IN IP4 0.0.0.0"));
    if let Some(mid) = offered.attributes.value("mid") {
        text.line(format_args!("a=mid:{mid}"));
    }
    text.line(format_args!("a=inactive"));
}

fn bundle_line<'a>(text: &mut Text, mids: impl Iterator<Item = &'a str>) {
    let mids: Vec<&str> = mids.collect();
    if !mids.is_empty() {
        text.line(format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
}

fn ice_lines(text: &mut Text, local: &IceCredentials) {
    text.line(format_args!("a=ice-ufrag:{}", local.ufrag));
    text.line(format_args!("a=ice-pwd:{}", local.pwd));
}

/// Host candidates, the first preferred (RFC 8445 section 5.1.2).
fn candidate_lines(text: &mut Text, candidates: &[SocketAddr]) {
    for (i, address) in (0u16..).zip(candidates) {
        let priority = (126u32 << 24) | (u32::from(u16::MAX - i) << 8) | 255;
        let (ip, port) = (address.ip(), address.port());
        text.line(format_args!("a=candidate:{} 1 udp {priority} {ip} {port} typ host", u32::from(i) + 1));
    }
    text.line(format_args!("a=end-of-candidates"));
}

/// The payload types of an m-line, each with a space before.
struct Formats<'a>(&'a AcceptedSection<'a>);

impl fmt::Display for Formats<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for codec in &self.0.codecs {
            write!(f, " {}", codec.parameters.payload_type.value())?;
            if let Some(rtx) = codec.parameters.rtx {
                write!(f, " {}", rtx.value())?;
            }
        }
        Ok(())
    }
}

fn codec_lines(text: &mut Text, parameters: &CodecParameters, rtpmap: &str, fmtp: Option<&str>) {
    let pt = parameters.payload_type.value();
    text.line(format_args!("a=rtpmap:{pt} {rtpmap}"));
    let Feedback { nack, pli, fir, transport_cc, remb } = parameters.feedback;
    let feedback =
        [(remb, "goog-remb"), (transport_cc, "transport-cc"), (fir, "ccm fir"), (nack, "nack"), (pli, "nack pli")];
    for (_, name) in feedback.iter().filter(|(answered, _)| *answered) {
        text.line(format_args!("a=rtcp-fb:{pt} {name}"));
    }
    if let Some(fmtp) = fmtp {
        text.line(format_args!("a=fmtp:{pt} {fmtp}"));
    }
    if let Some(rtx) = parameters.rtx.map(|rtx| rtx.value()) {
        text.line(format_args!("a=rtpmap:{rtx} rtx/90000"));
        text.line(format_args!("a=fmtp:{rtx} apt={pt}"));
    }
}

fn rid_lines(text: &mut Text, accepted: &AcceptedSection) {
    for r in &accepted.rids {
        let gap = if r.restrictions.is_empty() { "" } else { " " };
        text.line(format_args!("a=rid:{} recv{gap}{}", r.rid, r.restrictions));
    }
    if !accepted.rids.is_empty() && accepted.section.attributes.has("simulcast") {
        let rids: Vec<&str> = accepted.rids.iter().map(|r| r.rid.as_str()).collect();
        text.line(format_args!("a=simulcast:recv {}", rids.join(";")));
    }
}
