//! Searches: the question and the answer of the recorder's `GET /v1/search` (and of `GET /v1/sessions`, in [`sessions`]),
//! which the command line shares with it.
//!
//! An answer is found through an index, which is never evidence: each call names the indexes of its entries, and those can
//! be proved.

pub mod access;
pub mod cluster;
pub mod entries;
pub mod export;
pub mod sessions;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::call::{CallResult, HttpTarget, JobReference, Joined, StatementUse, TableUse};
use crate::digest::Digest;
use crate::entry::Workload;
use crate::statement::Connection;

/// Most calls in one answer; a greater `limit` is cut down to it.
pub const MAX_LIMIT: u32 = 500;

/// Calls in an answer when the question names no `limit`.
pub const DEFAULT_LIMIT: u32 = 50;

/// Greatest length of the SQL text in an answer, in bytes. The rest is cut off at a character, and `sqlTruncated` says so.
pub const MAX_SQL: usize = 4 * 1024;

/// Longest that the recorder waits for its index to reach [`Query::wait`], in seconds. After that it answers with what it
/// has; `size` says how far that goes.
pub const MAX_WAIT_SECONDS: u64 = 20;

/// What to look for. All parts must be true of a call; an absent part is true of every call. These are the parameters of
/// the query string: [`Query::to_query_string`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    /// Only what is of this namespace: it takes no right to read others. Absent: all that the reader may read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The agent, as `namespace/service-account`; `namespace/` alone stands for all of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The connection, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Uuid>,
    /// Received at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Received before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// A table that was named or reported: `project.dataset.table`, `dataset.table`, or `dataset` alone for any of its
    /// tables. Upper and lower case differ, as in BigQuery. Calls that name more tables than an entry holds are found too
    /// ([`Call::tables_truncated`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Words of the SQL, all of which must occur; `_` is part of a word, upper and lower case are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
    /// The method: `jobs.query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The statement's kind, as BigQuery reported it or else as it was read: `SELECT`, `DELETE`. A script is found by its own
    /// (`SCRIPT`), and by that of each of its statements; one of more statements than an entry holds, or with one that is not known, under
    /// every kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The job's id: all calls that name it or were answered with it, and all requests of an upload of which one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// How the call ended. `open` calls have no outcome yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultFilter>,
    /// Only calls that the sidecar refused (true), or only those that it did not refuse (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<bool>,
    /// How many calls: 1 to [`MAX_LIMIT`]; [`DEFAULT_LIMIT`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only calls before this index, newest first: [`Answer::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Only calls at this index or later, oldest first: for following the log. Not together with `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Answer when the index covers at least this many entries, or after [`MAX_WAIT_SECONDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

/// How a call ended, or that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultFilter {
    /// [`CallResult::Answered`]
    Answered,
    /// [`CallResult::Refused`]
    Refused,
    /// [`CallResult::Failed`]
    Failed,
    /// [`CallResult::Aborted`]
    Aborted,
    /// No outcome yet.
    Open,
}

/// The calls found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// How many entries of the log this answer covers.
    pub size: u64,
    /// The index is being built again and this answer lacks what it has not reached: how many entries it is to cover. Absent
    /// when the index has reached the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilding_to: Option<u64>,
    /// Newest first; oldest first when the question had `from`.
    pub calls: Vec<Call>,
    /// There may be more: ask again with `before` (or `from`, if the question had that) set to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// One call: its intent, joined with its outcome where there is one. What BigQuery reported wins over what was read from
/// the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Index of the intent's entry.
    pub index: u64,
    /// Index of the outcome's entry; absent while the call is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_index: Option<u64>,
    /// Index of the entry that says last how far the call had come; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_index: Option<u64>,
    /// When the recorder received the intent.
    pub received: Timestamp,
    /// When the sidecar wrote it, by its own clock.
    pub time: Timestamp,
    /// Who called.
    pub subject: Workload,
    /// The connection in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// The session.
    pub session: Uuid,
    /// The intent's place in it.
    pub seq: u64,
    /// The method: `jobs.query`.
    pub method: String,
    /// The request line.
    pub http: HttpTarget,
    /// The statement's kind: `SELECT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_kind: Option<String>,
    /// The tables: those that BigQuery reported, and those that only the request named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<FoundTable>,
    /// It names more tables than its entry holds. A search by table finds such a call under every name: it may be among them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tables_truncated: bool,
    /// The statements of a script, as they were read from the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<StatementUse>,
    /// The script has more statements than its entry lists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub statements_truncated: bool,
    /// The SQL's text, cut at [`MAX_SQL`]; absent when there is none or its blob was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// The SQL is longer than what is here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sql_truncated: bool,
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobReference>,
    /// The job's labels, as the agent claims them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The trace that the call is part of, as the agent claims it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// How the sidecar knew the job, when the request does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
    /// The resumable upload that it began or went on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Digest>,
    /// How it ended; absent while the call is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<CallResult>,
    /// The HTTP status that the agent was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// BigQuery's error reason, or our category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Rows in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Rows of the whole result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_rows: Option<u64>,
    /// Rows changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affected_rows: Option<u64>,
    /// Rows that an insertAll sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_sent: Option<u64>,
    /// How many of them BigQuery did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_errors: Option<u64>,
    /// Bytes of the request's body that left, where it carries data; so far, while the call is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Bytes of the answer that came; so far, while the call is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_bytes: Option<u64>,
    /// Whether the request left for BigQuery; absent while the call is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<bool>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_micros: Option<u64>,
    /// Why the sidecar refused it, when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A table of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundTable {
    /// The table and what was done with it.
    #[serde(flatten)]
    pub table: TableUse,
    /// True when BigQuery said so; false when it was read from the request.
    pub reported: bool,
}

impl Query {
    /// The query string, without `?`; empty when nothing is asked.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        query_string(self)
    }

    /// The query string as the log has it of a read: what was looked for may be somebody's name, and an entry is for ever, so it says that
    /// there were words, and not which.
    #[must_use]
    pub fn to_entered_filter(&self) -> String {
        entered_filter(&Self { words: None, ..self.clone() }.to_query_string(), self.words.is_some())
    }
}

/// A filter as the log has it, of what was asked besides words, and whether there were some.
#[must_use]
pub fn entered_filter(rest: &str, words: bool) -> String {
    match (rest, words) {
        (rest, false) => rest.to_owned(),
        ("", true) => "words=*".into(),
        (rest, true) => format!("{rest}&words=*"),
    }
}

/// The parts of a question as a query string.
fn query_string(question: &impl Serialize) -> String {
    let parts = serde_json::to_value(question).expect("every part is a string, a number or a truth value");
    let pairs = parts.as_object().into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}={}", percent_encode(&value))
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// Everything but RFC 3986's unreserved characters is escaped.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

impl From<CallResult> for ResultFilter {
    fn from(result: CallResult) -> Self {
        match result {
            CallResult::Answered => Self::Answered,
            CallResult::Refused => Self::Refused,
            CallResult::Failed => Self::Failed,
            CallResult::Aborted => Self::Aborted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_string_has_what_was_asked_and_nothing_else() {
        assert_eq!(Query::default().to_query_string(), "");
        let query = Query {
            agent: Some("agents/billing".into()),
            words: Some("über & batch_id".into()),
            result: Some(ResultFilter::Open),
            refused: Some(false),
            since: Some("2026-11-22T10:00:00Z".parse().expect("a time")),
            limit: Some(7),
            ..Query::default()
        };
        assert_eq!(
            query.to_query_string(),
            "agent=agents%2Fbilling&limit=7&refused=false&result=open&since=2026-11-22T10%3A00%3A00Z\
             &words=%C3%BCber%20%26%20batch_id"
        );
        assert_eq!(
            query.to_entered_filter(),
            "agent=agents%2Fbilling&limit=7&refused=false&result=open&since=2026-11-22T10%3A00%3A00Z&words=*"
        );
        assert_eq!(Query { words: query.words, ..Query::default() }.to_entered_filter(), "words=*");
        assert_eq!(Query::default().to_entered_filter(), "");
    }

    #[test]
    fn a_found_table_is_flat() {
        let found = FoundTable {
            table: TableUse {
                project: None,
                dataset: Some("billing".into()),
                table: "invoices".into(),
                access: crate::call::Access::Read,
            },
            reported: true,
        };
        let json = serde_json::to_string(&found).expect("plain");
        assert_eq!(json, r#"{"dataset":"billing","table":"invoices","access":"read","reported":true}"#);
        assert_eq!(serde_json::from_str::<FoundTable>(&json).expect("ours"), found);
    }
}
