package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

func newKey(name string) (string, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", unable{err}
	}
	return fmt.Sprintf("%s\n%s\n", skey, vkey), nil
}

func sign(keyFile string, text io.Reader) (string, error) {
	skey, err := given(keyFile, maxNote)
	if err != nil {
		return "", err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(skey)))
	if err != nil {
		return "", unable{fmt.Errorf("the signing key: %w", err)}
	}
	body, err := io.ReadAll(io.LimitReader(text, maxNote))
	if err != nil {
		return "", unable{err}
	}
	signed, err := note.Sign(&note.Note{Text: string(body)}, signer)
	if err != nil {
		return "", unable{err}
	}
	return string(signed), nil
}
