//! Witnesses: a log that they cosigned can't be rolled back or forked without their saying so.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bqwitness_tests::programs::program;
use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Child;

use crate::evidence::{ANSWER, Desk};
use crate::stand::{Recorder, Stand, query};

const LIMIT: Duration = Duration::from_secs(60);

/// `bqwitness witness`, running.
struct Witness {
    _process: Child,
    listen: String,
    vkey: String,
}

impl Witness {
    async fn start(stand: &Stand) -> Self {
        let mut command = tokio::process::Command::new(program("bqwitness").unwrap());
        command.args([
            "--output",
            "json",
            "witness",
            "--name",
            "witness.example/w",
            "--listen",
            "127.0.0.1:0",
        ]);
        command.arg("--log").arg(stand.data().join("log.vkey")).arg("--state").arg(stand.path("witness"));
        let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        Self { _process: process, listen: text("listen"), vkey: text("vkey") }
    }

    fn policy(&self) -> String {
        format!("witness w {} http://{}/\nquorum w\n", self.vkey, self.listen)
    }
}

/// The recorder's metrics, once they have `line`.
async fn metrics_with(recorder: &Recorder, line: &str) {
    let begun = Instant::now();
    loop {
        let mut stream = tokio::net::TcpStream::connect(recorder.admin).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).await.unwrap();
        if metrics.contains(line) {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "no {line} in:\n{metrics}");
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_cosigns_one_history_and_no_other() {
    let stand = Stand::new();
    stand.recorder(&stand.data(), "127.0.0.1:0").await.stop().await; // makes the key
    let witness = Witness::start(&stand).await;
    std::fs::write(stand.path("policy"), witness.policy()).unwrap();
    let more =
        [format!("--witness-policy={}", stand.path("policy").display()), "--wait-for-witnesses=20".into()];
    let bigquery = stand.bigquery(|_| (StatusCode::OK, ANSWER.into())).await;

    // Receipts wait for the witness, so what was acknowledged is cosigned.
    let recorder = stand.recorder_with(&stand.data(), "127.0.0.1:0", &more).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    query(&stand, &sidecar, "SELECT 'witnessed'").await;
    assert!(sidecar.stop("test").await);
    let desk = Desk::new(&stand, &recorder);
    let said = desk.run(&["export", "--policy", "policy", "-o", "all.bqw"]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    let monitored = desk.run(&["monitor", "--state", "seen", "--metrics", "monitor.prom"]).await;
    assert_eq!(monitored.code, Some(0), "{}{}", monitored.stdout, monitored.stderr);
    recorder.stop().await;

    let told = desk.run(&["--output", "json", "verify", "all.bqw", "--policy", "policy"]).await.json();
    assert_eq!((&told["verified"], &told["witnessed"]), (&true.into(), &true.into()), "{told}");
    let said = desk.run(&["verify", "all.bqw", "--policy", "policy"]).await;
    assert!(said.stdout.contains("the witnesses of your policy"), "{}", said.stdout);
    let other = format!(
        "{}quorum w\n",
        "witness w other.example/w+8a8bdd8f+BAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n"
    );
    std::fs::write(stand.path("other"), other).unwrap();
    assert_ne!(desk.run(&["verify", "all.bqw", "--policy", "other"]).await.code, Some(0));

    // The same log goes on from an older copy of its directory: a fork, as soon as something else is in it.
    let copied = stand.path("copy");
    copy(&stand.data(), &copied);
    let recorder = stand.recorder_with(&stand.data(), "127.0.0.1:0", &more[..1]).await;
    let sidecar = stand.sidecar(&recorder, bigquery.address).await;
    for number in 0..5 {
        query(&stand, &sidecar, &format!("SELECT {number}")).await;
    }
    assert!(sidecar.stop("test").await);
    metrics_with(&recorder, "witness_answers_total{result=\"cosigned\",witness=\"w\"}").await;
    let desk = Desk::new(&stand, &recorder);
    let _cosigned = desk.run(&["export", "--policy", "policy", "-o", "more.bqw"]).await;
    assert_eq!(desk.run(&["monitor", "--state", "seen"]).await.code, Some(0));
    recorder.stop().await;

    let forked = stand.recorder_with(&copied, "127.0.0.1:0", &more[..1]).await;
    metrics_with(&forked, "witness_answers_total{result=\"rolled_back\",witness=\"w\"}").await;
    let desk = Desk::new(&stand, &forked);
    let monitored = desk.run(&["monitor", "--state", "seen", "--metrics", "monitor.prom"]).await;
    assert_eq!(monitored.code, Some(1), "{}{}", monitored.stdout, monitored.stderr);
    assert!(monitored.stdout.contains("rolled back"), "{}", monitored.stdout);
    let metrics = std::fs::read_to_string(stand.path("monitor.prom")).unwrap();
    assert!(metrics.contains("bqwitness_monitor_consistent 0\n"), "{metrics}");
    forked.stop().await;
}
