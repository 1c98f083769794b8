//! The server itself: recordings that are stopped, beside another server on the same folder, and when it is told to go.
use crate::server::{ADMIN, Publisher, Server};
use crate::{ffmpeg, film, folder};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_are_closed_when_they_are_stopped_and_when_the_server_goes() {
    film(0);
    let root = folder("service");
    let _ = std::fs::remove_dir_all(&root);
    let mut server = Server::start(&root);
    let _publisher = Publisher::publish(&server, 1).await;
    let stopped = server.record().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let other = Server::start(&root);
    let healed = by_hand(&root, "heal");
    assert!(healed.starts_with("there is nothing to heal"), "{healed}");
    assert_eq!(manifest(&root, &stopped)["state"], "recording", "it is none of theirs");
    drop(other);

    let url = server.url("/v1/admin/rooms/hall/recording");
    let answer = server.http.delete(url).bearer_auth(ADMIN).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    until(|| manifest(&root, &stopped)["state"] == "complete").await;
    assert_whole(&root, &stopped, "stopped");
    let cut_off = server.record().await;
    assert_ne!(cut_off, stopped);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let metrics = server.http.get(server.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for line in [
        "exedra_recordings_running 1",
        "exedra_recordings_ended_total{why=\"stopped\"} 1",
        "exedra_recording_lost_packets_total 0",
        "exedra_recording_sync_failures_total 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    assert!(
        !metrics.contains("exedra_recording_bytes_total 0\n") && !metrics.contains("exedra_recording_syncs_total 0\n")
    );

    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    until(|| server.child.try_wait().unwrap().is_some()).await;
    assert_whole(&root, &cut_off, "shutdown");
    let list = by_hand(&root, "list");
    assert!(list.lines().skip(1).all(|line| line.contains(" complete ") && line.ends_with("\"hall\"")), "{list}");
    assert_eq!(list.lines().count(), 3, "{list}");
}

fn by_hand(root: &Path, action: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exedra"));
    let output = command.args(["recordings", action, "--recordings"]).arg(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn manifest(root: &Path, id: &str) -> Value {
    let text = std::fs::read_to_string(root.join(id).join("session.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn assert_whole(root: &Path, id: &str, ended: &str) {
    let manifest = manifest(root, id);
    assert_eq!((&manifest["state"], &manifest["ended"]), (&"complete".into(), &ended.into()), "{manifest}");
    let files = manifest["files"].as_array().unwrap();
    assert_eq!(files.len(), 1, "{manifest}");
    assert_eq!(files[0]["sha256"].as_str().map(str::len), Some(64));
    let path = root.join(id).join(files[0]["name"].as_str().unwrap());
    let probe = ffmpeg::probe(&path);
    assert_eq!((probe.complaints.as_str(), probe.codec("video"), probe.codec("audio")), ("", "vp8", "opus"));
    assert_eq!(ffmpeg::decode(&path), "");
}

async fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "not in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
