//! What the tests with a real peer share: a server, the room's socket, an independent WebRTC peer, and test media.
pub mod hostile;
pub mod media;
pub mod peer;
pub mod room;

use exedra::config::{self, Invocation};
use exedra::server::{self, RunningServer};
use std::time::Duration;

/// The bound of every wait: generous, for it is reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The whole server, in this process, on free ports of the loopback interface.
pub async fn start() -> RunningServer {
    let args = ["exedra", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"].map(std::ffi::OsString::from);
    match config::load(args, []) {
        Ok(Invocation::Serve(config)) => server::start(*config).await.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// `what`, or a panic that says what did not come.
pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// The sum of a counter of `/metrics` over its labels, of those that have `label` in them.
pub async fn metric(server: &RunningServer, name: &str, label: &str) -> u64 {
    let text = reqwest::get(format!("http://{}/metrics", server.http_addr)).await.unwrap().text().await.unwrap();
    let samples = text.lines().filter(|l| l.starts_with(name) && l.contains(label));
    samples.filter_map(|l| l.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

/// How many packets were dropped for `reason`.
pub async fn drops(server: &RunningServer, reason: &str) -> u64 {
    metric(server, "exedra_dropped_packets_total", &format!("reason=\"{reason}\"")).await
}
