//! The server under load: one that runs, or one that is started for it; and what it spends.
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// The clock ticks of `/proc/<pid>/stat` in one second: a constant of Linux's interface to user space.
const TICKS_A_SECOND: f64 = 100.0;

/// See the module. A server that was started here ends with this.
pub struct Server {
    pub http: String,
    child: Option<Child>,
}

/// What the server has spent and done so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub cpu_seconds: Option<f64>,
    /// RTP packets sent to subscribers.
    pub forwarded: f64,
    pub send_calls: f64,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Server {
    pub async fn find_or_start(url: Option<&str>) -> Result<Self, String> {
        let server = match url {
            Some(url) => Self { http: url.trim_end_matches('/').to_owned(), child: None },
            None => Self::start()?,
        };
        for _ in 0..100 {
            if server.fetch("/readyz").await.is_some() {
                return Ok(server);
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("{} does not answer", server.http))
    }

    fn start() -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let program = own.with_file_name("exedra");
        let free = |address: std::io::Result<std::net::SocketAddr>| address.map_err(|e| e.to_string());
        let http = free(TcpListener::bind("127.0.0.1:0").and_then(|s| s.local_addr()))?;
        let udp = free(UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()))?;
        let child = Command::new(&program)
            .args(["--http", &http.to_string(), "--udp", &udp.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| {
                format!("{}: {e}; build it first (cargo build --release), or give --server", program.display())
            })?;
        Ok(Self { http: format!("http://{http}"), child: Some(child) })
    }

    pub async fn usage(&self) -> Option<Usage> {
        let metrics = self.fetch("/metrics").await?;
        let value = |name: &str| {
            let lines = metrics.lines().filter(|l| l.starts_with(name));
            lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
        };
        let forwarded = value("exedra_rtp_packets_out_total");
        let send_calls = value("exedra_sends_total");
        Some(Usage { cpu_seconds: self.cpu_seconds(), forwarded, send_calls })
    }

    /// CPU time of the process that was started here, in user space and kernel.
    fn cpu_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.as_ref()?.id())).ok()?;
        // The name in parentheses may hold anything; utime and stime are the 14th and 15th field.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
        Some(ticks / TICKS_A_SECOND)
    }

    /// The body of a 200.
    async fn fetch(&self, path: &str) -> Option<String> {
        let host = self.http.strip_prefix("http://")?;
        let mut stream = TcpStream::connect(host).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
    }
}
