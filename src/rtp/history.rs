//! The packets of one publisher stream, kept for a while: each subscriber's packets are made from it, retransmissions too.
//!
//! Bytes lie in a ring that each packet is opened into directly; an index finds them by sequence number. Both start small, and
//! double while they turn around faster than [`WANTED_AGE`], up to the limits: that growth is the only allocation.
use super::SeqNo;
use crate::metrics::DropReason;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long packets are kept if the limits allow: longer than any retransmission is of use.
pub const WANTED_AGE: Duration = Duration::from_millis(1500);

const FIRST_BYTES: usize = 16 << 10;
const FIRST_PACKETS: usize = 64;

/// What one history may hold. Both are rounded up to a power of two, and to 16 KiB and 64 packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    pub packets: usize,
    pub bytes: usize,
}

/// Bytes that all histories together may take; shared by those that it was cloned for. What a history begins with is not refused
/// (their number is bounded by others), growing is: retransmissions then reach less far back.
#[derive(Clone, Debug)]
pub struct HistoryBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl HistoryBudget {
    /// `limit` in bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Budget { limit, used: AtomicUsize::new(0) }))
    }

    /// Bytes taken now.
    pub fn used(&self) -> usize {
        self.0.used.load(Relaxed)
    }

    fn take(&self, bytes: usize) {
        self.0.used.fetch_add(bytes, Relaxed);
    }

    fn try_take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.0.limit);
        self.0.used.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Relaxed);
    }
}

impl Default for HistoryBudget {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// A packet that is kept: its bytes, when it came, and what was noted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a, M> {
    pub bytes: &'a [u8],
    pub at: Instant,
    pub meta: &'a M,
}

/// See the module. `M` is what the owner notes of each packet, for instance its parsed header.
#[derive(Debug)]
pub struct History<M> {
    limits: HistoryLimits,
    budget: HistoryBudget,
    /// By the low bits of the sequence number.
    index: Vec<Option<Entry<M>>>,
    ring: Vec<u8>,
    /// Positions count all bytes ever written; a position lies in the ring at its remainder. The next packet goes to `head`.
    head: u64,
    reserved: usize,
    /// What begins before this position has been overwritten.
    floor: u64,
    highest: Option<SeqNo>,
    /// When the first packet of this turn around the ring came, and the last one.
    turn_started: Option<Instant>,
    latest: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Entry<M> {
    seq: SeqNo,
    start: u64,
    len: usize,
    at: Instant,
    meta: M,
}

impl<M: Copy> History<M> {
    const ENTRY: usize = size_of::<Option<Entry<M>>>();

    pub fn new(limits: HistoryLimits) -> Self {
        Self::within(limits, HistoryBudget::default())
    }

    /// It takes what it needs from `budget`.
    pub fn within(limits: HistoryLimits, budget: HistoryBudget) -> Self {
        let limits = HistoryLimits {
            packets: limits.packets.clamp(FIRST_PACKETS, 1 << 16).next_power_of_two(),
            bytes: limits.bytes.clamp(FIRST_BYTES, 1 << 30).next_power_of_two(),
        };
        budget.take(FIRST_BYTES + FIRST_PACKETS * Self::ENTRY);
        Self {
            limits,
            budget,
            index: vec![None; FIRST_PACKETS],
            ring: vec![0; FIRST_BYTES],
            head: 0,
            reserved: 0,
            floor: 0,
            highest: None,
            turn_started: None,
            latest: None,
        }
    }

    /// Contiguous space to open the next packet into. The oldest packets may be lost by it. Without a `commit` the space is
    /// given again next time, so what fails to authenticate pushes out no more than one packet's worth. Empty when `len` is more
    /// than the whole ring, which is at least 16 KiB.
    pub fn reserve(&mut self, len: usize) -> &mut [u8] {
        self.reserved = 0;
        if len > self.ring.len() {
            return &mut [];
        }
        if self.offset(self.head) + len > self.ring.len() {
            self.head = self.head.next_multiple_of(self.ring.len() as u64);
            self.turn();
        }
        let start = self.offset(self.head);
        self.reserved = len;
        self.floor = self.floor.max((self.head + len as u64).saturating_sub(self.ring.len() as u64));
        &mut self.ring[start..start + len]
    }

    /// The space reserved last, as it was filled.
    pub fn reserved(&self) -> &[u8] {
        let start = self.offset(self.head);
        self.ring.get(start..start + self.reserved).unwrap_or_default()
    }

    /// Keeps the first `used_len` bytes of the space reserved last as packet `seq`. Fails, and forgets them, when the packet is
    /// here already, or too old for the index.
    pub fn commit(&mut self, seq: SeqNo, used_len: usize, at: Instant, meta: M) -> Result<(), DropReason> {
        let len = used_len.min(self.reserved);
        self.reserved = 0;
        if self.highest.and_then(|h| h.since(seq)).is_some_and(|age| age >= self.index.len() as u64) {
            return Err(DropReason::TooOld);
        }
        loop {
            match &self.index[self.slot(seq)] {
                Some(old) if old.seq == seq => return Err(DropReason::Duplicate),
                Some(old) if old.seq > seq => return Err(DropReason::TooOld),
                Some(old) if self.wants(old, at) && self.may_grow_index() => self.grow_index(),
                _ => break,
            }
        }
        let slot = self.slot(seq);
        self.index[slot] = Some(Entry { seq, start: self.head, len, at, meta });
        self.head += len as u64;
        self.highest = self.highest.max(Some(seq));
        self.turn_started.get_or_insert(at);
        self.latest = Some(at);
        Ok(())
    }

    /// The packet, if it is still here.
    pub fn packet(&self, seq: SeqNo) -> Option<Stored<'_, M>> {
        let entry = self.entry(seq)?;
        let start = self.offset(entry.start);
        let bytes = self.ring.get(start..start + entry.len)?;
        Some(Stored { bytes, at: entry.at, meta: &entry.meta })
    }

    pub fn contains(&self, seq: SeqNo) -> bool {
        self.entry(seq).is_some()
    }

    /// The highest sequence number committed.
    pub fn highest(&self) -> Option<SeqNo> {
        self.highest
    }

    /// Bytes that this history takes now.
    pub fn memory(&self) -> usize {
        self.ring.len() + self.index.len() * Self::ENTRY
    }

    fn entry(&self, seq: SeqNo) -> Option<&Entry<M>> {
        self.index[self.slot(seq)].as_ref().filter(|e| e.seq == seq && e.start >= self.floor)
    }
    fn slot(&self, seq: SeqNo) -> usize {
        (seq.0 & (self.index.len() as u64 - 1)) as usize
    }
    fn offset(&self, position: u64) -> usize {
        (position & (self.ring.len() as u64 - 1)) as usize
    }
    fn wants(&self, entry: &Entry<M>, now: Instant) -> bool {
        entry.start >= self.floor && now.saturating_duration_since(entry.at) < WANTED_AGE
    }

    /// The head stands where the ring begins anew.
    fn turn(&mut self) {
        let age = self.turn_started.zip(self.latest).map(|(start, end)| end.saturating_duration_since(start));
        let too_fast = age.is_some_and(|age| age < WANTED_AGE);
        if too_fast && self.ring.len() < self.limits.bytes && self.budget.try_take(self.ring.len()) {
            // The head is a multiple of the old length. What lies before it keeps its remainder, or has it raised by the old
            // length: twice the same bytes serve both.
            self.floor = self.floor.max(self.head.saturating_sub(self.ring.len() as u64));
            self.ring.extend_from_within(..);
        }
        if self.offset(self.head) == 0 {
            self.turn_started = None;
        }
    }

    fn may_grow_index(&self) -> bool {
        self.index.len() < self.limits.packets && self.budget.try_take(self.index.len() * Self::ENTRY)
    }

    fn grow_index(&mut self) {
        let grown = vec![None; self.index.len() * 2];
        for entry in std::mem::replace(&mut self.index, grown).into_iter().flatten() {
            let slot = self.slot(entry.seq);
            self.index[slot] = Some(entry);
        }
    }
}

impl<M> Drop for History<M> {
    fn drop(&mut self) {
        self.budget.give_back(self.ring.len() + self.index.len() * size_of::<Option<Entry<M>>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const SMALL: HistoryLimits = HistoryLimits { packets: 64, bytes: 16 << 10 };

    #[expect(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    fn bytes_of(seq: SeqNo, len: usize) -> Vec<u8> {
        (0..len).map(|i| (seq.0 as usize * 31 + i) as u8).collect()
    }

    fn put(history: &mut History<u64>, seq: SeqNo, len: usize, at: Instant) -> Result<(), DropReason> {
        let space = history.reserve(len + 16);
        space[..len].copy_from_slice(&bytes_of(seq, len));
        space[len..].fill(0xee);
        history.commit(seq, len, at, seq.0)
    }

    fn intact(history: &History<u64>, seq: SeqNo, len: usize) -> bool {
        history.packet(seq).is_some_and(|p| p.bytes == bytes_of(seq, len) && *p.meta == seq.0)
    }

    #[test]
    fn what_is_here_or_too_old_is_named() {
        let (mut h, t) = (History::new(SMALL), start());
        assert_eq!(put(&mut h, SeqNo(100), 10, t), Ok(()));
        assert_eq!(put(&mut h, SeqNo(100), 10, t), Err(DropReason::Duplicate));
        assert_eq!(put(&mut h, SeqNo(98), 10, t), Ok(()), "reordered");
        assert_eq!(put(&mut h, SeqNo(100 - 64), 10, t), Err(DropReason::TooOld));
        assert_eq!(put(&mut h, SeqNo(100 - 63), 10, t), Ok(()));
        assert_eq!(put(&mut h, SeqNo(1_000_000), 10, t), Ok(()), "a jump ahead");
        assert_eq!(put(&mut h, SeqNo(101), 10, t), Err(DropReason::TooOld));
        assert!(intact(&h, SeqNo(100), 10) && intact(&h, SeqNo(1_000_000), 10) && !h.contains(SeqNo(99)));
    }

    #[test]
    fn what_fails_to_open_costs_one_packets_worth() {
        let (mut h, t) = (History::new(SMALL), start());
        for n in 0..30 {
            put(&mut h, SeqNo(n), 1000, t).unwrap();
        }
        let held = (0..30).filter(|&n| h.contains(SeqNo(n))).count();
        for _ in 0..1000 {
            h.reserve(1000).fill(0xff);
        }
        let left = (0..30).filter(|&n| intact(&h, SeqNo(n), 1000)).count();
        assert!(left + 2 >= held, "{left} of {held}");
    }

    #[test]
    fn a_busy_stream_grows_until_it_keeps_the_wanted_age() {
        let limits = HistoryLimits { packets: 4096, bytes: 2 << 20 };
        let (mut h, t) = (History::new(limits), start());
        // 3 Mbit/s in packets of 1000 bytes.
        let at = |n: u64| t + Duration::from_micros(n * 2667);
        for n in 0..4000 {
            put(&mut h, SeqNo(n), 1000, at(n)).unwrap();
        }
        let oldest = (0..4000).find(|&n| intact(&h, SeqNo(n), 1000)).unwrap();
        assert!((oldest..4000).all(|n| intact(&h, SeqNo(n), 1000)));
        assert!(at(3999) - at(oldest) > WANTED_AGE, "{:?}", at(3999) - at(oldest));
        assert_eq!((h.index.len(), h.ring.len()), (1024, 1 << 20));
    }

    #[test]
    fn a_slow_stream_stays_small() {
        let limits = HistoryLimits { packets: 4096, bytes: 2 << 20 };
        let (mut h, t) = (History::new(limits), start());
        for n in 0..5000 {
            put(&mut h, SeqNo(n), 100, t + Duration::from_millis(20 * n)).unwrap();
        }
        assert!(h.index.len() <= 128 && h.ring.len() == FIRST_BYTES);
    }

    #[test]
    fn more_than_the_ring_is_refused() {
        let mut h = History::<()>::new(SMALL);
        assert!(h.reserve((16 << 10) + 1).is_empty());
        assert_eq!(h.reserve(16 << 10).len(), 16 << 10);
        assert_eq!(h.commit(SeqNo(0), usize::MAX, start(), ()), Ok(()));
        assert_eq!(h.packet(SeqNo(0)).unwrap().bytes.len(), 16 << 10);
    }

    #[test]
    fn all_of_them_stay_within_their_budget() {
        let (limits, t) = (HistoryLimits { packets: 4096, bytes: 2 << 20 }, start());
        let budget = HistoryBudget::new(1 << 20);
        let mut histories: Vec<History<u64>> = (0..4).map(|_| History::within(limits, budget.clone())).collect();
        for n in 0..4_000 {
            for h in &mut histories {
                put(h, SeqNo(n), 1000, t + Duration::from_micros(n * 2667)).unwrap();
            }
        }
        let used: usize = histories.iter().map(History::memory).sum();
        assert_eq!(budget.used(), used);
        assert!((512 << 10..=1 << 20).contains(&used), "{used}");
        assert!(histories.iter().all(|h| intact(h, SeqNo(3_999), 1000)));
        histories.clear();
        assert_eq!(budget.used(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Next(usize),
        Late(u64, usize),
        Jump(u64),
        Fail(usize),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..1500usize).prop_map(Step::Next),
            2 => (0..200u64, 0..1500usize).prop_map(|(back, len)| Step::Late(back, len)),
            1 => (1..300u64).prop_map(Step::Jump),
            1 => (0..1500usize).prop_map(Step::Fail),
            1 => (0..300u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Against a map that forgets nothing: what is found is what was put, and the latest packets are always found.
        #[test]
        fn like_a_map_that_forgets(steps in prop::collection::vec(step(), 1..600), log_bytes in 14..18u32, log_packets in 6..9u32) {
            let limits = HistoryLimits { packets: 1 << log_packets, bytes: 1 << log_bytes };
            let (mut h, mut now, mut seq) = (History::new(limits), start(), SeqNo(500));
            let mut model: HashMap<SeqNo, usize> = HashMap::new();
            let mut recent: Vec<SeqNo> = Vec::new();
            for step in steps {
                let put_now = match step {
                    Step::Next(len) => { seq = seq.next(); Some((seq, len)) }
                    Step::Late(back, len) => seq.minus(back).map(|s| (s, len)),
                    Step::Jump(n) => { seq = seq.plus(n); None }
                    Step::Fail(len) => { h.reserve(len).fill(0xff); None }
                    Step::Wait(ms) => { now += Duration::from_millis(ms); None }
                };
                let Some((s, len)) = put_now else { continue };
                match put(&mut h, s, len, now) {
                    Ok(()) => {
                        prop_assert!(model.insert(s, len).is_none(), "kept twice");
                        recent.push(s);
                    }
                    Err(DropReason::Duplicate) => prop_assert!(model.contains_key(&s)),
                    Err(reason) => prop_assert!(reason == DropReason::TooOld && s < h.highest().unwrap()),
                }
                prop_assert!(h.ring.len() <= limits.bytes && h.index.len() <= limits.packets);
            }
            for (&s, &len) in &model {
                prop_assert!(!h.contains(s) || intact(&h, s, len));
            }
            // The last of them fit into the smallest ring, whatever happened between.
            let fitting = recent.iter().rev().scan(0, |sum, s| { *sum += model[s] + 16; Some((*s, *sum)) });
            for (s, sum) in fitting.take_while(|(_, sum)| *sum + 3 * 1516 < FIRST_BYTES) {
                let replaced = recent.iter().any(|r| *r > s && (r.0 - s.0).is_multiple_of(h.index.len() as u64));
                prop_assert!(intact(&h, s, model[&s]) || replaced, "{:?} lost after {} bytes", s, sum);
            }
        }
    }
}
