# SPDX-License-Identifier: Apache-2.0
"""`steer: bpf`: what a program that binds its own port and its clients see when it is swapped, crashes or is
sick."""

import http.client
import os
import shutil
import signal
import socket
from pathlib import Path

from aether import eventually, free_port
from bound import bound_service, get, plain, shares
from under_load import Load, stops_cleanly, swap_all


def soaks(aether):
    """The pid of the new revision, once it soaks."""
    aether.ask("POST", "/v1/reload")
    return eventually(
        lambda: (s := aether.service())["phase"] == "soaking" and s["pid"], f"the new one soaks: {aether.text()}")


def test_program_and_client_see_the_documented_port_and_a_rollback_is_the_way_back(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"
    aether = start(bound_service(plain(folder, port), f"127.0.0.1:{port}"))
    pid, word, name, accepted = get(port)[1].split()
    assert (word, name, accepted) == ("ok", f"127.0.0.1:{port}", str(port))
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def stays():
        kept.request("GET", "/")
        assert kept.getresponse().read().decode().split()[0] == pid

    stays()
    aether.write_config(bound_service(plain(folder, port, "new"), f"127.0.0.1:{port}", soak="60s"))
    soaks(aether)
    assert get(port)[1].split()[1] == "new"
    stays()
    hidden = shares(aether)[2]["hidden_ports"]
    assert len(hidden) == 1 and hidden[0] != port, shares(aether)
    assert "hidden ports" in aether.cli("status").stdout
    assert aether.cli("rollback").returncode == 0
    eventually(lambda: get(port)[1].split()[:2] == [pid, "ok"], "the old one serves again")
    stays()
    kept.close()
    stops_cleanly(aether, folder)


def test_a_sick_revision_is_rolled_back_by_the_judge_and_nobody_is_lost(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"
    aether = start(bound_service(plain(folder, port), f"127.0.0.1:{port}"))
    sick = bound_service(plain(folder, port, "sick"), f"127.0.0.1:{port}", soak="60s")
    sick["orchestration"]["canary"] = {"health_check": {"http_get": "/health", "interval": "50ms", "threshold": 3}}
    aether.write_config(sick)
    with Load(port, rate=200) as load:
        swap = aether.reload()
        assert swap["verdict"] == "rolled-back" and "health probe" in swap["why"], swap
        eventually(lambda: get(port)[1].split()[1] == "ok", "the old one serves again")
    assert load.result["failed"] == 0, load.result
    stops_cleanly(aether, folder)


def test_what_waits_for_a_revision_that_is_killed_is_answered_by_the_one_before(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"
    aether = start(bound_service(plain(folder, port), f"127.0.0.1:{port}"))
    aether.write_config(bound_service(plain(folder, port, "new"), f"127.0.0.1:{port}", soak="60s"))
    new = soaks(aether)
    os.kill(new, signal.SIGSTOP)
    clients = [ask(port) for _ in range(20)]
    eventually(lambda: aether.service()["listeners"][0]["queued"] == 20, "all of them wait in its queue")
    os.kill(new, signal.SIGKILL)
    assert {answer(client)[1] for client in clients} == {"ok"}
    eventually(lambda: aether.service()["last_swap"]["verdict"] == "rolled-back", "it is rolled back")
    assert "SIGKILL" in aether.service()["last_swap"]["why"]
    assert aether.stop() == 0, aether.text()


def test_who_comes_while_a_crashed_program_starts_again_waits_and_is_answered(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"
    aether = start(bound_service(plain(folder, port), f"127.0.0.1:{port}", restart={"backoff": {"min": "3s"}}))
    first = int(get(port)[1].split()[0])
    os.kill(first, signal.SIGKILL)
    eventually(lambda: aether.service()["pid"] is None, "it is known to be dead")
    clients = [ask(port) for _ in range(10)]
    assert aether.service()["listeners"][0]["waiting"] == 10, aether.service()["listeners"]
    pids = {answer(client)[0] for client in clients}
    assert len(pids) == 1 and pids != {str(first)}, pids
    assert get(port)[1].split()[0] in pids
    assert aether.stop() == 0, aether.text()


def test_one_at_a_time_keeps_everybody_waiting_and_loses_nobody(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"
    config = bound_service(plain(folder, port), f"127.0.0.1:{port}")
    config["orchestration"]["mode"] = "run"
    del config["orchestration"]["soak_time"]
    aether = start(config)
    with Load(port, rate=100) as load:
        swap_all(aether, 3)
    assert load.result["failed"] == 0, load.result
    assert len(load.result["tally"]) >= 2, load.result
    stops_cleanly(aether, folder)


def test_when_the_old_program_dies_while_the_new_one_starts_its_clients_wait_for_that(start, tmp_path, bpf):
    port, folder = free_port(), tmp_path / "server"
    aether = start(bound_service(plain(folder, port), f"127.0.0.1:{port}"))
    first = int(get(port)[1].split()[0])
    aether.write_config(bound_service(["sh", "-c", 'sleep 1; exec "$@"', "-", *plain(folder, port, "new")],
                                      f"127.0.0.1:{port}"))
    aether.ask("POST", "/v1/reload")
    eventually(lambda: aether.service()["phase"] == "launching", "the new one starts")
    os.kill(first, signal.SIGKILL)
    eventually(lambda: aether.service()["revision"] == 2, "the new one is to serve")
    clients = [ask(port) for _ in range(5)]
    assert {answer(client)[1] for client in clients} == {"new"}
    eventually(lambda: aether.service()["last_swap"]["verdict"] == "succeeded", "the swap went on")
    assert aether.stop() == 0, aether.text()


def test_a_program_that_binds_another_port_is_not_ready_and_is_told_so(start, tmp_path, bpf):
    port, other, folder = free_port(), free_port(), tmp_path / "server"
    aether = start(bound_service(plain(folder, port), f"127.0.0.1:{port}"))
    aether.write_config(bound_service(plain(folder, other), f"127.0.0.1:{port}", ready={"timeout": "4s"}))
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "steer: bpf" in swap["why"], swap
    assert str(other) in swap["why"] and str(port) in swap["why"], swap
    # Its word that it is ready is no more than a word.
    wrong = bound_service(plain(folder, other), f"127.0.0.1:{port}", ready={"delay": "100ms"})
    aether.write_config(wrong)
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "has bound" in swap["why"], swap
    assert get(port)[1].split()[1] == "ok"
    assert aether.stop() == 0, aether.text()


def test_the_example_runs_as_it_stands_but_for_its_port(start, tmp_path, bpf):
    port = free_port()
    example = Path(__file__).parents[2] / "examples" / "bpf"
    text = (example / "aeterna.yaml").read_text().replace("8080", str(port)).replace("10s", "1s").replace("5s", "200ms")
    shutil.copytree(example / "www", tmp_path / "aether0" / "www")
    aether = start(text)
    assert get(port, "/version") == (200, "one\n")
    swap = aether.reload()
    assert swap["verdict"] == "succeeded", swap
    assert get(port, "/version") == (200, "one\n")
    assert aether.stop() == 0, aether.text()


def ask(port):
    """A connection with a request that nobody has answered yet."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return client


def answer(client):
    """The words of the answer's body: pid, word, name, port."""
    with client:
        text = b""
        while part := client.recv(4096):
            text += part
    assert text.startswith(b"HTTP/1.1 200"), text
    return text.partition(b"\r\n\r\n")[2].decode().split()
