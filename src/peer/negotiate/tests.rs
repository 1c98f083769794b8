//! Negotiation as a whole: with the offers of real clients (tests/offers/), and over several rounds.
use super::*;
use crate::peer::config::FingerprintHash;
use crate::rtp::Codec;
use std::path::Path;

#[derive(Clone)]
struct Server {
    fingerprint: Fingerprint,
    candidates: Vec<SocketAddr>,
    limits: SdpLimits,
    negotiation: Negotiation,
}

impl Server {
    fn new(kind: ConnectionKind) -> Self {
        let mut state = 0u64;
        let mut count = move || {
            state += 1;
            state
        };
        Self {
            fingerprint: Fingerprint { hash: FingerprintHash::Sha256, value: (0..32).collect() },
            candidates: ["192.0.2.1:7882", "[2001:db8::1]:7882"].map(|a| a.parse().unwrap()).to_vec(),
            limits: SdpLimits::default(),
            negotiation: Negotiation::new(kind, &mut count),
        }
    }
    fn answer(&mut self, offer: &str) -> Result<Negotiated, NegotiateError> {
        let (fingerprint, candidates, limits) = (&self.fingerprint, &self.candidates[..], &self.limits);
        self.negotiation.answer(&AnswerContext { fingerprint, candidates, limits }, offer)
    }
    fn fragment(&mut self, fragment: &str) -> Result<FragmentOutcome, NegotiateError> {
        let (fingerprint, candidates, limits) = (&self.fingerprint, &self.candidates[..], &self.limits);
        self.negotiation.fragment(&AnswerContext { fingerprint, candidates, limits }, fragment)
    }
}

fn publish() -> Server {
    Server::new(ConnectionKind::Publish)
}
fn subscribe() -> Server {
    Server::new(ConnectionKind::Subscribe)
}

/// The offer of a client as simple as it can be: an m-line for each `(kind, mid, more lines)`.
fn offer(m_lines: &[(&str, &str, &str)]) -> String {
    let mids: Vec<&str> = m_lines.iter().map(|(_, mid, _)| *mid).collect();
    let mut text = format!("v=0\r\no=- 42 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n", mids.join(" "));
    text += "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=setup:actpass\r\n";
    text += &format!("a=fingerprint:sha-256 {}\r\n", ["AB"; 32].join(":"));
    for (kind, mid, more) in m_lines {
        let codec = match *kind {
            "audio" => "111\r\na=rtpmap:111 opus/48000/2",
            _ => "96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96",
        };
        text += &format!("m={kind} 9 UDP/TLS/RTP/SAVPF {codec}\r\na=mid:{mid}\r\na=rtcp-mux\r\n{more}\r\n");
    }
    text
}

fn line<'a>(sdp: &'a str, start: &str) -> Option<&'a str> {
    sdp.lines().find(|l| l.starts_with(start))
}
fn count(sdp: &str, start: &str) -> usize {
    sdp.lines().filter(|l| l.starts_with(start)).count()
}

/// Compares with `tests/answers/NAME.sdp`; `BLESS=1` writes it.
fn golden(name: &str) -> Negotiated {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let offer = std::fs::read_to_string(root.join(format!("offers/{name}.sdp"))).unwrap();
    let kind = if name.contains("-sub") { ConnectionKind::Subscribe } else { ConnectionKind::Publish };
    let negotiated = Server::new(kind).answer(&offer).unwrap();
    let path = root.join(format!("answers/{name}.sdp"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(root.join("answers")).unwrap();
        std::fs::write(&path, &negotiated.answer).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(negotiated.answer, expected, "{name}: look at the difference, then run with BLESS=1");
    for media in &negotiated.media {
        assert!(matches!(media.outcome, MediaOutcome::Accepted { active: true, .. }), "{name}: {media:?}");
    }
    negotiated
}

fn names(codecs: &[crate::peer::config::CodecParameters]) -> Vec<&'static str> {
    codecs.iter().map(|c| c.codec.name()).collect()
}

#[test]
fn chromium_publishes() {
    let plain = golden("chromium-pub").config;
    assert_eq!(names(&plain.receive[0].codecs), ["opus", "red"]);
    assert_eq!(plain.receive[1].codecs.len(), 10);
    assert!(plain.receive[1].codecs.iter().all(|c| c.rtx.is_some() && c.feedback.transport_cc && !c.feedback.remb));
    assert_eq!(plain.receive[1].ssrcs.len(), 1);
    assert!(plain.receive[1].ssrcs[0].rtx.is_some());

    let simulcast = golden("chromium-pub-simulcast").config;
    let rids: Vec<&str> = simulcast.receive[1].rids.iter().map(|r| r.as_str()).collect();
    assert_eq!(rids, ["q", "h", "f"]);
    assert_eq!(simulcast.receive[1].ssrcs, []);
    assert_eq!(simulcast.receive[1].extensions.id(crate::rtp::Extension::RepairedRid), Some(11));
    golden("chromium-pub-svc");
    assert_eq!(golden("chromium-pub-screen").config.receive.len(), 4);
}

#[test]
fn firefox_publishes() {
    golden("firefox-pub");
    let simulcast = golden("firefox-pub-simulcast").config;
    let video = &simulcast.receive[1];
    assert_eq!(video.rids.len(), 3);
    assert_eq!(video.ssrcs.len(), 3, "three streams, each with its repair stream");
    assert!(video.ssrcs.iter().all(|s| s.rtx.is_some()));
    assert_eq!(names(&video.codecs), ["VP8", "VP9", "AV1"]);
}

#[test]
fn others_publish() {
    let aiortc = golden("aiortc-pub").config;
    assert!(aiortc.receive[1].codecs.iter().all(|c| c.feedback.remb && !c.feedback.transport_cc));
    assert_eq!(aiortc.dtls.fingerprints.len(), 3);

    let gstreamer = golden("gstreamer-pub");
    assert_eq!(gstreamer.config.receive[1].mid.as_str(), "video1");
    assert_eq!(gstreamer.config.receive[0].codecs[0].codec, Codec::Opus);
    assert!(gstreamer.answer.contains("m=video 9 "), "a bundle-only m-line is answered with a port");

    let ffmpeg = golden("ffmpeg-pub");
    assert_eq!(ffmpeg.config.dtls.role, DtlsRole::Client);
    assert_eq!(count(&ffmpeg.answer, "a=setup:active"), 2);
}

#[test]
fn players_get_slots() {
    for name in ["chromium-sub", "firefox-sub", "aiortc-sub", "gstreamer-sub"] {
        let sub = golden(name);
        let slots: Vec<_> = sub.media.iter().map(|m| (m.kind, &m.outcome)).collect();
        for kind in [Kind::Audio, Kind::Video] {
            let numbers = slots.iter().filter(|(k, _)| *k == Some(kind)).enumerate();
            for (n, (_, outcome)) in numbers {
                assert_eq!(**outcome, MediaOutcome::Accepted { active: true, slot: Some(n) }, "{name}");
            }
        }
        let mut ssrcs: Vec<u32> =
            sub.config.send.iter().flat_map(|s| [Some(s.ssrc), s.rtx_ssrc]).flatten().map(|s| s.0).collect();
        ssrcs.sort_unstable();
        let all = ssrcs.len();
        ssrcs.dedup();
        assert_eq!(ssrcs.len(), all, "{name}: an SSRC for each stream");
    }
}

#[test]
fn what_is_answered_is_the_same_on_every_run() {
    let text = offer(&[("audio", "0", "a=sendonly"), ("video", "1", "a=sendonly")]);
    assert_eq!(publish().answer(&text).unwrap().answer, publish().answer(&text).unwrap().answer);
}

#[test]
fn a_second_offer_continues_and_a_third_restarts_ice() {
    let mut server = subscribe();
    let first = offer(&[("audio", "0", "a=recvonly"), ("video", "1", "a=recvonly")]);
    let one = server.answer(&first).unwrap();
    assert_eq!(one.change, Change::New);

    let more = [
        ("audio", "0", "a=recvonly"),
        ("video", "1", "a=recvonly"),
        ("audio", "2", "a=recvonly"),
        ("video", "3", "a=inactive"),
    ];
    let two = server.answer(&offer(&more)).unwrap();
    assert_eq!((two.change, &two.config.ice), (Change::Same, &one.config.ice));
    assert_eq!(two.config.send[1].ssrc, one.config.send[1].ssrc);
    assert_eq!(two.config.send[1].rtx_ssrc, one.config.send[1].rtx_ssrc);
    assert!(!two.config.send[3].active && two.config.send[2].active);
    assert_eq!(two.media[2].outcome, MediaOutcome::Accepted { active: true, slot: Some(1) });
    assert_eq!(count(&two.answer, "a=msid:slot-1 "), 1, "an inactive m-line has no stream");
    assert_eq!(line(&one.answer, "o=").map(|o| o.replace(" 1 IN", " 2 IN")).as_deref(), line(&two.answer, "o="));

    let three = server.answer(&offer(&more).replace("ufrag:abcd", "ufrag:efgh")).unwrap();
    assert_eq!(three.change, Change::IceRestart);
    assert_ne!(three.config.ice.local.ufrag, one.config.ice.local.ufrag);
    assert_eq!(three.config.ice.remote.ufrag, "efgh");
    assert_eq!(three.config.send[1].ssrc, one.config.send[1].ssrc);
}

#[test]
fn another_certificate_session_or_role_is_another_association() {
    let text = offer(&[("audio", "0", "a=sendonly"), ("video", "1", "a=sendonly")]);
    let restarted_tab = text.replace("- 42 1", "- 43 1").replace("ufrag:abcd", "ufrag:efgh");
    for other in [text.replace("AB:AB", "AB:CD"), restarted_tab, text.replace("actpass", "passive")] {
        let mut server = publish();
        let one = server.answer(&text).unwrap();
        let two = server.answer(&other).unwrap();
        assert_eq!(two.change, Change::New, "{other}");
        assert_ne!(two.config.ice.local, one.config.ice.local);
    }
    // Fewer m-lines than before are an error, but not from somebody new.
    let mut server = publish();
    server.answer(&text).unwrap();
    let fewer = offer(&[("audio", "0", "a=sendonly")]);
    assert_eq!(server.answer(&fewer).unwrap_err(), NegotiateError::FewerSections { offered: 1, agreed: 2 });
    assert_eq!(server.answer(&fewer.replace("AB:AB", "AB:CD")).unwrap().change, Change::New);
    // aiortc counts its session id up with every offer.
    let mut server = publish();
    server.answer(&text).unwrap();
    assert_eq!(server.answer(&text.replace("- 42 1", "- 43 1")).unwrap().change, Change::Same);
    // An agreed role is kept, whatever the next offer leaves open.
    let mut server = publish();
    server.answer(&text.replace("actpass", "passive")).unwrap();
    let again = server.answer(&text).unwrap();
    assert_eq!((again.change, again.config.dtls.role), (Change::Same, DtlsRole::Client));
}

#[test]
fn a_stopped_m_line_makes_room_for_another() {
    let mut server = subscribe();
    let three = [("audio", "a", "a=recvonly"), ("video", "b", "a=recvonly"), ("video", "c", "a=recvonly")];
    let one = server.answer(&offer(&three)).unwrap();
    let stopped = offer(&three).replacen("m=video 9 ", "m=video 0 ", 1);
    let two = server.answer(&stopped).unwrap();
    assert_eq!(two.media[1].outcome, MediaOutcome::Rejected(Rejection::Stopped));
    assert_eq!(two.config.send.len(), 2);
    assert_eq!(line(&two.answer, "a=group:"), Some("a=group:BUNDLE a c"));
    assert!(two.answer.contains("m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:b\r\na=inactive\r\n"));

    let recycled = [three[0], ("audio", "d", "a=recvonly"), three[2]];
    let three = server.answer(&offer(&recycled)).unwrap();
    assert_eq!(three.media[1].outcome, MediaOutcome::Accepted { active: true, slot: Some(1) });
    assert_ne!(three.config.send[1].ssrc, one.config.send[1].ssrc);
    assert_eq!(three.config.send[2].ssrc, one.config.send[2].ssrc);
}

#[test]
fn everything_may_be_stopped() {
    let mut server = publish();
    let text = offer(&[("audio", "0", "a=sendonly")]);
    server.answer(&text).unwrap();
    let stopped = text.replace("m=audio 9", "m=audio 0").replace("BUNDLE 0", "BUNDLE").replace("a=ice-ufrag", "a=x");
    let two = server.answer(&stopped).unwrap();
    assert_eq!((two.change, two.config.receive.len()), (Change::Same, 0));
    // Chromium forgets its transport then, DTLS included, and makes another for the next m-line.
    let mut again = server.clone();
    assert_eq!(again.answer(&text).unwrap().change, Change::Same);
    assert_eq!(server.answer(&text.replace("ufrag:abcd", "ufrag:efgh")).unwrap().change, Change::New);
    assert_eq!(publish().answer(&stopped).unwrap_err(), NegotiateError::NothingOffered);
}

#[test]
fn an_m_line_keeps_its_kind_and_a_slot_its_payload_types() {
    let mut server = subscribe();
    let text = offer(&[("audio", "0", "a=recvonly"), ("video", "1", "a=recvonly")]);
    server.answer(&text).unwrap();
    let before = format!("{:?}", server.negotiation);
    let swapped = offer(&[("video", "0", "a=recvonly"), ("video", "1", "a=recvonly")]);
    let error = server.answer(&swapped).unwrap_err();
    assert_eq!(error.to_string(), "m-line 1 (mid 0) became video: stop it, and offer another");

    let other_number = text.replace("96", "98");
    let reused_number = text.replace("96 VP8", "96 VP9");
    let other_rtx = text.replace("97", "99");
    for changed in [other_number, reused_number, other_rtx] {
        let error = server.answer(&changed).unwrap_err();
        assert!(matches!(error, NegotiateError::PayloadTypeChanged { line: 2, .. }), "{error}");
    }
    assert_eq!(format!("{:?}", server.negotiation), before, "an error changes nothing");
    let fewer = text.replace("96 97", "96");
    let negotiated = server.answer(&fewer).unwrap();
    assert_eq!(negotiated.config.send[1].rtx_ssrc, None);
    assert!(server.answer(&text).unwrap().config.send[1].rtx_ssrc.is_some());
}

#[test]
fn what_cannot_be_used_is_answered_with_port_0() {
    let mut text = offer(&[
        ("audio", "0", "a=sendonly"),
        ("text", "1", ""),
        ("video", "2", "a=sendonly"),
        ("video", "3", "a=sendonly"),
        ("video", "4", "a=sendonly"),
    ]);
    text = text.replace("BUNDLE 0 1 2 3 4", "BUNDLE 0 1 2 3 d").replace("a=mid:3\r\na=rtcp-mux", "a=mid:3");
    let at = text.find("a=mid:2").unwrap();
    text.replace_range(at.., &text[at..].replacen("a=mid:2", "a=mid:2\r\na=x", 1));
    let codecs = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000";
    let at = text.find(codecs).unwrap();
    text.replace_range(at..at + codecs.len(), "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 H265/90000");
    text += "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n";
    text += "m=audio 9 RTP/AVP 111\r\na=mid:e\r\n";
    let negotiated = publish().answer(&text).unwrap();
    let why = |i: usize| match &negotiated.media[i].outcome {
        MediaOutcome::Rejected(rejection) => rejection.to_string(),
        accepted => format!("{accepted:?}"),
    };
    assert_eq!(why(1), "\"text\" is neither audio nor video");
    assert!(why(2).starts_with("no codec in common (offered: H265, rtx; supported: VP8, VP9"), "{}", why(2));
    assert_eq!(why(3), "it has no a=rtcp-mux, and RTP and RTCP share one port");
    assert_eq!(why(4), "it is not in the BUNDLE group, and there is one transport for all");
    assert_eq!(why(5), "\"application\" is neither audio nor video");
    assert_eq!(why(6), "the protocol \"RTP/AVP\" is not RTP over DTLS (UDP/TLS/RTP/SAVPF)");
    assert_eq!(negotiated.config.receive.len(), 1);
    assert!(negotiated.answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert_eq!(line(&negotiated.answer, "a=group:"), Some("a=group:BUNDLE 0"));

    let nothing = offer(&[("text", "1", ""), ("message", "2", "")]);
    let error = publish().answer(&nothing).unwrap_err().to_string();
    assert!(
        error.starts_with("no m-line can be used: m-line 1: \"text\" is neither audio nor video; m-line 2:"),
        "{error}"
    );
}

#[test]
fn slots_are_bounded() {
    let mut server = subscribe();
    server.limits.video_slots = 1;
    let negotiated = server
        .answer(&offer(&[("video", "0", "a=recvonly"), ("video", "1", "a=recvonly"), ("audio", "2", "a=recvonly")]))
        .unwrap();
    let full = Rejection::TooManySlots { kind: Kind::Video, limit: 1 };
    assert_eq!(negotiated.media[1].outcome, MediaOutcome::Rejected(full));
    assert_eq!(negotiated.config.send.len(), 2);
}

#[test]
fn one_m_line_needs_no_bundle_and_no_mid_and_two_do() {
    let one = offer(&[("video", "7", "a=sendonly")]).replace("a=group:BUNDLE 7\r\n", "").replace("a=mid:7\r\n", "");
    let negotiated = publish().answer(&one).unwrap();
    assert_eq!(negotiated.config.receive[0].mid.as_str(), "0");
    assert_eq!((count(&negotiated.answer, "a=mid"), count(&negotiated.answer, "a=group")), (0, 0));
    let two = offer(&[("audio", "0", ""), ("video", "1", "")]).replace("a=group:BUNDLE 0 1\r\n", "");
    assert_eq!(publish().answer(&two).unwrap_err(), NegotiateError::NotBundled(2));
}

#[test]
fn the_direction_decides_whether_media_flows() {
    let table = [
        ("a=sendrecv", "a=recvonly", "a=sendonly"),
        ("a=sendonly", "a=recvonly", "a=inactive"),
        ("a=recvonly", "a=inactive", "a=sendonly"),
        ("a=inactive", "a=inactive", "a=inactive"),
        ("", "a=recvonly", "a=sendonly"),
    ];
    for (offered, publishing, subscribing) in table {
        let text = offer(&[("audio", "0", offered)]);
        for (mut server, answered) in [(publish(), publishing), (subscribe(), subscribing)] {
            let answer = server.answer(&text).unwrap().answer;
            assert!(answer.lines().any(|l| l == answered), "{offered}: {answer}");
        }
    }
}

#[test]
fn broken_offers_are_told_what_is_wrong() {
    let good = offer(&[("audio", "0", ""), ("video", "1", "")]);
    let table = [
        (good.replace("a=fingerprint", "a=x"), "the offer has no a=fingerprint"),
        (good.replace("sha-256", "sha-1"), "no a=fingerprint of sha-256, sha-384 or sha-512, only \"sha-1 AB:"),
        (good.replace("a=ice-pwd", "a=x"), "there is no a=ice-ufrag and a=ice-pwd"),
        (good.replace("ufrag:abcd", "ufrag:abc"), "a=ice-ufrag or a=ice-pwd is not what RFC 8839"),
        (good.replace("actpass", "holdconn"), "a=setup:holdconn is not actpass, active or passive"),
        (good.replace("a=setup", "a=ice-lite\r\na=setup"), "the offer is a=ice-lite"),
        (good.replace("a=mid:1", "a=mid:0"), "m-line 2: the mid \"0\" is there twice"),
        (good.replace("a=mid:1", "a=mid:"), "m-line 2: the mid is not 1 to 32"),
        (good.replace("BUNDLE 0 1", "BUNDLE a b"), "the a=group:BUNDLE names none"),
        ("v=0\r\n".into(), "the offer has no m-line that is not stopped"),
        ("".into(), "this is not SDP"),
    ];
    for (text, message) in table {
        let error = publish().answer(&text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn a_fragment_restarts_ice_only_with_other_credentials() {
    let text = offer(&[("audio", "0", "a=sendonly"), ("video", "1", "a=sendonly")]);
    let mut server = publish();
    assert_eq!(server.fragment("a=ice-ufrag:abcd").unwrap_err(), NegotiateError::NotNegotiated);
    let before = server.answer(&text).unwrap().config.ice;
    let trickle = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\na=end-of-candidates\r\n";
    assert!(matches!(server.fragment(trickle), Ok(FragmentOutcome::Trickle)));
    assert!(matches!(server.fragment(""), Ok(FragmentOutcome::Trickle)));
    assert_eq!(server.fragment("a=ice-ufrag:efgh").unwrap_err(), NegotiateError::NoIceCredentials);
    let restart = "m=audio 9 RTP/AVP 0\na=mid:0\na=ice-ufrag:efgh\na=ice-pwd:efghefghefghefghefghefgh\n";
    let Ok(FragmentOutcome::Restart { fragment, config }) = server.fragment(restart) else { panic!() };
    assert_eq!(config.ice.remote.ufrag, "efgh");
    assert_ne!(config.ice.local, before.local);
    assert_eq!(line(&fragment, "a=ice-ufrag"), Some(format!("a=ice-ufrag:{}", config.ice.local.ufrag).as_str()));
    assert_eq!(line(&fragment, "a=group"), Some("a=group:BUNDLE 0 1"));
    assert_eq!(count(&fragment, "a=candidate"), 2);
    // The same again is not another restart, and an offer with those credentials is none either.
    assert!(matches!(server.fragment(restart), Ok(FragmentOutcome::Trickle)));
    let offer = text.replace("abcdefghijklmnopqrstuv", "efghefghefghefghefghefgh").replace("ufrag:abcd", "ufrag:efgh");
    assert_eq!(server.answer(&offer).unwrap().change, Change::Same);
}

mod garbage {
    use super::*;
    use proptest::prelude::*;

    fn real_offers() -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/offers");
        let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
        files
            .filter(|f| f.extension().is_some_and(|e| e == "sdp"))
            .map(|f| std::fs::read_to_string(f).unwrap())
            .collect()
    }

    /// A real offer with some of its lines dropped, doubled, cut, or exchanged for each other.
    fn mangled() -> impl Strategy<Value = String> {
        let edits =
            proptest::collection::vec((0..5u8, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12);
        (prop::sample::select(real_offers()), edits).prop_map(|(offer, edits)| {
            let mut lines: Vec<String> = offer.lines().map(String::from).collect();
            for (edit, a, b) in edits {
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                match edit {
                    0 if lines.len() > 1 => drop(lines.remove(a)),
                    1 => lines.insert(a, lines[b].clone()),
                    2 => lines.swap(a, b),
                    3 => lines[a] = lines[a].chars().take(b % 40).collect(),
                    _ => lines[a] = lines[a].replace([' ', ':'], "\u{fe}"),
                }
            }
            lines.join("\n")
        })
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            for mut server in [publish(), subscribe()] {
                let _ = server.answer(&text);
                let _ = server.answer(&format!("v=0\r\n{text}"));
                let _ = server.fragment(&text);
            }
        }

        /// Whatever is answered, its m-lines are those of the offer, and the next offer is taken as if nothing had been.
        #[test]
        fn mangled_offers_get_an_error_or_a_whole_answer(texts in proptest::collection::vec(mangled(), 1..4)) {
            for mut server in [publish(), subscribe()] {
                for text in &texts {
                    let Ok(negotiated) = server.answer(text) else { continue };
                    prop_assert_eq!(count(&negotiated.answer, "m="), count(text, "m="));
                    prop_assert_eq!(negotiated.media.len(), count(text, "m="));
                    prop_assert!(negotiated.answer.is_ascii());
                    prop_assert!(negotiated.answer.lines().all(|l| l.as_bytes().get(1) == Some(&b'=')));
                }
                let _ = server.fragment(&texts[0]);
                let clean = offer(&[("audio", "0", ""), ("video", "1", "")]).replace("AB:AB", "00:00");
                prop_assert_eq!(server.answer(&clean).unwrap().change, Change::New);
            }
        }
    }
}
