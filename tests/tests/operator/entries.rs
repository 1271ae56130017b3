//! What the operator enters in the record: every accepted spec, deletions, and pods' coverage, each once, whatever is away meanwhile.

use std::time::{Duration, Instant};

use bqwitness_tests::log::{self, Logged};
use bqwitness_tests::tools::root;
use ledger::entry::Role;
use ledger::statement::kind;
use serde_json::{Value, json};

use crate::stand::{BILLING, PATIENCE, Stand, condition, connection, logged, pod};

/// `kubectl` as somebody else, who may do everything.
fn as_user<'a>(user: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&["--as", user, "--as-group", "system:masters"], words].concat()
}

/// The connection with another project.
fn with_project(project: &str) -> Value {
    let mut connection = connection("billing");
    connection["spec"]["project"] = project.into();
    connection
}

async fn apply_as(stand: &Stand, user: &str, manifest: &Value) {
    let words = as_user(user, &["apply", "-f", "-"]);
    let answer = stand.kubectl.feed(&words, &manifest.to_string()).await.unwrap();
    assert!(answer.success(), "{}", answer.said());
}

/// Generation, project and who asked for it, of each accepted spec.
fn accepted(entries: &[Logged]) -> Vec<(u64, String, String)> {
    let of = |entry: &Logged| {
        let accepted = entry.statement.body.accepted.as_ref()?;
        let named = entry.statement.connection.as_ref().unwrap();
        assert_eq!(named.spec_digest, Some(accepted.spec_digest()), "the digest is the spec's");
        let by = accepted.by.as_ref().map(|by| by.user.clone()).unwrap_or_default();
        Some((named.generation, accepted.spec["project"].as_str().unwrap().to_owned(), by))
    };
    entries.iter().filter_map(of).collect()
}

/// `pod state reason`, of each word about a pod.
fn coverage(entries: &[Logged]) -> Vec<String> {
    let of = |entry: &Logged| {
        let said = entry.statement.body.coverage.as_ref()?;
        Some(
            format!("{} {} {}", said.pod, said.state.name(), said.reason.clone().unwrap_or_default())
                .trim()
                .to_owned(),
        )
    };
    entries.iter().filter_map(of).collect()
}

fn spec(generation: u64, project: &str, user: &str) -> (u64, String, String) {
    (generation, project.into(), user.into())
}

fn recorded(generation: i64) -> impl Fn(&Value) -> bool {
    move |found| found["status"]["recordedGeneration"] == generation
}

#[tokio::test]
async fn accepted_specs_and_coverage_are_entered_once_whatever_is_away() {
    let Some((mut stand, mut recorder)) = Stand::recorded().await else { return };
    stand.created(&pod("early", &json!({}))).await;
    apply_as(&stand, "analyst-a", &connection("billing")).await;
    let reached = |found: &Value| condition(found, "RecorderReachable")["status"] == "True";
    let taking =
        stand.until(BILLING, "the first spec on record", |found| recorded(1)(found) && reached(found)).await;
    assert_eq!(condition(&taking, "CredentialsReady")["reason"], "Passthrough");

    what_is_not_stored_is_not_entered(&stand).await;
    apply_as(&stand, "intruder", &with_project("other-project")).await;
    stand.until(BILLING, "the second spec on record", recorded(2)).await;
    stand.kubectl.say(&["-n", "agents", "label", "bqc", "billing", "team=billing"]).await.unwrap();
    // What is on record is published a moment later, in its order.
    let both = |entries: &[Logged]| accepted(entries).len() >= 2 && !coverage(entries).is_empty();
    let entries = logged(&recorder, "the second spec, and early uncovered", both).await;
    assert_eq!(
        accepted(&entries),
        [spec(1, "acme-billing", "analyst-a"), spec(2, "other-project", "intruder")]
    );
    assert_eq!(coverage(&entries), ["early uncovered no_sidecar"]);

    // The recorder is away: the status says so, and what happens meanwhile waits.
    recorder.kill().unwrap();
    stand
        .until(BILLING, "the recorder is away", |found| {
            condition(found, "RecorderReachable")["status"] == "False"
        })
        .await;
    for (user, project) in [("analyst-b", "third-project"), ("analyst-c", "fourth-project")] {
        apply_as(&stand, user, &with_project(project)).await;
    }
    stand
        .kubectl
        .say(&["-n", "agents", "delete", "pod", "early", "--force", "--grace-period=0"])
        .await
        .unwrap();
    let away = stand
        .until(BILLING, "what waits", |found| {
            let said = condition(found, "RecorderReachable");
            found["status"]["observedGeneration"] == 4
                && said["message"].to_string().contains("not on record yet")
        })
        .await;
    assert_eq!(away["status"]["recordedGeneration"], 2);
    three_entries_wait(&stand).await;

    // And the operator is killed before it comes back: the next one enters what the connection itself kept.
    stand.take_operator().kill().unwrap();
    stand.operator = Some(stand.begin("operator-1").await);
    stand.created(&with_project("fifth-project")).await;
    recorder.start_again().await.unwrap();
    stand.until(BILLING, "everything on record", recorded(5)).await;

    stand.kubectl.say(&["-n", "agents", "delete", "bqc", "billing"]).await.unwrap();
    logged(&recorder, "the deletion", |entries| {
        entries.iter().any(|entry| entry.statement.body.gone.is_some_and(|gone| gone.seen))
    })
    .await;
    what_auditors_are_told(&stand, &recorder).await;
    stand.take_operator().stop().await.unwrap();
    let data = recorder.data().to_owned();
    recorder.stop().await.unwrap();
    let entries = log::read(&data).unwrap();
    let all = [
        spec(1, "acme-billing", "analyst-a"),
        spec(2, "other-project", "intruder"),
        spec(3, "third-project", "analyst-b"),
        spec(4, "fourth-project", "analyst-c"),
        spec(5, "fifth-project", "admin"),
    ];
    assert_eq!(accepted(&entries), all);
    assert_eq!(coverage(&entries), ["early uncovered no_sidecar", "early ended"]);
    each_is_as_the_formats_say(&data, &entries);
}

/// Two specs, and the end of a pod: connections and pods are watched apart, so it may come after the status.
async fn three_entries_wait(stand: &Stand) {
    let start = Instant::now();
    loop {
        let metrics = stand.operator().metrics().await.unwrap();
        assert!(metrics.contains("bqwitness_operator_recorder_reachable 0"), "{metrics}");
        let waiting =
            metrics.lines().find_map(|line| line.strip_prefix("bqwitness_operator_entries_waiting "));
        if waiting.unwrap().parse::<u32>().unwrap() >= 3 {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{metrics}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Dry runs, and updates that are refused: by the webhook, by the schema.
async fn what_is_not_stored_is_not_entered(stand: &Stand) {
    let dry = ["apply", "--dry-run=server", "-f", "-"];
    let answer = stand.kubectl.feed(&dry, &with_project("dry-project").to_string()).await.unwrap();
    assert!(answer.success(), "{}", answer.said());
    let mut invalid = with_project("bad-project");
    invalid["spec"]["pods"] = json!({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}});
    stand.refused(&invalid).await;
    stand.refused(&with_project("No Project")).await;
}

async fn what_auditors_are_told(stand: &Stand, recorder: &bqwitness_tests::programs::Recorder) {
    let auditor = stand.auditor(recorder).await;
    // The index follows behind the log; the deletion is what comes last.
    let start = Instant::now();
    let told = loop {
        let told = auditor.bqwitness(&["connections"]).await.unwrap();
        assert!(told.success(), "{}", told.said());
        if told.stdout.contains("deleted") {
            break told;
        }
        assert!(start.elapsed() < PATIENCE, "{}", told.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    for word in ["intruder", "agents/billing"] {
        assert!(told.stdout.contains(word), "no {word} in {}", told.stdout);
    }
    assert!(!told.stdout.contains("MISSING") && !told.stdout.contains("NOT OF ITS SPEC"), "{}", told.stdout);
    let covered = auditor.bqwitness(&["coverage", "--from", "1h"]).await.unwrap();
    assert!(
        covered.stdout.contains("agents/early") && covered.stdout.contains("uncovered: no_sidecar"),
        "{}",
        covered.said()
    );
}

/// The operator's entries are its own, in sessions that begin and go on, and fit the published schema.
fn each_is_as_the_formats_say(data: &std::path::Path, entries: &[Logged]) {
    let schema = std::fs::read(root().join("docs/schema/entry.v1.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
    for leaf in log::leaves(data).unwrap() {
        let leaf: Value = serde_json::from_slice(&leaf).unwrap();
        let wrong: Vec<_> = schema.iter_errors(&leaf).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?}: {leaf:#}");
    }
    let kinds = [kind::CONNECTION_ACCEPTED, kind::CONNECTION_DELETED, kind::COVERAGE_POD];
    for entry in entries.iter().filter(|entry| kinds.contains(&entry.statement.kind.as_str())) {
        assert_eq!(entry.envelope.role, Role::Operator, "{entry:?}");
        assert_eq!(entry.envelope.subject.to_string(), "bqwitness/bqwitness-operator");
    }
    let ends = entries.iter().filter(|entry| entry.statement.kind == kind::SESSION_END).count();
    assert_eq!(ends, 1, "the last operator has ended its session");
}
