//! Asks the index.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ledger::entry::{Entry, Envelope, Subject};
use ledger::search::cluster::{ConnectionAnswer, ConnectionQuery, CoverageAnswer, CoverageQuery};
use ledger::search::sessions::{SessionAnswer, SessionQuery};
use ledger::search::{Answer, MAX_WAIT_SECONDS, Query};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::cluster::Whose;
use super::render::Leaves;
use super::{IndexError, Progress, cluster, query, schema, sessions};
use crate::authz::Scope;
use crate::error::{Reason, Refusal};
use crate::store::reader::LogReader;

/// Searches at one time; others wait.
const SEARCHES: usize = 4;

/// A search that takes longer is ended (`search_timeout`).
pub const SEARCH_LIMIT: Duration = Duration::from_secs(10);

/// Answers questions, a few at a time.
pub struct Searcher {
    data: PathBuf,
    log: LogReader,
    progress: watch::Receiver<Progress>,
    /// True when the recorder ends: nobody waits any more.
    ending: watch::Receiver<bool>,
    idle: std::sync::Arc<Mutex<Vec<Connection>>>,
    turns: Semaphore,
}

impl Searcher {
    /// A searcher of the index in this data directory. When `ending` becomes true, whoever waits for the index is answered with what
    /// there is: a tail that waits for calls does not hold up the recorder's end.
    #[must_use]
    pub fn new(
        data: PathBuf,
        log: LogReader,
        progress: watch::Receiver<Progress>,
        ending: watch::Receiver<bool>,
    ) -> Self {
        Self { data, log, progress, ending, idle: std::sync::Arc::default(), turns: Semaphore::new(SEARCHES) }
    }

    /// Answers a question about calls, with those that the reader may see.
    ///
    /// # Errors
    /// [`Reason::BadQuery`], [`Reason::SearchTimeout`], [`Reason::IndexFailed`]
    pub async fn search(&self, query: Query, scope: Scope) -> Result<Answer, Refusal> {
        let mut answer = self.ask(query.wait, move |index, log| calls(index, log, &query, &scope)).await?;
        answer.rebuilding_to = self.rebuilding_to(answer.size);
        Ok(answer)
    }

    /// Answers a question about sessions, with those that the reader may see.
    ///
    /// # Errors
    /// [`Reason::BadQuery`], [`Reason::SearchTimeout`], [`Reason::IndexFailed`]
    pub async fn sessions(&self, query: SessionQuery, scope: Scope) -> Result<SessionAnswer, Refusal> {
        let mut answer =
            self.ask(query.wait, move |index, log| found_sessions(index, log, &query, &scope)).await?;
        answer.rebuilding_to = self.rebuilding_to(answer.size);
        Ok(answer)
    }

    /// Namespaces of this cluster where sidecars have spoken, and of which operators have: at most `limit` namespaces.
    ///
    /// # Errors
    /// [`Reason::SearchTimeout`], [`Reason::IndexFailed`]
    pub async fn namespaces(&self, cluster: String, limit: usize) -> Result<Vec<String>, Refusal> {
        self.ask(None, move |index, _| sessions::namespaces(index, &cluster, limit)).await
    }

    /// Which of these sessions the reader may see. One that the index has not reached is none of them.
    ///
    /// # Errors
    /// [`Reason::SearchTimeout`], [`Reason::IndexFailed`]
    pub async fn visible(&self, sessions: Vec<Uuid>, scope: Scope) -> Result<HashSet<Uuid>, Refusal> {
        if sessions.is_empty() {
            return Ok(HashSet::new());
        }
        self.ask(None, move |index, log| {
            let mut leaves = Leaves::new(log);
            let mut visible = HashSet::new();
            for (session, start) in sessions::starts(index, &sessions)? {
                let leaf = leaves.leaf(start)?;
                let entry =
                    Entry::parse(&leaf).map_err(|error| IndexError::Entry(start, error.to_string()))?;
                let Envelope { subject, role, .. } = entry.envelope;
                if matches!(subject, Subject::Workload(workload) if scope.holds(role, &workload)) {
                    visible.insert(session);
                }
            }
            Ok(visible)
        })
        .await
    }

    /// Answers a question about connections.
    ///
    /// # Errors
    /// [`Reason::SearchTimeout`], [`Reason::IndexFailed`]
    pub async fn connections(
        &self,
        query: ConnectionQuery,
        whose: Whose,
    ) -> Result<ConnectionAnswer, Refusal> {
        let wait = query.wait;
        let look = move |index: &Connection, log: &LogReader| {
            let (size, page) = paged(index, |index| cluster::find_connections(index, &query, &whose))?;
            cluster::connections(size, &page, &mut Leaves::new(log))
        };
        let mut answer = self.ask(wait, look).await?;
        answer.rebuilding_to = self.rebuilding_to(answer.size);
        Ok(answer)
    }

    /// Answers a question about pods' coverage, in the same way.
    ///
    /// # Errors
    /// [`Reason::SearchTimeout`], [`Reason::IndexFailed`]
    pub async fn coverage(&self, query: CoverageQuery, whose: Whose) -> Result<CoverageAnswer, Refusal> {
        let wait = query.wait;
        let look = move |index: &Connection, log: &LogReader| {
            let (size, page) = paged(index, |index| cluster::find_coverage(index, &query, &whose))?;
            cluster::coverage(size, &page, &mut Leaves::new(log))
        };
        let mut answer = self.ask(wait, look).await?;
        answer.rebuilding_to = self.rebuilding_to(answer.size);
        Ok(answer)
    }

    /// Looks into the index, in turn and not for too long, once it covers `wait` entries or that took too long.
    async fn ask<T: Send + 'static>(
        &self,
        wait: Option<u64>,
        look: impl FnOnce(&Connection, &LogReader) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, Refusal> {
        if let Some(size) = wait {
            self.wait_for(size).await;
        }
        let _turn = self.turns.acquire().await;
        let connection = self.connection().map_err(|error| refuse(&error))?;
        let interrupt = connection.get_interrupt_handle();
        let (log, idle) = (self.log.clone(), self.idle.clone());
        let mut searching = tokio::task::spawn_blocking(move || {
            let answer = look(&connection, &log);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            answer
        });
        let joined = match tokio::time::timeout(SEARCH_LIMIT, &mut searching).await {
            Ok(joined) => joined,
            Err(_) => {
                interrupt.interrupt();
                searching.await
            }
        };
        let ended = |error| IndexError::Query(format!("the search ended: {error}"));
        joined.map_err(ended).and_then(|answer| answer).map_err(|error| refuse(&error))
    }

    /// What an answer of this size is to reach, while the index is built again.
    fn rebuilding_to(&self, size: u64) -> Option<u64> {
        let of = self.log.published().size;
        (self.progress.borrow().rebuilding && size < of).then_some(of)
    }

    async fn wait_for(&self, size: u64) {
        let (mut progress, mut ending) = (self.progress.clone(), self.ending.clone());
        // A time-out and either end leave what there is to be answered, and its size says so.
        tokio::select! {
            _reached = progress.wait_for(|progress| progress.covered >= size) => {}
            _ends = ending.wait_for(|ending| *ending) => {}
            () = tokio::time::sleep(Duration::from_secs(MAX_WAIT_SECONDS)) => {}
        }
    }

    fn connection(&self) -> Result<Connection, IndexError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_reader(&self.data), Ok)
    }
}

/// Size and hits are read in one transaction, so that the size is true of the hits.
fn calls(
    connection: &Connection,
    log: &LogReader,
    query: &Query,
    scope: &Scope,
) -> Result<Answer, IndexError> {
    let transaction = connection.unchecked_transaction()?;
    let size = schema::covered(&transaction)?;
    let page = query::find(&transaction, query, scope)?;
    drop(transaction);
    let mut leaves = Leaves::new(log);
    let calls = page.hits.into_iter().map(|hit| leaves.call(hit)).collect::<Result<_, _>>()?;
    Ok(Answer { size, rebuilding_to: None, calls, next: page.next })
}

/// Size and page are read in one transaction, so that the size is true of the page.
fn paged(
    connection: &Connection,
    find: impl FnOnce(&Connection) -> Result<cluster::Page, IndexError>,
) -> Result<(u64, cluster::Page), IndexError> {
    let transaction = connection.unchecked_transaction()?;
    Ok((schema::covered(&transaction)?, find(&transaction)?))
}

fn found_sessions(
    connection: &Connection,
    log: &LogReader,
    query: &SessionQuery,
    scope: &Scope,
) -> Result<SessionAnswer, IndexError> {
    let transaction = connection.unchecked_transaction()?;
    let size = schema::covered(&transaction)?;
    let page = sessions::find(&transaction, query, scope)?;
    let holes = query.session.map(|session| sessions::holes(&transaction, session)).transpose()?;
    drop(transaction);
    sessions::answer(size, &page, &holes.unwrap_or_default(), &mut Leaves::new(log))
}

fn refuse(error: &IndexError) -> Refusal {
    match error {
        IndexError::Query(what) => Refusal::new(Reason::BadQuery, what.clone()),
        IndexError::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Refusal::new(Reason::SearchTimeout, "the search took too long: narrow it, by time or agent")
        }
        error => {
            tracing::error!(%error, "a search failed");
            Refusal::new(Reason::IndexFailed, "the index can't answer; the recorder's log says why")
        }
    }
}
