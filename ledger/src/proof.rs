//! Inclusion and consistency proofs: RFC 6962, sections 2.1.1 and 2.1.2 (verified as RFC 9162, 2.1.3.2 and 2.1.4.2, say).

use crate::tile::{Level, TILE_WIDTH, Tile};
use crate::tree::{Hash, node_hash, root_of};

/// Where the hashes of a tree come from: hash tiles as they lie in a log.
pub trait TileSource {
    /// Why a tile can't be had.
    type Error;

    /// The hashes of a tile, exactly `tile.width` of them.
    ///
    /// # Errors
    /// The source's own.
    fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Self::Error>;
}

/// The proof does not fit.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadProof {
    /// The index is not below the size, or the old size is above the new one.
    #[error("there is no such proof: {0} is not within a tree of {1}")]
    Range(u64, u64),
    /// Too few or too many hashes for these sizes.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// It leads to another root.
    #[error("the proof leads to another root hash")]
    Root,
}

/// The proof that leaf `index` is in the tree of `size`, from the leaf's sibling up.
///
/// # Errors
/// The source's. An index that is not below the size gives an empty proof, which verifies nothing.
pub fn prove_inclusion<S: TileSource>(source: &S, index: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let mut proof = Vec::new();
    if index < size {
        inclusion_path(source, size, index, 0, size, &mut proof)?;
    }
    Ok(proof)
}

/// `PATH(m, D[from:to])`
fn inclusion_path<S: TileSource>(
    source: &S,
    size: u64,
    index: u64,
    from: u64,
    to: u64,
    proof: &mut Vec<Hash>,
) -> Result<(), S::Error> {
    if to - from <= 1 {
        return Ok(());
    }
    let middle = from + split(to - from);
    let sibling = if index < middle {
        inclusion_path(source, size, index, from, middle, proof)?;
        subtree(source, size, middle, to)?
    } else {
        inclusion_path(source, size, index, middle, to, proof)?;
        subtree(source, size, from, middle)?
    };
    proof.push(sibling);
    Ok(())
}

/// The proof that the tree of `new` begins with the tree of `old`; empty for an empty or equal old tree.
///
/// # Errors
/// The source's.
pub fn prove_consistency<S: TileSource>(source: &S, old: u64, new: u64) -> Result<Vec<Hash>, S::Error> {
    let mut proof = Vec::new();
    if old > 0 && old < new {
        consistency_path(source, new, old, (0, new), true, &mut proof)?;
    }
    Ok(proof)
}

/// `SUBPROOF(m, D[from:to], known)`
fn consistency_path<S: TileSource>(
    source: &S,
    size: u64,
    old: u64,
    (from, to): (u64, u64),
    known: bool,
    proof: &mut Vec<Hash>,
) -> Result<(), S::Error> {
    if old == to {
        if !known {
            proof.push(subtree(source, size, from, to)?);
        }
        return Ok(());
    }
    let middle = from + split(to - from);
    if old <= middle {
        consistency_path(source, size, old, (from, middle), known, proof)?;
        proof.push(subtree(source, size, middle, to)?);
    } else {
        consistency_path(source, size, old, (middle, to), false, proof)?;
        proof.push(subtree(source, size, from, middle)?);
    }
    Ok(())
}

/// The greatest power of two below `n`, for `n` of at least 2.
fn split(n: u64) -> u64 {
    1 << (u64::BITS - 1 - (n - 1).leading_zeros())
}

/// `MTH(D[from:to])` for a range that the recursions above visit: it begins at a multiple of the greatest power of two
/// that is not above its length.
fn subtree<S: TileSource>(source: &S, size: u64, from: u64, to: u64) -> Result<Hash, S::Error> {
    let length = to - from;
    if !length.is_power_of_two() {
        let middle = from + split(length);
        return Ok(node_hash(&subtree(source, size, from, middle)?, &subtree(source, size, middle, to)?));
    }
    let height = length.trailing_zeros();
    let level = u8::try_from(height / 8).expect("a 64-bit size has at most 8 tile levels");
    let hashes = 1u64 << (height % 8);
    let first = from >> (8 * u32::from(level));
    let tile =
        Tile::at(Level::Hashes(level), first / TILE_WIDTH, size).expect("the range lies within the tree");
    let start = usize::try_from(first % TILE_WIDTH).expect("below 256");
    let row = source.hashes(tile)?;
    Ok(root_of(&row[start..start + usize::try_from(hashes).expect("at most 128")]))
}

/// Checks that `leaf` is leaf `index` of the tree with this size and root.
///
/// # Errors
/// [`BadProof`]
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), BadProof> {
    if index >= size {
        return Err(BadProof::Range(index, size));
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(BadProof::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    match (last, hash == *root) {
        (0, true) => Ok(()),
        (0, false) => Err(BadProof::Root),
        _ => Err(BadProof::Length),
    }
}

/// Checks that the tree with the new size and root begins with the one that has the old size and root.
///
/// # Errors
/// [`BadProof`]
pub fn verify_consistency(
    (old, old_root): (u64, &Hash),
    (new, new_root): (u64, &Hash),
    proof: &[Hash],
) -> Result<(), BadProof> {
    if old > new {
        return Err(BadProof::Range(old, new));
    }
    if old == 0 || old == new {
        let same = if old == 0 { *old_root == root_of(&[]) } else { old_root == new_root };
        return match (proof.is_empty(), same) {
            (true, true) => Ok(()),
            (true, false) => Err(BadProof::Root),
            (false, _) => Err(BadProof::Length),
        };
    }
    let mut hashes = proof.iter();
    let first = if old.is_power_of_two() { old_root } else { hashes.next().ok_or(BadProof::Length)? };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (*first, *first);
    for sibling in hashes {
        if last == 0 {
            return Err(BadProof::Length);
        }
        if node & 1 == 1 || node == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(BadProof::Length);
    }
    if from_old == *old_root && from_new == *new_root { Ok(()) } else { Err(BadProof::Root) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{leaf, mth};
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// Tiles of the test tree, computed from their definition.
    struct Tiles;
    impl TileSource for Tiles {
        type Error = Infallible;
        fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, Infallible> {
            let Level::Hashes(level) = tile.level else { panic!("hash tiles only") };
            let span = 256u64.pow(u32::from(level));
            let first = tile.index * 256;
            Ok((first..first + u64::from(tile.width)).map(|n| mth(n * span, (n + 1) * span)).collect())
        }
    }

    fn prove(index: u64, size: u64) -> Vec<Hash> {
        prove_inclusion(&Tiles, index, size).unwrap_or_else(|e| match e {})
    }

    fn prove_prefix(old: u64, new: u64) -> Vec<Hash> {
        prove_consistency(&Tiles, old, new).unwrap_or_else(|e| match e {})
    }

    #[test]
    fn every_leaf_of_small_trees_and_every_pair_of_sizes() {
        for size in 1..=40 {
            let root = mth(0, size);
            for index in 0..size {
                assert_eq!(verify_inclusion(&leaf(index), index, size, &prove(index, size), &root), Ok(()));
            }
            for old in 0..=size {
                let proof = prove_prefix(old, size);
                assert_eq!(
                    verify_consistency((old, &mth(0, old)), (size, &root), &proof),
                    Ok(()),
                    "{old} {size}"
                );
            }
        }
        assert_eq!(verify_inclusion(&leaf(0), 1, 1, &[], &leaf(0)), Err(BadProof::Range(1, 1)));
        assert_eq!(verify_consistency((2, &leaf(0)), (1, &leaf(0)), &[]), Err(BadProof::Range(2, 1)));
        assert_eq!(verify_consistency((0, &leaf(0)), (1, &leaf(0)), &[]), Err(BadProof::Root));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn inclusion_across_tiles(size in 1u64..1500, index: u64, damage: prop::sample::Index) {
            let index = index % size;
            let (proof, root) = (prove(index, size), mth(0, size));
            prop_assert_eq!(verify_inclusion(&leaf(index), index, size, &proof, &root), Ok(()));
            prop_assert!(verify_inclusion(&leaf(index + 1), index, size, &proof, &root).is_err());
            if !proof.is_empty() {
                let mut wrong = proof.clone();
                damage.get_mut(&mut wrong)[0] ^= 1;
                prop_assert_eq!(verify_inclusion(&leaf(index), index, size, &wrong, &root), Err(BadProof::Root));
                prop_assert!(verify_inclusion(&leaf(index), index, size, &proof[1..], &root).is_err());
                let longer = [&proof[..], &proof[..1]].concat();
                prop_assert!(verify_inclusion(&leaf(index), index, size, &longer, &root).is_err());
            }
        }

        #[test]
        fn consistency_across_tiles(new in 1u64..1500, old: u64, damage: prop::sample::Index) {
            let old = old % (new + 1);
            let (proof, before, after) = (prove_prefix(old, new), mth(0, old), mth(0, new));
            prop_assert_eq!(verify_consistency((old, &before), (new, &after), &proof), Ok(()));
            if !proof.is_empty() {
                let mut wrong = proof.clone();
                damage.get_mut(&mut wrong)[0] ^= 1;
                prop_assert!(verify_consistency((old, &before), (new, &after), &wrong).is_err());
                prop_assert!(verify_consistency((old, &after), (new, &before), &proof).is_err());
            }
        }

        #[test]
        fn the_other_implementation_accepts_ours(size in 1u64..700, index: u64) {
            let index = index % size;
            let theirs = |hashes: Vec<Hash>| hashes.into_iter().map(tlog_tiles::Hash).collect::<Vec<_>>();
            let root = tlog_tiles::Hash(mth(0, size));
            let proof = theirs(prove(index, size));
            prop_assert!(tlog_tiles::check_record(&proof, size, root, index, tlog_tiles::Hash(leaf(index))).is_ok());
            let old = index + 1;
            let proof = theirs(prove_prefix(old, size));
            prop_assert!(tlog_tiles::check_tree(&proof, size, root, old, tlog_tiles::Hash(mth(0, old))).is_ok());
        }
    }
}
