//! What outlives a socket: the numbered events, the answers given, and the pace of one client.
use super::api::{Output, SocketId};
use super::settings::RoomLimits;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client of the room's socket, with or without a socket at the moment.
#[derive(Debug)]
pub(super) struct Session {
    pub id: String,
    pub secret: String,
    pub socket: Option<SocketId>,
    /// Since when it has no socket.
    pub lost_at: Option<Instant>,
    /// When anything was last heard of it.
    pub heard: Instant,
    pub next_ping: Instant,
    pub log: EventLog,
    pub answers: Answers,
    pub pace: Pace,
}

impl Session {
    pub fn new(
        id: String,
        secret: String,
        socket: SocketId,
        limits: &RoomLimits,
        ping: Duration,
        now: Instant,
    ) -> Self {
        Self {
            id,
            secret,
            socket: Some(socket),
            lost_at: None,
            heard: now,
            next_ping: now + ping,
            log: EventLog::new(limits.event_log_len, limits.event_log_bytes),
            answers: Answers::new(limits.answer_cache_len, limits.answer_cache_bytes),
            pace: Pace::new(limits.requests_per_second, limits.request_burst, now),
        }
    }

    /// Numbers an event, keeps it, and sends it if there is a socket. The answer is its number.
    pub fn tell(&mut self, event: &EventText, out: &mut VecDeque<Output>) -> u64 {
        let seq = self.log.push(event.clone());
        self.send(event.numbered(seq), out);
        seq
    }

    pub fn send(&self, text: Arc<str>, out: &mut VecDeque<Output>) {
        if let Some(socket) = self.socket {
            out.push_back(Output::Send { socket, text });
        }
    }

    /// Compares in a time that does not depend on where the difference is.
    pub fn secret_is(&self, secret: &str) -> bool {
        let difference = self.secret.bytes().zip(secret.bytes()).fold(0, |d, (a, b)| d | (a ^ b));
        self.secret.len() == secret.len() && difference == 0
    }
}

/// An event's JSON without its opening brace: the same for all who are told, so it is serialised once and only the
/// number before it differs.
#[derive(Clone, Debug)]
pub(super) struct EventText(Arc<str>);

impl EventText {
    pub fn new(event: &super::messages::Event) -> Self {
        let text = super::messages::text(event);
        Self(text.strip_prefix('{').unwrap_or(&text).into())
    }

    pub fn numbered(&self, seq: u64) -> Arc<str> {
        format!("{{\"seq\":{seq},{}", self.0).into()
    }
}

/// The latest events of a session, numbered from 1 without gaps. Bounded by count and bytes: the oldest go first, and a
/// client that needs one of those gets a snapshot instead.
#[derive(Debug)]
pub(super) struct EventLog {
    texts: VecDeque<EventText>,
    bytes: usize,
    last: u64,
    max_len: usize,
    max_bytes: usize,
}

impl EventLog {
    fn new(max_len: usize, max_bytes: usize) -> Self {
        Self { texts: VecDeque::new(), bytes: 0, last: 0, max_len, max_bytes }
    }

    /// The number of the latest event; 0 before any.
    pub fn last(&self) -> u64 {
        self.last
    }

    fn push(&mut self, text: EventText) -> u64 {
        self.bytes += text.0.len();
        self.texts.push_back(text);
        while self.texts.len() > self.max_len || self.bytes > self.max_bytes {
            let Some(oldest) = self.texts.pop_front() else { break };
            self.bytes -= oldest.0.len();
        }
        self.last += 1;
        self.last
    }

    /// The events after `seq`, with their numbers. None if the log does not reach back that far, or never went so far.
    pub fn since(&self, seq: u64) -> Option<impl Iterator<Item = (u64, &EventText)>> {
        let missed = usize::try_from(self.last.checked_sub(seq)?).ok()?;
        let skip = self.texts.len().checked_sub(missed)?;
        Some((seq + 1..).zip(self.texts.iter().skip(skip)))
    }
}

/// The answers given, by request id, so that a repeated request has no second effect.
#[derive(Debug)]
pub(super) struct Answers {
    /// Oldest first. None while the answer is pending.
    kept: VecDeque<(u64, Option<Arc<str>>)>,
    bytes: usize,
    /// The highest id that was dropped.
    forgotten: Option<u64>,
    max_len: usize,
    max_bytes: usize,
}

#[derive(Debug, PartialEq)]
pub(super) enum Known {
    New,
    Pending,
    Answered(Arc<str>),
    /// It may have been answered, but so long ago that the answer is gone.
    Forgotten,
}

impl Answers {
    fn new(max_len: usize, max_bytes: usize) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, forgotten: None, max_len, max_bytes }
    }

    pub fn lookup(&self, id: u64) -> Known {
        match self.kept.iter().find(|(kept, _)| *kept == id) {
            Some((_, Some(text))) => Known::Answered(text.clone()),
            Some((_, None)) => Known::Pending,
            None if self.forgotten.is_some_and(|f| id <= f) => Known::Forgotten,
            None => Known::New,
        }
    }

    /// The request is taken; its answer comes later.
    pub fn begin(&mut self, id: u64) {
        self.kept.push_back((id, None));
        self.shrink();
    }

    pub fn finish(&mut self, id: u64, text: Arc<str>) {
        if let Some((_, slot)) = self.kept.iter_mut().rev().find(|(kept, _)| *kept == id) {
            self.bytes += text.len();
            *slot = Some(text);
            self.shrink();
        }
    }

    /// The request had no effect and may be tried again with the same id.
    pub fn forget(&mut self, id: u64) {
        self.kept.retain(|(kept, text)| *kept != id || text.is_some());
    }

    fn shrink(&mut self) {
        // The latest stays whatever its size: a lost connection makes its sender ask again.
        while self.kept.len() > self.max_len || (self.bytes > self.max_bytes && self.kept.len() > 1) {
            let Some((id, text)) = self.kept.pop_front() else { break };
            self.bytes -= text.map_or(0, |t| t.len());
            self.forgotten = self.forgotten.max(Some(id));
        }
    }
}

/// How fast a client may ask: a token bucket, and a second one for what the first refuses.
#[derive(Debug)]
pub(super) struct Pace {
    requests: Bucket,
    refusals: Bucket,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    /// Milliseconds until the next request would be taken.
    Wait(u64),
    /// It has been told to wait, and does not.
    Flood,
}

impl Pace {
    fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let bucket =
            |rate, size| Bucket { rate: f64::from(rate), size: f64::from(size), level: f64::from(size), at: now };
        Self { requests: bucket(rate, burst), refusals: bucket(rate, burst.saturating_mul(8)) }
    }

    pub fn request(&mut self, now: Instant) -> Verdict {
        match self.requests.take(now) {
            Ok(()) => Verdict::Go,
            Err(wait) if self.refusals.take(now).is_ok() => Verdict::Wait(wait),
            Err(_) => Verdict::Flood,
        }
    }
}

#[derive(Debug)]
struct Bucket {
    /// Tokens a second.
    rate: f64,
    size: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// # Errors
    /// Milliseconds until there is a token, at least 1.
    fn take(&mut self, now: Instant) -> Result<(), u64> {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.level = (self.level + elapsed * self.rate).min(self.size);
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Ok(());
        }
        Err((((1.0 - self.level) / self.rate.max(0.001)) * 1000.0).ceil() as u64)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
mod tests {
    use super::*;

    #[test]
    fn the_log_reaches_back_as_far_as_its_bounds() {
        let mut log = EventLog::new(3, 1000);
        let since = |log: &EventLog, seq| log.since(seq).map(|e| e.map(|(n, _)| n).collect::<Vec<_>>());
        assert_eq!(since(&log, 0), Some(vec![]));
        assert_eq!(since(&log, 1), None, "a number that was never given");
        for n in 1..=5 {
            assert_eq!(log.push(EventText("x".into())), n);
        }
        assert_eq!(since(&log, 5), Some(vec![]));
        assert_eq!(since(&log, 2), Some(vec![3, 4, 5]));
        assert_eq!(since(&log, 1), None);
        log.push(EventText("x".repeat(2000).into()));
        assert_eq!(since(&log, 5), None, "an event larger than the whole log is not kept");
        assert_eq!(since(&log, 6), Some(vec![]));
    }

    #[test]
    fn answers_are_known_pending_or_forgotten() {
        let mut answers = Answers::new(2, 1000);
        assert_eq!(answers.lookup(7), Known::New);
        answers.begin(7);
        assert_eq!(answers.lookup(7), Known::Pending);
        answers.finish(7, "seven".into());
        assert_eq!(answers.lookup(7), Known::Answered("seven".into()));
        answers.begin(8);
        answers.forget(8);
        assert_eq!(answers.lookup(8), Known::New);
        for id in [8, 9] {
            answers.begin(id);
            answers.finish(id, "x".into());
        }
        assert_eq!(answers.lookup(7), Known::Forgotten);
        assert_eq!(answers.lookup(3), Known::Forgotten);
        answers.begin(10);
        answers.finish(10, "x".repeat(5000).into());
        assert!(matches!(answers.lookup(10), Known::Answered(_)), "the latest answer is kept, however long");
    }

    #[test]
    fn a_burst_passes_a_stream_waits_and_a_flood_is_named() {
        let start = Instant::now();
        let mut pace = Pace::new(10, 20, start);
        for _ in 0..20 {
            assert_eq!(pace.request(start), Verdict::Go);
        }
        assert_eq!(pace.request(start), Verdict::Wait(100));
        assert_eq!(pace.request(start + Duration::from_millis(100)), Verdict::Go);
        let mut flood = 0;
        for _ in 0..500 {
            flood += u32::from(pace.request(start + Duration::from_millis(100)) == Verdict::Flood);
        }
        assert!(flood > 300, "{flood}");
    }
}
