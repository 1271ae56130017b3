//! Agents without a key: what the sidecar makes of what they send, what BigQuery sees, what the record says, and what is said
//! when there is no credential.

use std::sync::Arc;
use std::time::Duration;

use bqwitness_proxy::identity::placeholder::LIFETIME;
use bqwitness_tests::google::{self, Behaviour, audience, principal, service_account};
use bqwitness_tests::identity::{Cluster, Pod};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use ledger::digest::Digest;
use serde_json::{Value, json};

use crate::keyless_stand::{
    ANSWER, Keyless, PROVIDER, QUERIES, admin, error, metadata, placeholder, refused, waits_for,
};
use crate::stand::ask;

/// What another task is about to say may come a moment after what we have heard.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let said = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), said).await.unwrap_or_else(|_| panic!("no {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placeholder_becomes_the_pods_own_credential() {
    let keyless = Keyless::new().await;
    let sidecar = keyless.sidecar_with(&["--quota-project=acme-billing"]).await;
    let placeholder = placeholder(&sidecar).await;
    let path = format!("{QUERIES}?alt=json&key=AIzaAgents&access_token={placeholder}");
    let bearer = format!("Bearer {placeholder}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-goog-user-project", "somebody-elses"),
        ("x-allowed-locations", "0x7"),
        ("x-goog-api-key", "AIzaAgents"),
    ];
    assert_eq!(keyless.ask(&sidecar, &path, &headers).await, (StatusCode::OK, ANSWER.into()));
    {
        let seen = keyless.seen.lock().unwrap();
        let [seen] = seen.as_slice() else { panic!("{}", seen.len()) };
        assert_eq!(seen.path, format!("{QUERIES}?alt=json"));
        assert_eq!(seen.headers["x-goog-user-project"], "acme-billing");
        for gone in ["x-allowed-locations", "x-goog-api-key"] {
            assert!(!seen.headers.contains_key(gone), "{gone}");
        }
        let bearer = keyless.google.tokens().bearer(&seen.headers).unwrap();
        assert_eq!(bearer.principal, service_account(&keyless.stand.pod));
    }
    assert_eq!((keyless.google.asked("sts"), keyless.google.asked("iam")), (1, 1));
    let pod = keyless.stand.pod.clone();
    let intents = keyless.end(sidecar).await;
    let observed = &intents[0].statement.observed;
    assert_eq!(observed.principal, Some(service_account(&pod)));
    assert_eq!(observed.credential.as_deref(), Some("federated"));
    assert_eq!(intents[0].statement.claimed.credential, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_service_account_the_federated_identity_itself_calls() {
    let keyless = Keyless::new().await;
    let flags = keyless.google.flags(PROVIDER, &keyless.stand.pod);
    let mut flags: Vec<_> = flags.into_iter().filter(|flag| !flag.starts_with("--impersonate")).collect();
    flags.push(format!("--sts-token-file={}", keyless.stand.path("sts-token").display()));
    flags.push("--metadata-listen=127.0.0.1:0".into());
    let sidecar = keyless.stand.sidecar_with(&keyless.recorder, keyless.bigquery.address, &flags).await;
    assert_eq!(keyless.query(&sidecar).await.0, StatusCode::OK);
    assert_eq!(metadata(&sidecar, "project/numeric-project-id").await.1, google::PROJECT_NUMBER);
    assert_eq!(keyless.google.asked("iam"), 0);
    let pod = keyless.stand.pod.clone();
    let intents = keyless.end(sidecar).await;
    assert_eq!(intents[0].statement.observed.principal, Some(principal(&pod)));
}

/// Service accounts in between, and a shorter life: what the settings say is what is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_delegates_ends_at_the_service_account() {
    let keyless = Keyless::new().await;
    let (delegate, account) =
        ("teams@acme-data.iam.gserviceaccount.com", "reports@acme-data.iam.gserviceaccount.com");
    let flags = [
        format!("--impersonate={account}"),
        format!("--impersonate-delegates={delegate}"),
        "--impersonate-lifetime=900".into(),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let sidecar = keyless.sidecar_with(&flags).await;
    let (status, body) = keyless.query(&sidecar).await;
    assert_eq!(
        (status, error(&body).1.contains("impersonation_denied")),
        (StatusCode::FORBIDDEN, true),
        "{body}"
    );
    assert!(sidecar.stop("test").await);

    keyless.google.bind(&principal(&keyless.stand.pod), delegate);
    keyless.google.bind(delegate, account);
    let sidecar = keyless.sidecar_with(&flags).await;
    assert_eq!(keyless.query(&sidecar).await.0, StatusCode::OK);
    let expires = admin(&sidecar, "metrics").await;
    let expires =
        expires.lines().find_map(|line| line.strip_prefix("bqwitness_credential_expires_timestamp_seconds "));
    let left = expires.unwrap().parse::<i64>().unwrap() - jiff::Timestamp::now().as_second();
    assert!((1..=900).contains(&left), "{left}");
    let intents = keyless.end(sidecar).await;
    assert_eq!(intents.last().unwrap().statement.observed.principal.as_deref(), Some(account));
}

/// What is no placeholder of this sidecar's, since its start, is refused, and BigQuery hears nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placeholder_is_good_at_its_own_sidecar_only() {
    let keyless = Keyless::new().await;
    let first = keyless.sidecar().await;
    let stolen = format!("Bearer {}", placeholder(&first).await);

    // Elsewhere on the network nobody takes it.
    let tokens = keyless.google.tokens();
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, stolen.parse().unwrap())]);
    assert!(tokens.bearer(&headers).is_err());

    // After a restart, which is as good as at another pod's sidecar, nobody does either.
    assert!(first.stop("test").await);
    let second = keyless.sidecar().await;
    let path = format!("{QUERIES}?oauth_token={}", stolen.strip_prefix("Bearer ").unwrap());
    let fresh = format!("Bearer {}", placeholder(&second).await);
    let forged = stolen.replace("placeholder-", "placeholder-A");
    for (path, bearer) in [(QUERIES, &stolen), (&path, &fresh), (QUERIES, &forged)] {
        let (status, body) = keyless.ask(&second, path, &[("authorization", bearer)]).await;
        assert_eq!((status, error(&body).0.as_str()), (StatusCode::UNAUTHORIZED, "authError"), "{body}");
    }
    let (status, body) = keyless.ask(&second, QUERIES, &[]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    assert_eq!(keyless.ask(&second, QUERIES, &[("authorization", &fresh)]).await.0, StatusCode::OK);
    assert_eq!(keyless.seen.lock().unwrap().len(), 1);
    let intents = keyless.end(second).await;
    let refusals: Vec<_> = intents.iter().map(refused).collect();
    let foreign = Some("placeholder_foreign");
    assert_eq!(refusals, [foreign, foreign, foreign, Some("no_token"), None]);
}

/// One thread: the clock is put forward, which both sides' timers see.
#[tokio::test]
async fn a_placeholder_expires() {
    let keyless = Keyless::new().await;
    let sidecar = keyless.sidecar().await;
    let bearer = format!("Bearer {}", placeholder(&sidecar).await);
    assert_eq!(keyless.ask(&sidecar, QUERIES, &[("authorization", &bearer)]).await.0, StatusCode::OK);
    tokio::time::pause();
    tokio::time::advance(LIFETIME).await;
    tokio::time::resume();
    let (status, body) = keyless.ask(&sidecar, QUERIES, &[("authorization", &bearer)]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
    assert!(error(&body).1.contains("has expired"), "{body}");
    assert_eq!(keyless.seen.lock().unwrap().len(), 1, "BigQuery hears nothing of it");
    let intents = keyless.end(sidecar).await;
    let refusals: Vec<_> = intents.iter().map(refused).collect();
    assert_eq!(refusals, [None, Some("placeholder_expired")]);
}

/// The agent has got a token of its own: BigQuery never sees it, and the record says that it was there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_the_agents_own_is_dropped_and_claimed() {
    let keyless = Keyless::new().await;
    let sidecar = keyless.sidecar().await;
    // As good as they come: of another service account, and valid.
    let hour = Duration::from_secs(3600);
    let own = keyless.google.tokens().issue(
        "admin@acme-data.iam.gserviceaccount.com",
        google::BIGQUERY_SCOPE,
        hour,
    );
    let own = own.unwrap();
    let (status, _) = keyless.ask(&sidecar, QUERIES, &[("authorization", &format!("Bearer {own}"))]).await;
    assert_eq!(status, StatusCode::OK);
    let bearer = keyless.google.tokens().bearer(&keyless.seen.lock().unwrap()[0].headers).unwrap();
    assert_eq!(bearer.principal, service_account(&keyless.stand.pod), "the pod's, not the agent's");
    let intents = keyless.end(sidecar).await;
    let claimed = intents[0].statement.claimed.credential.clone().unwrap();
    assert_eq!((claimed.form.as_str(), claimed.digest), ("jwt", Some(Digest::of(own.as_bytes()))));
    assert_eq!(claimed.claims["email"], "admin@acme-data.iam.gserviceaccount.com");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gives_out_tokens_and_keys_is_answered_or_refused_and_recorded() {
    let keyless = Keyless::new().await;
    let sidecar = keyless.sidecar().await;
    let bearer = format!("Bearer {}", placeholder(&sidecar).await);
    let headers = [("authorization", bearer.as_str())];
    let account = "/v1/projects/-/serviceAccounts/admin@acme-data.iam.gserviceaccount.com";
    let asked = [
        ("iamcredentials.googleapis.com", format!("{account}:generateAccessToken")),
        ("iamcredentials.googleapis.com", format!("{account}:signJwt")),
        ("iam.googleapis.com", format!("{account}/keys")),
        ("sts.googleapis.com", "/v1/token".into()),
    ];
    for (host, path) in &asked {
        let (status, body) = keyless.ask_host(&sidecar, host, path, &headers, "{}".into()).await;
        assert_eq!(
            (status, error(&body).0.as_str()),
            (StatusCode::FORBIDDEN, "accessDenied"),
            "{host}: {body}"
        );
    }
    // What libraries with a key file do: they get a placeholder, and it works.
    let form = "grant_type=refresh_token&refresh_token=planted-refresh-token&client_secret=planted";
    let (status, body) =
        keyless.ask_host(&sidecar, "oauth2.googleapis.com", "/token", &[], form.into()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let token: Value = serde_json::from_str(&body).unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    assert_eq!(keyless.ask(&sidecar, QUERIES, &[("authorization", &bearer)]).await.0, StatusCode::OK);
    let locations = Request::get(format!("{account}/allowedLocations"))
        .header("host", "iamcredentials.googleapis.com")
        .body(Full::default())
        .unwrap();
    let (status, _) = ask(&keyless.stand, &sidecar, "iamcredentials.googleapis.com", locations).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(metadata(&sidecar, "instance/service-accounts/default/identity?audience=x").await.0, 404);
    assert_eq!(keyless.google.asked("iam"), 1, "the sidecar's own");
    let intents = keyless.end(sidecar).await;
    for (intent, (host, path)) in intents.iter().zip(&asked) {
        assert_eq!(refused(intent), Some("minting_refused"));
        let http = &intent.statement.body.intent.as_ref().unwrap().http;
        assert_eq!((&*http.host, &http.path), (*host, path));
        assert_eq!(intent.statement.observed.principal, None, "no credential of the pod's is near it");
    }
    assert_eq!(intents.len(), asked.len() + 1);
}

/// Every way in which the pod's token can be bad has its name: in the agent's error, in metrics and in readiness.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_token_of_the_pod_is_named() {
    let keyless = Keyless::new().await;
    keyless.google.behave(Behaviour { blabbing: true, ..Behaviour::default() });
    let cluster = &keyless.stand.cluster;
    let good = keyless.claims();
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let other_cluster = Cluster::new("https://elsewhere.example").unwrap();
    let other_pod = cluster.claims(&Pod::of("agents", "etl"), &audience(PROVIDER));
    let signed = cluster.sign(&good).unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", signed.split('.').nth(1).unwrap());
    let cases = [
        (
            cluster.sign(&with("aud", json!(["bqwitness-recorder"]))).unwrap(),
            "sts_refused",
            StatusCode::FORBIDDEN,
        ),
        (other_cluster.sign(&good).unwrap(), "sts_refused", StatusCode::FORBIDDEN),
        (
            cluster.sign(&with("iss", json!("https://elsewhere.example"))).unwrap(),
            "sts_refused",
            StatusCode::FORBIDDEN,
        ),
        (unsigned, "sts_refused", StatusCode::FORBIDDEN),
        (cluster.sign(&other_pod).unwrap(), "impersonation_denied", StatusCode::FORBIDDEN),
        (
            cluster.sign(&with("exp", json!(1_700_000_000))).unwrap(),
            "subject_token_expired",
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        ("two words".into(), "subject_token_invalid", StatusCode::SERVICE_UNAVAILABLE),
    ];
    for (token, category, status) in cases {
        std::fs::write(keyless.stand.path("sts-token"), &token).unwrap();
        let sidecar = keyless.sidecar_with(&["--deliver-timeout=3"]).await;
        waits_for(&sidecar, category).await;
        let (answered, body) = keyless.query(&sidecar).await;
        assert_eq!(answered, status, "{category}: {body}");
        assert!(error(&body).1.contains(category), "{category} is not in {body}");
        assert!(!body.contains(&token), "{body}");
        until(&format!("{category} in readiness"), || sidecar.readiness.waiting().contains(&category)).await;
        let metrics = admin(&sidecar, "metrics").await;
        let counted = format!("bqwitness_credential_refreshes_total{{result=\"{category}\"}}");
        assert!(metrics.contains(&counted), "{metrics}");
        assert!(
            metrics.contains(&format!("bqwitness_refused_total{{category=\"{category}\"}} 1")),
            "{metrics}"
        );
        assert!(sidecar.stop("test").await);
    }
    std::fs::remove_file(keyless.stand.path("sts-token")).unwrap();
    let sidecar = keyless.sidecar_with(&["--deliver-timeout=3"]).await;
    waits_for(&sidecar, "subject_token_missing").await;
    assert!(error(&keyless.query(&sidecar).await.1).1.contains("subject_token_missing"));
    // The kubelet was late: it goes on by itself.
    keyless.project_token(cluster, &good);
    let served = async { while keyless.query(&sidecar).await.0 != StatusCode::OK {} };
    tokio::time::timeout(Duration::from_secs(60), served).await.expect("a new token is noticed");
    until("readiness", || sidecar.readiness.waiting().is_empty()).await;
    assert_eq!(keyless.seen.lock().unwrap().len(), 1, "nothing left before");
    let intents = keyless.end(sidecar).await;
    assert!(
        intents
            .iter()
            .all(|intent| refused(intent).is_some() || intent.statement.observed.principal.is_some())
    );
}

/// Google's services are down, wrong about the time, or say no; each has its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_google_says_is_named() {
    let keyless = Keyless::new().await;
    for (behaviour, category, status) in [
        (
            Behaviour { failing: Some(StatusCode::BAD_GATEWAY), ..Behaviour::default() },
            "sts_unavailable",
            503,
        ),
        (Behaviour { failing: Some(StatusCode::FORBIDDEN), ..Behaviour::default() }, "sts_refused", 403),
        (Behaviour { ahead: 7200, ..Behaviour::default() }, "clock_skew", 503),
        (Behaviour { ahead: -7200, ..Behaviour::default() }, "clock_skew", 503),
    ] {
        keyless.google.behave(behaviour.clone());
        let sidecar = keyless.sidecar_with(&["--deliver-timeout=3"]).await;
        waits_for(&sidecar, category).await;
        let (answered, body) = keyless.query(&sidecar).await;
        assert_eq!(
            (answered.as_u16(), error(&body).1.contains(category)),
            (status, true),
            "{behaviour:?}: {body}"
        );
        assert!(sidecar.stop("test").await);
    }
    keyless.google.behave(Behaviour::default());
    let nowhere = bqwitness_tests::process::free_port().unwrap();
    let sidecar = keyless
        .sidecar_with(&["--deliver-timeout=3", &format!("--sts-url=https://{nowhere}/v1/token")])
        .await;
    waits_for(&sidecar, "sts_unreachable").await;
    let (answered, body) = keyless.query(&sidecar).await;
    assert_eq!(answered, StatusCode::SERVICE_UNAVAILABLE);
    assert!(error(&body).1.contains("sts_unreachable"), "{body}");
    assert!(keyless.seen.lock().unwrap().is_empty());
    keyless.end(sidecar).await;
}

/// A thousand queries at once, and a token service that takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_token_service_is_asked_once() {
    let keyless = Arc::new(Keyless::new().await);
    keyless.google.behave(Behaviour { delay: Duration::from_millis(500), ..Behaviour::default() });
    let sidecar = Arc::new(keyless.sidecar_with(&["--deliver-timeout=60"]).await);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (keyless, sidecar) = (Arc::clone(&keyless), Arc::clone(&sidecar));
            tokio::spawn(async move { keyless.query(&sidecar).await.0 })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), StatusCode::OK);
    }
    // On a busy machine an attempt may take too long, and is named; for each of the others there is one question and one answer.
    let metrics = admin(&sidecar, "metrics").await;
    let attempts = |granted: bool| -> usize {
        let lines = metrics.lines().filter(|line| line.starts_with("bqwitness_credential_refreshes_total{"));
        let lines = lines.filter(|line| line.contains("\"granted\"") == granted);
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    };
    let (granted, failed) = (attempts(true), attempts(false));
    assert_eq!(granted, 1, "{metrics}");
    assert!((1..=1 + failed).contains(&keyless.google.asked("sts")) && failed < 10, "{metrics}");
    assert!((1..=1 + failed).contains(&keyless.google.asked("iam")), "{metrics}");
    let keyless = Arc::into_inner(keyless).unwrap();
    keyless.end(Arc::into_inner(sidecar).unwrap()).await;
}

/// The cluster rotates its key in the middle of a session, and short-lived credentials are renewed with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_rotated_is_used_for_the_next_credential() {
    let keyless = Keyless::new().await;
    // Renewed after 27 to 30 s less... of 36; used for 6.
    keyless.google.behave(Behaviour { lifetime: Some(Duration::from_secs(34)), ..Behaviour::default() });
    let sidecar = keyless.sidecar_with(&["--deliver-timeout=30"]).await;
    assert_eq!(keyless.query(&sidecar).await.0, StatusCode::OK);
    let rotated = keyless.stand.cluster.rotated().unwrap();
    keyless.google.trust(PROVIDER, &rotated);
    keyless.google.behave(Behaviour::default());
    // The old token is refused from now on; the kubelet brings a new one.
    keyless.project_token(&rotated, &keyless.claims());
    let asked = keyless.google.asked("sts");
    let served = async {
        while keyless.google.asked("sts") == asked {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(keyless.query(&sidecar).await.0, StatusCode::OK);
    };
    tokio::time::timeout(Duration::from_secs(60), served).await.expect("it is renewed ahead of its end");
    until("readiness", || sidecar.readiness.waiting().is_empty()).await;
    keyless.end(sidecar).await;
}

/// Passthrough: what the agent sends is what BigQuery gets, and the record says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passthrough_changes_nothing_and_says_so() {
    let keyless = Keyless::new().await;
    let flags = ["--credential=passthrough".to_owned()];
    let sidecar = keyless.stand.sidecar_with(&keyless.recorder, keyless.bigquery.address, &flags).await;
    assert_eq!(sidecar.metadata, None);
    let hour = Duration::from_secs(3600);
    let own = keyless.google.tokens().issue(
        "shared@acme-data.iam.gserviceaccount.com",
        google::BIGQUERY_SCOPE,
        hour,
    );
    let bearer = format!("Bearer {}", own.unwrap());
    let path = format!("{QUERIES}?key=AIzaAgents&alt=json");
    let headers = [("authorization", bearer.as_str()), ("x-goog-user-project", "acme")];
    assert_eq!(keyless.ask(&sidecar, &path, &headers).await.0, StatusCode::OK);
    {
        let seen = &keyless.seen.lock().unwrap()[0];
        assert_eq!(
            (&seen.path, &seen.headers["authorization"]),
            (&path, &bearer.parse::<http::HeaderValue>().unwrap())
        );
        assert_eq!(seen.headers["x-goog-user-project"], "acme");
    }
    let intents = keyless.end(sidecar).await;
    let statement = &intents[0].statement;
    assert_eq!(statement.observed.credential.as_deref(), Some("passthrough"));
    assert_eq!(statement.observed.principal, None, "nobody has checked whose token it is");
    assert_eq!(
        statement.claimed.credential.as_ref().unwrap().claims["email"],
        "shared@acme-data.iam.gserviceaccount.com"
    );
}
