//! Generations of a connection as entries: those that were superseded before they could be entered, and the one that is stored. Pure.

use connection::digest::{canonical, canonical_spec, spec_digest};
use connection::{BigQueryConnection, BigQueryConnectionSpec, names};
use deliver::Notice;
use kube::ResourceExt as _;
use ledger::canonical;
use ledger::operator::{Accepted, Requester};
use ledger::statement::{Body, Connection};
use serde_json::Value;

use crate::accepted::{self, Before};

/// The connection as entries name it, with the generation that is stored.
#[must_use]
pub fn named(connection: &BigQueryConnection) -> Connection {
    Connection {
        namespace: connection.namespace().unwrap_or_default(),
        name: connection.name_any(),
        uid: connection.uid().unwrap_or_default(),
        generation: generation(connection.metadata.generation),
        spec_digest: Some(spec_digest(&connection.spec)),
    }
}

/// Every generation that may have to be entered, in order: the last is the one that is stored.
#[must_use]
pub fn notices(connection: &BigQueryConnection) -> Vec<Notice> {
    let annotation = |name: &str| connection.annotations().get(name).map(String::as_str);
    let now = named(connection);
    let before =
        annotation(names::ACCEPTED_BEFORE_ANNOTATION).map(Before::from_annotation).unwrap_or_default();
    let earlier = before.into_iter().filter(|before| generation(Some(before.generation)) < now.generation);
    let mut notices: Vec<_> = earlier.map(|before| superseded(&now, before)).collect();
    let noted = annotation(names::ACCEPTED_ANNOTATION).and_then(accepted::Accepted::from_annotation);
    let spec = serde_json::from_str(&canonical_spec(&connection.spec)).unwrap_or_default();
    notices.push(notice(now, spec, noted, false));
    notices
}

/// What the webhook kept of a generation when the next one came.
fn superseded(now: &Connection, before: Before) -> Notice {
    // As pods of that generation were told. One that this version can't read is entered as it was stored.
    let spec = serde_json::from_value::<BigQueryConnectionSpec>(before.spec.clone())
        .ok()
        .and_then(|spec| serde_json::from_str(&canonical_spec(&spec)).ok())
        .unwrap_or_else(|| canonical(before.spec));
    let generation = generation(Some(before.generation));
    let digest = Some(canonical::digest(spec.clone()));
    notice(Connection { generation, spec_digest: digest, ..now.clone() }, spec, before.accepted, true)
}

fn notice(
    connection: Connection,
    spec: Value,
    noted: Option<accepted::Accepted>,
    superseded: bool,
) -> Notice {
    // A note on another spec is from before a time without a webhook.
    let noted = noted.filter(|noted| Some(noted.spec) == connection.spec_digest);
    let by = noted.map(|accepted::Accepted { user, groups, truncated, spec: _ }| Requester {
        user,
        groups,
        truncated,
    });
    let accepted = Accepted { spec, by, superseded };
    Notice { connection, body: Body { accepted: Some(accepted), ..Body::default() } }
}

fn generation(generation: Option<i64>) -> u64 {
    generation.and_then(|generation| u64::try_from(generation).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;
    use serde_json::json;

    fn spec(project: &str) -> Value {
        json!({"pods": {"serviceAccountName": "billing"}, "project": project, "identity": {"mode": "Passthrough"}})
    }

    fn accepted(user: &str, spec: &Value) -> accepted::Accepted {
        let typed: BigQueryConnectionSpec = serde_json::from_value(spec.clone()).unwrap();
        let user = UserInfo {
            username: Some(user.into()),
            groups: Some(vec!["system:authenticated".into()]),
            ..UserInfo::default()
        };
        accepted::Accepted::new(&user, spec_digest(&typed))
    }

    fn connection(annotations: &Value) -> BigQueryConnection {
        serde_json::from_value(json!({
            "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection",
            "metadata": {"namespace": "agents", "name": "billing", "uid": "u-1", "generation": 3, "annotations": annotations},
            "spec": spec("acme-three"),
        }))
        .unwrap()
    }

    #[test]
    fn the_stored_generation_is_entered_with_who_asked_for_it() {
        let noted = accepted("dev-lead", &spec("acme-three")).to_annotation();
        let [one] = &notices(&connection(&json!({names::ACCEPTED_ANNOTATION: noted})))[..] else { panic!() };
        let said = one.body.accepted.as_ref().unwrap();
        assert_eq!((one.connection.uid.as_str(), one.connection.generation), ("u-1", 3));
        assert_eq!(
            Some(said.spec_digest()),
            one.connection.spec_digest,
            "the digest is of the spec that is entered"
        );
        assert_eq!(said.by.as_ref().unwrap().user, "dev-lead");
        assert_eq!((said.spec["project"].as_str(), said.superseded), (Some("acme-three"), false));
    }

    #[test]
    fn a_note_on_another_spec_names_nobody() {
        let stale = accepted("dev-lead", &spec("acme-two")).to_annotation();
        for annotations in [json!({names::ACCEPTED_ANNOTATION: stale}), json!({})] {
            let [one] = &notices(&connection(&annotations))[..] else { panic!() };
            assert_eq!(one.body.accepted.as_ref().unwrap().by, None);
        }
    }

    #[test]
    fn superseded_generations_come_first_and_in_order() {
        let before =
            [(1, "acme-one", "dev-lead"), (2, "acme-two", "analyst-b")].map(|(generation, project, user)| {
                Before { generation, accepted: Some(accepted(user, &spec(project))), spec: spec(project) }
            });
        let annotations = json!({
            names::ACCEPTED_ANNOTATION: accepted("analyst-c", &spec("acme-three")).to_annotation(),
            names::ACCEPTED_BEFORE_ANNOTATION: Before::to_annotation(&before),
        });
        let found: Vec<_> = notices(&connection(&annotations))
            .into_iter()
            .map(|notice| {
                let said = notice.body.accepted.unwrap();
                assert_eq!(Some(said.spec_digest()), notice.connection.spec_digest);
                (notice.connection.generation, said.by.unwrap().user, said.superseded)
            })
            .collect();
        assert_eq!(
            found,
            [(1, "dev-lead".into(), true), (2, "analyst-b".into(), true), (3, "analyst-c".into(), false)]
        );
    }
}
