//! Entries and blobs for readers: to whoever reads everything as they lie in the log, to others what is theirs.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::HeaderMap;
use ledger::digest::Digest;
use ledger::entry::Entry;
use ledger::search::entries;
use ledger::statement::Statement;
use ledger::tile::{TILE_WIDTH, Tile, parse_bundle};
use serde::Deserialize;
use uuid::Uuid;

use super::Api;
use super::log::{NEVER, OCTETS, PRIVATE_FOR_EVER, answer, deleted, nothing_there, serve};
use crate::authz::scope::{Owner, owner};
use crate::authz::{Reader, Right, Scope};
use crate::error::{Reason, Refusal};

/// Which entries: all under one tile of level 0.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnderTile {
    tile: u64,
}

/// `GET /v1/entries?tile=<N>`: of the entries from `256 N` on those that the reader may see, each after a line with its index and
/// length, as in a bundle.
///
/// # Errors
/// [`Reason::NotAReader`], [`Reason::NotFound`] beyond the log's end, and why the read can't be recorded.
pub async fn under_tile(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    query: Result<Query<UnderTile>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = query.map_err(|error| Refusal::new(Reason::BadQuery, error.body_text()))?;
    let reader = api.reader(&headers, Right::Get, None).await?;
    let bundle = api.read(move |log| log.bundle(asked.tile)).await?;
    let (tile, bytes) = bundle.ok_or_else(nothing_there)?;
    let leaves = parse_bundle(tile, &bytes).map_err(|error| api.failed(&error))?;
    let first = asked.tile * TILE_WIDTH;
    let visible = visible(&api, &reader, &leaves).await?;
    let mut listed = Vec::new();
    for ((index, leaf), _) in (first..).zip(leaves).zip(&visible).filter(|(_, visible)| **visible) {
        entries::push(&mut listed, index, leaf);
    }
    let found = visible.iter().filter(|visible| **visible).count() as u64;
    let last = first + u64::from(tile.width) - 1;
    api.note_entries(&reader, Some((first, last)), found).await?;
    Ok(answer(OCTETS, NEVER, listed))
}

/// `GET /v1/entries/<index>`: the leaf's bytes.
///
/// # Errors
/// [`Reason::NotAReader`], [`Reason::NotFound`] beyond the log's end and for what is not the reader's to see, and why the read
/// can't be recorded.
pub async fn entry(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(index): Path<String>,
) -> Result<Response, Refusal> {
    let reader = api.reader(&headers, Right::Get, None).await?;
    let (index, leaf) = readable(&api, &reader, &index).await?;
    api.note_entries(&reader, Some((index, index)), 1).await?;
    Ok(answer("application/json", PRIVATE_FOR_EVER, leaf.to_vec()))
}

/// `GET /v1/entries/<index>/blobs/<64 hexadecimal digits>`: salt and content of a blob that the entry names.
///
/// # Errors
/// As [`entry`], and [`Reason::NotFound`]: the entry names no such blob. [`Reason::BlobDeleted`]: it was deleted.
pub async fn blob_of(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path((index, hex)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let digest = parse_digest(&hex)?;
    let reader = api.reader(&headers, Right::Get, None).await?;
    let (index, leaf) = readable(&api, &reader, &index).await?;
    let entry = Entry::parse(&leaf).map_err(|error| api.failed(&error))?;
    let statement = Statement::parse(entry.statement).map_err(|_| nothing_there())?;
    if !statement.blobs.values().any(|named| named.digest == digest) {
        return Err(nothing_there());
    }
    let bytes = content(&api, digest).await?;
    api.note_entries(&reader, Some((index, index)), 0).await?;
    Ok(answer(OCTETS, NEVER, bytes))
}

/// `GET /v1/blobs/<64 hexadecimal digits>`, for those who read everything: salt and content, whose SHA-256 is the name.
///
/// # Errors
/// [`Reason::NotAReader`], [`Reason::NotFound`]: there is no such blob. [`Reason::BlobDeleted`]: it was deleted.
pub async fn blob(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(hex): Path<String>,
) -> Result<Response, Refusal> {
    let reader = api.reader(&headers, Right::Get, None).await?;
    reader.must_read_everything()?;
    let digest = parse_digest(&hex)?;
    let bytes = content(&api, digest).await?;
    api.note_entries(&reader, None, 0).await?;
    Ok(answer(OCTETS, NEVER, bytes))
}

/// `GET /log/tile/entries/<index>[.p/<width>]`, for those who read everything.
///
/// # Errors
/// [`Reason::NotAReader`], [`Reason::NotFound`]: no such path, or beyond the newest checkpoint.
pub async fn bundle(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(path): Path<String>,
) -> Result<Response, Refusal> {
    let reader = api.reader(&headers, Right::Get, None).await?;
    reader.must_read_everything()?;
    let tile = Tile::parse_path(&format!("tile/entries/{path}")).ok_or_else(nothing_there)?;
    let served = serve(&api, Some(tile), PRIVATE_FOR_EVER).await?;
    let (first, width) = (tile.index * TILE_WIDTH, u64::from(tile.width));
    api.note_entries(&reader, Some((first, first + width - 1)), width).await?;
    Ok(served)
}

/// An entry that the reader may see. What is not the reader's is not there.
async fn readable(api: &Api, reader: &Reader, index: &str) -> Result<(u64, Arc<[u8]>), Refusal> {
    let index: u64 = index.parse().map_err(|_| nothing_there())?;
    let leaf = api.read(move |log| log.entry(index)).await?.ok_or_else(nothing_there)?;
    match visible(api, reader, &[&leaf]).await?[..] {
        [true] => Ok((index, leaf)),
        _ => Err(nothing_there()),
    }
}

/// Which of these entries the reader may see.
async fn visible(api: &Api, reader: &Reader, leaves: &[&[u8]]) -> Result<Vec<bool>, Refusal> {
    if reader.scope == Scope::Everything {
        return Ok(vec![true; leaves.len()]);
    }
    let mut owners: Vec<_> = leaves.iter().map(|leaf| owner_of(leaf)).collect();
    for owner in &mut owners {
        if let Owner::Entry(about) = *owner {
            let leaf = api.read(move |log| log.entry(about)).await?;
            *owner = leaf.map_or(Owner::Log, |leaf| owner_of(&leaf));
        }
    }
    let sessions: HashSet<Uuid> = owners
        .iter()
        .filter_map(|owner| match owner {
            Owner::Session(session) => Some(*session),
            _ => None,
        })
        .collect();
    let sessions = api.searcher.visible(sessions.into_iter().collect(), reader.scope.clone()).await?;
    let (cluster, name) = (&reader.user().cluster, reader.user().reader());
    let sees = |owner: &Owner| match owner {
        Owner::Workload(role, workload) => reader.scope.holds(*role, workload),
        Owner::Session(session) => sessions.contains(session),
        Owner::Reader(of, reader) => (of, reader) == (cluster, &name),
        // What is about an entry that is itself about another is of those alone who read everything.
        Owner::Entry(_) | Owner::Log => false,
    };
    Ok(owners.iter().map(sees).collect())
}

fn owner_of(leaf: &[u8]) -> Owner {
    Entry::parse(leaf).map_or(Owner::Log, owner)
}

/// A blob's file.
async fn content(api: &Api, digest: Digest) -> Result<Vec<u8>, Refusal> {
    let bytes = api.read(move |log| log.blob(&digest)).await?;
    bytes.ok_or_else(|| api.reader.deleted().entry(&digest).map_or_else(nothing_there, deleted))
}

fn parse_digest(hex: &str) -> Result<Digest, Refusal> {
    format!("sha256:{hex}").parse().map_err(|_| nothing_there())
}
