//! What the tests with a real peer share: a server, the room's socket, an independent WebRTC peer, and test media.
pub mod hostile;
pub mod media;
pub mod peer;
pub mod room;
pub mod server;

pub use server::{start, within};

use exedra::server::RunningServer;

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
