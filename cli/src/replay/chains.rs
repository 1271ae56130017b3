//! Chains: the sessions of one pod under one connection, one after the other. A sidecar that was restarted begins a new
//! session; the agent beside it goes on.

use std::collections::HashMap;

use ledger::entry::Workload;
use ledger::search::Call;
use ledger::search::sessions::Session;
use serde::Serialize;

use super::runs::{How, Run, runs};
use super::steps::steps;
use super::{Found, Going};

/// What one pod did.
#[derive(Debug, Serialize)]
pub(crate) struct Chain {
    pub(crate) subject: Workload,
    /// `namespace/name`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection: Option<String>,
    /// In the order in which they began.
    pub(crate) sessions: Vec<Session>,
    /// In the order in which they began.
    pub(crate) runs: Vec<Run>,
}

/// Are both the same pod's, under the same connection?
pub(super) fn same_pod(one: &Session, other: &Session) -> bool {
    key(one) == key(other)
}

fn key(session: &Session) -> (String, String, String, Option<String>) {
    let Workload { cluster, namespace, pod_uid, .. } = &session.subject;
    (cluster.clone(), namespace.clone(), pod_uid.clone(), connection(session))
}

fn connection(session: &Session) -> Option<String> {
    session.connection.as_ref().map(|c| format!("{}/{}", c.namespace, c.name))
}

/// What was found, by pod.
pub(crate) fn chains(found: Found, how: &How) -> Vec<Chain> {
    let Found { mut sessions, calls, mut going, .. } = found;
    sessions.sort_by_key(|session| session.index);
    let mut chains: Vec<(Chain, Vec<Call>)> = Vec::new();
    let (mut places, mut of_session) = (HashMap::new(), HashMap::new());
    for session in sessions {
        let place = *places.entry(key(&session)).or_insert(chains.len());
        if place == chains.len() {
            let (subject, connection) = (session.subject.clone(), connection(&session));
            chains.push((Chain { subject, connection, sessions: Vec::new(), runs: Vec::new() }, Vec::new()));
        }
        of_session.insert(session.session, place);
        chains[place].0.sessions.push(session);
    }
    for call in calls {
        if let Some(place) = of_session.get(&call.session) {
            chains[*place].1.push(call);
        }
    }
    let told = |(chain, calls): (Chain, Vec<Call>)| {
        let mut going_on = |call: &Call| -> Option<Going> { going.remove(&call.index) };
        Chain { runs: runs(steps(calls, &mut going_on), how), ..chain }
    };
    chains.into_iter().map(told).collect()
}
