//! How a reader that goes through a log from left to right comes to believe leaf hashes: the checkpoint's root is that of
//! the partial tiles at the tree's right edge, and each full tile is one hash of the tile above it. At any time one tile of
//! each level is held.

use crate::checkpoint::Checkpoint;
use crate::tile::{Level, TILE_WIDTH, Tile};
use crate::tree::{Frontier, Hash, root_of};

/// Levels that a tree of 64-bit size can have.
const LEVELS: u8 = 8;

/// The hashes that are believed at one time.
#[derive(Debug)]
pub(super) struct Ladder {
    size: u64,
    /// By level: the partial tile at the right edge, empty where the last tile is full.
    edge: Vec<Vec<Hash>>,
    /// By level: the full tile that was read last, with its index.
    path: Vec<Option<(u64, Vec<Hash>)>>,
}

/// A tile does not belong where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStep {
    /// The edge's tiles are not those of the signed root.
    #[error("the tiles at the tree's right edge do not hash to the root that the log's key signed")]
    Root,
    /// Not in the tree's order, or not needed here.
    #[error("it stands where another tile must be")]
    Order,
    /// The tile above has another hash for it.
    #[error("it is not what the tile above it says")]
    Hash,
}

impl Ladder {
    /// The partial tiles at the right edge of a tree, lowest level first.
    pub(super) fn edge_tiles(size: u64) -> impl Iterator<Item = Tile> {
        (0..LEVELS).filter_map(move |level| {
            let nodes = Level::Hashes(level).nodes(size);
            let width = u16::try_from(nodes % TILE_WIDTH).expect("below 256");
            (width > 0).then_some(Tile { level: Level::Hashes(level), index: nodes / TILE_WIDTH, width })
        })
    }

    /// Believes the edge, if it hashes to the checkpoint's root.
    pub(super) fn new(checkpoint: &Checkpoint, tiles: Vec<(Tile, Vec<Hash>)>) -> Result<Self, BadStep> {
        let needed = (0..LEVELS).filter(|level| Level::Hashes(*level).nodes(checkpoint.size) > 0).count();
        let mut edge = vec![Vec::new(); needed];
        for (tile, hashes) in tiles {
            let level = level_of(tile).ok_or(BadStep::Order)?;
            *edge.get_mut(usize::from(level)).ok_or(BadStep::Order)? = hashes;
        }
        let frontier = Frontier::new(checkpoint.size, edge.clone()).map_err(|_| BadStep::Root)?;
        if frontier.root() != checkpoint.root {
            return Err(BadStep::Root);
        }
        Ok(Self { size: checkpoint.size, path: vec![None; needed], edge })
    }

    /// The full tiles, top down, that must be read before the leaf at `index` is known; nothing beyond the tree's end.
    pub(super) fn missing(&self, index: u64) -> Vec<Tile> {
        let (mut missing, mut place) = (Vec::new(), index / TILE_WIDTH);
        for level in 0..LEVELS {
            if index >= self.size || self.tile(level, place).is_some() {
                break;
            }
            missing.push(Tile { level: Level::Hashes(level), index: place, width: 256 });
            place /= TILE_WIDTH;
        }
        missing.reverse();
        missing
    }

    /// Believes a full tile, if the one above it says so.
    pub(super) fn step(&mut self, tile: Tile, hashes: Vec<Hash>) -> Result<(), BadStep> {
        let level = level_of(tile).filter(|_| tile.is_full()).ok_or(BadStep::Order)?;
        let above = self.tile(level + 1, tile.index / TILE_WIDTH).ok_or(BadStep::Order)?;
        let place = usize::try_from(tile.index % TILE_WIDTH).expect("below 256");
        if above.get(place).ok_or(BadStep::Order)? != &root_of(&hashes) {
            return Err(BadStep::Hash);
        }
        let before = self.path[usize::from(level)].as_ref().map(|(index, _)| *index);
        if before.is_some_and(|before| before >= tile.index) {
            return Err(BadStep::Order);
        }
        self.path[usize::from(level)] = Some((tile.index, hashes));
        Ok(())
    }

    /// The hash of the leaf at `index`, if its tile is held.
    pub(super) fn leaf(&self, index: u64) -> Option<&Hash> {
        self.tile(0, index / TILE_WIDTH)?.get(usize::try_from(index % TILE_WIDTH).expect("below 256"))
    }

    /// The hashes of the tile at this place, if they are held.
    fn tile(&self, level: u8, index: u64) -> Option<&Vec<Hash>> {
        let row = usize::from(level);
        if index == Level::Hashes(level).nodes(self.size) / TILE_WIDTH {
            return self.edge.get(row).filter(|hashes| !hashes.is_empty());
        }
        self.path.get(row)?.as_ref().filter(|(held, _)| *held == index).map(|(_, hashes)| hashes)
    }
}

fn level_of(tile: Tile) -> Option<u8> {
    match tile.level {
        Level::Hashes(level) if level < LEVELS => Some(level),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::leaf;
    use std::collections::HashMap;

    fn tree(size: u64) -> (Checkpoint, HashMap<Tile, Vec<Hash>>) {
        let (mut frontier, mut tiles) = (Frontier::default(), HashMap::new());
        for number in 0..size {
            frontier.push(leaf(number), |tile, hashes| {
                tiles.insert(tile, hashes.to_vec());
            });
        }
        tiles.extend(frontier.partial_tiles().map(|(tile, hashes)| (tile, hashes.to_vec())));
        (Checkpoint { origin: "o".into(), size, root: frontier.root() }, tiles)
    }

    fn ladder(size: u64) -> (Ladder, HashMap<Tile, Vec<Hash>>) {
        let (checkpoint, tiles) = tree(size);
        let edge = Ladder::edge_tiles(size).map(|tile| (tile, tiles[&tile].clone())).collect();
        (Ladder::new(&checkpoint, edge).expect("its edge"), tiles)
    }

    #[test]
    fn every_leaf_is_reached_at_every_size() {
        for size in [1, 2, 255, 256, 257, 511, 512, 1000, 65_535, 65_536, 65_537, 70_000] {
            let (mut ladder, tiles) = ladder(size);
            for index in (0..size).step_by(97).chain([size - 1]) {
                for tile in ladder.missing(index) {
                    ladder.step(tile, tiles[&tile].clone()).expect("of this tree");
                }
                assert_eq!(ladder.leaf(index), Some(&leaf(index)), "leaf {index} of {size}");
            }
            assert!(ladder.missing(size).is_empty() && ladder.leaf(size).is_none());
        }
    }

    #[test]
    fn what_is_not_the_trees_is_refused() {
        let (mut ladder, tiles) = ladder(70_000);
        let [top, low] = ladder.missing(300)[..] else { panic!("two tiles are missing") };
        assert_eq!((top.level, low.level), (Level::Hashes(1), Level::Hashes(0)));
        assert_eq!(ladder.step(low, tiles[&low].clone()), Err(BadStep::Order), "its parent is not known");
        let mut changed = tiles[&top].clone();
        changed[255][31] ^= 1;
        assert_eq!(ladder.step(top, changed), Err(BadStep::Hash));
        ladder.step(top, tiles[&top].clone()).expect("of this tree");
        ladder.step(low, tiles[&low].clone()).expect("of this tree");
        assert_eq!(ladder.step(low, tiles[&low].clone()), Err(BadStep::Order), "twice");
        let (checkpoint, other) = tree(70_001);
        let edge =
            Ladder::edge_tiles(70_000).map(|tile| (tile, other.get(&tile).cloned().unwrap_or_default()));
        assert_eq!(Ladder::new(&checkpoint, edge.collect()).expect_err("another size"), BadStep::Root);
    }
}
