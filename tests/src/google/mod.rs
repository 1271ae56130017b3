//! Google's side of identity, in small: a token service, an IAM credentials service and a metadata server that really check what
//! they are shown, and access tokens that are JWTs, so that the front can refuse every other one and the emulator knows
//! whose they are (`SESSION_USER()`).
//!
//! ```text
//! sidecar ──pod's token──> [`sts`] ──federated token──> [`iam`] ──service account's token──> front ──> emulator
//! ```

pub mod metadata;

mod iam;
mod serve;
mod sts;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;

pub use self::tokens::{BIGQUERY_SCOPE, Bearer, IAM_SCOPE, Refused, Tokens};

use self::serve::Server;
use crate::ca::TestCa;
use crate::identity::{Cluster, Jwks, Pod};
use crate::trouble::Result;

/// The number of the project that the pool is in.
pub const PROJECT_NUMBER: &str = "424242";

/// The audience that the pods' tokens for Google have, as `gcloud` suggests it: the provider's own name.
#[must_use]
pub fn audience(provider: &str) -> String {
    format!(
        "//iam.googleapis.com/projects/{PROJECT_NUMBER}/locations/global/workloadIdentityPools/agents/providers/{provider}"
    )
}

/// How Google names the federated identity of a pod.
#[must_use]
pub fn principal(pod: &Pod) -> String {
    format!(
        "principal://iam.googleapis.com/projects/{PROJECT_NUMBER}/locations/global/workloadIdentityPools/agents/subject/{}",
        subject(pod)
    )
}

fn subject(pod: &Pod) -> String {
    format!("system:serviceaccount:{}:{}", pod.namespace, pod.service_account)
}

/// The service account that a pod acts as.
#[must_use]
pub fn service_account(pod: &Pod) -> String {
    format!("{}@acme-data.iam.gserviceaccount.com", pod.service_account)
}

/// The two services, behind one port. Dropped, they stop.
#[derive(Debug)]
pub struct Google {
    server: Server,
    shared: Arc<Shared>,
}

/// What the services know, and how they are told to behave.
#[derive(Debug)]
struct Shared {
    tokens: Tokens,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By audience.
    providers: HashMap<String, Provider>,
    /// Who may act as a service account: principals, and service accounts as delegates.
    bindings: BTreeMap<String, Vec<String>>,
    behaviour: Behaviour,
    /// Requests so far, by service.
    asked: BTreeMap<&'static str, usize>,
}

/// A workload identity provider: whose tokens it takes.
#[derive(Clone, Debug)]
struct Provider {
    issuer: String,
    keys: Jwks,
}

/// How the services behave.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// How long an answer takes.
    pub delay: Duration,
    /// Answer everything with this status.
    pub failing: Option<StatusCode>,
    /// By how much their clock, and the `Date` that they answer with, is ahead of this machine's, in seconds.
    pub ahead: i64,
    /// Repeat what was sent in the errors, as no good server does.
    pub blabbing: bool,
    /// How long tokens live; an hour unless it is said.
    pub lifetime: Option<Duration>,
}

impl Google {
    /// Starts both on a free port of 127.0.0.1, with a certificate of `ca`. There is no provider yet.
    ///
    /// # Errors
    /// No port, no certificate, or no key.
    pub async fn start(ca: &TestCa) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), ca).await
    }

    /// The same at another address.
    ///
    /// # Errors
    /// As [`Google::start`].
    pub async fn start_at(address: SocketAddr, ca: &TestCa) -> Result<Self> {
        let shared = Arc::new(Shared { tokens: Tokens::new()?, state: Mutex::default() });
        let serving = Arc::clone(&shared);
        let tls =
            ca.server(&[&address.ip().to_string(), "sts.googleapis.com", "iamcredentials.googleapis.com"])?;
        let server = Server::start(address, Some(tls), move |head, body| {
            let shared = Arc::clone(&serving);
            async move { shared.answer(&head, &body).await }
        })
        .await?;
        Ok(Self { server, shared })
    }

    /// `https://127.0.0.1:port`
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.server.address())
    }

    /// The settings of a sidecar of `pod` that exchanges its token here and acts as its service account, but for where the
    /// token lies.
    #[must_use]
    pub fn flags(&self, provider: &str, pod: &Pod) -> Vec<String> {
        vec![
            "--credential=federated".into(),
            format!("--sts-audience={}", audience(provider)),
            format!("--sts-url={}/v1/token", self.url()),
            format!("--iam-credentials-url={}", self.url()),
            format!("--impersonate={}", service_account(pod)),
        ]
    }

    /// Takes the cluster's tokens, and lets the pod act as its service account: what an administrator sets up.
    pub fn set_up(&self, provider: &str, cluster: &Cluster, pod: &Pod) {
        self.trust(provider, cluster);
        self.bind(&principal(pod), &service_account(pod));
    }

    /// What signs access tokens, and knows its own.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        self.shared.tokens.clone()
    }

    /// From now on tokens of this cluster, with the keys that it has now, are taken for the provider's audience.
    pub fn trust(&self, provider: &str, cluster: &Cluster) {
        self.trust_keys(provider, cluster.issuer(), cluster.jwks());
    }

    /// The same of any issuer.
    pub fn trust_keys(&self, provider: &str, issuer: &str, keys: Jwks) {
        let entry = Provider { issuer: issuer.to_owned(), keys };
        self.shared.lock().providers.insert(audience(provider), entry);
    }

    /// This principal (or service account, as a delegate) may act as the service account.
    pub fn bind(&self, member: &str, service_account: &str) {
        self.shared.lock().bindings.entry(service_account.into()).or_default().push(member.into());
    }

    /// How both behave from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.lock().behaviour = behaviour;
    }

    /// Requests so far, to `sts` or `iam`.
    #[must_use]
    pub fn asked(&self, service: &str) -> usize {
        self.shared.lock().asked.get(service).copied().unwrap_or_default()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // whole between any two calls
    }

    async fn answer(&self, head: &http::request::Parts, body: &[u8]) -> serve::Answer {
        let path = head.uri.path();
        let service = if path == "/v1/token" { "sts" } else { "iam" };
        *self.lock().asked.entry(service).or_default() += 1;
        let behaviour = self.lock().behaviour.clone();
        tokio::time::sleep(behaviour.delay).await;
        let answer = match behaviour.failing {
            Some(status) => serve::Answer::json(status, &serde_json::json!({ "error": "backend_error" })),
            None if service == "sts" => sts::exchange(self, head, body, &behaviour),
            None => iam::generate_access_token(self, head, body, &behaviour),
        };
        answer.dated(behaviour.ahead)
    }
}
