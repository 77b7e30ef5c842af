# SPDX-License-Identifier: Apache-2.0
"""No descriptors, no memory, no processes: at every call of a start, a swap and a stop. A swap is lost at
most, with its reason; the old revision serves on; nothing leaks; the next swap works.

strace (Debian) makes the calls of Aether's own thread fail: it is attached for one swap, and does not follow
children, which share Aether's memory until they execute."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from aether import SANITIZED, Aether, eventually, free_port
from processes import processes_with
from programs import ASYNCIO, program, service
from swaps import Rig

# The leak checker of a sanitizer build does not work in a process that strace holds, and makes it fail.
os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
SOAK = int(os.environ.get("AETHER_SOAK", "1"))
KEPT_LANES = 4
REASONS = {
    "EMFILE": "Too many open files", "ENFILE": "Too many open files in system", "ENOMEM": "Cannot allocate memory",
    "EAGAIN": "Resource temporarily unavailable", "ENOBUFS": "No buffer space available",
    "ENOSPC": "No space left on device", "EPERM": "Operation not permitted",
}
# What can fail, how, and at which of its times in one swap.
CALLS = [
    ("socket", "EMFILE", 4), ("bind", "ENOMEM", 2), ("listen", "ENOBUFS", 1), ("accept4", "ENFILE", 1),
    ("pipe2", "EMFILE", 2), ("clone3", "EAGAIN", 1), ("clone3", "ENOMEM", 1), ("openat", "EMFILE", 8),
    ("openat", "ENFILE", 1), ("epoll_create1", "EMFILE", 3), ("epoll_ctl", "ENOSPC", 6), ("epoll_ctl", "ENOMEM", 1),
    ("mmap", "ENOMEM", 1), ("setsockopt", "ENOMEM", 4), ("fcntl", "EMFILE", 4), ("timerfd_settime", "ENOMEM", 1),
    ("mkdir", "ENOSPC", 1), ("pidfd_send_signal", "EPERM", 1), ("unlink", "EPERM", 1), ("chmod", "EPERM", 1),
    ("getdents64", "ENOMEM", 1),
]


@pytest.fixture(scope="module")
def strace():
    path = shutil.which("strace")
    if not path:
        pytest.skip("strace is not installed")
    probe = subprocess.Popen(["sleep", "60"])
    traced = subprocess.run(
        ["timeout", "-s", "INT", "0.3", path, "-o", "/dev/null", "-p", str(probe.pid)], capture_output=True, text=True
    )
    probe.kill()
    probe.wait()
    if "attached" not in traced.stderr:
        pytest.skip(f"needs the right to trace processes (CAP_SYS_PTRACE): {traced.stderr}")
    return path


class Failing:
    """As long as it is entered, calls of a process fail. `hit` tells whether one did."""

    def __init__(self, strace, pid, call, error, when):
        # To a file: a pipe that is full would stop strace, and with it Aether.
        self.trace = tempfile.NamedTemporaryFile("r", prefix="trace-")
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
        self.words = [strace, "-p", str(pid), "-o", self.trace.name, *inject]

    def __enter__(self):
        self.process = subprocess.Popen(self.words, stderr=subprocess.PIPE, text=True)
        assert "attached" in self.process.stderr.readline()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=60)
        with self.trace:
            self.hit = "(INJECTED)" in self.trace.read()


def reload_or_refusal(aether):
    try:
        return aether.reload()
    except (OSError, http.client.HTTPException) as error:
        return error  # the connection to the control socket was the victim


def is_a_clean_end(answer, error):
    if isinstance(answer, dict):
        # Either it did without, or the swap was taken back with the kernel's reason.
        return answer["verdict"] == "succeeded" or REASONS.get(error, "") in answer["why"]
    if isinstance(answer, tuple):
        return REASONS.get(error, "") in answer[1]["detail"]
    return True


@pytest.mark.edge("B16")
def test_a_call_that_fails_in_a_swap_costs_that_swap_at_most(tmp_path, strace):
    hits = 0
    with Rig(tmp_path) as rig:
        for call, error, times in CALLS:
            if SANITIZED and call == "mmap":
                continue  # The sanitizer's own allocator ends the process when it is refused memory.
            for when in range(1, times * SOAK + 1):
                old = rig.pid()
                with Failing(strace, rig.aether.pid, call, error, when) as failing:
                    answer = reload_or_refusal(rig.aether)
                    eventually(lambda: rig.phase() == "idle", f"the swap is over ({call} {error} {when})")
                hits += failing.hit
                told = f"{call} {error} {when}: {answer}"
                assert is_a_clean_end(answer, error), told
                succeeded = isinstance(answer, dict) and answer["verdict"] == "succeeded"
                assert rig.pid() == (answer["pid"] if succeeded else rig.aether.service()["pid"]), told
                assert succeeded or isinstance(answer, Exception) or rig.pid() == old, told
                if not failing.hit:
                    break
        swap = rig.aether.reload()
        assert swap["verdict"] == "succeeded", swap
        rig.until("idle")
        rig.keeps_no_files()
    assert hits > 25, "few calls were made to fail: does the list still name what a swap does?"


@pytest.mark.edge("B16")
@pytest.mark.parametrize("call, error", [
    ("openat", "EMFILE"), ("epoll_create1", "EMFILE"), ("epoll_ctl", "ENOSPC"), ("socket", "EMFILE"),
])
def test_a_shortage_that_lasts_over_the_stop_leaves_no_process_behind(tmp_path, strace, call, error):
    text = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True: time.sleep(3600)
"""
    command = program(tmp_path, f"shortage-{call}.py", text)
    aether = Aether(tmp_path / "a", service(command, listen="none", stop_timeout="300ms")).start()
    eventually(lambda: aether.cli("logs").stdout.count("up") == 2, "both run")
    with Failing(strace, aether.pid, call, error, "1+"):
        assert aether.stop() == 0
    eventually(lambda: not processes_with(command[1]), "nothing of the tree lives")


@pytest.mark.edge("B16")
@pytest.mark.parametrize("call, error", [
    ("socket", "EMFILE"), ("bind", "ENOMEM"), ("listen", "ENOBUFS"), ("pipe2", "EMFILE"), ("signalfd4", "ENOMEM"),
    ("epoll_create1", "EMFILE"), ("timerfd_create", "EMFILE"), ("eventfd2", "EMFILE"), ("clone3", "EAGAIN"),
    ("prctl", "EPERM"), ("flock", "ENOLCK"), ("mkdir", "ENOSPC"), ("epoll_ctl", "ENOSPC"), ("setsockopt", "ENOMEM"),
])
def test_a_call_that_fails_at_the_start_is_a_refusal_with_its_reason_or_does_no_harm(tmp_path, strace, call, error):
    port = free_port()
    config = service(program(tmp_path, "web.py", ASYNCIO), listen=[f"127.0.0.1:{port}"], restart="never")
    for when in range(1, 3 * SOAK + 1):
        aether = Aether(tmp_path / f"a{when}", config)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
        aether.command = [strace, "-D", "-o", "/dev/null", *inject, *aether.command]
        aether.start(wait=False)

        def settled(aether=aether):
            try:
                return aether.process.poll() is not None or aether.serving()
            except AssertionError:
                return True

        eventually(settled, f"it serves or has ended: {aether.text()}")
        code = aether.process.poll()
        if code is None:
            assert aether.stop() in (0, 1), aether.text()  # 1: the only service could not start
        else:
            assert code > 0 and ("error" in aether.text() or "what()" in aether.text()), (code, aether.text())
            aether.stop()
        assert not processes_with(str(tmp_path / "web.py")), aether.text()


@pytest.mark.edge("B16")
def test_a_user_who_may_have_no_more_processes_gets_a_refused_swap_and_a_working_one_later(tmp_path):
    # A version 1 control group counts them; RLIMIT_NPROC does not bind root.
    group = Path(f"/sys/fs/cgroup/pids/aether-test-{os.getpid()}-{time.monotonic_ns()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"needs a pids control group of version 1: {error}")
    try:
        with Rig(tmp_path) as rig:
            (group / "cgroup.procs").write_text(str(rig.aether.pid))
            (group / "pids.max").write_text("1")
            old = rig.pid()
            for _ in range(3):
                swap = rig.aether.reload()
                assert swap["verdict"] == "rolled-back" and "pids.max" in swap["why"], swap
                assert rig.pid() == old
            (group / "pids.max").write_text("max")
            assert rig.aether.reload()["verdict"] == "succeeded"
            rig.until("idle")
            rig.keeps_no_files()
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(), "nothing is left in it")
        group.rmdir()


@pytest.mark.edge("B16")
def test_with_too_few_descriptors_a_swap_is_refused_with_the_reason_and_works_again_with_more(tmp_path):
    with Rig(tmp_path) as rig:
        pid = rig.aether.pid
        top = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
        refused = 0
        # The limit is the lowest number that may not be used: from what is used now to what a swap needs.
        for limit in range(top + 4, top + 24, 2):
            subprocess.run(["prlimit", f"--nofile={limit}:4096", f"--pid={pid}"], check=True)
            old = rig.pid()
            answer = reload_or_refusal(rig.aether)
            subprocess.run(["prlimit", "--nofile=4096:4096", f"--pid={pid}"], check=True)
            rig.until("idle")
            assert is_a_clean_end(answer, "EMFILE"), answer
            if isinstance(answer, dict) and answer["verdict"] == "succeeded":
                assert rig.pid() == answer["pid"]
                break
            refused += 1
            assert rig.pid() == old
            # A few lanes may be kept for later revisions: however many swaps are refused.
            eventually(lambda: len(rig.open_files()) <= len(rig.fds) + KEPT_LANES, "no descriptor is lost")
        assert refused, "the limit was never met"
        assert rig.aether.reload()["verdict"] == "succeeded"
        rig.until("idle")
        eventually(lambda: len(rig.open_files()) <= len(rig.fds) + KEPT_LANES, "no descriptor is lost")


def test_the_list_of_reasons_is_what_the_system_says():
    import errno

    for name, text in REASONS.items():
        assert re.match(re.escape(text), os.strerror(getattr(errno, name)))
