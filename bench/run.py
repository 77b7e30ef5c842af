# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of swaps: what clients notice, and what a handoff costs.

Timings on a shared machine are noisy, so that each figure stands beside one of the same run: the
same load without swaps, or one pass over the same memory.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from aether import PYTHON, Aether, eventually, free_port  # noqa: E402
import programs as test_programs  # noqa: E402  (tests/e2e)

sys.path.insert(0, str(ROOT / "bench"))
from holder import HOLDER  # noqa: E402
from machine import machine  # noqa: E402
from rounds import middle  # noqa: E402
from tables import table  # noqa: E402

TOOLS = Path(os.environ["AETHER_TOOLS"])
MB = 1000 * 1000


# ---- what clients notice ---------------------------------------------------------------------------


def load(port, mode, rate):
    words = [TOOLS / "aether-load", f"127.0.0.1:{port}", "--rate", str(rate), "--seconds", "600", "--clients", "50",
             "--realtime"]
    if mode == "keep-alive":
        words.append("--keep-alive")
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)


def finish(process):
    process.send_signal(signal.SIGINT)
    return json.loads(process.communicate(timeout=60)[0])


def swaps_under_load(folder, name, mode, rounds, swaps, rate, seconds):
    """Rounds with swaps and rounds without in turns: what else happens on the machine hits both. A
    round lasts `seconds` at least."""
    port = free_port()
    if name == "asyncio":
        command, handoff = test_programs.program(folder, "server.py", test_programs.ASYNCIO), False
    else:
        command, handoff = test_programs.program(folder, "holder.py", HOLDER), True
    config = test_programs.service(command, listen=[f"127.0.0.1:{port}"], env={"SIZE": "50000", "MECHANISM": "pipe"})
    config["orchestration"] = {"soak_time": "300ms", "state_handoff": handoff}
    quiet, swapped, verdicts = [], [], []
    with Aether(folder / "aether", config) as aether:
        for _ in range(rounds):
            under_load = load(port, mode, rate)
            began = time.monotonic()
            verdicts += [aether.reload() for _ in range(swaps)]
            time.sleep(max(seconds - (time.monotonic() - began), 0))
            took = time.monotonic() - began
            swapped.append(finish(under_load))
            under_load = load(port, mode, rate)
            time.sleep(took)
            quiet.append(finish(under_load))
        assert all(v["verdict"] == "succeeded" for v in verdicts), verdicts
        rss = int(Path(f"/proc/{aether.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "server": name, "clients": mode, "swaps": len(verdicts), "rate": rate,
        "quiet": middle(quiet), "swapped": middle(swapped),
        "supervisor_rss_bytes": rss,
        "blackout_ms_median": statistics.median(v["blackout_ms"] for v in verdicts),
    }


def bench_clients(folder, title, rounds, swaps, rate, seconds):
    rows, results = [], []
    for name, mode in (("asyncio", "new connections"), ("agent", "new connections"), ("agent", "keep-alive")):
        # That asyncio server answers each connection once: it has no keep-alive clients.
        result = swaps_under_load(folder / f"{name}-{mode[:3]}-{swaps}", name, mode, rounds, swaps, rate, seconds)
        results.append(result)
        for what in ("quiet", "swapped"):
            run = result[what]
            rows.append([
                name, mode, 0 if what == "quiet" else result["swaps"], run["requests"], run["failed"],
                run["p50_us"], run["p99_us"], run["p999_us"], run["max_us"],
            ])
    table(f"{title} (us, medians of {rounds} rounds with and {rounds} without swaps, in turns; nothing is retried)",
          ["server", "clients", "swaps", "requests", "failed", "p50", "p99", "p99.9", "max"], rows)
    return results


# ---- what a handoff costs --------------------------------------------------------------------------


def memory_pass(size):
    return json.loads(subprocess.check_output([TOOLS / "memory-pass", str(size)], text=True))


def handoffs(folder, size, mechanism, swaps):
    command = test_programs.program(folder, "holder.py", HOLDER)
    config = test_programs.service(command, listen=["127.0.0.1:0"], env={"SIZE": str(size), "MECHANISM": mechanism})
    config["orchestration"] = {"soak_time": "0s", "state_handoff": True}
    config["handoff"] = {"mechanism": mechanism, "timeout": "60s"}
    reports = []
    with Aether(folder / "aether", config) as aether:
        holding = lambda: sum("HOLDING" in line for line in aether.cli("logs", "-n", "1000").stdout.splitlines())
        for number in range(swaps):
            eventually(lambda: holding() > number, "the revision holds its memory")
            report = aether.reload()
            assert report["verdict"] == "succeeded", report
            reports.append(report)
    own = [r["handoff"]["export_ms"] + r["handoff"]["quiesce_ms"] for r in reports]
    moved = [max(r["blackout_ms"] - o, 0.0) for r, o in zip(reports, own)]
    ready = [sum(p["ms"] for p in r["phases"] if p["name"] not in ("soaking", "draining")) for r in reports]
    return {
        "size": size, "mechanism": mechanism, "swaps": swaps,
        "blackout_ms": statistics.median(r["blackout_ms"] for r in reports),
        "export_ms": statistics.median(own),
        "beyond_export_ms": statistics.median(moved),
        "time_to_ready_ms": statistics.median(ready),
        "pass": memory_pass(size),
    }


def cold_boot(folder, size):
    """The same program without Aether: started, and its memory read from a file."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "memory.bin"
    piece = os.urandom(1 << 20)
    with open(image, "wb") as file:
        for at in range(0, size, len(piece)):
            file.write(piece[: min(len(piece), size - at)])
    command = test_programs.program(folder, "holder.py", HOLDER)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "sdk" / "python"), "SIZE": str(size), "MECHANISM": "shm",
           "BOOT_FROM": str(image), "PORT": str(free_port())}
    times = []
    for _ in range(3):
        began = time.monotonic()
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if "HOLDING" in line:
                break
        times.append((time.monotonic() - began) * 1000)
        process.kill()
        process.wait()
    image.unlink()
    return statistics.median(times)


def bench_handoffs(folder, quick):
    cases = [(50 * 1000, "pipe", 20), (100 * MB, "shm", 10), (1000 * MB, "shm", 5)]
    if quick:
        cases = [(50 * 1000, "pipe", 5), (100 * MB, "shm", 3)]
    results, rows = [], []
    for size, mechanism, swaps in cases:
        result = handoffs(folder / f"{mechanism}-{size}", size, mechanism, swaps)
        result["cold_boot_ms"] = cold_boot(folder / f"cold-{size}", size)
        results.append(result)
        beyond = max(result["beyond_export_ms"], 1e-3)
        rows.append([
            f"{size / MB:g} MB", mechanism, f"{result['blackout_ms']:.2f}", f"{result['export_ms']:.2f}",
            f"{result['beyond_export_ms']:.2f}", f"{result['time_to_ready_ms']:.0f}",
            f"{size / beyond * 1000 / 1e9:.2f}", f"{result['pass']['crc32c_fresh_map_ms']:.2f}",
            f"{result['pass']['memcpy_ms']:.2f}", f"{result['cold_boot_ms']:.0f}",
        ])
    table("Handoff of memory (ms, medians; `beyond export` is the blackout less what the program itself takes)",
          ["memory", "by", "blackout", "own export", "beyond export", "time to ready", "GB/s", "one CRC pass",
           "one memcpy", "cold boot"], rows)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer swaps, no gigabyte")
    options = parser.parse_args()
    about = machine()
    print("Aether benchmarks on " + ", ".join(f"{key}: {value}" for key, value in about.items()))
    with tempfile.TemporaryDirectory(prefix="aether-bench.") as folder:
        figures = {
            "machine": about,
            # As in a million requests over a hundred swaps.
            "clients": bench_clients(Path(folder), "A swap in 10 000 requests", 1 if options.quick else 5, 1,
                                     1000, 2 if options.quick else 10),
            "clients_back_to_back": bench_clients(Path(folder), "Swaps back to back", 1 if options.quick else 5,
                                                  5 if options.quick else 10, 400, 0),
            "handoffs": bench_handoffs(Path(folder), options.quick),
        }
    rss = max(result["supervisor_rss_bytes"] for result in figures["clients"])
    print(f"\nSupervisor: {rss / 2**20:.1f} MiB resident after the swaps (goal: 12)")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")
        print(f"Figures: {options.json}")


if __name__ == "__main__":
    main()
