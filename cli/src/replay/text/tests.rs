use jiff::SignedDuration;
use ledger::call::{BodySoFar, HttpTarget, JobReference, Progress, TableUse};
use ledger::digest::Digest;
use ledger::statement::Hole;
use uuid::Uuid;

use super::*;
use crate::commands::sessions::tests::session;
use crate::replay::chains::chains;
use crate::replay::{Found, Going};
use crate::samples::call;

fn how() -> How {
    How { label: Some("bqwitness-run".into()), traces: false, idle: SignedDuration::from_secs(900) }
}

fn told(sessions: Vec<Session>, calls: Vec<Call>) -> String {
    found(Found { sessions, calls, ..Found::default() })
}

fn found(found: Found) -> String {
    let chains = chains(found, &how());
    chains.iter().flat_map(|one| chain(one, &how())).collect::<Vec<_>>().join("\n")
}

fn asked(call: Call, verb: &str, method: &str) -> Call {
    let path = "/bigquery/v2/projects/p/queries".into();
    let http = HttpTarget { verb: verb.into(), host: "bigquery.googleapis.com".into(), path };
    Call { http, method: method.into(), ..call }
}

fn of_job(call: Call, job: &str) -> Call {
    Call { job: Some(JobReference { project: None, id: job.into(), location: None }), ..call }
}

fn ended(state: SessionState, reason: Option<&str>) -> Session {
    let end = Ending {
        index: 9,
        received: "2026-11-22T10:06:00Z".parse().unwrap(),
        reason: reason.map(str::to_owned),
        open_intents: Vec::new(),
    };
    Session { state, end: Some(end), ..session() }
}

#[test]
fn a_replay_ends_with_how_the_session_ended() {
    let open = told(vec![session()], Vec::new());
    assert!(open.ends_with("Open; last heard 2026-11-22 10:05:00 UTC\n2 calls, 0 without outcome"), "{open}");
    let in_order = told(vec![ended(SessionState::Ended, Some("shutdown"))], Vec::new());
    assert!(in_order.contains("\nEnded 2026-11-22 10:06:00 UTC: shutdown \u{b7} entry 9\n"), "{in_order}");
    let lost = told(vec![Session { open_calls: 2, ..ended(SessionState::Lost, None) }], Vec::new());
    assert!(
        lost.contains(
            "\nLOST: silent since 2026-11-22 10:05:00 UTC, closed 2026-11-22 10:06:00 with 2 open calls \u{b7} entry 9\n"
        ),
        "{lost}"
    );
}

#[test]
fn what_is_not_in_the_record_is_named() {
    let session = Session { refused_unrecorded: 3, holes: 1, missing: 4, ..session() };
    let refused = |index| Call { refused: Some("unknown_method".into()), ..call(index) };
    let mut late = call(5);
    (late.result, late.reason) = (Some(CallResult::Refused), Some("recorder_unavailable".into()));
    let text = told(vec![session], vec![refused(4), late, refused(6), call(7)]);
    for line in [
        "  refused 2: unknown_method",
        "  refused 1: recorder_unavailable",
        "  refused 3 more, which the sidecar had no room to record",
        "4 statements never came, in 1 hole",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}

#[test]
fn holes_and_restarts_stand_where_they_are_in_the_log() {
    let hole = Hole { session: session().session, from: 2, to: 5 };
    let first =
        Session { named_holes: vec![NamedHole { index: 5, hole }], ..ended(SessionState::Lost, None) };
    let second = Session { index: 10, session: Uuid::from_u128(8), ..session() };
    let rule = Call { refused: Some("rule".into()), ..call(6) };
    let after = Call { session: Uuid::from_u128(8), ..call(11) };
    let text = told(vec![first, second], vec![call(4), rule, after]);
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is not in {text}"));
    let order = [
        place("entry 4"),
        place("MISSING: statements 2 to 5"),
        place("refused rule"),
        place("The session before had fallen silent. Session 00000000-0000-0000-0000-000000000008"),
        place("entry 11"),
    ];
    assert!(order.is_sorted(), "{text}");
    assert_eq!(text.matches("without outcome").count(), 2, "each session has its end: {text}");
}

#[test]
fn the_statements_of_a_script_stand_below_it() {
    let table = |name: &str, access| TableUse {
        project: None,
        dataset: Some("d".into()),
        table: name.into(),
        access,
    };
    let delete = StatementUse {
        kind: Some("DELETE".into()),
        tables: vec![table("queue", Access::Write), table("done\u{1b}", Access::Read)],
        tables_truncated: true,
    };
    let begin = StatementUse { kind: Some("BEGIN_TRANSACTION".into()), ..StatementUse::default() };
    let script = Call { statements: vec![begin.clone(), delete], ..call(4) };
    let text = told(vec![session()], vec![script]);
    assert!(text.contains("\n    BEGIN_TRANSACTION\n    DELETE  w d.queue, r d.done"), "{text}");
    assert!(text.contains(" and unlisted ones\n") && !text.contains('\u{1b}'), "{text}");
    assert!(!text.contains("more statements"), "{text}");
    let long = Call { statements: vec![begin; 50], ..call(4) };
    let text = told(vec![session()], vec![long]);
    assert_eq!(text.matches("BEGIN_TRANSACTION").count(), 20, "{text}");
    assert!(text.contains("and more statements"), "{text}");
}

#[test]
fn the_calls_of_a_job_stand_below_its_statement() {
    let insert = asked(of_job(call(4), "j1"), "POST", "jobs.insert");
    let insert =
        Call { sql: Some("SELECT n\nFROM t".into()), statement_kind: Some("SELECT".into()), ..insert };
    let poll = asked(of_job(call(6), "j1"), "GET", "jobs.getQueryResults");
    let mut page = asked(of_job(call(8), "j1"), "GET", "jobs.getQueryResults");
    page.http.path.push_str("?pageToken=abc&maxResults=2");
    page.rows = Some(2);
    let text = told(vec![session()], vec![insert, poll, call(7), page]);
    let lines: Vec<_> =
        text.lines().map(|line| line.trim_start_matches(|c| "0123456789:. ".contains(c))).collect();
    let at =
        |what: &str| lines.iter().position(|line| *line == what).unwrap_or_else(|| panic!("{what}: {text}"));
    let order = [
        at("SELECT \u{b7} open \u{b7} job j1 \u{b7} entry 4"),
        at("SELECT n"),
        at("FROM t"),
        at("POST jobs.insert \u{b7} open \u{b7} entry 4"),
        at("GET jobs.getQueryResults \u{b7} open \u{b7} entry 6"),
        at("GET jobs.getQueryResults, next page \u{b7} open \u{b7} 2 rows \u{b7} entry 8"),
        at("jobs.query \u{b7} open \u{b7} entry 7"),
    ];
    assert!(order.is_sorted(), "{text}");
}

#[test]
fn rows_uploads_and_calls_that_go_on_are_told() {
    let rows =
        Call { rows_sent: Some(3), row_errors: Some(1), ..asked(call(4), "POST", "tabledata.insertAll") };
    let upload = |index, verb| Call {
        upload: Some(Digest([1; 32])),
        sent_bytes: (verb == "PUT").then_some(70 << 20),
        ..asked(call(index), verb, "jobs.insert")
    };
    let calls = vec![rows, upload(5, "POST"), upload(6, "PUT")];
    let sent = BodySoFar { wire_bytes: 64 << 20, content_bytes: 64 << 20, digest: None };
    let progress = Progress { call: 6, sent: Some(sent), answer: None, duration_micros: 1 };
    let going = Going { index: 7, received: "2026-11-22T10:02:03Z".parse().unwrap(), progress };
    let text =
        found(Found { sessions: vec![session()], calls, going: [(6, going)].into(), ..Found::default() });
    for part in [
        "POST tabledata.insertAll \u{b7} open \u{b7} 3 rows sent, 1 not taken \u{b7} entry 4",
        "POST jobs.insert, upload \u{b7} open \u{b7} entry 5",
        "PUT jobs.insert, upload \u{b7} open \u{b7} 70.0 MiB sent \u{b7} entry 6",
        "        going on: 64.0 MiB sent by 10:02:03 \u{b7} entry 7",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn runs_are_headed_when_there_is_more_than_one() {
    let labelled = |index, run: &str| Call {
        labels: [("bqwitness-run".to_owned(), run.to_owned())].into(),
        ..of_job(call(index), run)
    };
    let text = told(vec![session()], vec![labelled(4, "a"), labelled(5, "b\u{1b}[2J"), labelled(6, "a")]);
    assert!(
        text.contains(
            "== Run a, as its label bqwitness-run claims: 2 calls, 2026-11-22 10:00:01 to 10:00:01 UTC =="
        ),
        "{text}"
    );
    assert!(text.contains("== Run b\u{fffd}[2J,") && !text.contains('\u{1b}'), "{text}");
    assert!(!told(vec![session()], vec![call(4)]).contains("=="), "one run needs no heading");
}
