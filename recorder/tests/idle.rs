//! Ten thousand connections that have agreed on TLS and say nothing; where it takes long to open that many, the first ones say
//! something now and then, so that they are not let go.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::program::Program;
use common::{Site, Speaker, admin_metric, skipped};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};

const IDLE: usize = 10_000;

/// File descriptors that each of the two processes needs, those of the idle connections included.
const DESCRIPTORS: u64 = IDLE as u64 + 500;

/// An answer within this time is prompt, on a machine that is busy with other things: the idle ones are let go much later.
const PROMPT: Duration = Duration::from_secs(20);

/// What a process has where nobody has set anything: the recorder is started with it, and has to raise it itself.
const USUAL_LIMIT: u64 = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_keep_others_out() {
    let limits = getrlimit(Resource::Nofile);
    let hard = limits.maximum.unwrap_or(u64::MAX);
    if hard < DESCRIPTORS {
        return skipped(&format!(
            "{DESCRIPTORS} file descriptors are needed, and {hard} allowed (ulimit -Hn)"
        ));
    }
    let soft = |limit: u64| Rlimit { current: Some(limit), maximum: limits.maximum };
    setrlimit(Resource::Nofile, soft(USUAL_LIMIT)).unwrap();
    let site = Arc::new(Site::new());
    let recorder = tokio::task::block_in_place(|| Program::start(&site));
    setrlimit(Resource::Nofile, soft(DESCRIPTORS)).unwrap();

    let begun = Instant::now();
    let mut idle = connect(&site, recorder.address).await;
    println!("{} connections with TLS in {:?}", idle.len(), begun.elapsed());
    assert_eq!(idle.len(), IDLE);
    let held = admin_metric(recorder.admin, "bqwitness_recorder_connections").await;
    assert_eq!(held, IDLE as u64, "all of them are open at one time");

    let begun = Instant::now();
    let client = site.client(recorder.address);
    client.record(&site.issuer.token("agents", "billing"), &Speaker::new(String::new()).start(10)).await;
    assert!(begun.elapsed() < PROMPT, "{:?} beside {IDLE} idle connections", begun.elapsed());
    for connection in idle.iter_mut().step_by(100) {
        assert_eq!(ask(connection).await, *b"HTTP/1.1 200", "the idle ones still work");
    }
    drop((idle, client));
    recorder.stop();
}

/// A connection, and when it said something last.
type Kept = (TlsStream<TcpStream>, Instant);

/// Whoever has been silent for so long says something, well before the recorder lets it go.
const LONG_SILENT: Duration = Duration::from_secs(20);

/// Opens all of them, some at a time.
async fn connect(site: &Site, address: SocketAddr) -> Vec<TlsStream<TcpStream>> {
    const AT_ONCE: usize = 50;
    let connector = connector(site);
    let open = Arc::new(AtomicUsize::new(0));
    let connecting = (0..AT_ONCE).map(|_| {
        let (connector, open) = (connector.clone(), open.clone());
        tokio::spawn(async move {
            let mut connections = Vec::new();
            for _ in 0..IDLE / AT_ONCE {
                let stream = TcpStream::connect(address).await.unwrap();
                let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
                connections.push((stream, Instant::now()));
                open.fetch_add(1, Ordering::SeqCst);
                keep(&mut connections).await;
            }
            while open.load(Ordering::SeqCst) < IDLE {
                keep(&mut connections).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            connections
        })
    });
    let mut all = Vec::new();
    for connections in connecting.collect::<Vec<_>>() {
        all.extend(connections.await.unwrap().into_iter().map(|(connection, _)| connection));
    }
    all
}

async fn keep(connections: &mut [Kept]) {
    for (connection, heard) in connections {
        if heard.elapsed() > LONG_SILENT {
            assert_eq!(ask(connection).await, *b"HTTP/1.1 200");
            *heard = Instant::now();
        }
    }
}

/// A client that offers X25519 alone: without optimisation the post-quantum exchange is most of a handshake's time.
fn connector(site: &Site) -> TlsConnector {
    let provider =
        CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
    let roots = runtime::tls::pinned_roots(&site.path("tls.crt")).unwrap();
    let config = tokio_rustls::rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

/// The beginning of the answer to a request. All of it is read.
async fn ask(connection: &mut TlsStream<TcpStream>) -> [u8; 12] {
    connection.write_all(b"HEAD /log/checkpoint HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(connection.read_buf(&mut answer).await.unwrap() > 0, "the end");
    }
    answer[..12].try_into().unwrap()
}
