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
use crate::accepted::{Accepted, Before, MAX_BEFORE};

/// Longest spec in canonical JSON, in bytes: its acceptance is one entry, with the spec in it.
pub const MAX_SPEC: usize = 32 * 1024;

/// A connection is created or changed: whoever changed the spec is noted in it. Who changed something else leaves the note.
#[must_use]
pub fn mutate(request: &Request) -> Answer {
    // What can't be read is for the schema to refuse, which comes next and says it better; and then for `validate`.
    let Ok(notes) = notes(request) else { return Answer::allowed("unreadable") };
    let mut becomes = request.object.clone();
    if becomes["metadata"]["annotations"].is_null() {
        becomes["metadata"]["annotations"] = Value::Object(serde_json::Map::new());
    }
    if let Some(annotations) = becomes["metadata"]["annotations"].as_object_mut() {
        for (name, note) in notes {
            match note {
                Some(note) => annotations.insert(name.into(), note.into()),
                None => annotations.remove(name),
            };
        }
    }
    Answer { becomes: Some(becomes), ..Answer::allowed("noted") }
}

/// What our annotations must say, or that one must not be there.
type Notes = [(&'static str, Option<String>); 2];

fn notes(request: &Request) -> Result<Notes, serde_json::Error> {
    let kept = |name: &str| request.old_object["metadata"]["annotations"][name].as_str().map(str::to_owned);
    let (accepted, before) = (kept(names::ACCEPTED_ANNOTATION), kept(names::ACCEPTED_BEFORE_ANNOTATION));
    let same = !request.old_object.is_null()
        && canonical(request.object["spec"].clone()) == canonical(request.old_object["spec"].clone());
    if same && accepted.is_some() {
        return Ok([(names::ACCEPTED_ANNOTATION, accepted), (names::ACCEPTED_BEFORE_ANNOTATION, before)]);
    }
    let connection: BigQueryConnection = serde_json::from_value(request.object.clone())?;
    let now = Accepted::new(&request.user_info, spec_digest(&connection.spec)).to_annotation();
    let before = if same { before } else { superseded(&request.old_object, accepted.as_deref(), before) };
    Ok([(names::ACCEPTED_ANNOTATION, Some(now)), (names::ACCEPTED_BEFORE_ANNOTATION, before)])
}

/// The generations that are not on record yet, with the one that goes now: whoever leads, and whatever it missed, can enter them.
fn superseded(old: &Value, accepted: Option<&str>, before: Option<String>) -> Option<String> {
    let recorded = old["status"]["recordedGeneration"].as_i64().unwrap_or(0);
    let mut all = before.map(|before| Before::from_annotation(&before)).unwrap_or_default();
    if let (Some(generation), spec @ Value::Object(_)) =
        (old["metadata"]["generation"].as_i64(), &old["spec"])
    {
        let accepted = accepted.and_then(Accepted::from_annotation);
        all.push(Before { generation, accepted, spec: spec.clone() });
    }
    all.retain(|before| before.generation > recorded);
    (!all.is_empty()).then(|| Before::to_annotation(&all))
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
    match notes(request) {
        Ok(notes) => {
            let wrong = notes.iter().filter_map(|(name, note)| noted(&connection, name, note.as_ref()));
            refusals.extend(wrong);
        }
        Err(error) => return malformed(&error),
    }
    Answer { warnings: overlaps(&connection, all), ..Answer::unless(refusals) }
}

/// Why not, where an annotation is not as it must be, or would be too long.
fn noted(connection: &BigQueryConnection, name: &str, note: Option<&String>) -> Option<Refusal> {
    if connection.annotations().get(name) != note {
        let sentence = format!("annotation {name} is the operator's own: another webhook has changed it");
        return Some(Refusal::new("annotation", sentence));
    }
    let length = note.filter(|_| name == names::ACCEPTED_BEFORE_ANNOTATION).map_or(0, String::len);
    (length > MAX_BEFORE).then(|| {
        Refusal::new(
            "not_on_record",
            "too many specs of this connection are not on record yet, because the operator can't enter them: change it again when \
             condition RecorderReachable is True",
        )
    })
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
