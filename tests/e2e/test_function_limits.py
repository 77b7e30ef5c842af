# SPDX-License-Identifier: Apache-2.0
"""What a function may take, and what becomes of it beyond. The handler does what its path says (tests/handlers)."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import subprocess

import pytest

import handlers
from aether import PATIENCE, SANITIZED, Aether, eventually, free_port


def may_write(controller):
    """Why this test's Aether cannot hold a limit; None if it can."""
    places = [pathlib.Path("/sys/fs/cgroup") / controller, pathlib.Path("/sys/fs/cgroup")]
    names = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max"),
             "cpu": ("cpu.cfs_quota_us", "cpu.max")}[controller]
    for place in places:
        if os.access(place, os.W_OK) and any((place / name).exists() or place.name == controller for name in names):
            return None
    return f"needs a {controller} control group that the test may write to"


def needs(controller):
    why = may_write(controller)
    return pytest.mark.skipif(why is not None, reason=str(why))


def ask(port, path, timeout=PATIENCE):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def start(tmp_path):
    """Starts Aether with one function of tests/handlers/limits.py; returns it and the function's port."""
    running = []

    def begin(**more):
        port = free_port()
        path = handlers.build("limits", tmp_path / "handler")
        # One instance at a time: what happens to it is what is looked at.
        keys = {"max_instances": 1, "memory_limit_mb": 64, **more}
        # A busy machine may need longer than the default's 15 ms for a copy.
        settings = {"warm_pool_size": 1, "restore_timeout_ms": 100}
        keys.setdefault("on_restore_failure", "cold")
        config = {"orchestrator": settings, "functions": [handlers.function(path, port, **keys)],
                  "observability": {"metrics_port": "none"}}
        aether = Aether(tmp_path, config)
        running.append(aether)
        aether.__enter__()
        eventually(lambda: state(aether).get("state") == "RUNNING", f"it runs: {aether.text()}")
        return aether, port

    yield begin
    for aether in running:
        aether.__exit__(None, None, None)


def state(aether):
    return aether.ask("GET", "/v1/functions/fn")[1]


@needs("memory")
@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_too_much_memory_is_a_502_that_names_the_limit_and_the_next_request_is_served(start, launch):
    aether, port = start(launch=launch)
    assert ask(port, "/ok") == (200, "ok")
    status, body = ask(port, "/eat")
    assert status == 502, body
    told = json.loads(body)
    assert "64 MB" in told["message"] and told["function"] == "fn", told
    assert ask(port, "/ok") == (200, "ok")
    assert state(aether)["out_of_memory"] == 1


def test_a_crash_is_a_502_that_names_the_signal_and_is_no_lack_of_memory(start):
    aether, port = start()
    status, body = ask(port, "/die")
    assert status == 502 and "SEGV" in json.loads(body)["message"], body
    assert ask(port, "/ok") == (200, "ok")
    assert (state(aether)["out_of_memory"], state(aether)["crashes"]) == (0, 1)


@needs("pids")
def test_a_bomb_of_processes_is_contained_and_leaves_nothing(start):
    aether, port = start(processes=20)
    assert ask(port, "/bomb") == (200, "refused")
    bodies = subprocess.run(["pgrep", "-fc", str(aether.folder / "handler")], capture_output=True, text=True)
    assert 2 <= int(bodies.stdout) <= 45, "the original, the bomb's instance with its 20, and one ahead"
    aether.stop()
    left = subprocess.run(["pgrep", "-f", str(aether.folder / "handler")], capture_output=True, text=True)
    assert left.stdout == ""


@needs("cpu")
def test_a_share_of_the_processors_is_held(start):
    _, port = start(cpu=0.25)
    status, share = ask(port, "/spin")
    assert status == 200 and float(share) < 0.4


@pytest.mark.parametrize("level, refused", [("none", False), ("basic", True), ("strict", True)])
def test_the_sandbox_refuses_what_its_level_says(start, level, refused):
    aether, port = start(sandbox=level)
    status, text = ask(port, "/try")
    assert status == 200, aether.text()
    found = dict(word.split("=") for word in text.split())
    assert found["getppid"] == "0"
    if refused:
        assert (found["ptrace"], found["mount"], found["unshare"]) == ("1", "1", "1"), text
    # Its own file it may read, those of others not at strict.
    own = next(errno for path, errno in found.items() if path.endswith("limits.py"))
    assert own == "0"
    assert (found["/proc/1/status"] == "0") == (level != "strict")
    assert state(aether)["sandbox"] == level


def test_a_flood_of_output_fills_neither_aether_nor_the_handler(start):
    aether, port = start(timeout_ms=60000)

    def resident():
        return int(pathlib.Path(f"/proc/{aether.pid}/statm").read_text().split()[1]) * 4096

    ask(port, "/ok")
    before = resident()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        flood = pool.submit(ask, port, "/flood")
        highest = 0
        while not flood.done():
            highest = max(highest, resident())
            # Aether answers meanwhile.
            assert aether.ask("GET", "/v1/functions/fn")[0] == 200
        status, count = flood.result()
    assert status == 200
    assert int(count) > (1 << 20), "it was not held up"
    assert highest - before < (1024 if SANITIZED else 48) << 20
    assert ask(port, "/ok") == (200, "ok")


def test_a_handler_that_hangs_is_a_504_and_does_not_keep_its_place(start):
    _, port = start(timeout_ms=1500)
    assert ask(port, "/hang")[0] == 504
    answer = ask(port, "/ok")
    assert answer == (200, "ok"), answer
