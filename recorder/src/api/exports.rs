//! `POST /v1/exports`: somebody takes out evidence. That becomes an entry before the bundle is whole, and the bundle proves it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use http::HeaderMap;
use ledger::search::export::{Announcement, Entered};
use ledger::statement::{Body, MAX_FILTER, ReadExport, kind};

use super::Api;
use crate::authz::Right;
use crate::authz::access::must_cover;
use crate::error::{Reason, Refusal};
use crate::reads::MAX_READER;

/// The handler: who exports is taken from the token, the rest from the body.
///
/// # Errors
/// [`Reason::BadQuery`]: the body can't be read. [`Reason::NotAReader`], [`Reason::SubjectTooLarge`], [`Reason::Busy`], [`Reason::Stopping`].
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
    let Announcement { manifest, filter, entries, namespace } = announced;
    let namespace = namespace.as_deref();
    let exports = api.reader(&headers, Right::Export, namespace).await?;
    let readable = api.reader(&headers, Right::Get, namespace).await?;
    must_cover(&exports, &readable.scope)?;
    let (reader, cluster) = (exports.user().reader(), exports.user().cluster.clone());
    if reader.len() > MAX_READER || cluster.len() > MAX_READER {
        return Err(Refusal::new(Reason::SubjectTooLarge, "the reader's name does not fit into an entry"));
    }
    let export = ReadExport { reader, cluster, manifest, filter, entries };
    let index = api.queue.say(kind::READ_EXPORT, Body { export: Some(export), ..Body::default() }).await?;
    Ok(Json(Entered { index }))
}
