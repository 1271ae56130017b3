//! Delivery: the session's chain, the queue before the recorder, and the wait until an intent is durable.
//!
//! [`Deliver::intent`] returns when the recorder has proved that the intent is in its log. What it returns, an [`OpenCall`],
//! has room in the queue reserved for the outcome, so that an outcome never waits and is never lost for lack of room.

mod chain;
mod follow;
mod going;
mod line;
mod metrics;
mod open_call;
mod recorder;
mod sender;
mod token;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ledger::blob::{BadBlob, Blob, SALT_LEN};
use ledger::call::{Intent, Outcome};
use ledger::statement::{Body, Claimed, Connection, Heartbeat, Observed, SessionEnd, SessionStart};
use prometheus::Registry;
use runtime::drain::Watch;
use runtime::readiness::Readiness;
use rustls::crypto::SecureRandom;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

pub use self::going::{Going, ProgressSettings};
pub use self::open_call::OpenCall;
pub use self::recorder::{DeliveryError, RecorderSettings};

use self::chain::Chain;
use self::line::{Line, session_ended};
use self::metrics::Metrics;
use self::open_call::refusal;
use self::sender::{Sender, State};

/// Entries that may wait for the recorder, counting the outcomes of open calls. When there is no room a new call is
/// refused (`queue_full`) and counted in the next heartbeat.
pub const QUEUE_ENTRIES: usize = 4096;

/// Memory for blobs that wait, in KiB (64 MiB). A call waits for memory until its time is up, then it is refused
/// (`queue_full`).
const QUEUE_KIB: usize = 64 * 1024;

/// How often the session says that it is alive. The recorder closes it after a silence of three of these.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// How often the session looks at the log: a rollback or fork is noticed, and calls are refused, after twice this.
pub const FOLLOW_EVERY: Duration = Duration::from_secs(10);

/// Looks at the open calls in the time after which one says how far it is.
const LOOKS: u32 = 4;

/// Settings of delivery.
#[derive(Debug)]
pub struct DeliverSettings {
    /// The recorder, and what proves it and us.
    pub recorder: RecorderSettings,
    /// The connection that this sidecar serves.
    pub connection: Connection,
    /// A call is refused when its intent is not durable after this time.
    pub deliver_timeout: Duration,
    /// When calls that go on say how far they are.
    pub progress: ProgressSettings,
    /// Time between two looks at the log ([`FOLLOW_EVERY`]).
    pub follow_every: Duration,
    /// What `session.start` says.
    pub start: SessionStart,
}

/// A handle on the session; clones share it.
#[derive(Clone, Debug)]
pub struct Deliver {
    line: Arc<Line>,
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

    /// True when the call can't be attributed: sending it again does not help.
    #[must_use]
    pub fn is_unattributed(&self) -> bool {
        self.category == recorder::IDENTITY_REFUSED
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
        let (queue, receiver) = mpsc::unbounded_channel();
        let (state, observer) = watch::channel(State::Working);
        let metrics = Metrics::new(registry)?;
        let recorder = recorder::Recorder::new(settings.recorder);
        let follower = follow::Follower::new(recorder.clone(), settings.follow_every);
        let receipts = watch::Sender::new(None);
        let sender = Sender { recorder, queue: receiver, state, receipts, metrics: metrics.clone() };
        let chain = Chain::new(Uuid::now_v7(), settings.connection);
        let line = Line::new(chain, queue, settings.deliver_timeout, observer.clone(), settings.progress, metrics);
        let start = SessionStart { heartbeat_seconds: HEARTBEAT.as_secs(), ..settings.start };
        line.say_about_session(Body { start: Some(start), ..Body::default() });
        let delivery = Delivery { task: tokio::spawn(sender.run(follower)), state: observer };
        Ok((Self { line: Arc::new(line) }, delivery))
    }

    /// The session's id.
    #[must_use]
    pub fn session(&self) -> Uuid {
        self.line.session
    }

    /// Records an intent, and waits until the recorder has proved that it is durable.
    ///
    /// # Errors
    /// [`NotRecorded`] after the delivery timeout, at once when the recorder does not accept this pod's identity, when there is no room, or when the session is over. The call must not be
    /// sent. Where there was room, the intent is recorded as soon as the recorder is back, with an outcome that says so.
    pub async fn intent(&self, draft: Draft) -> Result<OpenCall, NotRecorded> {
        let started = Instant::now();
        let deadline = tokio::time::Instant::from_std(started + self.line.deliver_timeout);
        let (open, recorded) = match self.line.enqueue(draft, started, deadline).await {
            Ok(enqueued) => enqueued,
            Err(error) => {
                self.line.count_unrecorded();
                return Err(error);
            }
        };
        match self.line.wait_recorded(recorded, deadline).await {
            Ok(()) => Ok(open),
            Err(error) => {
                let status = if error.is_unattributed() { 403 } else { 503 };
                open.finish(Outcome { status: Some(status), ..refusal(error.category()) }, Vec::new());
                Err(error)
            }
        }
    }

    /// Waits until the recorder has everything that was said so far, or the session is over.
    ///
    /// # Errors
    /// [`NotRecorded`] when the session is over.
    pub async fn flushed(&self) -> Result<(), NotRecorded> {
        let heartbeat = Body { heartbeat: Some(self.line.counts()), ..Body::default() };
        let recorded = self.line.say_about_session(heartbeat).ok_or_else(session_ended)?;
        let never = tokio::time::Instant::now() + Duration::from_secs(365 * 24 * 3600);
        self.line.wait_recorded(recorded, never).await
    }

    /// Keeps the process unready while the recorder takes nothing.
    pub async fn readiness(self, readiness: Readiness) {
        let mut state = self.line.state.clone();
        while state.wait_for(|state| *state != State::Working).await.is_ok() {
            let waiting = readiness.wait_for("recorder");
            if state.wait_for(|state| *state == State::Working).await.is_err() {
                return std::mem::forget(waiting); // the session is over: never ready again
            }
            drop(waiting);
        }
    }

    /// Says that the session is alive, every [`HEARTBEAT`], until the drain.
    pub async fn heartbeats(self, mut drain: Watch) {
        loop {
            tokio::select! {
                () = drain.draining() => return,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            // A recorder that is away needs one heartbeat when it is back, not all that it missed.
            if *self.line.state.borrow() == State::Working {
                let heartbeat = self.line.counts();
                self.line.say_about_session(Body { heartbeat: Some(heartbeat), ..Body::default() });
            }
        }
    }

    /// Looks at the open calls, so that those that go on without bytes say so too. Ends with the process.
    pub async fn progress(self) {
        let pause = (self.line.progress.every / LOOKS).clamp(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            tokio::time::sleep(pause).await;
            self.line.tick();
        }
    }

    /// Says the session's last statement. Later intents are refused; later outcomes are lost, so finish the calls before.
    pub fn end(&self, reason: &str) {
        let Heartbeat { calls, refused_unrecorded } = self.line.counts();
        let end = SessionEnd { reason: reason.into(), calls, refused_unrecorded };
        self.line.say_about_session(Body { end: Some(end), ..Body::default() });
        self.line.close();
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
