//! What can be typed.

mod evidence;
mod find;
mod inject;
mod reader;
mod replay;
mod time;
mod watch;

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use self::evidence::{BundleArgs, EntryArgs, ExportArgs, VerifyArgs};
pub(crate) use self::find::{ConnectionsArgs, CoverageArgs, FilterArgs, SearchArgs, SessionsArgs, TailArgs};
pub(crate) use self::inject::InjectArgs;
pub(crate) use self::reader::{KubeArgs, ReaderArgs};
pub(crate) use self::replay::ReplayArgs;
pub(crate) use self::watch::{KeysArgs, MonitorArgs, WitnessArgs};

const AFTER_HELP: &str = "\
Exit status: 0 done, and everything verified holds; 1 something does not hold; 2 could not run.

Examples:
  bqwitness search --agent agents/billing --table billing.invoices --since 24h
  kubectl bqwitness search -n agents --service-account audit/auditor
  bqwitness sessions --agent agents/ --open
  bqwitness show 1042 --key log.vkey
  bqwitness replay 0199a6c5-7c3e-7c1e-9a52-2f3a51d1a9c0
  bqwitness export --table billing --since 2026-03-01 --until 2026-04-01 --key log.vkey -o march.bqw
  bqwitness verify march.bqw --key log.vkey
  bqwitness inject -f agent.yaml --connection connection.yaml | kubectl apply -f -
  bqwitness verify-log https://recorder.bqwitness.svc:8443 --key log.vkey";

/// Search, show and verify what AI agents did in BigQuery.
#[derive(Debug, Parser)]
#[command(name = "bqwitness", version, about, after_help = AFTER_HELP, max_term_width = 110)]
pub(crate) struct Arguments {
    /// Tables for people, JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Colours in tables.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The program's name.
pub(crate) const NAME: &str = "bqwitness";

/// Under this name `kubectl bqwitness` finds it: a link to the program will do.
const PLUGIN: &str = "kubectl-bqwitness";

/// Reads the command line, or ends the process and says what can be typed, under the name that it was called by.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Arguments {
    try_parse(words).unwrap_or_else(|error| error.exit())
}

fn try_parse(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let words: Vec<_> = words.into_iter().collect();
    let mut command = named(words.first());
    let matches = command.try_get_matches_from_mut(words)?;
    let arguments = Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    match empty_period(&arguments.command) {
        None => Ok(arguments),
        Some(what) => Err(command.error(ErrorKind::ValueValidation, what)),
    }
}

/// What is wrong with a period that ends before it begins. It would find nothing, which looks like proof that nothing was.
fn empty_period(command: &Command) -> Option<String> {
    let (names, from, to) = match command {
        Command::Search(search) => (SINCE_UNTIL, search.filter.since, search.filter.until),
        Command::Tail(tail) => (SINCE_UNTIL, tail.filter.since, tail.filter.until),
        Command::Export(export) => (SINCE_UNTIL, export.filter.since, export.filter.until),
        Command::Sessions(sessions) => (SINCE_UNTIL, sessions.since, sessions.until),
        Command::Replay(replay) => (SINCE_UNTIL, replay.since, replay.until),
        Command::Coverage(coverage) => (("--from", "--to"), Some(coverage.from), coverage.to),
        _ => return None,
    };
    let ((from_name, to_name), from, to) = (names, from?, to?);
    (from > to).then(|| format!("{from_name} ({from}) is later than {to_name} ({to})"))
}

const SINCE_UNTIL: (&str, &str) = ("--since", "--until");

fn named(program: Option<&OsString>) -> clap::Command {
    let file = program.map(Path::new).and_then(Path::file_name);
    let plugin = file.is_some_and(|file| file.to_string_lossy().starts_with(PLUGIN));
    let command = Arguments::command();
    if plugin { command.bin_name("kubectl bqwitness").display_name("kubectl bqwitness") } else { command }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say who you are to the recorder, and what you may read.
    Access(ReaderArgs),
    /// Find calls: who ran what against which table, when, and what came back. Newest first.
    Search(SearchArgs),
    /// Follow new calls as they are recorded.
    Tail(TailArgs),
    /// List sessions: who spoke, since when, how many calls, and how it ended. Newest first.
    Sessions(SessionsArgs),
    /// Show one entry, and prove that it is in the log.
    Show(EntryArgs),
    /// Print one entry's proof as a c2sp.org/tlog-proof@v1 file, after checking it.
    Proof(EntryArgs),
    /// Tell what agents did, as a timeline: who, when, what, what came back, what is missing. From a recorder, or a bundle.
    Replay(ReplayArgs),
    /// List what was to be recorded, on whose word: every accepted spec of connections, newest first.
    Connections(ConnectionsArgs),
    /// Say when each pod was under recording in a time, with every gap and its reason.
    Coverage(CoverageArgs),
    /// Take out evidence: entries with all that proves them, in one file that needs no network and no trust in us.
    Export(ExportArgs),
    /// Verify such a file by the log's key. Says what it proves, and what rests on whom.
    Verify(BundleArgs),
    /// Cosign checkpoints of logs, each only if it continues the one before: a standard c2sp.org/tlog-witness.
    Witness(WitnessArgs),
    /// Check that a log still continues what was seen of it last time, and remember what is there now.
    Monitor(MonitorArgs),
    /// Say which keys a log signs with now, as far as the one that you hold vouches for them.
    Keys(KeysArgs),
    /// Verify a whole log: every entry, tile, session chain and blob, against the log's key.
    VerifyLog(VerifyArgs),
    /// Put the sidecar into the pods of a manifest, as the operator's webhook does, and print it.
    Inject(InjectArgs),
    /// Print a completion script for your shell.
    Completions { shell: Shell },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_has_the_name_that_was_typed() {
        for (program, name) in [
            ("bqwitness", "Usage: bqwitness search"),
            ("/usr/local/bin/kubectl-bqwitness", "Usage: kubectl bqwitness search"),
        ] {
            let help = named(Some(&program.into())).try_get_matches_from_mut([program, "search", "--help"]);
            let help = help.unwrap_err().to_string();
            assert!(help.contains(name), "{help}");
        }
    }

    #[test]
    fn a_period_that_ends_before_it_begins_is_refused() {
        for (words, refused) in [
            ("search --since 2026-02-01 --until 2026-01-01", true),
            ("tail --since 1h --until 2h", true),
            ("sessions --since 2026-02-01 --until 2026-01-01", true),
            ("replay --pod p --since 2026-02-01 --until 2026-01-01", true),
            ("export -o x.bqw --since 2026-02-01 --until 2026-01-01", true),
            ("coverage --from 2026-02-01 --to 2026-01-01", true),
            ("search --since 2026-01-01 --until 2026-02-01", false),
            ("search --since 2026-01-01 --until 2026-01-01", false),
            ("search --since 2026-02-01", false),
            ("search --until 2026-01-01", false),
        ] {
            let typed = ["bqwitness"].into_iter().chain(words.split(' ')).map(OsString::from);
            match try_parse(typed) {
                Ok(_) => assert!(!refused, "{words}"),
                Err(error) => {
                    assert!(refused && error.to_string().contains("is later than"), "{words}: {error}");
                    assert_eq!(error.exit_code(), 2, "{words}");
                }
            }
        }
    }

    #[test]
    fn every_shell_is_helped() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "bqwitness", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in ["sessions", "replay", "verify-log"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }
}
