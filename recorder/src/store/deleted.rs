//! Which blobs were deleted, so that they never come back: not by a batch that is sent again, not by a copy of the directory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ledger::digest::Digest;

/// The deleted blobs, each with the index of the entry that says so; `None` while that is being written. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Deleted(Arc<RwLock<HashMap<Digest, Option<u64>>>>);

impl Deleted {
    /// What the log says.
    #[must_use]
    pub fn new(said: impl IntoIterator<Item = (Digest, u64)>) -> Self {
        let said = said.into_iter().map(|(digest, index)| (digest, Some(index)));
        Self(Arc::new(RwLock::new(said.collect())))
    }

    /// Is this one deleted, or about to be?
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(digest)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Digest> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Index of the entry that says who deleted it, and why.
    #[must_use]
    pub fn entry(&self, digest: &Digest) -> Option<u64> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(digest).copied().flatten()
    }

    /// From now on it is not taken in again; the entry follows.
    pub(crate) fn begin(&self, digest: Digest) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(digest).or_default();
    }

    /// The log says so.
    pub(crate) fn said(&self, digest: Digest, index: u64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(digest, Some(index));
    }
}
