//! Every session's chain, followed through a log or a part of one.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use uuid::Uuid;

use crate::digest::Digest;
use crate::entry::{Entry, Role, Subject};
use crate::statement::{Hole, Statement, kind};

/// How much of a log is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it: a session begins at 0, and nothing of it may be missing that the log does not name.
    #[default]
    Whole,
    /// All from somewhere on: sessions may have begun before, and from there on nothing may be missing.
    Middle,
    /// All of some sessions, from their beginning on; of the recorder's own what concerns them, and of operators' too, unless theirs
    /// begin here.
    Chosen,
    /// Some entries: what is missing was left out. What lies side by side must fit.
    Parts,
}

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    extent: Extent,
    sessions: HashMap<Uuid, Session>,
    holes: Vec<Hole>,
    calls: u64,
}

#[derive(Debug)]
struct Session {
    subject: Subject,
    /// The first `seq` that was seen.
    joined: u64,
    next: u64,
    /// `None` right after a hole: the bytes before are not known.
    prev: Option<Digest>,
    /// The statement before is not here: `prev` can't be checked.
    unlinked: bool,
    closed: bool,
    open: BTreeSet<u64>,
    /// What never came, as the log says: an outcome may be for an intent that lies in one of these.
    missing: Vec<RangeInclusive<u64>>,
}

#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) seen: u64,
    pub(crate) open: u64,
    pub(crate) calls: u64,
    pub(crate) open_calls: u64,
    pub(crate) holes: Vec<Hole>,
}

impl Sessions {
    pub(crate) fn new(extent: Extent) -> Self {
        Self { extent, ..Self::default() }
    }

    /// Follows one entry; returns what does not hold.
    pub(crate) fn take(&mut self, entry: &Entry<'_>, statement: &Statement) -> Vec<String> {
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
        let extent = match (self.extent, entry.envelope.role) {
            (Extent::Chosen, Role::Recorder) => Extent::Parts,
            (Extent::Chosen, Role::Operator) if !self.begins_here(statement) => Extent::Parts,
            (Extent::Chosen, _) => Extent::Whole,
            (extent, _) => extent,
        };
        let session = self.sessions.entry(statement.session).or_insert_with(|| {
            let joined = if extent == Extent::Whole { 0 } else { statement.seq };
            Session {
                subject: entry.envelope.subject.clone(),
                joined,
                next: joined,
                prev: None,
                unlinked: joined > 0,
                closed: false,
                open: BTreeSet::new(),
                missing: Vec::new(),
            }
        });
        if session.subject != entry.envelope.subject {
            wrong.push(format!("session {} belongs to {}", statement.session, session.subject));
        }
        if session.closed {
            wrong.push(format!("session {} had ended", statement.session));
        }
        let left_out = extent == Extent::Parts && statement.seq > session.next;
        if statement.seq != session.next && !left_out {
            wrong.push(format!(
                "session {}: seq {} where {} was next, and no log.hole says why",
                statement.session, statement.seq, session.next
            ));
        } else if statement.prev != session.prev && !session.unlinked && !left_out {
            wrong.push(format!(
                "session {}: prev of seq {} is not the digest of the statement before",
                statement.session, statement.seq
            ));
        }
        session.next = statement.seq.saturating_add(1);
        session.prev = Some(Digest::of(entry.statement));
        session.unlinked = false;
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
            && !session.may_have_opened(outcome.call, extent)
        {
            wrong.push(format!(
                "session {}: an outcome for call {}, which is not open",
                statement.session, outcome.call
            ));
        }
    }

    /// Is the session's first statement that is here its very first?
    fn begins_here(&self, statement: &Statement) -> bool {
        self.sessions.get(&statement.session).map_or(statement.seq, |session| session.joined) == 0
    }

    fn hole(&mut self, hole: Hole, wrong: &mut Vec<String>) {
        let extent = self.extent;
        match self.sessions.get_mut(&hole.session) {
            Some(session) if session.expects(hole, extent) => {
                session.next = hole.to.saturating_add(1);
                session.unlinked = true;
                session.missing.push(hole.from..=hole.to);
            }
            // Its session lies before.
            None if matches!(extent, Extent::Middle | Extent::Parts) && hole.from <= hole.to => {}
            _ => {
                wrong.push(format!("session {} has no hole from {} to {}", hole.session, hole.from, hole.to));
            }
        }
        self.holes.push(hole);
    }

    fn lost(&mut self, lost: Uuid, open: u64, wrong: &mut Vec<String>) {
        match self.sessions.get_mut(&lost) {
            Some(session) => {
                session.closed = true;
                let counted = self.extent != Extent::Parts && session.joined == 0;
                if counted && session.open.len() as u64 != open {
                    wrong.push(format!("session {lost} had {} open calls, not {open}", session.open.len()));
                }
            }
            None if matches!(self.extent, Extent::Middle | Extent::Parts) => {}
            None => wrong.push(format!("session {lost} was never there")),
        }
    }

    pub(crate) fn summary(&mut self) -> Summary {
        Summary {
            seen: self.sessions.len() as u64,
            open: self.sessions.values().filter(|session| !session.closed).count() as u64,
            calls: self.calls,
            open_calls: self.sessions.values().map(|session| session.open.len() as u64).sum(),
            holes: std::mem::take(&mut self.holes),
        }
    }
}

impl Session {
    /// May this call be one whose intent is not here?
    fn may_have_opened(&self, call: u64, extent: Extent) -> bool {
        let before = match extent {
            Extent::Whole | Extent::Chosen => false,
            Extent::Middle => call < self.joined,
            Extent::Parts => call < self.next,
        };
        before || self.missing.iter().any(|missing| missing.contains(&call))
    }

    fn expects(&self, hole: Hole, extent: Extent) -> bool {
        let next = self.next == hole.from || extent == Extent::Parts && self.next < hole.from;
        next && hole.from <= hole.to
    }
}
