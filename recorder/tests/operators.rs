//! What operators enter: who may, who reads it, and what the index makes of it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeMap;

use common::operator::{accepted, deleted, pod};
use common::{Client, Site, only, refusal};
use jiff::Timestamp;
use ledger::operator::CoverageState;
use ledger::search::cluster::{ConnectionAnswer, CoverageAnswer};
use ledger::statement::{Body, kind};

async fn connections(client: &Client, query: &str, token: Option<&str>) -> Vec<(String, u64)> {
    let path = format!("/v1/connections?wait=7&{query}");
    let answer = match token {
        Some(token) => client.get_as(&path, Some(token)).await,
        None => client.get(&path).await,
    };
    assert_eq!(answer.status(), 200, "{:?}", answer.body());
    let answer: ConnectionAnswer = serde_json::from_slice(answer.body()).unwrap();
    answer.entries.into_iter().map(|entry| (entry.connection.uid, entry.connection.generation)).collect()
}

async fn pods(client: &Client, query: &str, wait: u64) -> Vec<(String, CoverageState)> {
    let answer = client.get(&format!("/v1/coverage?wait={wait}&{query}")).await;
    assert_eq!(answer.status(), 200, "{:?}", answer.body());
    let answer: CoverageAnswer = serde_json::from_slice(answer.body()).unwrap();
    answer.entries.into_iter().map(|entry| (entry.coverage.pod, entry.coverage.state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_enter_is_found_and_kept_apart() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut speaker = site.speaker("system", "operator");
    let token = speaker.token.clone();
    client.record(&token, &speaker.start(10)).await;
    for batch in [
        accepted(&mut speaker, "one", 1),
        accepted(&mut speaker, "two", 1),
        accepted(&mut speaker, "one", 2),
        deleted(&mut speaker, "two"),
    ] {
        client.record(&token, &batch).await;
    }
    let between = Timestamp::now();
    client.record(&token, &pod(&mut speaker, "early", CoverageState::Uncovered)).await;
    let (last, _) = client.record(&token, &pod(&mut speaker, "late", CoverageState::Covered)).await;
    let covers = last[0].index + 1;

    let own = |uid: &str, generation| (uid.to_owned(), generation);
    assert_eq!(
        connections(client, "", None).await,
        [own("two", 1), own("one", 2), own("two", 1), own("one", 1)]
    );
    assert_eq!(connections(client, "current=true", None).await, [own("one", 2)]);
    assert_eq!(connections(client, "uid=one&limit=1", None).await, [own("one", 2)]);
    assert_eq!(connections(client, "connection=agents/other", None).await, []);
    // An operator sees its own, and that alone; who is neither operator nor reader sees nothing.
    assert_eq!(connections(client, "current=true&own=true", Some(&token)).await, [own("one", 2)]);
    for path in ["/v1/connections", "/v1/coverage"] {
        for own in ["", "?own=true"] {
            let agent =
                client.get_as(&format!("{path}{own}"), Some(&site.issuer.token("agents", "billing"))).await;
            assert_eq!(refusal(&agent), (403, "not_a_reader".into()), "{path}{own}");
        }
        let operator = client.get_as(path, Some(&token)).await;
        assert_eq!(
            refusal(&operator),
            (403, "not_a_reader".into()),
            "others' words are not its to read: {path}"
        );
        assert_eq!(refusal(&client.get_as(path, None).await), (401, "no_token".into()), "{path}");
        let nonsense = client.get(&format!("{path}?nonsense=1")).await;
        assert_eq!(refusal(&nonsense), (400, "bad_query".into()), "{path}");
    }
    let search = client.get_as("/v1/search", Some(&token)).await;
    assert_eq!(refusal(&search), (403, "not_a_reader".into()), "nothing else is an operator's to read");

    assert_eq!(pods(client, &format!("until={between}"), covers).await, []);
    let ends = Timestamp::now();
    let (last, _) = client.record(&token, &pod(&mut speaker, "early", CoverageState::Ended)).await;
    let covers = last[0].index + 1;
    let (covered, ended) = (CoverageState::Covered, CoverageState::Ended);
    assert_eq!(pods(client, "current=true", covers).await, [("late".into(), covered)]);
    assert_eq!(
        pods(client, &format!("since={between}&until={ends}"), covers).await,
        [("late".into(), covered), ("early".into(), CoverageState::Uncovered)]
    );
    let after = Timestamp::now();
    assert_eq!(
        pods(client, &format!("since={after}"), covers).await,
        [("late".into(), covered)],
        "what ended before is over"
    );
    assert_eq!(pods(client, "pod=early&limit=1", covers).await, [("early".into(), ended)]);

    // The index can be lost: it says the same again.
    recorder.stop().await;
    std::fs::remove_file(site.data().join("index.sqlite")).unwrap();
    let recorder = site.start().await;
    assert_eq!(connections(&recorder.client, "current=true", None).await, [own("one", 2)]);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_speak_of_connections_and_pods_and_they_say_it_whole() {
    let site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let mut sidecar = site.speaker("agents", "billing");
    let token = sidecar.token.clone();
    client.record(&token, &sidecar.start(10)).await;
    for batch in
        [accepted(&mut sidecar.clone(), "one", 1), pod(&mut sidecar.clone(), "a", CoverageState::Covered)]
    {
        let answer = client.post(&token, batch.encode()).await;
        assert_eq!(refusal(&answer), (403, "kind_not_allowed".into()));
    }
    let mut operator = site.speaker("system", "operator");
    let token = operator.token.clone();
    client.record(&token, &operator.start(10)).await;
    for kind in [kind::CONNECTION_ACCEPTED, kind::CONNECTION_DELETED, kind::COVERAGE_POD] {
        let empty = only(operator.clone().say(kind, Body::default(), BTreeMap::new()));
        let answer = client.post(&token, empty.encode()).await;
        assert_eq!(refusal(&answer), (400, "malformed_statement".into()), "{kind}");
    }
    recorder.stop().await;
}
