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
    /// A checkpoint is wanted, also over nothing new.
    wanted: bool,
    closed: bool,
}

/// What the publisher does next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It publishes a checkpoint.
    Publish,
    /// It does so when this much time has passed, or sooner if something changes.
    WaitFor(Duration),
    /// It waits until something changes.
    Wait,
    /// It ends.
    End,
}

impl Inner {
    /// When this much time has passed since the last publication began, and there is `interval` between two of them.
    fn next(&self, passed: Duration, interval: Duration) -> Next {
        let due = interval.saturating_sub(passed);
        let early = self.wanted || self.closed || self.bytes > EARLY_BYTES;
        match (self.leaves.is_empty(), self.closed) {
            (true, true) => Next::End,
            (true, false) if self.wanted => Next::Publish,
            (true, false) => Next::Wait,
            (false, _) if early || due.is_zero() => Next::Publish,
            (false, _) => Next::WaitFor(due),
        }
    }
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
        let inner = Inner {
            first: size,
            leaves: VecDeque::new(),
            blobs: HashMap::new(),
            bytes: 0,
            wanted: false,
            closed: false,
        };
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

    /// Waits until there is something to publish: something that waited for `interval` since `last`, or much, or the end, or
    /// [`Tail::want`]. False at the end, when nothing is left.
    #[must_use]
    pub fn wait_for_work(&self, last: Instant, interval: Duration) -> bool {
        let mut inner = self.lock();
        loop {
            match inner.next(Instant::now().saturating_duration_since(last), interval) {
                Next::Publish => return true,
                Next::End => return false,
                Next::WaitFor(due) => {
                    let waited = self.changed.wait_timeout(inner, due);
                    inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Wait => inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Asks for a checkpoint, also when nothing new is here: the keys that sign have changed.
    pub fn want(&self) {
        self.lock().wanted = true;
        self.changed.notify_all();
    }

    /// All that is here now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut inner = self.lock();
        inner.wanted = false;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::publish::PUBLISH_INTERVAL;

    /// What a checkpoint is promised to cover: what was acknowledged so long ago.
    const PROMISE: Duration = Duration::from_secs(1);

    /// Longest publication with which the promise is kept, in milliseconds: an entry that just missed one waits for its end, and for the next.
    const LONGEST_PUBLICATION: u64 = 500;

    fn inner(leaves: usize) -> Inner {
        Inner {
            first: 0,
            leaves: (0..leaves).map(|_| Arc::from(&b"x"[..])).collect(),
            blobs: HashMap::new(),
            bytes: leaves,
            wanted: false,
            closed: false,
        }
    }

    /// When a checkpoint covers an entry that comes at `arrival`, where publications take this long. The publisher as it is, on a
    /// clock of its own: it began to publish at zero, without that entry.
    fn covered_at(arrival: Duration, publication: Duration) -> Duration {
        let mut now = publication;
        loop {
            let next = inner(usize::from(arrival <= now)).next(now, PUBLISH_INTERVAL);
            match next {
                Next::Publish => return now + publication,
                Next::WaitFor(due) => now += due,
                Next::Wait => now = now.max(arrival),
                Next::End => unreachable!("nobody closed it"),
            }
        }
    }

    #[test]
    fn an_entry_is_covered_within_a_second() {
        let mut latest = Duration::ZERO;
        for publication in (0..=LONGEST_PUBLICATION).step_by(5).map(Duration::from_millis) {
            for arrival in (0..1200).step_by(5).map(Duration::from_millis) {
                let waited = covered_at(arrival, publication) - arrival;
                assert!(
                    waited <= PROMISE,
                    "{waited:?}: it came {arrival:?} after a publication of {publication:?} began"
                );
                latest = latest.max(waited);
            }
        }
        assert!(latest > PUBLISH_INTERVAL, "some had to wait: {latest:?}");
    }

    #[test]
    fn the_publisher_waits_for_its_interval_and_not_when_there_is_a_reason() {
        let ms = Duration::from_millis;
        let now = |inner: &Inner| inner.next(ms(100), ms(400));
        assert_eq!(now(&inner(0)), Next::Wait);
        assert_eq!(now(&inner(1)), Next::WaitFor(ms(300)));
        assert_eq!(inner(1).next(ms(400), ms(400)), Next::Publish);
        assert_eq!(inner(0).next(ms(9000), ms(400)), Next::Wait, "an empty tail is not published for ever");
        assert_eq!(now(&Inner { bytes: EARLY_BYTES + 1, ..inner(1) }), Next::Publish);
        for leaves in [0, 1] {
            assert_eq!(now(&Inner { wanted: true, ..inner(leaves) }), Next::Publish);
        }
        assert_eq!(now(&Inner { closed: true, ..inner(1) }), Next::Publish);
        assert_eq!(now(&Inner { closed: true, wanted: true, ..inner(0) }), Next::End);
    }

    #[test]
    fn what_is_wanted_is_published_once() {
        let tail = Tail::new(0);
        tail.want();
        assert!(tail.wait_for_work(Instant::now(), Duration::from_secs(3600)));
        assert_eq!(tail.snapshot().end(), 0);
        assert_eq!(tail.lock().next(Duration::ZERO, Duration::ZERO), Next::Wait);
    }
}
