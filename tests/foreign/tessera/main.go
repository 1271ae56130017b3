// Command tessera checks a served log with Tessera's fsck, which this project did not write: it hashes every entry, builds
// the tree again, and compares each tile with it.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
)

const usage = `usage:
  tessera fsck URL CA TOKEN VKEY   check the log served under URL/; CA, TOKEN are files
Exit code 0: it verifies. 1: it does not. 2: it could not be checked.`

// unable wraps an error that says nothing about what was to be checked.
type unable struct{ error }

func main() {
	quiet()
	err := run(os.Args[1:])
	switch {
	case err == nil:
		fmt.Println("verified")
	case errors.As(err, new(unable)):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "NOT VERIFIED:", err)
		os.Exit(1)
	}
}

// quiet keeps Tessera's own log out of standard error.
func quiet() {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
}

func run(args []string) error {
	if len(args) != 5 || args[0] != "fsck" {
		return unable{errors.New(usage)}
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(args[4]))
	if err != nil {
		return unable{err}
	}
	log, err := served(args[1], args[2], args[3])
	if err != nil {
		return unable{err}
	}
	return fsck.New(verifier.Name(), verifier, log, leafHashes, fsck.Opts{N: 2}).Check(context.Background())
}

// served reads the log over HTTPS as an auditor does.
func served(base, ca, token string) (*client.HTTPFetcher, error) {
	root, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	bearer, err := os.ReadFile(token)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", ca)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	log, err := client.NewHTTPFetcher(root, &http.Client{Transport: transport})
	if err != nil {
		return nil, err
	}
	log.SetAuthorizationHeader("Bearer " + strings.TrimSpace(string(bearer)))
	return log, nil
}

func leafHashes(bundle []byte) ([][]byte, error) {
	entries := &api.EntryBundle{}
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, len(entries.Entries))
	for _, entry := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}
