//! Checking a whole log at start: every entry, tile and blob, against the checkpoint.
//!
//! What a bundle says by itself is checked by several readers at a time, each with bundles of its own: its entries against
//! the hashes beside it, its blobs against their names. What follows from the order of all entries, the tree and the
//! sessions, is added up by one, in order. So the first damage in the log's order is the one that is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, Scope};

use ledger::checkpoint::Checkpoint;
use ledger::digest::Digest;
use ledger::tile::{Level, TILE_WIDTH, Tile, parse_bundle};
use ledger::tree::{Frontier, Hash, leaf_hash};

use super::error::{StoreError, at};
use super::files::Files;
use super::publish::{CHECKPOINT_FILE, LOG_DIR, blob_path, tile_path};
use super::reader::read_tile;
use crate::history::{History, Said};

/// Most readers at one time. Each holds one bundle, which is at most 16 MiB.
const READERS: usize = 4;

/// Bundles that a reader may be ahead of the one who adds up.
const AHEAD: usize = 4;

/// A log that was found to be whole.
pub(super) struct Whole {
    /// The tree's right edge.
    pub(super) frontier: Frontier,
    /// The bytes of the last bundle, if it is partial.
    pub(super) last_bundle: Vec<u8>,
    /// Blobs that were read, one that several entries name counted for each.
    pub(super) blobs: u64,
    /// Blobs that entries name and that are not there: the log, to its end, must say of each that it was deleted.
    pub(super) absent: BTreeSet<Digest>,
}

/// A bundle that is whole by itself.
#[derive(Default)]
struct Bundle {
    entries: Vec<(Hash, Said)>,
    blobs: u64,
    absent: Vec<Digest>,
    /// Its bytes, when it is partial.
    partial: Vec<u8>,
}

type Bundles = Receiver<Result<Bundle, StoreError>>;

/// Reads every entry that the checkpoint covers and every blob that they name, compares all tiles with what the entries
/// give, and the root with the checkpoint's.
pub(super) fn check_log(
    files: &dyn Files,
    checkpoint: &Checkpoint,
    history: &mut History,
) -> Result<Whole, StoreError> {
    let readers = std::thread::available_parallelism().map_or(1, usize::from).min(READERS);
    std::thread::scope(|scope| {
        let bundles = (0..readers).map(|first| read_bundles(scope, files, checkpoint.size, first, readers));
        let bundles = bundles.collect::<Result<Vec<_>, _>>()?;
        add_up(files, checkpoint, history, &bundles)
    })
}

/// A reader of every `step`th bundle from `first` on. It ends early when nobody listens any more.
fn read_bundles<'scope>(
    scope: &'scope Scope<'scope, '_>,
    files: &'scope dyn Files,
    size: u64,
    first: usize,
    step: usize,
) -> Result<Bundles, StoreError> {
    let (sender, bundles) = sync_channel(AHEAD);
    let read = move || {
        for index in (first as u64..size.div_ceil(TILE_WIDTH)).step_by(step) {
            let tile = Tile::at(Level::Entries, index, size).expect("below the size");
            if sender.send(read_bundle(files, tile)).is_err() {
                return;
            }
        }
    };
    let started = Builder::new().name("check".into()).spawn_scoped(scope, read);
    started.map_err(at("start a thread to read", LOG_DIR))?;
    Ok(bundles)
}

fn read_bundle(files: &dyn Files, tile: Tile) -> Result<Bundle, StoreError> {
    let (path, bytes) = (tile_path(tile), need_tile(files, tile)?);
    let leaves = parse_bundle(tile, &bytes);
    let leaves = leaves.map_err(|error| StoreError::corrupt(&path, 0, error.to_string()))?;
    let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    check_leaf_hashes(files, &path, Tile { level: Level::Hashes(0), ..tile }, &leaves, &hashes)?;
    let mut bundle = Bundle { entries: Vec::with_capacity(leaves.len()), ..Bundle::default() };
    for ((index, leaf), hash) in (tile.index * TILE_WIDTH..).zip(leaves).zip(hashes) {
        let said = Said::read(index, leaf).map_err(|what| StoreError::corrupt(&path, 0, what))?;
        for blob in said.blobs() {
            match check_blob(files, &blob.digest)? {
                Here::Yes => bundle.blobs += 1,
                Here::No => bundle.absent.push(blob.digest),
            }
        }
        bundle.entries.push((hash, said));
    }
    if !tile.is_full() {
        bundle.partial = bytes;
    }
    Ok(bundle)
}

/// Grows the tree and the history from all bundles, in order.
fn add_up(
    files: &dyn Files,
    checkpoint: &Checkpoint,
    history: &mut History,
    bundles: &[Bundles],
) -> Result<Whole, StoreError> {
    let mut whole =
        Whole { frontier: Frontier::default(), last_bundle: Vec::new(), blobs: 0, absent: BTreeSet::new() };
    for readers_turn in (0..bundles.len()).cycle().take(count(checkpoint.size)) {
        let bundle = bundles[readers_turn].recv().expect("a reader ends after its last bundle")?;
        let mut full = Vec::new();
        for (hash, said) in bundle.entries {
            history.add(whole.frontier.size(), said);
            whole.frontier.push(hash, |tile, hashes| full.push((tile, hashes.concat())));
        }
        // Level 0 was compared entry by entry when the bundle was read.
        full.iter().skip(1).try_for_each(|(tile, hashes)| check_hashes(files, *tile, hashes))?;
        whole.blobs += bundle.blobs;
        whole.absent.extend(bundle.absent);
        whole.last_bundle = bundle.partial;
    }
    for (tile, hashes) in whole.frontier.partial_tiles() {
        check_hashes(files, tile, &hashes.concat())?;
    }
    if whole.frontier.root() != checkpoint.root {
        let what = "the checkpoint's root hash is not that of the entries";
        return Err(StoreError::corrupt(CHECKPOINT_FILE, 0, what));
    }
    Ok(whole)
}

fn count(size: u64) -> usize {
    usize::try_from(size.div_ceil(TILE_WIDTH)).expect("a disk holds fewer bundles")
}

/// Compares a bundle with the leaf hashes beside it, and says which entry differs.
fn check_leaf_hashes(
    files: &dyn Files,
    path: &str,
    tile: Tile,
    leaves: &[&[u8]],
    hashes: &[Hash],
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

/// Whether a blob is there.
enum Here {
    Yes,
    No,
}

/// A blob that is there must be the one that was named.
fn check_blob(files: &dyn Files, digest: &Digest) -> Result<Here, StoreError> {
    let path = blob_path(digest);
    match files.read(&path) {
        Ok(bytes) if Digest::of(&bytes) == *digest => Ok(Here::Yes),
        Ok(_) => Err(StoreError::corrupt(&path, 0, "the blob's SHA-256 is not its name")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Here::No),
        Err(error) => Err(at("read", &path)(error)),
    }
}

/// A blob that is not there was deleted, and an entry says so. What else is missing is damage.
pub(super) fn check_absent(
    absent: &BTreeSet<Digest>,
    deleted: &BTreeMap<Digest, u64>,
) -> Result<(), StoreError> {
    let lost = absent.iter().find(|digest| !deleted.contains_key(digest));
    let what = "the file is missing, and no entry says that it was deleted";
    lost.map_or(Ok(()), |digest| Err(StoreError::corrupt(&blob_path(digest), 0, what)))
}

fn need_tile(files: &dyn Files, tile: Tile) -> Result<Vec<u8>, StoreError> {
    read_tile(files, tile)?.ok_or_else(|| StoreError::corrupt(&tile_path(tile), 0, "the file is missing"))
}
