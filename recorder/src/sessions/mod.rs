//! Sessions: which workload each belongs to, how far its chain has come, which of its calls are open, and whether it is
//! silent. All of it is rebuilt from the log at start, so nothing here is evidence.
//!
//! [`chain`] decides what a batch's statements are to their session, and changes nothing; [`session`] is what is remembered
//! of one; here they are kept, closed and forgotten.

mod chain;
mod session;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use ledger::digest::Digest;
use ledger::entry::Workload;
use ledger::statement::{Hole, SessionLost};
use uuid::Uuid;

pub use self::chain::{MAX_HOLES, MAX_OPEN, Step};
pub use self::session::{LOST_AFTER_HEARTBEATS, MAX_HEARTBEAT, RECENT, SESSION_AGE};

use self::chain::Chain;
use self::session::{Session, is_too_old, same_speaker};
use crate::error::{Reason, Refusal};
use crate::submission::{Meaning, Speaker, Submission, Submitted, pod_of};

/// Most sessions that are remembered; the next one is refused (`too_many_sessions`).
pub const MAX_SESSIONS: usize = 100_000;

/// Most sessions of one workload (a pod) that are remembered, those included that have ended; the next one is refused
/// (`too_many_of_workload`). Ids are remembered for a week: a sidecar that is started again every five minutes, as the kubelet
/// does with one that crashes, begins 2,016 in that time.
pub const MAX_SESSIONS_OF_WORKLOAD: usize = 2_500;

/// How long a closed session's last entries are remembered for repeated deliveries.
const REPEATS_AFTER_CLOSE: SignedDuration = SignedDuration::from_mins(10);

/// All sessions that could still speak, and those whose ids must not be used again.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: HashMap<Uuid, Session>,
    /// How many of them each pod has.
    of_workload: HashMap<Workload, usize>,
    open: usize,
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
        if known.is_none() {
            self.check_count(&submission.speaker.workload)?;
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

    /// Is there a place for one more session of this workload?
    fn check_count(&self, workload: &Workload) -> Result<(), Refusal> {
        let own = self.of_workload.get(&pod_of(workload)).copied().unwrap_or_default();
        if own >= MAX_SESSIONS_OF_WORKLOAD {
            let message = format!(
                "the recorder remembers at most {MAX_SESSIONS_OF_WORKLOAD} sessions of a pod, for a week: replace the pod"
            );
            return Err(Refusal::new(Reason::TooManyOfWorkload, message));
        }
        if self.sessions.len() >= MAX_SESSIONS {
            let message = format!("the recorder remembers at most {MAX_SESSIONS} sessions: try again later");
            return Err(Refusal::new(Reason::TooManySessions, message));
        }
        Ok(())
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
        let (open, of_workload) = (&mut self.open, &mut self.of_workload);
        let session = self.sessions.entry(id).or_insert_with(|| {
            *open += 1;
            *of_workload.entry(pod_of(&speaker.workload)).or_default() += 1;
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
            Meaning::Progress(_) | Meaning::Other => {}
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
        let of_workload = &mut self.of_workload;
        self.sessions.retain(|id, session| {
            let forgotten = settled(session) && is_too_old(*id, now);
            if forgotten {
                leave(of_workload, &session.speaker.workload);
            }
            !forgotten
        });
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

/// One session less of this workload.
fn leave(of_workload: &mut HashMap<Workload, usize>, workload: &Workload) {
    if let Entry::Occupied(mut count) = of_workload.entry(pod_of(workload)) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}
