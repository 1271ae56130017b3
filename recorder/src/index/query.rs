//! A question as SQL: which calls, without what they say.

use jiff::Timestamp;
use ledger::search::{DEFAULT_LIMIT, MAX_LIMIT, Query, ResultFilter};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use self::leads::{Lead, leads};
use super::IndexError;
use super::conditions::Conditions;
use crate::authz::Scope;

/// A call that was found: where its entries lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index of the intent.
    pub index: u64,
    /// Index of the outcome.
    pub outcome: Option<u64>,
    /// Index of the last word of its progress.
    pub progress: Option<u64>,
}

/// The hits of one page.
#[derive(Debug)]
pub struct Page {
    /// In the order of the answer.
    pub hits: Vec<Hit>,
    /// Where the next page begins, if there may be one.
    pub next: Option<u64>,
}

/// SQLite's integers are signed; an index that does not fit is above all that it can hold.
#[must_use]
pub fn signed(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// Nanoseconds since 1970, until 2262: times of sessions are kept to the digit.
#[must_use]
pub fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Finds one page of calls, among those that the reader may see.
///
/// # Errors
/// [`IndexError::Query`] when the question makes no sense, or SQLite's.
pub fn find(connection: &Connection, query: &Query, scope: &Scope) -> Result<Page, IndexError> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as usize;
    let mut hits = Vec::new();
    for lead in leads(query)? {
        for part in parts(&lead, scope) {
            hits.append(&mut select(connection, query, &part, lead.clone(), limit + 1)?);
        }
    }
    hits.sort_unstable_by_key(|hit| hit.index);
    hits.dedup_by_key(|hit| hit.index);
    if query.from.is_none() {
        hits.reverse();
    }
    let more = hits.len() > limit;
    hits.truncate(limit);
    let last = hits.last().map(|hit| hit.index);
    let next = last.filter(|_| more).map(|last| if query.from.is_some() { last + 1 } else { last });
    Ok(Page { hits, next })
}

/// Most namespaces that are asked for one by one. A reader of more waits longer: all that is found in them is sorted.
const MOST_PARTS: usize = 64;

/// What the reader may see, in parts of which each leads to its own newest calls. Where something else leads, that is not needed.
fn parts(lead: &Lead, scope: &Scope) -> Vec<Scope> {
    if lead.is_of_calls() { scope.parts(MOST_PARTS) } else { vec![scope.clone()] }
}

/// The SQL of a lead, with its values in the order of the question marks.
fn sql(
    connection: &Connection,
    query: &Query,
    scope: &Scope,
    lead: Lead,
    limit: usize,
) -> Result<(String, Vec<Value>), IndexError> {
    let Lead { from, key, mut conditions } = lead;
    conditions.scope(scope, "TRUE"); // only sidecars call
    narrow(connection, query, key, &mut conditions)?;
    let order = if query.from.is_some() { "ASC" } else { "DESC" };
    let sql = format!(
        "SELECT calls.idx, calls.outcome, calls.progress FROM {from} WHERE {} ORDER BY {key} {order} LIMIT {limit}",
        conditions.text(),
    );
    Ok((sql, conditions.into_values()))
}

fn select(
    connection: &Connection,
    query: &Query,
    scope: &Scope,
    lead: Lead,
    limit: usize,
) -> Result<Vec<Hit>, IndexError> {
    let (sql, values) = sql(connection, query, scope, lead, limit)?;
    let mut select = connection.prepare_cached(&sql)?;
    let hits = select.query_map(params_from_iter(values), |row| {
        let optional =
            |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(i64::cast_unsigned));
        let index: i64 = row.get(0)?;
        Ok(Hit { index: index.cast_unsigned(), outcome: optional(1)?, progress: optional(2)? })
    })?;
    Ok(hits.collect::<Result<Vec<_>, _>>()?)
}

/// The calls of a job: those that name it, or were answered with it, and all requests of an upload of which one was.
const OF_JOB: &str = "calls.idx IN (
    WITH named AS (SELECT idx, upload FROM calls WHERE job = ?)
    SELECT idx FROM named UNION SELECT other.idx FROM named JOIN calls AS other ON other.upload = named.upload)";

fn narrow(
    connection: &Connection,
    query: &Query,
    key: &str,
    conditions: &mut Conditions,
) -> Result<(), IndexError> {
    let Query {
        namespace,
        agent,
        pod,
        connection: connection_name,
        session,
        since,
        until,
        table: _,
        words: _,
        method,
        kind: _,
        job,
        result,
        refused,
        limit: _,
        before,
        from,
        wait: _,
    } = query;
    conditions.equal("namespace", namespace.as_ref());
    conditions.agent(agent.as_ref())?;
    conditions.equal("pod", pod.as_ref());
    conditions.equal("connection", connection_name.as_ref());
    conditions.equal("method", method.as_ref());
    if let Some(job) = job {
        conditions.add(OF_JOB, job.clone());
    }
    if let Some(session) = session {
        conditions.add("calls.session = ?", session.as_bytes().to_vec());
    }
    if let Some(refused) = refused {
        conditions.hold(if *refused { "calls.refused" } else { "NOT calls.refused" });
    }
    match result {
        Some(ResultFilter::Open) => conditions.hold("calls.result IS NULL"),
        // The word itself, so that SQLite can see that a partial index has all of them.
        Some(result) => conditions.hold(&format!("calls.result = '{}'", result_word(*result))),
        None => {}
    }
    // Indexes and times of receipt grow together, so times become bounds of the key.
    if let Some(since) = since {
        conditions.add(&format!("{key} >= ?"), first_since(connection, since.as_microsecond())?);
    }
    if let Some(until) = until {
        conditions.add(&format!("{key} < ?"), first_since(connection, until.as_microsecond())?);
    }
    if before.is_some() && from.is_some() {
        return Err(IndexError::Query("before and from can't be asked for together".into()));
    }
    if let Some(before) = before {
        conditions.add(&format!("{key} < ?"), signed(*before));
    }
    if let Some(from) = from {
        conditions.add(&format!("{key} >= ?"), signed(*from));
    }
    Ok(())
}

/// The word for a result in the index.
fn result_word(result: ResultFilter) -> &'static str {
    match result {
        ResultFilter::Answered => "answered",
        ResultFilter::Refused => "refused",
        ResultFilter::Failed => "failed",
        ResultFilter::Aborted => "aborted",
        ResultFilter::Open => "open",
    }
}

/// Index of the first call received at this time or later; above all others when there is none.
fn first_since(connection: &Connection, micros: i64) -> Result<i64, IndexError> {
    let mut select = connection
        .prepare_cached("SELECT idx FROM calls WHERE received >= ? ORDER BY received, idx LIMIT 1")?;
    Ok(select.query_row([micros], |row| row.get(0)).optional()?.unwrap_or(i64::MAX))
}

mod leads;
#[cfg(test)]
mod plans;
