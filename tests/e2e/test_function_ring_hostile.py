# SPDX-License-Identifier: Apache-2.0
"""What a handler with `ipc: ring` writes is not believed: nonsense costs it its life, and Aether nothing."""

import concurrent.futures
import json
import urllib.request

import pytest

import handlers
from aether import PATIENCE, Aether, eventually, free_port
from test_function_ring import ask, start

WRONG = {"message": "message", "call": "message", "crc": "checksum", "sequence": "sequence", "length": "record"}


@pytest.mark.parametrize("how", WRONG)
def test_nonsense_in_the_ring_is_a_502_and_the_instance_is_replaced(tmp_path, how):
    with start(tmp_path, max_instances=2, concurrency=2, environment={"THREADS": "2"}) as aether:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            other = pool.submit(ask, aether, "/slow?60")
            eventually(lambda: aether.function()["requests"]["in_flight"] == 1, "one is under way beside it")
            pid = aether.pid
            status, body, _ = ask(aether, f"/poison?{how}")
            assert status == 502 and json.loads(body)["code"] == "ring_poisoned", body
            assert other.result()[0] == 502, "the other request of that instance ends too"
        status, body, _ = ask(aether, "/x")
        assert (status, body) == (200, b"hello from python /x")
        assert aether.pid == pid and aether.process.poll() is None


def test_poisoned_rings_are_counted(tmp_path):
    port = free_port()
    with start(tmp_path, max_instances=2, metrics_port=port, environment={"THREADS": "2"}) as aether:
        assert ask(aether, "/poison?crc")[0] == 502

        def page():
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE).read().decode()

        eventually(lambda: 'aether_shm_crc_errors_total{function="fn"} 1' in page(), "it is counted")
        assert 'aether_shm_poisoned_total{function="fn",reason="checksum"} 1' in page()


def test_a_position_that_cannot_be_is_found_when_the_ring_is_full(tmp_path):
    with start(tmp_path, settings={"shm_buffer_size": 65536}, max_instances=2, concurrency=4,
               environment={"THREADS": "4"}, timeout_ms=2000) as aether:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            poisoned = pool.submit(ask, aether, "/poison?head")
            bodies = [pool.submit(ask, aether, "/sum", b"x" * 60000) for _ in range(3)]
            assert poisoned.result()[0] in (502, 504)
            assert all(one.result()[0] in (200, 502, 504) for one in bodies)
        assert eventually(lambda: ask(aether, "/x")[0] == 200, "another one answers")


def test_a_handler_that_says_ready_and_takes_no_ring_is_told_so(tmp_path):
    handler = tmp_path / "says.py"
    handler.write_text("import aetherless, time\naetherless.ready()\ntime.sleep(1000)\n")
    one = handlers.function(handler, free_port(), ipc="ring", ready={"timeout": "1s"})
    with Aether(tmp_path, {"functions": [one], "observability": {"metrics_port": "none"}}) as aether:
        assert aether.function()["state"] == "FAILED"
        assert "has not attached the ring" in aether.function()["problem"]
