//! Deletions: which blobs that entries name and that are not there were deleted in order, as the log itself says.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::entry::{Entry, Role};
use crate::statement::Statement;

/// Most absent blobs, and most deletions, that are remembered one by one. What is beyond counts as absent without a word: a log
/// whose blobs are not at hand at all would otherwise take memory for each.
pub const MAX_KEPT: usize = 100_000;

/// A deletion that the log tells of, and whose blob is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Index of the `log.deleted` entry.
    pub index: u64,
    /// The blob.
    pub digest: Digest,
    /// Who ordered it, in their own words.
    pub by: String,
    /// Why, in their own words.
    pub reason: String,
}

/// What was found so far, in the order of the log.
#[derive(Clone, Debug, Default)]
pub struct Deletions {
    /// How often each absent blob was named.
    absent: HashMap<Digest, u64>,
    said: BTreeMap<Digest, Deletion>,
}

impl Deletions {
    /// An entry names a blob that is not there.
    pub fn absent(&mut self, digest: Digest) {
        if self.absent.len() < MAX_KEPT || self.absent.contains_key(&digest) {
            *self.absent.entry(digest).or_default() += 1;
        }
    }

    /// Follows one entry.
    pub fn entry(&mut self, index: u64, entry: &Entry<'_>, statement: &Statement) {
        let deleted = statement.body.deleted.as_ref().filter(|_| entry.envelope.role == Role::Recorder);
        let Some(deleted) = deleted else { return };
        if self.said.len() < MAX_KEPT && !self.said.contains_key(&deleted.digest) {
            let (digest, by, reason) = (deleted.digest, deleted.by.clone(), deleted.reason.clone());
            self.said.insert(digest, Deletion { index, digest, by, reason });
        }
    }

    /// How many of the absent blobs nobody deleted, as far as the log says, and one of them.
    #[must_use]
    pub fn lost(&self) -> Option<(usize, Digest)> {
        let lost = || self.absent.keys().filter(|digest| !self.said.contains_key(digest));
        lost().min().map(|first| (lost().count(), *first))
    }

    /// How many of the absent blobs were deleted in order, counted as often as they were named, and the deletions of these, in
    /// the order of the log.
    #[must_use]
    pub fn settle(self) -> (u64, Vec<Deletion>) {
        let Self { absent, said } = self;
        let mut deletions: Vec<_> =
            said.into_values().filter(|deletion| absent.contains_key(&deletion.digest)).collect();
        deletions.sort_by_key(|deletion| deletion.index);
        (deletions.iter().map(|deletion| absent[&deletion.digest]).sum(), deletions)
    }
}
