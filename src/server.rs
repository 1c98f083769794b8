//! The composition root: binds everything, starts the shards, the rooms' hub and HTTP, and takes it all down again.
use crate::config::{Config, Limits};
use crate::ids::{RoomId, ShardId};
use crate::net::tap::Taps;
use crate::net::{self, ShardHandle, ShardsConfig};
use crate::peer::LocalIdentity;
use crate::peer::sdp::SdpLimits;
use crate::recordings::{Notice, Recordings};
use crate::room::messages::IceServer;
use crate::room::{IdSource, Room, RoomLimits, RoomSettings};
use crate::rtp::history::HistoryBudget;
use crate::signal::hub::{Hub, MakeRoom};
use crate::signal::names::RoomName;
use crate::signal::{self, Signal};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Events of all shards that may wait to be handed to their rooms.
const EVENT_QUEUE: usize = 4096;
/// Candidates in an answer: what is above is left out, loopback first.
const MAX_CANDIDATES: usize = 16;
/// How long sockets have for their close frames, and the shards for their last datagrams, once the rooms are gone.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A server that runs. Dropping it does not end it; [`RunningServer::shutdown`] does.
pub struct RunningServer {
    pub http_addr: SocketAddr,
    pub udp_addrs: Vec<SocketAddr>,
    /// Where clients are told to send media, the preferred first.
    pub candidates: Vec<SocketAddr>,
    hub: Hub,
    drain: Duration,
    stop: watch::Sender<bool>,
    http: JoinHandle<()>,
    events: JoinHandle<()>,
    notices: JoinHandle<()>,
    shards: Vec<thread::JoinHandle<()>>,
}

/// Everything that kept the server from starting.
#[derive(Debug)]
pub struct StartError(Vec<String>);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exedra cannot start:")?;
        self.0.iter().try_for_each(|reason| write!(f, "\n  {reason}"))
    }
}

impl std::error::Error for StartError {}

/// Starts everything. All that cannot be bound is told at once.
pub async fn start(config: Config) -> Result<RunningServer, StartError> {
    let one = |error: String| StartError(vec![error]);
    let (listener, sockets) = bind(&config).await?;
    let http_addr = listener.local_addr().map_err(|e| one(format!("--http: {e}")))?;
    if let Some(settings) = &config.recordings {
        settings.prepare().map_err(|e| one(format!("--recordings: {e}")))?;
    }
    let identity = LocalIdentity::generate().map_err(|e| one(e.to_string()))?;
    let fingerprint = identity.fingerprint().clone();

    let (events, events_rx) = mpsc::channel(EVENT_QUEUE);
    let histories = HistoryBudget::new(config.limits.history_bytes);
    let taps = Taps::default();
    let shards = ShardsConfig { sockets, identity, seed: rand::random(), histories, taps: taps.clone(), events };
    let shards = net::spawn(shards).map_err(|e| one(format!("the media threads: {e}")))?;
    let addresses = shards.first().map(|shard| Arc::clone(&shard.addresses)).unwrap_or_default();
    let gso_segments = shards.iter().map(|shard| shard.gso_segments).min().unwrap_or(1);
    let (mut commands, mut metrics, mut threads) = (Vec::new(), Vec::new(), Vec::new());
    for ShardHandle { commands: to, metrics: of, thread, .. } in shards {
        commands.push(to);
        metrics.push(of);
        threads.push(thread);
    }
    let candidates = candidates(&addresses, &config.advertise, &interfaces());
    let settings = room_settings(&config, RoomSettings::new(fingerprint, candidates.clone()));

    let (notices, notices_rx) = mpsc::unbounded_channel();
    let recordings = Recordings::new(config.recordings.clone(), commands.clone(), taps, notices);
    let hub = Hub::new(make_room(settings), config.limits.rooms, commands, recordings, Arc::default());
    let notices = tokio::spawn(notify(hub.clone(), notices_rx));
    let events = tokio::spawn(dispatch(hub.clone(), events_rx));
    let (stop, stopped) = watch::channel(false);
    let signal = signal_settings(&config);
    let http = tokio::spawn(Signal::new(signal, hub.clone(), metrics).serve(listener, stopped));
    let udp_addrs = addresses.to_vec();
    if gso_segments == 1 {
        tracing::warn!(
            "this kernel sends one datagram for each system call (no UDP GSO): a packet costs several times as much"
        );
    }
    tracing::info!(%http_addr, ?udp_addrs, ?candidates, shards = threads.len(), "started");
    let drain = config.drain;
    Ok(RunningServer { http_addr, udp_addrs, candidates, hub, drain, stop, http, events, notices, shards: threads })
}

impl RunningServer {
    /// The address to open in a browser.
    pub fn url(&self) -> String {
        let ip = self.http_addr.ip();
        let port = self.http_addr.port();
        match ip {
            _ if ip.is_loopback() || ip.is_unspecified() => format!("http://localhost:{port}"),
            IpAddr::V4(ip) => format!("http://{ip}:{port}"),
            IpAddr::V6(ip) => format!("http://[{ip}]:{port}"),
        }
    }

    /// Tells everybody that the server goes away, waits for the rooms to end within the configured bound, closes what is
    /// left, and stops.
    pub async fn shutdown(self) {
        self.hub.drain(None, self.drain).await;
        self.hub.recordings().shutdown(self.drain.max(LAST_WORDS)).await;
        let _ = tokio::time::timeout(LAST_WORDS, self.hub.until_sockets_closed()).await;
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(LAST_WORDS, self.http).await;
        self.events.abort();
        self.notices.abort();
        // The shards end with the last sender of commands, which the hub holds.
        drop(self.hub);
        let shards = self.shards;
        let ended = tokio::task::spawn_blocking(move || shards.into_iter().all(|shard| shard.join().is_ok()));
        let _ = tokio::time::timeout(LAST_WORDS, ended).await;
    }
}

/// Starts, says so, and runs until SIGTERM or SIGINT; then drains. A second signal exits at once.
pub async fn run(config: Config) -> Result<(), StartError> {
    let mut signals = Signals::new().map_err(|e| StartError(vec![format!("signals: {e}")]))?;
    let server = start(config).await?;
    println!("Exedra is ready: {}", server.url());
    signals.next().await;
    tracing::info!("draining: a second signal does not wait");
    tokio::select! {
        () = server.shutdown() => tracing::info!("stopped"),
        () = signals.next() => tracing::warn!("stopped without waiting"),
    }
    Ok(())
}

struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// The sockets of each shard.
async fn bind(config: &Config) -> Result<(TcpListener, Vec<Vec<UdpSocket>>), StartError> {
    let mut reasons = Vec::new();
    let listener = TcpListener::bind(config.http).await;
    let listener = listener.map_err(|e| reasons.push(cannot_bind("--http", config.http, &e))).ok();
    let mut sockets: Vec<Vec<UdpSocket>> = (0..config.shards).map(|_| Vec::new()).collect();
    for address in &config.udp {
        match net::bind(*address, config.shards) {
            Ok(all) => sockets.iter_mut().zip(all).for_each(|(shard, socket)| shard.push(socket)),
            Err(e) if lacks_ipv6(*address, &e) && config.udp.len() > 1 => {
                tracing::warn!("no media over IPv6: {address} cannot be bound: {e}");
            }
            Err(e) => reasons.push(cannot_bind("--udp", *address, &e)),
        }
    }
    match listener {
        Some(listener) if reasons.is_empty() => Ok((listener, sockets)),
        _ => Err(StartError(reasons)),
    }
}

fn cannot_bind(flag: &str, address: SocketAddr, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => " (is another Exedra running?)",
        ErrorKind::AddrNotAvailable => " (no interface of this machine has it; --advertise is for addresses of others)",
        ErrorKind::PermissionDenied => " (ports below 1024 need a privilege)",
        _ => "",
    };
    format!("{flag}: {address} cannot be bound: {error}{hint}")
}

/// A machine without IPv6 has no `[::]`: that is no reason not to start.
fn lacks_ipv6(address: SocketAddr, error: &std::io::Error) -> bool {
    // EAFNOSUPPORT on Linux and on BSDs: it has no ErrorKind.
    let no_family = matches!(error.raw_os_error(), Some(97 | 47));
    address.is_ipv6() && address.ip().is_unspecified() && (no_family || error.kind() == ErrorKind::AddrNotAvailable)
}

async fn dispatch(hub: Hub, mut events: mpsc::Receiver<(ShardId, crate::engine::Event)>) {
    while let Some((shard, event)) = events.recv().await {
        hub.dispatch(shard, event);
    }
}

async fn notify(hub: Hub, mut notices: mpsc::UnboundedReceiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        hub.notify(notice).await;
    }
}

fn make_room(settings: RoomSettings) -> MakeRoom {
    let settings = Arc::new(settings);
    let ids = Arc::new(IdSource::default());
    Box::new(move |id: RoomId, name: &RoomName| {
        let rng = StdRng::from_os_rng();
        Box::new(Room::new(id, name.as_str(), settings.clone(), ids.clone(), rng, signal::wall_ms()))
    })
}

fn room_settings(config: &Config, defaults: RoomSettings) -> RoomSettings {
    let Limits { participants, full_presence, tracks, audio_slots, video_slots, signal, .. } = config.limits;
    let frame_bytes = signal.frame_bytes;
    let ice_servers = config.ice_servers.iter().map(|s| IceServer {
        urls: s.urls.clone(),
        username: s.username.clone(),
        credential: s.credential.clone(),
    });
    RoomSettings {
        limits: RoomLimits { frame_bytes, participants, tracks, audio_slots, video_slots, ..defaults.limits },
        full_presence,
        ice_servers: ice_servers.collect(),
        record_rooms: config.record_rooms.clone(),
        sdp: SdpLimits { bytes: signal.sdp_bytes, ..defaults.sdp },
        ..defaults
    }
}

fn signal_settings(config: &Config) -> signal::Settings {
    signal::Settings {
        access: config.access.clone(),
        admin: config.admin.clone(),
        cors: config.cors.clone(),
        ice_servers: config.ice_servers.clone(),
        limits: config.limits.signal,
    }
}

/// The addresses of this machine's interfaces.
fn interfaces() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.iter().map(if_addrs::Interface::ip).collect(),
        Err(error) => {
            tracing::warn!(%error, "the addresses of this machine cannot be read: only local clients will find it");
            vec![IpAddr::from([127, 0, 0, 1])]
        }
    }
}

/// Where clients can reach the sockets: the advertised addresses if there are any (NAT 1:1), else the bound ones, and for a
/// wildcard those of all interfaces. Link-local ones are left out, for they mean nothing without their interface; loopback
/// comes last, so that a try-out on one machine works.
fn candidates(bound: &[SocketAddr], advertise: &[IpAddr], interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    let ips_of = |bound: &SocketAddr| -> Vec<IpAddr> {
        match bound.ip() {
            _ if !advertise.is_empty() => advertise.to_vec(),
            ip if ip.is_unspecified() => interfaces.iter().copied().filter(|ip| !is_link_local(*ip)).collect(),
            ip => vec![ip],
        }
    };
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in bound {
        for ip in ips_of(address).into_iter().filter(|ip| ip.is_ipv4() == address.is_ipv4()) {
            let candidate = SocketAddr::new(ip, address.port());
            if !all.contains(&candidate) {
                all.push(candidate);
            }
        }
    }
    all.sort_by_key(|candidate| candidate.ip().is_loopback());
    all.truncate(MAX_CANDIDATES);
    all
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bound: &[&str], advertise: &[&str]) -> Vec<String> {
        let interfaces = ["127.0.0.1", "::1", "192.0.2.7", "fe80::1", "2001:db8::7", "169.254.3.4"];
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let bound: Vec<SocketAddr> = bound.iter().map(|a| a.parse().unwrap()).collect();
        candidates(&bound, &ips(advertise), &ips(&interfaces)).iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn a_wildcard_means_every_address_that_others_can_use() {
        let all = ["192.0.2.7:7882", "[2001:db8::7]:7882", "127.0.0.1:7882", "[::1]:7882"];
        assert_eq!(told(&["0.0.0.0:7882", "[::]:7882"], &[]), all);
        assert_eq!(told(&["0.0.0.0:7882"], &[]), ["192.0.2.7:7882", "127.0.0.1:7882"]);
    }

    #[test]
    fn what_is_bound_or_advertised_is_told_and_nothing_else() {
        assert_eq!(told(&["192.0.2.7:1", "127.0.0.1:2"], &[]), ["192.0.2.7:1", "127.0.0.1:2"]);
        assert_eq!(told(&["127.0.0.1:2"], &[]), ["127.0.0.1:2"]);
        let nat = ["203.0.113.9", "2001:db8::9"];
        assert_eq!(told(&["0.0.0.0:1", "[::]:2"], &nat), ["203.0.113.9:1", "[2001:db8::9]:2"]);
    }
}
