//! Last step: the connection's status, from what was applied.

mod credentials;
mod recorder;

use std::sync::Arc;

use connection::digest::spec_digest;
use connection::refuse::Refusal;
use connection::status::{ConnectionStatus, condition};
use connection::{BigQueryConnection, names};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::Controller;
use super::apply::Applied;
use super::validate::Valid;

/// What was heard of the recorder.
struct Heard {
    recorder: Finding,
    /// The newest generation on record.
    recorded: Option<u64>,
    /// Was that asked yet? Before, what was said of it last stays.
    known: bool,
}

/// One condition before it has a time.
struct Finding {
    kind: &'static str,
    /// `None`: it can't be known.
    holds: Option<bool>,
    reason: &'static str,
    message: String,
}

pub(super) async fn update(
    controller: &Controller,
    connection: &Arc<BigQueryConnection>,
    valid: &Result<Valid, Vec<Refusal>>,
    applied: &Applied,
) -> Result<(), kube::Error> {
    let heard = Heard {
        recorder: recorder::reachable(controller, connection),
        recorded: connection.uid().and_then(|uid| controller.diary.recorded(&uid)),
        known: controller.diary.is_known(),
    };
    let next = status(connection, valid, applied, heard, Timestamp::now());
    if connection.status.as_ref() == Some(&next) {
        return Ok(());
    }
    let namespace = connection.namespace().unwrap_or_default();
    let api: Api<BigQueryConnection> = Api::namespaced(controller.client.clone(), &namespace);
    let patch = Patch::Apply(json!({
        "apiVersion": "bqwitness.dev/v1alpha1",
        "kind": "BigQueryConnection",
        // The status is of this object: one that was deleted and made again meanwhile is another.
        "metadata": {"name": connection.name_any(), "uid": connection.uid()},
        "status": next,
    }));
    let parameters = PatchParams::apply(names::OPERATOR).force();
    match api.patch_status(&connection.name_any(), &parameters, &patch).await {
        Err(kube::Error::Api(error)) if error.code == 404 || error.code == 409 => Ok(()), // gone; the watch will say so
        other => other.map(drop),
    }
}

fn status(
    connection: &BigQueryConnection,
    valid: &Result<Valid, Vec<Refusal>>,
    applied: &Applied,
    heard: Heard,
    now: Timestamp,
) -> ConnectionStatus {
    let said = &applied.said;
    let old = connection.status.clone().unwrap_or_default();
    let mut findings = vec![
        config_valid(valid, &said.overlaps),
        heard.recorder,
        credentials::ready(connection, &said.pods),
        injecting(said.asked.unwrap_or_else(|| was(condition::INJECTING, &old.conditions))),
        covered(applied),
    ];
    findings.push(ready(&findings));
    ConnectionStatus {
        observed_generation: connection.metadata.generation,
        spec_digest: Some(spec_digest(&connection.spec).to_string()),
        recorded_generation: heard
            .recorded
            .and_then(|generation| i64::try_from(generation).ok())
            .or(old.recorded_generation.filter(|_| !heard.known)),
        conditions: findings.into_iter().map(|one| dated(one, &old.conditions, connection, now)).collect(),
        pods: said.counts,
        overlaps: said.overlaps.clone(),
    }
}

fn config_valid(valid: &Result<Valid, Vec<Refusal>>, overlaps: &[String]) -> Finding {
    let (holds, reason, message) = match valid {
        Err(refusals) => {
            let sentences: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            (Some(false), "Invalid", sentences.join("; "))
        }
        Ok(_) if overlaps.is_empty() => (Some(true), "Valid", "The spec can be used.".into()),
        Ok(_) => (
            Some(true),
            "Overlapping",
            format!(
                "The spec can be used. Other connections select some of the same pods, and the older wins: {}.",
                overlaps.join(", ")
            ),
        ),
    };
    Finding { kind: condition::CONFIG_VALID, holds, reason, message }
}

fn covered(applied: &Applied) -> Finding {
    let counts = applied.said.counts;
    let (holds, reason, message) = match (counts.matched, counts.uncovered, counts.outdated) {
        (0, ..) => (Some(true), "NoPods", "No pod is selected now.".into()),
        (_, 0, 0) => (Some(true), "AllCovered", format!("All {} pods are recorded.", counts.matched)),
        (all, 0, outdated) => (
            Some(true),
            "Outdated",
            format!(
                "All {all} pods are recorded, {outdated} of them under an earlier spec or image: restart these."
            ),
        ),
        (all, uncovered, _) => {
            let named =
                applied.said.pods.iter().filter_map(|(pod, state)| Some((pod.name_any(), state.reason()?)));
            let first: Vec<_> =
                named.take(MAX_NAMED).map(|(name, reason)| format!("{name} ({reason})")).collect();
            let more = if usize::try_from(uncovered).unwrap_or(0) > first.len() { ", ..." } else { "" };
            let message = format!(
                "{uncovered} of {all} pods run without a working sidecar: {}{more}.",
                first.join(", ")
            );
            (Some(false), "Uncovered", message)
        }
    };
    Finding { kind: condition::COVERED, holds, reason, message }
}

/// Most pods that a condition names.
const MAX_NAMED: usize = 5;

/// What the leader before this one said last.
fn was(kind: &str, old: &[Condition]) -> bool {
    old.iter().any(|one| one.type_ == kind && one.status == "True")
}

fn injecting(asked: bool) -> Finding {
    let (reason, message) = if asked {
        ("WebhookAsked", "Pods that are created now get the sidecar.")
    } else {
        (
            "WebhookPending",
            "The API server does not yet ask the webhook about pods of this namespace; it will in a moment.",
        )
    };
    Finding { kind: condition::INJECTING, holds: Some(asked), reason, message: message.into() }
}

fn ready(findings: &[Finding]) -> Finding {
    let (holds, reason, message) = match findings.iter().find(|one| one.holds == Some(false)) {
        Some(first) => (Some(false), first.reason, first.message.clone()),
        None => (
            Some(true),
            "Ready",
            "Every selected pod is recorded, and so are those that are created now.".into(),
        ),
    };
    Finding { kind: condition::READY, holds, reason, message }
}

/// The time of a condition is when it last changed, not when it was last looked at.
fn dated(finding: Finding, old: &[Condition], connection: &BigQueryConnection, now: Timestamp) -> Condition {
    let Finding { kind, holds, reason, message } = finding;
    let status = match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let same = old.iter().find(|one| one.type_ == kind && one.status == status);
    // To the second, as the API server keeps it.
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: connection.metadata.generation,
        last_transition_time: same.map_or(now, |one| one.last_transition_time.clone()),
    }
}
