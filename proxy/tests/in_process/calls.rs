//! Calls that go well: what BigQuery and the agent see is what they would see without the proxy, and all of it is recorded.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use ledger::call::{BodyDigest, CallResult};
use ledger::digest::Digest;
use serde_json::json;

use crate::stand::client::{Agent, nothing, request, request2, text};
use crate::stand::upstream::{empty, full};
use crate::stand::{BIGQUERY, CONNECTION, PATIENCE, STORAGE, Stand};

const QUERIES: &str = "/bigquery/v2/projects/p/queries?prettyPrint=false";
const SQL: &str =
    r#"{"query":"SELECT account_id FROM billing.invoices","useLegacySql":false,"labels":{"agent":"a1"}}"#;
const ROWS: &str = r#"{"jobComplete":true,"jobReference":{"projectId":"p","jobId":"j1","location":"US"},"totalRows":"1",
    "schema":{"fields":[{"name":"account_id"}]},"rows":[{"f":[{"v":"7"}]}]}"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Somebody who reads the record can try guesses of a short answer against its digest.
#[tokio::test]
async fn without_digests_an_answer_is_counted_and_read_all_the_same() {
    let stand = Stand::with(&["--results=none"]).await;
    stand.upstream.answer(|_| async {
        Response::builder().header("Content-Type", "application/json").body(full(ROWS)).unwrap()
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let asked = request("POST", BIGQUERY, QUERIES)
        .header("Content-Type", "application/json")
        .body(text(SQL))
        .unwrap();
    let (head, answer) = agent.ask(asked).await;
    assert_eq!((head.status, answer.as_str()), (StatusCode::OK, ROWS));
    let call = stand.call().await;
    let outcome = call.outcome();
    let counted = BodyDigest { wire_bytes: ROWS.len() as u64, digest: None };
    assert_eq!(outcome.answer, Some(counted));
    assert!(outcome.reported.is_some(), "what BigQuery reports is read as ever");
    assert_eq!(stand.blob(&call, "request").as_deref(), Some(SQL), "what was asked is in the record");
}

#[tokio::test]
async fn a_query_is_recorded_whole_and_passes_unchanged() {
    let stand = Stand::new().await;
    let seen = Arc::new(Mutex::new(None));
    let seen_there = Arc::clone(&seen);
    stand.upstream.answer(move |request| {
        let seen = Arc::clone(&seen_there);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            *seen.lock().unwrap() = Some((head, body));
            Response::builder()
                .header("X-Served-By", "test")
                .header("Content-Type", "application/json")
                .body(full(ROWS))
                .unwrap()
        }
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let asked = request("POST", BIGQUERY, QUERIES)
        .header("User-Agent", "gcloud-node-bigquery/8.3.1")
        .header("Authorization", "Bearer secret-token")
        .header("Content-Type", "application/json")
        .body(text(SQL))
        .unwrap();
    let (head, answer) = agent.ask(asked).await;

    assert_eq!((head.status, answer.as_str()), (StatusCode::OK, ROWS));
    let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "x-served-by"], "no header is added or lost");

    let (head, body) = seen.lock().unwrap().take().unwrap();
    assert_eq!(head.uri.to_string(), QUERIES);
    assert_eq!(body, SQL);
    let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["authorization", "content-length", "content-type", "host", "user-agent"]);
    assert_eq!(head.headers["authorization"], "Bearer secret-token");

    let call = stand.call().await;
    assert_eq!(call.intent.method, "jobs.query");
    assert_eq!(call.intent.project.as_deref(), Some("p"));
    assert_eq!(call.intent.refused, None);
    assert_eq!(stand.blob(&call, "request").as_deref(), Some(SQL));
    assert_eq!(stand.blob(&call, "sql").as_deref(), Some("SELECT account_id FROM billing.invoices"));
    assert_eq!(call.statement.claimed.user_agent.as_deref(), Some("gcloud-node-bigquery/8.3.1"));
    assert_eq!(call.statement.claimed.labels["agent"], "a1");
    assert_eq!(call.statement.observed.interception.as_deref(), Some("connect"));
    assert_eq!(call.statement.observed.credential.as_deref(), Some("passthrough"));
    let outcome = call.outcome();
    assert_eq!((outcome.result, outcome.forwarded, outcome.status), (CallResult::Answered, true, Some(200)));
    assert_eq!(outcome.sent, None, "what decides is in the intent");
    assert_eq!(outcome.answer.unwrap().digest, Some(Digest::of(ROWS.as_bytes())));
    let reported = outcome.reported.as_ref().unwrap();
    assert_eq!((reported.rows, reported.columns.len()), (Some(1), 1));
    assert_eq!(reported.job.as_ref().unwrap().id, "j1");
    let everything = format!("{:?}", stand.recorder.statements());
    assert!(!everything.contains("secret-token"), "no credential is recorded");
}

#[tokio::test]
async fn the_intent_is_recorded_before_anything_arrives() {
    let stand = Arc::new(Stand::new().await);
    let watched = Arc::downgrade(&stand);
    stand.upstream.answer(move |_| {
        let recorded = watched.upgrade().map_or(0, |stand| stand.recorded().len());
        async move { Response::new(full(recorded.to_string())) }
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    for number in 1..=20 {
        let asked = request("GET", BIGQUERY, "/bigquery/v2/projects/p/datasets").body(nothing()).unwrap();
        let (_, answer) = agent.ask(asked).await;
        assert_eq!(answer, number.to_string());
    }
    assert_eq!(stand.calls(20).await.len(), 20);
    assert_eq!(stand.upstream.connections(), 1, "the connection to BigQuery is kept");
}

#[tokio::test]
async fn header_names_keep_their_case_on_http1() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stand = Stand::new().await;
    stand.upstream.answer(|request| {
        // hyper keeps the case of what it read in a private extension: answering with it shows it.
        let (head, _) = request.into_parts();
        async move {
            let mut answer = Response::new(full(""));
            answer.headers_mut().insert("x-mixed-case", head.headers["x-mixed-case"].clone());
            *answer.extensions_mut() = head.extensions;
            answer
        }
    });
    let mut stream =
        crate::stand::client::tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[]).await.unwrap();
    let asked = format!(
        "GET /bigquery/v2/projects HTTP/1.1\r\nHost: {BIGQUERY}\r\nX-MiXed-Case: 1\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _closed = stream.read_to_string(&mut answer).await.is_ok();
    assert!(answer.contains("\r\nX-MiXed-Case: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn http2_stays_http2() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| {
        let said = format!("{:?} {}", request.version(), request.uri());
        async move { Response::new(full(said)) }
    });
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    let asked = request2("GET", BIGQUERY, "/bigquery/v2/projects").body(nothing()).unwrap();
    let (head, answer) = agent.ask(asked).await;
    assert_eq!(head.version, Version::HTTP_2);
    assert_eq!(answer, format!("HTTP/2.0 https://{BIGQUERY}/bigquery/v2/projects"));
    assert_eq!(stand.call().await.result(), CallResult::Answered);
}

#[tokio::test]
async fn http2_becomes_http1_where_bigquery_speaks_nothing_newer() {
    let stand = Stand::with_http1_upstream().await;
    stand.upstream.answer(|request| {
        let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
        let said = format!("{:?} {} {}", request.version(), host.unwrap_or_default(), request.uri());
        async move { Response::builder().header("connection", "keep-alive").body(full(said)).unwrap() }
    });
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    for _ in 0..3 {
        let asked = request2("GET", BIGQUERY, "/bigquery/v2/projects?a=b").body(nothing()).unwrap();
        let (head, answer) = agent.ask(asked).await;
        assert_eq!(head.version, Version::HTTP_2);
        assert_eq!(answer, format!("HTTP/1.1 {BIGQUERY} /bigquery/v2/projects?a=b"));
    }
    assert_eq!(stand.upstream.connections(), 1);
}

#[tokio::test]
async fn gzip_passes_as_it_is_and_is_recorded_as_what_it_says() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async {
        let encoded = request.headers().get("content-encoding").cloned();
        let asked = request.into_body().collect().await.unwrap().to_bytes();
        assert!(asked == gzip(SQL) && encoded.unwrap() == "gzip", "the request leaves as it came");
        Response::builder().header("content-encoding", "gzip").body(full(gzip(ROWS))).unwrap()
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let asked =
        request("POST", BIGQUERY, QUERIES).header("content-encoding", "gzip").body(text(gzip(SQL))).unwrap();
    let answer = agent.send(asked).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answer, gzip(ROWS));
    let call = stand.call().await;
    assert_eq!(stand.blob(&call, "request").as_deref(), Some(SQL));
    let answer = call.outcome().answer.unwrap();
    assert_eq!(
        (answer.digest, answer.wire_bytes),
        (Some(Digest::of(ROWS.as_bytes())), gzip(ROWS).len() as u64)
    );
    assert_eq!(call.outcome().reported.as_ref().unwrap().rows, Some(1));
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        trailers.insert("grpc-message", "no such table".parse().unwrap());
        let body =
            Frames([Frame::data(Bytes::from_static(b"\0\0\0\0\x01x")), Frame::trailers(trailers)].into());
        Response::builder()
            .header("content-type", "application/grpc")
            .body(body.map_err(Into::into).boxed_unsync())
            .unwrap()
    });
    let mut agent = Agent::http2(&stand, STORAGE).await;
    let asked = request2(
        "POST",
        &format!("{STORAGE}:443"),
        "/google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows",
    )
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .header("x-goog-request-params", "read_stream=projects/p/locations/us/sessions/s/streams/1")
    .body(text("\0\0\0\0\x01y"))
    .unwrap();
    let answer = agent.send(asked).await.unwrap();
    let collected = answer.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "5");
    let call = stand.call().await;
    assert_eq!(call.result(), CallResult::Answered);
    assert_eq!(call.outcome().reason.as_deref(), Some("NOT_FOUND"));
}

/// Frames one by one.
struct Frames(std::collections::VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::io::Result<Frame<Bytes>>>> {
        std::task::Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[tokio::test]
async fn answers_without_a_body() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async move {
        let mut answer = Response::new(empty());
        if request.method() == "DELETE" {
            *answer.status_mut() = StatusCode::NO_CONTENT;
        } else {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer.headers_mut().insert("etag", "\"1\"".parse().unwrap());
        }
        answer
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    for (verb, status) in [("DELETE", 204), ("GET", 304), ("DELETE", 204)] {
        let path = "/bigquery/v2/projects/p/datasets/d/tables/t";
        let (head, answer) = agent.ask(request(verb, BIGQUERY, path).body(nothing()).unwrap()).await;
        assert_eq!((head.status.as_u16(), answer.as_str()), (status, ""));
    }
    let calls = stand.calls(3).await;
    assert!(
        calls.iter().all(|call| call.result() == CallResult::Answered && call.outcome().answer.is_none())
    );
}

#[tokio::test]
async fn an_error_of_bigquery_is_recorded_with_its_message_in_a_blob() {
    let stand = Stand::new().await;
    let error =
        json!({"error": {"code": 404, "message": "Not found: Table p:d.t", "errors": [{"reason": "notFound",
        "message": "Not found: Table p:d.t"}], "status": "NOT_FOUND"}})
        .to_string();
    stand.upstream.answer(move |_| {
        let error = error.clone();
        async move { Response::builder().status(404).body(full(error)).unwrap() }
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let (head, _) = agent.ask(request("POST", BIGQUERY, QUERIES).body(text(SQL)).unwrap()).await;
    assert_eq!(head.status, 404);
    let call = stand.call().await;
    assert_eq!((call.outcome().status, call.outcome().reason.as_deref()), (Some(404), Some("notFound")));
    let named = stand.recorder.statements();
    let outcome = named.iter().find(|statement| statement.body.outcome.is_some()).unwrap();
    assert_eq!(stand.recorder.blob(outcome.blobs["error"].digest), b"Not found: Table p:d.t");
}

#[tokio::test]
async fn expect_100_continue_gets_its_100() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stand = Stand::new().await;
    let mut stream =
        crate::stand::client::tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[]).await.unwrap();
    let length = SQL.len();
    let head = format!(
        "POST {QUERIES} HTTP/1.1\r\nHost: {BIGQUERY}\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 25];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(SQL.as_bytes()).await.unwrap();
    let mut status = [0; 15];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await.unwrap().unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
    assert_eq!(stand.blob(&stand.call().await, "request").as_deref(), Some(SQL));
}

#[tokio::test]
async fn an_upload_records_its_job_and_streams_its_data() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(format!("{}", Digest::of(&body))))
    });
    let job =
        r#"{"configuration":{"load":{"destinationTable":{"projectId":"p","datasetId":"d","tableId":"t"}}}}"#;
    let data = "a,b\n".repeat(1_000_000);
    let multipart = format!(
        "--x\r\ncontent-type: application/json\r\n\r\n{job}\r\n--x\r\ncontent-type: */*\r\n\r\n{data}\r\n--x--"
    );
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let mut calls = 0;
    for (encoding, wire) in [("identity", multipart.clone().into_bytes()), ("gzip", gzip(&multipart))] {
        let length = wire.len() as u64;
        let asked = request("POST", BIGQUERY, "/upload/bigquery/v2/projects/p/jobs?uploadType=multipart")
            .header("content-type", "multipart/related; boundary=x")
            .header("content-encoding", encoding)
            .body(text(wire.clone()))
            .unwrap();
        let (_, answer) = agent.ask(asked).await;
        assert_eq!(answer, Digest::of(&wire).to_string(), "it arrives as it was sent");
        calls += 1;
        let call = stand.calls(calls).await.pop().unwrap();
        assert_eq!(stand.blob(&call, "request").as_deref(), Some(job));
        assert_eq!(call.intent.tables.len(), 1);
        let sent = call.outcome().sent.unwrap();
        assert_eq!((sent.wire_bytes, sent.digest), (length, Some(Digest::of(multipart.as_bytes()))));
    }
}

#[tokio::test]
async fn a_statement_of_two_megabytes_is_recorded_whole() {
    let stand = Stand::new().await;
    let sql = format!("SELECT * FROM billing.invoices WHERE id IN ({}0)", "1234567, ".repeat(230_000));
    assert!(sql.len() > 2_000_000);
    let asked = json!({"query": sql, "useLegacySql": false}).to_string();
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let (head, _) = agent.ask(request("POST", BIGQUERY, QUERIES).body(text(asked)).unwrap()).await;
    assert_eq!(head.status, 200);
    let call = stand.call().await;
    assert_eq!(stand.blob(&call, "sql"), Some(sql));
    assert_eq!(call.intent.tables.len(), 1);
}

#[tokio::test]
async fn a_connection_is_made_without_its_password_in_the_record() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    });
    let body = r#"{"cloudSql":{"credential":{"username":"u","password":"s3cret"}}}"#;
    let mut agent = Agent::http1(&stand, CONNECTION).await;
    let path = "/v1/projects/p/locations/us/connections?connectionId=c";
    let (head, answer) = agent.ask(request("POST", CONNECTION, path).body(text(body)).unwrap()).await;
    assert_eq!((head.status, answer.as_str()), (StatusCode::OK, body), "it leaves as it came");
    let (head, _) = agent.ask(request("POST", CONNECTION, path).body(text(&body[1..])).unwrap()).await;
    assert_eq!(head.status, StatusCode::BAD_REQUEST);
    let calls = stand.calls(2).await;
    assert_eq!(calls[0].intent.method, "bigqueryconnection.projects.locations.connections.create");
    assert!(calls[0].intent.redacted);
    assert_eq!(
        stand.blob(&calls[0], "request").as_deref(),
        Some(r#"{"cloudSql":{"credential":{"username":"u","password":"REDACTED"}}}"#)
    );
    assert!(calls[1].statement.blobs.is_empty(), "what can't be read may hold a password");
}
