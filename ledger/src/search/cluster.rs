//! What operators entered: the questions and answers of `GET /v1/connections` and `GET /v1/coverage`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::query_string;
use crate::coverage::Told;
use crate::entry::Workload;
use crate::operator::{Accepted, Gone, PodCoverage};
use crate::statement::Connection;

/// Which entries about connections. All parts must be true of an entry; an absent part is true of every one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionQuery {
    /// Only what is of this namespace: it takes no right to read others. Absent: all that the reader may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The connection, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Its UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Only the last entry of each connection, and none of those that are deleted (true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<bool>,
    /// What the bearer itself, which is an operator, has entered (true): it takes no right to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<bool>,
    /// How many entries: 1 to [`super::MAX_LIMIT`]; [`super::DEFAULT_LIMIT`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only entries before this index: [`ConnectionAnswer::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Answer when the index covers at least this many entries, or after [`super::MAX_WAIT_SECONDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

impl ConnectionQuery {
    /// The query string, without `?`; empty when nothing is asked.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        query_string(self)
    }
}

/// The entries found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionAnswer {
    /// How many entries of the log this answer covers.
    pub size: u64,
    /// As in [`super::Answer::rebuilding_to`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilding_to: Option<u64>,
    /// Newest first.
    pub entries: Vec<ConnectionEntry>,
    /// There may be more: ask again with `before` set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// One entry about a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionEntry {
    /// Its index.
    pub index: u64,
    /// When the recorder received it.
    pub received: Timestamp,
    /// The operator.
    pub subject: Workload,
    /// Which connection and generation.
    pub connection: Connection,
    /// `connection.accepted`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// `connection.deleted`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
}

/// Which entries about pods. All parts must be true of an entry; an absent part is true of every one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CoverageQuery {
    /// Only what is of this namespace: it takes no right to read others. Absent: all that the reader may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The connection, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Only the last entry of each pod, and none of those that have ended (true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<bool>,
    /// As in [`ConnectionQuery::own`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<bool>,
    /// What was true of a pod at this time or later: entries after which nothing was said of it before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Received before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// How many entries: 1 to [`super::MAX_LIMIT`]; [`super::DEFAULT_LIMIT`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only entries before this index: [`CoverageAnswer::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Answer when the index covers at least this many entries, or after [`super::MAX_WAIT_SECONDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

impl CoverageQuery {
    /// The query string, without `?`; empty when nothing is asked.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        query_string(self)
    }
}

/// The entries found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoverageAnswer {
    /// How many entries of the log this answer covers.
    pub size: u64,
    /// As in [`super::Answer::rebuilding_to`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilding_to: Option<u64>,
    /// Newest first.
    pub entries: Vec<CoverageEntry>,
    /// There may be more: ask again with `before` set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// One entry about a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoverageEntry {
    /// Its index.
    pub index: u64,
    /// When the recorder received it.
    pub received: Timestamp,
    /// The operator.
    pub subject: Workload,
    /// The connection that selects the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// What the operator saw.
    pub coverage: PodCoverage,
}

impl From<CoverageEntry> for Told {
    fn from(entry: CoverageEntry) -> Self {
        let CoverageEntry { index: _, received, subject, connection, coverage } = entry;
        Self { cluster: subject.cluster, received, connection, said: coverage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_what_was_asked_and_nothing_else() {
        assert_eq!(ConnectionQuery::default().to_query_string(), "");
        let current = ConnectionQuery { current: Some(true), before: Some(7), ..Default::default() };
        assert_eq!(current.to_query_string(), "before=7&current=true");
        let since = CoverageQuery { since: Some(Timestamp::UNIX_EPOCH), ..Default::default() };
        assert_eq!(since.to_query_string(), "since=1970-01-01T00%3A00%3A00Z");
    }
}
