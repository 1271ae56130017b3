//! The one verifier: tests, the recorder at its start, operators and auditors all use this.
//!
//! It reads a log from its first entry to its last, once, in the order in which it lies, and believes nothing but the key it
//! is given. What it keeps in memory grows with the number of sessions, not of entries.

mod sessions;

use std::fmt;

use crate::blob::Blob;
use crate::checkpoint::{BadCheckpoint, Checkpoint};
use crate::digest::Digest;
use crate::entry::Entry;
use crate::note::VerifierKey;
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

    /// A hash tile or an entry bundle of exactly this width. (Where only the full one is left, the source cuts it.)
    ///
    /// # Errors
    /// The source's own, also when there is none.
    fn tile(&self, tile: Tile) -> Result<Vec<u8>, Self::Error>;

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
    /// Blobs that entries name and that are not there.
    pub blobs_absent: u64,
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
    /// Something can't be read.
    Unreadable,
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
            Self::Unreadable => "unreadable",
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

/// There is nothing to verify.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The checkpoint can't be read.
    #[error("the checkpoint can't be read: {0}")]
    Unreadable(String),
    /// The checkpoint is not this key's.
    #[error("the checkpoint does not hold: {0}")]
    Checkpoint(#[from] BadCheckpoint),
}

/// Verifies a whole log: its checkpoint by `key`; every entry, tile and the root; every session's chain; every blob. `progress`
/// hears the number of entries verified, after each bundle.
///
/// # Errors
/// [`VerifyError`] when there is no checkpoint of this key. Whatever else is wrong is in the report.
pub fn verify_log<S: LogSource>(
    source: &S,
    key: &VerifierKey,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let note = source.checkpoint().map_err(|error| VerifyError::Unreadable(error.to_string()))?;
    let checkpoint = Checkpoint::verify(&note, key)?;
    let mut walk = Walk::new(source, checkpoint);
    for bundle in 0..walk.report.checkpoint.size.div_ceil(TILE_WIDTH) {
        walk.bundle(bundle);
        progress(walk.report.entries);
    }
    Ok(walk.finish())
}

struct Walk<'a, S> {
    source: &'a S,
    frontier: Frontier,
    sessions: Sessions,
    received: Option<jiff::Timestamp>,
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
            findings: Vec::new(),
            findings_total: 0,
        };
        Self { source, frontier: Frontier::default(), sessions: Sessions::default(), received: None, report }
    }

    fn find(&mut self, index: Option<u64>, what: What, message: impl Into<String>) {
        self.report.findings_total += 1;
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(Finding { index, what, message: message.into() });
        }
    }

    /// Verifies one bundle: its entries against the leaf hashes, and all tiles that it fills.
    fn bundle(&mut self, number: u64) {
        let size = self.report.checkpoint.size;
        let tile = Tile::at(Level::Entries, number, size).expect("the loop ends with the last bundle");
        let bytes = match self.source.tile(tile) {
            Ok(bytes) => bytes,
            Err(error) => return self.find(None, What::Unreadable, format!("{tile}: {error}")),
        };
        let entries = match tile::parse_bundle(tile, &bytes) {
            Ok(entries) => entries,
            Err(error) => return self.find(None, What::Entry, format!("{tile}: {error}")),
        };
        let leaves = self.hashes(Tile { level: Level::Hashes(0), ..tile });
        for (place, leaf) in entries.into_iter().enumerate() {
            self.leaf(number * TILE_WIDTH + place as u64, leaf, leaves.as_ref().map(|leaves| &leaves[place]));
        }
    }

    fn leaf(&mut self, index: u64, leaf: &[u8], expected: Option<&Hash>) {
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
            self.compare(tile, &hashes);
        }
        self.report.entries += 1;
        self.content(index, leaf);
    }

    /// Compares a tile as it lies there with what the entries make of it. Level 0 was compared entry by entry.
    fn compare(&mut self, tile: Tile, computed: &[Hash]) {
        if tile.level == Level::Hashes(0) {
            return;
        }
        if self.hashes(tile).is_some_and(|hashes| hashes != computed) {
            self.find(None, What::Tile, format!("{tile} is not what the entries below it hash to"));
        }
    }

    fn hashes(&mut self, tile: Tile) -> Option<Vec<Hash>> {
        let bytes = match self.source.tile(tile) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.find(None, What::Unreadable, format!("{tile}: {error}"));
                return None;
            }
        };
        match tile::parse_hashes(tile, &bytes) {
            Ok(hashes) => Some(hashes),
            Err(error) => {
                self.find(None, What::Tile, format!("{tile}: {error}"));
                None
            }
        }
    }

    /// Verifies what an entry says: its form, its speaker's right to say it, its place in its session, its blobs.
    fn content(&mut self, index: u64, leaf: &[u8]) {
        let entry = match Entry::parse(leaf) {
            Ok(entry) => entry,
            Err(error) => return self.find(Some(index), What::Content, error.to_string()),
        };
        let statement = match Statement::parse(entry.statement) {
            Ok(statement) => statement,
            Err(error) => return self.find(Some(index), What::Content, error.to_string()),
        };
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
        for message in self.sessions.take(&entry, &statement) {
            self.find(Some(index), What::Session, message);
        }
        self.blobs(index, &statement);
    }

    fn blobs(&mut self, index: u64, statement: &Statement) {
        for (role, reference) in &statement.blobs {
            match self.source.blob(reference.digest) {
                Ok(None) => self.report.blobs_absent += 1,
                Ok(Some(bytes)) => match Blob::from_bytes(bytes) {
                    Ok(blob) if blob.reference() == *reference => self.report.blobs_verified += 1,
                    _ => self.find(
                        Some(index),
                        What::Blob,
                        format!("its blob {role:?} is not {}", reference.digest),
                    ),
                },
                Err(error) => self.find(Some(index), What::Unreadable, format!("its blob {role:?}: {error}")),
            }
        }
    }

    fn finish(mut self) -> Report {
        let partial: Vec<_> =
            self.frontier.partial_tiles().map(|(tile, hashes)| (tile, hashes.to_vec())).collect();
        if self.report.entries == self.report.checkpoint.size {
            for (tile, hashes) in partial {
                self.compare(tile, &hashes);
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
        let sessions = self.sessions.summary();
        Report {
            sessions: sessions.seen,
            open_sessions: sessions.open,
            calls: sessions.calls,
            open_calls: sessions.open_calls,
            holes: sessions.holes,
            ..self.report
        }
    }
}

#[cfg(test)]
mod tests;
