//! Things go wrong in HTTP/2, for REST and for gRPC: streams that are reset, GOAWAY, windows that never open, connections that
//! end or fall silent. Each call has one intent and one outcome, and nothing is retried.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use ledger::call::CallResult;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

use crate::stand::client::{Agent, RequestBody, body, nothing, request2, text};
use crate::stand::clock::quickly;
use crate::stand::upstream::AnswerBody;
use crate::stand::{BIGQUERY, Call, PATIENCE, STORAGE, Stand};

/// What an agent asks with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Rest,
    Grpc,
}

const KINDS: [Kind; 2] = [Kind::Rest, Kind::Grpc];

impl Kind {
    fn host(self) -> &'static str {
        match self {
            Self::Rest => BIGQUERY,
            Self::Grpc => STORAGE,
        }
    }

    /// A call whose answer is long.
    fn read(self) -> Request<RequestBody> {
        match self {
            Self::Rest => {
                let path = "/bigquery/v2/projects/p/datasets/d/tables/t/data";
                request2("GET", BIGQUERY, path).body(nothing()).unwrap()
            }
            Self::Grpc => {
                self.grpc("/google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows", text("\0\0\0\0\x01y"))
            }
        }
    }

    /// A call whose request is long.
    fn write(self, data: RequestBody) -> Request<RequestBody> {
        match self {
            Self::Rest => {
                let path = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=x";
                request2("PUT", BIGQUERY, path).body(data).unwrap()
            }
            Self::Grpc => self.grpc("/google.cloud.bigquery.storage.v1.BigQueryWrite/AppendRows", data),
        }
    }

    fn grpc(self, path: &str, data: RequestBody) -> Request<RequestBody> {
        let asked = request2("POST", STORAGE, path);
        asked.header("content-type", "application/grpc").header("te", "trailers").body(data).unwrap()
    }
}

/// An answer whose body is told what to do.
fn answer(body: Channel<Bytes, std::io::Error>) -> Response<AnswerBody> {
    let answer = Response::builder().header("content-type", "application/grpc");
    answer.body(body.map_err(Into::into).boxed_unsync()).unwrap()
}

/// The one call, with nothing left open.
async fn only_call(stand: &Stand) -> Call {
    let call = stand.call().await;
    assert!(stand.metrics().await.contains("bqwitness_open_calls 0\n"));
    call
}

/// BigQuery gave no answer: the agent is told so, in its own way.
async fn no_answer(answer: hyper::Result<Response<hyper::body::Incoming>>, kind: Kind) {
    let answer = answer.expect("a head");
    match kind {
        Kind::Rest => {
            assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(String::from_utf8_lossy(&text).contains("may have been executed"), "{text:?}");
        }
        Kind::Grpc => assert_eq!(answer.headers()["grpc-status"], "14"),
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_in_the_answer_ends_its_call_alone() {
    for kind in KINDS {
        let stand = Stand::new().await;
        let reset = Arc::new(Notify::new());
        let waiting = Arc::clone(&reset);
        stand.upstream.answer(move |_| {
            let waiting = Arc::clone(&waiting);
            async move {
                let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
                tokio::spawn(async move {
                    sender.send_data(Bytes::from_static(b"\0\0\0\0\x05begun")).await.unwrap();
                    waiting.notified().await;
                    sender.abort(std::io::Error::other("RST_STREAM"));
                });
                answer(body)
            }
        });
        let mut agent = Agent::http2(&stand, kind.host()).await;
        let mut begun = agent.send(kind.read()).await.unwrap();
        assert!(begun.frame().await.unwrap().is_ok());
        reset.notify_one();
        let rest = tokio::time::timeout(PATIENCE, begun.collect()).await.expect("it ends");
        assert!(rest.is_err(), "{kind:?}: no clean end");
        let call = only_call(&stand).await;
        assert_eq!((call.result(), call.outcome().forwarded), (CallResult::Failed, true), "{kind:?}");
        assert_eq!(call.outcome().reason.as_deref(), Some("answer_broken"));
        let seen = call.outcome().answer.unwrap();
        assert_eq!((seen.wire_bytes, seen.digest), (10, None), "what passed is counted");

        stand.upstream.answer(|_| async { Response::new(crate::stand::upstream::full("{}")) });
        assert_eq!(agent.send(kind.read()).await.unwrap().status(), StatusCode::OK);
        assert_eq!(stand.upstream.connections(), 1, "{kind:?}: the connection goes on");
    }
}

#[tokio::test]
async fn goaway_lets_open_calls_end_and_new_ones_take_another_connection() {
    for kind in KINDS {
        let stand = Stand::new().await;
        let (last, calls) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let waiting = Arc::clone(&last);
        stand.upstream.answer(move |_| {
            let (waiting, first) = (Arc::clone(&waiting), calls.fetch_add(1, Ordering::SeqCst) == 0);
            async move {
                let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
                tokio::spawn(async move {
                    sender.send_data(Bytes::from_static(b"first")).await.unwrap();
                    if first {
                        waiting.notified().await;
                    }
                    sender.send_data(Bytes::from_static(b"last")).await.unwrap();
                });
                answer(body)
            }
        });
        let mut agent = Agent::http2(&stand, kind.host()).await;
        let mut begun = agent.send(kind.read()).await.unwrap();
        assert!(begun.frame().await.unwrap().is_ok());
        stand.upstream.retire();
        let others = async {
            while stand.upstream.connections() == 1 {
                let (head, body) = agent.send(kind.read()).await.unwrap().into_parts();
                assert_eq!(head.status, StatusCode::OK, "{kind:?}");
                body.collect().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, others).await.expect("GOAWAY is noticed");
        last.notify_one();
        let rest = begun.collect().await.expect("the call that was open ends in order");
        assert_eq!(rest.to_bytes(), "last");
        let arrived = stand.upstream.arrived().len();
        let calls = stand.calls(arrived).await;
        assert_eq!(calls.len(), arrived, "nothing was retried");
        assert!(calls.iter().all(|call| call.result() == CallResult::Answered), "{calls:?}");
    }
}

/// HTTP/2 by hand: SETTINGS, then `said` of each stream whose HEADERS arrive, which are counted.
async fn by_hand(mut stream: TlsStream<TcpStream>, said: fn(u8) -> Vec<u8>, headers: Arc<AtomicUsize>) {
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // SETTINGS
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == HEADERS {
            headers.fetch_add(1, Ordering::SeqCst);
            stream.write_all(&said(head[8])).await.unwrap();
        }
    }
}

/// A stream that BigQuery says it has not touched could be sent again, by whoever asked: the sidecar does not.
#[tokio::test]
async fn what_bigquery_refuses_unseen_is_not_retried() {
    const REFUSED_STREAM: fn(u8) -> Vec<u8> = |stream| vec![0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 7];
    const GOAWAY: fn(u8) -> Vec<u8> = |_| vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (kind, said) in KINDS.into_iter().flat_map(|kind| [(kind, REFUSED_STREAM), (kind, GOAWAY)]) {
        let stand = Stand::new().await;
        let headers = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&headers);
        stand.upstream.speak(move |stream| by_hand(stream, said, Arc::clone(&counted)));
        let mut agent = Agent::http2(&stand, kind.host()).await;
        no_answer(agent.send(kind.read()).await, kind).await;
        let call = only_call(&stand).await;
        assert_eq!((call.result(), call.outcome().forwarded), (CallResult::Failed, true), "{kind:?}");
        assert_eq!(call.outcome().reason.as_deref(), Some("upstream_broken"));
        assert_eq!(headers.load(Ordering::SeqCst), 1, "{kind:?}");
    }
}

/// Nobody opens the window: the agent's data waits. The end of either side ends the call.
#[tokio::test]
async fn an_upload_that_stalls_ends_with_either_side() {
    for (kind, agent_goes) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let stand = Stand::new().await;
        stand.upstream.answer(|request| async {
            let _unread = request;
            std::future::pending().await
        });
        let mut agent = Agent::http2(&stand, kind.host()).await;
        let (mut sender, data) = Channel::<Bytes, std::io::Error>::new(1);
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        tokio::spawn(async move {
            while sender.send_data(Bytes::from(vec![0; 1 << 16])).await.is_ok() {
                counted.fetch_add(1 << 16, Ordering::SeqCst);
            }
        });
        let asked = tokio::spawn(async move {
            let answer = agent.send(kind.write(body(data))).await;
            (answer, agent)
        });
        stalled(&sent).await;
        let arrived = async {
            while stand.upstream.arrived().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.expect("BigQuery has its head");
        if agent_goes {
            asked.abort();
        } else {
            stand.upstream.hang_up();
            no_answer(asked.await.unwrap().0, kind).await;
        }
        let call = only_call(&stand).await;
        let result = if agent_goes { CallResult::Aborted } else { CallResult::Failed };
        assert_eq!((call.result(), call.outcome().forwarded), (result, true), "{kind:?}");
        let bound = call.outcome().sent.unwrap();
        assert!(bound.digest.is_none() && bound.wire_bytes > 0, "{bound:?}");
        assert!(bound.wire_bytes <= sent.load(Ordering::SeqCst) as u64 + (1 << 17), "{bound:?}");
    }
}

/// Waits until nothing more is sent.
async fn stalled(sent: &AtomicUsize) {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        match sent.load(Ordering::SeqCst) {
            0 => {}
            now if now == before => return,
            now => before = now,
        }
    }
}

/// The agent opens no window: BigQuery's answer waits.
#[tokio::test]
async fn an_answer_that_stalls_is_aborted_with_its_agent() {
    for kind in KINDS {
        let stand = Stand::new().await;
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        stand.upstream.answer(move |_| {
            let counted = Arc::clone(&counted);
            async move {
                let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
                tokio::spawn(async move {
                    while sender.send_data(Bytes::from(vec![0; 1 << 16])).await.is_ok() {
                        counted.fetch_add(1 << 16, Ordering::SeqCst);
                    }
                });
                answer(body)
            }
        });
        let mut agent = Agent::http2(&stand, kind.host()).await;
        let unread = agent.send(kind.read()).await.unwrap();
        stalled(&sent).await;
        drop((unread, agent));
        let call = only_call(&stand).await;
        assert_eq!((call.result(), call.outcome().status), (CallResult::Aborted, Some(200)), "{kind:?}");
        let seen = call.outcome().answer.unwrap();
        assert!(seen.digest.is_none() && seen.wire_bytes <= sent.load(Ordering::SeqCst) as u64, "{seen:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_or_in_the_answer_fails_its_calls() {
    for (kind, begins) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let stand = Stand::new().await;
        let arrived = Arc::new(Notify::new());
        let told = Arc::clone(&arrived);
        stand.upstream.answer(move |_| {
            let told = Arc::clone(&told);
            async move {
                told.notify_one();
                if !begins {
                    std::future::pending::<()>().await;
                }
                let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
                tokio::spawn(async move {
                    sender.send_data(Bytes::from_static(b"begun")).await.unwrap();
                    std::future::pending::<()>().await; // and holds the sender
                });
                answer(body)
            }
        });
        let mut agent = Agent::http2(&stand, kind.host()).await;
        let reason = if begins {
            let mut begun = agent.send(kind.read()).await.unwrap();
            assert!(begun.frame().await.unwrap().is_ok());
            stand.upstream.hang_up();
            let rest = tokio::time::timeout(PATIENCE, begun.collect()).await.expect("it ends");
            assert!(rest.is_err(), "{kind:?}");
            "answer_broken"
        } else {
            let hang_up = async {
                arrived.notified().await;
                stand.upstream.hang_up();
            };
            let (answer, ()) = tokio::join!(agent.send(kind.read()), hang_up);
            no_answer(answer, kind).await;
            "upstream_broken"
        };
        let call = only_call(&stand).await;
        assert_eq!((call.result(), call.outcome().forwarded), (CallResult::Failed, true), "{kind:?}");
        assert_eq!(call.outcome().reason.as_deref(), Some(reason));
        assert_eq!(stand.upstream.arrived().len(), 1, "nothing is retried");
    }
}

/// A front end that takes the request, keeps the connection, and never says anything again: PING finds it, a minute at most.
#[tokio::test]
async fn a_connection_that_falls_silent_ends_its_calls_within_a_bound() {
    falls_silent(Kind::Rest).await;
}

// Of its own, since the first one's clock is then ahead.
#[tokio::test]
async fn and_so_for_grpc() {
    falls_silent(Kind::Grpc).await;
}

async fn falls_silent(kind: Kind) {
    let stand = Stand::new().await;
    let arrived = Arc::new(Notify::new());
    let told = Arc::clone(&arrived);
    stand.upstream.speak(move |mut stream| {
        let told = Arc::clone(&told);
        async move {
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // SETTINGS
            let mut heard = [0; 4096];
            while stream.read(&mut heard).await.is_ok_and(|count| count > 0) {
                told.notify_one();
            }
        }
    });
    let Agent::Http2(mut sender) = Agent::http2(&stand, kind.host()).await else {
        panic!("HTTP/2 was asked for")
    };
    let asked = tokio::spawn(sender.send_request(kind.read()));
    arrived.notified().await;
    let begun = tokio::time::Instant::now();
    let answer = quickly(asked).await.unwrap();
    let took = begun.elapsed();
    no_answer(answer, kind).await;
    assert!(took <= Duration::from_secs(60), "{kind:?}: {took:?}");
    let call = only_call(&stand).await;
    assert_eq!((call.result(), call.outcome().forwarded), (CallResult::Failed, true), "{kind:?}");
    assert_eq!(call.outcome().reason.as_deref(), Some("upstream_broken"));
}
