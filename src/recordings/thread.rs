//! The thread of a recording. Whatever happens in it ends this recording, and nothing else.
use super::begin::{self, Begun};
use super::mailbox::Mailbox;
use super::metrics::{EndedWhy, add};
use super::task::Task;
use super::{Inner, Store, note_kept};
use crate::ids::{RecordingId, RoomId};
use crate::net::tap::{Heard, TapReceiver};
use crate::record::SessionStart;
use crate::record::disk::{Folder, Hashed, heal_session};
use crate::record::manifest::Ended;
use crate::record::session::SessionId;
use crate::room::messages::RecordLayout;
use crate::room::{RecordingEvent, RecordingFailure};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How often files are written to, at the least.
const TICK: Duration = Duration::from_millis(50);
/// Batches taken before anything else is looked at.
const BATCHES_PER_TURN: usize = 64;
/// How long to wait for a hash before looking around.
const HASH_WAIT: Duration = Duration::from_secs(1);

/// What the thread is started with.
pub(super) struct Recorder {
    pub room: RoomId,
    pub recording: RecordingId,
    /// The room's.
    pub name: String,
    pub layout: Option<RecordLayout>,
    pub began: SessionStart,
    pub tap: TapReceiver,
    pub mailbox: Arc<Mailbox>,
    /// Bytes in its files, for others to see.
    pub written: Arc<AtomicU64>,
    pub folder: Arc<OnceLock<SessionId>>,
    pub inner: Arc<Inner>,
}

/// Starts a thread that leaves the processor to others (`nice`, 0 to 19) when there is not enough of it.
pub(super) fn spawn(name: &str, nice: i32, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let run = move || {
        // Of this thread alone, on Linux. Without it all goes well too.
        if cfg!(target_os = "linux") && nice > 0 {
            let _ = rustix::process::nice(nice);
        }
        run();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Whatever ends the thread, the recording is known to be no more.
struct Forget(Arc<Inner>, RecordingId);

impl Drop for Forget {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

impl Recorder {
    pub fn run(self) {
        let inner = Arc::clone(&self.inner);
        let _forget = Forget(Arc::clone(&inner), self.recording);
        let Some(store) = &inner.store else { return };
        let used = store.kept.bytes() + inner.running_bytes();
        let Begun { id, session, hashes } = match begin::begin(store, used, &self.name, self.layout, self.began) {
            Ok(begun) => begun,
            Err(error) => return inner.refuse(self.room, self.recording, error),
        };
        let metrics = &inner.metrics;
        let _ = self.folder.set(id.clone());
        tracing::info!(recording = id.as_str(), room = ?self.name, "recording");
        add(&metrics.started, 1);
        add(&metrics.running, 1);
        let started_at_ms = self.began.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let started = RecordingEvent::Started { name: id.as_str().to_owned(), started_at_ms };
        inner.tell(self.room, self.recording, started);
        let (room, recording) = (self.room, self.recording);
        let task = Task::new(session, inner.shards.clone(), Arc::clone(metrics));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.record(store, &id, task, &hashes))) {
            tracing::error!(recording = id.as_str(), "a recording panicked and ends: {}", text(&*panic));
            metrics.end(EndedWhy::Panicked);
            inner.tell(room, recording, RecordingEvent::Ended(RecordingFailure::DiskError));
        }
        leave(store, &inner, &id);
        metrics.running.fetch_sub(1, Relaxed);
    }

    /// Records until it has ended and all is hashed.
    fn record(self, store: &Store, id: &SessionId, mut task: Task<Folder>, hashes: &Receiver<Hashed>) {
        let mut next_tick = Instant::now();
        while !task.session().has_ended() {
            let caught_up = self.take_batches(&mut task);
            let now = Instant::now();
            task.handle_lost(self.tap.lost());
            self.take_letters(&mut task, now, caught_up);
            for hashed in hashes.try_iter() {
                task.session().handle_hash(now, &hashed.name, hashed.sha256);
            }
            if now >= next_tick {
                next_tick = now + TICK;
                task.handle_timeout(now, self.tap.waiting());
                self.look_at_disk(store, &mut task, now);
            }
            if let Some(ended) = task.poll_ended() {
                self.tell_failure(ended);
            }
        }
        self.close(id, task, hashes);
    }

    /// Takes packets, and gives the shards their buffers back. True when there are no more.
    fn take_batches(&self, task: &mut Task<Folder>) -> bool {
        let mut heard = Some(self.tap.wait(TICK));
        for _ in 0..BATCHES_PER_TURN {
            match heard {
                Some(Heard::Batch(batch)) => {
                    let now = Instant::now();
                    // A track is published before its packets come.
                    self.take_letters(task, now, false);
                    task.handle_batch(now, &batch);
                    self.tap.give_back(batch);
                }
                Some(Heard::Nudge) => {}
                Some(Heard::Silence) | None => return true,
            }
            heard = self.tap.next();
        }
        false
    }

    fn take_letters(&self, task: &mut Task<Folder>, now: Instant, caught_up: bool) {
        if self.mailbox.take(task.pending()) {
            task.handle_pending(now, caught_up);
        } else {
            // The room was told.
            task.session().end(now, Ended::DiskError);
        }
    }

    fn look_at_disk(&self, store: &Store, task: &mut Task<Folder>, now: Instant) {
        self.written.store(task.bytes(), Relaxed);
        task.session().handle_free_space(now, store.space.free());
        if let Some(why) = store.space.verdict() {
            task.session().fail(now, why);
        }
    }

    fn tell_failure(&self, ended: Ended) {
        let why = if ended == Ended::DiskFull { RecordingFailure::DiskFull } else { RecordingFailure::DiskError };
        self.inner.tell(self.room, self.recording, RecordingEvent::Ended(why));
    }

    /// Its files are closed: waits for their hashes.
    fn close(self, id: &SessionId, mut task: Task<Folder>, hashes: &Receiver<Hashed>) {
        // Shards are to stop.
        drop(self.tap);
        while !task.session().is_settled() {
            if let Ok(hashed) = hashes.recv_timeout(HASH_WAIT) {
                task.session().handle_hash(Instant::now(), &hashed.name, hashed.sha256);
            }
        }
        let Some(ended) = task.session().ended() else { return };
        if !self.mailbox.is_overrun() {
            self.inner.metrics.end(ended.into());
        }
        let (_, bytes) = task.session().written();
        tracing::info!(recording = id.as_str(), ?ended, bytes, "recorded");
    }
}

/// What became of the folder. What could not be closed is healed, if the disk lets us.
fn leave(store: &Store, inner: &Inner, id: &SessionId) {
    match heal_session(&store.settings.root, id) {
        Ok(None) => {}
        Ok(Some(healed)) => tracing::info!(recording = id.as_str(), files = healed.closed, "closed afterwards"),
        Err(error) => {
            tracing::warn!(recording = id.as_str(), %error, "this recording is not closed yet: it will be tried again");
        }
    }
    note_kept(store, &inner.metrics, id);
}

/// What a panic said, if it said anything.
fn text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
