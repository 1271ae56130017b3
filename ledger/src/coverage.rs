//! Coverage: when each pod was under recording in a period, and why it was not in between. It is worked out from sessions,
//! wherever they are told of: entries of a log or a bundle, or an answer of the recorder's index.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::entry::{Entry, Role, Subject, Workload};
use crate::search::sessions::{Session, SessionState};
use crate::statement::{Connection, Statement};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Beginning and end.
    #[serde(flatten)]
    pub period: Period,
    /// Why.
    pub reason: GapReason,
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

/// Collects the spans of a log's or a bundle's entries.
#[derive(Clone, Debug, Default)]
pub struct Spans(BTreeMap<Uuid, Span>);

impl Spans {
    /// Follows one entry.
    pub fn take(&mut self, entry: &Entry<'_>, statement: &Statement) {
        let body = &statement.body;
        match &entry.envelope.subject {
            Subject::Workload(workload) if entry.envelope.role == Role::Sidecar => {
                let span = self.0.entry(statement.session).or_insert_with(|| Span {
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
                if let Some(span) = body.lost.as_ref().and_then(|lost| self.0.get_mut(&lost.session)) {
                    span.state = SessionState::Lost;
                }
                if let Some(hole) = &body.hole
                    && let Some(span) = self.0.get_mut(&hole.session)
                {
                    span.missing += hole.to.saturating_sub(hole.from).saturating_add(1);
                }
            }
            Subject::Workload(_) => {}
        }
    }

    /// Each pod in `period`.
    #[must_use]
    pub fn pods(self, period: Period) -> Vec<Pod> {
        pods(self.0.into_values(), period)
    }
}

/// Each pod of these sessions in `period`, by namespace, pod and UID. Sessions outside of it are left out.
#[must_use]
pub fn pods(spans: impl IntoIterator<Item = Span>, period: Period) -> Vec<Pod> {
    let mut by_pod: BTreeMap<_, Vec<Span>> = BTreeMap::new();
    for span in spans {
        if span.from < period.to && until(&span, period) >= period.from {
            let Workload { cluster, namespace, pod, pod_uid, .. } = span.subject.clone();
            by_pod.entry((namespace, pod, pod_uid, cluster)).or_default().push(span);
        }
    }
    by_pod.into_values().map(|spans| pod(spans, period)).collect()
}

/// Until when this session's pod was under recording.
fn until(span: &Span, period: Period) -> Timestamp {
    let goes_on = span.state == SessionState::Open && period.to.duration_since(span.heard) <= STILL_HEARD;
    if goes_on { period.to } else { span.heard.min(period.to) }
}

fn pod(mut spans: Vec<Span>, period: Period) -> Pod {
    spans.sort_by_key(|span| (span.from, span.session));
    let last = spans.last().expect("a pod has a session");
    let connection = last.connection.as_ref().map(|c| format!("{}/{}", c.namespace, c.name));
    let (mut recorded, mut gaps) = (Vec::new(), Vec::new());
    let (mut covered, mut reason) = (period.from, GapReason::NotBegun);
    for span in &spans {
        let (from, to) = (span.from.max(period.from), until(span, period));
        if from > covered {
            gaps.push(Gap { period: Period { from: covered, to: from }, reason });
        }
        recorded.push(Recorded { period: Period { from, to }, session: span.session });
        if to >= covered {
            (covered, reason) = (to, after(span.state));
        }
    }
    if covered < period.to {
        gaps.push(Gap { period: Period { from: covered, to: period.to }, reason });
    }
    Pod {
        subject: last.subject.clone(),
        connection,
        recorded,
        gaps,
        missing_statements: spans.iter().map(|span| span.missing).sum(),
        refused_unrecorded: spans.iter().map(|span| span.refused_unrecorded).sum(),
    }
}

fn after(state: SessionState) -> GapReason {
    match state {
        SessionState::Ended => GapReason::Ended,
        SessionState::Lost => GapReason::Lost,
        SessionState::Open => GapReason::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).expect("in range")
    }

    fn span(from: i64, heard: i64, state: SessionState) -> Span {
        let crate::entry::Subject::Workload(subject) = crate::entry::tests::envelope().subject else {
            panic!("a workload")
        };
        Span {
            session: Uuid::from_u128(u128::try_from(from).expect("positive")),
            subject,
            connection: None,
            from: at(from),
            heard: at(heard),
            state,
            missing: 0,
            refused_unrecorded: 0,
        }
    }

    type Minutes = (i64, i64);

    fn told(spans: Vec<Span>) -> (Vec<Minutes>, Vec<(i64, i64, GapReason)>) {
        let pods = pods(spans, Period { from: at(0), to: at(600) });
        let minutes = |period: Period| (period.from.as_second() / 60, period.to.as_second() / 60);
        let gap = |gap: &Gap| {
            let (from, to) = minutes(gap.period);
            (from, to, gap.reason)
        };
        (pods[0].recorded.iter().map(|r| minutes(r.period)).collect(), pods[0].gaps.iter().map(gap).collect())
    }

    #[test]
    fn every_gap_has_its_reason() {
        let spans = vec![
            span(200, 300, SessionState::Lost),
            span(60, 100, SessionState::Ended),
            span(400, 500, SessionState::Open),
        ];
        let (recorded, gaps) = told(spans);
        assert_eq!(recorded, [(60, 100), (200, 300), (400, 500)]);
        let reasons = [
            (0, 60, GapReason::NotBegun),
            (100, 200, GapReason::Ended),
            (300, 400, GapReason::Lost),
            (500, 600, GapReason::Silent),
        ];
        assert_eq!(gaps, reasons);
    }

    #[test]
    fn a_session_that_goes_on_covers_to_the_end() {
        assert_eq!(told(vec![span(0, 590, SessionState::Open)]), (vec![(0, 600)], vec![]));
    }

    #[test]
    fn sessions_that_overlap_leave_no_gap() {
        let (_, gaps) = told(vec![span(0, 300, SessionState::Ended), span(100, 595, SessionState::Open)]);
        assert_eq!(gaps, []);
        let (_, gaps) = told(vec![span(0, 300, SessionState::Lost), span(100, 200, SessionState::Ended)]);
        assert_eq!(gaps, [(300, 600, GapReason::Lost)], "the one that lasted longest says why");
    }
}
