//! What a receiver of one stream knows of it: reception statistics for reports, and which packets to ask for again.
use super::rtcp::ReportBlock;
use super::{SeqNo, Ssrc};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A jump of more than this is taken for a restart of the numbers, if the next packet confirms it (RFC 3550 appendix A.1).
const MAX_DROPOUT: u64 = 3000;
const MAX_MISORDER: u64 = 1000;
/// Transit times that differ by more seconds than this say nothing of jitter.
const MAX_TRANSIT_CHANGE: u32 = 5;

/// Reception statistics of one SSRC (RFC 3550 sections 6.4.1, A.1, A.3, A.8).
///
/// Feed it what arrives on the wire under that SSRC; a packet that RTX recovers is still lost, as WebRTC counts it.
#[derive(Clone, Copy, Debug)]
pub struct ReceptionStats {
    clock_rate: u32,
    run: Option<Run>,
    /// Lost before the last restart of the numbers.
    lost_before: i64,
    received_total: u64,
    transit: Option<Transit>,
    /// In 16ths of a tick.
    jitter: u32,
    last_sr: Option<(u32, Instant)>,
    /// Expected and received when the last report was made.
    reported: (u64, u64),
}

/// Numbers without a restart among them.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: SeqNo,
    highest: SeqNo,
    received: u64,
    /// Where a packet far off the run came: its successor starts a new run.
    restart_at: Option<SeqNo>,
}

#[derive(Clone, Copy, Debug)]
struct Transit {
    epoch: Instant,
    timestamp: u32,
    transit: u32,
}

impl ReceptionStats {
    /// `clock_rate`: ticks a second of the stream's timestamps.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            run: None,
            lost_before: 0,
            received_total: 0,
            transit: None,
            jitter: 0,
            last_sr: None,
            reported: (0, 0),
        }
    }

    /// A packet arrived.
    pub fn handle_packet(&mut self, now: Instant, seq: SeqNo, timestamp: u32) {
        self.received_total += 1;
        let Some(run) = &mut self.run else { return self.start_run(now, seq, timestamp) };
        let jumped = match seq.since(run.highest) {
            Some(ahead) => ahead > MAX_DROPOUT,
            None => run.highest.since(seq).is_some_and(|behind| behind > MAX_MISORDER),
        };
        if jumped {
            if run.restart_at == Some(seq) {
                self.lost_before += run.lost();
                self.start_run(now, seq, timestamp);
            } else {
                run.restart_at = Some(seq.next());
            }
            return;
        }
        run.restart_at = None;
        run.received += 1;
        if seq > run.highest {
            run.highest = seq;
            self.update_jitter(now, timestamp);
        }
    }

    fn start_run(&mut self, now: Instant, seq: SeqNo, timestamp: u32) {
        self.run = Some(Run { first: seq, highest: seq, received: 1, restart_at: None });
        self.reported = (0, 0);
        self.transit = None;
        self.update_jitter(now, timestamp);
    }

    /// Once a frame: packets of one frame share a timestamp and are sent in a burst, which is not jitter of the network.
    fn update_jitter(&mut self, now: Instant, timestamp: u32) {
        let epoch = self.transit.map_or(now, |t| t.epoch);
        if self.transit.is_some_and(|t| t.timestamp == timestamp) {
            return;
        }
        let elapsed = now.saturating_duration_since(epoch).as_micros();
        let arrival = (elapsed * u128::from(self.clock_rate) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(last) = self.transit {
            let change = (transit.wrapping_sub(last.transit) as i32).unsigned_abs();
            if change < self.clock_rate.saturating_mul(MAX_TRANSIT_CHANGE) {
                self.jitter = self.jitter.saturating_add(change).saturating_sub((self.jitter + 8) >> 4);
            }
        }
        self.transit = Some(Transit { epoch, timestamp, transit });
    }

    /// A sender report of this stream arrived; `ntp` is its 64-bit time.
    pub fn handle_sender_report(&mut self, now: Instant, ntp: u64) {
        self.last_sr = Some(((ntp >> 16) as u32, now));
    }

    /// The block for a report to be sent now. Begins a new interval for the fraction lost. `None` before the first packet.
    pub fn report_block(&mut self, now: Instant, ssrc: Ssrc) -> Option<ReportBlock> {
        let run = self.run?;
        let (expected, received) = (run.expected(), run.received);
        let (expected_now, received_now) = (expected - self.reported.0, received - self.reported.1);
        self.reported = (expected, received);
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction_lost = if lost_now == 0 { 0 } else { (lost_now * 256 / expected_now).min(255) as u8 };
        const LIMIT: i64 = 1 << 23;
        let (last_sr, delay_since_last_sr) = self.last_sr.map_or((0, 0), |(sr, at)| {
            let delay = now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
            (sr, u32::try_from(delay).unwrap_or(u32::MAX))
        });
        Some(ReportBlock {
            ssrc,
            fraction_lost,
            cumulative_lost: self.lost().clamp(-LIMIT, LIMIT - 1) as i32,
            highest_sequence: run.highest.0 as u32,
            jitter: self.jitter_ticks(),
            last_sr,
            delay_since_last_sr,
        })
    }

    /// Packets that never came, less those that came twice.
    pub fn lost(&self) -> i64 {
        self.lost_before + self.run.map_or(0, |r| r.lost())
    }
    /// Packets that came, each time that they did.
    pub fn received(&self) -> u64 {
        self.received_total
    }
    /// Interarrival jitter in ticks of the stream's clock.
    pub fn jitter_ticks(&self) -> u32 {
        self.jitter >> 4
    }
}

impl Run {
    fn expected(&self) -> u64 {
        self.highest.0 - self.first.0.min(self.highest.0) + 1
    }
    fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }
}

/// When packets are asked for again. The defaults are for interactive media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NackConfig {
    /// The longest that a missing packet is waited for before it is asked for, in case it was only overtaken; a quarter of the
    /// round trip if that is less.
    pub reorder_wait: Duration,
    /// The least time between two requests for one packet, whatever the round trip.
    pub min_interval: Duration,
    /// Requests for one packet.
    pub max_tries: u8,
    /// A packet that is missing longer is given up.
    pub max_age: Duration,
    /// With more packets missing than this, all are given up.
    pub max_missing: usize,
}

impl Default for NackConfig {
    fn default() -> Self {
        Self {
            reorder_wait: Duration::from_millis(10),
            min_interval: Duration::from_millis(20),
            max_tries: 10,
            max_age: Duration::from_millis(1500),
            max_missing: 500,
        }
    }
}

/// The round trip that is assumed until [`NackGenerator::poll`] tells one.
const ASSUMED_RTT: Duration = Duration::from_millis(100);

/// Decides which packets of one stream to ask for again, and when: after a short wait for reordering, then each time that the
/// answer is overdue by the round trip, with a growing interval.
///
/// Feed it every packet of the stream, those recovered by RTX too. When packets are given up,
/// [`take_keyframe_needed`](Self::take_keyframe_needed) says so; for audio that is of no interest.
#[derive(Clone, Debug)]
pub struct NackGenerator {
    config: NackConfig,
    highest: Option<SeqNo>,
    /// Ascending.
    missing: VecDeque<Missing>,
    rtt: Duration,
    /// Not later than the earliest `due` or end of age.
    next: Option<Instant>,
    keyframe_needed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: SeqNo,
    since: Instant,
    due: Instant,
    asked: Option<Instant>,
    tries: u8,
}

impl Default for NackGenerator {
    fn default() -> Self {
        Self::new(NackConfig::default())
    }
}

impl NackGenerator {
    pub fn new(config: NackConfig) -> Self {
        Self { config, highest: None, missing: VecDeque::new(), rtt: ASSUMED_RTT, next: None, keyframe_needed: false }
    }

    /// From now on it asks as `config` says.
    pub fn configure(&mut self, config: NackConfig) {
        self.config = config;
    }

    /// A packet arrived, in whatever way. The first one begins the stream: what was before it is not asked for.
    pub fn handle_packet(&mut self, now: Instant, seq: SeqNo) {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return;
        };
        let Some(ahead) = seq.since(highest) else {
            if let Ok(i) = self.missing.binary_search_by_key(&seq, |m| m.seq) {
                self.missing.remove(i);
            }
            return;
        };
        self.highest = Some(seq);
        let gap = ahead.saturating_sub(1);
        if gap == 0 {
            return;
        }
        if gap + self.missing.len() as u64 > self.config.max_missing as u64 {
            self.give_up_all();
            return;
        }
        let due = now + self.config.reorder_wait.min(self.rtt / 4);
        self.missing.extend((1..=gap).map(|n| Missing {
            seq: highest.plus(n),
            since: now,
            due,
            asked: None,
            tries: 0,
        }));
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    /// Appends to `out`, ascending, what is to be asked for now. `rtt` is the round trip to the sender as it is known now.
    pub fn poll(&mut self, now: Instant, rtt: Duration, out: &mut Vec<SeqNo>) {
        self.rtt = rtt;
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        let config = self.config;
        let before = self.missing.len();
        self.missing.retain(|m| {
            let aged = now.saturating_duration_since(m.since) >= config.max_age;
            !aged && (m.tries < config.max_tries || now < m.due)
        });
        self.keyframe_needed |= self.missing.len() < before;
        for m in self.missing.iter_mut().filter(|m| m.due <= now) {
            // The round trip may have been found longer since this was made due.
            if let Some(earliest) = m.asked.map(|asked| asked + rtt).filter(|e| *e > now) {
                m.due = earliest;
                continue;
            }
            m.tries += 1;
            m.asked = Some(now);
            m.due = now + interval(rtt, m.tries).max(config.min_interval);
            out.push(m.seq);
        }
        self.next = self.missing.iter().map(|m| m.due.min(m.since + config.max_age)).min();
    }

    /// When to call [`poll`](Self::poll) again. May be early, never late.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether packets were given up since the last call, so that a decoder can only go on from a keyframe.
    pub fn take_keyframe_needed(&mut self) -> bool {
        std::mem::take(&mut self.keyframe_needed)
    }

    /// Nothing before `seq` is of use any more: a keyframe begins there.
    pub fn forget_before(&mut self, seq: SeqNo) {
        let older = self.missing.partition_point(|m| m.seq < seq);
        self.missing.drain(..older);
    }

    /// How many packets are missing, and not given up.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    fn give_up_all(&mut self) {
        self.missing.clear();
        self.next = None;
        self.keyframe_needed = true;
    }
}

/// How long to wait for the answer to the `tries`-th request: a fifth more than the round trip, and a quarter more each time.
fn interval(rtt: Duration, tries: u8) -> Duration {
    rtt * 6 / 5 * (3 + u32::from(tries)) / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }
    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }
    const RTT: Duration = Duration::from_millis(80);

    #[test]
    fn loss_is_counted_as_rfc_3550_does() {
        let (mut s, t) = (ReceptionStats::new(90_000), start());
        assert_eq!(s.report_block(t, Ssrc(1)), None);
        for seq in (65_530..65_550).filter(|s| s % 5 != 0) {
            s.handle_packet(t, SeqNo(seq), 0);
        }
        // 65530 was lost before the stream began for us; of 65531 to 65549 three are missing.
        let block = s.report_block(t, Ssrc(7)).unwrap();
        assert_eq!((block.ssrc, block.cumulative_lost, block.fraction_lost), (Ssrc(7), 3, (3 * 256 / 19) as u8));
        assert_eq!(block.highest_sequence, 1 << 16 | 13);
        // A late packet and a duplicate in the next interval.
        s.handle_packet(t, SeqNo(65_535), 0);
        s.handle_packet(t, SeqNo(65_535), 0);
        s.handle_packet(t, SeqNo(65_550), 0);
        let block = s.report_block(t, Ssrc(7)).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (1, 0));
    }

    #[test]
    fn a_restart_of_the_numbers_is_not_loss() {
        let (mut s, t) = (ReceptionStats::new(48_000), start());
        for seq in [10, 11, 13] {
            s.handle_packet(t, SeqNo(seq), 0);
        }
        s.handle_packet(t, SeqNo(40_000), 0);
        assert_eq!(s.lost(), 1, "one far packet alone is not believed");
        s.handle_packet(t, SeqNo(40_001), 0);
        s.handle_packet(t, SeqNo(40_003), 0);
        assert_eq!(s.lost(), 2);
        assert_eq!(s.report_block(t, Ssrc(1)).unwrap().highest_sequence, 40_003);
        // Backwards too.
        s.handle_packet(t, SeqNo(500), 0);
        s.handle_packet(t, SeqNo(501), 0);
        assert_eq!((s.lost(), s.report_block(t, Ssrc(1)).unwrap().highest_sequence), (2, 501));
    }

    #[test]
    fn jitter_follows_appendix_a8() {
        let (mut s, t) = (ReceptionStats::new(48_000), start());
        // Perfect pace, through a wrap of the timestamp.
        for n in 0..100u32 {
            s.handle_packet(t + ms(20) * n, SeqNo(n.into()), (u32::MAX - 9600).wrapping_add(n * 960));
        }
        assert_eq!(s.jitter_ticks(), 0);
        // Every second packet 5 ms late: |D| is 240 ticks each time, and the jitter comes near to it.
        for n in 100..300u32 {
            s.handle_packet(t + ms(20) * n + ms(5) * (n % 2), SeqNo(n.into()), (u32::MAX - 9600).wrapping_add(n * 960));
        }
        assert!((235..=240).contains(&s.jitter_ticks()), "{}", s.jitter_ticks());
    }

    #[test]
    fn the_delay_since_the_senders_report_is_told() {
        let (mut s, t) = (ReceptionStats::new(48_000), start());
        s.handle_packet(t, SeqNo(1), 0);
        s.handle_sender_report(t, 0x1122_3344_5566_7788);
        let block = s.report_block(t + ms(1500), Ssrc(1)).unwrap();
        assert_eq!((block.last_sr, block.delay_since_last_sr), (0x3344_5566, 98_304));
    }

    fn poll(g: &mut NackGenerator, now: Instant) -> Vec<u64> {
        let mut out = Vec::new();
        g.poll(now, RTT, &mut out);
        out.into_iter().map(|s| s.0).collect()
    }

    #[test]
    fn requests_follow_the_round_trip() {
        let (mut g, t) = (NackGenerator::default(), start());
        g.poll(t, RTT, &mut Vec::new());
        for seq in [5, 6, 9] {
            g.handle_packet(t, SeqNo(seq));
        }
        assert_eq!(g.next_timeout(), Some(t + ms(10)));
        assert!(poll(&mut g, t + ms(9)).is_empty());
        assert_eq!(poll(&mut g, t + ms(10)), [7, 8]);
        assert_eq!(g.next_timeout(), Some(t + ms(10 + 96)));
        assert!(poll(&mut g, t + ms(105)).is_empty());
        g.handle_packet(t + ms(105), SeqNo(8));
        assert_eq!(poll(&mut g, t + ms(106)), [7]);
        // A quarter more than the 96 ms before.
        assert_eq!(g.next_timeout(), Some(t + ms(106 + 120)));
        assert_eq!(poll(&mut g, t + ms(226)), [7]);
        g.handle_packet(t + ms(230), SeqNo(7));
        assert!(poll(&mut g, t + ms(2000)).is_empty());
        assert_eq!((g.next_timeout(), g.take_keyframe_needed()), (None, false));
    }

    #[test]
    fn reordering_is_waited_for() {
        let (mut g, t) = (NackGenerator::default(), start());
        for (at, seq) in [(0, 1), (1, 3), (4, 2), (5, 4)] {
            g.handle_packet(t + ms(at), SeqNo(seq));
        }
        assert!(poll(&mut g, t + ms(100)).is_empty());
    }

    #[test]
    fn what_is_too_old_is_given_up_with_a_word() {
        let (mut g, t) = (NackGenerator::default(), start());
        g.handle_packet(t, SeqNo(1));
        g.handle_packet(t, SeqNo(3));
        let mut asked = 0;
        let mut now = t;
        while let Some(next) = g.next_timeout() {
            assert!(next > now || asked == 0);
            now = next;
            asked += poll(&mut g, now).len();
        }
        assert!(now - t <= ms(1500) && asked <= 10, "{asked} requests in {:?}", now - t);
        assert!(g.take_keyframe_needed() && !g.take_keyframe_needed());
    }

    #[test]
    fn tries_are_bounded_on_short_round_trips() {
        let (mut g, t) = (NackGenerator::default(), start());
        g.handle_packet(t, SeqNo(1));
        g.handle_packet(t, SeqNo(3));
        let mut asked = Vec::new();
        while let Some(next) = g.next_timeout() {
            g.poll(next, Duration::from_micros(100), &mut asked);
        }
        assert_eq!(asked.len(), 10);
        assert!(g.take_keyframe_needed());
    }

    #[test]
    fn a_long_gap_causes_no_storm() {
        let (mut g, t) = (NackGenerator::default(), start());
        g.handle_packet(t, SeqNo(60_000));
        g.handle_packet(t, SeqNo(59_000));
        assert_eq!((g.missing(), g.next_timeout()), (0, None), "before the start");
        g.handle_packet(t, SeqNo(60_501));
        assert_eq!(g.missing(), 500);
        g.handle_packet(t, SeqNo(60_503));
        assert_eq!((g.missing(), g.take_keyframe_needed()), (0, true));
        g.handle_packet(t, SeqNo(1_000_000));
        assert_eq!((g.missing(), g.take_keyframe_needed(), g.next_timeout()), (0, true, None));
    }

    #[test]
    fn nothing_before_a_keyframe_is_asked_for() {
        let (mut g, t) = (NackGenerator::default(), start());
        for seq in [1, 3, 5] {
            g.handle_packet(t, SeqNo(seq));
        }
        g.forget_before(SeqNo(3));
        assert_eq!(poll(&mut g, t + ms(50)), [4]);
        assert!(!g.take_keyframe_needed());
    }

    proptest! {
        /// Through any loss and reordering: no number is asked for twice within a round trip, nor when it is here, and the
        /// list stays bounded and ascending.
        #[test]
        fn requests_are_never_idle(steps in prop::collection::vec((0..40u64, -30..30i64, 1..200u64), 1..400)) {
            let (mut g, mut now, mut highest) = (NackGenerator::default(), start(), 1000i64);
            let mut asked = std::collections::HashMap::<SeqNo, Instant>::new();
            let mut here = std::collections::HashSet::<SeqNo>::new();
            for (wait, step, rtt) in steps {
                now += ms(wait);
                let seq = SeqNo((highest + step) as u64);
                highest = highest.max(highest + step);
                here.insert(seq);
                g.handle_packet(now, seq);
                let mut out = Vec::new();
                g.poll(now, ms(rtt), &mut out);
                prop_assert!(out.is_sorted() && g.missing() <= 500);
                prop_assert!(g.next_timeout().is_none_or(|t| t > now));
                for seq in out {
                    prop_assert!(!here.contains(&seq));
                    let last = asked.insert(seq, now);
                    prop_assert!(last.is_none_or(|last| now - last >= ms(rtt)));
                }
            }
        }
    }
}
