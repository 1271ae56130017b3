// Command foreign checks a log, and proofs of its entries, with tools that this project did not write: Go's
// golang.org/x/mod/sumdb/note and tlog. Ours in it is only what those leave open: where files lie, how entries are
// bundled, and the text of a checkpoint and of a proof. docs/format.md says all three.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

const usage = `usage:
  foreign log DIR VKEY            check the whole log in DIR
  foreign served URL VKEY CAFILE TOKENFILE
                                  the same of the log that is served at URL, with a reader's token
  foreign proof FILE ENTRY VKEY   check a c2sp.org/tlog-proof@v1 file for the entry in the file ENTRY
  foreign key NAME                print a new signing key, a secret, and its verifier key
  foreign sign KEYFILE            sign the text on standard input with the signing key in KEYFILE
Exit code 0: it verifies. 1: it does not. 2: it could not be checked.`

// unable wraps an error that says nothing about what was to be checked.
type unable struct{ error }

func main() {
	answer, err := run(os.Args[1:])
	switch {
	case err == nil:
		fmt.Print(answer)
	case errors.As(err, new(unable)):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "NOT VERIFIED:", err)
		os.Exit(1)
	}
}

func run(args []string) (string, error) {
	switch command, n := first(args), len(args); {
	case command == "log" && n == 3:
		return checkLog(directory(args[1]), args[2])
	case command == "served" && n == 5:
		log, err := newServed(args[1], args[3], args[4])
		if err != nil {
			return "", err
		}
		return checkLog(log, args[2])
	case command == "proof" && n == 4:
		return checkProof(args[1], args[2], args[3])
	case command == "key" && n == 2:
		return newKey(args[1])
	case command == "sign" && n == 2:
		return sign(args[1], os.Stdin)
	}
	return "", unable{errors.New(usage)}
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// readFile reads a file of at most limit bytes. A file that is absent or too long is wrong; one that can't be read is not.
func readFile(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, unable{err}
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, unable{err}
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return data, nil
}
