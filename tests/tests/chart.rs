//! The chart against a real API server: what it renders is accepted, what it grants is enough and no more, and nonsense is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bqwitness_tests::chart::{self, NAMESPACE, render, words};
use bqwitness_tests::cluster::{ControlPlane, Kubectl};
use bqwitness_tests::process::Process;
use bqwitness_tests::programs::program;
use bqwitness_tests::tools::root;
use ledger::note::SigningNoteKey;
use serde_json::{Value, json};

/// Sets of values, each of which must render and be accepted.
const VALUES: [&[&str]; 6] = [
    &["recorder.userTokens=true"],
    &[],
    &["recorder.enabled=false", EXTERNAL[0], EXTERNAL[1], EXTERNAL[2]],
    &[
        "networkPolicies.agents.namespaces={agents,sales}",
        "networkPolicies.monitoringFrom[0].podSelector.matchLabels.app=prometheus",
    ],
    &["monitoring.dashboards.enabled=true", "operator.webhookPort=8443", "recorder.readers={audit/auditor}"],
    &[
        "networkPolicies.enabled=false",
        "operator.podDisruptionBudget.enabled=false",
        "recorder.tlsSecret=own",
    ],
];

/// How long something of the cluster may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

const EXTERNAL: [&str; 3] = [
    "recorder.external.url=https://recorder.example.com:8443",
    "recorder.external.ca=-----BEGIN CERTIFICATE-----",
    "recorder.external.key=recorder.example.com/prod+12345678+AAAA",
];

/// Values that are refused, and what the refusal must name.
const NONSENSE: [(&str, &str); 14] = [
    ("recorder.orgin=typo", "orgin"),
    ("clusterName=", "clusterName"),
    ("clusterName=two words", "clusterName"),
    ("recorder.origin=", "recorder.origin"),
    ("recorder.origin=https://recorder.example.com", "origin"),
    ("recorder.readers={auditor}", "readers"),
    ("recorder.storage.size=lots", "size"),
    ("recorder.namespace=Big_Name", "namespace"),
    ("recorder.podDisruptionBudget.maxUnavailable=2", "maxUnavailable"),
    ("recorder.enabled=false", "recorder.external"),
    ("operator.replicas=0", "replicas"),
    ("operator.webhookPort=9090", "webhookPort"),
    ("images.proxy.digest=sha256:short", "digest"),
    ("monitoring.enabled=maybe", "monitoring"),
];

#[tokio::test]
async fn nonsense_is_refused() {
    let Some(plane) = ControlPlane::shared().unwrap() else { return };
    let kubectl = plane.kubectl();
    for (value, named) in NONSENSE {
        let refused = render(&kubectl, &[value]).await.expect_err(value).to_string();
        assert!(refused.contains(named), "{value}: {refused}");
    }
}

#[tokio::test]
async fn helm_finds_nothing_to_complain_about() {
    let Some(plane) = ControlPlane::shared().unwrap() else { return };
    let kubectl = plane.kubectl();
    for values in VALUES {
        let linted = kubectl.helm(&words(&["lint", "--strict"], values)).await.unwrap();
        assert!(linted.success(), "{values:?}: {}", linted.said());
    }
}

#[tokio::test]
async fn the_api_server_accepts_what_is_rendered() {
    let Some(plane) = ControlPlane::shared().unwrap() else { return };
    let kubectl = plane.kubectl();
    for namespace in [NAMESPACE, "bqwitness", "agents", "sales"] {
        kubectl
            .apply(
                &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
                    .to_string(),
            )
            .await
            .unwrap();
    }
    for values in VALUES {
        let manifest = render(&kubectl, values).await.unwrap();
        let dry = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        let tried = kubectl.feed(&dry, &manifest).await.unwrap();
        assert!(tried.success(), "{values:?}: {}", tried.said());
        // A namespace that `kubectl create` made has no annotation of `apply`; whatever else is warned of is a mistake.
        assert!(!tried.stderr.contains("Warning"), "{values:?}: {}", tried.stderr);
    }
}

/// Installed, its pods are made where PodSecurity is as strict as it gets, its rights are what the operator needs, and what is
/// left behind is the evidence.
#[tokio::test]
async fn installed_it_keeps_to_the_rules() {
    let Some(plane) = ControlPlane::start().await.unwrap() else { return };
    let kubectl = plane.kubectl();
    let strict = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": NAMESPACE, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    kubectl.apply(&strict.to_string()).await.unwrap();
    as_the_readme_says(&kubectl).await;

    pods(&kubectl, NAMESPACE, "operator", 2).await;
    pods(&kubectl, "bqwitness", "recorder", 1).await;
    rights(&kubectl).await;
    keeper(&plane, &kubectl).await;
    examples(&kubectl).await;

    let gone = kubectl.helm(&["uninstall", "bqwitness", "--namespace", NAMESPACE]).await.unwrap();
    assert!(gone.success(), "{}", gone.said());
    for left in [["namespace", "bqwitness"], ["crd", "bigqueryconnections.bqwitness.dev"]] {
        kubectl.say(&["get", left[0], left[1]]).await.unwrap();
    }
    kubectl.say(&["-n", "bqwitness", "get", "pvc", "data-bqwitness-recorder-0"]).await.unwrap();
}

/// The README's commands, with an agent to record. (No operator runs here, which would inject it.)
async fn as_the_readme_says(kubectl: &Kubectl) {
    kubectl.say(&["create", "namespace", "agents"]).await.unwrap();
    let agent = root().join("examples/agent.yaml").display().to_string();
    kubectl.say(&["-n", "agents", "apply", "-f", &agent]).await.unwrap();
    let mut said = Vec::new();
    for command in readme() {
        let (program, words) = command.split_first().unwrap();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let finished = match program.as_str() {
            "helm" => kubectl.helm(&words).await.unwrap(),
            "kubectl" => kubectl.run(&words).await.unwrap(),
            other => panic!("the README begins to use {other}"),
        };
        assert!(finished.success(), "{command:?}: {}", finished.said());
        said.push(finished.stdout);
        if program == "helm" {
            served(kubectl).await;
        }
    }
    let [installed, .., listed] = &said[..] else { panic!("{said:?}") };
    assert!(installed.contains("kind: BigQueryConnection"), "the notes say what comes next: {installed}");
    assert!(listed.contains("UNCOVERED") && listed.contains("billing"), "{listed}");
}

/// Waits until the API server serves connections: somebody who types is slower than it.
async fn served(kubectl: &Kubectl) {
    let start = Instant::now();
    while !kubectl.run(&["get", "bqc", "--all-namespaces"]).await.unwrap().success() {
        assert!(start.elapsed() < PATIENCE, "connections are not served");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The commands of the README's section on Kubernetes, word by word.
fn readme() -> Vec<Vec<String>> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split("## In Kubernetes").nth(1).unwrap();
    let block = section.split("```console").nth(1).unwrap().split("```").next().unwrap();
    let joined = block.replace("\\\n", " ");
    let commands = joined.lines().filter_map(|line| line.strip_prefix("$ ")?.split(" #").next());
    let here = |word: &str| match word.starts_with("charts/") || word.starts_with("examples/") {
        true => root().join(word).display().to_string(),
        false => word.to_owned(),
    };
    commands.map(|command| command.split_whitespace().map(here).collect()).collect()
}

/// Each example is accepted as it is written.
async fn examples(kubectl: &Kubectl) {
    let mut connections = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let file = entry.unwrap().path().display().to_string();
        if file.ends_with(".yaml") {
            let applied =
                kubectl.say(&["-n", "agents", "apply", "--validate=strict", "-f", &file]).await.unwrap();
            connections += applied.matches("bigqueryconnection.bqwitness.dev/").count();
        }
    }
    let listed = kubectl.say(&["-n", "agents", "get", "bqc", "-o", "name"]).await.unwrap();
    assert_eq!(listed.lines().count(), connections, "{listed}");
    assert!(connections >= 3, "{listed}");
}

/// Waits until the controllers have made the pods: PodSecurity would refuse them here.
async fn pods(kubectl: &Kubectl, namespace: &str, name: &str, wanted: usize) {
    let start = Instant::now();
    let selector = format!("app.kubernetes.io/name=bqwitness-{name}");
    loop {
        let found = kubectl.json(&["-n", namespace, "get", "pods", "-l", &selector]).await.unwrap();
        if found["items"].as_array().unwrap().len() == wanted {
            return;
        }
        if start.elapsed() > PATIENCE {
            let events = kubectl.say(&["-n", namespace, "get", "events"]).await.unwrap();
            panic!("no {wanted} pods of {name}:\n{events}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The recorder's keeper, as its service account: it makes the certificate, and says what proves the recorder once that has said
/// its key. Another key it doesn't say.
async fn keeper(plane: &ControlPlane, kubectl: &Kubectl) {
    let token = kubectl.say(&["-n", "bqwitness", "create", "token", "bqwitness-recorder"]).await.unwrap();
    let kubeconfig = plane.kubeconfig("keeper", token.trim()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let port_file = folder.path().join("ports.json");
    let mut command = Command::new(program("bqwitness-keeper").unwrap());
    command.env("KUBECONFIG", kubeconfig).args(["--namespace=bqwitness", "--secret=bqwitness-recorder-tls"]);
    command.args(["--name=bqwitness-recorder.bqwitness.svc", "--admin=127.0.0.1:0", "--log-format=text"]);
    command.arg(format!("--publish={NAMESPACE}/bqwitness-recorder"));
    command.arg("--tls-dir").arg(folder.path()).arg("--port-file").arg(&port_file);
    let mut keeper = Process::start("keeper", &mut command, folder.path()).unwrap();

    let certificate = folder.path().join("tls.crt");
    keeper.until("certificate", PATIENCE, || async { certificate.exists().then_some(()) }).await.unwrap();
    assert!(folder.path().join("tls.key").exists());
    runtime::tls::server_config(&certificate, &folder.path().join("tls.key")).unwrap();
    let config_map = ["-n", NAMESPACE, "get", "configmap", "bqwitness-recorder", "--ignore-not-found", "-o"];
    let early = kubectl.say(&[&config_map[..], &["name"]].concat()).await.unwrap();
    assert_eq!(early, "", "nothing is said before the recorder has said its key");

    let key = |seed| {
        SigningNoteKey::from_seed("recorder.example.com/prod", &[seed; 32]).unwrap().verifier().to_string()
    };
    // Whole, or not there: the keeper may be reading.
    let say = |key: &str| {
        let half = folder.path().join("half");
        std::fs::write(&half, json!({ "vkey": key }).to_string()).unwrap();
        std::fs::rename(&half, &port_file).unwrap();
    };
    say(&key(1));
    let published = [&config_map[..], &["jsonpath={.data.log\\.vkey}"]].concat();
    let said = || async { kubectl.say(&published).await.ok().filter(|said| !said.is_empty()) };
    assert_eq!(keeper.until("ConfigMap", PATIENCE, said).await.unwrap(), key(1));
    let bundle = kubectl.say(&[&config_map[..], &["jsonpath={.data.ca\\.pem}"]].concat()).await.unwrap();
    let secret = ["-n", "bqwitness", "get", "secret", "bqwitness-recorder-tls", "-o", "json"];
    let secret: Value = serde_json::from_str(&kubectl.say(&secret).await.unwrap()).unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let encoded = base64::engine::general_purpose::STANDARD.encode(bundle);
    assert_eq!(secret["data"]["ca.crt"], encoded);
    keeper.stop().await.unwrap();

    say(&key(2));
    let mut again = Process::start("keeper", &mut command, folder.path()).unwrap();
    let log = folder.path().join("keeper.log");
    let refusal =
        || async { std::fs::read_to_string(&log).ok()?.contains("delete that ConfigMap").then_some(()) };
    again.until("refusal of another key", PATIENCE, refusal).await.unwrap();
    assert_eq!(said().await.unwrap(), key(1));
    again.stop().await.unwrap();
}

/// What service accounts may do: the answer, who, the verb, what, and in which namespace.
const RIGHTS: [(&str, &str, &str, &str, &str); 38] = [
    ("yes", "operator", "list", "bigqueryconnections.bqwitness.dev", "agents"),
    ("yes", "operator", "watch", "bigqueryconnections.bqwitness.dev", "agents"),
    ("yes", "operator", "patch", "bigqueryconnections.bqwitness.dev/status", "agents"),
    ("yes", "operator", "update", "bigqueryconnections.bqwitness.dev/finalizers", "agents"),
    ("yes", "operator", "watch", "pods", "agents"),
    ("yes", "operator", "create", "configmaps", "agents"),
    ("yes", "operator", "patch", "configmaps", "agents"),
    ("yes", "operator", "create", "events.events.k8s.io", "agents"),
    ("yes", "operator", "create", "mutatingwebhookconfigurations", ""),
    ("yes", "operator", "patch", "mutatingwebhookconfigurations/bqwitness", ""),
    ("yes", "operator", "patch", "validatingwebhookconfigurations/bqwitness", ""),
    ("yes", "operator", "get", "clusterroles/bqwitness-operator", ""),
    ("yes", "operator", "create", "leases", NAMESPACE),
    ("yes", "operator", "update", "leases/bqwitness-operator", NAMESPACE),
    ("yes", "operator", "update", "secrets/bqwitness-operator-tls", NAMESPACE),
    ("no", "operator", "patch", "bigqueryconnections.bqwitness.dev", "agents"),
    ("no", "operator", "delete", "bigqueryconnections.bqwitness.dev", "agents"),
    ("no", "operator", "create", "pods", "agents"),
    ("no", "operator", "patch", "pods", "agents"),
    ("no", "operator", "delete", "pods", "agents"),
    ("no", "operator", "create", "pods/exec", "agents"),
    ("no", "operator", "create", "serviceaccounts/token", "agents"),
    ("no", "operator", "delete", "configmaps", "agents"),
    ("no", "operator", "get", "secrets", "agents"),
    ("no", "operator", "list", "secrets", NAMESPACE),
    ("no", "operator", "get", "secrets/other", NAMESPACE),
    ("no", "operator", "get", "secrets", "bqwitness"),
    ("no", "operator", "patch", "mutatingwebhookconfigurations/other", ""),
    ("no", "operator", "delete", "mutatingwebhookconfigurations/bqwitness", ""),
    ("no", "operator", "update", "clusterroles/bqwitness-operator", ""),
    ("yes", "recorder", "update", "secrets/bqwitness-recorder-tls", "bqwitness"),
    ("yes", "recorder", "patch", "configmaps/bqwitness-recorder", NAMESPACE),
    ("yes", "recorder", "create", "subjectaccessreviews.authorization.k8s.io", ""),
    ("no", "recorder", "create", "tokenreviews.authentication.k8s.io", ""),
    ("no", "recorder", "get", "secrets", "bqwitness"),
    ("no", "recorder", "patch", "configmaps", NAMESPACE),
    ("no", "recorder", "get", "pods", "bqwitness"),
    ("no", "recorder", "list", "bigqueryconnections.bqwitness.dev", "agents"),
];

/// What they may first: the API server hears of roles and bindings one after the other. What they may not is asked when it knows all.
async fn rights(kubectl: &Kubectl) {
    let start = Instant::now();
    let (granted, denied): (Vec<_>, Vec<_>) = RIGHTS.into_iter().partition(|right| right.0 == "yes");
    for (expected, who, verb, what, namespace) in granted.into_iter().chain(denied) {
        let own = if who == "operator" { NAMESPACE } else { "bqwitness" };
        let account = format!("system:serviceaccount:{own}:bqwitness-{who}");
        let (what, subresource) = match what.split_once('/') {
            Some((kind, sub @ ("status" | "finalizers" | "exec" | "token"))) => {
                (kind, Some(format!("--subresource={sub}")))
            }
            _ => (what, None),
        };
        let mut ask = vec!["auth", "can-i", verb, what, "--as", &account];
        ask.extend(subresource.as_deref());
        if !namespace.is_empty() {
            ask.extend(["-n", namespace]);
        }
        let mut answer = kubectl.run(&ask).await.unwrap();
        while expected == "yes" && answer.stdout.trim() != expected && start.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(200)).await;
            answer = kubectl.run(&ask).await.unwrap();
        }
        assert_eq!(answer.stdout.trim(), expected, "{ask:?}: {}", answer.said());
    }
}

/// Every flag that the chart sets is one of the program's.
#[tokio::test]
async fn programs_know_their_flags() {
    let Some(plane) = ControlPlane::shared().unwrap() else { return };
    let objects =
        chart::objects(&render(&plane.kubectl(), &["recorder.readers={audit/auditor}"]).await.unwrap())
            .unwrap();
    let mut seen = 0;
    for container in objects.iter().flat_map(containers) {
        let Some(arguments) = container["args"].as_array() else { continue };
        let name = format!("bqwitness-{}", container["name"].as_str().unwrap());
        let mut command = Command::new(program(&name).unwrap());
        command.args(arguments.iter().map(|one| one.as_str().unwrap())).arg("--version");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        seen += 1;
    }
    assert_eq!(seen, 3, "operator, recorder, keeper");
}

fn containers(object: &Value) -> Vec<Value> {
    let spec = &object["spec"]["template"]["spec"];
    let of = |kind: &str| spec[kind].as_array().cloned().unwrap_or_default();
    [of("containers"), of("initContainers")].concat()
}
