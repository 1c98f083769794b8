//! Measures the floor: what sealing and sending costs this machine, and nothing else.
//!
//! `cargo run --release -p loadtest --example floor -- --help`
use clap::Parser;
use loadtest::floor::{self, FloorPlan};
use std::process::ExitCode;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    plan: FloorPlan,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    floor::serve_if_asked();
    let arguments = Arguments::parse();
    let result = floor::measure(&arguments.plan).and_then(|r| {
        if arguments.json { serde_json::to_string_pretty(&r).map_err(|e| e.to_string()) } else { Ok(r.to_string()) }
    });
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
