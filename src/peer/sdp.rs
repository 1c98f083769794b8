//! SDP (RFC 8866) cut into sections and attributes: bounded, borrowed from the text, and nothing interpreted.
//!
//! Not `rtc::sdp`: its parser wants the lines in the order of the grammar and refuses a whole description for one line that
//! it does not know, while a server has to take what clients really send. Its peer connection checks our answers in the tests.

/// What is believed of a description before it is looked at closer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdpLimits {
    /// Length of an offer or a fragment. A browser's offer takes about 8 KiB for each pair of an audio and a video slot.
    pub bytes: usize,
    /// m-lines of an offer to publish, the stopped ones included.
    pub publish_sections: usize,
    /// m-lines of an offer to subscribe, the stopped ones included.
    pub subscribe_sections: usize,
    /// Audio m-lines that become slots; those above are answered with port 0.
    pub audio_slots: usize,
    /// Video m-lines that become slots; those above are answered with port 0.
    pub video_slots: usize,
    /// Codecs answered on one m-line; those above are left out.
    pub codecs: usize,
    /// Header extensions answered on one m-line; those above are left out.
    pub extensions: usize,
    /// Encodings answered on one m-line; those above are left out.
    pub rids: usize,
    /// SSRCs believed on one m-line; those above are found by their packets.
    pub ssrcs: usize,
}

/// The longest line, in bytes. The longest that clients write are m-lines of some 200 bytes and the BUNDLE group.
const MAX_LINE: usize = 8 * 1024;
/// Attributes of one m-line, or of the session: browsers write up to 150. Candidates do not count, for they are not kept.
const MAX_ATTRIBUTES: usize = 512;

impl Default for SdpLimits {
    fn default() -> Self {
        Self {
            bytes: 512 * 1024,
            publish_sections: 32,
            subscribe_sections: 128,
            audio_slots: 50,
            video_slots: 50,
            codecs: 24,
            extensions: 24,
            rids: 4,
            ssrcs: 8,
        }
    }
}

/// Why a text is not a description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("the description has {bytes} bytes, more than the {limit} allowed")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the description has more than {limit} m-lines")]
    TooManySections { limit: usize },
    #[error("this is not SDP: it does not start with v=0")]
    NotSdp,
    #[error("line {line} has more than {MAX_LINE} bytes")]
    LineTooLong { line: usize },
    #[error("line {line}: there are more than {MAX_ATTRIBUTES} attributes above the first m-line, or on this one")]
    TooManyAttributes { line: usize },
    #[error("line {line} is not an m-line: {text:?}")]
    MediaLine { line: usize, text: String },
}

/// A description: the attributes above the first m-line, and the m-lines.
#[derive(Debug, Default)]
pub(super) struct Session<'a> {
    /// `o=`, without its version: who made it, and in which session.
    pub origin: Option<&'a str>,
    pub attributes: Attributes<'a>,
    pub sections: Vec<Section<'a>>,
}

/// An m-line and what belongs to it.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// `audio`, `video`, `application`, …: printable ASCII, like `protocol` and `formats`.
    pub media: &'a str,
    pub port: u16,
    pub protocol: &'a str,
    pub formats: Vec<&'a str>,
    pub attributes: Attributes<'a>,
}

/// `a=name:value` lines in their order. A property (`a=name`) has an empty value.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a>(Vec<(&'a str, &'a str)>);

/// There are [`MAX_ATTRIBUTES`].
struct Full;

impl<'a> Attributes<'a> {
    /// Of a lite agent's peer, candidates are of no use: they are not kept.
    fn push(&mut self, attribute: &'a str) -> Result<(), Full> {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let name = name.trim();
        if name == "candidate" {
            return Ok(());
        }
        if self.0.len() == MAX_ATTRIBUTES {
            return Err(Full);
        }
        self.0.push((name, value.trim()));
        Ok(())
    }
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.0.iter().copied()
    }
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.iter().filter(move |&(n, _)| n == name).map(|(_, value)| value)
    }
    /// The first value of this name.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }
}

/// An offer. Lines may end in CRLF or LF; lines that are not `o=`, `m=` or `a=` are passed over.
pub(super) fn parse<'a>(text: &'a str, limits: &SdpLimits, max_sections: usize) -> Result<Session<'a>, SdpError> {
    if !text.trim_start().starts_with("v=0") {
        return check_size(text, limits).and(Err(SdpError::NotSdp));
    }
    parse_fragment(text, limits, max_sections)
}

/// An `application/trickle-ice-sdpfrag` (RFC 8840 section 9): a description of which nearly everything may be missing.
pub(super) fn parse_fragment<'a>(
    text: &'a str,
    limits: &SdpLimits,
    max_sections: usize,
) -> Result<Session<'a>, SdpError> {
    check_size(text, limits)?;
    let mut session = Session::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.len() > MAX_LINE {
            return Err(SdpError::LineTooLong { line: number });
        }
        match line.split_once('=') {
            Some(("o", value)) => session.origin = session.origin.or(Some(origin(value))),
            Some(("m", _)) if session.sections.len() == max_sections => {
                return Err(SdpError::TooManySections { limit: max_sections });
            }
            Some(("m", value)) => session.sections.push(section(value).ok_or_else(|| {
                let text = line.chars().take(80).collect();
                SdpError::MediaLine { line: number, text }
            })?),
            Some(("a", value)) => {
                let attributes = session.sections.last_mut().map_or(&mut session.attributes, |s| &mut s.attributes);
                attributes.push(value).map_err(|Full| SdpError::TooManyAttributes { line: number })?;
            }
            _ => {}
        }
    }
    Ok(session)
}

fn check_size(text: &str, limits: &SdpLimits) -> Result<(), SdpError> {
    if text.len() > limits.bytes {
        return Err(SdpError::TooLarge { bytes: text.len(), limit: limits.bytes });
    }
    Ok(())
}

/// `<username> <sess-id>` of `<username> <sess-id> <sess-version> <nettype> <addrtype> <address>`.
fn origin(value: &str) -> &str {
    let end = value.match_indices(' ').nth(1).map_or(value.len(), |(at, _)| at);
    &value[..end]
}

/// `<media> <port>[/<count>] <proto> <fmt> …` (RFC 8866 section 5.14).
fn section(value: &str) -> Option<Section<'_>> {
    if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return None;
    }
    let mut tokens = value.split_ascii_whitespace();
    let media = tokens.next()?;
    let port = tokens.next()?;
    let port = port.split_once('/').map_or(port, |(port, _)| port).parse().ok()?;
    let protocol = tokens.next()?;
    // A payload type has 7 bits, so that nobody means more formats than these.
    let formats: Vec<_> = tokens.take(128).collect();
    (!formats.is_empty()).then_some(Section { media, port, protocol, formats, attributes: Attributes::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Session<'_>, SdpError> {
        parse(text, &SdpLimits { bytes: 300, ..SdpLimits::default() }, 2)
    }

    #[test]
    fn lines_fall_to_the_session_or_to_their_m_line() {
        let text = "v=0\no=- 7 2 IN IP4 0.0.0.0\nx=?\na=ice-lite\r\nm=audio 9/2 UDP/TLS/RTP/SAVPF 111 63\r\n\r\na=mid: 0 \na=mid:1";
        let session = read(text).unwrap();
        assert_eq!(session.origin, Some("- 7"));
        assert!(session.attributes.has("ice-lite"));
        let [audio] = session.sections.as_slice() else { panic!() };
        assert_eq!((audio.media, audio.port, audio.protocol), ("audio", 9, "UDP/TLS/RTP/SAVPF"));
        assert_eq!(audio.formats, ["111", "63"]);
        assert_eq!(audio.attributes.values("mid").collect::<Vec<_>>(), ["0", "1"]);
    }

    #[test]
    fn lines_and_attributes_are_bounded() {
        let read = |text: &str| parse(text, &SdpLimits::default(), 2).map(|_| ());
        let many = "a=x\n".repeat(MAX_ATTRIBUTES) + &"a=candidate:1 1 udp 1 ::1 9 typ host\n".repeat(600);
        assert_eq!(read(&format!("v=0\n{many}m=audio 9 x 1\n{many}")), Ok(()));
        assert_eq!(read(&format!("v=0\n{many}a=x")), Err(SdpError::TooManyAttributes { line: 1114 }));
        assert_eq!(read(&format!("v=0\n{}", "x".repeat(MAX_LINE))), Ok(()));
        assert_eq!(read(&format!("v=0\nx{}", "x".repeat(MAX_LINE))), Err(SdpError::LineTooLong { line: 2 }));
    }

    #[test]
    fn what_is_no_description_is_told_apart() {
        assert_eq!(read("hello").unwrap_err(), SdpError::NotSdp);
        assert_eq!(read(&"v=0\n".repeat(99)).unwrap_err(), SdpError::TooLarge { bytes: 396, limit: 300 });
        assert_eq!(
            read(&format!("v=0\n{}", "m=a 9 b c\n".repeat(3))).unwrap_err(),
            SdpError::TooManySections { limit: 2 }
        );
        for bad in ["", "audio", "audio 9", "audio 9 RTP", "audio 70000 RTP 1", "audio x RTP 1", "audio 9 RTP \u{e9}"] {
            let text = format!("v=0\nm={bad}");
            assert!(matches!(read(&text).unwrap_err(), SdpError::MediaLine { line: 2, .. }), "{bad:?}");
        }
    }
}
