//! The token exchange: RFC 8693, as Google's Security Token Service has it (`POST /v1/token`).

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use runtime::client::{ClientError, HttpsClient};
use serde::Deserialize;

use super::FederatedSettings;
use crate::identity::error::{Category, CredentialError, harmless};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Clocks that differ by more than this make tokens that are not valid yet, or not any more.
const SKEW: Duration = Duration::from_secs(120);

/// What the exchange gave.
pub(super) struct Exchanged {
    /// The token.
    pub(super) token: String,
    /// How long it is good.
    pub(super) lifetime: Duration,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u64,
}

/// RFC 6749's errors; Google's own form has an object in `error`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
}

/// Exchanges the pod's token for one of Google's.
pub(super) async fn exchange(
    client: &HttpsClient,
    settings: &FederatedSettings,
    scope: &str,
    subject_token: &str,
) -> Result<Exchanged, CredentialError> {
    let form = form(&[
        ("grant_type", GRANT_TYPE),
        ("audience", &settings.audience),
        ("scope", scope),
        ("requested_token_type", ACCESS_TOKEN),
        ("subject_token_type", &settings.subject_token_type),
        ("subject_token", subject_token),
    ]);
    let mut request = Request::new(Full::from(form));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = settings.sts.clone();
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
    match answer.status() {
        StatusCode::OK => understood(answer.body()),
        status => Err(refused(status, answer.headers(), answer.body())),
    }
}

fn understood(body: &[u8]) -> Result<Exchanged, CredentialError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| {
        // serde_json's errors can repeat a value: only where it is, is said.
        let message =
            format!("the token service's answer has not its documented form (column {})", error.column());
        CredentialError::new(Category::AnswerMalformed, message)
    })?;
    Ok(Exchanged { token: answer.access_token, lifetime: Duration::from_secs(answer.expires_in) })
}

fn unreachable(error: &ClientError) -> CredentialError {
    let message = format!("Google's token service can't be reached: {error}");
    CredentialError::new(Category::StsUnreachable, message)
}

fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> CredentialError {
    let Refusal { error, error_description } = serde_json::from_slice(body).unwrap_or_default();
    let said = harmless(&format!("{status} {error} {error_description}"));
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        let message = format!("Google's token service can't answer now: {said}");
        return CredentialError::new(Category::StsUnavailable, message);
    }
    if let Some(skew) = skew(headers) {
        return skewed(skew);
    }
    let message = format!(
        "Google's token service refuses this pod's token: {said}. Check the provider's issuer, allowed audiences and attribute \
         condition, and --sts-audience"
    );
    CredentialError::new(Category::StsRefused, message)
}

/// The error for clocks that differ by so many seconds.
pub(super) fn skewed(seconds: i64) -> CredentialError {
    let message = format!(
        "this node's clock differs from Google's by {seconds} seconds: check its time synchronisation"
    );
    CredentialError::new(Category::ClockSkew, message)
}

/// By how many seconds our clock is ahead of the answering server's, if that is too much.
pub(super) fn skew(headers: &HeaderMap) -> Option<i64> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    let date = headers.get(http::header::DATE)?.to_str().ok()?;
    let theirs = PARSER.parse_timestamp(date).ok()?;
    let seconds = Timestamp::now().as_second() - theirs.as_second();
    (seconds.unsigned_abs() > SKEW.as_secs()).then_some(seconds)
}

/// A form's body: `application/x-www-form-urlencoded`.
fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(seconds: i64) -> HeaderMap {
        let date = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
        HeaderMap::from_iter([(http::header::DATE, date.parse().unwrap())])
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(form(&[("a", "x y&z=/é"), ("b", "-._*")]), "a=x%20y%26z%3D%2F%C3%A9&b=-._*");
    }

    #[test]
    fn refusals_are_told_apart() {
        let body = br#"{"error":"invalid_grant","error_description":"The audience does not match"}"#;
        let of = |status: u16, seconds| refused(StatusCode::from_u16(status).unwrap(), &dated(seconds), body);
        assert_eq!(of(400, 0).category(), "sts_refused");
        assert!(of(400, 0).to_string().contains("400 Bad Request invalid_grant The audience does not match"));
        assert_eq!(of(400, 600).category(), "clock_skew");
        assert_eq!(of(401, -600).category(), "clock_skew");
        assert_eq!(of(500, 600).category(), "sts_unavailable");
        assert_eq!(of(429, 0).category(), "sts_unavailable");
        let form = refused(StatusCode::FORBIDDEN, &HeaderMap::new(), br#"{"error":{"code":403}}"#);
        assert_eq!(form.category(), "sts_refused");
    }

    #[test]
    fn no_answer_can_put_a_token_into_an_error() {
        let token = "ya29.".to_owned() + &"secret".repeat(20);
        let answer = format!(r#"{{"access_token":"{token}","expires_in":"{token}"}}"#);
        let error = understood(answer.as_bytes()).err().unwrap();
        assert_eq!(error.category(), "credential_malformed");
        assert!(!error.to_string().contains("secret"), "{error}");
        let body = format!(r#"{{"error":"{token}","error_description":"token {token}: no"}}"#);
        let error = refused(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes());
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
