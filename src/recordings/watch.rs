//! Looks at the disk some times a second: what is free, what all recordings take; and has it keep what was written, so that a loss of power
//! costs little more than a crash does.
use super::Inner;
use super::metrics::add;
use crate::record::manifest::Ended;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Weak;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Between the end of one look and the next. A frame is written at most 0.6 s after it came: with this a loss of power costs less than a second on a disk that
/// keeps a moment's media in 100 ms. One that takes longer is asked less often.
const PERIOD: Duration = Duration::from_millis(300);

/// What recordings have to know of the disk.
#[derive(Debug)]
pub(super) struct Space {
    free: AtomicU64,
    verdict: AtomicU8,
}

/// Nothing is wrong; all that may be taken is taken; what was written is not kept.
const GOOD: u8 = 0;
const FULL: u8 = 1;
const BROKEN: u8 = 2;

impl Default for Space {
    fn default() -> Self {
        Self { free: AtomicU64::new(u64::MAX), verdict: AtomicU8::new(GOOD) }
    }
}

impl Space {
    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        self.free.load(Relaxed)
    }

    /// Why no recording can go on.
    pub fn verdict(&self) -> Option<Ended> {
        match self.verdict.load(Relaxed) {
            FULL => Some(Ended::DiskFull),
            BROKEN => Some(Ended::DiskError),
            _ => None,
        }
    }
}

/// Bytes that are free for us on the disk of this folder.
pub(super) fn free(root: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(root)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The thread, until the service is gone.
pub(super) fn run(inner: &Weak<Inner>, alive: &Receiver<()>) {
    let mut disk = None;
    while alive.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        let Some(inner) = inner.upgrade() else { return };
        look(&inner, &mut disk);
    }
}

/// `disk`: the root, while anything is recorded. It is kept open, because an error of the disk is told to those who were there before it.
fn look(inner: &Inner, disk: &mut Option<File>) {
    let Some(store) = &inner.store else { return };
    let (settings, space, metrics) = (&store.settings, &store.space, &inner.metrics);
    // If it cannot be told, writing will.
    if let Ok(free) = free(&settings.root) {
        space.free.store(free, Relaxed);
        metrics.free.store(free, Relaxed);
    }
    let used = store.kept.bytes() + inner.running_bytes();
    metrics.kept_bytes.store(used, Relaxed);
    let is_full = settings.quota.is_some_and(|quota| used > quota);
    let runs = !inner.running().is_empty();
    if runs && disk.is_none() {
        *disk = File::open(&settings.root).ok();
    }
    let began = Instant::now();
    let synced = disk.as_ref().map_or(Ok(()), sync);
    if disk.is_some() {
        add(&metrics.syncs, 1);
        add(&metrics.sync_nanos, began.elapsed().as_nanos() as u64);
    }
    if let Err(error) = &synced {
        add(&metrics.sync_failures, 1);
        tracing::error!(%error, "the disk of recordings has not kept what was written: recordings end");
    }
    let verdict = if synced.is_err() { BROKEN } else { u8::from(is_full) * FULL };
    space.verdict.store(verdict, Relaxed);
    if !runs {
        // What the last one wrote is on the disk now.
        *disk = None;
    }
}

#[cfg(target_os = "linux")]
fn sync(root: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(root)?)
}

#[cfg(not(target_os = "linux"))]
fn sync(_: &File) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}
