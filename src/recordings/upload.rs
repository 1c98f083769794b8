//! Recordings that are finished go to a bucket of an S3-compatible store, if the operator says so.
//!
//! One task: one recording at a time, one file of it at a time, its manifest last, so that whoever finds a manifest there finds all
//! that it names. What is there already is in `upload.json` of the recording's folder, part by part: after a crash it goes on where
//! the store had confirmed it. What fails is tried again for ever, after 1 s, then 2 s, up to five minutes.
mod state;
mod store;

pub use store::{InvalidTarget, Target};

use super::catalogue::Catalogue;
use super::metrics::RecordingMetrics;
use crate::record::disk::{self, Folder};
use crate::record::manifest::{self, Session};
use crate::record::session::SessionId;
use rand::Rng;
use state::{Done, Stamp, State};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::{Error, Store};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

/// What is not offered is found by looking through the root, this often.
const LOOK: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const MANIFEST: &str = "session.json";
const EVENTS: &str = "events.jsonl";

/// Whether and how recordings are uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub target: Target,
    /// A recording that was found whole there is taken away here.
    pub delete: bool,
}

impl Settings {
    /// Whether the environment has sound settings for a store. Nothing is sent yet.
    pub fn check(&self) -> Result<(), String> {
        Store::new(&self.target).map(drop)
    }
}

/// Cheap to clone. The task ends with the runtime.
#[derive(Clone)]
pub struct Uploader(Arc<Inner>);

struct Inner {
    root: PathBuf,
    /// As it is written in states.
    to: String,
    delete: bool,
    store: Store,
    metrics: Arc<RecordingMetrics>,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

/// Bounded by the folders in the root.
#[derive(Default)]
struct Waiting {
    ids: BTreeSet<SessionId>,
    /// Found there, or impossible until somebody sees to it: not to be looked at again.
    settled: BTreeSet<SessionId>,
}

impl Uploader {
    /// Starts the task, on the runtime that this is called on. Fails if the environment has no sound settings for a store.
    pub fn start(root: &Path, settings: &Settings, metrics: Arc<RecordingMetrics>) -> Result<Self, String> {
        let store = Store::new(&settings.target)?;
        let (to, root) = (settings.target.to_string(), root.to_owned());
        let (waiting, wake) = (Mutex::default(), Notify::new());
        let inner = Arc::new(Inner { root, to, delete: settings.delete, store, metrics, waiting, wake });
        tokio::spawn(inner.clone().run());
        Ok(Self(inner))
    }

    /// A recording is finished, or healed. Never waits; what is not finished yet is found later.
    pub fn offer(&self, id: SessionId) {
        self.0.add([id]);
        self.0.wake.notify_one();
    }

    /// Whether a recording is still needed here, because it is not known to be there. Reads a file.
    pub fn needs(&self, id: &SessionId) -> bool {
        State::load(&self.0.root.join(id.as_str()), &self.0.to).confirmed_at_ms.is_none()
    }
}

impl Inner {
    async fn run(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        let mut last: Option<SessionId> = None;
        loop {
            let looking = self.clone();
            if let Ok(Err(error)) = spawn_blocking(move || looking.look()).await {
                tracing::warn!(%error, "the recordings to be uploaded cannot be looked for");
            }
            while let Some(id) = self.next(last.as_ref()) {
                match self.upload(&id).await {
                    Ok(()) => {
                        pause = FIRST_PAUSE;
                        self.settle(&id);
                    }
                    Err(Error::Disk(error)) if is_final(&error) => {
                        // It may have been taken away meanwhile.
                        if self.root.join(id.as_str()).exists() {
                            self.metrics.upload_failures.fetch_add(1, Relaxed);
                            let id = id.as_str();
                            tracing::error!(id, %error, "a recording is not whole: it is not uploaded before the next start");
                        }
                        self.settle(&id);
                    }
                    Err(error) => {
                        self.metrics.upload_failures.fetch_add(1, Relaxed);
                        tracing::warn!(id = id.as_str(), %error, again_in = ?pause, "a recording could not be uploaded");
                        // Servers that fail together do not come back together.
                        let scatter = rand::rng().random_range(0.75..1.25);
                        tokio::time::sleep(pause.mul_f64(scatter)).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
                last = Some(id);
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// The one behind the last one, and from the beginning again: one that always fails keeps no other waiting.
    fn next(&self, last: Option<&SessionId>) -> Option<SessionId> {
        let waiting = self.waiting();
        let behind = last.and_then(|last| waiting.ids.range(last..).find(|id| *id != last));
        behind.or_else(|| waiting.ids.first()).cloned()
    }

    /// Finds what is finished and not there yet.
    fn look(&self) -> io::Result<()> {
        let there = disk::sessions(&self.root)?;
        self.waiting().settled.retain(|id| there.binary_search(id).is_ok());
        for id in there {
            let known = { self.waiting().settled.contains(&id) || self.waiting().ids.contains(&id) };
            if known {
                continue;
            }
            if State::load(&self.root.join(id.as_str()), &self.to).confirmed_at_ms.is_some() && !self.delete {
                self.waiting().settled.insert(id);
            } else if Folder::open(&self.root, &id).and_then(|f| f.manifest()).is_ok_and(|m| is_finished(&m)) {
                self.add([id]);
            }
        }
        Ok(())
    }

    async fn upload(&self, id: &SessionId) -> Result<(), Error> {
        let folder = Folder::open(&self.root, id)?;
        let manifest = folder.manifest()?;
        if !is_finished(&manifest) {
            // It is found again when it is.
            return Ok(());
        }
        let mut state = State::load(folder.path(), &self.to);
        let events = folder.path().join(EVENTS).is_file().then(|| EVENTS.to_owned());
        let media = manifest.files.iter().map(|f| f.name.clone());
        let names: Vec<String> = media.chain(events).chain([MANIFEST.to_owned()]).collect();
        for name in &names {
            let sent = self.file(id, &folder, &mut state, name).await;
            if let Err(error) = sent {
                self.clear(id, &folder, &mut state, &error).await;
                return Err(error);
            }
        }
        self.confirm(id, &folder, &mut state, &names).await?;
        tracing::info!(id = id.as_str(), to = self.to, files = names.len(), "a recording is uploaded");
        self.metrics.uploaded_recordings.fetch_add(1, Relaxed);
        if self.delete {
            let (catalogue, id) = (Catalogue::new(self.root.clone()), id.clone());
            let removed = spawn_blocking(move || catalogue.remove(&id)).await.map_err(io::Error::other)?;
            removed.map_err(|error| io::Error::other(format!("it is uploaded but cannot be taken away: {error:?}")))?;
        }
        Ok(())
    }

    /// Sends a file, unless it is there.
    async fn file(&self, id: &SessionId, folder: &Folder, state: &mut State, name: &str) -> Result<(), Error> {
        let file = Arc::new(folder.open_file(name)?);
        let stamp = Stamp::of(&file)?;
        if state.done.get(name).is_some_and(|done| done.file == stamp) {
            return Ok(());
        }
        let path = self.store.path(id.as_str(), name);
        let etag = if Store::has_parts(stamp.size) {
            self.parts(folder, state, name, &file, stamp, &path).await?
        } else {
            let etag = self.store.put(&path, &file, stamp).await?;
            self.metrics.uploaded_bytes.fetch_add(stamp.size, Relaxed);
            etag
        };
        self.metrics.uploaded_files.fetch_add(1, Relaxed);
        state.open = None;
        state.confirmed_at_ms = None;
        state.done.insert(name.to_owned(), Done { file: stamp, etag });
        Ok(state.save(folder.path())?)
    }

    async fn parts(
        &self,
        folder: &Folder,
        state: &mut State,
        name: &str,
        file: &Arc<File>,
        stamp: Stamp,
        path: &object_store::path::Path,
    ) -> Result<Option<String>, Error> {
        let mut open = match state.open.take() {
            Some(open) if open.name == name && open.file == stamp && open.part_size > 0 => open,
            _ => self.store.begin(path, name, stamp).await?,
        };
        state.open = Some(open.clone());
        state.save(folder.path())?;
        let sent = self.store.send_parts(path, file, &mut open, &self.metrics.uploaded_bytes, |open| {
            state.open = Some(open.clone());
            state.save(folder.path())
        });
        sent.await?;
        self.store.complete(path, &open).await
    }

    /// After a failure: what the store no longer knows, or what is gone here, is not gone on with.
    async fn clear(&self, id: &SessionId, folder: &Folder, state: &mut State, error: &Error) {
        let Some(open) = &state.open else { return };
        let forgotten = match error {
            Error::Store(object_store::Error::NotFound { .. }) => true,
            Error::Store(error) => error.to_string().contains("NoSuchUpload"),
            Error::Disk(error) if !is_final(error) => false,
            Error::Disk(_) => {
                self.store.abort(&self.store.path(id.as_str(), &open.name), open).await;
                true
            }
        };
        if forgotten {
            state.open = None;
            let _ = state.save(folder.path());
        }
    }

    /// Looks whether all of it is there. What is not, or is another, goes up again.
    async fn confirm(&self, id: &SessionId, folder: &Folder, state: &mut State, names: &[String]) -> Result<(), Error> {
        for name in names {
            let found = self.store.head(&self.store.path(id.as_str(), name)).await;
            let there = match (&found, state.done.get(name)) {
                (Ok(meta), Some(done)) => {
                    let differ = matches!((&meta.e_tag, &done.etag), (Some(a), Some(b)) if a != b);
                    meta.size == done.file.size && !differ
                }
                _ => false,
            };
            let gone = matches!(found, Err(Error::Store(object_store::Error::NotFound { .. })));
            if !there && (gone || found.is_ok()) {
                state.done.remove(name);
                state.save(folder.path())?;
            }
            let meta = found?;
            if !there {
                let source = format!("it is there with {} bytes, and not as it was sent", meta.size).into();
                return Err(object_store::Error::Generic { store: "S3", source }.into());
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        state.confirmed_at_ms = Some(now.as_millis() as u64);
        Ok(state.save(folder.path())?)
    }

    fn add(&self, ids: impl IntoIterator<Item = SessionId>) {
        let mut waiting = self.waiting();
        for id in ids {
            waiting.settled.remove(&id);
            waiting.ids.insert(id);
        }
        self.metrics.uploads_waiting.store(waiting.ids.len() as u64, Relaxed);
    }

    fn settle(&self, id: &SessionId) {
        let mut waiting = self.waiting();
        waiting.ids.remove(id);
        // One that was offered before it was finished is looked at again.
        let finished = Folder::open(&self.root, id).and_then(|f| f.manifest()).map_or(true, |m| is_finished(&m));
        if finished {
            waiting.settled.insert(id.clone());
        }
        self.metrics.uploads_waiting.store(waiting.ids.len() as u64, Relaxed);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// To try again would not help.
fn is_final(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidData | ErrorKind::UnexpectedEof
    )
}

/// Its files are closed, and their hashes are known.
fn is_finished(session: &Session) -> bool {
    session.state != manifest::State::Recording && session.files.iter().all(|f| f.sha256.is_some())
}
