//! Sessions and calls as a recorder's index has them.

use std::collections::BTreeMap;

use ledger::entry::{Entry, Role};
use ledger::search::sessions::{Session, SessionQuery};
use ledger::search::{Call, MAX_LIMIT, Query};
use ledger::statement::Statement;

use super::{Found, Going, MAX_CALLS, MAX_SESSIONS, Wanted};
use crate::error::CliError;
use crate::reader::Reader;

/// Asks for the sessions that are wanted, for their calls, and then for the sessions again, from an index that covers at
/// least those calls: what is counted is never behind what is told.
pub(crate) fn find(reader: &Reader, wanted: &Wanted) -> Result<Found, CliError> {
    let mut found = Found::default();
    for session in sessions(reader, wanted)? {
        let (size, calls) = calls(reader, &session, wanted, MAX_CALLS - found.calls.len())?;
        let question =
            SessionQuery { session: Some(session.session), wait: Some(size), ..SessionQuery::default() };
        let answer = reader.sessions(&question)?;
        found.size = found.size.max(size);
        found.rebuilding_to = answer.rebuilding_to.or(found.rebuilding_to);
        found.sessions.extend(answer.sessions);
        found.calls.extend(calls);
    }
    found.going = going(reader, &found.calls)?;
    Ok(found)
}

/// The sessions that are wanted, in the order in which they began.
fn sessions(reader: &Reader, wanted: &Wanted) -> Result<Vec<Session>, CliError> {
    let question = match wanted.session {
        Some(id) => {
            let one = SessionQuery { session: Some(id), ..SessionQuery::default() };
            let answer = reader.sessions(&one)?;
            let size = answer.size;
            let first =
                answer.sessions.into_iter().next().ok_or(CliError::NoSession { session: id, size })?;
            if !wanted.successors {
                return Ok(vec![first]);
            }
            let subject = first.subject;
            SessionQuery {
                agent: Some(format!("{}/{}", subject.namespace, subject.service_account)),
                pod: Some(subject.pod),
                ..SessionQuery::default()
            }
        }
        None => SessionQuery {
            agent: wanted.agent.clone(),
            pod: wanted.pod.clone(),
            connection: wanted.connection.clone(),
            since: wanted.since,
            until: wanted.until,
            ..SessionQuery::default()
        },
    };
    let mut sessions = wanted.choose(all(reader, question)?);
    sessions.sort_by_key(|session| session.index);
    if sessions.is_empty() {
        return Err(CliError::NothingFound);
    }
    Ok(sessions)
}

fn all(reader: &Reader, question: SessionQuery) -> Result<Vec<Session>, CliError> {
    let mut question = SessionQuery { limit: Some(MAX_LIMIT), ..question };
    let mut sessions = Vec::new();
    loop {
        let answer = reader.sessions(&question)?;
        sessions.extend(answer.sessions.into_iter().filter(|session| session.role == Role::Sidecar));
        if sessions.len() > MAX_SESSIONS {
            let (found, most) = (sessions.len() as u64, MAX_SESSIONS as u64);
            return Err(CliError::TooMuch { what: "sessions", found, most });
        }
        question.before = answer.next;
        if answer.next.is_none() {
            return Ok(sessions);
        }
    }
}

/// The session's calls, oldest first, and how much of the log was searched for them.
fn calls(
    reader: &Reader,
    session: &Session,
    wanted: &Wanted,
    room: usize,
) -> Result<(u64, Vec<Call>), CliError> {
    let mut query = Query {
        session: Some(session.session),
        since: wanted.since,
        until: wanted.until,
        from: Some(0),
        limit: Some(MAX_LIMIT),
        ..Query::default()
    };
    let mut calls = Vec::new();
    loop {
        let page = reader.search(&query)?;
        calls.extend(page.calls);
        if calls.len() > room {
            let (found, most) = ((MAX_CALLS - room + calls.len()) as u64, MAX_CALLS as u64);
            return Err(CliError::TooMuch { what: "calls", found, most });
        }
        match page.next {
            Some(next) => query.from = Some(next),
            None => return Ok((page.size, calls)),
        }
    }
}

/// The last that was said of each call while it went on. Few calls take so long.
fn going(reader: &Reader, calls: &[Call]) -> Result<BTreeMap<u64, Going>, CliError> {
    let said = calls.iter().filter_map(|call| Some((call.index, call.progress_index?)));
    let read = said.map(|(call, index)| {
        let leaf = reader.get_private(&format!("/v1/entries/{index}"))?;
        let bad = |message: String| CliError::Entry { index, message };
        let entry = Entry::parse(&leaf).map_err(|error| bad(error.to_string()))?;
        let statement = Statement::parse(entry.statement).map_err(|error| bad(error.to_string()))?;
        let going = Going::of(index, &entry, &statement);
        Ok((call, going.ok_or_else(|| bad("it is not a call.progress".into()))?))
    });
    read.collect()
}
