//! Folders of recordings, as they are and as they should not be.
use super::*;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::Path;

/// A root of a test's own, taken away again.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("exedra-catalogue-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn catalogue(&self) -> Catalogue {
        Catalogue::new(self.0.clone())
    }

    fn keep(&self, id: &str, manifest: Value) -> PathBuf {
        let folder = self.0.join(id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(MANIFEST), manifest.to_string()).unwrap();
        folder
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn id(text: &str) -> SessionId {
    SessionId::try_from(text).unwrap()
}

fn manifest(id: &str, room: &str, state: &str, files: &[&str]) -> Value {
    let track = json!({"id": "t1", "kind": "audio", "codec": "opus", "firstMs": 0, "lastMs": 5, "frames": 1, "keyframes": 1,
        "lostPackets": 0});
    let file = |name: &&str| {
        json!({"name": name, "participant": "p1", "content": "camera", "part": 1, "startMs": 0, "durationMs": 5, "size": 3,
            "tracks": [track], "gaps": [], "sha256": "ab"})
    };
    let files: Vec<Value> = files.iter().map(file).collect();
    let mut all = json!({"version": 1, "id": id, "room": room, "startedAtMs": 1_000, "state": state, "files": files,
        "participants": [{"id": "p1", "name": "Ada", "joinedMs": 0}, {"id": "p2", "name": "Bo", "joinedMs": 1},
            {"id": "p1", "name": "Ada", "joinedMs": 2}]});
    if state != "recording" {
        all["endedAtMs"] = json!(61_000);
        all["ended"] = json!("stopped");
    }
    all
}

fn ids(page: &Page) -> Vec<&str> {
    page.recordings.iter().map(|r| r.id.as_str()).collect()
}

#[test]
fn the_newest_come_first_and_in_pages() {
    let root = Root::new("pages");
    for n in 0..7 {
        let name = format!("20261123-10150{n}-aaaa");
        root.keep(&name, manifest(&name, if n % 2 == 0 { "tea" } else { "lab" }, "complete", &[]));
    }
    root.keep("20261123-101509-bbbb", json!("not a manifest"));
    fs::create_dir(root.0.join("20261123-101509-cccc")).unwrap();
    fs::write(root.0.join("a-file"), "").unwrap();
    symlink(root.0.join("20261123-101500-aaaa"), root.0.join("a-link")).unwrap();
    let catalogue = root.catalogue();
    let first = catalogue.list(None, None, 3, 0).unwrap();
    assert_eq!(ids(&first), ["20261123-101506-aaaa", "20261123-101505-aaaa", "20261123-101504-aaaa"]);
    assert_eq!(first.next.as_deref(), Some("20261123-101504-aaaa"));
    let second = catalogue.list(None, Some(&id("20261123-101504-aaaa")), 4, 0).unwrap();
    assert_eq!((ids(&second).len(), second.next), (4, None));
    let tea = catalogue.list(Some("tea"), None, 3, 0).unwrap();
    assert_eq!(ids(&tea), ["20261123-101506-aaaa", "20261123-101504-aaaa", "20261123-101502-aaaa"]);
    assert!(tea.next.is_some());
    let rest = catalogue.list(Some("tea"), Some(&id("20261123-101502-aaaa")), 3, 0).unwrap();
    assert_eq!((ids(&rest), rest.next.as_deref()), (vec!["20261123-101500-aaaa"], None));
    assert_eq!(Catalogue::new(root.0.join("not-there")).list(None, None, 5, 0).unwrap().recordings, []);
}

#[test]
fn what_grows_is_told_as_it_is_now() {
    let root = Root::new("grows");
    let mut told = manifest("a", "tea", "recording", &["p1-camera-1.webm"]);
    told["files"][0].as_object_mut().unwrap().remove("sha256");
    told["files"][0]["size"] = json!(0);
    let folder = root.keep("a", told);
    fs::write(folder.join("p1-camera-1.webm"), [1; 100]).unwrap();
    let catalogue = root.catalogue();
    let listed = catalogue.list(None, None, 5, 31_000).unwrap().recordings.remove(0);
    assert_eq!((listed.bytes, listed.duration_ms, listed.people), (100, 30_000, 2));
    assert_eq!(listed.participants, ["Ada", "Bo"]);
    fs::write(folder.join("p1-camera-1.webm"), [1; 200]).unwrap();
    assert_eq!(catalogue.manifest(&id("a")).unwrap().files[0].size, 200);
    assert_eq!(catalogue.open_file(&id("a"), "p1-camera-1.webm").unwrap().len, 200);
    assert!(matches!(catalogue.remove(&id("a")), Err(RemoveError::Running)));
    // A manifest that took its place is read anew.
    fs::write(folder.join("new"), manifest("a", "tea", "complete", &["p1-camera-1.webm"]).to_string()).unwrap();
    fs::rename(folder.join("new"), folder.join(MANIFEST)).unwrap();
    assert_eq!(catalogue.list(None, None, 5, 99_000).unwrap().recordings[0].duration_ms, 60_000);
    catalogue.remove(&id("a")).unwrap();
    assert!(!folder.exists() && catalogue.manifest(&id("a")).is_err());
}

#[test]
fn only_files_that_the_manifest_names_are_opened_and_no_links() {
    let root = Root::new("names");
    let secret = root.0.join("secret");
    fs::write(&secret, "secret").unwrap();
    let names = ["p1-camera-1.webm", "p2-camera-1.webm", "p3-camera-1.webm", "../secret", ".hidden"];
    let folder = root.keep("a", manifest("a", "tea", "complete", &names));
    fs::write(folder.join("p1-camera-1.webm"), "abc").unwrap();
    fs::write(folder.join("p9-camera-1.webm"), "not named").unwrap();
    fs::write(folder.join(".hidden"), "hidden").unwrap();
    symlink(&secret, folder.join("p2-camera-1.webm")).unwrap();
    symlink(&secret, folder.join(EVENTS)).unwrap();
    fs::create_dir(folder.join("p3-camera-1.webm")).unwrap();
    let catalogue = root.catalogue();
    let opened = catalogue.open_file(&id("a"), "p1-camera-1.webm").unwrap();
    assert_eq!((opened.len, opened.kind, opened.sha256.as_deref()), (3, FileKind::Audio, Some("ab")));
    assert_eq!(catalogue.open_file(&id("a"), MANIFEST).unwrap().kind, FileKind::Manifest);
    for bad in
        ["p2-camera-1.webm", "p3-camera-1.webm", "p9-camera-1.webm", "../secret", ".hidden", EVENTS, "", "a\0b", ".."]
    {
        assert!(catalogue.open_file(&id("a"), bad).is_err(), "{bad:?}");
    }
    let elsewhere = Root::new("elsewhere");
    elsewhere.keep("b", manifest("b", "tea", "complete", &[]));
    symlink(elsewhere.0.join("b"), root.0.join("b")).unwrap();
    assert_eq!(catalogue.manifest(&id("b")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(catalogue.remove(&id("b")).is_err() && elsewhere.0.join("b").exists());
}

#[test]
fn what_is_taken_away_stays_within_its_folder() {
    let root = Root::new("away");
    let outside = root.0.join("outside");
    fs::write(&outside, "stays").unwrap();
    let folder = root.keep("a", manifest("a", "tea", "healed", &["p1-camera-1.webm"]));
    fs::write(folder.join("p1-camera-1.webm"), "abc").unwrap();
    symlink(&outside, folder.join("link")).unwrap();
    symlink(Path::new("/"), folder.join("root")).unwrap();
    root.catalogue().remove(&id("a")).unwrap();
    assert!(outside.exists() && !folder.exists());
    assert!(matches!(root.catalogue().remove(&id("a")), Err(RemoveError::Io(e)) if e.kind() == ErrorKind::NotFound));
}
