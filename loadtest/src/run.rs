//! One run: clients on their thread, the server's figures once a second, and the result.
use crate::recording::{RecordPlan, Recorder};
use crate::server::{Server, State};
use loadtest::carrier::{self, CarrierConfig, Cohort, Ending, Ports, Report, Second};
use loadtest::kernel::{MachineCpu, SocketDrops, machine};
use loadtest::report::model::{
    Churn, GeneratorFigures, GeneratorSample, LoadResult, Media, Phase, SCHEMA, Sample, Scenario, Thresholds, Totals,
};
use loadtest::report::verdict;
use loadtest::scenario::{Name, Options, Script};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

/// The thread of the clients says something each second; when it says nothing for so long, something is broken.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a server may take to notice that all have left.
const EMPTYING: Duration = Duration::from_secs(5);
/// When the memory of a long run is looked at first.
const EARLY: Duration = Duration::from_secs(300);

/// Plays a scenario once against a server. `see` gets each second.
pub fn run(
    name: Name,
    options: &Options,
    thresholds: Thresholds,
    server: &mut Server,
    record: Option<&RecordPlan>,
    stop: &Arc<AtomicBool>,
    see: &mut dyn FnMut(&Sample),
) -> Result<LoadResult, String> {
    let machine = machine();
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (reports, receiver) = mpsc::channel();
    let ports = Ports::default();
    let director = Box::new(Script::new(name, options)?);
    let idle = server.state();
    let config = CarrierConfig {
        server: server.address.clone(),
        director,
        reports,
        ports: Arc::clone(&ports),
        stop: Arc::clone(stop),
        seed: options.seed,
    };
    let thread = carrier::spawn(config).map_err(|e| format!("cannot start a thread: {e}"))?;
    let duration = options.duration(name);
    let mut watch = Watch::new(name, ports, duration);
    watch.recorder = record.map(|plan| Recorder::new(plan.clone(), duration));
    let ending = watch.follow(&receiver, server, see);
    if ending.is_err() {
        stop.store(true, Ordering::Relaxed);
    }
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(format!("the load test's own sockets: {error}")),
        Err(_) => return Err("the load test's own thread panicked".to_owned()),
    }
    let ending = ending?;
    let scenario = Scenario {
        name: name.text(),
        summary: name.summary(options),
        duration_ms: ending.measured.as_millis() as u64,
        options: options.told(name),
    };
    let mut result = LoadResult {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_ms: started.as_millis() as u64,
        command: std::env::args().collect(),
        machine,
        scenario,
        thresholds,
        interrupted: stop.load(Ordering::Relaxed),
        server: watch.figures(server, &idle),
        recording: watch.recorder.take().map(|recorder| recorder.finish(server)).transpose()?,
        ..LoadResult::default()
    };
    result.generator = watch.generator(&ending);
    result.totals = watch.totals(ending, options);
    if let Some(churn) = &mut result.totals.churn {
        churn.descriptors_before = idle.descriptors();
        churn.descriptors_after = emptied(server, churn.descriptors_before);
    }
    result.samples = watch.samples;
    if let Some(server) = result.server.as_mut().filter(|s| s.datagrams_out == 0) {
        // A server that does not tell: what the receivers got.
        server.packets_out = result.generator.packets_received;
    }
    result.verdict = verdict(&result);
    Ok(result)
}

/// What is seen from outside while it runs.
struct Watch {
    name: Name,
    began: Instant,
    ports: Ports,
    drops: SocketDrops,
    machine: MachineCpu,
    samples: Vec<Sample>,
    /// The server when all were in, and at the end of measuring.
    joined: Option<State>,
    end: Option<State>,
    /// The server's memory early in a long run.
    early: Option<(Instant, u64)>,
    early_after: Duration,
    rss_max: u64,
    recorder: Option<Recorder>,
}

impl Watch {
    fn new(name: Name, ports: Ports, duration: Duration) -> Self {
        Self {
            name,
            began: Instant::now(),
            ports,
            drops: SocketDrops::default(),
            machine: MachineCpu::now(),
            samples: Vec::new(),
            joined: None,
            end: None,
            early: None,
            early_after: EARLY.min(duration / 10),
            rss_max: 0,
            recorder: None,
        }
    }

    fn follow(
        &mut self,
        reports: &mpsc::Receiver<Report>,
        server: &mut Server,
        see: &mut dyn FnMut(&Sample),
    ) -> Result<Ending, String> {
        loop {
            match reports.recv_timeout(SILENCE) {
                Ok(Report::Phase(Phase::Measuring)) => {
                    let state = server.state();
                    self.early = Some((Instant::now() + self.early_after, 0));
                    self.joined = Some(state);
                }
                Ok(Report::Phase(Phase::Settling)) => self.end = Some(server.state()),
                Ok(Report::Phase(Phase::Joining)) => {}
                Ok(Report::Second(second)) => {
                    let sample = self.sample(&second, server)?;
                    see(&sample);
                    self.samples.push(sample);
                    if !server.is_alive() {
                        return Err("the server has ended".to_owned());
                    }
                }
                Ok(Report::Ended(ending)) => return Ok(*ending),
                Err(_) => return Err("the load test's own thread says nothing any more".to_owned()),
            }
        }
    }

    fn sample(&mut self, second: &Second, server: &mut Server) -> Result<Sample, String> {
        let drops = self.ports.lock().map_or(0, |ports| self.drops.update(&ports));
        let now = MachineCpu::now();
        let machine = now.since(&self.machine);
        self.machine = now;
        let state = server.sample();
        if let Some((_, state)) = &state {
            self.rss_max = self.rss_max.max(state.rss_bytes());
            if let Some((at, rss)) = &mut self.early
                && *rss == 0
                && Instant::now() >= *at
            {
                *rss = state.rss_bytes();
            }
        }
        if let (Some(recorder), Some((_, state))) = (&mut self.recorder, &state) {
            recorder.note(second, &machine, state, server)?;
        }
        let media = &second.media;
        Ok(Sample {
            at_ms: self.began.elapsed().as_millis() as u64,
            interval_ms: second.interval.as_millis() as u64,
            phase: second.phase,
            wanted: second.wanted,
            joined: second.joined,
            packets_sent: second.packets_sent,
            packets_received: media.received,
            bytes_received: media.received_bytes,
            lost_before_repair: media.lost_before_repair,
            repaired: media.repaired,
            missing: media.lost,
            duplicates: media.duplicates,
            reordered: media.reordered,
            latency: second.latency,
            first_packet: second.first_packet,
            server: state.map(|(sample, _)| sample),
            generator: GeneratorSample {
                cpu_share: second.cpu_share,
                loop_lag_max_us: second.loop_lag_max_us,
                socket_drops: drops,
                unsent: second.unsent,
            },
            machine,
        })
    }

    fn figures(&self, server: &Server, idle: &State) -> Option<loadtest::report::model::ServerFigures> {
        let (joined, end) = (self.joined.as_ref()?, self.end.as_ref()?);
        Some(end.figures(server.name(), server.pid(), joined, idle, self.rss_max))
    }

    fn generator(&self, ending: &Ending) -> GeneratorFigures {
        GeneratorFigures {
            measured_ms: ending.measured.as_millis() as u64,
            cpu: ending.cpu,
            threads: 1,
            cpu_share_max: ending.cpu_share_max,
            loop_lag: ending.loop_lag.clone(),
            socket_drops: self.drops.total,
            unsent: ending.unsent,
            packets_due: ending.packets_due,
            packets_sent: ending.packets_sent,
            packets_acknowledged: ending.packets_acknowledged,
            packets_missed: ending.packets_missed,
            packets_received: ending.packets_received,
            emulated_losses_down: ending.emulated_losses.0,
            emulated_losses_up: ending.emulated_losses.1,
            receive_buffer_bytes: ending.receive_buffer,
            datagrams_per_buffer_max: ending.datagrams_per_buffer_max,
        }
    }

    fn totals(&self, ending: Ending, options: &Options) -> Totals {
        let mut joins = ending.joins;
        joins.rate_per_s = match self.name {
            Name::JoinStorm | Name::Churn => options.storm_rate(self.name).into(),
            _ => options.rate.into(),
        };
        let both = |cohort: Cohort| {
            let [audio, video] = &ending.cohorts[cohort as usize];
            let mut media = audio.clone();
            media.merge(video);
            media
        };
        let storm = matches!(self.name, Name::JoinStorm | Name::Churn);
        let incumbents = storm.then(|| both(Cohort::Steady));
        let impaired = (self.name == Name::BadNetwork).then(|| both(Cohort::Impaired));
        let churn = storm.then(|| Churn {
            joins: joins.joined,
            leaves: ending.leaves,
            resumes: ending.resumes,
            failed_resumes: ending.failed_resumes,
            changes: ending.changes,
            rss_early_bytes: self.early.map_or(0, |(_, rss)| rss),
            rss_late_bytes: self.end.as_ref().map_or(0, State::rss_bytes),
            ..Churn::default()
        });
        let [audio, video] = healthy(ending.cohorts);
        Totals {
            elapsed_ms: self.began.elapsed().as_millis() as u64,
            publishers: ending.publishers,
            subscribers: ending.subscribers,
            joins,
            audio,
            video,
            incumbents,
            impaired,
            churn,
            fault_count: ending.fault_count,
            faults: ending.faults,
        }
    }
}

/// The server's descriptors once all have left: as soon as they are `before`, or after some patience.
fn emptied(server: &mut Server, before: u64) -> u64 {
    let patience = Instant::now() + EMPTYING;
    loop {
        let descriptors = server.state().descriptors();
        if descriptors <= before || Instant::now() >= patience {
            return descriptors;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Audio and video of all whose network the load test does not spoil.
fn healthy(cohorts: [[Media; 2]; Cohort::ALL.len()]) -> [Media; 2] {
    let mut sums: [Media; 2] = Default::default();
    for (cohort, kinds) in Cohort::ALL.into_iter().zip(cohorts) {
        if cohort != Cohort::Impaired {
            sums.iter_mut().zip(&kinds).for_each(|(sum, media)| sum.merge(media));
        }
    }
    sums
}
