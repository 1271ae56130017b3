//! What a bundle says of itself: what was asked for, and what is in it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::coverage::{Period, Pod};
use crate::deletions::Deletion;
use crate::digest::Digest;
use crate::search::Query;
use crate::statement::Hole;

/// The format's name, in the first field of a manifest. Another one is another format.
pub const FORMAT: &str = "bqwitness.dev/bundle/v1";

/// `manifest.json`. Its digest is in the log, in the `read.export` entry that ends the bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`FORMAT`]
    pub format: String,
    /// The log's origin.
    pub log: String,
    /// Random, so that nobody can guess from the digest in the log what words the manifest has: 64 hexadecimal digits. Absent in bundles of
    /// earlier versions, whose words the log has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// When the bundle was made, by the clock of whoever made it.
    pub created: Timestamp,
    /// The program that made it, and its version.
    pub program: String,
    /// What was selected.
    pub scope: Scope,
    /// The time that coverage is told for.
    pub period: Period,
    /// How many entries the log had when the selection was made.
    pub size: u64,
    /// What is here.
    pub contents: Contents,
    /// SHA-256 of each member that is neither entry, blob, tile nor checkpoint.
    pub files: BTreeMap<String, Digest>,
}

/// What was selected, and with that, what can be proved of its completeness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Scope {
    /// Every entry of a range of the log. That none is missing is proved: their places follow each other.
    Everything(Range),
    /// Every entry of some sessions. That none of a session is missing is proved by `seq` and `prev`; that no session is
    /// missing is not.
    Sessions {
        /// Which sessions.
        filter: Box<Query>,
    },
    /// Calls, with the beginning and end of their sessions. That no call is missing is not proved.
    Calls {
        /// Which calls.
        filter: Box<Query>,
    },
}

/// A range of the log. The entry before it and the one after it are in the bundle too, where there are such: their times
/// prove that the range is all of the time that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First index.
    pub from: u64,
    /// The index after the last.
    pub to: u64,
    /// All that was received at this time or later; from the log's beginning when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// All that was received before this time; to the log's end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What the entries of a bundle add up to. A verifier adds them up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// SHA-256 of the listing: a line `entry <index> <leaf hash>` for each entry, and after the entries of each member a
    /// line `blob <digest>` or `absent <digest>` for each blob that they name; hashes in hexadecimal digits.
    pub listing: Digest,
    /// Entries.
    pub entries: u64,
    /// Index of the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Index of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// Sessions that something here is of, the recorder's own included.
    pub sessions: u64,
    /// Calls: intents.
    pub calls: u64,
    /// Calls without outcome here.
    pub open_calls: u64,
    /// Blobs that are here.
    pub blobs: u64,
    /// Blobs that entries name and that were not there any more.
    pub blobs_absent: u64,
    /// How many of those were deleted in order, as entries here say; each counted as often as members name it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub blobs_deleted: u64,
    /// Who deleted them, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletions: Vec<Deletion>,
    /// Statements that never came, as entries here say.
    pub gaps: Vec<Hole>,
    /// When each pod was under recording, as entries here say.
    pub coverage: Vec<Pod>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Scope {
    /// What was asked for, as the query string of a search.
    #[must_use]
    pub fn to_query_string(&self) -> String {
        match self {
            Self::Everything(Range { since, until, .. }) => {
                Query { since: *since, until: *until, ..Query::default() }.to_query_string()
            }
            Self::Sessions { filter } | Self::Calls { filter } => filter.to_query_string(),
        }
    }

    /// The times of receipt that were asked for, as far as they were limited.
    #[must_use]
    pub fn limits(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        match self {
            Self::Everything(range) => (range.since, range.until),
            Self::Sessions { filter } | Self::Calls { filter } => (filter.since, filter.until),
        }
    }

    /// How the log names it: without the words.
    #[must_use]
    pub fn to_entered_filter(&self) -> String {
        match self {
            Self::Everything(_) => self.to_query_string(),
            Self::Sessions { filter } | Self::Calls { filter } => filter.to_entered_filter(),
        }
    }
}

impl Range {
    /// The first and the last index that the bundle has of a log with `size` entries; `None` when it has none.
    #[must_use]
    pub fn with_neighbours(&self, size: u64) -> Option<(u64, u64)> {
        let (first, end) = (self.from.saturating_sub(1), self.to.saturating_add(1).min(size));
        (first < end).then(|| (first, end - 1))
    }
}
