//! What a kubelet says of a pod, looked at once: which containers run, and which of its sidecars are ready.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Node, RunningPod, list, text};
use crate::process::Process;
use crate::programs;
use crate::trouble::{Result, Trouble};

/// The start of everything: nobody here reads when.
const SINCE: &str = "2026-01-01T00:00:00Z";

impl RunningPod {
    /// Looks at the sidecars and says in the pod's status how all is. The users' containers count as running.
    ///
    /// # Errors
    /// The spec has a probe that is not known here, or the API server refuses.
    pub async fn report(&mut self, node: &Node) -> Result<()> {
        let mut initialised = Vec::new();
        for container in list(&self.spec["initContainers"]).to_vec() {
            initialised.push(self.state_of(&container).await?);
        }
        let users = list(&self.spec["containers"]);
        let users: Vec<_> =
            users.iter().map(|one| state(one, &json!({"running": {"startedAt": SINCE}}), true)).collect();
        let status = json!({
            "phase": "Running", "initContainerStatuses": initialised, "containerStatuses": users,
            "conditions": [{"type": "Initialized", "status": "True", "lastTransitionTime": SINCE}],
        });
        node.say(text(&self.metadata, "namespace")?, text(&self.metadata, "name")?, &status).await
    }

    /// Does a container of the spec pass its readiness probe? It may fail as often as the spec says, less once.
    async fn is_ready(&self, container: &Value) -> Result<bool> {
        let probe = &container["readinessProbe"];
        let number = |name: &str| probe[name].as_u64().unwrap_or(1);
        let (port, path) = (&probe["httpGet"]["port"], text(&probe["httpGet"], "path")?);
        let url = format!("http://{}:{port}{path}", self.surroundings.namespace.inside());
        for _ in 0..number("failureThreshold") {
            let answer = programs::answers_well(&url);
            let limit = Duration::from_secs(number("timeoutSeconds"));
            if tokio::time::timeout(limit, answer).await.is_ok_and(|well| well.is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Is a sidecar ready?
    ///
    /// # Errors
    /// There is no such sidecar, or it has a probe that is not known here.
    pub async fn sidecar_is_ready(&self, name: &str) -> Result<bool> {
        let found = list(&self.spec["initContainers"]).iter().find(|container| container["name"] == name);
        self.is_ready(found.ok_or_else(|| Trouble::new(format!("no sidecar {name}")))?).await
    }

    async fn state_of(&mut self, container: &Value) -> Result<Value> {
        let found = self.sidecars.iter_mut().find(|(name, _)| container["name"] == name.as_str());
        let Some((_, process)) = found else {
            let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": SINCE, "finishedAt": SINCE}});
            return Ok(state(container, &ended, true));
        };
        if let Some(code) = ended(process)? {
            let ended = json!({"terminated": {"exitCode": code, "reason": "Error", "startedAt": SINCE, "finishedAt": SINCE}});
            return Ok(state(container, &ended, false));
        }
        let ready = self.is_ready(container).await?;
        Ok(state(container, &json!({"running": {"startedAt": SINCE}}), ready))
    }
}

/// The exit code of a process that runs no more, as containers have it: of one that was killed, 128 and the signal.
fn ended(process: &mut Process) -> Result<Option<i32>> {
    use std::os::unix::process::ExitStatusExt as _;
    let status = process.status()?;
    Ok(status.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))))
}

fn state(container: &Value, state: &Value, ready: bool) -> Value {
    json!({
        "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0,
        "ready": ready, "started": state["running"].is_object(), "state": state,
    })
}
