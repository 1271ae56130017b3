//! A pod as the API server has it after the operator's webhook: its containers run as its spec says, on this machine, and the
//! record says whose calls they made.
#![allow(clippy::unwrap_used, clippy::panic)]

mod coverage;
mod refused;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bqwitness_proxy::bigquery::{HostClass, classify_host};
use bqwitness_proxy::swap::endpoints;
use bqwitness_tests::audit;
use bqwitness_tests::cluster::ControlPlane;
use bqwitness_tests::emulator::{Emulator, PROJECT};
use bqwitness_tests::google::{audience, service_account};
use bqwitness_tests::kubelet::RunningPod;
use bqwitness_tests::log::Logged;
use bqwitness_tests::namespace::Namespace;
use bqwitness_tests::programs::{PROVIDER, program};
use bqwitness_tests::skip;
use bqwitness_tests::tools::{Tools, root};
use ledger::entry::{Role, Subject};
use ledger::statement::kind;
use serde_json::{Value, json};

use world::World;

const OVERDUE: &str = "SELECT account_id FROM billing.invoices WHERE status = 'overdue' ORDER BY account_id";

/// Nobody waits here: a busy machine must not fail a test.
const PATIENCE: Duration = Duration::from_secs(90);

const NODE: &str = "node-0";

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
        pod["spec"]["automountServiceAccountToken"] = false.into();
        let context = json!({"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
        pod["spec"]["securityContext"] = context;
        for list in ["initContainers", "containers"] {
            pod["spec"][list][0]["securityContext"] = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true});
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

/// A connection for pods of this service account, whose agents hold no key.
fn connection(name: &str, account: &str, interception: &Value) -> Value {
    json!({
        "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection",
        "metadata": {"namespace": "agents", "name": name},
        "spec": {
            "pods": {"serviceAccountName": account},
            "project": PROJECT,
            "identity": {"federated": {
                "provider": audience(PROVIDER), "serviceAccount": format!("{account}@acme-data.iam.gserviceaccount.com")}},
            "interception": interception,
        },
    })
}

/// What agents run besides the programs of this machine: the Python client with its interpreter, and our scripts.
fn software(tools: &Tools) -> Vec<PathBuf> {
    let environment = |python: &Path| python.ancestors().nth(2).unwrap().to_owned();
    let interpreter = tools.client_python.canonicalize().unwrap();
    vec![environment(&tools.client_python), environment(&interpreter), root().join("tests/agents")]
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
    world.connect(&connection("warehouse", "billing", &interception)).await;
    if restricted {
        refused::connections_and_pods(&world).await;
    }
    let (pod, mut running) = world.run(&pod(&tools, restricted), &software(&tools)).await;

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
    if restricted {
        refused::at_the_aliases(&running).await;
    }
    java_trusts_the_sidecar(&tools, &running).await;
    grpc_arrives(&tools, &running).await;

    // A sidecar that crashed is started again, by the kubelet and alone; what its agents trust is the same.
    running.crash("bqwitness-proxy").unwrap();
    running.start_again("bqwitness-proxy").await.unwrap();
    let agent = running.run("agent").await.unwrap();
    assert!(
        agent.success() && agent.stdout.contains("A-17"),
        "{}\n{}",
        agent.said(),
        running.log("bqwitness-proxy")
    );

    let principal = service_account(&world.account);
    assert_eq!((world.google.asked("sts"), world.google.asked("iam")), (2, 2), "one exchange for each start");
    coverage::is_said(&world, &mut running).await;
    let connection = world.connection("warehouse").await;
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
    let of_sidecar = entries.iter().filter(|entry| entry.envelope.role == Role::Sidecar);
    let ends = of_sidecar.filter(|entry| entry.statement.kind == kind::SESSION_END).count();
    assert_eq!(ends, 1, "the last session was ended in order, those before by a crash");
    for method in ["CreateReadSession", "ReadRows"] {
        let says = |call: &&&Logged| {
            call.statement.body.intent.as_ref().is_some_and(|intent| intent.method.ends_with(method))
        };
        assert_eq!(calls.iter().filter(says).count(), 1, "{method}: {calls:#?}");
    }
    coverage::is_on_record(&entries, &pod);
    who_asked_for_it_is_on_record(&entries, &calls);
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

/// The Storage Read API of Google's own client: gRPC looks names up, trusts roots, and finds a credential in its own ways.
async fn grpc_arrives(tools: &Tools, running: &RunningPod) {
    let script = std::fs::read_to_string(root().join("tests/agents/read_rows.py")).unwrap();
    let python = tools.client_python.display().to_string();
    let read = running.exec("agent", &[&python, "-c", &script, "staging.imports"]).await.unwrap();
    assert!(
        read.success() && read.stdout.trim() == "5",
        "{}\n{}",
        read.said(),
        running.log("bqwitness-proxy")
    );
}

/// Each call's UID, generation and digest lead to the entry of the accepted spec, and so to who asked for it.
fn who_asked_for_it_is_on_record(entries: &[Logged], calls: &[&Logged]) {
    for call in calls {
        let same = |entry: &&Logged| {
            entry.statement.kind == kind::CONNECTION_ACCEPTED
                && entry.statement.connection == call.statement.connection
        };
        let entered: Vec<_> = entries.iter().filter(same).collect();
        let [entry] = &entered[..] else { panic!("{entered:#?}") };
        assert_eq!(entry.envelope.role, Role::Operator);
        assert_eq!(entry.statement.body.accepted.as_ref().unwrap().by.as_ref().unwrap().user, "admin");
    }
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

/// A name that is led to the sidecar, and that it would not look into, would be a dead end for the agent.
#[test]
fn every_alias_is_a_name_that_the_sidecar_looks_into() {
    let connection =
        serde_json::from_value(connection("warehouse", "billing", &json!({"mode": "Aliases"}))).unwrap();
    for host in connection::aliases::hosts(&connection) {
        let known = matches!(classify_host(&host), HostClass::BigQuery | HostClass::SharedGoogle);
        assert!(known || endpoints::is_on(&host) || host == connection::names::METADATA_NAME, "{host}");
    }
}

/// `bqwitness inject | kubectl apply`, both ways that kubectl applies: each example of a connection that is for the agent of
/// the examples.
#[tokio::test]
async fn what_inject_prints_is_what_the_api_server_takes() {
    let Some(plane) = ControlPlane::shared().unwrap() else { return };
    let kubectl = plane.kubectl();
    kubectl.say(&["create", "namespace", "examples"]).await.unwrap();
    let examples = root().join("examples");
    let mut seen = 0;
    for file in std::fs::read_dir(&examples).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let of_the_agent = text.contains("serviceAccountName: billing\n") && !text.contains("selector:");
        if !of_the_agent || !text.contains("kind: BigQueryConnection") {
            continue;
        }
        let mut inject = tokio::process::Command::new(program("bqwitness").unwrap());
        inject.args(["inject", "--file"]).arg(examples.join("agent.yaml")).arg("--connection").arg(&file);
        let printed = inject.output().await.unwrap();
        let said = String::from_utf8_lossy(&printed.stderr);
        assert!(printed.status.success() && said.is_empty(), "{}: {said}", file.display());
        let manifest = String::from_utf8(printed.stdout).unwrap();
        assert!(manifest.contains("bqwitness-proxy"), "{manifest}");
        for way in [&["--validate=strict"][..], &["--server-side"]] {
            let words = [&["-n", "examples", "apply", "--dry-run=server", "-f", "-"][..], way].concat();
            let answer = kubectl.feed(&words, &manifest).await.unwrap();
            assert!(answer.success() && answer.stderr.is_empty(), "{}: {}", file.display(), answer.said());
        }
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}
