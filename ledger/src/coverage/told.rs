//! What operators said of pods, and what that says of the times in which no session was heard.

use jiff::{SignedDuration, Timestamp};

use super::{Gap, GapReason, Period};
use crate::entry::{Entry, Role, Subject, Workload};
use crate::operator::{CoverageState, PodCoverage};
use crate::statement::{Connection, Statement};

/// What an operator says first of a pod was so from the pod's creation on, if it said so within this time.
const FIRST_LOOK: SignedDuration = SignedDuration::from_secs(60);

/// What an operator said of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The recorder's name for the operator's cluster, which is the pod's.
    pub cluster: String,
    /// When it was received.
    pub received: Timestamp,
    /// The connection that selects the pod.
    pub connection: Option<Connection>,
    /// What it said.
    pub said: PodCoverage,
}

impl Told {
    /// What this entry says of a pod, if an operator wrote it.
    #[must_use]
    pub fn of(entry: &Entry<'_>, statement: &Statement) -> Option<Self> {
        let (Subject::Workload(operator), Role::Operator) = (&entry.envelope.subject, entry.envelope.role)
        else {
            return None;
        };
        Some(Self {
            cluster: operator.cluster.clone(),
            received: entry.envelope.received,
            connection: statement.connection.clone(),
            said: statement.body.coverage.clone()?,
        })
    }

    /// The pod, as the operator names it.
    pub(super) fn subject(&self) -> Workload {
        let said = &self.said;
        Workload {
            cluster: self.cluster.clone(),
            namespace: said.namespace.clone(),
            service_account: said.service_account.clone(),
            pod: said.pod.clone(),
            pod_uid: said.pod_uid.clone(),
            node: None,
        }
    }

    /// Since when it was so. A clock of an operator's that is ahead makes nothing later than it was heard.
    fn since(&self) -> Timestamp {
        self.said.since.min(self.received)
    }
}

/// A pod's times as an operator saw them, in order.
pub(super) struct Seen<'a>(Vec<(Timestamp, &'a Told)>);

impl<'a> Seen<'a> {
    /// From all that was said of one pod.
    pub(super) fn new(mut told: Vec<&'a Told>) -> Self {
        told.sort_by_key(|told| told.received);
        let mut from: Vec<_> = told.iter().map(|told| (told.since(), *told)).collect();
        if let Some((since, first)) = from.first_mut() {
            let created = first.said.created;
            if since.duration_since(created) <= FIRST_LOOK && first.said.state != CoverageState::Ended {
                *since = created;
            }
        }
        // A clock that was set back makes nothing earlier than what was said before it.
        for place in 1..from.len() {
            from[place].0 = from[place].0.max(from[place - 1].0);
        }
        Self(from)
    }

    /// When the pod came to be.
    pub(super) fn created(&self) -> Option<Timestamp> {
        self.0.first().map(|(_, told)| told.said.created)
    }

    /// Each time with what was said of it, up to `end`.
    fn times(&self, end: Timestamp) -> impl Iterator<Item = (Period, &PodCoverage)> {
        let ends = self.0.iter().skip(1).map(|(from, _)| *from).chain([end]);
        self.0.iter().zip(ends).map(|((from, told), to)| (Period { from: *from, to }, &told.said))
    }

    /// A gap of the sessions, with what the operator saw in it: where the pod was uncovered, and why; nothing where the pod was
    /// over, or held its agent back until its sidecar worked.
    pub(super) fn explain(&self, gap: &Gap) -> Vec<Gap> {
        let (mut left, mut cursor) = (Vec::new(), gap.period.from);
        let mut add = |from: Timestamp, to: Timestamp, said: Option<&PodCoverage>| {
            if from < to {
                left.extend(explained(gap, Period { from, to }, said));
            }
        };
        for (period, said) in self.times(gap.period.to) {
            let (from, to) = (period.from.max(cursor), period.to.min(gap.period.to));
            if from < to {
                add(cursor, from, None);
                add(from, to, Some(said));
                cursor = to;
            }
        }
        add(cursor, gap.period.to, None);
        merged(left)
    }
}

fn explained(gap: &Gap, period: Period, said: Option<&PodCoverage>) -> Option<Gap> {
    match (said.map(|said| said.state), gap.reason) {
        (Some(CoverageState::Uncovered), _) => {
            Some(Gap { period, reason: GapReason::Uncovered, why: said.and_then(|said| said.reason.clone()) })
        }
        (Some(CoverageState::Ended), _)
        | (Some(CoverageState::Covered | CoverageState::Outdated), GapReason::NotBegun) => None,
        _ => Some(Gap { period, ..gap.clone() }),
    }
}

/// Gaps that follow each other for the same reason are one.
fn merged(gaps: Vec<Gap>) -> Vec<Gap> {
    let mut merged: Vec<Gap> = Vec::new();
    for gap in gaps {
        match merged.last_mut() {
            Some(last)
                if last.period.to == gap.period.from
                    && (last.reason, &last.why) == (gap.reason, &gap.why) =>
            {
                last.period.to = gap.period.to;
            }
            _ => merged.push(gap),
        }
    }
    merged
}
