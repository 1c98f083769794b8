//! The deadlines of a room, the earliest first. Each has a name: the reason for which the room wakes.
use crate::ids::{ParticipantId, TrackId};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Why a room wakes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// Heartbeat, grace, expiry: whatever of a participant comes first.
    Participant(ParticipantId),
    /// What was asked of the engine has waited long enough.
    Query(u64),
    /// Nobody has had a use for something of a track for a while.
    Unwatched(TrackId),
    /// A publisher was asked to send a track again.
    Waking(TrackId),
    /// Details of what a participant gets may be told again.
    States(ParticipantId),
    /// Somebody may have spoken for long enough to count.
    Speakers,
    /// Who speaks, and how loud, may be told again.
    Levels,
    /// How many there are may be told again.
    Count,
    /// How well connections do may be told again.
    Quality,
    /// A recording should have begun, or one that failed is tried again.
    Recording,
}

/// At most one deadline for each timer.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// May hold deadlines that were moved since; the first is always a true one.
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
    armed: FxHashMap<Timer, Instant>,
}

impl Timers {
    pub fn arm(&mut self, timer: Timer, at: Instant) {
        if self.armed.insert(timer, at) != Some(at) {
            self.heap.push(Reverse((at, timer)));
            self.prune();
        }
    }

    /// Arms it unless it fires sooner anyway.
    pub fn arm_by(&mut self, timer: Timer, at: Instant) {
        if self.armed.get(&timer).is_none_or(|&armed| armed > at) {
            self.arm(timer, at);
        }
    }

    pub fn disarm(&mut self, timer: Timer) {
        self.armed.remove(&timer);
        self.prune();
    }

    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A timer whose deadline has come; it is no longer armed.
    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let Reverse((at, timer)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.disarm(timer);
        Some(timer)
    }

    fn prune(&mut self) {
        while let Some(Reverse((at, timer))) = self.heap.peek() {
            if self.armed.get(timer) == Some(at) {
                break;
            }
            self.heap.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn the_earliest_comes_first_and_moved_ones_do_not_fire() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.arm(Timer::Query(1), at(5));
        timers.arm(Timer::Speakers, at(3));
        timers.arm_by(Timer::Speakers, at(4));
        assert_eq!(timers.next(), Some(at(3)));
        timers.arm(Timer::Speakers, at(9));
        assert_eq!(timers.next(), Some(at(5)), "a moved deadline is forgotten");
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(9)), Some(Timer::Query(1)));
        assert_eq!(timers.pop_due(at(9)), Some(Timer::Speakers));
        assert_eq!(timers.pop_due(at(99)), None);
        assert_eq!(timers.next(), None);
    }
}
