//! What a statement says about one BigQuery call: the intent before it leaves, the outcome after it.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// `call.intent`: everything that decides what BigQuery is asked to do. Texts are blobs of the same statement: `sql` (the
/// query's text, decoded) and `request` (the body, verbatim after any content encoding).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// The method's name in the API's discovery document (`jobs.query`), [`UNKNOWN_METHOD`], or [`OTHER_METHOD`].
    pub method: String,
    /// The request line, without secrets.
    pub http: HttpTarget,
    /// The project in the path: the one that pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The job that the caller named, or, where `joined` says so, that the sidecar knew this request to belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobReference>,
    /// How the sidecar knew the job that the request itself does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
    /// The resumable upload that this request goes on with: a digest of its id under a salt that only this run of the sidecar
    /// has, since whoever has the id may send data. All requests of one upload have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Digest>,
    /// What the SQL is, in BigQuery's words for `statementType` (`SELECT`, `DELETE`, `SCRIPT`), as our scanner reads it; for
    /// other jobs their `jobType` (`LOAD`, `COPY`, `EXTRACT`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_kind: Option<String>,
    /// Tables that the request names: in its path, its configuration, or its SQL as our scanner reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableUse>,
    /// More tables were named than an entry holds ([`MAX_TABLES`]); the SQL blob has them all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tables_truncated: bool,
    /// The statements of a script as our scanner reads them, in the order of the text; those within blocks one by one. Absent
    /// when `statement_kind` and `tables` say all of the only statement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<StatementUse>,
    /// The script has more statements than an entry lists ([`MAX_STATEMENTS`]); the SQL blob has them all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub statements_truncated: bool,
    /// The caller asks what it would do, not to do it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// The request's blob lacks the secrets of the body (passwords, tokens), each replaced by `REDACTED`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
    /// Set when the sidecar refuses the call: the category. Such a call is never forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// How a request was joined with its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Joined {
    /// It goes on with an upload, whose first request has the job.
    Upload,
    /// It reads the anonymous table that a job's result was reported to be in.
    Table,
}

/// The name of a call that looks like BigQuery and is not in the method table.
pub const UNKNOWN_METHOD: &str = "unknown";

/// The name of a call to another Google API, on a host that is looked into because BigQuery can be reached through it.
pub const OTHER_METHOD: &str = "other";

/// How many tables an intent or outcome lists.
pub const MAX_TABLES: usize = 128;

/// How many statements of a script an intent lists. The rest is left out, and the list is marked as truncated.
pub const MAX_STATEMENTS: usize = 128;

/// One statement of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatementUse {
    /// BigQuery's word for it (`DELETE`), or, where it has none, the words that it begins with (`DECLARE`, `EXECUTE_IMMEDIATE`);
    /// `IF`, `WHILE` and the like for a condition that names a table. Absent for what begins no statement that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Tables that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableUse>,
    /// It names more tables than the entry had room for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tables_truncated: bool,
}

/// The request line of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpTarget {
    /// `GET`, `POST`, ...
    pub verb: String,
    /// The host, which SNI and Host agree on.
    pub host: String,
    /// Path and query, cut at [`MAX_PATH`] bytes; values of secret parameters are replaced by `REDACTED`.
    pub path: String,
}

/// Greatest length of a recorded path and query, in bytes.
pub const MAX_PATH: usize = 8 * 1024;

/// BigQuery's `jobReference`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobReference {
    /// The project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The id; unique within project and location.
    pub id: String,
    /// The location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// A table and what is done with it. Absent parts were not said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableUse {
    /// The project; the call's own when it was not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The data set; absent for an unqualified name without a default data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// The table, view or wildcard (`events_*`).
    pub table: String,
    /// Read or written.
    pub access: Access,
}

/// What is done with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Its rows or metadata are read.
    Read,
    /// It is created, changed or deleted.
    Write,
}

/// `call.outcome`: how a call ended. The blob `error` has BigQuery's error message, when there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `seq` of the intent, in the same session.
    pub call: u64,
    /// How it ended.
    pub result: CallResult,
    /// True when the request left for BigQuery.
    pub forwarded: bool,
    /// The HTTP status that the agent was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// BigQuery's error reason (`notFound`), or our category when the call was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What BigQuery's answer said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<Reported>,
    /// The request's body as it left, where it carries data: an upload, or the rows of an insertAll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<BodyDigest>,
    /// The rows in that body, of an insertAll. Absent when it could not be read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowsSent>,
    /// The resumable upload that this answer began, as [`Intent::upload`] of its later requests has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Digest>,
    /// The answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<BodyDigest>,
    /// From the arrival of the request's head to the end of the answer, in microseconds.
    pub duration_micros: u64,
}

/// What the rows of an insertAll were, as the request has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RowsSent {
    /// How many.
    pub count: u64,
    /// How many of them have an `insertId`, by which BigQuery recognises a row that was sent twice.
    pub with_insert_id: u64,
}

/// `call.progress`: how far an open call has come. A call has one after so many bytes, and after so much time, so that what
/// passes in a day is bound before the day is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// `seq` of the intent, in the same session.
    pub call: u64,
    /// What left of the request's body, where it carries data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<BodySoFar>,
    /// What came of the answer's body; absent while there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<BodySoFar>,
    /// Since the arrival of the request's head, in microseconds.
    pub duration_micros: u64,
}

/// The part of a body that has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BodySoFar {
    /// Bytes on the wire, as encoded.
    pub wire_bytes: u64,
    /// How many bytes of the content they gave, after any content encoding.
    pub content_bytes: u64,
    /// SHA-256 of the first `content_bytes` bytes of the content. Absent when the encoding is not known here, or the data did
    /// not fit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallResult {
    /// BigQuery answered, and the whole answer went to the agent. The status says what it answered.
    Answered,
    /// The sidecar refused it; nothing left.
    Refused,
    /// BigQuery could not be reached, or its answer broke off.
    Failed,
    /// The agent went away, or the sidecar was stopped, before the end of the answer.
    #[default]
    Aborted,
}

/// What BigQuery itself reported in its answer; it wins over what we read from the SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reported {
    /// `jobReference`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobReference>,
    /// `statementType`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement_kind: Option<String>,
    /// `referencedTables` (read) and the destination or DDL target (written); at most [`MAX_TABLES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableUse>,
    /// State of the job: `PENDING`, `RUNNING`, `DONE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Rows in this answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Rows of the whole result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_rows: Option<u64>,
    /// `numDmlAffectedRows`, or rows that a load put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affected_rows: Option<u64>,
    /// Rows of an insertAll that BigQuery did not take: the members of `insertErrors`. Absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_errors: Option<u64>,
    /// `totalBytesProcessed`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_processed: Option<u64>,
    /// Names of the result's columns, at most 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The answer was longer than the sidecar reads; what is here may be incomplete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// A body that went by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BodyDigest {
    /// Bytes on the wire, as encoded.
    pub wire_bytes: u64,
    /// SHA-256 of the body after any content encoding. Absent when the encoding is not known here, the data did not fit it, or
    /// the body broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl std::fmt::Display for TableUse {
    /// `project.dataset.table`, without the parts that were not said.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.project, &self.dataset].into_iter().flatten() {
            write!(f, "{part}.")?;
        }
        f.write_str(&self.table)
    }
}
