//! Calls that are refused: the agent reads why, the record says so, and nothing arrives at BigQuery.

use std::io::Write as _;

use http::StatusCode;
use ledger::call::CallResult;
use serde_json::Value;

use crate::stand::client::{Agent, nothing, request, request2, text};
use crate::stand::{BIGQUERY, CLOUD_STORAGE, OAUTH, SHORT, Stand};

const QUERIES: &str = "/bigquery/v2/projects/p/queries";
const READ_ROWS: &str = "google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows";

fn error(answer: &str) -> (String, String) {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let error = &answer["error"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&error["errors"][0]["reason"]), text(&error["message"]))
}

/// The one call is recorded as refused, and nothing arrived.
async fn refused(stand: &Stand, category: &str, status: u16) {
    let call = stand.call().await;
    assert_eq!(call.intent.refused.as_deref(), Some(category));
    let outcome = call.outcome();
    assert_eq!(
        (outcome.result, outcome.forwarded, outcome.status),
        (CallResult::Refused, false, Some(status))
    );
    assert_eq!(outcome.reason.as_deref(), Some(category));
    assert!(stand.upstream.arrived().is_empty());
    assert!(
        stand.metrics().await.contains(&format!("bqwitness_refused_total{{category=\"{category}\"}} 1\n"))
    );
}

#[tokio::test]
async fn what_is_not_known_is_refused_and_recorded() {
    let stand = Stand::new().await;
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let asked = request("POST", BIGQUERY, "/bigquery/v3/projects/p/mystery?access_token=secret")
        .body(text("{}"))
        .unwrap();
    let (head, answer) = agent.ask(asked).await;
    assert_eq!(head.status, StatusCode::FORBIDDEN);
    let (reason, message) = error(&answer);
    assert_eq!(reason, "accessDenied");
    assert!(message.starts_with("bqwitness: "), "{message}");
    refused(&stand, "unknown_method", 403).await;
    assert_eq!(stand.call().await.intent.method, "unknown");
    assert!(!format!("{:?}", stand.recorder.statements()).contains("secret"));
}

#[tokio::test]
async fn another_host_on_this_connection_is_misdirected() {
    let stand = Stand::new().await;
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let asked = request("GET", "storage.googleapis.com", "/bigquery/v2/projects").body(nothing()).unwrap();
    let (head, _) = agent.ask(asked).await;
    assert_eq!(head.status, StatusCode::MISDIRECTED_REQUEST);
    refused(&stand, "misdirected", 421).await;
}

#[tokio::test]
async fn another_authority_on_http2_is_misdirected() {
    let stand = Stand::new().await;
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    let asked = request2("GET", BIGQUERY, "/bigquery/v2/projects")
        .header("host", "storage.googleapis.com")
        .body(nothing());
    let (head, _) = agent.ask(asked.unwrap()).await;
    assert_eq!(head.status, StatusCode::MISDIRECTED_REQUEST);
    refused(&stand, "misdirected", 421).await;
}

#[tokio::test]
async fn grpc_clients_are_refused_by_a_status() {
    let stand = Stand::new().await;
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    let asked = request2("POST", BIGQUERY, "/google.cloud.bigquery.v9.Mystery/Do")
        .header("content-type", "application/grpc")
        .body(text("\0\0\0\0\0"));
    let (head, answer) = agent.ask(asked.unwrap()).await;
    assert_eq!((head.status, answer.as_str()), (StatusCode::OK, ""));
    assert_eq!(head.headers["grpc-status"], "7");
    refused(&stand, "unknown_method", 403).await;
}

#[tokio::test]
async fn without_the_recorder_nothing_leaves() {
    let stand = Stand::with(&[SHORT]).await;
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    stand.recorder.away(true);
    let asked = request("POST", BIGQUERY, QUERIES)
        .body(text(r#"{"query":"DELETE FROM staging.imports WHERE TRUE"}"#))
        .unwrap();
    let (head, answer) = agent.ask(asked).await;
    assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE);
    let (reason, message) = error(&answer);
    assert_eq!(reason, "backendError");
    assert!(message.contains("was not sent to BigQuery, because it could not be recorded"), "{message}");
    assert!(stand.upstream.arrived().is_empty());

    stand.recorder.away(false);
    let call = stand.call().await;
    assert_eq!(
        (call.result(), call.outcome().forwarded, call.outcome().status),
        (CallResult::Refused, false, Some(503))
    );
    let (head, _) =
        agent.ask(request("GET", BIGQUERY, "/bigquery/v2/projects").body(nothing()).unwrap()).await;
    assert_eq!(head.status, StatusCode::OK, "it goes on when the recorder is back");
    assert_eq!(stand.calls(2).await.len(), 2);
}

#[tokio::test]
async fn bombs_lies_and_giants_are_refused() {
    let stand = Stand::new().await;
    let mut zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zeros.write_all(&vec![b' '; 13 << 20]).unwrap();
    let bomb = zeros.finish().unwrap();
    for (encoding, body, status, category) in [
        ("gzip", bomb, 413, "body_too_large"),
        ("gzip", b"{}".to_vec(), 400, "encoding_broken"),
        ("br", b"{}".to_vec(), 415, "encoding_unknown"),
        ("identity", vec![b' '; (12 << 20) + 1], 413, "body_too_large"),
        ("identity", b"{\"query\":".to_vec(), 400, "malformed_body"),
        ("identity", br#"{"query":"SELECT 1","query":"DELETE"}"#.to_vec(), 400, "ambiguous_body"),
    ] {
        let mut agent = Agent::http2(&stand, BIGQUERY).await;
        let asked = request2("POST", BIGQUERY, QUERIES)
            .header("content-encoding", encoding)
            .body(text(body))
            .unwrap();
        let (head, answer) = agent.ask(asked).await;
        assert_eq!(head.status.as_u16(), status, "{answer}");
        let call = stand.recorded().pop().unwrap();
        assert_eq!(call.intent.refused.as_deref(), Some(category));
    }
    assert!(stand.upstream.arrived().is_empty());
}

#[tokio::test]
async fn a_refusal_is_read_by_those_who_are_still_sending() {
    let stand = Stand::with(&[SHORT]).await;
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let large = vec![b'x'; 8 << 20];
    let asked = request("POST", BIGQUERY, "/bigquery/v3/mystery").body(text(large.clone())).unwrap();
    let (head, answer) = agent.ask(asked).await;
    assert_eq!((head.status, error(&answer).0.as_str()), (StatusCode::FORBIDDEN, "accessDenied"));
    let asked = request("POST", BIGQUERY, QUERIES)
        .header("content-length", 13 << 20)
        .body(text(vec![b' '; 13 << 20]))
        .unwrap();
    let (head, _) = agent.ask(asked).await;
    assert_eq!(head.status, StatusCode::PAYLOAD_TOO_LARGE);
    let (head, _) =
        agent.ask(request("GET", BIGQUERY, "/bigquery/v2/projects").body(nothing()).unwrap()).await;
    assert_eq!(head.status, StatusCode::OK, "the connection goes on");

    stand.recorder.away(true);
    let path = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=x";
    let (head, answer) = agent.ask(request("PUT", BIGQUERY, path).body(text(large)).unwrap()).await;
    assert_eq!((head.status, error(&answer).0.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "backendError"));
}

/// Google's front ends may go by path: no host that is looked into is a way round.
#[tokio::test]
async fn bigquerys_paths_on_other_hosts_are_refused_and_recorded() {
    let stand = Stand::new().await;
    let mut expected = Vec::new();
    for (host, target) in [
        (CLOUD_STORAGE, QUERIES),
        (CLOUD_STORAGE, "//bigquery/v2/projects/p/queries"),
        (CLOUD_STORAGE, "/storage/v1/../../bigquery/v2/projects/p/queries"),
        (CLOUD_STORAGE, "/%2562igquery/v2/projects/p/queries"),
        (CLOUD_STORAGE, "https://storage.googleapis.com/bigquery/v2/projects/p/queries"),
        (CLOUD_STORAGE, "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable"),
        (CLOUD_STORAGE, "/batch/bigquery/v2"),
        (OAUTH, QUERIES),
        (OAUTH, "/$rpc/google.cloud.bigquery.v2.JobService/Query"),
    ] {
        // As an agent may write it: names in upper case, with a dot at their end.
        let name = format!("{}.", host.to_ascii_uppercase());
        let mut agent = Agent::http1_through(&stand, &format!("{name}:443"), host).await;
        let asked = request("POST", &name, target).body(text(r#"{"query":"DELETE FROM a.b WHERE TRUE"}"#));
        let (head, answer) = agent.ask(asked.unwrap()).await;
        assert_eq!(head.status, StatusCode::FORBIDDEN, "{host} {target}: {answer}");
        assert_eq!(error(&answer).0, "accessDenied");
        expected.push((host.to_owned(), "unknown".to_owned(), Some("unknown_method".to_owned()), false));
    }
    let mut agent = Agent::http2(&stand, CLOUD_STORAGE).await;
    for service in ["google.cloud.bigquery.v2.JobService/InsertJob", READ_ROWS] {
        let asked = request2("POST", CLOUD_STORAGE, &format!("/{service}"))
            .header("content-type", "application/grpc")
            .body(text("\0\0\0\0\0"));
        let (head, _) = agent.ask(asked.unwrap()).await;
        assert_eq!(head.headers["grpc-status"], "7", "{service}");
        expected.push((CLOUD_STORAGE.into(), "unknown".into(), Some("unknown_method".into()), false));
    }
    assert!(stand.upstream.arrived().is_empty());

    let object = "/upload/storage/v1/b/bigquery/o";
    let (head, _) = agent.ask(request2("POST", CLOUD_STORAGE, object).body(text("rows")).unwrap()).await;
    assert_eq!(head.status, StatusCode::OK, "another API's own calls go on");
    expected.push((CLOUD_STORAGE.into(), "other".into(), None, true));
    let calls = stand.calls(expected.len()).await.into_iter();
    let recorded = calls.map(|call| {
        let forwarded = call.outcome().forwarded;
        (call.intent.http.host, call.intent.method, call.intent.refused, forwarded)
    });
    assert_eq!(recorded.collect::<Vec<_>>(), expected);
    assert_eq!(stand.upstream.arrived(), [format!("POST {object}")]);
}
