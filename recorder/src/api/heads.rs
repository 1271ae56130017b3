//! Heads that are none of HTTP's, or too large: answered with a reason, as any other refusal, and counted.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Version;
use runtime::faults::{Fault, Faults};

use super::server::MAX_HEAD;
use crate::error::{Reason, Refusal};
use crate::metrics::Metrics;

/// What RFC 9113 (section 6.5.2) adds for each field to the length of its name and value.
const FIELD: usize = 32;

/// A connection on which hyper's own answers, which give no reason, are replaced by ours.
pub fn watch<S>(stream: S, metrics: Arc<Metrics>) -> Faults<S> {
    let answer = move |fault: Fault| {
        metrics.malformed.with_label_values(&[fault.reason()]).inc();
        tracing::info!(reason = fault.reason(), "a peer sent what is no HTTP");
        refusal(fault).map(|refusal| closing_answer(&refusal))
    };
    Faults::new(stream, Box::new(answer))
}

/// The router behind the bound on heads in HTTP/2, where h2 takes more than HTTP/1.1 does here.
pub fn bounded(router: Router, metrics: Arc<Metrics>) -> Router {
    router.layer(middleware::from_fn_with_state(metrics, bound))
}

async fn bound(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let field = |name: usize, value: usize| name + value + FIELD;
    let fields = request.headers().iter().map(|(name, value)| field(name.as_str().len(), value.len()));
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if request.version() == Version::HTTP_2 && fields.sum::<usize>() + target > MAX_HEAD {
        metrics.malformed.with_label_values(&[Fault::HeadTooLarge.reason()]).inc();
        return too_large().into_response();
    }
    next.run(request).await
}

/// `None` for what has no answer: HTTP/2 says it in frames.
fn refusal(fault: Fault) -> Option<Refusal> {
    match fault {
        Fault::MalformedHead => {
            Some(Refusal::new(Reason::MalformedHead, "the request's head can't be read as HTTP"))
        }
        Fault::HeadTooLarge => Some(too_large()),
        Fault::HeadTimeout | Fault::Http2Stream | Fault::Http2Connection => None,
    }
}

fn too_large() -> Refusal {
    let message = format!("the request's head is larger than {MAX_HEAD} bytes, or has more than 100 headers");
    Refusal::new(Reason::HeadTooLarge, message)
}

/// A whole answer in HTTP/1.1, after which the connection ends.
fn closing_answer(refusal: &Refusal) -> Bytes {
    let (_, status) = refusal.reason.describe();
    let (reason, body) = (status.canonical_reason().unwrap_or_default(), refusal.json().to_string());
    let head = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        body.len()
    );
    Bytes::from(head + &body)
}
