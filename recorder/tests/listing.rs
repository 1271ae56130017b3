//! The list of sessions: what is counted and said of each, what can be asked for, and that an index built again says the
//! same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Client, Site, Speaker, join, only, refusal};
use ledger::batch::Batch;
use ledger::call::{Access, CallResult, Intent, Outcome};
use ledger::entry::Role;
use ledger::search::sessions::{SessionAnswer, SessionState};
use ledger::statement::{Body, Heartbeat, kind};

async fn sessions(client: &Client, query: &str) -> SessionAnswer {
    let answer = client.get(&format!("/v1/sessions?{query}")).await;
    assert_eq!(answer.status(), 200, "{:?}", answer.body());
    serde_json::from_slice(answer.body()).unwrap()
}

fn refused_intent(speaker: &mut Speaker) -> Batch {
    let intent =
        Intent { method: "unknown".into(), refused: Some("unknown_method".into()), ..Intent::default() };
    only(speaker.say(kind::CALL_INTENT, Body { intent: Some(intent), ..Body::default() }, BTreeMap::new()))
}

fn outcome(speaker: &mut Speaker, call: u64, result: CallResult) -> Batch {
    let outcome = Outcome {
        call,
        result,
        forwarded: false,
        status: Some(503),
        reason: Some("recorder_unavailable".into()),
        duration_micros: 1,
        ..Outcome::default()
    };
    only(speaker.say(kind::CALL_OUTCOME, Body { outcome: Some(outcome), ..Body::default() }, BTreeMap::new()))
}

/// Says that three calls could not be recorded.
fn heartbeat(speaker: &mut Speaker) -> Batch {
    let heartbeat = Some(Heartbeat { calls: 9, refused_unrecorded: 3 });
    only(speaker.say(kind::SESSION_HEARTBEAT, Body { heartbeat, ..Body::default() }, BTreeMap::new()))
}

/// A session with calls of every kind and a hole, one that ended, and one that falls silent.
async fn three_sessions(site: &Site, client: &Client) -> [Speaker; 3] {
    let [mut busy, mut brief, mut silent] =
        [("agents", "billing"), ("agents", "etl"), ("other", "etl")].map(|(ns, sa)| site.speaker(ns, sa));
    let call = |busy: &mut Speaker| busy.intent("SELECT 1", "SELECT", "a.b", Access::Read);
    client.record(&busy.token.clone(), &busy.start(300)).await;
    client.record(&brief.token.clone(), &join([brief.start(300), brief.end()])).await;
    client.record(&silent.token.clone(), &join([silent.start(1), call(&mut silent)])).await;
    let batch = [call(&mut busy), call(&mut busy), call(&mut busy), refused_intent(&mut busy)];
    client.record(&busy.token.clone(), &join(batch)).await;
    let ends = [
        busy.outcome(1, 1),
        outcome(&mut busy, 2, CallResult::Refused), // after its intent: counted as refused now
        outcome(&mut busy, 4, CallResult::Refused), // counted by its intent already
    ];
    client.record(&busy.token.clone(), &join(ends)).await;
    let (_never, _sent) = (busy.heartbeat(), busy.heartbeat());
    client.record(&busy.token.clone(), &heartbeat(&mut busy)).await;
    [busy, brief, silent]
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let [busy, brief, silent] = three_sessions(&site, client).await;
    let lost = loop {
        let lost = sessions(client, "agent=other/&open=false").await;
        if lost.sessions.len() == 1 {
            break lost.sessions[0].clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!((lost.session, lost.state, lost.open_calls), (silent.session, SessionState::Lost, 1));
    let end = lost.end.unwrap();
    assert_eq!((end.reason, end.open_intents), (None, vec![1]));
    assert!(lost.heard < end.received && lost.started <= lost.heard);

    let all = sessions(client, &format!("wait={}", end.index + 1)).await;
    let ids: Vec<_> = all.sessions.iter().map(|session| session.session).collect();
    assert_eq!(ids, [silent.session, brief.session, busy.session], "those that began last come first");
    let [_, ended, open] = &all.sessions[..] else { panic!("three") };
    assert_eq!((ended.state, ended.calls), (SessionState::Ended, 0));
    assert_eq!(ended.end.as_ref().unwrap().reason.as_deref(), Some("shutdown"));
    assert_eq!((open.state, &open.end, open.role), (SessionState::Open, &None, Role::Sidecar));
    assert_eq!((open.calls, open.open_calls, open.refused, open.refused_unrecorded), (4, 1, 2, 3));
    assert_eq!((open.holes, open.missing), (1, 2));
    assert_eq!((open.version.as_str(), open.subject.pod.as_str()), ("test", "billing-0"));
    assert_eq!(open.connection.as_ref().unwrap().name, "main");
    assert!(open.named_holes.is_empty(), "named only where one session is asked for");
    let one = sessions(client, &format!("session={}", busy.session)).await;
    let named = &one.sessions[0].named_holes[0];
    assert_eq!((named.hole.from, named.hole.to, one.sessions.len()), (8, 9, 1));

    // What is refused after its intent is found as refused, too.
    assert_eq!(client.search("refused=true").await.calls.len(), 2);
    let of_busy = format!("session={}", busy.session);
    for (query, calls) in [
        ("pod=billing-0", 4),
        ("pod=etl-0", 1),
        ("pod=etl", 0),
        ("connection=agents/main", 5),
        ("connection=agents/other", 0),
        (&of_busy, 4),
    ] {
        assert_eq!(client.search(query).await.calls.len(), calls, "{query}");
    }

    asked_for(client, &all).await;
    only_readers_ask(&site, client).await;

    // An index that is built again says the same.
    recorder.stop().await;
    std::fs::remove_file(site.data().join("index.sqlite")).unwrap();
    let recorder = site.start().await;
    let again = sessions(&recorder.client, &format!("wait={}", all.size)).await;
    assert_eq!(again.sessions, all.sessions);
    recorder.stop().await;
}

async fn asked_for(client: &Client, all: &SessionAnswer) {
    let found = async |query: &str| {
        let found = sessions(client, query).await.sessions;
        found
            .into_iter()
            .map(|session| format!("{}/{}", session.subject.namespace, session.subject.service_account))
            .collect::<Vec<_>>()
    };
    let [silent, brief, busy] = ["other/etl", "agents/etl", "agents/billing"];
    let (first, heard) = (all.sessions[2].started, all.sessions[2].heard);
    for (query, expected) in [
        ("agent=agents/".to_owned(), vec![brief, busy]),
        ("agent=agents/etl".into(), vec![brief]),
        ("pod=etl-0".into(), vec![silent, brief]),
        ("connection=agents/main".into(), vec![silent, brief, busy]),
        ("connection=agents/other".into(), vec![]),
        ("open=true".into(), vec![busy]),
        ("open=false".into(), vec![silent, brief]),
        (format!("since={heard}"), vec![busy]),
        (format!("until={first}"), vec![]),
        (format!("since={first}&until={heard}"), vec![silent, brief, busy]),
    ] {
        assert_eq!(found(&query).await, expected, "{query}");
    }
    let mut pages = Vec::new();
    let mut before = String::new();
    loop {
        let page = sessions(client, &format!("limit=1{before}")).await;
        assert_eq!(page.sessions.len(), 1);
        pages.extend(page.sessions);
        match page.next {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(pages, all.sessions);
}

async fn only_readers_ask(site: &Site, client: &Client) {
    let nobody = site.issuer.token("agents", "billing");
    assert_eq!(refusal(&client.get_as("/v1/sessions", None).await).0, 401);
    assert_eq!(refusal(&client.get_as("/v1/sessions", Some(&nobody)).await), (403, "not_a_reader".into()));
    for bad in ["agent=billing", "opne=true", "open=maybe", "session=x", "since=yesterday"] {
        let answer = client.get(&format!("/v1/sessions?{bad}")).await;
        assert_eq!(refusal(&answer), (400, "bad_query".into()), "{bad}");
    }
}
