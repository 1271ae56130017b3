//! Fetching what was selected, once, into a spool; and adding it up.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;

use ledger::blob::Blob;
use ledger::bundle::manifest::Scope;
use ledger::bundle::{Named, Tally, name_blobs};
use ledger::digest::Digest;
use ledger::entry::Entry;
use ledger::statement::Statement;
use ledger::tile::TILE_WIDTH;
use ledger::tree::leaf_hash;

use super::select::Selection;
use super::spool::{Group, Reader, Writer};
use crate::error::CliError;
use crate::page::Joined;
use crate::source::Served;

/// What was selected, on this machine.
pub(super) struct Gathered {
    pub(super) scope: Scope,
    pub(super) size: u64,
    pub(super) tally: Tally,
    pub(super) spool: Reader,
    pub(super) joined: Joined,
}

/// Fetches entries and blobs. Whether they are the log's is for the bundle's verifier to say.
pub(super) fn gather(log: &Served<'_>, selection: &Selection, spool: File) -> Result<Gathered, CliError> {
    let mut gathering = Gathering {
        log,
        selection,
        tally: Tally::new(&selection.scope),
        spool: Writer::new(spool),
        joined: Joined::default(),
        deletions: BTreeSet::new(),
    };
    for (index, places) in selection.picks.tiles() {
        gathering.deletions_before(index)?;
        gathering.tile(index, places)?;
    }
    gathering.deletions_before(u64::MAX)?;
    let Gathering { tally, spool, joined, .. } = gathering;
    let (scope, size) = (selection.scope.clone(), selection.size);
    Ok(Gathered { scope, size, tally, spool: spool.finish()?, joined })
}

/// On the way through what was selected.
struct Gathering<'a> {
    log: &'a Served<'a>,
    selection: &'a Selection,
    tally: Tally,
    spool: Writer,
    joined: Joined,
    /// Entries that say who deleted a text that is not there any more, and that are not gathered yet.
    deletions: BTreeSet<u64>,
}

impl Gathering<'_> {
    /// Entries that say what was deleted, in tiles before this one.
    fn deletions_before(&mut self, tile: u64) -> Result<(), CliError> {
        while let Some(first) = self.deletions.first().copied().filter(|index| index / TILE_WIDTH < tile) {
            self.tile(first / TILE_WIDTH, Vec::new())?;
        }
        Ok(())
    }

    /// The entries at these places of a tile, and those of its deletions that are due; then the blobs that they name.
    fn tile(&mut self, index: u64, places: Vec<u64>) -> Result<(), CliError> {
        let readable: Readable = self.log.entries_under(index)?.into_iter().collect();
        let later = self.deletions.split_off(&((index + 1) * TILE_WIDTH));
        let mut kept = std::mem::replace(&mut self.deletions, later);
        let (mut named, mut named_by) = (Named::new(), HashMap::new());
        for place in places {
            // Between the entries of some sessions lie others', which not every reader may see.
            if !readable.contains_key(&place) && self.selection.picks.may_skip(place) {
                continue;
            }
            let (entry, statement) = read(&readable, place)?;
            if self.selection.picks.keeps(place, &entry, &statement) {
                // What does not hold is found again, and reported, when the bundle is verified.
                let _found_again = name_blobs(&mut named, &statement);
                statement.blobs.values().for_each(|blob| {
                    named_by.entry(blob.digest).or_insert(place);
                });
                kept.insert(place);
            }
        }
        let mut blobs = BTreeMap::new();
        for digest in named.into_keys() {
            let fetched = named_by.get(&digest).map(|place| self.blob(*place, digest)).transpose()?;
            let blob = match fetched.unwrap_or(Fetched::Blob(None)) {
                Fetched::Deleted(entry) => {
                    self.keep_deletion(entry, index, &mut kept);
                    None
                }
                Fetched::Blob(blob) => blob,
            };
            blobs.insert(digest, blob);
        }
        self.push(index, &readable, &kept, blobs)
    }

    /// Where the log says who deleted a text, that entry comes too: unless everything of a time is asked for, which is that and
    /// nothing else.
    fn keep_deletion(&mut self, entry: u64, tile: u64, kept: &mut BTreeSet<u64>) {
        let whole = matches!(self.selection.scope, Scope::Everything(_));
        if whole || entry >= self.selection.size {
            return;
        }
        match (entry / TILE_WIDTH).cmp(&tile) {
            Ordering::Less => {} // named again after it was deleted; the bundle is beyond that
            Ordering::Equal => {
                kept.insert(entry);
            }
            Ordering::Greater => {
                self.deletions.insert(entry);
            }
        }
    }

    fn push(
        &mut self,
        index: u64,
        readable: &Readable,
        kept: &BTreeSet<u64>,
        blobs: BTreeMap<Digest, Option<Blob>>,
    ) -> Result<(), CliError> {
        let mut group = Group { index, entries: Vec::new(), blobs: BTreeMap::new() };
        for place in kept {
            let (entry, statement) = read(readable, *place)?;
            let leaf = leaf(readable, *place)?;
            let _found_again = self.tally.entry(*place, &leaf_hash(leaf), &entry, &statement);
            self.joined.entry(*place, &entry, &statement);
            group.entries.push((*place, leaf.to_vec()));
        }
        for (digest, blob) in blobs {
            self.tally.blob(&digest, blob.is_some());
            if let Some(blob) = blob {
                self.joined.blob(digest, &blob);
                group.blobs.insert(digest, blob);
            }
        }
        if !group.entries.is_empty() {
            self.spool.push(&group)?;
        }
        Ok(())
    }

    /// A blob that the entry at `place` names.
    fn blob(&self, place: u64, digest: Digest) -> Result<Fetched, CliError> {
        let bytes = match self.log.blob_of(place, digest) {
            Err(CliError::Deleted { entry }) => return Ok(Fetched::Deleted(entry)),
            fetched => fetched?,
        };
        let read = |bytes| match Blob::from_bytes(bytes) {
            Ok(blob) if blob.digest() == digest => Ok(blob),
            _ => Err(CliError::Answer(format!("the blob is not {digest}"))),
        };
        Ok(Fetched::Blob(bytes.map(read).transpose()?))
    }
}

/// What the recorder has of a blob.
enum Fetched {
    /// The blob; `None` when it is gone without a word.
    Blob(Option<Blob>),
    /// It was deleted, as this entry says.
    Deleted(u64),
}

/// Of the entries under one tile those that the reader may see.
type Readable = BTreeMap<u64, Vec<u8>>;

fn read(readable: &Readable, place: u64) -> Result<(Entry<'_>, Statement), CliError> {
    let bad = |message: String| CliError::Entry { index: place, message };
    let entry = Entry::parse(leaf(readable, place)?).map_err(|error| bad(error.to_string()))?;
    let statement = Statement::parse(entry.statement).map_err(|error| bad(error.to_string()))?;
    Ok((entry, statement))
}

fn leaf(readable: &Readable, place: u64) -> Result<&[u8], CliError> {
    readable.get(&place).map(Vec::as_slice).ok_or(CliError::NotReadable { index: place })
}
