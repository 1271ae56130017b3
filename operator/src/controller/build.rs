//! Third step: what should be, and what is said about it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use connection::inject::Settings;
use connection::refuse::Refusal;
use connection::status::PodCounts;
use connection::{BigQueryConnection, names, selection};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};

use super::dereference::Found;
use super::validate::Valid;
use crate::coverage::{self, State};

/// Most other connections that a status names.
const MAX_OVERLAPS: usize = 16;

/// What should be.
pub struct Built {
    /// How pods reach the recorder, and what proves it; none where the spec can't be used: then the last one stays.
    pub config_map: Option<ConfigMap>,
    /// What is said.
    pub said: Said,
}

/// What is said of a connection.
#[derive(Clone, Debug)]
pub struct Said {
    /// The pods that it is in force for, and their state.
    pub pods: Vec<(Arc<Pod>, State)>,
    /// Them, counted.
    pub counts: PodCounts,
    /// Connections that select some of the same pods.
    pub overlaps: Vec<String>,
    /// Is the webhook asked about this namespace, as far as this replica knows?
    pub asked: Option<bool>,
}

pub(super) fn build(
    connection: &Arc<BigQueryConnection>,
    valid: &Result<Valid, Vec<Refusal>>,
    found: &Found,
    settings: &Settings,
) -> Built {
    let config_map = valid.as_ref().ok().map(|valid| config_map(connection, valid));
    Built { config_map, said: say(connection, found, settings) }
}

fn config_map(connection: &BigQueryConnection, valid: &Valid) -> ConfigMap {
    let Valid { ca, key } = valid;
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::config_map(&connection.name_any())),
            namespace: connection.namespace(),
            labels: Some(BTreeMap::from([(names::MANAGED_LABEL.into(), names::OPERATOR.into())])),
            owner_references: connection.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([
            (names::RECORDER_CA_FILE.into(), ca.clone()),
            (names::RECORDER_KEY_FILE.into(), key.clone()),
        ])),
        ..ConfigMap::default()
    }
}

fn say(connection: &Arc<BigQueryConnection>, found: &Found, settings: &Settings) -> Said {
    let namespace = connection.namespace().unwrap_or_default();
    let (mut pods, mut overlaps) = (Vec::new(), BTreeMap::new());
    for pod in &found.pods {
        let chosen = selection::choose(found.connections.iter().map(Arc::as_ref), &namespace, pod);
        if !chosen.iter().any(|one| is(one, connection)) {
            continue;
        }
        for other in chosen.iter().filter(|one| !is(one, connection)) {
            overlaps.insert(other.name_any(), selection::wins(other, connection));
        }
        if chosen.first().is_some_and(|winner| is(winner, connection)) {
            pods.push((Arc::clone(pod), coverage::state(pod, connection, &settings.image)));
        }
    }
    let overlaps = overlaps.into_iter().take(MAX_OVERLAPS);
    Said {
        counts: count(&pods),
        pods,
        overlaps: overlaps.map(|(name, wins)| if wins { format!("{name} (wins)") } else { name }).collect(),
        asked: found.asked,
    }
}

fn is(one: &BigQueryConnection, other: &BigQueryConnection) -> bool {
    one.name_any() == other.name_any()
}

fn count(pods: &[(Arc<Pod>, State)]) -> PodCounts {
    let number = |which: fn(&(Arc<Pod>, State)) -> bool| {
        i32::try_from(pods.iter().filter(|pod| which(pod)).count()).unwrap_or(i32::MAX)
    };
    PodCounts {
        matched: number(|_| true),
        injected: number(|(pod, _)| connection::stamp::sidecar(pod).is_some()),
        covered: number(|(_, state)| *state == State::Covered),
        outdated: number(|(_, state)| *state == State::Outdated),
        uncovered: number(|(_, state)| matches!(state, State::Uncovered(_))),
    }
}
