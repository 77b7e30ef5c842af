# SPDX-License-Identifier: Apache-2.0
"""Reload after reload: no descriptor, memory, thread, timer, socket file, zombie or variable is left behind."""

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from aether import SANITIZED, eventually
from processes import children_of, environment, kibibytes, status, zombies_of
from programs import COUNTER, program
from swaps import Rig

SOAK = int(os.environ.get("AETHER_SOAK", "1"))
WARM_UP = 20
RELOADS = 60 * SOAK
# Of a megabyte in a thousand reloads a run of sixty may take its noise: pages that are touched for the first time.
GROWTH_KIB = 1024
SEED = int(os.environ.get("AETHER_SEED", "7"))


def sockets_in(rig):
    return sorted(path.name.rstrip("0123456789abcdef") for path in rig.aether.runtime.glob("*/*"))


def cgroups_of(rig):
    """Of this Aether, which has a name of its own in each, as in the serving process's; 0 without a v2 tree."""
    paths = Path(f"/proc/{rig.aether.service()['pid']}/cgroup").read_text().splitlines()
    own = [line.split("::")[1] for line in paths if line.startswith("0::")]
    if not own or "-web-" not in own[0]:
        return 0
    folder, name = own[0].rsplit("/", 1)
    for root in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if Path(root + own[0]).is_dir():
            return sum(entry.startswith(name.rsplit("-", 1)[0]) for entry in os.listdir(root + folder))
    return 0


def facts(rig):
    pid = rig.aether.pid
    return {
        "files": Counter(rig.settled_files()),
        "threads": int(status(pid)["Threads"]),
        "children": len(children_of(pid)),
        "zombies": zombies_of(pid),
        "socket files": len(sockets_in(rig)),
        "cgroups": cgroups_of(rig),
        "variables": len(environment(rig.aether.service()["pid"])),
        "maps": sum("memfd" in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines()),
    }


def as_before(rig, before):
    def same():
        now = facts(rig)
        return now == before or not print("now", now, "\nbefore", before)

    return same


def one_reload(rig, dice, number):
    """A reload as people make them: most succeed, some fail, some come together, some are taken back."""
    kind = dice.choice(["good", "good", "good", "hangup", "bad hook", "crash", "burst"])
    if kind == "good":
        assert rig.aether.reload()["verdict"] == "succeeded", number
    elif kind == "hangup":
        rig.aether.hangup()
        eventually(lambda: "SIGHUP" in rig.aether.text() and rig.phase() == "idle", "the swap is over")
    elif kind == "bad hook":
        rig.change(orchestration={"pre_flight": [{"name": "check", "command": ["/bin/false"]}]})
        assert rig.aether.reload()["verdict"] == "rolled-back", number
        rig.mend()
    elif kind == "crash":
        rig.script.write_text("raise SystemExit(3)")
        assert rig.aether.reload()["verdict"] == "rolled-back", number
        rig.mend()
    else:
        for _ in range(5):
            rig.aether.hangup()
            time.sleep(dice.uniform(0, 0.02))  # a spacing of the test's own, not a wait for anything
        eventually(lambda: rig.phase() == "idle", "the swaps are over")
    assert len(zombies_of(rig.aether.pid)) <= 1, "one that has just ended may wait for its turn"


@pytest.mark.edge("F9", "F15")
def test_many_reloads_of_every_kind_leave_nothing_behind(tmp_path):
    dice = random.Random(SEED)
    print("AETHER_SEED =", SEED)
    with Rig(tmp_path) as rig:
        for number in range(WARM_UP):
            one_reload(rig, dice, number)
        rig.mend()
        rig.calm()
        before, memory = facts(rig), kibibytes(rig.aether.pid)
        for number in range(RELOADS):
            one_reload(rig, dice, number)
        rig.mend()
        rig.calm()
        eventually(as_before(rig, before), "everything is as it was", patience=30)
        grown = kibibytes(rig.aether.pid) - memory
        print(f"{RELOADS} reloads: {grown} KiB more")
        assert grown < GROWTH_KIB or SANITIZED, grown


@pytest.mark.edge("F9")
def test_reloads_that_hand_over_memory_leave_no_memory_file_behind(tmp_path):
    with Rig(tmp_path, handoff={"mechanism": "pipe", "timeout": "5s"}) as rig:
        rig.good_config["orchestration"]["state_handoff"] = True
        rig.good_config["service"]["command"] = program(tmp_path, "agent.py", COUNTER)
        rig.aether.write_config(rig.good_config)
        for _ in range(5):
            assert rig.aether.reload()["verdict"] == "succeeded"
        rig.calm()
        before, memory = facts(rig), kibibytes(rig.aether.pid)
        for _ in range(15 * SOAK):
            assert rig.aether.reload()["verdict"] == "succeeded"
        rig.calm()
        eventually(as_before(rig, before), "everything is as it was", patience=30)
        assert kibibytes(rig.aether.pid) - memory < GROWTH_KIB or SANITIZED
