//! How SQLite goes about each question: by an index that leads to what is asked for, newest first, and never by sorting what was
//! found or looking at every call. So the first page takes as long in a long log as in a short one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::index::schema;

/// The plan's lines for each of the question's leads.
fn plan(index: &Connection, query: &Query, scope: &Scope) -> Vec<String> {
    let mut lines = Vec::new();
    for lead in leads(query).unwrap() {
        let (sql, values) = sql(index, query, scope, lead, 51).unwrap();
        let mut explain = index.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let rows = explain.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        lines.extend(rows.map(Result::unwrap));
    }
    lines
}

fn some(text: &str) -> Option<String> {
    Some(text.into())
}

/// Every question with one part, and the index that must lead to its answer.
fn questions() -> Vec<(&'static str, Query, &'static str)> {
    let none = Query::default;
    let at: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let result = |result| Query { result: Some(result), ..none() };
    vec![
        ("namespace", Query { agent: some("agents/"), ..none() }, "calls_by_namespace"),
        ("agent", Query { agent: some("agents/billing"), ..none() }, "calls_by_agent"),
        ("pod", Query { pod: some("billing-0"), ..none() }, "calls_by_pod"),
        ("connection", Query { connection: some("agents/warehouse"), ..none() }, "calls_by_connection"),
        ("session", Query { session: Some(Uuid::from_u128(7)), ..none() }, "calls_by_session"),
        ("since", Query { since: Some(at), ..none() }, "INTEGER PRIMARY KEY"),
        ("until", Query { until: Some(at), ..none() }, "INTEGER PRIMARY KEY"),
        ("table", Query { table: some("billing.invoices"), ..none() }, "tables USING PRIMARY KEY"),
        ("method", Query { method: some("jobs.query"), ..none() }, "calls_by_method"),
        ("kind", Query { kind: some("DELETE"), ..none() }, "calls_by_kind"),
        ("kind, of scripts", Query { kind: some("DELETE"), ..none() }, "kinds USING PRIMARY KEY"),
        ("job", Query { job: some("j"), ..none() }, "calls_by_job"),
        ("open", result(ResultFilter::Open), "calls_open"),
        ("refused result", result(ResultFilter::Refused), "calls_unanswered"),
        ("failed", result(ResultFilter::Failed), "calls_unanswered"),
        ("aborted", result(ResultFilter::Aborted), "calls_unanswered"),
        ("refused", Query { refused: Some(true), ..none() }, "calls_refused"),
        ("before", Query { before: Some(7), ..none() }, "INTEGER PRIMARY KEY"),
        ("from", Query { from: Some(7), ..none() }, "INTEGER PRIMARY KEY"),
        ("words", Query { words: some("invoice"), ..none() }, "words VIRTUAL TABLE"),
    ]
}

#[test]
fn every_question_is_led_by_an_index_and_sorts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let index = schema::open(dir.path(), "key", 0).unwrap();
    for (name, query, leader) in questions() {
        let plan = plan(&index, &query, &Scope::Everything);
        assert!(plan.iter().any(|line| line.contains(leader)), "{name} is not led by {leader}: {plan:#?}");
        let scan = |line: &String| {
            ["SCAN calls", "SCAN tables", "SCAN kinds"].iter().any(|scan| line.starts_with(scan))
                && !line.contains(leader)
        };
        assert!(!plan.iter().any(scan), "{name} looks at every call: {plan:#?}");
        // A job has few calls.
        let sorts = plan.iter().any(|line| line.contains("ORDER BY"));
        assert!(!sorts || name == "job", "{name} sorts what it finds: {plan:#?}");
        // With a time, the index of the one leads within the bounds of the other.
        let both = Query { since: Some("2026-11-22T10:00:00Z".parse().unwrap()), ..query };
        let plan = self::plan(&index, &both, &Scope::Everything);
        assert!(
            !plan.iter().any(|line| line.contains("ORDER BY")) || name == "job",
            "{name}, since: {plan:#?}"
        );
    }
}

/// What has few calls leads to them, and their kinds are looked at one by one.
#[test]
fn few_calls_lead_before_their_kind() {
    let dir = tempfile::tempdir().unwrap();
    let index = schema::open(dir.path(), "key", 0).unwrap();
    let kind = some("SELECT");
    for (query, leader) in [
        (Query { session: Some(Uuid::from_u128(7)), ..Query::default() }, "calls_by_session"),
        (Query { pod: some("billing-0"), ..Query::default() }, "calls_by_pod"),
        (Query { job: some("j"), ..Query::default() }, "calls_by_job"),
    ] {
        let plan = plan(&index, &Query { kind: kind.clone(), ..query }, &Scope::Everything);
        assert!(plan.iter().any(|line| line.contains(leader)), "not led by {leader}: {plan:#?}");
        assert!(!plan.iter().any(|line| line.starts_with("SCAN")), "{plan:#?}");
    }
    // The kinds of scripts lead once, whatever the reader may see.
    let scope = Scope::namespaces("prod", ["agents".to_owned(), "etl".to_owned()]);
    let leads = leads(&Query { kind, ..Query::default() }).unwrap();
    assert_eq!(leads.iter().map(|lead| parts(lead, &scope).len()).collect::<Vec<_>>(), [2, 1, 1]);
}

/// What is true of nearly every call is looked for from the newest on, in the order of the answer.
#[test]
fn what_most_calls_are_is_found_without_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let index = schema::open(dir.path(), "key", 0).unwrap();
    for query in [
        Query::default(),
        Query { result: Some(ResultFilter::Answered), ..Query::default() },
        Query { refused: Some(false), ..Query::default() },
    ] {
        assert_eq!(
            plan(&index, &query, &Scope::Everything),
            ["SCAN calls"],
            "in the order of their indexes, and without a sort"
        );
    }
}

/// Who may read some namespaces is led to the calls of each.
#[test]
fn a_reader_of_some_namespaces_waits_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let index = schema::open(dir.path(), "key", 0).unwrap();
    let scope = Scope::namespaces("prod", ["agents".to_owned(), "etl".to_owned()]);
    let lead = leads(&Query::default()).unwrap().remove(0);
    let parts = parts(&lead, &scope);
    assert_eq!(parts.len(), 2);
    for part in parts {
        let plan = plan(&index, &Query::default(), &part);
        assert!(plan.iter().any(|line| line.contains("calls_by_namespace")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("ORDER BY")), "{plan:#?}");
    }
    assert_eq!(scope.parts(1), std::slice::from_ref(&scope), "too many are asked for together");
    assert_eq!(Scope::Everything.parts(1), [Scope::Everything]);
    assert!(Scope::namespaces("prod", []).parts(1).is_empty(), "nothing is to be seen");
}
