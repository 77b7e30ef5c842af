# SPDX-License-Identifier: Apache-2.0
"""Durable work on PostgreSQL, beside what the same server commits by itself.

`bench/postgres.py [--quick] [--rounds N] [--json FILE]` with AETHER_TOOLS naming the folder of jobs-driver and
AETHER_BENCH_DIR the disk (else /tmp). A server of its own (fsync on) is started there; pgbench inserts rows of 400
bytes, one a commit, with as many clients as runs are at work next to it: each step of a run is one durable answer,
as each of its commits is, and the server's group commit serves its clients as it does in production. That rate is the
ceiling. The rounds of both take turns, on the same server, log and disk, and each shares the processors with its
client. The log's files are recycled ones, as on a server that has run for a while.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from database import Database  # noqa: E402  (tests/e2e)

from machine import machine  # noqa: E402
from tables import table  # noqa: E402

DRIVER = Path(os.environ["AETHER_TOOLS"]) / "jobs-driver"
IN_FLIGHT = (1, 16, 64)
ROW = "insert into commits(line) values(repeat('x', 400));\n"


WAL_FILES = 40  # 640 MiB: more than one round writes


def recycle_log(database):
    for _ in range(WAL_FILES):
        database.ask("insert into commits(line) values('x')")
        database.ask("select pg_switch_wal()")
    database.ask("checkpoint")


def commits(database, clients, seconds):
    """Commits a second of the server by itself."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(ROW)
        script.flush()
        command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(seconds)]
        command += ["-f", script.name, "-h", str(database.folder), "-p", database.port, "-U", "tester", "postgres"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(re.search(r"tps = ([0-9.]+)", done.stdout).group(1))


def steps(database, in_flight, runs):
    database.ask("drop schema if exists aether cascade")
    done = subprocess.run([DRIVER, "steps", database.url, str(in_flight), str(runs)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: jobs-driver failed: {done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    found = {count: [] for count in IN_FLIGHT}
    settings = ("max_connections=120", "min_wal_size=1GB", "max_wal_size=4GB")
    with Database(*settings, folder=os.environ.get("AETHER_BENCH_DIR", "/tmp")) as database:
        database.ask("create table commits(id bigint generated always as identity primary key, line text)")
        recycle_log(database)
        for _ in range(1 if options.quick else options.rounds):
            database.ask("checkpoint")
            for count in IN_FLIGHT:
                runs = {1: 100, 16: 600, 64: 1200}[count] // (4 if options.quick else 1)
                alone = commits(database, count, 2 if options.quick else 5)
                found[count].append({"commits_per_second": alone, **steps(database, count, runs)})
    figures = {}
    for count, rounds in found.items():
        figures[count] = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        each = [one["steps_per_second"] / one["commits_per_second"] for one in rounds]
        figures[count]["of_ceiling"] = statistics.median(each)
    table("Calls made at most once, recorded in PostgreSQL (medians; 20 calls in a row a run), beside the server's own "
          "commits of one row with as many clients",
          ["at once", "steps/s", "p50 ms", "p99 ms", "commits/s", "steps for a commit", "twice", "missing"],
          [[count, f"{one['steps_per_second']:.0f}", f"{one['p50_us'] / 1000:.2f}", f"{one['p99_us'] / 1000:.2f}",
            f"{one['commits_per_second']:.0f}", f"{one['of_ceiling']:.2f}", one["twice"], one["missing"]]
           for count, one in figures.items()])
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), "steps": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
