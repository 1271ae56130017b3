//! Opening a data directory: check all of it against its own signed checkpoint, then bring what the write-ahead log has
//! into a new checkpoint, with the same code as in normal running. After this nothing is left to repair.

use std::sync::Arc;

use jiff::Timestamp;
use ledger::checkpoint::Checkpoint;
use ledger::digest::Digest;
use ledger::note::SigningNoteKey;
use ledger::tile::{Level, TILE_WIDTH, Tile, parse_bundle};
use ledger::tree::{Frontier, leaf_hash};
use tokio::sync::watch;

use super::error::{StoreError, at};
use super::files::{Files, put_durably};
use super::keys;
use super::publish::{CHECKPOINT_FILE, Published, Publisher, blob_path, sign_checkpoint, tile_path};
use super::reader::{LogReader, read_tile};
use super::tail::{EARLY_BYTES, Tail};
use super::wal::{self, Wal};
use crate::history::History;
use crate::metrics::Metrics;

/// An open data directory.
pub struct Opened {
    /// The log's key.
    pub key: SigningNoteKey,
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
    let key = keys::load_or_make(&*files, origin)?;
    let (checkpoint, note) = load_checkpoint(&*files, &key)?;
    let mut history = History::default();
    let edge = check_log(&*files, &checkpoint, &mut history)?;
    remove_outgrown(&*files, checkpoint.size)?;

    let published = Published { size: checkpoint.size, at: Timestamp::now(), note: note.into() };
    let (sender, receiver) = watch::channel(published);
    let tail = Arc::new(Tail::new(checkpoint.size));
    let mut publisher = Publisher::new(files.clone(), key.clone(), edge, sender, metrics);

    let torn_bytes = replay(&*files, &tail, &mut publisher, &mut history)?;
    let wal = Wal::new(files.clone())?;
    wal::remove_all(&*files)?;
    history.sessions.hear_all();
    let reader = LogReader::new(files, tail.clone(), receiver);
    Ok(Opened { key, wal, tail, publisher, reader, history, torn_bytes })
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
fn load_checkpoint(files: &dyn Files, key: &SigningNoteKey) -> Result<(Checkpoint, String), StoreError> {
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
        let note = sign_checkpoint(key, 0, Frontier::default().root());
        put_durably(files, CHECKPOINT_FILE, note.as_bytes(), false)?;
    }
    let note = files.read(CHECKPOINT_FILE).map_err(at("read", CHECKPOINT_FILE))?;
    let checkpoint = Checkpoint::verify(&note, key.verifier())
        .map_err(|error| StoreError::corrupt(CHECKPOINT_FILE, 0, error.to_string()))?;
    let note = String::from_utf8(note).map_err(|_| StoreError::corrupt(CHECKPOINT_FILE, 0, "not text"))?;
    Ok((checkpoint, note))
}

/// Reads every entry that the checkpoint covers, compares all tiles with what the entries give, and the root with the
/// checkpoint's. Gives the tree's right edge and the last bundle.
fn check_log(
    files: &dyn Files,
    checkpoint: &Checkpoint,
    history: &mut History,
) -> Result<(Frontier, Vec<u8>), StoreError> {
    let mut frontier = Frontier::default();
    let mut last_bundle = Vec::new();
    for index in 0..checkpoint.size.div_ceil(TILE_WIDTH) {
        let tile = Tile::at(Level::Entries, index, checkpoint.size).expect("below the size");
        let (path, bytes) = (tile_path(tile), need_tile(files, tile)?);
        let leaves =
            parse_bundle(tile, &bytes).map_err(|error| StoreError::corrupt(&path, 0, error.to_string()))?;
        let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        check_bundle(files, &path, Tile { level: Level::Hashes(0), ..tile }, &leaves, &hashes)?;
        let mut full = Vec::new();
        for (leaf, hash) in leaves.iter().zip(hashes) {
            let named =
                history.take(frontier.size(), leaf).map_err(|what| StoreError::corrupt(&path, 0, what))?;
            named.iter().try_for_each(|blob| check_blob(files, &blob.digest))?;
            frontier.push(hash, |tile, hashes| full.push((tile, hashes.concat())));
        }
        // Level 0 was compared entry by entry above.
        full.iter().skip(1).try_for_each(|(tile, hashes)| check_hashes(files, *tile, hashes))?;
        last_bundle = if tile.is_full() { Vec::new() } else { bytes };
    }
    for (tile, hashes) in frontier.partial_tiles() {
        check_hashes(files, tile, &hashes.concat())?;
    }
    if frontier.root() != checkpoint.root {
        return Err(StoreError::corrupt(
            CHECKPOINT_FILE,
            0,
            "the checkpoint's root hash is not that of the entries",
        ));
    }
    Ok((frontier, last_bundle))
}

/// Compares a bundle with the leaf hashes beside it, and says which entry differs.
fn check_bundle(
    files: &dyn Files,
    path: &str,
    tile: Tile,
    leaves: &[&[u8]],
    hashes: &[ledger::tree::Hash],
) -> Result<(), StoreError> {
    let stored = need_tile(files, tile)?;
    if stored.len() != 32 * hashes.len() {
        return Err(StoreError::corrupt(
            &tile_path(tile),
            stored.len() as u64,
            "the tile has another length",
        ));
    }
    let mut offset = 0;
    for ((leaf, hash), stored) in leaves.iter().zip(hashes).zip(stored.chunks(32)) {
        if stored != hash {
            let what = format!("the entry here and its hash in {} do not belong together", tile_path(tile));
            return Err(StoreError::corrupt(path, offset, what));
        }
        offset += 2 + leaf.len() as u64;
    }
    Ok(())
}

fn check_hashes(files: &dyn Files, tile: Tile, expected: &[u8]) -> Result<(), StoreError> {
    let stored = need_tile(files, tile)?;
    let differs = stored.iter().zip(expected).position(|(a, b)| a != b);
    let differs =
        differs.or_else(|| (stored.len() != expected.len()).then(|| stored.len().min(expected.len())));
    match differs {
        Some(offset) => {
            Err(StoreError::corrupt(&tile_path(tile), offset as u64, "not the hash of the entries below it"))
        }
        None => Ok(()),
    }
}

/// A blob that is there must be the one that was named. One that is not there was deleted.
fn check_blob(files: &dyn Files, digest: &Digest) -> Result<(), StoreError> {
    let path = blob_path(digest);
    match files.read(&path) {
        Ok(bytes) if Digest::of(&bytes) != *digest => {
            Err(StoreError::corrupt(&path, 0, "the blob's SHA-256 is not its name"))
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at("read", &path)(error)),
        _ => Ok(()),
    }
}

fn need_tile(files: &dyn Files, tile: Tile) -> Result<Vec<u8>, StoreError> {
    read_tile(files, tile)?.ok_or_else(|| StoreError::corrupt(&tile_path(tile), 0, "the file is missing"))
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
