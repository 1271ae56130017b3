//! Ten thousand connections that say nothing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Site, Speaker};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How many have agreed on TLS: what a test can afford, at two milliseconds of processor time each. The others don't even
/// begin with it.
const WITH_TLS: usize = 2_500;

/// As many as the test's file descriptors allow, up to ten thousand.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_keep_others_out() {
    let descriptors =
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let idle = usize::try_from(descriptors.saturating_sub(200) / 2).unwrap().min(10_000);
    let site = Arc::new(Site::new());
    let recorder = site.start().await;
    let address = recorder.client.address;
    let begun = Instant::now();
    let agreed = connect_with_tls(&site, address, WITH_TLS.min(idle)).await;
    let took = begun.elapsed();
    let mut silent = Vec::new();
    for _ in agreed.len()..idle {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    println!("{} connections with TLS in {took:?}, {} without", agreed.len(), silent.len());

    let begun = Instant::now();
    recorder
        .client
        .record(&site.issuer.token("agents", "billing"), &Speaker::new(String::new()).start(10))
        .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} with {idle} idle connections", begun.elapsed());
    drop((agreed, silent));
    recorder.stop().await;
}

async fn connect_with_tls(site: &Arc<Site>, address: SocketAddr, count: usize) -> Vec<TlsStream<TcpStream>> {
    const AT_ONCE: usize = 50;
    let connecting = (0..AT_ONCE).map(|_| {
        let site = site.clone();
        tokio::spawn(async move {
            let connector = site.connector();
            let mut connections = Vec::new();
            for _ in 0..count / AT_ONCE {
                let stream = TcpStream::connect(address).await.unwrap();
                connections.push(connector.connect("localhost".try_into().unwrap(), stream).await.unwrap());
            }
            connections
        })
    });
    let mut all = Vec::new();
    for connections in connecting.collect::<Vec<_>>() {
        all.extend(connections.await.unwrap());
    }
    all
}
