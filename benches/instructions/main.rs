//! Instructions for each packet, counted by callgrind: the same on a busy machine as on an idle one.
//!
//! `cargo bench --bench instructions` compares with `benches/instructions.baseline` and fails if a case needs more than 3%
//! more of our own instructions. `-- --bless` writes the baseline anew, `-- flush` counts only the cases with `flush` in
//! their names, and `-- --functions` also tells where the instructions of each case are.
//!
//! Told apart by where a function comes from: *own* are functions from Rust sources, the standard library's and those of the
//! crates included; *cipher* are those of aws-lc; *system* those of libc. aws-lc and libc choose code by the processor's
//! features (and valgrind knows no AVX-512), so only *own* is compared. A change of the compiler changes it too.
mod callgrind;
#[path = "../cases/mod.rs"]
mod cases;

use callgrind::Count;
use cases::Turn;
use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

/// Subscribers where there are many. Each has to shake hands under valgrind.
const MANY: usize = 200;
/// Turns that are not counted, and turns that are.
const WARM: usize = 3;
const TURNS: usize = 8;
/// How much more than the baseline is too much.
const TOLERANCE: f64 = 0.03;
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.baseline");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, name] = arguments.as_slice()
        && flag == "--case"
    {
        run_case(name);
        return ExitCode::SUCCESS;
    }
    let is_set = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filter = arguments.iter().find(|argument| !argument.starts_with("--"));
    match count_all(filter.map(String::as_str), is_set("--bless"), is_set("--functions")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// What runs under valgrind.
fn run_case(name: &str) {
    let case = cases::all(MANY).into_iter().find(|case| case.name == name);
    let mut turn = (case.unwrap_or_else(|| panic!("no case {name}")).make)();
    for n in 0..WARM + TURNS {
        turn.prepare();
        if n < WARM { turn.run() } else { measured(turn.as_mut()) }
    }
}

/// Only what happens in here is counted.
#[inline(never)]
fn measured(turn: &mut dyn Turn) {
    turn.run();
    std::hint::black_box(());
}

fn count_all(filter: Option<&str>, bless: bool, functions: bool) -> Result<bool, String> {
    let compiler = compiler();
    let baseline = read_baseline()?;
    if !bless && !baseline.compiler.is_empty() && baseline.compiler != compiler {
        println!(
            "the baseline was made with {}, this is {compiler}: differences may be the compiler's",
            baseline.compiler
        );
    }
    println!(
        "instructions for each packet\n{:<24} {:>10} {:>10} {:>10} {:>10}",
        "", "own", "baseline", "cipher", "system"
    );
    let (mut figures, mut good) = (baseline.figures.clone(), true);
    for case in cases::all(MANY) {
        if filter.is_some_and(|filter| !case.name.contains(filter)) {
            continue;
        }
        let count = callgrind::count(&case.name)?;
        let each = |instructions: u64| instructions as f64 / (TURNS * case.packets) as f64;
        let own = each(count.own);
        let before = baseline.figures.get(&case.name).copied();
        let verdict = match before {
            None => "new",
            Some(before) if own > before * (1.0 + TOLERANCE) => "WORSE",
            Some(before) if own < before * (1.0 - TOLERANCE) => "better",
            Some(_) => "",
        };
        good &= verdict != "WORSE";
        let before = before.map_or("-".to_owned(), |before| format!("{before:.1}"));
        let (cipher, system) = (each(count.cipher), each(count.system));
        println!("{:<24} {own:>10.1} {before:>10} {cipher:>10.1} {system:>10.1}  {verdict}", case.name);
        if functions {
            print_functions(&count, each);
        }
        figures.insert(case.name, own);
    }
    if bless {
        write_baseline(&compiler, &figures)?;
        return Ok(true);
    }
    if !good {
        println!("more than {:.0}% above the baseline; if it has to be: -- --bless", TOLERANCE * 100.0);
    }
    Ok(good)
}

fn print_functions(count: &Count, each: impl Fn(u64) -> f64) {
    let mut functions: Vec<_> = count.functions.iter().collect();
    functions.sort_by_key(|(_, instructions)| std::cmp::Reverse(**instructions));
    for (function, instructions) in functions.into_iter().take(16) {
        println!("    {:>10.1}  {function}", each(*instructions));
    }
}

struct Baseline {
    compiler: String,
    figures: BTreeMap<String, f64>,
}

fn read_baseline() -> Result<Baseline, String> {
    let text = match std::fs::read_to_string(BASELINE) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{BASELINE}: {error}")),
    };
    let compiler = text.lines().find_map(|line| line.strip_prefix("# with ")).unwrap_or_default().to_owned();
    let mut figures = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, figure) = line.rsplit_once('\t').ok_or_else(|| format!("{BASELINE}: not a figure: {line}"))?;
        figures.insert(name.to_owned(), figure.parse().map_err(|e| format!("{BASELINE}: {line}: {e}"))?);
    }
    Ok(Baseline { compiler, figures })
}

fn write_baseline(compiler: &str, figures: &BTreeMap<String, f64>) -> Result<(), String> {
    let mut text =
        "# Our own instructions for each packet. Written by `cargo bench --bench instructions -- --bless`.\n"
            .to_owned();
    text.push_str(&format!("# with {compiler}\n"));
    figures.iter().for_each(|(name, figure)| text.push_str(&format!("{name}\t{figure:.1}\n")));
    std::fs::write(BASELINE, text).map_err(|e| format!("{BASELINE}: {e}"))
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}
