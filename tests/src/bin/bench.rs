//! `make bench`: figures, beside what they are to reach. Exits 0 when they could be taken, reached or not: a slow machine
//! is no defect.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures for people and programs, progress for people"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use bqwitness_tests::bench::{self, Part, Settings};
use bqwitness_tests::tools::root;
use clap::{Parser, ValueEnum};

/// What recorder, proxy and operator can do on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// A table for people, or JSON for programs
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Only one part
    #[arg(long, value_enum)]
    only: Option<OnePart>,
    /// Entries of the log that is searched, exported and verified
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    entries: u64,
    /// How often; of several runs the medians are shown
    #[arg(long, default_value_t = 1, value_name = "N")]
    runs: u16,
    /// Cores of the proxy, as `taskset -c` takes them; the load runs on the others
    #[arg(long, default_value = "0", value_name = "LIST")]
    cores: String,
    /// Where the data lies meanwhile: on a disk, as an fdatasync in memory does nothing
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnePart {
    Recorder,
    Proxy,
    Evidence,
    Operator,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { output, only, entries, runs, cores, dir } = Args::parse();
    let only = only.map(|half| match half {
        OnePart::Recorder => Part::Recorder,
        OnePart::Proxy => Part::Proxy,
        OnePart::Evidence => Part::Evidence,
        OnePart::Operator => Part::Operator,
    });
    let folder = dir.unwrap_or_else(|| root().join("target/bench"));
    let settings = Settings { only, entries, runs: usize::from(runs.max(1)), cores, folder };
    let report = tokio::select! {
        report = bench::run(&settings, |what| eprintln!("bench: {what}")) => report,
        // Dropped, the run stops what it started and removes its files.
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match (report, output) {
        (Ok(report), Output::Table) => print!("{}", report.table()),
        (Ok(report), Output::Json) => match serde_json::to_string_pretty(&report) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                eprintln!("bench: {error}");
                return ExitCode::FAILURE;
            }
        },
        (Err(trouble), _) => {
            eprintln!("bench: {trouble}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
