//! What operators entered, about connections and pods: into the index, and out of it again.

use ledger::entry::{Entry, Subject, Workload};
use ledger::search::cluster::{
    ConnectionAnswer, ConnectionEntry, ConnectionQuery, CoverageAnswer, CoverageEntry, CoverageQuery,
};
use ledger::search::{DEFAULT_LIMIT, MAX_LIMIT};
use ledger::statement::Statement;
use rusqlite::{Connection, Transaction, params, params_from_iter};

use super::IndexError;
use super::conditions::Conditions;
use super::fields::{Coverage, Fields};
use super::query::{nanos, signed};
use super::render::Leaves;
use crate::authz::Scope;

/// An entry about a connection: the last one of it is no longer the last.
pub(super) fn add_connection(
    transaction: &Transaction<'_>,
    index: u64,
    entry: &Entry<'_>,
    fields: &Fields,
) -> Result<(), IndexError> {
    let (uid, generation) = fields.connection_version();
    let (received, operator) = (nanos(entry.envelope.received), operator(entry));
    transaction
        .prepare_cached(
            "UPDATE connections SET superseded = ? WHERE uid = ? AND operator = ? AND superseded IS NULL",
        )?
        .execute(params![received, uid, operator])?;
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO connections (idx, received, cluster, operator, uid, namespace, connection, generation, deleted)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            signed(index),
            received,
            cluster(entry),
            operator,
            uid,
            fields.connection_namespace(),
            fields.connection_name(),
            signed(generation),
            fields.gone.is_some()
        ])?;
    Ok(())
}

/// An entry about a pod.
pub(super) fn add_coverage(
    transaction: &Transaction<'_>,
    index: u64,
    entry: &Entry<'_>,
    fields: &Fields,
    coverage: &Coverage,
) -> Result<(), IndexError> {
    let (received, operator) = (nanos(entry.envelope.received), operator(entry));
    transaction
        .prepare_cached(
            "UPDATE coverage SET superseded = ? WHERE uid = ? AND operator = ? AND superseded IS NULL",
        )?
        .execute(params![received, coverage.pod_uid, operator])?;
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO coverage (idx, received, cluster, operator, uid, namespace, pod, connection, ended)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            signed(index),
            received,
            cluster(entry),
            operator,
            coverage.pod_uid,
            fields.connection_namespace(),
            coverage.pod,
            fields.connection_name(),
            coverage.has_ended()
        ])?;
    Ok(())
}

/// The cluster that it is about: the operator's.
fn cluster<'a>(entry: &'a Entry<'_>) -> Option<&'a str> {
    match &entry.envelope.subject {
        Subject::Workload(workload) => Some(&workload.cluster),
        Subject::Log { .. } => None,
    }
}

/// Whose words are asked for.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Of all operators, about what a reader may see.
    All(Scope),
    /// Of the operator with this name.
    Operators(String),
}

impl Whose {
    fn narrow(&self, conditions: &mut Conditions) {
        match self {
            // What is said of a connection or a pod is of its namespace.
            Self::All(scope) => conditions.scope(scope, "TRUE"),
            Self::Operators(operator) => conditions.equal("operator", Some(operator)),
        }
    }
}

/// Who said it, as [`Identity::operator`](crate::authn::Identity::operator) names operators.
fn operator(entry: &Entry<'_>) -> Option<String> {
    match &entry.envelope.subject {
        Subject::Workload(workload) => Some(operator_name(workload)),
        Subject::Log { .. } => None,
    }
}

/// An operator's name in the index: `cluster/namespace/service-account`. Its replicas share it.
#[must_use]
pub fn operator_name(workload: &Workload) -> String {
    format!("{}/{}/{}", workload.cluster, workload.namespace, workload.service_account)
}

/// The entries of one page: their indexes, newest first, and where the next page begins, if there may be one.
pub struct Page {
    found: Vec<u64>,
    next: Option<u64>,
}

/// Finds one page of entries about connections.
///
/// # Errors
/// SQLite's.
pub fn find_connections(
    connection: &Connection,
    query: &ConnectionQuery,
    whose: &Whose,
) -> Result<Page, IndexError> {
    let ConnectionQuery { namespace, connection: name, uid, current, own: _, limit, before, wait: _ } = query;
    let mut conditions = Conditions::on("connections");
    whose.narrow(&mut conditions);
    conditions.equal("namespace", namespace.as_ref());
    conditions.equal("connection", name.as_ref());
    conditions.equal("uid", uid.as_ref());
    if *current == Some(true) {
        conditions.hold("superseded IS NULL AND NOT deleted");
    }
    find(connection, "connections", conditions, *limit, *before)
}

/// Finds one page of entries about pods.
///
/// # Errors
/// SQLite's.
pub fn find_coverage(
    connection: &Connection,
    query: &CoverageQuery,
    whose: &Whose,
) -> Result<Page, IndexError> {
    let CoverageQuery {
        namespace,
        connection: name,
        pod,
        current,
        own: _,
        since,
        until,
        limit,
        before,
        wait: _,
    } = query;
    let mut conditions = Conditions::on("coverage");
    whose.narrow(&mut conditions);
    conditions.equal("namespace", namespace.as_ref());
    conditions.equal("connection", name.as_ref());
    conditions.equal("pod", pod.as_ref());
    if *current == Some(true) {
        conditions.hold("superseded IS NULL AND NOT ended");
    }
    if let Some(since) = since {
        conditions.add("(superseded IS NULL OR superseded >= ?)", nanos(*since));
        conditions.add("(NOT ended OR received >= ?)", nanos(*since));
    }
    if let Some(until) = until {
        conditions.add("received < ?", nanos(*until));
    }
    find(connection, "coverage", conditions, *limit, *before)
}

fn find(
    connection: &Connection,
    table: &str,
    mut conditions: Conditions,
    limit: Option<u32>,
    before: Option<u64>,
) -> Result<Page, IndexError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as usize;
    if let Some(before) = before {
        conditions.add("idx < ?", signed(before));
    }
    let sql =
        format!("SELECT idx FROM {table} WHERE {} ORDER BY idx DESC LIMIT {}", conditions.text(), limit + 1);
    let mut select = connection.prepare_cached(&sql)?;
    let found = select.query_map(params_from_iter(conditions.into_values()), |row| row.get(0))?;
    let mut found =
        found.map(|index| index.map(i64::cast_unsigned)).collect::<Result<Vec<_>, rusqlite::Error>>()?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().copied().filter(|_| more);
    Ok(Page { found, next })
}

/// The answer: what the log says of each that was found.
///
/// # Errors
/// When the log does not have what the index says.
pub fn connections(size: u64, page: &Page, leaves: &mut Leaves<'_>) -> Result<ConnectionAnswer, IndexError> {
    let entries = page.found.iter().map(|index| {
        let (received, subject, statement) = read(*index, leaves)?;
        let connection = statement.connection.ok_or_else(|| damaged(*index, "it names no connection"))?;
        let (accepted, gone) = (statement.body.accepted, statement.body.gone);
        Ok(ConnectionEntry { index: *index, received, subject, connection, accepted, gone })
    });
    let entries = entries.collect::<Result<_, IndexError>>()?;
    Ok(ConnectionAnswer { size, rebuilding_to: None, entries, next: page.next })
}

/// The same of pods.
///
/// # Errors
/// When the log does not have what the index says.
pub fn coverage(size: u64, page: &Page, leaves: &mut Leaves<'_>) -> Result<CoverageAnswer, IndexError> {
    let entries = page.found.iter().map(|index| {
        let (received, subject, statement) = read(*index, leaves)?;
        let coverage = statement.body.coverage.ok_or_else(|| damaged(*index, "it says nothing of a pod"))?;
        Ok(CoverageEntry { index: *index, received, subject, connection: statement.connection, coverage })
    });
    let entries = entries.collect::<Result<_, IndexError>>()?;
    Ok(CoverageAnswer { size, rebuilding_to: None, entries, next: page.next })
}

fn read(index: u64, leaves: &mut Leaves<'_>) -> Result<(jiff::Timestamp, Workload, Statement), IndexError> {
    let leaf = leaves.leaf(index)?;
    let entry = Entry::parse(&leaf).map_err(|error| damaged(index, &error.to_string()))?;
    let statement = Statement::parse(entry.statement).map_err(|error| damaged(index, &error.to_string()))?;
    match entry.envelope.subject {
        Subject::Workload(subject) => Ok((entry.envelope.received, subject, statement)),
        Subject::Log { .. } => Err(damaged(index, "it is not a workload's")),
    }
}

fn damaged(index: u64, what: &str) -> IndexError {
    IndexError::Entry(index, what.into())
}
