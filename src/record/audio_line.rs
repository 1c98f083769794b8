//! Audio without holes. Players count samples: what is missing between two packets would be squeezed, and sound would run ahead of the
//! picture from there on. So each packet is placed right behind the one before, and what is not there is silence, in Opus packets.
//!
//! The sender's audio clock drifts against the session's. A timestamp that wanders off the count of samples helps no player, so
//! now and then a little silence is put in or a packet is left out, where it is quiet if possible.
use super::depacketize::opus;
use std::time::Duration;

const RATE: i64 = 48_000;
/// How far sound may be off its time, in samples: 15 ms, and where it is quiet 10 ms.
const TOLERANCE: i64 = 720;
const QUIET_TOLERANCE: i64 = 480;
/// A packet with this level or below, in dB below full scale, is quiet; and so is one of a few bytes.
const QUIET_LEVEL: u8 = 60;
const QUIET_BYTES: usize = 12;
/// Silence put in at once is no longer than this: an hour. What is farther ahead begins anew there.
const MAX_FILL: i64 = 3_600 * RATE;

/// An Opus packet in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sound {
    /// Since the session began.
    pub at: Duration,
    pub data: Vec<u8>,
    /// Put in for what was not there.
    pub silence: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Laid {
    /// It was written, so many nanoseconds later (negative: earlier) than it was to be; before it stands so much silence.
    Written { error: i64, silence: Duration },
    /// It was left out: the line is ahead by its length or more.
    LeftOut,
    /// It is no Opus packet.
    NotOpus,
}

/// See the module.
#[derive(Debug, Default)]
pub struct AudioLine {
    /// Where the next packet begins, in samples since the session began.
    next: Option<i64>,
}

impl AudioLine {
    /// Where the line ends: nothing will be written before it. `None` before the first packet.
    pub fn end(&self) -> Option<Duration> {
        self.next.map(time)
    }

    /// Lays a packet that was captured at `at` behind the last one, or as near to its time as that allows.
    pub fn push(&mut self, at: Duration, data: Vec<u8>, level: Option<u8>, out: &mut Vec<Sound>) -> Laid {
        let Some(length) = opus::samples(&data).map(i64::from) else { return Laid::NotOpus };
        let wanted = samples(at);
        let next = *self.next.get_or_insert(wanted);
        let quiet = level.is_some_and(|l| l >= QUIET_LEVEL) || data.len() <= QUIET_BYTES;
        let ahead = wanted - next;
        if ahead > MAX_FILL {
            self.next = Some(wanted);
        } else if ahead >= if quiet { QUIET_TOLERANCE } else { TOLERANCE } {
            self.fill(wanted, out);
        } else if -ahead >= if quiet { QUIET_TOLERANCE } else { TOLERANCE.max((length / 2).min(2 * TOLERANCE)) } {
            return Laid::LeftOut;
        }
        let place = self.next.unwrap_or(wanted);
        self.next = Some(place + length);
        out.push(Sound { at: time(place), data, silence: false });
        let error = (place - wanted) * 1_000_000_000 / RATE;
        Laid::Written { error, silence: time(place.saturating_sub(next)) }
    }

    /// Fills up with silence to `at`, if the line has begun: nothing that was captured earlier is to be expected.
    pub fn fill_until(&mut self, at: Duration, out: &mut Vec<Sound>) {
        let until = samples(at);
        if let Some(next) = self.next {
            let whole = (until - next).clamp(0, MAX_FILL) / 960 * 960;
            self.fill(next + whole, out);
        }
    }

    fn fill(&mut self, until: i64, out: &mut Vec<Sound>) {
        let Some(mut next) = self.next else { return };
        for (length, packet) in opus::SILENCE {
            let length = i64::from(length);
            while until - next >= length {
                out.push(Sound { at: time(next), data: packet.to_vec(), silence: true });
                next += length;
            }
        }
        self.next = Some(next);
    }
}

fn samples(at: Duration) -> i64 {
    (at.as_nanos() * RATE as u128 / 1_000_000_000) as i64
}

fn time(samples: i64) -> Duration {
    // Rounded up, so that a time reads back as its sample.
    Duration::from_nanos((samples.max(0) as u64 as u128 * 1_000_000_000).div_ceil(RATE as u128) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }
    fn packet(n: u8) -> Vec<u8> {
        let mut packet = vec![0x78];
        packet.resize(60, n);
        packet
    }
    fn total(out: &[Sound]) -> u32 {
        out.iter().filter_map(|s| opus::samples(&s.data)).sum()
    }

    #[test]
    fn what_is_missing_is_silence() {
        let (mut line, mut out) = (AudioLine::default(), Vec::new());
        line.push(ms(100), packet(1), None, &mut out);
        line.push(ms(120), packet(2), None, &mut out);
        let laid = line.push(ms(227), packet(3), None, &mut out);
        assert_eq!(laid, Laid::Written { error: -2_000_000, silence: ms(85) });
        assert_eq!(out.iter().filter(|s| s.silence).count(), 5, "4 of 20 ms and one of 5");
        assert_eq!(out.last().map(|s| (s.at, s.silence)), Some((ms(225), false)));
        line.fill_until(ms(299), &mut out);
        assert_eq!(line.end(), Some(ms(285)));
        for pair in out.windows(2) {
            let length = opus::samples(&pair[0].data).unwrap();
            assert_eq!(pair[1].at - pair[0].at, Duration::from_micros(u64::from(length) * 1_000 / 48));
        }
    }

    #[test]
    fn drift_either_way_is_taken_up_in_quiet_places() {
        for ppm in [-100i64, 100] {
            let (mut line, mut out) = (AudioLine::default(), Vec::new());
            let (mut changes, mut loud_changes) = (0, 0);
            for n in 0..180_000i64 {
                let at = Duration::from_nanos((n * (20_000_000 + 20 * ppm)) as u64);
                // It is quiet for 200 ms of each 3 s.
                let level = if n % 150 < 10 { 90 } else { 20 };
                match line.push(at, packet(1), Some(level), &mut out) {
                    Laid::Written { error, silence } => {
                        assert!(error.abs() <= 15_000_000, "{n}: {error}");
                        changes += u32::from(!silence.is_zero());
                        loud_changes += u32::from(!silence.is_zero() && level < 60);
                    }
                    _ => loud_changes += u32::from(level < 60),
                }
            }
            let seconds = f64::from(total(&out)) / 48_000.0;
            assert!((seconds - 3_600.0 * (1.0 + ppm as f64 / 1e6)).abs() < 0.03, "{ppm}: {seconds}");
            assert!(changes < 40 && loud_changes == 0, "{ppm}: {changes} {loud_changes}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        let (mut line, mut out) = (AudioLine::default(), Vec::new());
        assert_eq!(line.push(ms(1), vec![], None, &mut out), Laid::NotOpus);
        line.fill_until(ms(900), &mut out);
        assert!(out.is_empty() && line.end().is_none(), "it has not begun");
    }

    proptest! {
        #[test]
        fn the_line_has_no_holes(times in prop::collection::vec(0u64..20_000, 1..60)) {
            let (mut line, mut out) = (AudioLine::default(), Vec::new());
            let first = times[0];
            for at in times {
                line.push(ms(at), packet(0), None, &mut out);
            }
            let end = samples(ms(first)) + i64::from(total(&out));
            prop_assert_eq!(line.end(), Some(time(end)));
            prop_assert_eq!(samples(time(end)), end);
        }
    }
}
