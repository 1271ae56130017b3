//! The indexer: one thread that follows the published log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ledger::call::{CallResult, Intent, Outcome, TableUse};
use ledger::entry::{Entry, Subject, Workload};
use ledger::statement::{Body, Statement};
use ledger::tile::{TILE_WIDTH, parse_bundle};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::runtime::Handle;
use tokio::sync::watch;
use uuid::Uuid;

use super::progress::{Progress, Rebuild};
use super::query::{nanos, signed};
use super::tally::Tally;
use super::{IndexError, schema};
use crate::metrics::Metrics;
use crate::store::reader::LogReader;

/// Entries in one transaction of the index, at most: as many as come between two checkpoints at 10,000 a second, since each
/// transaction writes the pages anew that it shares with the one before.
const CHUNK: u64 = 16 * TILE_WIDTH;

/// After an error, the indexer waits this long and tries again.
const RETRY: Duration = Duration::from_secs(10);

/// The indexer's priority among the recorder's threads, as `nice` has it.
const NICENESS: i32 = 19;

/// How much of a SQL text is searched, in bytes; the rest is in the blob.
const MAX_WORDS: usize = 1 << 20;

/// Follows the log.
pub struct Indexer {
    connection: Connection,
    log: LogReader,
    progress: watch::Sender<Progress>,
    /// Under way until the log is reached for the first time.
    rebuild: Option<Rebuild>,
    metrics: Arc<Metrics>,
}

impl Indexer {
    /// Opens the index, or begins a new one.
    ///
    /// # Errors
    /// When no index can be made.
    pub fn open(data: &Path, vkey: &str, log: LogReader, metrics: Arc<Metrics>) -> Result<Self, IndexError> {
        let size = log.published().size;
        let connection = schema::open(data, vkey, size)?;
        let covered = schema::covered(&connection)?;
        let rebuild = (covered < size).then(|| Rebuild::begin(covered, size));
        metrics.index_size.set(signed(covered));
        metrics.index_rebuilding.set(rebuild.is_some().into());
        let progress = watch::Sender::new(Progress { covered, rebuilding: rebuild.is_some() });
        Ok(Self { connection, log, progress, rebuild, metrics })
    }

    /// Sees how far the index goes.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Follows the log until it ends.
    pub fn run(mut self, runtime: &Handle) {
        // To Linux a thread is a process here: this one gives way to those that acknowledge.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!(%error, "the indexer runs at the common priority");
        }
        let mut published = self.log.watch();
        loop {
            let size = published.borrow_and_update().size;
            match self.catch_up(size) {
                Ok(()) if runtime.block_on(published.changed()).is_err() => return, // the publisher has ended
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, "the search index can't follow the log; trying again");
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    /// Brings the index to a log of `size`.
    ///
    /// # Errors
    /// What stands in the way. What is covered stays right.
    pub fn catch_up(&mut self, size: u64) -> Result<(), IndexError> {
        let mut covered = self.progress.borrow().covered;
        while covered < size {
            let end = size.min((covered / TILE_WIDTH) * TILE_WIDTH + CHUNK);
            let transaction = self.connection.transaction()?;
            let mut tally = Tally::default();
            add_entries(&transaction, &mut tally, &self.log, covered, end)?;
            tally.write(&transaction)?;
            transaction
                .prepare_cached("UPDATE meta SET value = ? WHERE name = 'size'")?
                .execute([end.to_string()])?;
            transaction.commit()?;
            covered = end;
            self.reached(covered);
        }
        Ok(())
    }

    /// Says how far the index is now.
    fn reached(&mut self, covered: u64) {
        let of = self.log.published().size;
        match self.rebuild.take() {
            Some(rebuild) if covered >= of => rebuild.end(covered),
            Some(mut rebuild) => {
                rebuild.tell(covered, of);
                self.rebuild = Some(rebuild);
            }
            None => {}
        }
        let rebuilding = self.rebuild.is_some();
        self.metrics.index_size.set(signed(covered));
        self.metrics.index_rebuilding.set(rebuilding.into());
        self.progress.send_replace(Progress { covered, rebuilding });
    }
}

fn add_entries(
    transaction: &Transaction<'_>,
    tally: &mut Tally,
    log: &LogReader,
    from: u64,
    to: u64,
) -> Result<(), IndexError> {
    for number in from / TILE_WIDTH..to.div_ceil(TILE_WIDTH) {
        let first = number * TILE_WIDTH;
        let missing = || IndexError::Entry(first, "its bundle is missing".into());
        let (tile, bytes) = log.bundle(number)?.ok_or_else(missing)?;
        let leaves =
            parse_bundle(tile, &bytes).map_err(|error| IndexError::Entry(first, error.to_string()))?;
        for (index, leaf) in (first..to).zip(leaves).skip_while(|(index, _)| *index < from) {
            add_entry(transaction, tally, log, index, leaf)?;
        }
    }
    Ok(())
}

fn add_entry(
    transaction: &Transaction<'_>,
    tally: &mut Tally,
    log: &LogReader,
    index: u64,
    leaf: &[u8],
) -> Result<(), IndexError> {
    let entry = Entry::parse(leaf).map_err(|error| IndexError::Entry(index, error.to_string()))?;
    // A statement of a later version of the format is recorded, not searchable.
    let Ok(mut statement) = Statement::parse(entry.statement) else { return Ok(()) };
    let Subject::Workload(workload) = &entry.envelope.subject else {
        return add_recorders(transaction, tally, index, &statement.body);
    };
    tally.heard(statement.session, index, entry.envelope.received, &statement.body);
    let body = &mut statement.body;
    match (body.intent.take(), body.outcome.take(), body.progress.take()) {
        (Some(intent), ..) => {
            tally.intent(statement.session, intent.refused.is_some());
            add_intent(transaction, log, index, &entry, &statement, &intent)
        }
        (_, Some(outcome), _) => add_outcome(transaction, tally, index, &statement, &outcome),
        (.., Some(progress)) => add_progress(transaction, index, statement.session, progress.call),
        _ if statement.body.start.is_some() => add_session(transaction, index, &entry, workload, &statement),
        _ => Ok(()),
    }
}

/// What the recorder says of a session.
fn add_recorders(
    transaction: &Transaction<'_>,
    tally: &mut Tally,
    index: u64,
    body: &Body,
) -> Result<(), IndexError> {
    if let Some(lost) = &body.lost {
        tally.lost(lost.session, index);
    }
    if let Some(hole) = &body.hole {
        tally.hole(hole);
        transaction
            .prepare_cached("INSERT OR IGNORE INTO holes (session, idx, first, last) VALUES (?, ?, ?, ?)")?
            .execute(params![hole.session.as_bytes(), signed(index), signed(hole.from), signed(hole.to)])?;
    }
    Ok(())
}

fn add_session(
    transaction: &Transaction<'_>,
    index: u64,
    entry: &Entry<'_>,
    workload: &Workload,
    statement: &Statement,
) -> Result<(), IndexError> {
    let received = nanos(entry.envelope.received);
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO sessions (idx, session, received, namespace, agent, pod, connection, heard)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            signed(index),
            statement.session.as_bytes(),
            received,
            workload.namespace,
            entry.envelope.subject.to_string(),
            workload.pod,
            connection_name(statement),
            received,
        ])?;
    Ok(())
}

/// `namespace/name`
fn connection_name(statement: &Statement) -> Option<String> {
    statement.connection.as_ref().map(|connection| format!("{}/{}", connection.namespace, connection.name))
}

fn add_intent(
    transaction: &Transaction<'_>,
    log: &LogReader,
    index: u64,
    entry: &Entry<'_>,
    statement: &Statement,
    intent: &Intent,
) -> Result<(), IndexError> {
    let Subject::Workload(workload) = &entry.envelope.subject else { return Ok(()) };
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO calls (idx, received, namespace, agent, pod, connection, session, seq, method, kind, job, upload, refused)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        signed(index),
        entry.envelope.received.as_microsecond(),
        workload.namespace,
        entry.envelope.subject.to_string(),
        workload.pod,
        connection_name(statement),
        statement.session.as_bytes(),
        signed(statement.seq),
        intent.method,
        intent.statement_kind,
        intent.job.as_ref().map(|job| &job.id),
        intent.upload.map(|upload| upload.0),
        intent.refused.is_some(),
    ])?;
    add_tables(transaction, index, intent.project.as_deref(), &intent.tables)?;
    if intent.tables_truncated {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO tables (name, idx) VALUES (?, ?)")?
            .execute(params![schema::ANY_TABLE, signed(index)])?;
    }
    let Some(sql) = statement.blobs.get("sql") else { return Ok(()) };
    let Some(blob) = log.blob(&sql.digest)? else { return Ok(()) }; // deleted since
    let text = &blob[ledger::blob::SALT_LEN..];
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_WORDS)]);
    transaction
        .prepare_cached("INSERT INTO words (rowid, sql) VALUES (?, ?)")?
        .execute(params![signed(index), text])?;
    Ok(())
}

/// The last word of a call's progress is what is shown of it.
fn add_progress(
    transaction: &Transaction<'_>,
    index: u64,
    session: Uuid,
    call: u64,
) -> Result<(), IndexError> {
    transaction
        .prepare_cached("UPDATE calls SET progress = ? WHERE session = ? AND seq = ?")?
        .execute(params![signed(index), session.as_bytes(), signed(call)])?;
    Ok(())
}

/// Joins an outcome with its call. An outcome whose intent is missing (a `log.hole` says so) has no call to join.
fn add_outcome(
    transaction: &Transaction<'_>,
    tally: &mut Tally,
    index: u64,
    statement: &Statement,
    outcome: &Outcome,
) -> Result<(), IndexError> {
    let result = serde_json::to_value(outcome.result).ok();
    let reported = outcome.reported.as_ref();
    let mut update = transaction.prepare_cached(
        "UPDATE calls SET outcome = ?, result = ? WHERE session = ? AND seq = ? AND outcome IS NULL
         RETURNING idx, refused, kind, job, upload",
    )?;
    let call: Option<(i64, bool, Corrected)> = update
        .query_row(
            params![
                signed(index),
                result.as_ref().and_then(|result| result.as_str()),
                statement.session.as_bytes(),
                signed(outcome.call),
            ],
            |row| Ok((row.get(0)?, row.get(1)?, (row.get(2)?, row.get(3)?, row.get(4)?))),
        )
        .optional()?;
    let Some((call, refused, known)) = call else { return Ok(()) };
    correct(transaction, call, &known, outcome)?;
    // A call can be refused after its intent, when that was too late to be acknowledged in time.
    let refused_now = outcome.result == CallResult::Refused && !refused;
    if refused_now {
        transaction.prepare_cached("UPDATE calls SET refused = TRUE WHERE idx = ?")?.execute([call])?;
    }
    tally.outcome(statement.session, refused_now);
    reported.map_or(Ok(()), |reported| add_tables(transaction, call.cast_unsigned(), None, &reported.tables))
}

/// What an outcome may correct: statement kind, job and upload.
type Corrected = (Option<String>, Option<String>, Option<[u8; 32]>);

/// What BigQuery reported wins over what the request said. Mostly the two agree, and nothing is written: these columns have
/// indexes of their own.
fn correct(
    transaction: &Transaction<'_>,
    call: i64,
    known: &Corrected,
    outcome: &Outcome,
) -> Result<(), IndexError> {
    let reported = outcome.reported.as_ref();
    let kind = reported.and_then(|reported| reported.statement_kind.clone());
    let job = reported.and_then(|reported| reported.job.as_ref()).map(|job| job.id.clone());
    let upload = outcome.upload.map(|upload| upload.0);
    let now = (kind.or(known.0.clone()), job.or(known.1.clone()), upload.or(known.2));
    if now == *known {
        return Ok(());
    }
    transaction
        .prepare_cached("UPDATE calls SET kind = ?, job = ?, upload = ? WHERE idx = ?")?
        .execute(params![now.0, now.1, now.2, call])?;
    Ok(())
}

fn add_tables(
    transaction: &Transaction<'_>,
    call: u64,
    project: Option<&str>,
    tables: &[TableUse],
) -> Result<(), IndexError> {
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO tables (name, idx) VALUES (?, ?)")?;
    for TableUse { project: own, dataset, table, .. } in tables {
        let Some(dataset) = dataset else { continue };
        let mut names = vec![dataset.clone(), format!("{dataset}.{table}")];
        names.extend(own.as_deref().or(project).map(|project| format!("{project}.{dataset}.{table}")));
        for name in names {
            insert.execute(params![name, signed(call)])?;
        }
    }
    Ok(())
}
