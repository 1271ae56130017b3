//! Every session's chain, followed through a log.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use uuid::Uuid;

use crate::digest::Digest;
use crate::entry::{Entry, Role, Subject};
use crate::statement::{Hole, Statement, kind};

#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: HashMap<Uuid, Session>,
    holes: Vec<Hole>,
    calls: u64,
}

#[derive(Debug)]
struct Session {
    subject: Subject,
    next: u64,
    /// `None` right after a hole: the bytes before are not known.
    prev: Option<Digest>,
    after_hole: bool,
    closed: bool,
    open: BTreeSet<u64>,
    /// What never came, as the log says: an outcome may be for an intent that lies in one of these.
    missing: Vec<RangeInclusive<u64>>,
}

#[derive(Debug)]
pub(super) struct Summary {
    pub(super) seen: u64,
    pub(super) open: u64,
    pub(super) calls: u64,
    pub(super) open_calls: u64,
    pub(super) holes: Vec<Hole>,
}

impl Sessions {
    /// Follows one entry; returns what does not hold.
    pub(super) fn take(&mut self, entry: &Entry<'_>, statement: &Statement) -> Vec<String> {
        let mut wrong = Vec::new();
        self.chain(entry, statement, &mut wrong);
        if let Some(hole) = &statement.body.hole
            && entry.envelope.role == Role::Recorder
        {
            self.hole(*hole, &mut wrong);
        }
        if let Some(lost) = &statement.body.lost
            && entry.envelope.role == Role::Recorder
        {
            self.lost(lost.session, lost.open, &mut wrong);
        }
        wrong
    }

    fn chain(&mut self, entry: &Entry<'_>, statement: &Statement, wrong: &mut Vec<String>) {
        let session = self.sessions.entry(statement.session).or_insert_with(|| Session {
            subject: entry.envelope.subject.clone(),
            next: 0,
            prev: None,
            after_hole: false,
            closed: false,
            open: BTreeSet::new(),
            missing: Vec::new(),
        });
        if session.subject != entry.envelope.subject {
            wrong.push(format!("session {} belongs to {}", statement.session, session.subject));
        }
        if session.closed {
            wrong.push(format!("session {} had ended", statement.session));
        }
        if statement.seq != session.next {
            wrong.push(format!(
                "session {}: seq {} where {} was next, and no log.hole says why",
                statement.session, statement.seq, session.next
            ));
        } else if statement.prev != session.prev && !session.after_hole {
            wrong.push(format!(
                "session {}: prev of seq {} is not the digest of the statement before",
                statement.session, statement.seq
            ));
        }
        session.next = statement.seq.saturating_add(1);
        session.prev = Some(Digest::of(entry.statement));
        session.after_hole = false;
        session.closed |= matches!(statement.kind.as_str(), kind::SESSION_END | kind::LOG_STOP);
        if statement.body.intent.is_some() {
            self.calls += 1;
            session.open.insert(statement.seq);
        }
        if let Some(progress) = &statement.body.progress
            && !session.open.contains(&progress.call)
            && !session.missing.iter().any(|missing| missing.contains(&progress.call))
        {
            wrong.push(format!(
                "session {}: progress of call {}, which is not open",
                statement.session, progress.call
            ));
        }
        if let Some(outcome) = &statement.body.outcome
            && !session.open.remove(&outcome.call)
            && !session.missing.iter().any(|missing| missing.contains(&outcome.call))
        {
            wrong.push(format!(
                "session {}: an outcome for call {}, which is not open",
                statement.session, outcome.call
            ));
        }
    }

    fn hole(&mut self, hole: Hole, wrong: &mut Vec<String>) {
        match self.sessions.get_mut(&hole.session) {
            Some(session) if session.next == hole.from && hole.from <= hole.to => {
                session.next = hole.to.saturating_add(1);
                session.after_hole = true;
                session.missing.push(hole.from..=hole.to);
            }
            _ => {
                wrong.push(format!("session {} has no hole from {} to {}", hole.session, hole.from, hole.to));
            }
        }
        self.holes.push(hole);
    }

    fn lost(&mut self, lost: Uuid, open: u64, wrong: &mut Vec<String>) {
        match self.sessions.get_mut(&lost) {
            Some(session) if session.open.len() as u64 == open => session.closed = true,
            Some(session) => {
                session.closed = true;
                wrong.push(format!("session {lost} had {} open calls, not {open}", session.open.len()));
            }
            None => wrong.push(format!("session {lost} was never there")),
        }
    }

    pub(super) fn summary(&mut self) -> Summary {
        Summary {
            seen: self.sessions.len() as u64,
            open: self.sessions.values().filter(|session| !session.closed).count() as u64,
            calls: self.calls,
            open_calls: self.sessions.values().map(|session| session.open.len() as u64).sum(),
            holes: std::mem::take(&mut self.holes),
        }
    }
}
