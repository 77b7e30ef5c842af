# SPDX-License-Identifier: Apache-2.0
"""Beyond memory_limit_mb, wherever it happens: who asks is told the limit, and the next one is served."""

import concurrent.futures
import json
import pathlib

import pytest

from aether import eventually
from test_function_life import HANDLER, config_of, function, get
from test_function_limits import needs

LIMIT = 64
EATS = """
def eat():
    hoard = []
    while True:
        hoard.append(b"x" * (8 << 20))
"""
# Eats when two are inside.
GREEDY = "import threading, time\ninside = threading.Semaphore(0)\n" + EATS + HANDLER.replace(
    ", HTTPServer", ", ThreadingHTTPServer as HTTPServer").replace(
    "    def do_GET(self):\n", """    def do_GET(self):
        if self.path == "/wait":
            inside.release()
            time.sleep(1000)
        if self.path == "/eat":
            inside.acquire()
            eat()
""")


def one_of(folder, source, **keys):
    # One instance at a time: what happens to it is what is looked at.
    keys = {"max_instances": 1, "on_restore_failure": "cold", **keys}
    return {**function(folder, source, **keys), "memory_limit_mb": LIMIT}


@needs("memory")
@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_everyone_with_an_instance_at_its_limit_is_told_the_limit(start, tmp_path, launch):
    one = one_of(tmp_path, GREEDY, concurrency=4, launch=launch, timeout_ms=600000)
    aether = start(config_of(one, warm_pool_size=1))
    with concurrent.futures.ThreadPoolExecutor(3) as clients:
        waiting = [clients.submit(get, one, path) for path in ("/wait", "/wait")]
        eventually(lambda: aether.function()["requests"]["in_flight"] == 2, "two wait in it")
        answers = [clients.submit(get, one, "/eat").result(), *(each.result() for each in waiting)]
    for status, body in answers:
        assert status == 502, body
        told = json.loads(body)
        assert told["code"] == "out_of_memory" and f"{LIMIT} MB" in told["message"], told
    eventually(lambda: get(one)[0] == 200, "the next one is served")
    assert aether.function()["out_of_memory"] == 1
    assert aether.function()["requests"]["refusals"]["out_of_memory"] == 3


@needs("memory")
@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_a_handler_that_needs_more_before_it_is_ready_is_a_503_that_names_the_limit(start, tmp_path, launch):
    one = one_of(tmp_path, EATS + "eat()\n" + HANDLER, launch=launch)
    aether = start(config_of(one))
    told = eventually(lambda: aether.function()["problem"], "it is told")
    assert f"{LIMIT} MB" in told, told
    status, body = get(one)
    assert status == 503 and f"{LIMIT} MB" in json.loads(body)["message"], body


@needs("memory")
def test_a_copy_that_needs_more_is_told_and_the_original_lives_on(start, tmp_path):
    one = one_of(tmp_path, EATS + HANDLER.replace("    def do_GET(self):\n", """    def do_GET(self):
        if self.path == "/eat":
            eat()
"""))
    aether = start(config_of(one))
    template = next(each["pid"] for each in aether.function()["instances"] if each["state"] == "template")
    for turn in range(3):
        status, body = get(one, "/eat")
        assert status == 502 and f"{LIMIT} MB" in json.loads(body)["message"], (turn, body)
        eventually(lambda: get(one)[0] == 200, "the next one is served")
    assert pathlib.Path(f"/proc/{template}").exists()
    assert aether.function()["out_of_memory"] == 3
    assert aether.function()["revision"] == 1
