//! A frame that many are to get waits for its last packet: one send for each subscriber then carries all of it.
//!
//! A decoder can do nothing with a part of a frame, so nobody sees it later for that. How long it may wait grows with what a
//! send to everybody costs; a small room does not wait at all, nor does a frame whose packets come too slowly to be worth it.
use std::time::{Duration, Instant};

/// With fewer subscribers than this on a shard, a send to all of them costs less than a tenth of a millisecond.
const MANY: usize = 24;
/// What one more subscriber may add to the wait: some five times what sending to it costs.
const FOR_EACH: Duration = Duration::from_micros(20);
const LEAST: Duration = Duration::from_millis(1);
const MOST: Duration = Duration::from_millis(4);
/// Packets that are worth a send of their own, whether or not the frame is complete.
const ENOUGH: usize = 32;

/// What is known of a stream's present frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    /// When the first of the packets came that wait.
    since: Option<Instant>,
    complete: bool,
    timestamp: Option<u32>,
    /// Time between two packets of one frame, smoothed.
    gap: Duration,
}

impl Hold {
    /// A packet came `elapsed` after the one before it.
    pub fn note(&mut self, now: Instant, elapsed: Duration, timestamp: u32, ends_frame: bool) {
        if self.timestamp == Some(timestamp) {
            self.gap = (self.gap * 7 + elapsed.min(MOST * 4)) / 8;
        }
        self.timestamp = Some(timestamp);
        self.since.get_or_insert(now);
        self.complete |= ends_frame;
    }

    /// Until when the waiting packets, so many of them, wait for others. `None`: they go now.
    pub fn until(&self, now: Instant, packets: usize, subscribers: usize) -> Option<Instant> {
        if self.complete || packets >= ENOUGH || subscribers < MANY {
            return None;
        }
        let hold = (FOR_EACH * subscribers.min(1_000) as u32).clamp(LEAST, MOST);
        let until = self.since? + hold;
        (self.gap < hold && now < until).then_some(until)
    }

    /// The packets go.
    pub fn release(&mut self) {
        (self.since, self.complete) = (None, false);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some instant to count from")]
mod tests {
    use super::*;

    #[test]
    fn a_frame_for_many_goes_whole() {
        let (t, us) = (Instant::now(), Duration::from_micros);
        let mut hold = Hold::default();
        hold.note(t, us(30_000), 1, false);
        assert_eq!(hold.until(t, 1, 100), Some(t + us(2_000)));
        assert_eq!(hold.until(t, 1, 1_000), Some(t + MOST));
        assert_eq!(hold.until(t, 1, 10), None, "for few it is not worth it");
        assert_eq!(hold.until(t + us(2_000), 1, 100), None, "long enough");
        assert_eq!(hold.until(t, ENOUGH, 100), None);
        hold.note(t + us(100), us(100), 1, true);
        assert_eq!(hold.until(t + us(100), 2, 100), None, "complete");
        hold.release();
        hold.note(t + us(33_000), us(32_900), 2, false);
        assert_eq!(hold.until(t + us(33_000), 1, 100), Some(t + us(35_000)), "the next one");
    }

    #[test]
    fn packets_that_come_slowly_wait_for_nothing() {
        let (mut now, gap) = (Instant::now(), Duration::from_millis(6));
        let mut hold = Hold::default();
        let mut waits = 0;
        for n in 0..100 {
            now += gap;
            hold.note(now, gap, n / 5, n % 5 == 4);
            waits += usize::from(hold.until(now, 1, 300).is_some());
            hold.release();
        }
        assert!(waits < 20, "{waits} of 100 packets waited in vain");
    }
}
