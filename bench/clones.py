# SPDX-License-Identifier: Apache-2.0
"""How fast clones are made, and what memory each has for itself while it does nothing."""

import statistics
from datetime import datetime
from pathlib import Path

from aether import Aether, eventually, free_port
import handlers
from first_byte import ask

LOOKED_AT = 20


def private_kb(pid):
    """What would be free if this process ended: what it shares with its template is not in it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def middle_kb(instances):
    return statistics.median(private_kb(one["pid"]) for one in instances)


def warm(aether, name):
    found = aether.ask("GET", f"/v1/functions/{name}")[1]
    return [one for one in found["instances"] if one["state"] == "warm"]


def bench_clones(handler, folder, count):
    made = handlers.build(handler, folder / "handler")
    functions = [
        handlers.function(made, free_port(), "copied", launch="clone", min_instances=count, max_instances=count),
        handlers.function(made, free_port(), "alone", launch="spawn", min_instances=1, max_instances=1),
    ]
    config = {"functions": functions, "orchestrator": {"warm_pool_size": 1, "restore_timeout_ms": 100},
              "observability": {"metrics_port": "none"}}
    with Aether(folder / "aether", config) as aether:
        def all_warm():
            found = warm(aether, "copied")
            return len(found) == count and found

        copies = eventually(all_warm, f"{count} clones of {handler}: {aether.text()}")
        alone = eventually(lambda: warm(aether, "alone"), "the other one runs")
        assert {one["tier"] for one in copies} == {"clone"} and alone[0]["tier"] == "cold", (copies[0], alone)
        times = sorted(datetime.fromisoformat(one["since"]) for one in copies)
        took = (times[-1] - times[0]).total_seconds()
        looked_at = copies[:: max(1, count // LOOKED_AT)]
        idle = middle_kb(looked_at)
        for one in looked_at:
            assert ask(one["port"]).status == 200
        return {"handler": handler, "clones": count, "per_second": (count - 1) / took, "idle_kb": idle,
                "asked_kb": middle_kb(looked_at), "alone_kb": private_kb(alone[0]["pid"])}
