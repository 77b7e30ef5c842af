# SPDX-License-Identifier: Apache-2.0
"""Processor time of everything that the benchmark has started: what others do on the machine has no part in it."""

import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def processes():
    """{pid: (parent, seconds of processor time)}"""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended
        found[int(folder.name)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / TICK)
    return found


def used(but):
    """Seconds, of this process's descendants, but for these (and those below them)."""
    found, children = processes(), {}
    for pid, (parent, _) in found.items():
        children.setdefault(parent, []).append(pid)
    total, left = 0.0, list(children.get(os.getpid(), []))
    while left:
        pid = left.pop()
        if pid not in but:
            total += found[pid][1]
            left += children.get(pid, [])
    return total
