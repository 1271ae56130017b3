//! What the tests of agents without a key share: Google's services, "BigQuery" that takes their tokens alone, and a sidecar
//! between.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bqwitness_proxy::app::Running;
use bqwitness_tests::google::{self, Google, audience};
use bqwitness_tests::identity::Cluster;
use bqwitness_tests::log::{self, Logged};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use ledger::statement::kind;
use serde_json::{Value, json};

use crate::stand::{HOST, Recorder, Stand, Upstream, ask};

pub(crate) const ANSWER: &str = r#"{"kind":"bigquery#queryResponse","jobComplete":true,"totalRows":"0"}"#;
pub(crate) const QUERIES: &str = "/bigquery/v2/projects/acme-data/queries";
pub(crate) const PROVIDER: &str = "prod";

/// A request's head as BigQuery saw it.
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

/// A recorder, "BigQuery" that takes the stand-ins' tokens alone, and Google.
pub(crate) struct Keyless {
    pub(crate) stand: Stand,
    pub(crate) recorder: Recorder,
    pub(crate) google: Google,
    pub(crate) bigquery: Upstream,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Keyless {
    pub(crate) async fn new() -> Self {
        let stand = Stand::new();
        let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
        let google = Google::start(&stand.google).await.unwrap();
        google.set_up(PROVIDER, &stand.cluster, &stand.pod);
        let (seen, tokens) = (Arc::new(Mutex::new(Vec::new())), google.tokens());
        let noting = Arc::clone(&seen);
        let bigquery = stand
            .bigquery_by_head(move |request| {
                let seen = Seen { path: request.uri().to_string(), headers: request.headers().clone() };
                noting.lock().unwrap().push(seen);
                match tokens.bearer(request.headers()) {
                    Ok(bearer) if bearer.scope == google::BIGQUERY_SCOPE => (StatusCode::OK, ANSWER.into()),
                    refused => (StatusCode::UNAUTHORIZED, format!("{refused:?}")),
                }
            })
            .await;
        let keyless = Self { stand, recorder, google, bigquery, seen };
        keyless.project_token(&keyless.stand.cluster, &keyless.claims());
        keyless
    }

    /// What the kubelet projects.
    pub(crate) fn claims(&self) -> Value {
        self.stand.cluster.claims(&self.stand.pod, &audience(PROVIDER))
    }

    pub(crate) fn project_token(&self, cluster: &Cluster, claims: &Value) {
        std::fs::write(self.stand.path("sts-token"), cluster.sign(claims).unwrap()).unwrap();
    }

    pub(crate) async fn sidecar(&self) -> Running {
        self.sidecar_with(&[]).await
    }

    pub(crate) async fn sidecar_with(&self, more: &[&str]) -> Running {
        let mut flags = self.google.flags(PROVIDER, &self.stand.pod);
        flags.push(format!("--sts-token-file={}", self.stand.path("sts-token").display()));
        flags.push("--metadata-listen=127.0.0.1:0".into());
        for flag in more {
            let name = flag.split('=').next().unwrap_or_default();
            flags.retain(|other| other.split('=').next() != Some(name));
            flags.push((*flag).to_owned());
        }
        self.stand.sidecar_with(&self.recorder, self.bigquery.address, &flags).await
    }

    pub(crate) async fn ask(
        &self,
        sidecar: &Running,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, String) {
        self.ask_host(sidecar, HOST, path, headers, json!({ "query": "SELECT 1" }).to_string()).await
    }

    pub(crate) async fn ask_host(
        &self,
        sidecar: &Running,
        host: &'static str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> (StatusCode, String) {
        let mut request = Request::post(path).header("host", host).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        ask(&self.stand, sidecar, host, request.body(Full::new(Bytes::from(body))).unwrap()).await
    }

    /// As every client does it: a token from the metadata server, then a query with it.
    pub(crate) async fn query(&self, sidecar: &Running) -> (StatusCode, String) {
        let bearer = format!("Bearer {}", placeholder(sidecar).await);
        self.ask(sidecar, QUERIES, &[("authorization", &bearer)]).await
    }

    /// Ends everything in order. The intents of the log.
    pub(crate) async fn end(self, sidecar: Running) -> Vec<Logged> {
        assert!(sidecar.stop("test").await);
        self.recorder.stop().await;
        let entries = log::read(&self.stand.data()).unwrap();
        entries.into_iter().filter(|entry| entry.statement.kind == kind::CALL_INTENT).collect()
    }
}

pub(crate) async fn metadata(sidecar: &Running, path: &str) -> (StatusCode, String) {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let url = format!("http://{}/computeMetadata/v1/{path}", sidecar.metadata.unwrap());
    let request = Request::get(url).header("metadata-flavor", "Google").body(Empty::new()).unwrap();
    let answer = client.request(request).await.unwrap();
    assert_eq!(answer.headers()["metadata-flavor"], "Google");
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

pub(crate) async fn placeholder(sidecar: &Running) -> String {
    let (status, body) = metadata(sidecar, "instance/service-accounts/default/token").await;
    assert_eq!(status, StatusCode::OK);
    let token: Value = serde_json::from_str(&body).unwrap();
    token["access_token"].as_str().unwrap().to_owned()
}

/// The message and reason of Google's error form.
pub(crate) fn error(body: &str) -> (String, String) {
    let error: Value = serde_json::from_str(body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&error["error"]["errors"][0]["reason"]), text(&error["error"]["message"]))
}

pub(crate) fn refused(entry: &Logged) -> Option<&str> {
    entry.statement.body.intent.as_ref().unwrap().refused.as_deref()
}

pub(crate) async fn admin(sidecar: &Running, path: &str) -> String {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.get(format!("http://{}/{path}", sidecar.admin).parse().unwrap()).await.unwrap();
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Until the sidecar says that it waits for this: a first answer may take longer than a call waits.
pub(crate) async fn waits_for(sidecar: &Running, category: &str) {
    let said = async {
        while !sidecar.readiness.waiting().contains(&category) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), said).await;
    assert!(waited.is_ok(), "{category} is not in {:?}", sidecar.readiness.waiting());
}
