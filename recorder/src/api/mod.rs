//! The API: who may ask what, over TLS, HTTP/1.1 and HTTP/2.
//!
//! | path | who | what |
//! |---|---|---|
//! | `POST /v1/batches` | speakers | [`ingest`]: statements and blobs in, receipt out |
//! | `GET /v1/search` | readers | [`search`]: calls, from the index |
//! | `GET /v1/sessions` | readers | [`search`]: sessions, from the index |
//! | `GET /v1/connections` | readers, operators | [`search`]: who asked for which spec, from the index |
//! | `GET /v1/coverage` | readers, operators | [`search`]: what operators saw of pods, from the index |
//! | `POST /v1/exports` | readers | [`exports`]: that a bundle is taken out becomes an entry |
//! | `GET /v1/access` | readers | [`readers`]: what the bearer may read |
//! | `GET /v1/entries/<index>` | readers | [`entries`]: one leaf |
//! | `GET /v1/entries?tile=<N>` | readers | the leaves under a tile that the reader may see |
//! | `GET /v1/entries/<index>/blobs/<hex>` | readers | a blob that the entry names |
//! | `GET /v1/blobs/<hex>` | who reads everything | one blob, salt and content |
//! | `GET /log/keys` | everyone | what was said when the log's keys were changed |
//! | `GET /log/witnessed` | everyone | the newest checkpoint that enough witnesses cosigned |
//! | `GET /log/checkpoint`, `/log/tile/<level>/...` | everyone | the log's public half |
//! | `GET /log/tile/entries/...` | who reads everything | entry bundles |
//!
//! What a reader sees is [`crate::authz`]'s to say; each read becomes an entry before it is answered ([`crate::reads`]).

pub mod certificate;
pub mod entries;
pub mod exports;
pub mod heads;
pub mod ingest;
pub mod log;
pub mod readers;
pub mod search;
pub mod server;
pub mod stall;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::{Semaphore, watch};

use crate::authn::{Identity, Verifier};
use crate::authz::AccessControl;
use crate::error::{Reason, Refusal};
use crate::index::Searcher;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::reads::Reads;
use crate::sequencer::Queue;
use crate::store::error::StoreError;
use crate::store::keys::Signer;
use crate::store::publish::Published;
use crate::store::reader::LogReader;

/// Reads of the disk at one time; others wait.
const READS: usize = 16;

/// What witnesses cosigned.
#[derive(Clone)]
pub struct Witnessed {
    /// The newest such checkpoint; without witnesses there is none.
    pub newest: watch::Receiver<Option<Published>>,
    /// How long receipts wait until it covers their entries; zero: not at all.
    pub wait: Duration,
}

/// What the handlers share.
pub struct Api {
    /// Verifies bearers.
    pub verifier: Arc<Verifier>,
    /// Says what readers may see.
    pub access: AccessControl,
    /// Makes their reads entries.
    pub noted: Arc<Reads>,
    /// To the sequencer.
    pub queue: Queue,
    /// Signs receipts.
    pub signer: Signer,
    /// Reads the log.
    pub reader: LogReader,
    /// Asks the index.
    pub searcher: Searcher,
    /// What witnesses cosigned, and how long receipts wait for that.
    pub witnessed: Witnessed,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Takes bodies in.
    pub intake: Intake,
    reads: Semaphore,
}

impl Api {
    /// The API in front of these parts.
    #[must_use]
    pub fn new(
        (verifier, access): (Arc<Verifier>, AccessControl),
        (queue, noted): (Queue, Arc<Reads>),
        signer: Signer,
        reader: LogReader,
        searcher: Searcher,
        witnessed: Witnessed,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            verifier,
            access,
            queue,
            noted,
            signer,
            reader,
            searcher,
            witnessed,
            metrics,
            intake: Intake::default(),
            reads: Semaphore::new(READS),
        }
    }

    /// The routes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/v1/access", get(readers::access))
            .route("/v1/search", get(search::search))
            .route("/v1/sessions", get(search::sessions))
            .route("/v1/exports", post(exports::enter))
            .route("/v1/entries", get(entries::under_tile))
            .route("/v1/entries/{index}", get(entries::entry))
            .route("/v1/entries/{index}/blobs/{digest}", get(entries::blob_of))
            .route("/v1/blobs/{digest}", get(entries::blob))
            .route("/log/tile/entries/{*path}", get(entries::bundle))
            .route("/v1/connections", get(search::connections))
            .route("/v1/coverage", get(search::coverage))
            .route("/v1/batches", post(ingest::batch))
            .route("/log/checkpoint", get(log::checkpoint))
            .route("/log/keys", get(log::keys))
            .route("/log/witnessed", get(log::witnessed))
            .route("/log/tile/{*path}", get(log::tile))
            .fallback(|| async { Refusal::new(Reason::NotFound, "there is nothing here") })
            .method_not_allowed_fallback(|| async {
                Refusal::new(Reason::MethodNotAllowed, "this place has another method")
            })
            .layer(middleware::map_response(no_sniffing))
            .with_state(self)
    }

    /// Who sent this request.
    ///
    /// # Errors
    /// A [`Refusal`]: no token, or not a good one.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Arc<Identity>, Refusal> {
        self.verifier.verify(Self::token(headers)?).await
    }

    /// The bearer's token.
    fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) = token
            .ok_or_else(|| Refusal::new(Reason::NoToken, "send a token: Authorization: Bearer TOKEN"))?;
        Ok(token)
    }

    /// Does something with the disk on a thread that may block.
    ///
    /// # Errors
    /// [`Reason::StorageFailed`]; the details are in the recorder's log.
    pub async fn read<T: Send + 'static>(
        &self,
        what: impl FnOnce(&LogReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let _turn = self.reads.acquire().await;
        let reader = self.reader.clone();
        let done = tokio::task::spawn_blocking(move || what(&reader)).await;
        done.map_err(|error| self.failed(&error))?.map_err(|error| self.failed(&error))
    }

    /// A read that failed, and the recorder's log says why.
    fn failed(&self, error: &dyn std::fmt::Display) -> Refusal {
        tracing::error!(%error, "a read failed");
        Refusal::new(Reason::StorageFailed, "the recorder can't read this; its log says why")
    }
}

/// Recorded bytes are never to be taken for a page by a browser.
async fn no_sniffing(mut answer: Response) -> Response {
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
