//! A pod as the API server has it after the operator's webhook: its containers run as its spec says, on this machine, and the
//! record says whose calls they made.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bqwitness_tests::audit;
use bqwitness_tests::ca::TestCa;
use bqwitness_tests::cluster::{ControlPlane, ISSUER, Kubectl};
use bqwitness_tests::emulator::{Emulator, PROJECT};
use bqwitness_tests::front::{Arrival, Front};
use bqwitness_tests::google::{Google, audience, service_account};
use bqwitness_tests::identity::{Jwks, Pod};
use bqwitness_tests::kubelet::{Image, Node, RunningPod, Surroundings};
use bqwitness_tests::log::{self, Logged};
use bqwitness_tests::names::NameServer;
use bqwitness_tests::namespace::Namespace;
use bqwitness_tests::programs::{Operator, PROVIDER, Proof, Recorder};
use bqwitness_tests::skip;
use bqwitness_tests::tools::{Tools, root};
use ledger::entry::Subject;
use ledger::statement::kind;
use serde_json::{Value, json};
use tempfile::TempDir;

const OVERDUE: &str = "SELECT account_id FROM billing.invoices WHERE status = 'overdue' ORDER BY account_id";

/// Nobody waits here: a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(90);

const NODE: &str = "node-0";

/// A cluster with an operator, and the world that its pods find. Dropped from the top: a pod before what it needs.
struct World {
    operator: Operator,
    recorder: Recorder,
    front: Front,
    google: Google,
    _names: NameServer,
    node: Node,
    kubectl: Kubectl,
    account: Pod,
    ca: TestCa,
    namespace: Option<Namespace>,
    folder: TempDir,
    _plane: ControlPlane,
}

impl World {
    /// `None`, after it has said SKIPPED, where the control plane isn't built.
    async fn start(emulator: &Emulator) -> Option<Self> {
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
        google.bind(&bqwitness_tests::google::principal(&account), &service_account(&account));
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

    /// Applies the connection, and waits until pods are injected.
    async fn connect(&self, interception: Value) {
        let connection = json!({
            "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection",
            "metadata": {"namespace": "agents", "name": "warehouse"},
            "spec": {
                "pods": {"serviceAccountName": self.account.service_account},
                "project": PROJECT,
                "identity": {"federated": {"provider": audience(PROVIDER), "serviceAccount": service_account(&self.account)}},
                "interception": interception,
            },
        });
        self.kubectl.apply(&connection.to_string()).await.unwrap();
        let start = Instant::now();
        loop {
            let found = self.connection().await;
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if conditions.iter().any(|one| one["type"] == "Injecting" && one["status"] == "True") {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{found:#}\n{}", self.operator.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn connection(&self) -> Value {
        self.kubectl.json(&["-n", "agents", "get", "bqc", "warehouse"]).await.unwrap()
    }

    /// Creates the pod, binds it to the node, and runs what the API server then has.
    async fn run(&mut self, pod: &Value) -> (Value, RunningPod) {
        self.kubectl.apply(&pod.to_string()).await.unwrap();
        let name = pod["metadata"]["name"].as_str().unwrap();
        let bound = self.node.bind("agents", name).await.unwrap();
        let namespace = self.namespace.take().unwrap();
        let surroundings = Surroundings {
            name_server: namespace.outside(),
            namespace,
            image: Image::of_sidecar(self.folder.path(), &self.ca.path()).unwrap(),
        };
        let running = RunningPod::start(&self.node, &bound, surroundings, self.folder.path()).await.unwrap();
        (bound, running)
    }

    /// Ends everything in order. What the log says then, and what arrived.
    async fn end(self, running: RunningPod) -> (Vec<Logged>, Vec<Arrival>) {
        let (data, arrivals) = (self.recorder.data().to_owned(), self.front.arrivals());
        running.stop().await.unwrap();
        self.operator.stop().await.unwrap();
        self.recorder.stop().await.unwrap();
        (log::read(&data).unwrap(), arrivals)
    }
}

/// One that asks the API server whose tokens it is shown, with the rights of its own service account.
async fn recorder(
    plane: &ControlPlane,
    namespace: &Namespace,
    folder: &TempDir,
    own: &std::path::Path,
) -> Recorder {
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

/// Asks BigQuery before its agent does, and then the agent: `bq` where this machine has it.
fn pod(tools: &Tools, restricted: bool) -> Value {
    let bq = ["bq", "--headless", "--quiet", "--format=json", "query", "--use_legacy_sql=false", OVERDUE];
    let query = root().join("tests/agents/query.py").display().to_string();
    let python = tools.client_python.display().to_string();
    let agent: Vec<&str> = match &tools.bq {
        Some(_) => bq.to_vec(),
        None => {
            skip::skipped("no bq (Google Cloud CLI) on this machine");
            vec![&python, &query, OVERDUE]
        }
    };
    let fetch = if restricted { agent.clone() } else { vec![python.as_str(), &query, OVERDUE] };
    let container = |name: &str, command: &[&str]| {
        json!({
            "name": name, "image": "example.com/agent:1", "command": command,
            "env": [{"name": "HOME", "value": "/mnt/home"}, {"name": "LANG", "value": "C.UTF-8"}],
            "volumeMounts": [{"name": "home", "mountPath": "/mnt/home"}],
        })
    };
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "agents", "name": "nightly"},
        "spec": {
            "serviceAccountName": "billing", "restartPolicy": "Never",
            "initContainers": [container("fetch", &fetch)],
            "containers": [container("agent", &agent)],
            "volumes": [{"name": "home", "emptyDir": {}}],
        },
    });
    if restricted {
        let context = json!({"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
        pod["spec"]["securityContext"] = context;
        for list in ["initContainers", "containers"] {
            pod["spec"][list][0]["securityContext"] =
                json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        }
    }
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_recorded_as_its_spec_says_with_redirect_rules() {
    recorded(json!({"mode": "Redirect"}), "redirect").await;
}

/// Under PodSecurity "restricted", which the API server enforces, and with agents that are not root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restricted_pod_is_recorded_as_its_spec_says_with_host_aliases() {
    recorded(json!({"mode": "Aliases"}), "alias").await;
}

async fn recorded(interception: Value, observed: &str) {
    if let Some(why) = Namespace::missing() {
        return skip::skipped(&why);
    }
    let (tools, restricted) = (Tools::find().unwrap(), interception["mode"] == "Aliases");
    if restricted && tools.bq.is_none() {
        return skip::skipped("no bq (Google Cloud CLI) on this machine, and the Python client is root's");
    }
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::launch(&tools, folder.path()).unwrap().furnished().await.unwrap();
    let Some(mut world) = World::start(&emulator).await else { return };
    if restricted {
        let enforced = "pod-security.kubernetes.io/enforce=restricted";
        world.kubectl.say(&["label", "namespace", "agents", enforced]).await.unwrap();
    }
    world.connect(interception).await;
    let (pod, running) = world.run(&pod(&tools, restricted)).await;

    let fetched = running.initialised.iter().find(|(name, _)| name == "fetch").unwrap();
    assert!(fetched.1.stdout.contains("A-17"), "{}", fetched.1.said());
    let agent = running.run("agent").await.unwrap();
    assert!(
        agent.success() && agent.stdout.contains("A-17"),
        "{}\n{}",
        agent.said(),
        running.log("bqwitness-proxy")
    );
    the_agent_reaches_nothing_of_the_sidecars(&running).await;
    java_trusts_the_sidecar(&tools, &running).await;

    let principal = service_account(&world.account);
    assert_eq!((world.google.asked("sts"), world.google.asked("iam")), (1, 1));
    let connection = world.connection().await;
    let (entries, arrivals) = world.end(running).await;
    audit::balance(&entries, &arrivals).unwrap();
    assert!(arrivals.len() >= 2, "{arrivals:?}");
    for arrival in &arrivals {
        assert_eq!(arrival.principal.as_ref(), Some(&principal), "{arrival:?}");
    }
    let calls: Vec<_> = entries.iter().filter(|entry| entry.statement.kind == kind::CALL_INTENT).collect();
    assert!(calls.len() >= arrivals.len(), "{calls:#?}");
    for call in &calls {
        assert_eq!(call.statement.observed.interception.as_deref(), Some(observed), "{call:?}");
        assert_eq!(call.statement.observed.credential.as_deref(), Some("federated"), "{call:?}");
        is_the_pods(call, &pod);
        is_under(call, &connection);
    }
    let ends = entries.iter().filter(|entry| entry.statement.kind == kind::SESSION_END).count();
    assert_eq!(ends, 1, "the sidecar has ended its session");
}

/// By the options that were injected, and not without them.
async fn java_trusts_the_sidecar(tools: &Tools, running: &RunningPod) {
    let Some(java) = tools.java.as_ref().map(|java| java.display().to_string()) else {
        return skip::skipped("no Java that compiles on this machine (tests/setup/java.sh)");
    };
    let program = root().join("tests/agents/Query.java").display().to_string();
    let asked = running.exec("agent", &[&java, &program, OVERDUE]).await.unwrap();
    assert!(asked.success() && asked.stdout.contains("A-17"), "{}", asked.said());
    let without = ["env", "-u", "JAVA_TOOL_OPTIONS", &java, &program, OVERDUE];
    let without = running.exec("agent", &without).await.unwrap();
    assert!(without.stderr.contains("PKIX path building failed"), "{}", without.said());
}

/// Its tokens and its key are not in the agent's file system, nor can the agent become who has them.
async fn the_agent_reaches_nothing_of_the_sidecars(running: &RunningPod) {
    let script = "ls /var/run/bqwitness; ls /var/run/bqwitness/token /var/run/bqwitness/ca; \
                  touch /var/run/bqwitness/trust/more.pem; setpriv --reuid=61337 --clear-groups id";
    let tried = running.exec("agent", &["sh", "-c", script]).await.unwrap();
    assert_eq!(tried.stdout, "trust\n", "{}", tried.said());
    for refused in
        ["token': No such file", "ca': No such file", "Read-only file system", "Operation not permitted"]
    {
        assert!(tried.stderr.contains(refused), "no {refused:?} in: {}", tried.said());
    }
}

/// Who made the call is what the API server said of the sidecar's token.
fn is_the_pods(call: &Logged, pod: &Value) {
    let Subject::Workload(subject) = &call.envelope.subject else { panic!("{call:?}") };
    let said =
        json!([subject.namespace, subject.service_account, subject.pod, subject.pod_uid, subject.node]);
    let metadata = &pod["metadata"];
    let is = json!(["agents", "billing", metadata["name"], metadata["uid"], NODE]);
    assert_eq!(said, is);
}

/// The connection in force, as the API server has it, with the digest that the webhook noted when it was accepted.
fn is_under(call: &Logged, connection: &Value) {
    let metadata = &connection["metadata"];
    let accepted = metadata["annotations"]["bqwitness.dev/accepted-by"].as_str().unwrap();
    let accepted: Value = serde_json::from_str(accepted).unwrap();
    let named = call.statement.connection.as_ref().unwrap();
    let digest = named.spec_digest.map(|digest| digest.to_string());
    let said = json!([named.namespace, named.name, named.uid, named.generation, digest]);
    let is = json!(["agents", "warehouse", metadata["uid"], metadata["generation"], accepted["spec"]]);
    assert_eq!(said, is);
}
