package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	header = "c2sp.org/tlog-proof@v1"
	// maxProof is the greatest length of a proof, in bytes: a checkpoint, hashes, extra data.
	maxProof = maxNote + 64<<10
	// maxEntry is the greatest length of an entry, in bytes.
	maxEntry = 65535
)

var errNoProof = errors.New("not a " + header + " file")

func checkProof(proofFile, entryFile, vkey string) (string, error) {
	text, err := given(proofFile, maxProof)
	if err != nil {
		return "", err
	}
	entry, err := given(entryFile, maxEntry)
	if err != nil {
		return "", err
	}
	index, proof, checkpoint, err := parseProof(string(text))
	if err != nil {
		return "", err
	}
	tree, err := openCheckpoint([]byte(checkpoint), vkey)
	if err != nil {
		return "", err
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
		return "", fmt.Errorf("entry %d of %d: %w", index, tree.N, err)
	}
	return fmt.Sprintf("verified entry %d of %d, root %v\n", index, tree.N, tree.Hash), nil
}

// given reads a file that the command line names: without it nothing can be checked.
func given(name string, limit int64) ([]byte, error) {
	data, err := readFile(name, limit)
	if err != nil {
		return nil, unable{err}
	}
	return data, nil
}

func parseProof(text string) (index int64, proof tlog.RecordProof, checkpoint string, err error) {
	head, checkpoint, ok := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || lines[0] != header {
		return 0, nil, "", errNoProof
	}
	lines = lines[1:]
	if extra, ok := strings.CutPrefix(first(lines), "extra "); ok {
		if _, err := base64.StdEncoding.Strict().DecodeString(extra); err != nil {
			return 0, nil, "", errNoProof
		}
		lines = lines[1:]
	}
	digits, ok := strings.CutPrefix(first(lines), "index ")
	index, err = strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || index < 0 || strconv.FormatInt(index, 10) != digits {
		return 0, nil, "", errNoProof
	}
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return 0, nil, "", errNoProof
		}
		proof = append(proof, hash)
	}
	return index, proof, checkpoint, nil
}
