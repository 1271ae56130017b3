//! The webhook, asked as an API server asks: AdmissionReviews over TLS, on connections that are kept; the pods are as somebody asks
//! for them, without the defaults that an API server adds. What is measured is all that the operator does and what TLS costs, and
//! nothing of what an API server does besides.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::creations::Pods;
use crate::bench::wire::Route;
use crate::cluster::Kubectl;
use crate::programs::Operator;
use crate::trouble::{Doing as _, Result, Trouble};

/// What the API server has been told to trust. Nobody else has a webhook there.
const AUTHORITY: [&str; 4] =
    ["get", "mutatingwebhookconfigurations", "-o", "jsonpath={.items[*].webhooks[0].clientConfig.caBundle}"];

/// A way to the webhook.
#[derive(Clone)]
pub(super) struct Webhook {
    route: Route,
}

impl Webhook {
    /// The operator's, trusted as the API server has been told to.
    ///
    /// # Errors
    /// The API server has not been told.
    pub(super) async fn of(operator: &Operator, kubectl: &Kubectl, folder: &Path) -> Result<Self> {
        let bundle = kubectl.say(&AUTHORITY).await?;
        let bundle = bundle.split_whitespace().next().ok_or_else(|| Trouble::new("no webhook is set up"))?;
        let roots = folder.join("webhook-ca.pem");
        std::fs::write(&roots, base64(bundle)?).doing("writing the webhook's CA")?;
        let address = operator.webhook();
        Ok(Self { route: Route::new(address, &address.ip().to_string(), false, &roots)? })
    }

    /// Asks about `count` pods that are to be injected, as many `at_once`; how long each answer took.
    ///
    /// # Errors
    /// One is not injected.
    pub(super) async fn ask_many(&self, pods: &Pods, count: usize, at_once: usize) -> Result<Vec<Duration>> {
        let mut workers = JoinSet::new();
        for _ in 0..at_once {
            let (webhook, request) = (self.clone(), request(pods)?);
            workers.spawn(async move { webhook.ask(&request, count.div_ceil(at_once)).await });
        }
        let mut times = Vec::new();
        while let Some(worker) = workers.join_next().await {
            times.extend(worker.doing("waiting for a client")??);
        }
        Ok(times)
    }

    async fn ask(&self, request: &[u8], count: usize) -> Result<Vec<Duration>> {
        let mut connection = self.route.open().await?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let answer = connection.ask(request).await?;
            times.push(start.elapsed());
            if !String::from_utf8_lossy(answer).contains("\"patch\":") {
                return Err(Trouble::new("the webhook has not injected a pod"));
            }
        }
        Ok(times)
    }
}

fn request(pods: &Pods) -> Result<Vec<u8>> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "dryRun": true,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": pods.namespace(), "name": "",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pods.manifest()?, "oldObject": null,
        },
    });
    let body = review.to_string();
    let head = format!(
        "POST /mutate-pods HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Ok([head.as_bytes(), body.as_bytes()].concat())
}

fn base64(text: &str) -> Result<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).doing("reading the webhook's CA")
}
