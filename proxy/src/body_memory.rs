//! Memory for bodies that decide, shared by all calls: a call takes it as its body arrives, and gives it back when it has
//! left. So an agent that announces much and sends little holds up nobody.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;
use crate::refuse::Refused;

/// How often a deciding body is in memory: as it came, decoded, and as the blobs `request` and `sql`.
const COPIES: usize = 4;

/// The memory; clones share it.
#[derive(Clone, Debug)]
pub struct BodyMemory(Arc<Semaphore>);

impl Default for BodyMemory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::BODY_MEMORY_KIB)))
    }
}

/// One call's share.
#[derive(Debug)]
pub struct Share {
    memory: BodyMemory,
    held: Option<OwnedSemaphorePermit>,
}

impl BodyMemory {
    /// A share of nothing yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { memory: self.clone(), held: None }
    }
}

impl Share {
    /// Waits until there is memory for a body of this length, with its copies. Calls that grow at the same time may wait
    /// for each other; the one whose time is up first gives way.
    ///
    /// # Errors
    /// [`Refused::Overloaded`] after [`limits::BODY_MEMORY_TIMEOUT`].
    pub async fn cover(&mut self, length: usize) -> Result<(), Refused> {
        let wanted = kib(length).saturating_sub(self.kib());
        if wanted == 0 {
            return Ok(());
        }
        // Twice as much each time, so that a body that comes in many pieces asks seldom.
        let wanted = wanted.max(self.kib()).min(limits::BODY_MEMORY_KIB);
        let more = Arc::clone(&self.memory.0).acquire_many_owned(u32::try_from(wanted).unwrap_or(u32::MAX));
        match tokio::time::timeout(limits::BODY_MEMORY_TIMEOUT, more).await {
            Ok(Ok(more)) => match &mut self.held {
                Some(held) => held.merge(more),
                None => self.held = Some(more),
            },
            _ => return Err(Refused::Overloaded),
        }
        Ok(())
    }

    /// Gives back what a body of this length does not need.
    pub fn shrink(&mut self, length: usize) {
        let excess = self.kib().saturating_sub(kib(length));
        if let Some(held) = &mut self.held {
            drop(held.split(excess));
        }
    }

    fn kib(&self) -> usize {
        self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

fn kib(length: usize) -> usize {
    (length * COPIES).div_ceil(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn taken_as_it_grows_and_given_back() {
        let memory = BodyMemory::default();
        let free = || memory.0.available_permits();
        let mut share = memory.share();
        share.cover(1000).await.expect("there is room");
        assert_eq!(free(), limits::BODY_MEMORY_KIB - 4);
        share.cover(1001).await.expect("there is room");
        share.cover(2000).await.expect("it is there already");
        assert_eq!(free(), limits::BODY_MEMORY_KIB - 8);
        share.shrink(256);
        assert_eq!(free(), limits::BODY_MEMORY_KIB - 1);
        drop(share);
        assert_eq!(free(), limits::BODY_MEMORY_KIB);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_none_is_refused_in_time() {
        let memory = BodyMemory::default();
        let mut all = memory.share();
        all.cover(limits::BODY_MEMORY_KIB * 1024 / COPIES).await.expect("it is all there");
        let refused = memory.share().cover(1).await.expect_err("nothing is left");
        assert_eq!(refused.category(), "overloaded");
        drop(all);
        assert!(memory.share().cover(1).await.is_ok());
    }
}
