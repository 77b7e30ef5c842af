# SPDX-License-Identifier: Apache-2.0
"""From nothing to many and back to nothing, and from one version to the next, while requests come."""

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from aether import PATIENCE, eventually
from under_load import LOAD
from test_function_life import HANDLER, config_of, eventually_hello, function, get


# Answers /wait when the test says so, with how many were inside at once.
GATED = HANDLER.replace(", HTTPServer", ", ThreadingHTTPServer as HTTPServer").replace(
    '        body = f"{WORD} {os.getpid()}".encode()\n',
    """        global inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        if self.path.startswith("/wait"):
            while not os.path.exists(os.environ["GATE"]): time.sleep(0.005)
        with lock:
            inside -= 1
        body = f"{WORD} {os.getpid()} {most}".encode()
""",
)
GATED = "import threading, time\nlock, inside, most = threading.Lock(), 0, 0\n" + GATED


def instances(aether, *states):
    return [one for one in aether.function()["instances"] if one["state"] in states]


def at_once(one, count, path="/"):
    with concurrent.futures.ThreadPoolExecutor(count) as clients:
        return list(clients.map(lambda _: get(one, path), range(count)))


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_a_burst_to_nothing_is_answered_whole(start, tmp_path, launch):
    one = function(tmp_path, launch=launch, max_instances=4)
    start(config_of(one, restore_timeout_ms=100))
    answers = at_once(one, 40)
    assert [status for status, _ in answers] == [200] * 40, answers


def test_requests_beyond_the_concurrency_of_one_get_instances_of_their_own(start, tmp_path):
    gate = tmp_path / "gate"
    one = function(tmp_path, GATED, concurrency=2, max_instances=3, environment={"GATE": str(gate)},
                   on_restore_failure="cold")
    aether = start(config_of(one))
    with concurrent.futures.ThreadPoolExecutor(6) as clients:
        waiting = [clients.submit(get, one, "/wait") for _ in range(6)]
        eventually(lambda: len(instances(aether, "warm")) == 3, "three instances serve six requests, two each")
        gate.touch()
        answers = [each.result() for each in waiting]
    assert [status for status, _ in answers] == [200] * 6, answers
    assert len({body.split()[1] for _, body in answers}) == 3, answers
    assert max(int(body.split()[2]) for _, body in answers) <= 2, answers


def is_at_rest(pid):
    """Whether no thread of a process can run: it sleeps, is stopped or is traced."""
    states = {Path(f"/proc/{pid}/task/{thread}/stat").read_text().rsplit(")", 1)[1].split()[0]
              for thread in os.listdir(f"/proc/{pid}/task")}
    return not states & {"R"}


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_without_requests_nothing_of_it_runs_and_the_next_one_is_answered(start, tmp_path, launch):
    one = function(tmp_path, launch=launch, idle_timeout="200ms", max_instances=3)
    aether = start(config_of(one))
    for _ in range(3):
        assert get(one)[0] == 200
        eventually(lambda: not instances(aether, "warm", "starting"), "nothing is warm any more")
        resting = [each["pid"] for each in aether.function()["instances"] if each["state"] in ("parked", "template")]
        assert resting, aether.function()
        # The kernel stops what is frozen at its next chance.
        eventually(lambda: all(is_at_rest(pid) for pid in resting), "nothing of it can run")


def test_the_least_number_stays_warm_and_is_made_whole_again(start, tmp_path):
    one = function(tmp_path, idle_timeout="200ms", min_instances=2, max_instances=3, on_restore_failure="cold")
    aether = start(config_of(one))
    eventually(lambda: len(instances(aether, "warm")) == 2, "two are warm before anybody asks")
    victim = instances(aether, "warm")[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    alive = lambda: [each["pid"] for each in instances(aether, "warm")]
    eventually(lambda: len(alive()) == 2 and victim not in alive(), "another one takes its place")
    assert get(one)[0] == 200


def test_a_handler_that_is_killed_under_a_request_is_a_502_and_the_next_request_is_served(start, tmp_path):
    gate = tmp_path / "gate"
    one = function(tmp_path, GATED, environment={"GATE": str(gate)}, on_restore_failure="cold")
    aether = start(config_of(one))
    with concurrent.futures.ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(get, one, "/wait")
        busy = eventually(lambda: [each for each in instances(aether, "warm") if each["in_flight"]], "it is asked")
        os.kill(busy[0]["pid"], signal.SIGKILL)
        status, told = waiting.result()
    assert status == 502 and "signal 9" in told, told
    assert eventually_hello(one)


class Load:
    """Requests at a steady rate for as long as it is open; what became of them is in `result`."""

    def __init__(self, one, rate=100):
        self.command = [LOAD, f"127.0.0.1:{one['trigger_port']}", "--rate", str(rate), "--seconds", "600",
                        "--clients", "4", "--timeout", str(int(PATIENCE))]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.result = json.loads(self.process.communicate(timeout=PATIENCE)[0])


def deploy(aether, tmp_path, one):
    file = tmp_path / "deploy.yaml"
    file.write_text(json.dumps(config_of(one)))
    return aether.cli("deploy", str(file), check=False)


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_versions_follow_each_other_under_load_and_nobody_is_refused(start, tmp_path, launch):
    one = function(tmp_path, launch=launch, on_restore_failure="cold")
    aether = start(config_of(one))
    eventually_hello(one)
    with Load(one) as load:
        for word in ("second", "third"):
            # A file of its own: who is spawned again after a rollback must find what it was.
            next_one = {**function(tmp_path, HANDLER.replace('"hello"', f'"{word}"'), word), "id": "f"}
            done = deploy(aether, tmp_path, {**one, "handler_path": next_one["handler_path"]})
            assert done.returncode == 0, done
            eventually_hello(one, word)
        assert aether.cli("rollback", "f").returncode == 0
        eventually_hello(one, "second")
    assert load.result["requests"] > 0 and load.result["failed"] == 0, load.result


def test_a_version_that_does_not_start_leaves_the_old_one_in_its_place(start, tmp_path):
    one = function(tmp_path, on_restore_failure="cold")
    aether = start(config_of(one))
    eventually_hello(one)
    with Load(one) as load:
        Path(one["handler_path"]).write_text('print("a bug", flush=True)\nraise SystemExit(7)\n')
        done = deploy(aether, tmp_path, one)
        assert done.returncode == 1 and "exited with code 7" in done.stdout + done.stderr, done
        assert get(one)[1].startswith("hello")
    assert load.result["requests"] > 0 and load.result["failed"] == 0, load.result


def test_a_connection_that_says_nothing_and_a_probe_wake_nothing(start, tmp_path):
    one = function(tmp_path, idle_timeout="200ms")
    aether = start(config_of(one))
    starts = lambda: sum(tier["count"] for tier in aether.function()["starts"].values())
    eventually(lambda: not instances(aether, "warm", "starting", "parking"), "it is at rest")
    before = starts()
    silent = [socket.create_connection(("127.0.0.1", one["trigger_port"])) for _ in range(5)]
    assert get(one, "/_/health")[0] in (200, 204)
    assert not instances(aether, "warm", "starting") and starts() == before
    for each in silent:
        each.close()


def test_a_function_that_parks_none_goes_to_nothing_and_is_made_anew_for_a_request(start, tmp_path):
    one = function(tmp_path, parked=0, idle_timeout="50ms", on_restore_failure="cold")
    aether = start(config_of(one))
    served = []
    for _ in range(3):
        eventually(lambda: not instances(aether, "starting", "warm", "parked", "draining", "ending"), "nothing runs")
        with urllib.request.urlopen(f"http://127.0.0.1:{one['trigger_port']}/", timeout=PATIENCE) as answer:
            served.append(answer.headers["X-Aether-Start"])
    # Cold: a busy machine may not make a copy in time.
    assert set(served) <= {"clone", "cold"}
    starts = aether.function()["starts"]
    assert {tier: sum(of["counts"]) for tier, of in starts.items()} == {tier: served.count(tier) for tier in served}
