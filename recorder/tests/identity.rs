//! Who speaks: the cluster's API server as the judge of tokens, issuers that say where their keys are, several clusters in one
//! recorder, and roles by audience.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use bqwitness_recorder::app::App;
use bqwitness_recorder::authn::api_server::ReviewSettings;
use bqwitness_recorder::authn::source::Location;
use bqwitness_recorder::authn::verifier::{Means, Trust};
use common::{AUDIENCE, ISSUER, Issuer, Site, Speaker, refusal, serve};
use http::{HeaderMap, StatusCode};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ledger::receipt::Acknowledgement;
use serde_json::{Value, json};

/// An API server that reviews tokens: it really verifies them.
struct ApiServer {
    keys: String,
    reviews: AtomicUsize,
    away: AtomicBool,
    /// Pods that are gone.
    gone: Mutex<Vec<String>>,
}

async fn review(
    State(server): State<Arc<ApiServer>>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> (StatusCode, Json<Value>) {
    server.reviews.fetch_add(1, Ordering::SeqCst);
    if server.away.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({})));
    }
    if headers.get("authorization").is_none_or(|value| value != "Bearer recorders-own") {
        return (StatusCode::FORBIDDEN, Json(json!({"kind": "Status"})));
    }
    assert_eq!(
        (&asked["kind"], &asked["apiVersion"]),
        (&json!("TokenReview"), &json!("authentication.k8s.io/v1"))
    );
    let token = asked["spec"]["token"].as_str().unwrap();
    let audiences: Vec<String> = serde_json::from_value(asked["spec"]["audiences"].clone()).unwrap();
    let status = reviewed(&server, token, &audiences)
        .unwrap_or_else(|| json!({"authenticated": false, "error": "invalid bearer token"}));
    (StatusCode::CREATED, Json(json!({"kind": "TokenReview", "status": status})))
}

fn reviewed(server: &ApiServer, token: &str, audiences: &[String]) -> Option<Value> {
    let keys: JwkSet = serde_json::from_str(&server.keys).unwrap();
    let kid = jsonwebtoken::decode_header(token).ok()?.kid?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(audiences);
    let key = DecodingKey::from_jwk(keys.find(&kid)?).unwrap();
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation).ok()?.claims;
    let pod = claims["kubernetes.io"]["pod"]["name"].as_str()?.to_owned();
    if server.gone.lock().unwrap().contains(&pod) {
        return None;
    }
    let confirmed: Vec<_> =
        claims["aud"].as_array()?.iter().filter(|aud| audiences.iter().any(|name| *aud == name)).collect();
    Some(json!({
        "authenticated": true,
        "audiences": confirmed,
        "user": {
            "username": claims["sub"],
            "extra": {
                "authentication.kubernetes.io/pod-name": [format!("{pod}-reviewed")],
                "authentication.kubernetes.io/pod-uid": ["uid-from-the-review"],
                "authentication.kubernetes.io/node-name": ["node-from-the-review"],
            },
        },
    }))
}

/// The subject of the first entry that an acknowledgement is about.
fn subject(acknowledgement: &Acknowledgement) -> Value {
    serde_json::from_str::<Value>(acknowledgement.envelopes[0].get()).unwrap()["subject"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_says_who_speaks() {
    let site = Site::new();
    let server = Arc::new(ApiServer {
        keys: site.issuer.jwks(),
        reviews: AtomicUsize::new(0),
        away: AtomicBool::new(false),
        gone: Mutex::default(),
    });
    let router = Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
        .with_state(Arc::clone(&server));
    let address = serve(&site, router).await;
    std::fs::write(site.path("own"), "recorders-own\n").unwrap();
    let mut config = site.config();
    config.means = Means::Review(ReviewSettings {
        server: format!("https://localhost:{}", address.port()).parse().unwrap(),
        ca: Some(site.path("tls.crt")),
        token: site.path("own"),
    });
    let recorder = site.run(config).await;
    let client = &recorder.client;

    let token = site.issuer.token("agents", "billing");
    let mut speaker = Speaker::new(String::new());
    let (_, acknowledged) = client.record(&token, &speaker.start(10)).await;
    let subject = subject(&acknowledged);
    assert_eq!(subject["pod"], "billing-0-reviewed", "the API server's word, not the token's: {subject}");
    assert_eq!(
        (&subject["podUID"], &subject["node"]),
        (&json!("uid-from-the-review"), &json!("node-from-the-review"))
    );
    for _ in 0..20 {
        client.record(&token, &speaker.heartbeat()).await;
    }
    assert_eq!(server.reviews.load(Ordering::SeqCst), 1, "a good answer is remembered for a while");

    let other = Issuer::new(); // the same key id, another key
    let mut elsewhere = Issuer::claims("agents", "billing");
    elsewhere["aud"] = json!(["https://kubernetes.default.svc"]);
    server.gone.lock().unwrap().push("etl-0".into());
    for bad in
        [other.token("agents", "billing"), site.issuer.sign(&elsewhere), site.issuer.token("agents", "etl")]
    {
        let batch = Speaker::new(String::new()).start(10).encode();
        assert_eq!(refusal(&client.post(&bad, batch.clone()).await), (401, "bad_token".into()));
        let asked = server.reviews.load(Ordering::SeqCst);
        assert_eq!(refusal(&client.post(&bad, batch).await).0, 401);
        assert_eq!(
            server.reviews.load(Ordering::SeqCst),
            asked,
            "a bad token does not make it ask each time"
        );
    }

    // Away: whom it knows goes on, a new one is told to come again, and nothing is believed meanwhile.
    server.away.store(true, Ordering::SeqCst);
    client.record(&token, &speaker.heartbeat()).await;
    let new = site.issuer.token("agents", "reports");
    let batch = Speaker::new(String::new()).start(10);
    assert_eq!(refusal(&client.post(&new, batch.encode()).await), (503, "identity_unavailable".into()));
    server.away.store(false, Ordering::SeqCst);
    client.record(&new, &batch).await;
    // Another pod's session is not this one's to continue.
    assert_eq!(
        refusal(&client.post(&new, speaker.heartbeat().encode()).await),
        (403, "foreign_session".into())
    );
    recorder.stop().await;
}

/// An issuer that says itself where its keys are, in a second cluster; and a third whose issuer has the first one's name.
#[tokio::test(flavor = "multi_thread")]
async fn several_clusters_speak_to_one_recorder() {
    let site = Site::new();
    let (eu, asia) = (Issuer::with_key_id("eu"), Issuer::with_key_id("asia"));
    let document = Arc::new(Mutex::new(Value::Null));
    let (served, keys) = (Arc::clone(&document), eu.jwks());
    let router = Router::new()
        .route(
            "/.well-known/openid-configuration",
            get(move || std::future::ready(Json(served.lock().unwrap().clone()))),
        )
        .route("/keys", get(move || std::future::ready(keys.clone())));
    let address = serve(&site, router).await;
    let issuer = format!("https://localhost:{}", address.port());
    let mut config = site.config();
    let rules = |issuer: &str, cluster: &str| {
        let mut rules = site.config().rules;
        (rules.issuer, rules.cluster) = (issuer.to_owned(), cluster.to_owned());
        rules.readers.clear();
        rules
    };
    std::fs::write(site.path("asia.json"), asia.jwks()).unwrap();
    let discovery =
        Location::Discovery { issuer: issuer.parse().unwrap(), ca: Some(site.path("tls.crt")), token: None };
    config.others = vec![
        Trust { rules: rules(&issuer, "eu"), means: Means::Keys(discovery), access: None },
        Trust {
            rules: rules(ISSUER, "asia"),
            means: Means::Keys(Location::File(site.path("asia.json"))),
            access: None,
        },
    ];

    // A document of another issuer, or with keys that anybody on the way could change, is not believed.
    for (bad, part) in [
        (json!({"issuer": "https://elsewhere", "jwks_uri": format!("{issuer}/keys")}), "another issuer's"),
        (json!({"issuer": issuer, "jwks_uri": "http://localhost/keys"}), "no https address"),
        (json!({}), "can't be read"),
    ] {
        *document.lock().unwrap() = bad;
        let error = App::start(config.clone()).await.err().expect("must be refused").to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    *document.lock().unwrap() = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
    let recorder = site.run(config).await;
    let client = &recorder.client;
    let mut in_eu = Issuer::claims("agents", "billing");
    in_eu["iss"] = json!(issuer);
    for (token, cluster) in [
        (site.issuer.token("agents", "billing"), "test"),
        (eu.sign(&in_eu), "eu"),
        (asia.token("agents", "billing"), "asia"),
    ] {
        let (_, acknowledged) = client.record(&token, &Speaker::new(String::new()).start(10)).await;
        assert_eq!(subject(&acknowledged)["cluster"], cluster);
    }
    // No cluster signs for another, and roles are a cluster's own.
    for forged in [eu.token("agents", "billing"), asia.sign(&in_eu), site.issuer.sign(&in_eu)] {
        let batch = Speaker::new(String::new()).start(10).encode();
        assert_eq!(refusal(&client.post(&forged, batch).await), (401, "bad_token".into()));
    }
    let auditor = |issuer: &Issuer| issuer.token("audit", "auditor");
    assert_eq!(client.get_as("/v1/search", Some(&auditor(&site.issuer))).await.status(), 200);
    let refused = client.get_as("/v1/search", Some(&auditor(&asia))).await;
    assert_eq!(refusal(&refused), (403, "not_a_reader".into()));
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_does_not_read_with_the_same_token() {
    let site = Site::new();
    let mut config = site.config();
    config.rules.reader_audience = "bqwitness-auditors".into();
    let recorder = site.run(config).await;
    let client = &recorder.client;
    let token = |account: &str, audience: &str| {
        let mut claims = Issuer::claims("audit", account);
        claims["aud"] = json!([audience]);
        site.issuer.sign(&claims)
    };
    let (reads, writes) = (token("auditor", "bqwitness-auditors"), token("auditor", AUDIENCE));
    assert_eq!(client.get_as("/v1/search", Some(&reads)).await.status(), 200);
    assert_eq!(refusal(&client.get_as("/v1/search", Some(&writes)).await), (403, "not_a_reader".into()));
    let batch = Speaker::new(String::new()).start(10);
    assert_eq!(refusal(&client.post(&reads, batch.encode()).await), (403, "no_pod".into()));
    client.record(&writes, &batch).await;
    recorder.stop().await;
}
