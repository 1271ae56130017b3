//! Why a call is not forwarded although it reached a BigQuery host.

/// A call that can't be named or whose request can't be read in one way only. It is recorded as refused, never forwarded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The method table has no such method.
    #[error(
        "bqwitness: {verb} {path} is not a method of the BigQuery API that it can record ({hint}), so it was not sent. Use a \
         documented REST v2 method, or ask who runs the cluster to update bqwitness."
    )]
    UnknownMethod {
        /// HTTP verb.
        verb: String,
        /// Path, without the query.
        path: String,
        /// What it looks like, or what is missing.
        hint: &'static str,
    },
    /// The head says two things: two servers could take it for different calls.
    #[error(
        "bqwitness: this request could be read in two ways ({0}), so it was not sent. Send it without that."
    )]
    AmbiguousRequest(&'static str),
    /// The body is not the JSON that the method takes.
    #[error(
        "bqwitness: the request's body could not be read as JSON ({0}), so it was not sent. Correct the body and send it again."
    )]
    MalformedBody(String),
    /// The body says something twice: two parsers could read it differently.
    #[error(
        "bqwitness: the request's body says something twice ({0}), so it was not sent. Say it once and send it again."
    )]
    AmbiguousBody(String),
}

impl Refusal {
    /// The category: a metric label, and `refused` in the intent.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::UnknownMethod { .. } => "unknown_method",
            Self::AmbiguousRequest(_) => "ambiguous_request",
            Self::MalformedBody(_) => "malformed_body",
            Self::AmbiguousBody(_) => "ambiguous_body",
        }
    }
}
