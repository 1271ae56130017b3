//! The log as it lies in a recorder's directory, read entry by entry.

use std::path::{Path, PathBuf};

use ledger::checkpoint::Checkpoint;
use ledger::entry::{Entry, Envelope};
use ledger::note::VerifierKey;
use ledger::statement::Statement;
use ledger::tile::{Level, TILE_WIDTH, Tile, parse_bundle};

use crate::trouble::{Doing as _, Result, Trouble};

/// An entry, read.
#[derive(Clone, Debug)]
pub struct Logged {
    /// What the recorder knows.
    pub envelope: Envelope,
    /// What the speaker said.
    pub statement: Statement,
}

/// All entries that the checkpoint of `data/log` covers, in their order. Whether they are those that were signed is not
/// asked here: that is `bqwitness verify-log`'s part.
///
/// # Errors
/// Something can't be read.
pub fn read(data: &Path) -> Result<Vec<Logged>> {
    let mut entries = Vec::new();
    for tile in bundles(data)? {
        let bytes = open(&path(data, tile))?;
        for leaf in parse_bundle(tile, &bytes).doing("a bundle of entries")? {
            entries.push(Logged::parse(leaf)?);
        }
    }
    Ok(entries)
}

/// The same entries, byte for byte.
///
/// # Errors
/// Something can't be read.
pub fn leaves(data: &Path) -> Result<Vec<Vec<u8>>> {
    let mut leaves = Vec::new();
    for tile in bundles(data)? {
        let bytes = open(&path(data, tile))?;
        leaves
            .extend(parse_bundle(tile, &bytes).doing("a bundle of entries")?.into_iter().map(<[u8]>::to_vec));
    }
    Ok(leaves)
}

/// Changes one byte of the first entry that `wanted` is true of: where `text` is in it, the last byte of `text` becomes
/// `byte`. Returns the entry's index.
///
/// # Errors
/// There is no such entry, or no such text in it.
pub fn forge(data: &Path, wanted: impl Fn(&Logged) -> bool, text: &str, byte: u8) -> Result<u64> {
    for tile in bundles(data)? {
        let path = path(data, tile);
        let bytes = open(&path)?;
        let mut start = 0;
        let leaves = parse_bundle(tile, &bytes).doing("a bundle of entries")?;
        for (index, leaf) in (tile.index * TILE_WIDTH..).zip(leaves) {
            start += 2; // the entry's length
            if wanted(&Logged::parse(leaf)?) {
                let place = leaf.windows(text.len()).position(|window| window == text.as_bytes());
                let place = place.ok_or_else(|| Trouble::new(format!("entry {index} has no {text}")))?;
                let mut forged = bytes.clone();
                forged[start + place + text.len() - 1] = byte;
                std::fs::write(&path, forged).doing(format!("writing {}", path.display()))?;
                return Ok(index);
            }
            start += leaf.len();
        }
    }
    Err(Trouble::new("no entry to forge"))
}

impl Logged {
    fn parse(leaf: &[u8]) -> Result<Self> {
        let entry = Entry::parse(leaf).doing("an entry")?;
        let statement = Statement::parse(entry.statement).doing("an entry's statement")?;
        Ok(Self { envelope: entry.envelope, statement })
    }
}

/// The bundles of a log of the size that its checkpoint says.
fn bundles(data: &Path) -> Result<impl Iterator<Item = Tile>> {
    let key = String::from_utf8(open(&data.join("log.vkey"))?).doing("the log's key")?;
    let key: VerifierKey = key.trim().parse().doing("the log's key")?;
    let checkpoint =
        Checkpoint::verify(&open(&data.join("log/checkpoint"))?, &key).doing("the log's checkpoint")?;
    let size = checkpoint.size;
    Ok((0..size.div_ceil(TILE_WIDTH)).filter_map(move |bundle| Tile::at(Level::Entries, bundle, size)))
}

fn path(data: &Path, tile: Tile) -> PathBuf {
    data.join("log").join(tile.to_string())
}

fn open(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).doing(format!("reading {}", path.display()))
}
