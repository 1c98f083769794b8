//! The newest entries of a numbered sequence, by number: a window that grows as far as it must.

const SMALLEST: usize = 64;

/// Entries by number, in one piece of memory. Numbers may be missing. What is forgotten is not touched: its memory is cold.
#[derive(Clone, Debug)]
pub struct Ring<T> {
    slots: Vec<Option<(u64, T)>>,
    /// The numbers that count, of which the highest is there; what else is in the slots does not.
    range: Option<(u64, u64)>,
    most: usize,
}

impl<T: Copy> Ring<T> {
    /// `most`: the greatest distance between two entries, a power of two.
    pub fn new(most: usize) -> Self {
        Self { slots: Vec::new(), range: None, most: most.next_power_of_two() }
    }

    pub fn get(&self, number: u64) -> Option<&T> {
        self.range.filter(|(low, high)| (*low..=*high).contains(&number))?;
        self.slots[number as usize & (self.slots.len() - 1)].as_ref().filter(|(n, _)| *n == number).map(|(_, v)| v)
    }

    /// Puts an entry in. False, and everything is forgotten, if it lies too far from the others.
    pub fn insert(&mut self, number: u64, value: T) -> bool {
        let (low, high) = self.range.unwrap_or((number, number));
        let (low, high) = (low.min(number), high.max(number));
        let span = high - low + 1;
        if span > self.most as u64 {
            self.range = None;
            return false;
        }
        if span > self.slots.len() as u64 {
            self.grow((span as usize).next_power_of_two().max(SMALLEST));
        }
        self.range = Some((low, high));
        let mask = self.slots.len() - 1;
        self.slots[number as usize & mask] = Some((number, value));
        true
    }

    /// Forgets what is below `number`.
    pub fn forget_below(&mut self, number: u64) {
        self.range = self.range.map(|(low, high)| (low.max(number), high)).filter(|(low, high)| low <= high);
    }

    /// The greatest number.
    pub fn highest(&self) -> Option<u64> {
        self.range.map(|(_, high)| high)
    }

    /// All from `number` on, ascending.
    pub fn from(&self, number: u64) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let range = self.range.map(|(low, high)| number.max(low)..=high);
        range.into_iter().flatten().filter_map(|n| Some((n, self.get(n)?)))
    }

    fn grow(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.slots, vec![None; size]);
        let counts = |n: &u64| self.range.is_some_and(|(low, high)| (low..=high).contains(n));
        for (number, value) in old.into_iter().flatten().filter(|(n, _)| counts(n)) {
            self.slots[number as usize & (size - 1)] = Some((number, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_a_map_of_the_newest() {
        let mut random = 7u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for most in [64, 256] {
            let (mut ring, mut map, mut top) = (Ring::new(most), BTreeMap::new(), 1_000u64);
            for turn in 0..20_000u64 {
                top += next(4);
                let number = top - next(30);
                map.insert(number, turn);
                assert!(ring.insert(number, turn));
                let below = top.saturating_sub(40 + next(10));
                ring.forget_below(below);
                map = map.split_off(&below);
                let at = top - next(60);
                assert_eq!(ring.get(at), map.get(&at));
                assert!(ring.from(at).map(|(n, v)| (n, *v)).eq(map.range(at..).map(|(n, v)| (*n, *v))));
                assert_eq!(ring.highest(), map.last_key_value().map(|(n, _)| *n));
            }
            assert!(!ring.insert(top + most as u64 * 2, 0));
            assert_eq!((ring.highest(), ring.from(0).count()), (None, 0));
        }
    }
}
