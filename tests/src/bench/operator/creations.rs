//! Pods that are created by dry run: the API server does all that it does for a pod, webhooks included, and stores nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::Full;
use runtime::client::HttpsClient;
use runtime::tls;
use serde_json::json;
use tokio::task::JoinSet;

use crate::cluster::ControlPlane;
use crate::trouble::{Doing as _, Result, Trouble};

/// The API server gives a webhook 10 s; no answer takes as long as this.
const PATIENCE: Duration = Duration::from_secs(30);

/// An API server's metrics are a few MiB; more is refused.
const MAX_ANSWER: usize = 64 << 20;

/// The sidecar's container: which pods have it shows whom the webhook was asked for.
const SIDECAR: &str = "\"bqwitness-proxy\"";

/// An API server, over one connection that is kept (HTTP/2). Clones share it.
#[derive(Clone)]
pub(super) struct Api {
    client: HttpsClient,
    url: String,
    authorization: String,
}

/// Pods of one service account.
#[derive(Clone, Debug)]
pub(super) struct Pods {
    namespace: &'static str,
    path: String,
    body: Bytes,
    injected: bool,
}

impl Pods {
    /// Those of `account` in `namespace`. They are injected, or else must not be.
    pub(super) fn of(namespace: &'static str, account: &str, injected: bool) -> Self {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "agent-", "labels": {"app": "agent"}},
            "spec": {
                "serviceAccountName": account,
                "initContainers": [{"name": "fetch", "image": "example.com/fetch:1"}],
                "containers": [{
                    "name": "agent", "image": "example.com/agent:1", "args": ["--ask", "bigquery"],
                    "env": [{"name": "LOG_LEVEL", "value": "info"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                    "ports": [{"containerPort": 8080}],
                }],
            },
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        Self { namespace, path, body: pod.to_string().into(), injected }
    }

    /// Where they are created.
    pub(super) fn namespace(&self) -> &'static str {
        self.namespace
    }

    /// Is the webhook asked about them?
    pub(super) fn are_injected(&self) -> bool {
        self.injected
    }

    /// What is asked for.
    ///
    /// # Errors
    /// Never: it was made from JSON.
    pub(super) fn manifest(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).doing("reading a pod of ours")
    }
}

impl Api {
    /// This control plane's, as its administrator, whom the API server makes wait for nobody.
    ///
    /// # Errors
    /// Its authority can't be read.
    pub(super) fn of(plane: &ControlPlane) -> Result<Self> {
        let roots = tls::pinned_roots(&plane.ca()).doing("reading the API server's authority")?;
        let tls = tls::client_config(roots, &[]).doing("setting up TLS to the API server")?;
        let client = HttpsClient::new(tls, PATIENCE, MAX_ANSWER);
        Ok(Self { client, url: plane.url(), authorization: format!("Bearer {}", plane.admin_token()) })
    }

    /// Its metrics.
    ///
    /// # Errors
    /// It doesn't answer, or not with them.
    pub(super) async fn metrics(&self) -> Result<String> {
        let request = self.request("GET", "/metrics", Bytes::new())?;
        let answer = self.client.send(request).await.doing("asking for the API server's metrics")?;
        if answer.status() != StatusCode::OK {
            return Err(Trouble::new(format!("the API server's metrics: {}", answer.status())));
        }
        String::from_utf8(answer.into_body().to_vec()).doing("reading the API server's metrics")
    }

    /// Creates one, for show; how long that took.
    ///
    /// # Errors
    /// It is refused, or not injected as it must be.
    pub(super) async fn create(&self, pods: &Pods) -> Result<Duration> {
        let request = self.request("POST", &pods.path, pods.body.clone())?;
        let start = Instant::now();
        let answer = self.client.send(request).await.doing("creating a pod")?;
        let took = start.elapsed();
        let said = String::from_utf8_lossy(answer.body());
        if answer.status() == StatusCode::CREATED && said.contains(SIDECAR) == pods.injected {
            return Ok(took);
        }
        let wanted = if pods.injected { "a sidecar" } else { "no sidecar" };
        Err(Trouble::new(format!("a pod that was to have {wanted}: {} {said}", answer.status())))
    }

    /// Creates `count`, as many `at_once`; how long each took.
    ///
    /// # Errors
    /// As [`Api::create`], of any of them.
    pub(super) async fn create_many(
        &self,
        pods: &Pods,
        count: usize,
        at_once: usize,
    ) -> Result<Vec<Duration>> {
        let mut workers = JoinSet::new();
        for _ in 0..at_once {
            let (api, pods) = (self.clone(), pods.clone());
            workers.spawn(async move {
                let mut times = Vec::new();
                for _ in 0..count.div_ceil(at_once) {
                    times.push(api.create(&pods).await?);
                }
                Ok::<_, Trouble>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(worker) = workers.join_next().await {
            times.extend(worker.doing("waiting for a client")??);
        }
        Ok(times)
    }

    fn request(&self, method: &str, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        let request =
            request.header(AUTHORIZATION, &self.authorization).header(CONTENT_TYPE, "application/json");
        request.body(Full::new(body)).doing("making a request")
    }
}
