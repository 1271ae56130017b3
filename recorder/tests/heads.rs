//! Requests that are none, or too large, on the wire: each is answered with a fixed reason, in HTTP/1.1 and in HTTP/2, and the
//! next one finds everything as it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Running, Site, Speaker, admin_metric};
use http::{Request, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ledger::batch::{MAX_BATCH, MEDIA_TYPE};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(20);

async fn tls(site: &Site, address: SocketAddr, alpn: &[u8]) -> TlsStream<TcpStream> {
    let roots = runtime::tls::pinned_roots(&site.path("tls.crt")).unwrap();
    let config = Arc::new(runtime::tls::client_config(roots, &[alpn]).unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_rustls::TlsConnector::from(config).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

fn reason(body: &[u8]) -> String {
    let answer: Value =
        serde_json::from_slice(body).unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(body)));
    assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
    answer["error"]["reason"].as_str().unwrap().to_owned()
}

async fn counted(recorder: &Running, reason: &str) -> u64 {
    let name = format!("bqwitness_recorder_malformed_total{{reason=\"{reason}\"}}");
    admin_metric(recorder.admin, &name).await
}

/// A sidecar is served, and the connections of those before are gone.
async fn all_is_well(site: &Site, recorder: &Running) {
    let token = site.issuer.token("agents", "billing");
    recorder.client.record(&token, &Speaker::new(token.clone()).start(10)).await;
    let gone = async {
        // The client keeps its own.
        while admin_metric(recorder.admin, "bqwitness_recorder_connections").await > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("nothing is left of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_none_is_answered_with_a_reason() {
    let site = Site::new();
    let recorder = site.start().await;
    let get = |headers: String| format!("GET /log/checkpoint HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    for (head, status, word) in [
        (get(format!("x: {}\r\n", "y".repeat(100_000))), 431, "head_too_large"),
        (get("x: y\r\n".repeat(100_000)), 431, "head_too_large"),
        (get("x: y\r\n".repeat(101)), 431, "head_too_large"),
        ("nonsense\r\n\r\n".into(), 400, "malformed_head"),
        (get("no colon\r\n".into()), 400, "malformed_head"),
        (get("content-length: 3\r\ncontent-length: 4\r\n".into()), 400, "malformed_head"),
    ] {
        let before = counted(&recorder, word).await;
        let mut stream = tls(&site, recorder.client.address, b"http/1.1").await;
        let _sent = stream.write_all(head.as_bytes()).await.is_ok();
        let mut answer = Vec::new();
        let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let _closed = reading.expect("the connection ends").is_ok();
        let text = String::from_utf8(answer).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert_eq!(reason(text.split_once("\r\n\r\n").unwrap().1.as_bytes()), word);
        assert_eq!(counted(&recorder, word).await, before + 1);
    }
    all_is_well(&site, &recorder).await;
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_answered_in_http2() {
    let site = Site::new();
    let recorder = site.start().await;
    let stream = TokioIo::new(tls(&site, recorder.client.address, b"h2").await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let get = |kib: usize| {
        let headers = (0..kib / 8).map(|number| (format!("x-{number}"), "y".repeat(8 * 1024)));
        let request = Request::get("https://localhost/log/checkpoint");
        let request = headers.fold(request, |request, (name, value)| request.header(name, value));
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    let answer = sender.send_request(get(72)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(reason(&answer.into_body().collect().await.unwrap().to_bytes()), "head_too_large");
    assert_eq!(counted(&recorder, "head_too_large").await, 1);
    // So large that h2 itself ends the stream, and at last the connection.
    let answer = sender.send_request(get(320)).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 431));
    assert_eq!(sender.send_request(get(0)).await.unwrap().status(), StatusCode::OK, "the connection goes on");
    assert_eq!(counted(&recorder, "head_too_large").await, 2);
    assert!(sender.send_request(get(1600)).await.is_err());
    let ended = tokio::time::timeout(PATIENCE, driving).await.expect("the connection ends").unwrap();
    assert!(ended.is_err(), "{ended:?}");
    // Its last frame may be here before the recorder's task has gone on.
    let told = async {
        while counted(&recorder, "http2_connection").await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is counted");
    assert_eq!(counted(&recorder, "http2_connection").await, 1);
    drop(sender);
    all_is_well(&site, &recorder).await;
    recorder.stop().await;
}

/// A client that is still sending may never see an answer that comes before its last byte: the rest is taken in first.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_large_batch_gets_its_answer_in_http2() {
    let site = Site::new();
    let recorder = site.start().await;
    let stream = TokioIo::new(tls(&site, recorder.client.address, b"h2").await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    for token in [None, Some(site.issuer.token("agents", "billing"))] {
        let (mut body, data) = Channel::<Bytes, std::io::Error>::new(1);
        let mut request = Request::post("https://localhost/v1/batches").header("content-type", MEDIA_TYPE);
        if let Some(token) = &token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut answering = Box::pin(sender.send_request(request.body(data).unwrap()));
        // No batch, and much more than a window of it.
        for _ in 0..MAX_BATCH / (1 << 20) {
            let sent = body.send_data(Bytes::from(vec![b'x'; 1 << 20]));
            tokio::select! {
                sent = tokio::time::timeout(PATIENCE, sent) => sent.expect("it is taken in").unwrap(),
                answer = &mut answering => panic!("an answer before the end: {answer:?}"),
            }
        }
        let early = tokio::time::timeout(Duration::from_millis(300), &mut answering).await;
        assert!(early.is_err(), "an answer before the end: {early:?}");
        drop(body);
        let answer = tokio::time::timeout(PATIENCE, answering).await.expect("an answer").unwrap();
        let expected = if token.is_some() { (400, "malformed_batch") } else { (401, "no_token") };
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!((status, reason(&body).as_str()), expected);
    }
    // As sidecars do it, over and over.
    for _ in 0..10 {
        let answer = recorder.client.post("none", vec![b'x'; MAX_BATCH]).await;
        assert_eq!(common::refusal(&answer), (401, "bad_token".into()));
    }
    recorder.stop().await;
}
