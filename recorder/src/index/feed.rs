//! The indexer: one thread that follows the published log. What was just published it is handed from memory; what it is
//! behind it reads from the files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ledger::tile::{TILE_WIDTH, parse_bundle};
use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::progress::{Progress, Rebuild};
use super::query::signed;
use super::rows::Rows;
use super::{IndexError, schema};
use crate::metrics::Metrics;
use crate::store::reader::LogReader;
use crate::store::tail::Snapshot;

/// Entries in one transaction of the index, at most: as many as come between two checkpoints at 10,000 a second, since each
/// transaction writes the pages anew that it shares with the one before.
const CHUNK: u64 = 16 * TILE_WIDTH;

/// After an error, the indexer waits this long and tries again.
const RETRY: Duration = Duration::from_secs(10);

/// The indexer's priority among the recorder's threads, as `nice` has it.
const NICENESS: i32 = 19;

/// Follows the log.
pub struct Indexer {
    connection: Connection,
    log: LogReader,
    progress: watch::Sender<Progress>,
    /// Entries in the index. `progress` says so when what was taken out of it left no trace.
    covered: u64,
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
        Ok(Self { connection, log, progress, covered, rebuild, metrics })
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
        self.purge()?;
        let mut covered = self.covered;
        while covered < size {
            let recent = self.log.recent(covered);
            let end = size.min((covered / TILE_WIDTH) * TILE_WIDTH + CHUNK);
            let end = recent.as_ref().map_or(end, |recent| end.min(recent.end()));
            let transaction = self.connection.transaction()?;
            let mut rows = Rows::new(&transaction, &self.log, recent.as_deref());
            match &recent {
                Some(recent) => add_recent(&mut rows, recent, covered, end)?,
                None => add_stored(&mut rows, &self.log, covered, end)?,
            }
            if rows.finish()? {
                schema::note_purge(&transaction)?;
            }
            transaction
                .prepare_cached("UPDATE meta SET value = ? WHERE name = 'size'")?
                .execute([end.to_string()])?;
            transaction.commit()?;
            covered = end;
            self.covered = covered;
            self.purge()?;
            self.reached(covered);
        }
        Ok(())
    }

    /// Leaves no trace of what was taken out, also of what was before an earlier error or start.
    fn purge(&mut self) -> Result<(), IndexError> {
        if schema::must_purge(&self.connection)? {
            schema::purge(&self.connection)?;
            self.reached(self.covered);
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

/// Adds entries from what was just published.
fn add_recent(rows: &mut Rows<'_>, recent: &Snapshot, from: u64, to: u64) -> Result<(), IndexError> {
    let place = usize::try_from(from - recent.first).unwrap_or(usize::MAX);
    let leaves = recent.leaves.iter().skip(place);
    (from..to).zip(leaves).try_for_each(|(index, leaf)| rows.add(index, leaf))
}

/// Adds entries from their bundles.
fn add_stored(rows: &mut Rows<'_>, log: &LogReader, from: u64, to: u64) -> Result<(), IndexError> {
    for number in from / TILE_WIDTH..to.div_ceil(TILE_WIDTH) {
        let first = number * TILE_WIDTH;
        let missing = || IndexError::Entry(first, "its bundle is missing".into());
        let (tile, bytes) = log.bundle(number)?.ok_or_else(missing)?;
        let leaves =
            parse_bundle(tile, &bytes).map_err(|error| IndexError::Entry(first, error.to_string()))?;
        for (index, leaf) in (first..to).zip(leaves).skip_while(|(index, _)| *index < from) {
            rows.add(index, leaf)?;
        }
    }
    Ok(())
}
