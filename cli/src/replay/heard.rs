//! Sessions as entries tell of them, where there is no index to ask: what the recorder's index counts, counted here.

use std::collections::{BTreeMap, HashSet};

use ledger::call::CallResult;
use ledger::entry::{Entry, Role, Subject, Workload};
use ledger::search::sessions::{Ending, NamedHole, Session, SessionState};
use ledger::statement::{Body, Hole, SessionEnd, SessionLost, Statement};
use uuid::Uuid;

/// The sidecars' sessions of the entries that were heard.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<Uuid, Heard>);

#[derive(Debug)]
struct Heard {
    session: Session,
    /// The calls without an outcome, and whether their intent says that they were refused.
    open: BTreeMap<u64, bool>,
    /// Sessions whose beginning is not here have no version.
    begun: bool,
}

impl Sessions {
    pub(super) fn entry(&mut self, index: u64, entry: &Entry<'_>, statement: &Statement) {
        match &entry.envelope.subject {
            Subject::Workload(subject) if entry.envelope.role == Role::Sidecar => {
                let heard = self.0.entry(statement.session);
                heard
                    .or_insert_with(|| Heard::new(index, entry, statement, subject))
                    .say(index, entry, statement);
            }
            Subject::Log { .. } => self.recorder_says(index, entry, &statement.body),
            Subject::Workload(_) => {}
        }
    }

    fn recorder_says(&mut self, index: u64, entry: &Entry<'_>, body: &Body) {
        if let Some(SessionLost { session, open_intents, .. }) = &body.lost
            && let Some(heard) = self.0.get_mut(session)
        {
            let received = entry.envelope.received;
            heard.session.state = SessionState::Lost;
            heard.session.end =
                Some(Ending { index, received, reason: None, open_intents: open_intents.clone() });
        }
        if let Some(hole) = body.hole
            && let Some(heard) = self.0.get_mut(&hole.session)
        {
            heard.session.holes += 1;
            heard.session.missing += missing(hole);
            heard.session.named_holes.push(NamedHole { index, hole });
        }
    }

    /// In the order in which they began.
    pub(super) fn finish(self) -> Vec<Session> {
        let mut sessions: Vec<_> = self.0.into_values().map(|heard| heard.session).collect();
        sessions.sort_by_key(|session| session.index);
        sessions
    }

    /// The sessions whose beginning is not here.
    pub(super) fn without_beginning(&self) -> HashSet<Uuid> {
        self.0.iter().filter(|(_, heard)| !heard.begun).map(|(session, _)| *session).collect()
    }
}

fn missing(hole: Hole) -> u64 {
    hole.to.saturating_sub(hole.from).saturating_add(1)
}

impl Heard {
    fn new(index: u64, entry: &Entry<'_>, statement: &Statement, subject: &Workload) -> Self {
        let received = entry.envelope.received;
        let session = Session {
            index,
            session: statement.session,
            subject: subject.clone(),
            role: entry.envelope.role,
            connection: statement.connection.clone(),
            version: String::new(),
            started: received,
            heard: received,
            state: SessionState::Open,
            end: None,
            calls: 0,
            open_calls: 0,
            refused: 0,
            refused_unrecorded: 0,
            holes: 0,
            missing: 0,
            named_holes: Vec::new(),
        };
        Self { session, open: BTreeMap::new(), begun: false }
    }

    fn say(&mut self, index: u64, entry: &Entry<'_>, statement: &Statement) {
        let (body, received) = (&statement.body, entry.envelope.received);
        self.session.heard = received;
        if let Some(start) = &body.start {
            self.session.version.clone_from(&start.version);
            self.begun = true;
        }
        if let Some(intent) = &body.intent {
            self.session.calls += 1;
            self.session.refused += u64::from(intent.refused.is_some());
            self.open.insert(statement.seq, intent.refused.is_some());
        }
        if let Some(outcome) = &body.outcome
            && let Some(refused) = self.open.remove(&outcome.call)
        {
            // A call can be refused after its intent.
            self.session.refused += u64::from(outcome.result == CallResult::Refused && !refused);
        }
        if let Some(heartbeat) = &body.heartbeat {
            self.session.refused_unrecorded = heartbeat.refused_unrecorded;
        }
        if let Some(SessionEnd { reason, refused_unrecorded, .. }) = &body.end {
            self.session.refused_unrecorded = *refused_unrecorded;
            self.session.state = SessionState::Ended;
            let reason = Some(reason.clone());
            self.session.end = Some(Ending { index, received, reason, open_intents: Vec::new() });
        }
        self.session.open_calls = self.open.len() as u64;
    }
}
