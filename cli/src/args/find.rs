//! What is to be found: calls, sessions, connections, coverage.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use ledger::search::sessions::SessionQuery;
use ledger::search::{Query, ResultFilter};
use uuid::Uuid;

use super::ReaderArgs;
use super::time::parse_time;

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
    pub(super) since: Option<Timestamp>,
    /// Received before this time.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(super) until: Option<Timestamp>,
    /// A table that was named or reported: [PROJECT.]DATASET.TABLE, or DATASET for any of its tables.
    #[arg(long)]
    table: Option<String>,
    /// Words of the SQL, all of which must occur. `_` is part of a word: `imports_2026` is one.
    #[arg(long)]
    words: Option<String>,
    /// The API method, such as jobs.query.
    #[arg(long)]
    method: Option<String>,
    /// The statement's kind, such as SELECT or DELETE, alone or in a script; SCRIPT for all scripts.
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
    /// The log's verifier key: a .vkey file, or the key itself. When absent, what the cluster says; without any, a log that was
    /// brought back from an older copy is noticed, and one that somebody else signed is not.
    #[arg(long, env = "BQWITNESS_KEY", value_name = "VKEY")]
    pub(crate) key: Option<String>,
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
    pub(super) since: Option<Timestamp>,
    /// Begun before this time.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    pub(super) until: Option<Timestamp>,
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::{Arguments, Command};

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
}
