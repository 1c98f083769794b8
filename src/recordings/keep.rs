//! What is kept: heals what a crash left open, knows what all recordings take, and takes away what is too old or too much.
//!
//! Never touched are recordings that are being written, by this server or by another one, and those that somebody still needs
//! ([`Recordings::hold`](super::Recordings::hold)).
use super::begin::{self, size};
use super::catalogue::Catalogue;
use super::metrics::{RecordingMetrics, add};
use super::{Inner, Settings};
use crate::record::disk::{self, Folder, heal_session, remove_unborn};
use crate::record::manifest::State;
use crate::record::session::SessionId;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

const PERIOD: Duration = Duration::from_secs(60);
/// At first it is looked again sooner: a server that is just being killed may still hold the locks of what it wrote.
const EARLY: Duration = Duration::from_secs(2);
const EARLY_ROUNDS: u32 = 10;

/// The recordings that there are, but for those that run here. What it takes to know them is read once.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<BTreeMap<SessionId, Entry>>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of all files in its folder.
    bytes: u64,
    /// Unix milliseconds. `None` if it is not closed.
    ended_ms: Option<u64>,
}

/// Why a recording is taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Age,
    Bytes,
}

impl Kept {
    /// Bytes that all of them take.
    pub fn bytes(&self) -> u64 {
        self.lock().values().map(|entry| entry.bytes).sum()
    }

    /// Reads what a recording takes now.
    pub fn read(&self, root: &Path, id: &SessionId) -> io::Result<()> {
        let folder = Folder::open(root, id)?;
        let manifest = folder.manifest()?;
        let mut bytes = 0;
        for file in fs::read_dir(folder.path())? {
            bytes += file?.metadata()?.len();
        }
        let is_closed = manifest.state != State::Recording;
        let ended_ms = manifest.ended_at_ms.filter(|_| is_closed);
        self.lock().insert(id.clone(), Entry { bytes, ended_ms });
        Ok(())
    }

    pub fn tell(&self, metrics: &RecordingMetrics) {
        metrics.kept.store(self.lock().len() as u64, Relaxed);
    }

    /// Knows what has come and gone without us. `running`: not to be looked at.
    fn refresh(&self, root: &Path, is_running: impl Fn(&SessionId) -> bool) -> io::Result<()> {
        let there = disk::sessions(root)?;
        self.lock().retain(|id, _| there.binary_search(id).is_ok());
        for id in there {
            let known = self.lock().get(&id).is_some_and(|entry| entry.ended_ms.is_some());
            if !known && !is_running(&id) {
                // One without a manifest is none, or not yet.
                let _ = self.read(root, &id);
            }
        }
        Ok(())
    }

    /// The next one that is to go. `more`: bytes beside those of the recordings in here.
    fn superfluous(
        &self,
        now_ms: u64,
        settings: &Settings,
        more: u64,
        is_held: impl Fn(&SessionId) -> bool,
    ) -> Option<(SessionId, u64, Why)> {
        let all = self.lock();
        // By their names they are in the order of their starts.
        let closed = all.iter().filter_map(|(id, entry)| Some((id, entry.bytes, entry.ended_ms?)));
        let mut free = closed.filter(|(id, ..)| !is_held(id));
        let keep_ms = settings.keep.map(|keep| keep.as_millis() as u64);
        let is_old = |ended: u64| keep_ms.is_some_and(|keep| ended.saturating_add(keep) < now_ms);
        let total = more + all.values().map(|entry| entry.bytes).sum::<u64>();
        if settings.keep_bytes.is_some_and(|limit| total > limit) {
            return free.next().map(|(id, bytes, _)| (id.clone(), bytes, Why::Bytes));
        }
        free.find(|(.., ended)| is_old(*ended)).map(|(id, bytes, _)| (id.clone(), bytes, Why::Age))
    }

    /// Those of them that are not known to be closed.
    fn not_closed(&self, mut ids: Vec<SessionId>) -> Vec<SessionId> {
        let all = self.lock();
        ids.retain(|id| all.get(id).is_none_or(|entry| entry.ended_ms.is_none()));
        ids
    }

    fn forget(&self, id: &SessionId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread, until the service is gone. Whoever needs recordings has said so before it begins.
pub(super) fn run(weak: &Weak<Inner>, alive: &Receiver<()>) {
    let mut hopeless = BTreeSet::new();
    for round in 0u32.. {
        let Some(inner) = weak.upgrade() else { return };
        // What is there counts towards the quota while much is being healed.
        refresh(&inner);
        heal(&inner, &mut hopeless);
        refresh(&inner);
        tidy(&inner);
        drop(inner);
        let wait = if round < EARLY_ROUNDS { EARLY } else { PERIOD };
        if alive.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn refresh(inner: &Inner) {
    let Some(store) = &inner.store else { return };
    if let Err(error) = store.kept.refresh(&store.settings.root, |id| inner.is_running(id)) {
        tracing::error!(root = %store.settings.root.display(), %error, "the folder of recordings cannot be read");
    }
    store.kept.tell(&inner.metrics);
}

/// Closes what nobody writes and nobody has closed. A recording that runs is locked, whoever runs it. `hopeless`: those of which it was told that
/// they cannot be healed.
fn heal(inner: &Inner, hopeless: &mut BTreeSet<SessionId>) {
    let Some(store) = &inner.store else { return };
    let (root, metrics) = (&store.settings.root, &inner.metrics);
    let there = disk::sessions(root).unwrap_or_else(|error| {
        tracing::error!(root = %root.display(), %error, "the folder of recordings cannot be read");
        Vec::new()
    });
    hopeless.retain(|id| there.binary_search(id).is_ok());
    let just_now = begin::name(SystemTime::now() - PERIOD, 0);
    for id in store.kept.not_closed(there) {
        let unborn = if id < just_now { remove_unborn(root, &id) } else { Ok(()) };
        match unborn.and_then(|()| heal_session(root, &id)) {
            Ok(Some(healed)) => {
                add(&metrics.healed, 1);
                let (closed, empty) = (healed.closed, healed.empty);
                tracing::info!(recording = id.as_str(), closed, empty, "healed: the server had died while it recorded");
            }
            // Nothing was to be healed, or there is nothing any more.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                if hopeless.insert(id.clone()) {
                    add(&metrics.heal_failures, 1);
                    tracing::warn!(recording = id.as_str(), %error, "a recording cannot be healed, and is left as it is");
                }
            }
        }
    }
}

/// Takes away what is too old or too much.
pub(super) fn tidy(inner: &Inner) {
    let Some(store) = &inner.store else { return };
    let (settings, kept, metrics) = (&store.settings, &store.kept, &inner.metrics);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let catalogue = Catalogue::new(settings.root.clone());
    while let Some((id, bytes, why)) = kept.superfluous(now_ms, settings, inner.running_bytes(), |id| inner.is_held(id))
    {
        // Whatever comes of it, it is not tried again before the next time.
        kept.forget(&id);
        match catalogue.remove(&id) {
            Ok(()) => {
                let counter = if why == Why::Age { &metrics.deleted_age } else { &metrics.deleted_bytes };
                add(counter, 1);
                let setting = if why == Why::Age { "recordings-keep" } else { "recordings-keep-bytes" };
                tracing::info!(recording = id.as_str(), size = size(bytes), setting, "taken away");
            }
            Err(error) => tracing::error!(recording = id.as_str(), %error, "an old recording cannot be taken away"),
        }
    }
    kept.tell(metrics);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(all: &[(&str, u64, Option<u64>)]) -> Kept {
        let entry = |&(id, bytes, ended_ms): &(&str, u64, Option<u64>)| {
            (SessionId::try_from(id).unwrap(), Entry { bytes, ended_ms })
        };
        Kept(Mutex::new(all.iter().map(entry).collect()))
    }

    fn settings(keep: Option<Duration>, keep_bytes: Option<u64>) -> Settings {
        Settings { root: "/nowhere".into(), min_free: 0, quota: None, keep, keep_bytes, queue: 0, upload: None }
    }

    /// In the order in which they go.
    fn gone(kept: &Kept, settings: &Settings, more: u64, held: &str) -> Vec<(String, Why)> {
        let mut gone = Vec::new();
        while let Some((id, _, why)) = kept.superfluous(100_000, settings, more, |id| id.as_str() == held) {
            kept.forget(&id);
            gone.push((id.as_str().to_owned(), why));
        }
        gone
    }

    #[test]
    fn what_is_too_old_goes_and_what_runs_or_is_needed_stays() {
        let all = [("a", 1, Some(10_000)), ("b", 1, None), ("c", 1, Some(39_999)), ("d", 1, Some(40_000))];
        let old = settings(Some(Duration::from_secs(60)), None);
        assert_eq!(gone(&kept(&all), &old, 0, ""), [("a".into(), Why::Age), ("c".into(), Why::Age)]);
        assert_eq!(gone(&kept(&all), &old, 0, "a"), [("c".into(), Why::Age)]);
        assert_eq!(gone(&kept(&all), &settings(None, None), 0, ""), []);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let all = [("a", 10, Some(1)), ("b", 10, None), ("c", 10, Some(3)), ("d", 10, Some(4))];
        let fit = |limit, more, held| gone(&kept(&all), &settings(None, Some(limit)), more, held);
        assert_eq!(fit(40, 0, ""), []);
        assert_eq!(fit(39, 0, ""), [("a".into(), Why::Bytes)]);
        assert_eq!(fit(40, 11, "a"), [("c".into(), Why::Bytes), ("d".into(), Why::Bytes)]);
        assert_eq!(fit(0, 0, "").len(), 3, "what runs stays");
    }
}
