//! Fourth step: what should be is written, and whoever looks is told what changed.

use std::sync::Arc;

use connection::{BigQueryConnection, names};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource as _, ResourceExt as _};

use super::Controller;
use super::build::{Built, Said};
use crate::coverage::{self, State};

/// What is so by now. Status is made of nothing else.
pub struct Applied {
    /// What is said of the connection.
    pub said: Said,
}

pub(super) async fn apply(
    controller: &mut Controller,
    connection: &Arc<BigQueryConnection>,
    built: Built,
) -> Result<Applied, kube::Error> {
    let Built { config_map, said } = built;
    let namespace = connection.namespace().unwrap_or_default();
    if let Some(config_map) = config_map {
        let api: Api<ConfigMap> = Api::namespaced(controller.client.clone(), &namespace);
        let parameters = PatchParams::apply(names::OPERATOR).force();
        api.patch(&config_map.name_any(), &parameters, &Patch::Apply(&config_map)).await?;
    }
    tell(controller, &said).await;
    count(controller, &namespace, &connection.name_any(), &said);
    Ok(Applied { said })
}

/// Each pod that came to be uncovered has an event, and so has each that is covered again.
async fn tell(controller: &mut Controller, said: &Said) {
    for (pod, state) in &said.pods {
        let (namespace, name, uid) = coverage::identity(pod);
        let before = controller.last.insert(uid, *state);
        if before == Some(*state) {
            continue;
        }
        let event = match (before, state) {
            (_, State::Uncovered(why)) => {
                tracing::warn!(namespace, name, reason = why.name(), "a pod is not covered");
                event(
                    EventType::Warning,
                    "BigQueryNotRecorded",
                    why.action(),
                    format!("Selected by a BigQueryConnection, but {}", why.advice()),
                )
            }
            (Some(State::Uncovered(_)), _) => {
                event(EventType::Normal, "BigQueryRecorded", "SidecarWorks", "Its sidecar works again".into())
            }
            _ => continue,
        };
        if let Err(error) = controller.events.publish(&event, &pod.object_ref(&())).await {
            tracing::warn!(namespace, name, "an event was not written: {error}");
        }
    }
}

/// Events that differ in their note alone would become one, with the note of the first: the action says why, too.
fn event(type_: EventType, reason: &str, action: &str, note: String) -> Event {
    Event { type_, reason: reason.into(), note: Some(note), action: action.into(), secondary: None }
}

fn count(controller: &mut Controller, namespace: &str, name: &str, said: &Said) {
    let [covered, outdated, uncovered] = State::NAMES;
    let counts = said.counts;
    controller.metrics.pods(
        namespace,
        name,
        &[
            (covered, counts.covered.into()),
            (outdated, counts.outdated.into()),
            (uncovered, counts.uncovered.into()),
        ],
    );
    controller.counted.insert((namespace.into(), name.into()));
}
