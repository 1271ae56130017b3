//! Bodies on their way in: how much one workload may hold of the recorder's memory, how much all may, and how slow one may be.
//!
//! A workload's share is taken by what a body announces, before it is read; the room of all is taken by what has come. So
//! whoever announces much and sends little waits behind itself, and holds nothing of the others.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use ledger::batch::{BadBatch, MAX_BATCH};
use ledger::entry::Workload;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::{Reason, Refusal};
use crate::submission::pod_of;

/// Bytes that all bodies hold at one time, in KiB (96 MiB, three of the largest batches). Who needs more of it waits for
/// [`ROOM_PATIENCE`], then is refused (`busy`).
pub const ROOM_KIB: u32 = 96 * 1024;

/// What one workload's bodies may announce at one time, in KiB (32 MiB, one largest batch). The next one waits for
/// [`SHARE_PATIENCE`], then is refused (`workload_busy`).
pub const SHARE_KIB: u32 = 32 * 1024;

/// What even the smallest body counts for in its workload's share, in KiB: so one workload has at most 512 batches on their
/// way, half of the sequencer's queue.
pub const LEAST_SHARE_KIB: u32 = 64;

/// How long a body waits for those of its own workload (`workload_busy`).
pub const SHARE_PATIENCE: Duration = Duration::from_secs(10);

/// How long what has come of a body waits for room (`busy`). This does not count for its own time.
pub const ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// A body must be there within this time, however large (`body_timeout`).
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// For so long a body may be slower than [`LEAST_RATE`].
pub const BODY_GRACE: Duration = Duration::from_secs(5);

/// Bytes per second that a body must have brought for each second after [`BODY_GRACE`]; a slower one is ended (`body_timeout`).
pub const LEAST_RATE: usize = 256 * 1024;

/// The shares are looked through for those that nobody holds when there are this many more than the last time.
const SWEEP_AFTER: usize = 1024;

/// The room of all, and each workload's share.
pub struct Intake {
    room: Arc<Semaphore>,
    shares: Mutex<Shares>,
}

#[derive(Default)]
struct Shares {
    /// By the pod; those that nobody holds are gone.
    of: HashMap<Workload, Weak<Semaphore>>,
    sweep_at: usize,
}

/// What a body holds, until this is dropped.
#[derive(Debug)]
pub struct Held {
    _share: OwnedSemaphorePermit,
    room: OwnedSemaphorePermit,
}

impl Default for Intake {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM_KIB as usize)), shares: Mutex::default() }
    }
}

impl Intake {
    /// Waits for the workload's share, then reads the whole body, which says that it has `announced` bytes.
    ///
    /// # Errors
    /// A [`Refusal`]: too large, too slow, broken off, or there is no room for it.
    pub async fn read(
        &self,
        workload: &Workload,
        announced: usize,
        body: &mut Body,
    ) -> Result<(Held, Bytes), Refusal> {
        if announced > MAX_BATCH {
            return Err(too_large(announced));
        }
        let share = self.take_share(workload, announced).await?;
        let mut held = Held { _share: share, room: self.take_room(1).await? };
        let mut bytes = Vec::new();
        let mut pace = Pace { begun: Instant::now(), received: 0 };
        while let Some(piece) = pace.next(body).await? {
            if pace.received > MAX_BATCH {
                return Err(too_large(pace.received));
            }
            let missing = kib(pace.received).saturating_sub(held.room.num_permits());
            if missing > 0 {
                let waiting = Instant::now();
                held.room.merge(self.take_room(missing).await?);
                pace.begun += waiting.elapsed();
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((held, bytes.into()))
    }

    async fn take_share(
        &self,
        workload: &Workload,
        announced: usize,
    ) -> Result<OwnedSemaphorePermit, Refusal> {
        let kib = u32::try_from(kib(announced)).unwrap_or(SHARE_KIB).clamp(LEAST_SHARE_KIB, SHARE_KIB);
        let turn = self.share_of(workload).acquire_many_owned(kib);
        let Ok(Ok(share)) = tokio::time::timeout(SHARE_PATIENCE, turn).await else {
            let message = "this workload has too many batches on their way in: try again when they are there";
            return Err(Refusal::new(Reason::WorkloadBusy, message));
        };
        Ok(share)
    }

    async fn take_room(&self, kib: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let kib = u32::try_from(kib).unwrap_or(ROOM_KIB);
        let turn = self.room.clone().acquire_many_owned(kib);
        let Ok(Ok(room)) = tokio::time::timeout(ROOM_PATIENCE, turn).await else {
            return Err(Refusal::new(Reason::Busy, "too many batches are on their way in: try again"));
        };
        Ok(room)
    }

    fn share_of(&self, workload: &Workload) -> Arc<Semaphore> {
        let pod = pod_of(workload);
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.of.get(&pod).and_then(Weak::upgrade) {
            return share;
        }
        if shares.of.len() >= shares.sweep_at {
            shares.of.retain(|_, share| share.strong_count() > 0);
            shares.sweep_at = shares.of.len() + SWEEP_AFTER;
        }
        let share = Arc::new(Semaphore::new(SHARE_KIB as usize));
        shares.of.insert(pod, Arc::downgrade(&share));
        share
    }
}

/// How fast a body comes.
struct Pace {
    begun: Instant,
    received: usize,
}

impl Pace {
    /// The body's next piece, if it comes in time; `None` at its end.
    async fn next(&mut self, body: &mut Body) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame =
                tokio::time::timeout_at(self.deadline(), body.frame()).await.map_err(|_| too_slow())?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| Refusal::new(Reason::MalformedBatch, "the body broke off"))?;
            // Anything else than data is a trailer, which a batch has no use for.
            let Ok(piece) = frame.into_data() else { continue };
            self.received = self.received.saturating_add(piece.len());
            return Ok(Some(piece));
        }
    }

    fn deadline(&self) -> Instant {
        let earned = Duration::from_millis((self.received * 1000 / LEAST_RATE) as u64);
        self.begun + (BODY_GRACE + earned).min(BODY_TIMEOUT)
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}

fn too_large(length: usize) -> Refusal {
    Refusal::new(Reason::BatchTooLarge, BadBatch::TooLarge(length).to_string())
}

fn too_slow() -> Refusal {
    Refusal::new(Reason::BodyTimeout, "the body did not arrive in time")
}
