//! Heads that are none: the agent reads why in BigQuery's form, they are counted by reason, nothing leaves, and the next
//! request finds everything as it was.

use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stand::client::{Agent, nothing, request, request2, tls};
use crate::stand::clock::quickly;
use crate::stand::upstream::empty;
use crate::stand::{BIGQUERY, PATIENCE, Stand};

const QUERIES: &str = "/bigquery/v2/projects/p/queries";
const LIST: &str = "/bigquery/v2/projects";

/// The form of Google's errors: status, reason and message.
fn error(answer: &str) -> (u64, String, String) {
    let answer: Value = serde_json::from_str(answer).unwrap_or_else(|_| panic!("no JSON: {answer}"));
    let error = &answer["error"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert!(!text(&error["status"]).is_empty());
    (error["code"].as_u64().unwrap(), text(&error["errors"][0]["reason"]), text(&error["message"]))
}

async fn malformed(stand: &Stand, reason: &str) -> usize {
    let metrics = stand.metrics().await;
    let name = format!("bqwitness_malformed_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

/// An agent on a new connection is served, and everything that was before is gone.
async fn all_is_well(stand: &Stand) {
    for http2 in [false, true] {
        let (mut agent, asked) = match http2 {
            false => (Agent::http1(stand, BIGQUERY).await, request("GET", BIGQUERY, LIST)),
            true => (Agent::http2(stand, BIGQUERY).await, request2("GET", BIGQUERY, LIST)),
        };
        assert_eq!(agent.ask(asked.body(nothing()).unwrap()).await.0.status, StatusCode::OK);
    }
    let gone = |metrics: String| {
        let lines = ["bqwitness_open_connections 0\n", "bqwitness_open_calls 0\n"];
        lines.iter().all(|line| metrics.contains(line))
    };
    let all_gone = async {
        while !gone(stand.metrics().await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_gone).await.expect("nothing is left of them");
}

#[tokio::test]
async fn in_http1_they_are_answered_with_a_reason() {
    let stand = Stand::new().await;
    let host = format!("Host: {BIGQUERY}\r\n");
    let headers = |count: usize| "x: y\r\n".repeat(count);
    let list = |headers: String| format!("GET {LIST} HTTP/1.1\r\n{host}{headers}\r\n");
    let post = |headers: &str| format!("POST {QUERIES} HTTP/1.1\r\n{host}{headers}\r\n\r\n0\r\n\r\n");
    let (malformed_head, too_large) = (Some("malformed_head"), Some("head_too_large"));
    for (head, status, reason) in [
        (list(headers(100_000)), 431, too_large),
        (list(headers(100)), 431, too_large), // with Host one too many
        (list(format!("x: {}\r\n", "y".repeat(65_536))), 431, too_large),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "p".repeat(65_535)), 431, too_large),
        ("nonsense\r\n\r\n".into(), 400, malformed_head),
        (list("no colon\r\n".into()), 400, malformed_head),
        (list("x: \0\r\n".into()), 400, malformed_head),
        (post("Content-Length: 3\r\nContent-Length: 4"), 400, malformed_head),
        (post("Content-Length: three"), 400, malformed_head),
        (post("Transfer-Encoding: gzip"), 400, malformed_head),
        // These can be read, and are refused and recorded by the next who looks.
        (post("Content-Length: 3\r\nTransfer-Encoding: chunked"), 400, None),
        (list(host.clone()), 400, None),
        (format!("GET {LIST} HTTP/1.1\r\n\r\n"), 400, None),
    ] {
        let about = head[..60.min(head.len())].to_owned();
        let before = match reason {
            Some(reason) => malformed(&stand, reason).await,
            None => 0,
        };
        let mut stream = tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[]).await.unwrap();
        let _sent = stream.write_all(head.as_bytes()).await.is_ok();
        let answer = whole_answer(&mut stream).await;
        let (line, rest) = answer.split_once("\r\n").unwrap();
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {about}");
        let (code, google, message) = error(rest.split_once("\r\n\r\n").unwrap().1);
        assert_eq!(code, status, "{about}");
        assert!(!google.is_empty() && message.starts_with("bqwitness: "), "{message}");
        if let Some(reason) = reason {
            assert!(rest.contains("Connection: close\r\n"), "{rest}");
            assert_eq!(malformed(&stand, reason).await, before + 1, "{about}");
        }
    }
    assert!(stand.upstream.arrived().is_empty());
    all_is_well(&stand).await;
}

/// Until the connection ends, or as many bytes as it announces.
async fn whole_answer(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if length.is_some_and(|length| length.parse() == Ok(body.len())) {
                    return;
                }
            }
            if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer ends");
    String::from_utf8(answer).unwrap()
}

/// The same on the ways in that are not BigQuery's: CONNECT, and the metadata server.
#[tokio::test]
async fn before_a_tunnel_too() {
    let stand = Stand::new().await;
    for (head, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("CONNECT {BIGQUERY}:443 HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)), 431),
    ] {
        let mut stream = TcpStream::connect(stand.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = whole_answer(&mut stream).await;
        assert_eq!(error(answer.split_once("\r\n\r\n").unwrap().1).0, status);
    }
    assert_eq!(
        (malformed(&stand, "malformed_head").await, malformed(&stand, "head_too_large").await),
        (1, 1)
    );
    all_is_well(&stand).await;
}

/// An answer of BigQuery's that looks like hyper's own is BigQuery's.
#[tokio::test]
async fn a_bare_answer_of_bigquery_passes_as_it_is() {
    let stand = Stand::new().await;
    stand.upstream.answer(|_| async { Response::builder().status(400).body(empty()).unwrap() });
    let mut stream = tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[]).await.unwrap();
    let head = format!("GET {LIST} HTTP/1.1\r\nHost: {BIGQUERY}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = whole_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(stand.call().await.outcome().status, Some(400));
    assert_eq!(malformed(&stand, "malformed_head").await, 0);
}

/// An agent that begins a head and never ends it.
#[tokio::test]
async fn a_head_that_takes_too_long_is_answered() {
    let stand = Stand::new().await;
    let mut stream = tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[]).await.unwrap();
    let mut idle = tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[]).await.unwrap();
    stream.write_all(format!("GET {LIST} HTTP/1.1\r\nHo").as_bytes()).await.unwrap();
    let (mut answer, mut nothing) = (String::new(), Vec::new());
    let ends = async { tokio::join!(stream.read_to_string(&mut answer), idle.read_to_end(&mut nothing)) };
    let _with_or_without_a_farewell = quickly(ends).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(error(answer.split_once("\r\n\r\n").unwrap().1).0, 408);
    assert!(nothing.is_empty(), "an idle connection just ends");
    assert_eq!(malformed(&stand, "head_timeout").await, 1);
}

#[tokio::test]
async fn in_http2_they_are_answered_with_a_reason_on_their_stream() {
    let stand = Stand::new().await;
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    let many = (0..101).map(|number| (format!("x-{number}"), "y".to_owned())).collect::<Vec<_>>();
    let large = vec![("x".to_owned(), "y".repeat(65_536))];
    for (count, headers) in [many, large].into_iter().enumerate() {
        let with = |request: http::request::Builder| {
            headers.iter().fold(request, |request, (name, value)| request.header(name, value))
        };
        let (head, answer) = agent.ask(with(request2("GET", BIGQUERY, LIST)).body(nothing()).unwrap()).await;
        assert_eq!(head.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(error(&answer).0, 431);
        let grpc = with(request2("POST", BIGQUERY, "/google.cloud.bigquery.v2.JobService/GetJob"))
            .header("content-type", "application/grpc");
        let (head, _) = agent.ask(grpc.body(nothing()).unwrap()).await;
        assert_eq!((head.status, &head.headers["grpc-status"]), (StatusCode::OK, &"3".parse().unwrap()));
        assert_eq!(malformed(&stand, "head_too_large").await, 2 * (count + 1));
        // The connection goes on.
        let (head, _) = agent.ask(request2("GET", BIGQUERY, LIST).body(nothing()).unwrap()).await;
        assert_eq!(head.status, StatusCode::OK);
    }
    assert_eq!(stand.upstream.arrived().len(), 2);
    drop(agent);
    all_is_well(&stand).await;
}

/// Beyond what h2 takes, a stream ends, and at last the connection; both are counted.
#[tokio::test]
async fn far_larger_ones_end_their_stream_or_connection_and_are_counted() {
    let stand = Stand::new().await;
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    let large = |kib: usize| {
        let headers = (0..kib / 16).map(|number| (format!("x-{number}"), "y".repeat(16 * 1024)));
        let asked = request2("GET", BIGQUERY, LIST);
        headers.fold(asked, |asked, (name, value)| asked.header(name, value)).body(nothing()).unwrap()
    };
    let answer = agent.send(large(320)).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 431));
    counted(&stand, "head_too_large").await;
    let (head, _) = agent.ask(request2("GET", BIGQUERY, LIST).body(nothing()).unwrap()).await;
    assert_eq!(head.status, StatusCode::OK, "the connection goes on");

    assert!(agent.send(large(1600)).await.is_err());
    counted(&stand, "http2_connection").await;
    drop(agent);
    assert_eq!(stand.upstream.arrived().len(), 1);
    all_is_well(&stand).await;
}

async fn counted(stand: &Stand, reason: &str) {
    let counted = async {
        while malformed(stand, reason).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap_or_else(|_| panic!("{reason} is not counted"));
}

/// What can't be a request in HTTP/2 ends its stream, what is no HTTP/2 its connection.
#[tokio::test]
async fn what_is_no_http2_is_counted() {
    let stand = Stand::new().await;
    let mut stream = tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[b"h2"]).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // SETTINGS
    // HEADERS of stream 1, whole: `:method: GET` alone (HPACK's static index 2), without scheme and path.
    stream.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82]).await.unwrap();
    counted(&stand, "http2_stream").await;
    stream.write_all(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap(); // WINDOW_UPDATE by nothing
    counted(&stand, "http2_connection").await;
    let mut rest = Vec::new();
    let _ended =
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends").is_ok();

    let mut stream = tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[b"h2"]).await.unwrap();
    stream.write_all(format!("GET {LIST} HTTP/1.1\r\nHost: {BIGQUERY}\r\n\r\n").as_bytes()).await.unwrap();
    let _ended =
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends").is_ok();
    assert_eq!(malformed(&stand, "http2_connection").await, 2);
    assert!(stand.upstream.arrived().is_empty());
    all_is_well(&stand).await;
}
