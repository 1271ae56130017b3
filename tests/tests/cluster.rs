//! A real API server: the stand itself, and what we count on in every cluster.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "cluster/readme.rs"]
mod readme;

use bqwitness_tests::cluster::{ControlPlane, ISSUER, Kubectl};
use bqwitness_tests::programs::AUDIENCE;
use serde_json::{Value, json};
use uuid::Uuid;

/// A namespace with a service account and a pod of it, which never starts.
async fn pod(kubectl: &Kubectl) -> String {
    let namespace = format!("pods-{}", Uuid::now_v7().simple());
    let manifests = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } },
        { "apiVersion": "v1", "kind": "ServiceAccount",
          "metadata": { "namespace": namespace, "name": "billing" } },
        { "apiVersion": "v1", "kind": "Pod",
          "metadata": { "namespace": namespace, "name": "billing-0" },
          "spec": { "serviceAccountName": "billing", "nodeName": "node-1",
                    "containers": [{ "name": "agent", "image": "example.com/agent:1" }] } },
    ] });
    kubectl.apply(&manifests.to_string()).await.unwrap();
    namespace
}

/// What TokenReview says of a token, to one who asks whether it is for `audience`.
async fn review(kubectl: &Kubectl, token: &str, audience: &str) -> Value {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token, "audiences": [audience] },
    });
    let answer = kubectl.feed(&["create", "-o", "json", "-f", "-"], &review.to_string()).await.unwrap();
    assert!(answer.success(), "{}", answer.said());
    serde_json::from_str::<Value>(&answer.stdout).unwrap()["status"].clone()
}

#[tokio::test]
async fn a_pod_bound_token_names_its_pod() {
    let Some(plane) = ControlPlane::shared().unwrap() else { return };
    let kubectl = plane.kubectl();
    let namespace = pod(&kubectl).await;
    let pod = kubectl.json(&["-n", &namespace, "get", "pod", "billing-0"]).await.unwrap();
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].to_string();
    assert!(mounts.contains("/var/run/secrets/kubernetes.io/serviceaccount"), "{mounts}");

    let bound = ["--bound-object-kind", "Pod", "--bound-object-name", "billing-0", "--bound-object-uid", uid];
    let create = ["-n", &namespace, "create", "token", "billing", "--audience", AUDIENCE];
    let token = kubectl.say(&[&create[..], &bound[..]].concat()).await.unwrap();

    let status = review(&kubectl, token.trim(), AUDIENCE).await;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["user"]["username"], format!("system:serviceaccount:{namespace}:billing"));
    let extra = &status["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["billing-0"]));
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([uid]));

    let elsewhere = review(&kubectl, token.trim(), ISSUER).await;
    assert_ne!(
        elsewhere["authenticated"], true,
        "a token for the recorder says nothing to others: {elsewhere}"
    );
}

#[tokio::test]
async fn a_control_plane_of_ones_own_is_killed_and_goes_on() {
    let Some(mut plane) = ControlPlane::start().await.unwrap() else { return };
    let kubectl = plane.kubectl();
    let namespace = pod(&kubectl).await;
    plane.kill_api_server().unwrap();
    let refused = kubectl.run(&["get", "namespaces"]).await.unwrap();
    assert!(!refused.success() && refused.said().contains("refused"), "{}", refused.said());
    plane.start_api_server().await.unwrap();
    kubectl.say(&["-n", &namespace, "get", "pod", "billing-0"]).await.unwrap();
}
