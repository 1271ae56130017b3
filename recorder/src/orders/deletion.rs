//! Deleting blobs for good: in the log's own files, in its write-ahead log, in the search index. The log says so first.

use std::time::{Duration, Instant};

use ledger::digest::Digest;
use ledger::entry::Entry;
use ledger::statement::{BlobDeleted, Body, MAX_NAMED_BY, Statement, kind};
use ledger::tile::{TILE_WIDTH, parse_bundle};

use super::carry_out::{NotDone, Orders};
use super::{Answer, Order};
use crate::store::error::{StoreError, at};
use crate::store::publish::blob_path;
use crate::store::reader::LogReader;
use crate::store::wal;

/// What is ordered must be published, and what is deleted out of the write-ahead log and of the index by then. The index takes
/// longest: it is written anew. After that the order counts as not carried out, and is tried again.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(50);

impl Orders {
    /// The blobs that an entry names and that are still there.
    pub(super) async fn texts_of(&self, index: u64) -> Result<Vec<Digest>, NotDone> {
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.entry(index)).await;
        let leaf = read.map_err(|error| NotDone::Later(error.to_string()))??;
        let leaf = leaf.ok_or_else(|| NotDone::Refused(format!("the log has no entry {index}")))?;
        let bad = |error: &dyn std::fmt::Display| NotDone::Refused(format!("entry {index}: {error}"));
        let entry = Entry::parse(&leaf).map_err(|error| bad(&error))?;
        let statement = Statement::parse(entry.statement).map_err(|error| bad(&error))?;
        let digests: Vec<_> = statement.blobs.values().map(|blob| blob.digest).collect();
        if digests.is_empty() {
            return Err(NotDone::Refused(format!("entry {index} names no text")));
        }
        Ok(digests)
    }

    /// Deletes these blobs; says so in the log first, one entry for each.
    pub(super) async fn delete(&self, order: &Order, digests: Vec<Digest>) -> Result<Answer, NotDone> {
        let mut deletions = Vec::new();
        for digest in digests {
            deletions.extend(self.describe(order, digest).await?);
        }
        if deletions.is_empty() {
            return Err(NotDone::Refused("it was deleted before".into()));
        }
        // From here on none of them is taken in again.
        deletions.iter().for_each(|deletion| self.reader.deleted().begin(deletion.digest));
        let floor = self.reader.size();
        let mut entries = Vec::new();
        for deletion in &deletions {
            let body = Body { deleted: Some(deletion.clone()), ..Body::default() };
            let index = self.queue.say_apart(kind::LOG_DELETED, body).await?;
            self.reader.deleted().said(deletion.digest, index);
            entries.push(index);
        }
        let last = *entries.last().expect("there is one");
        self.wait("the log to be published", |orders| orders.reader.published().size > last).await?;
        self.remove(&deletions)?;
        self.wait("the write-ahead log to begin anew", |orders| orders.wal_begins_at(floor)).await?;
        self.wait("the search index to be written anew", |orders| orders.index.borrow().covered > last)
            .await?;
        Ok(Answer { done: true, message: deleted(&entries), entries })
    }

    /// What the log is to say; `None` when it has said so, and the blob is gone.
    async fn describe(&self, order: &Order, digest: Digest) -> Result<Option<BlobDeleted>, NotDone> {
        if self.reader.blob_size(&digest)?.is_none() && self.reader.deleted().entry(&digest).is_some() {
            return Ok(None);
        }
        let reader = self.reader.clone();
        let scan = tokio::task::spawn_blocking(move || naming(&reader, digest)).await;
        let (entries, named) = scan.map_err(|error| NotDone::Later(error.to_string()))??;
        if named == 0 {
            return Err(NotDone::Refused(format!("no entry of the log names {digest}")));
        }
        let (by, reason) = (order.by.clone(), order.reason.clone());
        Ok(Some(BlobDeleted { digest, by, reason, entries, named }))
    }

    /// What is published is not written again: these files stay away.
    fn remove(&self, deletions: &[BlobDeleted]) -> Result<(), StoreError> {
        for deletion in deletions {
            let path = blob_path(&deletion.digest);
            match self.files.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(at("remove", &path)(error));
                }
                _ => {}
            }
        }
        self.files.sync_all().map_err(at("sync", "."))
    }

    /// A deletion begins a new segment, and the older ones go when a checkpoint covers them.
    fn wal_begins_at(&self, floor: u64) -> bool {
        wal::segments(&*self.files).is_ok_and(|segments| segments.iter().all(|(first, _)| *first >= floor))
    }

    pub(super) async fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<(), NotDone> {
        let begun = Instant::now();
        while !done(self) {
            if begun.elapsed() > LIMIT {
                return Err(NotDone::Later(format!("it took too long for {what}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

fn deleted(entries: &[u64]) -> String {
    let said = entries.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let texts = if entries.len() == 1 { "1 text".into() } else { format!("{} texts", entries.len()) };
    format!(
        "{texts} deleted for good, as entry {said} says. Copies of the data directory, and bundles that were taken out before, \
         still have what they had"
    )
}

/// Indexes of the entries that name a blob, as many as a deletion lists, and how many there are.
fn naming(reader: &LogReader, digest: Digest) -> Result<(Vec<u64>, u64), StoreError> {
    let hex = digest.hex();
    let (mut entries, mut named) = (Vec::new(), 0);
    let mut found = |index: u64, leaf: &[u8]| {
        // Most leaves need not be read for that.
        let holds = std::str::from_utf8(leaf).is_ok_and(|text| text.contains(&hex));
        if holds && names(leaf, digest) {
            named += 1;
            if entries.len() < MAX_NAMED_BY {
                entries.push(index);
            }
        }
    };
    let size = reader.published().size;
    for number in 0..size.div_ceil(TILE_WIDTH) {
        let Some((tile, bytes)) = reader.bundle(number)? else { continue };
        let leaves = parse_bundle(tile, &bytes);
        let leaves =
            leaves.map_err(|error| StoreError::corrupt(&format!("log/{tile}"), 0, error.to_string()))?;
        for (index, leaf) in (number * TILE_WIDTH..size).zip(leaves) {
            found(index, leaf);
        }
    }
    // What is not published yet.
    let mut index = size;
    while let Some(leaf) = reader.entry(index)? {
        found(index, &leaf);
        index += 1;
    }
    Ok((entries, named))
}

fn names(leaf: &[u8], digest: Digest) -> bool {
    let statement = Entry::parse(leaf).ok().and_then(|entry| Statement::parse(entry.statement).ok());
    statement.is_some_and(|statement| statement.blobs.values().any(|blob| blob.digest == digest))
}
