# SPDX-License-Identifier: Apache-2.0
"""The ring beside a Unix socket, a pipe and TCP: one-way latency and messages a second, in turns, with the goals."""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

from tables import table

DRIVER = Path(os.environ["AETHER_TOOLS"]) / "ring-driver"
WAYS = ("ring", "ring-trusted", "ring-crc32c", "ring-unchecked", "unix", "pipe", "tcp")
SIZES = {64: "64 B", 4096: "4 KiB", 1 << 20: "1 MiB"}


def measure(way, place, mode, size, rounds):
    words = [str(word) for word in (DRIVER, way, place, mode, size, rounds)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True, timeout=300).stdout)


def repeated(quick, way, place, mode, size):
    """The median of some runs: what else happens on the machine hits one of them."""
    rounds = {"latency": 20000, "blocked": 1000, "stream": max(2_000_000 * 64 // size, 300)}[mode]
    if size > 4096 and mode != "stream":
        rounds = 500
    runs = [measure(way, place, mode, size, rounds // (10 if quick else 1)) for _ in range(1 if quick else 5)]
    return {key: statistics.median(run[key] for run in runs) if isinstance(value, float | int) and key != "realtime"
            else value for key, value in runs[0].items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    options = parser.parse_args()
    figures, rows = [], []
    places = ("across", "same") if os.cpu_count() > 1 else ("same",)
    for place in places:
        for size, shown in SIZES.items():
            for way in WAYS:
                found = {mode: repeated(options.quick, way, place, mode, size)
                         for mode in ("latency", "blocked", "stream")}
                figures += found.values()
                rows.append([way, place, shown, f"{found['latency']['p50_ns']:.0f}",
                             f"{found['latency']['p99_ns']:.0f}", f"{found['blocked']['p50_ns'] / 1000:.1f}",
                             f"{found['blocked']['p99_ns'] / 1000:.1f}", f"{found['stream']['per_second']:.0f}",
                             f"{found['stream']['gb_per_second']:.2f}", f"{found['stream']['copy_with_crc']:.2f}"])
    table("Messages from one process to another (one way; medians of five runs; a sleeping reader in us)",
          ["way", "cores", "size", "p50 ns", "p99 ns", "asleep p50", "asleep p99", "messages/s", "GB/s",
           "memcpy+CRC GB/s"], rows)
    print("memcpy+CRC: what one core does that copies messages of this size, and sums the copies. A ring does that "
          "twice, once on each side; on two cores the slower side is the limit.")
    print("Goals, across cores: 64 B p50 <= 200 ns, >= 10 000 000 messages/s, asleep p50 <= 8 us; "
          "1 MiB >= 80 % of memcpy+CRC")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
