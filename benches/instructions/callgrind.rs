//! Runs a case under callgrind, and reads what it counted.
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Instructions, by where the function is from.
#[derive(Debug, Default)]
pub struct Count {
    pub own: u64,
    pub cipher: u64,
    pub system: u64,
    pub functions: BTreeMap<String, u64>,
}

pub fn count(case: &str) -> Result<Count, String> {
    let program = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
    let out = Output(std::env::temp_dir().join(format!("callgrind.{}.out", std::process::id())));
    let ran = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--toggle-collect=*instructions*measured*", "--compress-strings=yes"])
        .arg(format!("--callgrind-out-file={}", out.0.display()))
        .arg(program)
        .args(["--case", case])
        .stdout(Stdio::null())
        .output();
    let ran = match ran {
        Ok(ran) => ran,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("valgrind is not installed (Debian: apt-get install valgrind)".into());
        }
        Err(error) => return Err(format!("valgrind: {error}")),
    };
    if !ran.status.success() {
        return Err(format!("{case} under valgrind: {}\n{}", ran.status, String::from_utf8_lossy(&ran.stderr)));
    }
    let text = std::fs::read_to_string(&out.0).map_err(|e| format!("{}: {e}", out.0.display()))?;
    let count = read(&text);
    match count.own {
        0 => Err(format!("{case}: callgrind saw nothing of it")),
        _ => Ok(count),
    }
}

/// A file that is removed again.
struct Output(PathBuf);

impl Drop for Output {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Names are written once, and called by their numbers afterwards.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    /// The name in `(7) name`, or in `(7)` what it was before.
    fn resolve(&mut self, text: &str) -> String {
        match text.split_once(") ") {
            Some((number, name)) => {
                self.0.insert(format!("{number})"), name.to_owned());
                name.to_owned()
            }
            None => self.0.get(text).cloned().unwrap_or_else(|| text.to_owned()),
        }
    }
}

/// Reads callgrind's format: <https://valgrind.org/docs/manual/cl-format.html>. Costs are of one event, instructions, and have one
/// position, the line.
fn read(text: &str) -> Count {
    let mut count = Count::default();
    let (mut objects, mut files, mut functions) = (Names::default(), Names::default(), Names::default());
    let (mut object, mut file, mut function) = (String::new(), String::new(), String::new());
    let mut is_call = false;
    for line in text.lines() {
        match line.split_once('=') {
            Some(("ob", name)) => object = objects.resolve(name),
            Some(("fl", name)) => file = files.resolve(name),
            Some(("fn", name)) => function = functions.resolve(name),
            Some(("cob", name)) => drop(objects.resolve(name)),
            Some(("fi" | "fe" | "cfi" | "cfl", name)) => drop(files.resolve(name)),
            Some(("cfn", name)) => drop(functions.resolve(name)),
            // The cost in the next line is the callee's, and is written with it as well.
            Some(("calls", _)) => is_call = true,
            Some(_) => {}
            None if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) => {
                let cost = line.split_ascii_whitespace().nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
                if !std::mem::take(&mut is_call) {
                    *origin(&mut count, &object, &file) += cost;
                    *count.functions.entry(function.clone()).or_default() += cost;
                }
            }
            None => {}
        }
    }
    count
}

fn origin<'a>(count: &'a mut Count, object: &str, file: &str) -> &'a mut u64 {
    if object.contains(".so") {
        &mut count.system
    } else if file.ends_with(".rs") {
        &mut count.own
    } else {
        // Compiled C and assembly of ours there is none but aws-lc.
        &mut count.cipher
    }
}
