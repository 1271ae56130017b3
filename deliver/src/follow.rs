//! Follows the log: every receipt is a promise, and this holds the recorder to it. At each look the newest checkpoint must be
//! signed by the log's key and consistent with the last one seen, and the last receipt's entry must be in its tree. A
//! recorder that fails this has rolled back, forked or lied; the session is then over, and calls are refused.

use std::collections::HashMap;
use std::time::Duration;

use ledger::checkpoint::Checkpoint;
use ledger::proof::{TileSource, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion};
use ledger::receipt::ReceiptEntry;
use ledger::tile::{Tile, parse_hashes};
use ledger::tree::Hash;
use tokio::sync::watch;

use super::recorder::{DeliveryError, Recorder};

/// A proof between two checkpoints needs at most two tiles a level, and there are eight levels.
const MOST_TILES: usize = 64;

pub(super) struct Follower {
    recorder: Recorder,
    every: Duration,
    seen: Option<Checkpoint>,
    /// The receipt of the look before, when its entry was not published yet.
    owed: Option<ReceiptEntry>,
}

/// What a look found.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    /// The log could not be read; the next look will tell.
    #[error(transparent)]
    Unreadable(#[from] DeliveryError),
    /// The log is not what it was, or lacks what it acknowledged.
    #[error("the recorder's log does not hold: {0}")]
    Broken(String),
}

impl Follower {
    pub(super) fn new(recorder: Recorder, every: Duration) -> Self {
        Self { recorder, every, seen: None, owed: None }
    }

    /// Looks until the log turns out to be broken; returns how.
    pub(super) async fn run(mut self, mut receipts: watch::Receiver<Option<ReceiptEntry>>) -> String {
        loop {
            tokio::time::sleep(self.every).await;
            let receipt = *receipts.borrow_and_update();
            match self.look(receipt).await {
                Ok(()) => {}
                Err(LookError::Unreadable(error)) => {
                    tracing::warn!(category = error.category(), %error, "the log can't be followed; trying again");
                }
                Err(error @ LookError::Broken(_)) => return error.to_string(),
            }
        }
    }

    /// One look: the newest checkpoint against the last one, and a receipt against the newest.
    pub(super) async fn look(&mut self, receipt: Option<ReceiptEntry>) -> Result<(), LookError> {
        let checkpoint = self.recorder.checkpoint().await?;
        let before = self.seen.clone().unwrap_or_else(|| checkpoint.clone());
        if checkpoint.size < before.size {
            let (size, old) = (checkpoint.size, before.size);
            return Err(LookError::Broken(format!("it had {old} entries and now has {size}")));
        }
        self.prove_extends(&before, &checkpoint).await?;
        for receipt in self.owed.take().into_iter().chain(receipt) {
            self.prove_includes(receipt, &checkpoint).await?;
        }
        self.owed = receipt.filter(|receipt| receipt.index >= checkpoint.size);
        self.seen = Some(checkpoint);
        Ok(())
    }

    async fn prove_extends(&self, old: &Checkpoint, new: &Checkpoint) -> Result<(), LookError> {
        let proof = self.proof(|tiles| prove_consistency(tiles, old.size, new.size)).await?;
        verify_consistency((old.size, &old.root), (new.size, &new.root), &proof).map_err(|error| {
            LookError::Broken(format!(
                "its {} entries do not begin with the {} seen before: {error}",
                new.size, old.size
            ))
        })
    }

    /// A checkpoint that covers a receipt is published within a second of it. A newer receipt may not be in this one yet.
    async fn prove_includes(&self, receipt: ReceiptEntry, checkpoint: &Checkpoint) -> Result<(), LookError> {
        if receipt.index >= checkpoint.size {
            if self.seen.as_ref().is_some_and(|seen| seen.size == checkpoint.size) {
                let (index, size) = (receipt.index, checkpoint.size);
                tracing::warn!(
                    category = "checkpoint_late",
                    index,
                    size,
                    "the recorder has not published an entry that it acknowledged"
                );
            }
            return Ok(());
        }
        let proof = self.proof(|tiles| prove_inclusion(tiles, receipt.index, checkpoint.size)).await?;
        verify_inclusion(&receipt.leaf_hash, receipt.index, checkpoint.size, &proof, &checkpoint.root)
            .map_err(|error| {
                LookError::Broken(format!(
                    "entry {}, which it acknowledged, is not there: {error}",
                    receipt.index
                ))
            })
    }

    /// Computes a proof, fetching the tiles that it asks for.
    async fn proof(
        &self,
        prove: impl Fn(&Tiles) -> Result<Vec<Hash>, Missing>,
    ) -> Result<Vec<Hash>, LookError> {
        let mut tiles = Tiles::default();
        for _ in 0..MOST_TILES {
            match prove(&tiles) {
                Ok(proof) => return Ok(proof),
                Err(Missing(tile)) => {
                    let bytes = self.recorder.tile(tile).await?;
                    let hashes = parse_hashes(tile, &bytes)
                        .map_err(|error| LookError::Broken(format!("{tile}: {error}")))?;
                    tiles.0.insert(tile, hashes);
                }
            }
        }
        Err(LookError::Broken(format!("a proof in it needs more than {MOST_TILES} tiles")))
    }
}

/// The tiles fetched so far.
#[derive(Default)]
struct Tiles(HashMap<Tile, Vec<Hash>>);

/// A proof needs this tile too.
struct Missing(Tile);

impl TileSource for Tiles {
    type Error = Missing;

    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Missing> {
        self.0.get(&tile).cloned().ok_or(Missing(tile))
    }
}
