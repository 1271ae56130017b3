//! Have sidecars a credential? The operator sees none: it knows that a sidecar is ready only when it has one.

use std::sync::Arc;

use connection::BigQueryConnection;
use connection::resource::IdentityMode;
use connection::status::condition;
use k8s_openapi::api::core::v1::Pod;

use super::Finding;
use crate::coverage::{self, State};

pub(super) fn ready(connection: &BigQueryConnection, pods: &[(Arc<Pod>, State)]) -> Finding {
    let (holds, reason, message) = match connection.spec.identity.mode {
        IdentityMode::Passthrough => {
            (Some(true), "Passthrough", "Agents bring credentials of their own; sidecars need none.".into())
        }
        IdentityMode::Federated | IdentityMode::WorkloadIdentity => obtained(pods),
    };
    Finding { kind: condition::CREDENTIALS_READY, holds, reason, message }
}

fn obtained(pods: &[(Arc<Pod>, State)]) -> (Option<bool>, &'static str, String) {
    let current: Vec<_> = pods.iter().filter(|(_, state)| *state == State::Covered).collect();
    if current.iter().any(|(pod, _)| coverage::is_ready(pod)) {
        let said = "A sidecar under this spec is ready, which it is only with a credential.";
        return (Some(true), "Obtained", said.into());
    }
    if pods.is_empty() {
        return (None, "NoPods", "No pod is selected, so no sidecar has tried this identity.".into());
    }
    let said = "No sidecar under this spec is ready. Whether it lacks a credential, its logs and /readyz on its port 15020 say.";
    (None, "NotReady", said.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(ready: bool) -> Arc<Pod> {
        let sidecar =
            json!({"name": "bqwitness-proxy", "image": "", "imageID": "", "ready": ready, "restartCount": 0});
        let pod = json!({"metadata": {}, "status": {"initContainerStatuses": [sidecar]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_ready_sidecar_of_this_spec_shows_it() {
        assert_eq!(obtained(&[(pod(true), State::Covered)]).0, Some(true));
        assert_eq!(obtained(&[(pod(true), State::Outdated)]).0, None, "that was another spec");
        assert_eq!(obtained(&[(pod(false), State::Covered)]).0, None);
        assert_eq!(obtained(&[]).1, "NoPods");
    }
}
