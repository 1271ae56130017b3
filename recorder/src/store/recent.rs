//! What was just published, for the one who follows the log: it need not be read back from the files.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tail::Snapshot;

/// Most bytes of leaves and blobs that are kept here; the follower may hold one part more. Where that is not enough, all of it
/// goes: the follower is behind, and reads files until it is where the next part begins.
pub const MAX_RECENT_BYTES: usize = 8 << 20;

/// The last parts of the log, in its order.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Parts>);

#[derive(Debug, Default)]
struct Parts {
    parts: VecDeque<Arc<Snapshot>>,
    bytes: usize,
}

impl Recent {
    /// Keeps the part of the log that is being published, if there is room.
    pub fn add(&self, part: &Arc<Snapshot>) {
        let mut kept = self.lock();
        let bytes = part.bytes();
        if kept.bytes + bytes > MAX_RECENT_BYTES {
            *kept = Parts::default();
        }
        if bytes <= MAX_RECENT_BYTES {
            kept.bytes += bytes;
            kept.parts.push_back(part.clone());
        }
    }

    /// The part that has the leaf at `index`, if it is here. What lies before that leaf is forgotten: the follower has it.
    #[must_use]
    pub fn part_with(&self, index: u64) -> Option<Arc<Snapshot>> {
        let mut kept = self.lock();
        while let Some(part) = kept.parts.front() {
            if part.end() > index {
                return Some(part.clone()).filter(|part| part.first <= index);
            }
            kept.bytes -= part.bytes();
            kept.parts.pop_front();
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // whole between any two statements that can panic
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn part(first: u64, sizes: &[usize]) -> Arc<Snapshot> {
        let leaves = sizes.iter().map(|size| Arc::from(vec![0; *size])).collect();
        Arc::new(Snapshot { first, leaves, blobs: HashMap::new() })
    }

    fn begins(recent: &Recent, index: u64) -> Option<u64> {
        recent.part_with(index).map(|part| part.first)
    }

    #[test]
    fn parts_are_handed_out_in_order_and_forgotten() {
        let recent = Recent::default();
        recent.add(&part(10, &[1, 1]));
        recent.add(&part(12, &[1]));
        assert_eq!(begins(&recent, 9), None, "that is in the files");
        assert_eq!(begins(&recent, 10), Some(10));
        assert_eq!(begins(&recent, 11), Some(10));
        assert_eq!(begins(&recent, 12), Some(12));
        assert_eq!(begins(&recent, 11), None, "forgotten");
        assert_eq!(begins(&recent, 13), None, "not published");
        assert_eq!(recent.lock().bytes, 0);
    }

    #[test]
    fn a_follower_that_is_behind_reads_files() {
        let recent = Recent::default();
        recent.add(&part(0, &[MAX_RECENT_BYTES / 2]));
        recent.add(&part(1, &[MAX_RECENT_BYTES / 2]));
        assert_eq!(begins(&recent, 0), Some(0));
        recent.add(&part(2, &[1]));
        assert_eq!((begins(&recent, 0), begins(&recent, 1)), (None, None));
        assert_eq!(begins(&recent, 2), Some(2));
        recent.add(&part(3, &[MAX_RECENT_BYTES + 1]));
        assert_eq!((begins(&recent, 2), begins(&recent, 3)), (None, None), "too large to keep");
        assert_eq!(recent.lock().bytes, 0);
    }
}
