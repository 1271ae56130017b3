//! What can be typed.

mod reader;
mod replay;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use ledger::search::sessions::SessionQuery;
use ledger::search::{Query, ResultFilter};
use uuid::Uuid;

pub(crate) use self::reader::{KubeArgs, ReaderArgs};
pub(crate) use self::replay::ReplayArgs;

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

/// Which calls. All that is given must be true of a call.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// The agent: NAMESPACE/SERVICEACCOUNT, or NAMESPACE/ for all of a namespace.
    #[arg(long, value_name = "NS/SA")]
    agent: Option<String>,
    /// Name of the pod.
    #[arg(long)]
    pod: Option<String>,
    /// The connection: NAMESPACE/NAME.
    #[arg(long, value_name = "NS/NAME")]
    connection: Option<String>,
    /// The session's id.
    #[arg(long)]
    session: Option<Uuid>,
    /// Received at this time or later: 2026-11-22 or 2026-11-22T10:00:00Z (UTC), or an age such as 24h or 7d.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Received before this time.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    until: Option<Timestamp>,
    /// A table that was named or reported: [PROJECT.]DATASET.TABLE, or DATASET for any of its tables.
    #[arg(long)]
    table: Option<String>,
    /// Words of the SQL, all of which must occur. `_` is part of a word: `imports_2026` is one.
    #[arg(long)]
    words: Option<String>,
    /// The API method, such as jobs.query.
    #[arg(long)]
    method: Option<String>,
    /// The statement's kind, such as SELECT or DELETE.
    #[arg(long)]
    kind: Option<String>,
    /// The job's id.
    #[arg(long)]
    job: Option<String>,
    /// How it ended.
    #[arg(long, value_enum)]
    result: Option<ResultArg>,
    /// Only calls that the sidecar refused.
    #[arg(long)]
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ResultArg {
    Answered,
    Refused,
    Failed,
    Aborted,
    /// No outcome yet.
    Open,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// How many calls at most. More than 500 are fetched in pages of 500.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Only calls before this index: the next page.
    #[arg(long, value_name = "INDEX")]
    pub(crate) before: Option<u64>,
    /// Wait until this many entries can be searched.
    #[arg(long, value_name = "SIZE")]
    pub(crate) wait: Option<u64>,
    /// Whole statements, not one line of each.
    #[arg(long)]
    pub(crate) wide: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    /// The agent: NAMESPACE/SERVICEACCOUNT, or NAMESPACE/ for all of a namespace.
    #[arg(long, value_name = "NS/SA")]
    agent: Option<String>,
    /// Name of the pod.
    #[arg(long)]
    pod: Option<String>,
    /// The connection: NAMESPACE/NAME.
    #[arg(long, value_name = "NS/NAME")]
    connection: Option<String>,
    /// Heard at this time or later: 2026-11-22 or 2026-11-22T10:00:00Z (UTC), or an age such as 24h or 7d.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Begun before this time.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Only sessions that go on.
    #[arg(long)]
    open: bool,
    /// How many sessions at most. More than 500 are fetched in pages of 500.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Only sessions that began before this index: the next page.
    #[arg(long, value_name = "INDEX")]
    before: Option<u64>,
    /// Wait until this many entries can be searched.
    #[arg(long, value_name = "SIZE")]
    wait: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectionsArgs {
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    /// Only this connection: NAMESPACE/NAME.
    #[arg(long, value_name = "NS/NAME")]
    pub(crate) connection: Option<String>,
    /// Only what is in force: the last spec of each connection that is not deleted.
    #[arg(long)]
    pub(crate) current: bool,
    /// How many entries at most. More than 500 are fetched in pages of 500.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Only entries before this index: the next page.
    #[arg(long, value_name = "INDEX")]
    pub(crate) before: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct EntryArgs {
    /// The entry's index in the log.
    pub(crate) index: u64,
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    /// The log's verifier key: a .vkey file, or the key itself. When absent, what the cluster says; a key that you have from
    /// somebody whom you trust proves more.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CoverageArgs {
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    /// From this time on: 2026-11-22 or 2026-11-22T10:00:00Z (UTC), or an age such as 24h or 7d.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(crate) from: Timestamp,
    /// Up to this time; now when absent.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(crate) to: Option<Timestamp>,
    /// Only the pods of this connection: NAMESPACE/NAME.
    #[arg(long, value_name = "NS/NAME")]
    pub(crate) connection: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = EXPORT_HELP)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) reader: ReaderArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// The log's verifier key: a .vkey file, or the key itself. When absent, what the cluster says.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: Option<String>,
    /// The witnesses of the log, as a c2sp.org/tlog-policy file: it goes into the bundle, with their cosignatures.
    #[arg(long, env = "BQWITNESS_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The file to write. One that is there is replaced when the new one is whole and verified.
    #[arg(short = 'o', long = "out", value_name = "FILE.bqw")]
    pub(crate) file: PathBuf,
}

const EXPORT_HELP: &str = "\
What is selected decides what can be proved of its completeness:
  nothing but --since and --until   everything in that time: that no entry is missing is proved
  --agent, --pod, --connection, --session   whole sessions: that nothing of them is missing is proved
  any other filter                  calls: that each is in the log is proved; that no other call fits, is not
The export itself becomes an entry of the log, with your name.";

#[derive(Clone, Debug, Args)]
pub(crate) struct BundleArgs {
    /// The evidence bundle; `-` reads standard input.
    #[arg(value_name = "FILE.bqw")]
    pub(crate) file: PathBuf,
    /// The log's verifier key: a .vkey file, or the key itself. Take it from the recorder's operator, never from a bundle.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: String,
    /// Demand the cosignatures that this policy wants: a c2sp.org/tlog-policy file. Take it from somebody whom you trust.
    #[arg(long, env = "BQWITNESS_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Also write the page for people, made anew from what was read.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) page: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct WitnessArgs {
    /// The witness's name, like a URL without scheme: witness.example.com/w1. It never changes.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// The key of a log to cosign: a .vkey file (while a log's key is changed, with both, one a line), or the key itself
    /// (repeatable: one for each log).
    #[arg(long, value_name = "VKEY", required = true)]
    pub(crate) log: Vec<String>,
    /// Directory of its key and of the last checkpoint of each log. Never bring back an older copy of it.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Address to listen on (plain HTTP: all that is said there is signed).
    #[arg(long, default_value = "127.0.0.1:8444", value_name = "ADDR")]
    pub(crate) listen: String,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct MonitorArgs {
    /// The recorder, https://HOST:PORT.
    #[arg(long, env = "BQWITNESS_RECORDER", value_name = "URL")]
    pub(crate) recorder: String,
    /// PEM file with the recorder's CA; the system's roots when absent.
    #[arg(long, env = "BQWITNESS_RECORDER_CA", value_name = "FILE")]
    pub(crate) recorder_ca: Option<PathBuf>,
    /// The log's verifier key: a .vkey file, or the key itself.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: String,
    /// File with the last checkpoint seen; made at the first run. It is kept as it is when the log does not continue it.
    #[arg(long, value_name = "FILE")]
    pub(crate) state: PathBuf,
    /// Also write metrics there, for a node exporter's textfile collector.
    #[arg(long, value_name = "FILE.prom")]
    pub(crate) metrics: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct KeysArgs {
    /// The recorder, https://HOST:PORT.
    #[arg(long, env = "BQWITNESS_RECORDER", value_name = "URL")]
    pub(crate) recorder: String,
    /// PEM file with the recorder's CA; the system's roots when absent.
    #[arg(long, env = "BQWITNESS_RECORDER_CA", value_name = "FILE")]
    pub(crate) recorder_ca: Option<PathBuf>,
    /// The log's verifier key that you hold: a .vkey file, or the key itself.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: String,
    /// Also write all of them there, one a line: a file for --key. Yours stays among them: it verifies what is older.
    #[arg(short = 'o', long, value_name = "FILE.vkey")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A recorder's data directory (or a copy of it), or its URL.
    pub(crate) log: String,
    /// The log's verifier key: a .vkey file, or the key itself.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: String,
    /// For a URL: PEM file with the recorder's CA; the system's roots when absent.
    #[arg(long, env = "BQWITNESS_RECORDER_CA", value_name = "FILE")]
    pub(crate) recorder_ca: Option<PathBuf>,
    /// For a URL: file with your token.
    #[arg(long, env = "BQWITNESS_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct InjectArgs {
    /// The manifest: Pods, Deployments, Jobs and the rest, in one or more YAML documents; - is standard input.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The BigQueryConnection to put in. When absent it must be in the manifest.
    #[arg(long, value_name = "FILE")]
    pub(crate) connection: Option<PathBuf>,
    /// The sidecar's image.
    #[arg(long, env = "BQWITNESS_PROXY_IMAGE", default_value = connection::names::PROXY_IMAGE, value_name = "IMAGE")]
    pub(crate) image: String,
    /// The recorder, https://HOST:PORT, for a connection that names none.
    #[arg(long, env = "BQWITNESS_RECORDER", default_value = connection::names::RECORDER_URL, value_name = "URL")]
    pub(crate) recorder: String,
    /// The audience of the recorder's tokens, for a connection that names no recorder.
    #[arg(long, env = "BQWITNESS_AUDIENCE", default_value = connection::names::AUDIENCE, value_name = "NAME")]
    pub(crate) audience: String,
}

impl FilterArgs {
    pub(crate) fn query(&self, reader: &ReaderArgs) -> Query {
        let filter = self.clone();
        Query {
            namespace: reader.namespace.clone(),
            agent: filter.agent,
            pod: filter.pod,
            connection: filter.connection,
            session: filter.session,
            since: filter.since,
            until: filter.until,
            table: filter.table,
            words: filter.words,
            method: filter.method,
            kind: filter.kind.map(|kind| kind.to_uppercase()),
            job: filter.job,
            result: filter.result.map(ResultArg::filter),
            refused: filter.refused.then_some(true),
            ..Query::default()
        }
    }
}

impl SessionsArgs {
    pub(crate) fn query(&self) -> SessionQuery {
        SessionQuery {
            namespace: self.reader.namespace.clone(),
            agent: self.agent.clone(),
            pod: self.pod.clone(),
            connection: self.connection.clone(),
            session: None,
            since: self.since,
            until: self.until,
            open: self.open.then_some(true),
            limit: None,
            before: self.before,
            wait: self.wait,
        }
    }
}

impl ResultArg {
    fn filter(self) -> ResultFilter {
        match self {
            Self::Answered => ResultFilter::Answered,
            Self::Refused => ResultFilter::Refused,
            Self::Failed => ResultFilter::Failed,
            Self::Aborted => ResultFilter::Aborted,
            Self::Open => ResultFilter::Open,
        }
    }
}

/// A time (UTC where it names no offset; a date is its midnight), or how long ago it was.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return time.to_zoned(TimeZone::UTC).map(|time| time.timestamp()).map_err(|error| error.to_string());
    }
    let neither = |_| "neither a time (2026-11-22, 2026-11-22T10:00:00Z) nor an age (24h, 7d)".to_owned();
    let age: Span = text.parse().map_err(neither)?;
    let then = Zoned::now().checked_sub(age).map_err(|error| error.to_string())?;
    Ok(then.timestamp())
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
    fn times_and_ages() {
        assert_eq!(parse_time("2026-11-22T10:00:00Z").unwrap().to_string(), "2026-11-22T10:00:00Z");
        let day = Timestamp::now().as_second() - parse_time("24h").unwrap().as_second();
        assert!((86_400..86_410).contains(&day), "{day}");
        assert!(parse_time("7d").is_ok());
        assert_eq!(parse_time("2026-11-22").unwrap().to_string(), "2026-11-22T00:00:00Z");
        assert_eq!(parse_time("2026-11-22T10:30").unwrap().to_string(), "2026-11-22T10:30:00Z");
        assert!(parse_time("yesterday").unwrap_err().contains("24h"));
    }

    #[test]
    fn filters_become_a_query() {
        let line = [
            "bqwitness",
            "search",
            "--recorder",
            "https://r",
            "--token-file",
            "t",
            "--result",
            "open",
            "--refused",
            "-n",
            "agents",
        ];
        let Command::Search(search) = Arguments::parse_from(line).command else { panic!("search") };
        assert_eq!(
            search.filter.query(&search.reader).to_query_string(),
            "namespace=agents&refused=true&result=open"
        );
        assert_eq!(search.limit, 50);
    }

    #[test]
    fn sessions_become_a_query() {
        let line =
            ["bqwitness", "sessions", "--recorder", "https://r", "--token-file", "t", "--open", "--pod", "p"];
        let Command::Sessions(sessions) = Arguments::parse_from(line).command else { panic!("sessions") };
        assert_eq!(sessions.query().to_query_string(), "open=true&pod=p");
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
