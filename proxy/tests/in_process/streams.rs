//! Bodies stream in both directions at the pace of the slower side.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;

use crate::stand::client::{Agent, body, nothing, request2};
use crate::stand::many::Many;
use crate::stand::upstream::full;
use crate::stand::{BIGQUERY, Stand};

/// More than all buffers on the way take together.
const LARGE: usize = 256 << 20;

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
