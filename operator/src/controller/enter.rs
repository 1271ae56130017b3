//! What a look at a namespace is worth entries for.

use std::collections::HashSet;

use connection::inject::Settings;
use connection::selection;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use ledger::operator::{CoverageState, PodCoverage};

use super::dereference::Found;
use crate::coverage::{self, State};
use crate::entries::acceptance;
use crate::entries::diary::{Diary, Seen, now};

/// Every connection as it is stored, and that there are no others.
pub(super) fn connections(diary: &Diary, namespace: &str, found: &Found) {
    found.connections.iter().for_each(|connection| diary.connection(connection));
    diary.connections_left(namespace, &found.uids);
}

/// Every selected pod, under the connection that is in force for it.
pub(super) fn pods(diary: &Diary, namespace: &str, found: &Found, settings: &Settings) {
    let (mut selected, mut others) = (Vec::new(), HashSet::new());
    for pod in &found.pods {
        let chosen = selection::choose(found.connections.iter().map(AsRef::as_ref), namespace, pod);
        match chosen.first() {
            Some(connection) => {
                let state = coverage::state(pod, connection, &settings.image);
                selected.push(Seen { connection: acceptance::named(connection), coverage: seen(pod, state) });
            }
            None => {
                others.extend(pod.uid());
            }
        }
    }
    diary.pods(namespace, selected, &others);
}

fn seen(pod: &Pod, state: State) -> PodCoverage {
    let (namespace, name, pod_uid) = coverage::identity(pod);
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    PodCoverage {
        namespace,
        pod: name,
        pod_uid,
        // What the API server puts in where a pod names none.
        service_account: account.unwrap_or_else(|| "default".into()),
        created: created.unwrap_or_else(now),
        since: now(),
        state: match state {
            State::Covered => CoverageState::Covered,
            State::Outdated => CoverageState::Outdated,
            State::Uncovered(_) => CoverageState::Uncovered,
        },
        reason: state.reason().map(str::to_owned),
    }
}
