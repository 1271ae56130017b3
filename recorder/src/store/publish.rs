//! The publisher: takes the tail into blobs, bundles and tiles, and then signs a checkpoint over them.
//!
//! Order is everything here. Blobs, bundles and tiles are made durable; then the checkpoint replaces the one before; then
//! the write-ahead log forgets what the checkpoint covers. A crash between any two steps leaves the old checkpoint with
//! the write-ahead log, from which the same steps give the same bytes again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ledger::checkpoint::Checkpoint;
use ledger::digest::Digest;
use ledger::tile::{Level, TILE_WIDTH, Tile, push_entry};
use ledger::tree::{Frontier, Hash, leaf_hash};
use tokio::sync::watch;

use super::error::{StoreError, at};
use super::files::{Files, put, put_durably};
use super::keys::Signer;
use super::tail::{Snapshot, Tail};
use super::wal;
use crate::metrics::Metrics;

/// Shortest time between two checkpoints. An entry waits at most this long and for two publications to be covered, which
/// keeps it within the promised second.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(400);

/// Where the log lies.
pub const LOG_DIR: &str = "log";

/// The newest checkpoint's file.
pub const CHECKPOINT_FILE: &str = "log/checkpoint";

/// The newest checkpoint.
#[derive(Clone, Debug)]
pub struct Published {
    /// Entries that it covers.
    pub size: u64,
    /// When it was signed.
    pub at: Timestamp,
    /// The signed note.
    pub note: Arc<str>,
}

/// Where a blob lies: `blobs/ab/<64 hexadecimal digits>`.
#[must_use]
pub fn blob_path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{hex}", &hex[..2])
}

/// Where a tile lies.
#[must_use]
pub fn tile_path(tile: Tile) -> String {
    format!("{LOG_DIR}/{tile}")
}

/// Writes everything but the write-ahead log.
pub struct Publisher {
    files: Arc<dyn Files>,
    signer: Signer,
    frontier: Frontier,
    /// The entries of the last, partial bundle, in the bundle's format.
    bundle: Vec<u8>,
    /// Tiles that became full: their partial forms go when the next checkpoint is there, so that whoever holds the last
    /// one can still fetch its tiles.
    filled: Vec<Tile>,
    published: watch::Sender<Published>,
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// A publisher that continues a log: its right edge, and its last bundle as far as it goes.
    #[must_use]
    pub fn new(
        files: Arc<dyn Files>,
        signer: Signer,
        (frontier, bundle): (Frontier, Vec<u8>),
        published: watch::Sender<Published>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { files, signer, frontier, bundle, filled: Vec::new(), published, metrics }
    }

    /// Publishes what comes into the tail, until it is closed and empty.
    ///
    /// # Errors
    /// The first write that fails. Nothing is lost then: the write-ahead log has it.
    pub fn run(mut self, tail: &Tail) -> Result<(), StoreError> {
        let outcome = self.publish_until_closed(tail);
        tail.close();
        outcome
    }

    fn publish_until_closed(&mut self, tail: &Tail) -> Result<(), StoreError> {
        let mut last = Instant::now();
        while tail.wait_for_work(last, PUBLISH_INTERVAL) {
            last = Instant::now();
            self.publish(tail)?;
        }
        Ok(())
    }

    /// Takes what is in the tail now into the log and publishes a checkpoint over it.
    ///
    /// # Errors
    /// The first write that fails.
    pub fn publish(&mut self, tail: &Tail) -> Result<(), StoreError> {
        let begun = Instant::now();
        let snapshot = Arc::new(tail.snapshot());
        self.write_blobs(&snapshot)?;
        let filled = self.write_full_tiles(&snapshot)?;
        self.write_partial_tiles()?;
        self.files.sync_all().map_err(at("sync", "."))?;
        tail.recent().add(&snapshot); // before whoever follows is told
        self.write_checkpoint()?;
        tail.release(&snapshot);
        wal::remove_covered(&*self.files, self.frontier.size())?;
        self.remove_partials_of(filled)?;
        self.metrics.publish_seconds.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn write_blobs(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        snapshot
            .blobs
            .iter()
            .try_for_each(|(digest, blob)| put(&*self.files, &blob_path(digest), blob.as_bytes()))
    }

    /// Appends the leaves to tree and bundle, and writes each tile and bundle that becomes full.
    fn write_full_tiles(&mut self, snapshot: &Snapshot) -> Result<Vec<Tile>, StoreError> {
        let mut filled = Vec::new();
        for leaf in &snapshot.leaves {
            push_entry(&mut self.bundle, leaf);
            let mut tiles: Vec<(Tile, Vec<u8>)> = Vec::new();
            self.frontier.push(leaf_hash(leaf), |tile, hashes| tiles.push((tile, hashes.concat())));
            if let Some((first, _)) = tiles.first() {
                let bundle = std::mem::take(&mut self.bundle);
                tiles.push((Tile { level: Level::Entries, ..*first }, bundle));
            }
            for (tile, bytes) in tiles {
                put(&*self.files, &tile_path(tile), &bytes)?;
                filled.push(tile);
            }
        }
        Ok(filled)
    }

    fn write_partial_tiles(&self) -> Result<(), StoreError> {
        for (tile, hashes) in self.frontier.partial_tiles() {
            put(&*self.files, &tile_path(tile), &hashes.concat())?;
        }
        let size = self.frontier.size();
        match Tile::at(Level::Entries, size / TILE_WIDTH, size) {
            Some(tile) => put(&*self.files, &tile_path(tile), &self.bundle),
            None => Ok(()),
        }
    }

    /// The commit point.
    fn write_checkpoint(&self) -> Result<(), StoreError> {
        let (size, root) = (self.frontier.size(), self.frontier.root());
        let note = sign_checkpoint(&self.signer, size, root);
        put_durably(&*self.files, CHECKPOINT_FILE, note.as_bytes(), false)?;
        self.metrics.checkpoint(size); // before whoever follows is told
        self.published.send_replace(Published { size, at: Timestamp::now(), note: note.into() });
        Ok(())
    }

    fn remove_partials_of(&mut self, filled: Vec<Tile>) -> Result<(), StoreError> {
        for tile in std::mem::replace(&mut self.filled, filled) {
            let partials = format!("{}.p", tile_path(tile));
            match self.files.remove_dir(&partials) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(at("remove", &partials)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A checkpoint of the signer's own log.
pub(crate) fn sign_checkpoint(signer: &Signer, size: u64, root: Hash) -> String {
    Checkpoint { origin: signer.origin(), size, root }.sign(signer)
}
