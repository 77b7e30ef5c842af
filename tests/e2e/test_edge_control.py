# SPDX-License-Identifier: Apache-2.0
"""The control socket and the metrics port under clients that die, hang, lie or never read."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess

import pytest

from aether import PATIENCE, UnixConnection, eventually, free_port
from programs import ASYNCIO, program

SOAK = int(os.environ.get("AETHER_SOAK", "1"))
WAITING = 12  # more than HAProxy's CLI had (64383e655)
CROWD = 1000 * SOAK
SPARE = 6  # descriptors of a spare lane and its like, which Aether opens when it has the time; fewer than WAITING


@pytest.fixture(autouse=True)
def many_descriptors():
    """The crowd is made of this process's descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CROWD * 2 + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} descriptors may be open, and {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def config_of(folder, gate=None, **more):
    config = {
        "service": {"name": "web", "command": program(folder, "web.py", "print('hello there')\n" + ASYNCIO),
                    "listen": f"127.0.0.1:{free_port()}", "stop_timeout": "2s", **more},
        "orchestration": {"soak_time": "0s"},
        "observability": {"metrics_port": f"127.0.0.1:{free_port()}"},
    }
    if gate:
        wait = f"while [ ! -e {gate} ]; do sleep 0.02; done"
        config["orchestration"]["pre_flight"] = [{"name": "gate", "command": ["sh", "-c", wait], "timeout": "300s"}]
    return config


def metrics_port(config):
    host, _, port = config["observability"]["metrics_port"].rpartition(":")
    return host, int(port)


def open_fds(aether):
    return len(os.listdir(f"/proc/{aether.pid}/fd"))


def settled_fds(aether):
    """How many descriptors Aether has while nothing happens (the one that asks counts itself)."""
    eventually(lambda: aether.service()["phase"] == "idle", "no swap runs")
    seen = []

    def same_for_a_while():
        seen.append(open_fds(aether))
        return len(seen) >= 5 and len(set(seen[-5:])) == 1

    eventually(same_for_a_while, "its descriptors have settled")
    return seen[-1]


def control_connections(aether):
    connection = UnixConnection(aether.control_socket)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    line = next(line for line in page.splitlines() if line.startswith('aether_api_connections{server="control"}'))
    return int(float(line.split()[-1]))


def begin(aether, method, path):
    """A request whose answer nobody has read yet."""
    connection = UnixConnection(aether.control_socket)
    connection.request(method, path)
    return connection


def wait_in_preflight(aether):
    eventually(lambda: aether.service()["phase"] == "preflight", "the swap waits at the gate")


# ---- H1


@pytest.mark.edge("H1")
def test_clients_that_die_while_they_wait_neither_cancel_the_swap_nor_leak(start, tmp_path):
    gate = tmp_path / "go"
    gate.touch()
    aether = start(config_of(tmp_path, gate))
    assert aether.reload()["verdict"] == "succeeded"
    before = settled_fds(aether)
    gate.unlink()
    waiting = [begin(aether, "POST", "/v1/reload?wait=true")]
    wait_in_preflight(aether)
    waiting += [begin(aether, "GET", "/v1/services/web/swaps/2") for _ in range(WAITING)]
    command = subprocess.Popen([str(aether.binary), "-c", str(aether.config), "reload", "--force"], env=aether.env,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # The command line's swap takes the place of the first one, and waits at the gate as well.
    eventually(lambda: aether.service()["last_swap"]["swap"] == 3, "the swap that takes its place runs")
    wait_in_preflight(aether)
    assert control_connections(aether) >= 2
    command.kill()
    command.communicate()
    for connection in waiting:
        connection.close()
    eventually(lambda: control_connections(aether) == 1, "nothing is held for clients that are gone")
    assert aether.service()["phase"] == "preflight", "the swap goes on"
    gate.touch()
    code, answer = aether.ask("GET", "/v1/services/web/swaps/3")
    assert code == 200 and answer["swaps"][0]["verdict"] == "succeeded"
    assert settled_fds(aether) <= before + SPARE


@pytest.mark.edge("H1")
def test_clients_that_hang_exhaust_neither_the_command_line_nor_reloads(start, tmp_path):
    gate = tmp_path / "go"
    aether = start(config_of(tmp_path, gate))
    waiting = [begin(aether, "POST", "/v1/reload?wait=true")]
    wait_in_preflight(aether)
    waiting += [begin(aether, "GET", "/v1/services/web/swaps/1") for _ in range(WAITING)]
    waiting += [begin(aether, "GET", "/v1/events") for _ in range(WAITING)]
    silent = [begin(aether, "GET", "/v1/services/web/logs?follow=true") for _ in range(WAITING)]
    status = aether.cli("status", "-o", "json")
    assert status.returncode == 0 and json.loads(status.stdout)["services"][0]["phase"] == "preflight"
    refused = aether.cli("reload")
    assert refused.returncode == 1 and "swap-running" in refused.stderr
    aether.hangup()
    gate.touch()
    eventually(lambda: aether.service()["revision"] == 3, "the swap, and the one that SIGHUP asked for")
    answers = [json.loads(connection.getresponse().read()) for connection in waiting[: WAITING + 1]]
    assert all(answer["swaps"][0]["verdict"] == "succeeded" for answer in answers)
    for connection in waiting + silent:
        connection.close()


# ---- H2


GARBAGE = [b"", b"G", b"GET / HTTP/1.1\r\nHost:", b"\x00" * 300, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
           b"POST /v1/reload HTTP/1.1\r\nContent-Length: 1000\r\n\r\nx",
           b"GET /v1/status HTTP/1.1\r\n" + b"a: b\r\n" * 9]


def crowd_of(make, count):
    """Connections that each say a bit of nonsense and then nothing more."""
    crowd = []
    for number in range(count):
        client = make()
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.send(GARBAGE[number % len(GARBAGE)])
        crowd.append(client)
    return crowd


def unix_client(aether):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # blocking: with a timeout a full queue is an error
    client.connect(str(aether.control_socket))
    return client


@pytest.mark.edge("H2")
def test_a_thousand_silent_and_lying_clients_lock_nobody_out(start, tmp_path):
    config = config_of(tmp_path)
    aether = start(config)
    assert aether.reload()["verdict"] == "succeeded"
    before = settled_fds(aether)
    crowd = crowd_of(lambda: unix_client(aether), CROWD)
    crowd += crowd_of(lambda: socket.create_connection(metrics_port(config), timeout=PATIENCE), CROWD)
    done = aether.cli("status")
    assert done.returncode == 0 and "RUNNING" in done.stdout, done.stderr
    with socket.create_connection(metrics_port(config), timeout=PATIENCE) as scraper:
        scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert scraper.recv(12) == b"HTTP/1.1 200"
    assert aether.cli("reload").returncode == 0
    aether.hangup()
    eventually(lambda: aether.service()["revision"] == 4, "SIGHUP reloads")
    for client in crowd:
        client.close()
    eventually(lambda: control_connections(aether) == 1, "the crowd is forgotten")
    assert settled_fds(aether) <= before + SPARE


@pytest.mark.edge("H2")
def test_the_control_socket_is_for_its_owner_only(start, tmp_path):
    aether = start(config_of(tmp_path))
    assert aether.control_socket.stat().st_mode & 0o777 == 0o600
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(aether.control_socket)!r})"
    done = subprocess.run(["/usr/bin/python3", "-c", code], user=65534, group=65534, extra_groups=[],
                          capture_output=True, text=True, cwd="/")
    assert "PermissionError" in done.stderr


LOUD = """
import sys, threading
def shout():
    while True:
        sys.stdout.write("x" * 4000 + "\\n")
threading.Thread(target=shout, daemon=True).start()
"""


@pytest.mark.edge("H2", "H4")
def test_followers_that_never_read_stop_nobody(start, tmp_path):
    aether = start({**config_of(tmp_path), "service": {
        "name": "web", "command": program(tmp_path, "loud.py", LOUD + ASYNCIO), "stop_timeout": "2s",
        "listen": f"127.0.0.1:{free_port()}"}})
    deaf = [begin(aether, "GET", "/v1/services/web/logs?follow=true") for _ in range(10)]
    deaf += [begin(aether, "GET", "/v1/events") for _ in range(10)]
    stopped = subprocess.Popen([str(aether.binary), "-c", str(aether.config), "logs", "-f"], env=aether.env,
                               stdout=subprocess.PIPE)
    stopped.stdout.readline()
    stopped.send_signal(signal.SIGSTOP)
    sequence = json.loads(aether.cli("logs", "-n", "1", "-o", "json").stdout)["sequence"]
    eventually(lambda: json.loads(aether.cli("logs", "-n", "1", "-o", "json").stdout)["sequence"] > sequence + 1000,
               "the program goes on writing")
    assert aether.reload()["verdict"] == "succeeded"
    assert aether.cli("status").returncode == 0
    stopped.kill()
    stopped.communicate()
    for connection in deaf:
        connection.close()
