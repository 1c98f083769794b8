//! What happens in a scenario while it is measured.
use super::script::Cast;
use super::{Name, Options};
use crate::carrier::Stage;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a broken socket stays broken.
const AWAY: Duration = Duration::from_millis(700);
/// Things that may be made good in one turn when the thread was late.
const MAX_BURST: usize = 16;

/// See the module.
pub(super) struct Play {
    rng: SmallRng,
    /// Visitors who come, and how long they stay.
    joins: Option<Every>,
    stay: Duration,
    visitors: VecDeque<(Instant, usize)>,
    /// Sockets that break, views that change.
    changes: Option<Every>,
    away: VecDeque<(Instant, usize)>,
    /// Messages and raised hands of viewers.
    presence: Option<Every>,
    steady: Vec<usize>,
    count: u64,
}

/// Something that happens again and again.
#[derive(Clone, Copy)]
struct Every {
    interval: Duration,
    next: Option<Instant>,
}

impl Every {
    fn second(rate: u32) -> Option<Self> {
        (rate > 0).then(|| Self { interval: Duration::from_secs(1) / rate, next: None })
    }

    /// How often it is due now.
    fn due(&mut self, now: Instant) -> usize {
        let mut count = 0;
        while let Some(at) = self.next.filter(|at| *at <= now && count < MAX_BURST) {
            (self.next, count) = (Some(at + self.interval), count + 1);
        }
        count
    }
}

impl Play {
    pub(super) fn new(name: Name, options: &Options) -> Self {
        let storm = matches!(name, Name::JoinStorm | Name::Churn);
        Self {
            rng: SmallRng::seed_from_u64(options.seed),
            joins: Every::second(options.storm_rate(name)).filter(|_| storm),
            stay: options.stay(name),
            visitors: VecDeque::new(),
            changes: Every::second(options.changes).filter(|_| name == Name::Churn),
            away: VecDeque::new(),
            presence: Every::second(options.presence).filter(|_| name == Name::Webinar && !options.silent),
            steady: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn begin(&mut self, now: Instant, steady: &[usize]) {
        self.steady = steady.to_vec();
        [&mut self.joins, &mut self.changes, &mut self.presence]
            .into_iter()
            .flatten()
            .for_each(|every| every.next = Some(now));
    }

    /// All visitors leave.
    pub(super) fn end(&mut self, now: Instant, stage: &mut Stage) {
        self.away.clear();
        self.visitors.drain(..).for_each(|(_, index)| stage.leave(now, index));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let regular = [self.joins, self.changes, self.presence].into_iter().flatten().filter_map(|every| every.next);
        let fronts = [self.visitors.front(), self.away.front()].into_iter().flatten().map(|(at, _)| *at);
        regular.chain(fronts).min()
    }

    pub(super) fn visitors(&self) -> usize {
        self.visitors.len()
    }

    pub(super) fn turn(&mut self, now: Instant, stage: &mut Stage, cast: &mut Cast) {
        while let Some(index) = pop_due(&mut self.visitors, now) {
            self.away.retain(|(_, away)| *away != index);
            stage.leave(now, index);
        }
        while let Some(index) = pop_due(&mut self.away, now) {
            stage.resume(now, index);
        }
        for _ in 0..self.joins.as_mut().map_or(0, |every| every.due(now)) {
            let index = stage.join(now, cast.visitor());
            self.visitors.push_back((now + self.stay, index));
        }
        for _ in 0..self.changes.as_mut().map_or(0, |every| every.due(now)) {
            self.change(now, stage);
        }
        for _ in 0..self.presence.as_mut().map_or(0, |every| every.due(now)) {
            self.show_presence(stage);
        }
    }

    /// A visitor's socket breaks, or a visitor looks at something else.
    fn change(&mut self, now: Instant, stage: &mut Stage) {
        if self.visitors.is_empty() {
            return;
        }
        let (leaves, index) = self.visitors[self.rng.random_range(0..self.visitors.len())];
        let settled = stage.is_in(index) && self.away.iter().all(|(_, away)| *away != index);
        if !settled || leaves < now + AWAY * 3 {
            return;
        }
        self.count += 1;
        if self.count.is_multiple_of(2) {
            stage.break_socket(index);
            self.away.push_back((now + AWAY, index));
            return;
        }
        let size = [(320, 180), (640, 360), (1_280, 720), (0, 0)][self.rng.random_range(0..4)];
        stage.act(index, |participant| {
            let view = |track: &String| (track.clone(), json!({"w": size.0, "h": size.1, "paused": size.0 == 0}));
            let tracks: serde_json::Map<String, serde_json::Value> = participant.tracks.keys().map(view).collect();
            participant.request("view", json!({"tracks": tracks}));
        });
    }

    /// A viewer writes a message, or raises or lowers a hand.
    fn show_presence(&mut self, stage: &mut Stage) {
        if self.steady.is_empty() {
            return;
        }
        let index = self.steady[self.rng.random_range(0..self.steady.len())];
        self.count += 1;
        let count = self.count;
        stage.act(index, |participant| match count % 3 {
            0 => participant.request("say", json!({"topic": "chat", "body": format!("message {count}")})),
            raised => participant.request("set", json!({"attributes": {"hand": raised == 1}})),
        });
    }
}

fn pop_due(queue: &mut VecDeque<(Instant, usize)>, now: Instant) -> Option<usize> {
    queue.front().filter(|(at, _)| *at <= now)?;
    queue.pop_front().map(|(_, index)| index)
}
