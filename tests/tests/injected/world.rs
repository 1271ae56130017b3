//! A cluster with an operator, and what its pods find around them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bqwitness_tests::ca::TestCa;
use bqwitness_tests::cluster::{ControlPlane, ISSUER, Kubectl};
use bqwitness_tests::emulator::Emulator;
use bqwitness_tests::front::{Arrival, Front};
use bqwitness_tests::google::{Google, principal, service_account};
use bqwitness_tests::identity::{Jwks, Pod};
use bqwitness_tests::kubelet::{Image, Node, RunningPod, Surroundings};
use bqwitness_tests::log::{self, Logged};
use bqwitness_tests::names::NameServer;
use bqwitness_tests::namespace::Namespace;
use bqwitness_tests::programs::{Operator, PROVIDER, Proof, Recorder};
use serde_json::Value;
use tempfile::TempDir;

use crate::{NODE, PATIENCE};

/// A cluster with an operator, and the world that its pods find. Dropped from the top: a pod before what it needs.
pub(crate) struct World {
    pub(crate) operator: Operator,
    pub(crate) recorder: Recorder,
    pub(crate) front: Front,
    pub(crate) google: Google,
    _names: NameServer,
    pub(crate) node: Node,
    pub(crate) kubectl: Kubectl,
    pub(crate) account: Pod,
    ca: TestCa,
    namespace: Option<Namespace>,
    folder: TempDir,
    _plane: ControlPlane,
}

impl World {
    /// `None`, after it has said SKIPPED, where the control plane isn't built.
    pub(crate) async fn start(emulator: &Emulator) -> Option<Self> {
        let plane = ControlPlane::start().await.unwrap()?;
        let kubectl = plane.kubectl();
        let folder = TempDir::with_prefix("bqwitness-").unwrap();
        let own = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let namespace = Namespace::of_pod().unwrap();
        let ca = TestCa::new(&own("google"), "Test CA in Google's place").unwrap();
        let account = Pod::of("agents", "billing");
        let google = Google::start_at(SocketAddr::new(namespace.second(), 443), &ca).await.unwrap();
        let keys = Jwks::parse(&kubectl.say(&["get", "--raw", "/openid/v1/jwks"]).await.unwrap()).unwrap();
        google.trust_keys(PROVIDER, ISSUER, keys);
        google.bind(&principal(&account), &service_account(&account));
        let front = SocketAddr::new(namespace.outside(), 443);
        let front = Front::start_at(front, &ca, emulator.upstream()).await.unwrap();
        front.demand(google.tokens());
        let names = NameServer::start(
            namespace.outside(),
            &[
                ("sts.googleapis.com", namespace.second()),
                ("iamcredentials.googleapis.com", namespace.second()),
                ("googleapis.com", namespace.outside()),
            ],
        )
        .await
        .unwrap();
        let recorder = recorder(&plane, &namespace, &folder, &own("recorder-ca")).await;
        let proof = Proof::from(recorder.place());
        let operator = Operator::start(&plane, folder.path(), "operator-0", &proof, &[]).await.unwrap();
        let node = Node::register(&plane, NODE).await.unwrap();
        Some(Self {
            operator,
            recorder,
            front,
            google,
            _names: names,
            node,
            kubectl,
            account,
            ca,
            namespace: Some(namespace),
            folder,
            _plane: plane,
        })
    }

    /// Applies a connection, and waits until its pods are injected.
    pub(crate) async fn connect(&self, connection: &Value) {
        self.kubectl.apply(&connection.to_string()).await.unwrap();
        let name = connection["metadata"]["name"].as_str().unwrap();
        let start = Instant::now();
        loop {
            let found = self.connection(name).await;
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|one| one["type"] == "Injecting" && one["status"] == "True") {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{found:#}\n{}", self.operator.log());
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    pub(crate) async fn connection(&self, name: &str) -> Value {
        self.kubectl.json(&["-n", "agents", "get", "bqc", name]).await.unwrap()
    }

    /// Creates the pod, binds it to the node, and runs what the API server then has.
    pub(crate) async fn run(&mut self, pod: &Value, software: &[PathBuf]) -> (Value, RunningPod) {
        self.kubectl.apply(&pod.to_string()).await.unwrap();
        let name = pod["metadata"]["name"].as_str().unwrap();
        let bound = self.node.bind("agents", name).await.unwrap();
        let namespace = self.namespace.take().unwrap();
        let surroundings = Surroundings {
            name_server: namespace.outside(),
            namespace,
            image: Image::of_sidecar(self.folder.path(), &self.ca.path())
                .unwrap()
                .with_software(&software.iter().map(PathBuf::as_path).collect::<Vec<_>>()),
        };
        let running = RunningPod::start(&self.node, &bound, surroundings, self.folder.path()).await.unwrap();
        (bound, running)
    }

    /// Ends everything in order. What the log says then, and what arrived.
    pub(crate) async fn end(self, running: RunningPod) -> (Vec<Logged>, Vec<Arrival>) {
        let (data, arrivals) = (self.recorder.data().to_owned(), self.front.arrivals());
        running.stop().await.unwrap();
        self.operator.stop().await.unwrap();
        self.recorder.stop().await.unwrap();
        (log::read(&data).unwrap(), arrivals)
    }
}

/// One that asks the API server whose tokens it is shown, with the rights of its own service account.
async fn recorder(plane: &ControlPlane, namespace: &Namespace, folder: &TempDir, own: &Path) -> Recorder {
    let kubectl = plane.kubectl();
    let manifest = "{apiVersion: v1, kind: Namespace, metadata: {name: agents}}\n---\n\
         {apiVersion: v1, kind: ServiceAccount, metadata: {namespace: agents, name: billing}}\n---\n\
         {apiVersion: v1, kind: Namespace, metadata: {name: record}}\n---\n\
         {apiVersion: v1, kind: ServiceAccount, metadata: {namespace: record, name: recorder}}\n---\n\
         {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: recorder}, \
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:auth-delegator'}, \
         subjects: [{kind: ServiceAccount, namespace: record, name: recorder}]}\n";
    kubectl.apply(manifest).await.unwrap();
    let token = kubectl.say(&["-n", "record", "create", "token", "recorder"]).await.unwrap();
    let ca = TestCa::new(own, "Test CA of the recorder").unwrap();
    let reader = Pod::of("audit", "auditor");
    Recorder::start_reviewing(namespace.outside(), folder.path(), &ca, plane, token.trim(), &reader)
        .await
        .unwrap()
}
