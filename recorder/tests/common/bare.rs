//! A recorder without its network and its clock.

use std::sync::Arc;

use bqwitness_recorder::metrics::Metrics;
use bqwitness_recorder::sequencer::{Queue, Sequencer};
use bqwitness_recorder::store::error::StoreError;
use bqwitness_recorder::store::files::Files;
use bqwitness_recorder::store::publish::Publisher;
use bqwitness_recorder::store::recover::{self, Opened};
use bqwitness_recorder::store::tail::Tail;
use bqwitness_recorder::submission::{Speaker as Who, Submission};
use ledger::batch::Batch;
use ledger::entry::{Role, Workload};
use ledger::statement::LogEvent;
use prometheus::Registry;
use tokio::sync::{Semaphore, oneshot};

use super::{Acknowledged, ORIGIN};

/// A recorder without its network: the sequencer on its thread, the publisher in the test's hand.
pub struct Bare {
    pub queue: Queue,
    pub tail: Arc<Tail>,
    pub publisher: Publisher,
    pub sequencer: std::thread::JoinHandle<Result<(), StoreError>>,
}

pub fn start(files: Arc<dyn Files>) -> Result<Bare, StoreError> {
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    let opened = recover::open(files, ORIGIN, metrics.clone())?;
    let Opened { wal, tail, publisher, reader, history, .. } = opened;
    let event = LogEvent { version: "test".into(), size: tail.size(), ..LogEvent::default() };
    let (sequencer, queue) = Sequencer::new(wal, tail.clone(), reader, history, ORIGIN, metrics);
    let sequencer = std::thread::spawn(move || sequencer.run(event, oneshot::channel().0));
    Ok(Bare { queue, tail, publisher, sequencer })
}

pub fn submission(batch: &Batch) -> Submission {
    let workload = Workload {
        cluster: "test".into(),
        namespace: "agents".into(),
        service_account: "billing".into(),
        pod: "billing-0".into(),
        pod_uid: "u".into(),
        node: None,
    };
    let who = Who { workload, role: Role::Sidecar };
    Submission::read(who, &batch.encode()).unwrap()
}

pub fn record(recorder: &Bare, batch: &Batch, acknowledged: &mut Acknowledged) -> bool {
    let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match runtime.block_on(recorder.queue.record(submission(batch), room)) {
        Ok(placed) => {
            acknowledged.extend(placed.entries.into_iter().zip(batch.statements.clone()));
            true
        }
        Err(refusal) => {
            assert_eq!(refusal.category(), "stopping", "{refusal}");
            false
        }
    }
}
