//! `bqwitness tail` outlives a restart of the recorder, and does not outlive its reader's right to read.

use std::process::Stdio;
use std::time::Duration;

use bqwitness_tests::identity::{Cluster, Pod};
use bqwitness_tests::programs::{AUDIENCE, program};
use http::StatusCode;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::Child;
use tokio::time::timeout;

use crate::evidence::ANSWER;
use crate::stand::{Recorder, Stand, query};

/// Longer than the longest pause of `tail`, and than its recorder needs to stop and start.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_goes_on_after_a_restart_and_ends_with_its_right() {
    let stand = Stand::new();
    let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
    let address = recorder.address.to_string();
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;

    let mut tail = tail(&stand, &recorder);
    let (mut calls, mut told) = (lines(tail.stdout.take()), lines(tail.stderr.take()));
    // It has begun when it tells a call that was made after its start.
    let first = loop {
        assert_eq!(query(&stand, &sidecar, "SELECT before").await.0, StatusCode::OK);
        if let Ok(line) = timeout(Duration::from_secs(1), calls.next_line()).await {
            break line.unwrap().expect("tail goes on");
        }
    };
    assert!(first.contains("SELECT before"), "{first}");
    assert!(sidecar.stop("test").await);

    recorder.stop().await;
    let away = next(&mut told, "that the recorder is away").await;
    assert!(away.contains("recorder") && away.contains("going on from entry"), "{away}");
    let recorder = stand.recorder(&stand.data(), &address).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    assert_eq!(query(&stand, &sidecar, "SELECT after").await.0, StatusCode::OK);
    assert!(sidecar.stop("test").await);
    // What was made before the restart and not told yet comes first; nothing comes twice.
    let mut rest = next(&mut calls, "a call").await;
    while rest.contains("SELECT before") {
        rest = next(&mut calls, "another call").await;
    }
    assert!(rest.contains("SELECT after"), "{rest}");

    // The recorder comes back, and does not know the reader's token any more.
    recorder.stop().await;
    let away = next(&mut told, "that it is away again").await;
    assert!(away.contains("going on from entry"), "told once for each time: {away}");
    Cluster::new(stand.cluster.issuer()).unwrap().write_jwks(&stand.path("jwks.json")).unwrap();
    let recorder = stand.recorder(&stand.data(), &address).await;
    let status = timeout(PATIENCE, tail.wait()).await.expect("tail ends").unwrap();
    assert_eq!(status.code(), Some(2));
    let why = next(&mut told, "why it ended").await;
    assert!(why.contains("bad_token"), "{why}");
    assert_eq!(calls.next_line().await.unwrap(), None, "one call after the restart, told once");
    recorder.stop().await;
}

fn tail(stand: &Stand, recorder: &Recorder) -> Child {
    let token = stand.path("auditor.token");
    stand.cluster.write_token(&Pod::of("audit", "auditor"), AUDIENCE, &token).unwrap();
    let mut command = tokio::process::Command::new(program("bqwitness").unwrap());
    command.arg("tail").stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env("BQWITNESS_RECORDER", format!("https://{}", recorder.address));
    command.env("BQWITNESS_RECORDER_CA", stand.recorder_ca());
    command.env("BQWITNESS_TOKEN_FILE", token);
    command.spawn().unwrap()
}

fn lines<R: AsyncRead>(from: Option<R>) -> Lines<BufReader<R>> {
    BufReader::new(from.unwrap()).lines()
}

async fn next<R: AsyncRead + Unpin>(from: &mut Lines<BufReader<R>>, what: &str) -> String {
    let line = timeout(PATIENCE, from.next_line()).await;
    line.unwrap_or_else(|_| panic!("{what} does not come"))
        .unwrap()
        .unwrap_or_else(|| panic!("{what}: the end"))
}
