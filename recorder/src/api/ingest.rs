//! `POST /v1/batches`: a batch in, and when it is durable, its receipt out.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use ledger::batch::{MAX_BATCH, MEDIA_TYPE};
use ledger::receipt::{Acknowledgement, Receipt};

use super::Api;
use crate::error::{Reason, Refusal};
use crate::intake::BODY_TIMEOUT;
use crate::sequencer::Placed;
use crate::submission::{Speaker, Submission};

/// The category of a body that did not arrive in time: nobody waits for the rest of it.
const BODY_TIMED_OUT: &str = "body_timeout";

/// Of a refused batch this many bytes are read and dropped before the answer; after them, or where more are announced, the answer
/// comes at once.
const MAX_DROPPED: usize = 2 * MAX_BATCH;

/// The next piece of a refused batch is waited for this long; then the answer comes.
const DROP_STALL: Duration = Duration::from_secs(2);

/// A body above this is read on a thread that may block, so that hashing it holds up no one.
const INLINE_BYTES: usize = 256 * 1024;

/// The handler.
pub async fn batch(State(api): State<Arc<Api>>, headers: HeaderMap, mut body: Body) -> Response {
    let outcome = record(&api, &headers, &mut body).await;
    let waits =
        |refusal: &Refusal| refusal.category() != BODY_TIMED_OUT && announced(&headers) <= MAX_DROPPED;
    if outcome.as_ref().is_err_and(waits) {
        drop_rest(&mut body).await;
    }
    let result = outcome.as_ref().map_or_else(Refusal::category, |_| "recorded");
    api.metrics.batches.with_label_values(&[result]).inc();
    match outcome {
        Ok(acknowledgement) => Json(acknowledgement).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn record(api: &Api, headers: &HeaderMap, body: &mut Body) -> Result<Acknowledgement, Refusal> {
    let speaker = api.identify(headers).await?.speaker()?;
    check_media_type(headers)?;
    let (held, bytes) = api.intake.read(&speaker.workload, announced(headers), body).await?;
    let submission = read_submission(speaker, bytes).await?;
    let placed = api.queue.record(submission, held).await?;
    wait_for_witnesses(api, &placed).await?;
    let receipt = Receipt { origin: api.signer.origin(), entries: placed.entries };
    Ok(Acknowledgement { receipt: receipt.sign(&api.signer), envelopes: placed.envelopes })
}

/// Where receipts wait for the witnesses: until they have cosigned a checkpoint that covers these entries.
async fn wait_for_witnesses(api: &Api, placed: &Placed) -> Result<(), Refusal> {
    let Some(last) = placed.entries.iter().map(|entry| entry.index).max() else { return Ok(()) };
    if api.witnessed.wait.is_zero() {
        return Ok(());
    }
    let mut newest = api.witnessed.newest.clone();
    let covers = newest.wait_for(|newest| newest.as_ref().is_some_and(|newest| newest.size > last));
    match tokio::time::timeout(api.witnessed.wait, covers).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Refusal::new(
            Reason::NotWitnessed,
            "it is recorded, and the log's witnesses have not cosigned it yet: send it again",
        )),
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if given == Some(MEDIA_TYPE) && !headers.contains_key(header::CONTENT_ENCODING) {
        return Ok(());
    }
    Err(Refusal::new(Reason::MediaType, format!("a batch is sent as {MEDIA_TYPE}, without content encoding")))
}

/// Takes in what is left of a refused batch and forgets it: over HTTP/2, a client that still sends may miss an answer that
/// comes before its last byte.
async fn drop_rest(body: &mut Body) {
    let dropping = async {
        let mut room = MAX_DROPPED;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(DROP_STALL, body.frame()).await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match room.checked_sub(length) {
                Some(left) => room = left,
                None => return,
            }
        }
    };
    // Whoever takes longer may miss the answer.
    let _in_time = tokio::time::timeout(BODY_TIMEOUT, dropping).await.is_ok();
}

/// The body's length as its head says it, or the most that it may be.
fn announced(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    length.unwrap_or(MAX_BATCH)
}

async fn read_submission(speaker: Speaker, bytes: Bytes) -> Result<Submission, Refusal> {
    if bytes.len() <= INLINE_BYTES {
        return Submission::read(speaker, &bytes);
    }
    let reading = tokio::task::spawn_blocking(move || Submission::read(speaker, &bytes));
    reading.await.unwrap_or_else(|_| Err(Refusal::new(Reason::Stopping, "the recorder is stopping")))
}
