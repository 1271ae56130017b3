//! `bqwitness`: search the record, show an entry with its proof, replay a session, export evidence, verify it.

mod args;
mod claims;
mod cluster;
mod commands;
mod continues;
mod error;
mod export;
mod page;
mod reader;
mod render;
mod replay;
#[cfg(test)]
mod samples;
mod source;
mod text;
mod witness;

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::{Arguments, Command};
use crate::error::CliError;

/// What a command found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It did what was asked, and what it verified holds.
    Holds,
    /// It did what was asked, and something does not hold.
    DoesNotHold,
}

fn main() -> ExitCode {
    let arguments = args::parse(std::env::args_os());
    match run(arguments) {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::DoesNotHold) => ExitCode::from(1),
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // When standard error is closed too, the exit code still says it.
            let _told =
                writeln!(std::io::stderr(), "{}", text::printable(&format!("bqwitness: {error}"))).is_ok();
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<Verdict, CliError> {
    let out = render::Output::new(arguments.output, arguments.color);
    match arguments.command {
        Command::Access(reader) => commands::access::run(&reader, out),
        Command::Search(search) => commands::search::run(&search, out),
        Command::Tail(tail) => commands::tail::run(&tail, out),
        Command::Sessions(sessions) => commands::sessions::run(&sessions, out),
        Command::Show(show) => commands::show::run(&show, out),
        Command::Proof(proof) => commands::proof::run(&proof, out),
        Command::Replay(replay) => commands::replay::run(&replay, out),
        Command::Connections(connections) => commands::connections::run(&connections, out),
        Command::Coverage(coverage) => commands::coverage::run(&coverage, out),
        Command::Export(export) => commands::export::run(&export, out),
        Command::Verify(verify) => commands::verify::run(&verify, out),
        Command::Witness(witness) => commands::witness::run(&witness, out),
        Command::Monitor(monitor) => commands::monitor::run(&monitor, out),
        Command::Keys(keys) => commands::keys::run(&keys, out),
        Command::VerifyLog(verify) => commands::verify_log::run(&verify, out),
        Command::Inject(inject) => commands::inject::run(&inject, out),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), args::NAME, &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(Verdict::Holds)
        }
    }
}
