//! The line before the recorder: places in the chain are given in the order of the queue, and nobody gets a place without
//! room for the outcome too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use jiff::Timestamp;
use ledger::receipt::ReceiptEntry;
use ledger::statement::{BadStatement, Body, Heartbeat};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::chain::{Chain, Saying};
use super::going::{Going, ProgressSettings};
use super::metrics::Metrics;
use super::open_call::OpenCall;
use super::sender::{State, Waiting};
use super::{Draft, NotRecorded, QUEUE_ENTRIES, QUEUE_KIB};

#[derive(Debug)]
pub(super) struct Line {
    pub(super) session: Uuid,
    /// The chain and the queue together: places in the chain are given in the order of the queue.
    places: Mutex<Places>,
    room: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    pub(super) state: watch::Receiver<State>,
    /// The last entry of the session that was acknowledged.
    pub(super) acknowledged: watch::Receiver<Option<ReceiptEntry>>,
    /// Calls that are open, for the clock.
    open: Mutex<HashMap<u64, Weak<Going>>>,
    pub(super) progress: ProgressSettings,
    calls: AtomicU64,
    refused_unrecorded: AtomicU64,
    pub(super) metrics: Metrics,
}

#[derive(Debug)]
struct Places {
    chain: Chain,
    /// `None` after the session's end.
    queue: Option<mpsc::UnboundedSender<Waiting>>,
}

impl Line {
    pub(super) fn new(
        chain: Chain,
        queue: mpsc::UnboundedSender<Waiting>,
        state: watch::Receiver<State>,
        acknowledged: watch::Receiver<Option<ReceiptEntry>>,
        progress: ProgressSettings,
        metrics: Metrics,
    ) -> Self {
        Self {
            session: chain.session(),
            places: Mutex::new(Places { chain, queue: Some(queue) }),
            room: Arc::new(Semaphore::new(QUEUE_ENTRIES)),
            memory: Arc::new(Semaphore::new(QUEUE_KIB)),
            state,
            acknowledged,
            open: Mutex::default(),
            progress,
            calls: AtomicU64::new(0),
            refused_unrecorded: AtomicU64::new(0),
            metrics,
        }
    }

    /// Nobody gets a place any more; what has one is still delivered.
    pub(super) fn close(&self) {
        self.places().queue = None;
    }

    /// Why nothing more is delivered of this session, if so.
    pub(super) fn over(&self) -> Option<NotRecorded> {
        match &*self.state.borrow() {
            State::Over { category, message } => Some(NotRecorded::new(category, message.as_ref())),
            State::Working | State::Failing { .. } => None,
        }
    }

    /// Counts a call that was refused and has no entry.
    pub(super) fn count_unrecorded(&self) {
        self.refused_unrecorded.fetch_add(1, Ordering::Relaxed);
        self.metrics.unrecorded.inc();
    }

    /// The clock looks at this call from now on.
    pub(super) fn watch(&self, seq: u64, call: &Arc<Going>) {
        self.open().insert(seq, Arc::downgrade(call));
    }

    /// The call has ended.
    pub(super) fn unwatch(&self, seq: u64) {
        self.open().remove(&seq);
    }

    /// Lets every open call say how far it is, if it is time.
    pub(super) fn tick(&self) {
        let open: Vec<_> = self.open().values().filter_map(Weak::upgrade).collect();
        let now = Instant::now();
        open.iter().for_each(|call| call.tick(now));
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Weak<Going>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner) // every change is one call on the map
    }

    /// Room for a statement that may as well be left out.
    pub(super) fn try_room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner) // the chain changes only when a place was given
    }

    pub(super) fn counts(&self) -> Heartbeat {
        Heartbeat {
            calls: self.calls.load(Ordering::Relaxed),
            refused_unrecorded: self.refused_unrecorded.load(Ordering::Relaxed),
        }
    }

    /// Gives an intent its place in the chain, with room for its outcome.
    pub(super) async fn enqueue(
        self: &Arc<Self>,
        draft: Draft,
        started: Instant,
        deadline: Instant,
    ) -> Result<(OpenCall, oneshot::Receiver<()>), NotRecorded> {
        let mut room = Arc::clone(&self.room).try_acquire_many_owned(2).map_err(|_| self.no_room())?;
        let memory = self.memory_for(&draft, deadline).await?;
        let outcome_room = room.split(1).expect("two places were taken");
        let saying = Saying {
            connection: None,
            observed: draft.observed,
            claimed: draft.claimed,
            blobs: draft.blobs,
            body: Body { intent: Some(draft.intent), ..Body::default() },
        };
        let (seq, recorded) = self.say(saying, Some(room), Some(memory))?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let open = OpenCall::new(Arc::clone(self), seq, started, outcome_room);
        Ok((open, recorded))
    }

    async fn memory_for(
        &self,
        draft: &Draft,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, NotRecorded> {
        let bytes: usize = draft.blobs.iter().map(|(_, blob)| blob.as_bytes().len()).sum();
        let kib = u32::try_from((bytes / 1024 + 1).min(QUEUE_KIB)).expect("the whole queue is less");
        let memory = Arc::clone(&self.memory).acquire_many_owned(kib);
        match tokio::time::timeout_at(deadline, memory).await {
            Ok(Ok(memory)) => Ok(memory),
            _ => Err(self.no_room()),
        }
    }

    fn no_room(&self) -> NotRecorded {
        match &*self.state.borrow() {
            State::Working => {
                NotRecorded::new("queue_full", "too many calls wait for the recorder; try again")
            }
            State::Failing { message, .. } => {
                NotRecorded::new("queue_full", format!("too many calls wait for the recorder ({message})"))
            }
            State::Over { category, message } => NotRecorded::new(category, message.as_ref()),
        }
    }

    /// Puts something in line; the receiver hears when it is in the log.
    pub(super) fn say(
        &self,
        saying: Saying,
        room: Option<OwnedSemaphorePermit>,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<(u64, oneshot::Receiver<()>), NotRecorded> {
        if let State::Over { category, message } = &*self.state.borrow() {
            return Err(NotRecorded::new(category, message.as_ref()));
        }
        let mut places = self.places();
        let Some(queue) = places.queue.clone() else { return Err(session_ended()) };
        let placed = places.chain.place(saying, now()).map_err(|error| unsayable(&error))?;
        let (seq, (tell, recorded)) = (placed.seq, oneshot::channel());
        let waiting = Waiting { placed, recorded: Some(tell), _room: room, _memory: memory };
        self.metrics.waiting.inc();
        queue.send(waiting).map_err(|_| {
            self.metrics.waiting.dec();
            session_ended()
        })?;
        Ok((seq, recorded))
    }

    /// Statements about the session itself are few and have no need of room.
    pub(super) fn say_about_session(&self, body: Body) -> Option<oneshot::Receiver<()>> {
        match self.say(Saying { body, ..Saying::default() }, None, None) {
            Ok((_, recorded)) => Some(recorded),
            Err(error) => {
                tracing::warn!(category = error.category(), %error, "a statement about the session was not recorded");
                None
            }
        }
    }

    pub(super) async fn wait_recorded(
        &self,
        recorded: oneshot::Receiver<()>,
        deadline: Instant,
    ) -> Result<(), NotRecorded> {
        let mut state = self.state.clone();
        // Its look at the state must be over before the next one: two at a time, with a change waiting between, lock up.
        let definite = async {
            let _ended = state.wait_for(State::is_definite).await.is_err();
        };
        tokio::select! {
            biased;
            waited = tokio::time::timeout_at(deadline, recorded) => match waited {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(self.why_not("the session ended first")),
                Err(_) => Err(self.why_not("the recorder has not confirmed it in time")),
            },
            () = definite => Err(self.why_not("the session ended first")),
        }
    }

    fn why_not(&self, otherwise: &str) -> NotRecorded {
        match &*self.state.borrow() {
            State::Working => NotRecorded::new("recorder_unavailable", otherwise),
            State::Failing { category, message } | State::Over { category, message } => {
                NotRecorded::new(category, message.as_ref())
            }
        }
    }
}

pub(super) fn session_ended() -> NotRecorded {
    NotRecorded::new("session_ended", "the sidecar is stopping")
}

fn unsayable(error: &BadStatement) -> NotRecorded {
    NotRecorded::new("statement_too_large", format!("what would be recorded of it is too large: {error}"))
}

/// The clock, to the microsecond.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
