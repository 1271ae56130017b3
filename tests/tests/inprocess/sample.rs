//! The sample of evidence in `examples/evidence`: how it comes about, and that it verifies. `BLESS=1` writes it anew.

use std::path::{Path, PathBuf};

use bqwitness_tests::identity::Pod;
use bqwitness_tests::programs::{AUDIENCE, program};
use bqwitness_tests::speaker::{Speaker, connection};
use http::StatusCode;
use jiff::Timestamp;
use ledger::operator::{Accepted, CoverageState, PodCoverage, Requester};
use ledger::statement::{Body, kind};
use serde_json::{Value, json};

use crate::evidence::{ANSWER, Desk};
use crate::stand::{Stand, query};

/// Who asked for the connection.
const USER: &str = "platform-team";

/// What the agent asks: reads, and one that deletes.
const STATEMENTS: [&str; 4] = [
    r#"SELECT account_id, status FROM billing.invoices WHERE status = "overdue""#,
    "SELECT COUNT(*) AS n FROM billing.invoices",
    "SELECT email FROM crm.customers LIMIT 10",
    "DELETE FROM staging.imports WHERE batch_id = 42",
];

fn folder() -> PathBuf {
    bqwitness_tests::tools::root().join("examples/evidence")
}

/// A connection is accepted, its pod is covered and calls, and an auditor takes out everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_case_is_proved_from_who_asked_for_it_to_what_came_back() {
    let stand = Stand::new();
    let recorder =
        stand.recorder_with(&stand.data(), "127.0.0.1:0", &["--operator=system/operator".into()]).await;
    let spec = json!({
        "identity": {"mode": "Passthrough"}, "pods": {"serviceAccountName": "billing"}, "project": "acme-data",
        "recording": {"results": "Digest", "statements": "Text"},
    });
    let about = connection("agents", "warehouse", &spec);
    let token = stand.cluster.sign(&stand.cluster.claims(&Pod::of("system", "operator"), AUDIENCE)).unwrap();
    let url = format!("https://{}", recorder.address);
    let mut operator = Speaker::new(&url, &stand.recorder_ca(), token, None).unwrap();
    operator.starts().await.unwrap();
    operator.connection = Some(about.clone());
    let by = Requester { user: USER.into(), ..Requester::default() };
    let accepted = Accepted { spec, by: Some(by), superseded: false };
    operator
        .says(kind::CONNECTION_ACCEPTED, Body { accepted: Some(accepted), ..Body::default() })
        .await
        .unwrap();
    let now = Timestamp::now();
    let coverage = PodCoverage {
        namespace: stand.pod.namespace.clone(),
        pod: stand.pod.name.clone(),
        pod_uid: stand.pod.uid.to_string(),
        service_account: stand.pod.service_account.clone(),
        created: now,
        since: now,
        state: CoverageState::Covered,
        reason: None,
    };
    operator.says(kind::COVERAGE_POD, Body { coverage: Some(coverage), ..Body::default() }).await.unwrap();

    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let generation = [
        "--credential=passthrough".to_owned(),
        format!("--connection-uid={}", about.uid),
        format!("--connection-generation={}", about.generation),
        format!("--connection-digest={}", about.spec_digest.unwrap()),
    ];
    let sidecar = stand.sidecar_with(&recorder, bigquery.address, &generation).await;
    for sql in STATEMENTS {
        assert_eq!(query(&stand, &sidecar, sql).await.0, StatusCode::OK);
    }
    assert!(sidecar.stop("test").await);

    let desk = Desk::new(&stand, &recorder);
    // log.start; the operator's start and two; the sidecar's start, heartbeat, calls and end.
    let size = 1 + 3 + 2 + 2 * STATEMENTS.len() + 1;
    assert_eq!(desk.run(&["search", "--wait", &size.to_string()]).await.code, Some(0));
    assert_eq!(desk.run(&["export", "-o", "sample.bqw"]).await.code, Some(0));
    recorder.stop().await;
    let key = stand.data().join("log.vkey");
    proves_the_case(&desk.file("sample.bqw"), &key);
    if std::env::var_os("BLESS").is_some() {
        std::fs::copy(desk.file("sample.bqw"), folder().join("sample.bqw")).unwrap();
        std::fs::copy(key, folder().join("sample.vkey")).unwrap();
    }
}

fn verified(file: &Path, key: &Path) -> (Option<i32>, Value) {
    let mut command = std::process::Command::new(program("bqwitness").unwrap());
    command.args(["--output", "json", "verify"]).arg(file).arg("--key").arg(key);
    let output = command.output().unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn proves_the_case(file: &Path, key: &Path) {
    let (code, told) = verified(file, key);
    assert_eq!((code, &told["verified"]), (Some(0), &true.into()), "{told}");
    assert_eq!(told["manifest"]["contents"]["calls"], STATEMENTS.len(), "{told}");
    let generations = told["authority"]["generations"].as_array().unwrap();
    assert_eq!(generations.len(), 1, "{told}");
    assert_eq!(generations[0]["accepted"]["by"], USER, "{told}");
}

/// What `examples/evidence` shows to everybody.
#[test]
fn the_sample_verifies() {
    let folder = folder();
    let key = folder.join("sample.vkey");
    proves_the_case(&folder.join("sample.bqw"), &key);
    let copy = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = std::fs::read(folder.join("sample.bqw")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(copy.path(), bytes).unwrap();
    assert_eq!(verified(copy.path(), &key).0, Some(1));
}
