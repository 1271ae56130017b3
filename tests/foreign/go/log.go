package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// maxProofs is how many entries of a log have their inclusion proven; of a larger one, as many all over it.
const maxProofs = 1000

// grown has the hashes of the tree that the entries alone make, in the order of tlog.StoredHashIndex.
type grown []tlog.Hash

func (g grown) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = g[index]
	}
	return hashes, nil
}

func (g grown) leaf(index int64) tlog.Hash { return g[tlog.StoredHashIndex(0, index)] }

func checkLog(from source, vkey string) (string, error) {
	msg, err := from.read("checkpoint", maxNote)
	if errors.Is(err, os.ErrNotExist) {
		return "", unable{err}
	}
	if err != nil {
		return "", err
	}
	tree, err := openCheckpoint(msg, vkey)
	if err != nil {
		return "", err
	}
	log := &files{source: from, authenticated: map[tlog.Tile][]byte{}}
	signed := tlog.TileHashReader(tree, log)
	tiles := tlog.NewTiles(height, 0, tree.N)
	leaves, err := checkTiles(signed, tiles)
	if err != nil {
		return "", err
	}
	entries, err := checkEntries(log, tiles, leaves)
	if err != nil {
		return "", err
	}
	if err := checkRoot(tree, entries); err != nil {
		return "", err
	}
	inclusions, err := checkInclusion(tree, signed, entries)
	if err != nil {
		return "", err
	}
	consistencies, err := checkConsistency(tree, signed, entries)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("verified %d entries, root %v (%d hash tiles, %d inclusion proofs, %d consistency proofs)\n",
		tree.N, tree.Hash, len(tiles), inclusions, consistencies), nil
}

// checkTiles authenticates every hash of every tile against the signed root, and gives those of the leaves. It goes from
// the top down, so that a tile that does not fit is the one it names.
func checkTiles(signed tlog.HashReader, tiles []tlog.Tile) (map[tlog.Tile][]byte, error) {
	leaves := make(map[tlog.Tile][]byte)
	for _, tile := range slices.Backward(tiles) {
		data, err := tlog.ReadTileData(tile, signed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path(tile), err)
		}
		if tile.L == 0 {
			leaves[tile] = data
		}
	}
	return leaves, nil
}

// checkEntries compares each entry with its authenticated hash, and grows a tree from the entries.
func checkEntries(log *files, tiles []tlog.Tile, leaves map[tlog.Tile][]byte) (grown, error) {
	var tree grown
	for _, tile := range tiles {
		if tile.L != 0 {
			continue
		}
		bundle, err := log.readBundle(tile)
		if err != nil {
			return nil, err
		}
		for i, entry := range bundle {
			index := tile.N*width + int64(i)
			hash := tlog.RecordHash(entry)
			if hash != tlog.Hash(leaves[tile][i*tlog.HashSize:]) {
				return nil, fmt.Errorf("entry %d is not the one that the log's tree has there", index)
			}
			more, err := tlog.StoredHashesForRecordHash(index, hash, tree)
			if err != nil {
				return nil, err
			}
			tree = append(tree, more...)
		}
	}
	return tree, nil
}

func checkRoot(tree tlog.Tree, entries grown) error {
	root, err := tlog.TreeHash(tree.N, entries)
	if err == nil && root != tree.Hash {
		err = fmt.Errorf("the %d entries have the root hash %v; the checkpoint says %v", tree.N, root, tree.Hash)
	}
	return err
}

// checkInclusion proves from the tiles that entries are in the signed tree. It says how many.
func checkInclusion(tree tlog.Tree, signed tlog.HashReader, entries grown) (int64, error) {
	count := min(tree.N, maxProofs)
	for n := range count {
		index := tree.N - 1
		if n < count-1 {
			index = n * (tree.N / count)
		}
		proof, err := tlog.ProveRecord(tree.N, index, signed)
		if err == nil {
			err = tlog.CheckRecord(proof, tree.N, tree.Hash, index, entries.leaf(index))
		}
		if err != nil {
			return n, fmt.Errorf("inclusion of entry %d: %w", index, err)
		}
	}
	return count, nil
}

// checkConsistency proves from the tiles that the signed tree begins with smaller ones. It says with how many.
func checkConsistency(tree tlog.Tree, signed tlog.HashReader, entries grown) (int, error) {
	sizes := smallerSizes(tree.N)
	for _, size := range sizes {
		old, err := tlog.TreeHash(size, entries)
		if err != nil {
			return 0, err
		}
		proof, err := tlog.ProveTree(tree.N, size, signed)
		if err == nil {
			err = tlog.CheckTree(proof, tree.N, tree.Hash, size, old)
		}
		if err != nil {
			return 0, fmt.Errorf("consistency with the first %d entries: %w", size, err)
		}
	}
	return len(sizes), nil
}

// smallerSizes has powers of two and their neighbours, parts of the whole, and the whole.
func smallerSizes(size int64) []int64 {
	sizes := []int64{size / 3, size / 2, size - 1, size}
	for power := int64(1); power <= size; power *= 2 {
		sizes = append(sizes, power-1, power, power+1)
	}
	slices.Sort(sizes)
	return slices.DeleteFunc(slices.Compact(sizes), func(n int64) bool { return n < 1 || n > size })
}
