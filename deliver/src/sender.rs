//! The task that sends: whatever waits goes out as one batch; the next batch goes when the receipt of this one is there. So
//! an idle sidecar adds no delay, and a busy one groups by itself. A batch is sent again, with the same bytes, until it has
//! a receipt: the recorder recognises what it already has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ledger::batch::{Batch, MAX_BATCH, MAX_BLOBS, MAX_STATEMENTS};
use ledger::receipt::ReceiptEntry;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::chain::Placed;
use super::follow::Follower;
use super::metrics::Metrics;
use super::recorder::{DeliveryError, IDENTITY_REFUSED, Recorder};

/// First pause after a failed attempt; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Longest pause between attempts: a recorder that comes back is noticed within it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A statement on its way. Its room in the queue is free again when it is dropped.
pub(super) struct Waiting {
    pub(super) placed: Placed,
    /// Hears when the statement is in the log.
    pub(super) recorded: Option<oneshot::Sender<()>>,
    pub(super) _room: Option<OwnedSemaphorePermit>,
    pub(super) _memory: Option<OwnedSemaphorePermit>,
}

/// How delivery is doing, for those who wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing failed since the last success.
    Working,
    /// The last attempt failed; it goes on trying.
    Failing { category: &'static str, message: Arc<str> },
    /// The session is over; nothing will be delivered any more.
    Over { category: &'static str, message: Arc<str> },
}

impl State {
    /// Why nothing is delivered, if that is so.
    pub(super) fn category(&self) -> Option<&'static str> {
        match self {
            Self::Working => None,
            Self::Failing { category, .. } | Self::Over { category, .. } => Some(category),
        }
    }

    /// True when waiting does not help: the recorder knows who we are and says no, or takes nothing any more.
    pub(super) fn is_definite(&self) -> bool {
        match self {
            Self::Working => false,
            Self::Failing { category, .. } => *category == IDENTITY_REFUSED,
            Self::Over { .. } => true,
        }
    }
}

pub(super) struct Sender {
    pub(super) recorder: Recorder,
    pub(super) queue: mpsc::UnboundedReceiver<Waiting>,
    pub(super) state: watch::Sender<State>,
    /// The last entry that was acknowledged, for the follower.
    pub(super) receipts: watch::Sender<Option<ReceiptEntry>>,
    pub(super) metrics: Metrics,
}

impl Sender {
    /// Runs until the queue is closed and empty, or the session is over.
    pub(super) async fn run(self, follower: Follower) {
        let (state, receipts) = (self.state.clone(), self.receipts.subscribe());
        tokio::select! {
            () = self.send_all() => {}
            broken = follower.run(receipts) => {
                let over = State::Over { category: "log_broken", message: broken.as_str().into() };
                tracing::error!(category = "log_broken", broken, "calls are refused from now on");
                state.send_replace(over);
            }
        }
    }

    async fn send_all(mut self) {
        let mut left = None;
        while let Some((batch, waiting)) = self.gather(&mut left).await {
            let statements: Vec<&[u8]> =
                waiting.iter().map(|waiting| waiting.placed.bytes.as_slice()).collect();
            match self.deliver(batch, &statements).await {
                Ok(()) => waiting.into_iter().filter_map(|waiting| waiting.recorded).for_each(tell),
                Err(error) => {
                    tracing::error!(category = error.category(), %error, "the session is over; calls are refused from now on");
                    self.state.send_replace(State::Over {
                        category: error.category(),
                        message: error.to_string().into(),
                    });
                    return;
                }
            }
        }
    }

    /// Waits for a statement, then takes all others that wait too and fit; `left` keeps the first that does not.
    async fn gather(&mut self, left: &mut Option<Waiting>) -> Option<(Bytes, Vec<Waiting>)> {
        let mut next = match left.take() {
            Some(waiting) => Some(waiting),
            None => self.queue.recv().await,
        };
        let mut room = Room::default();
        let mut taken = Vec::new();
        while let Some(waiting) = next {
            if !room.take(&waiting.placed) && !taken.is_empty() {
                *left = Some(waiting);
                break;
            }
            taken.push(waiting);
            next = self.queue.try_recv().ok();
        }
        if taken.is_empty() {
            return None;
        }
        let blobs = taken.iter_mut().flat_map(|waiting| std::mem::take(&mut waiting.placed.blobs)).collect();
        let statements = taken.iter().map(|waiting| waiting.placed.bytes.clone()).collect();
        Some((Bytes::from(Batch { blobs, statements }.encode()), taken))
    }

    /// Sends a batch until it has its receipt; an error means that the session is over.
    async fn deliver(&self, batch: Bytes, statements: &[&[u8]]) -> Result<(), DeliveryError> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.recorder.submit(batch.clone(), statements).await {
                Ok(receipt) => {
                    self.receipts.send_replace(receipt.entries.last().copied());
                    self.metrics.delivered(statements.len(), started.elapsed());
                    self.state
                        .send_if_modified(|state| std::mem::replace(state, State::Working) != State::Working);
                    return Ok(());
                }
                Err(error) => {
                    self.metrics.failed(error.category());
                    if error.ends_session() {
                        return Err(error);
                    }
                    self.say_failing(&error);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tells those who wait, and the log once for each new kind of failure.
    fn say_failing(&self, error: &DeliveryError) {
        let failing = State::Failing { category: error.category(), message: error.to_string().into() };
        let before = self.state.send_replace(failing);
        if !matches!(before, State::Failing { category, .. } if category == error.category()) {
            tracing::warn!(category = error.category(), %error, "entries can't be delivered; trying on");
        }
    }
}

/// What is in a batch so far.
#[derive(Default)]
struct Room {
    statements: usize,
    blobs: usize,
    bytes: usize,
}

impl Room {
    /// Counts a statement in; false when the batch is then larger than the recorder takes.
    fn take(&mut self, placed: &Placed) -> bool {
        self.statements += 1;
        self.blobs += placed.blobs.len();
        self.bytes += placed.encoded_len();
        self.statements <= MAX_STATEMENTS && self.blobs <= MAX_BLOBS && self.bytes <= MAX_BATCH
    }
}

/// Nobody to tell any more (the caller went away) is fine: the statement is recorded all the same.
fn tell(recorded: oneshot::Sender<()>) {
    let _heard = recorded.send(()).is_ok();
}
