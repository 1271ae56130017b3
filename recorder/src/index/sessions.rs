//! A question about sessions as SQL, and the sessions that answer it.

use jiff::Timestamp;
use ledger::entry::{Entry, Role, Subject};
use ledger::search::sessions::{Ending, NamedHole, Session, SessionAnswer, SessionQuery, SessionState};
use ledger::search::{DEFAULT_LIMIT, MAX_LIMIT};
use ledger::statement::{Hole, Statement};
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};
use uuid::Uuid;

use super::IndexError;
use super::conditions::Conditions;
use super::query::{nanos, signed};
use super::render::Leaves;
use super::rows::role_text;
use crate::authz::Scope;

/// A session that was found: where it begins and ends, and what was counted. What it says is read from the log.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    index: u64,
    ending: Option<u64>,
    heard: i64,
    state: SessionState,
    calls: u64,
    open_calls: u64,
    refused: u64,
    unrecorded: u64,
    holes: u64,
    missing: u64,
}

/// The sessions of one page.
#[derive(Debug)]
pub struct Page {
    /// Those that began last come first.
    pub found: Vec<Found>,
    /// Where the next page begins, if there may be one.
    pub next: Option<u64>,
}

const COLUMNS: &str = "idx, ending, heard, state, calls, open_calls, refused, unrecorded, holes, missing";

/// The word for a state in the index.
pub(super) fn state_text(state: SessionState) -> &'static str {
    match state {
        SessionState::Open => "open",
        SessionState::Ended => "ended",
        SessionState::Lost => "lost",
    }
}

impl Found {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let count = |column| row.get(column).map(|count: i64| u64::try_from(count).unwrap_or(0));
        let ending: Option<i64> = row.get(1)?;
        let state: String = row.get(3)?;
        Ok(Self {
            index: count(0)?,
            ending: ending.map(i64::cast_unsigned),
            heard: row.get(2)?,
            state: match state.as_str() {
                "ended" => SessionState::Ended,
                "lost" => SessionState::Lost,
                _ => SessionState::Open,
            },
            calls: count(4)?,
            open_calls: count(5)?,
            refused: count(6)?,
            unrecorded: count(7)?,
            holes: count(8)?,
            missing: count(9)?,
        })
    }
}

/// Finds one page of sessions, among those that the reader may see.
///
/// # Errors
/// [`IndexError::Query`] when the question makes no sense, or SQLite's.
pub fn find(connection: &Connection, query: &SessionQuery, scope: &Scope) -> Result<Page, IndexError> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let conditions = conditions(connection, query, scope)?;
    let sql = format!(
        "SELECT {COLUMNS} FROM sessions WHERE {} ORDER BY idx DESC LIMIT {}",
        conditions.text(),
        limit + 1
    );
    let mut select = connection.prepare_cached(&sql)?;
    let found = select.query_map(params_from_iter(conditions.into_values()), Found::of)?;
    let mut found = found.collect::<Result<Vec<_>, _>>()?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().map(|last| last.index).filter(|_| more);
    Ok(Page { found, next })
}

fn conditions(index: &Connection, query: &SessionQuery, scope: &Scope) -> Result<Conditions, IndexError> {
    let SessionQuery {
        namespace,
        agent,
        pod,
        connection,
        session,
        since,
        until,
        open,
        limit: _,
        before,
        wait: _,
    } = query;
    let mut conditions = Conditions::on("sessions");
    conditions.scope(scope, &format!("sessions.role = '{}'", role_text(Role::Sidecar)));
    conditions.equal("namespace", namespace.as_ref());
    conditions.agent(agent.as_ref())?;
    conditions.equal("pod", pod.as_ref());
    conditions.equal("connection", connection.as_ref());
    if let Some(session) = session {
        conditions.add("session = ?", session.as_bytes().to_vec());
    }
    if let Some(since) = since {
        conditions.add("heard >= ?", nanos(*since));
    }
    // Indexes and times of receipt grow together, so the time becomes a bound of the key.
    if let Some(until) = until {
        conditions.add("idx < ?", first_since(index, nanos(*until))?);
    }
    if let Some(open) = open {
        conditions.hold(if *open { "state = 'open'" } else { "state <> 'open'" });
    }
    if let Some(before) = before {
        conditions.add("idx < ?", signed(*before));
    }
    Ok(conditions)
}

/// The session.start entries of these sessions.
///
/// # Errors
/// SQLite's.
pub fn starts(connection: &Connection, sessions: &[Uuid]) -> Result<Vec<(Uuid, u64)>, IndexError> {
    let mut select = connection.prepare_cached("SELECT idx FROM sessions WHERE session = ?")?;
    let mut starts = Vec::new();
    for session in sessions {
        let start: Option<i64> = select.query_row([session.as_bytes()], |row| row.get(0)).optional()?;
        starts.extend(start.map(|start| (*session, start.cast_unsigned())));
    }
    Ok(starts)
}

/// Namespaces of this cluster where sidecars have spoken, and of which operators have: at most `limit` namespaces.
///
/// # Errors
/// SQLite's.
pub fn namespaces(connection: &Connection, cluster: &str, limit: usize) -> Result<Vec<String>, IndexError> {
    let mut select = connection
        .prepare_cached("SELECT namespace FROM namespaces WHERE cluster = ? ORDER BY namespace LIMIT ?")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let names = select.query_map((cluster, limit), |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Index of the first session that began at this time or later; above all others when there is none.
fn first_since(index: &Connection, nanos: i64) -> Result<i64, IndexError> {
    let mut select = index
        .prepare_cached("SELECT idx FROM sessions WHERE received >= ? ORDER BY received, idx LIMIT 1")?;
    Ok(select.query_row([nanos], |row| row.get(0)).optional()?.unwrap_or(i64::MAX))
}

/// The holes of a session, in the order of the log.
///
/// # Errors
/// SQLite's.
pub fn holes(connection: &Connection, session: Uuid) -> Result<Vec<NamedHole>, IndexError> {
    let mut select =
        connection.prepare_cached("SELECT idx, first, last FROM holes WHERE session = ? ORDER BY idx")?;
    let number = |row: &Row<'_>, column| row.get(column).map(i64::cast_unsigned);
    let named = select.query_map([session.as_bytes()], |row| {
        let hole = Hole { session, from: number(row, 1)?, to: number(row, 2)? };
        Ok(NamedHole { index: number(row, 0)?, hole })
    })?;
    Ok(named.collect::<Result<_, _>>()?)
}

/// The answer: what was found and counted, with what the log says of each.
///
/// # Errors
/// When the log does not have what the index says.
pub fn answer(
    size: u64,
    page: &Page,
    holes: &[NamedHole],
    leaves: &mut Leaves<'_>,
) -> Result<SessionAnswer, IndexError> {
    let sessions = page.found.iter().map(|found| session(found, holes, leaves));
    let sessions = sessions.collect::<Result<_, _>>()?;
    Ok(SessionAnswer { size, rebuilding_to: None, sessions, next: page.next })
}

fn session(found: &Found, holes: &[NamedHole], leaves: &mut Leaves<'_>) -> Result<Session, IndexError> {
    let damaged = |index: u64, what: String| IndexError::Entry(index, what);
    let leaf = leaves.leaf(found.index)?;
    let entry = Entry::parse(&leaf).map_err(|error| damaged(found.index, error.to_string()))?;
    let statement =
        Statement::parse(entry.statement).map_err(|error| damaged(found.index, error.to_string()))?;
    let (Subject::Workload(subject), Some(start)) = (entry.envelope.subject, statement.body.start) else {
        return Err(damaged(found.index, "it is not a session.start".into()));
    };
    Ok(Session {
        index: found.index,
        session: statement.session,
        subject,
        role: entry.envelope.role,
        connection: statement.connection,
        version: start.version,
        started: entry.envelope.received,
        heard: Timestamp::from_nanosecond(found.heard.into()).unwrap_or(entry.envelope.received),
        state: found.state,
        end: found.ending.map(|index| ending(index, leaves)).transpose()?,
        calls: found.calls,
        open_calls: found.open_calls,
        refused: found.refused,
        refused_unrecorded: found.unrecorded,
        holes: found.holes,
        missing: found.missing,
        named_holes: holes.to_vec(),
    })
}

fn ending(index: u64, leaves: &mut Leaves<'_>) -> Result<Ending, IndexError> {
    let damaged = |what: String| IndexError::Entry(index, what);
    let leaf = leaves.leaf(index)?;
    let entry = Entry::parse(&leaf).map_err(|error| damaged(error.to_string()))?;
    let body = Statement::parse(entry.statement).map_err(|error| damaged(error.to_string()))?.body;
    let (reason, open_intents) = match (body.end, body.lost) {
        (Some(end), _) => (Some(end.reason), Vec::new()),
        (None, Some(lost)) => (None, lost.open_intents),
        (None, None) => return Err(damaged("it is not the end of a session".into())),
    };
    Ok(Ending { index, received: entry.envelope.received, reason, open_intents })
}
