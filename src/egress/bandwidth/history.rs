//! What was sent and not yet forgotten: transport-wide numbers given out, and looked up when feedback names them.
use super::Micros;
use crate::metrics::DropReason;
use std::collections::VecDeque;

/// The most packets remembered: 0.8 s at 100 Mbit/s. The oldest go first.
const MAX_PACKETS: usize = 8192;
/// As long as no feedback has come, and perhaps none ever will.
const UNANSWERED: usize = 512;
/// Feedback later than this tells of a path that is no more.
const MAX_AGE: Micros = 4_000_000;

/// One packet that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub at: Micros,
    /// Bytes sent up to here, this packet with them; wraps.
    pub total: u32,
    pub bytes: u16,
    pub fate: Fate,
    /// It belongs to the latest probe.
    pub probes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// No feedback has told of it.
    Unknown,
    Lost,
    Received,
}

/// The packets sent last, by their extended transport-wide number. Takes no memory before the first.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    packets: VecDeque<Sent>,
    /// The number of the next packet.
    next: u64,
    total: u64,
    answered: bool,
}

impl History {
    /// Remembers a packet, and gives its number.
    pub fn push(&mut self, at: Micros, bytes: u16, probes: bool) -> u64 {
        if self.packets.len() == self.packets.capacity() || self.packets.len() >= self.most() {
            self.forget(at);
        }
        self.total = self.total.wrapping_add(u64::from(bytes));
        self.packets.push_back(Sent { at, total: self.total as u32, bytes, fate: Fate::Unknown, probes });
        self.next += 1;
        self.next - 1
    }

    /// Feedback has come.
    pub fn handle_answer(&mut self) {
        self.answered = true;
    }

    fn most(&self) -> usize {
        if self.answered { MAX_PACKETS } else { UNANSWERED }
    }

    /// Makes room before it would grow: what is too old for any feedback goes, and at the bound the oldest.
    fn forget(&mut self, now: Micros) {
        while self.packets.front().is_some_and(|p| now - p.at > MAX_AGE) || self.packets.len() >= self.most() {
            self.packets.pop_front();
        }
    }

    /// The number of the next packet.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// All bytes that were ever sent.
    pub fn sent_bytes(&self) -> u64 {
        self.total
    }

    pub fn last(&self) -> Option<&Sent> {
        self.packets.back()
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut Sent> {
        let first = self.next - self.packets.len() as u64;
        self.packets.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// The extended number of the first packet that a feedback tells of. An error if it tells of what was never sent
    /// (`FeedbackImpossible`), or only of what is forgotten (`FeedbackStale`).
    pub fn extend(&self, base: u16, count: u16) -> Result<u64, DropReason> {
        let back = u64::from((self.next as u16).wrapping_sub(base));
        if back == 0 || u64::from(count) > back || back > self.next {
            return Err(DropReason::FeedbackImpossible);
        }
        let first = self.next - back;
        if first + u64::from(count) <= self.next - self.packets.len() as u64 {
            return Err(DropReason::FeedbackStale);
        }
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_grows_only_with_use() {
        let mut history = History::default();
        assert_eq!(history.packets.capacity(), 0);
        assert_eq!(size_of::<Sent>(), 16);
        for i in 0..64 {
            history.push(i * 10_000, 1200, false);
        }
        assert!(history.packets.capacity() <= 128);
        (0..2_000).for_each(|i| assert_eq!(history.push(i * 100, 1200, false), 64 + i as u64));
        assert_eq!(history.packets.len(), UNANSWERED, "nobody tells of them");
        history.handle_answer();
        for i in 0..100_000 {
            history.push(i * 100, 1200, false);
        }
        assert_eq!(history.packets.len(), MAX_PACKETS);
        assert!(history.packets.capacity() <= 2 * MAX_PACKETS);
    }

    #[test]
    fn a_slow_stream_stays_small() {
        let mut history = History::default();
        for i in 0..10_000 {
            history.push(i * 20_000, 100, false);
        }
        assert!(history.packets.capacity() <= 512, "{}", history.packets.capacity());
    }

    #[test]
    fn feedback_names_what_was_sent() {
        let mut history = History::default();
        let numbers = |history: &History, base, count| history.extend(base, count);
        assert_eq!(numbers(&history, 0, 1), Err(DropReason::FeedbackImpossible));
        for i in 0..70_000 {
            history.push(i, 100, false);
        }
        let low = 70_000u64 as u16;
        assert_eq!(numbers(&history, low - 10, 10), Ok(69_990));
        assert_eq!(numbers(&history, low - 10, 11), Err(DropReason::FeedbackImpossible));
        assert_eq!(numbers(&history, low, 1), Err(DropReason::FeedbackImpossible));
        assert_eq!(numbers(&history, low.wrapping_sub(20_000), 100), Err(DropReason::FeedbackStale));
        assert_eq!(history.get_mut(69_999).map(|p| p.at), Some(69_999));
        assert_eq!(history.get_mut(70_000), None);
        assert_eq!(history.get_mut(3), None);
    }
}
