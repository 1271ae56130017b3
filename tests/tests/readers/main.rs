//! Who reads what, with a real API server: two namespaces, an auditor of each, one of all, and nobody; by `bqwitness` and by
//! `kubectl bqwitness`, with what the chart grants and a token by the kubeconfig.
#![allow(clippy::unwrap_used, clippy::panic)]

mod kubelet;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bqwitness_tests::agent::Finished;
use bqwitness_tests::ca::TestCa;
use bqwitness_tests::chart;
use bqwitness_tests::cluster::{ControlPlane, Kubectl};
use bqwitness_tests::programs::{AUDIENCE, Recorder, program};
use bqwitness_tests::speaker::{self, Speaker};
use ledger::entry::Entry;
use ledger::statement::{Statement, kind};
use serde_json::{Value, json};
use tempfile::TempDir;

use kubelet::Kubelet;

/// A control plane with what the chart grants, a recorder that asks it, and a sidecar's session in each of two namespaces.
struct Stand {
    kubectl: Kubectl,
    recorder: Recorder,
    ca: TestCa,
    folder: TempDir,
    plane: ControlPlane,
}

impl Stand {
    async fn start() -> Option<Self> {
        let plane = ControlPlane::start().await.unwrap()?;
        let folder = TempDir::with_prefix("bqwitness-").unwrap();
        let kubectl = plane.kubectl();
        for namespace in ["agents", "sales", "audit", "bqwitness", chart::NAMESPACE] {
            kubectl.say(&["create", "namespace", namespace]).await.unwrap();
        }
        let rights =
            chart::objects(&chart::render(&kubectl, &["recorder.userTokens=true"]).await.unwrap()).unwrap();
        let named = |object: &&Value| {
            let name = object["metadata"]["name"].as_str().unwrap();
            let kinds = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role"];
            kinds.contains(&object["kind"].as_str().unwrap()) && name.starts_with("bqwitness-re")
        };
        let rights: Vec<_> = rights.iter().filter(named).collect();
        kubectl
            .apply(&json!({"apiVersion": "v1", "kind": "List", "items": rights}).to_string())
            .await
            .unwrap();

        let ca = TestCa::new(folder.path(), "Test CA of the recorder").unwrap();
        let token = kubectl.say(&["-n", "bqwitness", "create", "token", "bqwitness-recorder"]).await.unwrap();
        let recorder = Recorder::start_asking(folder.path(), &ca, &plane, token.trim()).await.unwrap();
        let stand = Self { kubectl, recorder, ca, folder, plane };
        for (namespace, sql) in [("agents", "SELECT 'apple'"), ("sales", "SELECT 'pear'")] {
            let token = stand.pod_token(namespace).await;
            let connection = speaker::connection(namespace, "warehouse", &json!({}));
            let (url, ca) = (stand.recorder.url(), &stand.recorder.place().ca);
            let mut sidecar = Speaker::new(&url, ca, token, Some(connection)).unwrap();
            sidecar.starts().await.unwrap();
            sidecar.calls(sql).await.unwrap();
        }
        Some(stand)
    }

    /// A token as a sidecar has it: bound to a pod.
    async fn pod_token(&self, namespace: &str) -> String {
        let kubectl = &self.kubectl;
        kubectl.say(&["-n", namespace, "create", "serviceaccount", "billing"]).await.unwrap();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": namespace, "name": "billing-0"},
            "spec": {"serviceAccountName": "billing", "containers": [{"name": "agent", "image": "example.com/agent:1"}]},
        });
        kubectl.apply(&pod.to_string()).await.unwrap();
        let uid = ["-n", namespace, "get", "pod", "billing-0", "-o", "jsonpath={.metadata.uid}"];
        let uid = kubectl.say(&uid).await.unwrap();
        let create = ["-n", namespace, "create", "token", "billing", "--audience", AUDIENCE];
        let bound =
            ["--bound-object-kind", "Pod", "--bound-object-name", "billing-0", "--bound-object-uid", &uid];
        kubectl.say(&[&create[..], &bound[..]].concat()).await.unwrap().trim().to_owned()
    }

    /// A service account of namespace `audit` that reads what is of `namespaces`, or all, by the chart's role; its kubeconfig.
    async fn auditor(&self, name: &str, namespaces: &[&str]) -> PathBuf {
        let kubectl = &self.kubectl;
        kubectl.say(&["-n", "audit", "create", "serviceaccount", name]).await.unwrap();
        let whom = format!("--serviceaccount=audit:{name}");
        for namespace in namespaces {
            let bind =
                ["create", "rolebinding", name, "-n", namespace, "--clusterrole=bqwitness-reader", &whom];
            kubectl.say(&bind).await.unwrap();
        }
        for namespace in ["bqwitness", chart::NAMESPACE] {
            let reach = ["create", "rolebinding", name, "-n", namespace, "--role=bqwitness-reach", &whom];
            kubectl.say(&reach).await.unwrap();
        }
        let token = kubectl.say(&["-n", "audit", "create", "token", name]).await.unwrap();
        let kubeconfig = self.plane.kubeconfig(name, token.trim()).unwrap();
        for namespace in namespaces {
            allowed(kubectl, name, namespace, "bqwitness.dev", "entries").await;
        }
        allowed(kubectl, name, chart::NAMESPACE, "", "configmaps").await;
        kubeconfig
    }

    /// `bqwitness ...` of somebody with this kubeconfig, at the recorder's own address.
    async fn bqwitness(&self, kubeconfig: &Path, arguments: &[&str]) -> Finished {
        let mut command = tokio::process::Command::new(program("bqwitness").unwrap());
        command.args(arguments).args(["--recorder", &self.recorder.url()]);
        command.arg("--recorder-ca").arg(self.ca.path());
        command.env("KUBECONFIG", kubeconfig).env_remove("BQWITNESS_TOKEN_FILE");
        let start = std::time::Instant::now();
        Finished::new(command.kill_on_drop(true).output().await.unwrap(), start.elapsed())
    }

    /// `bqwitness ...` that asks nobody.
    async fn bqwitness_offline(&self, arguments: &[&str]) -> Finished {
        let start = std::time::Instant::now();
        let mut command = tokio::process::Command::new(program("bqwitness").unwrap());
        Finished::new(command.args(arguments).output().await.unwrap(), start.elapsed())
    }

    /// `kubectl bqwitness ...` of somebody with this kubeconfig.
    async fn kubectl(&self, kubeconfig: &Path, arguments: &[&str]) -> Finished {
        let programs = self.folder.path().join("plugins");
        let plugin = programs.join("kubectl-bqwitness");
        if !plugin.exists() {
            std::fs::create_dir(&programs).unwrap();
            symlink(program("bqwitness").unwrap(), &plugin).unwrap();
        }
        let kubectl = self.plane.kubectl_with(kubeconfig).with_programs(&programs);
        kubectl.run(&[&["bqwitness"], arguments].concat()).await.unwrap()
    }

    /// What the keeper would have published of a recorder at this address.
    async fn publish(&self, url: &str) {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        let said = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": chart::NAMESPACE, "name": "bqwitness-recorder"},
            "data": {"ca.pem": read(self.ca.path()), "log.vkey": read(self.recorder.key()), "url": url},
        });
        self.kubectl.apply(&said.to_string()).await.unwrap();
    }
}

/// Waits until an auditor may get what a binding grants: of that the API server's own authorizer hears a moment later.
async fn allowed(kubectl: &Kubectl, auditor: &str, namespace: &str, group: &str, resource: &str) {
    let asked = json!({"namespace": namespace, "verb": "get", "group": group, "resource": resource,
                       "name": "bqwitness-recorder"});
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": format!("system:serviceaccount:audit:{auditor}"), "resourceAttributes": asked},
    });
    let start = std::time::Instant::now();
    loop {
        let answer = kubectl.feed(&["create", "-o", "json", "-f", "-"], &review.to_string()).await.unwrap();
        let said: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        if said["status"]["allowed"] == true {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{resource} in {namespace}: {}", answer.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The calls' SQL, newest first.
fn found(finished: &Finished) -> Vec<String> {
    assert!(finished.success(), "{}", finished.said());
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap();
    let calls = answer["calls"].as_array().unwrap().iter();
    calls.map(|call| call["sql"].as_str().unwrap().to_owned()).collect()
}

/// Nobody waits here: a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(90);

const SEARCH: [&str; 3] = ["search", "--output", "json"];

#[tokio::test(flavor = "multi_thread")]
async fn each_finds_its_own() {
    let Some(stand) = Stand::start().await else { return };
    let agents = stand.auditor("of-agents", &["agents"]).await;
    let sales = stand.auditor("of-sales", &["sales"]).await;
    let nobody = stand.auditor("of-nothing", &[]).await;
    let admin = stand.plane.admin();

    // By the kubeconfig's own credential, until the index is there.
    let start = std::time::Instant::now();
    while found(&stand.bqwitness(&admin, &SEARCH).await).len() < 2 {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(found(&stand.bqwitness(&agents, &SEARCH).await), ["SELECT 'apple'"]);
    assert_eq!(found(&stand.bqwitness(&sales, &SEARCH).await), ["SELECT 'pear'"]);
    assert_eq!(found(&stand.bqwitness(&admin, &SEARCH).await), ["SELECT 'pear'", "SELECT 'apple'"]);
    let one = [&SEARCH[..], &["-n", "sales"]].concat();
    assert_eq!(found(&stand.bqwitness(&admin, &one).await), ["SELECT 'pear'"]);
    let words = [&SEARCH[..], &["--words", "pear"]].concat();
    assert_eq!(found(&stand.bqwitness(&agents, &words).await), Vec::<String>::new());

    // Who may nothing is told what to ask for, and that is enough.
    for (who, arguments) in [(&nobody, &SEARCH[..]), (&agents, &one[..])] {
        let refused = stand.bqwitness(who, arguments).await;
        assert_eq!(refused.code, Some(2), "{}", refused.said());
        assert!(refused.stderr.contains("(not_a_reader, HTTP 403)"), "{}", refused.said());
    }
    let refused = stand.bqwitness(&nobody, &one).await.stderr;
    let told = refused.split("kubectl ").nth(1).unwrap().split(" (not_a").next().unwrap();
    assert_eq!(
        told,
        "create rolebinding bqwitness-reader -n sales --clusterrole=bqwitness-reader --serviceaccount=audit:of-nothing"
    );
    stand.kubectl.say(&told.split(' ').collect::<Vec<_>>()).await.unwrap();
    let start = std::time::Instant::now();
    loop {
        let tried = stand.bqwitness(&nobody, &one).await;
        if tried.success() {
            assert_eq!(found(&tried), ["SELECT 'pear'"]);
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{}", tried.said());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    evidence(&stand, &agents, &sales).await;
    by_token_request(&stand, &sales).await;
    by_kubectl(&stand, &agents).await;
    every_read_is_recorded(stand).await;
}

/// An auditor of a namespace proves what it found, and takes it out; not what is others'.
async fn evidence(stand: &Stand, agents: &Path, sales: &Path) {
    let key = stand.recorder.key().display().to_string();
    let sessions = stand.bqwitness(agents, &["sessions", "--output", "json"]).await;
    let sessions: Value = serde_json::from_str(&sessions.stdout).unwrap();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
    let calls = stand.bqwitness(agents, &SEARCH).await;
    let index = serde_json::from_str::<Value>(&calls.stdout).unwrap()["calls"][0]["index"].to_string();
    let shown = stand.bqwitness(agents, &["show", &index, "--key", &key]).await;
    assert!(shown.success() && shown.stdout.contains("SELECT 'apple'"), "{}", shown.said());
    assert!(shown.stdout.contains("proved against its checkpoint"), "{}", shown.said());
    let foreign = stand.bqwitness(sales, &["show", &index, "--key", &key]).await;
    assert!(!foreign.success() && foreign.stderr.contains("not_found"), "{}", foreign.said());

    let file = stand.folder.path().join("agents.bqw").display().to_string();
    let everything = stand.bqwitness(agents, &["export", "--key", &key, "-o", &file]).await;
    assert!(
        everything.stderr.contains("You may read agents: name one with --namespace"),
        "{}",
        everything.said()
    );
    for arguments in [&["-n", "agents"][..], &["--words", "apple"]] {
        let export = [&["export", "--key", &key, "-o", &file], arguments].concat();
        let exported = stand.bqwitness(agents, &export).await;
        assert!(exported.success(), "{}", exported.said());
        let verified = stand.bqwitness_offline(&["verify", &file, "--key", &key]).await;
        assert!(verified.success() && verified.stdout.contains("VERIFIED"), "{}", verified.said());
        let bytes = std::fs::read(&file).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(has("SELECT 'apple'") && !has("SELECT 'pear'") && !has("\"namespace\":\"sales\""));
    }
    let access = stand.bqwitness(agents, &["access"]).await;
    assert_eq!(access.stdout, "audit/of-agents, of cluster demo, may read namespaces agents\n");
}

/// Somebody who may ask for the auditor's token reads as the auditor, whatever they may do themselves.
async fn by_token_request(stand: &Stand, sales: &Path) {
    let as_auditor = [&SEARCH[..], &["--service-account", "audit/of-agents"]].concat();
    let refused = stand.bqwitness(sales, &as_auditor).await;
    assert!(refused.stderr.contains("no token: service account audit/of-agents"), "{}", refused.said());
    assert_eq!(found(&stand.bqwitness(&stand.plane.admin(), &as_auditor).await), ["SELECT 'apple'"]);
}

/// As a plugin of kubectl: the recorder found in the cluster, at an address of its own and behind the API server.
async fn by_kubectl(stand: &Stand, agents: &Path) {
    let help = stand.kubectl(agents, &["search", "--help"]).await;
    assert!(help.stdout.contains("Usage: kubectl bqwitness search"), "{}", help.said());
    let nowhere = stand.kubectl(agents, &SEARCH).await;
    let said = "ConfigMap bqwitness-system/bqwitness-recorder";
    assert!(nowhere.code == Some(2) && nowhere.stderr.contains(said), "{}", nowhere.said());

    stand.publish(&stand.recorder.url()).await;
    assert_eq!(found(&stand.kubectl(agents, &SEARCH).await), ["SELECT 'apple'"]);
    let access = stand.kubectl(&stand.plane.admin(), &["access"]).await;
    assert_eq!(access.stdout, "user:admin, of cluster demo, may read everything\n", "{}", access.said());

    stand.publish("https://bqwitness-recorder.bqwitness.svc:8443").await;
    let no_pod = stand.kubectl(agents, &SEARCH).await;
    assert!(no_pod.stderr.contains("pod bqwitness/bqwitness-recorder-0"), "{}", no_pod.said());
    let kubelet = Kubelet::start(&stand.kubectl, &stand.ca, stand.recorder.ports().listen).await;
    assert_eq!(found(&stand.kubectl(agents, &SEARCH).await), ["SELECT 'apple'"]);
    let shown = stand.kubectl(agents, &["show", "1"]).await;
    assert!(shown.success() && shown.stdout.contains("session.start"), "{}", shown.said());
    assert!(kubelet.forwarded() >= 2);
}

/// The log says who read what: each reader, by the name that the API server gave.
async fn every_read_is_recorded(stand: Stand) {
    let data = stand.recorder.data().to_owned();
    stand.recorder.stop().await.unwrap();
    let leaves = bqwitness_tests::log::leaves(&data).unwrap();
    let reads = leaves.iter().filter_map(|leaf| {
        let body = Statement::parse(Entry::parse(leaf).unwrap().statement).unwrap();
        let (kind, body) = (body.kind, body.body);
        let read = [body.search, body.sessions, body.entries].into_iter().flatten().next();
        read.map(|read| (kind, read.reader, read.filter))
    });
    let reads: Vec<_> = reads.collect();
    for (kind, reader, filter) in [
        (kind::READ_SEARCH, "user:admin", ""),
        (kind::READ_SEARCH, "audit/of-agents", ""),
        (kind::READ_SEARCH, "audit/of-agents", "words=*"),
        (kind::READ_SEARCH, "audit/of-nothing", "namespace=sales"),
        (kind::READ_SESSIONS, "audit/of-agents", ""),
    ] {
        let said = reads
            .iter()
            .any(|read| (read.0.as_str(), read.1.as_str(), read.2.as_str()) == (kind, reader, filter));
        assert!(said, "{kind} {reader} {filter}: {reads:#?}");
    }
    assert!(reads.iter().any(|(kind, reader, _)| kind == kind::READ_ENTRIES && reader == "audit/of-agents"));
}
