//! What outlives a socket: the numbered events, the answers given, and the pace of one client.
use super::api::{Output, SocketId, Text};
use super::settings::RoomLimits;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pings go out at multiples of this.
const TOGETHER_MS: u64 = 250;
/// Bytes from which on an answer is a long one.
const LONG: usize = 512;

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
    /// Between two pings.
    pub ping: Duration,
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
            ping,
            next_ping: now + ping,
            log: EventLog::new(limits.event_log_len, limits.event_log_bytes),
            answers: Answers::new(limits.answer_cache_len, limits.answer_cache_bytes),
            pace: Pace::new(limits.requests_per_second, limits.request_burst, now),
        }
    }

    /// The session goes on, on another socket.
    pub fn take_up(&mut self, ping: Duration, now: Instant) {
        (self.lost_at, self.heard, self.ping, self.next_ping) = (None, now, ping, now + ping);
        self.answers.lost();
    }

    /// A ping goes out.
    pub fn pings(&mut self, now: Instant, wall_ms: u64) {
        // A little early, so that the pings of many go out together and the room wakes once for all of them.
        let next_ms = wall_ms + self.ping.as_millis() as u64;
        self.next_ping = now + self.ping - Duration::from_millis(next_ms % TOGETHER_MS);
        self.answers.ping();
    }

    /// When it has been silent for so long that its network must be gone.
    pub fn silent_until(&self) -> Instant {
        self.heard + self.ping * 2
    }

    /// Numbers an event that is for this session alone, keeps it, and sends it if there is a socket. The answer is its number.
    pub fn tell(&mut self, event: &EventText, out: &mut VecDeque<Output>) -> u64 {
        self.log.push(event.clone());
        self.pass_on(event, out)
    }

    /// The same for an event that many are told: the room keeps it, at `place` of its `History`.
    pub fn tell_shared(&mut self, event: &EventText, place: u64, out: &mut VecDeque<Output>) {
        self.log.push_shared(place);
        self.pass_on(event, out);
    }

    fn pass_on(&self, event: &EventText, out: &mut VecDeque<Output>) -> u64 {
        let seq = self.log.last();
        self.send(event.numbered(seq), out);
        seq
    }

    pub fn send(&self, text: Text, out: &mut VecDeque<Output>) {
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

    /// The event's `data`, of an event of that type.
    pub fn data(&self, kind: &str) -> Option<&str> {
        self.0.strip_prefix(r#""type":""#)?.strip_prefix(kind)?.strip_prefix(r#"","data":"#)?.strip_suffix('}')
    }

    pub fn numbered(&self, seq: u64) -> Text {
        Text::numbered(seq, self.0.clone())
    }
}

/// What many were told, kept once for all of them. Bounded by count and bytes: the oldest go first.
#[derive(Debug)]
pub(super) struct History {
    texts: VecDeque<EventText>,
    bytes: usize,
    /// The place of the next one. Places ascend without gaps.
    next: u64,
    max_len: usize,
    max_bytes: usize,
}

impl History {
    pub fn new(limits: &RoomLimits) -> Self {
        let (max_len, max_bytes) = (limits.event_log_len, limits.event_log_bytes);
        Self { texts: VecDeque::new(), bytes: 0, next: 0, max_len, max_bytes }
    }

    /// Keeps an event; its place.
    pub fn push(&mut self, text: EventText) -> u64 {
        self.bytes += text.0.len();
        self.texts.push_back(text);
        while self.texts.len() > self.max_len || self.bytes > self.max_bytes {
            let Some(oldest) = self.texts.pop_front() else { break };
            self.bytes -= oldest.0.len();
        }
        self.next += 1;
        self.next - 1
    }

    fn find(&self, place: u64) -> Option<&EventText> {
        let oldest = self.next - self.texts.len() as u64;
        self.texts.get(usize::try_from(place.checked_sub(oldest)?).ok()?)
    }
}

/// The latest events of a session, numbered from 1 without gaps. Bounded by count and bytes: the oldest go first, and a
/// client that needs one of those gets a snapshot instead.
#[derive(Debug)]
pub(super) struct EventLog {
    runs: VecDeque<Run>,
    /// Events in `runs`.
    len: usize,
    /// Of those that are the session's own.
    bytes: usize,
    last: u64,
    max_len: usize,
    max_bytes: usize,
}

/// Events in a row. A session that only listens is one run.
#[derive(Debug)]
enum Run {
    Own(EventText),
    /// From `place` in the room's `History`.
    Shared {
        place: u64,
        len: usize,
    },
}

impl EventLog {
    fn new(max_len: usize, max_bytes: usize) -> Self {
        Self { runs: VecDeque::new(), len: 0, bytes: 0, last: 0, max_len, max_bytes }
    }

    /// The number of the latest event; 0 before any.
    pub fn last(&self) -> u64 {
        self.last
    }

    fn push(&mut self, text: EventText) {
        self.bytes += text.0.len();
        self.runs.push_back(Run::Own(text));
        self.pushed();
    }

    fn push_shared(&mut self, at: u64) {
        match self.runs.back_mut() {
            Some(Run::Shared { place, len }) if *place + *len as u64 == at => *len += 1,
            _ => self.runs.push_back(Run::Shared { place: at, len: 1 }),
        }
        self.pushed();
    }

    fn pushed(&mut self) {
        (self.len, self.last) = (self.len + 1, self.last + 1);
        while self.len > self.max_len || self.bytes > self.max_bytes {
            match self.runs.front_mut() {
                Some(Run::Shared { place, len }) if *len > 1 => (*place, *len) = (*place + 1, *len - 1),
                Some(Run::Own(text)) => {
                    self.bytes -= text.0.len();
                    self.runs.pop_front();
                }
                _ => drop(self.runs.pop_front()),
            }
            self.len = self.len.saturating_sub(1);
        }
    }

    /// The events after `seq`, with their numbers. None if the log does not reach back that far, or never went so far.
    pub fn since(&self, seq: u64, history: &History) -> Option<Vec<Text>> {
        let missed = usize::try_from(self.last.checked_sub(seq)?).ok()?;
        let skip = self.len.checked_sub(missed)?;
        let each = self.runs.iter().flat_map(|run| {
            let (own, shared) = match run {
                Run::Own(text) => (Some(Some(text)), 0..0),
                Run::Shared { place, len } => (None, *place..*place + *len as u64),
            };
            own.into_iter().chain(shared.map(|place| history.find(place)))
        });
        each.skip(skip).zip(seq + 1..).map(|(text, seq)| Some(text?.numbered(seq))).collect()
    }
}

/// The answers given, by request id, so that a repeated request has no second effect. A long one (an SDP) is kept until the
/// client must have got it: until it answers a ping that was sent later.
#[derive(Debug)]
pub(super) struct Answers {
    /// Oldest first.
    kept: VecDeque<(u64, Kept)>,
    bytes: usize,
    /// Answers given so far, and before the ping that is to be answered next.
    given: u64,
    before_ping: Option<u64>,
    /// The highest id that was dropped.
    forgotten: Option<u64>,
    max_len: usize,
    max_bytes: usize,
}

#[derive(Debug)]
enum Kept {
    Pending,
    /// With how many were given before.
    Text(Arc<str>, u64),
    /// It was long, and it has arrived.
    Arrived,
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
        let kept = VecDeque::new();
        Self { kept, bytes: 0, given: 0, before_ping: None, forgotten: None, max_len, max_bytes }
    }

    pub fn lookup(&self, id: u64) -> Known {
        match self.kept.iter().find(|(kept, _)| *kept == id) {
            Some((_, Kept::Text(text, _))) => Known::Answered(text.clone()),
            Some((_, Kept::Pending)) => Known::Pending,
            Some((_, Kept::Arrived)) => Known::Forgotten,
            None if self.forgotten.is_some_and(|f| id <= f) => Known::Forgotten,
            None => Known::New,
        }
    }

    /// The request is taken; its answer comes later.
    pub fn begin(&mut self, id: u64) {
        self.kept.push_back((id, Kept::Pending));
        self.shrink();
    }

    pub fn finish(&mut self, id: u64, text: Arc<str>) {
        if let Some((_, slot)) = self.kept.iter_mut().rev().find(|(kept, _)| *kept == id) {
            self.bytes += text.len();
            *slot = Kept::Text(text, self.given);
            self.given += 1;
            self.shrink();
        }
    }

    /// The request had no effect and may be tried again with the same id.
    pub fn forget(&mut self, id: u64) {
        self.kept.retain(|(kept, answer)| *kept != id || !matches!(answer, Kept::Pending));
    }

    /// A ping goes out: what was answered before has arrived when that is answered.
    pub fn ping(&mut self) {
        self.before_ping.get_or_insert(self.given);
    }

    /// A ping was answered.
    pub fn arrived(&mut self) {
        let Some(arrived) = self.before_ping.take() else { return };
        for (_, answer) in &mut self.kept {
            if let Kept::Text(text, before) = answer
                && text.len() > LONG
                && *before < arrived
            {
                self.bytes -= text.len();
                *answer = Kept::Arrived;
            }
        }
    }

    /// The socket is gone, and with it perhaps what was written to it.
    pub fn lost(&mut self) {
        self.before_ping = None;
    }

    fn shrink(&mut self) {
        // The latest stays whatever its size: a lost connection makes its sender ask again.
        while self.kept.len() > self.max_len || (self.bytes > self.max_bytes && self.kept.len() > 1) {
            let Some((id, answer)) = self.kept.pop_front() else { break };
            if let Kept::Text(text, _) = answer {
                self.bytes -= text.len();
            }
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

    fn history(max_len: usize) -> History {
        History::new(&RoomLimits { event_log_len: max_len, event_log_bytes: 1000, ..RoomLimits::default() })
    }

    /// What the log gives, as text.
    fn since(log: &EventLog, history: &History, seq: u64) -> Option<Vec<String>> {
        Some(log.since(seq, history)?.iter().map(Text::to_string).collect())
    }

    #[test]
    fn the_log_reaches_back_as_far_as_its_bounds() {
        let (mut log, history) = (EventLog::new(3, 1000), history(3));
        let count = |log: &EventLog, seq| since(log, &history, seq).map(|e| e.len());
        assert_eq!(count(&log, 0), Some(0));
        assert_eq!(count(&log, 1), None, "a number that was never given");
        for n in 1..=5 {
            log.push(EventText("x".into()));
            assert_eq!(log.last(), n);
        }
        assert_eq!(count(&log, 5), Some(0));
        assert_eq!(
            since(&log, &history, 2),
            Some(vec![r#"{"seq":3,x"#.into(), r#"{"seq":4,x"#.into(), r#"{"seq":5,x"#.into()])
        );
        assert_eq!(count(&log, 1), None);
        log.push(EventText("x".repeat(2000).into()));
        assert_eq!(count(&log, 5), None, "an event larger than the whole log is not kept");
        assert_eq!(count(&log, 6), Some(0));
    }

    #[test]
    fn what_many_are_told_is_kept_once_and_one_run_stands_for_it() {
        let (mut ann, mut ben, mut history) = (EventLog::new(100, 1000), EventLog::new(100, 1000), history(4));
        let mut tell = |text: &str, logs: &mut [&mut EventLog]| {
            let place = history.push(EventText(text.into()));
            logs.iter_mut().for_each(|log| log.push_shared(place));
        };
        tell("a", &mut [&mut ann, &mut ben]);
        tell("b", &mut [&mut ann]);
        ben.push(EventText("own".into()));
        tell("c", &mut [&mut ann, &mut ben]);
        tell("d", &mut [&mut ann, &mut ben]);
        assert_eq!((ann.runs.len(), ben.runs.len()), (1, 3));
        let told = |log: &EventLog, history: &History, seq| {
            since(log, history, seq).map(|e| e.concat().replace(r#"{"seq":"#, " "))
        };
        assert_eq!(told(&ann, &history, 0).as_deref(), Some(" 1,a 2,b 3,c 4,d"));
        assert_eq!(told(&ben, &history, 0).as_deref(), Some(" 1,a 2,own 3,c 4,d"));
        let place = history.push(EventText("e".into()));
        ann.push_shared(place);
        ben.push_shared(place);
        assert_eq!(told(&ann, &history, 0), None, "the room no longer has it");
        assert_eq!(told(&ann, &history, 1).as_deref(), Some(" 2,b 3,c 4,d 5,e"));
        assert_eq!(told(&ben, &history, 1).as_deref(), Some(" 2,own 3,c 4,d 5,e"));
    }

    #[test]
    fn a_run_is_shortened_from_its_old_end() {
        let (mut log, mut history) = (EventLog::new(2, 1000), history(100));
        for text in ["a", "b", "c"] {
            let place = history.push(EventText(text.into()));
            log.push_shared(place);
        }
        assert_eq!(since(&log, &history, 0), None);
        assert_eq!(since(&log, &history, 1), Some(vec![r#"{"seq":2,b"#.into(), r#"{"seq":3,c"#.into()]));
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
    fn a_long_answer_is_kept_until_it_must_have_arrived() {
        let (mut answers, long) = (Answers::new(64, 100_000), "x".repeat(LONG + 1));
        let is_kept = |answers: &Answers, id| matches!(answers.lookup(id), Known::Answered(_));
        for id in 1..=3 {
            answers.begin(id);
            answers.finish(id, if id == 2 { "short".into() } else { long.as_str().into() });
            if id == 2 {
                answers.ping();
                answers.ping();
            }
        }
        answers.arrived();
        assert_eq!([1, 2, 3].map(|id| is_kept(&answers, id)), [false, true, true], "the third came after the ping");
        assert_eq!(answers.lookup(1), Known::Forgotten);
        assert_eq!(answers.bytes, long.len() + 5);
        answers.arrived();
        answers.ping();
        answers.lost();
        answers.arrived();
        assert!(is_kept(&answers, 3), "another socket answers nothing that was sent to the one before");
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
