//! Sessions: which workload each belongs to, how far its chain has come, which of its calls are open, and whether it is
//! silent. All of it is rebuilt from the log at start, so nothing here is evidence.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use ledger::digest::Digest;
use ledger::entry::Workload;
use ledger::statement::{Hole, MAX_OPEN_NAMED, SessionLost};
use uuid::Uuid;

use crate::error::{Reason, Refusal};
use crate::submission::{Meaning, Speaker, Submission, Submitted};

/// How many of a session's last entries are remembered by `seq`, so that a repeated delivery gets its first receipt again.
/// An older one is refused (`seq_too_old`). Twice the statements of a batch.
pub const RECENT: usize = 1024;

/// Most calls without outcome in a session; the next intent is refused (`too_many_open_calls`).
pub const MAX_OPEN: usize = 65_536;

/// Most holes in a session; the next one is refused (`too_many_holes`).
pub const MAX_HOLES: usize = 1024;

/// Most sessions that are remembered; the next one is refused (`too_many_sessions`).
pub const MAX_SESSIONS: usize = 100_000;

/// How old and how far ahead a session's id may be when the session begins, in seconds (`bad_session`). Ids are remembered
/// for longer than this after their session's end, so that none is used twice. How long a session then lives has no bound.
pub const SESSION_AGE: i64 = 7 * 24 * 3600;
const SESSION_AHEAD: i64 = 3600;

/// A session is lost when nothing came for this many heartbeats.
pub const LOST_AFTER_HEARTBEATS: u32 = 3;

/// Greatest time between heartbeats that a session may ask for; a greater one counts as this.
pub const MAX_HEARTBEAT: Duration = Duration::from_secs(300);

/// How long a closed session's last entries are remembered for repeated deliveries.
const REPEATS_AFTER_CLOSE: SignedDuration = SignedDuration::from_mins(10);

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
    /// When it ended or was lost, by the log's time.
    closed: Option<Timestamp>,
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

/// Where an entry lies, and when it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index.
    pub index: u64,
    /// By the log's time, which never runs backwards.
    pub received: Timestamp,
}

impl Sessions {
    /// What is to be done with each statement of a batch, without doing it. `now`, by the clock and not the log, decides
    /// whether a session may begin; one that has begun may speak for as long as it lives.
    ///
    /// # Errors
    /// A [`Refusal`] for the first statement that does not fit: then nothing of the batch is recorded.
    pub fn plan(&self, submission: &Submission, now: Timestamp) -> Result<Vec<Step>, Refusal> {
        let known = self.sessions.get(&submission.session);
        if known.is_none() && self.sessions.len() >= MAX_SESSIONS {
            let message = format!("the recorder remembers at most {MAX_SESSIONS} sessions: try again later");
            return Err(Refusal::new(Reason::TooManySessions, message));
        }
        if known.is_some_and(|session| !same_speaker(&session.speaker, &submission.speaker)) {
            return Err(Refusal::new(Reason::ForeignSession, "the session belongs to another workload"));
        }
        let mut chain = Chain::of(submission.session, known, now);
        let step = |(number, statement)| {
            chain.step(known, statement).map_err(|refusal: Refusal| refusal.of_statement(number))
        };
        submission.statements.iter().enumerate().map(step).collect()
    }

    /// Records that a statement lies in the log.
    pub fn apply(&mut self, id: Uuid, speaker: &Speaker, statement: &Submitted, place: Place) {
        let Submitted { digest, seq, meaning, .. } = statement;
        self.advance(id, speaker, (*seq, *digest), *meaning, place);
    }

    /// The same, for an entry that recovery read.
    pub(crate) fn advance(
        &mut self,
        id: Uuid,
        speaker: &Speaker,
        (seq, digest): (u64, Digest),
        meaning: Meaning,
        Place { index, received }: Place,
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
            Meaning::End => self.close(id, received),
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
    pub fn close(&mut self, id: Uuid, at: Timestamp) {
        if let Some(session) = self.sessions.get_mut(&id).filter(|session| session.closed.is_none()) {
            session.closed = Some(at);
            (session.calls, session.holes) = (BTreeSet::new(), Vec::new());
            self.open -= 1;
        }
    }

    /// Forgets what nobody will ask for: of sessions that have been closed for a while the last entries, and all of those
    /// whose ids are too old to begin again. An open session is never forgotten, however old it is.
    pub fn forget(&mut self, now: Timestamp) {
        let settled =
            |session: &Session| session.closed.is_some_and(|at| now.duration_since(at) > REPEATS_AFTER_CLOSE);
        self.sessions.retain(|id, session| !(settled(session) && is_too_old(*id, now)));
        let settled = self.sessions.values_mut().filter(|session| settled(session));
        settled.for_each(|session| session.recent = VecDeque::new());
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
            closed: None,
        }
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.closed.is_none()
            && now.saturating_duration_since(self.heard) > self.heartbeat * LOST_AFTER_HEARTBEATS
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
    now: Timestamp,
    /// Calls that the batch opens, and those that it ends.
    opened: HashSet<u64>,
    ended: HashSet<u64>,
    holes: Vec<Hole>,
}

impl Chain {
    fn of(id: Uuid, known: Option<&Session>, now: Timestamp) -> Self {
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

/// A session begins at the time that its id says: one that has ended and is forgotten can't begin again.
fn check_age(id: Uuid, now: Timestamp) -> Result<(), Refusal> {
    match age(id, now) {
        Some(age) if (-SESSION_AHEAD..=SESSION_AGE).contains(&age) => Ok(()),
        _ => Err(Refusal::new(
            Reason::BadSession,
            "the session's id is from another time than now: check the clock, or begin a new session",
        )),
    }
}

fn is_too_old(id: Uuid, now: Timestamp) -> bool {
    age(id, now).is_none_or(|age| age > SESSION_AGE)
}

/// Seconds since the id was made; `None` when it does not say.
fn age(id: Uuid, now: Timestamp) -> Option<i64> {
    let begun = id.get_timestamp().and_then(|begun| i64::try_from(begun.to_unix().0).ok())?;
    Some(now.as_second() - begun)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ledger::entry::Role;

    const DAY: i64 = 24 * 3600;

    fn speaker() -> Speaker {
        let workload = Workload {
            cluster: "test".into(),
            namespace: "agents".into(),
            service_account: "billing".into(),
            pod: "billing-0".into(),
            pod_uid: "u".into(),
            node: None,
        };
        Speaker { workload, role: Role::Sidecar }
    }

    fn statement(seq: u64, meaning: Meaning) -> Submitted {
        let digest = |seq: u64| Digest::of(&seq.to_be_bytes());
        let prev = seq.checked_sub(1).map(digest);
        Submitted { bytes: Vec::new(), digest: digest(seq), seq, prev, meaning }
    }

    fn batch(session: Uuid, statements: Vec<Submitted>) -> Submission {
        Submission { speaker: speaker(), session, statements, blobs: HashMap::new(), elsewhere: Vec::new() }
    }

    fn id(now: Timestamp, age: i64) -> Uuid {
        let begun = u64::try_from(now.as_second() - age).unwrap();
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, begun, 0))
    }

    /// What recovery makes of a log with these statements.
    fn known(session: Uuid, statements: &[Submitted], received: Timestamp) -> Sessions {
        let mut sessions = Sessions::default();
        for (index, statement) in (0..).zip(statements) {
            sessions.apply(session, &speaker(), statement, Place { index, received });
        }
        sessions.hear_all();
        sessions
    }

    fn reason(sessions: &Sessions, batch: &Submission, now: Timestamp) -> Option<Reason> {
        sessions.plan(batch, now).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn only_a_beginning_has_an_age() {
        let now = Timestamp::now();
        let sessions = Sessions::default();
        for (age, refused) in [
            (0, None),
            (SESSION_AGE, None),
            (-SESSION_AHEAD, None),
            (SESSION_AGE + 1, Some(Reason::BadSession)),
            (30 * DAY, Some(Reason::BadSession)),
            (-SESSION_AHEAD - 1, Some(Reason::BadSession)),
        ] {
            let begins = batch(id(now, age), vec![statement(0, Meaning::Start(10))]);
            assert_eq!(reason(&sessions, &begins, now), refused, "{age} s");
            let goes_on = batch(id(now, age), vec![statement(1, Meaning::Other)]);
            assert_eq!(reason(&sessions, &goes_on, now), Some(Reason::SessionUnknown), "{age} s");
        }
    }

    #[test]
    fn an_open_session_is_never_too_old() {
        let now = Timestamp::now();
        let old = id(now, 30 * DAY);
        let said = [statement(0, Meaning::Start(10)), statement(1, Meaning::Intent)];
        let mut sessions = known(old, &said, now - SignedDuration::from_secs(29 * DAY));
        sessions.forget(now);
        let next = vec![statement(1, Meaning::Intent), statement(2, Meaning::Outcome(1))];
        assert_eq!(sessions.plan(&batch(old, next), now).unwrap(), [Step::Repeat(1), Step::Next]);
        assert_eq!(sessions.open(), 1);
    }

    #[test]
    fn an_old_session_that_has_just_ended_is_remembered_for_repeats() {
        let now = Timestamp::now();
        let old = id(now, 30 * DAY);
        let said = || vec![statement(0, Meaning::Start(10)), statement(1, Meaning::End)];
        let mut sessions = known(old, &said(), now);
        sessions.forget(now + REPEATS_AFTER_CLOSE);
        assert_eq!(sessions.plan(&batch(old, said()), now).unwrap(), [Step::Repeat(0), Step::Repeat(1)]);
        assert_eq!(
            reason(&sessions, &batch(old, vec![statement(2, Meaning::Other)]), now),
            Some(Reason::SessionClosed)
        );
        sessions.forget(now + REPEATS_AFTER_CLOSE + SignedDuration::from_secs(1));
        assert_eq!(reason(&sessions, &batch(old, said()), now), Some(Reason::BadSession), "it is forgotten");
        assert_eq!(sessions.sessions.len(), 0);
    }

    #[test]
    fn an_id_is_remembered_until_it_is_too_old_to_begin() {
        let now = Timestamp::now();
        let young = id(now, 0);
        let said = || vec![statement(0, Meaning::Start(10)), statement(1, Meaning::End)];
        let mut sessions = known(young, &said(), now);
        let later = now + SignedDuration::from_secs(SESSION_AGE - 1);
        sessions.forget(later);
        assert_eq!(reason(&sessions, &batch(young, said()), later), Some(Reason::SeqTooOld), "not again");
    }
}
