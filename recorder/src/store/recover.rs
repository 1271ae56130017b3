//! Opening a data directory: check all of it against its own signed checkpoint, then bring what the write-ahead log has
//! into a new checkpoint, with the same code as in normal running. After this nothing is left to repair.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use ledger::checkpoint::Checkpoint;
use ledger::digest::Digest;
use ledger::log_keys::KeyNotes;
use ledger::tile::{Level, TILE_WIDTH, Tile};
use ledger::tree::Frontier;
use tokio::sync::watch;

use super::check::{self, Whole};
use super::deleted::Deleted;
use super::error::{StoreError, at};
use super::files::{Files, put_durably};
use super::keys::{self, Signer};
use super::publish::{CHECKPOINT_FILE, Published, Publisher, blob_path, sign_checkpoint, tile_path};
use super::reader::LogReader;
use super::tail::{EARLY_BYTES, Tail};
use super::wal::{self, Wal};
use crate::history::History;
use crate::metrics::Metrics;

/// An open data directory.
pub struct Opened {
    /// Signs with the log's keys.
    pub signer: Signer,
    /// Continues the write-ahead log.
    pub wal: Wal,
    /// Entries that wait for a checkpoint; none yet.
    pub tail: Arc<Tail>,
    /// Brings them into the log.
    pub publisher: Publisher,
    /// Reads the log.
    pub reader: LogReader,
    /// What the log says: sessions, its end.
    pub history: History,
    /// Bytes of a torn record that were cut off; they were never acknowledged.
    pub torn_bytes: u64,
}

/// Opens the data directory behind `files`, on which the caller holds the lock.
///
/// # Errors
/// [`StoreError`]: the directory is another log's, damaged, or can't be read or written.
pub fn open(files: Arc<dyn Files>, origin: &str, metrics: Arc<Metrics>) -> Result<Opened, StoreError> {
    let keys = keys::load_or_make(&*files, origin)?;
    let signer = Signer::new(keys.clone(), KeyNotes::default());
    let (checkpoint, note) = load_checkpoint(&*files, &signer)?;
    let mut history = History::default();
    let (edge, absent) = check_in_time(&*files, &checkpoint, &mut history, &metrics)?;
    remove_outgrown(&*files, checkpoint.size)?;

    let published = Published { size: checkpoint.size, at: Timestamp::now(), note: note.into() };
    let (sender, receiver) = watch::channel(published);
    let tail = Arc::new(Tail::new(checkpoint.size));
    let mut publisher = Publisher::new(files.clone(), signer.clone(), edge, sender, metrics);

    let torn_bytes = replay(&*files, &tail, &mut publisher, &mut history)?;
    check::check_absent(&absent, &history.deleted)?;
    let wal = Wal::new(files.clone())?;
    wal::remove_all(&*files)?;
    history.sessions.hear_all();
    let notes = KeyNotes { notes: std::mem::take(&mut history.key_notes) };
    keys::store_notes(&*files, &notes)?;
    signer.begin(keys, notes);
    let deleted = Deleted::new(std::mem::take(&mut history.deleted));
    remove_deleted(&*files, &deleted)?;
    let reader = LogReader::new(files, tail.clone(), receiver, deleted);
    Ok(Opened { signer, wal, tail, publisher, reader, history, torn_bytes })
}

/// The tree's right edge, and the last bundle if it is partial.
type Edge = (Frontier, Vec<u8>);

/// Checks the whole log, and says how long that took: it grows with the log, and nobody is acknowledged meanwhile.
/// With the blobs that are not there.
fn check_in_time(
    files: &dyn Files,
    checkpoint: &Checkpoint,
    history: &mut History,
    metrics: &Metrics,
) -> Result<(Edge, BTreeSet<Digest>), StoreError> {
    let begun = Instant::now();
    let Whole { frontier, last_bundle, blobs, absent } = check::check_log(files, checkpoint, history)?;
    let took = begun.elapsed();
    metrics.check_seconds.set(took.as_secs_f64());
    tracing::info!(
        entries = checkpoint.size,
        blobs,
        absent = absent.len(),
        ?took,
        "every entry and tile was read and holds, and every blob that is there"
    );
    Ok(((frontier, last_bundle), absent))
}

/// Removes the partial forms of tiles that are full, which a publisher that was stopped in between left behind.
fn remove_outgrown(files: &dyn Files, size: u64) -> Result<(), StoreError> {
    let levels = (0..8).map(Level::Hashes).chain([Level::Entries]);
    let full = levels.flat_map(|level| {
        (0..level.nodes(size) / TILE_WIDTH).filter_map(move |index| Tile::at(level, index, size))
    });
    for tile in full {
        let partials = format!("{}.p", tile_path(tile));
        if !files.list(&partials).map_err(at("list", &partials))?.is_empty() {
            files.remove_dir(&partials).map_err(at("remove", &partials))?;
        }
    }
    Ok(())
}

/// The newest checkpoint, verified; that of an empty log if this is a new one.
fn load_checkpoint(files: &dyn Files, signer: &Signer) -> Result<(Checkpoint, String), StoreError> {
    if files.len(CHECKPOINT_FILE).map_err(at("look at", CHECKPOINT_FILE))?.is_none() {
        let begun = !wal::segments(files)?.is_empty()
            || files.len("log/tile").map_err(at("look at", "log/tile"))?.is_some();
        if begun {
            return Err(StoreError::corrupt(
                CHECKPOINT_FILE,
                0,
                "the checkpoint is missing, but there are entries",
            ));
        }
        files.create_dir("log").map_err(at("create", "log"))?;
        let note = sign_checkpoint(signer, 0, Frontier::default().root());
        put_durably(files, CHECKPOINT_FILE, note.as_bytes(), false)?;
    }
    let note = files.read(CHECKPOINT_FILE).map_err(at("read", CHECKPOINT_FILE))?;
    let checkpoint = Checkpoint::verify(&note, &signer.keys().verifiers())
        .map_err(|error| StoreError::corrupt(CHECKPOINT_FILE, 0, error.to_string()))?;
    let note = String::from_utf8(note).map_err(|_| StoreError::corrupt(CHECKPOINT_FILE, 0, "not text"))?;
    Ok((checkpoint, note))
}

/// A blob that the log says was deleted goes, where it came back: with a copy of the directory, or because the recorder was stopped
/// in between.
fn remove_deleted(files: &dyn Files, deleted: &Deleted) -> Result<(), StoreError> {
    for digest in deleted.all() {
        let path = blob_path(&digest);
        if files.len(&path).map_err(at("look at", &path))?.is_some() {
            files.remove(&path).map_err(at("remove", &path))?;
            tracing::warn!(%digest, "removed a blob that the log says was deleted");
        }
    }
    Ok(())
}

/// Brings what the write-ahead log has beyond the checkpoint into the log. Says how many torn bytes its end has.
fn replay(
    files: &dyn Files,
    tail: &Tail,
    publisher: &mut Publisher,
    history: &mut History,
) -> Result<u64, StoreError> {
    let torn = wal::replay(files, |path, offset, first, record| {
        let size = tail.size();
        if first > size {
            let what = format!("entries {size} to {} are missing before this record", first - 1);
            return Err(StoreError::corrupt(path, offset, what));
        }
        let known = usize::try_from(size - first).unwrap_or(usize::MAX).min(record.leaves.len());
        let leaves = &record.leaves[known..];
        if leaves.is_empty() {
            return Ok(());
        }
        for (index, leaf) in (size..).zip(leaves) {
            history.take(index, leaf).map_err(|what| StoreError::corrupt(path, offset, what))?;
        }
        tail.add(leaves.iter().cloned(), record.blobs);
        if tail.bytes() > EARLY_BYTES { publisher.publish(tail) } else { Ok(()) }
    })?;
    if tail.bytes() > 0 {
        publisher.publish(tail)?;
    }
    Ok(torn)
}
