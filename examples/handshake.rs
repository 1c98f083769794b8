//! A hand-made check: a real browser against `peer::association`. Serves a page that offers audio and video, answers it,
//! opens what arrives, and sends the audio back. Not part of the server.
#![allow(clippy::disallowed_methods)]
use axum::extract::{Query, State};
use axum::response::Html;
use axum::{Router, routing::get, routing::post};
use exedra::peer::association::{Association, AssociationEvent};
use exedra::peer::config::*;
use exedra::peer::dtls::rtc_dtls::LocalIdentity;
use exedra::peer::ice::Path;
use exedra::peer::srtp::SsrcState;
use exedra::peer::stun;
use exedra::rtp::SeqNo;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::UdpSocket;
use tokio::sync::Mutex;

struct Session {
    association: Association,
    config: PeerConfig,
    answered: Instant,
    first_check: Option<Instant>,
    dtls_in: Vec<String>,
    states: HashMap<u32, SsrcState>,
    opened: HashMap<u8, usize>,
    rtcp: usize,
    errors: HashMap<&'static str, usize>,
    echo: (u64, u8, u32),
    echoed: usize,
}

struct World {
    identity: LocalIdentity,
    sessions: HashMap<String, Session>,
    ufrags: HashMap<String, String>,
    addresses: HashMap<SocketAddr, String>,
    n: usize,
}

type Shared = Arc<(Mutex<World>, UdpSocket, Vec<SocketAddr>)>;

fn hex(s: &str) -> Vec<u8> {
    s.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect()
}

fn attr<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines().find_map(|l| l.trim().strip_prefix(&format!("a={name}:")))
}

async fn offer(State(s): State<Shared>, Query(q): Query<HashMap<String, String>>, sdp: String) -> String {
    let mut w = s.0.lock().await;
    w.n += 1;
    let n = w.n;
    let id = q["id"].clone();
    let active = q.get("active").is_some_and(|a| a == "1") || sdp.contains("a=setup:passive");
    let fingerprints: Vec<_> = sdp
        .lines()
        .filter_map(|l| l.trim().strip_prefix("a=fingerprint:sha-256 ").or(l.trim().strip_prefix("a=fingerprint:SHA-256 ")))
        .map(|v| Fingerprint { hash: FingerprintHash::Sha256, value: hex(v) })
        .take(1)
        .collect();
    let remote =
        IceCredentials { ufrag: attr(&sdp, "ice-ufrag").unwrap().into(), pwd: attr(&sdp, "ice-pwd").unwrap().into() };
    // New credentials of the peer are a restart.
    let local = match w.sessions.get(&id) {
        Some(old) if old.config.ice.remote == remote => old.config.ice.local.clone(),
        _ => IceCredentials { ufrag: format!("ufr{n}"), pwd: format!("password-of-22-characters-{n}") },
    };
    let config = PeerConfig {
        ice: IceConfig { local: local.clone(), remote },
        dtls: DtlsConfig { role: if active { DtlsRole::Client } else { DtlsRole::Server }, fingerprints },
        receive: vec![],
        send: vec![],
        cname: "example".into(),
    };
    w.ufrags.insert(local.ufrag.clone(), id.clone());
    let now = Instant::now();
    let identity = w.identity.clone();
    if let Some(old) = w.sessions.get_mut(&id) {
        old.association.update(now, &config);
        old.config = config;
        println!("[{id}] ICE restart, ufrag {}", local.ufrag);
    } else {
        w.sessions.insert(
            id.clone(),
            Session {
                association: Association::new(now, &identity, &config),
                config,
                answered: now,
                first_check: None,
                dtls_in: vec![],
                states: HashMap::new(),
                opened: HashMap::new(),
                rtcp: 0,
                errors: HashMap::new(),
                echo: (0, 111, 4242),
                echoed: 0,
            },
        );
    }
    let fp = identity.fingerprint().value.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":");
    let mut out = String::from("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n");
    let sections: Vec<String> = sdp.replace('\r', "").split("\nm=").skip(1).map(|x| format!("m={x}")).collect();
    let mids: Vec<&str> = sections.iter().map(|m| attr(m, "mid").unwrap()).collect();
    out += &format!("a=group:BUNDLE {}\r\na=fingerprint:sha-256 {fp}\r\n", mids.join(" "));
    for m in &sections {
        let kind = &m[2..7];
        let want = if kind == "audio" { "opus/48000/2" } else if m.contains("VP8/90000") { "VP8/90000" } else { "H264/90000" };
        let pt = m
            .lines()
            .find_map(|l| {
                l.strip_prefix("a=rtpmap:")
                    .and_then(|r| r.split_once(' '))
                    .filter(|(_, c)| c.eq_ignore_ascii_case(want))
                    .map(|(p, _)| p.to_owned())
            })
            .unwrap();
        let recv = m.contains("a=recvonly");
        let dir = if recv {
            "sendonly"
        } else if kind == "audio" {
            "sendrecv"
        } else {
            "recvonly"
        };
        out += &format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {pt}\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=setup:{}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na={dir}\r\na=rtpmap:{pt} {want}\r\n",
            attr(m, "mid").unwrap(),
            if active { "active" } else { "passive" },
            local.ufrag,
            local.pwd
        );
        if kind == "audio" {
            out += "a=msid:s t\r\na=ssrc:4242 cname:x\r\n";
            w.sessions.get_mut(&id).unwrap().echo.1 = pt.parse().unwrap();
        }
        for (i, a) in s.2.iter().enumerate() {
            out += &format!("a=candidate:{} 1 udp {} {} {} typ host\r\n", i + 1, 2130706431 - i, a.ip(), a.port());
        }
        out += "a=end-of-candidates\r\n";
    }
    out
}

/// `LOSS=0.2`: of what comes and of what goes.
fn lost() -> bool {
    std::env::var("LOSS").ok().and_then(|p| p.parse().ok()).is_some_and(|p| rand::random_bool(p))
}

async fn whip(state: State<Shared>, q: Query<HashMap<String, String>>, sdp: String) -> impl axum::response::IntoResponse {
    println!("WHIP OFFER\n{sdp}");
    let answer = offer(state, q, sdp).await;
    println!("WHIP ANSWER\n{answer}");
    (axum::http::StatusCode::CREATED, [("location", "/whip/1"), ("content-type", "application/sdp")], answer)
}

fn header_len(p: &[u8]) -> usize {
    let mut n = 12 + 4 * (p[0] & 15) as usize;
    if p[0] & 16 != 0 {
        n += 4 + 4 * u16::from_be_bytes([p[n + 2], p[n + 3]]) as usize;
    }
    n
}

async fn flush(id: &str, s: &mut Session, sock: &UdpSocket, addresses: &mut HashMap<SocketAddr, String>) {
    while let Some(e) = s.association.poll_event() {
        println!("[{id}] {:?} {e:?}", s.answered.elapsed());
        match e {
            AssociationEvent::Connected => {
                let profile = s.association.outbound().unwrap().profile().name();
                println!(
                    "[{id}] CONNECTED {profile}: {:?} after first check; DTLS in: {}",
                    s.first_check.unwrap().elapsed(),
                    s.dtls_in.join(" ")
                );
            }
            AssociationEvent::PathAdded(p) => drop(addresses.insert(p.remote, id.to_owned())),
            AssociationEvent::PathRemoved(p) => drop(addresses.remove(&p.remote)),
            _ => {}
        }
    }
    while let Some((p, d)) = s.association.poll_transmit() {
        if lost() {
            continue;
        }
        let _ = sock.send_to(&d, p.remote).await;
    }
}

async fn udp(s: Shared) {
    let mut buf = [0; 2048];
    let mut out = [0; 2048];
    loop {
        let got = tokio::time::timeout(std::time::Duration::from_millis(50), s.1.recv_from(&mut buf)).await;
        let mut w = s.0.lock().await;
        let w = &mut *w;
        let now = Instant::now();
        if let Ok(Ok((n, from))) = got
            && !lost()
        {
            let d = &buf[..n];
            let path = Path { socket: 0, remote: from, local_ip: None };
            let id =
                stun::username_local_ufrag(d).and_then(|u| w.ufrags.get(u)).or_else(|| w.addresses.get(&from)).cloned();
            let Some(id) = id else {
                println!("unknown {from} {:02x?}", &d[..d.len().min(20)]);
                continue;
            };
            let x = w.sessions.get_mut(&id).unwrap();
            let result = match d[0] {
                0..=3 => {
                    x.first_check.get_or_insert(now);
                    x.association.handle_stun(now, path, d)
                }
                20..=63 => {
                    x.dtls_in.push(format!("{}:{}/{}", d[0], d.get(13).copied().unwrap_or(0), n));
                    x.association.handle_dtls(now, path, d)
                }
                _ if (192..=223).contains(&d[1]) => match x.association.inbound() {
                    Some(i) => i.open_rtcp(d, &mut out).map(|_| x.rtcp += 1),
                    None => Err(exedra::metrics::DropReason::SrtpBeforeKeys),
                },
                _ => {
                    let ssrc = u32::from_be_bytes(d[8..12].try_into().unwrap());
                    let h = header_len(d);
                    let seq = u16::from_be_bytes([d[2], d[3]]);
                    let pt = d[1] & 127;
                    let opened = match x.association.inbound() {
                        Some(i) => i.open_rtp(x.states.entry(ssrc).or_default(), h, seq, d, &mut out),
                        None => Err(exedra::metrics::DropReason::SrtpBeforeKeys),
                    };
                    match opened {
                        Ok((_, len)) => {
                            *x.opened.entry(pt).or_default() += 1;
                            if pt == x.echo.1 {
                                x.echo.0 += 1;
                                let mut head = vec![0x80, out[1] & 0x80 | pt];
                                head.extend((x.echo.0 as u16).to_be_bytes());
                                head.extend(&out[4..8]);
                                head.extend(x.echo.2.to_be_bytes());
                                let mut sealed = [0; 2048];
                                let seq = SeqNo(x.echo.0);
                                let n = x
                                    .association
                                    .outbound()
                                    .unwrap()
                                    .seal_rtp(seq, &head, &out[h..len], &mut sealed)
                                    .unwrap();
                                x.echoed += 1;
                                let _ = s.1.send_to(&sealed[..n], x.association.path().unwrap().remote).await;
                            }
                            Ok(())
                        }
                        Err(e) => Err(e),
                    }
                }
            };
            if let Err(e) = result {
                *x.errors.entry(e.label()).or_default() += 1;
            }
        }
        for (id, x) in &mut w.sessions {
            x.association.handle_timeout(now);
            flush(id, x, &s.1, &mut w.addresses).await;
        }
    }
}

async fn report(State(s): State<Shared>, Query(q): Query<HashMap<String, String>>, body: String) -> String {
    let w = s.0.lock().await;
    let id = &q["id"];
    println!("[{id}] PAGE: {body}");
    if let Some(x) = w.sessions.get(id) {
        println!(
            "[{id}] SERVER: opened by pt {:?}, rtcp {}, echoed {}, drops {:?}, path {:?}",
            x.opened,
            x.rtcp,
            x.echoed,
            x.errors,
            x.association.path()
        );
    }
    String::new()
}

const PAGE: &str = r#"<!doctype html><script>
const q = new URLSearchParams(location.search), id = q.get('id'), active = q.get('active') || '0';
const say = o => fetch('/report?id=' + id, {method: 'POST', body: JSON.stringify(o)});
const sleep = ms => new Promise(r => setTimeout(r, ms));
async function negotiate(pc, o) {
  await pc.setLocalDescription(await pc.createOffer(o));
  const r = await fetch(`/offer?id=${id}&active=${active}`, {method: 'POST', body: pc.localDescription.sdp});
  await pc.setRemoteDescription({type: 'answer', sdp: await r.text()});
}
async function stats(pc) {
  const o = {conn: pc.connectionState, ice: pc.iceConnectionState};
  (await pc.getStats()).forEach(s => {
    if (s.type == 'transport') Object.assign(o, {srtp: s.srtpCipher, dtls: s.dtlsCipher, tls: s.tlsVersion, dtlsState: s.dtlsState, role: s.dtlsRole});
    if (s.type == 'inbound-rtp') o['in_' + s.kind] = [s.packetsReceived, s.packetsLost, s.totalAudioEnergy];
    if (s.type == 'outbound-rtp') o['out_' + s.kind] = s.packetsSent;
    if (s.type == 'remote-inbound-rtp') o['rr_' + s.kind] = s.packetsLost;
  });
  return o;
}
(async () => { try {
  if (q.get('many')) {
    const times = [];
    for (let n = 0; n < +q.get('many'); n++) {
      const pc = new RTCPeerConnection(), t = performance.now();
      pc.addTransceiver('audio', {direction: 'recvonly'}); pc.addTransceiver('video', {direction: 'recvonly'});
      await pc.setLocalDescription(await pc.createOffer());
      const r = await fetch(`/offer?id=${id}-${n}&active=${active}`, {method: 'POST', body: pc.localDescription.sdp});
      const done = new Promise(ok => { pc.onconnectionstatechange = () => { if (['connected', 'failed'].includes(pc.connectionState)) ok(pc.connectionState); }; setTimeout(() => ok('timeout'), 20000); });
      await pc.setRemoteDescription({type: 'answer', sdp: await r.text()});
      const how = await done; times.push(how[0] + Math.round(performance.now() - t)); pc.close();
    }
    await say({times: times.join(' ')});
    return await fetch('/report?id=' + id, {method: 'POST', body: 'DONE'});
  }
  const t0 = performance.now();
  const pc = new RTCPeerConnection();
  const ms = await navigator.mediaDevices.getUserMedia({audio: true, video: true});
  ms.getTracks().forEach(t => pc.addTrack(t, ms));
  pc.ontrack = e => { const a = new Audio(); a.srcObject = e.streams[0]; a.muted = true; a.play().catch(() => {}); };
  const t1 = performance.now();
  const connected = new Promise((ok, no) => { pc.onconnectionstatechange = () => { if (pc.connectionState == 'connected') ok(performance.now() - t1); if (pc.connectionState == 'failed') no(new Error('failed')); }; setTimeout(() => no(new Error('timeout ' + pc.iceConnectionState)), 15000); });
  await negotiate(pc);
  const ms1 = await connected;
  await say({connectedAfterMs: Math.round(ms1)});
  await sleep(4000);
  await say(await stats(pc));
  pc.restartIce();
  await negotiate(pc, {iceRestart: true});
  await sleep(4000);
  await say({afterRestart: await stats(pc)});
  pc.close();
  await sleep(500);
  await say({closed: 1});
} catch (e) { await say({error: String(e), stack: String(e.stack)}); } 
await fetch('/report?id=' + id, {method: 'POST', body: 'DONE'}); })();
</script>"#;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port: u16 = std::env::args().nth(1).map_or(9000, |p| p.parse().unwrap());
    let sock = UdpSocket::bind(("0.0.0.0", port)).await.unwrap();
    let mut advertised: Vec<SocketAddr> = vec![([127, 0, 0, 1], port).into()];
    for i in if_addrs::get_if_addrs().unwrap() {
        if i.ip().is_ipv4() && !i.ip().is_loopback() {
            advertised.insert(0, (i.ip(), port).into());
        }
    }
    println!("advertised {advertised:?}");
    let world = World {
        identity: LocalIdentity::generate().unwrap(),
        sessions: HashMap::new(),
        ufrags: HashMap::new(),
        addresses: HashMap::new(),
        n: 0,
    };
    let shared: Shared = Arc::new((Mutex::new(world), sock, advertised));
    tokio::spawn(udp(shared.clone()));
    let app = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/offer", post(offer))
        .route("/report", post(report)).route("/whip", post(whip))
        .with_state(shared);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    axum::serve(listener, app).await.unwrap();
}
