//! Replay: what agents did, told so that a person likes to read it. Sessions and calls come from a recorder's index
//! ([`recorded`]) or from a verified bundle ([`bundled`]); [`chains`] joins the sessions of one pod, [`steps`] the calls of one job,
//! [`runs`] the steps of one run. All of that is pure; [`text`] says it.

pub(crate) mod bundled;
pub(crate) mod chains;
mod heard;
pub(crate) mod recorded;
mod runs;
mod steps;
pub(crate) mod text;

use std::collections::BTreeMap;

use jiff::Timestamp;
use ledger::call::Progress;
use ledger::search::Call;
use ledger::search::sessions::Session;
use serde::Serialize;
use uuid::Uuid;

pub(crate) use self::runs::How;

/// Most calls in one replay: all of them are held. More is refused: narrow it, by time or session.
pub(crate) const MAX_CALLS: usize = 100_000;

/// Most sessions in one replay. More is refused.
pub(crate) const MAX_SESSIONS: usize = 1_000;

/// Which sessions, and which of their calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) session: Option<Uuid>,
    /// Also the sessions of the same pod that began after it.
    pub(crate) successors: bool,
    pub(crate) agent: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) connection: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

/// Sessions and calls in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Entries of the log that were looked at.
    pub(crate) size: u64,
    /// The index is being rebuilt to this size: calls may be missing here that the log has.
    pub(crate) rebuilding_to: Option<u64>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) calls: Vec<Call>,
    /// By the call's index: the last that was said of it while it went on.
    pub(crate) going: BTreeMap<u64, Going>,
}

/// A `call.progress`: how far its call had come.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Going {
    /// Its entry.
    pub(crate) index: u64,
    pub(crate) received: Timestamp,
    #[serde(flatten)]
    pub(crate) progress: Progress,
}

impl Wanted {
    /// Is this session asked for, by what it says of itself?
    fn fits(&self, session: &Session) -> bool {
        let subject = &session.subject;
        let agent = |agent: &String| match agent.strip_suffix('/') {
            Some(namespace) => subject.namespace == namespace,
            None => *agent == format!("{}/{}", subject.namespace, subject.service_account),
        };
        let connection = session.connection.as_ref().map(|c| format!("{}/{}", c.namespace, c.name));
        self.agent.as_ref().is_none_or(agent)
            && self.pod.as_ref().is_none_or(|pod| *pod == subject.pod)
            && self.connection.as_ref().is_none_or(|name| connection.as_ref() == Some(name))
            && self.since.is_none_or(|since| session.heard >= since)
            && self.until.is_none_or(|until| session.started < until)
    }

    /// The sessions asked for, of all that there are: one, one and what followed it in its pod, or all that fit.
    fn choose(&self, mut sessions: Vec<Session>) -> Vec<Session> {
        sessions.retain(|session| self.fits(session));
        let Some(id) = self.session else { return sessions };
        let Some(first) = sessions.iter().find(|session| session.session == id).cloned() else {
            return Vec::new();
        };
        let follows = |session: &Session| {
            self.successors && chains::same_pod(session, &first) && session.index > first.index
        };
        sessions.retain(|session| session.session == id || follows(session));
        sessions
    }

    /// Is a call of this time asked for?
    fn holds(&self, call: &Call) -> bool {
        self.since.is_none_or(|since| call.received >= since)
            && self.until.is_none_or(|until| call.received < until)
    }
}
