//! The tail of the log: entries and blobs that are durable in the write-ahead log and not yet in a checkpoint. The
//! sequencer adds to it, the publisher takes from it, readers look into it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ledger::blob::Blob;
use ledger::digest::Digest;

use super::recent::Recent;

/// Bytes in the tail at which the sequencer waits for the publisher. A disk that can't keep up fills the queue behind
/// the sequencer, and the API then answers `busy`.
pub const MAX_TAIL_BYTES: usize = 24 << 20;

/// Bytes in the tail at which the publisher does not wait for its interval.
pub const EARLY_BYTES: usize = 6 << 20;

/// Entries and blobs on their way into the log.
#[derive(Debug)]
pub struct Tail {
    inner: Mutex<Inner>,
    changed: Condvar,
    recent: Recent,
}

#[derive(Debug)]
struct Inner {
    /// Index of the first leaf here: the size of the published log.
    first: u64,
    leaves: VecDeque<Arc<[u8]>>,
    blobs: HashMap<Digest, Arc<Blob>>,
    bytes: usize,
    closed: bool,
}

/// What is in the tail at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Index of the first leaf.
    pub first: u64,
    /// The leaves, in order.
    pub leaves: Vec<Arc<[u8]>>,
    /// The blobs, by digest.
    pub blobs: HashMap<Digest, Arc<Blob>>,
}

impl Snapshot {
    /// Index after the last leaf.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }

    /// Bytes of leaves and blobs.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let blobs = self.blobs.values().map(|blob| blob.as_bytes().len());
        self.leaves.iter().map(|leaf| leaf.len()).chain(blobs).sum()
    }
}

impl Tail {
    /// An empty tail behind a log of `size` entries.
    #[must_use]
    pub fn new(size: u64) -> Self {
        let inner =
            Inner { first: size, leaves: VecDeque::new(), blobs: HashMap::new(), bytes: 0, closed: false };
        Self { inner: Mutex::new(inner), changed: Condvar::new(), recent: Recent::default() }
    }

    /// Adds entries, which are durable, and the blobs that they name.
    pub fn add(
        &self,
        leaves: impl IntoIterator<Item = Arc<[u8]>>,
        blobs: impl IntoIterator<Item = Arc<Blob>>,
    ) {
        let mut inner = self.lock();
        for blob in blobs {
            let length = blob.as_bytes().len();
            if inner.blobs.insert(blob.digest(), blob).is_none() {
                inner.bytes += length;
            }
        }
        for leaf in leaves {
            inner.bytes += leaf.len();
            inner.leaves.push_back(leaf);
        }
        self.changed.notify_all();
    }

    /// Waits while there is too much here. False when the publisher has stopped.
    #[must_use]
    pub fn wait_for_room(&self) -> bool {
        let full = |inner: &mut Inner| inner.bytes > MAX_TAIL_BYTES && !inner.closed;
        let inner = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        !inner.closed
    }

    /// Waits until there is something to publish: something that waited for `interval` since `last`, or much, or the end.
    /// False at the end, when nothing is left.
    #[must_use]
    pub fn wait_for_work(&self, last: Instant, interval: Duration) -> bool {
        let mut inner = self.lock();
        loop {
            let due = (last + interval).saturating_duration_since(Instant::now());
            match (inner.leaves.is_empty(), inner.closed) {
                (true, true) => return false,
                (false, _) if inner.closed || due.is_zero() || inner.bytes > EARLY_BYTES => return true,
                (false, _) => {
                    let waited = self.changed.wait_timeout(inner, due);
                    inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                (true, _) => inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// All that is here now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        Snapshot {
            first: inner.first,
            leaves: inner.leaves.iter().cloned().collect(),
            blobs: inner.blobs.clone(),
        }
    }

    /// Forgets what a checkpoint covers now.
    pub fn release(&self, published: &Snapshot) {
        let mut inner = self.lock();
        for leaf in &published.leaves {
            inner.leaves.pop_front();
            inner.bytes -= leaf.len();
            inner.first += 1;
        }
        for (digest, blob) in &published.blobs {
            if inner.blobs.remove(digest).is_some() {
                inner.bytes -= blob.as_bytes().len();
            }
        }
        self.changed.notify_all();
    }

    /// What left it last.
    #[must_use]
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// No more entries come, or no more are taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The entry at `index`, if it is here.
    #[must_use]
    pub fn entry(&self, index: u64) -> Option<Arc<[u8]>> {
        let inner = self.lock();
        let place = usize::try_from(index.checked_sub(inner.first)?).ok()?;
        inner.leaves.get(place).cloned()
    }

    /// The blob with this digest, if it is here.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<Arc<Blob>> {
        self.lock().blobs.get(digest).cloned()
    }

    /// Entries in the log, those in the tail included.
    #[must_use]
    pub fn size(&self) -> u64 {
        let inner = self.lock();
        inner.first + inner.leaves.len() as u64
    }

    /// Bytes of leaves and blobs that are here.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner) // whole between any two statements that can panic
    }
}
