//! When a media sample was captured, on the server's clock.
//!
//! Every publisher has a clock of its own. Sender reports (RFC 3550 section 6.4.1) tie the RTP timestamps of all streams of one
//! publisher to that clock, and the fastest report so far ties that clock to ours. Until a report came, the fastest packet serves.
//! A packet that says itself when it was captured (abs-capture-time) counts as a report of its stream.
use std::time::{Duration, Instant};

/// Ties a publisher's NTP clock to ours: one for each peer.
#[derive(Clone, Debug, Default)]
pub struct PeerClock {
    /// `(our time, its NTP time)` of the report with the least delay so far.
    anchor: Option<(Instant, u64)>,
    /// A report came. Before that, the fastest capture time serves, which is later by what the encoder takes.
    is_reported: bool,
}

/// How fast two clocks may drift apart: the anchor is loosened by this much, so that it follows. Crystals are good for 100 ppm, but a
/// clock that NTP sets right without a step is made to run up to 500 ppm fast or slow.
const MAX_DRIFT_PPM: u64 = 500;
/// A capture time that is farther from what the reports say is of another clock, and is not followed.
const MAX_DISAGREEMENT: Duration = Duration::from_millis(500);

/// A report by which the fastest packet of late was on its way for longer is wrong, and not followed: webrtcbin's first one says of pictures that
/// came at once that they are seconds old.
const IMPLAUSIBLE: Duration = Duration::from_secs(1);

impl PeerClock {
    /// A sender report with this NTP time (32.32 fixed point seconds) arrived.
    pub fn handle_report(&mut self, now: Instant, ntp: u64) {
        if !std::mem::replace(&mut self.is_reported, true) {
            self.anchor = None;
        }
        self.follow(now, ntp);
    }

    /// A packet arrived that was captured at this NTP time.
    pub fn handle_capture(&mut self, now: Instant, ntp: u64) {
        if !self.is_reported {
            self.follow(now, ntp);
        }
    }

    fn follow(&mut self, now: Instant, ntp: u64) {
        let Some((at, anchor_ntp)) = self.anchor else {
            self.anchor = Some((now, ntp));
            return;
        };
        let predicted = shift(at, ntp_ticks_between(anchor_ntp, ntp));
        let slack =
            Duration::from_nanos(now.saturating_duration_since(at).as_nanos() as u64 / 1_000_000 * MAX_DRIFT_PPM);
        // Arrived sooner than predicted: less delay than the anchor had, so it is the better anchor. Later by more than any
        // drift explains and by more than queueing does (a clock that was set): start anew.
        let jumped = predicted.is_none_or(|p| now.saturating_duration_since(p) > Duration::from_secs(2));
        if jumped || predicted.is_some_and(|p| now <= p + slack) {
            self.anchor = Some((now, ntp));
        }
    }

    fn instant(&self, ntp: u64) -> Option<Instant> {
        let (at, anchor_ntp) = self.anchor?;
        shift(at, ntp_ticks_between(anchor_ntp, ntp))
    }
}

/// Nanoseconds from NTP time `a` to `b`, both 32.32 fixed point.
fn ntp_ticks_between(a: u64, b: u64) -> i64 {
    let difference = i128::from(b.wrapping_sub(a) as i64);
    ((difference * 1_000_000_000) >> 32) as i64
}

fn shift(at: Instant, nanos: i64) -> Option<Instant> {
    let by = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { at.checked_sub(by) } else { at.checked_add(by) }
}

/// Ties one stream's RTP timestamps to our clock.
#[derive(Clone, Debug)]
pub struct StreamClock {
    rate: u32,
    /// `(NTP time, RTP timestamp)` of the last sender report, or of a packet that told when it was captured.
    report: Option<(u64, u32)>,
    /// `(arrival, RTP timestamp)` of the packet with the least delay of late.
    fastest: Option<(Instant, u32)>,
}

impl StreamClock {
    /// `rate` in ticks a second.
    pub fn new(rate: u32) -> Self {
        Self { rate, report: None, fastest: None }
    }

    pub fn handle_report(&mut self, ntp: u64, timestamp: u32) {
        self.report = Some((ntp, timestamp));
    }

    /// A packet with this timestamp says that it was captured at this NTP time of the publisher's.
    pub fn handle_capture(&mut self, ntp: u64, timestamp: u32) {
        let off = self.report.map(|(known, reported)| {
            ntp_ticks_between(known, ntp).saturating_sub(self.nanos(reported, timestamp)).unsigned_abs()
        });
        if off.is_none_or(|off| u128::from(off) <= MAX_DISAGREEMENT.as_nanos()) {
            self.report = Some((ntp, timestamp));
        }
    }

    /// A packet with this timestamp arrived.
    pub fn handle_packet(&mut self, now: Instant, timestamp: u32) {
        let better = match self.fastest {
            None => true,
            Some((at, first)) => {
                let due = shift(at, self.nanos(first, timestamp));
                let age = now.saturating_duration_since(at);
                due.is_none_or(|due| now <= due || age > Duration::from_secs(10))
            }
        };
        if better {
            self.fastest = Some((now, timestamp));
        }
    }

    /// When the sample of this timestamp was captured (plus the shortest way to us), on our clock. `None` before the first packet.
    pub fn captured_at(&self, peer: &PeerClock, timestamp: u32) -> Option<Instant> {
        let by_report = self.report.and_then(|(ntp, reported)| {
            let at = peer.instant(ntp)?;
            shift(at, self.nanos(reported, timestamp))
        });
        let by_arrival = self.fastest.and_then(|(at, first)| shift(at, self.nanos(first, timestamp)));
        let (Some(reported), Some(arrived)) = (by_report, by_arrival) else { return by_report.or(by_arrival) };
        let off = reported.max(arrived) - reported.min(arrived);
        Some(if off > IMPLAUSIBLE { arrived } else { reported })
    }

    fn nanos(&self, from: u32, to: u32) -> i64 {
        i64::from(to.wrapping_sub(from) as i32) * 1_000_000_000 / i64::from(self.rate)
    }
}

/// Ticks of a clock of `rate` in `d`, wrapped as timestamps wrap.
pub fn ticks(d: Duration, rate: u32) -> u32 {
    (d.as_nanos() * u128::from(rate) / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods)]
    fn now() -> Instant {
        Instant::now()
    }
    fn ntp(seconds: f64) -> u64 {
        (seconds * (1u64 << 32) as f64) as u64
    }
    fn close(a: Instant, b: Instant) -> bool {
        a.max(b) - a.min(b) < Duration::from_micros(50)
    }

    #[test]
    fn audio_and_video_of_one_publisher_share_a_time_line() {
        let t0 = now();
        let ms = Duration::from_millis;
        let mut peer = PeerClock::default();
        let (mut audio, mut video) = (StreamClock::new(48_000), StreamClock::new(90_000));
        // The report for video comes 30 ms late (queueing), that for audio 5 ms late.
        peer.handle_report(t0 + ms(30), ntp(1000.0));
        video.handle_report(ntp(1000.0), 500);
        peer.handle_report(t0 + ms(105), ntp(1000.1));
        audio.handle_report(ntp(1000.1), 48_000);
        // One second after NTP 1000.0, both ways.
        let v = video.captured_at(&peer, 500 + 90_000).unwrap();
        let a = audio.captured_at(&peer, 48_000 + 43_200).unwrap();
        assert!(close(v, a));
        assert!(close(v, t0 + ms(1005)));
    }

    #[test]
    fn a_report_that_cannot_be_true_is_not_followed() {
        let t0 = now();
        let ms = Duration::from_millis;
        let mut peer = PeerClock::default();
        let mut video = StreamClock::new(90_000);
        video.handle_packet(t0, 0);
        peer.handle_report(t0 + ms(3_500), ntp(1000.0));
        for (late_ms, plausible) in [(900, true), (3_500, false)] {
            // The picture that came at `t0` was captured so long before.
            video.handle_report(ntp(1000.0), 90 * (3_500 + late_ms));
            let told = video.captured_at(&peer, 0).unwrap();
            let true_by_report = t0.checked_sub(ms(late_ms.into())).unwrap();
            assert!(close(told, if plausible { true_by_report } else { t0 }), "{late_ms}");
        }
    }

    #[test]
    fn without_reports_the_fastest_packet_is_the_anchor() {
        let t0 = now();
        let ms = Duration::from_millis;
        let mut c = StreamClock::new(90_000);
        assert_eq!(c.captured_at(&PeerClock::default(), 0), None);
        c.handle_packet(t0 + ms(20), u32::MAX - 899);
        c.handle_packet(t0 + ms(15), 0); // 10 ms later by timestamp, 5 ms sooner: the path's delay was 15 ms less
        c.handle_packet(t0 + ms(90), 2_700);
        assert_eq!(c.captured_at(&PeerClock::default(), 9_000), Some(t0 + ms(115)));
    }

    #[test]
    fn packets_that_tell_when_they_were_captured_need_no_report() {
        let t0 = now();
        let ms = Duration::from_millis;
        let mut peer = PeerClock::default();
        let (mut audio, mut video) = (StreamClock::new(48_000), StreamClock::new(90_000));
        // Both were captured at NTP 1000.0; sound is 25 ms on its way, the picture, which had to be encoded, 60 ms.
        for (clock, late) in [(&mut audio, 25), (&mut video, 60)] {
            clock.handle_packet(t0 + ms(late), 7_000);
            peer.handle_capture(t0 + ms(late), ntp(1000.0));
            clock.handle_capture(ntp(1000.0), 7_000);
        }
        let at = |clock: &StreamClock, peer: &PeerClock| clock.captured_at(peer, 7_000).unwrap();
        assert!(close(at(&audio, &peer), t0 + ms(25)) && close(at(&video, &peer), t0 + ms(25)));
        // A report knows better, and both go along.
        peer.handle_report(t0 + ms(1_010), ntp(1001.0));
        peer.handle_capture(t0 + ms(1_002), ntp(1001.0));
        assert!(close(at(&audio, &peer), t0 + ms(10)) && close(at(&video, &peer), t0 + ms(10)));
        // What is told on another clock than the reports' is not followed.
        audio.handle_report(ntp(1001.0), 7_000 + 48_000);
        audio.handle_capture(ntp(5.0), 7_000 + 96_000);
        assert!(close(at(&audio, &peer), t0 + ms(10)));
    }

    /// What reports say over two hours of clocks that drift, on a path whose delay wanders: smooth, and never far off.
    #[test]
    fn hours_of_drift_are_followed() {
        let t0 = now();
        // The publisher's clock against ours, and its sound card's against that.
        for (ppm, card) in [(-100.0, 100.0), (100.0, -100.0), (250.0, 0.0), (-250.0, 50.0)] {
            let (mut peer, mut clock) = (PeerClock::default(), StreamClock::new(48_000));
            let (mut random, mut last) = (77u64, None);
            for second in 0..7_200u32 {
                let elapsed = f64::from(second);
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let delay = 0.020 + (random >> 40) as f64 / (1u64 << 24) as f64 * 0.015;
                let own = elapsed * (1.0 + ppm / 1e6);
                let timestamp = (own * (1.0 + card / 1e6) * 48_000.0) as u64 as u32;
                let arrives = t0 + Duration::from_secs_f64(elapsed + delay);
                peer.handle_report(arrives, ntp(1_000.0 + own));
                clock.handle_report(ntp(1_000.0 + own), timestamp);
                let told = clock.captured_at(&peer, timestamp).unwrap();
                let off = told.duration_since(t0).as_secs_f64() - elapsed;
                assert!((0.0..0.045).contains(&off), "{ppm}: {off} s after {second} s");
                if let Some(last) = last.replace(off) {
                    let step: f64 = off - last;
                    assert!(step.abs() < 0.025, "{ppm}: a step of {step} s after {second} s");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_is_followed() {
        let t0 = now();
        let mut peer = PeerClock::default();
        peer.handle_report(t0, ntp(1000.0));
        peer.handle_report(t0 + Duration::from_secs(1), ntp(500.0));
        assert!(close(peer.instant(ntp(500.0)).unwrap(), t0 + Duration::from_secs(1)));
    }
}
