// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"unicode/utf16"
)

// An event has the members that docs/journal.md names, and no others.
type event struct {
	Actor    string          `json:"actor"`
	At       int64           `json:"at"`
	Blobs    []string        `json:"blobs"`
	Body     json.RawMessage `json:"body"`
	Cause    *int64          `json:"cause"`
	Fence    int64           `json:"fence"`
	Keys     []string        `json:"keys"`
	Kind     string          `json:"kind"`
	Mark     string          `json:"mark"`
	Position int64           `json:"position"`
	Sequence int64           `json:"sequence"`
	Span     string          `json:"span"`
	Stream   string          `json:"stream"`
}

func (b bundle) events(size int64) ([]event, error) {
	var found []event
	if len(b.lines) == 0 {
		return nil, errors.New("there are no events")
	}
	spans := map[string]string{}
	keys := map[string]bool{}
	for at, line := range b.lines {
		one, err := parseEvent(line)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", at+1, err)
		}
		var before event
		if at > 0 {
			before = found[at-1]
		}
		err = one.checkPlace(b.stream, size, before)
		if err == nil {
			err = one.checkLaws(spans, keys)
		}
		if err != nil {
			return nil, fmt.Errorf("event %d (position %d): %w", at+1, one.Position, err)
		}
		found = append(found, one)
	}
	return found, nil
}

func (e event) checkPlace(stream string, size int64, before event) error {
	if e.Stream != stream {
		return fmt.Errorf("it is of the stream %s", e.Stream)
	}
	if e.Sequence != before.Sequence+1 {
		return fmt.Errorf("its sequence is %d: events are missing, twice, or not in their order", e.Sequence)
	}
	if e.Position <= before.Position || e.Position > size {
		return errors.New("its position is not between the one before it and the end of the tree")
	}
	if e.Fence < before.Fence {
		return errors.New("the fence went back")
	}
	return nil
}

// checkLaws takes the keys and the span of the event.
func (e event) checkLaws(spans map[string]string, keys map[string]bool) error {
	if e.Cause != nil && *e.Cause >= e.Position {
		return errors.New("its cause comes after it")
	}
	for _, key := range e.Keys {
		if keys[key] {
			return fmt.Errorf("the key %s was taken before", key)
		}
		keys[key] = true
	}
	state := spans[e.Span]
	switch {
	case e.Mark == "point":
		return nil
	case e.Mark == "open" && e.Span != "" && state == "":
	case e.Mark == "close" && state == "open":
	default:
		return fmt.Errorf("the mark %q does not fit the span %q", e.Mark, e.Span)
	}
	spans[e.Span] = e.Mark
	return nil
}

func parseEvent(line string) (event, error) {
	var one event
	again, err := canonical(line)
	if err != nil {
		return one, err
	}
	if again != line {
		return one, errors.New("it is not written in the canonical form")
	}
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&one); err != nil {
		return one, err
	}
	names := append([]string{one.Kind, one.Stream}, one.Keys...)
	for _, optional := range []string{one.Actor, one.Span} {
		if optional != "" {
			names = append(names, optional)
		}
	}
	for _, name := range names {
		outside := func(letter rune) bool { return letter < 0x20 || letter > 0x7e || letter == '"' || letter == '\\' }
		if name == "" || len(name) > 256 || strings.IndexFunc(name, outside) >= 0 {
			return one, fmt.Errorf("%.40q is not a name", name)
		}
	}
	return one, nil
}

// canonical is RFC 8785.
func canonical(text string) (string, error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value interface{}
	if err := decoder.Decode(&value); err != nil {
		return "", err
	}
	var to bytes.Buffer
	err := write(&to, value)
	return to.String(), err
}

func write(to *bytes.Buffer, value interface{}) error {
	switch value := value.(type) {
	case map[string]interface{}:
		return writeObject(to, value)
	case []interface{}:
		for at, one := range value {
			to.WriteString(map[bool]string{true: "[", false: ","}[at == 0])
			if err := write(to, one); err != nil {
				return err
			}
		}
		to.WriteString(map[bool]string{true: "[]", false: "]"}[len(value) == 0])
	case string:
		writeString(to, value)
	case json.Number:
		number, err := strconv.ParseFloat(string(value), 64)
		to.WriteString(ecmaNumber(number))
		return err
	case bool:
		to.WriteString(strconv.FormatBool(value))
	case nil:
		to.WriteString("null")
	}
	return nil
}

func writeObject(to *bytes.Buffer, object map[string]interface{}) error {
	var names []string
	for name := range object {
		names = append(names, name)
	}
	sort.Slice(names, func(a, b int) bool { return unitsBefore(names[a], names[b]) })
	to.WriteByte('{')
	for at, name := range names {
		if at > 0 {
			to.WriteByte(',')
		}
		writeString(to, name)
		to.WriteByte(':')
		if err := write(to, object[name]); err != nil {
			return err
		}
	}
	to.WriteByte('}')
	return nil
}

// unitsBefore compares by UTF-16 code units, as RFC 8785 wants members sorted.
func unitsBefore(a, b string) bool {
	left, right := utf16.Encode([]rune(a)), utf16.Encode([]rune(b))
	for at := 0; at < len(left) && at < len(right); at++ {
		if left[at] != right[at] {
			return left[at] < right[at]
		}
	}
	return len(left) < len(right)
}

func writeString(to *bytes.Buffer, text string) {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	to.WriteByte('"')
	for _, letter := range text {
		if escaped, found := short[letter]; found {
			to.WriteString(escaped)
		} else if letter < 0x20 {
			fmt.Fprintf(to, `\u%04x`, letter)
		} else {
			to.WriteRune(letter)
		}
	}
	to.WriteByte('"')
}

// ecmaNumber writes a number as JavaScript does.
func ecmaNumber(number float64) string {
	size := math.Abs(number)
	if number == 0 {
		return "0"
	}
	if size >= 1e-6 && size < 1e21 {
		return strconv.FormatFloat(number, 'f', -1, 64)
	}
	text := strconv.FormatFloat(number, 'e', -1, 64)
	for _, sign := range []string{"e-0", "e+0"} { // two digits at least in Go, one in JavaScript
		text = strings.Replace(text, sign, sign[:2], 1)
	}
	return text
}
