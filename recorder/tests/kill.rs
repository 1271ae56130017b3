//! kill -9 under load, again and again: nothing acknowledged is lost, nothing is there twice, and the log verifies.
//!
//! `BQWITNESS_TEST_KILLS` sets how often (200 when unset).

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bqwitness_recorder::store::files::LocalFiles;
use common::program::Program;
use common::{Acknowledged, Client, PATIENCE, Site, Speaker, join, verify};
use ledger::batch::Batch;
use ledger::call::Access;

const WRITERS: usize = 8;

/// Some hundred milliseconds, never the same.
fn any_moment() -> Duration {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    Duration::from_micros(u64::from(nanos / 7 % 400_000))
}

/// The next thing that a writer sends: a call's intent, or the outcome of the last with the next intent.
fn next_batch(speaker: &mut Speaker, open: &mut Option<u64>) -> Batch {
    let outcome = open.take().map(|call| speaker.outcome(call, 1));
    *open = Some(speaker.seq);
    join(outcome.into_iter().chain([speaker.intent("SELECT 1 FROM a.b", "SELECT", "a.b", Access::Read)]))
}

/// Sends batch after batch, each until it is acknowledged, to whatever recorder is there.
async fn write(
    site: Arc<Site>,
    number: usize,
    address: Arc<Mutex<SocketAddr>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
) {
    let mut speaker = site.speaker("agents", &format!("writer-{number}"));
    let token = speaker.token.clone();
    let (mut open, mut batch) = (None, speaker.start(300));
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let address = *address.lock().unwrap();
        let client = match &client {
            Some(current) if current.address == address => current.clone(),
            _ => client.insert(site.client(address)).clone(),
        };
        let answer = client.https.send(client.batch_request(&token, batch.encode())).await;
        let Ok(answer) = answer else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        if answer.status() == 503 {
            continue;
        }
        assert_eq!(answer.status(), 200, "{:?}", answer.body());
        let (entries, _) = client.check(&batch, answer.body());
        acknowledged.lock().unwrap().extend(entries.into_iter().zip(batch.statements.clone()));
        batch = next_batch(&mut speaker, &mut open);
    }
}

/// Waits until more entries than this are acknowledged, which are enough to prove something. Gives how many they are.
async fn more_than(acknowledged: &Mutex<Acknowledged>, enough: usize) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let known = acknowledged.lock().unwrap().len();
        if known > enough {
            return known;
        }
        assert!(Instant::now() < deadline, "the writers do not get through: {known} entries, not {enough}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Kills of one log; then another is begun. A start reads all of its log, so a log that grows makes each kill take longer.
const KILLS_OF_ONE_LOG: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    let mut kills: usize =
        std::env::var("BQWITNESS_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200);
    while kills > 0 {
        let now = kills.min(KILLS_OF_ONE_LOG);
        nothing_acknowledged_is_lost_of_one_log(now).await;
        kills -= now;
    }
}

async fn nothing_acknowledged_is_lost_of_one_log(kills: usize) {
    let site = Arc::new(Site::new());
    let mut process = Program::start(&site);
    let address = Arc::new(Mutex::new(process.address));
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            tokio::spawn(write(site.clone(), number, address.clone(), stop.clone(), acknowledged.clone()))
        })
        .collect();
    let mut known = 0;
    for kill in 0..kills {
        // Every other one is killed wherever it is, also before anybody was acknowledged.
        if kill % 2 == 0 {
            known = more_than(&acknowledged, known + 2 * WRITERS).await;
        }
        tokio::time::sleep(any_moment()).await;
        process.kill();
        process = tokio::task::block_in_place(|| Program::start(&site));
        *address.lock().unwrap() = process.address;
    }
    more_than(&acknowledged, kills * WRITERS).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    process.stop();
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    let files = Arc::new(LocalFiles::open(&site.data()).unwrap());
    let size = verify(files, &acknowledged);
    println!("{kills} kills, {} acknowledged entries, all among the log's {size}", acknowledged.len());
}
