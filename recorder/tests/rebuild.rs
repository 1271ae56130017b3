//! An index that was deleted is built again while entries are taken: how far it is can be seen, nobody waits for it, and in
//! the end it is the one that was fed as the log grew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bqwitness_recorder::index::{Indexer, schema};
use bqwitness_recorder::metrics::Metrics;
use bqwitness_recorder::store::files::LocalFiles;
use bqwitness_recorder::store::recover::{self, Opened};
use common::{Client, ORIGIN, Site, Speaker, admin_metric, join};
use jiff::Timestamp;
use ledger::call::Access;
use ledger::entry::{Envelope, Role, Subject, Workload, encode};
use prometheus::Registry;
use rusqlite::Connection;

/// Long enough that the index is built for seconds.
const SESSIONS: u64 = 20;
const CALLS: u64 = 400;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&Registry::new()).unwrap())
}

fn open(data: &Path) -> Opened {
    recover::open(Arc::new(LocalFiles::open(data).unwrap()), ORIGIN, metrics()).unwrap()
}

fn envelope() -> Envelope {
    let workload = Workload {
        cluster: "test".into(),
        namespace: "agents".into(),
        service_account: "billing".into(),
        pod: "billing-0".into(),
        pod_uid: "u".into(),
        node: None,
    };
    Envelope { received: Timestamp::now(), subject: Subject::Workload(workload), role: Role::Sidecar }
}

/// A log of sessions that have ended, without an index.
fn write_log(data: &Path) -> u64 {
    let mut opened = open(data);
    for number in 0..SESSIONS {
        let mut speaker = Speaker::new(String::new());
        let mut batches = vec![speaker.start(300)];
        for call in 0..CALLS {
            let place = speaker.seq;
            let sql = format!("SELECT {call} FROM sales.region_{number}");
            batches.push(speaker.intent(&sql, "SELECT", &format!("sales.region_{number}"), Access::Read));
            batches.push(speaker.outcome(place, call));
        }
        batches.push(speaker.end());
        let batch = join(batches);
        let leaves = batch.statements.iter().map(|statement| encode(&envelope(), statement).unwrap().into());
        opened.tail.add(leaves, batch.blobs.into_iter().map(Arc::new));
        opened.publisher.publish(&opened.tail).unwrap();
    }
    opened.tail.size()
}

/// What happened while the index was built.
struct Meanwhile {
    /// How far the index was before each acknowledgement.
    seen: Vec<u64>,
    slowest: Duration,
    whole: Duration,
    /// Entries in the log at the end, as the last receipt says.
    size: u64,
}

/// Records calls until the index is whole, one acknowledged after the other.
async fn record_meanwhile(client: &Client, site: &Site, admin: std::net::SocketAddr) -> Meanwhile {
    let mut speaker = site.speaker("agents", "meanwhile");
    let token = speaker.token.clone();
    client.record(&token, &speaker.start(300)).await;
    let began = Instant::now();
    let mut meanwhile =
        Meanwhile { seen: Vec::new(), slowest: Duration::ZERO, whole: Duration::ZERO, size: 0 };
    while admin_metric(admin, "bqwitness_recorder_index_rebuilding").await == 1 {
        meanwhile.seen.push(admin_metric(admin, "bqwitness_recorder_index_size").await);
        let begun = Instant::now();
        let call = speaker.seq;
        let intent = speaker.intent("SELECT 1", "SELECT", "a.b", Access::Read);
        let (places, _) = client.record(&token, &join([intent, speaker.outcome(call, 1)])).await;
        meanwhile.slowest = meanwhile.slowest.max(begun.elapsed());
        meanwhile.size = places[1].index + 1;
    }
    meanwhile.whole = began.elapsed();
    meanwhile
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_rebuilt_while_entries_are_taken() {
    let site = Site::new();
    let data = site.data();
    let old = tokio::task::block_in_place(|| write_log(&data));
    let recorder = site.start().await;

    let early = recorder.client.search("words=SELECT&limit=1").await;
    let of = early.rebuilding_to.expect("an answer from a part of the log says so");
    assert!(early.size < of && of >= old, "{} of {of}", early.size);
    let Meanwhile { seen, slowest, whole, size } =
        record_meanwhile(&recorder.client, &site, recorder.admin).await;
    let mut steps = seen.clone();
    steps.dedup();
    assert!(steps.is_sorted() && steps.len() >= 5, "it is seen to rise: {steps:?}");
    // On a machine that is busy with other things all of it takes longer.
    let limit = (whole / 2).max(Duration::from_secs(2));
    assert!(slowest < limit, "an acknowledgement took {slowest:?}, the index {whole:?}");
    assert!(
        size >= old + 2 * seen.len() as u64,
        "{} acknowledgements, {size} entries after {old}",
        seen.len()
    );

    let late = recorder.client.search(&format!("wait={size}&words=SELECT&limit=1")).await;
    assert_eq!(late.rebuilding_to, None);
    assert!(late.size >= size, "{} of {size}", late.size);
    recorder.stop().await;
    tokio::task::block_in_place(|| assert_same_as_fed(&data));
}

/// Feeds another index in uneven steps, as a log grows, and compares all that the two hold.
fn assert_same_as_fed(data: &Path) {
    let (opened, rebuilt) = (open(data), contents(data));
    assert!(rebuilt.iter().map(String::len).sum::<usize>() > 1_000_000, "there is much to compare");
    std::fs::remove_file(schema::path(data)).unwrap();
    let (vkey, size) = (opened.signer.first_vkey(), opened.reader.published().size);
    let mut indexer = Indexer::open(data, &vkey, opened.reader, metrics()).unwrap();
    let mut covered = 0;
    while covered < size {
        covered = (covered + 1 + covered % 1999).min(size);
        indexer.catch_up(covered).unwrap();
    }
    drop(indexer);
    for (fed, rebuilt) in contents(data).iter().zip(&rebuilt) {
        let differs = fed.lines().zip(rebuilt.lines()).find(|(fed, rebuilt)| fed != rebuilt);
        assert!(fed == rebuilt, "fed as the log grew, and rebuilt: {differs:?}");
    }
}

/// Every row of every table, and every word with where it occurs.
fn contents(data: &Path) -> Vec<String> {
    let index = Connection::open(schema::path(data)).unwrap();
    index.execute_batch("CREATE VIRTUAL TABLE temp.places USING fts5vocab(main, words, instance)").unwrap();
    let tables = [
        "meta ORDER BY name",
        "calls ORDER BY idx",
        "sessions ORDER BY idx",
        "holes ORDER BY session, idx",
        "tables ORDER BY name, idx",
        "temp.places ORDER BY term, doc, col, offset",
    ];
    tables.iter().map(|table| rows(&index, &format!("SELECT * FROM {table}"))).collect()
}

fn rows(index: &Connection, sql: &str) -> String {
    let mut select = index.prepare(sql).unwrap();
    let columns = select.column_count();
    let mut rows = select.query([]).unwrap();
    let mut text = String::new();
    while let Some(row) = rows.next().unwrap() {
        for column in 0..columns {
            text.push_str(&format!("{:?} ", row.get_ref(column).unwrap()));
        }
        text.push('\n');
    }
    text
}
