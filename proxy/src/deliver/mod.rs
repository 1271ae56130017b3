//! Delivery: the session's chain, the queue before the recorder, and the wait until an intent is durable.
//!
//! [`Deliver::intent`] returns when the recorder has proved that the intent is in its log. What it returns, an [`OpenCall`],
//! has room in the queue reserved for the outcome, so that an outcome never waits and is never lost for lack of room.

mod chain;
mod follow;
mod metrics;
mod recorder;
mod sender;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ledger::blob::{BadBlob, Blob, SALT_LEN};
use ledger::call::{CallResult, Intent, Outcome};
use ledger::statement::{
    BadStatement, Body, Claimed, Connection, Heartbeat, Observed, SessionEnd, SessionStart,
};
use prometheus::Registry;
use runtime::drain::Watch;
use rustls::crypto::SecureRandom;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use uuid::Uuid;

pub use self::recorder::{DeliveryError, RecorderSettings};

use self::chain::{Chain, Saying};
use self::metrics::Metrics;
use self::sender::{Sender, State, Waiting};

/// Entries that may wait for the recorder, counting the outcomes of open calls. When there is no room a new call is
/// refused (`queue_full`) and counted in the next heartbeat.
pub const QUEUE_ENTRIES: usize = 4096;

/// Memory for blobs that wait, in KiB (64 MiB). A call waits for memory until its time is up, then it is refused
/// (`queue_full`).
const QUEUE_KIB: usize = 64 * 1024;

/// How often the session says that it is alive. The recorder closes it after a silence of three of these.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// Settings of delivery.
#[derive(Debug)]
pub struct DeliverSettings {
    /// The recorder, and what proves it and us.
    pub recorder: RecorderSettings,
    /// The connection that this sidecar serves.
    pub connection: Connection,
    /// A call is refused when its intent is not durable after this time.
    pub deliver_timeout: Duration,
    /// What `session.start` says.
    pub start: SessionStart,
}

/// A handle on the session; clones share it.
#[derive(Clone, Debug)]
pub struct Deliver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    session: Uuid,
    deliver_timeout: Duration,
    /// The chain and the queue together: places in the chain are given in the order of the queue.
    line: Mutex<Line>,
    room: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    state: watch::Receiver<State>,
    calls: AtomicU64,
    refused_unrecorded: AtomicU64,
    metrics: Metrics,
}

#[derive(Debug)]
struct Line {
    chain: Chain,
    /// `None` after the session's end.
    queue: Option<mpsc::UnboundedSender<Waiting>>,
}

/// The task that delivers. It ends when the session has ended and all is delivered, or when the session is over.
#[derive(Debug)]
pub struct Delivery {
    task: tokio::task::JoinHandle<()>,
    state: watch::Receiver<State>,
}

/// What a call's intent says.
#[derive(Debug)]
pub struct Draft {
    /// What the sidecar saw.
    pub observed: Observed,
    /// What the agent said of itself.
    pub claimed: Claimed,
    /// The texts that the intent names.
    pub blobs: Vec<(&'static str, Blob)>,
    /// The call.
    pub intent: Intent,
}

/// A call could not be recorded, so it must not be sent.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct NotRecorded {
    category: &'static str,
    message: String,
}

impl NotRecorded {
    /// The fixed name of the reason, in metrics and in the record.
    #[must_use]
    pub fn category(&self) -> &'static str {
        self.category
    }

    fn new(category: &'static str, message: impl Into<String>) -> Self {
        Self { category, message: message.into() }
    }
}

/// A new blob under a salt from the system's random numbers.
///
/// # Errors
/// [`BadBlob::TooLarge`]
pub fn blob(content: &[u8]) -> Result<Blob, BadBlob> {
    static RANDOM: LazyLock<&'static dyn SecureRandom> =
        LazyLock::new(|| runtime::tls::provider().secure_random);
    let mut salt = [0; SALT_LEN];
    RANDOM
        .fill(&mut salt)
        .expect("the system has random numbers, or no TLS connection would have come this far");
    Blob::new(salt, content)
}

impl Deliver {
    /// Starts a session: its first statement is on the way when this returns, and so is the task that delivers.
    ///
    /// # Errors
    /// When the registry has metrics of these names already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        settings: DeliverSettings,
        registry: &Registry,
    ) -> Result<(Self, Delivery), prometheus::Error> {
        let session = Uuid::now_v7();
        let (queue, receiver) = mpsc::unbounded_channel();
        let (state, observer) = watch::channel(State::Working);
        let metrics = Metrics::new(registry)?;
        let recorder = recorder::Recorder::new(settings.recorder);
        let follower = follow::Follower::new(recorder.clone());
        let receipts = watch::Sender::new(None);
        let sender = Sender { recorder, queue: receiver, state, receipts, metrics: metrics.clone() };
        let shared = Shared {
            session,
            deliver_timeout: settings.deliver_timeout,
            line: Mutex::new(Line { chain: Chain::new(session, settings.connection), queue: Some(queue) }),
            room: Arc::new(Semaphore::new(QUEUE_ENTRIES)),
            memory: Arc::new(Semaphore::new(QUEUE_KIB)),
            state: observer.clone(),
            calls: AtomicU64::new(0),
            refused_unrecorded: AtomicU64::new(0),
            metrics,
        };
        let start = SessionStart { heartbeat_seconds: HEARTBEAT.as_secs(), ..settings.start };
        shared.say_about_session(Body { start: Some(start), ..Body::default() });
        let delivery = Delivery { task: tokio::spawn(sender.run(follower)), state: observer };
        Ok((Self { shared: Arc::new(shared) }, delivery))
    }

    /// The session's id.
    #[must_use]
    pub fn session(&self) -> Uuid {
        self.shared.session
    }

    /// Records an intent, and waits until the recorder has proved that it is durable.
    ///
    /// # Errors
    /// [`NotRecorded`] after the delivery timeout, when there is no room, or when the session is over. The call must not be
    /// sent. Where there was room, the intent is recorded as soon as the recorder is back, with an outcome that says so.
    pub async fn intent(&self, draft: Draft) -> Result<OpenCall, NotRecorded> {
        let started = Instant::now();
        let deadline = tokio::time::Instant::from_std(started + self.shared.deliver_timeout);
        let (open, recorded) = match self.shared.enqueue(draft, started, deadline).await {
            Ok(enqueued) => enqueued,
            Err(error) => {
                self.shared.refused_unrecorded.fetch_add(1, Ordering::Relaxed);
                self.shared.metrics.unrecorded.inc();
                return Err(error);
            }
        };
        match self.shared.wait_recorded(recorded, deadline).await {
            Ok(()) => Ok(open),
            Err(error) => {
                open.finish(refusal(error.category()), Vec::new());
                Err(error)
            }
        }
    }

    /// Waits until the recorder has everything that was said so far, or the session is over.
    ///
    /// # Errors
    /// [`NotRecorded`] when the session is over.
    pub async fn flushed(&self) -> Result<(), NotRecorded> {
        let heartbeat = Body { heartbeat: Some(self.shared.counts()), ..Body::default() };
        let recorded = self.shared.say_about_session(heartbeat).ok_or_else(session_ended)?;
        let never = tokio::time::Instant::now() + Duration::from_secs(365 * 24 * 3600);
        self.shared.wait_recorded(recorded, never).await
    }

    /// Says that the session is alive, every [`HEARTBEAT`], until the drain.
    pub async fn heartbeats(self, mut drain: Watch) {
        loop {
            tokio::select! {
                () = drain.draining() => return,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            // A recorder that is away needs one heartbeat when it is back, not all that it missed.
            if *self.shared.state.borrow() == State::Working {
                let heartbeat = self.shared.counts();
                self.shared.say_about_session(Body { heartbeat: Some(heartbeat), ..Body::default() });
            }
        }
    }

    /// Says the session's last statement. Later intents are refused; later outcomes are lost, so finish the calls before.
    pub fn end(&self, reason: &str) {
        let Heartbeat { calls, refused_unrecorded } = self.shared.counts();
        let end = SessionEnd { reason: reason.into(), calls, refused_unrecorded };
        self.shared.say_about_session(Body { end: Some(end), ..Body::default() });
        self.shared.line().queue = None;
    }
}

impl Delivery {
    /// Waits until all is delivered after [`Deliver::end`], at most `limit`. False when something is left.
    pub async fn finish(self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.task).await.is_ok()
            && !matches!(*self.state.borrow(), State::Over { .. })
    }

    /// Waits until the session is over before its end: the recorder closed or refused it. The process should then stop, so
    /// that a new one starts a new session.
    pub async fn over(&self) -> NotRecorded {
        let mut state = self.state.clone();
        match state.wait_for(|state| matches!(state, State::Over { .. })).await.as_deref() {
            Ok(State::Over { category, message }) => NotRecorded::new(category, message.as_ref()),
            _ => std::future::pending().await, // the task ended in order
        }
    }
}

impl Shared {
    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner) // the chain changes only when a place was given
    }

    fn counts(&self) -> Heartbeat {
        Heartbeat {
            calls: self.calls.load(Ordering::Relaxed),
            refused_unrecorded: self.refused_unrecorded.load(Ordering::Relaxed),
        }
    }

    /// Gives an intent its place in the chain, with room for its outcome.
    async fn enqueue(
        self: &Arc<Self>,
        draft: Draft,
        started: Instant,
        deadline: tokio::time::Instant,
    ) -> Result<(OpenCall, oneshot::Receiver<()>), NotRecorded> {
        let mut room = Arc::clone(&self.room).try_acquire_many_owned(2).map_err(|_| self.no_room())?;
        let memory = self.memory_for(&draft, deadline).await?;
        let outcome_room = room.split(1).expect("two places were taken");
        let saying = Saying {
            observed: draft.observed,
            claimed: draft.claimed,
            blobs: draft.blobs,
            body: Body { intent: Some(draft.intent), ..Body::default() },
        };
        let (seq, recorded) = self.say(saying, Some(room), Some(memory))?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let open = OpenCall { seq, started, forwarded: false, parts: Some((Arc::clone(self), outcome_room)) };
        Ok((open, recorded))
    }

    async fn memory_for(
        &self,
        draft: &Draft,
        deadline: tokio::time::Instant,
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
    fn say(
        &self,
        saying: Saying,
        room: Option<OwnedSemaphorePermit>,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<(u64, oneshot::Receiver<()>), NotRecorded> {
        if let State::Over { category, message } = &*self.state.borrow() {
            return Err(NotRecorded::new(category, message.as_ref()));
        }
        let mut line = self.line();
        let Some(queue) = line.queue.clone() else { return Err(session_ended()) };
        let placed = line.chain.place(saying, now()).map_err(|error| unsayable(&error))?;
        let (seq, (tell, recorded)) = (placed.seq, oneshot::channel());
        let waiting = Waiting { placed, recorded: Some(tell), _room: room, _memory: memory };
        self.metrics.waiting.inc();
        queue.send(waiting).map_err(|_| session_ended())?;
        Ok((seq, recorded))
    }

    /// Statements about the session itself are few and have no need of room.
    fn say_about_session(&self, body: Body) -> Option<oneshot::Receiver<()>> {
        match self.say(Saying { body, ..Saying::default() }, None, None) {
            Ok((_, recorded)) => Some(recorded),
            Err(error) => {
                tracing::warn!(category = error.category(), %error, "a statement about the session was not recorded");
                None
            }
        }
    }

    async fn wait_recorded(
        &self,
        recorded: oneshot::Receiver<()>,
        deadline: tokio::time::Instant,
    ) -> Result<(), NotRecorded> {
        match tokio::time::timeout_at(deadline, recorded).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.why_not("the session ended first")),
            Err(_) => Err(self.why_not("the recorder has not confirmed it in time")),
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

/// A call whose intent is in the log. It becomes exactly one outcome: by [`OpenCall::finish`], or, when it is dropped
/// (the agent went away, the sidecar stops), by itself as `aborted`.
#[derive(Debug)]
#[must_use = "dropping it records that the call was aborted"]
pub struct OpenCall {
    seq: u64,
    started: Instant,
    forwarded: bool,
    parts: Option<(Arc<Shared>, OwnedSemaphorePermit)>,
}

impl OpenCall {
    /// The intent's place in the session.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// From now on an abort says that the request left for BigQuery.
    pub fn forwarded(&mut self) {
        self.forwarded = true;
    }

    /// Records how the call ended. Never waits. `call` is set here, and so is the duration when it is 0.
    pub fn finish(mut self, outcome: Outcome, blobs: Vec<(&'static str, Blob)>) {
        self.record(outcome, blobs);
    }

    fn record(&mut self, outcome: Outcome, blobs: Vec<(&'static str, Blob)>) {
        let Some((shared, room)) = self.parts.take() else { return };
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let duration_micros = if outcome.duration_micros == 0 { elapsed } else { outcome.duration_micros };
        let outcome = Outcome { call: self.seq, duration_micros, ..outcome };
        let saying =
            Saying { blobs, body: Body { outcome: Some(outcome), ..Body::default() }, ..Saying::default() };
        if let Err(error) = shared.say(saying, Some(room), None) {
            tracing::error!(category = error.category(), call = self.seq, %error, "an outcome was not recorded");
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let aborted = Outcome {
            result: CallResult::Aborted,
            forwarded: self.forwarded,
            reason: None,
            status: None,
            ..refusal("")
        };
        self.record(aborted, Vec::new());
    }
}

/// The outcome of a call that was not sent, because its intent could not be recorded in time.
fn refusal(category: &str) -> Outcome {
    Outcome {
        call: 0,
        result: CallResult::Refused,
        forwarded: false,
        status: Some(503),
        reason: Some(category.into()),
        reported: None,
        answer: None,
        duration_micros: 0,
    }
}

fn session_ended() -> NotRecorded {
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
