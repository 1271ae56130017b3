//! Errors that the sidecar itself gives, in the form in which BigQuery's clients print them: Google's error JSON, or a gRPC
//! status without a body. This is the one place where our errors become HTTP.

use deliver::NotRecorded;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde_json::json;

use crate::bigquery;
use crate::body::AgentBody;
use crate::encoding::Undecodable;
use crate::forward::ForwardError;
use crate::identity::error::CredentialError;
use crate::identity::placeholder::BadPlaceholder;
use crate::limits;

/// Why a request is answered by the sidecar and not by BigQuery.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The host of the request is not the one that TLS was set up for.
    #[error(
        "bqwitness: this connection is for {name}, but the request is for another host; it was not sent. Open a connection to that host."
    )]
    Misdirected {
        /// The name of the TLS connection.
        name: String,
    },
    /// The head can be read in two ways, or not at all.
    #[error("bqwitness: the request's head {0}; it was not sent.")]
    BadHead(&'static str),
    /// The head has too many bytes or headers.
    #[error(
        "bqwitness: the request's head is larger than {} bytes, or has more than {} headers; it was not sent. Send fewer or shorter ones.",
        limits::HTTP1_HEAD,
        limits::HEADERS
    )]
    HeadTooLarge,
    /// The head was begun and did not arrive in time.
    #[error("bqwitness: the request's head was not complete after {0} seconds; it was not sent.")]
    SlowHead(u64),
    /// The body that decides what is asked is too large to be recorded.
    #[error(
        "bqwitness: the request's body is larger than {0} bytes, more than can be recorded; it was not sent. Send less in one request."
    )]
    TooLarge(usize),
    /// A body where none was announced.
    #[error("bqwitness: this request may not have a body; it was not sent.")]
    UnexpectedBody,
    /// The body can't be decoded.
    #[error("bqwitness: the request's body can't be read, because {0}; it was not sent.")]
    Undecodable(Undecodable),
    /// The body did not arrive in time.
    #[error("bqwitness: the request's body was not complete after {0} seconds; it was not sent.")]
    SlowBody(u64),
    /// The body broke off. Nobody is left to read this.
    #[error("bqwitness: the request's body broke off; it was not sent.")]
    BrokenBody,
    /// There is no memory for another body now.
    #[error("bqwitness: too many large requests at once; this one was not sent. Send it again.")]
    Overloaded,
    /// What the call means is unknown or ambiguous.
    #[error(transparent)]
    Meaning(#[from] bigquery::Refusal),
    /// The intent could not be recorded.
    #[error(
        "bqwitness: this call was not sent to BigQuery, because it could not be recorded: {0}. Nothing was executed; it can be sent again."
    )]
    NotRecorded(NotRecorded),
    /// The recorder does not accept who this pod says it is.
    #[error(
        "bqwitness: this call was not sent to BigQuery, because it can't be attributed to this pod: {0}. Nothing was executed."
    )]
    Unattributed(NotRecorded),
    /// There is no Google credential for this pod.
    #[error(
        "bqwitness: this call was not sent to BigQuery, because this pod has no Google credential ({category}): {0}. Nothing was executed.",
        category = .0.category()
    )]
    NoCredential(#[from] CredentialError),
    /// The agent's placeholder is not one that is taken.
    #[error("bqwitness: {0}. The call was not sent.")]
    Placeholder(#[from] BadPlaceholder),
    /// The agent sent no credential at all.
    #[error(
        "bqwitness: this request carries no credential; it was not sent. Clients get one from the metadata server, which the sidecar is (GCE_METADATA_HOST)."
    )]
    NoToken,
    /// What was asked for is a token or a key.
    #[error(
        "bqwitness: {0} gives out tokens or keys, and this pod holds none but the sidecar's placeholder; the request was not sent."
    )]
    Minting(String),
    /// BigQuery could not be reached or gave no answer.
    #[error("bqwitness: {0}")]
    Forward(#[from] ForwardError),
}

impl From<NotRecorded> for Refused {
    fn from(error: NotRecorded) -> Self {
        if error.is_unattributed() { Self::Unattributed(error) } else { Self::NotRecorded(error) }
    }
}

/// What comes with a 401.
const CHALLENGE: &str = r#"Bearer realm="https://accounts.google.com/", error="invalid_token""#;

/// How Google's error form says it.
struct Form {
    status: StatusCode,
    reason: &'static str,
    name: &'static str,
    grpc: u8,
}

impl Form {
    const fn new(status: StatusCode, reason: &'static str, name: &'static str, grpc: u8) -> Self {
        Self { status, reason, name, grpc }
    }
}

const INVALID: Form = Form::new(StatusCode::BAD_REQUEST, "badRequest", "INVALID_ARGUMENT", 3);
const DENIED: Form = Form::new(StatusCode::FORBIDDEN, "accessDenied", "PERMISSION_DENIED", 7);
const UNAUTHENTICATED: Form = Form::new(StatusCode::UNAUTHORIZED, "authError", "UNAUTHENTICATED", 16);
const UNAVAILABLE: Form = Form::new(StatusCode::SERVICE_UNAVAILABLE, "backendError", "UNAVAILABLE", 14);

impl Refused {
    /// The fixed name of the reason: a metric label, and `refused` or `reason` in the record.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Misdirected { .. } => "misdirected",
            Self::BadHead(_) => "bad_head",
            Self::HeadTooLarge => "head_too_large",
            Self::SlowHead(_) => "head_timeout",
            Self::TooLarge(_) | Self::Undecodable(Undecodable::TooLarge(_)) => "body_too_large",
            Self::UnexpectedBody => "unexpected_body",
            Self::Undecodable(Undecodable::Unknown) => "encoding_unknown",
            Self::Undecodable(Undecodable::Broken) => "encoding_broken",
            Self::SlowBody(_) => "body_timeout",
            Self::BrokenBody => "body_broken",
            Self::Overloaded => "overloaded",
            Self::Meaning(refusal) => refusal.category(),
            Self::NotRecorded(error) | Self::Unattributed(error) => error.category(),
            Self::NoCredential(error) => error.category(),
            Self::Placeholder(bad) => bad.category(),
            Self::NoToken => "no_token",
            Self::Minting(_) => "minting_refused",
            Self::Forward(error) => error.category(),
        }
    }

    /// The HTTP status that the agent is given.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.form().status
    }

    fn form(&self) -> Form {
        match self {
            Self::Misdirected { .. } => {
                Form::new(StatusCode::MISDIRECTED_REQUEST, "misdirectedRequest", "FAILED_PRECONDITION", 9)
            }
            Self::BadHead(_) | Self::UnexpectedBody | Self::BrokenBody => INVALID,
            Self::Undecodable(Undecodable::Unknown) => {
                Form::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupportedMediaType", "INVALID_ARGUMENT", 3)
            }
            Self::Undecodable(Undecodable::Broken) => INVALID,
            Self::TooLarge(_) | Self::Undecodable(Undecodable::TooLarge(_)) => {
                Form::new(StatusCode::PAYLOAD_TOO_LARGE, "requestTooLarge", "INVALID_ARGUMENT", 3)
            }
            Self::HeadTooLarge => Form::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "requestHeaderFieldsTooLarge",
                "INVALID_ARGUMENT",
                3,
            ),
            Self::SlowBody(_) | Self::SlowHead(_) => {
                Form::new(StatusCode::REQUEST_TIMEOUT, "requestTimeout", "DEADLINE_EXCEEDED", 4)
            }
            Self::Meaning(
                bigquery::Refusal::UnknownMethod { .. } | bigquery::Refusal::AmbiguousRequest(_),
            )
            | Self::Unattributed(_)
            | Self::Minting(_) => DENIED,
            Self::NoCredential(error) if error.is_refusal() => DENIED,
            Self::NoCredential(_) => UNAVAILABLE,
            Self::Placeholder(_) | Self::NoToken => UNAUTHENTICATED,
            Self::Meaning(_) => INVALID,
            Self::Overloaded | Self::NotRecorded(_) => UNAVAILABLE,
            Self::Forward(_) => Form::new(StatusCode::BAD_GATEWAY, "badGateway", "UNAVAILABLE", 14),
        }
    }

    /// The answer, as a REST client or a gRPC client reads it.
    #[must_use]
    pub fn answer(&self, grpc: bool) -> Response<AgentBody> {
        if grpc { self.grpc() } else { self.rest() }
    }

    /// Google's error JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let (form, message) = (self.form(), self.to_string());
        let body = json!({"error": {
            "code": form.status.as_u16(),
            "message": message,
            "errors": [{"message": message, "domain": "global", "reason": form.reason}],
            "status": form.name,
        }});
        format!("{body:#}\n")
    }

    fn rest(&self) -> Response<AgentBody> {
        let (form, body) = (self.form(), self.json());
        let mut answer = Response::new(AgentBody::Own(Some(body.clone().into())));
        *answer.status_mut() = form.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if form.status == StatusCode::UNAUTHORIZED {
            // As Google says it: clients ask for a new token, and try again.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        answer
    }

    fn grpc(&self) -> Response<AgentBody> {
        let mut answer = Response::new(AgentBody::Own(None));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(self.form().grpc)));
        headers.insert("grpc-message", percent_encoded(&self.to_string()));
        answer
    }
}

/// Is this a gRPC request, whose client reads statuses and no bodies?
#[must_use]
pub fn is_grpc(headers: &http::HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// `grpc-message` as gRPC over HTTP/2 has it: printable ASCII but `%`.
fn percent_encoded(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    HeaderValue::try_from(encoded).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::error::Category;

    fn body(answer: Response<AgentBody>) -> serde_json::Value {
        match answer.into_body() {
            AgentBody::Own(Some(body)) => serde_json::from_slice(&body).expect("JSON"),
            _ => serde_json::Value::Null,
        }
    }

    #[test]
    fn rest_clients_read_googles_error_form() {
        let refused = Refused::Meaning(bigquery::Refusal::AmbiguousRequest("two Content-Type headers"));
        let answer = refused.answer(false);
        assert_eq!(answer.status(), 403);
        let error = &body(answer)["error"];
        assert_eq!(error["code"], 403);
        assert_eq!(error["status"], "PERMISSION_DENIED");
        assert_eq!(error["errors"][0]["reason"], "accessDenied");
        assert_eq!(error["message"], error["errors"][0]["message"]);
        assert!(error["message"].as_str().expect("text").starts_with("bqwitness: "));
    }

    #[test]
    fn grpc_clients_read_a_status_without_a_body() {
        let answer = Refused::BadHead("has 100 % of\nwhat it should not").answer(true);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["grpc-status"], "3");
        assert_eq!(
            answer.headers()["grpc-message"],
            "bqwitness: the request's head has 100 %25 of%0Awhat it should not; it was not sent."
        );
        assert!(matches!(answer.into_body(), AgentBody::Own(None)));
    }

    #[test]
    fn statuses_and_categories() {
        let of = |refused: Refused| (refused.status().as_u16(), refused.category());
        assert_eq!(of(Refused::Misdirected { name: "a".into() }), (421, "misdirected"));
        assert_eq!(of(Refused::TooLarge(1)), (413, "body_too_large"));
        assert_eq!(of(Refused::Undecodable(Undecodable::TooLarge(1))), (413, "body_too_large"));
        assert_eq!(of(Refused::Undecodable(Undecodable::Unknown)), (415, "encoding_unknown"));
        assert_eq!(of(Refused::SlowBody(1)), (408, "body_timeout"));
        assert_eq!(of(Refused::SlowHead(1)), (408, "head_timeout"));
        assert_eq!(of(Refused::HeadTooLarge), (431, "head_too_large"));
        assert_eq!(of(Refused::Overloaded), (503, "overloaded"));
        assert_eq!(of(Refused::Placeholder(BadPlaceholder::Expired)), (401, "placeholder_expired"));
        assert_eq!(of(Refused::NoToken), (401, "no_token"));
        assert_eq!(of(Refused::Minting("sts".into())), (403, "minting_refused"));
        let no_credential = |category| Refused::NoCredential(CredentialError::new(category, "x"));
        assert_eq!(of(no_credential(Category::StsRefused)), (403, "sts_refused"));
        assert_eq!(of(no_credential(Category::StsUnreachable)), (503, "sts_unreachable"));
        assert_eq!(
            of(Refused::Meaning(bigquery::Refusal::MalformedBody("x".into()))),
            (400, "malformed_body")
        );
    }
}
