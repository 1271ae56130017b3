package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// height of a tile: it has up to 256 hashes.
	height = 8
	// width of a full tile or bundle.
	width = 1 << height
	// maxBundle is the length of a full bundle of the longest entries, in bytes.
	maxBundle = width * (2 + 65535)
)

// source has the files of a log, by their names below it.
type source interface {
	read(name string, limit int64) ([]byte, error)
}

// directory is a log on this machine.
type directory string

func (d directory) read(name string, limit int64) ([]byte, error) {
	return readFile(filepath.Join(string(d), name), limit)
}

// files is a log. It is a tlog.TileReader, whose tiles nobody has authenticated yet.
type files struct {
	source
	// authenticated has the tiles that tlog has found to be the tree's.
	authenticated map[tlog.Tile][]byte
}

func (f *files) Height() int { return height }

func (f *files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		known, ok := f.authenticated[tile]
		if !ok {
			var err error
			if known, err = f.readTile(tile); err != nil {
				return nil, err
			}
		}
		data[i] = known
	}
	return data, nil
}

func (f *files) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, tile := range tiles {
		f.authenticated[tile] = data[i]
	}
}

func (f *files) readTile(tile tlog.Tile) ([]byte, error) {
	data, err := f.read(path(tile), width*tlog.HashSize)
	if err == nil && len(data) != tile.W*tlog.HashSize {
		err = fmt.Errorf("%s has %d bytes, not %d", path(tile), len(data), tile.W*tlog.HashSize)
	}
	return data, err
}

// readBundle gives the entries whose hashes are those of tile.
func (f *files) readBundle(tile tlog.Tile) ([][]byte, error) {
	tile.L = -1
	data, err := f.read(path(tile), maxBundle)
	if err != nil {
		return nil, err
	}
	entries := make([][]byte, 0, tile.W)
	for len(data) >= 2 && len(entries) < tile.W {
		end := 2 + int(binary.BigEndian.Uint16(data))
		if end > len(data) {
			break
		}
		entries = append(entries, data[2:end])
		data = data[end:]
	}
	if len(entries) != tile.W || len(data) > 0 {
		return nil, fmt.Errorf("%s does not hold exactly %d entries", path(tile), tile.W)
	}
	return entries, nil
}

// path is a tile's place in a log as C2SP lays it out, which names no height, and calls data entries.
func path(tile tlog.Tile) string {
	rest := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
	if bundle, ok := strings.CutPrefix(rest, "data/"); ok {
		rest = "entries/" + bundle
	}
	return "tile/" + rest
}
