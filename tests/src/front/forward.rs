//! One request, from the client to the emulator and back.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::gzip::Gzip;
use super::passage::{BrokenOff, Fault, Passage};
use super::wire::Switch;
use super::{Arrival, STORAGE_HOST, Shared, Upstream, lock};
use crate::google::Refused;
use crate::trouble::{Doing as _, Result, Trouble};

/// A body on its way through.
pub(super) type Body = UnsyncBoxBody<Bytes, BrokenOff>;

/// Headers that belong to one connection (RFC 9110, section 7.6.1), not to the message.
const CONNECTION_HEADERS: [HeaderName; 3] =
    [header::CONNECTION, header::TRANSFER_ENCODING, HeaderName::from_static("keep-alive")];

/// Clients of the emulator's two ports.
#[derive(Debug)]
pub(super) struct Clients {
    upstream: Upstream,
    rest: Client<HttpConnector, Incoming>,
    grpc: Client<HttpConnector, Incoming>,
}

impl Clients {
    pub(super) fn new(upstream: Upstream) -> Self {
        let builder = || Client::builder(TokioExecutor::new());
        // An emulator closes idle connections after some seconds: none is kept, so that no request meets one that is about to be.
        let rest = builder()
            .http1_preserve_header_case(true)
            .retry_canceled_requests(false)
            .pool_max_idle_per_host(0)
            .build_http();
        let grpc = builder().http2_only(true).retry_canceled_requests(false).build_http();
        Self { upstream, rest, grpc }
    }
}

/// Notes, forwards, answers. An error closes the connection (HTTP/1.1) or resets the stream (HTTP/2).
pub(super) async fn forward(
    shared: Arc<Shared>,
    switch: Arc<Switch>,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
    let bearer = shared.bearer(request.headers());
    let principal =
        bearer.as_ref().and_then(|bearer| bearer.as_ref().ok()).map(|bearer| bearer.principal.clone());
    let arrival = Arrival { principal, ..Arrival::of(&request) };
    tracing::debug!(?arrival, "front");
    shared.note(arrival.clone());
    let fault = shared.next_fault();
    if fault == Some(Fault::HangUp) {
        return Err(Trouble::new("hung up, as asked"));
    }
    if let Some(Err(Refused(why))) = bearer {
        return unauthenticated(&request, &why);
    }
    shared.pause().await;

    let version = request.version();
    let wants_gzip = shared.gzips() && request.method() != Method::HEAD && accepts_gzip(request.headers());
    let mut answer = told(&shared, &arrival, ask(&shared, &arrival.host, request).await?).await?;
    *answer.version_mut() = version;
    if version == Version::HTTP_2 {
        CONNECTION_HEADERS.iter().for_each(|name| drop(answer.headers_mut().remove(name)));
    }
    let answer = if wants_gzip && may_be_gzipped(&answer) { gzipped(answer) } else { answer };
    let drip = *lock(&shared.drip);
    if fault.is_none() && drip.is_none() {
        return Ok(answer);
    }
    Ok(answer.map(|body| Passage::new(body, switch, fault, drip).boxed_unsync()))
}

async fn ask(shared: &Shared, host: &str, request: Request<Incoming>) -> Result<Response<Incoming>> {
    let clients = &shared.clients;
    let answer = if host == STORAGE_HOST {
        clients.grpc.request(towards(request, clients.upstream.grpc, host, Version::HTTP_2)?).await
    } else {
        clients.rest.request(towards(request, clients.upstream.rest, host, Version::HTTP_11)?).await
    };
    answer.doing("asking the emulator")
}

/// The answer as clients are told it: a job may have to run a little longer.
async fn told(shared: &Shared, arrival: &Arrival, answer: Response<Incoming>) -> Result<Response<Body>> {
    let rewritable = answer.status() == StatusCode::OK && lock(&shared.running).concerns(arrival);
    if !rewritable {
        return Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()));
    }
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await.doing("reading the emulator's answer")?.to_bytes();
    let answer: Option<Value> = serde_json::from_slice(&body).ok();
    let rewritten = answer.and_then(|answer| lock(&shared.running).rewrite(arrival, &answer));
    let body = rewritten.map_or(body, |answer| Bytes::from(answer.to_string()));
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Ok(Response::from_parts(head, Full::new(body).map_err(|never| match never {}).boxed_unsync()))
}

/// As Google answers it.
fn unauthenticated(request: &Request<Incoming>, why: &str) -> Result<Response<Body>> {
    let content = request.headers().get(header::CONTENT_TYPE);
    if content.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        let answer =
            Response::builder().header(header::CONTENT_TYPE, "application/grpc").header("grpc-status", "16");
        let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
        return answer.body(nothing).doing("a refusal");
    }
    let body = json!({ "error": {
        "code": 401, "message": why, "status": "UNAUTHENTICATED",
        "errors": [{ "message": why, "domain": "global", "reason": "authError" }],
    } });
    let text = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed_unsync();
    let answer = Response::builder().status(StatusCode::UNAUTHORIZED);
    answer.header(header::CONTENT_TYPE, "application/json; charset=UTF-8").body(text).doing("a refusal")
}

/// The same request to the emulator. It keeps BigQuery's name in `Host` and is told of the TLS before it: the upload
/// addresses that it hands out are made of both.
fn towards(
    request: Request<Incoming>,
    address: std::net::SocketAddr,
    host: &str,
    version: Version,
) -> Result<Request<Incoming>> {
    let (mut head, body) = request.into_parts();
    let mut uri = head.uri.into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::try_from(address.to_string()).doing("the emulator's address")?);
    head.uri = Uri::from_parts(uri).doing("the request's path")?;
    head.version = version;
    CONNECTION_HEADERS.iter().for_each(|name| drop(head.headers.remove(name)));
    if version == Version::HTTP_11 {
        head.headers.insert(header::HOST, HeaderValue::from_str(host).doing("the request's host")?);
    }
    head.headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"));
    Ok(Request::from_parts(head, body))
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().split(';').next() == Some("gzip"))
}

fn may_be_gzipped(answer: &Response<Body>) -> bool {
    let has_body = !matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    has_body && !answer.headers().contains_key(header::CONTENT_ENCODING)
}

fn gzipped(answer: Response<Body>) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Response::from_parts(head, Gzip::new(body).boxed_unsync())
}
