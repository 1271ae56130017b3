//! The outcome of a call: exactly one, recorded by whoever ends the call, or by the drop of its guard.

use std::sync::Arc;

use deliver::{Going, OpenCall};
use ledger::call::{CallResult, Outcome};
use ledger::digest::Digest;
use tokio::time::Instant;

use crate::bigquery::{self, Recognised};
use crate::forward::ForwardError;
use crate::joins::Joins;
use crate::metrics::Metrics;
use crate::refuse::Refused;
use crate::tee::{Passing, Teed};

/// A call whose intent is recorded and whose outcome is not. Dropping it records that the call was aborted.
#[derive(Debug)]
pub struct OutcomeGuard {
    call: Recognised,
    open: Option<OpenCall>,
    going: Arc<Going>,
    sent: Option<Passing>,
    upload: Option<Digest>,
    left: bool,
    arrived: Instant,
    joins: Arc<Joins>,
    metrics: Metrics,
}

/// How BigQuery's answer ended.
#[derive(Debug)]
pub struct Ended {
    /// Whole, broken off by BigQuery, or by the agent.
    pub result: CallResult,
    /// The status that the agent was given.
    pub status: u16,
    /// An answer to HEAD, a 204 or a 304, which have no body.
    pub bodiless: bool,
    /// What passed of the body.
    pub teed: Teed,
    /// The name of a gRPC status other than OK.
    pub grpc_status: Option<String>,
}

impl OutcomeGuard {
    /// A guard for the outcome of `open`, a call whose head arrived at `arrived`.
    #[must_use]
    pub fn new(
        call: Recognised,
        open: OpenCall,
        arrived: Instant,
        joins: Arc<Joins>,
        metrics: Metrics,
    ) -> Self {
        metrics.open_calls.inc();
        let going = open.going();
        Self { call, open: Some(open), going, sent: None, upload: None, left: false, arrived, joins, metrics }
    }

    /// The request's body is bound by what `sent` will say.
    pub fn binds(&mut self, sent: Passing) {
        self.going.sends(sent.clone());
        self.sent = Some(sent);
    }

    /// The answer began this upload.
    pub fn begins(&mut self, upload: Option<Digest>) {
        self.upload = upload;
    }

    /// The call, as its bodies see it.
    #[must_use]
    pub fn going(&self) -> Arc<Going> {
        Arc::clone(&self.going)
    }

    /// From now on, an abort says that the request left.
    pub fn leaves(&mut self) {
        self.left = true;
    }

    /// The sidecar refused the call.
    pub fn refused(self, refused: &Refused) {
        let (status, reason) = (refused.status().as_u16(), refused.category());
        self.finish(|outcome| Outcome {
            result: CallResult::Refused,
            status: Some(status),
            reason: Some(reason.into()),
            ..outcome
        });
    }

    /// BigQuery gave no answer.
    pub fn failed(self, error: &ForwardError) {
        self.metrics.upstream_failed(error.category());
        let status = http::StatusCode::BAD_GATEWAY.as_u16();
        self.finish(|outcome| Outcome {
            result: CallResult::Failed,
            forwarded: error.sent(),
            status: Some(status),
            reason: Some(error.category().into()),
            ..outcome
        });
    }

    /// BigQuery's answer passed, as far as it did.
    pub fn ended(mut self, ended: Ended) {
        let Ended { result, status, bodiless, teed, grpc_status } = ended;
        let answer = bigquery::read_answer(&self.call, status, &teed.kept, teed.truncated);
        if let Some(reported) = &answer.reported {
            self.joins.reports(reported);
        }
        let ours = match result {
            CallResult::Failed => Some("answer_broken".to_owned()),
            _ => None,
        };
        let outcome = Outcome {
            result,
            forwarded: true,
            status: Some(status),
            reason: ours.or(grpc_status).or(answer.reason),
            reported: answer.reported,
            answer: (!bodiless).then_some(teed.body),
            ..self.blank()
        };
        self.record(outcome, answer.error_message.as_deref());
    }

    fn finish(mut self, fill: impl FnOnce(Outcome) -> Outcome) {
        let outcome = fill(self.blank());
        self.record(outcome, None);
    }

    fn blank(&self) -> Outcome {
        let sent = self.sent.as_ref().map(Passing::sum).filter(|_| self.left);
        Outcome {
            result: CallResult::Aborted,
            sent: sent.map(|(body, _)| body),
            rows: sent.and_then(|(_, rows)| rows),
            upload: self.upload,
            duration_micros: u64::try_from(self.arrived.elapsed().as_micros()).unwrap_or(u64::MAX),
            ..Outcome::default()
        }
    }

    fn record(&mut self, outcome: Outcome, error: Option<&str>) {
        let Some(open) = self.open.take() else { return };
        self.metrics.open_calls.dec();
        self.metrics.ended(self.call.method, outcome.result, self.arrived.elapsed());
        let error = error.and_then(|message| deliver::blob(message.as_bytes()).ok());
        open.finish(outcome, error.into_iter().map(|blob| ("error", blob)).collect());
    }
}

impl Drop for OutcomeGuard {
    fn drop(&mut self) {
        let aborted = Outcome { forwarded: self.left, ..self.blank() };
        self.record(aborted, None);
    }
}
