//! The Secret that the replicas share. Whoever finds it out of date writes it; who comes second finds that out by its version.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use runtime::readiness::Wait;
use tokio::sync::watch;

use super::InForce;
use super::issue::{self, Held, IssueError};
use crate::metrics::Metrics;

/// How often the Secret is looked at. A certificate has days left when it is replaced.
const EVERY: Duration = Duration::from_secs(10);

/// After a failure it is looked at again this soon.
const AGAIN: Duration = Duration::from_secs(2);

/// The Secret.
pub struct Stored {
    /// Secrets of its namespace.
    pub secrets: Api<Secret>,
    /// Its name.
    pub name: String,
}

/// Keeps the certificate in force.
pub struct Keeper {
    /// Where it is kept.
    pub stored: Stored,
    /// What the API server calls the webhook.
    pub names: Vec<String>,
    /// What connections are greeted with.
    pub in_force: InForce,
    /// The CAs to trust, for the webhook configurations.
    pub bundle: watch::Sender<Option<Arc<str>>>,
    /// What an SRE sees.
    pub metrics: Metrics,
}

/// The certificate can't be read or renewed.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The API server's answer.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// It can't be made or used.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl Keeper {
    /// Keeps it for ever; `first` is dropped when there is one.
    pub async fn keep(self, first: Wait) {
        let mut first = Some(first);
        loop {
            let pause = match self.look().await {
                Ok(()) => {
                    drop(first.take());
                    EVERY
                }
                Err(error) => {
                    tracing::warn!(secret = self.stored.name, "the webhook's certificate: {error}");
                    self.metrics.failed("certificate");
                    AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&self) -> Result<(), KeepError> {
        let held = self.stored.renewed(&self.names).await?;
        let usable = issue::usable(&held)?;
        self.metrics.certificate_ends(usable.ends);
        self.in_force.replace(usable.leaf);
        let bundle: Arc<str> = usable.bundle.into();
        self.bundle.send_if_modified(|known| {
            let changed = known.as_ref() != Some(&bundle);
            *known = Some(bundle);
            changed
        });
        Ok(())
    }
}

impl Stored {
    /// What it holds, renewed when it is time.
    ///
    /// # Errors
    /// [`KeepError`]; also where another has renewed it meanwhile: the next look finds that.
    pub async fn renewed(&self, names: &[String]) -> Result<Held, KeepError> {
        let stored = self.secrets.get_opt(&self.name).await?;
        let held = stored.as_ref().map(held).unwrap_or_default();
        let Some(next) = issue::renew(&held, names, Timestamp::now())? else { return Ok(held) };
        self.write(stored, &next).await?;
        tracing::info!(secret = self.name, "the certificate was renewed");
        Ok(next)
    }

    /// Fails where another replica has written since: then theirs is read at the next look.
    async fn write(&self, stored: Option<Secret>, held: &Held) -> Result<(), kube::Error> {
        let data = held.iter().map(|(key, value)| (key.clone(), ByteString(value.clone()))).collect();
        match stored {
            Some(stored) => {
                let next = Secret { data: Some(data), ..stored };
                self.secrets.replace(&self.name, &PostParams::default(), &next).await?;
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let type_ = Some("kubernetes.io/tls".into());
                let next = Secret { metadata, type_, data: Some(data), ..Secret::default() };
                self.secrets.create(&PostParams::default(), &next).await?;
            }
        }
        Ok(())
    }
}

fn held(secret: &Secret) -> Held {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}
