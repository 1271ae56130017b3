//! `GET /v1/search`, `/v1/sessions`, `/v1/connections`, `/v1/coverage`: what is found in the index.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use http::HeaderMap;
use ledger::search::cluster::{ConnectionAnswer, ConnectionQuery, CoverageAnswer, CoverageQuery};
use ledger::search::sessions::{SessionAnswer, SessionQuery};
use ledger::search::{Answer, Query};

use super::Api;
use crate::authz::{Reader, Right};
use crate::error::{Reason, Refusal};
use crate::index::cluster::Whose;
use crate::reads::{Request, What};

/// `GET /v1/search`
///
/// # Errors
/// [`Reason::NotAReader`], [`Reason::BadQuery`], [`Reason::SearchTimeout`], [`Reason::IndexFailed`], and why the read can't be
/// recorded.
pub async fn search(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    query: Result<Parameters<Query>, QueryRejection>,
) -> Result<Json<Answer>, Refusal> {
    let Parameters(query) = query.map_err(|error| Refusal::new(Reason::BadQuery, error.body_text()))?;
    // Whoever waits for what comes after a place follows the log; without waiting, these are pages of what is there.
    let follows = query.from.is_some() && query.wait.is_some();
    let (right, what) = if follows { (Right::Watch, What::Follow) } else { (Right::List, What::Search) };
    let reader = api.reader(&headers, right, query.namespace.as_deref()).await?;
    let asked = Query { words: None, limit: None, before: None, from: None, wait: None, ..query.clone() };
    let words = query.words.clone();
    let answer = api.searcher.search(query, reader.scope.clone()).await?;
    note(&api, &reader, what, (asked.to_query_string(), words), answer.calls.len()).await?;
    Ok(Json(answer))
}

/// `GET /v1/sessions`
///
/// # Errors
/// As [`search`].
pub async fn sessions(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    query: Result<Parameters<SessionQuery>, QueryRejection>,
) -> Result<Json<SessionAnswer>, Refusal> {
    let Parameters(query) = query.map_err(|error| Refusal::new(Reason::BadQuery, error.body_text()))?;
    let reader = api.reader(&headers, Right::List, query.namespace.as_deref()).await?;
    let asked = SessionQuery { limit: None, before: None, wait: None, ..query.clone() };
    let answer = api.searcher.sessions(query, reader.scope.clone()).await?;
    note(&api, &reader, What::Sessions, (asked.to_query_string(), None), answer.sessions.len()).await?;
    Ok(Json(answer))
}

async fn note(
    api: &Api,
    reader: &Reader,
    what: What,
    (filter, words): (String, Option<String>),
    found: usize,
) -> Result<(), Refusal> {
    let (user, found) = (reader.user(), found as u64);
    api.noted.note(Request { user, what, filter, words, places: None, found }).await
}

/// `GET /v1/connections`. An operator, which enters nothing twice, sees what it has entered itself; others what they may read.
///
/// # Errors
/// As [`search`].
pub async fn connections(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    query: Result<Parameters<ConnectionQuery>, QueryRejection>,
) -> Result<Json<ConnectionAnswer>, Refusal> {
    let Parameters(query) = query.map_err(|error| Refusal::new(Reason::BadQuery, error.body_text()))?;
    if let Some(operator) = own_words(&api, &headers, query.own).await? {
        return Ok(Json(api.searcher.connections(query, Whose::Operators(operator)).await?));
    }
    let reader = api.reader(&headers, Right::List, query.namespace.as_deref()).await?;
    let asked = ConnectionQuery { limit: None, before: None, wait: None, ..query.clone() };
    let answer = api.searcher.connections(query, Whose::All(reader.scope.clone())).await?;
    let filter = format!("connections?{}", asked.to_query_string());
    note(&api, &reader, What::Operators, (filter, None), answer.entries.len()).await?;
    Ok(Json(answer))
}

/// `GET /v1/coverage`. As [`connections`].
///
/// # Errors
/// As [`search`].
pub async fn coverage(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    query: Result<Parameters<CoverageQuery>, QueryRejection>,
) -> Result<Json<CoverageAnswer>, Refusal> {
    let Parameters(query) = query.map_err(|error| Refusal::new(Reason::BadQuery, error.body_text()))?;
    if let Some(operator) = own_words(&api, &headers, query.own).await? {
        return Ok(Json(api.searcher.coverage(query, Whose::Operators(operator)).await?));
    }
    let reader = api.reader(&headers, Right::List, query.namespace.as_deref()).await?;
    let asked = CoverageQuery { limit: None, before: None, wait: None, ..query.clone() };
    let answer = api.searcher.coverage(query, Whose::All(reader.scope.clone())).await?;
    let filter = format!("coverage?{}", asked.to_query_string());
    note(&api, &reader, What::Operators, (filter, None), answer.entries.len()).await?;
    Ok(Json(answer))
}

/// The operator that asks for its own words, if it is one. To read them again, which it wrote itself, takes no right.
async fn own_words(api: &Api, headers: &HeaderMap, own: Option<bool>) -> Result<Option<String>, Refusal> {
    if own != Some(true) {
        return Ok(None);
    }
    Ok(Some(api.identify(headers).await?.operator()?))
}
