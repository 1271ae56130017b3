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
use crate::encoding::{self, Encoding, Undecodable};
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

/// Reads of a body what decides, as the call's plan says.
///
/// # Errors
/// [`Refused`]; nothing of the body may be sent then.
pub async fn read(
    call: &Recognised,
    headers: &HeaderMap,
    body: Incoming,
    memory: &BodyMemory,
) -> Result<Asked, Refused> {
    let reading = async {
        match (call.body, &call.upload) {
            (BodyPlan::Bulk, _) => Ok(Asked {
                deciding: None,
                out: OutBody::streamed(Bytes::new(), body),
                is_data: true,
                memory: None,
            }),
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

async fn none(body: Incoming) -> Result<Asked, Refused> {
    let mut body = body;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refused::BrokenBody)?;
        if frame.data_ref().is_some_and(|data| !data.is_empty()) {
            return Err(Refused::UnexpectedBody);
        }
    }
    Ok(Asked { deciding: None, out: OutBody::whole(Bytes::new()), is_data: false, memory: None })
}

async fn whole(headers: &HeaderMap, mut body: Incoming, memory: &BodyMemory) -> Result<Asked, Refused> {
    if body.is_end_stream() {
        return Ok(Asked { deciding: None, out: OutBody::whole(Bytes::new()), is_data: false, memory: None });
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
    let mut wire = BytesMut::with_capacity(announced.unwrap_or(0).min(MAX_DECIDING_BODY));
    while more(&mut body, &mut wire).await? {
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
    Ok(Asked { deciding: Some(deciding), out: OutBody::whole(wire), is_data: false, memory: Some(reserved) })
}

/// Reads until the first part of a multipart body is there; the rest streams.
async fn first_part(
    boundary: &str,
    headers: &HeaderMap,
    mut body: Incoming,
    memory: &BodyMemory,
) -> Result<Asked, Refused> {
    if Encoding::of(headers) != Encoding::Identity {
        return Err(Refused::Undecodable(Undecodable::Unknown));
    }
    let mut reserved =
        memory.reserve(announced(headers).unwrap_or(MAX_DECIDING_BODY).min(MAX_DECIDING_BODY)).await?;
    let mut read = BytesMut::new();
    // Looking again after every piece would take time by the square of the length.
    let mut look_at = 1;
    loop {
        let ended = !more(&mut body, &mut read).await?;
        if ended || read.len() >= look_at {
            if let Some(part) = upload::first_part(boundary, &read)? {
                let read = read.freeze();
                keep(&mut reserved, read.len());
                let deciding = Some(read.slice(part));
                return Ok(Asked {
                    deciding,
                    out: OutBody::streamed(read, body),
                    is_data: true,
                    memory: Some(reserved),
                });
            }
            look_at = read.len() * 2;
        }
        if ended {
            return Err(Refused::BadHead("announces a multipart body, but its first part has no end"));
        }
        if read.len() > MAX_DECIDING_BODY {
            return Err(Refused::TooLarge(MAX_DECIDING_BODY));
        }
    }
}

/// Adds the next piece of a body; false at its end.
async fn more(body: &mut Incoming, to: &mut BytesMut) -> Result<bool, Refused> {
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
