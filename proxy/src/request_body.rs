//! The request's body: what decides is read before the call may leave, within bounds of size, time and memory; data streams.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use crate::bigquery::{BodyPlan, MAX_DECIDING_BODY, Recognised, Upload, upload};
use crate::body::OutBody;
use crate::body_memory::{BodyMemory, Share};
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
    pub memory: Option<Share>,
}

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
    if encoding == Encoding::Unknown {
        return Err(Refused::Undecodable(Undecodable::Unknown));
    }
    if announced(headers).is_some_and(|length| length > MAX_DECIDING_BODY) {
        return Err(Refused::TooLarge(MAX_DECIDING_BODY));
    }
    let mut share = memory.share();
    let mut wire = BytesMut::new();
    while more(body, &mut wire).await? {
        if wire.len() > MAX_DECIDING_BODY {
            return Err(Refused::TooLarge(MAX_DECIDING_BODY));
        }
        share.cover(wire.len()).await?;
    }
    let wire = wire.freeze();
    let deciding = match encoding {
        Encoding::Identity => wire.clone(),
        encoding => decoded(encoding, &wire, &mut share).await?,
    };
    share.shrink(deciding.len().max(wire.len()));
    Ok(Asked { deciding: Some(deciding), memory: Some(share), ..Asked::without(OutBody::whole(wire)) })
}

/// How much larger a text gets by decoding, at most, as a rule; what gets larger still is decoded once more.
const USUAL_RATIO: usize = 16;

async fn decoded(encoding: Encoding, wire: &[u8], share: &mut Share) -> Result<Bytes, Refused> {
    let usual = (wire.len() * USUAL_RATIO).min(MAX_DECIDING_BODY);
    for limit in [usual, MAX_DECIDING_BODY] {
        share.cover(limit).await?;
        match encoding::decode(encoding, wire, limit) {
            Ok(deciding) => return Ok(deciding.into()),
            Err(Undecodable::TooLarge(_)) => {}
            Err(error) => return Err(Refused::Undecodable(error)),
        }
    }
    Err(Refused::TooLarge(MAX_DECIDING_BODY))
}

/// Reads until the first part of a multipart body is there; the rest streams.
async fn first_part(
    boundary: &str,
    headers: &HeaderMap,
    body: &mut Option<Incoming>,
    memory: &BodyMemory,
) -> Result<Asked, Refused> {
    let mut share = memory.share();
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
                share.shrink(wire.len().max(decoded.len()));
                let out = OutBody::streamed(wire.freeze(), body.take());
                return Ok(Asked { deciding, out, is_data: true, memory: Some(share) });
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
        share.cover(wire.len().max(decoded.len())).await?;
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
