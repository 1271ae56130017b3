//! The published formats, held against a log that sidecar and recorder really wrote: its entries against the JSON Schema, its
//! tree against tools that we did not write.

use std::collections::BTreeSet;

use bqwitness_tests::foreign::check_log_dir;
use bqwitness_tests::log;
use bqwitness_tests::tools::root;
use http::StatusCode;
use serde_json::Value;

use crate::stand::{Stand, post, query};

const ANSWER: &str = r#"{"kind":"bigquery#queryResponse","jobComplete":true,"totalRows":"1","rows":[{"f":[{"v":"1"}]}],
    "schema":{"fields":[{"name":"n","type":"INTEGER"}]},"jobReference":{"projectId":"acme-data","jobId":"j","location":"US"}}"#;
const NOT_FOUND: &str = r#"{"error":{"code":404,"message":"Not found: Table acme-data:a.b",
    "errors":[{"reason":"notFound","message":"Not found: Table acme-data:a.b"}]}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_log_is_what_the_formats_say() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let address = recorder.address.to_string();
    let answers = std::sync::atomic::AtomicUsize::new(0);
    let bigquery = stand
        .bigquery(move |_| match answers.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2 {
            0 => (StatusCode::OK, ANSWER.into()),
            _ => (StatusCode::NOT_FOUND, NOT_FOUND.into()),
        })
        .await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    let labelled =
        r#"{"query":"SELECT n FROM a.b","useLegacySql":false,"dryRun":true,"labels":{"run":"nightly"}}"#;
    for _ in 0..2 {
        query(&stand, &sidecar, "DELETE FROM a.b WHERE TRUE").await;
        post(&stand, &sidecar, labelled.into()).await;
    }
    post(&stand, &sidecar, r#"{"query":1}"#.into()).await; // refused
    recorder.stop().await;
    query(&stand, &sidecar, "SELECT 'nobody there'").await; // refused too, and recorded later
    let recorder = stand.recorder(&stand.data(), &address).await;
    query(&stand, &sidecar, "BEGIN TRANSACTION; DELETE FROM a.b WHERE TRUE; COMMIT TRANSACTION").await;
    assert!(sidecar.stop("test").await);
    recorder.stop().await;

    let leaves = log::leaves(&stand.data()).unwrap();
    let kinds = the_schema_holds(&leaves);
    let script = leaves.iter().map(|leaf| serde_json::from_slice::<Value>(leaf).unwrap());
    let mut script =
        script.filter_map(|entry| entry["statement"]["intent"]["statements"].as_array().cloned());
    assert_eq!(
        script.next().map(|statements| statements.len()),
        Some(3),
        "a script's statements, one by one"
    );
    let expected = ["call.intent", "call.outcome", "log.start", "log.stop", "session.end", "session.start"];
    assert!(expected.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
    let vkey = std::fs::read_to_string(stand.data().join("log.vkey")).unwrap();
    // `None`: there is no Go here, which was said.
    if let Some(said) = check_log_dir(&stand.data().join("log"), &vkey).unwrap() {
        assert!(said.contains("verified"), "{said}");
    }
}

/// Every entry fits the schema, and no entry that lacks something does. Returns the kinds seen.
pub(crate) fn the_schema_holds(leaves: &[Vec<u8>]) -> BTreeSet<String> {
    let schema = std::fs::read(root().join("docs/schema/entry.v1.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
    let mut kinds = BTreeSet::new();
    for leaf in leaves {
        let entry: Value = serde_json::from_slice(leaf).unwrap();
        let wrong: Vec<_> = schema.iter_errors(&entry).map(|error| error.to_string()).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{entry:#}");
        let kind = entry["statement"]["kind"].as_str().unwrap();
        for path in ["/envelope/subject", "/statement/session", "/statement/prev", &own_part(kind)] {
            let mut broken = entry.clone();
            *broken.pointer_mut(path).unwrap() = Value::Bool(false);
            assert!(!schema.is_valid(&broken), "{kind}: {path} may be anything");
        }
        kinds.insert(kind.to_owned());
    }
    kinds
}

fn own_part(kind: &str) -> String {
    match kind.split_once('.').unwrap() {
        ("log", "start" | "stop") => "/statement/log".into(),
        (_, part) => format!("/statement/{part}"),
    }
}
