//! Every write, sync, rename, creation and removal fails once, with nothing and with something done, followed by a power cut
//! that takes or leaves what was not synced. After each: the recorder stopped, what it acknowledged is in a log that
//! verifies, and it starts again and goes on.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

mod common;

use std::sync::Arc;

use bqwitness_recorder::sequencer::{QUEUE, Queue};
use bqwitness_recorder::store::error::StoreError;
use common::bare::{record, start, submission};
use common::memory::{Left, MemoryFiles, PowerCut};
use common::{Acknowledged, Speaker, join, verify};
use ledger::batch::Batch;
use ledger::call::Access;
use tokio::sync::Semaphore;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A session's batches, with a checkpoint after every third; ends at the first failure, in order or not.
fn run(files: &MemoryFiles, batches: &[Batch], acknowledged: &mut Acknowledged) -> Result<(), StoreError> {
    let mut recorder = start(Arc::new(files.clone()))?;
    let mut published = Ok(());
    for (number, batch) in batches.iter().enumerate() {
        if !record(&recorder, batch, acknowledged) {
            break;
        }
        if number % 3 == 2 && published.is_ok() {
            published = recorder.publisher.publish(&recorder.tail);
            if published.is_err() {
                recorder.tail.close(); // as the publisher's thread does
            }
        }
    }
    recorder.queue.stop();
    let sequenced = recorder.sequencer.join().unwrap();
    published?;
    sequenced?;
    recorder.publisher.publish(&recorder.tail)
}

/// A disk with a log that lacks a few entries to a full bundle, and what was acknowledged of it.
fn begun() -> (MemoryFiles, Acknowledged) {
    let (files, mut acknowledged) = (MemoryFiles::default(), Acknowledged::new());
    let mut speaker = Speaker::new(String::new());
    let batch = join([speaker.start(60)].into_iter().chain((0..235).map(|_| speaker.heartbeat())));
    run(&files, &[batch], &mut acknowledged).unwrap();
    (files.after(PowerCut::Loses), acknowledged)
}

/// A session with some calls, enough to fill the bundle.
fn batches() -> Vec<Batch> {
    let mut speaker = Speaker::new(String::new());
    let mut batches = vec![speaker.start(60)];
    for number in 0..8 {
        let call = speaker.seq;
        let intent = speaker.intent(&format!("SELECT {number}"), "SELECT", "a.b", Access::Read);
        batches.push(join([intent, speaker.outcome(call, 1), speaker.heartbeat()]));
    }
    batches
}

const CASES: [(i32, Left, PowerCut); 6] = [
    (EIO, Left::Nothing, PowerCut::Loses),
    (EIO, Left::Nothing, PowerCut::Keeps),
    (EIO, Left::Something, PowerCut::Loses),
    (EIO, Left::Something, PowerCut::Keeps),
    (ENOSPC, Left::Nothing, PowerCut::Loses),
    (ENOSPC, Left::Something, PowerCut::Keeps),
];

#[test]
fn every_operation_fails_once() {
    let (new, begun, batches) = ((MemoryFiles::default(), Acknowledged::new()), begun(), batches());
    // An empty directory: what happens once in a log's life. Then the daily life of one.
    for (base, batches) in [(&new, &batches[..1]), (&begun, &batches[..])] {
        let fine = base.0.after(PowerCut::Keeps);
        let mut all = base.1.clone();
        run(&fine, batches, &mut all).unwrap();
        let operations = fine.operations();
        verify(Arc::new(fine.after(PowerCut::Loses)), &all);
        for operation in 1..=operations {
            CASES.iter().for_each(|case| fail_once(base, batches, operation, *case));
        }
        println!("{operations} operations, {} runs", operations * CASES.len());
    }
}

fn fail_once(
    base: &(MemoryFiles, Acknowledged),
    batches: &[Batch],
    operation: usize,
    (code, left, cut): (i32, Left, PowerCut),
) {
    let files = base.0.after(PowerCut::Keeps);
    files.fail_at(operation, code, left);
    let mut acknowledged = Acknowledged::new();
    let error = run(&files, batches, &mut acknowledged).expect_err("a failing disk stops the recorder");
    let failed = files.failed().expect("an operation failed");
    let case = format!("{failed} (operation {operation}): {error}; {left:?} done, the power cut {cut:?}");
    let expected = if code == ENOSPC { "storage_full" } else { "storage_failed" };
    assert_eq!(error.category(), expected, "{case}");

    // Power cut, start, deliver everything again: each statement is there once, at the place that was promised.
    let files = files.after(cut);
    let mut again = Acknowledged::new();
    run(&files, batches, &mut again).unwrap_or_else(|error| panic!("{case}: does not start again: {error}"));
    for (promise, statement) in &acknowledged {
        let repeated = again.iter().find(|(_, other)| other == statement).expect("delivered again");
        assert_eq!(repeated.0, *promise, "{case}: a repeated delivery gets its first receipt");
    }
    let all: Acknowledged = base.1.iter().cloned().chain(acknowledged).chain(again).collect();
    verify(Arc::new(files.after(PowerCut::Loses)), &all);
}

/// A power cut at any moment, with no error before it.
#[test]
fn a_power_cut_after_every_acknowledgement() {
    let (base, batches) = (begun(), batches());
    for last in 1..=batches.len() {
        let (files, mut acknowledged) = (base.0.after(PowerCut::Loses), base.1.clone());
        let mut recorder = start(Arc::new(files.clone())).unwrap();
        for (number, batch) in batches[..last].iter().enumerate() {
            assert!(record(&recorder, batch, &mut acknowledged));
            if number % 4 == 1 {
                recorder.publisher.publish(&recorder.tail).unwrap();
            }
        }
        for cut in [PowerCut::Loses, PowerCut::Keeps] {
            let files = files.after(cut);
            let mut recorder = start(Arc::new(files.clone())).unwrap();
            recorder.queue.stop();
            recorder.sequencer.join().unwrap().unwrap();
            recorder.publisher.publish(&recorder.tail).unwrap();
            verify(Arc::new(files), &acknowledged);
        }
        recorder.queue.stop();
        recorder.sequencer.join().unwrap().unwrap();
    }
}

/// Those who wait for a slow disk share its syncs, and when too many wait, the next are told so.
#[test]
fn a_slow_disk_is_shared_and_then_busy() {
    const TOO_MANY: usize = 300;
    let files = MemoryFiles::default();
    let recorder = start(Arc::new(files.clone())).unwrap();
    let mut first = Acknowledged::new();
    assert!(record(&recorder, &Speaker::new(String::new()).start(60), &mut first), "the disk is quick yet");
    let before = files.appends_synced();
    files.hold();
    let results = std::thread::scope(|scope| {
        let alone = scope.spawn(|| record(&recorder, &Speaker::new(String::new()).start(60), &mut first));
        files.wait_until_held();
        let disk = files.clone();
        let release = move || disk.release();
        let results = record_at_once(&recorder.queue, QUEUE + TOO_MANY, release);
        assert!(alone.join().unwrap());
        results
    });
    let busy = results.iter().filter(|result| **result == Err("busy")).count();
    let recorded = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!((recorded, busy), (QUEUE, TOO_MANY));
    assert_eq!(
        files.appends_synced() - before,
        2,
        "one for whom the disk kept waiting, one for all who came then"
    );
    recorder.queue.stop();
    recorder.sequencer.join().unwrap().unwrap();
}

/// Hands over the starts of this many sessions, does `then` when each of them waits or was refused, and says how each ended.
fn record_at_once(
    queue: &Queue,
    sends: usize,
    then: impl FnOnce() + 'static,
) -> Vec<Result<(), &'static str>> {
    let room = Arc::new(Semaphore::new(sends));
    let tasks = tokio::task::LocalSet::new();
    let records: Vec<_> = (0..sends)
        .map(|_| {
            let submission = submission(&Speaker::new(String::new()).start(60));
            let (queue, room) = (queue.clone(), room.clone().try_acquire_owned().unwrap());
            tasks.spawn_local(async move {
                queue.record(submission, room).await.map(drop).map_err(|refusal| refusal.category())
            })
        })
        .collect();
    tasks.spawn_local(async { then() }); // each has its first turn in the order in which they were made
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(tasks);
    let ended = |record: tokio::task::JoinHandle<_>| runtime.block_on(record).unwrap();
    records.into_iter().map(ended).collect()
}
