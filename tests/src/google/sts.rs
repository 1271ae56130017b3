//! The Security Token Service: a pod's token in, a federated access token out, after all that the real one checks.

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};

use super::serve::Answer;
use super::{Behaviour, Shared};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn exchange(shared: &Shared, head: &Parts, body: &[u8], behaviour: &Behaviour) -> Answer {
    let form = form(body);
    match granted(shared, head, &form, behaviour) {
        Ok(answer) => Answer::json(StatusCode::OK, &answer),
        Err((error, why)) => {
            let heard = if behaviour.blabbing { form.get("subject_token").cloned() } else { None };
            let why = format!("{why} {}", heard.unwrap_or_default());
            let body = json!({ "error": error, "error_description": why });
            Answer::json(StatusCode::BAD_REQUEST, &body)
        }
    }
}

type Refusal = (&'static str, String);

fn granted(
    shared: &Shared,
    head: &Parts,
    form: &HashMap<String, String>,
    behaviour: &Behaviour,
) -> Result<Value, Refusal> {
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let must = |name: &str, value: &str| match field(name) == value {
        true => Ok(()),
        false => Err(("invalid_request", format!("{name} must be {value}"))),
    };
    if head.method != http::Method::POST || head.headers.contains_key(http::header::AUTHORIZATION) {
        return Err(("invalid_request", "POST, and no Authorization".into()));
    }
    must("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")?;
    must("requested_token_type", "urn:ietf:params:oauth:token-type:access_token")?;
    must("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")?;
    let audience = field("audience");
    let provider = shared.lock().providers.get(audience).cloned();
    let provider = provider.ok_or_else(|| ("invalid_target", "no such provider".to_owned()))?;
    let ahead = behaviour.ahead;
    let verified = provider.keys.verify_at(field("subject_token"), &provider.issuer, audience, ahead);
    let claims = verified.map_err(|why| ("invalid_grant", why))?;
    let subject = claims.get("sub").and_then(Value::as_str);
    let subject = subject.ok_or_else(|| ("invalid_grant", "no sub to map".to_owned()))?;
    let pool = audience.split("/providers/").next().unwrap_or_default();
    let lifetime = behaviour.lifetime.unwrap_or(HOUR);
    let token = shared.tokens.issue(&format!("principal:{pool}/subject/{subject}"), field("scope"), lifetime);
    let token = token.map_err(|error| ("server_error", error.to_string()))?;
    Ok(json!({
        "access_token": token,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": lifetime.as_secs(),
    }))
}

fn form(body: &[u8]) -> HashMap<String, String> {
    let text = String::from_utf8_lossy(body);
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8_lossy(&digits);
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
