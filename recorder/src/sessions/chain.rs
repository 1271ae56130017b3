//! A batch against its session: what each statement is to the chain, without changing anything.

use std::collections::HashSet;

use jiff::Timestamp;
use ledger::digest::Digest;
use ledger::statement::Hole;
use uuid::Uuid;

use super::session::{Session, check_age};
use crate::error::{Reason, Refusal};
use crate::submission::{Meaning, Submitted};

/// Most calls without outcome in a session; the next intent is refused (`too_many_open_calls`).
pub const MAX_OPEN: usize = 65_536;

/// Most holes in a session; the next one is refused (`too_many_holes`).
pub const MAX_HOLES: usize = 1024;

/// What is to be done with one statement of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This `seq` is recorded at this index: the same bytes get the same receipt, other bytes are refused.
    Repeat(u64),
    /// It is the next one.
    Next,
    /// It is recorded after a `log.hole` that names what is missing before it.
    AfterHole(Hole),
}

/// How far a session's chain is while a batch is planned.
pub(super) struct Chain {
    id: Uuid,
    /// `None`: nothing is recorded of the session.
    last: Option<Digest>,
    next_seq: u64,
    closed: bool,
    now: Timestamp,
    /// Calls that the batch opens, and those that it ends.
    opened: HashSet<u64>,
    ended: HashSet<u64>,
    holes: Vec<Hole>,
}

impl Chain {
    pub(super) fn of(id: Uuid, known: Option<&Session>, now: Timestamp) -> Self {
        Self {
            id,
            last: known.map(|session| session.last),
            next_seq: known.map_or(0, |session| session.next_seq),
            closed: known.is_some_and(|session| session.closed.is_some()),
            now,
            opened: HashSet::new(),
            ended: HashSet::new(),
            holes: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, known: Option<&Session>, statement: &Submitted) -> Result<Step, Refusal> {
        if let Some(session) = known.filter(|session| statement.seq < session.next_seq) {
            return session.index_of(statement.seq).map(Step::Repeat).ok_or_else(|| too_old(session));
        }
        if statement.seq < self.next_seq {
            return Err(Refusal::new(Reason::SeqConflict, "the batch has two statements with this seq"));
        }
        self.check_state(statement)?;
        let step = self.place(known, statement)?;
        self.check_call(known, statement)?;
        self.last = Some(statement.digest);
        self.next_seq = statement.seq + 1;
        self.closed = statement.meaning == Meaning::End;
        Ok(step)
    }

    fn check_state(&self, statement: &Submitted) -> Result<(), Refusal> {
        let starts = matches!(statement.meaning, Meaning::Start(_));
        if self.closed {
            return Err(Refusal::new(Reason::SessionClosed, "the session is closed: begin a new one"));
        }
        if self.last.is_none() && !(starts && statement.seq == 0) {
            let message = "nothing is recorded of this session: it begins with session.start at seq 0";
            return Err(Refusal::new(Reason::SessionUnknown, message));
        }
        if self.last.is_none() {
            check_age(self.id, self.now)?;
        }
        if self.last.is_some() && starts {
            return Err(Refusal::new(
                Reason::MalformedStatement,
                "session.start is the statement with seq 0",
            ));
        }
        Ok(())
    }

    /// An intent opens a call, an outcome ends one: each has at most one outcome.
    fn check_call(&mut self, known: Option<&Session>, statement: &Submitted) -> Result<(), Refusal> {
        let open_before = known.map_or(0, |session| session.calls.len());
        match statement.meaning {
            Meaning::Intent if open_before + self.opened.len() >= MAX_OPEN + self.ended.len() => {
                let message =
                    format!("the session has {MAX_OPEN} calls without outcome: send outcomes first");
                Err(Refusal::new(Reason::TooManyOpenCalls, message))
            }
            Meaning::Intent => {
                self.opened.insert(statement.seq);
                Ok(())
            }
            Meaning::Progress(call) if self.is_open(known, call) => Ok(()),
            Meaning::Outcome(call) if self.is_open(known, call) => {
                if !self.is_missing(known, call) {
                    self.ended.insert(call);
                }
                Ok(())
            }
            Meaning::Progress(call) | Meaning::Outcome(call) => {
                let message = format!("call {call} is not an open call of the session");
                Err(Refusal::new(Reason::CallUnknown, message))
            }
            Meaning::Start(_) | Meaning::End | Meaning::Other => Ok(()),
        }
    }

    /// Is this call open, or may it be, because its intent lies in a hole?
    fn is_open(&self, known: Option<&Session>, call: u64) -> bool {
        let open = self.opened.contains(&call) || known.is_some_and(|session| session.calls.contains(&call));
        self.is_missing(known, call) || open && !self.ended.contains(&call)
    }

    fn is_missing(&self, known: Option<&Session>, call: u64) -> bool {
        let mut holes = known.into_iter().flat_map(|session| &session.holes).chain(&self.holes);
        holes.any(|hole| (hole.from..=hole.to).contains(&call))
    }

    /// Next in the chain, or after a hole. Across a hole `prev` names bytes that nobody has; it is kept, not checked.
    fn place(&mut self, known: Option<&Session>, statement: &Submitted) -> Result<Step, Refusal> {
        if statement.seq > self.next_seq {
            if known.map_or(0, |session| session.holes.len()) + self.holes.len() >= MAX_HOLES {
                let message = format!("{MAX_HOLES} parts of the session are missing: begin a new one");
                return Err(Refusal::new(Reason::TooManyHoles, message));
            }
            let hole = Hole { session: self.id, from: self.next_seq, to: statement.seq - 1 };
            self.holes.push(hole);
            return Ok(Step::AfterHole(hole));
        }
        if statement.prev != self.last {
            let message = "prev is not the SHA-256 of the statement with the seq before";
            return Err(Refusal::new(Reason::ChainBroken, message));
        }
        Ok(Step::Next)
    }
}

fn too_old(session: &Session) -> Refusal {
    let message = format!(
        "the session is at seq {}; this one is older than what the recorder remembers, or was reported missing",
        session.next_seq
    );
    Refusal::new(Reason::SeqTooOld, message)
}
