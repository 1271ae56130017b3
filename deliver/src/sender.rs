//! The task that sends: whatever waits, or is about to, goes out as one batch; the next batch goes when the receipt of this one is
//! there. So an idle sidecar adds no delay, and a busy one groups by itself. A batch is sent again, with the same bytes, until it has
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

/// A batch grows while each turn of the runtime brings another statement, and for this time at most: no turn begins after it, and
/// the batch goes as it is. An idle sidecar has nothing to do in a turn, so that its batch goes at once; on a busy one each batch,
/// and its receipt, serves more calls.
const GATHER_AT_MOST: Duration = Duration::from_micros(500);

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
        while let Some(waiting) = gather(&mut self.queue, &mut left).await {
            let (batch, waiting) = encoded(waiting);
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

/// Waits for a statement, then takes all others that wait too, or come in the turns of the runtime that follow ([`GATHER_AT_MOST`]),
/// and fit; `left` keeps the first that does not.
async fn gather(
    queue: &mut mpsc::UnboundedReceiver<Waiting>,
    left: &mut Option<Waiting>,
) -> Option<Vec<Waiting>> {
    let mut next = match left.take() {
        Some(waiting) => Some(waiting),
        None => queue.recv().await,
    };
    let since = Instant::now();
    let mut room = Room::default();
    let mut taken = Vec::new();
    while let Some(waiting) = next {
        if !room.take(&waiting.placed) && !taken.is_empty() {
            *left = Some(waiting);
            break;
        }
        taken.push(waiting);
        next = queue.try_recv().ok();
        if next.is_none() && since.elapsed() < GATHER_AT_MOST {
            tokio::task::yield_now().await;
            next = queue.try_recv().ok();
        }
    }
    if taken.is_empty() { None } else { Some(taken) }
}

/// The batch of these statements, and who waits for it. Its blobs are in it alone from here on.
fn encoded(mut waiting: Vec<Waiting>) -> (Bytes, Vec<Waiting>) {
    let blobs = waiting.iter_mut().flat_map(|waiting| std::mem::take(&mut waiting.placed.blobs)).collect();
    let statements = waiting.iter().map(|waiting| waiting.placed.bytes.clone()).collect();
    (Bytes::from(Batch { blobs, statements }.encode()), waiting)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(seq: u64, bytes: usize) -> Waiting {
        let placed = Placed { seq, bytes: vec![0; bytes], blobs: Vec::new() };
        Waiting { placed, recorded: None, _room: None, _memory: None }
    }

    fn seqs(batch: Option<Vec<Waiting>>) -> Vec<u64> {
        batch.unwrap_or_default().iter().map(|waiting| waiting.placed.seq).collect()
    }

    /// The second is said in a turn that the first has already brought about, the third one turn later.
    #[tokio::test]
    async fn who_is_about_to_speak_travels_along() {
        let (tell, mut queue) = mpsc::unbounded_channel();
        tell.send(waiting(0, 10)).ok();
        let speaker = tell.clone();
        tokio::spawn(async move {
            for seq in 1..3 {
                speaker.send(waiting(seq, 10)).ok();
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(seqs(gather(&mut queue, &mut None).await), [0, 1, 2]);
    }

    /// One who never stops speaking does not hold up what was said.
    #[tokio::test]
    async fn a_batch_goes_though_there_is_always_more_to_say() {
        let (tell, mut queue) = mpsc::unbounded_channel();
        let endless = tokio::spawn(async move {
            for seq in 0.. {
                if tell.send(waiting(seq, 1)).is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        });
        let first = seqs(gather(&mut queue, &mut None).await);
        assert!(!first.is_empty() && first.len() <= MAX_STATEMENTS, "{}", first.len());
        drop(queue);
        endless.await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_fit_goes_with_the_next_batch() {
        let (tell, mut queue) = mpsc::unbounded_channel();
        for (seq, bytes) in [(0, 10), (1, MAX_BATCH), (2, 10)] {
            tell.send(waiting(seq, bytes)).ok();
        }
        drop(tell);
        let mut left = None;
        assert_eq!(seqs(gather(&mut queue, &mut left).await), [0]);
        assert_eq!(seqs(gather(&mut queue, &mut left).await), [1]);
        assert_eq!(seqs(gather(&mut queue, &mut left).await), [2]);
        assert!(gather(&mut queue, &mut left).await.is_none());
    }
}
