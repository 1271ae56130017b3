//! Coverage: when each pod was under recording in a period, and why it was not in between. It is worked out from sessions, and
//! from what operators saw of pods, wherever these are told of: entries of a log or a bundle, or an answer of the recorder's index.

#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entry::{Entry, Role, Subject, Workload};
use crate::search::sessions::{Session, SessionState};
use crate::statement::{Connection, Statement};

pub use self::told::Told;

use self::told::Seen;

/// A session that still goes on counts as recording up to the period's end when it was heard at most so long before. It is
/// three of the longest heartbeats: after that a recorder closes a silent session.
pub const STILL_HEARD: SignedDuration = SignedDuration::from_secs(900);

/// From one time to another; the second is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

/// A sidecar's session, as far as it says when its pod was under recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The session.
    pub session: Uuid,
    /// Its pod.
    pub subject: Workload,
    /// The connection that it served at its start.
    pub connection: Option<Connection>,
    /// When its start was received, or the first that is known of it.
    pub from: Timestamp,
    /// When the last of it was received.
    pub heard: Timestamp,
    /// Whether it goes on.
    pub state: SessionState,
    /// Statements that never came.
    pub missing: u64,
    /// Calls that the sidecar refused and had no room to record, as it last said.
    pub refused_unrecorded: u64,
}

/// One pod in a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// The pod, as the cluster's signature names it.
    pub subject: Workload,
    /// The connection that it was recorded under, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// When it was under recording, in order.
    pub recorded: Vec<Recorded>,
    /// When it was not, in order.
    pub gaps: Vec<Gap>,
    /// Statements of its sessions that never came.
    pub missing_statements: u64,
    /// Calls that its sidecars refused and had no room to record.
    pub refused_unrecorded: u64,
}

/// A time under recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Beginning and end.
    #[serde(flatten)]
    pub period: Period,
    /// By this session.
    pub session: Uuid,
}

/// A time without recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Beginning and end.
    #[serde(flatten)]
    pub period: Period,
    /// Why.
    pub reason: GapReason,
    /// What the operator said of the reason, where the pod was uncovered: `no_sidecar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Gap {
    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.why {
            Some(why) => format!("{}: {why}", self.reason.describe()),
            None => self.reason.describe().into(),
        }
    }
}

/// Why a pod was not under recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Nothing is known of the pod before this.
    NotBegun,
    /// The sidecar ended in order, and none began.
    Ended,
    /// The sidecar fell silent, and the recorder closed its session.
    Lost,
    /// Nothing more was heard of a session that was not closed.
    Silent,
    /// The operator saw the pod run without a working sidecar.
    Uncovered,
}

impl GapReason {
    /// In words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::NotBegun => "nothing was recorded of this pod yet",
            Self::Ended => "its sidecar had ended in order",
            Self::Lost => "its sidecar fell silent",
            Self::Silent => "nothing more was heard of its sidecar",
            Self::Uncovered => "uncovered",
        }
    }
}

impl From<&Session> for Span {
    fn from(session: &Session) -> Self {
        Self {
            session: session.session,
            subject: session.subject.clone(),
            connection: session.connection.clone(),
            from: session.started,
            heard: session.heard,
            state: session.state,
            missing: session.missing,
            refused_unrecorded: session.refused_unrecorded,
        }
    }
}

/// Collects what a log's or a bundle's entries say of coverage.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    sessions: BTreeMap<Uuid, Span>,
    told: Vec<Told>,
}

impl Spans {
    /// Follows one entry.
    pub fn take(&mut self, entry: &Entry<'_>, statement: &Statement) {
        let body = &statement.body;
        match &entry.envelope.subject {
            Subject::Workload(workload) if entry.envelope.role == Role::Sidecar => {
                let span = self.sessions.entry(statement.session).or_insert_with(|| Span {
                    session: statement.session,
                    subject: workload.clone(),
                    connection: statement.connection.clone(),
                    from: entry.envelope.received,
                    heard: entry.envelope.received,
                    state: SessionState::Open,
                    missing: 0,
                    refused_unrecorded: 0,
                });
                span.heard = entry.envelope.received;
                let unrecorded = body.heartbeat.map(|heartbeat| heartbeat.refused_unrecorded);
                let unrecorded = body.end.as_ref().map(|end| end.refused_unrecorded).or(unrecorded);
                span.refused_unrecorded = unrecorded.unwrap_or(span.refused_unrecorded);
                if body.end.is_some() {
                    span.state = SessionState::Ended;
                }
            }
            Subject::Log { .. } => {
                if let Some(span) = body.lost.as_ref().and_then(|lost| self.sessions.get_mut(&lost.session)) {
                    span.state = SessionState::Lost;
                }
                if let Some(hole) = &body.hole
                    && let Some(span) = self.sessions.get_mut(&hole.session)
                {
                    span.missing += hole.to.saturating_sub(hole.from).saturating_add(1);
                }
            }
            Subject::Workload(_) => self.told.extend(Told::of(entry, statement)),
        }
    }

    /// Each pod in `period`.
    #[must_use]
    pub fn pods(self, period: Period) -> Vec<Pod> {
        pods(self.sessions.into_values(), &self.told, period)
    }
}

/// What is known of one pod.
#[derive(Default)]
struct Known<'a> {
    spans: Vec<Span>,
    told: Vec<&'a Told>,
}

/// Each pod of these sessions, and of those that operators saw uncovered, in `period`, by namespace, pod and UID. What lies outside
/// of the period is left out.
#[must_use]
pub fn pods(spans: impl IntoIterator<Item = Span>, told: &[Told], period: Period) -> Vec<Pod> {
    let mut by_pod: BTreeMap<_, Known<'_>> = BTreeMap::new();
    let key = |subject: Workload| (subject.namespace, subject.pod, subject.pod_uid, subject.cluster);
    for span in spans {
        if span.from < period.to && until(&span, period) >= period.from {
            by_pod.entry(key(span.subject.clone())).or_default().spans.push(span);
        }
    }
    for told in told.iter().filter(|told| told.received < period.to) {
        by_pod.entry(key(told.subject())).or_default().told.push(told);
    }
    by_pod.into_values().filter_map(|known| pod(known, period)).collect()
}

/// Until when this session's pod was under recording.
fn until(span: &Span, period: Period) -> Timestamp {
    let goes_on = span.state == SessionState::Open && period.to.duration_since(span.heard) <= STILL_HEARD;
    if goes_on { period.to } else { span.heard.min(period.to) }
}

/// `None` for one of which operators told, and that neither had a session nor went without where it should have had one.
fn pod(Known { mut spans, told }: Known<'_>, period: Period) -> Option<Pod> {
    spans.sort_by_key(|span| (span.from, span.session));
    let newest = told.iter().max_by_key(|told| told.received);
    let subject = match (spans.last(), newest) {
        (Some(span), _) => span.subject.clone(),
        (None, told) => told?.subject(),
    };
    let served = spans.last().and_then(|span| span.connection.as_ref());
    let connection = served.or(newest.and_then(|told| told.connection.as_ref()));
    let connection = connection.map(|c| format!("{}/{}", c.namespace, c.name));
    let seen = Seen::new(told);
    let (recorded, gaps) = times(&spans, period, seen.created());
    let gaps: Vec<_> = gaps.iter().flat_map(|gap| seen.explain(gap)).collect();
    if spans.is_empty() && !gaps.iter().any(|gap| gap.reason == GapReason::Uncovered) {
        return None;
    }
    Some(Pod {
        subject,
        connection,
        recorded,
        gaps,
        missing_statements: spans.iter().map(|span| span.missing).sum(),
        refused_unrecorded: spans.iter().map(|span| span.refused_unrecorded).sum(),
    })
}

/// The times under recording, and the gaps between them, of a pod that came to be at `created`, if that is known.
fn times(spans: &[Span], period: Period, created: Option<Timestamp>) -> (Vec<Recorded>, Vec<Gap>) {
    let (mut recorded, mut gaps) = (Vec::new(), Vec::new());
    let begin = created.map_or(period.from, |created| created.max(period.from));
    let (mut covered, mut reason) = (begin, GapReason::NotBegun);
    let mut gap = |from, to, reason| {
        if from < to {
            gaps.push(Gap { period: Period { from, to }, reason, why: None });
        }
    };
    for span in spans {
        let (from, to) = (span.from.max(period.from), until(span, period));
        gap(covered, from, reason);
        recorded.push(Recorded { period: Period { from, to }, session: span.session });
        if to >= covered {
            (covered, reason) = (to, after(span.state));
        }
    }
    gap(covered, period.to, reason);
    (recorded, gaps)
}

fn after(state: SessionState) -> GapReason {
    match state {
        SessionState::Ended => GapReason::Ended,
        SessionState::Lost => GapReason::Lost,
        SessionState::Open => GapReason::Silent,
    }
}
