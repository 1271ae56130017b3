//! Is a pod recorded? Pure: from what the API server says of it.

use connection::stamp::Stamp;
use connection::{BigQueryConnection, names};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;

/// A selected pod's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Its sidecar works, or holds back the agent until it does; generation and image are those in force.
    Covered,
    /// Its sidecar works, and is of an earlier generation or image.
    Outdated,
    /// It runs without a working sidecar.
    Uncovered(Why),
}

/// Why a pod is not covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// It was created before the connection, or while the webhook was not asked.
    NoSidecar,
    /// Its sidecar runs and is not ready: calls are refused, or wait.
    NotReady,
    /// Its sidecar has stopped, and the pod goes on.
    Stopped,
}

impl State {
    /// Every state's name, as metrics and entries have them.
    pub const NAMES: [&'static str; 3] = ["covered", "outdated", "uncovered"];

    /// The state's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Covered => Self::NAMES[0],
            Self::Outdated => Self::NAMES[1],
            Self::Uncovered(_) => Self::NAMES[2],
        }
    }

    /// Why it is not covered.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Uncovered(why) => Some(why.name()),
            _ => None,
        }
    }
}

impl Why {
    /// The reason's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSidecar => "no_sidecar",
            Self::NotReady => "sidecar_not_ready",
            Self::Stopped => "sidecar_stopped",
        }
    }

    /// The same as events have it.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::NoSidecar => "NoSidecar",
            Self::NotReady => "SidecarNotReady",
            Self::Stopped => "SidecarStopped",
        }
    }

    /// What it means, and what to do.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoSidecar => {
                "it was created without a sidecar, and what it does is not recorded: restart it"
            }
            Self::NotReady => {
                "its sidecar is not ready, and refuses calls that it can't record: see the logs of container bqwitness-proxy"
            }
            Self::Stopped => {
                "its sidecar has stopped while the pod goes on: see the logs of container bqwitness-proxy"
            }
        }
    }
}

/// Has the pod ended, or is it ending? Then nobody counts it.
#[must_use]
pub fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
}

/// The state of a pod that `connection` selects.
#[must_use]
pub fn state(pod: &Pod, connection: &BigQueryConnection, image: &str) -> State {
    let Some(stamp) = Stamp::of_pod(pod) else { return State::Uncovered(Why::NoSidecar) };
    if let Some(why) = silent(pod) {
        return State::Uncovered(why);
    }
    if stamp == Stamp::of_connection(connection, image) { State::Covered } else { State::Outdated }
}

/// Is its sidecar ready?
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let mut all = status.into_iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    all.any(|one| one.name == names::PROXY && one.ready)
}

/// Why the sidecar does not work, where it should. Before its first readiness no container of the user's runs: the kubelet starts
/// them one after the other, and its startup probe is its readiness.
fn silent(pod: &Pod) -> Option<Why> {
    let status = pod.status.as_ref()?;
    let sidecar = status.init_container_statuses.iter().flatten().find(|one| one.name == names::PROXY)?;
    if sidecar.ready {
        return None;
    }
    let stopped =
        sidecar.state.as_ref().is_some_and(|state| state.terminated.is_some() || is_crashing(sidecar));
    let users_run = status.container_statuses.iter().flatten().any(runs)
        || status.init_container_statuses.iter().flatten().any(|one| !is_ours(&one.name) && runs(one));
    match (users_run, stopped) {
        (false, false) => None,
        (_, true) => Some(Why::Stopped),
        (true, false) => Some(Why::NotReady),
    }
}

fn is_crashing(status: &ContainerStatus) -> bool {
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.and_then(|waiting| waiting.reason.as_deref()) == Some("CrashLoopBackOff")
}

fn runs(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn is_ours(name: &str) -> bool {
    connection::refuse::CONTAINERS.contains(&name)
}

/// Which pod, for people and entries: namespace, name, UID.
#[must_use]
pub fn identity(pod: &Pod) -> (String, String, String) {
    (pod.namespace().unwrap_or_default(), pod.name_any(), pod.uid().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const IMAGE: &str = "proxy:1";

    fn connection(generation: i64) -> BigQueryConnection {
        serde_json::from_value(json!({
            "apiVersion": "bqwitness.dev/v1alpha1", "kind": "BigQueryConnection",
            "metadata": {"name": "billing", "namespace": "agents", "uid": "u-1", "generation": generation},
            "spec": {"pods": {"serviceAccountName": "billing"}, "identity": {"mode": "Passthrough"},
                     "proxy": {"logLevel": if generation > 1 { "debug" } else { "info" }}},
        }))
        .unwrap()
    }

    /// A pod injected under generation 1, with this status.
    fn pod(status: &Value) -> Pod {
        let asked = json!({"metadata": {"name": "p", "namespace": "agents"}, "spec": {"containers": [{"name": "agent"}]}});
        let settings = connection::inject::Settings {
            image: IMAGE.into(),
            image_pull_policy: None,
            recorder: "https://r".into(),
            audience: "bqwitness-recorder".into(),
        };
        let mut injected = connection::inject::inject(&asked, &self::connection(1), &settings).unwrap().pod;
        injected["status"] = status.clone();
        serde_json::from_value(injected).unwrap()
    }

    fn status(sidecar: &Value, agent: &Value) -> Value {
        let with = |name: &str, of: &Value| {
            let mut whole =
                json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0});
            whole.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
            whole
        };
        json!({"phase": "Running", "initContainerStatuses": [with("bqwitness-proxy", sidecar)],
               "containerStatuses": [with("agent", agent)]})
    }

    #[test]
    fn a_pod_is_covered_by_a_sidecar_that_works_under_what_is_in_force() {
        let running = json!({"state": {"running": {}}});
        let ready = json!({"ready": true, "state": {"running": {}}});
        let works = pod(&status(&ready, &running));
        assert_eq!(state(&works, &connection(1), IMAGE), State::Covered);
        assert_eq!(state(&works, &connection(2), IMAGE), State::Outdated);
        assert_eq!(state(&works, &connection(1), "proxy:2"), State::Outdated);
    }

    #[test]
    fn before_the_sidecar_is_ready_nobody_runs() {
        let waiting = json!({"state": {"waiting": {"reason": "PodInitializing"}}});
        let starting = json!({"started": false, "state": {"running": {}}});
        assert_eq!(state(&pod(&status(&starting, &waiting)), &connection(1), IMAGE), State::Covered);
        assert_eq!(state(&pod(&json!({})), &connection(1), IMAGE), State::Covered);
    }

    #[test]
    fn a_sidecar_that_fails_is_a_gap() {
        let running = json!({"state": {"running": {}}});
        let unready = json!({"started": true, "state": {"running": {}}});
        let crashing = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}});
        let found = |sidecar: &Value| state(&pod(&status(sidecar, &running)), &connection(1), IMAGE);
        assert_eq!(found(&unready), State::Uncovered(Why::NotReady));
        assert_eq!(found(&crashing), State::Uncovered(Why::Stopped));
        let bare: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": []}})).unwrap();
        assert_eq!(state(&bare, &connection(1), IMAGE), State::Uncovered(Why::NoSidecar));
    }

    #[test]
    fn pods_that_end_are_not_counted() {
        let phase = |phase: &str| is_over(&pod(&json!({"phase": phase})));
        assert!(phase("Succeeded") && phase("Failed") && !phase("Running") && !phase("Pending"));
        let mut leaving = pod(&json!({"phase": "Running"}));
        leaving.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert!(is_over(&leaving));
    }
}
