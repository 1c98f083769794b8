//! Hands the packets of recorded tracks to the threads that record them: for each recording a queue that is bounded in bytes, and for
//! each shard a way back for empty batches. A shard never waits for a recording.
use crate::engine::relay::RelayBatch;
use crate::ids::{RecordingId, ShardId};
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Batches that may wait for one recording. Its bytes are bounded besides.
const QUEUE: usize = 4_096;
/// Empty batches that may wait to be used again, for each shard.
const SPARE: usize = 32;

/// The recordings that run, as shards and recordings share them. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub struct Taps(Arc<Inner>);

#[derive(Default, Debug)]
struct Inner {
    open: Mutex<FxHashMap<RecordingId, Tap>>,
    /// How many there were and are no more.
    ended: AtomicUsize,
    /// The ways back to the shards, by their ids.
    back: Mutex<Vec<SyncSender<Box<RelayBatch>>>>,
}

/// The way to one recording.
#[derive(Clone, Debug)]
struct Tap {
    letters: SyncSender<Letter>,
    level: Arc<Level>,
}

/// How much waits for a recording.
#[derive(Debug)]
struct Level {
    bytes: AtomicUsize,
    limit: usize,
    /// Packets that found no room, and of which the recording was not told yet.
    lost: AtomicU64,
}

#[derive(Debug)]
enum Letter {
    Batch(Box<RelayBatch>),
    Nudge,
}

/// What a recording hears.
#[derive(Debug)]
pub enum Heard {
    /// To be given back.
    Batch(Box<RelayBatch>),
    /// There is something to look at elsewhere.
    Nudge,
    /// Nothing, for as long as was waited.
    Silence,
}

/// Where a recording gets its packets. Dropping it ends that.
#[derive(Debug)]
pub struct TapReceiver {
    id: RecordingId,
    letters: Receiver<Letter>,
    level: Arc<Level>,
    taps: Taps,
}

/// Wakes a recording up.
#[derive(Clone, Debug)]
pub struct Nudge(SyncSender<Letter>);

/// A shard's side.
#[derive(Debug)]
pub(crate) struct ShardTaps {
    taps: Taps,
    shard: ShardId,
    /// Those that this shard has sent to.
    known: FxHashMap<RecordingId, Tap>,
    spare: Receiver<Box<RelayBatch>>,
    /// Recordings that had ended when `known` was last looked through.
    ended: usize,
}

impl Taps {
    /// Opens the way to a recording, in which at most so many bytes may wait.
    pub fn open(&self, id: RecordingId, limit: usize) -> (TapReceiver, Nudge) {
        let (sender, letters) = sync_channel(QUEUE);
        let level = Arc::new(Level { bytes: AtomicUsize::new(0), limit, lost: AtomicU64::new(0) });
        lock(&self.0.open).insert(id, Tap { letters: sender.clone(), level: Arc::clone(&level) });
        (TapReceiver { id, letters, level, taps: self.clone() }, Nudge(sender))
    }

    /// The side of the next shard: to be asked for in the order of their ids.
    pub(crate) fn of_shard(&self) -> ShardTaps {
        let (back, spare) = sync_channel(SPARE);
        let mut all = lock(&self.0.back);
        let shard = ShardId(all.len() as u16);
        all.push(back);
        ShardTaps { taps: self.clone(), shard, known: FxHashMap::default(), spare, ended: 0 }
    }
}

impl ShardTaps {
    /// Hands the batch over and leaves an empty one in its place. False, and the batch stays, if the recording has too much waiting or
    /// is none.
    pub fn record(&mut self, to: RecordingId, batch: &mut Box<RelayBatch>) -> bool {
        self.forget_ended();
        if !self.known.contains_key(&to) {
            // Once for each recording: the only lock that a shard takes for it.
            let Some(tap) = lock(&self.taps.0.open).get(&to).cloned() else { return false };
            self.known.insert(to, tap);
        }
        let Some(tap) = self.known.get(&to) else { return false };
        let (bytes, packets) = (batch.bytes(), batch.packets());
        if tap.level.bytes.fetch_add(bytes, Relaxed) + bytes > tap.level.limit {
            return tap.refuse(bytes, packets);
        }
        let empty = self.spare.try_recv().unwrap_or_else(|_| Box::new(RelayBatch::new(self.shard)));
        let full = std::mem::replace(batch, empty);
        let Err(error) = tap.letters.try_send(Letter::Batch(full)) else { return true };
        let (std::sync::mpsc::TrySendError::Full(letter) | std::sync::mpsc::TrySendError::Disconnected(letter)) = error;
        if let Letter::Batch(full) = letter {
            *batch = full;
        }
        tap.refuse(bytes, packets)
    }

    /// Forgets the recordings that have ended since.
    fn forget_ended(&mut self) {
        let ended = self.taps.0.ended.load(Relaxed);
        if ended != std::mem::replace(&mut self.ended, ended) {
            let open = lock(&self.taps.0.open);
            self.known.retain(|id, _| open.contains_key(id));
        }
    }
}

impl Tap {
    fn refuse(&self, bytes: usize, packets: usize) -> bool {
        self.level.bytes.fetch_sub(bytes, Relaxed);
        self.level.lost.fetch_add(packets as u64, Relaxed);
        false
    }
}

impl TapReceiver {
    /// Waits for the next thing, no longer than so.
    pub fn wait(&self, within: Duration) -> Heard {
        match self.letters.recv_timeout(within) {
            Ok(letter) => self.heard(letter),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Heard::Silence,
        }
    }

    /// What is there already.
    pub fn next(&self) -> Option<Heard> {
        match self.letters.try_recv() {
            Ok(letter) => Some(self.heard(letter)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }

    /// Packets that found no room since this was last asked.
    pub fn lost(&self) -> u64 {
        self.level.lost.swap(0, Relaxed)
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.level.bytes.load(Relaxed)
    }

    /// Gives a batch back to the shard that it came from.
    pub fn give_back(&self, mut batch: Box<RelayBatch>) {
        batch.clear();
        if let Some(back) = lock(&self.taps.0.back).get(usize::from(batch.from.0)) {
            // With enough of them on their way, this one is not needed.
            let _ = back.try_send(batch);
        }
    }

    fn heard(&self, letter: Letter) -> Heard {
        match letter {
            Letter::Nudge => Heard::Nudge,
            Letter::Batch(batch) => {
                self.level.bytes.fetch_sub(batch.bytes(), Relaxed);
                Heard::Batch(batch)
            }
        }
    }
}

impl Drop for TapReceiver {
    fn drop(&mut self) {
        lock(&self.taps.0.open).remove(&self.id);
        self.taps.0.ended.fetch_add(1, Relaxed);
    }
}

impl Nudge {
    /// Whoever has a full queue is awake.
    pub fn nudge(&self) {
        let _ = self.0.try_send(Letter::Nudge);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RecordingId = RecordingId(7);

    #[test]
    fn a_batch_goes_over_and_its_buffers_come_back() {
        let taps = Taps::default();
        let mut shards = [taps.of_shard(), taps.of_shard()];
        let (tap, _) = taps.open(ID, 1 << 20);
        let mut batch = Box::new(RelayBatch::new(ShardId(1)));
        let address: *const RelayBatch = &*batch;
        assert!(shards[1].record(ID, &mut batch));
        let Heard::Batch(taken) = tap.wait(Duration::ZERO) else { panic!("a batch") };
        assert_eq!(taken.from, ShardId(1));
        tap.give_back(taken);
        assert!(shards[1].record(ID, &mut batch));
        assert!(std::ptr::eq(&*batch, address), "the same buffers again");
    }

    #[test]
    fn what_finds_no_room_is_told_and_an_ended_recording_gets_nothing() {
        let taps = Taps::default();
        let mut shard = taps.of_shard();
        let mut batch = Box::new(RelayBatch::new(ShardId(0)));
        assert!(!shard.record(ID, &mut batch), "there is none");
        let (tap, nudge) = taps.open(ID, 1 << 20);
        let taken = (0..QUEUE + 10).filter(|_| shard.record(ID, &mut batch)).count();
        assert_eq!(taken, QUEUE);
        nudge.nudge();
        assert_eq!(tap.lost(), 0, "empty batches carry no packets");
        assert!(std::iter::from_fn(|| tap.next()).all(|heard| matches!(heard, Heard::Batch(_))));
        assert!(shard.record(ID, &mut batch));
        drop(tap);
        assert!(!shard.record(ID, &mut batch));
        assert!(shard.known.is_empty());
    }
}
