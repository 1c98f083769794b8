//! The server under load: one that runs, or one that is started for it; what it spends, and what it tells of itself.
use loadtest::carrier::HttpAddress;
use loadtest::kernel::{ProcessUsage, SocketDrops, Threads};
use loadtest::report::model::{CpuTime, Memory, ServerFigures, ServerSample};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(5);

/// See the module. A server that was started here ends with this.
pub struct Server {
    pub address: HttpAddress,
    started: Started,
    pid: Option<u32>,
    log: Option<PathBuf>,
    /// Its media port, where it is known.
    ports: HashSet<u16>,
    drops: SocketDrops,
    last: Option<State>,
}

/// What the server has spent and done so far.
#[derive(Clone, Debug, Default)]
pub struct State {
    at: Option<Instant>,
    process: Option<ProcessUsage>,
    metrics: Metrics,
    socket_drops: u64,
}

/// The counters of `/metrics`, shards together.
#[derive(Clone, Debug, Default)]
struct Metrics(BTreeMap<String, f64>);

/// The server that was started here, if one runs. Shared with whoever ends the program at once.
#[derive(Clone, Default)]
pub struct Started(Arc<Mutex<Option<Child>>>);

impl Started {
    pub fn end(&self) {
        if let Some(mut child) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn has_ended(&self) -> bool {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.started.end();
    }
}

impl Server {
    /// Finds the server at an address (`http://host:port`), of this process id if it is on this machine.
    pub fn find(url: &str, pid: Option<u32>) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url}: only http:// is spoken here"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let mut addresses = with_port.to_socket_addrs().map_err(|e| format!("{authority}: {e}"))?;
        let address = addresses.next().ok_or_else(|| format!("{authority}: no address"))?;
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        let address = HttpAddress { authority: authority.to_owned(), address, path };
        TcpStream::connect_timeout(&address.address, ANSWER).map_err(|e| format!("{url}: {e}"))?;
        if pid.is_some_and(|pid| ProcessUsage::read(pid).is_none()) {
            return Err(format!("there is no process {} that one may look at", pid.unwrap_or(0)));
        }
        Ok(Self::at(address, pid))
    }

    /// Starts the server that was built beside this program, and keeps it in `started`.
    pub fn start(extra: &[String], started: &Started) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let program = own.with_file_name("exedra");
        if !program.exists() {
            let release = own.components().any(|part| part.as_os_str() == "release");
            let command = if release { "cargo build --release -p exedra" } else { "cargo build -p exedra" };
            return Err(format!(
                "there is no server to load at {}: build it first (`{command}`), or name one that runs by --server URL",
                program.display()
            ));
        }
        let free = |address: std::io::Result<std::net::SocketAddr>| address.map_err(|e| e.to_string());
        let http = free(TcpListener::bind("127.0.0.1:0").and_then(|s| s.local_addr()))?;
        let udp = free(UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()))?;
        let path = std::env::temp_dir().join(format!("exedra-loadtest-{}.log", std::process::id()));
        let child = spawn(&program, http, udp, extra, &path)?;
        let address = HttpAddress { authority: http.to_string(), address: http, path: String::new() };
        let mut server = Self::at(address, Some(child.id()));
        *started.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        (server.started, server.log) = (started.clone(), Some(path));
        server.ports.insert(udp.port());
        server.wait_until_ready()?;
        Ok(server)
    }

    fn at(address: HttpAddress, pid: Option<u32>) -> Self {
        let (started, ports, drops) = (Started::default(), HashSet::new(), SocketDrops::default());
        Self { address, started, pid, log: None, ports, drops, last: None }
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while self.fetch("/readyz").is_none() {
            let ended = self.started.has_ended();
            if ended || began.elapsed() > START {
                let log = self.log.as_deref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it logged nothing");
                return Err(format!("the server {}: {last}", if ended { "ended" } else { "does not answer" }));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Where a server that was started here logs.
    pub fn log(&self) -> Option<&Path> {
        self.log.as_deref()
    }

    /// What it is called in the result.
    pub fn name(&self) -> String {
        match self.log {
            Some(_) => format!("exedra {}", env!("CARGO_PKG_VERSION")),
            None => format!("http://{}{}", self.address.authority, self.address.path),
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// False if a server that was started here has ended.
    pub fn is_alive(&self) -> bool {
        !self.started.has_ended()
    }

    /// What it has spent and done by now.
    pub fn state(&mut self) -> State {
        self.drops.update(&self.ports);
        State {
            at: Some(Instant::now()),
            process: self.pid.and_then(ProcessUsage::read),
            metrics: self.fetch("/metrics").map(|text| Metrics::parse(&text)).unwrap_or_default(),
            socket_drops: self.drops.total,
        }
    }

    /// One second of it. None where nothing can be known.
    pub fn sample(&mut self) -> Option<(ServerSample, State)> {
        let now = self.state();
        let before = self.last.replace(now.clone()).unwrap_or_else(|| now.clone());
        if now.process.is_none() && now.metrics.0.is_empty() {
            return None;
        }
        let seconds = now.since(&before).as_secs_f64();
        let cpu = now.process.as_ref().zip(before.process.as_ref()).map(|(now, before)| now.cpu_since(before));
        let count = |name: &str| now.metrics.since(&before.metrics, name);
        let sample = ServerSample {
            cpu_share: cpu.filter(|_| seconds > 0.0).map(|cpu| cpu.total_us() as f64 / 1e6 / seconds),
            rss_bytes: now.process.as_ref().map(|p| p.rss_bytes),
            descriptors: now.process.as_ref().map(|p| p.descriptors),
            packets_in: count("exedra_rtp_packets_in_total"),
            packets_out: count("exedra_rtp_packets_out_total"),
            datagrams_out: count("exedra_datagrams_out_total"),
            sends: count("exedra_sends_total"),
            receives: count("exedra_receives_total"),
            drops: count("exedra_dropped_packets_total"),
            socket_drops: now.socket_drops - before.socket_drops,
        };
        Some((sample, now))
    }

    /// What the threads of its process have used.
    pub fn threads(&self) -> Option<Threads> {
        self.pid.and_then(Threads::read)
    }

    /// Asks as an operator: the status and the body of the answer.
    pub fn administer(&self, method: &str, path: &str, token: &str) -> Result<(u16, String), String> {
        let answer = self.exchange(method, path, &format!("Authorization: Bearer {token}\r\nContent-Length: 0\r\n"));
        let (head, body) = answer.ok_or_else(|| format!("{method} {path}: no answer"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or_else(|| format!("{method} {path}: {head}"))?, body))
    }

    /// The body of a 200.
    fn fetch(&self, path: &str) -> Option<String> {
        let (head, body) = self.exchange("GET", path, "")?;
        head.lines().next()?.contains(" 200 ").then_some(body)
    }

    /// The head and the body of an answer.
    fn exchange(&self, method: &str, path: &str, headers: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect_timeout(&self.address.address, ANSWER).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        let HttpAddress { authority, path: prefix, .. } = &self.address;
        let head = format!("{method} {prefix}{path} HTTP/1.1\r\nHost: {authority}\r\n{headers}");
        write!(stream, "{head}Connection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_owned(), body.to_owned()))
    }
}

fn spawn(
    program: &Path,
    http: std::net::SocketAddr,
    udp: std::net::SocketAddr,
    extra: &[String],
    log: &Path,
) -> Result<Child, String> {
    let of_log = |e: std::io::Error| format!("{}: {e}", log.display());
    let file = File::create(log).map_err(of_log)?;
    Command::new(program)
        .args(["--http", &http.to_string(), "--udp", &udp.to_string(), "--max-participants", "10000"])
        .args(extra)
        .stdin(Stdio::null())
        // Ctrl-C is for the load test: a server that drains would be seen as one that fails.
        .process_group(0)
        .stderr(file.try_clone().map_err(of_log)?)
        .stdout(file)
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))
}

impl State {
    fn since(&self, before: &Self) -> Duration {
        self.at.zip(before.at).map_or(Duration::ZERO, |(now, before)| now.saturating_duration_since(before))
    }

    pub fn rss_bytes(&self) -> u64 {
        self.process.as_ref().map_or(0, |p| p.rss_bytes)
    }

    /// A counter by now, shards together.
    pub fn counter(&self, name: &str) -> u64 {
        self.metrics.value(name) as u64
    }

    pub fn descriptors(&self) -> u64 {
        self.process.as_ref().map_or(0, |p| p.descriptors)
    }

    /// What the server did from `before` until now. `idle` is from before the first join, `rss_max` the most it held.
    pub fn figures(&self, name: String, pid: Option<u32>, before: &Self, idle: &Self, rss_max: u64) -> ServerFigures {
        let cpu = self.process.as_ref().zip(before.process.as_ref()).map(|(now, before)| now.cpu_since(before));
        let count = |name: &str| self.metrics.since(&before.metrics, name);
        let memory = self.process.as_ref().map(|_| Memory {
            rss_before_bytes: idle.rss_bytes(),
            rss_joined_bytes: before.rss_bytes(),
            rss_max_bytes: rss_max.max(self.rss_bytes()),
            rss_end_bytes: self.rss_bytes(),
            descriptors_before: idle.descriptors(),
            descriptors_end: self.descriptors(),
            peers: self.metrics.value("exedra_peers") as u64,
        });
        ServerFigures {
            name,
            pid,
            measured_ms: self.since(before).as_millis() as u64,
            cpu: cpu.filter(|cpu: &CpuTime| cpu.total_us() > 0),
            packets_out: count("exedra_rtp_packets_out_total"),
            packets_in: count("exedra_rtp_packets_in_total"),
            datagrams_out: count("exedra_datagrams_out_total"),
            datagrams_in: count("exedra_datagrams_in_total"),
            bytes_out: count("exedra_bytes_out_total"),
            bytes_in: count("exedra_bytes_in_total"),
            sends: count("exedra_sends_total"),
            receives: count("exedra_receives_total"),
            retransmissions: count("exedra_retransmissions_out_total"),
            nacks_in: count("exedra_nacks_in_total"),
            nacks_out: count("exedra_nacks_out_total"),
            keyframe_requests_in: count("exedra_keyframe_requests_in_total"),
            keyframe_requests_out: count("exedra_keyframe_requests_out_total"),
            drops: self.metrics.drops_since(&before.metrics),
            socket_drops: self.socket_drops - before.socket_drops,
            loop_max_us: (self.metrics.value("exedra_loop_seconds_max") * 1e6) as u64,
            shards: self.metrics.value(SHARDS) as u32,
            memory,
            floor: None,
        }
    }
}

/// How drops of one reason are called here.
const DROP: &str = "exedra_dropped_packets_total";

/// How many shards told of their peers.
const SHARDS: &str = "shards";

impl Metrics {
    /// Of samples with labels the sum is kept, under the name alone; of drops each reason as well. Of maxima it is the greatest.
    fn parse(text: &str) -> Self {
        let mut values: BTreeMap<String, f64> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let known = values.entry(name.to_owned()).or_default();
            *known = if name.ends_with("_max") { known.max(value) } else { *known + value };
            if name == "exedra_peers" {
                *values.entry(SHARDS.to_owned()).or_default() += 1.0;
            }
            if let Some((_, reason)) = labels.split_once("reason=\"").filter(|_| name == DROP) {
                let reason = reason.split('"').next().unwrap_or_default();
                *values.entry(format!("{DROP}:{reason}")).or_default() += value;
            }
        }
        Self(values)
    }

    fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    fn since(&self, before: &Self, name: &str) -> u64 {
        (self.value(name) - before.value(name)).max(0.0) as u64
    }

    fn drops_since(&self, before: &Self) -> BTreeMap<String, u64> {
        let reasons = self.0.keys().filter_map(|key| Some((key, key.strip_prefix(DROP)?.strip_prefix(':')?)));
        let counts = reasons.map(|(key, reason)| (reason.to_owned(), self.since(before, key)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shards_are_added_up() {
        let before = Metrics::parse("# HELP x y\nexedra_sends_total{shard=\"0\"} 5\n");
        let now = Metrics::parse(
            "exedra_sends_total{shard=\"0\"} 7\nexedra_sends_total{shard=\"1\"} 4\nexedra_loop_seconds_max{shard=\"0\"} 0.5\n\
             exedra_loop_seconds_max{shard=\"1\"} 0.25\nexedra_dropped_packets_total{shard=\"0\",reason=\"too_old\"} 3\n\
             exedra_dropped_packets_total{shard=\"1\",reason=\"too_old\"} 2\nexedra_dropped_packets_total{shard=\"1\",reason=\"muted\"} 0\n",
        );
        assert_eq!(now.since(&before, "exedra_sends_total"), 6);
        assert_eq!((now.value("exedra_loop_seconds_max"), now.since(&before, DROP)), (0.5, 5));
        assert_eq!(now.drops_since(&before), BTreeMap::from([("too_old".to_owned(), 5)]));
    }

    #[test]
    fn an_address_is_taken_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let server = Server::find(&format!("http://{at}/sfu/"), None).unwrap();
        assert_eq!((server.address.authority.as_str(), server.address.path.as_str()), (at.as_str(), "/sfu"));
        assert!(Server::find(&format!("https://{at}"), None).is_err());
        drop(listener);
        assert!(Server::find(&format!("http://{at}"), None).is_err(), "nobody listens there");
    }
}
