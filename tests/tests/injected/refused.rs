//! What interception by host aliases does not go together with, said by the API server and by the sidecar.

use std::time::{Duration, Instant};

use bqwitness_tests::cluster::Kubectl;
use bqwitness_tests::kubelet::RunningPod;
use serde_json::{Value, json};

use crate::world::World;
use crate::{PATIENCE, connection};

/// In a namespace that PodSecurity restricts, with a connection in mode Aliases.
pub(crate) async fn connections_and_pods(world: &World) {
    connections(&world.kubectl).await;
    pods(&world.kubectl).await;
    rules_are_not_for_restricted_pods(world).await;
}

async fn connections(kubectl: &Kubectl) {
    let with = |interception: Value| connection("wrong", "other", &interception);
    let mut keyless_by_the_node = with(json!({"mode": "Aliases"}));
    keyless_by_the_node["spec"]["identity"] = json!({"mode": "WorkloadIdentity"});
    for (manifest, sentence) in [
        (keyless_by_the_node, "needs interception mode Redirect"),
        (with(json!({"mode": "Aliases", "otherEgress": "Refuse"})), "limit them by a NetworkPolicy"),
        (with(json!({"mode": "Aliases", "extraHosts": ["bigquery.example.com"]})), "should match"),
        (with(json!({"extraHosts": ["bigquery-a.p.googleapis.com"]})), "extraHosts belong to mode Aliases"),
    ] {
        refused(kubectl, &manifest, sentence).await;
    }
}

async fn pods(kubectl: &Kubectl) {
    let volume = json!([{"name": "etc", "emptyDir": {}}]);
    for (spec, container, sentence) in [
        (
            json!({"hostAliases": [{"ip": "199.36.153.8", "hostnames": ["bigquery.googleapis.com"]}]}),
            json!({}),
            "spec.hostAliases leads bigquery.googleapis.com to 199.36.153.8",
        ),
        (
            json!({"volumes": volume}),
            json!({"volumeMounts": [{"name": "etc", "mountPath": "/etc"}]}),
            "an /etc/hosts of its own",
        ),
        (json!({}), json!({"ports": [{"containerPort": 443}]}), "listens on port 443"),
        (
            json!({"securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "1024"}]}}),
            json!({}),
            "set it to 443 or less",
        ),
        (json!({"hostNetwork": true}), json!({}), "spec.hostNetwork can't be true"),
    ] {
        refused(kubectl, &pod("billing", &spec, &container), sentence).await;
    }
}

/// The control: the API server does enforce PodSecurity here.
async fn rules_are_not_for_restricted_pods(world: &World) {
    world.kubectl.say(&["-n", "agents", "create", "serviceaccount", "other"]).await.unwrap();
    world.connect(&connection("rules", "other", &json!({"mode": "Redirect"}))).await;
    let pod = pod("other", &json!({}), &json!({})).to_string();
    let start = Instant::now();
    loop {
        let said = world.kubectl.feed(&["apply", "--dry-run=server", "-f", "-"], &pod).await.unwrap();
        if said.stderr.contains("violates PodSecurity") && said.stderr.contains("NET_ADMIN") {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{}", said.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A pod that PodSecurity "restricted" takes, with more of its spec and of its container.
fn pod(account: &str, spec: &Value, container: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "agents", "name": "wrong"},
        "spec": {
            "serviceAccountName": account,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "agent", "image": "example.com/agent:1",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    merge(&mut pod["spec"], spec);
    merge(&mut pod["spec"]["containers"][0], container);
    pod
}

fn merge(into: &mut Value, more: &Value) {
    for (name, value) in more.as_object().unwrap() {
        match &mut into[name] {
            own if own.is_object() => merge(own, value),
            own => *own = value.clone(),
        }
    }
}

async fn refused(kubectl: &Kubectl, manifest: &Value, sentence: &str) {
    let answer = kubectl.feed(&["apply", "-f", "-"], &manifest.to_string()).await.unwrap();
    assert!(
        !answer.success() && answer.stderr.contains(sentence),
        "{sentence:?} is not in: {}",
        answer.said()
    );
}

/// The sidecar serves Google's names there, and is nobody's way to other hosts.
pub(crate) async fn at_the_aliases(running: &RunningPod) {
    for (script, category) in [
        ("exec 3<>/dev/tcp/127.61.33.1/443; echo 'GET / HTTP/1.1' >&3; cat <&3", "not_tls"),
        ("openssl s_client -connect 127.61.33.1:443 -servername pypi.org </dev/null", "not_aliased"),
        ("openssl s_client -connect 127.61.33.2:443 -noservername </dev/null", "name_absent"),
    ] {
        let tried = running.exec("agent", &["bash", "-c", script]).await.unwrap();
        assert!(!tried.stdout.contains("BEGIN CERTIFICATE"), "{}", tried.said());
        let metrics = running.page(15_020, "/metrics").await.unwrap();
        let line = format!("bqwitness_connections_total{{way=\"{category}\"}} 1");
        assert!(metrics.contains(&line), "no {line} after {}: {metrics}", tried.said());
    }
}
