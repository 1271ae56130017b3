//! `GET /v1/search` and `GET /v1/sessions`: calls and sessions, from the index.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use ledger::search::sessions::{SessionAnswer, SessionQuery};
use ledger::search::{Answer, Query};

use super::Api;
use crate::error::{Reason, Refusal};

/// `GET /v1/search`
///
/// # Errors
/// [`Reason::BadQuery`], [`Reason::SearchTimeout`], [`Reason::IndexFailed`]
pub async fn search(
    State(api): State<Arc<Api>>,
    query: Result<Parameters<Query>, QueryRejection>,
) -> Result<Json<Answer>, Refusal> {
    let Parameters(query) = query.map_err(|error| Refusal::new(Reason::BadQuery, error.body_text()))?;
    Ok(Json(api.searcher.search(query).await?))
}

/// `GET /v1/sessions`
///
/// # Errors
/// [`Reason::BadQuery`], [`Reason::SearchTimeout`], [`Reason::IndexFailed`]
pub async fn sessions(
    State(api): State<Arc<Api>>,
    query: Result<Parameters<SessionQuery>, QueryRejection>,
) -> Result<Json<SessionAnswer>, Refusal> {
    let Parameters(query) = query.map_err(|error| Refusal::new(Reason::BadQuery, error.body_text()))?;
    Ok(Json(api.searcher.sessions(query).await?))
}
