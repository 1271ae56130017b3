//! The IAM Credentials API: `generateAccessToken`, for those who are bound to the service account.

use std::time::Duration;

use http::StatusCode;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::serve::Answer;
use super::{Behaviour, IAM_SCOPE, Shared};

/// Longest that the real one gives without an organisation's leave.
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    delegates: Vec<String>,
    scope: Vec<String>,
    lifetime: String,
}

pub(super) fn generate_access_token(
    shared: &Shared,
    head: &Parts,
    body: &[u8],
    behaviour: &Behaviour,
) -> Answer {
    match granted(shared, head, body, behaviour) {
        Ok((token, expires)) => {
            Answer::json(StatusCode::OK, &json!({ "accessToken": token, "expireTime": expires.to_string() }))
        }
        Err((status, name, why)) => {
            let heard = head.headers.get(http::header::AUTHORIZATION).filter(|_| behaviour.blabbing);
            let heard = heard.and_then(|value| value.to_str().ok()).unwrap_or_default();
            let message = format!("{why} {heard}");
            Answer::json(
                status,
                &json!({ "error": { "code": status.as_u16(), "message": message, "status": name } }),
            )
        }
    }
}

type Refusal = (StatusCode, &'static str, String);

fn granted(
    shared: &Shared,
    head: &Parts,
    body: &[u8],
    behaviour: &Behaviour,
) -> Result<(String, Timestamp), Refusal> {
    let denied = |why: String| (StatusCode::FORBIDDEN, "PERMISSION_DENIED", why);
    let invalid = |why: &str| (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", why.to_owned());
    let path = head.uri.path().strip_prefix("/v1/projects/-/serviceAccounts/");
    let account = path.and_then(|path| path.strip_suffix(":generateAccessToken"));
    let account = account.ok_or((StatusCode::NOT_FOUND, "NOT_FOUND", "no such method".to_owned()))?;
    let unauthenticated = |why: super::Refused| (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", why.0);
    let bearer = shared.tokens.bearer(&head.headers).map_err(unauthenticated)?;
    if bearer.scope != IAM_SCOPE {
        return Err(denied("the token's scope does not allow it".into()));
    }
    let asked: Asked = serde_json::from_slice(body).map_err(|_| invalid("not the documented body"))?;
    let seconds = asked.lifetime.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
    let lifetime = Duration::from_secs(seconds.ok_or_else(|| invalid("lifetime"))?);
    if lifetime > HOUR {
        return Err(invalid("the lifetime is at most an hour"));
    }
    let delegates = asked.delegates.iter().map(|name| name.rsplit('/').next().unwrap_or_default());
    let mut acting = bearer.principal;
    for next in delegates.chain([account]) {
        let bound = shared.lock().bindings.get(next).is_some_and(|members| members.contains(&acting));
        if !bound {
            return Err(denied(format!("iam.serviceAccounts.getAccessToken denied on {next}")));
        }
        next.clone_into(&mut acting);
    }
    let lifetime = behaviour.lifetime.unwrap_or(lifetime);
    let token = shared.tokens.issue(account, &asked.scope.join(" "), lifetime);
    let token = token.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", error.to_string()))?;
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX).saturating_add(behaviour.ahead);
    Ok((token, Timestamp::now() + SignedDuration::from_secs(seconds)))
}
