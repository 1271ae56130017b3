//! How many durable acknowledgements a second, over TLS on loopback, against a loop of raw append and fdatasync of the same
//! bytes in the same run. `cargo bench -p bqwitness-recorder`; `BQWITNESS_BENCH_SECONDS` sets the length of each part (5).

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::Write as _;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Client, ISSUER, ORIGIN, Site, Speaker, join};
use ledger::batch::Batch;
use ledger::call::Intent;
use ledger::statement::{Body, kind};

const WRITERS: usize = 64;

fn seconds() -> Duration {
    let seconds = std::env::var("BQWITNESS_BENCH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

/// A statement of about one KiB.
fn statement(speaker: &mut Speaker) -> Batch {
    let mut intent = Intent { method: "jobs.query".into(), ..Intent::default() };
    intent.http.path = format!("/bigquery/v2/projects/acme/queries?{}", "x".repeat(520));
    let body = Body { intent: Some(intent), ..Body::default() };
    common::only(speaker.say(kind::CALL_INTENT, body, std::collections::BTreeMap::new()))
}

struct Recorder {
    child: Child,
    client: Client,
}

fn start(site: &Site) -> Recorder {
    let ports = site.path("ports.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bqwitness-recorder"));
    for (flag, path) in [
        ("--data", site.data()),
        ("--tls-cert", site.path("tls.crt")),
        ("--tls-key", site.path("tls.key")),
        ("--jwks", site.path("jwks.json")),
        ("--port-file", ports.clone()),
    ] {
        command.arg(flag).arg(path);
    }
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--origin",
        ORIGIN,
        "--issuer",
        ISSUER,
    ]);
    command.args(["--cluster", "test", "--reader", "audit/auditor", "--log-level", "warn"]);
    let child = command.spawn().unwrap();
    let text = loop {
        std::thread::sleep(Duration::from_millis(20));
        if let Ok(text) = std::fs::read_to_string(&ports) {
            break text;
        }
    };
    let ports: serde_json::Value = serde_json::from_str(&text).unwrap();
    let client = site.client(ports["listen"].as_str().unwrap().parse().unwrap());
    Recorder { child, client }
}

/// Appends records of this length, each with its own fdatasync; gives records a second.
fn raw(site: &Site, length: usize) -> f64 {
    let mut file = std::fs::File::create(site.path("raw")).unwrap();
    let (bytes, begun, mut count) = (vec![b'x'; length], Instant::now(), 0u32);
    while begun.elapsed() < seconds() / 2 {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

/// Every writer sends batch after batch; gives acknowledged entries a second, and the latencies.
async fn write(site: &Arc<Site>, recorder: &Recorder, per_batch: usize) -> (f64, Vec<Duration>) {
    let (stop, entries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let mut speaker = site.speaker("agents", &format!("writer-{per_batch}-{number}"));
        let token = speaker.token.clone();
        let client = site.client(recorder.client.address);
        client.record(&token, &speaker.start(300)).await;
        let (stop, entries) = (stop.clone(), entries.clone());
        writers.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let batch = join((0..per_batch).map(|_| statement(&mut speaker)));
                let request = client.batch_request(&token, batch.encode());
                let begun = Instant::now();
                let answer = client.https.send(request).await.unwrap();
                latencies.push(begun.elapsed());
                assert_eq!(answer.status(), 200, "{:?}", answer.body());
                entries.fetch_add(per_batch as u64, Ordering::Relaxed);
            }
            latencies
        }));
    }
    let (before, begun) = (entries.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(seconds()).await;
    let rate = (entries.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for writer in writers {
        latencies.extend(writer.await.unwrap());
    }
    latencies.sort_unstable();
    (rate, latencies)
}

/// How long the newest acknowledged entry waits for a checkpoint, and for the index.
async fn lag(site: &Site, recorder: &Recorder) -> (Duration, Duration) {
    let mut speaker = site.speaker("agents", "last");
    let (places, _) = recorder.client.record(&speaker.token.clone(), &speaker.start(300)).await;
    let (begun, size) = (Instant::now(), places[0].index + 1);
    loop {
        let note = recorder.client.get_as("/log/checkpoint", None).await;
        let checkpoint = ledger::checkpoint::Checkpoint::verify(note.body(), &recorder.client.vkey).unwrap();
        if checkpoint.size >= size {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let published = begun.elapsed();
    while recorder.client.search(&format!("wait={size}&limit=1")).await.size < size {}
    (published, begun.elapsed())
}

/// Processor time that a process has used.
fn processor(child: &Child) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10) // a hundred a second on every Linux of ours
}

fn memory(child: &Child, line: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let found = status.lines().find_map(|l| l.strip_prefix(line)).unwrap_or("?");
    found.trim().to_owned()
}

#[tokio::main]
async fn main() {
    let site = Arc::new(Site::new());
    let one = statement(&mut Speaker::new(String::new())).statements[0].len();
    let (raw_one, raw_many) = (raw(&site, one + 250), raw(&site, 64 * (one + 250)));
    println!(
        "statement of {one} bytes; raw append + fdatasync: {raw_one:.0}/s of 1, {:.0} entries/s in 64s",
        raw_many * 64.0
    );
    let mut recorder = start(&site);
    println!("idle: resident {}", memory(&recorder.child, "VmRSS:"));
    for (per_batch, raw) in [(1, raw_one), (64, raw_many * 64.0)] {
        let before = (processor(&recorder.child), recorder.client.log_size().await);
        let (rate, latencies) = write(&site, &recorder, per_batch).await;
        let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
        let (published, indexed) = lag(&site, &recorder).await;
        let entries = u32::try_from(recorder.client.log_size().await - before.1).unwrap();
        let each = (processor(&recorder.child) - before.0) / entries;
        println!(
            "{WRITERS} writers, {per_batch} a batch: {rate:.0} entries/s acknowledged ({:.2} of raw); p50 {:?}, p99 {:?}; \
             {each:?} of processor time an entry, the index included; then a checkpoint after {published:?}, the index after {indexed:?}; resident {}, at most {}",
            rate / raw,
            at(50),
            at(99),
            memory(&recorder.child, "VmRSS:"),
            memory(&recorder.child, "VmHWM:"),
        );
    }
    recorder.child.kill().unwrap();
    recorder.child.wait().unwrap();
    let begun = Instant::now();
    std::fs::remove_file(site.path("ports.json")).unwrap();
    let mut recorder = start(&site);
    let size = recorder.client.log_size().await;
    println!("start on a log of {size} entries after kill -9: {:?}", begun.elapsed());
    recorder.child.kill().unwrap();
    recorder.child.wait().unwrap();
}
