//! A pod whose sidecar stops, or hangs, is said to be uncovered wherever somebody may look, and covered again afterwards.

use std::time::{Duration, Instant};

use bqwitness_tests::kubelet::RunningPod;
use bqwitness_tests::log::{self, Logged};
use rustix::process::Signal;
use serde_json::Value;

use crate::PATIENCE;
use crate::world::World;

const SIDECAR: &str = "bqwitness-proxy";

/// What the record is to have of it, in order.
const SAID: [&str; 5] =
    ["covered", "uncovered sidecar_stopped", "covered", "uncovered sidecar_not_ready", "covered"];

/// Covered, stopped, covered, hanging, covered.
pub(crate) async fn is_said(world: &World, running: &mut RunningPod) {
    covered(world, running).await;
    // A pod whose agent is still held back is covered already; that its sidecar is ready comes later.
    until(world, "a ready sidecar's credential", async || {
        condition(&world.connection("warehouse").await, "CredentialsReady")["reason"] == "Obtained"
    })
    .await;

    running.crash(SIDECAR).unwrap();
    uncovered(world, running, "sidecar_stopped", "its sidecar has stopped").await;
    running.start_again(SIDECAR).await.unwrap();
    covered(world, running).await;
    until(world, "an event of recovery", || event(world, "BigQueryRecorded", "works again")).await;

    let sidecar = running.sidecar(SIDECAR).unwrap();
    sidecar.signal(Signal::STOP).unwrap();
    let id = sidecar.id();
    until(world, "sidecar that hangs", async || hangs(id)).await;
    uncovered(world, running, "sidecar_not_ready", "its sidecar is not ready").await;
    running.sidecar(SIDECAR).unwrap().signal(Signal::CONT).unwrap();
    covered(world, running).await;
    let recorder = world.recorder.data();
    // What is being published may be torn between two files.
    let recorded = async || {
        let entries = log::read(recorder).unwrap_or_default();
        entries.iter().filter(|entry| entry.statement.body.coverage.is_some()).count() >= SAID.len()
    };
    until(world, "the last of it on record", recorded).await;
}

/// The entries about this pod, and nobody else's.
pub(crate) fn is_on_record(entries: &[Logged], pod: &Value) {
    let all = entries.iter().filter_map(|entry| entry.statement.body.coverage.as_ref());
    let mut said = Vec::new();
    for one in all {
        assert_eq!(one.pod_uid, pod["metadata"]["uid"].as_str().unwrap(), "{one:?}");
        let reason = one.reason.as_deref().unwrap_or_default();
        said.push(format!("{} {reason}", one.state.name()).trim().to_owned());
    }
    assert_eq!(said, SAID);
}

async fn covered(world: &World, running: &mut RunningPod) {
    until(world, "ready sidecar", async || running.sidecar_is_ready(SIDECAR).await.unwrap()).await;
    running.report(&world.node).await.unwrap();
    until(world, "covered", async || {
        let found = world.connection("warehouse").await;
        let (covered, ready) = (condition(&found, "Covered"), condition(&found, "Ready"));
        let all =
            covered["status"] == "True" && covered["reason"] == "AllCovered" && ready["status"] == "True";
        all && found["status"]["pods"]["covered"] == 1 && counted(world, "covered").await
    })
    .await;
}

/// Status, its reason and its message, the metric, and an event of the pod.
async fn uncovered(world: &World, running: &mut RunningPod, reason: &str, advice: &str) {
    running.report(&world.node).await.unwrap();
    until(world, reason, async || {
        let found = world.connection("warehouse").await;
        let (covered, ready) = (condition(&found, "Covered"), condition(&found, "Ready"));
        let all =
            covered["status"] == "False" && covered["reason"] == "Uncovered" && ready["status"] == "False";
        let named =
            covered["message"].as_str().is_some_and(|said| said.contains(&format!("nightly ({reason})")));
        all && named && found["status"]["pods"]["uncovered"] == 1 && counted(world, "uncovered").await
    })
    .await;
    until(world, advice, || event(world, "BigQueryNotRecorded", advice)).await;
}

/// Does the metric count one pod in this state, and none in the other?
async fn counted(world: &World, state: &str) -> bool {
    let metrics = world.operator.metrics().await.unwrap();
    let line = |state: &str, count: u32| {
        format!(
            "bqwitness_operator_pods{{connection=\"warehouse\",namespace=\"agents\",state=\"{state}\"}} {count}\n"
        )
    };
    let other = if state == "covered" { "uncovered" } else { "covered" };
    metrics.contains(&line(state, 1)) && metrics.contains(&line(other, 0))
}

/// Has the pod an event of this reason that says so?
async fn event(world: &World, reason: &str, says: &str) -> bool {
    let selector = format!("reason={reason}");
    let words = ["-n", "agents", "get", "events.events.k8s.io", "--field-selector", &selector];
    let found = world.kubectl.json(&words).await.unwrap();
    found["items"].as_array().unwrap().iter().any(|event| {
        event["regarding"]["name"] == "nightly"
            && event["note"].as_str().is_some_and(|note| note.contains(says))
    })
}

fn condition(connection: &Value, kind: &str) -> Value {
    let all = connection["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["type"] == kind).unwrap_or_default()
}

/// Is every thread of the process stopped? On a busy machine one of them may answer for a while after the signal.
fn hangs(id: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
    // proc_pid_stat(5): the state stands after the name, which is in parentheses and may hold anything.
    let stopped =
        |stat: &str| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'));
    threads
        .flatten()
        .all(|thread| std::fs::read_to_string(thread.path().join("stat")).is_ok_and(|stat| stopped(&stat)))
}

async fn until(world: &World, what: &str, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        if start.elapsed() > PATIENCE {
            let found = world.connection("warehouse").await;
            panic!("no {what}: {:#}\n{}", found["status"], world.operator.log());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
