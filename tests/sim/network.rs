//! A bad network: what it does to each datagram is drawn from a seed.
use rand::Rng;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// One direction of a path.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// The share of datagrams that vanish.
    pub loss: f64,
    /// From end to end.
    pub delay: Duration,
    /// Up to so much more, without overtaking.
    pub jitter: Duration,
    /// The share of datagrams that come twice.
    pub duplicate: f64,
    /// The share of datagrams that are held back so that others overtake them.
    pub reorder: f64,
    /// Bits a second of the narrowest part.
    pub bandwidth: Option<u64>,
    /// What would wait longer than this for it is lost.
    pub buffer: Duration,
    pub offline: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            loss: 0.0,
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            duplicate: 0.0,
            reorder: 0.0,
            bandwidth: None,
            buffer: Duration::from_millis(300),
            offline: false,
        }
    }
}

/// One direction of one client's path.
#[derive(Debug, Default)]
pub struct Link {
    pub conditions: Conditions,
    busy_until: Option<Instant>,
    last_arrival: Option<Instant>,
    /// When each datagram came to the narrowest part, and how long it waited there: `None` where it was lost for want of room. Kept while it is not `None`.
    pub queued: Option<Vec<(Instant, Option<Duration>)>>,
}

impl Link {
    pub fn new(conditions: Conditions) -> Self {
        Self { conditions, ..Self::default() }
    }

    /// When a datagram of `bytes` that is sent now arrives: not at all, once or twice.
    pub fn send(&mut self, now: Instant, bytes: usize, rng: &mut StdRng) -> impl Iterator<Item = Instant> + use<> {
        // The same number of draws for each datagram, so that one change does not shift all that follows.
        let draws: [f64; 4] = rng.random();
        let c = self.conditions;
        let mut arrivals = [None, None];
        if let Some(sent) = self.pass(now, bytes).filter(|_| draws[0] >= c.loss && !c.offline) {
            let held = if draws[1] < c.reorder { Duration::from_millis(30) } else { Duration::ZERO };
            let at = sent + c.delay + c.jitter.mul_f64(draws[2]);
            let in_order = self.last_arrival.map_or(at, |last| last.max(at));
            arrivals[0] = Some(in_order + held);
            if held.is_zero() {
                self.last_arrival = Some(in_order);
            }
            arrivals[1] = (draws[3] < c.duplicate).then(|| in_order + Duration::from_millis(7));
        }
        arrivals.into_iter().flatten()
    }

    /// When it has passed the narrowest part.
    fn pass(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(bandwidth) = self.conditions.bandwidth else { return Some(now) };
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        let wait = start.saturating_duration_since(now);
        let fits = wait <= self.conditions.buffer;
        if let Some(queued) = &mut self.queued {
            queued.push((now, fits.then_some(wait)));
        }
        if !fits {
            return None;
        }
        let done = start + Duration::from_secs_f64(bytes as f64 * 8.0 / bandwidth as f64);
        self.busy_until = Some(done);
        Some(done)
    }
}

/// What the narrowest part of a path was like for a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queueing {
    pub p95: Duration,
    /// The share of datagrams that found no room.
    pub lost: f64,
}

impl Link {
    /// What was noted from `since` on.
    pub fn queueing(&self, since: Instant) -> Queueing {
        let noted: Vec<_> =
            self.queued.iter().flatten().filter(|(at, _)| *at >= since).map(|(_, wait)| *wait).collect();
        let mut waits: Vec<Duration> = noted.iter().flatten().copied().collect();
        waits.sort_unstable();
        let p95 = waits.get(waits.len() * 95 / 100).copied().unwrap_or_default();
        let lost = (noted.len() - waits.len()) as f64 / noted.len().max(1) as f64;
        Queueing { p95, lost }
    }
}

/// A quarter of a second.
const QUARTER: Duration = Duration::from_millis(250);

/// How a path that became narrow got over it.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// More was sent than it carries: datagrams found no room.
    pub over_use: Duration,
    /// From when on nothing waited longer than 150 ms, for a second.
    pub drained: Duration,
}

impl Link {
    /// The longest wait of each quarter of a second; `None` where datagrams found no room.
    pub fn profile(&self, since: Instant, time: Duration) -> Vec<Option<Duration>> {
        let mut all = vec![Some(Duration::ZERO); (time.as_millis() / QUARTER.as_millis()) as usize];
        for (at, wait) in self.queued.iter().flatten().filter(|(at, _)| *at >= since) {
            let quarter = ((*at - since).as_millis() / QUARTER.as_millis()) as usize;
            if let Some(longest) = all.get_mut(quarter) {
                *longest = longest.zip(*wait).map(|(longest, wait)| longest.max(wait));
            }
        }
        all
    }

    pub fn recovery(&self, since: Instant, time: Duration) -> Recovery {
        let profile = self.profile(since, time);
        let short = |wait: &Option<Duration>| wait.is_some_and(|wait| wait < Duration::from_millis(150));
        let lost = profile.iter().rposition(Option::is_none).map_or(0, |last| last + 1);
        let drained = profile.windows(4).position(|second| second.iter().all(short)).unwrap_or(profile.len());
        Recovery { over_use: QUARTER * lost as u32, drained: QUARTER * drained as u32 }
    }
}
