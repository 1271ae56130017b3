//! Tiles: coordinates, paths and contents as <https://c2sp.org/tlog-tiles> has them.

use std::fmt;

use crate::entry::MAX_ENTRY;
use crate::tree::Hash;

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// What lies at a path of the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Level {
    /// Entries, as an entry bundle.
    Entries,
    /// Hashes: level 0 has leaf hashes, level `n` has the roots of full tiles of level `n - 1`.
    Hashes(u8),
}

/// One tile or bundle.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Tile {
    /// Entries or hashes, and of which level.
    pub level: Level,
    /// Place in its level.
    pub index: u64,
    /// How many entries or hashes: 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The tile of `level` at `index` in a tree of `size` entries; `None` when it is empty there.
    #[must_use]
    pub fn at(level: Level, index: u64, size: u64) -> Option<Self> {
        let first = index.checked_mul(TILE_WIDTH)?;
        let width = level.nodes(size).checked_sub(first)?.min(TILE_WIDTH);
        (width > 0).then(|| Self { level, index, width: u16::try_from(width).expect("at most 256") })
    }

    /// Is it full?
    #[must_use]
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// The full tile at the same place.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: 256, ..self }
    }

    /// Parses the path that [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?;
        let (level, rest) = rest.split_once('/')?;
        let level = match level {
            "entries" => Level::Entries,
            digits => Level::Hashes(digits.parse().ok().filter(|level| *level <= 63)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|width| (1..256).contains(width))?),
            None => (rest, 256),
        };
        let mut index: u64 = 0;
        for part in number.split('/') {
            let digits = part.strip_prefix('x').unwrap_or(part);
            let value: u64 = (digits.len() == 3).then(|| digits.parse().ok()).flatten()?;
            index = index.checked_mul(1000)?.checked_add(value)?;
        }
        let tile = Self { level, index, width };
        (tile.to_string() == path).then_some(tile) // one path for one tile
    }
}

impl Level {
    /// How many nodes this level has in a tree of `size` entries.
    #[must_use]
    pub fn nodes(self, size: u64) -> u64 {
        match self {
            Self::Entries => size,
            Self::Hashes(level) => size.checked_shr(8 * u32::from(level)).unwrap_or(0),
        }
    }
}

impl fmt::Display for Tile {
    /// `tile/0/x001/x234/067`, `tile/entries/000.p/17`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Entries => write!(f, "tile/entries/")?,
            Level::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let mut parts = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            parts.push(rest % 1000);
            rest /= 1000;
        }
        for part in parts.iter().skip(1).rev() {
            write!(f, "x{part:03}/")?;
        }
        write!(f, "{:03}", parts[0])?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// The bytes are not the tile that was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadTile {
    /// A hash tile of another length.
    #[error("a tile of {width} hashes has {} bytes; this one has {found}", 32 * *width)]
    Length {
        /// Hashes expected.
        width: u16,
        /// Bytes found.
        found: usize,
    },
    /// A bundle that ends inside an entry, or has more or fewer entries.
    #[error("the bundle does not hold exactly {width} entries: it breaks at byte {at}")]
    Bundle {
        /// Entries expected.
        width: u16,
        /// Where reading stopped.
        at: usize,
    },
}

/// Splits a hash tile into its hashes.
///
/// # Errors
/// [`BadTile::Length`]
pub fn parse_hashes(tile: Tile, bytes: &[u8]) -> Result<Vec<Hash>, BadTile> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if hashes.len() == usize::from(tile.width) && rest.is_empty() {
        Ok(hashes.to_vec())
    } else {
        Err(BadTile::Length { width: tile.width, found: bytes.len() })
    }
}

/// Splits an entry bundle into its entries.
///
/// # Errors
/// [`BadTile::Bundle`]
pub fn parse_bundle(tile: Tile, bytes: &[u8]) -> Result<Vec<&[u8]>, BadTile> {
    let mut entries = Vec::with_capacity(usize::from(tile.width));
    let mut at = 0;
    let torn = |at| BadTile::Bundle { width: tile.width, at };
    for _ in 0..tile.width {
        let length = bytes.get(at..at + 2).ok_or(torn(at))?;
        let end = at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        entries.push(bytes.get(at + 2..end).ok_or(torn(at))?);
        at = end;
    }
    if at == bytes.len() { Ok(entries) } else { Err(torn(at)) }
}

/// Appends an entry to a bundle.
///
/// # Panics
/// When the entry is longer than [`MAX_ENTRY`], which [`crate::entry::encode`] never makes.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    let length = u16::try_from(entry.len()).ok().filter(|length| usize::from(*length) <= MAX_ENTRY);
    bundle.extend_from_slice(&length.expect("an entry fits its 16-bit length").to_be_bytes());
    bundle.extend_from_slice(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of the specification: a tree of 70,000.
    #[test]
    fn the_specifications_tree() {
        let width = |level, index| Tile::at(Level::Hashes(level), index, 70_000).map(|tile| tile.width);
        assert_eq!((width(0, 272), width(0, 273), width(0, 274)), (Some(256), Some(112), None));
        assert_eq!(
            (width(1, 0), width(1, 1), width(2, 0), width(3, 0)),
            (Some(256), Some(17), Some(1), None)
        );
        assert_eq!(Tile::at(Level::Hashes(1), 0, 256).map(|tile| tile.width), Some(1));
    }

    #[test]
    fn paths() {
        let tile = Tile { level: Level::Hashes(0), index: 1_234_067, width: 256 };
        assert_eq!(tile.to_string(), "tile/0/x001/x234/067");
        assert_eq!(Tile { level: Level::Entries, index: 7, width: 17 }.to_string(), "tile/entries/007.p/17");
        for bad in [
            "tile/0/7",
            "tile/00/007",
            "tile/64/007",
            "tile/0/x007",
            "tile/0/x000/007",
            "tile/0/001/007",
            "tile/0/007.p/256",
            "tile/0/007.p/0",
            "tile/0/007.p/01",
            "tile/0/../007",
            "tile/entries/+07",
            "tile/0/007/",
            "tile/-1/007",
            "",
        ] {
            assert_eq!(Tile::parse_path(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_path_has_one_tile(level in 0u8..=63, index: u64, width in 1u16..=256, entries: bool) {
            let level = if entries { Level::Entries } else { Level::Hashes(level) };
            let tile = Tile { level, index, width };
            prop_assert_eq!(Tile::parse_path(&tile.to_string()), Some(tile));
        }

        #[test]
        fn the_other_implementation_has_the_same_paths(level in 0u8..4, index in 0u64..2_000_000, width in 1u16..=256) {
            let theirs = tlog_tiles::Tile::new(8, level, index, u32::from(width), false).path();
            let ours = Tile { level: Level::Hashes(level), index, width }.to_string();
            prop_assert_eq!(theirs.replacen("tile/8/", "tile/", 1), ours);
        }

        #[test]
        fn bundles(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20), junk: Vec<u8>) {
            let mut bundle = Vec::new();
            entries.iter().for_each(|entry| push_entry(&mut bundle, entry));
            let tile = Tile { level: Level::Entries, index: 0, width: u16::try_from(entries.len()).expect("few") };
            prop_assert_eq!(parse_bundle(tile, &bundle).expect("ours"), entries);
            prop_assert!(parse_bundle(tile, &bundle[..bundle.len() - 1]).is_err());
            let _outcome = parse_bundle(tile, &junk).is_ok();
        }
    }
}
