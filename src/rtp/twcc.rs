//! Transport-wide congestion control, the receiver's side (draft-holmer-rmcat-transport-wide-cc-extensions-01): when each packet
//! of a transport arrived, told to its sender every 50 ms. (The sender's side reads [`super::rtcp::TransportFeedback`].)
use super::Ssrc;
use super::rtcp::{FeedbackHead, REFERENCE_TICKS, TICK_MICROS, write_transport_feedback};
use std::time::{Duration, Instant};

/// How long after the first packet that was not yet told of a feedback is due.
pub const INTERVAL: Duration = Duration::from_millis(50);

/// Numbers that are remembered: at 10,000 packets a second, twice the interval.
const WINDOW: i64 = 1024;
/// Packets in one feedback; at worst two bytes for each and a chunk for seven, so that it fits into a datagram.
const MAX_PACKETS: usize = 400;
/// Where the extended numbers begin, so that none falls below zero.
const BASE: i64 = 1 << 16;
const ABSENT: i64 = i64::MIN;

/// Records arrivals, and makes feedback of them. Allocates when it is made, not later.
#[derive(Clone, Debug)]
pub struct TwccRecorder {
    /// By the low bits of the extended number: the arrival in ticks of 250 µs since `epoch`.
    arrivals: Box<[i64; WINDOW as usize]>,
    epoch: Option<Instant>,
    /// The highest number recorded.
    highest: i64,
    /// The first number that the next feedback tells of.
    next: i64,
    /// When the first packet came that no feedback has told of.
    waiting_since: Option<Instant>,
    feedback_count: u8,
    deltas: Vec<Option<i16>>,
}

impl Default for TwccRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl TwccRecorder {
    pub fn new() -> Self {
        Self {
            arrivals: Box::new([ABSENT; WINDOW as usize]),
            epoch: None,
            highest: 0,
            next: 0,
            waiting_since: None,
            feedback_count: 0,
            deltas: Vec::with_capacity(MAX_PACKETS),
        }
    }

    /// A packet with this transport-wide number arrived. A duplicate, and one that is 1024 behind, is not counted.
    pub fn record(&mut self, now: Instant, seq: u16) {
        let epoch = *self.epoch.get_or_insert(now);
        let seq = self.extend(seq);
        if seq <= self.highest - WINDOW {
            return;
        }
        for skipped in (self.highest + 1).max(seq - WINDOW + 1)..=seq {
            self.arrivals[slot(skipped)] = ABSENT;
        }
        self.highest = self.highest.max(seq);
        let arrival = &mut self.arrivals[slot(seq)];
        if *arrival != ABSENT {
            return;
        }
        *arrival = now.saturating_duration_since(epoch).as_micros() as i64 / TICK_MICROS;
        // A packet overtaken by a feedback is told of in the next one.
        self.next = self.next.min(seq).max(self.highest - WINDOW + 1);
        self.waiting_since.get_or_insert(now);
    }

    fn extend(&mut self, seq: u16) -> i64 {
        if self.highest == 0 {
            self.highest = BASE + i64::from(seq) - 1;
            self.next = BASE + i64::from(seq);
        }
        // Numbers behind the first packet may fall below the base, but not below zero: half a turn is less than the base.
        self.highest + i64::from(seq.wrapping_sub(self.highest as u16) as i16)
    }

    /// When a feedback is due: 50 ms after the first arrival that it will tell of, or at once when half the window is waiting.
    pub fn next_timeout(&self) -> Option<Instant> {
        let since = self.waiting_since?;
        Some(if self.highest - self.next > WINDOW / 2 { since } else { since + INTERVAL })
    }

    /// Appends a feedback on all that arrived since the last one to `out`; several where one cannot hold it; none when there is
    /// nothing to tell, or nothing is due yet. Says whether it wrote any.
    pub fn build_feedback(&mut self, now: Instant, sender: Ssrc, media: Ssrc, out: &mut Vec<u8>) -> bool {
        if self.next_timeout().is_none_or(|due| due > now) {
            return false;
        }
        self.waiting_since = None;
        while self.next <= self.highest {
            self.build_one(sender, media, out);
        }
        true
    }

    /// Tells of as many packets as one feedback can hold. Each but the first has a delta of 16 bits to the one before.
    fn build_one(&mut self, sender: Ssrc, media: Ssrc, out: &mut Vec<u8>) {
        let first = self.next;
        let Some(start) = (first..=self.highest).map(|s| self.arrivals[slot(s)]).find(|&a| a != ABSENT) else {
            // What is left is the loss behind the last arrival, which cannot be: the highest has arrived.
            self.next = self.highest + 1;
            return;
        };
        let reference = start.div_euclid(REFERENCE_TICKS);
        let mut last = reference * REFERENCE_TICKS;
        self.deltas.clear();
        for seq in (first..=self.highest).take(MAX_PACKETS) {
            let arrival = self.arrivals[slot(seq)];
            if arrival == ABSENT {
                self.deltas.push(None);
                continue;
            }
            let Ok(delta) = i16::try_from(arrival - last) else { break };
            self.deltas.push(Some(delta));
            last = arrival;
        }
        self.next = first + self.deltas.len() as i64;
        let head = FeedbackHead {
            sender,
            media,
            base_sequence: first as u16,
            reference_time: reference as i32,
            feedback_count: self.feedback_count,
        };
        self.feedback_count = self.feedback_count.wrapping_add(1);
        write_transport_feedback(out, head, &self.deltas);
    }
}

fn slot(seq: i64) -> usize {
    (seq & (WINDOW - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::rtcp::{Rtcp, packets};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[expect(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }
    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// What a feedback compound says, as two readers understand it: ours, and the `rtcp` crate with `interceptor`'s conversion.
    fn read(bytes: &[u8]) -> Vec<Vec<(u16, Option<i64>)>> {
        use ::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
        if bytes.is_empty() {
            return Vec::new();
        }
        let theirs = ::rtcp::packet::unmarshal(&mut bytes::Bytes::copy_from_slice(bytes)).unwrap();
        let mut all = Vec::new();
        for (packet, theirs) in packets(bytes).zip(theirs) {
            let Ok(Rtcp::TransportFeedback(ours)) = packet else { panic!() };
            let ours: Vec<_> = ours.arrivals().collect();
            let theirs = interceptor::convert_twcc(theirs.as_any().downcast_ref::<TransportLayerCc>().unwrap());
            let theirs = theirs.iter().map(|a| (a.sequence_number, a.arrival.map(|t| t.as_micros() as i64)));
            assert_eq!(ours, theirs.take(ours.len()).collect::<Vec<_>>());
            all.push(ours);
        }
        all
    }

    fn feedback(recorder: &mut TwccRecorder, now: Instant) -> Vec<Vec<(u16, Option<i64>)>> {
        let mut out = Vec::new();
        recorder.build_feedback(now, Ssrc(1), Ssrc(2), &mut out);
        read(&out)
    }

    #[test]
    fn arrivals_are_told_once_they_are_due() {
        let (mut r, t) = (TwccRecorder::new(), start());
        assert_eq!(r.next_timeout(), None);
        for (at, seq) in [(0, 65_534), (1, 65_535), (3, 1), (4, 2)] {
            r.record(t + ms(at), seq);
        }
        assert_eq!(r.next_timeout(), Some(t + ms(50)));
        assert!(feedback(&mut r, t + ms(49)).is_empty());
        let want = vec![(65_534, Some(0)), (65_535, Some(1000)), (0, None), (1, Some(3000)), (2, Some(4000))];
        assert_eq!(feedback(&mut r, t + ms(50)), [want]);
        assert_eq!(r.next_timeout(), None);
        assert!(feedback(&mut r, t + ms(500)).is_empty());
        // The one that was overtaken comes after all, and what is known since is told again.
        r.record(t + ms(60), 0);
        r.record(t + ms(61), 0);
        assert_eq!(feedback(&mut r, t + ms(110)), [vec![(0, Some(60_000)), (1, Some(3000)), (2, Some(4000))]]);
    }

    #[test]
    fn a_pause_too_long_for_a_delta_splits_the_feedback() {
        let (mut r, t) = (TwccRecorder::new(), start());
        for (at, seq) in [(0, 10), (8191, 11), (16_400, 13), (3, 14)] {
            r.record(t + ms(at), seq);
        }
        let all = feedback(&mut r, t + ms(20_000));
        let want = [
            vec![(10, Some(0)), (11, Some(8_191_000)), (12, None)],
            vec![(13, Some(16_400_000))],
            vec![(14, Some(3000))],
        ];
        assert_eq!(all, want);
    }

    #[test]
    fn a_full_window_is_due_at_once_and_split() {
        let (mut r, t) = (TwccRecorder::new(), start());
        for seq in 0..1000 {
            r.record(t, seq);
        }
        assert_eq!(r.next_timeout(), Some(t));
        let all = feedback(&mut r, t);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [400, 400, 200]);
    }

    #[test]
    fn a_jump_leaves_the_window_behind() {
        let (mut r, t) = (TwccRecorder::new(), start());
        r.record(t, 5);
        r.record(t + ms(1), 5 + 20_000);
        r.record(t + ms(2), 6);
        let all: Vec<_> = feedback(&mut r, t + ms(60)).concat();
        assert_eq!(all.len(), WINDOW as usize);
        assert_eq!(all.last(), Some(&(20_005, Some(1000))));
        assert!(all[..all.len() - 1].iter().all(|(_, at)| at.is_none()));
    }

    #[test]
    fn a_feedback_fits_into_a_datagram() {
        let (mut r, t) = (TwccRecorder::new(), start());
        // The worst case: every delta is large.
        for seq in 0..400u16 {
            r.record(t + ms(if seq % 2 == 0 { 1000 } else { 0 }), seq);
        }
        let mut out = Vec::new();
        assert!(r.build_feedback(t + ms(2000), Ssrc(1), Ssrc(2), &mut out));
        assert_eq!((packets(&out).count(), out.len() <= 1100), (1, true), "{}", out.len());
    }

    proptest! {
        /// Whatever is lost or reordered: the feedbacks together tell of every arrival, to a quarter of a millisecond, and of
        /// no other.
        #[test]
        fn every_arrival_is_told(first: u16, steps in prop::collection::vec((0..9000u64, -20..21i32), 1..400), slow: bool) {
            let (mut r, t) = (TwccRecorder::new(), start());
            let (mut now, mut at) = (t, i32::from(first) + 65_536);
            r.record(t, at as u16);
            let mut sent = BTreeMap::from([(at as u16, Duration::ZERO)]);
            let mut told = BTreeMap::new();
            for (wait, step) in steps {
                now += Duration::from_micros(if slow { wait * 1000 } else { wait / 10 });
                at = (at + step).max(65_536);
                sent.entry(at as u16).or_insert(now - t);
                r.record(now, at as u16);
                if r.next_timeout().is_some_and(|due| due <= now) {
                    told.extend(feedback(&mut r, now).concat().into_iter().filter_map(|(s, at)| at.map(|at| (s, at))));
                    prop_assert_eq!(r.next_timeout(), None);
                }
            }
            told.extend(feedback(&mut r, now + INTERVAL).concat().into_iter().filter_map(|(s, at)| at.map(|at| (s, at))));
            prop_assert_eq!(told.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>());
            for (seq, at) in told {
                let error = sent[&seq].as_micros() as i64 - at;
                prop_assert!((0..250).contains(&error), "{} is off by {}", seq, error);
            }
        }
    }
}
