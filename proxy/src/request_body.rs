//! The request's body: what decides is read before the call may leave, within bounds of size, time and memory; data streams.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bigquery::{BodyPlan, MAX_DECIDING_BODY, Recognised, Upload, upload};
use crate::body::OutBody;
use crate::encoding::{self, Beginning, Encoding, Undecodable};
use crate::limits;
use crate::refuse::Refused;

/// A request's body, read as far as it decides.
#[derive(Debug)]
pub struct Asked {
    /// What decides, after any content encoding.
    pub deciding: Option<Bytes>,
    /// What is sent: exactly what came.
    pub out: OutBody,
    /// The body is data, to be bound by its digest.
    pub is_data: bool,
    /// Kept until the call has left.
    pub memory: Option<OwnedSemaphorePermit>,
}

/// Memory for bodies that decide, shared by all calls.
#[derive(Clone, Debug)]
pub struct BodyMemory(Arc<Semaphore>);

impl Default for BodyMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::BODY_MEMORY_KIB)))
    }
}

/// How often a deciding body is in memory: as it came, decoded, and as the blobs `request` and `sql`.
const COPIES: usize = 4;

/// Reads of a body what decides, as the call's plan says. What streams is taken out of `body`; what is left in it after an
/// error may still be arriving.
///
/// # Errors
/// [`Refused`]; nothing of the body may be sent then.
pub async fn read(
    call: &Recognised,
    headers: &HeaderMap,
    body: &mut Option<Incoming>,
    memory: &BodyMemory,
) -> Result<Asked, Refused> {
    let reading = async {
        match (call.body, &call.upload) {
            (BodyPlan::Bulk, _) => {
                Ok(Asked { is_data: true, ..Asked::without(OutBody::streamed(Bytes::new(), body.take())) })
            }
            (BodyPlan::Empty, _) => none(body).await,
            (BodyPlan::FirstPart, Some(Upload::Multipart(boundary))) => {
                first_part(boundary, headers, body, memory).await
            }
            (BodyPlan::Deciding | BodyPlan::FirstPart, _) => whole(headers, body, memory).await,
        }
    };
    let limit = limits::DECIDING_BODY_TIMEOUT;
    tokio::time::timeout(limit, reading).await.unwrap_or(Err(Refused::SlowBody(limit.as_secs())))
}

impl Asked {
    fn without(out: OutBody) -> Self {
        Self { deciding: None, out, is_data: false, memory: None }
    }
}

async fn none(body: &mut Option<Incoming>) -> Result<Asked, Refused> {
    let mut nothing = BytesMut::new();
    while more(body, &mut nothing).await? {
        if !nothing.is_empty() {
            return Err(Refused::UnexpectedBody);
        }
    }
    Ok(Asked::without(OutBody::whole(Bytes::new())))
}

async fn whole(
    headers: &HeaderMap,
    body: &mut Option<Incoming>,
    memory: &BodyMemory,
) -> Result<Asked, Refused> {
    if body.as_ref().is_none_or(Incoming::is_end_stream) {
        return Ok(Asked::without(OutBody::whole(Bytes::new())));
    }
    let encoding = Encoding::of(headers);
    let announced = announced(headers);
    if announced.is_some_and(|length| length > MAX_DECIDING_BODY) {
        return Err(Refused::TooLarge(MAX_DECIDING_BODY));
    }
    let content = match encoding {
        Encoding::Identity => announced.unwrap_or(MAX_DECIDING_BODY),
        Encoding::Gzip | Encoding::Deflate => MAX_DECIDING_BODY,
        Encoding::Unknown => return Err(Refused::Undecodable(Undecodable::Unknown)),
    };
    let mut reserved = memory.reserve(content).await?;
    let mut wire = BytesMut::with_capacity(announced.unwrap_or(0));
    while more(body, &mut wire).await? {
        if wire.len() > MAX_DECIDING_BODY {
            return Err(Refused::TooLarge(MAX_DECIDING_BODY));
        }
    }
    let wire = wire.freeze();
    let deciding = match encoding {
        Encoding::Identity => wire.clone(),
        encoding => {
            encoding::decode(encoding, &wire, MAX_DECIDING_BODY).map_err(Refused::Undecodable)?.into()
        }
    };
    keep(&mut reserved, deciding.len().max(wire.len()));
    Ok(Asked { deciding: Some(deciding), memory: Some(reserved), ..Asked::without(OutBody::whole(wire)) })
}

/// Reads until the first part of a multipart body is there; the rest streams.
async fn first_part(
    boundary: &str,
    headers: &HeaderMap,
    body: &mut Option<Incoming>,
    memory: &BodyMemory,
) -> Result<Asked, Refused> {
    let mut reserved = memory.reserve(MAX_DECIDING_BODY).await?;
    let mut wire = BytesMut::new();
    let mut beginning = Beginning::new(Encoding::of(headers), MAX_DECIDING_BODY);
    // Looking again after every piece would take time by the square of the length.
    let mut look_at = 1;
    loop {
        let before = wire.len();
        let ended = !more(body, &mut wire).await?;
        beginning.feed(&wire[before..]);
        let (decoded, undecodable) = beginning.decoded();
        if ended || undecodable.is_some() || decoded.len() >= look_at {
            if let Some(part) = upload::first_part(boundary, decoded)? {
                let deciding = Some(Bytes::copy_from_slice(&decoded[part]));
                keep(&mut reserved, wire.len().max(decoded.len()));
                let out = OutBody::streamed(wire.freeze(), body.take());
                return Ok(Asked { deciding, out, is_data: true, memory: Some(reserved) });
            }
            look_at = decoded.len() * 2;
        }
        if let Some(undecodable) = undecodable {
            return Err(Refused::Undecodable(undecodable));
        }
        if ended {
            return Err(Refused::BadHead("announces a multipart body, but its first part has no end"));
        }
        if wire.len() > MAX_DECIDING_BODY {
            return Err(Refused::TooLarge(MAX_DECIDING_BODY));
        }
    }
}

/// After a refusal, reads on for a while: an agent that is still sending would meet a reset before it reads why.
pub async fn linger(body: Option<Incoming>) {
    let mut body = body;
    let reading = async {
        let mut read = 0;
        while read < limits::LINGER_BYTES {
            let mut piece = BytesMut::new();
            match more(&mut body, &mut piece).await {
                Ok(true) => read += piece.len(),
                Ok(false) | Err(_) => return,
            }
        }
    };
    // What is not read by then is not waited for.
    let _in_time = tokio::time::timeout(limits::LINGER_TIME, reading).await.is_ok();
}

/// Adds the next piece of a body; false at its end.
async fn more(body: &mut Option<Incoming>, to: &mut BytesMut) -> Result<bool, Refused> {
    let Some(body) = body else { return Ok(false) };
    match body.frame().await {
        Some(Ok(frame)) => {
            if let Ok(data) = frame.into_data() {
                to.extend_from_slice(&data);
            }
            Ok(true)
        }
        Some(Err(_)) => Err(Refused::BrokenBody),
        None => Ok(false),
    }
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl BodyMemory {
    /// Reserves memory for a deciding body of this length and its copies. All of it at once, so that no two calls can each
    /// hold a half and wait for the other's; who waits is served in turn.
    async fn reserve(&self, length: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let kib = u32::try_from(kib(length)).map_err(|_| Refused::Overloaded)?;
        let reserved = Arc::clone(&self.0).acquire_many_owned(kib);
        match tokio::time::timeout(limits::BODY_MEMORY_TIMEOUT, reserved).await {
            Ok(Ok(reserved)) => Ok(reserved),
            _ => Err(Refused::Overloaded),
        }
    }
}

/// Gives back what a body did not need.
fn keep(reserved: &mut OwnedSemaphorePermit, length: usize) {
    let excess = reserved.num_permits().saturating_sub(kib(length));
    drop(reserved.split(excess));
}

fn kib(length: usize) -> usize {
    length * COPIES / 1024 + 1
}
