//! How far the index is, and what is said of it while it is built again.

use std::time::{Duration, Instant};

/// How often the log says how far an index is that is built again.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// How far the index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Entries that it covers.
    pub covered: u64,
    /// It began behind the log, and has not reached it yet.
    pub rebuilding: bool,
}

/// A rebuild that is under way, for the recorder's log.
#[derive(Debug)]
pub(super) struct Rebuild {
    begun: Instant,
    told: Instant,
    /// What was covered when it began.
    from: u64,
}

impl Rebuild {
    pub(super) fn begin(from: u64, of: u64) -> Self {
        tracing::info!(
            covered = from,
            of,
            "building the search index; searches lack what it has not reached"
        );
        let now = Instant::now();
        Self { begun: now, told: now, from }
    }

    /// Says how far it is, now and then.
    pub(super) fn tell(&mut self, covered: u64, of: u64) {
        if self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            let a_second = self.rate(covered);
            tracing::info!(covered, of, a_second, "building the search index");
        }
    }

    pub(super) fn end(self, covered: u64) {
        let (took, a_second) = (self.begun.elapsed(), self.rate(covered));
        tracing::info!(covered, ?took, a_second, "the search index has reached the log");
    }

    fn rate(&self, covered: u64) -> u64 {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        (covered - self.from).saturating_mul(1_000_000) / micros
    }
}
