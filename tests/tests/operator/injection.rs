//! What people apply, and what they are told: pods that are injected, ways round that are refused, mistakes in connections.

use bqwitness_tests::programs::IMAGE;
use serde_json::{Value, json};

use crate::stand::{BILLING, Stand, condition, connection, pod};

/// The sidecar is whole, second of the init containers, and has no token for the API.
fn assert_injected(pod: &Value) {
    let init = pod["spec"]["initContainers"].as_array().unwrap_or_else(|| panic!("{pod:#}"));
    assert_eq!(
        (&init[0]["name"], &init[1]["name"]),
        (&json!("bqwitness-redirect"), &json!("bqwitness-proxy"))
    );
    for ours in &init[..2] {
        assert_eq!(ours["image"], IMAGE);
        assert!(!ours.to_string().contains("kube-api-access"), "{ours:#}");
    }
    assert_eq!(init[1]["restartPolicy"], "Always");
    let agent = &pod["spec"]["containers"][0];
    assert_eq!(agent["securityContext"]["allowPrivilegeEscalation"], false);
    assert!(agent["env"].to_string().contains("REQUESTS_CA_BUNDLE"), "{agent:#}");
    assert!(
        agent["volumeMounts"].to_string().contains("kube-api-access"),
        "the agent keeps its own: {agent:#}"
    );
}

#[tokio::test]
async fn pods_of_a_connection_are_recorded_and_what_gets_round_it_is_refused() {
    let Some(stand) = Stand::start().await else { return };
    let kubectl = &stand.kubectl;
    // Before there is a connection, nobody is asked.
    kubectl.apply(&pod("early", &json!({})).to_string()).await.unwrap();
    stand.connect().await;
    let connection = ["-n", "agents", "get", "bqc", "billing"];
    let early =
        stand.until(&connection, "uncovered", |found| found["status"]["pods"]["uncovered"] == 1).await;
    assert_eq!(condition(&early, "Covered")["reason"], "Uncovered");
    let said = condition(&early, "Covered")["message"].as_str().unwrap();
    assert!(said.contains("early (no_sidecar)"), "{said}");
    let event = ["-n", "agents", "get", "events", "--field-selector", "reason=BigQueryNotRecorded"];
    let about_early =
        |event: &Value| event["regarding"]["name"] == "early" || event["involvedObject"]["name"] == "early";
    stand
        .until(&event, "an event", |found| {
            found["items"].as_array().is_some_and(|events| events.iter().any(about_early))
        })
        .await;

    workloads_are_injected(&stand).await;
    kubectl.say(&["-n", "agents", "delete", "pod", "early", "--force", "--grace-period=0"]).await.unwrap();
    let covered =
        stand.until(&connection, "covered", |found| found["status"]["pods"]["uncovered"] == 0).await;
    let pods = &covered["status"]["pods"];
    assert_eq!((&pods["matched"], &pods["injected"], &pods["covered"]), (&json!(4), &json!(4), &json!(4)));
    assert_eq!(covered["status"]["observedGeneration"], 1);

    round_ways_are_refused(&stand).await;
    the_connection_says_who_asked_for_it(&stand).await;
    let metrics = stand.operator().metrics().await.unwrap();
    for line in [
        r#"bqwitness_operator_pods{connection="billing",namespace="agents",state="outdated"} 4"#,
        r#"bqwitness_operator_admissions_total{result="shared_namespace",webhook="mutate-pods"} 4"#,
        "\nbqwitness_operator_leader 1\n", // and not in the line that explains it
    ] {
        assert!(metrics.contains(line), "no {line} in:\n{metrics}");
    }
    stand.end().await;
}

/// A Deployment's pods, a Job's, and a bare one that has init containers and turns its token off.
async fn workloads_are_injected(stand: &Stand) {
    let template = json!({"metadata": {"labels": {"app": "w"}}, "spec": pod("", &json!({}))["spec"]});
    let mut job = template.clone();
    job["spec"]["restartPolicy"] = "Never".into();
    let workloads = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "agents", "name": "web"},
         "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "w"}}, "template": template}},
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "agents", "name": "nightly"},
         "spec": {"template": job}},
    ]});
    stand.kubectl.apply(&workloads.to_string()).await.unwrap();
    for (selector, count) in [("app=w,pod-template-hash", 2), ("job-name=nightly", 1)] {
        let get = ["-n", "agents", "get", "pods", "-l", selector];
        let full = |found: &Value| found["items"].as_array().is_some_and(|items| items.len() == count);
        for pod in stand.until(&get, selector, full).await["items"].as_array().unwrap() {
            assert_injected(pod);
        }
    }
    let own = json!({
        "automountServiceAccountToken": false,
        "initContainers": [{"name": "fetch", "image": "example.com/fetch:1"}],
    });
    stand.kubectl.apply(&pod("bare", &own).to_string()).await.unwrap();
    let bare = stand.kubectl.json(&["-n", "agents", "get", "pod", "bare"]).await.unwrap();
    let init: Vec<_> =
        bare["spec"]["initContainers"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(init, ["bqwitness-redirect", "bqwitness-proxy", "fetch"]);
}

async fn round_ways_are_refused(stand: &Stand) {
    let container = |more: Value| {
        let mut agent = json!({"name": "agent", "image": "example.com/agent:1"});
        agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"containers": [agent]})
    };
    let capable = |name: &str| container(json!({"securityContext": {"capabilities": {"add": [name]}}}));
    for (spec, sentence) in [
        (json!({"hostNetwork": true}), "spec.hostNetwork can't be true"),
        (container(json!({"securityContext": {"privileged": true}})), "is privileged"),
        (container(json!({"securityContext": {"runAsUser": 61_337}})), "runAsUser is 61337"),
        (capable("NET_ADMIN"), "adds capability NET_ADMIN"),
        (json!({"hostPID": true}), "spec.hostPID can't be true"),
        (json!({"hostIPC": true}), "spec.hostIPC can't be true"),
        (json!({"shareProcessNamespace": true}), "spec.shareProcessNamespace can't be true"),
        (json!({"securityContext": {"runAsUser": 61_337}}), "runAsUser is 61337"),
        (capable("NET_RAW"), "adds capability NET_RAW"),
        (capable("SYS_PTRACE"), "adds capability SYS_PTRACE"),
        (capable("SYS_ADMIN"), "adds capability SYS_ADMIN"),
        (
            container(json!({"securityContext": {"allowPrivilegeEscalation": true}})),
            "sets allowPrivilegeEscalation",
        ),
        (
            container(json!({"volumeMounts": [{"name": "bqwitness-token", "mountPath": "/mnt/token"}]})),
            "mounts bqwitness-token",
        ),
        (
            json!({"containers": [{"name": "agent", "image": "a", "volumeMounts": [{"name": "own", "mountPath": "/var/run/bqwitness/trust"}]}],
                   "volumes": [{"name": "own", "emptyDir": {}}]}),
            "mounts something at /var/run/bqwitness/trust",
        ),
        (container(json!({"ports": [{"containerPort": 15_001}]})), "listens on port 15001"),
        (
            json!({"containers": [{"name": "bqwitness-proxy", "image": "mine"}]}),
            "container name bqwitness-proxy is",
        ),
        (json!({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}), "volume host is the node's"),
        (
            json!({"volumes": [{"name": "t", "projected": {"sources": [
                {"serviceAccountToken": {"audience": "bqwitness-recorder", "path": "t"}}]}}]}),
            "asks for a token of audience",
        ),
    ] {
        let said = stand.refused(&pod("round", &spec)).await;
        assert!(said.contains(sentence) && said.contains("BigQueryConnection billing"), "{said}");
    }
    for (command, sentence) in [
        (
            &["-n", "agents", "set", "image", "pod/bare", "bqwitness-proxy=example.com/mine"][..],
            "can't be changed in a pod",
        ),
        (&["-n", "agents", "exec", "bare", "-c", "bqwitness-proxy", "--", "sh"], "nobody enters it"),
        (
            &["-n", "agents", "create", "token", "billing", "--audience", "bqwitness-recorder"],
            "lets its holder speak for a recorded pod",
        ),
        (
            &[
                "-n",
                "agents",
                "debug",
                "bare",
                "--image=example.com/debug",
                "-c",
                "debugger",
                "--profile=general",
            ],
            "ephemeral container debugger",
        ),
    ] {
        let answer = stand.kubectl.run(command).await.unwrap();
        assert!(!answer.success() && answer.stderr.contains(sentence), "{command:?}: {}", answer.said());
    }
    // Whoever may change ConfigMaps still may not change which recorder is trusted.
    let author = stand.kubectl.run(&[
        "-n",
        "agents",
        "--as",
        "intruder",
        "--as-group",
        "system:masters",
        "delete",
        "configmap",
        "bqwitness-billing",
    ]);
    let author = author.await.unwrap();
    assert!(author.stderr.contains("change the BigQueryConnection instead"), "{}", author.said());
}

async fn the_connection_says_who_asked_for_it(stand: &Stand) {
    let kubectl = &stand.kubectl;
    let accepted = |found: &Value| -> Value {
        serde_json::from_str(found["metadata"]["annotations"]["bqwitness.dev/accepted-by"].as_str().unwrap())
            .unwrap()
    };
    let first = kubectl.json(&["-n", "agents", "get", "bqc", "billing"]).await.unwrap();
    assert_eq!(accepted(&first)["user"], "admin");
    // Somebody else changes the spec, and tries to put it on the first.
    let forged = json!({"spec": {"project": "other-project"}, "metadata": {"annotations": {"bqwitness.dev/accepted-by": "{\"user\":\"admin\"}"}}});
    let patch = [
        "-n",
        "agents",
        "--as",
        "intruder",
        "--as-group",
        "system:masters",
        "patch",
        "bqc",
        "billing",
        "--type=merge",
        "-p",
    ];
    kubectl.say(&[&patch[..], &[forged.to_string().as_str()]].concat()).await.unwrap();
    let second = kubectl.json(&["-n", "agents", "get", "bqc", "billing"]).await.unwrap();
    assert_eq!(accepted(&second)["user"], "intruder");
    assert_ne!(accepted(&second)["spec"], accepted(&first)["spec"]);
    // Who changes something else is not who asked for the spec.
    kubectl.say(&["-n", "agents", "label", "bqc", "billing", "team=billing"]).await.unwrap();
    let third = kubectl.json(&["-n", "agents", "get", "bqc", "billing"]).await.unwrap();
    assert_eq!(accepted(&third), accepted(&second));
    // Pods of the first spec are recorded, under what is no longer in force.
    let get = ["-n", "agents", "get", "bqc", "billing"];
    stand.until(&get, "outdated", |found| found["status"]["pods"]["outdated"] == 4).await;
}

#[tokio::test]
async fn mistakes_in_a_connection_are_said_when_it_is_applied() {
    let Some(stand) = Stand::start().await else { return };
    stand.connect().await;
    let with = |path: &str, value: Value| {
        let mut connection = connection("wrong");
        *connection.pointer_mut(path).unwrap() = value;
        connection
    };
    for (manifest, sentence) in [
        (with("/spec/pods", json!({})), "name a serviceAccountName, a selector, or both"),
        (with("/spec/identity", json!({"mode": "Sometimes"})), "supported values"),
        (with("/spec/identity", json!({})), "mode Federated needs federated.provider"),
        (with("/spec/identity", json!({"federated": {"provider": "https://elsewhere"}})), "should match"),
        (with("/spec/project", json!("No Project")), "should match"),
        (with("/spec/identity", json!({"mode": "Passthrough", "extra": 1})), "unknown field"),
        (with("/metadata/name", json!("x".repeat(64))), "at most 63 characters"),
        (
            with("/spec/pods", json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})),
            "name at least one value",
        ),
    ] {
        let said = stand.refused(&manifest).await;
        assert!(said.contains(sentence), "{said}");
    }
    let mut recorder = connection("wrong");
    recorder["spec"]["recorder"] =
        json!({"url": "https://r:1", "ca": "-----BEGIN CERTIFICATE-----\nx", "key": "r+00000000+AAAA"});
    let said = stand.refused(&recorder).await;
    assert!(said.contains("spec.recorder.ca") && said.contains("spec.recorder.key"), "{said}");

    // Two that select the same pods: both are told, and the older wins.
    let second = stand.kubectl.feed(&["apply", "-f", "-"], &connection("second").to_string()).await.unwrap();
    assert!(second.success() && second.stderr.contains("billing is older and wins"), "{}", second.said());
    // With the controller the webhook has heard of the second, too: they look at the same.
    let get = ["-n", "agents", "get", "bqc", "second"];
    stand.until(&get, "the second", |found| found["status"]["observedGeneration"] == 1).await;
    let created =
        stand.kubectl.feed(&["apply", "-f", "-"], &pod("both", &json!({})).to_string()).await.unwrap();
    assert!(created.success() && created.stderr.contains("both select this pod"), "{}", created.said());
    let overlapping =
        stand.until(&get, "overlap", |found| found["status"]["overlaps"] == json!(["billing (wins)"])).await;
    assert_eq!(overlapping["status"]["pods"]["matched"], 0);
    let both = stand.kubectl.json(&["-n", "agents", "get", "pod", "both"]).await.unwrap();
    assert_eq!(both["metadata"]["labels"]["bqwitness.dev/connection"], "billing");
    stand.end().await;
}

#[tokio::test]
async fn while_the_webhook_is_down_recorded_namespaces_wait_and_others_go_on() {
    let Some(mut stand) = Stand::start().await else { return };
    stand.connect().await;
    let kubectl = stand.kubectl.clone();
    stand.take_operator().kill().unwrap();
    let refused =
        kubectl.feed(&["apply", "-f", "-"], &pod("while-down", &json!({})).to_string()).await.unwrap();
    assert!(!refused.success() && refused.stderr.contains("failed calling webhook"), "{}", refused.said());
    let mut elsewhere = pod("while-down", &json!({"serviceAccountName": "default"}));
    elsewhere["metadata"]["namespace"] = "default".into();
    kubectl.apply(&elsewhere.to_string()).await.unwrap();

    // Another replica takes over: the lease of the first, its certificate's Secret, and the configurations.
    stand.operator = Some(stand.begin("operator-1").await);
    let lease = ["-n", "bqwitness", "get", "lease", "bqwitness-operator"];
    stand.until(&lease, "another leader", |found| found["spec"]["holderIdentity"] == "operator-1").await;
    stand.created(&pod("after", &json!({}))).await;
    assert_injected(&stand.kubectl.json(&["-n", "agents", "get", "pod", "after"]).await.unwrap());
    stand.take_operator().stop().await.unwrap();
    let released = kubectl.json(&lease).await.unwrap();
    assert!(released["spec"]["holderIdentity"].is_null(), "the lease is given back: {released:#}");
}

/// Several managers of one connection: each keeps to its fields, a conflict is said, and the notes of the operator are nobody's to take away.
#[tokio::test]
async fn server_side_apply_keeps_managers_apart() {
    let Some(stand) = Stand::start().await else { return };
    stand.connect().await;
    let apply = async |manager: &str, project: &str, more: &[&str]| {
        let mut manifest = connection("billing");
        manifest["spec"]["project"] = project.into();
        let words = [&["apply", "--server-side", "--field-manager", manager, "-f", "-"], more].concat();
        stand.kubectl.feed(&words, &manifest.to_string()).await.unwrap()
    };
    let conflict = apply("pipeline", "pipelines-project", &[]).await;
    assert!(!conflict.success() && conflict.stderr.contains(".spec.project"), "{}", conflict.said());
    let first = stand.kubectl.json(BILLING).await.unwrap();
    assert_eq!(first["metadata"]["generation"], 1, "what is refused is not stored");
    let forced = apply("pipeline", "pipelines-project", &["--force-conflicts"]).await;
    assert!(forced.success(), "{}", forced.said());
    let again = apply("pipeline", "pipelines-project", &[]).await;
    assert!(again.success(), "{}", again.said());
    let written = |found: &Value| found["status"]["observedGeneration"] == 2;
    let second = stand.until(BILLING, "the second generation", written).await;
    assert_eq!(second["spec"]["project"], "pipelines-project");
    let note = |found: &Value| found["metadata"]["annotations"]["bqwitness.dev/accepted-by"].clone();
    assert_ne!(note(&first), note(&second));
    assert!(note(&second).is_string(), "applying without it takes nothing away: {second:#}");
    // Nobody has been able to enter the first: it is kept for whoever can.
    let before = second["metadata"]["annotations"]["bqwitness.dev/accepted-before"].as_str().unwrap();
    let before: Value = serde_json::from_str(before).unwrap();
    assert_eq!(
        (&before[0]["generation"], &before[0]["spec"]["project"]),
        (&json!(1), &json!("acme-billing"))
    );
    stand.end().await;
}
