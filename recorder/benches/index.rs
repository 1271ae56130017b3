//! What the search index costs: processor time for an entry, on the indexer's own thread. `cargo bench -p bqwitness-recorder
//! --bench index`; `BQWITNESS_BENCH_ENTRIES` sets the log's length (100,000). Entries are calls with a statement, and their
//! outcomes, of fifty sessions in turn. How many a second are acknowledged beside it is for `make bench` to say.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bqwitness_recorder::index::Indexer;
use bqwitness_recorder::metrics::Metrics;
use bqwitness_recorder::store::files::LocalFiles;
use bqwitness_recorder::store::recover::{self, Opened};
use common::{ORIGIN, Speaker};
use jiff::Timestamp;
use ledger::call::Access;
use ledger::entry::{Envelope, Role, Subject, Workload, encode};
use prometheus::Registry;
use rustix::time::{ClockId, clock_gettime};

const SESSIONS: usize = 50;

/// Entries between two checkpoints: 5,000 a second, each 400 ms.
const PUBLISHED: u64 = 2000;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&Registry::new()).unwrap())
}

fn open(data: &Path) -> Opened {
    recover::open(Arc::new(LocalFiles::open(data).unwrap()), ORIGIN, metrics()).unwrap()
}

fn envelope(number: usize) -> Envelope {
    let workload = Workload {
        cluster: "test".into(),
        namespace: "agents".into(),
        service_account: format!("agent-{}", number % 5),
        pod: format!("agent-{number}"),
        pod_uid: "u".into(),
        node: None,
    };
    Envelope { received: Timestamp::now(), subject: Subject::Workload(workload), role: Role::Sidecar }
}

/// The next entries of every session: its start, or a call and its outcome.
fn step(speakers: &mut [Speaker], opened: &Opened, number: u64) {
    for (place, speaker) in speakers.iter_mut().enumerate() {
        let batch = if number == 0 {
            speaker.start(300)
        } else {
            let sql = format!(
                "SELECT account_id, sum(amount) AS total FROM billing.invoices WHERE account_id = {number} AND region = \
                 'region_{place}' GROUP BY account_id ORDER BY total DESC LIMIT {}",
                number * 7
            );
            let call = speaker.seq;
            let intent = speaker.intent(&sql, "SELECT", "billing.invoices", Access::Read);
            common::join([intent, speaker.outcome(call, 1)])
        };
        let leaves = batch.statements.iter().map(|leaf| encode(&envelope(place), leaf).unwrap().into());
        opened.tail.add(leaves, batch.blobs.into_iter().map(Arc::new));
    }
}

fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

fn main() {
    let entries = std::env::var("BQWITNESS_BENCH_ENTRIES").ok().and_then(|entries| entries.parse().ok());
    let entries: u64 = entries.unwrap_or(100_000);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut opened = open(dir.path());
    let vkey = opened.signer.first_vkey();
    let mut indexer = Indexer::open(dir.path(), &vkey, opened.reader.clone(), metrics()).unwrap();
    let mut speakers: Vec<_> = (0..SESSIONS).map(|_| Speaker::new(String::new())).collect();
    let (mut published, mut used, mut number) = (0, Duration::ZERO, 0);
    while opened.tail.size() < entries {
        step(&mut speakers, &opened, number);
        number += 1;
        if opened.tail.size() - published >= PUBLISHED {
            opened.publisher.publish(&opened.tail).unwrap();
            published = opened.tail.size();
            let before = processor();
            indexer.catch_up(published).unwrap();
            used += processor() - before;
        }
    }
    let behind = used / u32::try_from(published).unwrap();
    drop(indexer);
    for suffix in ["", "-wal", "-shm"] {
        let _absent = std::fs::remove_file(dir.path().join(format!("index.sqlite{suffix}"))).is_err();
    }
    let mut indexer = Indexer::open(dir.path(), &vkey, opened.reader.clone(), metrics()).unwrap();
    let before = processor();
    indexer.catch_up(published).unwrap();
    let again = (processor() - before) / u32::try_from(published).unwrap();
    println!(
        "{published} entries: {behind:?} of processor time for each behind the log, {again:?} when all is built again"
    );
}
