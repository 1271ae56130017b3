//! How long a start takes on a long log, and what of it is spent on blobs. `cargo bench -p bqwitness-recorder --bench start`;
//! `BQWITNESS_BENCH_ENTRIES` sets the log's length (500,000). Every other entry is a call with a statement, as a blob.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bqwitness_recorder::metrics::Metrics;
use bqwitness_recorder::store::files::LocalFiles;
use bqwitness_recorder::store::recover::{self, Opened};
use common::{ORIGIN, Speaker};
use jiff::Timestamp;
use ledger::call::Access;
use ledger::entry::{Envelope, Role, Subject, Workload, encode};
use prometheus::Registry;

/// Calls of one session, and then the next one.
const CALLS: u64 = 1000;

fn open(data: &Path) -> Opened {
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    recover::open(Arc::new(LocalFiles::open(data).unwrap()), ORIGIN, metrics).unwrap()
}

fn write(data: &Path, entries: u64) {
    let mut opened = open(data);
    let workload = Workload {
        cluster: "test".into(),
        namespace: "agents".into(),
        service_account: "billing".into(),
        pod: "billing-0".into(),
        pod_uid: "u".into(),
        node: None,
    };
    let envelope =
        Envelope { received: Timestamp::now(), subject: Subject::Workload(workload), role: Role::Sidecar };
    let sql = format!("SELECT * FROM billing.invoices WHERE account_id IN ({})", "1, ".repeat(300));
    while opened.tail.size() < entries {
        let mut speaker = Speaker::new(String::new());
        let mut batches = vec![speaker.start(300)];
        for _ in 0..CALLS {
            let call = speaker.seq;
            batches.push(speaker.intent(&sql, "SELECT", "billing.invoices", Access::Read));
            batches.push(speaker.outcome(call, 1));
        }
        let batch = common::join(batches);
        let leaves = batch.statements.iter().map(|statement| encode(&envelope, statement).unwrap().into());
        opened.tail.add(leaves, batch.blobs.into_iter().map(Arc::new));
        if opened.tail.size() % 20_000 < 2 * CALLS {
            opened.publisher.publish(&opened.tail).unwrap();
        }
    }
    opened.publisher.publish(&opened.tail).unwrap();
}

fn timed(data: &Path) -> Duration {
    let begun = Instant::now();
    drop(open(data));
    begun.elapsed()
}

fn main() {
    let entries = std::env::var("BQWITNESS_BENCH_ENTRIES").ok().and_then(|entries| entries.parse().ok());
    let entries: u64 = entries.unwrap_or(500_000);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), entries);
    let whole = timed(dir.path());
    // A blob that is not there was deleted: what is left is everything else.
    std::fs::rename(dir.path().join("blobs"), dir.path().join("elsewhere")).unwrap();
    let without = timed(dir.path());
    println!(
        "start on {entries} entries and {} blobs of 1 KiB: {whole:?}, of which {:?} for the blobs (files in cache)",
        entries / 2,
        whole.saturating_sub(without)
    );
}
