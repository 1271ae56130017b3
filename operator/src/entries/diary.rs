//! What is to be entered, in order, each once. Controllers tell it what they see, at each look; it knows what it has heard before, and what
//! the record has. Replicas that don't lead keep none.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use connection::BigQueryConnection;
use deliver::{NotRecorded, Notice, Trouble};
use jiff::Timestamp;
use kube::ResourceExt as _;
use ledger::operator::{CoverageState, Gone, PodCoverage};
use ledger::search::cluster::{ConnectionEntry, CoverageEntry};
use ledger::statement::{Body, Connection};
use tokio::sync::Notify;

use super::acceptance;
use crate::metrics::Metrics;

/// Most entries that wait for the recorder. What comes then is not noted, and looked at again: of a pod that changes often its last
/// state is entered when there is room (`bqwitness_operator_failures_total{what="entries"}`).
pub const MAX_WAITING: usize = 16_384;

/// UIDs of deleted connections that are remembered, against a look that began before.
const MAX_DEPARTED: usize = 16_384;

/// The category of a notice that is too large for an entry.
const TOO_LARGE: &str = "statement_too_large";

/// The operator's own way to the recorder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was heard yet.
    #[default]
    Unknown,
    /// It takes entries.
    Taking,
    /// It does not.
    Trouble(Trouble),
}

/// A selected pod, as a controller saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The connection that selects it.
    pub connection: Connection,
    /// The pod and its state; `since` is now.
    pub coverage: PodCoverage,
}

/// What is to be entered. Clones share it.
#[derive(Clone)]
pub struct Diary {
    inner: Arc<Mutex<Inner>>,
    filled: Arc<Notify>,
    metrics: Metrics,
}

#[derive(Default)]
struct Inner {
    leading: bool,
    /// What is on record was asked.
    known: bool,
    waiting: VecDeque<Notice>,
    /// By UID: those that are there, with their last generation that was noted; and those that are gone and still finalized.
    connections: HashMap<String, Known>,
    /// By UID: the newest generation on record.
    recorded: HashMap<String, u64>,
    /// By the pod's UID: what was noted last, until it has ended.
    pods: HashMap<String, Seen>,
    /// UIDs of connections that are gone: a look that began before must not bring them back.
    departed: HashSet<String>,
    standing: Standing,
}

struct Known {
    last: Connection,
    gone: bool,
}

impl Inner {
    /// Notes something, if there is room.
    fn note(&mut self, connection: Connection, body: Body) -> bool {
        let room = self.waiting.len() < MAX_WAITING;
        if room {
            self.waiting.push_back(Notice { connection, body });
        }
        room
    }

    fn note_deleted(&mut self, uid: &str, seen: bool) -> bool {
        let Some(known) = self.connections.get(uid).filter(|known| !known.gone) else { return true };
        let deleted = Body { gone: Some(Gone { seen }), ..Body::default() };
        self.note(known.last.clone(), deleted)
    }

    /// Nothing more is known of a connection, nor to be.
    fn depart(&mut self, uid: &str) {
        self.connections.remove(uid);
        if self.departed.len() >= MAX_DEPARTED {
            self.departed.clear(); // looks are short: those of long ago are over
        }
        self.departed.insert(uid.to_owned());
    }

    fn note_coverage(&mut self, seen: &Seen) -> bool {
        let body = Body { coverage: Some(seen.coverage.clone()), ..Body::default() };
        self.note(seen.connection.clone(), body)
    }
}

impl Diary {
    /// An empty one, of a replica that does not lead.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { inner: Arc::default(), filled: Arc::default(), metrics }
    }

    /// From now on this replica's words count.
    pub fn lead(&self) {
        self.inner().leading = true;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner) // what is noted and what is known change one after the other
    }

    /// Looks at what the controllers know, and tells who waits.
    fn tell(&self, what: impl FnOnce(&mut Inner) -> bool) {
        let mut inner = self.inner();
        if !inner.leading {
            return;
        }
        if !what(&mut inner) {
            self.metrics.failed("entries");
            tracing::warn!(
                waiting = inner.waiting.len(),
                "entries wait for the recorder, and there is no room for more"
            );
        }
        self.count(&inner);
        if !inner.waiting.is_empty() {
            self.filled.notify_one();
        }
    }

    fn count(&self, inner: &Inner) {
        self.metrics.entries_waiting.set(i64::try_from(inner.waiting.len()).unwrap_or(i64::MAX));
    }

    /// A connection is stored like this.
    pub fn connection(&self, connection: &BigQueryConnection) {
        self.tell(|inner| {
            let uid = connection.uid().unwrap_or_default();
            if inner.departed.contains(&uid) {
                return true;
            }
            for notice in acceptance::notices(connection) {
                let known = inner.connections.get(&uid).map_or(0, |known| known.last.generation);
                if notice.connection.generation <= known {
                    continue;
                }
                let last = notice.connection.clone();
                if !inner.note(notice.connection, notice.body) {
                    return false;
                }
                inner.connections.insert(uid.clone(), Known { last, gone: false });
            }
            let leaving = connection.metadata.deletion_timestamp.is_some();
            if leaving && !inner.note_deleted(&uid, true) {
                return false;
            }
            if let Some(known) = inner.connections.get_mut(&uid).filter(|_| leaving) {
                known.gone = true;
            }
            true
        });
    }

    /// A connection was seen to go; this is what it was at last.
    pub fn connection_gone(&self, connection: &BigQueryConnection) {
        self.connection(connection);
        self.tell(|inner| {
            let uid = connection.uid().unwrap_or_default();
            let noted = inner.note_deleted(&uid, true);
            if noted {
                inner.depart(&uid);
            }
            noted
        });
    }

    /// In this namespace there are these connections, by UID, and no others.
    pub fn connections_left(&self, namespace: &str, there: &BTreeSet<String>) {
        self.tell(|inner| {
            let missing: Vec<_> = inner
                .connections
                .iter()
                .filter(|(uid, known)| known.last.namespace == namespace && !there.contains(*uid))
                .map(|(uid, _)| uid.clone())
                .collect();
            missing.into_iter().all(|uid| {
                let noted = inner.note_deleted(&uid, false);
                if noted {
                    inner.depart(&uid);
                }
                noted
            })
        });
    }

    /// In this namespace these pods are selected, and no others; those of `others` go on unselected.
    pub fn pods(&self, namespace: &str, selected: Vec<Seen>, others: &HashSet<String>) {
        self.tell(|inner| {
            let there: HashSet<_> = selected.iter().map(|seen| seen.coverage.pod_uid.clone()).collect();
            let ended: Vec<_> = inner
                .pods
                .iter()
                .filter(|(uid, seen)| seen.coverage.namespace == namespace && !there.contains(*uid))
                .map(|(uid, seen)| (uid.clone(), seen.clone()))
                .collect();
            for (uid, mut seen) in ended {
                let reason = others.contains(&uid).then(|| "unselected".to_owned());
                let since = now();
                seen.coverage = PodCoverage { state: CoverageState::Ended, reason, since, ..seen.coverage };
                if !inner.note_coverage(&seen) {
                    return false;
                }
                inner.pods.remove(&uid);
            }
            selected.into_iter().all(|seen| {
                let uid = seen.coverage.pod_uid.clone();
                let same = inner.pods.get(&uid).is_some_and(|before| is_same(before, &seen));
                if same {
                    return true;
                }
                let noted = inner.note_coverage(&seen);
                if noted {
                    inner.pods.insert(uid, seen);
                }
                noted
            })
        });
    }

    /// What the record has: the last entry of each connection and of each pod that an operator before this one left. What was noted
    /// meanwhile and is on record already is not entered again. Gives the namespaces to look at anew.
    pub fn learn(&self, connections: Vec<ConnectionEntry>, pods: Vec<CoverageEntry>) -> BTreeSet<String> {
        let mut inner = self.inner();
        inner.known = true;
        let mut namespaces = BTreeSet::new();
        for entry in connections {
            let Connection { uid, generation, .. } = entry.connection.clone();
            namespaces.insert(entry.connection.namespace.clone());
            inner.waiting.retain(|notice| {
                notice.body.accepted.is_none()
                    || notice.connection.uid != uid
                    || notice.connection.generation > generation
            });
            inner.recorded.insert(uid.clone(), generation);
            let mentioned = inner
                .waiting
                .iter()
                .any(|notice| notice.body.coverage.is_none() && notice.connection.uid == uid);
            if !mentioned {
                inner.connections.entry(uid).or_insert(Known { last: entry.connection, gone: false });
            }
        }
        for entry in pods {
            let Some(connection) = entry.connection else { continue };
            namespaces.insert(connection.namespace.clone());
            let seen = Seen { connection, coverage: entry.coverage };
            let uid = seen.coverage.pod_uid.clone();
            let of_pod =
                |notice: &Notice| notice.body.coverage.as_ref().is_some_and(|one| one.pod_uid == uid);
            match inner.waiting.iter().position(of_pod) {
                Some(first) => {
                    let notice = &inner.waiting[first];
                    let noted = notice
                        .body
                        .coverage
                        .clone()
                        .map(|coverage| Seen { connection: notice.connection.clone(), coverage });
                    if noted.is_some_and(|noted| is_same(&noted, &seen)) {
                        inner.waiting.remove(first);
                    }
                }
                None => {
                    inner.pods.entry(uid).or_insert(seen);
                }
            }
        }
        self.count(&inner);
        namespaces
    }

    /// Waits until there is something to enter: the first of it, at most so many.
    pub async fn first(&self, most: usize) -> Vec<Notice> {
        loop {
            let first: Vec<_> = self.inner().waiting.iter().take(most).cloned().collect();
            if !first.is_empty() {
                return first;
            }
            self.filled.notified().await;
        }
    }

    /// The first of what waits was said, with these results. What was not recorded stays, in order. Gives the namespaces of the
    /// connections of which more is on record now.
    pub fn said(&self, results: &[Result<(), NotRecorded>]) -> BTreeSet<String> {
        let mut inner = self.inner();
        let mut namespaces = BTreeSet::new();
        for result in results {
            match result {
                Ok(()) => {}
                Err(error) if error.category() == TOO_LARGE => {
                    self.metrics.failed("entry_too_large");
                    tracing::error!(category = error.category(), %error, "something can't be entered");
                }
                Err(_) => break,
            }
            let Some(notice) = inner.waiting.pop_front() else { break };
            self.metrics.entered(notice.body.kind().unwrap_or_default());
            if notice.body.accepted.is_some() {
                namespaces.insert(notice.connection.namespace.clone());
                inner.recorded.insert(notice.connection.uid, notice.connection.generation);
            } else if notice.body.gone.is_some() {
                inner.recorded.remove(&notice.connection.uid);
            }
        }
        self.count(&inner);
        namespaces
    }

    /// Where something is known that may go.
    #[must_use]
    pub fn namespaces(&self) -> BTreeSet<String> {
        let inner = self.inner();
        let connections = inner.connections.values().map(|known| known.last.namespace.clone());
        connections.chain(inner.pods.values().map(|seen| seen.coverage.namespace.clone())).collect()
    }

    /// Is it known what is on record?
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.inner().known
    }

    /// The newest generation of a connection that is on record.
    #[must_use]
    pub fn recorded(&self, uid: &str) -> Option<u64> {
        self.inner().recorded.get(uid).copied()
    }

    /// The operator's way to the recorder, as it is now; true when it was another.
    pub fn stands(&self, standing: Standing) -> bool {
        let mut inner = self.inner();
        self.metrics.recorder_reachable.set(i64::from(standing == Standing::Taking));
        let other = inner.standing != standing;
        inner.standing = standing;
        other
    }

    /// How the operator's way to the recorder is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.inner().standing.clone()
    }
}

/// Is nothing new in what was seen?
fn is_same(before: &Seen, now: &Seen) -> bool {
    let of = |seen: &Seen| (seen.connection.uid.clone(), seen.coverage.state, seen.coverage.reason.clone());
    of(before) == of(now)
}

/// The clock, to the microsecond, as statements have it.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

#[cfg(test)]
#[path = "diary_tests.rs"]
mod tests;
