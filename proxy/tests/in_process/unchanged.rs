//! What is rare in HTTP passes as it is: HEAD, trailers of HTTP/1.1, statements that are none.

use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use ledger::call::CallResult;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::stand::client::{Agent, nothing, request, text, tls};
use crate::stand::upstream::full;
use crate::stand::{BIGQUERY, PATIENCE, Stand};

#[tokio::test]
async fn an_answer_to_head_has_a_length_and_no_body() {
    let stand = Stand::new().await;
    let host = "www.googleapis.com";
    stand.upstream.answer(|_| async {
        let answer = Response::builder().header("content-length", "1234").header("etag", "\"1\"");
        answer.body(full("")).unwrap()
    });
    let mut agent = Agent::http1(&stand, host).await;
    for _ in 0..2 {
        // Twice, since a body that nobody sends would be waited for.
        let asked = request("HEAD", host, "/discovery/v1/apis/drive/v3/rest").body(nothing()).unwrap();
        let (head, body) = agent.ask(asked).await;
        assert_eq!((head.headers["content-length"].as_bytes(), body.as_str()), (&b"1234"[..], ""));
    }
    let calls = stand.calls(2).await;
    assert!(
        calls.iter().all(|call| call.result() == CallResult::Answered && call.outcome().answer.is_none())
    );
}

#[tokio::test]
async fn trailers_pass_in_http1_too() {
    let stand = Stand::with_http1_upstream().await;
    stand.upstream.answer(|request| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let (mut sender, body) = Channel::<bytes::Bytes, std::io::Error>::new(2);
        tokio::spawn(async move {
            sender.send_data("{\"rows\":[]}".into()).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-digest", "sha-256=1".parse().unwrap());
            sender.send_trailers(trailers).await.unwrap();
        });
        let answer = Response::builder().header("trailer", "x-digest");
        answer.body(body.map_err(Into::into).boxed_unsync()).unwrap()
    });
    let mut stream = tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[]).await.unwrap();
    let path = "/bigquery/v2/projects/p/datasets/d/tables/t/data";
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {BIGQUERY}\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it ends");
    let _closed = read.is_ok();
    assert!(answer.ends_with("\r\n0\r\nx-digest: sha-256=1\r\n\r\n"), "{answer}");
    assert_eq!(stand.call().await.result(), CallResult::Answered);
}

/// Whatever is asked is recorded as it is asked: it is BigQuery who says that it is no SQL.
#[tokio::test]
async fn what_is_no_sql_is_recorded_all_the_same() {
    let stand = Stand::new().await;
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let statements =
        ["no SQL at all", "'''never ended", "((((((", "\u{1f980} \u{0} \u{202e}", ";;;", "SELECT"];
    for (number, sql) in statements.into_iter().enumerate() {
        let asked = json!({ "query": sql, "useLegacySql": false }).to_string();
        let path = "/bigquery/v2/projects/p/queries";
        let (head, _) = agent.ask(request("POST", BIGQUERY, path).body(text(asked)).unwrap()).await;
        assert_eq!(head.status, 200, "{sql}");
        let call = stand.calls(number + 1).await.pop().unwrap();
        assert_eq!(stand.blob(&call, "sql").as_deref(), Some(sql));
        assert_eq!(call.intent.refused, None);
    }
    assert_eq!(stand.upstream.arrived().len(), statements.len());
}
