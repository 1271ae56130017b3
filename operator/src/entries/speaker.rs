//! The operator's session at the recorder, while this replica leads: it asks what is on record, and then enters what the diary has.

use std::time::Duration;

use deliver::{
    Deliver, DeliverSettings, DeliveryError, FOLLOW_EVERY, PinnedKeys, ProgressSettings, RecorderSettings,
    Trouble, Way,
};
use ledger::search::MAX_LIMIT;
use ledger::search::cluster::{ConnectionAnswer, ConnectionQuery, CoverageAnswer, CoverageQuery};
use ledger::statement::SessionStart;
use prometheus::Registry;
use runtime::drain::Watch;
use serde::de::DeserializeOwned;

use super::diary::{Diary, Standing};
use crate::config::RecorderFiles;
use crate::watch::Changes;

/// Entries that are said at one time; the next ones when these are on record.
const AT_ONCE: usize = 128;

/// After something that did not work it is tried again this soon.
const AGAIN: Duration = Duration::from_secs(1);

/// How often it is looked at whether the recorder takes entries.
const LOOK: Duration = Duration::from_secs(1);

/// At the end, what is in line has this long to be recorded. What is not, the next leader enters.
const LAST_DELIVERY: Duration = Duration::from_secs(5);

/// Nothing of the operator's is a call; the limit is for the type.
const DELIVER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the operator's recorder is, and what proves both.
#[derive(Clone, Debug)]
pub struct SpeakerSettings {
    /// `https://host:port`
    pub url: String,
    /// What proves it.
    pub files: RecorderFiles,
    /// What proves the operator: its pod's token for the recorder.
    pub token: std::path::PathBuf,
}

/// Says what the diary has.
pub struct Speaker {
    /// What is to be said.
    pub diary: Diary,
    /// Namespaces to look at again, when more is on record.
    pub changes: Changes,
    /// Where the recorder is.
    pub settings: SpeakerSettings,
    /// For the metrics of delivery.
    pub registry: Registry,
}

/// Why the record can't be asked.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    #[error("the recorder's answer can't be read: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("its index has {0} entries, and not yet what was entered last")]
    Behind(u64),
    #[error("it has not acknowledged the operator's session")]
    NotBegun,
}

impl Speaker {
    /// Speaks until the drain, or for ever; says its session's end then. `namespaces` are those that have connections.
    pub async fn run(self, mut drain: Watch, namespaces: impl Fn() -> Vec<String>) {
        let settings = match self.delivery() {
            Ok(settings) => settings,
            Err(message) => {
                // Checked at the start, so it has changed since; a restart reads it again.
                tracing::error!("the operator can't speak to the recorder: {message}");
                self.stand(Standing::Trouble(Trouble { category: "recorder_files", message }), &namespaces);
                return drain.draining().await;
            }
        };
        let (deliver, delivery) = match Deliver::start(settings, &self.registry) {
            Ok(started) => started,
            Err(error) => return tracing::error!("metrics: {error}"),
        };
        tracing::info!(session = %deliver.session(), recorder = self.settings.url, "speaking to the recorder");
        let heartbeats = tokio::spawn(deliver.clone().heartbeats(drain.clone()));
        let speaking = async {
            self.learn(&deliver).await;
            loop {
                self.say(&deliver).await;
            }
        };
        let standing = async {
            loop {
                self.stand(standing(&deliver), &namespaces);
                tokio::time::sleep(LOOK).await;
            }
        };
        let broken = async {
            let over = delivery.over().await;
            tracing::error!(category = over.category(), "nothing more is entered: {over}");
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = speaking => {}
            () = standing => {}
            () = broken => {}
            () = drain.draining() => {}
        }
        heartbeats.abort();
        deliver.end("shutdown");
        if !delivery.finish(LAST_DELIVERY).await {
            tracing::warn!(limit = ?LAST_DELIVERY, "the operator's session was left without its end");
        }
    }

    fn delivery(&self) -> Result<DeliverSettings, String> {
        let way = Way::new(self.settings.files.ca.clone()).map_err(|error| error.to_string())?;
        Ok(DeliverSettings {
            recorder: RecorderSettings {
                url: self.settings.url.parse().map_err(|error| format!("{}: {error}", self.settings.url))?,
                way,
                keys: PinnedKeys::read(&self.settings.files.key)?,
                token_file: self.settings.token.clone(),
            },
            connection: None,
            deliver_timeout: DELIVER_TIMEOUT,
            progress: ProgressSettings::default(),
            follow_every: FOLLOW_EVERY,
            start: SessionStart { version: runtime::VERSION.into(), ..SessionStart::default() },
        })
    }

    /// Says how the way to the recorder is; whoever has a connection is told when that changes.
    fn stand(&self, standing: Standing, namespaces: &impl Fn() -> Vec<String>) {
        if self.diary.stands(standing) {
            namespaces().iter().for_each(|namespace| self.changes.mark(namespace));
        }
    }

    /// Asks what is on record, until it is known: before that nothing is entered, or it might be entered twice.
    async fn learn(&self, deliver: &Deliver) {
        let mut said = String::new();
        loop {
            match self.ask(deliver).await {
                Ok((connections, pods)) => {
                    tracing::info!(
                        connections = connections.len(),
                        pods = pods.len(),
                        "what is on record is known"
                    );
                    let namespaces = self.diary.learn(connections, pods);
                    namespaces.iter().for_each(|namespace| self.changes.mark(namespace));
                    return;
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != said {
                        tracing::info!("nothing is entered yet: {error}");
                        said = error;
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The last entry of everything that goes on. The operator's `session.start` is behind all that an operator before this one has
    /// entered, so an index that has it has those too.
    async fn ask(
        &self,
        deliver: &Deliver,
    ) -> Result<
        (Vec<ledger::search::cluster::ConnectionEntry>, Vec<ledger::search::cluster::CoverageEntry>),
        AskError,
    > {
        let start = deliver.acknowledged().ok_or(AskError::NotBegun)?;
        let (mut connections, mut pods) = (Vec::new(), Vec::new());
        let mut query = ConnectionQuery {
            current: Some(true),
            own: Some(true),
            limit: Some(MAX_LIMIT),
            ..ConnectionQuery::default()
        };
        loop {
            let path = format!("/v1/connections?{}", query.to_query_string());
            let page: ConnectionAnswer = page(deliver, &path).await?;
            has(page.size, start)?;
            connections.extend(page.entries);
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        let mut query = CoverageQuery {
            current: Some(true),
            own: Some(true),
            limit: Some(MAX_LIMIT),
            ..CoverageQuery::default()
        };
        loop {
            let path = format!("/v1/coverage?{}", query.to_query_string());
            let page: CoverageAnswer = page(deliver, &path).await?;
            has(page.size, start)?;
            pods.extend(page.entries);
            query.before = page.next;
            if page.next.is_none() {
                return Ok((connections, pods));
            }
        }
    }

    async fn say(&self, deliver: &Deliver) {
        let first = self.diary.first(AT_ONCE).await;
        deliver.going_on().await;
        let results = deliver.notices(&first).await;
        let failed = results.iter().any(Result::is_err);
        let namespaces = self.diary.said(&results);
        namespaces.iter().for_each(|namespace| self.changes.mark(namespace));
        if failed {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn page<T: DeserializeOwned>(deliver: &Deliver, path: &str) -> Result<T, AskError> {
    Ok(serde_json::from_slice(&deliver.ask(path).await?)?)
}

fn has(size: u64, start: u64) -> Result<(), AskError> {
    if size > start { Ok(()) } else { Err(AskError::Behind(size)) }
}

fn standing(deliver: &Deliver) -> Standing {
    match (deliver.trouble(), deliver.acknowledged()) {
        (Some(trouble), _) => Standing::Trouble(trouble),
        (None, Some(_)) => Standing::Taking,
        (None, None) => Standing::Unknown,
    }
}
