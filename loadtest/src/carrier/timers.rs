//! Deadlines of many clients.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Who is called when, the earliest first. A client is in here at most a few times; what is outdated is passed over when its time comes.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, client: usize) {
        self.heap.push(Reverse((at, client)));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// One that is due, and since when.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_not_due_stays() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        timers.set(at(20), 2);
        timers.set(at(10), 1);
        assert_eq!(timers.pop_due(at(10)), Some((at(10), 1)));
        assert_eq!(timers.pop_due(at(19)), None);
        assert_eq!((timers.next(), timers.pop_due(at(25))), (Some(at(20)), Some((at(20), 2))));
        assert_eq!(timers.next(), None);
    }
}
