//! `--find-limit`: which load to try next, and what gave way. Pure: the main loop runs the steps.
//!
//! ```text
//! while let Some(step) = controller.next() { controller.take(step, run(step.load)); }
//! let result = controller.into_result();
//! ```
use super::model::{GaveWay, Limit, LimitStep, LoadResult, Outcome, Phase, ServerFigures, Thresholds};
use super::text::count;
use super::verdict::{send_drops, server_losses, verdict};

/// A step is half as large again, until one fails.
const GROWTH: f64 = 1.5;
/// The search ends when the load that failed is at most this much above the one that was carried.
const RESOLUTION: f64 = 0.05;
/// No search takes more steps.
const MAX_STEPS: usize = 40;
/// From this part of its capacity on, the server's CPU is what gave way.
const CPU_IS_FULL: f64 = 0.9;
/// And from this part of the whole machine.
const MACHINE_IS_FULL: f64 = 0.97;

/// What is asked of each step of a search: server loss of at most 0.1%, before or after repair, and 50 ms at p99.
pub fn thresholds() -> Thresholds {
    Thresholds { max_loss_share: 0.001, max_p99_us: Some(50_000), ..Default::default() }
}

/// Looks for the highest load that is carried: grows geometrically until a step fails, then halves the gap.
#[derive(Clone, Debug)]
pub struct Controller {
    unit: String,
    max: u64,
    next: u64,
    carried: Option<u64>,
    /// The lowest load that failed.
    failed: Option<u64>,
    steps: Vec<LimitStep>,
    /// Of the highest load that was carried; of the last one until one was.
    best: Option<Box<LoadResult>>,
}

/// A load to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub load: u64,
    /// From 1.
    pub number: usize,
}

/// What came of a step.
pub type StepResult = LimitStep;

impl Controller {
    /// `unit` is what is raised ("viewers"); `start` is tried first, and nothing above `max`.
    pub fn new(unit: &str, start: u64, max: u64) -> Self {
        let next = start.clamp(1, max.max(1));
        Self {
            unit: unit.to_owned(),
            max: max.max(1),
            next,
            carried: None,
            failed: None,
            steps: Vec::new(),
            best: None,
        }
    }

    /// The load to try next; none when the limit is known as well as it will be.
    #[allow(clippy::should_implement_trait, reason = "an iterator would not be told what came of its items")]
    pub fn next(&self) -> Option<Step> {
        let tried_all = self.steps.len() >= MAX_STEPS || self.carried == Some(self.max);
        (!tried_all && !self.is_narrow()).then_some(Step { load: self.next, number: self.steps.len() + 1 })
    }

    /// Takes the run of the step that `next` told, judged by the thresholds that it was run with.
    pub fn take(&mut self, step: Step, result: LoadResult) {
        let judged = StepResult::of(step, &result);
        if self.carried.is_none() || judged.passed && self.carried < Some(step.load) {
            self.best = Some(Box::new(result));
        }
        self.finished(judged);
    }

    /// The run of the highest load that was carried (of the last that was tried if none was), with what the search found. None before the first step.
    pub fn into_result(mut self) -> Option<LoadResult> {
        let mut result = self.best.take()?;
        result.verdict = verdict(&result);
        result.limit = Some(self.limit());
        Some(*result)
    }

    /// Takes what came of the step that `next` told.
    pub fn finished(&mut self, result: StepResult) {
        if result.passed {
            self.carried = self.carried.max(Some(result.load));
        } else if self.failed.is_none_or(|failed| result.load < failed) {
            self.failed = Some(result.load);
        }
        self.steps.push(result);
        let carried = self.carried.unwrap_or(0);
        self.next = match self.failed {
            Some(failed) => carried + (failed.saturating_sub(carried) / 2).max(1),
            None => ((carried as f64 * GROWTH).ceil() as u64).min(self.max),
        };
    }

    /// What was found so far.
    pub fn limit(&self) -> Limit {
        let limiting = self.failed.and_then(|load| self.steps.iter().rev().find(|s| s.load == load && !s.passed));
        let gave_way = limiting.map_or(GaveWay::Nothing, |s| s.gave_way);
        let why = match limiting {
            Some(step) if gave_way == GaveWay::Generator => {
                format!("The load test gave way at {}, not the server: {}.", count(step.load), step.why)
            }
            Some(step) => format!("At {} {}: {}.", count(step.load), gave_way.words(), step.why),
            None => "Everything that was tried was carried.".to_owned(),
        };
        Limit {
            unit: self.unit.clone(),
            carried: self.carried,
            failed: self.failed,
            gave_way,
            why,
            steps: self.steps.clone(),
        }
    }

    fn is_narrow(&self) -> bool {
        let Some(failed) = self.failed else { return false };
        let carried = self.carried.unwrap_or(0);
        let gap = failed.saturating_sub(carried);
        gap <= 1 || gap as f64 <= carried as f64 * RESOLUTION
    }
}

impl GaveWay {
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing gave way",
            Self::ServerCpu => "the server had no CPU left",
            Self::SocketBuffers => "the server's socket buffers were full",
            Self::Latency => "packets took too long",
            Self::Server => "the server failed",
            Self::Generator => "the load test gave way",
        }
    }
}

impl LimitStep {
    /// Judges a run of that load by the thresholds it was run with.
    pub fn of(step: Step, result: &LoadResult) -> Self {
        let verdict = verdict(result);
        let (media, server) = (result.totals.media(), result.server.as_ref());
        let server_cpu_share = server.and_then(|s| Some(s.cpu?.share(s.measured_ms)));
        let losses = server_losses(&media, &result.generator);
        let lost = losses.lost_before_repair.max(losses.lost);
        Self {
            load: step.load,
            passed: verdict.outcome == Outcome::Clean,
            gave_way: gave_way(result, verdict.outcome, server_cpu_share),
            why: verdict.reasons.into_iter().next().filter(|_| verdict.outcome != Outcome::Clean).unwrap_or_default(),
            server_loss_share: super::model::share(lost, media.expected),
            p99_us: media.latency.quantile_us(0.99).unwrap_or(0),
            packets_per_s: server.map_or(0.0, ServerFigures::packets_out_per_s),
            server_cpu_share,
            generator_cpu_share: result.generator.cpu.share(result.generator.measured_ms),
        }
    }
}

fn gave_way(result: &LoadResult, outcome: Outcome, server_cpu_share: Option<f64>) -> GaveWay {
    match outcome {
        Outcome::Clean => return GaveWay::Nothing,
        Outcome::GeneratorLimited => return GaveWay::Generator,
        Outcome::Broken if result.totals.fault_count > 0 => return GaveWay::Server,
        Outcome::ServerLost | Outcome::Broken => (),
    }
    let server = result.server.as_ref();
    let cpu_is_full = server_cpu_share.zip(server).is_some_and(|(used, s)| used >= CPU_IS_FULL * s.capacity());
    let measuring = || result.samples.iter().filter(|s| s.phase == Phase::Measuring);
    let busy = measuring().map(|s| s.machine.busy_share).sum::<f64>() / measuring().count().max(1) as f64;
    let media = result.totals.media();
    let late = result.thresholds.max_p99_us.is_some_and(|most| media.latency.quantile_us(0.99) > Some(most));
    match server {
        _ if cpu_is_full || busy >= MACHINE_IS_FULL => GaveWay::ServerCpu,
        Some(server) if server.socket_drops > 0 || !send_drops(server).is_empty() => GaveWay::SocketBuffers,
        _ if late => GaveWay::Latency,
        _ => GaveWay::Server,
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use proptest::prelude::*;

    /// A server that carries so much, driven by a generator that can do so much.
    fn search(server: u64, generator: u64, start: u64, max: u64) -> (Limit, usize) {
        let mut controller = Controller::new("viewers", start, max);
        while let Some(step) = controller.next() {
            assert!((1..=max).contains(&step.load), "{step:?}");
            let gave_way = match step.load {
                load if load > generator => GaveWay::Generator,
                load if load > server => GaveWay::ServerCpu,
                _ => GaveWay::Nothing,
            };
            let passed = gave_way == GaveWay::Nothing;
            controller.finished(LimitStep { load: step.load, passed, gave_way, ..Default::default() });
        }
        (controller.limit(), controller.steps.len())
    }

    proptest! {
        #[test]
        fn finds_the_limit(server in 0..50_000u64, generator in 0..50_000u64, start in 1..5_000u64) {
            let (limit, steps) = search(server, generator, start, 40_000);
            let truth = server.min(generator).min(40_000);
            let carried = limit.carried.unwrap_or(0);
            prop_assert!(carried <= truth, "{carried} > {truth}");
            prop_assert!(truth as f64 <= carried as f64 * (1.0 + RESOLUTION) + 1.0, "{carried} is far below {truth}");
            prop_assert!(steps <= 30, "{steps} steps");
        }

        #[test]
        fn a_generators_failure_is_never_the_servers_limit(server in 1..50_000u64, generator in 1..50_000u64, start in 1..5_000u64) {
            let (limit, _) = search(server, generator, start, 40_000);
            match limit.gave_way {
                GaveWay::Generator => prop_assert!(limit.failed.unwrap() > generator),
                GaveWay::ServerCpu => prop_assert!(limit.failed.unwrap() > server && limit.failed.unwrap() <= generator),
                GaveWay::Nothing => prop_assert_eq!(limit.carried, Some(40_000)),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn ends_whatever_the_steps_say(passed in proptest::collection::vec(any::<bool>(), 100), start in 0..u64::MAX) {
            let mut controller = Controller::new("viewers", start, 1 << 40);
            let mut outcomes = passed.into_iter();
            while let Some(step) = controller.next() {
                let passed = outcomes.next().expect("an end");
                controller.finished(LimitStep { load: step.load, passed, ..Default::default() });
            }
            controller.limit();
        }
    }

    #[test]
    fn what_is_left_of_a_search_is_its_highest_load() {
        let mut controller = Controller::new("viewers", 100, 400);
        assert!(controller.clone().into_result().is_none());
        while let Some(step) = controller.next() {
            let mut result = example::classroom();
            result.totals.subscribers = step.load;
            result.totals.video.lost = u64::from(step.load > 330);
            controller.take(step, result);
        }
        let result = controller.into_result().unwrap();
        let limit = result.limit.unwrap();
        assert_eq!(Some(result.totals.subscribers), limit.carried);
        assert!((314..=330).contains(&limit.carried.unwrap()), "{:?}", limit.carried);
        assert_eq!((result.verdict.outcome, limit.gave_way), (Outcome::Clean, GaveWay::Server));
    }

    fn judged(change: impl FnOnce(&mut LoadResult)) -> LimitStep {
        let mut result = example::classroom();
        result.thresholds = thresholds();
        change(&mut result);
        LimitStep::of(Step { load: 300, number: 1 }, &result)
    }

    fn lossy(result: &mut LoadResult) {
        result.totals.video.lost_before_repair = result.totals.video.expected / 100;
    }

    #[test]
    fn a_step_tells_what_gave_way() {
        assert!(judged(|_| ()).passed);
        let of = |change: fn(&mut ServerFigures)| {
            let step = judged(|r| {
                lossy(r);
                change(r.server.get_or_insert_default());
            });
            assert!(!step.passed && step.server_loss_share > 0.005);
            step.gave_way
        };
        assert_eq!(of(|_| ()), GaveWay::Server);
        assert_eq!(of(|s| s.socket_drops = 9), GaveWay::SocketBuffers);
        assert_eq!(of(|s| s.cpu.get_or_insert_default().user_us = 29_000_000), GaveWay::ServerCpu);
        let late = judged(|r| r.totals.audio.latency.record_many_us(80_000, 1 << 40));
        assert_eq!((late.passed, late.gave_way), (false, GaveWay::Latency));
        let ours = judged(|r| {
            lossy(r);
            r.generator.socket_drops = 1 << 40;
        });
        assert_eq!((ours.passed, ours.gave_way, ours.server_loss_share), (false, GaveWay::Generator, 0.0));
    }
}
