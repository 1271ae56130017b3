//! The Merkle tree: RFC 6962, section 2.1, built by appending. A [`Frontier`] is all that an appender keeps: the
//! rightmost, partial tile of each level.

use sha2::{Digest as _, Sha256};

use crate::tile::{Level, TILE_WIDTH, Tile};

/// A SHA-256 hash of the tree.
pub type Hash = [u8; 32];

/// The hash of a leaf: `SHA-256(0x00 || entry)`.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0x00]);
    hash.update(entry);
    hash.finalize().into()
}

/// The hash of two subtrees: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0x01]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// The root of a tree whose bottom row is `hashes` (leaf hashes, or roots of equal perfect subtrees).
#[must_use]
pub fn root_of(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

/// The right edge of a growing tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    /// For each tile level the hashes of its partial tile: 0 to 255.
    levels: Vec<Vec<Hash>>,
    size: u64,
}

/// The hashes given for a frontier are not those of a tree of that size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("level {level} of a tree of {size} has {expected} hashes in its last tile, not {found}")]
pub struct BadFrontier {
    /// Tile level.
    pub level: u8,
    /// Size of the tree.
    pub size: u64,
    /// Hashes that its partial tile has at that size.
    pub expected: u64,
    /// Hashes that were given.
    pub found: usize,
}

impl Frontier {
    /// The right edge of a tree of `size` from its partial tiles: `levels[l]` has the hashes of level `l`'s, and is empty
    /// where the last tile is full.
    ///
    /// # Errors
    /// [`BadFrontier`]
    pub fn new(size: u64, levels: Vec<Vec<Hash>>) -> Result<Self, BadFrontier> {
        let needed = (0..8).filter(|level| Level::Hashes(*level).nodes(size) > 0).count();
        for level in 0..needed.max(levels.len()) {
            let level = u8::try_from(level).unwrap_or(u8::MAX);
            let expected = Level::Hashes(level).nodes(size) % TILE_WIDTH;
            let found = levels.get(usize::from(level)).map_or(0, Vec::len);
            if found as u64 != expected {
                return Err(BadFrontier { level, size, expected, found });
            }
        }
        Ok(Self { levels, size })
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf's hash. Each tile that this fills is handed to `filled`, lowest level first.
    pub fn push(&mut self, leaf: Hash, mut filled: impl FnMut(Tile, &[Hash])) {
        let mut carry = Some(leaf);
        self.size += 1;
        for level in 0.. {
            let Some(hash) = carry.take() else { break };
            if self.levels.len() == usize::from(level) {
                self.levels.push(Vec::with_capacity(256));
            }
            let row = &mut self.levels[usize::from(level)];
            row.push(hash);
            if row.len() as u64 == TILE_WIDTH {
                let index = Level::Hashes(level).nodes(self.size) / TILE_WIDTH - 1;
                filled(Tile { level: Level::Hashes(level), index, width: 256 }, row);
                carry = Some(root_of(row));
                row.clear();
            }
        }
    }

    /// The partial tiles of a tree of this size, lowest level first.
    pub fn partial_tiles(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        self.levels.iter().zip(0u8..).filter(|(row, _)| !row.is_empty()).map(|(row, level)| {
            let index = Level::Hashes(level).nodes(self.size) / TILE_WIDTH;
            let width = u16::try_from(row.len()).expect("a partial tile has fewer than 256 hashes");
            (Tile { level: Level::Hashes(level), index, width }, row.as_slice())
        })
    }

    /// The root hash.
    #[must_use]
    pub fn root(&self) -> Hash {
        // From right to left: each row is a run of perfect subtrees, all smaller than those of the row above.
        let mut root: Option<Hash> = None;
        for row in &self.levels {
            let mut end = row.len();
            while end > 0 {
                let run = 1 << end.trailing_zeros();
                let left = root_of(&row[end - run..end]);
                root = Some(root.map_or(left, |right| node_hash(&left, &right)));
                end -= run;
            }
        }
        root.unwrap_or_else(|| root_of(&[]))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn leaf(number: u64) -> Hash {
        leaf_hash(&number.to_be_bytes())
    }

    /// The definition of RFC 6962, section 2.1, word for word.
    pub(crate) fn mth(from: u64, to: u64) -> Hash {
        match to - from {
            0 => Sha256::digest([]).into(),
            1 => leaf(from),
            n => {
                let k = n.next_power_of_two() / 2;
                node_hash(&mth(from, from + k), &mth(from + k, to))
            }
        }
    }

    #[test]
    fn empty_and_known_roots() {
        assert_eq!(
            hex::encode(Frontier::default().root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex::encode(leaf_hash(b"")),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }

    #[test]
    fn the_root_at_every_size_is_the_definitions() {
        let mut frontier = Frontier::default();
        for size in 1..=600 {
            frontier.push(leaf(size - 1), |_, _| ());
            assert_eq!(frontier.root(), mth(0, size), "size {size}");
        }
    }

    #[test]
    fn tiles_come_when_they_are_full() {
        let mut frontier = Frontier::default();
        let mut seen = Vec::new();
        for number in 0..65_536 + 300 {
            frontier.push(leaf(number), |tile, hashes| seen.push((tile, hashes[0], hashes.len())));
        }
        assert_eq!(seen.len(), 257 + 1);
        assert_eq!(seen.iter().filter(|(tile, ..)| tile.level == Level::Hashes(1)).count(), 1);
        let (tile, first, width) = seen[1];
        assert_eq!((tile.to_string().as_str(), first, width), ("tile/0/001", leaf(256), 256));
        let partial: Vec<_> = frontier.partial_tiles().map(|(tile, _)| tile.to_string()).collect();
        assert_eq!(partial, ["tile/0/257.p/44", "tile/1/001.p/1", "tile/2/000.p/1"]);
        assert_eq!(frontier.root(), mth(0, 65_836));
    }

    #[test]
    fn a_frontier_is_restored_or_refused() {
        let mut frontier = Frontier::default();
        (0..70_000).for_each(|number| frontier.push(leaf(number), |_, _| ()));
        let mut levels = vec![Vec::new(); 3];
        for (tile, hashes) in frontier.partial_tiles() {
            let Level::Hashes(level) = tile.level else { panic!("hashes") };
            levels[usize::from(level)] = hashes.to_vec();
        }
        assert_eq!(Frontier::new(70_000, levels.clone()).expect("restored").root(), frontier.root());
        assert!(Frontier::new(70_001, levels.clone()).is_err());
        levels.pop();
        assert_eq!(Frontier::new(70_000, levels).expect_err("a level is missing").level, 2);
    }

    proptest! {
        #[test]
        fn the_other_implementation_has_the_same_root(size in 1u64..400) {
            use tlog_tiles::HashReader;
            #[derive(Default)]
            struct Stored(Vec<tlog_tiles::Hash>);
            impl HashReader for Stored {
                fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
                    Ok(indexes.iter().map(|i| self.0[usize::try_from(*i).expect("small")]).collect())
                }
            }
            let (mut stored, mut frontier) = (Stored::default(), Frontier::default());
            for number in 0..size {
                let data = number.to_be_bytes();
                let new = tlog_tiles::stored_hashes(number, &data, &stored).expect("appends");
                stored.0.extend(new);
                frontier.push(leaf_hash(&data), |_, _| ());
            }
            prop_assert_eq!(tlog_tiles::tree_hash(size, &stored).expect("has a root").0, frontier.root());
        }
    }
}
