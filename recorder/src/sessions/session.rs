//! What is remembered of one session, and what its id says of its age.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ledger::digest::Digest;
use ledger::statement::{Hole, MAX_OPEN_NAMED, SessionLost};
use uuid::Uuid;

use crate::error::{Reason, Refusal};
use crate::submission::Speaker;

/// How many of a session's last entries are remembered by `seq`, so that a repeated delivery gets its first receipt again.
/// An older one is refused (`seq_too_old`). Twice the statements of a batch.
pub const RECENT: usize = 1024;

/// How old and how far ahead a session's id may be when the session begins, in seconds (`bad_session`). Ids are remembered
/// for longer than this after their session's end, so that none is used twice. How long a session then lives has no bound.
pub const SESSION_AGE: i64 = 7 * 24 * 3600;
pub(super) const SESSION_AHEAD: i64 = 3600;

/// A session is lost when nothing came for this many heartbeats.
pub const LOST_AFTER_HEARTBEATS: u32 = 3;

/// Greatest time between heartbeats that a session may ask for; a greater one counts as this.
pub const MAX_HEARTBEAT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Session {
    pub(super) speaker: Speaker,
    pub(super) next_seq: u64,
    pub(super) last: Digest,
    pub(super) heartbeat: Duration,
    pub(super) heard: Instant,
    /// `seq` of each intent without outcome.
    pub(super) calls: BTreeSet<u64>,
    /// What never came: an outcome may be for an intent that lies in one of these.
    pub(super) holes: Vec<Hole>,
    /// (seq, index) of the last entries, ascending.
    pub(super) recent: VecDeque<(u64, u64)>,
    /// When it ended or was lost, by the log's time.
    pub(super) closed: Option<Timestamp>,
}

impl Session {
    pub(super) fn new(speaker: Speaker, last: Digest) -> Self {
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

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.closed.is_none()
            && now.saturating_duration_since(self.heard) > self.heartbeat * LOST_AFTER_HEARTBEATS
    }

    pub(super) fn lost(&self, id: Uuid) -> SessionLost {
        SessionLost {
            session: id,
            last_seq: self.next_seq.saturating_sub(1),
            open_intents: self.calls.iter().copied().take(MAX_OPEN_NAMED).collect(),
            open: self.calls.len() as u64,
        }
    }

    pub(super) fn index_of(&self, seq: u64) -> Option<u64> {
        let place = self.recent.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        Some(self.recent[place].1)
    }
}

/// A pod keeps its session when only one of its tokens has the node's name: newer clusters add it.
pub(super) fn same_speaker(one: &Speaker, other: &Speaker) -> bool {
    let (a, b) = (&one.workload, &other.workload);
    one.role == other.role
        && (&a.cluster, &a.namespace, &a.service_account, &a.pod, &a.pod_uid)
            == (&b.cluster, &b.namespace, &b.service_account, &b.pod, &b.pod_uid)
        && (a.node.is_none() || b.node.is_none() || a.node == b.node)
}

/// A session begins at the time that its id says: one that has ended and is forgotten can't begin again.
pub(super) fn check_age(id: Uuid, now: Timestamp) -> Result<(), Refusal> {
    match age(id, now) {
        Some(age) if (-SESSION_AHEAD..=SESSION_AGE).contains(&age) => Ok(()),
        _ => Err(Refusal::new(
            Reason::BadSession,
            "the session's id is from another time than now: check the clock, or begin a new session",
        )),
    }
}

pub(super) fn is_too_old(id: Uuid, now: Timestamp) -> bool {
    age(id, now).is_none_or(|age| age > SESSION_AGE)
}

/// Seconds since the id was made; `None` when it does not say.
fn age(id: Uuid, now: Timestamp) -> Option<i64> {
    let begun = id.get_timestamp().and_then(|begun| i64::try_from(begun.to_unix().0).ok())?;
    Some(now.as_second() - begun)
}
