//! What goes wrong beside and in the operator: leaders that are killed at work, API servers that restart.

use std::collections::BTreeMap;
use std::time::Instant;

use bqwitness_tests::cluster::ControlPlane;
use bqwitness_tests::log;
use bqwitness_tests::programs::{Operator, Proof};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stand::{BILLING, PATIENCE, Stand, condition, connection, pod, until};

/// Connections that are applied at once.
const MANY: usize = 12;

/// One of them, with a service account of its own.
fn numbered(number: usize) -> Value {
    let mut one = connection(&format!("c-{number}"));
    one["spec"]["pods"] = json!({"serviceAccountName": format!("account-{number}")});
    one
}

#[tokio::test]
async fn a_leader_killed_at_work_loses_nothing_and_its_successor_repeats_nothing() {
    let Some((mut stand, recorder)) = Stand::recorded().await else { return };
    let lease = ["-n", "bqwitness", "get", "lease", "bqwitness-operator"];
    stand.until(&lease, "a leader", |found| found["spec"]["holderIdentity"] == "operator-0").await;
    let second = stand.begin("operator-1").await;
    // Not in the line that explains it.
    let leads = "\nbqwitness_operator_leader 1\n";
    assert!(stand.operator().metrics().await.unwrap().contains(leads));
    assert!(!second.metrics().await.unwrap().contains(leads), "one leads");

    let all: Vec<_> = (0..MANY).map(numbered).collect();
    stand.created(&json!({"apiVersion": "v1", "kind": "List", "items": all})).await;
    // The first ConfigMap shows that the leader is at work on them.
    let maps = ["-n", "agents", "get", "configmaps", "-l", "app.kubernetes.io/managed-by=bqwitness-operator"];
    let of_them =
        |map: &Value| map["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("bqwitness-c-"));
    stand
        .until(&maps, "a ConfigMap", |found| {
            found["items"].as_array().is_some_and(|items| items.iter().any(of_them))
        })
        .await;
    stand.take_operator().kill().unwrap();
    stand.operator = Some(second);

    let get = ["-n", "agents", "get", "bqc"];
    let found = stand
        .until(&get, "all of them on record", |found| {
            found["items"].as_array().is_some_and(|items| {
                items.len() == MANY && items.iter().all(|one| one["status"]["recordedGeneration"] == 1)
            })
        })
        .await;
    assert!(stand.operator().metrics().await.unwrap().contains(leads));
    for one in found["items"].as_array().unwrap() {
        assert_eq!(one["status"]["observedGeneration"], 1, "{one:#}");
        let map = format!("bqwitness-{}", one["metadata"]["name"].as_str().unwrap());
        stand.kubectl.say(&["-n", "agents", "get", "configmap", &map]).await.unwrap();
    }
    // The webhook's address is the new leader's, and pods are injected again.
    stand.created(&pod("after", &json!({"serviceAccountName": "billing"}))).await;
    stand.take_operator().stop().await.unwrap();
    let data = recorder.data().to_owned();
    recorder.stop().await.unwrap();
    let mut entered: BTreeMap<String, usize> = BTreeMap::new();
    for entry in log::read(&data).unwrap() {
        if entry.statement.body.accepted.is_some() {
            *entered.entry(entry.statement.connection.unwrap().uid).or_default() += 1;
        }
    }
    assert_eq!(entered.len(), MANY);
    assert!(entered.values().all(|times| *times == 1), "{entered:?}");
}

/// Watches are cut, leases can't be renewed, and afterwards everything is as before. Resource versions from before are too old for the
/// new API server's cache: it answers 410, and the operator lists anew.
#[tokio::test]
async fn an_api_server_that_restarts_is_watched_again() {
    let Some(mut plane) = ControlPlane::start().await.unwrap() else { return };
    let folder = TempDir::with_prefix("bqwitness-").unwrap();
    let proof = Proof::of_nobody(folder.path()).unwrap();
    let kubectl = plane.kubectl();
    kubectl.apply("{apiVersion: v1, kind: Namespace, metadata: {name: agents}}").await.unwrap();
    kubectl.say(&["-n", "agents", "create", "serviceaccount", "billing"]).await.unwrap();
    let mut operator = Operator::start(&plane, folder.path(), "operator-0", &proof, &[]).await.unwrap();
    kubectl.apply(&connection("billing").to_string()).await.unwrap();
    let injecting = |found: &Value| condition(found, "Injecting")["status"] == "True";
    until(&kubectl, Some(&operator), BILLING, "injecting", injecting).await;

    plane.kill_api_server().unwrap();
    plane.start_api_server().await.unwrap();
    let start = Instant::now();
    for manifest in [connection("second"), pod("after", &json!({}))] {
        while !kubectl.feed(&["apply", "-f", "-"], &manifest.to_string()).await.unwrap().success() {
            assert!(start.elapsed() < PATIENCE, "{}", operator.log());
            operator = running(operator, &plane, &folder, &proof).await;
        }
    }
    let counted = |found: &Value| found["status"]["pods"]["injected"] == 1;
    let second = ["-n", "agents", "get", "bqc", "second"];
    let both = async || {
        let [first, second] = [BILLING, &second].map(|words| kubectl.json(words));
        counted(&first.await.unwrap_or_default()) && injecting(&second.await.unwrap_or_default())
    };
    while !both().await {
        assert!(start.elapsed() < PATIENCE, "{}", operator.log());
        operator = running(operator, &plane, &folder, &proof).await;
    }
    operator.stop().await.unwrap();
}

/// What a kubelet does: a leader that could not renew its lease ends, sooner or later, and is started again.
async fn running(operator: Operator, plane: &ControlPlane, folder: &TempDir, proof: &Proof) -> Operator {
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    match operator.metrics().await {
        Ok(_) => operator,
        Err(_) => Operator::start(plane, folder.path(), "operator-0", proof, &[]).await.unwrap(),
    }
}
