//! First step: what there is, as one picture that the next steps look at.

use std::collections::BTreeSet;
use std::sync::Arc;

use connection::BigQueryConnection;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::Controller;
use crate::coverage;

/// A namespace as it is.
pub struct Found {
    /// Its connections that are not on their way out.
    pub connections: Vec<Arc<BigQueryConnection>>,
    /// The UIDs of all of them.
    pub uids: BTreeSet<String>,
    /// Its pods that have not ended.
    pub pods: Vec<Arc<Pod>>,
    /// The CA and key of the operator's recorder, or why there are none.
    pub recorder: Result<(String, String), String>,
    /// Is the webhook asked about this namespace, as far as this replica knows?
    pub asked: Option<bool>,
}

pub(super) fn namespace(controller: &Controller, namespace: &str) -> Found {
    let here = |of: Option<String>| of.as_deref() == Some(namespace);
    let mut connections = controller.connections.state();
    connections.retain(|one| here(one.namespace()));
    let pods = controller.pods.state();
    Found {
        uids: connections.iter().filter_map(|one| one.uid()).collect(),
        connections: connections
            .into_iter()
            .filter(|one| one.metadata.deletion_timestamp.is_none())
            .collect(),
        pods: pods.into_iter().filter(|pod| here(pod.namespace()) && !coverage::is_over(pod)).collect(),
        recorder: controller.recorder.read().map_err(|error| error.to_string()),
        asked: controller.is_asked(namespace),
    }
}
