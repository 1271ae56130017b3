//! A call between its intent and its outcome.

use std::sync::Arc;

use ledger::blob::Blob;
use ledger::call::{CallResult, Outcome};
use ledger::statement::Body;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::chain::Saying;
use super::going::Going;
use super::line::Line;

/// A call whose intent is in the log. It becomes exactly one outcome: by [`OpenCall::finish`], or, when it is dropped before
/// it was sent, by itself as `aborted`.
#[derive(Debug)]
#[must_use = "dropping it records that the call was aborted"]
pub struct OpenCall {
    seq: u64,
    started: Instant,
    going: Arc<Going>,
    parts: Option<(Arc<Line>, OwnedSemaphorePermit)>,
}

impl OpenCall {
    pub(super) fn new(line: Arc<Line>, seq: u64, started: Instant, room: OwnedSemaphorePermit) -> Self {
        let going = Going::new(Arc::clone(&line), seq, started);
        line.watch(seq, &going);
        Self { seq, started, going, parts: Some((line, room)) }
    }

    /// The intent's place in the session.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The call, as its bodies and the clock see it.
    #[must_use]
    pub fn going(&self) -> Arc<Going> {
        Arc::clone(&self.going)
    }

    /// Records how the call ended. Never waits. `call` is set here, and so is the duration when it is 0.
    pub fn finish(mut self, outcome: Outcome, blobs: Vec<(&'static str, Blob)>) {
        self.record(outcome, blobs);
    }

    fn record(&mut self, outcome: Outcome, blobs: Vec<(&'static str, Blob)>) {
        let Some((line, room)) = self.parts.take() else { return };
        self.going.ends();
        line.unwatch(self.seq);
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let duration_micros = if outcome.duration_micros == 0 { elapsed } else { outcome.duration_micros };
        let outcome = Outcome { call: self.seq, duration_micros, ..outcome };
        let saying =
            Saying { blobs, body: Body { outcome: Some(outcome), ..Body::default() }, ..Saying::default() };
        if let Err(error) = line.say(saying, Some(room), None) {
            tracing::error!(category = error.category(), call = self.seq, %error, "an outcome was not recorded");
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let aborted = Outcome { result: CallResult::Aborted, reason: None, ..refusal("") };
        self.record(aborted, Vec::new());
    }
}

/// The outcome of a call that was not sent, because its intent could not be recorded in time.
pub(super) fn refusal(category: &str) -> Outcome {
    Outcome { result: CallResult::Refused, reason: Some(category.into()), ..Outcome::default() }
}
