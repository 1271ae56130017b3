//! What the recorder's tests share: an issuer of tokens, a recorder in a temporary directory, a speaker, a client.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code"
)]

pub mod bare;
pub mod client;
pub mod issuer;
pub mod log;
pub mod memory;
pub mod operator;
pub mod program;
pub mod site;
pub mod speaker;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub use client::Client;
pub use issuer::Issuer;
pub use log::{Acknowledged, LogFiles, verify};
pub use site::{Running, Site};
pub use speaker::{Speaker, join, only};

pub const ORIGIN: &str = "recorder.example.com/test";
pub const ISSUER: &str = "https://issuer.example.com";
pub const AUDIENCE: &str = "bqwitness-recorder";

/// So long is waited for what has to come, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the admin server answers, head and all.
pub async fn admin(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The value of one metric, named with its labels.
pub async fn admin_metric(address: SocketAddr, name: &str) -> u64 {
    let metrics = admin(address, "GET /metrics").await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is not in {metrics}")).parse().unwrap()
}

/// Says that a test is left out and why. Where `CI=true` none may be: it would be a hole that nobody sees.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "{test} would be skipped, and CI allows none: {why}");
    // Not `eprintln!`, which the test harness captures.
    let line = format!("SKIPPED {test}: {why}\n");
    let _written = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).is_ok();
}

/// A server behind the site's certificate.
pub async fn serve(site: &Site, router: axum::Router) -> SocketAddr {
    let tls = runtime::tls::server_config(&site.path("tls.crt"), &site.path("tls.key")).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
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

/// The reason of a refusal.
pub fn refusal(answer: &Response<Bytes>) -> (u16, String) {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    (answer.status().as_u16(), body["error"]["reason"].as_str().unwrap_or("").to_owned())
}

/// Copies a directory tree.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
