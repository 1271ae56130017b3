//! The tables of the index. Rows hold what is searched for and where it lies in the log; everything shown is read from
//! the log itself.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::IndexError;

/// Changes with the tables: an index of another version is built again.
const VERSION: &str = "9";

/// Pages of SQLite's own log at which it is brought into the database: 16 MiB. Each time it waits for the disk twice, which
/// the write-ahead log of the record then waits for too.
const CHECKPOINT_PAGES: i64 = 4096;

/// Most memory for pages that the index is fed through, in KiB.
const CACHE_KIB: i64 = 8 * 1024;

/// How long a purge waits for searches to end that read what was there before. A search is ended after ten seconds.
const PURGE_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    -- One row for each call.intent; `idx` is its index in the log.
    CREATE TABLE calls (
        idx INTEGER PRIMARY KEY,
        outcome INTEGER,
        received INTEGER NOT NULL, -- microseconds since 1970
        cluster TEXT NOT NULL,
        namespace TEXT NOT NULL,
        agent TEXT NOT NULL, -- namespace/service-account
        pod TEXT NOT NULL,
        connection TEXT, -- namespace/name
        session BLOB NOT NULL,
        seq INTEGER NOT NULL,
        method TEXT NOT NULL,
        kind TEXT,
        job TEXT,
        upload BLOB, -- digest of the resumable upload that it began or went on with
        progress INTEGER, -- index of its last call.progress
        result TEXT, -- NULL while the call is open
        refused INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX calls_by_place ON calls (session, seq);
    CREATE INDEX calls_by_session ON calls (session);
    CREATE INDEX calls_by_received ON calls (received);
    CREATE INDEX calls_by_namespace ON calls (namespace);
    CREATE INDEX calls_by_agent ON calls (agent);
    CREATE INDEX calls_by_pod ON calls (pod);
    CREATE INDEX calls_by_connection ON calls (connection);
    CREATE INDEX calls_by_method ON calls (method);
    CREATE INDEX calls_by_kind ON calls (kind);
    CREATE INDEX calls_by_job ON calls (job) WHERE job IS NOT NULL;
    CREATE INDEX calls_by_upload ON calls (upload) WHERE upload IS NOT NULL;
    CREATE INDEX calls_refused ON calls (idx) WHERE refused;
    -- Most calls are answered, and are found without an index; the others are few among many.
    CREATE INDEX calls_open ON calls (idx) WHERE result IS NULL;
    CREATE INDEX calls_unanswered ON calls (result) WHERE result = 'refused' OR result = 'failed' OR result = 'aborted';
    -- One row for each session.start; `idx` is its index in the log. What follows from later entries is counted here.
    CREATE TABLE sessions (
        idx INTEGER PRIMARY KEY,
        session BLOB NOT NULL UNIQUE,
        received INTEGER NOT NULL, -- nanoseconds since 1970
        cluster TEXT NOT NULL,
        namespace TEXT NOT NULL,
        agent TEXT NOT NULL, -- namespace/service-account
        pod TEXT NOT NULL,
        role TEXT NOT NULL, -- sidecar, operator
        connection TEXT, -- namespace/name
        heard INTEGER NOT NULL, -- when its last statement was received
        state TEXT NOT NULL DEFAULT 'open', -- open, ended, lost
        ending INTEGER, -- index of its session.end or session.lost
        calls INTEGER NOT NULL DEFAULT 0,
        open_calls INTEGER NOT NULL DEFAULT 0,
        refused INTEGER NOT NULL DEFAULT 0,
        unrecorded INTEGER NOT NULL DEFAULT 0,
        holes INTEGER NOT NULL DEFAULT 0,
        missing INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX sessions_by_received ON sessions (received);
    CREATE INDEX sessions_by_namespace ON sessions (namespace);
    CREATE INDEX sessions_by_agent ON sessions (agent);
    CREATE INDEX sessions_by_pod ON sessions (pod);
    CREATE INDEX sessions_by_connection ON sessions (connection);
    CREATE INDEX sessions_open ON sessions (idx) WHERE state = 'open';
    -- Where sidecars have spoken, and of which operators have.
    CREATE TABLE namespaces (
        cluster TEXT NOT NULL, namespace TEXT NOT NULL, PRIMARY KEY (cluster, namespace)
    ) WITHOUT ROWID;
    -- One row for each log.hole.
    CREATE TABLE holes (
        session BLOB NOT NULL, idx INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        PRIMARY KEY (session, idx)
    ) WITHOUT ROWID;
    -- One row for each connection.accepted and connection.deleted; `superseded` is when the next one of the connection was received.
    CREATE TABLE connections (
        idx INTEGER PRIMARY KEY,
        received INTEGER NOT NULL, -- nanoseconds since 1970
        superseded INTEGER,
        cluster TEXT NOT NULL,
        operator TEXT NOT NULL, -- cluster/namespace/service-account
        uid TEXT NOT NULL,
        namespace TEXT, -- the connection's
        connection TEXT, -- namespace/name
        generation INTEGER NOT NULL,
        deleted INTEGER NOT NULL
    );
    CREATE INDEX connections_by_uid ON connections (uid);
    CREATE INDEX connections_by_connection ON connections (connection);
    CREATE INDEX connections_current ON connections (idx) WHERE superseded IS NULL;
    -- One row for each coverage.pod, in the same way.
    CREATE TABLE coverage (
        idx INTEGER PRIMARY KEY,
        received INTEGER NOT NULL,
        superseded INTEGER,
        cluster TEXT NOT NULL,
        operator TEXT NOT NULL,
        uid TEXT NOT NULL, -- the pod's
        namespace TEXT,
        pod TEXT NOT NULL,
        connection TEXT,
        ended INTEGER NOT NULL
    );
    CREATE INDEX coverage_by_uid ON coverage (uid);
    CREATE INDEX coverage_by_pod ON coverage (pod);
    CREATE INDEX coverage_by_connection ON coverage (connection);
    CREATE INDEX coverage_current ON coverage (idx) WHERE superseded IS NULL AND NOT ended;
    -- A call that names more tables than its entry holds is here under `*`. A table is here under `dataset`, `dataset.table` and `project.dataset.table`.
    CREATE TABLE tables (name TEXT NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (name, idx)) WITHOUT ROWID;
    -- The kinds of a script's statements, beside its own in `calls`. A script of more statements than its entry lists is here under
    -- `*`, and so is one with a statement that is not known.
    CREATE TABLE kinds (name TEXT NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (name, idx)) WITHOUT ROWID;
    -- The words of each call's SQL; the text itself stays in its blob.
    CREATE VIRTUAL TABLE words USING fts5 (
        sql, content = '', contentless_delete = 1, tokenize = \"unicode61 remove_diacritics 0 tokenchars '_'\"
    );
";

/// The name under which a call is found that names more tables, or a script that has more statements, than its entry holds: it may
/// name any. No table has it, and no kind of statement.
pub(super) const ANY: &str = "*";

/// Where the index lies.
#[must_use]
pub fn path(data: &Path) -> PathBuf {
    data.join("index.sqlite")
}

/// Opens the index of the log with this verifier key for writing; a new one if there is none that fits a log of `size`.
///
/// # Errors
/// When not even a new one can be made.
pub fn open(data: &Path, vkey: &str, size: u64) -> Result<Connection, IndexError> {
    let path = path(data);
    match open_existing(&path, vkey, size) {
        Ok(Some(connection)) => return Ok(connection),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the search index can't be used; building it again"),
    }
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::remove_file(data.join(format!("index.sqlite{suffix}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    create(&path, vkey)
}

/// A connection that only reads.
///
/// # Errors
/// SQLite's.
pub fn open_reader(data: &Path) -> Result<Connection, IndexError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path(data), flags)?)
}

fn open_existing(path: &Path, vkey: &str, size: u64) -> Result<Option<Connection>, IndexError> {
    if !path.try_exists()? {
        return Ok(None);
    }
    let connection = Connection::open(path)?;
    prepare(&connection)?;
    let fits = meta(&connection, "version")?.as_deref() == Some(VERSION)
        && meta(&connection, "vkey")?.as_deref() == Some(vkey)
        && covered(&connection)? <= size;
    Ok(fits.then_some(connection))
}

fn create(path: &Path, vkey: &str) -> Result<Connection, IndexError> {
    let mut connection = Connection::open(path)?;
    prepare(&connection)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    for (name, value) in [("version", VERSION), ("vkey", vkey), ("size", "0")] {
        transaction.execute("INSERT INTO meta VALUES (?, ?)", params![name, value])?;
    }
    transaction.commit()?;
    Ok(connection)
}

/// WAL lets readers read while the index grows; NORMAL keeps it whole through a power cut, at the price of its last rows.
fn prepare(connection: &Connection) -> Result<(), IndexError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Notes that something was taken out, in the transaction that takes it out.
pub(super) fn note_purge(connection: &Connection) -> Result<(), IndexError> {
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('purge', 'due')", [])?;
    Ok(())
}

/// Was something taken out, of which traces may be left?
pub(super) fn must_purge(connection: &Connection) -> Result<bool, IndexError> {
    Ok(meta(connection, "purge")?.is_some())
}

/// Writes the whole index anew, without what was taken out of it: SQLite leaves that in its files otherwise. Takes as long as
/// writing it, and as much room again; searches are answered meanwhile.
///
/// # Errors
/// SQLite's: then it must be done again.
pub fn purge(connection: &Connection) -> Result<(), IndexError> {
    let begun = std::time::Instant::now();
    // Merging all of it drops the words that were marked as gone; then no page is kept that held them.
    connection.execute("INSERT INTO words (words) VALUES ('optimize')", [])?;
    connection.execute_batch("VACUUM")?;
    let deadline = begun + PURGE_LIMIT;
    loop {
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 {
            break;
        }
        if std::time::Instant::now() > deadline {
            let what =
                "searches keep the index's own log from being emptied: what was deleted is still in it";
            return Err(IndexError::Query(what.into()));
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    connection.execute("DELETE FROM meta WHERE name = 'purge'", [])?;
    tracing::info!(took = ?begun.elapsed(), "wrote the search index anew, without what was deleted");
    Ok(())
}

fn meta(connection: &Connection, name: &str) -> Result<Option<String>, IndexError> {
    let value = connection.query_row("SELECT value FROM meta WHERE name = ?", [name], |row| row.get(0));
    Ok(value.optional()?)
}

/// How many entries of the log the index covers.
///
/// # Errors
/// SQLite's.
pub fn covered(connection: &Connection) -> Result<u64, IndexError> {
    let size = meta(connection, "size")?.and_then(|size| size.parse().ok());
    size.ok_or_else(|| IndexError::Query("the index does not say what it covers".into()))
}
