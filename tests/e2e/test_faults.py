# SPDX-License-Identifier: Apache-2.0
"""Every fault point of Aether: an I/O error there costs a swap at most; a kill there costs Aether's
life at most, and the next Aether starts over what is left."""

import http.client
import json
import re
import signal
from pathlib import Path

import pytest

from aether import Aether, eventually, free_port
from programs import COUNTER, program, service

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "src/base/fault_points.def").read_text()
# Those of copies, rings, BPF and durable work are met by their own tests: a swap of this service does not pass them.
POINTS = [point for point in re.findall(r'^AETHER_FAULT_POINT\(\w+, "([^"]+)"', TABLE, re.M)
          if not point.startswith(("clone.", "journal.", "tools.", "jobs.", "work.", "ring.",
                                   "steer.bpf", "steer.lookup", "steer.bind", "steer.xdp"))]

# How often a point is passed before the first swap begins, so that the fault meets the swap.
BEFORE_THE_SWAP = {"spawn.before-fork": 1, "swap.launch": 1, "listener.open": 0}


def config_of(tmp_path, port):
    config = service(program(tmp_path, "counter.py", COUNTER), name="counter", listen=[f"127.0.0.1:{port}"])
    config["orchestration"] = {"soak_time": "50ms", "state_handoff": True, "drain": {"timeout": "2s"}}
    config["handoff"] = {"mechanism": "pipe", "timeout": "3s"}
    return config


def ask(port, method="GET", path="/memory"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    assert answer.status == 200
    return json.loads(answer.read())


def succeeded(aether):
    swap = aether.reload()
    return swap if swap["verdict"] == "succeeded" else None


def serving_or_gone(aether):
    """A point may be passed already by the conversation of the first revision."""
    try:
        return aether.serving()
    except AssertionError:
        return aether.process.poll() is not None


def bad_revision(tmp_path):
    """What `counter.py` becomes for a swap that must be taken back."""
    program(tmp_path, "counter.py", COUNTER.replace('memory.setdefault("seen", {})', "os._exit(3)"))


def test_the_points_are_known():
    assert len(POINTS) >= 10


@pytest.mark.parametrize("point", [p for p in POINTS if p != "listener.open"])
def test_an_io_error_costs_a_swap_at_most(start, tmp_path, point):
    port = free_port()
    fault = f"{point}:{BEFORE_THE_SWAP.get(point, 0) + 1}:eio"
    aether = start(config_of(tmp_path, port), env={"AETHER_FAULT": fault})
    ask(port, "POST", "/add/before")
    if point == "swap.rollback":
        bad_revision(tmp_path)
    first = aether.reload()
    assert first["verdict"] in ("succeeded", "rolled-back"), first
    assert "before" in ask(port)["seen"], "the memory is whole"
    program(tmp_path, "counter.py", COUNTER)
    # An SDK whose conversation was cut connects again by itself, a moment later.
    second = eventually(lambda: succeeded(aether), "a later swap succeeds")
    assert ask(port, "POST", "/add/after")["pid"] == second["pid"]
    assert ask(port)["seen"] == {"before": 1, "after": 1}
    # The fault was met: a swap was lost by it, or the log tells of it.
    assert first["verdict"] == "rolled-back" or point in aether.text(), aether.text()


def test_an_io_error_at_the_first_listener_is_a_refusal_to_start(tmp_path):
    config = config_of(tmp_path, free_port())
    aether = Aether(tmp_path / "a", config, env={"AETHER_FAULT": "listener.open:1:eio"}).start(wait=False)
    assert aether.process.wait(60) == 1
    assert "listener.open" in aether.text()
    aether.stop()


@pytest.mark.edge("H6")
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_aether_is_followed_by_one_that_starts_over_its_debris(tmp_path, point):
    port = free_port()
    config = config_of(tmp_path, port)
    fault = f"{point}:{BEFORE_THE_SWAP.get(point, 0) + 1}:kill"
    first = Aether(tmp_path / "a", config, env={"AETHER_FAULT": fault}).start(wait=False)
    try:
        if point != "listener.open":
            eventually(lambda: serving_or_gone(first), "it serves")
            if point == "swap.rollback":
                bad_revision(tmp_path)
            with pytest.raises((OSError, http.client.HTTPException)):
                # Some points come after the verdict.
                first.reload()
                first.process.wait(10)
                first.status()
        assert first.process.wait(60) == -signal.SIGKILL
        program(tmp_path, "counter.py", COUNTER)
        first.env.pop("AETHER_FAULT")
        first.start()
        assert ask(port, "POST", "/add/again")["update"] == "again"
        assert first.reload()["verdict"] == "succeeded"
    finally:
        first.stop()
