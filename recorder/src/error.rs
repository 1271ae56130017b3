//! Refusals: what a caller is told when the recorder does not do what was asked, and the one map from there to HTTP.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// One list makes the enum, its words and statuses, and the table in docs/format.md (which a test holds against it).
macro_rules! reasons {
    ($(#[doc = $meaning:literal] $reason:ident: $word:literal, $status:ident;)+) => {
        /// Why a request was refused. The word is fixed: programs decide by it, and it is the metric's label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $reason,)+
        }

        impl Reason {
            /// All of them, each with what it means.
            pub const ALL: &[(Self, &str)] = &[$((Self::$reason, $meaning),)+];

            /// The fixed word, and the status that goes with it.
            #[must_use]
            pub fn describe(self) -> (&'static str, StatusCode) {
                match self {
                    $(Self::$reason => ($word, StatusCode::$status),)+
                }
            }
        }
    };
}

reasons! {
    /// The body is not a batch.
    MalformedBatch: "malformed_batch", BAD_REQUEST;
    /// A statement is not JSON of this format.
    MalformedStatement: "malformed_statement", BAD_REQUEST;
    /// A statement's `v` is not known here.
    UnknownVersion: "unknown_version", BAD_REQUEST;
    /// The statements of a batch are of several sessions.
    MixedSessions: "mixed_sessions", BAD_REQUEST;
    /// The session's id is not a UUID of version 7 of recent time.
    BadSession: "bad_session", BAD_REQUEST;
    /// A statement names a blob that is neither in the batch nor stored.
    BlobMissing: "blob_missing", BAD_REQUEST;
    /// A blob of the batch is named by no statement.
    BlobUnnamed: "blob_unnamed", BAD_REQUEST;
    /// A blob is not as long as the statement says.
    BlobSize: "blob_size", BAD_REQUEST;
    /// The query can't be read.
    BadQuery: "bad_query", BAD_REQUEST;
    /// The request's head is none of HTTP's.
    MalformedHead: "malformed_head", BAD_REQUEST;
    /// No bearer token came along.
    NoToken: "no_token", UNAUTHORIZED;
    /// The token is not one of this issuer's, or was changed.
    BadToken: "bad_token", UNAUTHORIZED;
    /// The token's time is over, or has not come.
    TokenExpired: "token_expired", UNAUTHORIZED;
    /// The token is for somebody else.
    WrongAudience: "wrong_audience", UNAUTHORIZED;
    /// The token is not bound to a pod.
    NoPod: "no_pod", FORBIDDEN;
    /// The token's names don't fit into an envelope.
    SubjectTooLarge: "subject_too_large", FORBIDDEN;
    /// This role may not write this kind.
    KindNotAllowed: "kind_not_allowed", FORBIDDEN;
    /// The session belongs to another workload.
    ForeignSession: "foreign_session", FORBIDDEN;
    /// The bearer may not read this; the message says whom to ask for what.
    NotAReader: "not_a_reader", FORBIDDEN;
    /// There are too many namespaces to ask about: the reader must name one.
    NameANamespace: "name_a_namespace", FORBIDDEN;
    /// There is nothing at this place.
    NotFound: "not_found", NOT_FOUND;
    /// The blob was deleted for good; `entry` is the index of the entry that says so.
    BlobDeleted: "blob_deleted", GONE;
    /// Another method than this place has.
    MethodNotAllowed: "method_not_allowed", METHOD_NOT_ALLOWED;
    /// The body did not arrive in time.
    BodyTimeout: "body_timeout", REQUEST_TIMEOUT;
    /// This `seq` was recorded with other bytes.
    SeqConflict: "seq_conflict", CONFLICT;
    /// This `seq` is older than what the recorder remembers of the session.
    SeqTooOld: "seq_too_old", CONFLICT;
    /// `prev` is not the digest of the statement before.
    ChainBroken: "chain_broken", CONFLICT;
    /// The session does not begin with `session.start` at `seq` 0.
    SessionUnknown: "session_unknown", CONFLICT;
    /// The session has ended or was lost.
    SessionClosed: "session_closed", CONFLICT;
    /// The call of an outcome or a progress is not an open one of the session, and no hole swallowed it.
    CallUnknown: "call_unknown", CONFLICT;
    /// Too much of the session is missing.
    TooManyHoles: "too_many_holes", CONFLICT;
    /// The session has too many calls without outcome.
    TooManyOpenCalls: "too_many_open_calls", CONFLICT;
    /// The request's head is too large.
    HeadTooLarge: "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// The batch is too large.
    BatchTooLarge: "batch_too_large", PAYLOAD_TOO_LARGE;
    /// A statement is too large.
    StatementTooLarge: "statement_too_large", PAYLOAD_TOO_LARGE;
    /// A blob is too large.
    BlobTooLarge: "blob_too_large", PAYLOAD_TOO_LARGE;
    /// The body is not of the media type of a batch.
    MediaType: "media_type", UNSUPPORTED_MEDIA_TYPE;
    /// The reader reads too many different things in a minute.
    TooManyReads: "too_many_reads", TOO_MANY_REQUESTS;
    /// The recorder's queue is full.
    Busy: "busy", SERVICE_UNAVAILABLE;
    /// The workload's share of what is on its way in is used up.
    WorkloadBusy: "workload_busy", SERVICE_UNAVAILABLE;
    /// The workload has as many sessions as one may have.
    TooManyOfWorkload: "too_many_of_workload", SERVICE_UNAVAILABLE;
    /// The recorder has as many sessions as it can hold.
    TooManySessions: "too_many_sessions", SERVICE_UNAVAILABLE;
    /// The cluster's API server, which is to say who the bearer is, can't be asked.
    IdentityUnavailable: "identity_unavailable", SERVICE_UNAVAILABLE;
    /// The cluster's API server, which is to say what the reader may read, can't be asked.
    AccessUnavailable: "access_unavailable", SERVICE_UNAVAILABLE;
    /// It is recorded, and not yet cosigned by enough witnesses: the same again gets its receipt.
    NotWitnessed: "not_witnessed", SERVICE_UNAVAILABLE;
    /// The recorder is stopping.
    Stopping: "stopping", SERVICE_UNAVAILABLE;
    /// The index can't answer.
    IndexFailed: "index_failed", INTERNAL_SERVER_ERROR;
    /// The search took too long.
    SearchTimeout: "search_timeout", SERVICE_UNAVAILABLE;
    /// The recorder can't read what it wrote.
    StorageFailed: "storage_failed", INTERNAL_SERVER_ERROR;
}

/// A refusal: nothing was recorded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What to do about it, for people. Never holds a token or recorded text.
    pub message: String,
    /// The number (from 0) of the statement of the batch that is at fault.
    pub statement: Option<usize>,
    /// Index of the entry that says more.
    pub entry: Option<u64>,
}

impl Refusal {
    /// A refusal of the whole request.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), statement: None, entry: None }
    }

    /// The same, because of one statement of the batch.
    #[must_use]
    pub fn of_statement(self, number: usize) -> Self {
        Self { statement: Some(number), ..self }
    }

    /// The same; this entry of the log says more.
    #[must_use]
    pub fn of_entry(self, index: u64) -> Self {
        Self { entry: Some(index), ..self }
    }

    /// The metric's label.
    #[must_use]
    pub fn category(&self) -> &'static str {
        self.reason.describe().0
    }
}

/// Seconds after which a caller may try again what a busy recorder refused.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl Refusal {
    /// The answer's body.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut error = json!({ "reason": self.category(), "message": self.message });
        if let Some(number) = self.statement {
            error["statement"] = number.into();
        }
        if let Some(index) = self.entry {
            error["entry"] = index.into();
        }
        json!({ "error": error })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (_, status) = self.reason.describe();
        let mut answer = (status, Json(self.json())).into_response();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_lists_every_reason() {
        let row = |(reason, meaning): &(Reason, &str)| {
            let (word, status) = reason.describe();
            format!("| `{word}` | {} |{meaning} |\n", status.as_u16())
        };
        let table: String = Reason::ALL.iter().map(row).collect();
        let format = include_str!("../../docs/format.md");
        assert!(format.contains(&table), "docs/format.md lacks this table:\n{table}");
    }
}
