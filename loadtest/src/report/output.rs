//! The options of reporting, and what is written at the end.
use super::compare::{Comparison, EXIT_WORSE, compare};
use super::model::{LoadResult, Outcome, SCHEMA, Thresholds};
use super::{html, summary};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use std::io;
use std::path::{Path, PathBuf};

/// The exit code of what could not run, or not to its end.
pub const EXIT_NOT_RUN: u8 = 2;

/// To flatten into a program's arguments.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ReportArgs {
    /// Write the result as JSON to this file (`-`: to stdout).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a report with plots to this file: HTML, with everything in it.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Compare with the result (JSON) of an earlier run. Exit code 3 if something is worse beyond its noise.
    #[arg(long, value_name = "OLD.JSON")]
    pub compare: Option<PathBuf>,
    /// The share of packets that may be missing in the end, and that may need repair (0.001 is 0.1%). Without it none may be missing, and 0.1% repaired.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub max_loss: Option<f64>,
    /// The run fails if p99 latency is above this. Without it latency is told, not judged.
    #[arg(long, value_name = "MS")]
    pub max_p99_ms: Option<u64>,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("not between 0 and 1".to_owned()) }
}

/// Where the result goes; made before the run, so that a mistake is told at once.
#[derive(Debug)]
pub struct Output {
    args: ReportArgs,
    old: Option<LoadResult>,
}

impl ReportArgs {
    /// What is asked of the server, over what the scenario asks by itself.
    pub fn thresholds(&self, default: Thresholds) -> Thresholds {
        Thresholds {
            max_loss_share: self.max_loss.unwrap_or(default.max_loss_share),
            max_repair_share: self.max_loss.unwrap_or(default.max_repair_share),
            max_p99_us: self.max_p99_ms.map(|ms| ms * 1_000).or(default.max_p99_us),
            ..default
        }
    }

    /// Reads what is to be compared with, and sees that the files can be written.
    pub fn open(self) -> Result<Output, String> {
        let old = self.compare.as_deref().map(read).transpose()?;
        for file in [&self.json, &self.html].into_iter().flatten().filter(|file| !is_stdout(file)) {
            let parent = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if !parent.is_dir() {
                return Err(format!("{}: there is no such directory", parent.display()));
            }
        }
        Ok(Output { args: self, old })
    }
}

impl Output {
    /// Writes the reports, and to stderr what people read at the end. Returns the exit code: 0 clean, 1 the server failed, 2 stopped, 3 worse than compared, 4 the
    /// load test could not keep up.
    pub fn finish(&self, result: &LoadResult) -> Result<u8, String> {
        let comparison = self.old.as_ref().map(|old| compare(old, result)).transpose();
        let shown = comparison.as_ref().ok().and_then(Option::as_ref);
        if let Some(file) = &self.args.json {
            write(file, &result.to_json()?)?;
        }
        if let Some(file) = &self.args.html {
            write(file, &html::page(result, shown))?;
        }
        eprint!("{}", summary::summary(result));
        if let Some(comparison) = shown {
            eprint!("\nagainst the earlier run\n{}", comparison.table());
        }
        let code = exit_code(result, shown);
        comparison.map(|_| code)
    }
}

/// A search that found something is clean, whatever its last step was. What was stopped did not run.
fn exit_code(result: &LoadResult, comparison: Option<&Comparison>) -> u8 {
    if result.interrupted {
        return EXIT_NOT_RUN;
    }
    let found_limit = result.limit.as_ref().is_some_and(|l| l.carried.is_some());
    let outcome = if found_limit { Outcome::Clean } else { result.verdict.outcome };
    match outcome.exit_code() {
        0 if comparison.is_some_and(Comparison::is_worse) => EXIT_WORSE,
        code => code,
    }
}

fn is_stdout(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    if is_stdout(file) {
        println!("{text}");
        return Ok(());
    }
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn read(file: &Path) -> Result<LoadResult, String> {
    let of_file = |error: String| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| of_file(error.to_string()))?;
    LoadResult::from_json(&text).map_err(of_file)
}

impl LoadResult {
    pub fn to_json(&self) -> Result<String, String> {
        let mut bytes = Vec::with_capacity(64 << 10);
        self.serialize(&mut Serializer::with_formatter(&mut bytes, Lines::default())).map_err(|e| e.to_string())?;
        String::from_utf8(bytes).map_err(|e| e.to_string())
    }

    /// Reads what `to_json` wrote, of this version of the format.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let result: Self =
            serde_json::from_str(text).map_err(|error| format!("not a result of a load test: {error}"))?;
        if result.schema != SCHEMA {
            return Err(format!("a result of schema {}, where {SCHEMA} is known", result.schema));
        }
        Ok(result)
    }
}

/// JSON with a line for each sample and each figure of the outer objects, and what is deeper on that line.
#[derive(Default)]
struct Lines {
    depth: usize,
    filled: bool,
}

impl Lines {
    const DEPTH: usize = 2;

    fn begin<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        (self.depth, self.filled) = (self.depth + 1, false);
        writer.write_all(bracket)
    }

    fn end<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled && self.depth < Self::DEPTH {
            self.line(writer)?;
        }
        self.filled = true;
        writer.write_all(bracket)
    }

    fn item<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.filled = true;
        match (first, self.depth <= Self::DEPTH) {
            (true, false) => Ok(()),
            (false, false) => writer.write_all(b", "),
            (true, true) => self.line(writer),
            (false, true) => writer.write_all(b",").and_then(|()| self.line(writer)),
        }
    }

    fn line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"  "))
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn a_result_comes_back_from_json() {
        let result = example::classroom();
        let (json, close) = (result.to_json().unwrap(), |a: f64, b: f64| (a - b).abs() < 1e-5);
        let read = LoadResult::from_json(&json).unwrap();
        assert!(read.to_json().unwrap() == json);
        let lines: Vec<&str> = json.lines().collect();
        assert_eq!(lines.iter().filter(|l| l.starts_with("    {\"atMs\": ")).count(), result.samples.len());
        assert!(lines.contains(&"    \"cores\": 2,") && lines.iter().all(|l| !l.starts_with("      ")));
        assert!(read.totals == result.totals && close(read.machine.load_before, result.machine.load_before));
        assert!(LoadResult::from_json("{}").unwrap_err().contains("schema 0"));
        assert!(LoadResult::from_json("[]").is_err());
    }

    #[test]
    fn exit_codes() {
        let clean = example::classroom();
        let mut slow = example::classroom();
        slow.server.get_or_insert_default().cpu.get_or_insert_default().user_us *= 2;
        let worse = compare(&clean, &slow).unwrap();
        assert_eq!((exit_code(&clean, None), exit_code(&slow, Some(&worse))), (0, EXIT_WORSE));
        let mut failed = example::classroom();
        failed.verdict.outcome = Outcome::ServerLost;
        assert_eq!((exit_code(&failed, None), exit_code(&failed, Some(&worse))), (1, 1));
        failed.limit = Some(super::super::model::Limit { carried: Some(900), ..Default::default() });
        assert_eq!(exit_code(&failed, None), 0);
        failed.interrupted = true;
        assert_eq!(exit_code(&failed, None), EXIT_NOT_RUN);
    }

    #[test]
    fn a_file_that_is_not_there_is_told_before_the_run() {
        let args = ReportArgs { compare: Some("/nowhere/old.json".into()), ..Default::default() };
        assert!(args.open().unwrap_err().starts_with("/nowhere/old.json: "));
        let args = ReportArgs { html: Some("/nowhere/report.html".into()), ..Default::default() };
        assert!(args.open().unwrap_err().contains("no such directory"));
    }
}
