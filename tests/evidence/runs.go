// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
)

// A turn is one time that a call was made, or was to be made.
type turn struct {
	Effect, Policy, Outcome string
	Turn                    int
	Retryable, Amends       bool
}

// checkRun holds a run to the laws of docs/jobs-journal.md by which an auditor judges it: where it begins and
// ends, and that no call was made again that may not be. It gives how many turns there were.
func checkRun(events []event) (int, error) {
	if events[0].Kind != "run.opened" {
		return 0, nil // a stream of another kind, such as "audit"
	}
	open := map[string]bool{}
	last := map[string]turn{}
	turns := 0
	for at, one := range events {
		var body turn
		fault := json.Unmarshal(one.Body, &body)
		before := last[body.Effect]
		switch one.Kind {
		case "run.opened":
			if at != 0 {
				fault = errors.New("the run is opened again")
			}
		case "run.closed":
			if len(open) != 0 {
				fault = fmt.Errorf("the run closes, and %d steps and waits are open", len(open))
			}
		case "step.opened", "wait.opened":
			open[one.Span] = true
		case "step.closed", "wait.closed":
			delete(open, one.Span)
		case "effect.intended":
			turns++
			if body.Turn != before.Turn+1 || (before.Turn > 0 && !mayFollow(before)) {
				fault = fmt.Errorf("turn %d of a call that may not be made after turn %d: policy %s, outcome %q",
					body.Turn, before.Turn, before.Policy, before.Outcome)
			}
			last[body.Effect] = body
		case "effect.settled":
			if body.Turn != before.Turn || (before.Outcome != "" && !(body.Amends && before.Outcome == "unknown")) {
				fault = errors.New("a call is settled that is not under way")
			}
			body.Policy = before.Policy
			last[body.Effect] = body
		}
		if fault != nil {
			return turns, fmt.Errorf("position %d: %w", one.Position, fault)
		}
	}
	return turns, nil
}

func mayFollow(before turn) bool {
	again := before.Policy == "read" || before.Policy == "keyed"
	return before.Outcome == "not_executed" ||
		again && (before.Outcome == "unknown" || before.Outcome == "error" && before.Retryable)
}
