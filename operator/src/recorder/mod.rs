//! The recorder's keeper, a program of its own that runs beside the recorder: it makes and renews the recorder's certificate and CA,
//! and publishes what proves the recorder (its CAs, its log's key) for the operator, who hands it to sidecars.
//!
//! It alone may write the Secret and the ConfigMap. It sees neither the log nor its key: the recorder says its verifier key in
//! its port file.
//!
//! [`config`] -> [`run`]: every half minute [`certificate`], then [`publish`].

pub mod certificate;
pub mod config;
pub mod metrics;
pub mod publish;

use std::time::Duration;

use kube::Client;
use prometheus::Registry;
use runtime::client::chain;
use runtime::readiness::{Readiness, Wait};

use crate::certificate::issue::IssueError;
use crate::certificate::keeper::KeepError;

use self::certificate::Source;
use self::config::Config;
use self::metrics::Metrics;
use self::publish::Publisher;

/// How often everything is looked at. A certificate has days left when it is replaced.
const EVERY: Duration = Duration::from_secs(30);

/// After a failure, or while the recorder has not said its key, it is looked at again this soon.
const AGAIN: Duration = Duration::from_secs(2);

/// What went wrong. Everything is tried again.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The API server's answer.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// The certificate can't be read or renewed.
    #[error("the recorder's certificate: {0}")]
    Certificate(#[from] KeepError),
    /// It can't be used.
    #[error("the recorder's certificate: {0}")]
    Unusable(#[from] IssueError),
    /// A file.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// The log has another key than the one that was published.
    #[error(
        "the recorder's log has the key {found}, and {config_map} says {published}: sidecars and auditors hold to that one. If a new \
         log was begun on purpose, delete that ConfigMap, and tell the auditors"
    )]
    OtherKey {
        /// The ConfigMap.
        config_map: String,
        /// What it says.
        published: String,
        /// What the recorder says.
        found: String,
    },
    /// What keeps the keeper from starting.
    #[error("can't start: {0}")]
    Start(String),
}

impl KeeperError {
    /// The fixed name of this error in metrics and logs.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Api(_) => "api_server",
            Self::Certificate(KeepError::Api(_)) => "api_server",
            Self::Certificate(_) | Self::Unusable(_) => "certificate",
            Self::File(_) => "file",
            Self::OtherKey { .. } => "other_key",
            Self::Start(_) => "start",
        }
    }
}

/// Keeps the recorder's certificate, until the process ends.
///
/// # Errors
/// It can't start: no API server is known, or the admin address is taken.
pub async fn run(config: Config) -> Result<(), KeeperError> {
    let start = |error: &dyn std::fmt::Display| KeeperError::Start(error.to_string());
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).map_err(|error| start(&error))?;
    let readiness = Readiness::default();
    let settings = kube::Config::infer().await.map_err(|error| start(&error))?;
    let client = Client::try_from(settings)?;
    let listener = runtime::listen::bind(config.admin).await?;
    tokio::spawn(runtime::admin::serve(listener, registry, readiness.clone()));

    let source = Source::new(&config, &client);
    let publisher = Publisher::new(&config, &client);
    keep(&source, publisher, &metrics, readiness.wait_for("certificate")).await;
    Ok(())
}

async fn keep(source: &Source, mut publisher: Publisher, metrics: &Metrics, first: Wait) {
    let mut first = Some(first);
    loop {
        let done = look(source, &mut publisher, metrics, &mut first).await;
        let pause = match done {
            Ok(true) => EVERY,
            Ok(false) => AGAIN,
            Err(error) => {
                tracing::warn!(category = error.category(), "{}", chain(&error));
                metrics.failed(error.category());
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Is everything said? Not before the recorder has said its key, which it does after it has found a certificate.
async fn look(
    source: &Source,
    publisher: &mut Publisher,
    metrics: &Metrics,
    first: &mut Option<Wait>,
) -> Result<bool, KeeperError> {
    let certificate = source.look().await?;
    metrics.certificate_ends(certificate.ends);
    drop(first.take());
    publisher.publish(&certificate.bundle).await
}
