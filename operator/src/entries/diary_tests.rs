//! What is entered, in which order, and that it is entered once.

use super::*;
use ledger::entry::Workload;
use ledger::operator::Accepted;
use prometheus::Registry;
use serde_json::{Value, json};

fn diary() -> Diary {
    let diary = Diary::new(Metrics::new(&Registry::new()).unwrap());
    diary.lead();
    diary
}

fn connection(uid: &str, generation: i64) -> BigQueryConnection {
    with(uid, generation, &json!({}))
}

fn with(uid: &str, generation: i64, more: &Value) -> BigQueryConnection {
    let mut metadata = json!({"namespace": "agents", "name": uid, "uid": uid, "generation": generation});
    metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection", "metadata": metadata,
        "spec": {"pods": {"serviceAccountName": "billing"}, "identity": {"mode": "Passthrough"}},
    }))
    .unwrap()
}

fn named(uid: &str, generation: u64) -> Connection {
    Connection { generation, ..acceptance::named(&connection(uid, 1)) }
}

fn seen(pod: &str, state: CoverageState, reason: Option<&str>) -> Seen {
    let coverage = PodCoverage {
        namespace: "agents".into(),
        pod: pod.into(),
        pod_uid: format!("uid-of-{pod}"),
        service_account: "billing".into(),
        created: Timestamp::UNIX_EPOCH,
        since: Timestamp::UNIX_EPOCH,
        state,
        reason: reason.map(str::to_owned),
    };
    Seen { connection: named("c", 1), coverage }
}

fn covered(pod: &str) -> Seen {
    seen(pod, CoverageState::Covered, None)
}

/// What waits, as `uid@generation`, `-uid` for one that is deleted, `pod state`.
fn waiting(diary: &Diary) -> Vec<String> {
    let inner = diary.inner();
    let say = |Notice { connection, body }: &Notice| match (&body.coverage, &body.gone) {
        (Some(coverage), _) => {
            let reason = coverage.reason.as_ref().map(|reason| format!(" {reason}"));
            format!("{} {}{}", coverage.pod, coverage.state.name(), reason.unwrap_or_default())
        }
        (None, Some(deleted)) => format!("-{} {}", connection.uid, deleted.seen),
        (None, None) => format!("{}@{}", connection.uid, connection.generation),
    };
    inner.waiting.iter().map(say).collect()
}

fn there(uids: &[&str]) -> BTreeSet<String> {
    uids.iter().map(|uid| (*uid).to_owned()).collect()
}

fn subject() -> Workload {
    Workload {
        cluster: "prod".into(),
        namespace: "bqwitness".into(),
        service_account: "operator".into(),
        pod: "operator-0".into(),
        pod_uid: "u".into(),
        node: None,
    }
}

fn on_record(uid: &str, generation: u64) -> ConnectionEntry {
    ConnectionEntry {
        index: 1,
        received: Timestamp::UNIX_EPOCH,
        subject: subject(),
        connection: named(uid, generation),
        accepted: Some(Accepted::default()),
        gone: None,
    }
}

fn pod_on_record(seen: Seen) -> CoverageEntry {
    CoverageEntry {
        index: 2,
        received: Timestamp::UNIX_EPOCH,
        subject: subject(),
        connection: Some(seen.connection),
        coverage: seen.coverage,
    }
}

fn refused(category: &'static str) -> NotRecorded {
    NotRecorded::new(category, "no")
}

#[test]
fn each_generation_is_noted_once() {
    let diary = diary();
    for generation in [1, 1, 2, 2, 1, 3] {
        diary.connection(&connection("c", generation));
    }
    assert_eq!(waiting(&diary), ["c@1", "c@2", "c@3"]);
}

#[test]
fn replicas_that_do_not_lead_note_nothing() {
    let diary = Diary::new(Metrics::new(&Registry::new()).unwrap());
    diary.connection(&connection("c", 1));
    diary.pods("agents", vec![covered("a")], &HashSet::new());
    assert_eq!(waiting(&diary), [""; 0]);
}

#[test]
fn a_deletion_is_noted_once_however_it_is_noticed() {
    let diary = diary();
    for uid in ["seen", "missed", "leaving"] {
        diary.connection(&connection(uid, 1));
    }
    diary.connection_gone(&connection("seen", 2));
    let leaving = with("leaving", 1, &json!({"deletionTimestamp": "2026-11-22T10:00:00Z"}));
    diary.connection(&leaving);
    diary.connections_left("agents", &there(&["leaving"]));
    diary.connections_left("elsewhere", &there(&[]));
    diary.connection_gone(&leaving);
    diary.connection_gone(&connection("seen", 2));
    // A look that began before may still have it.
    diary.connection(&connection("seen", 2));
    diary.connections_left("agents", &there(&[]));
    assert_eq!(
        waiting(&diary)[3..],
        ["seen@2", "-seen true", "-leaving true", "-missed false"].map(str::to_owned)
    );
}

#[test]
fn a_pod_is_noted_when_something_changes_until_it_ends() {
    let diary = diary();
    let look = |selected: Vec<Seen>| diary.pods("agents", selected, &HashSet::from(["uid-of-b".to_owned()]));
    let without = || seen("a", CoverageState::Uncovered, Some("no_sidecar"));
    look(vec![without()]);
    look(vec![without(), covered("b")]);
    look(vec![seen("a", CoverageState::Uncovered, Some("sidecar_stopped")), covered("b")]);
    look(vec![covered("a")]);
    diary.pods("elsewhere", vec![], &HashSet::new());
    look(vec![]);
    look(vec![]);
    let expected = [
        "a uncovered no_sidecar",
        "b covered",
        "a uncovered sidecar_stopped",
        "b ended unselected",
        "a covered",
        "a ended",
    ];
    assert_eq!(waiting(&diary), expected);
}

#[test]
fn what_is_on_record_is_not_entered_again() {
    let diary = diary();
    // Seen before the record could be asked.
    diary.connection(&connection("same", 2));
    diary.connection(&connection("newer", 3));
    diary.pods("agents", vec![covered("same"), covered("other")], &HashSet::new());
    let entries = vec![on_record("same", 2), on_record("newer", 2), on_record("gone", 1)];
    let without = seen("other", CoverageState::Uncovered, Some("no_sidecar"));
    let pods = [covered("same"), without, covered("gone")].map(pod_on_record);
    assert_eq!(diary.learn(entries, pods.into()), there(&["agents"]));
    assert_eq!(waiting(&diary), ["newer@3", "other covered"]);
    assert_eq!((diary.recorded("same"), diary.recorded("newer")), (Some(2), Some(2)));
    // What is on record and no longer there is found gone, once.
    for _ in 0..2 {
        diary.connections_left("agents", &there(&["same", "newer"]));
        diary.pods("agents", vec![covered("same"), covered("other")], &HashSet::new());
    }
    assert_eq!(waiting(&diary)[2..], ["-gone false", "gone ended"].map(str::to_owned));
}

#[test]
fn what_came_and_went_before_the_record_was_known_stays_noted() {
    let diary = diary();
    diary.connection(&connection("c", 1));
    diary.connection_gone(&connection("c", 1));
    diary.pods("agents", vec![covered("a")], &HashSet::new());
    diary.pods("agents", vec![], &HashSet::new());
    diary.learn(vec![on_record("c", 1)], vec![pod_on_record(covered("a"))]);
    diary.connections_left("agents", &there(&[]));
    diary.pods("agents", vec![], &HashSet::new());
    assert_eq!(waiting(&diary), ["-c true", "a ended"]);
}

#[test]
fn what_was_not_recorded_stays_in_order() {
    let diary = diary();
    for generation in 1..=4 {
        diary.connection(&connection("c", generation));
    }
    let results =
        [Ok(()), Err(refused(TOO_LARGE)), Err(refused("session_closed")), Err(refused("session_closed"))];
    assert_eq!(diary.said(&results), there(&["agents"]));
    assert_eq!(waiting(&diary), ["c@3", "c@4"]);
    assert_eq!(diary.recorded("c"), Some(2), "what can't be entered holds nobody up");
    assert_eq!(diary.said(&[Ok(()), Ok(())]), there(&["agents"]));
    assert_eq!((waiting(&diary).len(), diary.recorded("c")), (0, Some(4)));
}

#[test]
fn a_full_diary_notes_the_last_state_when_there_is_room() {
    let diary = diary();
    let all = |state| (0..=MAX_WAITING).map(|pod| seen(&format!("{pod:05}"), state, None)).collect();
    diary.pods("agents", all(CoverageState::Covered), &HashSet::new());
    assert_eq!(waiting(&diary).len(), MAX_WAITING);
    diary.said(&[Ok(()), Ok(())]);
    diary.pods("agents", all(CoverageState::Covered), &HashSet::new());
    assert_eq!(waiting(&diary).last().unwrap(), &format!("{MAX_WAITING:05} covered"));
    diary.pods("agents", all(CoverageState::Outdated), &HashSet::new());
    assert_eq!(waiting(&diary).last().unwrap(), "00000 outdated");
}

#[tokio::test]
async fn whoever_waits_is_told() {
    let diary = diary();
    let waits = {
        let diary = diary.clone();
        tokio::spawn(async move { diary.first(10).await.len() })
    };
    tokio::task::yield_now().await;
    diary.connection(&connection("c", 1));
    assert_eq!(waits.await.unwrap(), 1);
}
