//! A peer's side of the transport, as little of it as connects.
use super::Collecting;
use crate::client::stun;
use exedra::engine::{Command, Engine, Path};
use exedra::ids::PeerId;
use exedra::peer::LocalIdentity;
use exedra::peer::config::{DtlsConfig, DtlsRole, IceConfig, IceCredentials, PeerConfig, ReceiveMedia, SendMedia};
use exedra::peer::dtls::rtc_dtls::RtcDtls;
use exedra::peer::dtls::{DtlsEvent, DtlsTransport, SrtpKeying};
use exedra::peer::srtp::{self, SrtpInbound, SrtpOutbound};
use exedra::rtp::header::{Datagram, classify};
use std::net::SocketAddr;
use std::time::Instant;

/// A handshake has three round trips; its flights are a handful of datagrams.
const MAX_TURNS: usize = 32;

/// A connected peer.
pub struct Client {
    pub path: Path,
    pub outbound: SrtpOutbound,
    pub inbound: SrtpInbound,
    local: IceCredentials,
    remote: IceCredentials,
    checks: u64,
}

impl Client {
    /// Adds the peer to the engine, in the rig's room, and shakes hands.
    pub fn connect(
        engine: &mut Engine,
        now: Instant,
        identity: &LocalIdentity,
        peer: PeerId,
        address: SocketAddr,
        receive: Vec<ReceiveMedia>,
        send: Vec<SendMedia>,
    ) -> Result<Self, String> {
        let path = Path { socket: 0, remote: address, local_ip: None };
        let (local, remote) = (credentials("client", peer), credentials("server", peer));
        let fingerprints = vec![identity.fingerprint().clone()];
        let config = PeerConfig {
            ice: IceConfig { local: remote.clone(), remote: local.clone() },
            dtls: DtlsConfig { role: DtlsRole::Server, fingerprints: fingerprints.clone() },
            receive,
            send,
            cname: "rig".into(),
        };
        engine.handle_command(now, Command::AddPeer { peer, room: super::ROOM, config: Box::new(config) });
        engine.handle_datagram(now, path, &stun::check(transaction(0), &local, &remote));
        let mut dtls = RtcDtls::new(identity, &DtlsConfig { role: DtlsRole::Client, fingerprints });
        dtls.start(now);
        let keying = shake_hands(engine, now, path, &mut dtls)?;
        let (outbound, inbound) = srtp::from_keying_material(keying.profile, &keying.material, keying.we_are_client)
            .map_err(|e| e.to_string())?;
        Ok(Self { path, outbound, inbound, local, remote, checks: 0 })
    }

    /// A consent check.
    pub fn check(&mut self) -> Vec<u8> {
        self.checks += 1;
        stun::check(transaction(self.checks), &self.local, &self.remote)
    }

    /// A compound, sealed. Empty only when 2^31 were sealed before it.
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> Vec<u8> {
        let mut out = vec![0; compound.len() + self.outbound.profile().rtcp_overhead()];
        let len = self.outbound.seal_rtcp(compound, &mut out).unwrap_or_default();
        out.truncate(len);
        out
    }
}

fn shake_hands(engine: &mut Engine, now: Instant, path: Path, dtls: &mut RtcDtls) -> Result<SrtpKeying, String> {
    let mut keys = None;
    for _ in 0..MAX_TURNS {
        while let Some(datagram) = dtls.poll_transmit() {
            engine.handle_datagram(now, path, &datagram);
        }
        let mut answers = Collecting::default();
        engine.flush(now, &mut answers);
        let own = answers.datagrams.iter().filter(|(to, d)| *to == path.remote && classify(d) == Datagram::Dtls);
        let mut any = false;
        for (_, datagram) in own {
            any = true;
            dtls.handle_datagram(now, datagram).map_err(|reason| format!("the handshake: {reason}"))?;
        }
        while let Some(event) = dtls.poll_event() {
            match event {
                DtlsEvent::Connected(keying) => keys = Some(keying),
                DtlsEvent::Closed | DtlsEvent::Failed => return Err("the handshake failed".into()),
            }
        }
        if let Some(keys) = keys.take_if(|_| !any) {
            while engine.poll_event().is_some() {}
            return Ok(keys);
        }
    }
    Err("the handshake does not end".into())
}

fn credentials(side: &str, peer: PeerId) -> IceCredentials {
    IceCredentials { ufrag: format!("{side}{peer}"), pwd: format!("{side}-password-of-22-characters") }
}

fn transaction(n: u64) -> stun::Transaction {
    let mut id = [0; 12];
    id[..8].copy_from_slice(&n.to_be_bytes());
    id
}
