# SPDX-License-Identifier: Apache-2.0
"""Durable work: calls made at most once a second, submissions, recovery and proof; each beside its disk.

`bench/jobs.py [--quick] [--rounds N] [--json FILE]` with AETHER_TOOLS naming the folder of jobs-driver, AETHER_BIN
the binary, and AETHER_BENCH_DIR the disk (else the folder of temporary files). Every call is told to a judge in
another process, which counts: a round in which one was made twice, or not at all, ends the benchmark.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import jobs as test_jobs  # noqa: E402  (tests/e2e)

from machine import machine  # noqa: E402
from tables import table  # noqa: E402

DRIVER = Path(os.environ["AETHER_TOOLS"]) / "jobs-driver"
BINARY = os.environ["AETHER_BIN"]
IN_FLIGHT = (1, 16, 64, 256)


class Folders:
    """A new folder for each measurement, on the disk that is measured."""

    def __init__(self, top):
        self.top, self.count = Path(top), 0

    def new(self):
        self.count += 1
        path = self.top / str(self.count)
        path.mkdir()
        return path


def drive(what, folder, *numbers):
    done = subprocess.run([DRIVER, what, str(folder), *map(str, numbers)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: jobs-driver {what} failed: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def median(rounds):
    """Of each figure of the rounds."""
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def runs_for(in_flight, quick):
    """Enough for seconds of work: 20 calls each."""
    return {1: 150, 16: 800, 64: 1600, 256: 2400}[in_flight] // (8 if quick else 1)


def bench_steps(folders, rounds, quick):
    """The disk and each number of runs in turns: what else happens on the machine hits all of them."""
    disks, found = [], {count: [] for count in IN_FLIGHT}
    for _ in range(rounds):
        disks.append(drive("disk", folders.new(), 0.3 if quick else 1))
        for count in IN_FLIGHT:
            found[count].append(drive("steps", folders.new(), count, runs_for(count, quick)))
    disk, steps = median(disks), {count: median(all_rounds) for count, all_rounds in found.items()}
    table(f"Calls made at most once, each recorded before and after (medians of {rounds} rounds; 20 calls in a row "
          f"a run; one fdatasync {disk['fdatasync_us']:.0f} us, SQLite commits {disk['commits_per_second']:.0f}/s)",
          ["runs at once", "steps/s", "p50 ms", "p99 ms", "of SQLite's commits", "effects", "twice", "missing"],
          [[count, f"{one['steps_per_second']:.0f}", f"{one['p50_us'] / 1000:.2f}", f"{one['p99_us'] / 1000:.2f}",
            f"{one['steps_per_second'] / disk['commits_per_second']:.1f}x", one["effects"], one["twice"],
            one["missing"]] for count, one in steps.items()])
    return disk, steps


def bench_open_runs(folders, rounds, runs):
    """What a start costs over runs that wait, and over runs that nobody has begun."""
    results = {}
    for state in ("park", "queue"):
        folder = folders.new()
        made = drive(state, folder, runs)
        results[state] = {**made, **median([drive("recover", folder) for _ in range(rounds)])}
    rows = [[name, runs, f"{results[state]['open_ms']:.0f}", f"{results[state]['start_ms']:.0f}",
             f"{results[state]['recovery_ms']:.0f}", f"{results[state]['resident_bytes'] / 2**20:.1f}"]
            for state, name in (("park", "waiting"), ("queue", "queued"))]
    table("Start over open runs (ms; recovered: a signal to one of them is durable)",
          ["runs are", "runs", "store opened", "engine started", "recovered", "MiB more"], rows)
    print(f"Submissions, each durable: {results['queue']['submits_per_second']:.0f}/s with 256 on their way; "
          f"memory of a run that waits: {max(results['park']['bytes_per_parked_run'], 0):.0f} bytes")
    return results


def bench_verify(folders, rounds, events):
    folder = folders.new()
    made = drive("fill", folder, events)
    (folder / "aether.yaml").write_text(f"store: {{type: sqlite, path: {folder}/journal.db}}\n")
    took = []
    for _ in range(rounds):
        began = time.monotonic()
        done = subprocess.run([BINARY, "verify", "--all", "-c", str(folder / "aether.yaml"), "-o", "json"],
                              capture_output=True, text=True)
        took.append(time.monotonic() - began)
        if done.returncode != 0 or json.loads(done.stdout)["events"] != made["events"]:
            sys.exit(f"bench: verify failed: {done.stdout}{done.stderr}")
    seconds = statistics.median(took)
    print(f"\nVerified {made['events']} events in {seconds:.2f} s ({made['events'] / seconds:.0f}/s)")
    return {**made, "verify_seconds": seconds}


def bench_idle(folders):
    with test_jobs.Jobs(folders.new() / "aether", test_jobs.config()) as aether:
        lines = Path(f"/proc/{aether.pid}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    print(f"\nIdle, with a store and nothing to do: {resident / 1024:.1f} MiB resident")
    return resident * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the runs")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    share = 10 if options.quick else 1
    about = machine()
    with tempfile.TemporaryDirectory(prefix="aether-bench.", dir=os.environ.get("AETHER_BENCH_DIR")) as top:
        folders = Folders(top)
        disk, steps = bench_steps(folders, rounds, options.quick)
        figures = {
            "machine": about,
            "disk": disk,
            "steps": steps,
            "open_runs": bench_open_runs(folders, rounds, 100_000 // share),
            "verify": bench_verify(folders, rounds, 1_000_000 // share),
            "idle_bytes": bench_idle(folders),
        }
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
