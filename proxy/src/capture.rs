//! The answer as it passes: every frame goes on as it is, and the call's outcome is recorded at the end, whatever the end is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use deliver::Going;
use http::{HeaderMap, Method, Response};
use http_body::{Body, Frame, SizeHint};
use ledger::call::CallResult;

use crate::body::AgentBody;
use crate::config::Results;
use crate::forward::UpstreamBody;
use crate::outcome::{Ended, OutcomeGuard};
use crate::tee::{Passing, Tee};

/// How much of an answer's content is kept to be read, in bytes (1 MiB). Of a longer one all is hashed, and what is read of
/// it is marked as truncated.
pub const CAPTURE_LIMIT: usize = 1 << 20;

/// BigQuery's answer on its way to the agent.
#[derive(Debug)]
pub struct Captured {
    body: UpstreamBody,
    /// Taken when the outcome is recorded.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    guard: OutcomeGuard,
    body: Passing,
    going: Arc<Going>,
    status: u16,
    bodiless: bool,
    grpc_status: Option<String>,
}

/// Records the call's outcome at the end of this answer.
#[must_use]
pub fn capture(
    answer: Response<UpstreamBody>,
    verb: &Method,
    results: Results,
    guard: OutcomeGuard,
) -> Response<AgentBody> {
    let (head, body) = answer.into_parts();
    let bodiless = *verb == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
    let passing = Passing::new(match results {
        Results::Digest => Tee::new(&head.headers, CAPTURE_LIMIT),
        Results::None => Tee::unhashed(&head.headers, CAPTURE_LIMIT),
    });
    let going = guard.going();
    going.answers(passing.clone());
    let open = Open {
        guard,
        body: passing,
        going,
        status: head.status.as_u16(),
        bodiless,
        grpc_status: grpc_status(&head.headers),
    };
    let mut captured = Captured { body, open: Some(open) };
    if captured.body.is_end_stream() {
        captured.end(CallResult::Answered);
    }
    Response::from_parts(head, AgentBody::Captured(Box::new(captured)))
}

impl Captured {
    fn read(&mut self, frame: &Frame<Bytes>) {
        let Some(open) = &mut self.open else { return };
        if let Some(data) = frame.data_ref() {
            open.body.feed(data);
            open.going.passed(data.len());
        } else if let Some(trailers) = frame.trailers_ref() {
            open.grpc_status = grpc_status(trailers).or(open.grpc_status.take());
        }
    }

    fn end(&mut self, result: CallResult) {
        let Some(Open { guard, body, going: _, status, bodiless, grpc_status }) = self.open.take() else {
            return;
        };
        let Some(teed) = body.finish(result == CallResult::Answered) else { return };
        guard.ended(Ended { result, status, bodiless, teed, grpc_status });
    }
}

impl Body for Captured {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let captured = self.get_mut();
        let polled = Pin::new(&mut captured.body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                captured.read(frame);
                // The server may not ask again after trailers, or the last byte that Content-Length announced.
                if frame.is_trailers() || captured.body.is_end_stream() {
                    captured.end(CallResult::Answered);
                }
            }
            Poll::Ready(Some(Err(_))) => captured.end(CallResult::Failed),
            Poll::Ready(None) => captured.end(CallResult::Answered),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        self.end(CallResult::Aborted);
    }
}

/// The name of a gRPC status other than OK, in an answer's headers or trailers.
fn grpc_status(headers: &HeaderMap) -> Option<String> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let code: usize = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    (code != 0).then(|| NAMES.get(code).copied().unwrap_or("UNKNOWN").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_statuses_have_names() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", http::HeaderValue::from_static(value));
            grpc_status(&headers)
        };
        assert_eq!(of("0"), None);
        assert_eq!(of("7").as_deref(), Some("PERMISSION_DENIED"));
        assert_eq!(of("16").as_deref(), Some("UNAUTHENTICATED"));
        assert_eq!(of("99").as_deref(), Some("UNKNOWN"));
        assert_eq!(of("x"), None);
        assert_eq!(grpc_status(&HeaderMap::new()), None);
    }
}
