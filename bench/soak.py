# SPDX-License-Identifier: Apache-2.0
"""A million requests over a hundred swaps for each stock server, and clients that stay.

`python3 bench/soak.py --json FILE [--server NAME]`: each server's result is written as soon as it is
known, and a run that goes on leaves out what FILE holds already. Ends with 1 if a request was lost.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
sys.path.insert(0, str(ROOT / "bench"))

from aether import Aether, free_port  # noqa: E402
from bound import bound_service, unmodified  # noqa: E402
from programs import service  # noqa: E402
from test_stock_servers import stock  # noqa: E402
import peer_programs  # noqa: E402
from machine import machine  # noqa: E402

TOOLS = Path(os.environ["AETHER_TOOLS"])
STOCK = ["asyncio", "uvicorn", "aiohttp", "hypercorn", "gunicorn", "node", "nginx", "threading"]
# Servers that bind their own port, unmodified (steer: bpf; needs root).
BOUND = ["bound-http.server", "bound-nginx", "bound-gunicorn", "bound-node", "bound-lighttpd"]
# The SDK's promise: no request is lost on kept connections; and who stays is left alone.
CASES = [*STOCK, "agent", "streams", *BOUND]


def load(port, *more):
    words = [TOOLS / "aether-load", f"127.0.0.1:{port}", "--seconds", "36000", *more]
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)


def finish(process):
    process.send_signal(signal.SIGINT)
    return json.loads(process.communicate(timeout=120)[0])


def swap_until(over, aether, swaps, spacing):
    """Swaps, evenly over the run: `spacing` seconds apart at least, until the load is over."""
    verdicts = []
    while not over() and len(verdicts) < swaps * 10:
        began = time.monotonic()
        verdicts.append(aether.reload())
        time.sleep(max(0.0, spacing - (time.monotonic() - began)))
    return verdicts


def requests_case(name, folder, requests, swaps):
    port = free_port()
    bound = name.removeprefix("bound-") if name in BOUND else None
    if bound:
        command, more = unmodified(bound, folder / "program", port)
    elif name == "agent":
        command, more = peer_programs.under_aether("agent", folder / "program", port, 0)
    else:
        command, more = stock(name, folder / "program", port)
    if bound:
        config = bound_service(command, f"127.0.0.1:{port}", soak="50ms", **more)
    else:
        config = service(command, listen=[{"name": "web", "address": f"127.0.0.1:{port}"}], soak="50ms", **more)
    config["orchestration"]["state_handoff"] = name == "agent"
    # Two of the servers that are unmodified have no way to tell their pid.
    checks = [] if bound in ("http.server", "lighttpd") else ["--tally", "X-Pid", "--body-is", "X-Pid"]
    kept = ["--keep-alive"] if name == "agent" else []
    # http.server lets five connections wait.
    clients = 4 if bound == "http.server" else 32
    with Aether(folder / "aether", config) as aether:
        loader = load(port, "--clients", clients, "--requests", requests, *checks, *kept)
        verdicts = swap_until(lambda: loader.poll() is not None, aether, swaps, 1.0)
        # Fewer swaps than wanted: the load was faster. Both go on until there were enough.
        seen = [json.loads(loader.communicate(timeout=120)[0])]
        while len(verdicts) < swaps:
            loader = load(port, "--clients", clients, *checks, *kept)
            verdicts.append(aether.reload())
            seen.append(finish(loader))
        rss = int(Path(f"/proc/{aether.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    bad = [v for v in verdicts if not isinstance(v, dict) or v["verdict"] != "succeeded"]
    buckets = {key: sum(one[key] for one in seen) for key in seen[0] if isinstance(seen[0][key], int)
               and not key.startswith(("p", "max"))}
    return {
        "case": name, "swaps": len(verdicts), "swaps_failed": len(bad), "first_bad": bad[:1], **buckets,
        "revisions_met": len({pid for one in seen for pid in one["tally"]}),
        "rate": seen[0]["rate"],
        "p50_us": seen[0]["p50_us"], "p99_us": seen[0]["p99_us"], "p999_us": seen[0]["p999_us"],
        "max_us": seen[0]["max_us"], "supervisor_rss_bytes": rss,
        "passed": not bad and buckets["failed"] == 0,
    }


def streams_case(folder, swaps):
    """200 clients that stay: whoever is there keeps its events until the drain's deadline."""
    port = free_port()
    command, more = peer_programs.under_aether("uvicorn", folder / "program", port, 0)
    config = service(command, listen=[{"name": "web", "address": f"127.0.0.1:{port}"}], soak="50ms", **more)
    config["orchestration"].update(drain={"timeout": "300s", "stop": "at_deadline"}, max_revisions=64)
    with Aether(folder / "aether", config) as aether:
        streams = load(port, "--stream", "sse", "--path", "/events", "--clients", 200)
        time.sleep(2)
        verdicts = []
        for _ in range(min(swaps, 20)):
            verdicts.append(aether.reload())
            time.sleep(0.5)
        time.sleep(2)
        seen = finish(streams)
        aether.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    bad = [v for v in verdicts if not isinstance(v, dict) or v["verdict"] != "succeeded"]
    return {"case": "streams", "swaps": len(verdicts), "swaps_failed": len(bad), **seen, "requests": seen["events"],
            "failed": seen["clients"] - seen["alive"] + seen["gaps"],
            "passed": not bad and seen["alive"] == seen["clients"] and seen["gaps"] == 0}


class Progress:
    """A line every few seconds, because a case takes minutes."""

    def __init__(self, name):
        self.name, self.began, self.over = name, time.monotonic(), threading.Event()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while not self.over.wait(10):
            print(f"  {self.name}: {time.monotonic() - self.began:.0f}s", file=sys.stderr, flush=True)


def row(result):
    return (f"{result['case']:17} {result['swaps']:5} swaps ({result['swaps_failed']} failed) "
            f"{result['requests']:9} requests {result['failed']:5} failed   "
            f"{'passed' if result['passed'] else 'FAILED'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", required=True, help="results are added to this file, and not done again")
    parser.add_argument("--server", help="only these, comma separated: " + ", ".join(CASES))
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--swaps", type=int, default=100)
    options = parser.parse_args()
    path = Path(options.json)
    figures = json.loads(path.read_text()) if path.exists() else {"machine": machine(), "results": []}
    done = {result["case"] for result in figures["results"]}
    wanted = options.server.split(",") if options.server else [case for case in CASES if case not in done]
    if unknown := set(wanted) - set(CASES):
        sys.exit(f"soak: no such server: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    for name in wanted:
        progress = Progress(name)
        with tempfile.TemporaryDirectory(prefix="aether-soak.") as folder:
            if name == "streams":
                result = streams_case(Path(folder), options.swaps)
            else:
                result = requests_case(name, Path(folder), options.requests, options.swaps)
        progress.over.set()
        result["seconds"] = time.monotonic() - progress.began
        result["load_average"] = os.getloadavg()[0]
        figures["results"] = [one for one in figures["results"] if one["case"] != name] + [result]
        path.write_text(json.dumps(figures, indent=2) + "\n")
        print(row(result), flush=True)
    sys.exit(0 if all(one["passed"] for one in figures["results"] if one["case"] in wanted) else 1)


if __name__ == "__main__":
    main()
