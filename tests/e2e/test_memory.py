# SPDX-License-Identifier: Apache-2.0
"""Memory over swaps: nothing forgotten, nothing applied twice, whoever fails and whenever."""

import http.client
import threading

import pytest

from aether import eventually
from programs import COUNTER, program, service


def counter_config(command, mechanism="pipe", soak="0s", **orchestration):
    config = service(command, name="counter", listen=["127.0.0.1:0"])
    config["orchestration"] = {"soak_time": soak, "state_handoff": True, **orchestration}
    config["handoff"] = {"mechanism": mechanism, "timeout": "20s"}
    return config


class Clients:
    """Threads that send updates with ids of their own, and remember which were acknowledged."""

    def __init__(self, port, keep_alive, threads=4):
        self.port = port
        self.keep_alive = keep_alive
        self.stop = threading.Event()
        self.acknowledged = [[] for _ in range(threads)]
        self.failures = []
        self.threads = [threading.Thread(target=self.work, args=(n,)) for n in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def work(self, number):
        connection = None
        count = 0
        while not self.stop.is_set():
            update = f"{number}-{count}"
            count += 1
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("POST", f"/add/{update}")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise http.client.HTTPException(f"status {answer.status}")
                self.acknowledged[number].append(update)
                if not self.keep_alive or answer.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{update}: {error!r}")
                connection = None

    def updates(self):
        return {update for each in self.acknowledged for update in each}


def memory_of(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/memory")
    import json

    return json.loads(connection.getresponse().read())


def port_of(aether):
    return int(aether.service()["listeners"][0]["address"].rpartition(":")[2])


@pytest.mark.edge("E6")
@pytest.mark.parametrize("keep_alive", [False, True], ids=["new connections", "keep-alive"])
@pytest.mark.parametrize("mechanism", ["pipe", "shm"])
def test_over_many_swaps_under_load_no_update_is_lost_or_applied_twice(start, tmp_path, mechanism, keep_alive):
    swaps = 25  # Four times: 100 swaps.
    aether = start(counter_config(program(tmp_path, "counter.py", COUNTER), mechanism))
    port = port_of(aether)
    with Clients(port, keep_alive) as clients:
        for _ in range(swaps):
            swap = aether.reload()
            assert isinstance(swap, dict) and swap["verdict"] == "succeeded", swap
            assert swap["blackout_ms"] is not None and swap["handoff"]["mechanism"] == mechanism
    assert not clients.failures
    memory = memory_of(port)
    assert set(memory["seen"]) == clients.updates()
    assert set(memory["seen"].values()) == {1}
    assert len(set(memory["pids"])) == swaps + 1
    assert len(clients.updates()) > swaps


def test_a_new_revision_that_dies_with_the_memory_leaves_the_old_one_with_its_own(start, tmp_path):
    command = program(tmp_path, "counter.py", COUNTER)
    aether = start(counter_config(command, soak="30s"))
    port = port_of(aether)
    with Clients(port, keep_alive=False, threads=1) as clients:
        eventually(lambda: len(clients.updates()) > 20, "some updates are in")
    before = aether.service()["pid"]
    dying = COUNTER.replace('memory.setdefault("seen", {})', "os._exit(7)")
    program(tmp_path, "counter.py", dying)
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "exited with code 7" in swap["why"], swap
    assert aether.service()["pid"] == before
    assert set(memory_of(port)["seen"]) == clients.updates()


@pytest.mark.edge("E5")
def test_a_rollback_in_the_soak_brings_the_memory_back_with_what_was_added(start, tmp_path):
    command = program(tmp_path, "counter.py", COUNTER)
    aether = start(counter_config(command, soak="1h"))
    port = port_of(aether)
    before = aether.service()["pid"]
    code, _ = aether.ask("POST", "/v1/reload", {})
    assert code == 202
    eventually(lambda: aether.service()["phase"] == "soaking", "the new one soaks")
    with Clients(port, keep_alive=False, threads=2) as clients:
        eventually(lambda: len(clients.updates()) > 50, "updates are in the new one")
        done = aether.cli("rollback", "-o", "json")
        assert done.returncode == 0, done.stderr
        so_far = len(clients.updates())
        eventually(lambda: len(clients.updates()) > so_far + 50, "the old one goes on counting")
    assert aether.service()["pid"] == before
    assert not clients.failures
    memory = memory_of(port)
    assert set(memory["seen"]) == clients.updates()
    assert set(memory["seen"].values()) == {1}


def test_a_new_revision_that_forgets_to_ask_for_the_memory_is_rolled_back(start, tmp_path):
    command = program(tmp_path, "counter.py", COUNTER)
    aether = start(counter_config(command))
    before = aether.service()["pid"]
    forgetful = COUNTER.replace("memory = client.load_context()", "memory = {}")
    program(tmp_path, "counter.py", forgetful)
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "without asking for the memory" in swap["why"], swap
    assert aether.service()["pid"] == before


def test_an_export_that_raises_rolls_back_and_the_old_one_works_on(start, tmp_path):
    raising = COUNTER.replace(
        "class Handler", '@client.on_handoff\ndef export():\n    raise RuntimeError("not today")\nclass Handler'
    )
    aether = start(counter_config(program(tmp_path, "counter.py", raising)))
    port = port_of(aether)
    before = aether.service()["pid"]
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "not today" in swap["why"], swap
    assert aether.service()["pid"] == before
    with Clients(port, keep_alive=False, threads=1) as clients:
        eventually(lambda: len(clients.updates()) > 10, "it takes updates again")
    assert not clients.failures


def test_an_export_that_hangs_is_given_up_at_handoff_timeout(start, tmp_path):
    hanging = COUNTER.replace(
        "class Handler",
        '@client.on_handoff\ndef export():\n    import time\n    time.sleep(3600)\nclass Handler',
    )
    config = counter_config(program(tmp_path, "counter.py", hanging))
    config["handoff"]["timeout"] = "1s"
    aether = start(config)
    before = aether.service()["pid"]
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back", swap
    assert aether.service()["pid"] == before


def test_with_on_handoff_failure_continue_the_new_one_starts_without_memory(start, tmp_path):
    raising = COUNTER.replace(
        "class Handler", '@client.on_handoff\ndef export():\n    raise RuntimeError("lost")\nclass Handler'
    )
    config = counter_config(program(tmp_path, "counter.py", raising))
    config["orchestration"]["state_handoff"] = {"enabled": True, "on_handoff_failure": "continue"}
    aether = start(config)
    swap = aether.reload()
    assert swap["verdict"] == "succeeded", swap
    assert len(memory_of(port_of(aether))["pids"]) == 1


def test_a_program_that_sends_garbage_harms_only_its_own_handoff(start, tmp_path):
    garbage = """
import os, socket, time
s = socket.socket(socket.AF_UNIX); s.connect(os.environ["AETERNA_STATE_SOCK"])
s.sendall(os.urandom(65536))
listener = socket.socket(fileno=3)
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    connection.close()
"""
    command = program(tmp_path, "garbage.py", garbage)
    aether = start(counter_config(command))
    for _ in range(3):
        swap = aether.reload()
        assert swap["verdict"] == "succeeded", swap
    connection = http.client.HTTPConnection("127.0.0.1", port_of(aether), timeout=60)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200


def test_fifty_kilobytes_and_a_hundred_megabytes_arrive_whole(start, tmp_path):
    text = """
import hashlib, os, sys, time
from aeterna import AeternaClient
client = AeternaClient()
size = int(os.environ["SIZE"])
memory = client.load_context()
if not memory:
    memory = bytearray(os.urandom(1024) * (size // 1024))
    client.save_context(memory)
print("sum", len(memory), hashlib.sha256(memory).hexdigest(), flush=True)
client.get_listener_socket()
client.ready()
time.sleep(3600)
"""
    for name, mechanism, size in (("small", "pipe", 50 * 1024), ("large", "shm", 100 * 1024 * 1024)):
        config = counter_config(program(tmp_path / name, "holder.py", text), mechanism)
        config["service"]["env"] = {"SIZE": str(size)}
        config["service"]["ready"] = "notify"
        aether = start(config)
        assert aether.reload()["handoff"]["bytes"] == size
        assert aether.reload()["handoff"]["bytes"] == size
        said = lambda: [line.split("sum ")[1] for line in aether.cli("logs").stdout.splitlines() if "sum " in line]
        eventually(lambda: len(said()) == 3, "each revision told what it holds")
        assert len(set(said())) == 1
