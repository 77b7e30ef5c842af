# SPDX-License-Identifier: Apache-2.0
"""What /proc says of processes: used by the tests of a supervisor's duties."""

import os
import re
from pathlib import Path

from aether import eventually


def stat(pid):
    """The fields of /proc/PID/stat after the name: state, parent, …; None if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def is_alive(pid):
    fields = stat(pid)
    return fields is not None and fields[0] not in "ZX"


def all_pids():
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def processes_with(text):
    """Pids whose command line holds `text`."""
    found = []
    for pid in all_pids():
        try:
            if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            pass
    return found


def zombies_of(pid):
    found = []
    for one in all_pids():
        fields = stat(one)
        if fields and fields[0] == "Z" and int(fields[1]) == pid:
            found.append(one)
    return found


def files_of(pid):
    """What each descriptor of a process is, by number."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except OSError:
            continue
    return found


def status(pid):
    """/proc/PID/status by key."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def kibibytes(pid, key="VmRSS"):
    return int(re.match(r"\d+", status(pid)[key]).group())


def environment(pid):
    """The environment that a process was started with; the kernel tells none of a program that it is just loading."""
    text = eventually(Path(f"/proc/{pid}/environ").read_bytes, f"process {pid} has an environment")
    entries = text.rstrip(b"\0").split(b"\0")
    return dict(entry.decode().partition("=")[::2] for entry in entries)


def children_of(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(one) for one in (task / "children").read_text().split()]
    return found


def descendants(pid):
    """All that it started and that lives, and what they started."""
    found = []
    left = [pid]
    while left:
        try:
            below = children_of(left.pop())
        except OSError:
            continue
        found += below
        left += below
    return [one for one in found if is_alive(one)]


def command_of(pid):
    """The first word that it was started with; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""
