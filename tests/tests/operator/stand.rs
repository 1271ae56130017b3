//! A control plane with an operator and a namespace, `agents`, that has a service account; and a recorder, where one is wanted.

use std::time::{Duration, Instant};

use bqwitness_tests::ca::TestCa;
use bqwitness_tests::cluster::{ControlPlane, Kubectl};
use bqwitness_tests::identity::Pod;
use bqwitness_tests::log::{self, Logged};
use bqwitness_tests::programs::{AUDIENCE, Auditor, Operator, Proof, Recorder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// Nobody waits here: a busy machine must not fail a test.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// One test at a time: two operators would both inject.
static TURN: Mutex<()> = Mutex::const_new(());

pub struct Stand {
    pub operator: Option<Operator>,
    pub kubectl: Kubectl,
    pub proof: Proof,
    pub folder: TempDir,
    plane: &'static ControlPlane,
    _turn: MutexGuard<'static, ()>,
}

impl Stand {
    /// With an operator whose recorder is not there.
    pub async fn start() -> Option<Self> {
        let mut stand = Self::prepare().await?;
        stand.operator = Some(stand.begin("operator-0").await);
        Some(stand)
    }

    /// Without an operator, and without what another test left.
    pub async fn prepare() -> Option<Self> {
        let turn = TURN.lock().await;
        let plane = ControlPlane::shared().unwrap()?;
        let folder = TempDir::with_prefix("bqwitness-").unwrap();
        let proof = Proof::of_nobody(folder.path()).unwrap();
        let kubectl = plane.kubectl();
        sweep(&kubectl).await;
        kubectl.apply(AGENTS).await.unwrap();
        Some(Self { operator: None, kubectl, proof, folder, plane, _turn: turn })
    }

    /// With an operator that speaks to this recorder.
    pub async fn recorded() -> Option<(Self, Recorder)> {
        let mut stand = Self::prepare().await?;
        let recorder = recorder(stand.plane, &stand.folder).await;
        stand.proof = Proof::from(recorder.place());
        stand.operator = Some(stand.begin("operator-0").await);
        Some((stand, recorder))
    }

    /// Starts an operator of this name.
    pub async fn begin(&self, name: &str) -> Operator {
        Operator::start(self.plane, self.folder.path(), name, &self.proof, &[]).await.unwrap()
    }

    pub fn operator(&self) -> &Operator {
        self.operator.as_ref().unwrap()
    }

    pub fn take_operator(&mut self) -> Operator {
        self.operator.take().unwrap()
    }

    pub async fn end(self) {
        self.operator.unwrap().stop().await.unwrap();
    }

    /// Looks again and again at an object until `holds`; what it was then.
    pub async fn until(&self, object: &[&str], what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        until(&self.kubectl, self.operator.as_ref(), object, what, holds).await
    }

    /// `kubectl apply` of a manifest that must be refused; what it was told.
    pub async fn refused(&self, manifest: &Value) -> String {
        let answer = self.kubectl.feed(&["apply", "-f", "-"], &manifest.to_string()).await.unwrap();
        assert!(!answer.success(), "it was taken: {manifest}");
        answer.stderr
    }

    /// Creates it, again and again until nobody refuses it.
    pub async fn created(&self, manifest: &Value) {
        let start = Instant::now();
        loop {
            let answer = self.kubectl.feed(&["apply", "-f", "-"], &manifest.to_string()).await.unwrap();
            if answer.success() {
                return;
            }
            let log = self.operator.as_ref().map(Operator::log).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "{}\n{log}", answer.said());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Applies the connection `billing`, and waits until its pods are injected.
    pub async fn connect(&self) {
        self.created(&connection("billing")).await;
        self.until(BILLING, "injecting", |found| condition(found, "Injecting")["status"] == "True").await;
    }

    /// An auditor of this recorder.
    pub async fn auditor(&self, recorder: &Recorder) -> Auditor {
        let kubectl = &self.kubectl;
        kubectl
            .apply(
                "{apiVersion: v1, kind: Namespace, metadata: {name: audit}}\n---\n\
                 {apiVersion: v1, kind: ServiceAccount, metadata: {namespace: audit, name: auditor}}\n",
            )
            .await
            .unwrap();
        let create = ["-n", "audit", "create", "token", "auditor", "--audience", AUDIENCE];
        let token = kubectl.say(&create).await.unwrap();
        Auditor::with_token(self.folder.path(), token.trim(), recorder).unwrap()
    }
}

/// `kubectl` words that get the connection.
pub const BILLING: &[&str] = &["-n", "agents", "get", "bqc", "billing"];

const AGENTS: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: agents}}\n---\n\
    {apiVersion: v1, kind: ServiceAccount, metadata: {namespace: agents, name: billing}}\n";

/// What an operator of another test left; the webhook first, since nobody answers it any more. Of workloads and connections also what
/// was made for them, or it would come again.
async fn sweep(kubectl: &Kubectl) {
    let tidy: [&[&str]; 6] = [
        &[
            "delete",
            "--ignore-not-found",
            "validatingwebhookconfiguration/bqwitness",
            "mutatingwebhookconfiguration/bqwitness",
        ],
        &["delete", "deployments,jobs,bqc", "--all", "-n", "agents", "--cascade=foreground"],
        &["delete", "pods", "--all", "-n", "agents", "--force", "--grace-period=0"],
        &["delete", "configmaps", "-l", "app.kubernetes.io/managed-by=bqwitness-operator", "-n", "agents"],
        &["delete", "events", "--all", "-n", "agents"],
        &["delete", "lease,secret,pod", "--all", "-n", "bqwitness", "--force", "--grace-period=0"],
    ];
    let known = kubectl.run(&["get", "bqc", "-n", "agents"]).await.unwrap();
    // In a new control plane there is nothing of it.
    if known.success() {
        for words in tidy {
            kubectl.say(words).await.unwrap();
        }
    }
}

/// One that asks the API server whose tokens it is shown, with the rights of its own service account.
pub async fn recorder(plane: &ControlPlane, folder: &TempDir) -> Recorder {
    let kubectl = plane.kubectl();
    let manifest = "{apiVersion: v1, kind: Namespace, metadata: {name: record}}\n---\n\
         {apiVersion: v1, kind: ServiceAccount, metadata: {namespace: record, name: recorder}}\n---\n\
         {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: recorder}, \
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:auth-delegator'}, \
         subjects: [{kind: ServiceAccount, namespace: record, name: recorder}]}\n";
    kubectl.apply(manifest).await.unwrap();
    let token = kubectl.say(&["-n", "record", "create", "token", "recorder"]).await.unwrap();
    let own = folder.path().join("recorder-ca");
    std::fs::create_dir(&own).unwrap();
    let ca = TestCa::new(&own, "Test CA of the recorder").unwrap();
    let reader = Pod::of("audit", "auditor");
    let address = std::net::Ipv4Addr::LOCALHOST.into();
    Recorder::start_reviewing(address, folder.path(), &ca, plane, token.trim(), &reader).await.unwrap()
}

pub async fn until(
    kubectl: &Kubectl,
    operator: Option<&Operator>,
    object: &[&str],
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    let start = Instant::now();
    loop {
        let found = kubectl.json(object).await.unwrap_or_default();
        if holds(&found) {
            return found;
        }
        let log = || operator.map(Operator::log).unwrap_or_default();
        assert!(start.elapsed() < PATIENCE, "{what}: {found:#}\n{}", log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The log, as soon as `holds` of it.
pub async fn logged(recorder: &Recorder, what: &str, holds: impl Fn(&[Logged]) -> bool) -> Vec<Logged> {
    let start = Instant::now();
    loop {
        // What is being published may be torn between two files.
        let entries = log::read(recorder.data()).unwrap_or_default();
        if holds(&entries) {
            return entries;
        }
        let kinds: Vec<_> = entries.iter().map(|entry| &entry.statement.kind).collect();
        assert!(start.elapsed() < PATIENCE, "{what}: {kinds:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub fn connection(name: &str) -> Value {
    json!({
        "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection",
        "metadata": {"namespace": "agents", "name": name},
        "spec": {"pods": {"serviceAccountName": "billing"}, "project": "acme-billing", "identity": {"mode": "Passthrough"}},
    })
}

pub fn pod(name: &str, more: &Value) -> Value {
    let mut spec = json!({"serviceAccountName": "billing", "containers": [{"name": "agent", "image": "example.com/agent:1"}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "agents", "name": name}, "spec": spec})
}

pub fn condition<'a>(connection: &'a Value, kind: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    let all = connection["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|one| one["type"] == kind).unwrap_or(&NONE)
}
