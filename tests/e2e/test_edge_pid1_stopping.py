# SPDX-License-Identifier: Apache-2.0
"""Stopping: within its time, whatever the programs do; nothing is left, nothing is waited for in vain."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from aether import PATIENCE, PYTHON, Aether, eventually
from processes import is_alive, processes_with, stat
from programs import program, service

STUBBORN = """
import signal, sys, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
print("deaf", flush=True)
while True: time.sleep(3600)
"""
# On a quiet machine a stop takes its timeout and some 20 ms; this is for a sanitizer build on a busy one.
SLACK = 4


def timed_stop(aether):
    began = time.monotonic()
    code = aether.stop()
    return code, time.monotonic() - began


def eventually_says(aether, text, service=None):
    words = ("logs", service) if service else ("logs",)
    eventually(lambda: text in aether.cli(*words).stdout, f"it says {text}")


@pytest.mark.edge("F5", "C3")
def test_programs_that_ignore_every_signal_end_together_when_their_time_is_over(tmp_path):
    command = program(tmp_path, "stubborn.py", STUBBORN)
    names = ["one", "two", "three", "four"]
    config = {
        "services": [{"name": n, "command": command, "listen": "none", "stop_timeout": "2s"} for n in names],
        "observability": {"metrics_port": "none"},
    }
    aether = Aether(tmp_path / "a", config).start()
    for name in names:
        eventually_says(aether, "deaf", name)
    pids = [one["pid"] for one in aether.status()["services"]]
    code, took = timed_stop(aether)
    assert code == 0
    # Side by side: one after the other they would take eight seconds.
    assert 2 <= took < 2 + SLACK, took
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.edge("F5")
def test_services_stop_after_those_that_need_them_have_ended(tmp_path):
    text = """
import signal, sys, time
def end(*_):
    time.sleep(0.3)
    print("ended", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True: time.sleep(3600)
"""
    command = program(tmp_path, "ends.py", text)
    config = {
        "services": [
            {"name": "front", "command": command, "listen": "none", "after": ["middle"]},
            {"name": "middle", "command": command, "listen": "none", "after": ["store"]},
            {"name": "store", "command": command, "listen": "none"},
            {"name": "alone", "command": command, "listen": "none"},
        ],
        "observability": {"metrics_port": "none"},
    }
    aether = Aether(tmp_path / "a", config).start()
    for name in ("front", "middle", "store", "alone"):
        eventually_says(aether, "up", name)
    assert aether.stop() == 0
    ended = re.findall(r"(\w+): revision 1 \(pid \d+\) exited with code 0", aether.text())
    assert sorted(ended) == ["alone", "front", "middle", "store"], aether.text()
    chain = [name for name in ended if name != "alone"]
    assert chain == ["front", "middle", "store"], aether.text()
    assert ended.index("alone") < ended.index("store"), "it waits for nobody"


@pytest.mark.edge("C3")
def test_a_stopped_old_revision_is_ended_by_a_swap_all_the_same(start, tmp_path):
    command = program(tmp_path, "sleeps.py", "import time; print('up', flush=True); time.sleep(3600)")
    aether = start(service(command, listen="none", soak="0s", stop_timeout="1s"))
    old = aether.service()["pid"]
    os.kill(old, signal.SIGSTOP)
    eventually(lambda: stat(old)[0] in "Tt", "it is stopped")
    assert aether.reload()["verdict"] == "succeeded"
    eventually(lambda: not is_alive(old), "the old one is gone")
    eventually(lambda: len(aether.service()["instances"]) == 1, "nothing of it is left")


class Freezer:
    """A version 1 control group: what is frozen in it does not even end by SIGKILL (state D)."""

    ROOT = Path("/sys/fs/cgroup/freezer")

    def __init__(self):
        self.path = self.ROOT / f"aether-test-{os.getpid()}-{time.monotonic_ns()}"
        try:
            self.path.mkdir()
        except OSError as error:
            pytest.skip(f"needs a freezer control group of version 1: {error}")

    def freeze(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))
        (self.path / "freezer.state").write_text("FROZEN")
        eventually(lambda: "FROZEN" in (self.path / "freezer.state").read_text(), "it is frozen")

    def thaw(self):
        (self.path / "freezer.state").write_text("THAWED")
        eventually(lambda: not (self.path / "cgroup.procs").read_text().strip(), "it has ended")
        self.path.rmdir()


@pytest.mark.edge("C3", "F5")
def test_a_process_that_not_even_sigkill_ends_stops_neither_a_swap_nor_the_stop(tmp_path):
    command = program(tmp_path, "sleeps.py", "import time; print('up', flush=True); time.sleep(3600)")
    aether = Aether(tmp_path / "a", service(command, listen="none", soak="0s", stop_timeout="500ms")).start()
    frozen = Freezer()
    try:
        old = aether.service()["pid"]
        frozen.freeze(old)
        swap = aether.reload()
        assert swap["verdict"] == "succeeded", swap
        for _ in range(50):
            assert aether.service()["pid"] == swap["pid"], "it answers while the old one hangs"
        assert is_alive(old)
        began = time.monotonic()
        assert aether.stop(patience=max(PATIENCE, 60)) == 0
        assert time.monotonic() - began < 30
        assert f"{old}" in aether.text() and "not even by SIGKILL" in aether.text(), aether.text()
    finally:
        frozen.thaw()
        aether.stop()


@pytest.mark.edge("C4")
def test_nothing_of_a_revision_is_left_once_it_was_replaced_workers_daemons_and_threads(start, tmp_path):
    # Workers that hold the listener, one in a session of its own, one orphaned, one that ignores SIGTERM.
    text = f"""
import os, signal, socket, subprocess, sys, threading, time
listener = socket.socket(fileno=3)
def accept():
    while True:
        one, _ = listener.accept()
        one.close()
threading.Thread(target=accept, daemon=True).start()
for kind in ("plain", "session", "orphan", "deaf"):
    child = os.fork()
    if child == 0:
        if kind == "session": os.setsid()
        if kind == "orphan" and os.fork(): os._exit(0)
        if kind == "deaf": signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execv({PYTHON!r}, [{PYTHON!r}, "-c", "import time; time.sleep(3600)", "worker-of-" + os.environ["MARK"]])
print("up", flush=True)
while True: time.sleep(3600)
"""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    config = service(program(tmp_path, "tree.py", text), listen=["127.0.0.1:0"], soak="0s", stop_timeout="500ms")
    config["orchestration"]["drain"] = {"timeout": "1s"}
    for generation in range(3):
        config["service"]["env"] = {"MARK": f"{mark}-{generation}"}
        if generation == 0:
            aether = start(config)
        else:
            aether.write_config(config)
            assert aether.reload()["verdict"] == "succeeded"
        eventually(lambda: len(processes_with(f"worker-of-{mark}-{generation}")) == 4, "its workers are there")
    for generation in range(2):
        eventually(lambda: not processes_with(f"worker-of-{mark}-{generation}"), "nothing of it is left")
    assert len(processes_with(f"worker-of-{mark}-2")) == 4
    assert aether.stop() == 0
    assert not processes_with(f"worker-of-{mark}")


@pytest.mark.edge("C10")
def test_a_stranger_that_holds_the_output_of_a_dead_program_holds_up_nothing(tmp_path):
    # This test takes the pipe's writing end for itself, as a process outside of the tree could have it.
    command = program(tmp_path, "talks.py", "import time; print('last words', flush=True); time.sleep(3600)")
    aether = Aether(tmp_path / "a", service(command, listen="none", soak="0s")).start()
    eventually_says(aether, "last words")
    held = os.open(f"/proc/{aether.service()['pid']}/fd/1", os.O_WRONLY)
    try:
        os.write(held, b"from a stranger\n")
        eventually_says(aether, "from a stranger")
        assert aether.reload()["verdict"] == "succeeded"
        eventually(lambda: len(aether.service()["instances"]) == 1, "the old one is forgotten")
        code, took = timed_stop(aether)
        assert code == 0 and took < SLACK + 2, took
    finally:
        os.close(held)
        aether.stop()


@pytest.mark.edge("H4", "C10")
@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_unread_output_of_its_own_stops_neither_swaps_nor_the_stop(tmp_path, terminal):
    chatty = """
import time
for n in range(20000): print('line', n, 'x' * 50)
print('end', flush=True)
time.sleep(3600)
"""
    aether = Aether(tmp_path / "a", service(program(tmp_path, "chatty.py", chatty), listen="none", soak="0s"))
    reading, writing = os.openpty() if terminal else os.pipe()
    aether.process = subprocess.Popen(
        aether.command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env=aether.env, cwd=aether.folder
    )
    os.close(writing)
    try:
        eventually(aether.serving, "it serves")
        eventually_says(aether, "end")
        for _ in range(3):
            assert aether.reload()["verdict"] == "succeeded"
        # Enough lines of Aether's own for the pipe to be full of them too.
        for _ in range(100):
            aether.process.send_signal(signal.SIGHUP)
        eventually(lambda: aether.service()["phase"] == "idle", "the swaps are over")
        code, took = timed_stop(aether)
        assert code == 0 and took < SLACK + 3, took
    finally:
        os.close(reading)
        aether.stop()
