# SPDX-License-Identifier: Apache-2.0
"""The kernel's own routing: how long a cutover takes, and what a new connection costs more.

The kinds of connection are measured in turns, in one run; a ratio is the median of the rounds' ratios, each to the
same round without any program, so that a machine that is busy for a while does not decide. Needs root.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from machine import machine
from tables import spread, table

CUTOVER_GOAL_US = 10
KINDS = [("none_us", "no program in the namespace"), ("bystander_us", "a port that is not routed"),
         ("routed_us", "routed to one socket"), ("shared_us", "routed, the last of 64 shares")]


def drive(tools, rounds, connections, cutovers):
    command = [f"{tools}/steering-driver", str(rounds), str(connections), str(cutovers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        print(f"not measured: {done.stderr.strip()}")
        sys.exit(0)
    return json.loads(done.stdout)


def cost_rows(raw):
    rows = []
    for key, name in KINDS:
        ratios = [mine / none for mine, none in zip(raw[key], raw["none_us"])]
        rows.append([name, f"{statistics.median(raw[key]):.2f}", f"{statistics.median(ratios):.3f}",
                     f"{min(ratios):.3f} to {max(ratios):.3f}"])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="a tenth")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    share = 10 if options.quick else 1
    raw = drive(os.environ["AETHER_TOOLS"], max(options.rounds // share, 3), 1000, 20_000 // share)
    cutover, fresh = spread(raw["cutover_us"]), spread(raw["new_socket_us"])
    table("Cutover by the kernel's own routing (microseconds a call; the next connection is at the new socket)",
          ["", "p50", "p99", "worst", "goal"],
          [["sockets known", f"{cutover['p50_us']:.2f}", f"{cutover['p99_us']:.2f}", f"{cutover['max_us']:.0f}",
            f"p99 <= {CUTOVER_GOAL_US}: {'met' if cutover['p99_us'] <= CUTOVER_GOAL_US else 'MISSED'}"],
           ["a socket that is new", f"{fresh['p50_us']:.2f}", f"{fresh['p99_us']:.2f}", f"{fresh['max_us']:.0f}", ""]])
    table(f"A connection on loopback, opened, accepted and reset (medians of {len(raw['none_us'])} rounds in turns)",
          ["", "us", "ratio", "of the rounds"], cost_rows(raw))
    if options.json:
        facts = {"machine": machine(), "cutover": cutover, "new_socket": fresh,
                 "connection_us": {key: statistics.median(raw[key]) for key, _ in KINDS},
                 "ratio": {key: statistics.median(mine / none for mine, none in zip(raw[key], raw["none_us"]))
                           for key, _ in KINDS}}
        Path(options.json).write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
