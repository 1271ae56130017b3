//! Bounds of time and of number: what happens when they are reached, and that what is allowed to be slow may be.

use std::collections::BTreeSet;
use std::time::Duration;

use bqwitness_proxy::limits;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use ledger::call::CallResult;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::stand::client::{Agent, nothing, request, request2, tls, tunnel};
use crate::stand::clock::quickly;
use crate::stand::{BIGQUERY, PATIENCE, SHORT, Stand, TestCa};

const QUERIES: &str = "/bigquery/v2/projects/p/queries";
const LIST: &str = "/bigquery/v2/projects";
const ROWS: &str = "/bigquery/v2/projects/p/datasets/d/tables/t/data";

/// A body that is begun and never ends: the agent is told, in the time that the limit says.
#[tokio::test]
async fn a_body_that_takes_too_long_is_refused() {
    let stand = Stand::new().await;
    let mut stream = tls(&stand, &format!("{BIGQUERY}:443"), BIGQUERY, &[]).await.unwrap();
    let head =
        format!("POST {QUERIES} HTTP/1.1\r\nHost: {BIGQUERY}\r\nContent-Length: 100\r\n\r\n{{\"query\":");
    stream.write_all(head.as_bytes()).await.unwrap();
    let Agent::Http2(mut sender) = Agent::http2(&stand, BIGQUERY).await else {
        panic!("HTTP/2 was asked for")
    };
    let (mut begun, body) = Channel::<Bytes, std::io::Error>::new(1);
    begun.send_data(Bytes::from_static(b"{\"query\":")).await.unwrap();
    let asked = request2("POST", BIGQUERY, QUERIES).body(crate::stand::client::body(body)).unwrap();

    let waiting = tokio::time::Instant::now();
    let mut line = [0; 12];
    let answers = async { tokio::join!(sender.send_request(asked), stream.read_exact(&mut line)) };
    let (answer, read) = quickly(answers).await;
    assert!(waiting.elapsed() >= limits::DECIDING_BODY_TIMEOUT, "{:?}", waiting.elapsed());
    assert!(read.is_ok() && &line == b"HTTP/1.1 408", "{line:?}");
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("requestTimeout"), "{text:?}");
    drop(begun);
    assert!(stand.metrics().await.contains("bqwitness_refused_total{category=\"body_timeout\"} 2\n"));
    assert!(stand.upstream.arrived().is_empty());
}

#[tokio::test]
async fn a_hello_that_is_never_finished_is_closed_and_counted() {
    let stand = Stand::new().await;
    let mut stream = tunnel(stand.address(), &format!("{BIGQUERY}:443")).await.unwrap();
    stream.write_all(&[22, 3, 1, 2]).await.unwrap();
    assert_eq!(quickly(stream.read(&mut [0; 9])).await.unwrap_or(0), 0, "nothing comes back");
    assert!(stand.metrics().await.contains("bqwitness_connections_total{way=\"hello_timeout\"} 1\n"));
}

/// Long polls and streams: an answer that takes longer than every limit that there is, with minutes between two pieces, for
/// 27 minutes in all. `tests/bounded` has answers that take a day.
#[tokio::test]
async fn an_answer_may_take_long() {
    const PIECES: u32 = 4;
    const PAUSE: Duration = Duration::from_secs(400);
    let stand = Stand::new().await;
    stand.upstream.answer(|_| async {
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
        tokio::spawn(async move {
            for _ in 0..PIECES {
                sender.send_data(Bytes::from_static(b"row")).await.unwrap();
                tokio::time::sleep(PAUSE).await;
            }
        });
        Response::new(body.map_err(Into::into).boxed_unsync())
    });
    let mut one = Agent::http1(&stand, BIGQUERY).await;
    let mut two = Agent::http2(&stand, BIGQUERY).await;
    let first = one.send(request("GET", BIGQUERY, ROWS).body(nothing()).unwrap()).await.unwrap();
    let second = two.send(request2("GET", BIGQUERY, ROWS).body(nothing()).unwrap()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let (first, second) = quickly(async { tokio::join!(first.collect(), second.collect()) }).await;
    assert!(begun.elapsed() > limits::HEAD_TIMEOUT * 2, "{:?}", begun.elapsed());
    for whole in [first, second] {
        assert_eq!(whole.expect("a clean end").to_bytes().len(), 3 * PIECES as usize);
    }
    let calls = stand.calls(2).await;
    assert!(calls.iter().all(|call| call.result() == CallResult::Answered), "{calls:?}");
}

/// The recorder is away, and agents go on asking: each call has its place in the queue with its outcome, and when there is no
/// room left, calls are refused at once and counted. When it is back, all of it is recorded.
#[tokio::test]
async fn a_full_queue_refuses_and_counts() {
    let calls = deliver::QUEUE_ENTRIES / 2; // an intent and an outcome each
    let stand = Stand::with(&[SHORT]).await;
    stand.recorder.away(true);
    let mut waiting = JoinSet::new();
    for _ in 0..calls / 256 {
        let Agent::Http2(sender) = Agent::http2(&stand, BIGQUERY).await else {
            panic!("HTTP/2 was asked for")
        };
        for _ in 0..256 {
            let mut sender = sender.clone();
            let asked = request2("GET", BIGQUERY, LIST).body(nothing()).unwrap();
            waiting.spawn(async move {
                sender.ready().await.unwrap();
                sender.send_request(asked).await.unwrap().status()
            });
        }
    }
    while let Some(status) = waiting.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    }
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let asked = std::time::Instant::now();
    let (head, text) = agent.ask(request("GET", BIGQUERY, LIST).body(nothing()).unwrap()).await;
    assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("too many calls wait for the recorder"), "{text}");
    assert!(asked.elapsed() < Duration::from_secs(3), "without waiting: {:?}", asked.elapsed());
    let metrics = stand.metrics().await;
    assert!(metrics.contains("bqwitness_refused_total{category=\"queue_full\"} 1\n"), "{metrics}");
    assert!(metrics.contains("bqwitness_delivery_unrecorded_refusals_total 1\n"), "{metrics}");

    stand.recorder.away(false);
    let all_delivered = async {
        while !stand.metrics().await.contains("bqwitness_delivery_waiting_entries 0\n") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_delivered).await.expect("the recorder gets all of it");
    let statements = stand.recorder.statements();
    assert_eq!(statements.iter().filter(|said| said.body.intent.is_some()).count(), calls);
    let outcomes: Vec<_> = statements.iter().filter_map(|said| said.body.outcome.as_ref()).collect();
    let ends: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.call).collect();
    assert_eq!((outcomes.len(), ends.len()), (calls, calls), "each call has one outcome");
    assert!(outcomes.iter().all(|outcome| outcome.result == CallResult::Refused && !outcome.forwarded));
    let (head, _) = agent.ask(request("GET", BIGQUERY, LIST).body(nothing()).unwrap()).await;
    assert_eq!((head.status, stand.upstream.arrived().len()), (StatusCode::OK, 1), "it goes on");
    let Stand { proxy, recorder, .. } = stand;
    assert!(proxy.stop("test").await);
    let end = recorder.statements().pop().unwrap().body.end.unwrap();
    assert_eq!((end.calls, end.refused_unrecorded), (calls as u64 + 1, 1));
}

/// A recorder with another authority's certificate is none: nothing is said to it, and nothing leaves.
#[tokio::test]
async fn the_recorders_authority_is_pinned() {
    let elsewhere = tempfile::tempdir().unwrap();
    TestCa::new(elsewhere.path());
    let other = format!("--recorder-ca={}", elsewhere.path().join("ca.pem").display());
    let stand = Stand::with(&[&other, SHORT]).await;
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let (head, text) = agent.ask(request("GET", BIGQUERY, LIST).body(nothing()).unwrap()).await;
    assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert!(
        text.contains("the recorder can't be reached") && text.contains("invalid peer certificate"),
        "{text}"
    );
    let metrics = stand.metrics().await;
    assert!(metrics.contains("bqwitness_refused_total{category=\"recorder_unavailable\"} 1\n"), "{metrics}");
    assert!(stand.recorder.statements().is_empty() && stand.upstream.arrived().is_empty());
    assert!(stand.proxy.readiness.waiting().contains(&"recorder_unavailable"));
}
