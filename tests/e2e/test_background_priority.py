# SPDX-License-Identifier: Apache-2.0
"""A revision that starts beside a serving one, or ends beside it, gives way to it on the processor."""

import os
import threading
from pathlib import Path

import pytest

from aether import eventually, free_port
from programs import ASYNCIO, program, service

# Starts only when the test says so, and has a thread by then, which must get back what was taken too.
GATED = """
import os, sys, threading, time
threading.Thread(target=threading.Event().wait, daemon=True).start()
while not os.path.exists(sys.argv[1]): time.sleep(0.005)
""" + ASYNCIO


def standing(pid):
    """What decides how each thread of a process competes: its policy, its autogroup, its control group."""
    group = Path(f"/proc/{pid}/autogroup")
    nice_of_group = group.read_text().split()[-1] if group.exists() else "none"
    threads = [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
    policies = {(os.getpriority(os.PRIO_PROCESS, thread), os.sched_getscheduler(thread)) for thread in threads}
    return nice_of_group, policies, is_idle(pid)


def is_idle(pid):
    """Whether the control group of a process runs only when nobody else wants to; None: it has no such switch."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        mount = {"": "/sys/fs/cgroup/unified", "cpu": "/sys/fs/cgroup/cpu"}.get(controllers)
        for folder in {mount, "/sys/fs/cgroup"} if controllers == "" else {mount}:
            switch = Path(f"{folder}{path}/cpu.idle")
            if folder and switch.exists():
                return switch.read_text().strip() == "1"
    return None


def starting(aether):
    """The pid of the revision that is being made ready; 0: none."""
    pids = [one["pid"] for one in aether.service()["instances"] if one["pid"] != aether.service()["pid"]]
    return pids[0] if pids else 0


@pytest.mark.parametrize("priority", ["low", "normal"])
def test_a_start_gives_way_until_it_is_ready_and_then_has_what_the_old_one_had(start, tmp_path, priority):
    gate = tmp_path / "go"
    gate.touch()
    command = [*program(tmp_path / "program", "server.py", GATED), str(gate)]
    config = service(command, listen=[f"127.0.0.1:{free_port()}"], soak="0s")
    config["orchestration"]["startup"] = {"priority": priority}
    aether = start(config)
    old = aether.service()["pid"]
    usual = standing(old)
    gate.unlink()
    verdicts = []
    swap = threading.Thread(target=lambda: verdicts.append(aether.reload()))
    swap.start()
    new = eventually(lambda: starting(aether), "the new one starts")
    eventually(lambda: len(standing(new)[1]) and len(list(Path(f"/proc/{new}/task").iterdir())) > 1, "it has a thread")
    # A v1 group is joined a moment after the start, when the kernel lets it.
    if priority == "low" and is_idle(old) is not None:
        eventually(lambda: is_idle(new) or "gave way" in aether.text(), "it runs when nobody else wants to")
    meanwhile = standing(new)
    assert standing(old) == usual, "the serving one is left alone"
    gate.touch()
    swap.join()
    assert verdicts[0]["verdict"] == "succeeded" and verdicts[0]["pid"] == new, verdicts
    if priority == "normal":
        assert meanwhile == usual == standing(new)
    elif "gave way to the serving one for long enough" not in aether.text():  # else the machine is too busy to see it
        if os.geteuid() == 0:
            assert meanwhile[1] == {(0, os.SCHED_IDLE)}, meanwhile
        if usual[0] != "none":
            assert meanwhile[0] == "19", meanwhile
    # The kernel takes a change of an autogroup from an unprivileged process only every 100 ms.
    eventually(lambda: standing(new) == usual, f"{standing(new)} becomes {usual} again")


SERVER_CLOSED = "    server.close()\n"
STUBBORN = ASYNCIO.replace(SERVER_CLOSED, SERVER_CLOSED + "    while os.path.exists(__file__ + '.wait'): pass\n")


def test_a_revision_that_ends_gives_way_to_the_one_that_serves(start, tmp_path):
    command = program(tmp_path / "program", "server.py", STUBBORN)
    wait = tmp_path / "program" / "server.py.wait"
    wait.touch()
    aether = start(service(command, listen=[f"127.0.0.1:{free_port()}"], soak="0s", stop_timeout="60s"))
    old = aether.service()["pid"]
    usual = standing(old)
    assert aether.reload()["verdict"] == "succeeded"
    if os.geteuid() == 0:
        eventually(lambda: standing(old) != usual or "gave way" in aether.text(), "the old one gives way while it ends")
    new = aether.service()["pid"]
    eventually(lambda: standing(new) == usual, "the new one has what the old one had")
    wait.unlink()
    eventually(lambda: not Path(f"/proc/{old}").exists(), "the old one has ended")
