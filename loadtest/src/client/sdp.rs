//! Offers as text, and what a client needs of an answer.
use super::feedback::Feedback;
use super::payload::VideoCodec;
use exedra::peer::config::{Fingerprint, IceCredentials};
use exedra::rtp::{Extension, Kind, Ssrc};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Payload types of every offer.
pub const OPUS: u8 = 111;
pub const VP8: u8 = 96;

/// The payload type of a video codec; that of its RTX is the next one.
pub fn payload_type(codec: VideoCodec) -> u8 {
    match codec {
        VideoCodec::Vp8 => VP8,
        VideoCodec::Vp9 => 98,
        VideoCodec::H264 => 102,
        VideoCodec::Av1 => 104,
    }
}

/// What a payload type of an m-line stands for: the video codec, if it is one, and whether it is RTX.
pub fn codec_of(kind: Kind, payload_type_of: u8) -> Option<(Option<VideoCodec>, bool)> {
    if kind == Kind::Audio {
        return (payload_type_of == OPUS).then_some((None, false));
    }
    VideoCodec::ALL.into_iter().find_map(|codec| match payload_type_of.checked_sub(payload_type(codec))? {
        0 => Some((Some(codec), false)),
        1 => Some((Some(codec), true)),
        _ => None,
    })
}

/// The ids that every offer gives to header extensions.
pub const EXTENSIONS: [(u8, Extension); 7] = [
    (1, Extension::AudioLevel),
    (2, Extension::AbsSendTime),
    (3, Extension::TransportCc),
    (4, Extension::Mid),
    (10, Extension::Rid),
    (11, Extension::RepairedRid),
    (12, Extension::DependencyDescriptor),
];

/// The id of an extension in every offer.
pub fn extension_id(extension: Extension) -> u8 {
    EXTENSIONS.iter().find(|(_, e)| *e == extension).map_or(0, |(id, _)| *id)
}

/// Above the m-lines.
pub struct Head<'a> {
    pub session: u64,
    pub version: u64,
    pub ice: &'a IceCredentials,
    pub fingerprint: &'a Fingerprint,
}

/// One m-line of an offer.
#[derive(Clone, Debug)]
pub struct Media {
    pub mid: String,
    pub kind: Kind,
    pub direction: Direction,
    /// Ask for lost audio again. (Lost video always is.)
    pub audio_nack: bool,
    /// Video: lost packets come again as RTX, else under their own number.
    pub rtx: bool,
    /// How congestion is told of.
    pub feedback: Feedback,
    /// Video: what is offered, the best first.
    pub codecs: Vec<VideoCodec>,
    /// Encodings by name; then `ssrcs` are not told.
    pub rids: Vec<String>,
    /// Streams with their RTX streams.
    pub ssrcs: Vec<(Ssrc, Option<Ssrc>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Send,
    Receive,
    Inactive,
}

/// The text of an offer.
pub fn offer(head: &Head<'_>, media: &[Media]) -> String {
    let mids: Vec<&str> = media.iter().map(|m| m.mid.as_str()).collect();
    let mut text = format!(
        "v=0\r\no=- {} {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
        head.session,
        head.version,
        mids.join(" ")
    );
    media.iter().for_each(|m| write_media(&mut text, head, m));
    text
}

fn write_media(text: &mut String, head: &Head<'_>, media: &Media) {
    text.push_str(if media.kind == Kind::Audio {
        "m=audio 9 UDP/TLS/RTP/SAVPF"
    } else {
        "m=video 9 UDP/TLS/RTP/SAVPF"
    });
    let formats = match media.kind {
        Kind::Audio => &[][..],
        Kind::Video => &media.codecs,
    };
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(args);
        text.push_str("\r\n");
    };
    match (media.kind, media.rtx) {
        (Kind::Audio, _) => line(format_args!(" {OPUS}")),
        (Kind::Video, rtx) => line(format_args!("{}", Formats(formats, rtx))),
    }
    line(format_args!("c=IN IP4 0.0.0.0"));
    line(format_args!("a=ice-ufrag:{}", head.ice.ufrag));
    line(format_args!("a=ice-pwd:{}", head.ice.pwd));
    line(format_args!("a=ice-options:trickle"));
    line(format_args!("a=fingerprint:{}", head.fingerprint));
    line(format_args!("a=setup:actpass"));
    line(format_args!("a=mid:{}", media.mid));
    for (id, extension) in EXTENSIONS {
        let fits = match extension {
            Extension::AudioLevel => media.kind == Kind::Audio,
            Extension::Rid | Extension::RepairedRid | Extension::DependencyDescriptor => media.kind == Kind::Video,
            Extension::TransportCc => media.feedback == Feedback::TransportCc,
            _ => true,
        };
        if fits {
            line(format_args!("a=extmap:{id} {}", extension.uri()));
        }
    }
    line(format_args!(
        "a={}",
        match media.direction {
            Direction::Send => "sendonly",
            Direction::Receive => "recvonly",
            Direction::Inactive => "inactive",
        }
    ));
    line(format_args!("a=rtcp-mux"));
    line(format_args!("a=rtcp-rsize"));
    match media.kind {
        Kind::Audio => {
            line(format_args!("a=rtpmap:{OPUS} opus/48000/2"));
            if media.feedback == Feedback::TransportCc {
                line(format_args!("a=rtcp-fb:{OPUS} transport-cc"));
            }
            if media.audio_nack {
                line(format_args!("a=rtcp-fb:{OPUS} nack"));
            }
            line(format_args!("a=fmtp:{OPUS} minptime=10;useinbandfec=1"));
        }
        Kind::Video => formats.iter().for_each(|codec| write_codec(text, *codec, media)),
    }
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(args);
        text.push_str("\r\n");
    };
    if !media.rids.is_empty() {
        media.rids.iter().for_each(|rid| line(format_args!("a=rid:{rid} send")));
        line(format_args!("a=simulcast:send {}", media.rids.join(";")));
        return;
    }
    for (ssrc, rtx) in &media.ssrcs {
        if let Some(rtx) = rtx {
            line(format_args!("a=ssrc-group:FID {} {}", ssrc.0, rtx.0));
        }
        for ssrc in [Some(ssrc), rtx.as_ref()].into_iter().flatten() {
            line(format_args!("a=ssrc:{} cname:loadtest", ssrc.0));
        }
    }
}

/// The formats of a video m-line.
struct Formats<'a>(&'a [VideoCodec], bool);

impl std::fmt::Display for Formats<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|codec| {
            let n = payload_type(*codec);
            if self.1 { write!(f, " {n} {}", n + 1) } else { write!(f, " {n}") }
        })
    }
}

fn write_codec(text: &mut String, codec: VideoCodec, media: &Media) {
    let (n, rtx) = (payload_type(codec), media.rtx);
    let (name, parameters) = match codec {
        VideoCodec::Vp8 => ("VP8", ""),
        VideoCodec::Vp9 => ("VP9", "profile-id=0"),
        VideoCodec::H264 => ("H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
        VideoCodec::Av1 => ("AV1", "level-idx=5;profile=0;tier=0"),
    };
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(args);
        text.push_str("\r\n");
    };
    line(format_args!("a=rtpmap:{n} {name}/90000"));
    let congestion: &[&str] = match media.feedback {
        Feedback::TransportCc => &["goog-remb", "transport-cc"],
        Feedback::Remb => &["goog-remb"],
        Feedback::Nothing => &[],
    };
    for feedback in congestion.iter().chain(&["ccm fir", "nack", "nack pli"]) {
        line(format_args!("a=rtcp-fb:{n} {feedback}"));
    }
    if !parameters.is_empty() {
        line(format_args!("a=fmtp:{n} {parameters}"));
    }
    if rtx {
        line(format_args!("a=rtpmap:{} rtx/90000", n + 1));
        line(format_args!("a=fmtp:{} apt={n}", n + 1));
    }
}

/// What a client needs of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The id of the server's SDP session: another one means that the server has begun anew.
    pub session: String,
    pub ice: IceCredentials,
    pub fingerprint: Fingerprint,
    pub candidates: Vec<SocketAddr>,
    pub media: Vec<AnsweredMedia>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnsweredMedia {
    pub mid: String,
    /// Port 0, or inactive.
    pub active: bool,
    pub ssrc: Option<Ssrc>,
    pub rtx: Option<Ssrc>,
    /// Lost packets may be asked for again.
    pub nack: bool,
}

/// Reads an answer. `Err` says what is missing.
pub fn read_answer(text: &str) -> Result<Answer, String> {
    let (mut ufrag, mut pwd, mut fingerprint, mut session) = (None, None, None, None);
    let (mut candidates, mut media) = (Vec::new(), Vec::<AnsweredMedia>::new());
    for line in text.lines() {
        if let Some(origin) = line.strip_prefix("o=") {
            session = origin.split(' ').nth(1).map(str::to_owned);
        }
        if let Some(m) = line.strip_prefix("m=") {
            let port = m.split(' ').nth(1);
            media.push(AnsweredMedia { active: port != Some("0"), ..AnsweredMedia::default() });
            continue;
        }
        let Some((name, value)) = line.strip_prefix("a=").map(|a| a.split_once(':').unwrap_or((a, ""))) else {
            continue;
        };
        match name {
            "ice-ufrag" => ufrag = Some(value.to_owned()),
            "ice-pwd" => pwd = Some(value.to_owned()),
            "fingerprint" => fingerprint = value.parse().ok(),
            "candidate" => candidates.extend(candidate(value)),
            _ => {
                if let Some(media) = media.last_mut() {
                    read_attribute(media, name, value);
                }
            }
        }
    }
    let ice = IceCredentials { ufrag: ufrag.ok_or("no ice-ufrag")?, pwd: pwd.ok_or("no ice-pwd")? };
    let (session, fingerprint) = (session.ok_or("no origin")?, fingerprint.ok_or("no fingerprint")?);
    Ok(Answer { session, ice, fingerprint, candidates, media })
}

fn read_attribute(media: &mut AnsweredMedia, name: &str, value: &str) {
    match name {
        "mid" => media.mid = value.to_owned(),
        "inactive" => media.active = false,
        "rtcp-fb" => media.nack |= value.split_once(' ').is_some_and(|(_, what)| what.trim() == "nack"),
        "ssrc-group" => {
            let mut ids = value.strip_prefix("FID ").unwrap_or_default().split(' ').map(|s| s.parse().map(Ssrc).ok());
            (media.ssrc, media.rtx) = (ids.next().flatten(), ids.next().flatten());
        }
        "ssrc" if media.ssrc.is_none() => {
            media.ssrc = value.split(' ').next().and_then(|s| s.parse().ok()).map(Ssrc);
        }
        _ => {}
    }
}

/// `1 1 udp 2130706431 192.0.2.1 7882 typ host`
fn candidate(value: &str) -> Option<SocketAddr> {
    let mut words = value.split(' ').skip(2);
    let is_udp = words.next()?.eq_ignore_ascii_case("udp");
    let (ip, port) = (words.nth(1)?.parse().ok()?, words.next()?.parse().ok()?);
    is_udp.then_some(SocketAddr::new(ip, port))
}
