//! A log that a recorder serves.

use std::cell::RefCell;
use std::collections::HashMap;

use ledger::digest::Digest;
use ledger::log_keys::{KeyNotes, LogKeys};
use ledger::proof::TileSource;
use ledger::search::entries;
use ledger::tile::{Level, Tile, parse_hashes};
use ledger::tree::Hash;
use ledger::verify::LogSource;

use super::cut;
use crate::error::CliError;
use crate::reader::Reader;

pub(crate) struct Served<'a> {
    reader: &'a Reader,
    /// Hash tiles that a proof asks for again and again.
    tiles: RefCell<HashMap<Tile, Vec<u8>>>,
}

impl<'a> Served<'a> {
    pub(crate) fn new(reader: &'a Reader) -> Self {
        Self { reader, tiles: RefCell::default() }
    }

    /// The newest checkpoint that enough witnesses cosigned; the newest of all, where the log has no such place.
    pub(crate) fn witnessed(&self) -> Result<Vec<u8>, CliError> {
        match present(self.reader.get_public("/log/witnessed").map(|bytes| bytes.to_vec()))? {
            Some(note) => Ok(note),
            None => self.checkpoint(),
        }
    }

    /// The keys that the log has now, as far as `held` vouch for them, and those that are held.
    pub(crate) fn keys(&self, held: &LogKeys) -> Result<LogKeys, CliError> {
        Ok(self.keys_now(held)?.with(held))
    }

    /// The keys that the log has now, as far as `held` vouch for them; `held` where it never had others.
    pub(crate) fn keys_now(&self, held: &LogKeys) -> Result<LogKeys, CliError> {
        let Some(notes) = present(self.reader.get_public("/log/keys").map(|bytes| bytes.to_vec()))? else {
            return Ok(held.clone()); // an older recorder
        };
        let notes: KeyNotes =
            serde_json::from_slice(&notes).map_err(|error| CliError::Answer(error.to_string()))?;
        Ok(notes.follow(held))
    }

    /// A blob; `None` when there is none. One that was deleted in order is [`CliError::Deleted`].
    pub(crate) fn blob_or_deletion(&self, digest: Digest) -> Result<Option<Vec<u8>>, CliError> {
        let blob = self.reader.get_private(&format!("/v1/blobs/{}", digest.hex()));
        present(blob.map(|bytes| bytes.to_vec()))
    }

    /// Of the entries under the tile of level 0 at `index` those that the reader may see.
    pub(crate) fn entries_under(&self, index: u64) -> Result<Vec<(u64, Vec<u8>)>, CliError> {
        let row = self.reader.get_private(&format!("/v1/entries?tile={index}"))?;
        let entries = entries::parse(&row).map_err(|error| CliError::Answer(error.to_string()))?;
        Ok(entries.into_iter().map(|(index, leaf)| (index, leaf.to_vec())).collect())
    }

    /// A blob that the entry at `index` names; `None` when there is none. One that was deleted in order is [`CliError::Deleted`].
    pub(crate) fn blob_of(&self, index: u64, digest: Digest) -> Result<Option<Vec<u8>>, CliError> {
        let blob = self.reader.get_private(&format!("/v1/entries/{index}/blobs/{}", digest.hex()));
        present(blob.map(|bytes| bytes.to_vec()))
    }

    fn fetch(&self, tile: Tile) -> Result<Vec<u8>, CliError> {
        let path = format!("/log/{tile}");
        let bytes = match tile.level {
            Level::Entries => self.reader.get_private(&path)?,
            Level::Hashes(_) => self.reader.get_public(&path)?,
        };
        Ok(bytes.to_vec())
    }
}

impl LogSource for Served<'_> {
    type Error = CliError;

    fn checkpoint(&self) -> Result<Vec<u8>, CliError> {
        Ok(self.reader.get_public("/log/checkpoint")?.to_vec())
    }

    fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, CliError> {
        if let Some(bytes) = present(self.fetch(tile))? {
            return Ok(Some(bytes));
        }
        // A partial tile may be gone once the full one is there.
        let full = if tile.is_full() { None } else { present(self.fetch(tile.full()))? };
        Ok(full.and_then(|full| cut(tile, &full)))
    }

    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, CliError> {
        match self.blob_or_deletion(digest) {
            Err(CliError::Deleted { .. }) => Ok(None),
            fetched => fetched,
        }
    }
}

/// `None` when the recorder says that there is no such thing.
fn present(fetched: Result<Vec<u8>, CliError>) -> Result<Option<Vec<u8>>, CliError> {
    match fetched {
        Err(CliError::Refused { status: 404, .. }) => Ok(None),
        fetched => fetched.map(Some),
    }
}

impl TileSource for Served<'_> {
    type Error = CliError;

    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, CliError> {
        let known = self.tiles.borrow().get(&tile).cloned();
        let bytes = match known {
            Some(bytes) => bytes,
            None => self.tile(tile)?.ok_or_else(|| CliError::Answer(format!("{tile} is not there")))?,
        };
        let hashes =
            parse_hashes(tile, &bytes).map_err(|error| CliError::Answer(format!("{tile}: {error}")))?;
        self.tiles.borrow_mut().insert(tile, bytes);
        Ok(hashes)
    }
}
