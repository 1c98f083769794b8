//! The course of every scenario: people join at a rate; when all are in, and the first bustle is over, it is measured; then all fall silent.
use super::play::Play;
use super::{Name, Options};
use crate::carrier::{Cohort, Director, JoinPlan, Stage};
use crate::client::{Epoch, Settings, TrackConfig};
use crate::report::model::Phase;
use exedra::peer::LocalIdentity;
use std::time::{Duration, Instant, SystemTime};

/// Between the last join and the first second that is measured: keyframes have come, queues are empty.
pub(super) const STEADYING: Duration = Duration::from_secs(2);
/// Whoever is not in by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often the script looks whether all are in.
const REVIEW: Duration = Duration::from_millis(100);
/// Slots that a server offers to one participant; ours are these.
const SLOT_LIMITS: (u32, u32) = (20, 25);
/// Joins that may be made good in one turn when the thread was late.
const MAX_BURST: usize = 8;

/// See the module.
pub struct Script {
    cast: Cast,
    people: u32,
    duration: Duration,
    step: Step,
    next: Option<Instant>,
    interval: Duration,
    joined: Vec<usize>,
    play: Play,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next one joins.
    Joining,
    /// All have been called; until when they are waited for.
    Waiting {
        until: Instant,
    },
    /// All are in.
    Steadying,
    Measuring {
        until: Instant,
    },
    Settling,
    Over,
}

/// Makes the people.
pub(super) struct Cast {
    name: Name,
    options: Options,
    epoch: Epoch,
    identity: LocalIdentity,
    next_id: u32,
    visitors: u32,
}

impl Script {
    pub fn new(name: Name, options: &Options) -> Result<Self, String> {
        options.check(name)?;
        let identity = LocalIdentity::generate().map_err(|e| e.to_string())?;
        let epoch = Epoch { start: Instant::now(), ntp: ntp_now() };
        let people = match name {
            Name::Conference => options.subscribers(name),
            _ => options.publishers(name) + options.subscribers(name),
        };
        let cast = Cast { name, options: options.clone(), epoch, identity, next_id: 0, visitors: 0 };
        Ok(Self {
            cast,
            people,
            duration: options.duration(name),
            step: Step::Joining,
            next: None,
            interval: Duration::from_secs(1) / options.rate.max(1),
            joined: Vec::new(),
            play: Play::new(name, options),
        })
    }

    fn join_next(&mut self, now: Instant, stage: &mut Stage) {
        let mut due = self.next.unwrap_or(now);
        for _ in 0..MAX_BURST {
            if due > now || self.joined.len() as u32 == self.people {
                break;
            }
            let plan = self.cast.person(self.joined.len() as u32);
            self.joined.push(stage.join(now, plan));
            due += self.interval;
        }
        self.next = Some(due.max(now));
        if self.joined.len() as u32 == self.people {
            (self.step, self.next) = (Step::Waiting { until: now + PATIENCE }, Some(now + REVIEW));
        }
    }
}

impl Director for Script {
    fn turn(&mut self, now: Instant, stage: &mut Stage) {
        match self.step {
            Step::Joining => self.join_next(now, stage),
            Step::Waiting { until } => {
                let all = self.joined.iter().all(|index| stage.is_in(*index));
                self.next = Some(now + REVIEW);
                if all || now >= until {
                    (self.step, self.next) = (Step::Steadying, Some(now + STEADYING));
                }
            }
            Step::Steadying => {
                stage.set_phase(Phase::Measuring);
                self.play.begin(now, &self.joined);
                (self.step, self.next) = (Step::Measuring { until: now + self.duration }, None);
                self.next = Some(self.play.next().map_or(now + self.duration, |at| at.min(now + self.duration)));
            }
            Step::Measuring { until } if now >= until => {
                stage.set_phase(Phase::Settling);
                self.play.end(now, stage);
                (self.step, self.next) = (Step::Settling, Some(now + self.cast.name.settling()));
            }
            Step::Measuring { until } => {
                self.play.turn(now, stage, &mut self.cast);
                self.next = Some(self.play.next().map_or(until, |at| at.min(until)));
            }
            Step::Settling => {
                stage.end();
                (self.step, self.next) = (Step::Over, Some(now + PATIENCE));
            }
            Step::Over => self.next = Some(now + PATIENCE),
        }
    }

    fn next_turn(&self) -> Option<Instant> {
        self.next
    }

    fn wanted(&self) -> u64 {
        self.joined.len() as u64 + self.play.visitors() as u64
    }
}

impl Cast {
    /// Who comes as the `index`-th.
    fn person(&mut self, index: u32) -> JoinPlan {
        let (name, options) = (self.name, &self.options);
        let publishers = if name == Name::Conference { options.subscribers(name) } else { options.publishers(name) };
        let publishes = index < publishers && !options.silent;
        let tracks = if publishes { options.tracks(name) } else { Vec::new() };
        let watched = match name {
            Name::Conference => publishers.saturating_sub(1),
            _ => publishers.saturating_sub(u32::from(publishes)),
        };
        let expects = options.expected(name, watched, SLOT_LIMITS);
        // The publishers' own networks are good, so that what is lost is one viewer's alone.
        let share = (f64::from(options.subscribers(name)) * options.impaired).round() as u32;
        let impaired = name == Name::BadNetwork && !publishes && index - publishers < share;
        let mut plan = self.plan(tracks, Cohort::Steady, expects);
        if impaired {
            (plan.cohort, plan.network) = (Cohort::Impaired, Some(self.options.impairment()));
        }
        plan
    }

    /// Somebody who comes for a while, and watches.
    pub(super) fn visitor(&mut self) -> JoinPlan {
        self.visitors += 1;
        let expects = self.options.expected(self.name, self.options.publishers(self.name), SLOT_LIMITS);
        self.plan(Vec::new(), Cohort::Visitor, expects)
    }

    fn plan(&mut self, publish: Vec<TrackConfig>, cohort: Cohort, expects: (usize, usize)) -> JoinPlan {
        let id = self.next_id;
        self.next_id += 1;
        let settings = Settings {
            room: self.options.room.clone(),
            name: format!("load {id}"),
            id,
            publish,
            subscribe: true,
            epoch: self.epoch,
            seed: self.options.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(id)),
            identity: self.identity.clone(),
            most_slots: (usize::MAX, self.options.video_slots.map_or(usize::MAX, |n| n as usize)),
            stays_on: self.options.cameras_stay_on,
            rtx: true,
            view: self.options.view,
            feedback: self.options.feedback,
            mends: true,
            codecs: vec![self.options.codec],
            roster: false,
        };
        let http = self.options.http(!settings.publish.is_empty());
        // Over WHIP one only publishes.
        let only_publishes = http.is_some() && !settings.publish.is_empty();
        let expects = if only_publishes { (0, 0) } else { expects };
        let settings = Settings { subscribe: !only_publishes, ..settings };
        JoinPlan { settings, http, cohort, expects, network: None }
    }
}

/// The time as NTP has it (RFC 3550 section 4).
fn ntp_now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ((since_1970.as_secs() + 2_208_988_800) << 32) + ((u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000)
}
