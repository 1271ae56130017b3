//! `bqwitness inject` as a person runs it.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const CONNECTION: &str = r#"
apiVersion: bqwitness.dev/v1alpha1
kind: BigQueryConnection
metadata: {name: billing, namespace: agents}
spec: {pods: {serviceAccountName: billing}, identity: {mode: Passthrough}}
"#;

const JOB: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: nightly, namespace: agents}
spec:
  template:
    spec:
      serviceAccountName: billing
      restartPolicy: Never
      containers:
      - name: report
        image: report:1
        env:
        - {name: SWITCH, value: "on"}
        - {name: ANSWER, value: "y"}
        - {name: NUMBER, value: "0123"}
        - {name: NOTHING, value: "null"}
        - {name: TIME, value: "12:30"}
        - {name: SQL, value: "SELECT 1;\nSELECT 2 -- a: b # c\n"}
"#;

fn inject(manifest: &str, more: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bqwitness"))
        .args(["inject", "-f", "-"])
        .args(more)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_manifest_comes_back_with_the_sidecar_and_otherwise_as_it_was() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n";
    let whole = format!("---\n{CONNECTION}---\n{JOB}---\n---\n{service}");
    let output = inject(&whole, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let kinds: Vec<_> = documents.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["BigQueryConnection", "Job", "Service"]);
    let pod = &documents[1]["spec"]["template"]["spec"];
    assert_eq!(pod["initContainers"][1]["name"], "bqwitness-proxy");
    let env = pod["containers"][0]["env"].as_array().unwrap();
    let before: Value = serde_saphyr::from_str(JOB).unwrap();
    let before = before["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    assert_eq!(env[..before.len()], before[..]);
    // kubectl reads YAML 1.1, where these would be a boolean, a number and a time without their quotes.
    for quoted in ["on", "y", "0123", "null", "12:30"] {
        let forms = [format!("value: '{quoted}'"), format!("value: \"{quoted}\"")];
        assert!(forms.iter().any(|form| text.contains(form)), "{quoted} has lost its quotes:\n{text}");
    }
    // The same again changes nothing.
    assert_eq!(inject(&text, &[]).stdout, output.stdout);
    let json = inject(&whole, &["--output", "json"]);
    let list: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(list["items"].as_array().unwrap(), &documents);
}

#[test]
fn a_pod_that_can_not_be_recorded_prints_no_manifest() {
    let output = inject(
        &format!("{CONNECTION}---{}", JOB.replace("restartPolicy", "hostNetwork: true\n      restartPolicy")),
        &[],
    );
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(said(&output).contains("Job nightly can't be recorded: spec.hostNetwork"), "{}", said(&output));
}

#[test]
fn what_is_missing_is_said() {
    let none = inject(JOB, &[]);
    assert_eq!(none.status.code(), Some(2));
    assert!(said(&none).contains("0 BigQueryConnections"), "{}", said(&none));
    let other = inject(
        &format!("{CONNECTION}---{}", JOB.replace("serviceAccountName: billing", "serviceAccountName: x")),
        &[],
    );
    assert!(other.status.success() && said(&other).contains("selects no pod"), "{}", said(&other));
    let no_yaml = inject("{", &[]);
    assert_eq!(no_yaml.status.code(), Some(2));
}
