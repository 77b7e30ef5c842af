# SPDX-License-Identifier: Apache-2.0
"""Functions from nothing: from connect() to the first byte of the answer when no instance runs, by tier and
language; how fast clones are made, and what memory an idle one has for itself.

Beside each figure stands that of a warm instance of the same handler, asked in turns with the starts: what else
happens on the machine is in both. That a tier served is read from X-Aether-Start; what another one served is not
counted. `bench/starts.py [--json FILE] [--quick] [--only python,node]` with AETHER_BIN and AETHER_TOOLS set.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
sys.path.insert(0, str(ROOT / "bench"))

from aether import Aether, eventually, free_port  # noqa: E402
import handlers  # noqa: E402  (tests/e2e)
import isolates  # noqa: E402
from clones import bench_clones  # noqa: E402
from first_byte import ask, be_punctual  # noqa: E402
from machine import machine, version  # noqa: E402
from starts_names import LANGUAGES, goal, ways  # noqa: E402
from tables import milliseconds, spread, table  # noqa: E402

WARMUP = {"warmup": ["/"]}  # The template has answered a request before it was frozen.
ROUNDS = 10
# Before each request: what the last one left is cleared away, and processors sleep as before a visitor.
CALM_SECONDS = 0.02
DISMISSED_MAX = 0.1
IDLE = "20ms"


class Functions:
    """One handler as a function for each way to start it, and one that is warm."""

    def __init__(self, handler, folder):
        made = handlers.build(handler, folder / "handler")
        self.ways = ways(handler)
        self.ports = {name: free_port() for name in ("warm", *self.ways)}
        none_ahead = {"parked": 0, "idle_timeout": IDLE}
        keys = {
            "warm": {"min_instances": 1},
            "parked": WARMUP,
            "parked again": {"idle_timeout": IDLE, **WARMUP},
            "clone": {**none_ahead, **WARMUP},
            "clone unwarmed": none_ahead,
            "image": {**none_ahead, **WARMUP, "launch": "image"},
            "cold": {**none_ahead, "launch": "spawn"},
        }
        functions = [handlers.function(made, port, self.identifier(name), max_instances=1, **keys[name])
                     for name, port in self.ports.items()]
        # A slow copy is to be seen as slow, not ended for it.
        self.aether = Aether(folder / "aether", {
            "functions": functions, "orchestrator": {"warm_pool_size": 1, "restore_timeout_ms": 100},
            "observability": {"metrics_port": "none"}})

    @staticmethod
    def identifier(name):
        return name.replace(" ", "-")

    def state(self, name):
        status, found = self.aether.ask("GET", f"/v1/functions/{self.identifier(name)}")
        assert status == 200, found
        return found

    def instances(self, name):
        """Without templates: they serve nothing."""
        return [one for one in self.state(name)["instances"] if one["state"] != "template"]

    def prepare(self):
        for name in self.ports:
            eventually(lambda: self.state(name)["state"] == "RUNNING", f"{name} runs: {self.state(name)['problem']}")
        # Two revisions, to go from one to the other and back.
        revision = self.state("parked")["revision"]
        self.aether.hangup()
        eventually(lambda: self.state("parked")["revision"] > revision, "the handlers are deployed anew")
        eventually(lambda: [one["state"] for one in self.instances("warm")] == ["warm"], "one is warm")

    def only_parked(self, name):
        def found():
            now = self.state(name)
            alive = [one for one in now["instances"] if one["state"] != "template"]
            return [(one["state"], one["revision"]) for one in alive] == [("parked", now["revision"])]

        eventually(found, f"one is parked, and nothing else: {self.instances(name)}")

    def bring_to_nothing(self, name):
        """Nothing runs that could serve; with "parked", one is frozen."""
        if name == "parked":
            # To the other revision: its clones have served nobody.
            status, answer = self.aether.ask("POST", f"/v1/functions/{name}/rollback")
            assert status == 200, answer
            self.only_parked(name)
        elif name == "parked again":
            self.only_parked(name)
        else:
            eventually(lambda: not self.instances(name), f"nothing of {name} lives")

    def warm(self):
        time.sleep(CALM_SECONDS)
        answer = ask(self.ports["warm"])
        assert (answer.status, answer.start) == (200, "warm"), (answer.status, answer.headers, answer.body)
        return answer.first_byte_us


class Samples:
    def __init__(self):
        self.us, self.warm_us, self.parts, self.dismissed = [], [], [], []

    def take(self, functions, way):
        functions.bring_to_nothing(way)
        time.sleep(CALM_SECONDS)
        answer = ask(functions.ports[way])
        assert answer.status == 200, (way, answer.status, answer.body)
        if answer.start == functions.ways[way]:
            self.us.append(answer.first_byte_us)
            self.parts.append(answer.parts_ms)
        else:
            self.dismissed.append(answer.start)
        self.warm_us.append(functions.warm())

    def told(self, handler, way):
        parts = {name: statistics.median(part.get(name, 0.0) for part in self.parts) * 1000 for name in self.parts[0]}
        return {"handler": handler, "way": way, **spread(self.us), "warm": spread(self.warm_us),
                "server_timing_p50_us": parts, "dismissed": len(self.dismissed), "first_bytes_us": self.us}


def bench_starts(handler, folder, count):
    """In rounds, so that what disturbs for a while is in all of them."""
    functions = Functions(handler, folder)
    samples = {way: Samples() for way in functions.ways}
    rounds = min(ROUNDS, count)
    with functions.aether:
        functions.prepare()
        for number in range(rounds):
            wanted = count * (number + 1) // rounds
            for way, found in samples.items():
                while len(found.us) < wanted:
                    found.take(functions, way)
                    assert len(found.dismissed) <= max(2, DISMISSED_MAX * count), (way, found.dismissed)
    return [found.told(handler, way) for way, found in samples.items()]


def bench_isolates(folder, count):
    """As above for workerd; None without it."""
    found = isolates.workerd()
    if not found:
        print("workerd is left out: there is no npm to fetch it with")
        return None
    program, number = found
    starts, warm = [], []
    with isolates.running(program, folder) as (port, process):
        before = isolates.resident_kb(process.pid)
        for i in range(count):
            time.sleep(CALM_SECONDS)
            answer = ask(port, f"/{i}")
            assert answer.status == 200, answer.body
            starts.append(answer.first_byte_us)
            time.sleep(CALM_SECONDS)
            warm.append(ask(port, "/warm").first_byte_us)
        memory = (isolates.resident_kb(process.pid) - before) / count
    return {"version": number, **spread(starts), "warm": spread(warm), "resident_kb_each": memory}


def start_row(language, way, one, aim):
    parts = one.get("server_timing_p50_us", {})
    return [language, way, one["count"], milliseconds(one["p50_us"]), milliseconds(one["p99_us"]),
            milliseconds(one["max_us"]), f"{aim[0]:g} / {aim[1]:g}" if aim else "",
            milliseconds(parts["start"]) if parts.get("start") else "", milliseconds(one["warm"]["p50_us"]),
            milliseconds(one["warm"]["p99_us"]), f"{one['p99_us'] / one['warm']['p99_us']:.1f}x"]


def print_starts(starts, isolate):
    rows = [start_row(LANGUAGES[one["handler"]], one["way"], one, goal(one["way"], one["handler"])) for one in starts]
    if isolate:
        rows.append(start_row("workerd", "new isolate", isolate, None))
    table("From connect() to the first byte with no instance running (ms; `start` is Aether's own part of the median; "
          "warm: the same handler, in turns)",
          ["handler", "served by", "starts", "p50", "p99", "max", "goal", "start", "warm p50", "warm p99",
           "p99 / warm p99"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="ten starts each")
    parser.add_argument("--count", type=int, help="starts of each (200)")
    parser.add_argument("--only", help="languages, comma separated")
    options = parser.parse_args()
    count = options.count or (10 if options.quick else 200)
    about = {**machine(), "versions": {"node": version("node", "--version"), "java": version("java", "-version")},
             "real_time_client": be_punctual()}
    print("Functions on " + ", ".join(f"{key}: {value}" for key, value in about.items()))
    wanted = options.only.split(",") if options.only else list(LANGUAGES)
    starts, clones = [], []
    with tempfile.TemporaryDirectory(prefix="aether-bench.") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Handlers of other users are below it.
        for handler in wanted:
            if why := handlers.missing(handler):
                print(f"{LANGUAGES[handler]} is left out: it {why}")
                continue
            starts += bench_starts(handler, folder / handler, count)
            clones.append(bench_clones(handler, folder / f"clones-{handler}", 20 if options.quick else 200))
            print(f"{LANGUAGES[handler]}: measured", flush=True)
        isolate = bench_isolates(folder / "workerd", count)
    print_starts(starts, isolate)
    figures = {"machine": about, "load_average_end": os.getloadavg()[0],
               "calm_ms": round(CALM_SECONDS * 1000), "starts": starts, "isolates": isolate,
               "clones": clones}
    print_clones(clones)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
        print(f"Figures: {options.json}")


def print_clones(clones):
    rows = [[LANGUAGES[one["handler"]], one["clones"], f"{one['per_second']:.0f}",
             *(f"{one[key] / 1024:.2f}" for key in ("idle_kb", "asked_kb", "alone_kb"))] for one in clones]
    table("Clones: so many made one after another, and the private memory of each (MiB, medians; goal: Python 2)",
          ["handler", "clones", "a second", "idle, asked nothing", "after a request", "one that was started"], rows)


if __name__ == "__main__":
    main()
