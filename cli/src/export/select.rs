//! What belongs to an export. The index finds it, which is never evidence; how complete a selection can be proved to be
//! depends on what was asked ([`Scope`]).

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;

use jiff::Timestamp;
use ledger::bundle::manifest::{Range, Scope};
use ledger::entry::{Entry, Role};
use ledger::search::sessions::{Session, SessionQuery};
use ledger::search::{MAX_LIMIT, Query};
use ledger::statement::Statement;
use ledger::tile::TILE_WIDTH;
use uuid::Uuid;

use super::operators::{self, Concern};
use crate::error::CliError;
use crate::reader::Reader;

/// What belongs to an export of a log of `size` entries.
pub(super) struct Selection {
    pub(super) scope: Scope,
    pub(super) size: u64,
    pub(super) picks: Picks,
}

/// Entries, in order.
pub(super) struct Picks {
    ranges: Vec<RangeInclusive<u64>>,
    /// Of the ranges' entries only what is of these sessions, or about them.
    sessions: Option<HashSet<Uuid>>,
    /// And these, which lie in the ranges.
    also: BTreeSet<u64>,
}

impl Picks {
    fn these(indexes: BTreeSet<u64>) -> Self {
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for index in indexes {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == index => *last = *last.start()..=index,
                _ => ranges.push(index..=index),
            }
        }
        Self { ranges, sessions: None, also: BTreeSet::new() }
    }

    /// The indexes by the tile of level 0 that they lie under.
    pub(super) fn tiles(&self) -> impl Iterator<Item = (u64, Vec<u64>)> {
        let mut indexes = self.ranges.iter().cloned().flatten().peekable();
        std::iter::from_fn(move || {
            let tile = indexes.peek()? / TILE_WIDTH;
            let of_tile = std::iter::from_fn(|| indexes.next_if(|index| index / TILE_WIDTH == tile));
            Some((tile, of_tile.collect()))
        })
    }

    /// May an entry at this place, which lies in a range, be one that does not belong to the export?
    pub(super) fn may_skip(&self, index: u64) -> bool {
        self.sessions.is_some() && !self.also.contains(&index)
    }

    /// Does this entry, which lies in a range, belong to the export?
    pub(super) fn keeps(&self, index: u64, entry: &Entry<'_>, statement: &Statement) -> bool {
        let Some(sessions) = &self.sessions else { return true };
        if self.also.contains(&index) {
            return true;
        }
        let about = statement.body.lost.as_ref().map(|lost| lost.session);
        let about = about.or(statement.body.hole.map(|hole| hole.session));
        let of_log = matches!(entry.envelope.subject, ledger::entry::Subject::Log { .. });
        let session = if of_log { about } else { Some(statement.session) };
        session.is_some_and(|session| sessions.contains(&session))
    }
}

/// What belongs to the answer to `query`, in a log of `size` entries.
pub(super) fn select(reader: &Reader, query: &Query, size: u64) -> Result<Selection, CliError> {
    if asks_for_calls(query) {
        return calls(reader, query, size);
    }
    let whole_sessions = query.namespace.is_some()
        || query.agent.is_some()
        || query.pod.is_some()
        || query.connection.is_some()
        || query.session.is_some();
    if whole_sessions { sessions(reader, query, size) } else { everything(reader, query, size) }
}

/// Only who reads everything can prove that nothing of a time is missing.
fn must_read_everything(reader: &Reader) -> Result<(), CliError> {
    let access = reader.access()?;
    let namespaces = access.clusters.into_iter().flat_map(|readable| readable.namespaces.unwrap_or_default());
    if access.everything { Ok(()) } else { Err(CliError::NotEverything { namespaces: namespaces.collect() }) }
}

fn asks_for_calls(query: &Query) -> bool {
    let Query { table, words, method, kind, job, result, refused, .. } = query;
    [table, words, method, kind, job].into_iter().any(Option::is_some)
        || result.is_some()
        || refused.is_some()
}

/// All entries that were received in a time, and their neighbours.
fn everything(reader: &Reader, query: &Query, size: u64) -> Result<Selection, CliError> {
    must_read_everything(reader)?;
    let (since, until) = (query.since, query.until);
    let from = since.map_or(Ok(0), |since| first_at(reader, since, size))?;
    let to = until.map_or(Ok(size), |until| first_at(reader, until, size))?.max(from);
    let range = Range { from, to, since, until };
    let mut spans: Vec<_> =
        range.with_neighbours(size).map(|(first, last)| (first, last + 1)).into_iter().collect();
    if let Some(since) = since.filter(|_| from > 1) {
        spans.extend(so_when_it_began(reader, query, since, from - 1, size)?.map(|index| (index, index + 1)));
    }
    let picks = Picks { ranges: united(spans), sessions: None, also: BTreeSet::new() };
    Ok(Selection { scope: Scope::Everything(range), size, picks })
}

/// What operators had said before `first`, and was so at `since` or is named by those who were at work from then on.
fn so_when_it_began(
    reader: &Reader,
    query: &Query,
    since: Timestamp,
    first: u64,
    size: u64,
) -> Result<impl Iterator<Item = u64>, CliError> {
    let mut concern = Concern::default();
    let question = SessionQuery { since: Some(since), until: query.until, ..SessionQuery::default() };
    each_session(reader, question, size, |session| {
        if session.role == Role::Sidecar {
            concern.add(&session.subject, session.connection.as_ref());
        }
    })?;
    let said = operators::entries(reader, query, concern, false, size)?;
    Ok(said.into_iter().filter(move |index| *index < first))
}

/// Hears of each session that fits the question, from an index that covers `size` entries.
fn each_session(
    reader: &Reader,
    mut question: SessionQuery,
    size: u64,
    mut hear: impl FnMut(&Session),
) -> Result<(), CliError> {
    (question.limit, question.wait) = (Some(MAX_LIMIT), Some(size));
    loop {
        let answer = reader.sessions(&question)?;
        covers(answer.size, size)?;
        answer.sessions.iter().for_each(&mut hear);
        question.before = answer.next;
        if answer.next.is_none() {
            return Ok(());
        }
    }
}

/// The first index whose entry was received at this time or later: times never run backwards in a log.
fn first_at(reader: &Reader, time: Timestamp, size: u64) -> Result<u64, CliError> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let leaf = reader.get_private(&format!("/v1/entries/{middle}"))?;
        let entry = Entry::parse(&leaf)
            .map_err(|error| CliError::Entry { index: middle, message: error.to_string() })?;
        if entry.envelope.received < time {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Whole sessions, from their first statement to their last, and what operators said of their connections and pods.
fn sessions(reader: &Reader, query: &Query, size: u64) -> Result<Selection, CliError> {
    let question = SessionQuery {
        namespace: query.namespace.clone(),
        agent: query.agent.clone(),
        pod: query.pod.clone(),
        connection: query.connection.clone(),
        session: query.session,
        since: query.since,
        until: query.until,
        ..SessionQuery::default()
    };
    let (mut chosen, mut spans, mut concern) = (HashSet::new(), Vec::new(), Concern::default());
    each_session(reader, question, size, |session| {
        if session.index < size {
            let end = session.end.as_ref().map_or(size, |end| end.index.saturating_add(1)).min(size);
            chosen.insert(session.session);
            spans.push((session.index, end));
        }
        if session.role == Role::Sidecar {
            concern.add(&session.subject, session.connection.as_ref());
        }
    })?;
    let also = operators::entries(reader, query, concern, false, size)?;
    spans.extend(also.iter().map(|index| (*index, index + 1)));
    let picks = Picks { ranges: united(spans), sessions: Some(chosen), also };
    let filter = Box::new(query.clone());
    Ok(Selection { scope: Scope::Sessions { filter }, size, picks })
}

/// The spans as ranges that do not overlap, in order.
fn united(mut spans: Vec<(u64, u64)>) -> Vec<RangeInclusive<u64>> {
    spans.sort_unstable();
    let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
    for (from, to) in spans.into_iter().filter(|(from, to)| from < to) {
        match ranges.last_mut() {
            Some(last) if from <= last.end() + 1 => *last = *last.start()..=(*last.end()).max(to - 1),
            _ => ranges.push(from..=to - 1),
        }
    }
    ranges
}

/// Calls: both their entries, beginning, end and holes of their sessions, and what operators said of their connections and pods.
fn calls(reader: &Reader, query: &Query, size: u64) -> Result<Selection, CliError> {
    let mut question = Query { limit: Some(MAX_LIMIT), wait: Some(size), ..query.clone() };
    let (mut indexes, mut of_sessions, mut concern) = (BTreeSet::new(), BTreeSet::new(), Concern::default());
    loop {
        let answer = reader.search(&question)?;
        covers(answer.size, size)?;
        for call in &answer.calls {
            indexes.extend([Some(call.index), call.outcome_index].into_iter().flatten());
            of_sessions.insert(call.session);
            concern.add(&call.subject, call.connection.as_ref());
        }
        question.before = answer.next;
        if answer.next.is_none() {
            break;
        }
    }
    for session in of_sessions {
        let question = SessionQuery { session: Some(session), ..SessionQuery::default() };
        reader.sessions(&question)?.sessions.iter().for_each(|session| indexes.extend(frame(session)));
    }
    indexes.extend(operators::entries(reader, query, concern, true, size)?);
    indexes.retain(|index| *index < size);
    let filter = Box::new(query.clone());
    Ok(Selection { scope: Scope::Calls { filter }, size, picks: Picks::these(indexes) })
}

/// A session's beginning, end and holes.
fn frame(session: &Session) -> impl Iterator<Item = u64> {
    let end = session.end.as_ref().map(|end| end.index);
    let holes = session.named_holes.iter().map(|hole| hole.index);
    [session.index].into_iter().chain(end).chain(holes)
}

/// An index that is behind would leave out what it does not know yet.
pub(super) fn covers(covered: u64, size: u64) -> Result<(), CliError> {
    if covered >= size { Ok(()) } else { Err(CliError::Behind { covered, size }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_come_tile_by_tile() {
        let picks = Picks::these([3, 4, 255, 256, 1000].into());
        assert_eq!(picks.ranges, [3..=4, 255..=256, 1000..=1000]);
        let tiles: Vec<_> = picks.tiles().collect();
        assert_eq!(tiles, [(0, vec![3, 4, 255]), (1, vec![256]), (3, vec![1000])]);
    }

    #[test]
    fn spans_are_united() {
        assert_eq!(united(vec![(5, 9), (0, 2), (2, 3), (7, 8), (20, 20)]), [0..=2, 5..=8]);
    }

    #[test]
    fn what_is_asked_decides_what_can_be_proved() {
        assert!(asks_for_calls(&Query { table: Some("t".into()), ..Query::default() }));
        assert!(asks_for_calls(&Query { refused: Some(true), ..Query::default() }));
        assert!(!asks_for_calls(&Query { agent: Some("a/b".into()), ..Query::default() }));
    }
}
