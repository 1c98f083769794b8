//! When each frame was captured, on the session's one clock.
//!
//! [`crate::rtp::clock`] says for each packet when it was captured, but in steps: each sender report corrects it, and a packet
//! that came faster than all before. RTP timestamps are even, but count on a clock of their own, which drifts. The timeline follows
//! the timestamps, and bends them slowly to what the clock says: no jitter, no step back, no drift.
use crate::rtp::codec::{Codec, Kind};
use crate::rtp::seq::TimestampExtender;
use std::time::{Duration, Instant};

/// How an error is corrected.
#[derive(Clone, Copy, Debug)]
struct Bending {
    /// The time constant, in seconds.
    smoothing: f64,
    /// What the correction may add or take at most, as a part of the time that passes.
    most: f64,
}

const BENDING: Bending = Bending { smoothing: 2.0, most: 0.01 };
/// In a track's first seconds, when reports correct the first guess, if not by more than [`JUMP`]. A picture that is shown a little longer or shorter is not noticed, lips
/// that are late are; of sound each correction can be heard, and the guess is better: it needs less time to be encoded.
const FIRST_BENDING_VIDEO: Bending = Bending { smoothing: 0.2, most: 0.5 };
const FIRST_BENDING_AUDIO: Bending = Bending { smoothing: 2.0, most: 0.05 };
const FIRST: f64 = 10.0;
/// An error beyond this is no drift: the sender's clock was set, or its timestamps began anew.
const JUMP: Duration = Duration::from_millis(400);
/// A capture time is believed if it is at most so long before the packet came.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Frames of one track never share a time, which files have in milliseconds.
const STEP: i64 = 1_000_000;

/// The place of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Since the session began.
    pub at: Duration,
    /// How much later it is placed than the clock says, in nanoseconds; negative: earlier.
    pub error: i64,
}

/// One RTP stream's. See the module.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    rate: u32,
    first_bending: Bending,
    timestamps: TimestampExtender,
    anchor: Option<Anchor>,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    /// The extended timestamp of the last frame, and where it was placed before it was kept from going back: nanoseconds.
    ticks: u64,
    at: i64,
    /// Where it was placed.
    placed: i64,
    /// Where the stream's first frame was placed.
    first: i64,
}

impl Timeline {
    /// `start` is when the session began.
    pub fn new(start: Instant, codec: Codec) -> Self {
        let first_bending = match codec.kind() {
            Kind::Audio => FIRST_BENDING_AUDIO,
            Kind::Video => FIRST_BENDING_VIDEO,
        };
        Self { start, rate: codec.clock_rate(), first_bending, timestamps: TimestampExtender::new(), anchor: None }
    }

    /// The stream goes on with timestamps that have nothing to do with those before. Frames after `last` (all, if there is none) were placed
    /// in vain: what comes may take their places.
    pub fn restart(&mut self, rate: u32, last: Option<Duration>) {
        self.rate = rate;
        self.timestamps = TimestampExtender::new();
        if let Some(anchor) = &mut self.anchor {
            anchor.ticks = u64::MAX; // Farther from any timestamp than JUMP.
            anchor.first = i64::MAX;
            anchor.placed = anchor.placed.min(last.map_or(-STEP, |last| last.as_nanos() as i64));
        }
    }

    /// Places a frame of this RTP timestamp. What was captured before the session began is placed at its beginning.
    pub fn place(&mut self, timestamp: u32, captured_at: Instant, arrived_at: Instant) -> Placed {
        let ticks = self.timestamps.extend(timestamp);
        let captured = self.since_start(captured_at);
        let arrived = self.since_start(arrived_at);
        let clock = captured.clamp(arrived - MAX_DELAY.as_nanos() as i64, arrived);
        let next = self.anchor.map(|anchor| self.follow(anchor, ticks, clock, arrived));
        let at = next.unwrap_or(clock);
        let (last, first) = self.anchor.map_or((-STEP, clock), |a| (a.placed, a.first));
        let placed = at.max(last + STEP);
        let first = first.min(at);
        self.anchor = Some(Anchor { ticks, at, placed, first });
        Placed { at: Duration::from_nanos(placed.max(0) as u64), error: placed.max(0) - clock }
    }

    /// Where the timestamps say that the frame is, bent towards what the clock says.
    fn follow(&self, anchor: Anchor, ticks: u64, clock: i64, arrived: i64) -> i64 {
        let passed = i128::from(ticks) - i128::from(anchor.ticks);
        let Ok(passed) = i64::try_from(passed * 1_000_000_000 / i128::from(self.rate.max(1))) else { return clock };
        let even = anchor.at.saturating_add(passed);
        let error = clock.saturating_sub(even);
        // Back it goes slowly, if the timestamps themselves may be right: frames cannot take the places of those before them. (webrtcbin's first
        // report says of pictures that came at once that they are seconds old.)
        let jump = JUMP.as_nanos() as i64;
        if error > jump || (error < -jump && even > arrived.saturating_add(jump)) {
            return clock;
        }
        let seconds = passed.max(0) as f64 / 1e9;
        let young = (even.saturating_sub(anchor.first) as f64) / 1e9 < FIRST;
        let bending = if young && error >= -jump { self.first_bending } else { BENDING };
        let most = seconds * bending.most * 1e9;
        let bend = error as f64 * (1.0 - (-seconds / bending.smoothing).exp());
        even + bend.clamp(-most, most) as i64
    }

    fn since_start(&self, at: Instant) -> i64 {
        let signed = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        match at.checked_duration_since(self.start) {
            Some(after) => signed(after),
            None => -signed(self.start.duration_since(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::reorder::tests::now;
    use proptest::prelude::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_report_that_makes_frames_older_does_not_hold_them_up() {
        let start = now();
        let mut line = Timeline::new(start, Codec::Vp8);
        let mut last = None;
        for n in 0..200u32 {
            let arrived = start + ms(50 * u64::from(n));
            // From the third second on they are said to be three and a half seconds old.
            let captured = if n < 60 { arrived } else { arrived - ms(3_500) };
            let at = line.place(n * 4_500, captured, arrived).at;
            assert!(last.is_none_or(|last| at >= last + ms(45) && at <= last + ms(55)), "{n}: {last:?} {at:?}");
            last = Some(at);
        }
    }

    #[test]
    fn drift_is_followed_without_jitter() {
        let start = now();
        let mut line = Timeline::new(start, Codec::Opus);
        // The sender's clock runs 100 ppm fast; what the clock says is off by up to 3 ms.
        let mut last = None;
        for n in 0..180_000u64 {
            let captured = start + Duration::from_nanos(n * 20_000_000 / 10_001 * 10_000);
            let noise = Duration::from_micros(n / 250 * 7_919 % 3_000);
            let placed = line.place((n * 960) as u32, captured + noise, captured + ms(80));
            let truth = (captured - start).as_nanos() as i64;
            let off = placed.at.as_nanos() as i64 - truth;
            assert!((-1_000_000..4_000_000).contains(&off), "{n}: {off}");
            if let Some(last) = last.replace(placed.at) {
                let step = placed.at - last;
                assert!(step > Duration::from_micros(18_900) && step < Duration::from_micros(21_100), "{n}: {step:?}");
            }
        }
    }

    #[test]
    fn a_first_guess_is_corrected_soon() {
        // Pictures that were guessed to be 100 ms too late are less than 40 ms off a quarter of a second after a report; sound takes its time.
        for (codec, ticks, (near, close)) in [(Codec::Vp8, 2_970, (8, 20)), (Codec::Opus, 1_584, (90, 250))] {
            let start = now();
            let mut line = Timeline::new(start, codec);
            let (mut last, mut error) = (None, 0);
            for n in 0..=30 + close {
                let truth = start + ms(200 + n * 33);
                let guess = if n < 30 { truth + ms(100) } else { truth };
                let placed = line.place((n * ticks) as u32, guess, truth + ms(200));
                assert!(last.is_none_or(|last| placed.at >= last + ms(16)), "{codec:?} {n}: {last:?} {placed:?}");
                (last, error) = (Some(placed.at), placed.error.abs());
                assert!(n < 30 + near || error < 40_000_000, "{codec:?} {n}: {placed:?}");
            }
            assert!(error < 10_000_000, "{codec:?}: {error}");
        }
    }

    #[test]
    fn a_pause_keeps_its_place_and_a_restart_too() {
        let start = now();
        let mut line = Timeline::new(start, Codec::Vp8);
        line.place(5, start + ms(100), start + ms(150));
        assert_eq!(line.place(5 + 900_000, start + ms(10_100), start + ms(10_150)).at, ms(10_100));
        line.restart(90_000, Some(ms(10_100)));
        assert_eq!(line.place(77, start + ms(12_000), start + ms(12_050)).at, ms(12_000));
        // A capture time that cannot be is held to when it came.
        assert_eq!(line.place(77 + 90_000_000, start + ms(900_000), start + ms(13_000)).at, ms(13_000));
        let earlier = Timeline::new(start + ms(500), Codec::Vp8).place(1, start, start);
        assert_eq!(earlier.at, Duration::ZERO);
    }

    proptest! {
        #[test]
        fn time_never_goes_back(steps in prop::collection::vec((any::<u32>(), 0u64..20_000, 0u64..20_000), 1..60)) {
            let start = now();
            let mut line = Timeline::new(start + ms(5_000), Codec::Vp8);
            let mut last = None;
            for (timestamp, captured, arrived) in steps {
                let placed = line.place(timestamp, start + ms(captured), start + ms(arrived));
                prop_assert!(last.is_none_or(|last| placed.at > last || placed.at == Duration::ZERO));
                last = Some(placed.at);
            }
        }
    }
}
