//! Which packets of one stream came, how, and which never did.

/// Numbers behind the highest that are told apart. What comes later than that counts as lost.
const WINDOW: u64 = 4_096;
const WORDS: usize = (WINDOW / 64) as usize;

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By itself.
    Wire,
    /// Because it was asked for again: as RTX, or under its own number.
    Repair,
}

/// What a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The highest number so far.
    Next,
    /// New, but behind a higher number: overtaken on its way, or repaired.
    Late,
    /// It was here already.
    Duplicate,
    /// Too far behind to tell.
    TooLate,
}

/// Counts, by extended sequence numbers. Each number counts once, however often and in whatever way it comes.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The least and the greatest number that came.
    first: Option<u64>,
    highest: u64,
    seen: [u64; WORDS],
    /// Numbers that came by themselves, and those that only repair brought.
    pub arrived: u64,
    pub repaired: u64,
    /// Packets whose number was here already.
    pub duplicates: u64,
    /// Packets that came by themselves behind a higher number.
    pub reordered: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { first: None, highest: 0, seen: [0; WORDS], arrived: 0, repaired: 0, duplicates: 0, reordered: 0 }
    }
}

impl Ledger {
    /// Enters a packet.
    pub fn enter(&mut self, seq: u64, way: Way) -> Arrival {
        let arrival = self.place(seq);
        match (arrival, way) {
            (Arrival::Duplicate, _) => self.duplicates += 1,
            (Arrival::TooLate, _) => {}
            (_, Way::Repair) => self.repaired += 1,
            (Arrival::Next, Way::Wire) => self.arrived += 1,
            (Arrival::Late, Way::Wire) => (self.arrived, self.reordered) = (self.arrived + 1, self.reordered + 1),
        }
        arrival
    }

    fn place(&mut self, seq: u64) -> Arrival {
        let Some(first) = self.first else {
            (self.first, self.highest) = (Some(seq), seq);
            self.mark(seq);
            return Arrival::Next;
        };
        if seq > self.highest {
            if seq - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                (self.highest + 1..seq).for_each(|skipped| self.clear(skipped));
            }
            self.highest = seq;
            self.mark(seq);
            return Arrival::Next;
        }
        if self.highest - seq >= WINDOW {
            return Arrival::TooLate;
        }
        if self.has(seq) {
            return Arrival::Duplicate;
        }
        self.first = Some(first.min(seq));
        self.mark(seq);
        Arrival::Late
    }

    /// The greatest number that came.
    pub fn highest(&self) -> Option<u64> {
        self.first.map(|_| self.highest)
    }

    /// All numbers from the first to the highest.
    pub fn expected(&self) -> u64 {
        self.first.map_or(0, |first| self.highest - first + 1)
    }

    /// Numbers that did not come by themselves.
    pub fn lost_before_repair(&self) -> u64 {
        self.expected().saturating_sub(self.arrived)
    }

    /// Numbers that never came.
    pub fn lost_for_good(&self) -> u64 {
        self.lost_before_repair().saturating_sub(self.repaired)
    }

    fn has(&self, seq: u64) -> bool {
        self.seen[(seq / 64) as usize % WORDS] >> (seq % 64) & 1 == 1
    }
    fn mark(&mut self, seq: u64) {
        self.seen[(seq / 64) as usize % WORDS] |= 1 << (seq % 64);
    }
    fn clear(&mut self, seq: u64) {
        self.seen[(seq / 64) as usize % WORDS] &= !(1 << (seq % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_repaired_and_also_arrives_hides_no_loss() {
        let mut ledger = Ledger::default();
        for seq in [10, 11, 13, 16] {
            ledger.enter(seq, Way::Wire);
        }
        assert_eq!(ledger.enter(12, Way::Repair), Arrival::Late);
        // It was only overtaken.
        assert_eq!(ledger.enter(12, Way::Wire), Arrival::Duplicate);
        assert_eq!(ledger.enter(14, Way::Wire), Arrival::Late);
        assert_eq!((ledger.expected(), ledger.arrived, ledger.repaired), (7, 5, 1));
        assert_eq!((ledger.lost_before_repair(), ledger.lost_for_good()), (2, 1));
        assert_eq!((ledger.duplicates, ledger.reordered), (1, 1));
    }

    #[test]
    fn a_jump_beyond_the_window_is_loss() {
        let mut ledger = Ledger::default();
        ledger.enter(5, Way::Wire);
        ledger.enter(5 + 3 * WINDOW, Way::Wire);
        assert_eq!(ledger.lost_for_good(), 3 * WINDOW - 1);
        assert_eq!(ledger.enter(6, Way::Wire), Arrival::TooLate);
        assert_eq!(ledger.lost_for_good(), 3 * WINDOW - 1);
    }

    #[test]
    fn counts_are_those_of_a_set() {
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..50 {
            let (mut ledger, mut set, mut top) = (Ledger::default(), BTreeSet::new(), 70_000 + next(1000));
            for _ in 0..3_000 {
                top += next(3);
                let seq = top - next(40);
                let new = set.insert(seq);
                let arrival = ledger.enter(seq, if next(5) == 0 { Way::Repair } else { Way::Wire });
                assert_eq!(new, arrival != Arrival::Duplicate);
            }
            let (first, last) = (*set.first().unwrap(), *set.last().unwrap());
            assert_eq!(ledger.expected(), last - first + 1);
            assert_eq!(ledger.arrived + ledger.repaired, set.len() as u64);
            assert_eq!(ledger.lost_for_good(), last - first + 1 - set.len() as u64);
            assert_eq!(ledger.highest(), Some(last));
        }
    }
}
