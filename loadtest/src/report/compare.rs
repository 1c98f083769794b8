//! A run against an earlier one: better, worse, or the same within the noise.
use super::figures::{Better, Figure, Unit, figures};
use super::model::LoadResult;
use super::text;
use std::fmt::Write as _;

/// The exit code of a run that was clean and worse than what it was compared with.
pub const EXIT_WORSE: u8 = 3;

#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What was not alike in the two runs, in words: the machine, options, the old run's verdict.
    pub differences: Vec<String>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// As it is now; its noise decides.
    pub new: Figure,
    pub old: f64,
    pub change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Better,
    Worse,
    /// Within the noise, or not to be judged.
    Same,
}

/// Compares what both runs have. An error says why they cannot be compared.
pub fn compare(old: &LoadResult, new: &LoadResult) -> Result<Comparison, String> {
    if old.schema != new.schema {
        return Err(format!("the old result has schema {}, this one {}", old.schema, new.schema));
    }
    if old.scenario.name != new.scenario.name {
        return Err(format!("the old result is of {}, this one of {}", old.scenario.name, new.scenario.name));
    }
    let before = figures(old);
    let disturbed = [old, new].into_iter().any(|run| run.disturbance().is_some());
    let find = |new: &Figure| before.iter().find(|old| old.key == new.key).map(|old| old.value);
    let rows = figures(new).into_iter().filter_map(|mut new| {
        let old = find(&new)?;
        if disturbed && new.unit == Unit::Microseconds {
            new.better = Better::Neither;
        }
        Some(Row { new, old, change: change(old, &new) })
    });
    Ok(Comparison { rows: rows.collect(), differences: differences(old, new) })
}

impl Comparison {
    pub fn is_worse(&self) -> bool {
        self.rows.iter().any(|row| row.change == Change::Worse)
    }

    /// For a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for difference in &self.differences {
            let _ = writeln!(text, "  not alike: {difference}");
        }
        let _ = writeln!(text, "  {:<38}{:>12}{:>12}{:>9}   {:<8}noise", "", "old", "new", "ratio", "");
        for row in &self.rows {
            let (old, new) = (row.new.unit.show(row.old), row.new.unit.show(row.new.value));
            let (ratio, change, noise) = (row.ratio_text(), row.change.word(), row.noise_text());
            let _ = writeln!(text, "  {:<38}{old:>12}{new:>12}{ratio:>9}   {change:<8}{noise}", row.new.name);
        }
        text
    }
}

impl Row {
    /// New over old.
    pub fn ratio(&self) -> Option<f64> {
        (self.old != 0.0).then(|| self.new.value / self.old)
    }

    pub fn ratio_text(&self) -> String {
        self.ratio().map_or("–".to_owned(), |ratio| format!("{ratio:.2}"))
    }

    /// What is taken for noise: "±10%", "±2 ms".
    pub fn noise_text(&self) -> String {
        match self.new.better {
            Better::Neither => "not judged".to_owned(),
            _ if self.old.abs() * self.new.noise_share >= self.new.noise_at_least => {
                format!("±{}", text::percent(self.new.noise_share))
            }
            _ => format!("±{}", self.new.unit.show(self.new.noise_at_least)),
        }
    }
}

impl Change {
    pub fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
        }
    }
}

fn change(old: f64, new: &Figure) -> Change {
    let noise = (old.abs() * new.noise_share).max(new.noise_at_least);
    let grown = new.value - old;
    match new.better {
        Better::Neither => Change::Same,
        _ if grown.abs() <= noise => Change::Same,
        Better::Lower if grown > 0.0 => Change::Worse,
        Better::Higher if grown < 0.0 => Change::Worse,
        Better::Lower | Better::Higher => Change::Better,
    }
}

fn differences(old: &LoadResult, new: &LoadResult) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, old: String, new: String| {
        if old != new {
            found.push(format!("{what}: {old} then, {new} now"));
        }
    };
    differ("the processor", old.machine.cpu_model.clone(), new.machine.cpu_model.clone());
    differ("cores", old.machine.cores.to_string(), new.machine.cores.to_string());
    differ("the kernel", old.machine.kernel.clone(), new.machine.kernel.clone());
    let shown = |value: Option<&serde_json::Value>| value.map_or("not set".to_owned(), ToString::to_string);
    let (then, now) = (&old.scenario.options, &new.scenario.options);
    let only_old = then.keys().filter(|name| !now.contains_key(*name));
    for name in now.keys().chain(only_old) {
        differ(name, shown(then.get(name)), shown(now.get(name)));
    }
    for (run, when) in [(old, "then"), (new, "now")] {
        let cores = run.disturbance().map(text::number);
        found.extend(cores.map(|n| format!("other programs used {n} cores {when}, so durations are not judged")));
    }
    if old.verdict.outcome != super::model::Outcome::Clean {
        found.push(format!("the old run was not clean: {}", old.verdict.outcome.words()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    fn compared(change: impl FnOnce(&mut LoadResult)) -> Comparison {
        let (old, mut new) = (example::classroom(), example::classroom());
        change(&mut new);
        compare(&old, &new).unwrap()
    }

    fn row(comparison: &Comparison, key: &str) -> Change {
        comparison.rows.iter().find(|r| r.new.key == key).unwrap().change
    }

    #[test]
    fn a_run_is_the_same_as_itself() {
        let comparison = compared(|_| ());
        assert!(comparison.rows.len() > 12 && comparison.differences.is_empty());
        assert!(comparison.rows.iter().all(|r| r.change == Change::Same), "{}", comparison.table());
    }

    #[test]
    fn noise_is_the_same_and_more_is_not() {
        let cpu = |factor: f64| {
            compared(|r| {
                let cpu = r.server.get_or_insert_default().cpu.get_or_insert_default();
                cpu.user_us = (cpu.total_us() as f64 * factor) as u64;
                cpu.system_us = 0;
            })
        };
        assert_eq!(row(&cpu(1.08), "cpuPerPacket"), Change::Same);
        assert_eq!(row(&cpu(1.25), "cpuPerPacket"), Change::Worse);
        assert_eq!(row(&cpu(0.5), "cpuPerPacket"), Change::Better);
        assert!(cpu(1.25).is_worse() && !cpu(0.5).is_worse());
        assert_eq!(row(&compared(|r| r.totals.video.lost = 100), "loss"), Change::Worse);
        assert_eq!(row(&compared(|r| r.server.get_or_insert_default().sends /= 2), "sendBatch"), Change::Better);
        assert_eq!(row(&compared(|r| r.generator.cpu.user_us *= 9), "generatorCpu"), Change::Same);
    }

    #[test]
    fn tells_what_was_not_alike() {
        let comparison = compared(|r| {
            r.machine.cores = 1;
            r.scenario.options.insert("subscribers".to_owned(), 400.into());
        });
        assert_eq!(comparison.differences, ["cores: 2 then, 1 now", "subscribers: 300 then, 400 now"]);
        let (old, mut new) = (example::classroom(), example::classroom());
        new.scenario.name = "conference".to_owned();
        assert!(compare(&old, &new).is_err());
    }

    #[test]
    fn durations_are_not_judged_on_a_machine_that_was_busy_otherwise() {
        let comparison = compared(|r| {
            r.samples.iter_mut().for_each(|s| s.machine.busy_share = 1.0);
            r.totals.video.latency.record_many_us(90_000, 1 << 30);
        });
        assert_eq!(row(&comparison, "latencyP99"), Change::Same);
        assert_eq!(comparison.differences, ["other programs used 1.43 cores now, so durations are not judged"]);
    }

    #[test]
    fn a_figure_that_one_run_lacks_is_not_compared() {
        let comparison = compared(|r| r.server = None);
        assert!(comparison.rows.iter().all(|r| r.new.key != "cpuPerPacket"));
    }
}
