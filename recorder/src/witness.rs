//! Asks the log's witnesses to cosign its newest checkpoint (the client's side of <https://c2sp.org/tlog-witness>).
//!
//! A witness that has seen another history of this log never cosigns again: that is what it is for. Then the recorder goes
//! on, says so in its log and a metric, and `/log/witnessed` stays where it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use ledger::note::Note;
use ledger::policy::{Policy, Witness};
use ledger::proof::{TileSource, prove_consistency};
use ledger::tile::{Tile, parse_hashes};
use ledger::tree::Hash;
use ledger::witness::AddCheckpoint;
use runtime::client::{ClientError, HttpsClient};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::store::error::StoreError;
use crate::store::publish::Published;
use crate::store::reader::LogReader;

/// A witness that has not answered by then is left out of this round.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Greatest length of an answer, in bytes: a few signature lines. A longer one counts as none.
const MAX_ANSWER: usize = 16 * 1024;

/// Between two rounds. A checkpoint that is replaced meanwhile is never cosigned; the next one is, and covers it.
pub const PAUSE: Duration = Duration::from_secs(1);

/// How often a witness is asked in a round: once more when it says that it knows another size.
const TRIES: usize = 2;

/// Asks, and keeps the newest checkpoint that enough witnesses cosigned.
pub struct Witnesses {
    policy: Arc<Policy>,
    client: HttpsClient,
    log: LogReader,
    /// The size that each witness cosigned last, as far as is known.
    sizes: BTreeMap<String, u64>,
    /// How each witness answered last: only a change is worth a line in the log.
    answered: BTreeMap<String, &'static str>,
    witnessed: watch::Sender<Option<Published>>,
    metrics: Arc<Metrics>,
}

/// Why a witness gave no cosignature.
#[derive(Debug, thiserror::Error)]
enum NoCosignature {
    #[error("{0}")]
    Unreachable(#[from] ClientError),
    #[error("the tiles can't be read: {0}")]
    Tiles(#[from] StoreError),
    #[error("it has seen {seen} entries of this log, and this log has {size}: it was rolled back")]
    RolledBack { seen: u64, size: u64 },
    #[error(
        "it has seen another history of this log (HTTP {0}): it was forked, or the witness lost its state"
    )]
    Forked(u16),
    #[error("it answered HTTP {0}")]
    Refused(u16),
    #[error("its answer has no cosignature of its key")]
    NotSigned,
    #[error("its URL is not one")]
    Url,
    #[error("the thread that reads tiles ended")]
    Ended,
}

impl NoCosignature {
    /// The metric's label.
    fn category(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Tiles(_) | Self::Ended => "storage_failed",
            Self::RolledBack { .. } => "rolled_back",
            Self::Forked(_) => "forked",
            Self::Refused(_) => "refused",
            Self::NotSigned => "not_signed",
            Self::Url => "url",
        }
    }
}

impl Witnesses {
    /// The witnesses of `policy`, and what will be their newest checkpoint.
    #[must_use]
    pub fn new(
        policy: Policy,
        client: HttpsClient,
        log: LogReader,
        metrics: Arc<Metrics>,
    ) -> (Self, watch::Receiver<Option<Published>>) {
        let (witnessed, newest) = watch::channel(None);
        let policy = Arc::new(policy);
        (
            Self {
                policy,
                client,
                log,
                sizes: BTreeMap::new(),
                answered: BTreeMap::new(),
                witnessed,
                metrics,
            },
            newest,
        )
    }

    /// Makes the client for it.
    ///
    /// # Errors
    /// The system has no roots.
    pub fn client() -> Result<HttpsClient, runtime::tls::TlsError> {
        let tls = runtime::tls::client_config(runtime::tls::system_roots()?, &[])?;
        Ok(HttpsClient::for_signed_notes(tls, ANSWER_LIMIT, MAX_ANSWER))
    }

    /// Asks about each new checkpoint, for ever.
    pub async fn run(mut self) {
        let mut published = self.log.watch();
        loop {
            let newest = published.borrow_and_update().clone();
            let done = self.witnessed.borrow().as_ref().is_some_and(|done| done.size == newest.size);
            if !done && newest.size > 0 {
                self.round(newest).await;
                tokio::time::sleep(PAUSE).await;
                // What was not cosigned is asked for again, even when nothing new comes.
                if !published.has_changed().unwrap_or(false) && self.is_behind(&published.borrow()) {
                    continue;
                }
            }
            if published.changed().await.is_err() {
                return; // the recorder is stopping
            }
        }
    }

    fn is_behind(&self, newest: &Published) -> bool {
        self.witnessed.borrow().as_ref().is_none_or(|done| done.size < newest.size)
    }

    async fn round(&mut self, newest: Published) {
        let policy = Arc::clone(&self.policy);
        let mut note = newest.note.to_string();
        for (name, witness) in policy.witnesses() {
            let known = self.sizes.get(name).copied().unwrap_or(0);
            let result = match self.cosignature(witness, known, &newest).await {
                Ok(line) => {
                    self.sizes.insert(name.clone(), newest.size);
                    note.push_str(&line);
                    "cosigned"
                }
                Err(error) => {
                    if self.answered.get(name) != Some(&error.category()) {
                        tracing::warn!(witness = name, %error, "a witness did not cosign");
                    }
                    error.category()
                }
            };
            self.answered.insert(name.clone(), result);
            self.metrics.witness_answers.with_label_values(&[name, result]).inc();
        }
        let witnessed = Note::parse(note.as_bytes()).ok().and_then(|note| policy.check(&note).ok());
        if witnessed.is_some_and(|witnessed| witnessed.enough) {
            self.metrics.witnessed_size.set(i64::try_from(newest.size).unwrap_or(i64::MAX));
            self.witnessed.send_replace(Some(Published { note: note.into(), ..newest }));
        }
    }

    /// The witness's signature line for the newest checkpoint.
    async fn cosignature(
        &self,
        witness: &Witness,
        mut known: u64,
        newest: &Published,
    ) -> Result<String, NoCosignature> {
        for _ in 0..TRIES {
            let answer = self.ask(witness, known, newest).await?;
            match answer.status() {
                StatusCode::OK => return signed_line(witness, newest, answer.body()),
                StatusCode::CONFLICT => {
                    let said =
                        std::str::from_utf8(answer.body()).ok().and_then(|text| text.trim().parse().ok());
                    let seen: u64 = said.ok_or(NoCosignature::Refused(409))?;
                    if seen > newest.size {
                        return Err(NoCosignature::RolledBack { seen, size: newest.size });
                    }
                    known = seen;
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    return Err(NoCosignature::Forked(422));
                }
                other => return Err(NoCosignature::Refused(other.as_u16())),
            }
        }
        Err(NoCosignature::Forked(409)) // it knows this size, with another root
    }

    async fn ask(
        &self,
        witness: &Witness,
        known: u64,
        newest: &Published,
    ) -> Result<Response<Bytes>, NoCosignature> {
        let (log, size) = (self.log.clone(), newest.size);
        let proving = tokio::task::spawn_blocking(move || prove_consistency(&Tiles(log), known, size));
        let proof = proving.await.map_err(|_| NoCosignature::Ended)??;
        let asked = AddCheckpoint { old: known, proof, note: newest.note.as_bytes().to_vec() };
        let url = witness.url.as_deref().ok_or(NoCosignature::Url)?;
        let request = Request::post(format!("{url}/add-checkpoint")).body(Full::from(asked.encode()));
        Ok(self.client.send(request.map_err(|_| NoCosignature::Url)?).await?)
    }
}

/// The line of the witness's key among those that it answered.
fn signed_line(witness: &Witness, newest: &Published, answer: &[u8]) -> Result<String, NoCosignature> {
    let answer = std::str::from_utf8(answer).map_err(|_| NoCosignature::NotSigned)?;
    let signed = |line: &&str| {
        let note = format!("{}{line}\n", newest.note);
        let parsed = Note::parse(note.as_bytes());
        parsed.is_ok_and(|note| witness.key.verify(&note).is_ok_and(|time| time.is_some()))
    };
    answer.lines().find(signed).map(|line| format!("{line}\n")).ok_or(NoCosignature::NotSigned)
}

/// The log's own tiles.
struct Tiles(LogReader);

impl TileSource for Tiles {
    type Error = StoreError;

    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, StoreError> {
        let path = format!("log/{tile}");
        let bytes = self.0.tile(tile)?.ok_or_else(|| StoreError::corrupt(&path, 0, "it is not there"))?;
        parse_hashes(tile, &bytes).map_err(|error| StoreError::corrupt(&path, 0, error.to_string()))
    }
}
