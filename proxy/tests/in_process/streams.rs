//! Bodies stream in both directions, in bounded memory, at the pace of the slower side.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use ledger::call::CallResult;

use crate::stand::client::{Agent, body, nothing, request, request2};
use crate::stand::upstream::full;
use crate::stand::{BIGQUERY, PATIENCE, Stand};

const PIECE: usize = 64 * 1024;

/// Many bytes that nobody holds.
struct Many {
    left: usize,
}

impl Body for Many {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        static ZEROS: [u8; PIECE] = [0; PIECE];
        let piece = self.left.min(PIECE);
        self.left -= piece;
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(Bytes::from_static(&ZEROS[..piece])))))
    }
}

async fn count<B: Body<Data = Bytes> + Unpin>(mut body: B) -> usize
where
    B::Error: std::fmt::Debug,
{
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    total
}

/// Resident memory of this process, in bytes: agent, proxy and upstream together.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

const LARGE: usize = 256 << 20;
const MEMORY: usize = 64 << 20;

#[tokio::test]
async fn large_bodies_in_little_memory() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async {
        if request.method() == "GET" {
            return Response::new(Many { left: LARGE }.map_err(Into::into).boxed_unsync());
        }
        let received = count(request.into_body()).await;
        Response::new(full(received.to_string()))
    });
    let download = "/bigquery/v2/projects/p/datasets/d/tables/t/data";
    let upload = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=x";
    for http2 in [false, true] {
        let before = resident();
        let mut agent =
            if http2 { Agent::http2(&stand, BIGQUERY).await } else { Agent::http1(&stand, BIGQUERY).await };
        let asked =
            |verb, path| if http2 { request2(verb, BIGQUERY, path) } else { request(verb, BIGQUERY, path) };

        let answer = agent.send(asked("GET", download).body(nothing()).unwrap()).await.unwrap();
        assert_eq!(count(answer.into_body()).await, LARGE);
        let sent = agent.send(asked("PUT", upload).body(body(Many { left: LARGE })).unwrap());
        let answer = tokio::time::timeout(PATIENCE, sent).await.expect("256 MiB take seconds").unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), LARGE.to_string());
        let grown = resident().saturating_sub(before);
        assert!(grown < MEMORY, "grew by {} MiB", grown >> 20);
    }
    let calls = stand.calls(4).await;
    assert!(calls.iter().all(|call| call.result() == CallResult::Answered));
    assert_eq!(calls[0].outcome().answer.unwrap().wire_bytes, LARGE as u64);
    assert_eq!(calls[0].outcome().answer, calls[2].outcome().answer);
}

#[tokio::test]
async fn a_reader_that_stalls_does_not_hold_up_others() {
    let stand = Stand::new().await;
    stand.upstream.answer(|request| async move {
        let large = request.uri().path().ends_with("/data");
        Response::new(if large {
            Many { left: LARGE }.map_err(Into::into).boxed_unsync()
        } else {
            full("{}")
        })
    });
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut agent = Agent::http2(&stand, BIGQUERY).await;
        let asked = request2("GET", BIGQUERY, "/bigquery/v2/projects/p/datasets/d/tables/t/data")
            .body(nothing())
            .unwrap();
        stalled.push((agent.send(asked).await.unwrap(), agent));
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    let (head, _) =
        agent.ask(request2("GET", BIGQUERY, "/bigquery/v2/projects").body(nothing()).unwrap()).await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_whole() {
    let stand = Stand::new().await;
    stand.upstream.answer(|_| async { Response::builder().status(401).body(full("who are you")).unwrap() });
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    let (sender, slow) = http_body_util::channel::Channel::<Bytes, std::io::Error>::new(1);
    let path = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=x";
    let (head, answer) = agent.ask(request2("PUT", BIGQUERY, path).body(body(slow)).unwrap()).await;
    assert_eq!((head.status.as_u16(), answer.as_str()), (401, "who are you"));
    drop(sender);
    assert_eq!(stand.call().await.outcome().status, Some(401));
}
