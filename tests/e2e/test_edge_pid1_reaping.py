# SPDX-License-Identifier: Apache-2.0
"""Orphans by the thousand: none stays a zombie, and nobody's exit status is taken from who waits for it."""

import os
import re
import subprocess
import time

import pytest

from aether import PYTHON, Aether, UnixConnection, eventually
from processes import children_of, processes_with, stat, zombies_of
from programs import program, service

ROUNDS = 5 * int(os.environ.get("AETHER_SOAK", "1"))
PER_ROUND = 2000

# In each round 2000 orphans of one moment: their parent is gone, and they end together when the pipe closes.
STORM = f"""
import os, sys, time
for turn in range({ROUNDS}):
    held, ends = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(ends)
        for _ in range({PER_ROUND}):
            if os.fork() == 0:
                os.read(held, 1)
                os._exit(turn % 256)
        os._exit(0)
    os.waitpid(parent, 0)
    os.close(ends)
    os.close(held)
    print("round", turn, flush=True)
print("storm over", flush=True)
time.sleep(3600)
"""


def reaped(aether):
    connection = UnixConnection(aether.control_socket)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return int(float(re.search(r"^aether_reaped_total (\S+)", text, re.M).group(1)))


def hook(code):
    return {"name": "check", "command": ["/bin/sh", "-c", f"exit {code}"]}


@pytest.mark.edge("F1", "F2")
def test_ten_thousand_orphans_in_storms_are_reaped_and_hooks_keep_their_exit_codes(start, tmp_path):
    command = program(tmp_path, "quiet.py", "import time; time.sleep(3600)")
    config = service(command, name="quiet", listen="none", soak="0s")
    storm = {"name": "storm", "command": program(tmp_path, "storm.py", STORM), "listen": "none"}
    config["services"] = [config.pop("service"), storm]
    aether = start(config, wait=False)
    eventually(lambda: aether.control_ready(), "the control socket answers")
    swaps = 0
    codes = [0, 7, 0, 99, 1]
    while "storm over" not in aether.cli("logs", "storm").stdout:
        code = codes[swaps % len(codes)]
        config["orchestration"] = {"soak_time": "0s", "pre_flight": [hook(code)]}
        aether.write_config(config)
        swap = aether.reload("quiet")
        if code == 0:
            assert swap["verdict"] == "succeeded", swap
        else:
            assert swap["verdict"] == "rolled-back" and f"exited with code {code}" in swap["why"], swap
        swaps += 1
    assert swaps >= 2
    over = time.monotonic()
    eventually(lambda: not zombies_of(aether.pid), "no zombie is left", patience=20)
    print(f"the last zombie was gone {time.monotonic() - over:.3f}s after the last storm, {swaps} swaps meanwhile")
    # Those of the last round end when they are given the processor.
    eventually(lambda: reaped(aether) >= ROUNDS * PER_ROUND, "every orphan has been reaped")
    assert aether.service("storm")["restarts"] == 0
    assert aether.service("quiet")["restarts"] == 0


@pytest.mark.edge("F1")
def test_an_orphan_with_the_number_of_a_former_main_process_is_an_orphan(tmp_path):
    # ns_last_pid gives a process of a PID namespace the number that is wanted.
    text = f"""
import os, sys, time
told = {str(tmp_path / "first")!r}
if os.environ["AETHER_REVISION"] == "1":
    open(told + ".new", "w").write(str(os.getpid()))
    os.rename(told + ".new", told)
    print("first is", os.getpid(), flush=True)
    time.sleep(3600)
wanted = int(open(told).read())
while os.path.exists(f"/proc/{{wanted}}"):
    time.sleep(0.01)
for _ in range(100):
    between = os.fork()
    if between == 0:
        open("/proc/sys/kernel/ns_last_pid", "w").write(str(wanted - 1))
        orphan = os.fork()
        if orphan == 0:
            while os.getppid() != 1: time.sleep(0.001)
            os._exit(9)
        os._exit(0 if orphan == wanted else 1)
    if os.waitpid(between, 0)[1] == 0: break
while os.path.exists(f"/proc/{{wanted}}"):
    time.sleep(0.01)
print("reused", wanted, flush=True)
time.sleep(3600)
"""
    config = service(program(tmp_path, "reuse.py", text), listen="none", soak="0s", stop_timeout="5s")
    aether = Aether(tmp_path / "a", config)
    aether.command = ["unshare", "-pf", "--kill-child", "--mount-proc", *aether.command]
    with aether:
        eventually((tmp_path / "first").exists, "the first one has told its number")
        swap = aether.reload()
        assert swap["verdict"] == "succeeded", swap
        eventually(lambda: "reused" in aether.cli("logs").stdout, "an orphan had the number and was reaped")
        status = aether.service()
        assert (status["state"], status["restarts"], status["pid"]) == ("RUNNING", 0, swap["pid"])
        os.kill(children_of(aether.pid)[0], 15)  # unshare would not pass it on
        assert aether.process.wait(60) == 0


@pytest.mark.edge("F6")
def test_without_being_pid_1_it_takes_orphans_as_a_subreaper_and_leaves_foreign_ones_alone(start, tmp_path):
    # A daemon of its own session whose parent ends: it is Aether's then, not that of the machine's init.
    text = f"""
import os, subprocess, sys, time
subprocess.run(["setsid", "-f", {PYTHON!r}, "-c", "import time; time.sleep(3600)", "left-behind"])
print("up", flush=True)
time.sleep(3600)
"""
    aether = start(service(program(tmp_path, "leaves.py", text), listen="none"))
    stranger = subprocess.Popen(["sleep", "3600"])
    try:
        # The command that made it has the same words, and is gone in a moment.
        is_ours = lambda pid: (stat(pid) or ["", "0"])[1] == str(aether.pid)
        others = lambda: [p for p in processes_with("left-behind") if p != aether.service()["pid"] and is_ours(p)]
        left = eventually(others, "it runs, and Aether is its parent")
        assert aether.stop() == 0
        assert stat(left[0]) is None
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
