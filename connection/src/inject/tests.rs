//! Golden files: `connection/tests/golden/NAME.pod.yaml` is what somebody asks for, `NAME.injected.yaml` what runs.
//! `BLESS=1 cargo test -p bqwitness-connection` writes the second ones anew; read the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::manifest::{self, Outcome};
use crate::{patch, verify};

fn settings() -> Settings {
    Settings {
        image: "ghcr.io/bqwitness/proxy:0.1.0".into(),
        image_pull_policy: None,
        recorder: "https://bqwitness-recorder.bqwitness.svc:8443".into(),
        audience: "bqwitness-recorder".into(),
    }
}

fn connection(file: &str) -> BigQueryConnection {
    serde_saphyr::from_str(&std::fs::read_to_string(golden(file)).unwrap()).unwrap()
}

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)
}

/// Each pair: the connection, and the pods that it is put into.
const PAIRS: [(&str, &[&str]); 4] = [
    (
        "redirect.connection.yaml",
        &[
            "deployment-pod",
            "job-pod",
            "init-containers",
            "no-token",
            "read-only-root",
            "several-containers",
            "own-variables",
            "deployment",
            "statefulset",
            "job",
            "cronjob",
        ],
    ),
    ("options.connection.yaml", &["bare-pod"]),
    ("federated.connection.yaml", &["keyless"]),
    ("aliases.connection.yaml", &["restricted"]),
];

/// Every case with its connection, the object and what becomes of it.
fn cases() -> impl Iterator<Item = (&'static str, BigQueryConnection, Value)> {
    PAIRS.into_iter().flat_map(|(file, names)| {
        names.iter().map(move |name| {
            let text = std::fs::read_to_string(golden(&format!("{name}.pod.yaml"))).unwrap();
            (*name, connection(file), serde_saphyr::from_str(&text).unwrap())
        })
    })
}

fn injected(object: &Value, connection: &BigQueryConnection) -> Injected {
    match manifest::inject(object, connection, &settings()) {
        Ok(Outcome::Injected(injected)) => injected,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pods_become_what_the_golden_files_say() {
    for (name, connection, asked) in cases() {
        let becomes = serde_saphyr::to_string(&injected(&asked, &connection).pod).unwrap();
        let file = golden(&format!("{name}.injected.yaml"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &becomes).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(becomes == expected, "{} no longer fits; BLESS=1 writes it anew:\n{becomes}", file.display());
    }
}

#[test]
fn twice_is_once() {
    for (name, connection, asked) in cases() {
        let once = injected(&asked, &connection);
        assert_eq!(injected(&once.pod, &connection), once, "{name}");
        let nothing = patch::between(&once.pod, &injected(&once.pod, &connection).pod);
        assert!(nothing.0.is_empty(), "{name}");
    }
}

#[test]
fn the_patch_is_the_difference() {
    for (name, connection, asked) in cases() {
        let once = injected(&asked, &connection).pod;
        let mut patched = asked.clone();
        json_patch::patch(&mut patched, &patch::between(&asked, &once).0).unwrap();
        assert_eq!(patched, once, "{name}");
    }
}

/// What the API server does between two calls of the webhook: it gives every container the account's token.
#[test]
fn the_sidecar_gets_no_token_for_the_api() {
    let (_, connection, asked) = cases().next().unwrap();
    let once = injected(&asked, &connection).pod;
    let mut between = once.clone();
    for container in between["spec"]["initContainers"].as_array_mut().unwrap() {
        array(member(container, "volumeMounts")).push(json!({
            "name": "kube-api-access-abcde", "readOnly": true,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        }));
    }
    assert_ne!(between, once);
    assert_eq!(injected(&between, &connection).pod, once);
    // Nor does Kubernetes ever come to that: each has something in the token's place.
    let init = once["spec"]["initContainers"].as_array().unwrap();
    for ours in init.iter().filter(|container| is_ours(&container["name"])) {
        let mounts = ours["volumeMounts"].as_array().unwrap();
        let there = mounts.iter().find(|mount| mount["mountPath"] == names::API_TOKEN_DIR).unwrap();
        assert_eq!((&there["name"], &there["readOnly"]), (&json!(names::RECORDER_VOLUME), &json!(true)));
    }
}

#[test]
fn another_injector_in_between_makes_no_difference() {
    let (_, connection, asked) = cases().next().unwrap();
    let mut between = injected(&asked, &connection).pod;
    let late = json!({"name": "mesh", "image": "mesh", "securityContext": {"runAsUser": 1337}});
    array(member(&mut between["spec"], "initContainers")).insert(0, late.clone());
    array(member(&mut between["spec"], "containers")).push(late);
    let again = injected(&between, &connection).pod;
    let names: Vec<_> = again["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[..3], [names::REDIRECT, names::PROXY, "mesh"]);
    let mesh = &again["spec"]["containers"].as_array().unwrap().last().unwrap();
    assert_eq!(mesh["securityContext"]["capabilities"]["drop"], json!(["NET_RAW", "SETGID", "SETUID"]));
    assert_eq!(injected(&again, &connection).pod, again);
}

/// Another webhook, after ours: what it adds is its own affair, what it takes away is not.
#[test]
fn aliases_that_were_taken_away_are_missed() {
    let (_, connection, asked) = cases().find(|(name, ..)| *name == "restricted").unwrap();
    let pod = injected(&asked, &connection).pod;
    let said = |pod: &Value| -> Vec<_> {
        verify::injected(pod, &connection, &settings()).unwrap().iter().map(ToString::to_string).collect()
    };
    assert_eq!(said(&pod), [""; 0]);
    let mut more = pod.clone();
    array(&mut more["spec"]["hostAliases"]).push(json!({"ip": "10.0.0.8", "hostnames": ["late"]}));
    assert_eq!(said(&more), [""; 0]);
    let mut less = pod.clone();
    array(&mut less["spec"]["hostAliases"]).retain(|alias| alias["ip"] != "127.61.33.1");
    assert!(said(&less)[0].starts_with("an entry of spec.hostAliases"), "{:?}", said(&less));
    let mut less = pod;
    less["spec"]["securityContext"]["sysctls"] = json!([]);
    assert!(said(&less)[0].starts_with("a sysctl"), "{:?}", said(&less));
}

#[test]
fn a_connection_of_a_file_is_held_to_the_same_rules() {
    let (_, mut connection, asked) = cases().find(|(name, ..)| *name == "restricted").unwrap();
    connection.spec.identity.mode = crate::resource::IdentityMode::WorkloadIdentity;
    let error = manifest::inject(&asked, &connection, &settings()).unwrap_err();
    assert_eq!(error.category(), "identity_mode");
}

#[test]
fn fields_that_this_program_does_not_know_stay() {
    let (_, connection, mut asked) = cases().next().unwrap();
    asked["spec"]["containers"][0]["fieldOfTheFuture"] = json!({"deep": [1, 2]});
    asked["spec"]["fieldOfTheFuture"] = json!(true);
    let pod = injected(&asked, &connection).pod;
    assert_eq!(pod["spec"]["containers"][0]["fieldOfTheFuture"], json!({"deep": [1, 2]}));
    assert_eq!(pod["spec"]["fieldOfTheFuture"], json!(true));
}

#[test]
fn conflicts_are_said_and_nothing_of_the_users_is_overwritten() {
    let (_, connection, asked) = cases().find(|(name, ..)| *name == "own-variables").unwrap();
    let injected = injected(&asked, &connection);
    let said: Vec<_> = injected.conflicts.iter().map(|one| one.variable.as_str()).collect();
    assert_eq!(
        said,
        ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "JAVA_TOOL_OPTIONS", "GOOGLE_CLOUD_PROJECT", "HTTPS_PROXY"]
    );
    let before = asked["spec"]["containers"][0]["env"].as_array().unwrap();
    let after = injected.pod["spec"]["containers"][0]["env"].as_array().unwrap();
    assert_eq!(after[..before.len()], before[..]);
    let noted = injected.pod["metadata"]["annotations"][names::CONFLICTS_ANNOTATION].as_str().unwrap();
    assert_eq!(noted.lines().count(), 5);
}

#[test]
fn a_pod_that_would_get_round_it_is_refused_with_every_reason() {
    let (_, connection, mut asked) = cases().next().unwrap();
    asked["spec"]["hostNetwork"] = json!(true);
    asked["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let error = manifest::inject(&asked, &connection, &settings()).unwrap_err();
    assert_eq!(error.category(), "shared_namespace");
    let said = error.to_string();
    assert!(said.contains("hostNetwork") && said.contains("privileged"), "{said}");
}

#[test]
fn objects_without_selected_pods_are_left_alone() {
    let (_, connection, asked) = cases().next().unwrap();
    let untouched =
        |object: &Value| manifest::inject(object, &connection, &settings()).unwrap() == Outcome::Untouched;
    let mut other = asked.clone();
    other["spec"]["serviceAccountName"] = "somebody-else".into();
    assert!(untouched(&other));
    let asked_again = asked.clone();
    let mut elsewhere = asked;
    elsewhere["metadata"]["namespace"] = "elsewhere".into();
    assert!(untouched(&elsewhere));
    let mut nowhere = connection.clone();
    nowhere.metadata.namespace = None;
    let mut both = asked_again;
    both["metadata"].as_object_mut().unwrap().remove("namespace");
    for (object, namespace) in [(&both, "default"), (&cases().next().unwrap().2, "agents")] {
        let pod = injected(object, &nowhere).pod;
        let named = format!("--connection={namespace}/billing");
        assert_eq!(
            pod["spec"]["initContainers"][1]["args"][0],
            json!(named),
            "files are written for any namespace"
        );
    }
    assert!(untouched(&json!({"kind": "Service", "metadata": {"name": "s"}, "spec": {}})));
}
