//! The webhook: what the API server asks before it stores something. Answers come from the watch cache, without asking back.
//!
//! [`review`] is the question and the answer, [`pods`] and [`connections`] are pure decisions about them, [`server`] speaks HTTPS.

pub mod connections;
pub mod pods;
pub mod review;
pub mod server;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use connection::BigQueryConnection;
use connection::inject::Settings;
use kube::runtime::reflector::Store;

use self::review::{Answer, Request, Review};
use crate::metrics::Metrics;

/// Greatest review, in bytes: an object and what it was before, each at most 1.5 MiB in etcd, with room.
const MAX_REVIEW: usize = 8 << 20;

/// What the webhook answers from.
#[derive(Clone)]
pub struct Webhook {
    /// All connections, as the watch has them.
    pub connections: Store<BigQueryConnection>,
    /// What the operator decides for all connections.
    pub settings: Arc<Settings>,
    /// The operator, as the API server knows it.
    pub operator: Arc<str>,
    /// What an SRE sees.
    pub metrics: Metrics,
}

impl Webhook {
    /// `POST /NAME`, one name for each webhook of the configurations.
    pub fn router(self) -> Router {
        Router::new()
            .route("/{webhook}", post(answer))
            .layer(DefaultBodyLimit::max(MAX_REVIEW))
            .with_state(self)
    }

    fn decide(&self, webhook: &str, request: &Request) -> Option<Answer> {
        let all = self.connections.state();
        Some(match webhook {
            "mutate-pods" => pods::mutate(request, &all, &self.settings),
            "validate-pods" => pods::validate(request, &all, &self.settings),
            "validate-tokens" => pods::token(request, &self.settings, &all),
            "validate-configmaps" => pods::config_map(request, &self.operator),
            "mutate-connections" => connections::mutate(request),
            "validate-connections" => connections::validate(request, &all),
            _ => return None,
        })
    }
}

async fn answer(
    State(webhook): State<Webhook>,
    Path(name): Path<String>,
    Json(Review { request }): Json<Review>,
) -> Response {
    let started = Instant::now();
    let Some(answer) = webhook.decide(&name, &request) else { return StatusCode::NOT_FOUND.into_response() };
    // The patch is made here: it is part of the time.
    let reply = answer.to_review(&request);
    webhook.metrics.admitted(&name, answer.category, started.elapsed());
    for refusal in &answer.refusals {
        let (namespace, user) = (&request.namespace, request.user());
        tracing::info!(
            webhook = name,
            category = refusal.category(),
            namespace,
            name = request.name,
            user,
            "refused: {refusal}"
        );
    }
    Json(reply).into_response()
}
