//! What a receiver tells its sender of the path, so that it sends no more than the path carries.
use super::ms;
use super::sdp::extension_id;
use exedra::rtp::extension::parse_transport_seq;
use exedra::rtp::{Extension, Header, Ssrc, TwccRecorder, rtcp};
use std::time::{Duration, Instant};

/// How congestion is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Feedback {
    /// When each packet arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01), as browsers do.
    #[value(name = "twcc")]
    TransportCc,
    /// An estimate of the receiver's own (draft-alvestrand-rmcat-remb-03), as older clients do.
    Remb,
    /// Not at all.
    #[value(name = "none")]
    Nothing,
}

/// Feedback takes no more than a twentieth of what is received, at 68 bytes each with UDP, IP and SRTCP, and comes this often (as Chromium does).
const LEAST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_millis(250);
const FEEDBACK_BITS: f64 = 68.0 * 8.0;
const SHARE: f64 = 0.05;

/// One transport's feedback.
pub(super) struct Reporter {
    ssrc: Ssrc,
    kind: Kind,
    /// Datagram bytes since the last feedback.
    bytes: u64,
}

enum Kind {
    TransportCc {
        /// Made when the first number comes: it is large.
        recorder: Option<Box<TwccRecorder>>,
        media: Ssrc,
        told_at: Option<Instant>,
        interval: Duration,
    },
    Remb(Remb),
    Nothing,
}

impl Reporter {
    pub(super) fn new(ssrc: Ssrc, feedback: Feedback) -> Self {
        let kind = match feedback {
            Feedback::TransportCc => {
                Kind::TransportCc { recorder: None, media: Ssrc(0), told_at: None, interval: MOST }
            }
            Feedback::Remb => Kind::Remb(Remb::default()),
            Feedback::Nothing => Kind::Nothing,
        };
        Self { ssrc, kind, bytes: 0 }
    }

    /// A packet that was authentic arrived.
    pub(super) fn handle_packet(&mut self, arrived: Instant, header: &Header, datagram: &[u8]) {
        self.bytes += datagram.len() as u64;
        match &mut self.kind {
            Kind::TransportCc { recorder, media, .. } => {
                let value = header.extension(datagram, extension_id(Extension::TransportCc));
                if let Some(sequence) = value.and_then(|value| parse_transport_seq(value).ok()) {
                    recorder.get_or_insert_default().record(arrived, sequence);
                    *media = header.ssrc;
                }
            }
            Kind::Remb(remb) => _ = remb.window_ends.get_or_insert(arrived + Remb::WINDOW),
            Kind::Nothing => {}
        }
    }

    /// How much longer than the fastest of its stream a packet took.
    pub(super) fn handle_delay(&mut self, delay: Duration) {
        if let Kind::Remb(remb) = &mut self.kind {
            remb.least_delay = remb.least_delay.min(delay);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.kind {
            Kind::TransportCc { recorder, told_at, interval, .. } => {
                let due = recorder.as_ref()?.next_timeout()?;
                Some(told_at.map_or(due, |at| due.max(at + *interval)))
            }
            Kind::Remb(remb) => remb.window_ends,
            Kind::Nothing => None,
        }
    }

    /// Appends what is due.
    pub(super) fn write(&mut self, now: Instant, out: &mut Vec<u8>) {
        match &mut self.kind {
            Kind::TransportCc { recorder: Some(recorder), media, told_at, interval } => {
                if told_at.is_some_and(|at| now < at + *interval) {
                    return;
                }
                if recorder.build_feedback(now, self.ssrc, *media, out) {
                    let passed = told_at.map_or(MOST, |at| now.saturating_duration_since(at)).max(ms(1));
                    let rate = self.bytes as f64 * 8.0 / passed.as_secs_f64();
                    *interval = Duration::from_secs_f64((FEEDBACK_BITS / (SHARE * rate).max(1.0)).min(1.0));
                    *interval = (*interval).clamp(LEAST, MOST);
                    (*told_at, self.bytes) = (Some(now), 0);
                }
            }
            Kind::Remb(remb) => {
                if let Some(bps) = remb.turn(now, &mut self.bytes) {
                    rtcp::write_remb(out, self.ssrc, bps, &[]);
                }
            }
            Kind::TransportCc { recorder: None, .. } | Kind::Nothing => {}
        }
    }
}

/// An estimate of what the path carries, by whether packets queue. It is as slow as that of a browser: eight percent a second.
struct Remb {
    bps: f64,
    /// The least delay of the window: what packets waited for in any case.
    least_delay: Duration,
    window_ends: Option<Instant>,
    told: Option<(Instant, f64)>,
    held_until: Option<Instant>,
}

impl Default for Remb {
    fn default() -> Self {
        Self { bps: Self::START, least_delay: Duration::MAX, window_ends: None, told: None, held_until: None }
    }
}

impl Remb {
    const START: f64 = 300_000.0;
    const WINDOW: Duration = Duration::from_millis(200);
    /// Packets that all wait longer than this wait in a queue.
    const QUEUE: Duration = Duration::from_millis(25);
    const HOLD: Duration = Duration::from_millis(600);
    const EVERY: Duration = Duration::from_secs(1);

    /// At the end of a window of time: what to tell, if anything.
    fn turn(&mut self, now: Instant, bytes: &mut u64) -> Option<u64> {
        let end = self.window_ends.filter(|end| *end <= now)?;
        let passed = (now.saturating_duration_since(end) + Self::WINDOW).as_secs_f64();
        let rate = std::mem::take(bytes) as f64 * 8.0 / passed;
        let delay = std::mem::replace(&mut self.least_delay, Duration::MAX);
        if rate == 0.0 {
            // The next packet begins a window.
            self.window_ends = None;
            return None;
        }
        self.window_ends = Some(now + Self::WINDOW);
        if delay != Duration::MAX && delay > Self::QUEUE {
            self.bps = self.bps.min(0.85 * rate);
            self.held_until = Some(now + Self::HOLD);
        } else if self.held_until.is_none_or(|until| until <= now) {
            let most = 1.5 * rate + 10_000.0;
            self.bps = self.bps.max((self.bps * 1.08f64.powf(passed)).min(most));
        }
        let due = self.told.is_none_or(|(at, told)| now >= at + Self::EVERY || self.bps < 0.97 * told);
        due.then(|| {
            self.told = Some((now, self.bps));
            self.bps as u64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exedra::rtp::rtcp::{Rtcp, packets};
    use exedra::rtp::{HeaderWriter, PayloadType};

    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn packet(sequence: u16, len: usize) -> Vec<u8> {
        let mut head = [0; 64];
        let kind = PayloadType::try_from(96).unwrap();
        let mut writer = HeaderWriter::new(&mut head, true, kind, sequence, 1, Ssrc(9), false);
        let used = writer.extension(extension_id(Extension::TransportCc), &sequence.to_be_bytes()).finish();
        let mut packet = head[..used].to_vec();
        packet.resize(len, 0);
        packet
    }

    /// Feeds packets every 10 ms for a second, each delayed by `delay`; gives what was told.
    fn second(reporter: &mut Reporter, begin: Instant, len: usize, delay: Duration) -> Vec<Vec<u8>> {
        let mut told = Vec::new();
        for n in 0..100u16 {
            let now = begin + ms(10 * u64::from(n));
            let packet = packet(n, len);
            reporter.handle_packet(now, &Header::parse(&packet).unwrap(), &packet);
            reporter.handle_delay(delay);
            if reporter.poll_timeout().is_some_and(|at| at <= now) {
                let mut out = Vec::new();
                reporter.write(now, &mut out);
                told.extend((!out.is_empty()).then_some(out));
            }
        }
        told
    }

    #[test]
    fn every_packet_is_told_of_as_often_as_the_rate_allows() {
        for (len, most, least) in [(1_000, 20, 14), (60, 10, 2)] {
            let mut reporter = Reporter::new(Ssrc(1), Feedback::TransportCc);
            let told = second(&mut reporter, start(), len, Duration::ZERO);
            assert!((least..=most).contains(&told.len()), "{} feedbacks at {len} bytes", told.len());
            let mut arrived = Vec::new();
            for compound in &told {
                for packet in packets(compound).flatten() {
                    let Rtcp::TransportFeedback(feedback) = packet else { panic!("{packet:?}") };
                    arrived.extend(feedback.arrivals().filter_map(|(sequence, at)| at.map(|_| sequence)));
                }
            }
            assert!(arrived.iter().copied().eq(0..arrived.len() as u16) && arrived.len() > 70, "{arrived:?}");
        }
    }

    #[test]
    fn an_estimate_rises_slowly_and_falls_when_packets_queue() {
        let mut reporter = Reporter::new(Ssrc(1), Feedback::Remb);
        let read = |told: &[Vec<u8>]| -> Vec<u64> {
            let all = told.iter().flat_map(|compound| packets(compound).flatten());
            all.filter_map(|p| if let Rtcp::Remb { bitrate_bps, .. } = p { Some(bitrate_bps) } else { None }).collect()
        };
        let begin = start();
        let mut last = 0;
        for n in 0..10 {
            let told = read(&second(&mut reporter, begin + ms(1_000 * n), 1_000, Duration::ZERO));
            assert!((1..=2).contains(&told.len()), "{told:?}");
            last = *told.last().unwrap();
        }
        assert!((500_000..700_000).contains(&last), "{last} after ten seconds from 300 kbit/s");
        let told = read(&second(&mut reporter, begin + ms(10_000), 500, ms(80)));
        assert!(told.iter().any(|bps| (300_000..400_000).contains(bps)), "{told:?}, when 400 kbit/s came through");
    }
}
