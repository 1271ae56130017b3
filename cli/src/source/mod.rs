//! Where a log is read from: a recorder's data directory (or a copy), or a recorder over HTTPS.

mod directory;
mod served;

pub(crate) use directory::Directory;
pub(crate) use served::Served;

use ledger::tile::{Level, Tile, parse_bundle};

/// The first `width` entries or hashes of a full tile or bundle.
fn cut(tile: Tile, full: &[u8]) -> Option<Vec<u8>> {
    let width = usize::from(tile.width);
    match tile.level {
        Level::Hashes(_) => full.get(..32 * width).map(<[u8]>::to_vec),
        Level::Entries => {
            let entries = parse_bundle(tile.full(), full).ok()?;
            let length = entries.iter().take(width).map(|entry| 2 + entry.len()).sum();
            full.get(..length).map(<[u8]>::to_vec)
        }
    }
}
