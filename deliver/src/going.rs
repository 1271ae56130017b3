//! A call that goes on: what has passed of its bodies, said in `call.progress` while it lasts.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ledger::call::{BodySoFar, Progress};
use ledger::statement::Body;
use tokio::time::Instant;

use super::chain::Saying;
use super::line::Line;

/// When a call that goes on says how far it has come. Whichever comes first counts, since the last time that it did.
#[derive(Clone, Copy, Debug)]
pub struct ProgressSettings {
    /// After so many bytes, of both directions together.
    pub bytes: u64,
    /// After so much time.
    pub every: Duration,
}

impl Default for ProgressSettings {
    /// 64 MiB, and a minute.
    fn default() -> Self {
        Self { bytes: 64 << 20, every: Duration::from_secs(60) }
    }
}

/// A body on its way, which knows what has passed of it.
pub trait Passing: Debug + Send + Sync {
    /// What has passed so far.
    fn so_far(&self) -> BodySoFar;
}

/// An open call, as its bodies and the clock see it.
#[derive(Debug)]
pub struct Going {
    line: Arc<Line>,
    seq: u64,
    started: Instant,
    /// Bytes since the last progress.
    passed: AtomicU64,
    sent: OnceLock<Box<dyn Passing>>,
    answer: OnceLock<Box<dyn Passing>>,
    /// When it last said how far it was; `None` once its outcome is said, after which it says no more.
    last: Mutex<Option<Instant>>,
}

impl Going {
    pub(super) fn new(line: Arc<Line>, seq: u64, started: Instant) -> Arc<Self> {
        Arc::new(Self {
            line,
            seq,
            started,
            passed: AtomicU64::new(0),
            sent: OnceLock::new(),
            answer: OnceLock::new(),
            last: Mutex::new(Some(started)),
        })
    }

    /// The request's body carries data, of which this is known.
    pub fn sends(&self, body: impl Passing + 'static) {
        let _first = self.sent.set(Box::new(body)).is_ok();
    }

    /// The answer has begun.
    pub fn answers(&self, body: impl Passing + 'static) {
        let _first = self.answer.set(Box::new(body)).is_ok();
    }

    /// So many bytes have passed, which their body knows already.
    pub fn passed(&self, bytes: usize) {
        let passed = self.passed.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if passed >= self.line.progress.bytes {
            self.say(|_| true);
        }
    }

    /// The clock looks.
    pub(super) fn tick(&self, now: Instant) {
        let every = self.line.progress.every;
        self.say(|last| now.saturating_duration_since(last) >= every);
    }

    /// The outcome is about to be said.
    pub(super) fn ends(&self) {
        *self.last() = None;
    }

    /// Says how far it is, if it is due, and if there is room.
    fn say(&self, due: impl FnOnce(Instant) -> bool) {
        let mut last = self.last();
        if !last.is_some_and(due) {
            return;
        }
        let Some(room) = self.line.try_room() else { return };
        let progress = Progress {
            call: self.seq,
            sent: self.sent.get().map(|body| body.so_far()),
            answer: self.answer.get().map(|body| body.so_far()),
            duration_micros: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        let body = Body { progress: Some(progress), ..Body::default() };
        if let Err(error) = self.line.say(Saying { body, ..Saying::default() }, Some(room), None) {
            tracing::debug!(category = error.category(), call = self.seq, %error, "a progress was not recorded");
        }
        *last = Some(Instant::now());
        self.passed.store(0, Ordering::Relaxed);
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner) // one value, replaced
    }
}
