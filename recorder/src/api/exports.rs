//! `POST /v1/exports`: somebody takes out evidence. That becomes an entry before the bundle is whole, and the bundle proves it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use http::HeaderMap;
use ledger::search::export::{Announcement, Entered};
use ledger::statement::{Body, MAX_FILTER, ReadExport, kind};

use super::Api;
use crate::error::{Reason, Refusal};

/// Greatest length of a reader's name, in bytes; a longer one is refused (`subject_too_large`).
const MAX_READER: usize = 512;

/// The handler: who exports is taken from the token, the rest from the body.
///
/// # Errors
/// [`Reason::BadQuery`]: the body can't be read. [`Reason::SubjectTooLarge`], [`Reason::Busy`], [`Reason::Stopping`].
pub async fn enter(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Result<Json<Announcement>, JsonRejection>,
) -> Result<Json<Entered>, Refusal> {
    let Json(announced) = body.map_err(|error| Refusal::new(Reason::BadQuery, error.body_text()))?;
    let printable = announced.filter.bytes().all(|byte| byte.is_ascii_graphic());
    if announced.filter.len() > MAX_FILTER || !printable {
        let message = format!("a filter is a query string of at most {MAX_FILTER} bytes");
        return Err(Refusal::new(Reason::BadQuery, message));
    }
    let reader = api.identify(&headers).await?.account();
    if reader.len() > MAX_READER {
        return Err(Refusal::new(Reason::SubjectTooLarge, "the reader's name does not fit into an entry"));
    }
    let Announcement { manifest, filter, entries } = announced;
    let export = ReadExport { reader, manifest, filter, entries };
    let index = api.queue.say(kind::READ_EXPORT, Body { export: Some(export), ..Body::default() }).await?;
    Ok(Json(Entered { index }))
}
