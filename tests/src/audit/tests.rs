//! What the audit must refuse: each of these is a record that a broken sidecar or recorder could leave.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

const SESSION: &str = "0199a6c5-7c3e-7c1e-9a52-2f3a51d1a9c0";
const HOST: &str = "bigquery.googleapis.com";
const QUERIES: &str = "/bigquery/v2/projects/p/queries";

fn logged(seq: u64, kind: &str, part: Value) -> Logged {
    let envelope =
        json!({ "received": "2026-01-01T00:00:00Z", "subject": { "log": "example.com" }, "role": "sidecar" });
    let mut statement = json!({
        "v": 1, "kind": kind, "time": "2026-01-01T00:00:00Z", "session": SESSION, "seq": seq, "prev": null,
    });
    statement[kind.split('.').nth(1).unwrap()] = part;
    Logged {
        envelope: serde_json::from_value(envelope).unwrap(),
        statement: serde_json::from_value(statement).unwrap(),
    }
}

fn intent(seq: u64) -> Logged {
    let http = json!({ "verb": "POST", "host": HOST, "path": QUERIES });
    logged(seq, "call.intent", json!({ "method": "jobs.query", "http": http }))
}

fn refused_intent(seq: u64) -> Logged {
    let mut intent = intent(seq);
    intent.statement.body.intent.as_mut().unwrap().refused = Some("unknown_method".into());
    intent
}

fn outcome(seq: u64, call: u64, result: &str, forwarded: bool) -> Logged {
    let part = json!({ "call": call, "result": result, "forwarded": forwarded, "durationMicros": 1 });
    logged(seq, "call.outcome", part)
}

fn lost(calls: &[u64]) -> Logged {
    let part = json!({ "session": SESSION, "lastSeq": 9, "openIntents": calls, "open": calls.len() });
    logged(100, "session.lost", part)
}

fn arrival(verb: &str, path: &str) -> Arrival {
    let (verb, host, path) = (verb.into(), HOST.into(), path.into());
    Arrival { verb, host, path, authorization: None, user_agent: None, principal: None }
}

fn query() -> Arrival {
    arrival("POST", QUERIES)
}

fn why(entries: &[Logged], arrivals: &[Arrival]) -> String {
    balance(entries, arrivals).unwrap_err().to_string()
}

#[test]
fn a_good_record_balances() {
    let entries = [
        intent(1),
        outcome(2, 1, "answered", true),
        refused_intent(3),
        outcome(4, 3, "refused", false),
        intent(5),
        outcome(6, 5, "aborted", true),
        intent(7),
        outcome(8, 7, "failed", true),
    ];
    let account = balance(&entries, &[query(), query(), query()]).unwrap();
    assert_eq!(account, Account { answered: 1, refused: 1, failed: 1, aborted: 1, lost: 0 });
}

#[test]
fn the_front_saw_what_the_log_has_and_nothing_else() {
    let entries = [intent(1), outcome(2, 1, "answered", true)];
    assert!(balance(&entries, &[query()]).is_ok());
    assert!(
        why(&entries, &[query(), query()]).contains("forwarded 1 times (and 0 perhaps), the front saw 2")
    );
    assert!(why(&entries, &[]).contains("forwarded 1 times (and 0 perhaps), the front saw 0"));
    let other = arrival("GET", "/bigquery/v2/projects/p/jobs/j");
    assert!(why(&entries, &[query(), other.clone()]).contains("jobs.get"));
    assert!(why(&entries, &[other]).contains("the front saw"));
    // Its outcome says that it never left.
    let unsent = [intent(1), outcome(2, 1, "refused", false)];
    assert!(balance(&unsent, &[]).is_ok());
    assert!(why(&unsent, &[query()]).contains("forwarded 0 times (and 0 perhaps), the front saw 1"));
    assert!(why(&[], &[query()]).contains("forwarded 0 times"));
}

#[test]
fn the_method_counts_and_not_only_the_request_line() {
    let mut entries = [intent(1), outcome(2, 1, "answered", true)];
    entries[0].statement.body.intent.as_mut().unwrap().method = "jobs.insert".into();
    assert!(why(&entries, &[query()]).contains("the front saw"));
}

#[test]
fn every_call_has_one_intent_and_one_outcome() {
    assert!(why(&[intent(1)], &[query()]).contains("has no outcome"));
    let entries = [intent(1), outcome(2, 1, "answered", true), outcome(3, 1, "aborted", true)];
    assert!(why(&entries, &[query()]).contains("two outcomes"));
    assert!(why(&[outcome(2, 1, "answered", true)], &[]).contains("without an intent"));
    let entries = [intent(1), intent(1), outcome(2, 1, "answered", true)];
    assert!(why(&entries, &[query()]).contains("two intents"));
}

#[test]
fn a_refused_call_went_nowhere() {
    let went_on = [refused_intent(1), outcome(2, 1, "refused", true)];
    assert!(why(&went_on, &[query()]).contains("a refused call went on"));
    let answered = [refused_intent(1), outcome(2, 1, "answered", false)];
    assert!(why(&answered, &[]).contains("a refused call went on"));
}

#[test]
fn a_lost_call_may_have_left_once() {
    let entries = [intent(1), lost(&[1])];
    let account = Account { lost: 1, ..Account::default() };
    assert_eq!(balance(&entries, &[]).unwrap(), account);
    assert_eq!(balance(&entries, &[query()]).unwrap(), account);
    assert!(why(&entries, &[query(), query()]).contains("(and 1 perhaps), the front saw 2"));
    assert!(why(&[intent(1), lost(&[2])], &[]).contains("has no outcome"));
    let ended = [intent(1), outcome(2, 1, "answered", true), lost(&[1])];
    assert!(why(&ended, &[query()]).contains("is not lost"));
}

#[test]
fn a_call_whose_connection_broke_may_have_left_once() {
    let mut entries = [intent(1), outcome(2, 1, "failed", true)];
    assert!(why(&entries, &[]).contains("the front saw 0"), "it broke after the answer began");
    entries[1].statement.body.outcome.as_mut().unwrap().reason = Some("upstream_broken".into());
    assert!(balance(&entries, &[]).is_ok() && balance(&entries, &[query()]).is_ok());
    assert!(why(&entries, &[query(), query()]).contains("(and 1 perhaps), the front saw 2"));
    entries[1].statement.body.outcome.as_mut().unwrap().forwarded = false;
    assert!(why(&entries, &[query()]).contains("the front saw 1"), "it says that nothing was sent");
}

#[test]
fn an_upload_is_the_same_without_its_secret() {
    let path = "/upload/bigquery/v2/projects/p/jobs?uploadType=resumable&upload_id=";
    let mut entries = [intent(1), outcome(2, 1, "answered", true)];
    let body = entries[0].statement.body.intent.as_mut().unwrap();
    body.method = "jobs.insert".into();
    body.http.verb = "PUT".into();
    body.http.path = format!("{path}REDACTED");
    assert!(balance(&entries, &[arrival("PUT", &format!("{path}s3cret"))]).is_ok());
}

#[test]
fn a_promise_is_kept_at_its_place() {
    let leaves = [b"a".to_vec(), b"b".to_vec()];
    let promise = |index, leaf: &[u8]| ReceiptEntry {
        index,
        leaf_hash: leaf_hash(leaf),
        received: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    assert!(promised(&leaves, &[promise(0, b"a"), promise(1, b"b")]).is_ok());
    assert!(promised(&leaves, &[promise(0, b"b")]).is_err(), "another entry in its place");
    assert!(promised(&leaves[..1], &[promise(1, b"b")]).is_err(), "cut off");
}
