//! Things go wrong: each call still has one intent and one outcome, and says what is known.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use ledger::call::CallResult;
use tokio::sync::{Barrier, Notify};

use crate::stand::client::{Agent, nothing, request, request2};
use crate::stand::upstream::full;
use crate::stand::{BIGQUERY, PATIENCE, Stand};

const ROWS: &str = "/bigquery/v2/projects/p/datasets/d/tables/t/data";

/// Waits until so many requests have arrived at BigQuery.
async fn arrived(stand: &Stand, count: usize) {
    let arrived = async {
        while stand.upstream.arrived().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.expect("it arrives");
}

/// Answers with a beginning and never an end.
fn endless(stand: &Stand) {
    stand.upstream.answer(|_| async {
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(4);
        tokio::spawn(async move {
            while sender.send_data(Bytes::from_static(b"{\"rows\":[")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Response::new(body.map_err(Into::into).boxed_unsync())
    });
}

#[tokio::test]
async fn an_agent_that_goes_away_in_the_answer_aborts_the_call() {
    for http2 in [false, true] {
        let stand = Stand::new().await;
        endless(&stand);
        let (mut agent, asked) = if http2 {
            (Agent::http2(&stand, BIGQUERY).await, request2("GET", BIGQUERY, ROWS))
        } else {
            (Agent::http1(&stand, BIGQUERY).await, request("GET", BIGQUERY, ROWS))
        };
        let mut answer = agent.send(asked.body(nothing()).unwrap()).await.unwrap();
        assert!(answer.frame().await.unwrap().is_ok());
        drop((answer, agent));
        let call = stand.call().await;
        let outcome = call.outcome();
        assert_eq!(
            (outcome.result, outcome.forwarded, outcome.status),
            (CallResult::Aborted, true, Some(200))
        );
        let seen = outcome.answer.unwrap();
        assert!(seen.wire_bytes > 0 && seen.digest.is_none(), "what passed is counted: {seen:?}");
    }
}

#[tokio::test]
async fn an_agent_that_goes_away_before_the_answer_aborts_the_call() {
    let stand = Stand::new().await;
    stand.upstream.answer(|_| std::future::pending());
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let asked = request("GET", BIGQUERY, ROWS).body(nothing()).unwrap();
    tokio::select! {
        answer = agent.send(asked) => panic!("{answer:?}"),
        () = arrived(&stand, 1) => {}
    }
    drop(agent);
    let call = stand.call().await;
    assert_eq!(
        (call.result(), call.outcome().forwarded, call.outcome().status),
        (CallResult::Aborted, true, None)
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_agent_too() {
    for http2 in [false, true] {
        let stand = Stand::new().await;
        endless(&stand);
        let (mut agent, asked) = if http2 {
            (Agent::http2(&stand, BIGQUERY).await, request2("GET", BIGQUERY, ROWS))
        } else {
            (Agent::http1(&stand, BIGQUERY).await, request("GET", BIGQUERY, ROWS))
        };
        let mut answer = agent.send(asked.body(nothing()).unwrap()).await.unwrap();
        assert!(answer.frame().await.unwrap().is_ok());
        stand.upstream.hang_up();
        let rest = tokio::time::timeout(PATIENCE, answer.collect()).await.expect("it ends");
        assert!(rest.is_err(), "no clean end");
        let call = stand.call().await;
        assert_eq!((call.result(), call.outcome().forwarded), (CallResult::Failed, true));
        assert_eq!(call.outcome().reason.as_deref(), Some("answer_broken"));
    }
}

#[tokio::test]
async fn no_answer_is_a_502_that_says_what_is_known() {
    let stand = Stand::new().await;
    stand.upstream.answer(|_| std::future::pending());
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let asked = request("GET", BIGQUERY, ROWS).body(nothing()).unwrap();
    let hang_up = async {
        arrived(&stand, 1).await;
        stand.upstream.hang_up();
    };
    let (answer, ()) = tokio::join!(agent.ask(asked), hang_up);
    assert_eq!(answer.0.status, StatusCode::BAD_GATEWAY);
    assert!(answer.1.contains("badGateway") && answer.1.contains("may have been executed"), "{}", answer.1);
    let call = stand.call().await;
    assert_eq!((call.result(), call.outcome().forwarded), (CallResult::Failed, true));
    assert_eq!(stand.upstream.arrived().len(), 1, "nothing is retried");
}

#[tokio::test]
async fn an_upstream_that_is_not_there() {
    let stand = Stand::with(&["--resolve=us-central1-bigquery.googleapis.com:443=127.0.0.1:1"]).await;
    let host = "us-central1-bigquery.googleapis.com";
    for http2 in [false, true] {
        let (mut agent, asked) = if http2 {
            (Agent::http2(&stand, host).await, request2("GET", host, ROWS))
        } else {
            (Agent::http1(&stand, host).await, request("GET", host, ROWS))
        };
        let (head, answer) = agent.ask(asked.body(nothing()).unwrap()).await;
        assert_eq!(head.status, StatusCode::BAD_GATEWAY);
        assert!(answer.contains("Nothing was sent"), "{answer}");
    }
    for call in stand.calls(2).await {
        assert_eq!((call.result(), call.outcome().forwarded), (CallResult::Failed, false));
        assert_eq!(call.outcome().reason.as_deref(), Some("connect_failed"));
    }
}

#[tokio::test]
async fn an_upstream_with_another_name_s_certificate_is_not_trusted() {
    let stand = Stand::new().await;
    let host = "us-central1-bigquery.googleapis.com";
    let flag = format!("--resolve={host}:443={}", stand.upstream.address);
    let stand = Stand::with(&[&flag]).await; // its upstream CA is another one
    let mut agent = Agent::http1(&stand, host).await;
    let (head, _) = agent.ask(request("GET", host, ROWS).body(nothing()).unwrap()).await;
    assert_eq!(head.status, StatusCode::BAD_GATEWAY);
    assert_eq!(stand.call().await.outcome().reason.as_deref(), Some("certificate_untrusted"));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_call() {
    let stand = Stand::new().await;
    for http2 in [false, true] {
        let mut agent =
            if http2 { Agent::http2(&stand, BIGQUERY).await } else { Agent::http1(&stand, BIGQUERY).await };
        for _ in 0..20 {
            let asked = if http2 { request2("GET", BIGQUERY, ROWS) } else { request("GET", BIGQUERY, ROWS) };
            let (head, _) = agent.ask(asked.body(nothing()).unwrap()).await;
            assert_eq!(head.status, 200);
            stand.upstream.hang_up();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let calls = stand.calls(40).await;
    assert!(calls.iter().all(|call| call.result() == CallResult::Answered));
    assert_eq!(stand.upstream.arrived().len(), 40);
}

#[tokio::test]
async fn many_streams_take_several_connections() {
    let stand = Stand::new().await;
    let all = Arc::new(Barrier::new(40));
    stand.upstream.answer(move |_| {
        let all = Arc::clone(&all);
        async move {
            all.wait().await; // nobody is answered before all are open
            Response::new(full("{}"))
        }
    });
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let Agent::Http2(sender) = Agent::http2(&stand, BIGQUERY).await else {
            panic!("HTTP/2 was asked for")
        };
        for _ in 0..10 {
            let mut agent = Agent::Http2(sender.clone());
            asked.spawn(async move {
                agent.ask(request2("GET", BIGQUERY, ROWS).body(nothing()).unwrap()).await.0.status
            });
        }
    }
    assert!(asked.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(stand.upstream.connections(), 3, "40 streams, 16 on each connection");
}

#[tokio::test]
async fn the_drain_finishes_what_is_open() {
    let stand = Stand::new().await;
    stand.upstream.answer(|_| async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Response::new(full("{\"late\":true}"))
    });
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let mut idle = Agent::http1(&stand, BIGQUERY).await;
    let asked = agent.ask(request("GET", BIGQUERY, ROWS).body(nothing()).unwrap());
    let Stand { proxy, recorder, upstream, .. } = stand;
    let stop = async {
        while upstream.arrived().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.stop("shutdown").await
    };
    let ((head, _), delivered) = tokio::join!(asked, stop);
    assert_eq!((head.status, delivered), (StatusCode::OK, true));
    let asked = idle.send(request("GET", BIGQUERY, ROWS).body(nothing()).unwrap()).await;
    assert!(asked.is_err(), "idle connections were closed");
    let statements = recorder.statements();
    let end = statements.last().unwrap().body.end.as_ref().unwrap();
    assert_eq!((end.reason.as_str(), end.calls), ("shutdown", 1));
    assert!(
        statements.iter().any(|statement| statement.body.outcome.is_some()),
        "the outcome comes before the end"
    );
}

#[tokio::test]
async fn an_upload_that_breaks_off_says_how_much_left() {
    let stand = Stand::new().await;
    let begun = Arc::new(Notify::new());
    let told = Arc::clone(&begun);
    stand.upstream.answer(move |request| {
        let told = Arc::clone(&told);
        async move {
            let mut data = request.into_body();
            assert_eq!(data.frame().await.unwrap().unwrap().into_data().unwrap().len(), 8);
            told.notify_one();
            let whole = data.collect().await.is_ok();
            assert!(!whole, "BigQuery must not take a part for the whole");
            Response::new(full(""))
        }
    });
    let mut agent = Agent::http2(&stand, BIGQUERY).await;
    let (mut sender, slow) = Channel::<Bytes, std::io::Error>::new(1);
    let path = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=x";
    let asked = request2("PUT", BIGQUERY, path).body(crate::stand::client::body(slow)).unwrap();
    let breaking = async {
        sender.send_data(Bytes::from_static(b"a,b\n1,2\n")).await.unwrap();
        tokio::time::timeout(PATIENCE, begun.notified()).await.expect("the first piece arrives");
        sender.abort(std::io::Error::other("the agent's disk failed"));
    };
    let (answer, ()) = tokio::join!(agent.send(asked), breaking);
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == StatusCode::BAD_GATEWAY));
    let call = stand.call().await;
    assert!(call.result() != CallResult::Answered && call.outcome().forwarded, "{:?}", call.outcome);
    let sent = call.outcome().sent.unwrap();
    assert_eq!((sent.wire_bytes, sent.digest), (8, None));
}

#[tokio::test]
async fn what_the_drain_can_t_wait_for_is_aborted_before_the_session_ends() {
    let stand = Stand::with(&["--drain-timeout=0.5"]).await;
    endless(&stand);
    let mut agents = Vec::new();
    for http2 in [false, true] {
        let (mut agent, asked) = if http2 {
            (Agent::http2(&stand, BIGQUERY).await, request2("GET", BIGQUERY, ROWS))
        } else {
            (Agent::http1(&stand, BIGQUERY).await, request("GET", BIGQUERY, ROWS))
        };
        let mut answer = agent.send(asked.body(nothing()).unwrap()).await.unwrap();
        assert!(answer.frame().await.unwrap().is_ok());
        agents.push((agent, answer));
    }
    let Stand { proxy, recorder, .. } = stand;
    assert!(proxy.stop("shutdown").await);
    let statements = recorder.statements();
    assert!(statements.last().unwrap().body.end.is_some());
    let results: Vec<_> =
        statements.iter().filter_map(|s| s.body.outcome.as_ref().map(|o| o.result)).collect();
    assert_eq!(results, [CallResult::Aborted, CallResult::Aborted]);
}

#[tokio::test]
async fn a_session_that_the_recorder_closed_is_followed_by_another() {
    let stand = Stand::new().await;
    let mut agent = Agent::http1(&stand, BIGQUERY).await;
    let list = || request("GET", BIGQUERY, "/bigquery/v2/projects").body(nothing()).unwrap();
    endless(&stand);
    let mut open = Agent::http1(&stand, BIGQUERY).await;
    let mut answer = open.send(request("GET", BIGQUERY, ROWS).body(nothing()).unwrap()).await.unwrap();
    assert!(answer.frame().await.unwrap().is_ok());
    stand.upstream.answer(|_| async { Response::new(full("{}")) });
    stand.recorder.close_session();
    let arrived = stand.upstream.arrived().len();
    // The first call to notice can't be recorded; it does not leave, and can be sent again.
    let (head, text) = agent.ask(list()).await;
    assert_eq!((head.status, text.contains("Nothing was executed")), (StatusCode::SERVICE_UNAVAILABLE, true));
    assert_eq!(stand.upstream.arrived().len(), arrived);
    for _ in 0..3 {
        assert_eq!(agent.ask(list()).await.0.status, StatusCode::OK, "the same process, the same connection");
    }
    assert!(answer.frame().await.unwrap().is_ok(), "what was open goes on");
    drop((answer, open));

    let statements = stand.recorder.statements();
    let starts: Vec<_> = statements.iter().filter(|s| s.body.start.is_some()).collect();
    assert_eq!(starts.len(), 2);
    let previous = starts[1].body.start.as_ref().unwrap().previous.as_ref().unwrap();
    assert_eq!((previous.session, previous.reason.as_str()), (starts[0].session, "session_closed"));
    let calls = stand.calls(3).await;
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert_eq!((calls[0].statement.session, &calls[0].outcome), (starts[0].session, &None));
    for call in &calls[1..] {
        assert_eq!((call.statement.session, call.result()), (starts[1].session, CallResult::Answered));
    }
    assert!(stand.proxy.stop("shutdown").await);
}
