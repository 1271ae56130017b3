//! The one verifier: tests, the recorder at its start, operators and auditors all use this.
//!
//! It reads a log from its first entry to its last, once, in the order in which it lies, and believes nothing but the key it
//! is given. What it keeps in memory grows with the number of sessions, not of entries.

pub(crate) mod sessions;

use std::fmt;

use crate::blob::Blob;
use crate::checkpoint::{BadCheckpoint, Checkpoint};
use crate::deletions::{Deletion, Deletions};
use crate::digest::Digest;
use crate::entry::{Entry, Role};
use crate::note::NoteVerifier;
use crate::statement::{Hole, Statement};
use crate::tile::{self, Level, TILE_WIDTH, Tile};
use crate::tree::{Frontier, Hash, leaf_hash};

use self::sessions::Sessions;

/// How many findings are kept; `findings_total` counts them all.
pub const MAX_FINDINGS: usize = 100;

/// Where a log lies: a directory, a server, an evidence bundle.
pub trait LogSource {
    /// Why something can't be read.
    type Error: fmt::Display;

    /// The file `checkpoint`.
    ///
    /// # Errors
    /// The source's own.
    fn checkpoint(&self) -> Result<Vec<u8>, Self::Error>;

    /// A hash tile or an entry bundle of exactly this width; `None` when there is none. (Where only the full one is left, the
    /// source cuts it.)
    ///
    /// # Errors
    /// The source's own: it may be there, and can't be read. Then nothing is said of the log.
    fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, Self::Error>;

    /// A blob's bytes, salt first; `None` when it was deleted, or this source has no blobs.
    ///
    /// # Errors
    /// The source's own.
    fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// What was verified, and what does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the log's key signed.
    pub checkpoint: Checkpoint,
    /// Entries read and hashed.
    pub entries: u64,
    /// Sessions seen.
    pub sessions: u64,
    /// Sessions without an end: running, or not yet closed.
    pub open_sessions: u64,
    /// Calls: intents.
    pub calls: u64,
    /// Calls without an outcome, in any session.
    pub open_calls: u64,
    /// Statements that never arrived, as the log itself says.
    pub holes: Vec<Hole>,
    /// Blobs that entries name and that fit their digest.
    pub blobs_verified: u64,
    /// Blobs that entries name and that are not there. One that was not deleted in order either is a finding, where others are there.
    pub blobs_absent: u64,
    /// How many of these were deleted in order.
    pub blobs_deleted: u64,
    /// The deletions of these.
    pub deletions: Vec<Deletion>,
    /// Blobs that the log says were deleted, and that are there all the same: in a copy from before.
    pub deleted_here: Vec<Digest>,
    /// What does not hold; at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many findings there were.
    pub findings_total: u64,
}

impl Report {
    /// True when everything holds.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.findings_total == 0
    }

    /// True when entries name blobs, and none of them is there, nor all deleted: then no text was checked.
    #[must_use]
    pub fn has_no_blobs(&self) -> bool {
        self.blobs_verified == 0 && self.blobs_absent > self.blobs_deleted
    }
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The entry, when it is about one.
    pub index: Option<u64>,
    /// What the finding is about.
    pub what: What,
    /// The details, for people.
    pub message: String,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// An entry is not what the tree has at its place.
    Entry,
    /// A tile is not what its level says.
    Tile,
    /// The tree of these entries is not the one that was signed.
    Root,
    /// An entry holds something that the recorder must never have taken.
    Content,
    /// A session's chain is broken.
    Session,
    /// A blob is not its digest.
    Blob,
    /// Something that must be there is not.
    Missing,
}

impl What {
    /// The fixed name of this kind of finding.
    #[must_use]
    pub fn category(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Tile => "tile",
            Self::Root => "root",
            Self::Content => "content",
            Self::Session => "session",
            Self::Blob => "blob",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}: entry {index}: {}", self.what.category(), self.message),
            None => write!(f, "{}: {}", self.what.category(), self.message),
        }
    }
}

/// Nothing can be said of the log.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something can't be read, which is not to say that it is not there.
    #[error("{what} can't be read: {error}")]
    Unreadable {
        /// What.
        what: String,
        /// The source's error.
        error: String,
    },
    /// The checkpoint is not this key's.
    #[error("the checkpoint does not hold: {0}")]
    Checkpoint(#[from] BadCheckpoint),
}

/// Verifies a whole log: its checkpoint by `key`; every entry, tile and the root; every session's chain; every blob. `progress`
/// hears the number of entries verified, after each bundle.
///
/// # Errors
/// [`VerifyError`] when there is no checkpoint of this key, or when the log can't be read. Whatever is wrong with what was
/// read is in the report.
pub fn verify_log<S: LogSource>(
    source: &S,
    key: &impl NoteVerifier,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let note = source.checkpoint().map_err(|error| unreadable("the checkpoint", &error))?;
    let checkpoint = Checkpoint::verify(&note, key)?;
    let mut walk = Walk::new(source, checkpoint);
    for bundle in 0..walk.report.checkpoint.size.div_ceil(TILE_WIDTH) {
        walk.bundle(bundle)?;
        progress(walk.report.entries);
    }
    walk.finish()
}

fn unreadable(what: impl fmt::Display, error: &dyn fmt::Display) -> VerifyError {
    VerifyError::Unreadable { what: what.to_string(), error: error.to_string() }
}

struct Walk<'a, S> {
    source: &'a S,
    frontier: Frontier,
    sessions: Sessions,
    received: Option<jiff::Timestamp>,
    deletions: Deletions,
    report: Report,
}

impl<'a, S: LogSource> Walk<'a, S> {
    fn new(source: &'a S, checkpoint: Checkpoint) -> Self {
        let report = Report {
            checkpoint,
            entries: 0,
            sessions: 0,
            open_sessions: 0,
            calls: 0,
            open_calls: 0,
            holes: Vec::new(),
            blobs_verified: 0,
            blobs_absent: 0,
            blobs_deleted: 0,
            deletions: Vec::new(),
            deleted_here: Vec::new(),
            findings: Vec::new(),
            findings_total: 0,
        };
        Self {
            source,
            frontier: Frontier::default(),
            sessions: Sessions::default(),
            received: None,
            deletions: Deletions::default(),
            report,
        }
    }

    fn find(&mut self, index: Option<u64>, what: What, message: impl Into<String>) {
        self.report.findings_total += 1;
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(Finding { index, what, message: message.into() });
        }
    }

    /// Verifies one bundle: its entries against the leaf hashes, and all tiles that it fills.
    fn bundle(&mut self, number: u64) -> Result<(), VerifyError> {
        let size = self.report.checkpoint.size;
        let tile = Tile::at(Level::Entries, number, size).expect("the loop ends with the last bundle");
        let Some(bytes) = self.read(tile)? else { return Ok(()) };
        let entries = match tile::parse_bundle(tile, &bytes) {
            Ok(entries) => entries,
            Err(error) => {
                self.find(None, What::Entry, format!("{tile}: {error}"));
                return Ok(());
            }
        };
        let leaves = self.hashes(Tile { level: Level::Hashes(0), ..tile })?;
        for (place, leaf) in entries.into_iter().enumerate() {
            let expected = leaves.as_ref().map(|leaves| &leaves[place]);
            self.leaf(number * TILE_WIDTH + place as u64, leaf, expected)?;
        }
        Ok(())
    }

    /// A file that must be there.
    fn read(&mut self, tile: Tile) -> Result<Option<Vec<u8>>, VerifyError> {
        let bytes = self.source.tile(tile).map_err(|error| unreadable(tile, &error))?;
        if bytes.is_none() {
            self.find(None, What::Missing, format!("{tile} is not there"));
        }
        Ok(bytes)
    }

    fn leaf(&mut self, index: u64, leaf: &[u8], expected: Option<&Hash>) -> Result<(), VerifyError> {
        let hash = leaf_hash(leaf);
        if expected.is_some_and(|expected| *expected != hash) {
            self.find(
                Some(index),
                What::Entry,
                "its bytes do not hash to the leaf hash at its place in the tree",
            );
        }
        let mut filled = Vec::new();
        self.frontier.push(hash, |tile, hashes| filled.push((tile, hashes.to_vec())));
        for (tile, hashes) in filled {
            self.compare(tile, &hashes)?;
        }
        self.report.entries += 1;
        self.content(index, leaf)
    }

    /// Compares a tile as it lies there with what the entries make of it. Level 0 was compared entry by entry.
    fn compare(&mut self, tile: Tile, computed: &[Hash]) -> Result<(), VerifyError> {
        if tile.level != Level::Hashes(0) && self.hashes(tile)?.is_some_and(|hashes| hashes != computed) {
            self.find(None, What::Tile, format!("{tile} is not what the entries below it hash to"));
        }
        Ok(())
    }

    fn hashes(&mut self, tile: Tile) -> Result<Option<Vec<Hash>>, VerifyError> {
        let Some(bytes) = self.read(tile)? else { return Ok(None) };
        match tile::parse_hashes(tile, &bytes) {
            Ok(hashes) => Ok(Some(hashes)),
            Err(error) => {
                self.find(None, What::Tile, format!("{tile}: {error}"));
                Ok(None)
            }
        }
    }

    /// Verifies what an entry says: its form, its speaker's right to say it, its place in its session, its blobs.
    fn content(&mut self, index: u64, leaf: &[u8]) -> Result<(), VerifyError> {
        match read_entry(leaf) {
            Ok((entry, statement)) => self.said(index, &entry, &statement),
            Err(message) => {
                self.find(Some(index), What::Content, message);
                Ok(())
            }
        }
    }

    fn said(&mut self, index: u64, entry: &Entry<'_>, statement: &Statement) -> Result<(), VerifyError> {
        let (role, received) = (entry.envelope.role, entry.envelope.received);
        if !role.may_write(&statement.kind) {
            self.find(
                Some(index),
                What::Content,
                format!("a speaker with the role {role:?} wrote {}", statement.kind),
            );
        }
        if self.received.is_some_and(|before| received < before) {
            self.find(Some(index), What::Content, "it was received before the entry that precedes it");
        }
        self.received = Some(received);
        for message in self.sessions.take(entry, statement) {
            self.find(Some(index), What::Session, message);
        }
        self.deletions.entry(index, entry, statement);
        if let Some(deleted) = &statement.body.deleted
            && role == Role::Recorder
            && self.read_blob(deleted.digest)?.is_some()
        {
            self.report.deleted_here.push(deleted.digest);
        }
        self.blobs(index, statement)
    }

    fn blobs(&mut self, index: u64, statement: &Statement) -> Result<(), VerifyError> {
        for (role, reference) in &statement.blobs {
            let digest = reference.digest;
            match self.read_blob(digest)?.map(Blob::from_bytes) {
                None => {
                    self.report.blobs_absent += 1;
                    self.deletions.absent(digest);
                }
                Some(Ok(blob)) if blob.reference() == *reference => self.report.blobs_verified += 1,
                Some(_) => self.find(Some(index), What::Blob, format!("its blob {role:?} is not {digest}")),
            }
        }
        Ok(())
    }

    fn read_blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, VerifyError> {
        self.source.blob(digest).map_err(|error| unreadable(format_args!("blob {digest}"), &error))
    }

    /// A blob may be gone only if the log says that it was deleted. Where none is at hand, as in a copy of the log alone, nothing can
    /// be said of any: [`Report::has_no_blobs`].
    fn lost_blobs(&mut self) {
        let lost = self.deletions.lost().filter(|_| self.report.blobs_verified > 0);
        if let Some((count, first)) = lost {
            let message =
                format!("{count} blobs are not there, and no entry says that they were deleted: {first}");
            self.find(None, What::Blob, message);
        }
    }

    fn finish(mut self) -> Result<Report, VerifyError> {
        let partial: Vec<_> =
            self.frontier.partial_tiles().map(|(tile, hashes)| (tile, hashes.to_vec())).collect();
        if self.report.entries == self.report.checkpoint.size {
            for (tile, hashes) in partial {
                self.compare(tile, &hashes)?;
            }
            if self.frontier.root() != self.report.checkpoint.root {
                self.find(None, What::Root, "the entries do not hash to the root that the log's key signed");
            }
        } else {
            let (entries, size) = (self.report.entries, self.report.checkpoint.size);
            self.find(
                None,
                What::Root,
                format!("only {entries} of the {size} entries that the log's key signed are there"),
            );
        }
        self.lost_blobs();
        let sessions = self.sessions.summary();
        let (blobs_deleted, deletions) = self.deletions.settle();
        Ok(Report {
            blobs_deleted,
            deletions,
            sessions: sessions.seen,
            open_sessions: sessions.open,
            calls: sessions.calls,
            open_calls: sessions.open_calls,
            holes: sessions.holes,
            ..self.report
        })
    }
}

fn read_entry(leaf: &[u8]) -> Result<(Entry<'_>, Statement), String> {
    let entry = Entry::parse(leaf).map_err(|error| error.to_string())?;
    let statement = Statement::parse(entry.statement).map_err(|error| error.to_string())?;
    Ok((entry, statement))
}

#[cfg(test)]
mod tests;
