//! A stand-in for the API server, a recorder that asks it, and readers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use bqwitness_recorder::authn::api_server::ReviewSettings;
use bqwitness_recorder::authn::source::Location;
use bqwitness_recorder::authn::verifier::{AccessSettings, Means, Trust};
use http::StatusCode;
use ledger::search::{Answer, entries};
use serde_json::{Value, json};

use crate::common::{Client, ISSUER, Issuer, Running, Site, refusal, serve};

/// An API server: whom it knows by which token, and who may do what where.
#[derive(Default)]
pub(crate) struct ApiServer {
    /// `user or group`, `verb resource`, and the namespace: empty for all of them.
    grants: Mutex<HashSet<(String, String, String)>>,
    pub(crate) asked: AtomicUsize,
    pub(crate) away: AtomicBool,
}

impl ApiServer {
    pub(crate) fn grant(&self, who: &str, what: &[&str], namespace: &str) {
        for what in what {
            self.grants.lock().unwrap().insert((who.into(), (*what).into(), namespace.into()));
        }
    }
}

pub(crate) const ALL: &[&str] = &["get entries", "list entries", "watch entries", "create exports"];

async fn review_token(Json(asked): Json<Value>) -> (StatusCode, Json<Value>) {
    assert!(asked["spec"]["audiences"].is_null(), "a user's token is for the API server");
    let status = match asked["spec"]["token"].as_str().unwrap() {
        "users-own" => {
            json!({"authenticated": true, "user": {"username": "auditor@example.com", "groups": ["sales-auditors"]}})
        }
        _ => json!({"authenticated": false}),
    };
    (StatusCode::CREATED, Json(json!({ "status": status })))
}

async fn review_access(
    State(server): State<Arc<ApiServer>>,
    Json(asked): Json<Value>,
) -> (StatusCode, Json<Value>) {
    server.asked.fetch_add(1, Ordering::SeqCst);
    if server.away.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({})));
    }
    let spec = &asked["spec"];
    let wanted = &spec["resourceAttributes"];
    assert_eq!(wanted["group"], "bqwitness.dev");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let what = format!("{} {}", text(&wanted["verb"]), text(&wanted["resource"]));
    let groups = spec["groups"].as_array().unwrap().iter().map(text);
    let grants = server.grants.lock().unwrap();
    let allowed = groups
        .chain([text(&spec["user"])])
        .any(|who| grants.contains(&(who, what.clone(), text(&wanted["namespace"]))));
    (StatusCode::CREATED, Json(json!({ "status": { "allowed": allowed } })))
}

/// A recorder that asks it, with a second cluster whose namespaces have the same names.
pub(crate) async fn start(site: &Site, server: &Arc<ApiServer>) -> Running {
    let router = Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review_token))
        .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(review_access))
        .with_state(server.clone());
    let address = serve(site, router).await;
    std::fs::write(site.path("own"), "recorders-own\n").unwrap();
    let review = ReviewSettings {
        server: format!("https://localhost:{}", address.port()).parse().unwrap(),
        ca: Some(site.path("tls.crt")),
        token: site.path("own"),
    };
    let mut config = site.config();
    config.access = Some(AccessSettings { review, user_tokens: true });
    let elsewhere = Issuer::with_key_id("eu");
    std::fs::write(site.path("eu.json"), elsewhere.jwks()).unwrap();
    std::fs::write(site.path("eu.token"), elsewhere.token("agents", "billing")).unwrap();
    let mut rules = config.rules.clone();
    (rules.issuer, rules.cluster) = (ISSUER.into(), "eu".into());
    rules.readers.clear();
    let means = Means::Keys(Location::File(site.path("eu.json")));
    config.others = vec![Trust { rules, means, access: None }];
    site.run(config).await
}

/// A reader, with what can be asked.
pub(crate) struct Asks<'a> {
    pub(crate) client: &'a Client,
    pub(crate) token: String,
}

impl Asks<'_> {
    pub(crate) async fn get(&self, path: &str) -> http::Response<bytes::Bytes> {
        self.client.get_as(path, Some(&self.token)).await
    }

    pub(crate) async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}: {:?}", answer.body());
        serde_json::from_slice(answer.body()).unwrap()
    }

    /// SQL of the calls found.
    pub(crate) async fn search(&self, query: &str) -> Vec<String> {
        let answer: Answer = self.json(&format!("/v1/search?{query}")).await;
        answer.calls.into_iter().map(|call| call.sql.unwrap()).collect()
    }

    /// Places of the readable entries.
    pub(crate) async fn places(&self) -> Vec<u64> {
        let answer = self.get("/v1/entries?tile=0").await;
        assert_eq!(answer.status(), 200, "{:?}", answer.body());
        entries::parse(answer.body()).unwrap().into_iter().map(|(index, _)| index).collect()
    }

    pub(crate) async fn refused(&self, path: &str) -> (u16, String) {
        refusal(&self.get(path).await)
    }

    pub(crate) async fn export(&self, namespace: Option<&str>) -> http::Response<bytes::Bytes> {
        let body = json!({"manifest": ledger::digest::Digest::of(b"m"), "filter": "", "entries": 3, "namespace": namespace});
        let request = http::Request::post(format!("https://{}/v1/exports", self.client.address))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(http_body_util::Full::from(body.to_string()))
            .unwrap();
        self.client.send(request).await
    }
}
