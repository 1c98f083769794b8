//! Which of the offered payload types are taken, and with what parameters and feedback they are answered.
use crate::peer::config::{CodecParameters, Feedback};
use crate::peer::sdp::{Attributes, Section};
use crate::rtp::codec::H264Profile;
use crate::rtp::{Codec, Kind, PayloadType};

use super::ConnectionKind;

/// Told when nothing that was offered is taken.
pub(super) fn supported(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "opus, red",
        Kind::Video => "VP8, VP9 (profiles 0 and 2), AV1 (profile 0), H264 (packetization modes 0 and 1)",
    }
}

/// A codec of the answer.
#[derive(Debug)]
pub(super) struct AcceptedCodec<'a> {
    pub parameters: CodecParameters,
    /// `<name>/<clock>[/<channels>]`, spelt as the offer spells it.
    pub rtpmap: &'a str,
    pub fmtp: Option<String>,
}

/// What the answer takes of an m-line, in the order of the offer. `transport_cc` says whether its header extension is there.
pub(super) fn accept<'a>(
    section: &Section<'a>,
    kind: Kind,
    connection: ConnectionKind,
    transport_cc: bool,
    limit: usize,
) -> Vec<AcceptedCodec<'a>> {
    let offered = Offered::read(section);
    let mut accepted: Vec<AcceptedCodec> = Vec::new();
    for pt in offered.payload_types.iter().copied() {
        let (Some(rtpmap), Some(codec)) = (offered.rtpmap(pt), offered.codec(pt)) else { continue };
        let taken = |c: &AcceptedCodec| c.parameters.codec == codec || c.parameters.payload_type == pt;
        if codec.kind() != kind || accepted.len() == limit || accepted.iter().any(taken) {
            continue;
        }
        let feedback = answered_feedback(offered.feedback(pt), kind, connection, transport_cc);
        let rtx = if kind == Kind::Video { offered.rtx_of(pt) } else { None };
        let fmtp = answered_fmtp(codec, offered.fmtp(pt).unwrap_or_default());
        accepted.push(AcceptedCodec {
            parameters: CodecParameters { codec, payload_type: pt, rtx, feedback },
            rtpmap,
            fmtp,
        });
    }
    drop_red_without_its_opus(&mut accepted, &offered);
    accepted
}

/// RED is of use only around an Opus that was taken too: `a=fmtp:63 111/111` (RFC 2198 section 5).
fn drop_red_without_its_opus(accepted: &mut Vec<AcceptedCodec>, offered: &Offered) {
    let opus = accepted.iter().find(|c| c.parameters.codec == Codec::Opus).map(|c| c.parameters.payload_type);
    accepted.retain(|c| {
        let blocks = || offered.fmtp(c.parameters.payload_type).unwrap_or_default().trim().split('/');
        let wraps_opus = || opus.is_some_and(|opus| blocks().all(|b| parse_payload_type(b) == Some(opus)));
        c.parameters.codec != Codec::Red || wraps_opus()
    });
}

/// The offered names, for a message.
pub(super) fn offered_names(section: &Section) -> String {
    let mut names: Vec<&str> = Vec::new();
    for value in section.attributes.values("rtpmap") {
        let name = value.split_once(' ').map_or(value, |(_, map)| map.split('/').next().unwrap_or(map));
        if !names.contains(&name) && names.len() < 16 {
            names.push(name);
        }
    }
    if names.is_empty() { "nothing with an a=rtpmap".into() } else { names.join(", ") }
}

/// The value of `key` in `a=fmtp` parameters: `key=value;key=value`.
fn parameter<'a>(fmtp: &'a str, key: &str) -> Option<&'a str> {
    let pairs = fmtp.split(';').filter_map(|p| p.split_once('='));
    pairs.map(|(k, v)| (k.trim(), v.trim())).find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v)
}

fn parse_payload_type(text: &str) -> Option<PayloadType> {
    let number: u8 = text.trim().parse().ok()?;
    // 64 to 95 are taken for RTCP when both share a port (RFC 5761 section 4).
    if (64..96).contains(&number) { None } else { PayloadType::try_from(number).ok() }
}

/// The m-line's attributes, by payload type. The first line that speaks about a payload type holds.
struct Offered<'a> {
    payload_types: Vec<PayloadType>,
    rtpmaps: [Option<&'a str>; 128],
    fmtps: [Option<&'a str>; 128],
    feedback: [Feedback; 128],
    feedback_of_all: Feedback,
}

impl<'a> Offered<'a> {
    fn read(section: &Section<'a>) -> Self {
        let feedback = [Feedback::default(); 128];
        let payload_types = section.formats.iter().filter_map(|f| parse_payload_type(f)).collect();
        let (rtpmaps, fmtps) =
            (by_payload_type(&section.attributes, "rtpmap"), by_payload_type(&section.attributes, "fmtp"));
        let mut offered = Self { payload_types, rtpmaps, fmtps, feedback, feedback_of_all: Feedback::default() };
        for value in section.attributes.values("rtcp-fb") {
            let Some((pt, what)) = value.split_once(' ') else { continue };
            if pt == "*" {
                note_feedback(&mut offered.feedback_of_all, what);
            } else if let Some(pt) = parse_payload_type(pt) {
                note_feedback(&mut offered.feedback[pt.value() as usize], what);
            }
        }
        offered
    }

    fn rtpmap(&self, pt: PayloadType) -> Option<&'a str> {
        self.rtpmaps[pt.value() as usize]
    }
    fn fmtp(&self, pt: PayloadType) -> Option<&'a str> {
        self.fmtps[pt.value() as usize]
    }

    fn feedback(&self, pt: PayloadType) -> Feedback {
        let (one, all) = (self.feedback[pt.value() as usize], self.feedback_of_all);
        Feedback {
            nack: one.nack || all.nack,
            pli: one.pli || all.pli,
            fir: one.fir || all.fir,
            transport_cc: one.transport_cc || all.transport_cc,
            remb: one.remb || all.remb,
        }
    }

    /// The payload type that retransmits `pt` (RFC 4588 section 8.6).
    fn rtx_of(&self, pt: PayloadType) -> Option<PayloadType> {
        self.payload_types.iter().copied().find(|&rtx| {
            let is_rtx = self.rtpmap(rtx).is_some_and(|map| map.eq_ignore_ascii_case("rtx/90000"));
            is_rtx && self.fmtp(rtx).and_then(|f| parameter(f, "apt")).and_then(parse_payload_type) == Some(pt)
        })
    }

    fn codec(&self, pt: PayloadType) -> Option<Codec> {
        let fmtp = self.fmtp(pt).unwrap_or_default();
        let mut map = self.rtpmap(pt)?.split('/');
        let (name, clock, channels, rest) = (map.next()?, map.next()?, map.next(), map.next());
        if rest.is_some() {
            return None;
        }
        let codec = match name.to_ascii_lowercase().as_str() {
            "opus" if channels == Some("2") => Codec::Opus,
            "red" if channels == Some("2") => Codec::Red,
            "vp8" => Codec::Vp8,
            "vp9" => Codec::Vp9 { profile: profile(fmtp, "profile-id", &[0, 2])? },
            "av1" => Codec::Av1 { profile: profile(fmtp, "profile", &[0])? },
            "h264" => Codec::H264 {
                profile: h264_profile(parameter(fmtp, "profile-level-id"))?,
                packetization_mode: profile(fmtp, "packetization-mode", &[0, 1])?,
            },
            _ => return None,
        };
        let one_channel = matches!(channels, None | Some("1"));
        (clock.parse() == Ok(codec.clock_rate()) && (codec.kind() == Kind::Audio || one_channel)).then_some(codec)
    }
}

fn by_payload_type<'a>(attributes: &Attributes<'a>, name: &str) -> [Option<&'a str>; 128] {
    let mut table = [None; 128];
    for value in attributes.values(name) {
        let Some((pt, value)) = value.split_once(' ') else { continue };
        if let Some(pt) = parse_payload_type(pt) {
            table[pt.value() as usize].get_or_insert(value.trim());
        }
    }
    table
}

fn note_feedback(feedback: &mut Feedback, what: &str) {
    match what.trim() {
        "nack" => feedback.nack = true,
        "nack pli" => feedback.pli = true,
        "ccm fir" => feedback.fir = true,
        "transport-cc" => feedback.transport_cc = true,
        "goog-remb" => feedback.remb = true,
        _ => {}
    }
}

fn answered_feedback(offered: Feedback, kind: Kind, connection: ConnectionKind, transport_cc: bool) -> Feedback {
    let transport_cc = offered.transport_cc && transport_cc;
    Feedback {
        nack: offered.nack,
        pli: offered.pli && kind == Kind::Video,
        fir: offered.fir && kind == Kind::Video,
        transport_cc,
        // A publisher gets one kind of estimate from us; a subscriber may send us both.
        remb: offered.remb && !(transport_cc && connection == ConnectionKind::Publish),
    }
}

/// A number of the fmtp, 0 by default, if it is one of `allowed`.
fn profile(fmtp: &str, key: &str, allowed: &[u8]) -> Option<u8> {
    let number = parameter(fmtp, key).map_or(Ok(0), str::parse).ok()?;
    allowed.contains(&number).then_some(number)
}

/// The profile of a profile-level-id, by RFC 6184 table 5. Without one it is Constrained Baseline: what every client
/// that leaves it out means, though the RFC says Baseline.
fn h264_profile(profile_level_id: Option<&str>) -> Option<H264Profile> {
    let Some(text) = profile_level_id else { return Some(H264Profile::ConstrainedBaseline) };
    if text.len() != 6 || !text.is_ascii() {
        return None;
    }
    let [_, idc, constraints, _level] = u32::from_str_radix(text, 16).ok()?.to_be_bytes();
    let set = |n: u8| constraints & (0x80 >> n) != 0;
    Some(match idc {
        0x42 if set(1) => H264Profile::ConstrainedBaseline,
        0x42 => H264Profile::Baseline,
        0x4d if set(0) => H264Profile::ConstrainedBaseline,
        0x4d => H264Profile::Main,
        0x58 if set(0) && set(1) => H264Profile::ConstrainedBaseline,
        0x58 if set(0) => H264Profile::Baseline,
        0x64 if set(4) && set(5) => H264Profile::ConstrainedHigh,
        0x64 => H264Profile::High,
        0xf4 => H264Profile::PredictiveHigh444,
        _ => return None,
    })
}

/// What the answer says of a codec: those of the offered parameters that an answer repeats, never the sender's own (`sprop-…`).
fn answered_fmtp(codec: Codec, offered: &str) -> Option<String> {
    let kept = |keys: &[&str]| -> Vec<String> {
        let safe = |value: &&str| value.len() <= 32 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
        keys.iter().filter_map(|k| parameter(offered, k).filter(safe).map(|v| format!("{k}={v}"))).collect()
    };
    let parameters = match codec {
        Codec::Opus => {
            let mut parameters = kept(&["minptime", "maxplaybackrate", "maxaveragebitrate", "cbr", "usedtx"]);
            // A sender that says it is stereo is to be asked for stereo (RFC 7587 section 7).
            if [parameter(offered, "stereo"), parameter(offered, "sprop-stereo")].contains(&Some("1")) {
                parameters.push("stereo=1".into());
            }
            parameters.push("useinbandfec=1".into());
            parameters
        }
        Codec::Red => return safe_red(offered),
        Codec::Vp8 => Vec::new(),
        Codec::Vp9 { .. } => kept(&["profile-id"]),
        Codec::Av1 { .. } => kept(&["level-idx", "profile", "tier"]),
        Codec::H264 { .. } => kept(&["level-asymmetry-allowed", "packetization-mode", "profile-level-id"]),
    };
    (!parameters.is_empty()).then(|| parameters.join(";"))
}

fn safe_red(offered: &str) -> Option<String> {
    let safe = offered.len() <= 32 && offered.bytes().all(|b| b.is_ascii_digit() || b == b'/');
    safe.then(|| offered.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::sdp::{SdpLimits, parse};

    fn take(kind: Kind, connection: ConnectionKind, transport_cc: bool, lines: &str) -> Vec<String> {
        let text = format!("v=0\n{lines}");
        let session = parse(&text, &SdpLimits::default(), 1).unwrap();
        let accepted = accept(&session.sections[0], kind, connection, transport_cc, 24);
        let show = |c: &AcceptedCodec| {
            let p = &c.parameters;
            let rtx = p.rtx.map_or(String::new(), |rtx| format!("+{}", rtx.value()));
            format!("{}{rtx} {:?} {}", p.payload_type.value(), p.codec, c.fmtp.as_deref().unwrap_or("-"))
        };
        accepted.iter().map(show).collect()
    }

    #[test]
    fn the_offers_order_stands_and_retransmission_follows_its_codec() {
        let lines = "m=video 9 UDP/TLS/RTP/SAVPF 98 97 96 99 120 121 100 101\n\
            a=rtpmap:96 VP8/90000\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n\
            a=rtpmap:98 vp9/90000\na=fmtp:98 profile-id=2\na=rtpmap:99 VP9/90000\na=fmtp:99 profile-id=1\n\
            a=rtpmap:120 red/90000\na=rtpmap:121 ulpfec/90000\na=rtpmap:100 rtx/90000\na=fmtp:100 apt=120\n\
            a=rtpmap:101 VP8/90000";
        let taken = take(Kind::Video, ConnectionKind::Publish, false, lines);
        assert_eq!(taken, ["98 Vp9 { profile: 2 } profile-id=2", "96+97 Vp8 -"]);
    }

    #[test]
    fn opus_keeps_what_the_client_asked_for() {
        let opus = |fmtp: &str| {
            let lines = format!("m=audio 9 x 111\na=rtpmap:111 OPUS/48000/2\na=fmtp:111 {fmtp}");
            take(Kind::Audio, ConnectionKind::Publish, false, &lines).remove(0)
        };
        assert_eq!(opus("minptime=10; usedtx=1"), "111 Opus minptime=10;usedtx=1;useinbandfec=1");
        assert_eq!(opus("sprop-stereo=1;x=\"y\""), "111 Opus stereo=1;useinbandfec=1");
        assert_eq!(opus("stereo=0;maxplaybackrate=48000"), "111 Opus maxplaybackrate=48000;useinbandfec=1");
    }

    #[test]
    fn red_is_taken_only_around_the_opus_that_is_taken() {
        let red = |fmtp: &str| {
            let lines = format!(
                "m=audio 9 x 63 111 9\na=rtpmap:63 red/48000/2\na=rtpmap:111 opus/48000/2\na=rtpmap:9 G722/8000\n{fmtp}"
            );
            take(Kind::Audio, ConnectionKind::Subscribe, false, &lines).len()
        };
        assert_eq!(red("a=fmtp:63 111/111"), 2);
        for bad in ["a=fmtp:63 9/9", "a=fmtp:63 111/9", "a=fmtp:63 x", "", "a=ptime:20"] {
            assert_eq!(red(bad), 1, "{bad:?}");
        }
    }

    #[test]
    fn payload_types_that_look_like_rtcp_are_left_alone() {
        let lines = "m=video 9 x 72 128 -1 96\na=rtpmap:72 VP8/90000\na=rtpmap:128 VP8/90000\na=rtpmap:96 VP8/8000";
        assert!(take(Kind::Video, ConnectionKind::Publish, false, lines).is_empty());
        let lines = "m=video 9 x 96 97\na=rtpmap:96 VP8/90000/\u{e9}\na=rtpmap:97 VP8/90000/1/1";
        assert!(take(Kind::Video, ConnectionKind::Publish, false, lines).is_empty());
    }

    #[test]
    fn profiles_of_h264_are_read_with_their_constraints() {
        use H264Profile::*;
        let table = [
            ("42e01f", ConstrainedBaseline),
            ("42C01F", ConstrainedBaseline),
            ("4de01f", ConstrainedBaseline),
            ("58e01f", ConstrainedBaseline),
            ("42001f", Baseline),
            ("58a01f", Baseline),
            ("4d001f", Main),
            ("640c1f", ConstrainedHigh),
            ("64001f", High),
            ("f4001f", PredictiveHigh444),
        ];
        for (id, profile) in table {
            assert_eq!(h264_profile(Some(id)), Some(profile), "{id}");
        }
        for bad in ["", "42e0", "zz001f", "58001f", "+4e01f", "\u{e9}\u{e9}\u{e9}"] {
            assert_eq!(h264_profile(Some(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn a_publisher_gets_one_kind_of_bandwidth_feedback() {
        let all = Feedback { nack: true, pli: true, fir: true, transport_cc: true, remb: true };
        let answered = |connection, twcc| {
            let f = answered_feedback(all, Kind::Video, connection, twcc);
            (f.transport_cc, f.remb)
        };
        assert_eq!(answered(ConnectionKind::Publish, true), (true, false));
        assert_eq!(answered(ConnectionKind::Publish, false), (false, true));
        assert_eq!(answered(ConnectionKind::Subscribe, true), (true, true));
        assert!(!answered_feedback(all, Kind::Audio, ConnectionKind::Publish, true).pli);
    }
}
