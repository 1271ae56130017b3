//! `bqwitness tail` outlives a restart of the recorder, and outlives neither its reader's right to read nor a log that does not
//! continue what it saw of it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bqwitness_proxy::app::Running;
use bqwitness_recorder::app::DRAIN_LIMIT;
use bqwitness_tests::identity::{Cluster, Pod};
use bqwitness_tests::programs::{AUDIENCE, program};
use http::StatusCode;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::Child;
use tokio::time::timeout;

use crate::evidence::ANSWER;
use crate::rollback::copy;
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

    let mut tail = tail(&stand, &recorder, None);
    let (mut calls, mut told) = (lines(tail.stdout.take()), lines(tail.stderr.take()));
    tells(&mut calls, &stand, &sidecar).await;
    assert!(sidecar.stop("test").await);

    // It waits for calls, and holds up nobody's restart by that.
    let asked = Instant::now();
    recorder.stop().await;
    assert!(asked.elapsed() < DRAIN_LIMIT, "{:?}", asked.elapsed());
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

/// The log that the recorder has after a restart.
#[derive(Clone, Copy, Debug)]
enum BroughtBack {
    /// A copy that lacks what the tail saw.
    Older,
    /// Another one that began the same, and has more entries than the tail saw.
    Other,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_ends_with_a_log_that_was_brought_back() {
    for (with_key, brought_back, said) in [
        (false, BroughtBack::Older, "the recorder was brought back from an older copy"),
        (true, BroughtBack::Older, "the recorder was brought back from an older copy"),
        (false, BroughtBack::Other, "entries are others now"),
        (true, BroughtBack::Other, "entries are others now"),
    ] {
        let stand = Stand::new();
        stand.recorder(&stand.data(), "127.0.0.1:0").await.stop().await;
        let copied = stand.path("copy");
        copy(&stand.data(), &copied);
        let recorder = stand.recorder(&stand.data(), "127.0.0.1:0").await;
        let address = recorder.address.to_string();
        let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;
        let sidecar = stand.sidecar(&recorder, bigquery.address).await;
        // The tail's first look is at a log that goes on behind the copy.
        assert_eq!(query(&stand, &sidecar, "SELECT 1").await.0, StatusCode::OK);
        published(&stand.data(), published(&copied, 0).await + 3).await;
        let key = with_key.then(|| stand.data().join("log.vkey"));
        let mut tail = tail(&stand, &recorder, key.as_deref());
        let (mut calls, mut told) = (lines(tail.stdout.take()), lines(tail.stderr.take()));
        tells(&mut calls, &stand, &sidecar).await;
        assert!(sidecar.stop("test").await);
        recorder.stop().await;

        let away = next(&mut told, "that the recorder is away").await;
        assert!(away.contains("going on from entry"), "{away}");
        if matches!(brought_back, BroughtBack::Other) {
            let seen = published(&stand.data(), 0).await;
            while published(&copied, 0).await <= seen {
                stand.recorder(&copied, "127.0.0.1:0").await.stop().await;
            }
        }
        let recorder = stand.recorder(&copied, &address).await;
        let status = timeout(PATIENCE, tail.wait()).await.expect("tail ends").unwrap();
        let why = next(&mut told, "why it ended").await;
        assert!(why.contains(said), "{brought_back:?}, key {with_key}: {why}");
        assert_eq!(status.code(), Some(1), "{brought_back:?}, key {with_key}: {why}");
        recorder.stop().await;
    }
}

/// Waits until the log's checkpoint covers at least so many entries; gives how many it covers.
async fn published(data: &Path, least: u64) -> u64 {
    loop {
        let note = std::fs::read_to_string(data.join("log/checkpoint")).unwrap();
        let size = note.lines().nth(1).unwrap().parse().unwrap();
        if size >= least {
            return size;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// It has begun when it tells a call that was made after its start.
async fn tells<R: AsyncRead + Unpin>(calls: &mut Lines<BufReader<R>>, stand: &Stand, sidecar: &Running) {
    let first = loop {
        assert_eq!(query(stand, sidecar, "SELECT before").await.0, StatusCode::OK);
        if let Ok(line) = timeout(Duration::from_secs(1), calls.next_line()).await {
            break line.unwrap().expect("tail goes on");
        }
    };
    assert!(first.contains("SELECT before"), "{first}");
}

fn tail(stand: &Stand, recorder: &Recorder, key: Option<&Path>) -> Child {
    let token = stand.path("auditor.token");
    stand.cluster.write_token(&Pod::of("audit", "auditor"), AUDIENCE, &token).unwrap();
    let mut command = tokio::process::Command::new(program("bqwitness").unwrap());
    command.arg("tail").stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env("BQWITNESS_RECORDER", format!("https://{}", recorder.address));
    command.env("BQWITNESS_RECORDER_CA", stand.recorder_ca());
    command.env("BQWITNESS_TOKEN_FILE", token);
    if let Some(key) = key {
        command.env("BQWITNESS_KEY", key);
    }
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
