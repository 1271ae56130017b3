//! A log in a directory, as the recorder lays it out: `log/` (a tlog-tiles log) beside `blobs/`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use ledger::digest::Digest;
use ledger::log_keys::{KeyNotes, LogKeys};
use ledger::tile::Tile;
use ledger::verify::LogSource;

use super::cut;

pub(crate) struct Directory {
    log: PathBuf,
    blobs: PathBuf,
    keys: PathBuf,
}

/// Beside the log: what was said when its keys were changed.
const KEY_NOTES: &str = "log.keys";

impl Directory {
    /// `path` is a recorder's data directory, or a bare tlog-tiles directory (then there are no blobs).
    pub(crate) fn new(path: &Path) -> Self {
        let log = if path.join("checkpoint").exists() { path.to_owned() } else { path.join("log") };
        Self { log, blobs: path.join("blobs"), keys: path.join(KEY_NOTES) }
    }

    /// The keys that the log has now, as far as `held` vouch for them, and those that are held.
    pub(crate) fn keys(&self, held: &LogKeys) -> io::Result<LogKeys> {
        let Some(notes) = present(&self.keys)? else { return Ok(held.clone()) };
        let notes: KeyNotes = serde_json::from_slice(&notes).map_err(io::Error::other)?;
        Ok(notes.follow(held).with(held))
    }
}

impl LogSource for Directory {
    type Error = io::Error;

    fn checkpoint(&self) -> io::Result<Vec<u8>> {
        named(&self.log.join("checkpoint"))
    }

    fn tile(&self, tile: Tile) -> io::Result<Option<Vec<u8>>> {
        if let Some(bytes) = present(&self.log.join(tile.to_string()))? {
            return Ok(Some(bytes));
        }
        let full = if tile.is_full() { None } else { present(&self.log.join(tile.full().to_string()))? };
        Ok(full.and_then(|full| cut(tile, &full)))
    }

    fn blob(&self, digest: Digest) -> io::Result<Option<Vec<u8>>> {
        let hex = digest.hex();
        present(&self.blobs.join(&hex[..2]).join(&hex))
    }
}

/// The file's bytes; `None` when there is no such file.
fn present(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match named(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn named(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
