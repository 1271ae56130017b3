//! The story of one request: who it is for, what it asks, whether it may, then recorded, forwarded, and its answer captured.
//!
//! Nothing leaves before the intent is durable, and every intent gets exactly one outcome: from [`OutcomeGuard`], which is
//! handed from phase to phase, or from its drop when the agent goes away in between.

mod bearing;
mod local;

use std::collections::BTreeMap;
use std::sync::Arc;

use deliver::{Draft, NotRecorded};
use http::header::{EXPECT, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use ledger::blob::Blob;
use ledger::call::Intent;
use ledger::statement::{Claimed, MAX_CLAIM};
use tokio::time::Instant;

use self::bearing::{Bearer, Bearing};
use crate::app::Proxy;
use crate::authority;
use crate::bigquery::{self, HostClass, Recognised, Understood};
use crate::body::AgentBody;
use crate::capture::capture;
use crate::decide::decide;
use crate::forward::Target;
use crate::joins::Begun;
use crate::limits;
use crate::listen::Way;
use crate::outcome::OutcomeGuard;
use crate::refuse::{Refused, is_grpc};
use crate::request_body::{self, Asked};
use crate::tee::{Passing, Tee};

/// What all requests of one connection have in common.
#[derive(Clone, Debug)]
pub struct Link {
    /// How the connection came in.
    pub way: Way,
    /// Whom it is for.
    pub target: Target,
}

impl Link {
    /// Is this request for BigQuery, as far as its host and path say?
    #[must_use]
    pub fn is_bigquery(&self, head: &Parts) -> bool {
        match bigquery::classify_host(&self.target.name) {
            HostClass::BigQuery => true,
            HostClass::SharedGoogle => bigquery::is_bigquery_path(head.uri.path()),
            HostClass::OtherGoogle | HostClass::Other => false,
        }
    }
}

/// Answers one request: with BigQuery's answer, or with a refusal.
pub async fn call(proxy: &Proxy, link: &Link, request: Request<Incoming>) -> Response<AgentBody> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    if let Some(answer) = local::answer(proxy, link, &head) {
        request_body::linger(Some(body)).await;
        return answer;
    }
    let (grpc, hears_out) = (is_grpc(&head.headers), must_be_heard_out(&head));
    let mut body = Some(body);
    let story = recorded(proxy, link, head, &mut body, arrived).await;
    match story {
        Ok(answer) => answer,
        Err(refused) => {
            proxy.metrics.refused(refused.category());
            tracing::debug!(category = refused.category(), %refused, "a request was refused");
            if hears_out {
                request_body::linger(body).await;
            }
            refused.answer(grpc)
        }
    }
}

/// What the head says. A shared host serves other APIs too, which are told by their path; the hosts of other APIs are looked
/// into only so that no request on them is for BigQuery's.
fn recognise(link: &Link, head: &Parts) -> Recognised {
    let name = &link.target.name;
    if link.is_bigquery(head) {
        bigquery::recognise(&head.method, name, &head.uri, &head.headers)
    } else {
        bigquery::other(&head.method, name, &head.uri)
    }
}

/// An HTTP/1.1 connection closes when a request was not read to its end, and the agent may meet a reset before it reads why;
/// HTTP/2 ends the stream alone. Who expects a `100 Continue` has sent nothing yet.
fn must_be_heard_out(head: &Parts) -> bool {
    head.version != Version::HTTP_2 && !head.headers.contains_key(EXPECT)
}

/// A call of BigQuery, from its head to the head of its answer. After a refusal, `body` is what was not read.
async fn recorded(
    proxy: &Proxy,
    link: &Link,
    head: Parts,
    body: &mut Option<Incoming>,
    arrived: Instant,
) -> Result<Response<AgentBody>, Refused> {
    let call = recognise(link, &head);
    let bearing = Bearing::of(proxy, link, &head);
    let draft = Draft {
        observed: bearing.observed(link.way),
        claimed: Claimed { credential: bearing.claimed(), ..claimed(&head.headers) },
        blobs: Vec::new(),
        intent: call.intent(),
    };
    let asked = match admit(proxy, link, &call, &bearing, &head, body).await {
        Ok(asked) => asked,
        Err(refused) => {
            record_refusal(proxy, draft, call, &refused, arrived).await;
            return Err(refused);
        }
    };
    let meaning = match understand(&call, &asked).await {
        Ok(meaning) => meaning,
        Err(refused) => {
            // What can't be understood is evidence all the same.
            let readable = asked.deciding.as_deref().filter(|_| !call.may_carry_secrets());
            let blobs = texts([("request", readable)]).unwrap_or_default();
            *body = asked.out.into_rest();
            record_refusal(proxy, Draft { blobs, ..draft }, call, &refused, arrived).await;
            return Err(refused);
        }
    };
    let mut draft = complete(draft, meaning);
    proxy.joins.join(&call, &mut draft.intent);
    let begun = Begun::of(&call, &draft.intent);
    let credential = match bearing.credential().await {
        Ok(credential) => credential,
        Err(refused) => {
            *body = asked.out.into_rest();
            record_refusal(proxy, draft, call, &refused, arrived).await;
            return Err(refused);
        }
    };
    let observed = credential.observed(draft.observed);
    let open = match proxy.deliver.intent(Draft { observed, ..draft }).await {
        Ok(open) => open,
        Err(error) => {
            *body = asked.out.into_rest();
            return Err(error.into());
        }
    };
    let tee = asked.is_data.then(|| sent_along(&call, &head.headers));
    let guard = OutcomeGuard::new(call, open, arrived, Arc::clone(&proxy.joins), proxy.metrics.clone());
    forward(proxy, link, head, credential, asked, Follow { tee, begun }, guard).await
}

/// Is the call for this host, does its head allow it, does its bearer, and can its body be read?
async fn admit(
    proxy: &Proxy,
    link: &Link,
    call: &Recognised,
    bearing: &Bearing<'_>,
    head: &Parts,
    body: &mut Option<Incoming>,
) -> Result<Asked, Refused> {
    authority::agree(head, &link.target)?;
    decide(call)?;
    bearing.admit(link, head)?;
    request_body::read(call, &head.headers, body, &proxy.body_memory).await
}

/// What does the body ask? A long one is read on a thread that may block.
async fn understand(call: &Recognised, asked: &Asked) -> Result<Meaning, Refused> {
    match &asked.deciding {
        Some(deciding) if deciding.len() > limits::LONG_BODY => {
            let (call, deciding) = (call.clone(), deciding.clone());
            let reading = tokio::task::spawn_blocking(move || Meaning::read(&call, Some(&deciding)));
            reading.await.unwrap_or(Err(Refused::Overloaded)) // no thread: the process is about to end
        }
        deciding => Meaning::read(call, deciding.as_deref()),
    }
}

/// What a call asks, with the texts that its intent names.
struct Meaning {
    understood: Understood,
    blobs: Vec<(&'static str, Blob)>,
}

impl Meaning {
    fn read(call: &Recognised, deciding: Option<&[u8]>) -> Result<Self, Refused> {
        let understood = bigquery::intent(call, deciding)?;
        let sql = understood.sql.as_deref().map(str::as_bytes);
        let request = understood.redacted.as_deref().or(deciding);
        let blobs = texts([("sql", sql), ("request", request)])?;
        Ok(Self { understood, blobs })
    }
}

/// The texts that are there and not empty, as blobs.
fn texts<const N: usize>(
    texts: [(&'static str, Option<&[u8]>); N],
) -> Result<Vec<(&'static str, Blob)>, Refused> {
    let present =
        texts.into_iter().filter_map(|(role, text)| Some((role, text.filter(|text| !text.is_empty())?)));
    let blob = |(role, text)| match deliver::blob(text) {
        Ok(blob) => Ok((role, blob)),
        Err(_) => Err(Refused::TooLarge(bigquery::MAX_DECIDING_BODY)),
    };
    present.map(blob).collect()
}

/// The intent with all that the body said.
fn complete(draft: Draft, Meaning { understood, blobs }: Meaning) -> Draft {
    let Understood { intent, labels, sql: _, redacted: _ } = understood;
    Draft { claimed: Claimed { labels: cut_labels(labels), ..draft.claimed }, blobs, intent, ..draft }
}

/// A refused call is recorded as an intent that says so. It is never forwarded, so the agent is refused either way.
async fn record_refusal(proxy: &Proxy, draft: Draft, call: Recognised, refused: &Refused, arrived: Instant) {
    let intent = Intent { refused: Some(refused.category().into()), ..draft.intent };
    let recorded: Result<_, NotRecorded> = proxy.deliver.intent(Draft { intent, ..draft }).await;
    match recorded {
        Ok(open) => {
            let joins = Arc::clone(&proxy.joins);
            OutcomeGuard::new(call, open, arrived, joins, proxy.metrics.clone()).refused(refused);
        }
        Err(error) => tracing::warn!(category = error.category(), %error, "a refusal could not be recorded"),
    }
}

/// What is to be followed of a call that leaves.
struct Follow {
    /// Of a body that is data.
    tee: Option<Tee>,
    /// Of a request that begins an upload.
    begun: Option<Begun>,
}

fn sent_along(call: &Recognised, headers: &HeaderMap) -> Tee {
    if call.method == "tabledata.insertAll" { Tee::of_rows(headers) } else { Tee::new(headers, 0) }
}

/// The request goes out as it came, but for its credential, and the answer comes back as it is.
async fn forward(
    proxy: &Proxy,
    link: &Link,
    mut head: Parts,
    credential: Bearer<'_>,
    asked: Asked,
    follow: Follow,
    mut guard: OutcomeGuard,
) -> Result<Response<AgentBody>, Refused> {
    let verb = head.method.clone();
    let out = match follow.tee.map(Passing::new) {
        Some(sent) => {
            guard.binds(sent.clone());
            asked.out.metered(sent, guard.going())
        }
        None => asked.out,
    };
    credential.put_on(&mut head);
    let request = Request::from_parts(head, out);
    match proxy.forwarder.send(&link.target, request, || guard.leaves()).await {
        Ok(answer) => {
            credential.answered(answer.status());
            let begun = follow.begun.filter(|_| answer.status().is_success());
            guard.begins(begun.and_then(|begun| proxy.joins.begins(begun, answer.headers())));
            Ok(capture(answer, &verb, proxy.results, guard))
        }
        Err(error) => {
            tracing::warn!(category = error.category(), server = link.target.name, %error, "BigQuery gave no answer");
            guard.failed(&error);
            Err(error.into())
        }
    }
}

fn claimed(headers: &HeaderMap) -> Claimed {
    let text = |name: http::HeaderName| {
        let value = headers.get(name)?;
        Some(cut(&String::from_utf8_lossy(value.as_bytes())))
    };
    let api_client = text(http::HeaderName::from_static("x-goog-api-client"));
    let trace = headers.get("traceparent").and_then(|value| trace_id(value.to_str().ok()?));
    Claimed { user_agent: text(USER_AGENT), api_client, trace, ..Claimed::default() }
}

/// The trace id of a `traceparent` (<https://www.w3.org/TR/trace-context/>): `version-traceid-parentid-flags`.
fn trace_id(traceparent: &str) -> Option<String> {
    let mut parts = traceparent.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let named = version.len() == 2 && id.len() == 32 && hex(id) && id.bytes().any(|digit| digit != b'0');
    named.then(|| id.to_owned())
}

fn cut_labels(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.into_iter().map(|(key, value)| (cut(&key), cut(&value))).collect()
}

/// What the agent said, without what is too long to be recorded.
fn cut(text: &str) -> String {
    let end = (0..=MAX_CLAIM.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_cut_between_characters() {
        assert_eq!(cut("agent"), "agent");
        assert_eq!(cut(&"ä".repeat(MAX_CLAIM)), "ä".repeat(MAX_CLAIM / 2));
        assert_eq!(cut(&format!("x{}", "ä".repeat(MAX_CLAIM))).len(), MAX_CLAIM - 1);
    }

    #[test]
    fn a_trace_is_named_or_not_at_all() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        for other in ["", "00", id, "00-0-1-01", &format!("00-{}-1-01", "0".repeat(32)), "00-../../etc-1-01"]
        {
            assert_eq!(trace_id(other), None, "{other}");
        }
    }
}
