//! gRPC of agents without a key: its credential is metadata, which is a header, and is replaced as REST's is.

use std::sync::Arc;
use std::time::Duration;

use bqwitness_proxy::app::Running;
use bqwitness_tests::google::{self, service_account};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ledger::digest::Digest;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::keyless_stand::{Keyless, placeholder, refused};
use crate::stand::{STORAGE, connect};

const READ_ROWS: &str = "/google.cloud.bigquery.storage.v1.BigQueryRead/ReadRows";
const GET_WRITE_STREAM: &str = "/google.cloud.bigquery.storage.v1.BigQueryWrite/GetWriteStream";

/// One gRPC call with this metadata, over a connection of its own. The answer's headers.
async fn call(
    keyless: &Keyless,
    sidecar: &Running,
    (host, path): (&'static str, &str),
    metadata: &[(&str, &str)],
) -> HeaderMap {
    let tunnel = connect(sidecar.listen, host).await;
    let roots = runtime::tls::pinned_roots(&keyless.stand.path("bundle.pem")).unwrap();
    let tls = TlsConnector::from(Arc::new(runtime::tls::client_config(roots, &[b"h2"]).unwrap()));
    let stream = tls.connect(ServerName::try_from(host).unwrap(), tunnel).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("https://{host}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-goog-request-params", "read_stream=projects/p/locations/us/sessions/s/streams/1");
    for (name, value) in metadata {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from_static(b"\0\0\0\0\x01y"))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    body.collect().await.unwrap();
    assert_eq!(head.status, StatusCode::OK);
    head.headers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_placeholder_in_the_metadata_becomes_the_pods_credential() {
    let keyless = Keyless::new().await;
    let sidecar = keyless.sidecar_with(&["--quota-project=acme-billing"]).await;
    let bearer = format!("Bearer {}", placeholder(&sidecar).await);
    let metadata = [
        ("authorization", bearer.as_str()),
        ("x-goog-user-project", "somebody-elses"),
        ("x-goog-api-key", "AIzaAgents"),
        ("x-allowed-locations", "0x7"),
    ];
    for called in [(STORAGE, READ_ROWS), (STORAGE, GET_WRITE_STREAM)] {
        let answer = call(&keyless, &sidecar, called, &metadata).await;
        assert!(!answer.contains_key("grpc-status"), "{called:?}: {answer:?}");
    }
    {
        let seen = keyless.seen.lock().unwrap();
        assert_eq!(seen.len(), 2);
        for seen in seen.iter() {
            let bearer = keyless.google.tokens().bearer(&seen.headers).unwrap();
            assert_eq!(bearer.principal, service_account(&keyless.stand.pod));
            assert_eq!(seen.headers["x-goog-user-project"], "acme-billing");
            for gone in ["x-allowed-locations", "x-goog-api-key"] {
                assert!(!seen.headers.contains_key(gone), "{gone}");
            }
            assert!(seen.headers.contains_key("x-goog-request-params"));
        }
    }
    let pod = keyless.stand.pod.clone();
    for intent in keyless.end(sidecar).await {
        assert_eq!(intent.statement.observed.principal, Some(service_account(&pod)));
        assert_eq!(intent.statement.observed.credential.as_deref(), Some("federated"));
    }
}

/// What is no placeholder of this sidecar's is refused by gRPC's own status, and BigQuery hears nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_and_foreign_placeholders_are_refused() {
    let keyless = Keyless::new().await;
    let other = keyless.sidecar().await;
    let foreign = format!("Bearer {}", placeholder(&other).await);
    assert!(other.stop("test").await);
    let sidecar = keyless.sidecar().await;
    let good = format!("Bearer {}", placeholder(&sidecar).await);
    let forged = good.replace("placeholder-", "placeholder-A");
    let presented: [&[(&str, &str)]; 4] = [
        &[("authorization", &foreign)],
        &[("authorization", &forged)],
        &[("authorization", &good), ("authorization", &foreign)],
        &[],
    ];
    for metadata in presented {
        let answer = call(&keyless, &sidecar, (STORAGE, READ_ROWS), metadata).await;
        assert_eq!(answer["grpc-status"], "16", "UNAUTHENTICATED");
        let said = answer["grpc-message"].to_str().unwrap();
        assert!(said.starts_with("bqwitness: ") && !said.contains("placeholder-"), "{said}");
    }
    assert!(keyless.seen.lock().unwrap().is_empty());
    let answer = call(&keyless, &sidecar, (STORAGE, READ_ROWS), &[("authorization", &good)]).await;
    assert!(!answer.contains_key("grpc-status"), "{answer:?}");
    assert_eq!(keyless.seen.lock().unwrap().len(), 1);
    let intents = keyless.end(sidecar).await;
    let refusals: Vec<_> = intents.iter().map(refused).collect();
    let foreign = Some("placeholder_foreign");
    assert_eq!(refusals, [foreign, foreign, foreign, Some("no_token"), None]);
}

/// A token of the agent's own, as good as they come, is dropped: the call is the pod's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_the_agents_own_is_dropped_and_claimed() {
    let keyless = Keyless::new().await;
    let sidecar = keyless.sidecar().await;
    let (admin, hour) = ("admin@acme-data.iam.gserviceaccount.com", Duration::from_secs(3600));
    let own = keyless.google.tokens().issue(admin, google::BIGQUERY_SCOPE, hour).unwrap();
    call(&keyless, &sidecar, (STORAGE, READ_ROWS), &[("authorization", &format!("Bearer {own}"))]).await;
    let bearer = keyless.google.tokens().bearer(&keyless.seen.lock().unwrap()[0].headers).unwrap();
    assert_eq!(bearer.principal, service_account(&keyless.stand.pod));
    let intents = keyless.end(sidecar).await;
    let claimed = intents[0].statement.claimed.credential.clone().unwrap();
    assert_eq!((claimed.form.as_str(), claimed.digest), ("jwt", Some(Digest::of(own.as_bytes()))));
    assert_eq!(claimed.claims["email"], admin);
}
