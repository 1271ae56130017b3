//! The one task that asks for credentials. There is never more than one request under way, however many calls wait: they
//! watch what it publishes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use runtime::readiness::{Readiness, Wait};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::cache::{Cache, View};
use super::error::{Category, CredentialError};
use super::metrics::Metrics;
use super::random;

/// A source that has not answered by then is not waited for any longer; each has shorter limits of its own.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(45);

/// What Google gave for this pod.
pub struct Credential {
    /// `Bearer ...`, marked as sensitive: its `Debug` does not show it.
    pub bearer: HeaderValue,
    /// Whose it is, where that is known.
    pub principal: Option<Arc<str>>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// A credential and how long it is good.
#[derive(Debug)]
pub struct Granted {
    /// The credential.
    pub credential: Credential,
    /// From now on.
    pub lifetime: Duration,
}

impl Granted {
    /// A bearer token of `principal`.
    ///
    /// # Errors
    /// [`Category::AnswerMalformed`]: not a token that fits into a header.
    pub fn new(
        token: &str,
        principal: Option<Arc<str>>,
        lifetime: Duration,
    ) -> Result<Self, CredentialError> {
        let malformed =
            || CredentialError::new(Category::AnswerMalformed, "the token service gave what is no token");
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(malformed());
        }
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| malformed())?;
        bearer.set_sensitive(true);
        Ok(Self { credential: Credential { bearer, principal }, lifetime })
    }
}

/// Where credentials come from.
pub trait Source: Send + 'static {
    /// Asks for one, once.
    fn fetch(&mut self) -> impl Future<Output = Result<Granted, CredentialError>> + Send;

    /// Waits until trying again makes sense before its time: what the last attempt was made with has changed.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// The handle on the keeper's task; clones share it.
#[derive(Clone, Debug)]
pub struct Keeper {
    view: watch::Receiver<View<Credential>>,
    doubt: Arc<Notify>,
}

impl Keeper {
    /// Starts to keep a credential of `source`. The process is not ready while there is none.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(source: impl Source, readiness: Readiness, metrics: Metrics) -> Self {
        let (sender, view) = watch::channel(View { held: None, error: None });
        let doubt = Arc::new(Notify::new());
        let waiting = Some(readiness.wait_for(Category::Pending.name()));
        let cache = Cache::new(Instant::now());
        let task = Task { source, cache, sender, doubt: Arc::clone(&doubt), readiness, waiting, metrics };
        tokio::spawn(task.run());
        Self { view, doubt }
    }

    /// The credential that is good now. Waits for one at most `patience`; not at all when Google has said no.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn credential(&self, patience: Duration) -> Result<Arc<Credential>, CredentialError> {
        if let Some(credential) = self.view.borrow().usable(Instant::now()) {
            return Ok(Arc::clone(credential));
        }
        let mut view = self.view.clone();
        let decided = view.wait_for(|view| {
            let refused = view.error.as_ref().is_some_and(CredentialError::is_refusal);
            refused || view.usable(Instant::now()).is_some()
        });
        // Too late, or the process is about to end: the view says what is known.
        let _in_time = tokio::time::timeout(patience, decided).await.is_ok();
        let view = view.borrow();
        match (view.usable(Instant::now()), &view.error) {
            (Some(credential), _) => Ok(Arc::clone(credential)),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => {
                let message = "the token service has not answered yet";
                Err(CredentialError::new(Category::Pending, message))
            }
        }
    }

    /// Whose credential it is, as far as that is known.
    #[must_use]
    pub fn principal(&self) -> Option<Arc<str>> {
        self.view.borrow().held.as_ref().and_then(|held| held.credential.principal.clone())
    }

    /// Google did not accept the credential.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }
}

struct Task<S> {
    source: S,
    cache: Cache<Credential>,
    sender: watch::Sender<View<Credential>>,
    doubt: Arc<Notify>,
    readiness: Readiness,
    waiting: Option<Wait>,
    metrics: Metrics,
}

impl<S: Source> Task<S> {
    /// For ever: the process ends with its sidecar.
    async fn run(mut self) {
        loop {
            self.until_due().await;
            self.attempt().await;
        }
    }

    /// Until the next attempt is due; meanwhile a credential may come to its end, and what failed may be put right.
    async fn until_due(&mut self) {
        loop {
            let until = self.sender.borrow().held.as_ref().map(|held| held.until);
            let ends = until.filter(|until| *until > Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(self.cache.next()) => return,
                () = self.source.changed(), if self.cache.is_failing() => return,
                () = self.doubt.notified() => self.cache.doubted(Instant::now()),
                () = tokio::time::sleep_until(ends.unwrap_or_else(Instant::now)), if ends.is_some() => {
                    self.tell_readiness();
                }
            }
        }
    }

    async fn attempt(&mut self) {
        self.cache.asking(Instant::now());
        let fetched = tokio::time::timeout(ATTEMPT_TIMEOUT, self.source.fetch()).await;
        let fetched = fetched.unwrap_or_else(|_| {
            let message = format!("the token service gave no answer within {ATTEMPT_TIMEOUT:?}");
            Err(CredentialError::new(Category::StsUnreachable, message))
        });
        let now = Instant::now();
        let view = match fetched {
            Ok(Granted { credential, lifetime }) => {
                tracing::info!(
                    principal = credential.principal.as_deref(),
                    ?lifetime,
                    "a Google credential was obtained"
                );
                self.metrics.granted(lifetime);
                self.cache.granted(now, credential, lifetime, random::chance())
            }
            Err(error) => {
                self.metrics.failed(error.category());
                tracing::warn!(category = error.category(), %error, "no Google credential could be obtained");
                self.cache.failed(now, error, random::chance())
            }
        };
        self.sender.send_replace(view);
        self.tell_readiness();
    }

    /// The process is ready as long as there is a credential that can be used, however the last attempt ended.
    fn tell_readiness(&mut self) {
        let view = self.sender.borrow();
        let usable = view.usable(Instant::now()).is_some();
        let why = view.error.as_ref().map_or(Category::Pending.name(), CredentialError::category);
        drop(view);
        // The new reason before the old one goes: there is no moment in between that looks ready.
        let waiting = (!usable).then(|| self.readiness.wait_for(why));
        self.waiting = waiting;
    }
}

#[cfg(test)]
mod tests;
