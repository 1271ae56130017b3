//! Reading the log while it grows: the tail first, then the files.

use std::io;
use std::sync::Arc;

use ledger::digest::Digest;
use ledger::tile::{Level, TILE_WIDTH, Tile, parse_bundle};
use tokio::sync::watch;

use super::deleted::Deleted;
use super::error::{StoreError, at};
use super::files::Files;
use super::publish::{Published, blob_path, tile_path};
use super::tail::{Snapshot, Tail};

/// Reads entries, tiles and blobs. Clones share everything; all calls block on the disk.
#[derive(Clone)]
pub struct LogReader {
    files: Arc<dyn Files>,
    tail: Arc<Tail>,
    published: watch::Receiver<Published>,
    deleted: Deleted,
}

impl LogReader {
    /// A reader of the log that `tail` continues.
    #[must_use]
    pub fn new(
        files: Arc<dyn Files>,
        tail: Arc<Tail>,
        published: watch::Receiver<Published>,
        deleted: Deleted,
    ) -> Self {
        Self { files, tail, published, deleted }
    }

    /// The blobs that were deleted.
    #[must_use]
    pub fn deleted(&self) -> &Deleted {
        &self.deleted
    }

    /// Entries in the log, those that no checkpoint covers yet included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tail.size()
    }

    /// The data directory.
    #[must_use]
    pub fn files(&self) -> Arc<dyn Files> {
        self.files.clone()
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn published(&self) -> Published {
        self.published.borrow().clone()
    }

    /// Asks for a checkpoint, also when nothing new is to be covered.
    pub fn want_checkpoint(&self) {
        self.tail.want();
    }

    /// A receiver that sees each new checkpoint.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// The leaf at `index`; `None` beyond the log's end.
    ///
    /// # Errors
    /// The system's, or a damaged bundle.
    pub fn entry(&self, index: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        if let Some(leaf) = self.tail.entry(index) {
            return Ok(Some(leaf));
        }
        let Some((tile, bytes)) = self.bundle(index / TILE_WIDTH)? else { return Ok(None) };
        let place = usize::try_from(index % TILE_WIDTH).expect("below 256");
        let entries = parse_bundle(tile, &bytes)
            .map_err(|error| StoreError::corrupt(&tile_path(tile), 0, error.to_string()))?;
        Ok(entries.get(place).map(|leaf| Arc::from(*leaf)))
    }

    /// What was published with the leaf at `index`, if that was just now. Asked by one who follows the log, and has what lies
    /// before that leaf. The newest checkpoint may not cover it yet.
    #[must_use]
    pub fn recent(&self, index: u64) -> Option<Arc<Snapshot>> {
        self.tail.recent().part_with(index)
    }

    /// The bundle at `index` of its level, as the newest checkpoint has it; `None` beyond that.
    ///
    /// # Errors
    /// The system's, or a damaged bundle.
    pub fn bundle(&self, index: u64) -> Result<Option<(Tile, Vec<u8>)>, StoreError> {
        let Some(tile) = Tile::at(Level::Entries, index, self.published().size) else { return Ok(None) };
        Ok(read_tile(&*self.files, tile)?.map(|bytes| (tile, bytes)))
    }

    /// A tile or bundle, if the newest checkpoint covers it.
    ///
    /// # Errors
    /// The system's, or a damaged full tile in whose place a partial one was asked for.
    pub fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, StoreError> {
        let covered = Tile::at(tile.level, tile.index, self.published().size);
        if covered.is_none_or(|covered| covered.width < tile.width) {
            return Ok(None);
        }
        read_tile(&*self.files, tile)
    }

    /// The file of a blob, salt and content; `None` when there is none (any more).
    ///
    /// # Errors
    /// The system's, or a blob that is not its digest.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(blob) = self.tail.blob(digest) {
            return Ok(Some(blob.as_bytes().to_vec()));
        }
        self.stored_blob(digest)
    }

    /// The file of a blob that a published entry names, salt and content; `None` when there is none (any more).
    ///
    /// # Errors
    /// The system's, or a blob that is not its digest.
    pub fn stored_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = blob_path(digest);
        match self.files.read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(Some(bytes)),
            Ok(_) => Err(StoreError::corrupt(&path, 0, "the blob's SHA-256 is not its name")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("read", &path)(error)),
        }
    }

    /// Length of a stored blob's content, without reading it; `None` when there is none.
    ///
    /// # Errors
    /// The system's.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        if let Some(blob) = self.tail.blob(digest) {
            return Ok(Some(blob.reference().size));
        }
        let path = blob_path(digest);
        let length = self.files.len(&path).map_err(at("look at", &path))?;
        Ok(length.map(|length| length.saturating_sub(ledger::blob::SALT_LEN as u64)))
    }
}

/// The bytes of a tile; a partial one that is gone is cut out of the full one in its place.
///
/// # Errors
/// The system's, or a damaged bundle.
pub fn read_tile(files: &dyn Files, tile: Tile) -> Result<Option<Vec<u8>>, StoreError> {
    for candidate in [tile, tile.full()] {
        let path = tile_path(candidate);
        match files.read(&path) {
            Ok(bytes) if candidate == tile => return Ok(Some(bytes)),
            Ok(bytes) => return cut(tile, &path, bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("read", &path)(error)),
        }
    }
    Ok(None)
}

fn cut(tile: Tile, path: &str, mut bytes: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let width = usize::from(tile.width);
    let length = match tile.level {
        Level::Hashes(_) => 32 * width,
        Level::Entries => {
            let entries = parse_bundle(tile.full(), &bytes);
            let entries = entries.map_err(|error| StoreError::corrupt(path, 0, error.to_string()))?;
            entries.iter().take(width).map(|entry| 2 + entry.len()).sum()
        }
    };
    bytes.truncate(length);
    Ok(bytes)
}
