//! Running it: keys that rotate, readiness, metrics, clients that misbehave.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bqwitness_recorder::api::certificate::Certificate;
use bqwitness_recorder::api::server;
use bqwitness_recorder::api::stall::Patience;
use bqwitness_recorder::app::{App, DRAIN_LIMIT};
use bqwitness_recorder::authn::source::Location;
use bqwitness_recorder::authn::verifier::Means;
use bqwitness_recorder::metrics::Metrics;
use common::{Issuer, PATIENCE, Site, Speaker, admin, admin_metric, refusal};
use ledger::batch::MEDIA_TYPE;
use runtime::drain::Drain;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

async fn tls(site: &Site, address: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    site.connector().connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

/// What is left of a peer whose machine is gone: its HTTP/2 connection answers no goodbye.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_http2_peer_does_not_hold_up_the_end() {
    let site = Site::new();
    let recorder = site.start().await;
    let mut peer = tls(&site, recorder.client.address).await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    peer.write_all(&settings).await.unwrap();
    let mut answered = [0; 9];
    peer.read_exact(&mut answered).await.unwrap();
    assert_eq!(answered[3], 4, "it speaks HTTP/2: SETTINGS come first");
    let asked = Instant::now();
    recorder.stop().await;
    assert!(asked.elapsed() < DRAIN_LIMIT, "it waited for a peer that is gone: {:?}", asked.elapsed());
    drop(peer);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuers_keys_rotate() {
    let mut site = Site::new();
    let recorder = site.start().await;
    let client = &recorder.client;
    let old = site.issuer.token("agents", "billing");
    client.record(&old, &Speaker::new(String::new()).start(10)).await;
    site.issuer = Issuer::new();
    let new = site.issuer.token("agents", "billing");
    assert_eq!(refusal(&client.post(&new, Speaker::new(String::new()).start(10).encode()).await).0, 401);
    // A file that can't be read in between changes nothing.
    std::fs::write(site.path("jwks.json"), "{").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while admin_metric(recorder.admin, "bqwitness_recorder_reload_failures_total{what=\"issuer_keys\"}").await
        == 0
    {
        assert!(Instant::now() < deadline, "keys that can't be read are not counted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.record(&old, &Speaker::new(String::new()).start(10)).await;
    std::fs::write(site.path("jwks.json"), site.issuer.jwks()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while client.post(&new, Speaker::new(String::new()).start(10).encode()).await.status() != 200 {
        assert!(Instant::now() < deadline, "the new key is never taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = client.post(&old, Speaker::new(String::new()).start(10).encode()).await;
    assert_eq!(
        refusal(&answer),
        (401, "bad_token".into()),
        "the old key is out, also for tokens that were known"
    );
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_how_it_is() {
    let site = Site::new();
    let recorder = site.start().await;
    let mut speaker = site.speaker("agents", "billing");
    let (places, _) = recorder.client.record(&speaker.token.clone(), &speaker.start(60)).await;
    recorder.client.post("rubbish", Vec::new()).await;
    // Not by a search, which would be an entry.
    while admin_metric(recorder.admin, "bqwitness_recorder_index_size").await <= places[0].index {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(admin(recorder.admin, "GET /readyz").await.ends_with("ready\n"));
    let metrics = admin(recorder.admin, "GET /metrics").await;
    for line in [
        "bqwitness_recorder_batches_total{result=\"recorded\"} 1",
        "bqwitness_recorder_batches_total{result=\"bad_token\"} 1",
        "bqwitness_recorder_entries_total 2",
        "bqwitness_recorder_checkpoint_size 2",
        "bqwitness_recorder_index_size 2",
        "bqwitness_recorder_sessions_open 1",
        "bqwitness_recorder_queue_batches 0",
        "bqwitness_recorder_append_seconds_count 2",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} is not in {metrics}");
    }
    assert!(admin(recorder.admin, "POST /metrics").await.starts_with("HTTP/1.1 405"));
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown() {
    let site = Site::new();
    let recorder = site.start().await;
    let kept = tls(&site, recorder.client.address).await;
    let renewed = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let failures =
        || admin_metric(recorder.admin, "bqwitness_recorder_reload_failures_total{what=\"certificate\"}");
    assert_eq!(failures().await, 0);
    std::fs::write(site.path("tls.crt"), renewed.cert.pem()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while failures().await == 0 {
        assert!(Instant::now() < deadline, "a certificate without its key is not counted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    std::fs::write(site.path("tls.key"), renewed.signing_key.serialize_pem()).unwrap();
    // The client trusts the new one alone.
    let connector = site.connector();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stream = TcpStream::connect(recorder.client.address).await.unwrap();
        if connector.connect("localhost".try_into().unwrap(), stream).await.is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "the new certificate is never shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut kept = kept;
    kept.write_all(b"GET /log/checkpoint HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200", "connections that are there go on");
    recorder.stop().await;
}

/// The API's server in front of a handler that has much to say, with little patience.
async fn impatient_server(site: &Site) -> (SocketAddr, Arc<Metrics>, Drain) {
    // Its opening has a whole handshake in it, on a machine that is busy with other things.
    let patience = Patience { opening: Duration::from_secs(3), stall: Duration::from_millis(500) };
    let certificate = Certificate::read(site.path("tls.crt"), site.path("tls.key")).unwrap();
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
    let router = axum::Router::new().route("/", axum::routing::get(|| async { vec![b'x'; 1 << 20] }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, watch) = runtime::drain::channel();
    tokio::spawn(server::serve(listener, Arc::new(certificate), router, watch, metrics.clone(), patience));
    (address, metrics, drain)
}

async fn all_connections_end(metrics: &Metrics) {
    let deadline = Instant::now() + PATIENCE;
    while metrics.connections.get() > 0 {
        assert!(Instant::now() < deadline, "{} connections are still there", metrics.connections.get());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_and_never_reads_is_cut_off() {
    let site = Site::new();
    let (address, metrics, drain) = impatient_server(&site).await;
    let mut stalled = tls(&site, address).await;
    // Every answer has a MiB, so a few of them fill what lies between; then the server waits, and reads no more either.
    let sending =
        async { while stalled.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.is_ok() {} };
    let cut_off = tokio::time::timeout(PATIENCE, sending).await;
    assert!(cut_off.is_ok(), "it can send for ever");
    all_connections_end(&metrics).await;
    drop(drain);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_cut_off() {
    let site = Site::new();
    let (address, metrics, drain) = impatient_server(&site).await;
    let mut silent = tls(&site, address).await;
    let mut halting = tls(&site, address).await;
    halting.write_all(b"PRI * HTTP/2").await.unwrap(); // half of HTTP/2's preface
    let mut answer = Vec::new();
    let ended = async {
        // With or without a farewell.
        let _farewell = silent.read_to_end(&mut answer).await.is_ok();
        let _farewell = halting.read_to_end(&mut answer).await.is_ok();
    };
    assert!(tokio::time::timeout(PATIENCE, ended).await.is_ok(), "it may wait for ever");
    all_connections_end(&metrics).await;
    drop(drain);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_misbehave_are_cut_off() {
    let site = Site::new();
    let recorder = site.start().await;
    let token = site.issuer.token("agents", "billing");
    let head = |length: usize| {
        format!(
            "POST /v1/batches HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-type: {MEDIA_TYPE}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    // A body that is announced as too large is refused before any of it is read.
    let mut stream = tls(&site, recorder.client.address).await;
    stream.write_all(head(40 << 20).as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let asked = Instant::now();
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(asked.elapsed() < Duration::from_secs(10), "its body is not waited for: {:?}", asked.elapsed());
    // A head without end.
    let mut stream = tls(&site, recorder.client.address).await;
    let line = format!("GET / HTTP/1.1\r\nx: {}\r\n", "y".repeat(100_000));
    let mut answer = Vec::new();
    if stream.write_all(line.as_bytes()).await.is_ok() && stream.read_to_end(&mut answer).await.is_ok() {
        assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    }
    // A body that breaks off is nobody's: the session can still begin.
    let mut speaker = Speaker::new(token.clone());
    let batch = speaker.start(10).encode();
    let mut stream = tls(&site, recorder.client.address).await;
    stream.write_all(head(batch.len()).as_bytes()).await.unwrap();
    stream.write_all(&batch[..batch.len() - 1]).await.unwrap();
    drop(stream);
    let answer = recorder.client.post(&token, batch).await;
    assert_eq!(answer.status(), 200);
    recorder.stop().await;
}

/// Serves a JWKS to whoever brings the token, as the Kubernetes API server does.
async fn serve_keys(site: &Site, keys: Arc<std::sync::Mutex<String>>) -> SocketAddr {
    let tls = runtime::tls::server_config(&site.path("tls.crt"), &site.path("tls.key")).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route(
        "/openid/v1/jwks",
        axum::routing::get(move |headers: http::HeaderMap| async move {
            let known = headers.get("authorization").is_some_and(|value| value == "Bearer asker");
            if known { Ok(keys.lock().unwrap().clone()) } else { Err(http::StatusCode::FORBIDDEN) }
        }),
    );
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let stream = hyper_util::rt::TokioIo::new(acceptor.accept(stream).await.unwrap());
                let service = hyper_util::service::TowerToHyperService::new(router);
                let builder =
                    hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ended = builder.serve_connection(stream, service).await.is_ok();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_is_asked_for_its_keys() {
    let mut site = Site::new();
    std::fs::write(site.path("asker"), "asker\n").unwrap();
    let keys = Arc::new(std::sync::Mutex::new(site.issuer.jwks()));
    let issuer = serve_keys(&site, keys.clone()).await;
    let mut config = site.config();
    let location = |token| Location::Url {
        url: format!("https://localhost:{}/openid/v1/jwks", issuer.port()).parse().unwrap(),
        ca: Some(site.path("tls.crt")),
        token,
    };
    config.means = Means::Keys(location(None));
    let error = App::start(config.clone()).await.err().expect("the issuer wants a token").to_string();
    assert!(error.contains("status 403") && error.contains("--jwks-token"), "{error}");
    config.means = Means::Keys(location(Some(site.path("asker"))));
    let recorder = site.run(config).await;
    let client = &recorder.client;
    client.record(&site.issuer.token("agents", "billing"), &Speaker::new(String::new()).start(10)).await;

    // A token with a key that is not known makes it ask again.
    site.issuer = Issuer::with_key_id("k2");
    *keys.lock().unwrap() = site.issuer.jwks();
    let new = site.issuer.token("agents", "billing");
    let deadline = Instant::now() + PATIENCE;
    while client.post(&new, Speaker::new(String::new()).start(10).encode()).await.status() != 200 {
        assert!(Instant::now() < deadline, "the new key is never taken");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    recorder.stop().await;
}
