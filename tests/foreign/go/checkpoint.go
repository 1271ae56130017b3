package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxNote is the greatest length of a checkpoint, in bytes.
const maxNote = 256 << 10

var errNoCheckpoint = errors.New("not a checkpoint: origin, size, root hash, one line each")

// openCheckpoint verifies the checkpoint msg of the log that vkey belongs to.
func openCheckpoint(msg []byte, vkey string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, unable{fmt.Errorf("the key: %w", err)}
	}
	opened, err := note.Open(msg, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	return parseCheckpoint(opened.Text, verifier.Name())
}

// parseCheckpoint is ours, as tlog.ParseTree takes only the text of Go's own checksum database.
func parseCheckpoint(text, origin string) (tlog.Tree, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" {
		return tlog.Tree{}, errNoCheckpoint
	}
	if lines[0] != origin {
		return tlog.Tree{}, fmt.Errorf("the checkpoint is of log %q, not of %q", lines[0], origin)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, errNoCheckpoint
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return tlog.Tree{}, errNoCheckpoint
	}
	return tlog.Tree{N: size, Hash: root}, nil
}
