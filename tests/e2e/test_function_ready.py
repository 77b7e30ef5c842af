# SPDX-License-Identifier: Apache-2.0
"""When a handler is ready: what it says, or answers, or only that it listens; and starts that fail."""

import concurrent.futures
import os
import re
import signal
import subprocess

import pytest

from aether import PATIENCE, eventually
from test_function_life import HANDLER, SAYS, config_of, eventually_hello, function, get

SILENT = HANDLER.replace(SAYS, "")
# /up is answered with 503 until there is the file GATE.
GATED = SILENT.replace(
    "        self.send_response(200)\n",
    '        shut = self.path == "/up" and not os.path.exists(os.environ["GATE"])\n'
    "        self.send_response(503 if shut else 200)\n",
)
assert GATED != SILENT
SECOND_THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(10000,), daemon=True).start()\n"


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_a_handler_that_says_nothing_is_ready_when_it_listens_if_that_is_enough(start, tmp_path, launch):
    one = function(tmp_path, SILENT, ready="port", launch=launch)
    aether = start(config_of(one))
    assert aether.function()["state"] == "RUNNING"
    assert aether.function()["launch"] == ("clone" if launch == "auto" else "spawn")
    assert get(one)[0] == 200


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_a_handler_that_is_asked_is_ready_when_its_answer_is_good(start, tmp_path, launch):
    gate = tmp_path / "gate"
    one = function(tmp_path, GATED, ready={"http": "/up"}, launch=launch, environment={"GATE": str(gate)})
    aether = start(config_of(one), wait=False)
    with concurrent.futures.ThreadPoolExecutor(1) as client:
        eventually(lambda: accepts(one), "the port is held")
        waiting = client.submit(get, one)
        eventually(lambda: aether.function()["requests"]["queued"] == 1, "the request waits")
        assert aether.function()["state"] == "STARTING"
        gate.touch()
        assert waiting.result(PATIENCE)[0] == 200
    assert aether.function()["launch"] == ("clone" if launch == "auto" else "spawn")


def accepts(one):
    try:
        return get(one, "/_/health")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize(
    ("source", "ready", "told"),
    [
        (SILENT, {"timeout": "3s"}, "said READY neither on AETHER_SOCKET nor on NOTIFY_SOCKET"),
        ("import time\ntime.sleep(1000)\n", {"when": "port", "timeout": "300ms"}, "it listens nowhere"),
        (GATED, {"http": "/up", "timeout": "3s"}, "GET /up was answered with 503"),
    ],
    ids=["notify", "port", "http"],
)
def test_a_handler_that_is_not_ready_in_time_is_told_with_what_was_missed(start, tmp_path, source, ready, told):
    one = function(tmp_path, source, ready=ready, environment={"GATE": "/nowhere"})
    aether = start(config_of(one))
    assert aether.function()["state"] == "FAILED"
    problem = aether.function()["problem"]
    assert "not-ready" in problem and told in problem, problem
    assert get(one)[0] == 503


def test_starts_that_fail_at_once_end_where_the_configuration_says(start, tmp_path):
    starts, broken = tmp_path / "starts", tmp_path / "broken"
    source = HANDLER.replace(SAYS, 'open(os.environ["STARTS"], "a").write("x")\n'
                             'if os.path.exists(os.environ["BROKEN"]): raise SystemExit(7)\n' + SAYS)
    one = function(tmp_path, source, launch="spawn", environment={"STARTS": str(starts), "BROKEN": str(broken)},
                   restart={"backoff": {"min": "20ms", "max": "40ms"}, "crash_loop": {"count": 3, "window": "60s"}})
    aether = start(config_of(one))
    eventually_hello(one)
    broken.touch()
    for instance in aether.function()["instances"]:
        os.kill(instance["pid"], signal.SIGKILL)
    eventually(lambda: "restart.crash_loop" in get(one)[1], "nothing is tried any more")
    tried = starts.stat().st_size
    assert {get(one)[0] for _ in range(50)} == {503}
    assert starts.stat().st_size == tried
    broken.unlink()
    assert aether.cli("deploy", str(aether.config)).returncode == 0
    eventually_hello(one)


def test_a_template_of_several_threads_that_is_killed_is_made_anew_without_a_request(start, tmp_path):
    one = function(tmp_path, HANDLER.replace(SAYS, SECOND_THREAD + SAYS))
    aether = start(config_of(one))
    told = aether.function()
    assert told["launch"] == "clone", told
    template = next(each["pid"] for each in told["instances"] if each["state"] == "template")
    os.kill(template, signal.SIGKILL)
    eventually(lambda: aether.function()["revision"] == 2, "it is made anew")
    assert aether.function()["launch"] == "clone"
    assert get(one)[0] == 200


def test_a_killed_template_of_several_threads_is_seen_while_others_stand_still(start, tmp_path):
    """Aether's reaper is shown a template that stands still in place of any thread that has ended, and no copy is
    asked for that would find it."""
    beside = function(tmp_path, name="beside", parked=0)
    one = function(tmp_path, HANDLER.replace(SAYS, SECOND_THREAD + SAYS), parked=0)
    aether = start(config_of(beside, one))
    template, = (each["pid"] for each in aether.function("f")["instances"])
    assert [each["state"] for each in aether.function("beside")["instances"]] == ["template"]
    os.kill(template, signal.SIGKILL)
    eventually(lambda: aether.function("f")["revision"] == 2, "it is made anew")
    assert get(one)[0] == 200


def test_a_copy_that_is_late_costs_time_and_no_request(start, tmp_path):
    """One millisecond is too short for each copy on a busy machine, and for some on an idle one."""
    one = function(tmp_path, max_instances=2)
    start(config_of(one, restore_timeout_ms=1, warm_pool_size=1))
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: get(one), range(40)))
    assert [status for status, _ in answers] == [200] * 40, answers


def groups_of(tag):
    found = subprocess.run(["find", "/sys/fs/cgroup", "-type", "d", "-name", f"aether-{tag}-*"], capture_output=True,
                           text=True, timeout=PATIENCE)
    return found.stdout.split()


def test_the_control_groups_of_a_killed_aether_are_removed_by_the_next(start, tmp_path):
    aether = start(config_of(function(tmp_path, launch="spawn")))
    pid = aether.function()["instances"][0]["pid"]
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as groups:
        own = re.search(r"aether-([0-9a-f]{8})-", groups.read())
    if own is None:
        pytest.skip("needs a cgroup v2 tree that Aether may write to")
    assert groups_of(own[1])
    aether.kill()
    assert groups_of(own[1]), "who is killed removes nothing"
    aether.start()
    assert groups_of(own[1]) == []
