//! Connections: who asked for the spec is noted in them, and what the schema can't see is said.

use std::sync::Arc;

use connection::digest::{canonical, canonical_spec, spec_digest};
use connection::refuse::Refusal;
use connection::{BigQueryConnection, names, selection};
use kube::ResourceExt as _;
use ledger::log_keys::LogKeys;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use super::review::{Answer, Request};
use crate::accepted::Accepted;

/// Longest spec in canonical JSON, in bytes: its acceptance is one entry, with the spec in it.
pub const MAX_SPEC: usize = 32 * 1024;

/// A connection is created or changed: whoever changed the spec is noted in it. Who changed something else leaves the note.
#[must_use]
pub fn mutate(request: &Request) -> Answer {
    // What can't be read is for the schema to refuse, which comes next and says it better; and then for `validate`.
    let Ok(noted) = note(request) else { return Answer::allowed("unreadable") };
    let mut becomes = request.object.clone();
    if becomes["metadata"]["annotations"].is_null() {
        becomes["metadata"]["annotations"] = Value::Object(serde_json::Map::new());
    }
    becomes["metadata"]["annotations"][names::ACCEPTED_ANNOTATION] = noted.into();
    Answer { becomes: Some(becomes), ..Answer::allowed("noted") }
}

/// What the annotation must say.
fn note(request: &Request) -> Result<String, serde_json::Error> {
    let same = !request.old_object.is_null()
        && canonical(request.object["spec"].clone()) == canonical(request.old_object["spec"].clone());
    let kept = request.old_object["metadata"]["annotations"][names::ACCEPTED_ANNOTATION].as_str();
    if let (true, Some(kept)) = (same, kept) {
        return Ok(kept.to_owned());
    }
    let connection: BigQueryConnection = serde_json::from_value(request.object.clone())?;
    Ok(Accepted::new(&request.user_info, spec_digest(&connection.spec)).to_annotation())
}

/// What is about to be stored, as the schema can't check it.
#[must_use]
pub fn validate(request: &Request, all: &[Arc<BigQueryConnection>]) -> Answer {
    if request.operation == "DELETE" {
        return Answer::allowed("allowed");
    }
    let connection: BigQueryConnection = match serde_json::from_value(request.object.clone()) {
        Ok(connection) => connection,
        Err(error) => return malformed(&error),
    };
    let mut refusals = check(&connection);
    match note(request) {
        Ok(noted) if connection.annotations().get(names::ACCEPTED_ANNOTATION) != Some(&noted) => {
            refusals.push(Refusal::new(
                "annotation",
                format!(
                    "annotation {} is the operator's own: another webhook has changed it",
                    names::ACCEPTED_ANNOTATION
                ),
            ));
        }
        Ok(_) => {}
        Err(error) => return malformed(&error),
    }
    Answer { warnings: overlaps(&connection, all), ..Answer::unless(refusals) }
}

/// Mistakes in a spec that the schema can't see. The controller asks the same of what is stored.
#[must_use]
pub fn check(connection: &BigQueryConnection) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if let Err(sentence) = selection::check(&connection.spec.pods) {
        refusals.push(Refusal::new("selector", sentence));
    }
    if let Some(recorder) = &connection.spec.recorder {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(recorder.ca.as_bytes()).collect();
        if !certificates.is_ok_and(|certificates| !certificates.is_empty()) {
            refusals.push(Refusal::new("recorder_ca", "spec.recorder.ca: not a certificate in PEM"));
        }
        if let Err(error) = recorder.key.parse::<LogKeys>() {
            let sentence = format!("spec.recorder.key: {error}; take it from the recorder's log.vkey");
            refusals.push(Refusal::new("recorder_key", sentence));
        }
    }
    let length = canonical_spec(&connection.spec).len();
    if length > MAX_SPEC {
        let sentence = format!(
            "the spec has {length} bytes, and an entry of the record holds {MAX_SPEC}: shorten its selector"
        );
        refusals.push(Refusal::new("spec_too_large", sentence));
    }
    refusals
}

fn overlaps(connection: &BigQueryConnection, all: &[Arc<BigQueryConnection>]) -> Vec<String> {
    let mine = (connection.namespace(), connection.name_any());
    let other = |other: &&Arc<BigQueryConnection>| {
        other.namespace() == mine.0
            && other.name_any() != mine.1
            && selection::may_overlap(&connection.spec.pods, &other.spec.pods)
    };
    let say = |other: &Arc<BigQueryConnection>| {
        let name = other.name_any();
        let winner = if selection::wins(connection, other) { &mine.1 } else { &name };
        format!("bqwitness: {name} may select some of the same pods; {winner} is older and wins there")
    };
    all.iter().filter(other).map(say).collect()
}

fn malformed(error: &serde_json::Error) -> Answer {
    Answer::refused(vec![Refusal::new(
        "malformed",
        format!("this BigQueryConnection can't be read: {error}"),
    )])
}
