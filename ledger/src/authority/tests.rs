//! Whom calls can be followed to, and what stands in the way.

use serde_json::{Value, json};

use super::*;
use crate::call::Intent;
use crate::entry::{Envelope, Workload};
use crate::operator::{Accepted, Gone, Requester};
use crate::statement::{Body, Claimed, Observed, VERSION, kind};

fn connection(uid: &str, generation: u64, spec: &Value) -> Connection {
    Connection {
        namespace: "agents".into(),
        name: "billing".into(),
        uid: uid.into(),
        generation,
        spec_digest: Some(Accepted { spec: spec.clone(), ..Accepted::default() }.spec_digest()),
    }
}

/// Takes one entry of somebody in this cluster.
fn take(authority: &mut Authority, index: u64, cluster: &str, role: Role, about: Connection, body: Body) {
    let statement = Statement {
        v: VERSION,
        kind: kind::CALL_INTENT.into(),
        time: Timestamp::UNIX_EPOCH,
        connection: Some(about),
        session: uuid::Uuid::nil(),
        seq: index,
        prev: None,
        observed: Observed::default(),
        claimed: Claimed::default(),
        blobs: BTreeMap::new(),
        body,
    };
    let Subject::Workload(somebody) = crate::entry::tests::envelope().subject else { panic!("a workload") };
    let subject = Subject::Workload(Workload { cluster: cluster.into(), ..somebody });
    let envelope = Envelope { received: Timestamp::UNIX_EPOCH, subject, role };
    authority.take(index, &Entry { envelope, statement: b"" }, &statement);
}

fn call(authority: &mut Authority, about: Connection) {
    let body = Body { intent: Some(Intent::default()), ..Body::default() };
    take(authority, 9, "prod", Role::Sidecar, about, body);
}

fn accepted(spec: &Value, by: Option<&str>) -> Body {
    let by = by.map(|user| Requester { user: user.into(), ..Requester::default() });
    Body { accepted: Some(Accepted { spec: spec.clone(), by, superseded: false }), ..Body::default() }
}

#[test]
fn calls_are_followed_to_whoever_asked_for_their_spec() {
    let (one, two) = (json!({"project": "acme"}), json!({"project": "other"}));
    let mut authority = Authority::default();
    for (index, generation, spec, by) in
        [(1, 1, &one, Some("analyst-a")), (2, 2, &two, Some("intruder")), (3, 3, &one, None)]
    {
        let about = connection("u", generation, spec);
        take(&mut authority, index, "prod", Role::Operator, about, accepted(spec, by));
    }
    for about in [
        connection("u", 1, &one),
        connection("u", 1, &one),
        connection("u", 2, &one), // a spec that nobody accepted as this generation
        connection("u", 3, &one),
        connection("u", 4, &one),
    ] {
        call(&mut authority, about);
    }
    let found = authority.generations();
    let said: Vec<_> = found
        .iter()
        .map(|generation| {
            let standing = match generation.standing() {
                Standing::Asked { by, entry } => format!("{by} {}", entry.index),
                Standing::Nobody(entry) => format!("nobody {}", entry.index),
                Standing::Other(entry) => format!("another spec {}", entry.index),
                Standing::Unknown => "unknown".into(),
            };
            (generation.connection.generation, generation.calls, standing)
        })
        .collect();
    let expected = [(1, 2, "analyst-a 1"), (2, 1, "another spec 2"), (3, 1, "nobody 3"), (4, 1, "unknown")];
    assert_eq!(said, expected.map(|(generation, calls, said)| (generation, calls, said.to_owned())));
}

#[test]
fn what_is_anothers_authorizes_nothing() {
    let spec = json!({"project": "acme"});
    let about = connection("u", 1, &spec);
    let mut authority = Authority::default();
    call(&mut authority, about.clone());
    // Of another cluster, another connection of this UID, another UID, and by one who is no operator.
    take(&mut authority, 1, "eu", Role::Operator, about.clone(), accepted(&spec, Some("intruder")));
    let renamed = Connection { name: "other".into(), ..about.clone() };
    take(&mut authority, 2, "prod", Role::Operator, renamed, accepted(&spec, Some("intruder")));
    take(
        &mut authority,
        3,
        "prod",
        Role::Operator,
        connection("v", 1, &spec),
        accepted(&spec, Some("intruder")),
    );
    take(&mut authority, 4, "prod", Role::Sidecar, about.clone(), accepted(&spec, Some("intruder")));
    let gone = Body { gone: Some(Gone { seen: true }), ..Body::default() };
    take(&mut authority, 5, "prod", Role::Operator, about, gone);
    assert_eq!(authority.generations()[0].standing(), Standing::Unknown);
    assert_eq!((authority.connections(), authority.calls_unnamed()), (4, 0));
}

#[test]
fn memory_stays_flat() {
    let spec = json!({});
    let mut authority = Authority::default();
    for generation in 0..MAX_GENERATIONS as u64 + 2 {
        let about = connection("u", generation, &spec);
        call(&mut authority, about.clone());
        take(&mut authority, generation, "prod", Role::Operator, about, accepted(&spec, None));
    }
    assert_eq!((authority.generations().len(), authority.calls_beyond()), (MAX_GENERATIONS, 2));
    assert_eq!((authority.versions().len(), authority.versions_beyond()), (MAX_GENERATIONS, 2));
}
