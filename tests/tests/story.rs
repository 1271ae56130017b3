//! The demo's story, held to the letter. The story itself already fails when something that it claims is not so; this asks
//! for the details that it doesn't mention.
#![allow(clippy::unwrap_used, clippy::panic)]

use bqwitness_tests::audit;
use bqwitness_tests::narrator::Narrator;
use bqwitness_tests::programs::CLUSTER;
use bqwitness_tests::skip;
use bqwitness_tests::stage::WayIn;
use bqwitness_tests::story::{self, Client, Told};
use jiff::Timestamp;
use ledger::call::{Access, CallResult};
use ledger::entry::{Role, Subject};
use ledger::search::Call;
use ledger::statement::kind;
use tokio::sync::Mutex;

/// Held by the story that is being told: two at once would be too much for a busy machine.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn two_agents_one_record() {
    holds_to_the_letter(WayIn::of_this_machine()).await;
}

/// As without root: `demo --connect`.
#[tokio::test]
async fn the_same_where_agents_are_asked_to_use_their_sidecars() {
    if WayIn::of_this_machine() == WayIn::Redirect {
        holds_to_the_letter(WayIn::Connect).await; // else it was told so already
    }
}

async fn holds_to_the_letter(way: WayIn) {
    let _turn = TURN.lock().await;
    let begun = Timestamp::now();
    let told = story::tell(&Narrator::default(), way).await.unwrap();
    every_call_came_in_this_way(&told, way);
    the_agents_saw_what_bigquery_answered(&told);
    the_trail_says_what_was_done(&told, begun);
    what_was_moved_without_sql_is_in_the_record(&told);
    every_call_has_its_subject_and_one_outcome(&told);
    the_refusal_says_why(&told);
    the_count_can_fail(&told);
    the_page_shows_what_was_done(&told);
    if told.acts[0].client != Client::Bq {
        skip::skipped("no bq (Google Cloud CLI) on this machine; the Python client took its part");
    }
}

fn every_call_came_in_this_way(told: &Told, way: WayIn) {
    let interception = match way {
        WayIn::Redirect => "redirect",
        WayIn::Connect => "connect",
    };
    let intents = told.entries.iter().filter(|entry| entry.statement.kind == kind::CALL_INTENT);
    let ways: Vec<_> = intents.map(|intent| intent.statement.observed.interception.as_deref()).collect();
    assert!(!ways.is_empty() && ways.iter().all(|way| *way == Some(interception)), "{ways:?}");
}

fn the_agents_saw_what_bigquery_answered(told: &Told) {
    let overdue: serde_json::Value = serde_json::from_str(&told.acts[0].finished.stdout).unwrap();
    let row = |account: &str| serde_json::json!({ "account_id": account, "status": "overdue" });
    assert_eq!(overdue, serde_json::json!([row("A-17"), row("A-19")]));
    assert!(told.acts[2].finished.said().contains("billing.salaries"), "{:?}", told.acts[2]);
}

fn the_trail_says_what_was_done(told: &Told, begun: Timestamp) {
    let [overdue, clean_up, salaries] = [0, 1, 2].map(|act| call(told, told.acts[act].sql));
    assert_eq!(told.trail.len(), 3);
    for call in [overdue, clean_up, salaries] {
        assert!((begun..Timestamp::now()).contains(&call.received), "{call:?}");
        assert_eq!(call.subject.cluster, CLUSTER);
        assert_eq!(call.subject.namespace, "agents");
        assert_eq!(call.result, Some(CallResult::Answered));
        assert_eq!(call.forwarded, Some(true));
    }
    assert_eq!(
        (overdue.subject.service_account.as_str(), overdue.statement_kind.as_deref()),
        ("billing", Some("SELECT"))
    );
    // Written, BigQuery says, is the anonymous table of its results.
    assert!(tables(overdue).contains(&("billing.invoices".to_owned(), Access::Read)), "{overdue:?}");
    assert_eq!(overdue.status, Some(200));

    assert_eq!(
        (clean_up.subject.service_account.as_str(), clean_up.statement_kind.as_deref()),
        ("etl", Some("DELETE"))
    );
    assert!(tables(clean_up).contains(&("staging.imports".to_owned(), Access::Write)), "{clean_up:?}");
    assert_eq!(clean_up.affected_rows, Some(3));

    assert_eq!(tables(salaries), [("billing.salaries".to_owned(), Access::Read)]);
    // The job was made, and failed.
    assert_eq!((salaries.status, salaries.reason.as_deref()), (Some(200), Some("notFound")));
}

fn what_was_moved_without_sql_is_in_the_record(told: &Told) {
    assert!(told.night.stdout.contains("took 4 rows out of billing.invoices"), "{:?}", told.night);
    assert!(told.moved.iter().all(|call| call.subject.service_account == "etl"), "{:#?}", told.moved);
    // The load's PUT knows only the upload; the record knows its job.
    let uploads: Vec<_> = told.moved.iter().filter(|call| call.upload.is_some()).collect();
    assert!(uploads.iter().any(|call| call.http.verb == "PUT" && call.job.is_some()), "{uploads:#?}");
    // What an agent is told is gzipped; what it was told is read all the same.
    assert!(told.arrivals.iter().any(|arrival| arrival.path.contains("/insertAll")));
}

fn every_call_has_its_subject_and_one_outcome(told: &Told) {
    let spoken =
        |wanted: &'static str| told.entries.iter().filter(move |entry| entry.statement.kind == wanted);
    assert_eq!(spoken(kind::SESSION_START).count(), 2);
    for intent in spoken(kind::CALL_INTENT) {
        assert_eq!(intent.envelope.role, Role::Sidecar);
        assert!(matches!(&intent.envelope.subject, Subject::Workload(pod) if pod.cluster == CLUSTER));
        let outcomes = spoken(kind::CALL_OUTCOME).filter(|outcome| {
            let (of, body) = (&outcome.statement, &outcome.statement.body);
            of.session == intent.statement.session
                && body.outcome.as_ref().unwrap().call == intent.statement.seq
        });
        assert_eq!(outcomes.count(), 1, "{intent:?}");
        let body = intent.statement.body.intent.as_ref().unwrap();
        assert_eq!(body.project.as_deref(), Some("acme-data"));
    }
}

fn the_refusal_says_why(told: &Told) {
    let said = told.refusal.said();
    assert!(said.contains("bqwitness") && said.contains("recorder"), "{said}");
}

fn the_count_can_fail(told: &Told) {
    assert!(audit::balance(&told.entries, &told.arrivals[1..]).is_err());
    let twice = [&told.arrivals[..], &told.arrivals[..1]].concat();
    assert!(audit::balance(&told.entries, &twice).is_err());
}

fn the_page_shows_what_was_done(told: &Told) {
    let page = std::fs::read_to_string(&told.evidence.page).unwrap();
    for part in ["agents/billing", "agents/etl", "DELETE FROM staging.imports WHERE batch_id = 42"] {
        assert!(page.contains(part), "{part}");
    }
    for file in [&told.evidence.bundle, &told.evidence.key, &told.evidence.page] {
        std::fs::remove_file(file).unwrap();
    }
}

fn call<'a>(told: &'a Told, sql: &str) -> &'a Call {
    told.trail.iter().find(|call| call.sql.as_deref() == Some(sql)).unwrap()
}

/// Data set and table, without the project, which only BigQuery's own report has.
fn tables(call: &Call) -> Vec<(String, Access)> {
    let name =
        |dataset: &Option<String>, table: &str| format!("{}.{table}", dataset.as_deref().unwrap_or("?"));
    let mut tables: Vec<_> = call
        .tables
        .iter()
        .map(|found| (name(&found.table.dataset, &found.table.table), found.table.access))
        .collect();
    tables.sort();
    tables.dedup();
    tables
}
