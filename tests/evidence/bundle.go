// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"sort"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const firstLine = "aether-evidence/1\n"

// A bundle is a file of evidence as it is written: nothing of it is believed yet.
type bundle struct {
	key, stream string
	lines       []string
	blobs       []blob
	proof       []tlog.Hash
	note        string
}

type blob struct {
	address tlog.Hash
	erased  bool
	salt    []byte
	content []byte
}

func parseBundle(text string) (bundle, error) {
	var found bundle
	rest := text
	var fault error
	line := func(word string) string {
		text, after, cut := strings.Cut(rest, "\n")
		if fault == nil && (!cut || !strings.HasPrefix(text, word)) {
			fault = fmt.Errorf("%d bytes before its end: no line %q", len(rest), word)
		}
		rest = after
		return strings.TrimPrefix(text, word)
	}
	each := func(word string, take func(string) error) {
		count, err := number(line(word))
		for ; fault == nil && err == nil && count > 0; count-- {
			err = take(line(""))
		}
		if fault == nil && err != nil {
			fault = fmt.Errorf("%d bytes before its end, below %q: %w", len(rest), word, err)
		}
	}
	line(strings.TrimSuffix(firstLine, "\n"))
	found.key = line("key ")
	found.stream = line("stream ")
	each("events ", func(text string) error {
		found.lines = append(found.lines, text)
		return nil
	})
	each("blobs ", func(text string) error {
		one, err := parseBlob(text)
		found.blobs = append(found.blobs, one)
		return err
	})
	each("proof ", func(text string) error {
		one, err := hash(text)
		found.proof = append(found.proof, one)
		return err
	})
	if last := line("checkpoint"); fault == nil && last != "" || !strings.HasPrefix(text, firstLine) {
		fault = errors.New("this is no file of evidence, or its words were changed")
	}
	found.note = rest
	return found, fault
}

func parseBlob(text string) (blob, error) {
	var found blob
	var err error
	fields := strings.Split(text, " ")
	if found.address, err = hash(fields[0]); err != nil {
		return found, err
	}
	if len(fields) == 2 && fields[1] == "erased" {
		found.erased = true
		return found, nil
	}
	if len(fields) != 3 {
		return found, errors.New("a blob is not written as one")
	}
	if found.salt, err = unbase64(fields[1]); err != nil {
		return found, err
	}
	found.content, err = unbase64(fields[2])
	return found, err
}

func (b bundle) verify(trusted string) (string, error) {
	if trusted != "" && trusted != b.key {
		return "", fmt.Errorf("it is signed with the key %s, and %s is trusted", b.key, trusted)
	}
	signed, err := openCheckpoint(b.note, b.key)
	if err != nil {
		return "", err
	}
	events, err := b.events(signed.size)
	if err != nil {
		return "", err
	}
	erased, err := b.checkBlobs(events)
	if err != nil {
		return "", err
	}
	if err := b.checkProof(events, signed); err != nil {
		return "", err
	}
	turns, err := checkRun(events)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("stream=%s events=%d turns=%d blobs=%d erased=%d size=%d", b.stream, len(events), turns,
		len(b.blobs), erased, signed.size), nil
}

// checkBlobs compares contents with addresses, and the blobs with those that the events name.
func (b bundle) checkBlobs(events []event) (int, error) {
	var named []string
	seen := map[string]bool{}
	for _, one := range events {
		for _, address := range one.Blobs {
			if !seen[address] {
				named = append(named, address)
			}
			seen[address] = true
		}
	}
	if len(named) != len(b.blobs) {
		return 0, fmt.Errorf("the events name %d blobs, and the file has %d", len(named), len(b.blobs))
	}
	erased := 0
	for at, one := range b.blobs {
		if address, _ := hash(named[at]); address != one.address {
			return 0, fmt.Errorf("the blob %s stands where the events name %s", one.address, named[at])
		}
		if one.erased {
			erased++
		} else if sha256.Sum256(append(one.salt, one.content...)) != one.address {
			return 0, fmt.Errorf("the blob %s was changed", one.address)
		}
	}
	return erased, nil
}

// A walk splits the file's one proof into a proof of RFC 6962 for each event.
type walk struct {
	leaves map[int64]tlog.Hash
	order  []int64
	rest   []tlog.Hash
	proofs map[int64]tlog.RecordProof
}

// within gives the events' leaves of a subtree; they ascend.
func (w *walk) within(first, count int64) []int64 {
	begin := sort.Search(len(w.order), func(at int) bool { return w.order[at] >= first })
	end := sort.Search(len(w.order), func(at int) bool { return w.order[at]-count >= first })
	return w.order[begin:end]
}

func (w *walk) subtree(first, count int64) (tlog.Hash, error) {
	inside := w.within(first, count)
	if len(inside) == 0 {
		if len(w.rest) == 0 {
			return tlog.Hash{}, errors.New("the proof is too short")
		}
		next := w.rest[0]
		w.rest = w.rest[1:]
		return next, nil
	}
	if count == 1 {
		return w.leaves[first], nil
	}
	split := int64(1) << (bits.Len64(uint64(count-1)) - 1)
	left, err := w.subtree(first, split)
	if err != nil {
		return left, err
	}
	right, err := w.subtree(first+split, count-split)
	for _, leaf := range inside {
		if leaf < first+split {
			w.proofs[leaf] = append(w.proofs[leaf], right)
		} else {
			w.proofs[leaf] = append(w.proofs[leaf], left)
		}
	}
	return tlog.NodeHash(left, right), err
}

func (b bundle) checkProof(events []event, signed checkpoint) error {
	w := walk{leaves: map[int64]tlog.Hash{}, rest: b.proof, proofs: map[int64]tlog.RecordProof{}}
	for at, one := range events {
		w.leaves[one.Position-1] = tlog.RecordHash([]byte(b.lines[at]))
		w.order = append(w.order, one.Position-1)
	}
	if _, err := w.subtree(0, signed.size); err != nil {
		return err
	}
	if len(w.rest) != 0 {
		return fmt.Errorf("the proof has %d hashes too many", len(w.rest))
	}
	for _, one := range events {
		leaf := one.Position - 1
		if err := tlog.CheckRecord(w.proofs[leaf], signed.size, signed.root, leaf, w.leaves[leaf]); err != nil {
			return fmt.Errorf("position %d is not proved to be in the tree that was signed; an event or the proof "+
				"was changed, left out or moved: %w", one.Position, err)
		}
	}
	return nil
}
