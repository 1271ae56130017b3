//! What an operator says of the connection `billing` of a namespace.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ledger::batch::Batch;
use ledger::digest::Digest;
use ledger::operator::{Accepted, CoverageState, Gone, PodCoverage, Requester};
use ledger::statement::{Body, Connection, Statement, kind};
use serde_json::json;

use super::{Speaker, only};

/// A statement about the connection with this UID, in a namespace.
fn about(
    speaker: &mut Speaker,
    kind: &str,
    (namespace, uid): (&str, &str),
    generation: u64,
    body: Body,
) -> Batch {
    let (seq, prev) = (speaker.seq, speaker.prev);
    let mut statement = Statement::parse(&speaker.say(kind, body, BTreeMap::new())).unwrap();
    (speaker.seq, speaker.prev) = (seq + 1, prev);
    statement.connection = Some(Connection {
        namespace: namespace.into(),
        name: "billing".into(),
        uid: uid.into(),
        generation,
        spec_digest: None,
    });
    let bytes = statement.to_bytes().unwrap();
    speaker.prev = Some(Digest::of(&bytes));
    only(bytes)
}

pub fn accepted(speaker: &mut Speaker, uid: &str, generation: u64) -> Batch {
    accepted_in(speaker, "agents", uid, generation)
}

pub fn accepted_in(speaker: &mut Speaker, namespace: &str, uid: &str, generation: u64) -> Batch {
    let by = Requester { user: "analyst-a".into(), groups: vec!["dev".into()], truncated: false };
    let accepted = Accepted { spec: json!({"project": "acme"}), by: Some(by), superseded: false };
    let body = Body { accepted: Some(accepted), ..Body::default() };
    about(speaker, kind::CONNECTION_ACCEPTED, (namespace, uid), generation, body)
}

pub fn deleted(speaker: &mut Speaker, uid: &str) -> Batch {
    let body = Body { gone: Some(Gone { seen: true }), ..Body::default() };
    about(speaker, kind::CONNECTION_DELETED, ("agents", uid), 1, body)
}

pub fn pod(speaker: &mut Speaker, name: &str, state: CoverageState) -> Batch {
    pod_in(speaker, "agents", name, state)
}

pub fn pod_in(speaker: &mut Speaker, namespace: &str, name: &str, state: CoverageState) -> Batch {
    let now = Timestamp::now();
    let coverage = PodCoverage {
        namespace: namespace.into(),
        pod: name.into(),
        pod_uid: format!("uid-of-{name}"),
        service_account: "billing".into(),
        created: now,
        since: now,
        state,
        reason: None,
    };
    let body = Body { coverage: Some(coverage), ..Body::default() };
    about(speaker, kind::COVERAGE_POD, (namespace, "one"), 1, body)
}
