//! The federated identity acts as a service account: `generateAccessToken` of the IAM Credentials API.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::Full;
use jiff::Timestamp;
use runtime::client::{ClientError, HttpsClient};
use serde::Deserialize;
use serde_json::json;

use super::{Impersonate, sts};
use crate::identity::error::{Category, CredentialError, harmless};
use crate::identity::keeper::Granted;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    access_token: String,
    expire_time: Timestamp,
}

/// Google's error form.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: Detail,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    status: String,
    message: String,
}

/// A token of the service account, asked for with `token`.
pub(super) async fn act_as(
    client: &HttpsClient,
    account: &Impersonate,
    scope: &str,
    token: &str,
) -> Result<Granted, CredentialError> {
    let delegates: Vec<_> = account.delegates.iter().map(|email| resource(email)).collect();
    let lifetime = format!("{}s", account.lifetime.as_secs());
    let body = json!({ "delegates": delegates, "scope": [scope], "lifetime": lifetime }).to_string();
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = address(account)?;
    // The bearer header is made as that of a credential is.
    let Granted { credential, .. } = Granted::new(token, None, Duration::ZERO)?;
    request.headers_mut().insert(AUTHORIZATION, credential.bearer);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = client.send(request).await.map_err(|error| unreachable(&error))?;
    match answer.status() {
        StatusCode::OK => granted(answer.headers(), answer.body(), account),
        status => Err(refused(status, answer.body(), &account.email)),
    }
}

fn resource(email: &str) -> String {
    format!("projects/-/serviceAccounts/{email}")
}

fn address(account: &Impersonate) -> Result<Uri, CredentialError> {
    let origin = account.iam.to_string();
    let address =
        format!("{}/v1/{}:generateAccessToken", origin.trim_end_matches('/'), resource(&account.email));
    address.parse().map_err(|_| {
        let message = format!("{:?} is not the e-mail address of a service account", account.email);
        CredentialError::new(Category::ImpersonationDenied, message)
    })
}

fn granted(headers: &HeaderMap, body: &[u8], account: &Impersonate) -> Result<Granted, CredentialError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| {
        let message = format!(
            "the IAM credentials service's answer has not its documented form (column {})",
            error.column()
        );
        CredentialError::new(Category::AnswerMalformed, message)
    })?;
    // The end is a time of Google's clock: with ours wrong, the token would be thrown away early or used too long.
    if let Some(seconds) = sts::skew(headers) {
        return Err(sts::skewed(seconds));
    }
    let left = answer.expire_time.as_second() - Timestamp::now().as_second();
    let lifetime = Duration::from_secs(u64::try_from(left).unwrap_or_default()).min(account.lifetime);
    Granted::new(&answer.access_token, Some(account.email.as_str().into()), lifetime)
}

fn unreachable(error: &ClientError) -> CredentialError {
    let message = format!("Google's IAM credentials service can't be reached: {error}");
    CredentialError::new(Category::ImpersonationUnreachable, message)
}

fn refused(status: StatusCode, body: &[u8], email: &str) -> CredentialError {
    let Refusal { error: Detail { status: name, message } } =
        serde_json::from_slice(body).unwrap_or_default();
    let said = harmless(&format!("{status} {name} {message}"));
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        let message = format!("Google's IAM credentials service can't answer now: {said}");
        return CredentialError::new(Category::ImpersonationUnavailable, message);
    }
    let message = format!(
        "this pod may not act as {email}: {said}. Grant roles/iam.workloadIdentityUser on it to the pod's principal, and \
         roles/iam.serviceAccountTokenCreator between delegates"
    );
    CredentialError::new(Category::ImpersonationDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Impersonate {
        Impersonate {
            email: "billing@acme.iam.gserviceaccount.com".into(),
            delegates: Vec::new(),
            lifetime: Duration::from_secs(3600),
            iam: "https://iamcredentials.googleapis.com".parse().unwrap(),
        }
    }

    #[test]
    fn the_address_is_that_of_the_account() {
        assert_eq!(
            address(&account()).unwrap().to_string(),
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/billing@acme.iam.gserviceaccount.com:generateAccessToken"
        );
        let odd = Impersonate { email: "a b".into(), ..account() };
        assert_eq!(address(&odd).unwrap_err().category(), "impersonation_denied");
    }

    #[test]
    fn a_wrong_clock_is_named() {
        let ahead = Timestamp::now() - jiff::SignedDuration::from_secs(900);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&ahead).unwrap();
        let headers = HeaderMap::from_iter([(http::header::DATE, date.parse().unwrap())]);
        let body = br#"{"accessToken":"t","expireTime":"2099-01-01T00:00:00Z"}"#;
        assert_eq!(granted(&headers, body, &account()).unwrap_err().category(), "clock_skew");
        let good = granted(&HeaderMap::new(), body, &account()).unwrap();
        assert_eq!(good.lifetime, account().lifetime, "never longer than was asked for");
        assert_eq!(good.credential.principal.as_deref(), Some("billing@acme.iam.gserviceaccount.com"));
    }

    #[test]
    fn refusals_are_told_apart() {
        let body = br#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"Permission denied"}}"#;
        let of = |status: u16| refused(StatusCode::from_u16(status).unwrap(), body, "a@b").category();
        assert_eq!((of(403), of(404)), ("impersonation_denied", "impersonation_denied"));
        assert_eq!((of(503), of(429)), ("impersonation_unavailable", "impersonation_unavailable"));
    }
}
