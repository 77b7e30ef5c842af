# SPDX-License-Identifier: Apache-2.0
"""Handlers in every language, unchanged: they are copied, or served without, and answer in their sandbox."""

import http.client
import json

import pytest

import handlers
from aether import PATIENCE, Aether, eventually, free_port

COPIES = 4
# Those whose copies draw numbers of their own: with the hook, or because their runtime asks the kernel.
RENEWED = {"python", "threads", "asyncio", "node"}
# Those whose copies know their own process number (Java remembers the original's).
KNOW_THEIR_NUMBER = {"python", "threads", "asyncio", "node", "cpp", "rust", "go"}


def ask(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("X-Aether-Start")
    finally:
        connection.close()


def state(aether, name="fn"):
    return aether.ask("GET", f"/v1/functions/{name}")[1]


def warm(found):
    return [one for one in found["instances"] if one["state"] == "warm"]


def running(aether, instances=0):
    def found():
        now = state(aether)
        assert now.get("state") != "FAILED", now
        return now.get("state") == "RUNNING" and len(warm(now)) >= instances and now

    return eventually(found, f"it runs with {instances} instances: {state(aether)}; {aether.text()}")


def start(folder, name, **more):
    path = handlers.build(name, folder / "handler")
    # A busy machine may need longer than the default's 15 ms for a copy.
    return Aether(folder, {"orchestrator": {"restore_timeout_ms": 100},
                           "functions": [handlers.function(path, free_port(), **more)],
                           "observability": {"metrics_port": "none"}})


def port_of(aether):
    return state(aether)["trigger_port"]


@pytest.mark.parametrize("name", handlers.LANGUAGES)
def test_copies_of_a_handler_answer_as_themselves(tmp_path, name):
    with start(tmp_path, name, min_instances=COPIES) as aether:
        found = running(aether, COPIES)
        language = {"threads": "python", "asyncio": "python", "cpp": "c++"}.get(name, name)
        status, body, how = ask(port_of(aether))
        assert (status, json.loads(body)["language"]) == (200, language), aether.text()
        assert how in ("warm", "parked", "clone"), found
        assert found["launch"] == "clone", found["not_cloneable"]
        # Each instance by itself, on the port that only Aether knows.
        said = {one["pid"]: json.loads(ask(one["port"])[1]) for one in warm(found)}
        if name in KNOW_THEIR_NUMBER:
            assert {pid: answer["pid"] for pid, answer in said.items()} == {pid: pid for pid in said}
        drawn = [answer["random"] for answer in said.values()]
        if name in RENEWED:
            assert len(set(drawn)) == len(drawn), drawn
        if name == "node":
            assert len({answer["uuid"] for answer in said.values()}) == len(said)


@pytest.mark.parametrize("name", ["python", "node"])
def test_fifty_copies_of_a_handler_that_knows_nothing_draw_fifty_numbers(tmp_path, name):
    with start(tmp_path, name, min_instances=50, max_instances=50) as aether:
        found = running(aether, 50)
        assert {one["tier"] for one in warm(found)} == {"clone"}
        said = [json.loads(ask(one["port"])[1]) for one in warm(found)]
        for what in ("random", "uuid") if name == "node" else ("random",):
            drawn = [answer[what] for answer in said]
            assert len(set(drawn)) == len(drawn) >= 50, drawn


def test_copies_without_the_hook_draw_the_same_numbers_and_inspect_says_so(tmp_path):
    with start(tmp_path, "python", min_instances=3, environment={"AETHER_HOOKS": "off"}) as aether:
        found = running(aether, 3)
        drawn = {json.loads(ask(one["port"])[1])["random"] for one in warm(found)}
        assert len(drawn) == 1
        assert any("no reseeding hook" in note for note in found["notes"]), found["notes"]


@pytest.mark.parametrize("name", ["python", "threads", "asyncio"])
def test_python_runs_in_the_strict_sandbox(tmp_path, name):
    with start(tmp_path, name, min_instances=2, sandbox="strict") as aether:
        found = running(aether, 2)
        assert found["sandbox"] == "strict"
        assert ask(port_of(aether))[0] == 200
        drawn = [json.loads(ask(one["port"])[1])["random"] for one in warm(found)]
        assert len(set(drawn)) == len(drawn) >= 2
