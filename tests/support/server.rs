//! The server that a test talks to, and how long it waits for it.
use exedra::config::{self, Invocation};
use exedra::server::{self, RunningServer};
use std::time::Duration;

/// The bound of every wait: generous, for it is reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(15);

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
