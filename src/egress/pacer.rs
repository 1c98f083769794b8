//! Where packets wait when the path's rate is spent: audio goes first, then retransmissions, then video.
//!
//! A frame that leaves at once, faster than the narrowest part of the path, only waits there, in front of what is more urgent, or is
//! lost there. So packets leave at 1.3 to 2.5 times the estimate: smooth enough for the path, and a frame is
//! gone before the next. What leaves together, leaves in one system call: releases lie on a grid of 5 ms.
use super::bandwidth::Bandwidth;
use crate::metrics::DropReason;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Releases lie this far apart.
const GRID: Duration = Duration::from_millis(5);
/// What may leave at once after a pause: so much of the rate.
const BURST: Duration = Duration::from_millis(10);
/// No packet is to wait longer: the rate is raised.
const MAX_DELAY: Duration = Duration::from_millis(300);
/// Packets that may wait, of each class: beyond, it is not the path that is slow.
const MAX_QUEUE: usize = 2048;
/// Of the pacing rate, 1.3 to 2.5 times the estimate, retransmissions may have this share: about a quarter of the estimate. Where losses are few
/// they may come in a burst of so long.
const REPAIR_SHARE: f64 = 0.15;
const REPAIR_BURST: Duration = Duration::from_millis(500);
const MIN_REPAIR_BPS: f64 = 1_000_000.0;
/// One packet of padding.
const PADDING: usize = 1200;

/// How urgent a packet is, the most urgent first. (Padding is made when it is due, and never waits.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Never waits.
    Audio,
    /// A retransmission.
    Repair,
    Video,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<J> {
    Packet(J),
    /// A packet of about so many bytes that nobody needs, for a probe.
    Padding {
        bytes: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Waiting<J> {
    job: J,
    bytes: u32,
    since: Instant,
}

/// One subscriber's queues. Takes no memory before the first packet.
#[derive(Debug)]
pub struct Pacer<J> {
    audio: VecDeque<Waiting<J>>,
    repair: VecDeque<Waiting<J>>,
    video: VecDeque<Waiting<J>>,
    queued_bytes: usize,
    /// When what was sent is paid for.
    paid_at: Option<Instant>,
    /// When the retransmissions taken so far are paid for, from their share.
    repairs_paid_at: Option<Instant>,
    /// When the last release was, and whether a probe goes on.
    released: Option<Instant>,
    probing: bool,
    /// Bits a second of the last release.
    rate: f64,
}

impl<J> Default for Pacer<J> {
    fn default() -> Self {
        Self {
            audio: VecDeque::new(),
            repair: VecDeque::new(),
            video: VecDeque::new(),
            queued_bytes: 0,
            paid_at: None,
            repairs_paid_at: None,
            released: None,
            probing: false,
            rate: 0.0,
        }
    }
}

impl<J: Copy> Pacer<J> {
    pub fn new() -> Self {
        Self::default()
    }

    /// A packet of `bytes` (the datagram) that is to be sent. An error if 2048 of its class wait already (`PacerFull`), or if
    /// retransmissions take more than a quarter of the rate (`NackThrottled`).
    pub fn push(&mut self, now: Instant, class: Class, bytes: usize, job: J) -> Result<(), DropReason> {
        if class == Class::Repair && !self.afford_repair(now, bytes) {
            return Err(DropReason::NackThrottled);
        }
        let queue = match class {
            Class::Audio => &mut self.audio,
            Class::Repair => &mut self.repair,
            Class::Video => &mut self.video,
        };
        if queue.len() >= MAX_QUEUE {
            return Err(DropReason::PacerFull);
        }
        let bytes = bytes.min(u16::MAX.into()) as u32;
        queue.push_back(Waiting { job, bytes, since: now });
        self.queued_bytes += bytes as usize;
        Ok(())
    }

    /// Hands out what may go now, the most urgent class first and in order within each; for a probe also padding.
    pub fn poll(&mut self, now: Instant, bandwidth: &mut Bandwidth, out: &mut Vec<Item<J>>) {
        self.rate = self.rate_for(now, bandwidth.pacing_bps());
        let before = self.queued_bytes;
        while let Some(waiting) = self.audio.pop_front() {
            self.release(now, waiting, out);
        }
        let paces = bandwidth.paces();
        // What falls due before the next release goes with this one.
        let horizon = now + GRID / 2;
        while !paces || self.paid_at.is_none_or(|at| at <= horizon) {
            let Some(waiting) = self.repair.pop_front().or_else(|| self.video.pop_front()) else { break };
            self.release(now, waiting, out);
        }
        self.pad(now, bandwidth, before - self.queued_bytes, out);
        self.released = Some(now);
    }

    /// When to [`poll`](Self::poll) next: `None` while nothing waits.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if !self.audio.is_empty() {
            return Some(now);
        }
        let next = self.released.map_or(now, |at| at + GRID);
        if self.probing {
            return Some(next);
        }
        if self.is_empty() {
            return None;
        }
        Some(self.paid_at.map_or(next, |at| next.max(at)))
    }

    pub fn is_empty(&self) -> bool {
        self.audio.is_empty() && self.repair.is_empty() && self.video.is_empty()
    }

    /// Video packets that wait.
    pub fn queued_video(&self) -> usize {
        self.video.len()
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// How long the oldest packet has waited.
    pub fn oldest(&self, now: Instant) -> Option<Duration> {
        let since =
            [&self.audio, &self.repair, &self.video].into_iter().filter_map(|q| q.front()).map(|w| w.since).min()?;
        Some(now.saturating_duration_since(since))
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets the packets for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&J) -> bool) {
        let mut bytes = 0;
        for queue in [&mut self.audio, &mut self.repair, &mut self.video] {
            queue.retain(|waiting| keep(&waiting.job));
            bytes += queue.iter().map(|waiting| waiting.bytes as usize).sum::<usize>();
        }
        self.queued_bytes = bytes;
    }

    /// What is lost because too much was sent must not be sent again on top of it.
    fn afford_repair(&mut self, now: Instant, bytes: usize) -> bool {
        let share = self.rate.max(MIN_REPAIR_BPS) * REPAIR_SHARE;
        let rested = now.checked_sub(REPAIR_BURST).unwrap_or(now);
        let from = self.repairs_paid_at.map_or(rested, |at| at.max(rested));
        if from > now {
            return false;
        }
        self.repairs_paid_at = Some(from + Duration::from_secs_f64(bytes as f64 * 8.0 / share));
        true
    }

    fn release(&mut self, now: Instant, waiting: Waiting<J>, out: &mut Vec<Item<J>>) {
        self.queued_bytes = self.queued_bytes.saturating_sub(waiting.bytes as usize);
        self.pay(now, waiting.bytes as usize);
        out.push(Item::Packet(waiting.job));
    }

    fn pay(&mut self, now: Instant, bytes: usize) {
        let rested = now.checked_sub(BURST).unwrap_or(now);
        let from = self.paid_at.map_or(rested, |at| at.max(rested));
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / self.rate.max(1_000.0));
        // However slow: nothing is in debt for longer than a packet may wait.
        self.paid_at = Some((from + takes).min(now + MAX_DELAY));
    }

    /// The rate at which the oldest packet leaves before it has waited for too long.
    fn rate_for(&self, now: Instant, pacing_bps: f64) -> f64 {
        let Some(oldest) = self.oldest(now) else { return pacing_bps };
        let left = MAX_DELAY.saturating_sub(oldest).max(GRID).as_secs_f64();
        pacing_bps.max(self.queued_bytes as f64 * 8.0 / left)
    }

    /// Fills a probe up to its rate. `handed` bytes of media are on their way already, and not yet counted by the estimate. Padding is
    /// not paid for, so that no media waits for it.
    fn pad(&mut self, now: Instant, bandwidth: &Bandwidth, mut handed: usize, out: &mut Vec<Item<J>>) {
        self.probing = bandwidth.is_probing();
        if !self.probing {
            return;
        }
        let due = bandwidth.probe_bytes(now, GRID);
        while handed < due {
            out.push(Item::Padding { bytes: PADDING });
            handed += PADDING;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::bandwidth::{Purpose, START_BPS};

    #[expect(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }
    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// What leaves, and how many milliseconds after the start.
    fn drain(pacer: &mut Pacer<u32>, bandwidth: &mut Bandwidth, start: Instant) -> Vec<(u64, u32)> {
        let (mut left, mut now) = (vec![], start);
        for _ in 0..1_000 {
            let mut out = vec![];
            pacer.poll(now, bandwidth, &mut out);
            for item in out {
                let Item::Packet(job) = item else { panic!("no probe was asked for") };
                bandwidth.handle_sent(now, 1000, Purpose::Media);
                left.push(((now - start).as_millis() as u64, job));
            }
            let Some(at) = pacer.poll_timeout(now) else { break };
            assert!(at > now, "it would spin");
            now = at;
        }
        left
    }

    #[test]
    fn audio_first_then_repairs_then_video() {
        let (mut pacer, mut bandwidth, now) = (Pacer::new(), Bandwidth::new(), start());
        for (class, job) in [
            (Class::Video, 0),
            (Class::Video, 1),
            (Class::Repair, 10),
            (Class::Audio, 20),
            (Class::Repair, 11),
            (Class::Audio, 21),
        ] {
            pacer.push(now, class, 1000, job).unwrap();
        }
        let order: Vec<u32> = drain(&mut pacer, &mut bandwidth, now).iter().map(|(_, job)| *job).collect();
        assert_eq!(order, [20, 21, 10, 11, 0, 1]);
        assert!(pacer.is_empty() && pacer.queued_bytes() == 0);
    }

    #[test]
    fn a_small_frame_leaves_at_once_and_a_large_one_is_spread() {
        let (mut pacer, mut bandwidth, now) = (Pacer::new(), Bandwidth::new(), start());
        for job in 0..2 {
            pacer.push(now, Class::Video, 1000, job).unwrap();
        }
        assert!(drain(&mut pacer, &mut bandwidth, now).iter().all(|(at, _)| *at == 0));
        let now = now + ms(33);
        for job in 0..25 {
            pacer.push(now, Class::Video, 1000, job).unwrap();
        }
        let left = drain(&mut pacer, &mut bandwidth, now);
        // 25 kB at 2.5 times 600 kbit/s.
        let takes = 25_000.0 * 8.0 / (2.5 * START_BPS as f64) * 1e3;
        let last = left.last().map_or(0, |(at, _)| *at) as f64;
        assert!((takes * 0.75..takes * 1.1).contains(&last), "{last} of {takes} ms");
        assert!(left.iter().map(|(_, job)| *job).eq(0..25), "in order");
        let releases = left.chunk_by(|a, b| a.0 == b.0).count() as f64;
        assert!(releases <= last / 5.0 + 2.0, "{releases} releases in {last} ms");
    }

    #[test]
    fn nothing_waits_for_much_longer_than_300_ms() {
        let (mut pacer, mut bandwidth, now) = (Pacer::new(), Bandwidth::new(), start());
        for job in 0..300 {
            pacer.push(now, Class::Video, 1200, job).unwrap();
        }
        let left = drain(&mut pacer, &mut bandwidth, now);
        assert_eq!(left.len(), 300);
        assert!(left.iter().all(|(at, _)| *at <= 310), "{:?}", left.last());
    }

    #[test]
    fn audio_does_not_wait_behind_a_keyframe() {
        let (mut pacer, mut bandwidth, now) = (Pacer::new(), Bandwidth::new(), start());
        for job in 0..100 {
            pacer.push(now, Class::Video, 1200, job).unwrap();
        }
        let mut out = vec![];
        pacer.poll(now, &mut bandwidth, &mut out);
        out.clear();
        pacer.push(now + ms(1), Class::Audio, 100, 1_000).unwrap();
        assert_eq!(pacer.poll_timeout(now + ms(1)), Some(now + ms(1)));
        pacer.poll(now + ms(1), &mut bandwidth, &mut out);
        assert_eq!(out.first(), Some(&Item::Packet(1_000)));
    }

    #[test]
    fn it_is_bounded_and_forgets_what_it_is_told_to() {
        let (mut pacer, now) = (Pacer::new(), start());
        let pushed = (0..3_000).filter(|&job| pacer.push(now, Class::Video, 100, job).is_ok()).count();
        assert_eq!((pushed, pacer.queued_bytes()), (MAX_QUEUE, MAX_QUEUE * 100));
        assert_eq!(pacer.push(now, Class::Video, 100, 0), Err(DropReason::PacerFull));
        pacer.retain(|job| job % 2 == 0);
        assert_eq!(pacer.queued_bytes(), MAX_QUEUE / 2 * 100);
        pacer.clear();
        assert!(pacer.is_empty() && pacer.queued_bytes() == 0);
        assert_eq!(pacer.poll_timeout(now), None);
    }
}
