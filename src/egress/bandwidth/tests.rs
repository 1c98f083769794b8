use super::*;
use crate::rtp::rtcp::{Rtcp, packets};
use crate::rtp::{Ssrc, TwccRecorder};
use proptest::prelude::*;

#[expect(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}
fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A path of `bps` with 20 ms of delay, and packets of 1000 bytes every `every`, for `seconds`.
struct Line {
    now: Instant,
    bandwidth: Bandwidth,
    recorder: TwccRecorder,
    busy_until: Instant,
    bps: f64,
}

impl Line {
    fn new(bps: f64) -> Self {
        let now = start();
        Self { now, bandwidth: Bandwidth::new(), recorder: TwccRecorder::new(), busy_until: now, bps }
    }

    fn run(&mut self, seconds: f64, every: Duration) {
        let end = self.now + Duration::from_secs_f64(seconds);
        let mut arrivals = std::collections::VecDeque::new();
        let mut next = self.now;
        while self.now < end {
            self.now += ms(1);
            while next <= self.now {
                let number = self.bandwidth.handle_sent(self.now, 1000, Purpose::Media);
                self.busy_until = self.busy_until.max(self.now) + Duration::from_secs_f64(8_000.0 / self.bps);
                arrivals.push_back((self.busy_until + ms(20), number));
                next += every;
            }
            while let Some((at, number)) = arrivals.front().copied().filter(|a| a.0 <= self.now) {
                arrivals.pop_front();
                self.recorder.record(at, number);
            }
            let mut out = vec![];
            self.recorder.build_feedback(self.now, Ssrc(1), Ssrc(2), &mut out);
            feed(&mut self.bandwidth, self.now, &out).unwrap();
            if self.bandwidth.poll_timeout().is_some_and(|at| at <= self.now) {
                self.bandwidth.handle_timeout(self.now);
            }
        }
    }
}

fn feed(bandwidth: &mut Bandwidth, now: Instant, bytes: &[u8]) -> Result<(), DropReason> {
    for packet in packets(bytes) {
        let Ok(Rtcp::TransportFeedback(feedback)) = packet else { panic!("{packet:?}") };
        bandwidth.handle_feedback(now, &feedback)?;
    }
    Ok(())
}

/// Sends `count` packets, a millisecond apart, and makes a feedback that they took `delay` each.
fn exchange(bandwidth: &mut Bandwidth, now: &mut Instant, count: u16, delay: Duration) -> Vec<u8> {
    let mut recorder = TwccRecorder::new();
    for _ in 0..count {
        *now += ms(1);
        let number = bandwidth.handle_sent(*now, 1000, Purpose::Media);
        recorder.record(*now + delay, number);
    }
    let mut out = vec![];
    recorder.build_feedback(*now + delay + ms(500), Ssrc(1), Ssrc(2), &mut out);
    out
}

#[test]
fn it_starts_in_the_middle() {
    let bandwidth = Bandwidth::new();
    let estimate = bandwidth.estimate();
    assert_eq!((estimate.bps, estimate.limited_by), (START_BPS, LimitedBy::Start));
    assert_eq!(bandwidth.poll_timeout(), None);
    assert!(!estimate.has_feedback);
}

#[test]
fn an_idle_one_is_small() {
    assert!(size_of::<Bandwidth>() <= 1_536, "{}", size_of::<Bandwidth>());
}

#[test]
fn over_use_is_seen_and_ends() {
    let mut line = Line::new(500e3);
    // 400 kbit/s, then 800 kbit/s.
    line.run(3.0, ms(20));
    let before = line.bandwidth.estimate();
    assert!(before.has_feedback && before.queue_delay < ms(5), "{before:?}");
    line.run(0.7, ms(10));
    let after = line.bandwidth.estimate();
    assert_eq!(after.limited_by, LimitedBy::Delay);
    assert!((200_000..500_000).contains(&after.bps), "{after:?}");
}

#[test]
fn little_traffic_neither_raises_nor_lowers_the_estimate() {
    let mut line = Line::new(5e6);
    let now = line.now;
    line.bandwidth.set_goal(now, 100_000, 100_000);
    line.run(20.0, ms(80));
    let estimate = line.bandwidth.estimate();
    assert_eq!(estimate.bps, START_BPS);
    assert!(!estimate.probing);
}

#[test]
fn without_an_answer_nothing_waits() {
    let (mut bandwidth, mut now) = (Bandwidth::new(), start());
    for _ in 0..200 {
        now += ms(10);
        bandwidth.handle_sent(now, 1000, Purpose::Media);
    }
    let estimate = bandwidth.estimate();
    assert!(!estimate.has_feedback && !bandwidth.paces());
    assert_eq!((estimate.bps, estimate.pacing_bps), (MAX_BPS, MAX_BPS));
    assert!(!bandwidth.handle_report(now, 200, 0), "the first one says how long ago the others were");
    for _ in 0..100 {
        bandwidth.handle_sent(now, 1000, Purpose::Media);
    }
    assert!(bandwidth.handle_report(now + ms(1000), 100, 100 * 128));
    let estimate = bandwidth.estimate();
    assert!(estimate.bps < 800_000 && estimate.limited_by == LimitedBy::Loss, "{estimate:?}");
}

#[test]
fn feedback_that_stays_away_lowers_the_estimate_in_steps_that_end() {
    let (mut bandwidth, mut now) = (Bandwidth::new(), start());
    let feedback = exchange(&mut bandwidth, &mut now, 50, ms(20));
    feed(&mut bandwidth, now + ms(20), &feedback).unwrap();
    let mut lowest = bandwidth.estimate().bps;
    for _ in 0..2000 {
        now += ms(10);
        bandwidth.handle_sent(now, 1000, Purpose::Media);
        if bandwidth.poll_timeout().is_some_and(|at| at <= now) {
            bandwidth.handle_timeout(now);
            let bps = bandwidth.estimate().bps;
            assert!(bps as f64 >= 0.79 * lowest as f64, "{bps} {lowest}");
            lowest = bps;
        }
    }
    assert_eq!(bandwidth.estimate().limited_by, LimitedBy::Silence);
    assert!((2 * MIN_BPS..START_BPS / 2).contains(&lowest), "{lowest}");
    // Nothing more is sent: nothing more is due.
    bandwidth.handle_timeout(now + ms(5000));
    assert_eq!(bandwidth.poll_timeout(), None);
}

#[test]
fn lies_have_names() {
    let (mut bandwidth, mut now) = (Bandwidth::new(), start());
    let feedback = exchange(&mut bandwidth, &mut now, 50, ms(20));
    assert_eq!(feed(&mut Bandwidth::new(), now, &feedback), Err(DropReason::FeedbackImpossible));
    assert_eq!(feed(&mut bandwidth, now, &feedback), Ok(()));
    assert_eq!(feed(&mut bandwidth, now, &feedback), Err(DropReason::FeedbackStale));
    // The receiver's clock is a day ahead.
    let later = exchange(&mut bandwidth, &mut now, 50, Duration::from_secs(86_400));
    let before = bandwidth.estimate().bps;
    let mut moved = later.clone();
    moved[16..19].copy_from_slice(&0x123456u32.to_be_bytes()[1..]);
    assert_eq!(feed(&mut bandwidth, now, &moved), Err(DropReason::FeedbackClock));
    assert_eq!(bandwidth.estimate().bps, before);
    for bps in [0, 1, 4_999, 1 << 63, u64::MAX] {
        assert_eq!(bandwidth.handle_remb(now, bps), Err(DropReason::RembImplausible));
    }
    assert_eq!(bandwidth.estimate().bps, before);
}

#[test]
fn remb_is_an_upper_bound() {
    let (mut bandwidth, now) = (Bandwidth::new(), start());
    bandwidth.handle_remb(now, 1_500_000).unwrap();
    let estimate = bandwidth.estimate();
    assert_eq!((estimate.bps, estimate.limited_by, estimate.has_feedback), (1_500_000, LimitedBy::Remb, true));
    bandwidth.handle_remb(now, 5_000).unwrap();
    assert_eq!(bandwidth.estimate().bps, MIN_BPS);
    bandwidth.handle_remb(now, 5_000_000_000).unwrap();
    assert_eq!(bandwidth.estimate().bps, MAX_BPS);
}

proptest! {
    #[test]
    fn whatever_feedback_says_the_estimate_stays_within_bounds(
        steps in prop::collection::vec((0..300u64, any::<u16>(), 1..300u16, any::<i32>(), any::<u8>(), any::<u64>()), 1..200),
        data in prop::collection::vec(any::<u8>(), 64..2000),
    ) {
        let (mut bandwidth, mut now) = (Bandwidth::new(), start());
        for (wait, base, count, reference, kind, number) in steps {
            now += ms(wait);
            bandwidth.set_goal(now, number, number.rotate_left(7));
            for _ in 0..kind % 16 {
                bandwidth.handle_sent(now, usize::from(count) * 5, Purpose::Media);
            }
            // Near what was sent, or anywhere.
            let base = if kind & 64 == 0 { base } else { bandwidth.history.next().saturating_sub(u64::from(kind % 16)) as u16 };
            let count = if kind & 128 == 0 { count } else { count % 16 + 1 };
            let mut bytes = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
            bytes.extend(base.to_be_bytes());
            bytes.extend(count.to_be_bytes());
            bytes.extend(reference.to_be_bytes());
            bytes.extend(data.iter().cycle().skip(usize::from(base)).take(600));
            let words = (bytes.len() / 4 - 1) as u16;
            bytes[2..4].copy_from_slice(&words.to_be_bytes());
            for packet in packets(&bytes).flatten() {
                if let Rtcp::TransportFeedback(feedback) = packet {
                    let _ = bandwidth.handle_feedback(now, &feedback);
                }
            }
            if kind & 32 == 0 {
                let _ = bandwidth.handle_remb(now, number);
            }
            bandwidth.handle_report(now, kind.into(), number);
            bandwidth.handle_rtt(Duration::from_micros(number));
            if let Some(at) = bandwidth.poll_timeout() && at <= now {
                bandwidth.handle_timeout(now);
                prop_assert!(bandwidth.poll_timeout().is_none_or(|next| next > at), "a timer that does not advance");
            }
            let estimate = bandwidth.estimate();
            prop_assert!((MIN_BPS..=MAX_BPS).contains(&estimate.bps), "{:?}", estimate);
            prop_assert!((MIN_BPS..=MAX_BPS).contains(&estimate.pacing_bps), "{:?}", estimate);
            prop_assert!((0.0..=1.0).contains(&estimate.loss));
        }
    }
}
