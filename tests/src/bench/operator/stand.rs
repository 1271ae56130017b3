//! An operator beside a control plane, with a connection in each mode; and what the two count.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::asked::Webhook;
use super::creations::{Api, Pods};
use super::histogram::{Histogram, Series};
use crate::cluster::ControlPlane;
use crate::programs::{Operator, Proof};
use crate::trouble::{Result, Trouble};

/// An API server asks a new webhook after some seconds; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Where connections are, and pods are recorded.
const RECORDED: &str = "bench-recorded";

/// Where there is none: nobody is asked about its pods.
const PLAIN: &str = "bench-plain";

/// Calls of the mutating webhook, as the API server measures them: with TLS, and all that the operator does. It has bounds at 5, 10
/// and 25 ms.
const CALLS: Series = Series {
    metric: "apiserver_admission_webhook_admission_duration_seconds",
    labels: &["name=\"pods.bqwitness.dev\"", "operation=\"CREATE\"", "type=\"admit\""],
};

/// The same calls, as the operator measures them: decision and patch.
const ANSWERS: Series =
    Series { metric: "bqwitness_operator_admission_seconds", labels: &["webhook=\"mutate-pods\""] };

/// Operator, API server, and three kinds of pods.
pub(super) struct Stand {
    operator: Operator,
    pub(super) api: Api,
    pub(super) webhook: Webhook,
    pub(super) plain: Pods,
    pub(super) redirect: Pods,
    pub(super) aliases: Pods,
}

/// What the API server and the operator have counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    pub(super) calls: Histogram,
    pub(super) answers: Histogram,
}

impl Stand {
    /// Starts the operator, and waits until pods of both connections are injected.
    ///
    /// # Errors
    /// They are not, or something does not run.
    pub(super) async fn start(plane: &ControlPlane, folder: &Path) -> Result<Self> {
        let kubectl = plane.kubectl();
        kubectl.apply(&namespaces().to_string()).await?;
        let operator =
            Operator::start(plane, folder, "bench-operator", &Proof::of_nobody(folder)?, &[]).await?;
        let (plain, redirect, aliases) = (
            Pods::of(PLAIN, "default", false),
            Pods::of(RECORDED, "redirect", true),
            Pods::of(RECORDED, "aliases", true),
        );
        let api = Api::of(plane)?;
        for mode in ["Redirect", "Aliases"] {
            let manifest = connection(mode).to_string();
            until(&operator, async || kubectl.apply(&manifest).await.map(drop)).await?;
        }
        for pods in [&plain, &redirect, &aliases] {
            until(&operator, async || api.create(pods).await.map(drop)).await?;
        }
        let webhook = Webhook::of(&operator, &kubectl, folder).await?;
        Ok(Self { operator, api, webhook, plain, redirect, aliases })
    }

    /// What is counted until now.
    ///
    /// # Errors
    /// One of them doesn't answer.
    pub(super) async fn counted(&self) -> Result<Counted> {
        let calls = Histogram::read(&self.api.metrics().await?, CALLS);
        let answers = Histogram::read(&self.operator.metrics().await?, ANSWERS);
        Ok(Counted { calls, answers })
    }

    /// Ends the operator.
    ///
    /// # Errors
    /// It doesn't stop.
    pub(super) async fn end(self) -> Result<()> {
        self.operator.stop().await
    }
}

impl Counted {
    /// Adds what came between two looks.
    pub(super) fn add(&mut self, before: &Self, after: Self) {
        self.calls.add(&after.calls.since(&before.calls));
        self.answers.add(&after.answers.since(&before.answers));
    }
}

/// Tries until it works.
async fn until(operator: &Operator, attempt: impl AsyncFn() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(trouble) if start.elapsed() > PATIENCE => {
                return Err(Trouble::new(format!("{trouble}\nthe operator said:\n{}", operator.log())));
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

fn namespaces() -> Value {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": RECORDED, "name": name}});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        namespace(PLAIN), namespace(RECORDED), account("redirect"), account("aliases"),
    ]})
}

/// Called as its mode and its service account, in small letters. Credentials as each mode is meant to be used.
fn connection(mode: &str) -> Value {
    let name = mode.to_lowercase();
    let provider = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/agents/providers/prod";
    let identity = match mode {
        "Aliases" => json!({"federated": {"provider": provider}}),
        _ => json!({"mode": "Passthrough"}),
    };
    json!({
        "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection",
        "metadata": {"namespace": RECORDED, "name": name},
        "spec": {
            "pods": {"serviceAccountName": name}, "project": "acme-data", "identity": identity,
            "interception": {"mode": mode},
        },
    })
}
