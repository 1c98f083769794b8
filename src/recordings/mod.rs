//! The recordings of this server: those that run, and those that are kept.
//!
//! A room tells what happens to it ([`RecordingCommand`], by way of a `mailbox`), shards hand over packets (`net::tap`), and a thread for each
//! recording writes both (`task`, on `record::session`). Beside them there are three threads for all: `watch` has the disk keep what was
//! written and looks at what is free, `keep` heals what a crash left and takes away what is old, and one hashes files that are
//! finished. None of them is ever waited for by a room or by a shard.
#![allow(clippy::disallowed_methods)] // Disks need a clock.
mod begin;
pub mod catalogue;
pub mod compose;
mod keep;
mod mailbox;
mod metrics;
mod task;
#[cfg(test)]
mod tests;
mod thread;
pub mod tool;
pub mod upload;
mod watch;

pub use metrics::{EndedWhy, RecordingMetrics};

use crate::engine::Command;
use crate::ids::{RecordingId, RoomId};
use crate::net::tap::{Nudge, Taps};
use crate::record::disk::Unhashed;
use crate::record::session::SessionId;
use crate::room::messages::{ApiError, ErrorCode, RecordLayout};
use crate::room::{RecordingCommand, RecordingEvent, RecordingFailure, RecordingStop};
use keep::Kept;
use mailbox::{Mailbox, Posted, Said};
use metrics::add;
use rustc_hash::FxHashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc};
use upload::Uploader;
use watch::Space;

/// Recordings at a time: each has a thread.
const MAX_RUNNING: usize = 1_000;

/// How recordings are made and kept. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the folders of all recordings are.
    pub root: PathBuf,
    /// To stay free on its disk: recordings end, and none begins, when there is less.
    pub min_free: u64,
    /// What all recordings together may take: they end, and none begins, when it is more.
    pub quota: Option<u64>,
    /// Those that ended so long ago are taken away.
    pub keep: Option<Duration>,
    /// When all take more, the oldest are taken away.
    pub keep_bytes: Option<u64>,
    /// Media that may wait for one recording, when the disk is slow.
    pub queue: usize,
    /// Where those that ended go.
    pub upload: Option<upload::Settings>,
}

/// What a room is told of its recording.
#[derive(Debug)]
pub struct Notice {
    pub room: RoomId,
    pub recording: RecordingId,
    pub event: RecordingEvent,
}

/// All recordings. Cheap to clone.
#[derive(Clone)]
pub struct Recordings(Arc<Inner>);

struct Inner {
    store: Option<Store>,
    /// The ways to the shards, by their ids: to ask for keyframes.
    shards: Vec<mpsc::Sender<Command>>,
    taps: Taps,
    notices: mpsc::UnboundedSender<Notice>,
    running: Mutex<FxHashMap<RecordingId, Running>>,
    /// One of them is closed.
    ended: Notify,
    uploader: OnceLock<Uploader>,
    metrics: Arc<RecordingMetrics>,
}

/// What there is when this server records.
struct Store {
    settings: Settings,
    space: Space,
    kept: Kept,
    /// Files to be hashed. Not bounded: each was open before.
    unhashed: Sender<Unhashed>,
    /// Recordings that are not to be taken away yet, by whoever needs them.
    holds: Mutex<Vec<Hold>>,
    /// The threads end when this is dropped.
    _alive: [Sender<()>; 2],
}

/// Says whether a recording is still needed.
type Hold = Box<dyn Fn(&SessionId) -> bool + Send>;

/// A recording that runs, or whose files are being closed.
struct Running {
    room: RoomId,
    mailbox: Arc<Mailbox>,
    nudge: Nudge,
    /// Bytes in its files.
    written: Arc<AtomicU64>,
    /// The name of its folder, when it has one.
    folder: Arc<OnceLock<SessionId>>,
}

impl Settings {
    /// Makes the root, private, if it is not there, and sees that folders can be made in it. In words for whoever starts the server.
    pub fn prepare(&self) -> Result<(), String> {
        if let Some(upload) = &self.upload {
            upload.check().map_err(|error| format!("recordings cannot be uploaded: {error}"))?;
        }
        let root = self.root.display();
        begin::prepare(&self.root).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => format!("{root} is not a directory"),
            io::ErrorKind::PermissionDenied => format!("{root} cannot be written by this user: {error}"),
            _ => format!("{root} cannot be used: {error}"),
        })
    }
}

impl Recordings {
    /// Without settings every recording is refused. The root is there ([`Settings::prepare`]); what a crash left in it is healed from now on, in
    /// the background.
    pub fn new(
        settings: Option<Settings>,
        shards: Vec<mpsc::Sender<Command>>,
        taps: Taps,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Self {
        let metrics = Arc::new(RecordingMetrics::default());
        let Some(settings) = settings else {
            return Self(Arc::new(Inner::new(None, shards, taps, notices, metrics)));
        };
        let ((unhashed, jobs), (watching, watched), (keeping, kept)) = (channel(), channel(), channel());
        let _alive = [watching, keeping];
        let store = Store {
            settings,
            space: Space::default(),
            kept: Kept::default(),
            unhashed,
            holds: Mutex::default(),
            _alive,
        };
        let inner = Arc::new(Inner::new(Some(store), shards, taps, notices, metrics));
        // Before the thread that takes away what is old: what is not uploaded yet is held.
        inner.upload();
        let (for_watch, for_keep) = (Arc::downgrade(&inner), Arc::downgrade(&inner));
        let spawned = thread::spawn("rec-hash", 10, move || jobs.into_iter().for_each(Unhashed::hash))
            .and_then(|()| thread::spawn("rec-watch", 0, move || watch::run(&for_watch, &watched)))
            .and_then(|()| thread::spawn("rec-keep", 10, move || keep::run(&for_keep, &kept)));
        if let Err(error) = spawned {
            tracing::error!(%error, "the threads that look after recordings cannot all be started");
        }
        Self(inner)
    }

    /// Takes what a room has to say of a recording of its own. Never waits.
    pub fn handle(&self, room: RoomId, recording: RecordingId, command: RecordingCommand) {
        match command {
            RecordingCommand::Start { room: name, layout } => {
                if let Err(error) = self.start(room, recording, name, layout) {
                    self.0.refuse(room, recording, error);
                }
            }
            command => self.0.post(recording, command),
        }
    }

    /// Ends all that run, and waits until their files are closed, no longer than so. What is not closed then will be healed.
    pub async fn shutdown(&self, within: Duration) {
        let all: Vec<_> = self.0.running().keys().copied().collect();
        all.into_iter().for_each(|id| self.0.post(id, RecordingCommand::Stop(RecordingStop::Shutdown)));
        let closed = async {
            loop {
                let ended = self.0.ended.notified();
                if self.0.running().is_empty() {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(within, closed).await.is_err() {
            let left = self.0.running().len();
            tracing::warn!(left, "recordings are not closed in time: the next start heals them");
        }
    }

    /// No recording is taken away, old as it may be, of which this is true.
    pub fn hold(&self, is_needed: impl Fn(&SessionId) -> bool + Send + 'static) {
        if let Some(store) = &self.0.store {
            store.holds().push(Box::new(is_needed));
        }
    }

    /// Where recordings are kept, if they are.
    pub fn root(&self) -> Option<&Path> {
        self.0.store.as_ref().map(|store| store.settings.root.as_path())
    }

    /// Whether somebody still needs a recording that has ended ([`hold`](Self::hold)).
    pub fn is_held(&self, id: &SessionId) -> bool {
        self.0.is_held(id)
    }

    pub fn metrics(&self) -> &RecordingMetrics {
        &self.0.metrics
    }

    fn start(
        &self,
        room: RoomId,
        recording: RecordingId,
        name: String,
        layout: Option<RecordLayout>,
    ) -> Result<(), ApiError> {
        let Some(store) = &self.0.store else {
            return Err(ApiError::new(
                ErrorCode::Unsupported,
                "this server keeps no recordings: it was started without --recordings DIR",
            ));
        };
        let at = Instant::now();
        let began = crate::record::SessionStart { instant: at, wall: SystemTime::now() };
        let mut running = self.0.running();
        if running.len() >= MAX_RUNNING {
            return Err(ApiError::retry(ErrorCode::LimitReached, "too many recordings run on this server", 10_000));
        }
        let (tap, nudge) = self.0.taps.open(recording, store.settings.queue);
        let entry = Running { room, mailbox: Arc::default(), nudge, written: Arc::default(), folder: Arc::default() };
        let recorder = thread::Recorder {
            room,
            recording,
            name,
            layout,
            began,
            tap,
            mailbox: Arc::clone(&entry.mailbox),
            written: Arc::clone(&entry.written),
            folder: Arc::clone(&entry.folder),
            inner: Arc::clone(&self.0),
        };
        thread::spawn("recording", 5, move || recorder.run()).map_err(|error| {
            tracing::error!(%error, "the thread of a recording cannot be started");
            ApiError::retry(ErrorCode::Unavailable, "the server has no thread left for a recording", 10_000)
        })?;
        running.insert(recording, entry);
        Ok(())
    }
}

impl Inner {
    fn new(
        store: Option<Store>,
        shards: Vec<mpsc::Sender<Command>>,
        taps: Taps,
        notices: mpsc::UnboundedSender<Notice>,
        metrics: Arc<RecordingMetrics>,
    ) -> Self {
        let (running, ended, uploader) = (Mutex::default(), Notify::new(), OnceLock::new());
        Self { store, shards, taps, notices, running, ended, uploader, metrics }
    }

    /// Uploads what has ended from now on, if that is wanted. What is not there yet is not taken away here.
    fn upload(&self) {
        let Some(store) = &self.store else { return };
        let Some(settings) = &store.settings.upload else { return };
        match Uploader::start(&store.settings.root, settings, Arc::clone(&self.metrics)) {
            Ok(uploader) => {
                let needed = uploader.clone();
                store.holds().push(Box::new(move |id| needed.needs(id)));
                let _ = self.uploader.set(uploader);
            }
            Err(error) => {
                store.holds().push(Box::new(|_| true));
                tracing::error!(error, "recordings cannot be uploaded");
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, FxHashMap<RecordingId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes in the files of those that run.
    fn running_bytes(&self) -> u64 {
        self.running().values().map(|r| r.written.load(Relaxed)).sum()
    }

    fn is_running(&self, id: &SessionId) -> bool {
        self.running().values().any(|r| r.folder.get() == Some(id))
    }

    fn is_held(&self, id: &SessionId) -> bool {
        self.store.as_ref().is_some_and(|store| store.holds().iter().any(|is_needed| is_needed(id)))
    }

    fn post(&self, recording: RecordingId, command: RecordingCommand) {
        let running = self.running();
        let Some(entry) = running.get(&recording) else { return };
        match entry.mailbox.post(Said { at: Instant::now(), command }) {
            Posted::Taken => entry.nudge.nudge(),
            Posted::LeftOut => add(&self.metrics.events_left_out, 1),
            Posted::Overrun => {
                tracing::error!(%recording, "the disk has hung for too long: this recording is given up");
                self.metrics.end(EndedWhy::Overrun);
                self.tell(entry.room, recording, RecordingEvent::Ended(RecordingFailure::DiskError));
            }
            Posted::Closed => {}
        }
    }

    fn refuse(&self, room: RoomId, recording: RecordingId, error: ApiError) {
        add(&self.metrics.refused, 1);
        tracing::warn!(%recording, %room, "a recording cannot begin: {}", error.message);
        self.tell(room, recording, RecordingEvent::Refused(error));
    }

    fn tell(&self, room: RoomId, recording: RecordingId, event: RecordingEvent) {
        // At the very end nobody listens any more.
        let _ = self.notices.send(Notice { room, recording, event });
    }

    /// A recording's thread is done.
    fn forget(&self, recording: RecordingId) {
        let ended = self.running().remove(&recording);
        if let (Some(uploader), Some(id)) = (self.uploader.get(), ended.as_ref().and_then(|r| r.folder.get())) {
            uploader.offer(id.clone());
        }
        self.ended.notify_waiters();
    }
}

impl Store {
    fn holds(&self) -> MutexGuard<'_, Vec<Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A recording has ended, and its folder is as it will be.
fn note_kept(store: &Store, metrics: &RecordingMetrics, id: &SessionId) {
    match store.kept.read(&store.settings.root, id) {
        Ok(()) => store.kept.tell(metrics),
        Err(error) => tracing::warn!(id = id.as_str(), %error, "what a recording takes cannot be read"),
    }
}
