// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A checkpoint is the tree that a journal signed.
type checkpoint struct {
	origin string
	size   int64
	root   tlog.Hash
}

// openCheckpoint has the note's signature verified, and reads the three lines that were signed.
func openCheckpoint(text, key string) (checkpoint, error) {
	var found checkpoint
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return found, fmt.Errorf("the key: %w", err)
	}
	// The library takes key ids in upper case, and any bits below the padding of base64.
	fields := strings.SplitN(key, "+", 3)
	if fields[1] != fmt.Sprintf("%08x", verifier.KeyHash()) || !isBase64(fields[2]) {
		return found, errors.New("the key is not written as one")
	}
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return found, fmt.Errorf("the checkpoint's signature: %w", err)
	}
	if len(opened.Sigs) != 1 || len(opened.UnverifiedSigs) != 0 {
		return found, errors.New("the checkpoint has not exactly one signature")
	}
	signature := opened.Sigs[0]
	again := fmt.Sprintf("%s\n— %s %s\n", opened.Text, signature.Name, signature.Base64)
	if text != again || !isBase64(signature.Base64) {
		return found, errors.New("the checkpoint's signature is not written as one")
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return found, errors.New("the checkpoint has not three lines")
	}
	found.origin = lines[0]
	if found.origin != verifier.Name() {
		return found, fmt.Errorf("the checkpoint is of %s, and its key is of %s", found.origin, verifier.Name())
	}
	if found.size, err = number(lines[1]); err != nil {
		return found, fmt.Errorf("the checkpoint's size: %w", err)
	}
	found.root, err = hash(lines[2])
	return found, err
}

// verifyGrowth reads the body of C2SP tlog-witness's request add-checkpoint.
func verifyGrowth(text, kept, trusted string) (string, error) {
	if kept == "" || trusted == "" {
		return "", errors.New("to prove growth takes -old and -key")
	}
	from, err := openCheckpoint(kept, trusted)
	if err != nil {
		return "", fmt.Errorf("what was kept: %w", err)
	}
	head, later, cut := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	size, err := number(strings.TrimPrefix(lines[0], "old "))
	if !cut || err != nil || !strings.HasPrefix(lines[0], "old ") {
		return "", errors.New("this is no proof of growth")
	}
	to, err := openCheckpoint(later, trusted)
	if err != nil {
		return "", err
	}
	if to.size < from.size {
		return "", fmt.Errorf("set back: %d events were kept, and now there are %d", from.size, to.size)
	}
	if size != from.size {
		return "", fmt.Errorf("the proof is from size %d on, and what was kept has size %d", size, from.size)
	}
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		one, err := hash(line)
		if err != nil {
			return "", err
		}
		proof = append(proof, one)
	}
	// The empty tree is the beginning of every one; the library does not take it.
	if from.size == 0 && len(proof) == 0 {
		return fmt.Sprintf("old=0 size=%d", to.size), nil
	}
	if err := tlog.CheckTree(proof, to.size, to.root, from.size, from.root); err != nil {
		return "", fmt.Errorf("the tree of size %d does not begin with the one of size %d: %w", to.size, from.size, err)
	}
	return fmt.Sprintf("old=%d size=%d", from.size, to.size), nil
}

// number reads what has no zeros before it, no sign, and nothing after it.
func number(text string) (int64, error) {
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < 0 || strconv.FormatInt(value, 10) != text {
		return 0, fmt.Errorf("%.40q is not a number", text)
	}
	return value, nil
}

func unbase64(text string) ([]byte, error) {
	bytes, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(bytes) != text {
		return nil, fmt.Errorf("%.60q is not base64", text)
	}
	return bytes, nil
}

func isBase64(text string) bool {
	_, err := unbase64(text)
	return err == nil
}

func hash(text string) (tlog.Hash, error) {
	var found tlog.Hash
	bytes, err := unbase64(text)
	if err != nil || len(bytes) != len(found) {
		return found, fmt.Errorf("%.60q is not a hash", text)
	}
	copy(found[:], bytes)
	return found, nil
}
