//! Refusals: what a caller is told when the recorder does not do what was asked, and the one map from there to HTTP.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

/// Why a request was refused. The word is fixed: programs decide by it, and it is the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The body is not a batch.
    MalformedBatch,
    /// A statement is not JSON of this format.
    MalformedStatement,
    /// A statement's `v` is not known here.
    UnknownVersion,
    /// The statements of a batch are of several sessions.
    MixedSessions,
    /// The session's id is not a UUID of version 7 of recent time.
    BadSession,
    /// A statement names a blob that is neither in the batch nor stored.
    BlobMissing,
    /// A blob of the batch is named by no statement.
    BlobUnnamed,
    /// A blob is not as long as the statement says.
    BlobSize,
    /// The query can't be read.
    BadQuery,
    /// No bearer token came along.
    NoToken,
    /// The token is not one of this issuer's, or was changed.
    BadToken,
    /// The token's time is over, or has not come.
    TokenExpired,
    /// The token is for somebody else.
    WrongAudience,
    /// The token is not bound to a pod.
    NoPod,
    /// The token's names don't fit into an envelope.
    SubjectTooLarge,
    /// This role may not write this kind.
    KindNotAllowed,
    /// The session belongs to another workload.
    ForeignSession,
    /// Only readers may do this.
    NotAReader,
    /// There is nothing at this place.
    NotFound,
    /// Another method than this place has.
    MethodNotAllowed,
    /// The body did not arrive in time.
    BodyTimeout,
    /// This `seq` was recorded with other bytes.
    SeqConflict,
    /// This `seq` is older than what the recorder remembers of the session.
    SeqTooOld,
    /// `prev` is not the digest of the statement before.
    ChainBroken,
    /// The session does not begin with `session.start` at `seq` 0.
    SessionUnknown,
    /// The session has ended or was lost.
    SessionClosed,
    /// The outcome's call is not an open one of the session, and no hole swallowed it.
    CallUnknown,
    /// Too much of the session is missing.
    TooManyHoles,
    /// The session has too many calls without outcome.
    TooManyOpenCalls,
    /// The batch is too large.
    BatchTooLarge,
    /// A statement is too large.
    StatementTooLarge,
    /// A blob is too large.
    BlobTooLarge,
    /// The body is not of the media type of a batch.
    MediaType,
    /// The recorder's queue is full.
    Busy,
    /// The recorder has as many sessions as it can hold.
    TooManySessions,
    /// The recorder is stopping.
    Stopping,
    /// The index can't answer.
    IndexFailed,
    /// The search took too long.
    SearchTimeout,
    /// The recorder can't read what it wrote.
    StorageFailed,
}

impl Reason {
    /// The fixed word, and the status that goes with it.
    #[must_use]
    pub fn describe(self) -> (&'static str, StatusCode) {
        use StatusCode as S;
        match self {
            Self::MalformedBatch => ("malformed_batch", S::BAD_REQUEST),
            Self::MalformedStatement => ("malformed_statement", S::BAD_REQUEST),
            Self::UnknownVersion => ("unknown_version", S::BAD_REQUEST),
            Self::MixedSessions => ("mixed_sessions", S::BAD_REQUEST),
            Self::BadSession => ("bad_session", S::BAD_REQUEST),
            Self::BlobMissing => ("blob_missing", S::BAD_REQUEST),
            Self::BlobUnnamed => ("blob_unnamed", S::BAD_REQUEST),
            Self::BlobSize => ("blob_size", S::BAD_REQUEST),
            Self::BadQuery => ("bad_query", S::BAD_REQUEST),
            Self::NoToken => ("no_token", S::UNAUTHORIZED),
            Self::BadToken => ("bad_token", S::UNAUTHORIZED),
            Self::TokenExpired => ("token_expired", S::UNAUTHORIZED),
            Self::WrongAudience => ("wrong_audience", S::UNAUTHORIZED),
            Self::NoPod => ("no_pod", S::FORBIDDEN),
            Self::SubjectTooLarge => ("subject_too_large", S::FORBIDDEN),
            Self::KindNotAllowed => ("kind_not_allowed", S::FORBIDDEN),
            Self::ForeignSession => ("foreign_session", S::FORBIDDEN),
            Self::NotAReader => ("not_a_reader", S::FORBIDDEN),
            Self::NotFound => ("not_found", S::NOT_FOUND),
            Self::MethodNotAllowed => ("method_not_allowed", S::METHOD_NOT_ALLOWED),
            Self::BodyTimeout => ("body_timeout", S::REQUEST_TIMEOUT),
            Self::SeqConflict => ("seq_conflict", S::CONFLICT),
            Self::SeqTooOld => ("seq_too_old", S::CONFLICT),
            Self::ChainBroken => ("chain_broken", S::CONFLICT),
            Self::SessionUnknown => ("session_unknown", S::CONFLICT),
            Self::SessionClosed => ("session_closed", S::CONFLICT),
            Self::CallUnknown => ("call_unknown", S::CONFLICT),
            Self::TooManyHoles => ("too_many_holes", S::CONFLICT),
            Self::TooManyOpenCalls => ("too_many_open_calls", S::CONFLICT),
            Self::BatchTooLarge => ("batch_too_large", S::PAYLOAD_TOO_LARGE),
            Self::StatementTooLarge => ("statement_too_large", S::PAYLOAD_TOO_LARGE),
            Self::BlobTooLarge => ("blob_too_large", S::PAYLOAD_TOO_LARGE),
            Self::MediaType => ("media_type", S::UNSUPPORTED_MEDIA_TYPE),
            Self::Busy => ("busy", S::SERVICE_UNAVAILABLE),
            Self::TooManySessions => ("too_many_sessions", S::SERVICE_UNAVAILABLE),
            Self::Stopping => ("stopping", S::SERVICE_UNAVAILABLE),
            Self::IndexFailed => ("index_failed", S::INTERNAL_SERVER_ERROR),
            Self::SearchTimeout => ("search_timeout", S::SERVICE_UNAVAILABLE),
            Self::StorageFailed => ("storage_failed", S::INTERNAL_SERVER_ERROR),
        }
    }
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
}

impl Refusal {
    /// A refusal of the whole request.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), statement: None }
    }

    /// The same, because of one statement of the batch.
    #[must_use]
    pub fn of_statement(self, number: usize) -> Self {
        Self { statement: Some(number), ..self }
    }

    /// The metric's label.
    #[must_use]
    pub fn category(&self) -> &'static str {
        self.reason.describe().0
    }
}

/// Seconds after which a caller may try again what a busy recorder refused.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (word, status) = self.reason.describe();
        let mut error = json!({ "reason": word, "message": self.message });
        if let Some(number) = self.statement {
            error["statement"] = number.into();
        }
        let mut answer = (status, Json(json!({ "error": error }))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}
