//! A node, as the API server knows it: what it is asked, it is asked as that node's kubelet, with that one's rights.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{ControlPlane, Kubectl};
use crate::trouble::{Doing as _, Result, Trouble};

/// The node authorizer hears a moment later of a pod that was bound.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A node of the cluster.
#[derive(Debug)]
pub struct Node {
    kubectl: Kubectl,
    name: String,
}

impl Node {
    /// Registers one.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn register(plane: &ControlPlane, name: &str) -> Result<Self> {
        let kubectl = plane.kubectl();
        kubectl
            .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string())
            .await?;
        Ok(Self { kubectl, name: name.into() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Binds a pod to this node, as the scheduler does: the pod as it is then.
    ///
    /// # Errors
    /// There is no such pod, or it is bound.
    pub async fn bind(&self, namespace: &str, pod: &str) -> Result<Value> {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": self.name},
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding");
        let answer = self.kubectl.feed(&["create", "--raw", &path, "-f", "-"], &binding.to_string()).await?;
        if !answer.success() {
            return Err(Trouble::new(format!("binding {pod}: {}", answer.said())));
        }
        self.kubectl.json(&["-n", namespace, "get", "pod", pod]).await
    }

    /// Says how a pod of this node is, in its status.
    ///
    /// # Errors
    /// The API server refuses.
    pub(super) async fn say(&self, namespace: &str, name: &str, status: &Value) -> Result<()> {
        let mut pod = self.kubectl.json(&["-n", namespace, "get", "pod", name]).await?;
        pod["status"] = status.clone();
        // Whatever others have written meanwhile.
        pod["metadata"]["resourceVersion"] = Value::Null;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        self.granted(&["replace", "--raw", &path, "-f", "-"], &pod.to_string()).await.map(drop)
    }

    /// A ConfigMap's data.
    ///
    /// # Errors
    /// There is none that a pod of this node mounts.
    pub(super) async fn config_map(&self, namespace: &str, name: &str) -> Result<Value> {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
        let answer = self.granted(&["get", "--raw", &path], "").await?;
        Ok(answer["data"].clone())
    }

    /// A token of the pod's service account, bound to the pod.
    ///
    /// # Errors
    /// The API server does not give it.
    pub(super) async fn token(&self, pod: &Value, source: &Value) -> Result<String> {
        let metadata = &pod["metadata"];
        let (namespace, name) = (super::text(metadata, "namespace")?, super::text(metadata, "name")?);
        let account = super::text(&pod["spec"], "serviceAccountName")?;
        let audiences: Vec<_> = source["audience"].as_str().into_iter().collect();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": source["expirationSeconds"],
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": metadata["uid"]},
            },
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.granted(&["create", "--raw", &path, "-f", "-"], &request.to_string()).await?;
        super::text(&answer["status"], "token").map(str::to_owned)
    }

    /// Asks as the kubelet, until the authorizer knows that the pod is this node's.
    async fn granted(&self, words: &[&str], input: &str) -> Result<Value> {
        let user = format!("--as=system:node:{}", self.name);
        let words = [&[user.as_str(), "--as-group=system:nodes"][..], words].concat();
        let start = Instant::now();
        loop {
            let answer = self.kubectl.feed(&words, input).await?;
            if answer.success() {
                return serde_json::from_str(&answer.stdout)
                    .doing(format!("reading what kubectl {words:?} printed"));
            }
            if !answer.stderr.contains("Forbidden") || start.elapsed() > PATIENCE {
                return Err(Trouble::new(format!("kubectl {words:?}: {}", answer.said())));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
