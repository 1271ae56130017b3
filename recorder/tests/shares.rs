//! What one workload holds of the recorder keeps no other out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::time::Duration;

use common::{PATIENCE, Running, Site};
use ledger::batch::{MAX_BATCH, MEDIA_TYPE};
use ledger::call::Access;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What one of the greedy batches brings of itself at once: it is waited for until nearly `BODY_TIMEOUT`, and holds its part of
/// the share until then.
const BEGINNING: usize = 6 << 20;

/// An answer within this time is prompt, on a machine that is busy with other things: the share is held longer.
const PROMPT: Duration = Duration::from_secs(20);

/// Two SQL texts of so many bytes are nearly one of the largest batches.
const LARGE_SQL: usize = 15 << 20;

/// A connection that announces a batch of `length` bytes. The recorder is asked to say when it wants the body.
async fn announce(site: &Site, recorder: &Running, token: &str, length: usize) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(recorder.client.address).await.unwrap();
    let mut stream = site.connector().connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let head = format!(
        "POST /v1/batches HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: {MEDIA_TYPE}\r\ncontent-length: {length}\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Waits until the recorder reads the body, and sends so many bytes of it.
async fn begin(stream: &mut TlsStream<TcpStream>, bytes: usize) {
    let mut wanted = [0; 25];
    stream.read_exact(&mut wanted).await.unwrap();
    assert_eq!(&wanted, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(&vec![b'B'; bytes]).await.unwrap();
    stream.flush().await.unwrap();
}

/// What the recorder has said to a connection so far.
async fn said(stream: &mut TlsStream<TcpStream>) -> String {
    let mut said = [0; 1024];
    let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut said)).await;
    let length = read.map_or(0, |read| read.unwrap());
    String::from_utf8_lossy(&said[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_announces_much_and_sends_little_holds_up_nobody_else() {
    let site = Site::new();
    let recorder = site.start().await;
    let greedy = site.issuer.token("agents", "greedy");
    // The whole share, in two halves that the recorder waits for, and three more that wait behind them.
    let mut first = announce(&site, &recorder, &greedy, MAX_BATCH / 2).await;
    begin(&mut first, 1).await;
    let mut second = announce(&site, &recorder, &greedy, MAX_BATCH / 2).await;
    begin(&mut second, BEGINNING).await;
    let mut behind = Vec::new();
    for _ in 0..3 {
        behind.push(announce(&site, &recorder, &greedy, MAX_BATCH).await);
    }

    let mut other = site.speaker("agents", "billing");
    let token = other.token.clone();
    let recorded = async {
        recorder.client.record(&token, &other.start(60)).await;
        let large =
            common::join([0; 2].map(|_| other.intent(&"x".repeat(LARGE_SQL), "SELECT", "a.b", Access::Read)));
        recorder.client.record(&token, &large).await;
    };
    tokio::time::timeout(PROMPT, recorded)
        .await
        .expect("another workload's batches are acknowledged promptly");

    // All the while the recorder waited for the second, and did not begin with those behind it.
    assert_eq!(said(&mut second).await, "");
    for stream in &mut behind {
        let said = said(stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 503 "), "{said}");
    }
    let mut answer = String::new();
    let ended = tokio::time::timeout(PATIENCE, async {
        while !answer.contains("body_timeout") {
            answer.push(char::from(first.read_u8().await.unwrap()));
        }
    });
    ended.await.expect("a body of one byte is ended");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    drop((second, behind));
    recorder.stop().await;
}
