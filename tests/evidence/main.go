// SPDX-License-Identifier: Apache-2.0

// Evidence verifies what `aether export` and `aether checkpoint` write, without any code of
// Aether's: signatures by golang.org/x/mod/sumdb/note, proofs by golang.org/x/mod/sumdb/tlog, and
// the rest as docs/journal.md and docs/jobs-journal.md describe it.
//
//	evidence [-key KEY] [-old FILE] FILE...
//
// A line is printed for each file: "ok FILE: ..." or "bad FILE: why". The exit code is 1 if any is
// bad, and 2 if nothing could be judged.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	key := flag.String("key", "", "the `KEY` that must have signed, or a file with it; without it, the one in the file")
	old := flag.String("old", "", "a `FILE` with a checkpoint that was kept, for files that prove growth")
	flag.Parse()
	trusted, err := readKey(*key)
	var kept string
	if err == nil && *old != "" {
		kept, err = readNote(*old)
	}
	if err != nil || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "evidence: name a file;", err)
		os.Exit(2)
	}
	code := 0
	for _, file := range flag.Args() {
		told, err := judge(file, trusted, kept)
		if err != nil {
			fmt.Printf("bad %s: %v\n", file, err)
			code = 1
			continue
		}
		fmt.Printf("ok %s: %s\n", file, told)
	}
	os.Exit(code)
}

func judge(file, trusted, kept string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(string(text), "old ") {
		return verifyGrowth(string(text), kept, trusted)
	}
	bundle, err := parseBundle(string(text))
	if err != nil {
		return "", err
	}
	return bundle.verify(trusted)
}

// readKey gives the key that is written, or the first line of the file of that name.
func readKey(text string) (string, error) {
	if text == "" || strings.Contains(text, "+") {
		return text, nil
	}
	data, err := os.ReadFile(text)
	line, _, _ := strings.Cut(string(data), "\n")
	return line, err
}

// readNote gives the checkpoint of a file: all of it, or the end of evidence or of a growth.
func readNote(file string) (string, error) {
	data, err := os.ReadFile(file)
	text := string(data)
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(text, "old "):
		_, note, _ := strings.Cut(text, "\n\n")
		return note, nil
	case strings.HasPrefix(text, firstLine):
		bundle, err := parseBundle(text)
		return bundle.note, err
	}
	return text, nil
}
