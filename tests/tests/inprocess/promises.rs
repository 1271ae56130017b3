//! Promise 1, between sidecar and recorder: nothing reaches BigQuery that is not in the log, whatever happens to the recorder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bqwitness_tests::log::{self, Logged};
use bqwitness_tests::programs::{AUDIENCE, program};
use http::StatusCode;
use ledger::call::CallResult;
use ledger::statement::kind;

use crate::stand::{Stand, post, query};

/// The longest that anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const ANSWER: &str = r#"{"kind":"bigquery#queryResponse","jobComplete":true,"totalRows":"0"}"#;

const NEEDLE: &[u8] = b"SELECT 'the needle'";

/// When a request arrives at BigQuery, its SQL lies on the recorder's disk already: in the write-ahead log, or as a blob.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_intent_is_durable_before_the_request_leaves() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let (data, found) = (stand.data(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&found);
    let bigquery = stand
        .bigquery(move |_| {
            // It moves from the write-ahead log to a blob of its own: who looks in between, looks again.
            let durable = (0..2).any(|_| files_under(&data).iter().any(|file| holds(file, NEEDLE)));
            seen.lock().unwrap().push(durable);
            (StatusCode::OK, ANSWER.into())
        })
        .await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    let (status, body) = query(&stand, &sidecar, "SELECT 'the needle'").await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, ANSWER));
    assert_eq!(*found.lock().unwrap(), [true]);
    assert!(sidecar.stop("test").await);
    recorder.stop().await;
}

/// The recorder goes away and comes back while agents work. Every call that BigQuery saw has one intent that says so, every
/// intent one outcome, and what was refused in between never reached BigQuery.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_restarts_loses_and_doubles_nothing() {
    let stand = Stand::new();
    let mut recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let address = recorder.address.to_string();
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    let mut answered = 0;
    for round in 0..3 {
        let calls: Vec<_> = (0..8).map(|n| format!("SELECT {round} AS round, {n} AS n")).collect();
        let (restarted, answers) = tokio::join!(
            async {
                recorder.stop().await;
                stand.recorder(&stand.data(), &address).await
            },
            one_after_another(calls.iter().map(|sql| query(&stand, &sidecar, sql))),
        );
        recorder = restarted;
        for (status, body) in answers {
            assert_eq!(status, StatusCode::OK, "the recorder was back in time: {body}");
            answered += 1;
        }
    }
    assert_eq!(bigquery.arrived(), answered);
    assert!(sidecar.stop("test").await);
    recorder.stop().await;
    let entries = log::read(&stand.data()).unwrap();
    assert_eq!(forwarded_calls(&entries), answered);
    assert_eq!(entries.iter().filter(|entry| entry.statement.kind == kind::LOG_START).count(), 4);
    verify(&stand.data());
}

/// The recorder is away for good: the call is refused in BigQuery's words, and BigQuery never sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_recorder_nothing_leaves() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let address = recorder.address.to_string();
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let flags = ["--credential=passthrough".into(), "--deliver-timeout=5".into()];
    let sidecar = stand.sidecar_with(&recorder, bigquery.address, &flags).await;
    recorder.stop().await;
    let (status, body) = query(&stand, &sidecar, "SELECT 1").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let error: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(error["error"]["errors"][0]["reason"], "backendError");
    assert!(error["error"]["message"].as_str().unwrap().contains("could not be recorded"), "{error}");
    assert_eq!(bigquery.arrived(), 0);

    // When the recorder is back it gets the intent all the same, with an outcome that says that nothing was sent.
    let recorder = stand.recorder(&stand.data(), &address).await;
    let (status, _) = query(&stand, &sidecar, "SELECT 2").await;
    assert_eq!(status, StatusCode::OK);
    assert!(sidecar.stop("test").await);
    recorder.stop().await;
    let entries = log::read(&stand.data()).unwrap();
    let outcomes: Vec<_> = entries.iter().filter_map(|entry| entry.statement.body.outcome.as_ref()).collect();
    let ends: Vec<_> =
        outcomes.iter().map(|outcome| (outcome.result, outcome.forwarded, outcome.status)).collect();
    assert_eq!(ends, [(CallResult::Refused, false, Some(503)), (CallResult::Answered, true, Some(200))]);
    verify(&stand.data());
}

/// Promise 2: a call that can't be attributed is refused, at once and for good, until the pod has a token that the recorder
/// accepts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_identity_nothing_leaves() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let flags = ["--credential=passthrough".to_owned(), format!("--deliver-timeout={}", PATIENCE.as_secs())];
    let sidecar = stand.sidecar_with(&recorder, bigquery.address, &flags).await;
    assert_eq!(query(&stand, &sidecar, "SELECT 1").await.0, StatusCode::OK);

    let mut expired = stand.cluster.claims(&stand.pod, AUDIENCE);
    expired["exp"] = (jiff::Timestamp::now().as_second() - 3600).into();
    std::fs::write(stand.path("token"), stand.cluster.sign(&expired).unwrap()).unwrap();
    let asked = std::time::Instant::now();
    let (status, body) = query(&stand, &sidecar, "SELECT 2").await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    assert!(body.contains("accessDenied") && body.contains("can't be attributed"), "{body}");
    assert!(asked.elapsed() < PATIENCE / 2, "well within the delivery timeout");
    assert_eq!(bigquery.arrived(), 1);
    let unready = async {
        while sidecar.readiness.waiting() != ["identity_refused"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, unready).await.expect("it says that it is not ready, and why");

    stand.cluster.write_token(&stand.pod, AUDIENCE, &stand.path("token")).unwrap();
    let accepted = async { while query(&stand, &sidecar, "SELECT 3").await.0 != StatusCode::OK {} };
    tokio::time::timeout(PATIENCE, accepted).await.expect("a good token is noticed");
    assert!(sidecar.stop("test").await);
    recorder.stop().await;
    let entries = log::read(&stand.data()).unwrap();
    let refused = entries.iter().filter_map(|entry| entry.statement.body.outcome.as_ref());
    let refused: Vec<_> = refused.filter(|outcome| outcome.status == Some(403)).collect();
    assert!(!refused.is_empty() && refused.iter().all(|outcome| !outcome.forwarded), "{refused:?}");
    verify(&stand.data());
}

/// A body that two parsers may read differently is refused, and kept: the attempt is evidence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_understood_is_refused_and_kept() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    let body = r#"{"query":"SELECT 1","query":"DROP TABLE billing.invoices"}"#;
    assert_eq!(post(&stand, &sidecar, body.into()).await.0, StatusCode::BAD_REQUEST);
    assert!(sidecar.stop("test").await);
    recorder.stop().await;
    assert_eq!(bigquery.arrived(), 0);
    let entries = log::read(&stand.data()).unwrap();
    let intent = entries.iter().find(|entry| entry.statement.kind == kind::CALL_INTENT).unwrap();
    let refused = intent.statement.body.intent.as_ref().unwrap().refused.as_deref();
    assert_eq!(refused, Some("ambiguous_body"));
    let hex = intent.statement.blobs["request"].digest.hex();
    let blob = std::fs::read(stand.data().join("blobs").join(&hex[..2]).join(hex)).unwrap();
    assert_eq!(&blob[32..], body.as_bytes());
}

/// How many intents have exactly one outcome that says that the call was forwarded; every intent must have one outcome.
fn forwarded_calls(entries: &[Logged]) -> usize {
    let mut outcomes = HashMap::new();
    for entry in entries {
        if let Some(outcome) = &entry.statement.body.outcome {
            let before = outcomes.insert((entry.statement.session, outcome.call), outcome.forwarded);
            assert_eq!(before, None, "two outcomes for one call");
        }
    }
    let intents: Vec<_> = entries.iter().filter(|entry| entry.statement.kind == kind::CALL_INTENT).collect();
    assert_eq!(intents.len(), outcomes.len(), "every intent has its outcome");
    intents.iter().filter(|intent| outcomes[&(intent.statement.session, intent.statement.seq)]).count()
}

/// As an auditor verifies it.
pub(crate) fn verify(data: &Path) {
    let key = data.join("log.vkey");
    let output = std::process::Command::new(program("bqwitness").unwrap())
        .arg("verify-log")
        .arg(data)
        .arg("--key")
        .arg(&key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn one_after_another<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut done = Vec::new();
    for future in futures {
        done.push(future.await);
    }
    done
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // A folder that is gone by now had nothing that lasts.
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

fn holds(file: &Path, needle: &[u8]) -> bool {
    // A file that is gone by now was a temporary one.
    std::fs::read(file).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
}
