//! Evidence bundles: a part of a log in one file (`*.bqw`) that proves itself to somebody who trusts none of us.
//!
//! A bundle is a `ustar` archive in one exact form ([`archive`]). Its members, in this order:
//!
//! | member | what | what vouches for its bytes |
//! |---|---|---|
//! | `manifest.json` | [`manifest`]: what was asked for, and what is here | its digest is in the `read.export` entry |
//! | `README.txt`, `keys/...`, `page.html` | for people; the log's key | their digests are in the manifest |
//! | `log/checkpoint` | the checkpoint, with all signatures | its signatures |
//! | `log/tile/<L>/<N>.p/<W>` | the tiles at the tree's right edge | the checkpoint's root |
//! | `log/tile/<L>/<N>` | each full tile on the way to an entry, before it | the tile above it |
//! | `entries/<N>` | the selected entries of the 256 from `256 N` on | the tile of level 0 |
//! | `blobs/<ab>/<hex>` | the blobs that those entries name | their names, which the entries have |
//! | `export/<index>.json` | the `read.export` entry | the tile of level 0 |
//!
//! There is no byte that nothing vouches for: headers and padding follow from names and lengths.

mod archive;
mod contents;
pub(crate) mod group;
mod head;
mod ladder;
pub mod manifest;
pub mod verify;
pub mod write;

use std::io;

use crate::checkpoint::BadCheckpoint;
use crate::digest::Digest;
use crate::note::BadNote;
use crate::policy::BadPolicy;
use crate::tile::{BadTile, Level, Tile};

pub use self::contents::{Named, Tally, name_blobs};
pub use self::ladder::BadStep;

/// The name of the manifest's member: the first of each bundle.
pub const MANIFEST: &str = "manifest.json";

/// The name of the member with the log's verifier key.
pub const LOG_KEY: &str = "keys/log.vkey";

/// The name of the member with the policy that names the witnesses whose cosignatures the checkpoint has.
pub const POLICY: &str = "keys/policy";

/// The name of the member that people read first.
pub const README: &str = "README.txt";

/// The name of the member with the page.
pub const PAGE: &str = "page.html";

/// The name of the checkpoint's member.
pub const CHECKPOINT: &str = "log/checkpoint";

/// Greatest length of a manifest, in bytes (32 MiB: about 100,000 sessions). A larger export is refused: narrow it.
pub const MAX_MANIFEST: usize = 32 << 20;

/// Greatest length of a member that is for people, in bytes (64 MiB). A longer one is refused by writer and verifier.
pub const MAX_FILE: usize = 64 << 20;

fn tile_name(tile: Tile) -> String {
    format!("log/{tile}")
}

/// The member with entries of the tile at `index`.
fn group_name(index: u64) -> String {
    let tile = Tile { level: Level::Entries, index, width: 256 }.to_string();
    tile.trim_start_matches("tile/").to_owned()
}

fn blob_name(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{hex}", &hex[..2])
}

fn export_name(index: u64) -> String {
    format!("export/{index}.json")
}

/// The bytes are not a bundle that proves something.
#[derive(Debug, thiserror::Error)]
pub enum BadBundle {
    /// The file can't be read, which says nothing of the bundle.
    #[error("the file can't be read: {0}")]
    Unreadable(io::Error),
    /// A newer format.
    #[error("the bundle's format is {0:?}, which this program does not know: update it")]
    Format(String),
    /// It ends too early.
    #[error("the file ends at byte {at}, in the middle: it was cut off")]
    Truncated {
        /// Where it ends.
        at: u64,
    },
    /// Something after its end.
    #[error("there is something after the bundle's end at byte {at}")]
    Trailing {
        /// Where the bundle ends.
        at: u64,
    },
    /// Not the one form that a bundle has.
    #[error("what is at byte {at} has not the form that a bundle has there")]
    Framing {
        /// Where.
        at: u64,
    },
    /// A member is longer than it can be.
    #[error("{name} is longer than the {limit} bytes that it can have")]
    Large {
        /// The member.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// A member stands where another must be.
    #[error("{name} stands where {expected} must be")]
    Unexpected {
        /// What is there; "the end" when nothing is.
        name: String,
        /// What must be there.
        expected: String,
    },
    /// The manifest can't be read.
    #[error("the manifest can't be read: {0}")]
    Manifest(String),
    /// A member is not what its digest says.
    #[error("{name} is not what its digest says")]
    Digest {
        /// The member.
        name: String,
    },
    /// The checkpoint is not of the key.
    #[error("the checkpoint does not hold: {0}")]
    Checkpoint(#[from] BadCheckpoint),
    /// The key in the bundle is another one.
    #[error("the bundle is of another log or key: it was made with {found}")]
    Key {
        /// The key in the bundle.
        found: String,
    },
    /// The checkpoint has a line that nobody can check.
    #[error("the checkpoint is signed by {0:?}, of whom the bundle has no key")]
    Signer(String),
    /// A line in somebody's name is not theirs.
    #[error("the checkpoint: {0}")]
    Cosignature(BadNote),
    /// Not enough witnesses of the policy that the verifier was given.
    #[error("the checkpoint is not cosigned by enough of the policy's witnesses: {}", if .0.is_empty() { "by none".to_owned() } else { format!("only by {}", .0.join(", ")) })]
    Quorum(Vec<String>),
    /// The policy in the bundle can't be read.
    #[error("the policy in the bundle: {0}")]
    Policy(BadPolicy),
    /// A tile is not one.
    #[error("{name}: {error}")]
    Tile {
        /// The member.
        name: String,
        /// Why.
        error: BadTile,
    },
    /// A tile is not the tree's.
    #[error("{name}: {error}")]
    Step {
        /// The member.
        name: String,
        /// Why.
        error: BadStep,
    },
    /// An entry is not in the log.
    #[error("entry {index}: {what}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// What is here is not what the manifest says.
    #[error("the bundle's contents are not those of its manifest: {0}")]
    Contents(&'static str),
    /// The log does not know of this bundle.
    #[error("the log has no entry of this export: {0}")]
    Export(&'static str),
}

impl BadBundle {
    /// A fixed word for programs.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Format(_) => "unknown_format",
            Self::Truncated { .. } => "truncated",
            Self::Trailing { .. } => "trailing",
            Self::Framing { .. } => "framing",
            Self::Large { .. } => "large",
            Self::Unexpected { .. } => "unexpected",
            Self::Manifest(_) => "manifest",
            Self::Digest { .. } => "digest",
            Self::Checkpoint(_) => "checkpoint",
            Self::Key { .. } => "key",
            Self::Signer(_) | Self::Cosignature(_) => "signer",
            Self::Quorum(_) => "quorum",
            Self::Policy(_) => "policy",
            Self::Tile { .. } | Self::Step { .. } => "tile",
            Self::Entry { .. } => "entry",
            Self::Contents(_) => "contents",
            Self::Export(_) => "export",
        }
    }

    /// True when the bundle was read and does not hold; false when nothing can be said of it.
    #[must_use]
    pub fn is_finding(&self) -> bool {
        !matches!(self, Self::Unreadable(_) | Self::Format(_))
    }
}

#[cfg(test)]
mod tests;
