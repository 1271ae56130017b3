//! The public half of the log, as C2SP tlog-tiles serves it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header;
use ledger::tile::{Level, Tile};

use super::Api;
use crate::error::{Reason, Refusal};
use crate::store::publish::Published;

pub(super) const OCTETS: &str = "application/octet-stream";
const PUBLIC_FOR_EVER: &str = "public, max-age=604800, immutable";
pub(super) const PRIVATE_FOR_EVER: &str = "private, max-age=604800, immutable";
pub(super) const NEVER: &str = "no-store";

pub(super) fn answer(content_type: &'static str, caching: &'static str, bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, caching)], bytes).into_response()
}

pub(super) fn nothing_there() -> Refusal {
    Refusal::new(Reason::NotFound, "the log has nothing here that you may read")
}

pub(super) fn deleted(entry: u64) -> Refusal {
    let message = format!("this was deleted for good; entry {entry} of the log says by whom, and why");
    Refusal::new(Reason::BlobDeleted, message).of_entry(entry)
}

/// `GET /log/checkpoint`
pub async fn checkpoint(State(api): State<Arc<Api>>) -> Response {
    let newest = api.reader.published();
    let witnessed = api.witnessed.newest.borrow().clone().filter(|witnessed| witnessed.size == newest.size);
    note(&witnessed.unwrap_or(newest))
}

/// `GET /log/witnessed`
///
/// # Errors
/// [`Reason::NotFound`]: the recorder has no witnesses, or they have not cosigned yet.
pub async fn witnessed(State(api): State<Arc<Api>>) -> Result<Response, Refusal> {
    let newest = api.witnessed.newest.borrow().clone();
    newest.as_ref().map(note).ok_or_else(nothing_there)
}

/// `GET /log/keys`: a JSON object with `notes`, oldest first.
pub async fn keys(State(api): State<Arc<Api>>) -> Response {
    ([(header::CACHE_CONTROL, NEVER)], Json(&*api.signer.notes())).into_response()
}

fn note(published: &Published) -> Response {
    answer("text/plain; charset=utf-8", NEVER, published.note.as_bytes().to_vec())
}

/// `GET /log/tile/<level>/<index>[.p/<width>]`
///
/// # Errors
/// [`Reason::NotFound`]: no such path, or beyond the newest checkpoint.
pub async fn tile(State(api): State<Arc<Api>>, Path(path): Path<String>) -> Result<Response, Refusal> {
    let tile = Tile::parse_path(&format!("tile/{path}")).filter(|tile| tile.level != Level::Entries);
    serve(&api, tile, PUBLIC_FOR_EVER).await
}

/// A tile or entry bundle.
pub(super) async fn serve(api: &Api, tile: Option<Tile>, caching: &'static str) -> Result<Response, Refusal> {
    let tile = tile.ok_or_else(nothing_there)?;
    let bytes = api.read(move |log| log.tile(tile)).await?;
    Ok(answer(OCTETS, caching, bytes.ok_or_else(nothing_there)?))
}
