//! Large bodies in little memory.

use bytes::Bytes;
use http::Response;
use http_body::Body;
use http_body_util::BodyExt as _;
use ledger::call::CallResult;

use crate::stand::client::{Agent, body, nothing, request, request2};
use crate::stand::many::Many;
use crate::stand::upstream::full;
use crate::stand::{BIGQUERY, PATIENCE, Stand};
use crate::{TURN, resident};

const LARGE: usize = 256 << 20;
const MEMORY: usize = 64 << 20;

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

#[tokio::test]
async fn large_bodies_in_little_memory() {
    let _turn = TURN.lock().await;
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
