//! Heads that are none of HTTP's, or too large: agents read why in BigQuery's form, and a metric counts them by reason. They are
//! no calls, since nobody can say what they ask: nothing of them leaves, and the record has nothing of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use runtime::faults::{Fault, Faults, is_bare};

use crate::body::AgentBody;
use crate::limits;
use crate::metrics::Metrics;
use crate::refuse::Refused;

/// What RFC 9113 (section 6.5.2) adds for each field to the length of its name and value.
const FIELD: usize = 32;

/// BigQuery has answered on this connection as hyper does by itself: then what looks like that may be BigQuery's.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookalike(Arc<AtomicBool>);

impl Lookalike {
    /// Looks at an answer before it goes to the agent.
    pub(super) fn look(&self, answer: &Response<AgentBody>) {
        if is_bare(answer.status(), answer.headers()) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn was_seen(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection on which all HTTP is ours or BigQuery's.
pub(super) fn watch<S>(stream: S, metrics: &Metrics, lookalike: &Lookalike) -> Faults<S> {
    let (metrics, lookalike) = (metrics.clone(), lookalike.clone());
    let answer = move |fault| {
        if matches!(fault, Fault::MalformedHead | Fault::HeadTooLarge) && lookalike.was_seen() {
            return None;
        }
        metrics.malformed(fault.reason());
        tracing::info!(reason = fault.reason(), "an agent sent what is no HTTP");
        refusal(fault).map(|refused| closing_answer(&refused))
    };
    Faults::new(stream, Box::new(answer))
}

/// The same where nothing of BigQuery's is answered.
pub(crate) fn watch_own<S>(stream: S, metrics: &Metrics) -> Faults<S> {
    watch(stream, metrics, &Lookalike::default())
}

/// What the agent is told; of HTTP/2 its frames tell.
pub(super) fn refusal(fault: Fault) -> Option<Refused> {
    match fault {
        Fault::MalformedHead => Some(Refused::BadHead("can't be read as HTTP")),
        Fault::HeadTooLarge => Some(Refused::HeadTooLarge),
        Fault::HeadTimeout => Some(Refused::SlowHead(limits::HEAD_TIMEOUT.as_secs())),
        Fault::Http2Stream | Fault::Http2Connection => None,
    }
}

/// A whole answer in HTTP/1.1, after which the connection ends.
pub(super) fn closing_answer(refused: &Refused) -> Bytes {
    let (status, body) = (refused.status(), refused.json());
    let reason = status.canonical_reason().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: application/json; charset=UTF-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        status.as_u16(),
        body.len()
    );
    Bytes::from(head + &body)
}

/// Is an HTTP/2 request's head larger than one in HTTP/1.1 may be? h2 itself takes some more, so that this can be said.
pub(super) fn is_too_large(head: &Parts) -> bool {
    let field = |name: usize, value: usize| name + value + FIELD;
    let uri = &head.uri;
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let pseudo = field(5, path) + field(10, authority) + field(7, head.method.as_str().len()) + field(7, 5);
    let fields = head.headers.iter().map(|(name, value)| field(name.as_str().len(), value.len()));
    head.headers.len() > limits::HEADERS || pseudo + fields.sum::<usize>() > limits::HTTP2_HEAD as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_http2_have_the_bounds_of_http1() {
        let head = |count: usize, length: usize| {
            let mut request = http::Request::get("https://bigquery.googleapis.com/bigquery/v2/projects");
            for number in 0..count {
                request = request.header(format!("x-{number}"), "v".repeat(length));
            }
            request.body(()).expect("a request").into_parts().0
        };
        assert!(!is_too_large(&head(limits::HEADERS, 10)));
        assert!(is_too_large(&head(limits::HEADERS + 1, 10)));
        assert!(!is_too_large(&head(1, 65_000)));
        assert!(is_too_large(&head(1, 65_536)));
    }

    #[test]
    fn the_answer_is_whole() {
        for fault in Fault::ALL {
            let Some(refused) = refusal(fault) else { continue };
            let answer = String::from_utf8(closing_answer(&refused).to_vec()).expect("text");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", refused.status().as_u16())), "{head}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
            let error: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(error["error"]["code"], refused.status().as_u16());
            assert!(!error["error"]["errors"][0]["reason"].as_str().unwrap_or_default().is_empty());
        }
    }
}
