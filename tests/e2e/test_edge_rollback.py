# SPDX-License-Identifier: Apache-2.0
"""Death at any moment of a swap: who serves then, how soon, and what becomes of those who wait."""

import http.client
import os
import random
import signal
import socket
import statistics
import time

import pytest
from aether import PATIENCE, SANITIZED, eventually, free_port
from own_network import in_own_network
from programs import ASYNCIO, program, service

SOAK = int(os.environ.get("AETHER_SOAK", "1"))


GATED = "import os, time\nwhile not os.path.exists(%r): time.sleep(0.01)\n" + ASYNCIO.replace("%", "%%")


def config(tmp_path, port, soak, **more):
    command = program(tmp_path, "server.py", ASYNCIO)
    return service(command, listen=f"127.0.0.1:{port}", soak=soak, **more)


def answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return int(connection.getresponse().read())
    finally:
        connection.close()


def begin(aether):
    code, answer = aether.ask("POST", "/v1/services/web/reload", {})
    assert code in (200, 202), answer
    return answer["swaps"][0]["swap"]


def until(aether, phase):
    eventually(lambda: aether.service()["phase"] == phase, f"phase {phase}")


def verdict(aether):
    def told():
        swap = aether.service()["last_swap"]
        return swap["verdict"] != "running" and swap

    return eventually(told, "the swap has its verdict")


class Waiting:
    """Clients that have sent their request to a server that does not accept at the moment."""

    def __init__(self, port, count=50):
        self.clients = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            self.clients.append(client)

    def answers(self):
        """The pids that answered; a reset or an empty answer fails the test."""
        pids = []
        for client in self.clients:
            whole = b""
            while chunk := client.recv(65536):
                whole += chunk
            client.close()
            assert whole.startswith(b"HTTP/1.1 200"), whole
            pids.append(int(whole.rpartition(b"\r\n\r\n")[2]))
        return set(pids)


@pytest.mark.edge("A4")
@pytest.mark.parametrize("migrate", [0, 1], ids=["without tcp_migrate_req", "with tcp_migrate_req"])
def test_those_who_wait_for_a_new_revision_that_dies_are_answered_by_the_old_one(start, tmp_path, migrate):
    def body():
        port = free_port()
        aether = start(config(tmp_path, port, soak="5m"))
        assert aether.status()["tcp_migrate_req"] is bool(migrate)
        old = aether.service()["pid"]
        begin(aether)
        until(aether, "soaking")
        new = aether.service()["pid"]
        os.kill(new, signal.SIGSTOP)
        waiting = Waiting(port)
        os.kill(new, signal.SIGKILL)
        swap = verdict(aether)
        assert swap["verdict"] == "rolled-back" and "SIGKILL" in swap["why"], swap
        assert swap["serving_revision"] == 1
        assert waiting.answers() == {old}
        assert answers(port) == old

    in_own_network(body, tcp_migrate_req=migrate)


@pytest.mark.edge("A3", "F12")
@pytest.mark.parametrize("migrate", [0, 1], ids=["without tcp_migrate_req", "with tcp_migrate_req"])
def test_those_who_wait_for_an_old_revision_that_dies_are_answered_by_the_new_one(start, tmp_path, migrate):
    def body():
        port = free_port()
        aether = start(config(tmp_path, port, soak="5m"))
        old = aether.service()["pid"]
        os.kill(old, signal.SIGSTOP)
        waiting = Waiting(port)
        begin(aether)
        until(aether, "soaking")
        os.kill(old, signal.SIGKILL)
        swap = verdict(aether)
        assert swap["verdict"] == "succeeded", swap
        assert "before its soak was over" in swap["why"] and "SIGKILL" in swap["why"], swap
        assert waiting.answers() == {swap["pid"]}
        assert aether.service()["pid"] == swap["pid"] == answers(port)

    in_own_network(body, tcp_migrate_req=migrate)


@pytest.mark.edge("F12")
def test_a_new_revision_is_promoted_when_the_old_one_dies_before_the_new_one_is_ready(start, tmp_path):
    port = free_port()
    made = config(tmp_path, port, soak="300ms")
    aether = start(made)
    old = aether.service()["pid"]
    gate = tmp_path / "gate"
    (tmp_path / "server.py").write_text(GATED % str(gate))
    begin(aether)
    until(aether, "launching")
    os.kill(old, signal.SIGKILL)
    eventually(lambda: len(aether.service()["instances"]) == 1, "the old one is gone")
    waiting = Waiting(port, 10)
    gate.touch()
    swap = verdict(aether)
    assert swap["verdict"] == "succeeded", swap
    assert waiting.answers() == {swap["pid"]}


@pytest.mark.edge("B3")
def test_a_new_revision_killed_at_any_moment_is_out_of_the_way_within_milliseconds(start, tmp_path):
    """A sweep over the time of the kill: from before the exec on, and from the cutover to after the soak."""
    port = free_port()
    aether = start(config(tmp_path, port, soak="500ms"))
    chance = random.Random(7)
    took = []
    for step in range(12 * SOAK):
        old = aether.service()["pid"]
        begin(aether)
        new = eventually(lambda: others(aether, old), "the new process is there")
        if step % 2:
            eventually(lambda: aether.service()["pid"] == new, "new connections go to it")
        time.sleep(chance.uniform(0, 0.6))
        kill(new)
        swap = verdict(aether)
        if swap["verdict"] == "rolled-back":
            assert swap["serving_revision"] == swap["from_revision"], swap
            assert answers(port) == old
        if swap["rollback_ms"] is not None:
            took.append(swap["rollback_ms"])
        eventually(lambda: aether.service()["state"] == "RUNNING" and answers(port), "somebody serves")
    assert took, "no kill met the soak"
    print(f"steered back within {min(took):.2f} to {max(took):.2f} ms, median {statistics.median(took):.2f} ms")
    assert min(took) < (50 if SANITIZED else 5), took
    assert statistics.median(took) < 200, took


def others(aether, old):
    for one in aether.service()["instances"]:
        if one["pid"] != old and one["state"] != "draining":
            return one["pid"]
    return 0


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # It had its verdict, and was replaced.


@pytest.mark.edge("B18", "B19")
def test_a_crash_loop_ends_in_a_message_and_a_reload_is_a_plain_start(start, tmp_path):
    port = free_port()
    again = {"policy": "always", "crash_loop": {"count": 3, "window": "1m"}, "backoff": {"min": "10ms", "max": "50ms"}}
    aether = start(config(tmp_path, port, soak="0s", restart=again))
    (tmp_path / "server.py").write_text("raise SystemExit(3)")
    os.kill(aether.service()["pid"], signal.SIGKILL)
    eventually(lambda: "crash loop" in str(aether.service()["problem"]), "the loop is noticed")
    assert aether.service()["state"] == "FAILED" and aether.process.poll() is None
    done = aether.cli("reload")
    assert done.returncode == 1 and "and nothing serves now" in done.stdout, done.stdout + done.stderr
    assert "code 3" in done.stdout
    eventually(lambda: given_up(aether), "the last attempt has ended")
    (tmp_path / "server.py").write_text(ASYNCIO)
    swap = aether.reload()
    assert swap["verdict"] == "succeeded" and swap["old_pid"] is None, swap
    assert answers(port) == swap["pid"]
    assert aether.service()["problem"] is None


def given_up(aether):
    """No instance, and none is about to be started."""
    service = aether.service()
    return not service["instances"] and "crash loop" in str(service["problem"])


@pytest.mark.edge("B10")
@pytest.mark.parametrize("phase", ["launching", "soaking"])
def test_two_reloads_at_once_are_one_swap_and_a_refusal(start, tmp_path, phase):
    port = free_port()
    aether = start(config(tmp_path, port, soak="1s"))
    gate = tmp_path / "gate"
    (tmp_path / "server.py").write_text(GATED % str(gate))
    if phase == "soaking":
        gate.touch()
    begin(aether)
    until(aether, phase)
    code, problem = aether.reload()
    assert code == 409 and problem["code"] == "swap-running" and phase in problem["detail"]
    assert len(aether.service()["instances"]) == 2
    gate.touch()
    assert verdict(aether)["verdict"] == "succeeded"
