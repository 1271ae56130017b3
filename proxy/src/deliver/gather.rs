//! What goes to the recorder together. A statement that somebody waits for goes at once, with all that is there; what nobody
//! waits for goes along. An agent's next call must not queue behind the outcome of its last.

use std::time::Duration;

use ledger::batch::{MAX_BATCH, MAX_BLOBS, MAX_STATEMENTS};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::chain::Placed;
use super::sender::Waiting;

/// What nobody waits for (outcomes, heartbeats) has this long to be joined by an intent; then it goes alone. An agent that
/// calls again at once is faster than this.
const COMPANY: Duration = Duration::from_millis(1);

/// The queue's far end.
pub(super) struct Gathering {
    queue: mpsc::UnboundedReceiver<Waiting>,
    /// The first one that the last batch had no room for.
    left: Option<Waiting>,
}

impl Gathering {
    pub(super) fn new(queue: mpsc::UnboundedReceiver<Waiting>) -> Self {
        Self { queue, left: None }
    }

    /// Waits for a statement and takes all others that wait too and fit. `None` when the queue is closed and empty.
    pub(super) async fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut next = match self.left.take() {
            Some(waiting) => Some(waiting),
            None => self.queue.recv().await,
        };
        let alone_at = Instant::now() + COMPANY;
        let (mut room, mut awaited) = (Room::default(), false);
        let mut taken = Vec::new();
        while let Some(waiting) = next {
            if !room.take(&waiting.placed) && !taken.is_empty() {
                self.left = Some(waiting);
                break;
            }
            awaited |= waiting.is_awaited();
            taken.push(waiting);
            next = match self.queue.try_recv() {
                Ok(waiting) => Some(waiting),
                Err(_) if awaited => None,
                Err(_) => self.company(alone_at).await,
            };
        }
        (!taken.is_empty()).then_some(taken)
    }

    /// The next statement, if it comes before this time and the session has not ended.
    async fn company(&mut self, until: Instant) -> Option<Waiting> {
        tokio::time::timeout_at(until, self.queue.recv()).await.ok().flatten()
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// A queue with a way in.
    fn queue() -> (mpsc::UnboundedSender<Waiting>, Gathering) {
        let (queue, gathering) = mpsc::unbounded_channel();
        (queue, Gathering::new(gathering))
    }

    /// Puts a statement in; whoever waits for its receipt keeps what comes back.
    fn put(queue: &mpsc::UnboundedSender<Waiting>, seq: u64) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let placed = Placed { seq, bytes: b"{}".to_vec(), blobs: Vec::new() };
        let waiting = Waiting { placed, recorded: Some(tell), _room: None, _memory: None };
        assert!(queue.send(waiting).is_ok(), "the queue is open");
        told
    }

    fn seqs(taken: Option<Vec<Waiting>>) -> Vec<u64> {
        taken.unwrap_or_default().iter().map(|waiting| waiting.placed.seq).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_waits_for_nobody() {
        let (queue, mut gathering) = queue();
        drop(put(&queue, 0));
        let _waits = put(&queue, 1);
        let begun = Instant::now();
        assert_eq!(seqs(gathering.next().await), [0, 1]);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_goes_with_the_next_intent_or_soon_alone() {
        let (queue, mut gathering) = queue();
        drop(put(&queue, 0));
        let late = queue.clone();
        tokio::spawn(async move {
            let _waits = put(&late, 1); // when the outcome has begun to wait for company
            std::future::pending::<()>().await;
        });
        let begun = Instant::now();
        assert_eq!(seqs(gathering.next().await), [0, 1]);
        assert_eq!(begun.elapsed(), Duration::ZERO);

        drop(put(&queue, 2));
        drop(put(&queue, 3));
        let begun = Instant::now();
        assert_eq!(seqs(gathering.next().await), [2, 3]);
        assert_eq!(begun.elapsed(), COMPANY);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_words_of_a_session_go_at_once() {
        let (queue, mut gathering) = queue();
        drop(put(&queue, 0));
        drop(queue);
        let begun = Instant::now();
        assert_eq!(seqs(gathering.next().await), [0]);
        assert!(gathering.next().await.is_none());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_is_the_first_of_the_next_batch() {
        let (queue, mut gathering) = queue();
        let many = MAX_STATEMENTS as u64 + 3;
        let _waiting: Vec<_> = (0..many).map(|seq| put(&queue, seq)).collect();
        assert_eq!(seqs(gathering.next().await).len(), MAX_STATEMENTS);
        assert_eq!(seqs(gathering.next().await), [many - 3, many - 2, many - 1]);
    }
}
