//! What the sidecar answers itself when agents hold no key: the endpoints at which clients get a token, or ask what theirs is
//! good for. What the agent sent there (an assertion, a refresh token) goes nowhere.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

use super::Link;
use crate::app::Proxy;
use crate::authority;
use crate::body::AgentBody;
use crate::metadata::answers;
use crate::swap::endpoints::{self, Endpoint};

/// The answer, if this request is one for the sidecar. One whose host is not clear is not.
pub(super) fn answer(proxy: &Proxy, link: &Link, head: &Parts) -> Option<Response<AgentBody>> {
    let keyless = proxy.identity.keyless()?;
    if link.is_bigquery(head) || authority::agree(head, &link.target).is_err() {
        return None;
    }
    match endpoints::endpoint(&link.target.name, &head.method, head.uri.path())? {
        Endpoint::Token => Some(json(StatusCode::OK, answers::token(&keyless.placeholder("token_endpoint")))),
        Endpoint::AllowedLocations => Some(json(StatusCode::NOT_FOUND, NOT_KNOWN.into())),
        Endpoint::Minting => None,
    }
}

const NOT_KNOWN: &str =
    r#"{"error":{"code":404,"message":"bqwitness: not known here","status":"NOT_FOUND"}}"#;

fn json(status: StatusCode, body: String) -> Response<AgentBody> {
    let length = HeaderValue::from(body.len());
    let mut answer = Response::new(AgentBody::Own(Some(Bytes::from(body))));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, length);
    answer
}
