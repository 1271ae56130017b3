package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// patience is how long one answer may take.
const patience = 30 * time.Second

// served is a log as a recorder serves it: checkpoint and hash tiles to everyone, entries to readers.
type served struct {
	url    string
	token  string
	client *http.Client
}

// newServed reaches the log at url, trusting the roots in caFile alone, and shows the token in tokenFile for entries.
func newServed(url, caFile, tokenFile string) (*served, error) {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, unable{err}
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, unable{fmt.Errorf("%s holds no certificate", caFile)}
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, unable{err}
	}
	client := &http.Client{
		Timeout:       patience,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &served{strings.TrimSuffix(url, "/"), strings.TrimSpace(string(token)), client}, nil
}

// read gets a file of the log. One that the recorder does not have, or that is too long, is wrong; no answer is not.
func (s *served) read(name string, limit int64) ([]byte, error) {
	request, err := http.NewRequest(http.MethodGet, s.url+"/"+name, nil)
	if err != nil {
		return nil, unable{err}
	}
	if strings.HasPrefix(name, "tile/entries/") {
		request.Header.Set("Authorization", "Bearer "+s.token)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, unable{err}
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s: the log has none", name)
	default:
		return nil, unable{fmt.Errorf("%s: %s", name, answer.Status)}
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, unable{err}
	}
	if int64(len(data)) > limit {
		return nil, errors.New(name + " is too long")
	}
	return data, nil
}
