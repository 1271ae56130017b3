//! Fetching what was selected, once, into a spool; and adding it up.

use std::collections::BTreeMap;
use std::fs::File;

use jiff::Timestamp;
use ledger::blob::Blob;
use ledger::bundle::manifest::Scope;
use ledger::bundle::{Named, Tally, name_blobs};
use ledger::digest::Digest;
use ledger::entry::Entry;
use ledger::statement::Statement;
use ledger::tile::{Level, TILE_WIDTH, Tile, parse_bundle};
use ledger::tree::leaf_hash;
use ledger::verify::LogSource as _;

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
    pub(super) first_received: Option<Timestamp>,
    pub(super) spool: Reader,
    pub(super) joined: Joined,
}

/// Fetches entries and blobs. Whether they are the log's is for the bundle's verifier to say.
pub(super) fn gather(log: &Served<'_>, selection: &Selection, spool: File) -> Result<Gathered, CliError> {
    let mut tally = Tally::new(&selection.scope);
    let mut spool = Writer::new(spool);
    let (mut first_received, mut joined) = (None, Joined::default());
    for (index, places) in selection.picks.tiles() {
        let bundle = bundle(log, index, selection.size)?;
        let mut group = Group { index, entries: Vec::new(), blobs: BTreeMap::new() };
        let mut named = Named::new();
        for (place, leaf) in places.into_iter().map(|place| (place, leaf(&bundle, place))) {
            let bad = |message: String| CliError::Entry { index: place, message };
            let entry = Entry::parse(leaf).map_err(|error| bad(error.to_string()))?;
            let statement = Statement::parse(entry.statement).map_err(|error| bad(error.to_string()))?;
            if selection.picks.keeps(&entry, &statement) {
                // What does not hold is found again, and reported, when the bundle is verified.
                let _found_again = tally.entry(place, &leaf_hash(leaf), &entry, &statement);
                let _found_again = name_blobs(&mut named, &statement);
                first_received = first_received.or(Some(entry.envelope.received));
                joined.entry(place, &entry, &statement);
                group.entries.push((place, leaf.to_vec()));
            }
        }
        for digest in named.into_keys() {
            let blob = blob(log, digest)?;
            tally.blob(&digest, blob.is_some());
            if let Some(blob) = blob {
                joined.blob(digest, &blob);
                group.blobs.insert(digest, blob);
            }
        }
        if !group.entries.is_empty() {
            spool.push(&group)?;
        }
    }
    let (scope, size) = (selection.scope.clone(), selection.size);
    Ok(Gathered { scope, size, tally, first_received, spool: spool.finish()?, joined })
}

/// The entries under the tile of level 0 at `index`.
fn bundle(log: &Served<'_>, index: u64, size: u64) -> Result<Vec<Vec<u8>>, CliError> {
    let tile = Tile::at(Level::Entries, index, size).expect("what is selected is in the log");
    let bytes = log.tile(tile)?.ok_or_else(|| CliError::Answer(format!("{tile} is not there")))?;
    let entries = parse_bundle(tile, &bytes).map_err(|error| CliError::Answer(format!("{tile}: {error}")))?;
    Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
}

fn leaf(bundle: &[Vec<u8>], place: u64) -> &[u8] {
    &bundle[usize::try_from(place % TILE_WIDTH).expect("below 256")]
}

/// A blob, if it is still there.
fn blob(log: &Served<'_>, digest: Digest) -> Result<Option<Blob>, CliError> {
    let read = |bytes| match Blob::from_bytes(bytes) {
        Ok(blob) if blob.digest() == digest => Ok(blob),
        _ => Err(CliError::Answer(format!("the blob is not {digest}"))),
    };
    log.blob(digest)?.map(read).transpose()
}
