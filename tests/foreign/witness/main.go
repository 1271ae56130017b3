// Command witness is a witness that this project did not write: transparency-dev's, with its HTTP handler, for one log, with a
// memory that lasts as long as the process.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/witness/persistence/inmemory"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
)

const usage = `usage:
  witness serve NAME VKEY   cosign checkpoints of the log whose key is VKEY, under a new key
It prints one line of JSON, with where it listens and the vkey of its cosignatures, and serves until it is killed.`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func run(args []string) error {
	if len(args) != 3 || args[0] != "serve" {
		return fmt.Errorf("%s", usage)
	}
	log, err := note.NewVerifier(strings.TrimSpace(args[2]))
	if err != nil {
		return fmt.Errorf("the log's key: %w", err)
	}
	secret, public, err := note.GenerateKey(rand.Reader, args[1])
	if err != nil {
		return err
	}
	signer, err := fnote.NewSignerForCosignatureV1(secret)
	if err != nil {
		return err
	}
	vkey, err := fnote.VKeyToCosignatureV1(public)
	if err != nil {
		return err
	}
	ofLog := func(_ context.Context, origin string) (note.Verifier, bool, error) {
		return log, origin == log.Name(), nil
	}
	ours, err := witness.New(context.Background(), witness.Opts{
		Persistence:    inmemory.New(),
		Signers:        []note.Signer{signer},
		VerifierForLog: ofLog,
	})
	if err != nil {
		return err
	}
	return serve(witness.NewHTTPHandler(ours), vkey)
}

func serve(handler *witness.HTTPHandler, vkey string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	said := map[string]string{"listen": listener.Addr().String(), "vkey": vkey}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", handler.AddCheckpoint)
	return http.Serve(listener, mux)
}
