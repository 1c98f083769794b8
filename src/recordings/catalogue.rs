//! What is kept: reads the folders of recordings, those that are being written included, and takes them away.
//!
//! All of this touches the disk, and may wait for it. What was read of a manifest is kept for as long as its file is the same, so that a
//! list of thousands, or a player that asks for many pieces of a file, costs little.
use crate::record::disk::{self, EVENTS, Folder, MANIFEST, is_plain};
use crate::record::manifest::{Ended, File, Session as Manifest, State};
use crate::record::session::SessionId;
use crate::rtp::Kind;
use serde::Serialize;
use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Names of participants in a summary.
const MAX_NAMES: usize = 12;
/// Manifests of which something is kept in memory: some 300 bytes each, and 100 for each file.
const MAX_KEPT: usize = 4096;

/// The recordings under a folder.
#[derive(Debug)]
pub struct Catalogue {
    root: PathBuf,
    kept: Mutex<HashMap<SessionId, Arc<Kept>>>,
}

/// What a list tells of a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub id: String,
    /// As its owner named it.
    pub room: String,
    /// Unix milliseconds.
    pub started_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    pub state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// Until now, of one that runs.
    pub duration_ms: u64,
    /// Of all media files.
    pub bytes: u64,
    /// How many files.
    pub files: usize,
    /// Names of those who were there, in the order in which they came, each once, at most twelve.
    pub participants: Vec<String>,
    /// How many participants there were.
    pub people: usize,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// The newest first.
    pub recordings: Vec<Summary>,
    /// There are more after this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A file of a recording, opened.
#[derive(Debug)]
pub struct OpenFile {
    pub file: fs::File,
    /// Its length now. If it grows, that is what there is of it.
    pub len: u64,
    /// What is in it.
    pub kind: FileKind,
    /// Of a media file that is finished, in hexadecimal.
    pub sha256: Option<String>,
}

/// What a file of a recording is, as far as its media type goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Manifest,
    Events,
    /// Sound alone.
    Audio,
    Video,
}

/// Why a recording was not taken away.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error("it is still being recorded, or being closed")]
    Running,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What was read of a manifest, and which one it was.
#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    summary: Summary,
    /// By name.
    files: HashMap<String, KeptFile>,
}

#[derive(Debug)]
struct KeptFile {
    kind: FileKind,
    sha256: Option<String>,
}

/// A manifest is replaced, never changed.
type Stamp = (u64, u64, i64, i64);

impl Catalogue {
    pub fn new(root: PathBuf) -> Self {
        Self { root, kept: Mutex::default() }
    }

    /// The newest recordings, of one room if `room` is given, that come after the id `after`; at most `limit` of them. Ids begin with
    /// the time of their start, so their order is that of time. What has no readable manifest is left out. `now_ms`: Unix milliseconds.
    pub fn list(&self, room: Option<&str>, after: Option<&SessionId>, limit: usize, now_ms: u64) -> io::Result<Page> {
        let mut ids = self.ids()?;
        ids.retain(|id| after.is_none_or(|after| id < after));
        let mut page = Page { recordings: Vec::new(), next: None };
        for id in ids.into_iter().rev() {
            let Ok(kept) = self.kept(&id) else { continue };
            if room.is_some_and(|room| room != kept.summary.room) {
                continue;
            }
            if page.recordings.len() == limit {
                page.next = page.recordings.last().map(|last| last.id.clone());
                break;
            }
            page.recordings.push(self.as_of_now(&id, &kept, now_ms));
        }
        Ok(page)
    }

    /// What a recording is, in short. [`ErrorKind::NotFound`] if there is none.
    pub fn summary(&self, id: &SessionId, now_ms: u64) -> io::Result<Summary> {
        let kept = self.kept(id)?;
        Ok(self.as_of_now(id, &kept, now_ms))
    }

    /// The room that was recorded.
    pub fn room(&self, id: &SessionId) -> io::Result<String> {
        Ok(self.kept(id)?.summary.room.clone())
    }

    /// What a recording says of itself. Files that grow have the size that they have now.
    pub fn manifest(&self, id: &SessionId) -> io::Result<Manifest> {
        let folder = self.folder(id)?;
        let mut manifest = folder.manifest()?;
        for file in manifest.files.iter_mut().filter(|f| f.sha256.is_none()) {
            file.size = folder.open_file(&file.name).and_then(|f| Ok(f.metadata()?.len())).unwrap_or(file.size);
        }
        Ok(manifest)
    }

    /// Opens `session.json`, `events.jsonl`, or a file that the manifest names.
    pub fn open_file(&self, id: &SessionId, name: &str) -> io::Result<OpenFile> {
        let (kind, sha256) = match name {
            MANIFEST => (FileKind::Manifest, None),
            EVENTS => (FileKind::Events, None),
            name => match self.kept(id)?.files.get(name) {
                Some(file) => (file.kind, file.sha256.clone()),
                None => return Err(ErrorKind::NotFound.into()),
            },
        };
        let file = self.folder(id)?.open_file(name)?;
        let len = file.metadata()?.len();
        Ok(OpenFile { file, len, kind, sha256 })
    }

    /// Takes a recording away, and all of its files. Refuses one that runs. If it is interrupted, the recording is still listed, and can be
    /// taken away again.
    pub fn remove(&self, id: &SessionId) -> Result<(), RemoveError> {
        let folder = self.folder(id)?;
        if folder.manifest()?.state == State::Recording {
            return Err(RemoveError::Running);
        }
        for entry in fs::read_dir(folder.path())? {
            let entry = entry?;
            // A folder is not ours. Then the last step fails, and says so.
            if entry.file_name() != MANIFEST && !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_file(folder.path().join(MANIFEST))?;
        fs::remove_dir(folder.path())?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    fn folder(&self, id: &SessionId) -> io::Result<Folder> {
        Folder::open(&self.root, id).map_err(|error| match error.kind() {
            ErrorKind::NotADirectory => ErrorKind::NotFound.into(),
            _ => error,
        })
    }

    /// The oldest first.
    fn ids(&self) -> io::Result<Vec<SessionId>> {
        match disk::sessions(&self.root) {
            // Nothing was recorded yet.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    fn kept(&self, id: &SessionId) -> io::Result<Arc<Kept>> {
        let folder = self.folder(id)?;
        let seen = fs::symlink_metadata(folder.path().join(MANIFEST))?;
        let stamp = (seen.ino(), seen.len(), seen.mtime(), seen.mtime_nsec());
        if let Some(kept) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(id)
            && kept.stamp == stamp
        {
            return Ok(Arc::clone(kept));
        }
        let kept = Arc::new(Kept::new(id, stamp, &folder.manifest()?));
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_KEPT {
            all.clear();
        }
        all.insert(id.clone(), Arc::clone(&kept));
        Ok(kept)
    }

    /// Of one that runs, the manifest is behind.
    fn as_of_now(&self, id: &SessionId, kept: &Kept, now_ms: u64) -> Summary {
        let mut summary = kept.summary.clone();
        if summary.state != State::Recording {
            return summary;
        }
        if summary.ended_at_ms.is_none() {
            summary.duration_ms = now_ms.saturating_sub(summary.started_at_ms);
        }
        if let Ok(folder) = self.folder(id) {
            let len = |name: &String| fs::symlink_metadata(folder.path().join(name)).map_or(0, |file| file.len());
            summary.bytes = kept.files.keys().map(len).sum();
        }
        summary
    }
}

impl Kept {
    fn new(id: &SessionId, stamp: Stamp, manifest: &Manifest) -> Self {
        let mut names: Vec<String> = Vec::new();
        for participant in &manifest.participants {
            if names.len() < MAX_NAMES && !names.contains(&participant.name) {
                names.push(participant.name.clone());
            }
        }
        let mut people: Vec<&str> = manifest.participants.iter().map(|p| p.id.as_str()).collect();
        people.sort_unstable();
        people.dedup();
        let summary = Summary {
            id: id.as_str().to_owned(),
            room: manifest.room.clone(),
            started_at_ms: manifest.started_at_ms,
            ended_at_ms: manifest.ended_at_ms,
            state: manifest.state,
            ended: manifest.ended,
            duration_ms: manifest.ended_at_ms.unwrap_or(0).saturating_sub(manifest.started_at_ms),
            bytes: manifest.files.iter().map(|f| f.size).sum(),
            files: manifest.files.len(),
            participants: names,
            people: people.len(),
        };
        let plain = manifest.files.iter().filter(|f| is_plain(&f.name));
        let file = |f: &File| KeptFile { kind: FileKind::of(f), sha256: f.sha256.clone() };
        let files = plain.map(|f| (f.name.clone(), file(f))).collect();
        Self { stamp, summary, files }
    }
}

impl FileKind {
    /// Of what is not known yet there will be pictures.
    fn of(file: &File) -> Self {
        let pictures = file.tracks.is_empty() || file.tracks.iter().any(|t| t.kind == Kind::Video);
        if pictures { Self::Video } else { Self::Audio }
    }
}

#[cfg(test)]
mod tests;
