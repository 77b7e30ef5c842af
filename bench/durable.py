# SPDX-License-Identifier: Apache-2.0
"""Durable steps side by side, in one run: Aether, Restate, and DBOS on PostgreSQL, with workers in Node and Python.

`bench/durable.py [--quick] [--rounds N] [--only WORDS] [--json FILE]` with AETHER_BIN naming the binary and
AETHER_BENCH_DIR the disk (else /tmp). A workflow is ten steps in a row; clients ask for workflows, 1, 16 and 64 at
once, and each for the next when its last has ended. Each step has an effect, counted by a judge in a process of its
own, for the peers as well. The peers come from npm and PyPI into AETHER_BENCH_PEERS (else ~/.cache/aether-bench); who
cannot be had is left out, and said to be.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from database import Database  # noqa: E402  (tests/e2e)
from own_network import enter as enter_own_network  # noqa: E402

import durable_packages as packages  # noqa: E402
from durable_cpu import used
from durable_judge import Judge  # noqa: E402
from durable_recovery import recovery, recovery_table  # noqa: E402
from durable_subjects import POOL, SUBJECTS, subject  # noqa: E402
from durable_tables import print_tables, summary  # noqa: E402
from machine import machine, version  # noqa: E402
from tables import spread  # noqa: E402

STEPS = 10
IN_FLIGHT = (1, 16, 64)
MOST = max(IN_FLIGHT)


def busy(seconds=1.0):
    """How many cores others are using."""

    def used():
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields) - fields[3] - fields[4]

    before = used()
    time.sleep(seconds)
    return (used() - before) / os.sysconf("SC_CLK_TCK") / seconds


def fdatasyncs(folder, seconds=0.5):
    """Microseconds that one takes here, of 400 bytes more."""
    took = []
    with open(folder / "synced", "wb", buffering=0) as file:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            file.write(b"x" * 400)
            os.fdatasync(file.fileno())
            took.append(round((time.monotonic() - began) * 1e6))
    return spread(took)


class Bench:
    def __init__(self, top, options, judge, peers):
        self.top, self.options, self.judge, self.peers = top, options, judge, peers
        self.seconds = 0.5 if options.quick else 1.2
        self.count = 0

    def made(self, name, database):
        """A subject that has begun, in a folder of its own."""
        self.count += 1
        url = database.fresh(f"bench{self.count}") if database else None
        return subject(name, self.top / str(self.count), self.judge.port, self.peers, url)

    def cell(self, running, at_once, effects, policy):
        """One number of workflows at once."""
        self.judge.forget()
        given = {"count": STEPS, "effects": effects, "policy": policy}
        seconds = self.seconds * (2 if at_once == 1 else 1)  # few steps in all
        before = used(but={self.judge.process.pid})
        done = running.load(at_once=at_once, seconds=seconds, prefix=f"{at_once}{policy}{effects}-", given=given)
        busy_for = used(but={self.judge.process.pid}) - before
        told = self.judge.told()
        wanted = done["ended"] * STEPS if effects else 0
        return {"steps_per_second": done["ended"] * STEPS / done["seconds"], "workflows": done["ended"],
                "processor_us": busy_for * 1e6 / (done["ended"] * STEPS),
                "workflow": spread(done["took_us"]), "step": spread(told["took_us"]), "effects": told["effects"],
                "twice": told["twice"], "missing": wanted - told["effects"]}  # fmt: skip

    def cells(self, name, database):
        running = self.made(name, database)
        try:
            running.start()
            given = {"count": STEPS, "effects": True, "policy": "once"}
            running.load(at_once=MOST, seconds=min(self.seconds, 1.0), prefix="warm-", given=given)
            found = {f"{at_once}": self.cell(running, at_once, True, "once") for at_once in self.options.at_once}
            found["pure"] = self.cell(running, MOST, False, "pure")
            return found
        finally:
            running.stop()

    def round(self, names, database):
        found = {"busy": busy(), "fdatasync": fdatasyncs(self.top), "cells": {}}
        for name in names:
            found["cells"][name] = self.cells(name, database if SUBJECTS[name].needs_database else None)
            line = ", ".join(f"{key}: {one['steps_per_second']:.0f}" for key, one in found["cells"][name].items())
            print(f"  {name}: {line} steps/s", file=sys.stderr, flush=True)
        return found


class Cluster(Database):
    """A PostgreSQL with its defaults (fsync and synchronous_commit on), and a new database for each subject."""

    def fresh(self, name):
        self.ask(f"create database {name}")
        return f"postgresql://tester@localhost:{self.port}/{name}?host={self.folder}"


def leave_the_network():
    """Only a loopback interface is left: some of the peers ask at home for news when they start."""
    refused = enter_own_network()
    if refused:
        print(f"the peers keep the network of this machine, for a namespace of their own is not allowed: {refused}")


def subjects(only):
    """(where the peers' packages are, whom to measure)."""
    words = only.split(",") if only else [""]
    names = [name for name in SUBJECTS if any(word in name for word in words)]
    peers, missing = packages.install({SUBJECTS[name].package for name in names} - {None})
    for name in names:
        if SUBJECTS[name].package in missing:
            print(f"{name} is left out: {missing[SUBJECTS[name].package]}")
    return peers, [name for name in names if SUBJECTS[name].package not in missing]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--only", help="subjects that contain one of these words, comma separated")
    parser.add_argument("--at-once", type=int, nargs="+", default=IN_FLIGHT, help="workflows in flight")
    parser.add_argument("--no-recovery", action="store_true", help="kill nothing")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    peers, names = subjects(options.only)
    about = {**machine(), "versions": {"node": version("node", "--version"), **packages.versions(peers)}}
    leave_the_network()
    with ExitStack() as stack:
        folder = os.environ.get("AETHER_BENCH_DIR", "/tmp")
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aether-bench.", dir=folder)))
        database = None
        if any(SUBJECTS[name].needs_database for name in names):
            database = stack.enter_context(Cluster("max_connections=200", folder=folder))
            about["versions"]["PostgreSQL"] = version(str(database.programs / "postgres"), "--version")
        judge = stack.enter_context(Judge())
        bench = Bench(top, options, judge, peers)
        rounds = [bench.round(names, database) for _ in range(1 if options.quick else options.rounds)]
        killed = [] if options.no_recovery else recovery(bench, names, database)
    figures = {"machine": about, "load_average_end": os.getloadavg()[0], "steps": STEPS, "pool": POOL,
               **summary(rounds), "recovery": killed}  # fmt: skip
    print_tables(figures)
    if killed:
        recovery_table(killed)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
