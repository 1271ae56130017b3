//! Whose credential a call carries. The agent holds none: the sidecar turns the pod's identity into a short-lived one of
//! Google's, keeps it fresh, and gives it to calls that are recorded, and to nothing else.
//!
//! [`keeper`] is the one task that asks, from [`federated`] or [`workload`]; [`cache`] says when (pure). Agents are handed
//! a [`placeholder`] instead, which [`crate::swap`] replaces.

pub mod cache;
pub mod error;
pub mod federated;
pub mod flags;
pub mod keeper;
pub mod metrics;
pub mod placeholder;
pub mod workload;

pub(crate) mod jwt;
mod random;

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use prometheus::Registry;
use runtime::readiness::Readiness;

use self::error::CredentialError;
use self::federated::{Federated, FederatedSettings};
use self::keeper::{Credential, Keeper};
use self::metrics::Metrics;
use self::placeholder::{BadPlaceholder, Placeholders};
use self::workload::WorkloadIdentity;
use crate::names::Names;

/// Where a call's credential comes from.
#[derive(Clone, Debug)]
pub enum Mode {
    /// The pod's token is exchanged for Google's.
    Federated(Box<FederatedSettings>),
    /// The node's metadata server gives it.
    WorkloadIdentity,
    /// The agent's own passes as it came.
    Passthrough,
}

impl Mode {
    /// Its name in settings and in the record.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Federated(_) => "federated",
            Self::WorkloadIdentity => "workload-identity",
            Self::Passthrough => "passthrough",
        }
    }

    /// Does the agent do without a credential of its own?
    #[must_use]
    pub fn is_keyless(&self) -> bool {
        !matches!(self, Self::Passthrough)
    }
}

/// Settings of the pod's Google identity.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Where credentials come from.
    pub mode: Mode,
    /// The project that calls count against (`x-goog-user-project`), where it is not that of the resource.
    pub quota_project: Option<HeaderValue>,
    /// The agents' own project, as the metadata server tells it.
    pub project: Option<String>,
}

/// The pod's Google identity.
#[derive(Debug)]
pub struct Identity {
    name: &'static str,
    /// None in passthrough mode.
    keyless: Option<Keyless>,
}

/// What there is when agents hold no key.
#[derive(Debug)]
pub struct Keyless {
    keeper: Keeper,
    placeholders: Placeholders,
    patience: Duration,
    metrics: Metrics,
    /// What the metadata server tells agents.
    pub facts: Facts,
    /// The project that calls count against.
    pub quota_project: Option<HeaderValue>,
}

/// What agents are told of where they run.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Their project.
    pub project: Option<String>,
    /// The number of the identity's project. Clients take it as a sign that there is a metadata server.
    pub project_number: Option<String>,
    /// The service account, where the settings name it.
    pub email: Option<String>,
}

impl Identity {
    /// Starts to keep a credential, unless agents bring their own. A call waits for one at most `patience`.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        settings: IdentitySettings,
        names: &Names,
        patience: Duration,
        readiness: &Readiness,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let IdentitySettings { mode, quota_project, project } = settings;
        let name = mode.name();
        let metrics = Metrics::new(registry)?;
        let mut facts = Facts { project, ..Facts::default() };
        let (readiness, counted) = (readiness.clone(), metrics.clone());
        let keeper = match mode {
            Mode::Passthrough => return Ok(Self { name, keyless: None }),
            Mode::WorkloadIdentity => Keeper::start(WorkloadIdentity, readiness, counted),
            Mode::Federated(settings) => {
                facts.email = settings.impersonate.as_ref().map(|account| account.email.clone());
                facts.project_number = federated::project_number(&settings.audience).map(str::to_owned);
                Keeper::start(Federated::new(*settings, names), readiness, counted)
            }
        };
        let placeholders = Placeholders::default();
        let keyless = Keyless { keeper, placeholders, patience, metrics, facts, quota_project };
        Ok(Self { name, keyless: Some(keyless) })
    }

    /// The mode's name, as the record has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What there is when agents hold no key; nothing in passthrough mode.
    #[must_use]
    pub fn keyless(&self) -> Option<&Keyless> {
        self.keyless.as_ref()
    }
}

impl Keyless {
    /// The credential for a call that is about to be recorded.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn credential(&self) -> Result<Arc<Credential>, CredentialError> {
        self.keeper.credential(self.patience).await
    }

    /// Google did not accept the credential: the next call may get a newer one.
    pub fn doubt(&self) {
        self.keeper.doubt();
    }

    /// The Google identity, as far as it is known.
    #[must_use]
    pub fn principal(&self) -> Option<Arc<str>> {
        self.keeper.principal()
    }

    /// A placeholder for an agent, who asked `by` the metadata server or the token endpoint.
    #[must_use]
    pub fn placeholder(&self, by: &'static str) -> String {
        self.metrics.placeholder(by);
        self.placeholders.issue()
    }

    /// Nothing, if this placeholder is ours and good.
    ///
    /// # Errors
    /// [`BadPlaceholder`]
    pub fn check(&self, placeholder: &str) -> Result<(), BadPlaceholder> {
        self.placeholders.check(placeholder)
    }
}
