//! Delivery, for whoever speaks to the recorder: the session's chain, the queue before the recorder, and the wait until a statement
//! is durable. `chain` (pure) -> `line` (a place, room, waiting) -> `sender` (one task, one batch under way at a time) ->
//! `recorder` (one request, its receipt). `follow` looks at the log; `sessions` begins a new session when one is over.
//!
//! [`Deliver::intent`] returns when the recorder has proved that the intent is in its log. What it returns, an [`OpenCall`],
//! has room in the queue reserved for the outcome, so that an outcome never waits and is never lost for lack of room.

mod chain;
mod follow;
mod going;
mod line;
mod metrics;
mod notices;
mod open_call;
mod pinned;
mod recorder;
mod sender;
mod sessions;
mod token;
mod way;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ledger::blob::{BadBlob, Blob, SALT_LEN};
use ledger::call::{Intent, Outcome};
use ledger::statement::{Body, Claimed, Connection, Heartbeat, Observed, SessionEnd, SessionStart};
use prometheus::Registry;
use runtime::drain::Watch;
use runtime::readiness::Readiness;
use rustls::crypto::SecureRandom;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

pub use self::going::{Going, Passing, ProgressSettings};
pub use self::notices::{Notice, Trouble};
pub use self::open_call::OpenCall;
pub use self::pinned::PinnedKeys;
pub use self::recorder::{DeliveryError, RecorderSettings, look};
pub use self::way::Way;

use self::line::{Line, session_ended};
use self::metrics::Metrics;
use self::open_call::refusal;
use self::recorder::Recorder;
use self::sender::State;
use self::sessions::Sessions;

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
    /// The connection that this sidecar serves; none of an operator, whose statements are about several.
    pub connection: Option<Connection>,
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
    /// The line of the session that goes on.
    lines: watch::Receiver<Arc<Line>>,
    ending: Arc<watch::Sender<bool>>,
    deliver_timeout: Duration,
    recorder: Recorder,
}

/// The task that delivers. It ends when the session has ended and all is delivered, or when a session is over for good.
#[derive(Debug)]
pub struct Delivery {
    task: tokio::task::JoinHandle<()>,
    over: watch::Receiver<Option<NotRecorded>>,
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

    /// For this reason.
    #[must_use]
    pub fn new(category: &'static str, message: impl Into<String>) -> Self {
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
        let ending = Arc::new(watch::Sender::new(false));
        let recorder = Recorder::new(settings.recorder);
        let sessions = Sessions {
            recorder: recorder.clone(),
            connection: settings.connection,
            start: settings.start,
            follow_every: settings.follow_every,
            progress: settings.progress,
            metrics: Metrics::new(registry)?,
            ending: ending.subscribe(),
        };
        let first = sessions.open(None);
        let (lines, current) = watch::channel(Arc::clone(&first.line));
        let (say_over, over) = watch::channel(None);
        let task = tokio::spawn(async move {
            say_over.send_replace(sessions.run(first, lines).await);
        });
        let deliver = Self { lines: current, ending, deliver_timeout: settings.deliver_timeout, recorder };
        Ok((deliver, Delivery { task, over }))
    }

    /// The id of the session that goes on.
    #[must_use]
    pub fn session(&self) -> Uuid {
        self.line().session
    }

    fn line(&self) -> Arc<Line> {
        Arc::clone(&self.lines.borrow())
    }

    /// The line of a session that goes on; one that is over when there is no other until the deadline.
    async fn open_line(&self, deadline: Instant) -> Arc<Line> {
        let line = self.line();
        if line.over().is_none() {
            return line;
        }
        let mut lines = self.lines.clone();
        let next = lines.wait_for(|line| line.over().is_none());
        match tokio::time::timeout_at(deadline, next).await {
            Ok(Ok(next)) => Arc::clone(&next),
            Ok(Err(_)) | Err(_) => line,
        }
    }

    /// Records an intent, and waits until the recorder has proved that it is durable.
    ///
    /// # Errors
    /// [`NotRecorded`] after the delivery timeout, at once when the recorder does not accept this pod's identity, when there is no room, or when the session is over. The call must not be
    /// sent. Where there was room, the intent is recorded as soon as the recorder is back, with an outcome that says so.
    pub async fn intent(&self, draft: Draft) -> Result<OpenCall, NotRecorded> {
        let started = Instant::now();
        let deadline = started + self.deliver_timeout;
        let line = self.open_line(deadline).await;
        let (open, recorded) = match line.enqueue(draft, started, deadline).await {
            Ok(enqueued) => enqueued,
            Err(error) => {
                self.line().count_unrecorded();
                return Err(error);
            }
        };
        match line.wait_recorded(recorded, deadline).await {
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
        let never = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let line = self.line();
        let heartbeat = Body { heartbeat: Some(line.counts()), ..Body::default() };
        match line.say_about_session(heartbeat) {
            Some(recorded) => line.wait_recorded(recorded, never).await,
            None => Err(line.over().unwrap_or_else(session_ended)),
        }
    }

    /// Keeps the process unready while the recorder takes nothing, under the category that says why.
    pub async fn readiness(self, readiness: Readiness) {
        let mut lines = self.lines.clone();
        let mut waiting;
        loop {
            let mut state = lines.borrow_and_update().state.clone();
            let next = loop {
                let why = state.borrow_and_update().category();
                // The new reason before the old one goes: there is no moment in between that looks ready.
                waiting = why.map(|why| readiness.wait_for(why));
                tokio::select! {
                    next = lines.changed() => break next,
                    changed = state.changed() => if changed.is_err() { break lines.changed().await },
                }
            };
            if next.is_err() {
                return std::mem::forget(waiting); // there is no other session: what is wrong stays wrong
            }
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
            let line = self.line();
            if *line.state.borrow() == State::Working {
                let heartbeat = line.counts();
                line.say_about_session(Body { heartbeat: Some(heartbeat), ..Body::default() });
            }
        }
    }

    /// Looks at the open calls, so that those that go on without bytes say so too. Ends with the process.
    pub async fn progress(self) {
        let pause =
            (self.line().progress.every / LOOKS).clamp(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            tokio::time::sleep(pause).await;
            self.line().tick();
        }
    }

    /// Says the session's last statement. Later intents are refused; later outcomes are lost, so finish the calls before.
    pub fn end(&self, reason: &str) {
        self.ending.send_replace(true);
        let line = self.line();
        let Heartbeat { calls, refused_unrecorded } = line.counts();
        let end = SessionEnd { reason: reason.into(), calls, refused_unrecorded };
        line.say_about_session(Body { end: Some(end), ..Body::default() });
        line.close();
    }
}

impl Delivery {
    /// Waits until all is delivered after [`Deliver::end`], at most `limit`. False when something is left.
    pub async fn finish(self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.task).await.is_ok() && self.over.borrow().is_none()
    }

    /// Waits until a session is over for good: the log does not hold what it acknowledged. The process should then stop.
    pub async fn over(&self) -> NotRecorded {
        let mut over = self.over.clone();
        let known = over.wait_for(Option::is_some).await.ok().and_then(|over| over.clone());
        match known {
            Some(over) => over,
            None => std::future::pending().await, // the task ended in order
        }
    }
}
