# SPDX-License-Identifier: Apache-2.0
"""What tests of real programs share: a load that counts what a client would see, and swaps under it."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from aether import eventually

LOAD = os.environ.get("AETHER_LOAD", str(Path(__file__).parents[2] / "build" / "dev" / "bin" / "aether-load"))

# Where system programs live that a user's PATH may lack.
SYSTEM = "/usr/sbin:/sbin:/usr/local/sbin"


def soak(number):
    """A number of turns: as it is by default, AETHER_SOAK times as many in a long run."""
    return number * int(os.environ.get("AETHER_SOAK", "1"))


def installed(name):
    """The program's path; a test without it is skipped."""
    path = shutil.which(name) or shutil.which(name, path=SYSTEM)
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def written(folder, name, text):
    """Writes a file of a program; gives its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


class Load:
    """aether-load in the background; `result` is what it counted, when the block has ended."""

    def __init__(self, port, clients=4, rate=500, keep_alive=False, tally="X-Pid"):
        self.command = [LOAD, f"127.0.0.1:{port}", "--clients", str(clients), "--seconds", "600", "--tally", tally]
        self.command += ["--rate", str(rate)] if rate else []
        self.command += ["--keep-alive"] if keep_alive else []
        self.result = None

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.result = json.loads(self.process.communicate(timeout=60)[0])

    def lost_nobody(self, revisions):
        """Every request was answered, and by so many revisions: by most of them, as a busy machine may
        keep the load from a revision that serves for 50 ms only."""
        assert self.result["failed"] == 0, self.result
        assert len(self.result["tally"]) >= max(2, revisions // 2 + 1), self.result


def swap_all(aether, swaps, service=None):
    """Reloads so many times; each must succeed."""
    for _ in range(swaps):
        swap = aether.reload(service)
        assert isinstance(swap, dict) and swap["verdict"] == "succeeded", (swap, aether.text())


def ready_by(aether):
    """What made each start ready, by Aether's own log."""
    return re.findall(r"ready .*\(pid \d+, ([^)]+)\)", aether.text())


def command_line(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def processes_with(word):
    """Pids whose command line holds the word; neither this test nor Aether's own."""
    return [
        int(p.name)
        for p in Path("/proc").glob("[0-9]*")
        if str(word).encode() in (line := command_line(p)) and b"aeterna.yaml" not in line and b"\0pytest\0" not in line
    ]


def revisions_alive(aether):
    """{pid: revision} of every living process that this Aether started, by its environment."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        values = dict(word.split(b"=", 1) for word in words if b"=" in word)
        if values.get(b"NOTIFY_SOCKET", b"").startswith(str(aether.runtime).encode()):
            found[int(process.name)] = int(values[b"AETHER_REVISION"])
    return found


def stops_cleanly(aether, folder):
    """Stops in time, without force, and leaves no process behind."""
    assert aether.stop() == 0, aether.text()
    assert "SIGKILL" not in aether.text(), aether.text()
    eventually(lambda: not processes_with(folder), f"nothing of {folder} is left: {processes_with(folder)}")
