//! What a call says, read from the log itself.

use std::sync::Arc;

use ledger::blob::SALT_LEN;
use ledger::call::{Intent, Outcome, Progress, TableUse};
use ledger::entry::{Entry, Subject, Workload};
use ledger::search::{Call, FoundTable, MAX_SQL};
use ledger::statement::{Body, Statement};
use ledger::tile::{TILE_WIDTH, Tile, parse_bundle};

use super::IndexError;
use super::query::Hit;
use crate::store::reader::LogReader;

/// Reads leaves, and keeps the last bundles: hits of one page often lie together.
pub struct Leaves<'a> {
    log: &'a LogReader,
    bundles: Vec<(u64, Tile, Vec<u8>)>,
}

/// Bundles that are kept: one for the intents, one for the outcomes behind them.
const KEPT: usize = 2;

impl<'a> Leaves<'a> {
    /// From this log.
    #[must_use]
    pub fn new(log: &'a LogReader) -> Self {
        Self { log, bundles: Vec::new() }
    }

    pub(super) fn leaf(&mut self, index: u64) -> Result<Arc<[u8]>, IndexError> {
        let missing = || IndexError::Entry(index, "it is not in the log".into());
        let number = index / TILE_WIDTH;
        let place = usize::try_from(index % TILE_WIDTH).expect("below 256");
        let fits =
            |(kept, tile, _): &&(u64, Tile, Vec<u8>)| *kept == number && place < usize::from(tile.width);
        if self.bundles.iter().find(fits).is_none() {
            let (tile, bytes) = self.log.bundle(number)?.ok_or_else(missing)?;
            self.bundles.truncate(KEPT - 1);
            self.bundles.insert(0, (number, tile, bytes));
        }
        let (_, tile, bytes) = self.bundles.iter().find(fits).ok_or_else(missing)?;
        let leaves =
            parse_bundle(*tile, bytes).map_err(|error| IndexError::Entry(index, error.to_string()))?;
        leaves.get(place).map(|leaf| Arc::from(*leaf)).ok_or_else(missing)
    }

    /// The call of a hit.
    ///
    /// # Errors
    /// When the log does not have what the index says.
    pub fn call(&mut self, hit: Hit) -> Result<Call, IndexError> {
        let damaged = |index, what: &str| IndexError::Entry(index, what.into());
        let leaf = self.leaf(hit.index)?;
        let entry = Entry::parse(&leaf).map_err(|error| damaged(hit.index, &error.to_string()))?;
        let Subject::Workload(subject) = entry.envelope.subject else {
            return Err(damaged(hit.index, "it is not a workload's"));
        };
        let mut statement =
            Statement::parse(entry.statement).map_err(|error| damaged(hit.index, &error.to_string()))?;
        let intent = statement.body.intent.take().ok_or_else(|| damaged(hit.index, "it is not an intent"))?;
        let missing = |index, what: &str| damaged(index, &format!("it is not {what}"));
        let ended = |leaves: &mut Self, index| {
            leaves.body(index)?.outcome.ok_or_else(|| missing(index, "an outcome"))
        };
        let going = |leaves: &mut Self, index| {
            leaves.body(index)?.progress.ok_or_else(|| missing(index, "a progress"))
        };
        let outcome = hit.outcome.map(|index| ended(self, index)).transpose()?;
        // The outcome says all that a progress did.
        let progress = hit.progress.filter(|_| outcome.is_none());
        let progress = progress.map(|index| going(self, index)).transpose()?;
        let sql = self.sql(&statement)?;
        let heard = Heard { outcome, progress };
        Ok(join(hit, entry.envelope.received, subject, statement, intent, &heard, sql))
    }

    fn body(&mut self, index: u64) -> Result<Body, IndexError> {
        let leaf = self.leaf(index)?;
        let entry = Entry::parse(&leaf).map_err(|error| IndexError::Entry(index, error.to_string()))?;
        let statement =
            Statement::parse(entry.statement).map_err(|error| IndexError::Entry(index, error.to_string()))?;
        Ok(statement.body)
    }

    fn sql(&self, statement: &Statement) -> Result<Option<(String, bool)>, IndexError> {
        let Some(reference) = statement.blobs.get("sql") else { return Ok(None) };
        let Some(blob) = self.log.blob(&reference.digest)? else { return Ok(None) };
        Ok(Some(cut(&blob[SALT_LEN..])))
    }
}

/// The text's beginning, cut at a character.
fn cut(sql: &[u8]) -> (String, bool) {
    let text = String::from_utf8_lossy(&sql[..sql.len().min(MAX_SQL + 4)]);
    let end = (0..=MAX_SQL.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    (text[..end].to_owned(), end < sql.len())
}

/// What was heard of a call after its intent.
struct Heard {
    outcome: Option<Outcome>,
    progress: Option<Progress>,
}

impl Heard {
    /// Bytes on the wire: of the request's body where it carries data, and of the answer's.
    fn bytes(&self) -> (Option<u64>, Option<u64>) {
        match (&self.outcome, &self.progress) {
            (Some(ended), _) => {
                (ended.sent.map(|body| body.wire_bytes), ended.answer.map(|body| body.wire_bytes))
            }
            (None, Some(going)) => {
                (going.sent.map(|body| body.wire_bytes), going.answer.map(|body| body.wire_bytes))
            }
            (None, None) => (None, None),
        }
    }
}

fn join(
    hit: Hit,
    received: jiff::Timestamp,
    subject: Workload,
    statement: Statement,
    intent: Intent,
    heard: &Heard,
    sql: Option<(String, bool)>,
) -> Call {
    let (sent_bytes, answer_bytes) = heard.bytes();
    let outcome = heard.outcome.as_ref();
    let reported = outcome.and_then(|outcome| outcome.reported.clone()).unwrap_or_default();
    let (sql, sql_truncated) = sql.map_or((None, false), |(sql, truncated)| (Some(sql), truncated));
    Call {
        index: hit.index,
        outcome_index: hit.outcome,
        progress_index: hit.progress,
        received,
        time: statement.time,
        subject,
        connection: statement.connection,
        session: statement.session,
        seq: statement.seq,
        method: intent.method,
        http: intent.http,
        statement_kind: reported.statement_kind.or(intent.statement_kind),
        tables: merge(reported.tables, intent.tables, intent.project.as_deref()),
        tables_truncated: intent.tables_truncated,
        statements: intent.statements.clone(),
        statements_truncated: intent.statements_truncated,
        sql,
        sql_truncated,
        job: reported.job.or(intent.job),
        labels: statement.claimed.labels,
        trace: statement.claimed.trace,
        joined: intent.joined,
        upload: intent.upload.or(outcome.and_then(|outcome| outcome.upload)),
        result: outcome.map(|outcome| outcome.result),
        status: outcome.and_then(|outcome| outcome.status),
        reason: outcome.and_then(|outcome| outcome.reason.clone()),
        rows: reported.rows,
        total_rows: reported.total_rows,
        affected_rows: reported.affected_rows,
        rows_sent: outcome.and_then(|outcome| outcome.rows).map(|rows| rows.count),
        row_errors: reported.row_errors,
        sent_bytes,
        answer_bytes,
        forwarded: outcome.map(|outcome| outcome.forwarded),
        duration_micros: outcome.map(|outcome| outcome.duration_micros),
        refused: intent.refused,
    }
}

/// Reported tables first; then those of the request that were not reported.
fn merge(reported: Vec<TableUse>, named: Vec<TableUse>, project: Option<&str>) -> Vec<FoundTable> {
    let same = |one: &TableUse, other: &TableUse| {
        let project_of = |table: &TableUse| table.project.clone().or(project.map(str::to_owned));
        (&one.dataset, &one.table, one.access) == (&other.dataset, &other.table, other.access)
            && project_of(one) == project_of(other)
    };
    let only_named: Vec<_> =
        named.into_iter().filter(|table| !reported.iter().any(|other| same(table, other))).collect();
    let found = |reported| move |table| FoundTable { table, reported };
    reported.into_iter().map(found(true)).chain(only_named.into_iter().map(found(false))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::call::Access;

    fn table(project: Option<&str>, table: &str) -> TableUse {
        let project = project.map(str::to_owned);
        TableUse { project, dataset: Some("d".into()), table: table.into(), access: Access::Read }
    }

    #[test]
    fn sql_is_cut_at_a_character() {
        assert_eq!(cut(b"SELECT 1"), ("SELECT 1".into(), false));
        let long = "é".repeat(MAX_SQL);
        let (text, truncated) = cut(long.as_bytes());
        assert_eq!((text.len(), truncated), (MAX_SQL, true));
        let odd = format!("x{long}");
        let (text, truncated) = cut(odd.as_bytes());
        assert_eq!((text.len(), truncated), (MAX_SQL - 1, true));
        assert!(!text.contains('\u{fffd}'));
    }

    #[test]
    fn a_reported_table_is_listed_once() {
        let merged = merge(vec![table(Some("p"), "a")], vec![table(None, "a"), table(None, "b")], Some("p"));
        let listed: Vec<_> =
            merged.iter().map(|found| (found.table.table.as_str(), found.reported)).collect();
        assert_eq!(listed, [("a", true), ("b", false)]);
    }
}
