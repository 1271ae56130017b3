//! A copy of a log, made while a recorder goes on with it, and verified.
//!
//! What a checkpoint covers never changes and never goes, but for partial tiles (which can be cut out of what replaced them) and
//! deleted blobs. So whoever reads the checkpoint first can copy all that it covers, one file after the other. A file that the
//! copy has is not copied again; the checkpoint is written last, so a copy that is broken off is the older copy still.

use std::fmt;
use std::io;
use std::path::Path;

use ledger::checkpoint::Checkpoint;
use ledger::digest::Digest;
use ledger::log_keys::LogKeys;
use ledger::tile::{Level, TILE_WIDTH, Tile};
use ledger::verify::{LogSource, Report, VerifyError, verify_log};

use crate::store::error::{StoreError, at};
use crate::store::files::{Files, LocalFiles, put, put_durably};
use crate::store::keys::{KEY_FILE, NOTES_FILE, VKEY_FILE};
use crate::store::publish::{CHECKPOINT_FILE, blob_path, tile_path};
use crate::store::reader::read_tile;

/// No copy was made.
#[derive(Debug, thiserror::Error)]
pub enum NoBackup {
    /// A file can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not a log, or not one that these keys signed.
    #[error("{0}")]
    Log(String),
    /// The copy can't be verified.
    #[error("the copy: {0}")]
    Verify(#[from] VerifyError),
    /// What lies there is a copy of another log, or of a later state of this one.
    #[error(
        "{0} has a copy of {1}: a copy is never replaced by an older or another log. Copy into another directory, and find out \
         why"
    )]
    Other(String, String),
}

/// What was copied.
#[derive(Debug)]
pub struct Copied {
    /// What the verifier says of the copy.
    pub report: Report,
    /// Files that the copy did not have.
    pub files: u64,
    /// Blobs that the copy had, and that were deleted since.
    pub removed: u64,
}

/// Copies the log in `data` to `to`, and verifies what is there then.
///
/// # Errors
/// [`NoBackup`]
pub fn copy(data: &Path, to: &Path, with_key: bool) -> Result<Copied, NoBackup> {
    let (from, into) = (LocalFiles::open(data)?, LocalFiles::open(to)?);
    let note = read(&from, CHECKPOINT_FILE)?;
    let keys = keys(&from)?;
    let checkpoint = Checkpoint::verify(&note, &keys).map_err(|error| NoBackup::Log(error.to_string()))?;
    must_be_older(&into, to, &keys, &checkpoint)?;
    let mut files = copy_tiles(&from, &into, checkpoint.size)?;
    files += copy_blobs(&from, &into)?;
    let secret = if with_key { &[(KEY_FILE, true)][..] } else { &[] };
    for (name, secret) in [(VKEY_FILE, false), (NOTES_FILE, false)].iter().chain(secret) {
        if from.len(name).map_err(at("look at", name))?.is_some() {
            put_durably(&into, name, &read(&from, name)?, *secret)?;
        }
    }
    into.sync_all().map_err(at("sync", "."))?;
    put_durably(&into, CHECKPOINT_FILE, &note, false)?;
    let report = verify_log(&Copy(&into), &keys, |_| ())?;
    let removed = remove_deleted(&from, &into, &report)?;
    Ok(Copied { report, files, removed })
}

/// A backup never goes back.
fn must_be_older(
    into: &LocalFiles,
    to: &Path,
    keys: &LogKeys,
    checkpoint: &Checkpoint,
) -> Result<(), NoBackup> {
    if into.len(CHECKPOINT_FILE).map_err(at("look at", CHECKPOINT_FILE))?.is_none() {
        return Ok(());
    }
    let note = read(into, CHECKPOINT_FILE)?;
    let other = |what: String| NoBackup::Other(to.display().to_string(), what);
    let there = Checkpoint::verify(&note, keys).map_err(|error| other(error.to_string()))?;
    if there.size > checkpoint.size {
        return Err(other(format!("{} entries, and the log has {}", there.size, checkpoint.size)));
    }
    Ok(())
}

fn read(files: &LocalFiles, path: &str) -> Result<Vec<u8>, StoreError> {
    files.read(path).map_err(at("read", path))
}

fn keys(files: &LocalFiles) -> Result<LogKeys, NoBackup> {
    let text = String::from_utf8_lossy(&read(files, VKEY_FILE)?).into_owned();
    text.parse().map_err(|error| NoBackup::Log(format!("{VKEY_FILE}: {error}")))
}

/// Every tile and bundle of a log of this size. Partial ones are always written: the copy's may be shorter.
fn copy_tiles(from: &LocalFiles, into: &LocalFiles, size: u64) -> Result<u64, NoBackup> {
    let levels = (0..8).map(Level::Hashes).chain([Level::Entries]);
    let mut files = 0;
    for level in levels {
        for index in 0..level.nodes(size).div_ceil(TILE_WIDTH) {
            let tile = Tile::at(level, index, size).expect("below the size");
            let path = tile_path(tile);
            if tile.is_full() && into.len(&path).map_err(at("look at", &path))?.is_some() {
                continue;
            }
            let bytes = read_tile(from, tile)?;
            let bytes = bytes.ok_or_else(|| StoreError::corrupt(&path, 0, "the file is missing"))?;
            put(into, &path, &bytes)?;
            files += 1;
        }
    }
    Ok(files)
}

fn copy_blobs(from: &LocalFiles, into: &LocalFiles) -> Result<u64, NoBackup> {
    let mut files = 0;
    for folder in from.list("blobs").map_err(at("list", "blobs"))? {
        let folder = format!("blobs/{folder}");
        for name in from.list(&folder).map_err(at("list", &folder))? {
            let path = format!("{folder}/{name}");
            let whole = name.len() == 64; // not one that is being written
            if !whole || into.len(&path).map_err(at("look at", &path))?.is_some() {
                continue;
            }
            match from.read(&path) {
                Ok(bytes) => put(into, &path, &bytes)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // deleted just now
                Err(error) => return Err(at("read", &path)(error).into()),
            }
            files += 1;
        }
    }
    Ok(files)
}

/// What the log says was deleted, and is gone there, goes here too.
fn remove_deleted(from: &LocalFiles, into: &LocalFiles, report: &Report) -> Result<u64, NoBackup> {
    let mut removed = 0;
    for digest in &report.deleted_here {
        let path = blob_path(digest);
        let gone = from.len(&path).map_err(at("look at", &path))?.is_none();
        if gone && into.len(&path).map_err(at("look at", &path))?.is_some() {
            into.remove(&path).map_err(at("remove", &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The copy, for the verifier.
struct Copy<'a>(&'a LocalFiles);

impl LogSource for Copy<'_> {
    type Error = StoreError;

    fn checkpoint(&self) -> Result<Vec<u8>, StoreError> {
        read(self.0, CHECKPOINT_FILE)
    }

    fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, StoreError> {
        read_tile(self.0, tile)
    }

    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = blob_path(&digest);
        match self.0.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("read", &path)(error)),
        }
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { checkpoint, blobs_verified, blobs_absent, findings, .. } = &self.report;
        writeln!(
            f,
            "{} at {} entries: {} files copied, {} deleted texts removed; {blobs_verified} texts are there, {blobs_absent} are not",
            checkpoint.origin, checkpoint.size, self.files, self.removed
        )?;
        findings.iter().try_for_each(|finding| writeln!(f, "  WRONG {finding}"))?;
        f.write_str(if self.report.is_verified() {
            "VERIFIED"
        } else {
            "NOT VERIFIED: do not rely on this copy"
        })
    }
}
