//! Sessions: which workload each belongs to, how far its chain has come, which of its calls are open, and whether it is
//! silent. All of it is rebuilt from the log at start, so nothing here is evidence.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ledger::digest::Digest;
use ledger::entry::Workload;
use ledger::statement::{Hole, MAX_OPEN_NAMED, SessionLost};
use uuid::Uuid;

use crate::error::{Reason, Refusal};
use crate::submission::{Meaning, SESSION_AGE, Speaker, Submission, Submitted};

/// How many of a session's last entries are remembered by `seq`, so that a repeated delivery gets its first receipt again.
/// An older one is refused (`seq_too_old`). Twice the statements of a batch.
pub const RECENT: usize = 1024;

/// Most calls without outcome in a session; the next intent is refused (`too_many_open_calls`).
pub const MAX_OPEN: usize = 65_536;

/// Most holes in a session; the next one is refused (`too_many_holes`).
pub const MAX_HOLES: usize = 1024;

/// Most sessions that are remembered; the next one is refused (`too_many_sessions`).
pub const MAX_SESSIONS: usize = 100_000;

/// A session is lost when nothing came for this many heartbeats.
pub const LOST_AFTER_HEARTBEATS: u32 = 3;

/// Greatest time between heartbeats that a session may ask for; a greater one counts as this.
pub const MAX_HEARTBEAT: Duration = Duration::from_secs(300);

/// How long a closed session's last entries are remembered for repeated deliveries.
const REPEATS_AFTER_CLOSE: Duration = Duration::from_secs(600);

/// All sessions that could still speak, and those whose ids must not be used again.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: HashMap<Uuid, Session>,
    open: usize,
}

#[derive(Debug)]
struct Session {
    speaker: Speaker,
    next_seq: u64,
    last: Digest,
    heartbeat: Duration,
    heard: Instant,
    /// `seq` of each intent without outcome.
    calls: BTreeSet<u64>,
    /// What never came: an outcome may be for an intent that lies in one of these.
    holes: Vec<Hole>,
    /// (seq, index) of the last entries, ascending.
    recent: VecDeque<(u64, u64)>,
    closed: bool,
}

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

impl Sessions {
    /// What is to be done with each statement of a batch, without doing it.
    ///
    /// # Errors
    /// A [`Refusal`] for the first statement that does not fit: then nothing of the batch is recorded.
    pub fn plan(&self, submission: &Submission) -> Result<Vec<Step>, Refusal> {
        let known = self.sessions.get(&submission.session);
        if known.is_none() && self.sessions.len() >= MAX_SESSIONS {
            let message = format!("the recorder remembers at most {MAX_SESSIONS} sessions: try again later");
            return Err(Refusal::new(Reason::TooManySessions, message));
        }
        if known.is_some_and(|session| !same_speaker(&session.speaker, &submission.speaker)) {
            return Err(Refusal::new(Reason::ForeignSession, "the session belongs to another workload"));
        }
        let mut chain = Chain::of(submission.session, known);
        let step = |(number, statement)| {
            chain.step(known, statement).map_err(|refusal: Refusal| refusal.of_statement(number))
        };
        submission.statements.iter().enumerate().map(step).collect()
    }

    /// Records that a statement lies in the log at `index`.
    pub fn apply(&mut self, id: Uuid, speaker: &Speaker, statement: &Submitted, index: u64) {
        let Submitted { digest, seq, meaning, .. } = statement;
        self.advance(id, speaker, (*seq, *digest), *meaning, index);
    }

    /// The same, for an entry that recovery read.
    pub(crate) fn advance(
        &mut self,
        id: Uuid,
        speaker: &Speaker,
        (seq, digest): (u64, Digest),
        meaning: Meaning,
        index: u64,
    ) {
        let open = &mut self.open;
        let session = self.sessions.entry(id).or_insert_with(|| {
            *open += 1;
            Session::new(speaker.clone(), digest)
        });
        (session.next_seq, session.last, session.heard) = (seq + 1, digest, Instant::now());
        if session.recent.len() == RECENT {
            session.recent.pop_front();
        }
        session.recent.push_back((seq, index));
        match meaning {
            Meaning::Start(seconds) => {
                session.heartbeat = Duration::from_secs(seconds.max(1)).min(MAX_HEARTBEAT);
            }
            Meaning::Intent => {
                session.calls.insert(seq);
            }
            Meaning::Outcome(call) => {
                session.calls.remove(&call);
            }
            Meaning::End => self.close(id),
            Meaning::Other => {}
        }
    }

    /// Records that the log names a hole.
    pub(crate) fn note_hole(&mut self, hole: Hole) {
        if let Some(session) = self.sessions.get_mut(&hole.session) {
            session.holes.push(hole);
        }
    }

    /// The workload that the session belongs to, as its first token named it.
    #[must_use]
    pub fn owner(&self, id: Uuid) -> Option<&Workload> {
        self.sessions.get(&id).map(|session| &session.speaker.workload)
    }

    /// The sessions that were silent for too long, as the statements that close them.
    #[must_use]
    pub fn silent(&self, now: Instant) -> Vec<SessionLost> {
        let silent = self.sessions.iter().filter(|(_, session)| session.is_silent(now));
        silent.map(|(id, session)| session.lost(*id)).collect()
    }

    /// Nothing more is taken for this session.
    pub fn close(&mut self, id: Uuid) {
        if let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.closed) {
            session.closed = true;
            (session.calls, session.holes) = (BTreeSet::new(), Vec::new());
            self.open -= 1;
        }
    }

    /// Forgets closed sessions whose ids are too old to be accepted again, and the entries of those closed for a while.
    pub fn forget(&mut self, now: Timestamp) {
        self.sessions.retain(|id, session| !session.closed || !is_too_old(*id, now));
        let settled =
            |session: &&mut Session| session.closed && session.heard.elapsed() > REPEATS_AFTER_CLOSE;
        self.sessions.values_mut().filter(settled).for_each(|session| session.recent = VecDeque::new());
    }

    /// How many sessions are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Every silence begins now: while the recorder was away, nobody could be heard.
    pub fn hear_all(&mut self) {
        let now = Instant::now();
        self.sessions.values_mut().for_each(|session| session.heard = now);
    }
}

impl Session {
    fn new(speaker: Speaker, last: Digest) -> Self {
        Self {
            speaker,
            next_seq: 0,
            last,
            heartbeat: MAX_HEARTBEAT,
            heard: Instant::now(),
            calls: BTreeSet::new(),
            holes: Vec::new(),
            recent: VecDeque::new(),
            closed: false,
        }
    }

    fn is_silent(&self, now: Instant) -> bool {
        !self.closed && now.saturating_duration_since(self.heard) > self.heartbeat * LOST_AFTER_HEARTBEATS
    }

    fn lost(&self, id: Uuid) -> SessionLost {
        SessionLost {
            session: id,
            last_seq: self.next_seq.saturating_sub(1),
            open_intents: self.calls.iter().copied().take(MAX_OPEN_NAMED).collect(),
            open: self.calls.len() as u64,
        }
    }

    fn index_of(&self, seq: u64) -> Option<u64> {
        let place = self.recent.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        Some(self.recent[place].1)
    }
}

/// How far a session's chain is while a batch is planned.
struct Chain {
    id: Uuid,
    /// `None`: nothing is recorded of the session.
    last: Option<Digest>,
    next_seq: u64,
    closed: bool,
    /// Calls that the batch opens, and those that it ends.
    opened: HashSet<u64>,
    ended: HashSet<u64>,
    holes: Vec<Hole>,
}

impl Chain {
    fn of(id: Uuid, known: Option<&Session>) -> Self {
        Self {
            id,
            last: known.map(|session| session.last),
            next_seq: known.map_or(0, |session| session.next_seq),
            closed: known.is_some_and(|session| session.closed),
            opened: HashSet::new(),
            ended: HashSet::new(),
            holes: Vec::new(),
        }
    }

    fn step(&mut self, known: Option<&Session>, statement: &Submitted) -> Result<Step, Refusal> {
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
            Meaning::Outcome(call) => {
                let open =
                    self.opened.contains(&call) || known.is_some_and(|session| session.calls.contains(&call));
                let mut holes = known.into_iter().flat_map(|session| &session.holes).chain(&self.holes);
                let missing = holes.any(|hole| (hole.from..=hole.to).contains(&call));
                if missing || open && self.ended.insert(call) {
                    return Ok(());
                }
                let message = format!("call {call} is not an open call of the session");
                Err(Refusal::new(Reason::CallUnknown, message))
            }
            _ => Ok(()),
        }
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

/// A pod keeps its session when only one of its tokens has the node's name: newer clusters add it.
fn same_speaker(one: &Speaker, other: &Speaker) -> bool {
    let (a, b) = (&one.workload, &other.workload);
    one.role == other.role
        && (&a.cluster, &a.namespace, &a.service_account, &a.pod, &a.pod_uid)
            == (&b.cluster, &b.namespace, &b.service_account, &b.pod, &b.pod_uid)
        && (a.node.is_none() || b.node.is_none() || a.node == b.node)
}

fn is_too_old(id: Uuid, now: Timestamp) -> bool {
    let begun = id.get_timestamp().and_then(|begun| i64::try_from(begun.to_unix().0).ok());
    begun.is_none_or(|begun| now.as_second() - begun > SESSION_AGE)
}
