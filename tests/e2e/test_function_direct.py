# SPDX-License-Identifier: Apache-2.0
"""`route: direct`: clients and handlers speak with each other, and Aether only makes sure that one is there."""

import http.client
import os
import signal
import socket
import threading

import pytest

from aether import PATIENCE, eventually
from test_function_life import HANDLER, SAYS, config_of, eventually_hello, function, get

OWN_LISTENER = 'HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()\n'
# Serves on the listener that it inherits; /peer tells where the client's connection comes from.
DIRECT = HANDLER.replace(", HTTPServer", ", ThreadingHTTPServer as HTTPServer").replace(OWN_LISTENER, """\
assert os.environ["LISTEN_FDS"] == "1", os.environ
server = HTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()
""").replace('f"{WORD} {os.getpid()}"', 'f"{WORD} {os.getpid()} {self.client_address[1]}"')
assert "LISTEN_FDS" in DIRECT and "client_address" in DIRECT


def direct(folder, source=DIRECT, **keys):
    return function(folder, source, route="direct", **keys)


def running(aether, name=None):
    return [one for one in aether.function(name)["instances"] if one["state"] not in ("template", "parked", "ending")]


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_a_client_is_answered_by_the_handler_itself_from_nothing(start, tmp_path, launch):
    one = direct(tmp_path, launch=launch)
    aether = start(config_of(one))
    assert aether.function()["route"] == "direct"
    assert aether.function()["launch"] == ("clone" if launch == "auto" else "spawn")
    client = http.client.HTTPConnection("127.0.0.1", one["trigger_port"], timeout=PATIENCE)
    client.connect()
    own_port = client.sock.getsockname()[1]
    client.request("GET", "/")
    word, pid, port = client.getresponse().read().decode().split()
    assert (word, int(port)) == ("hello", own_port), "nothing stands between"
    assert int(pid) in [each["pid"] for each in aether.function()["instances"]]
    client.close()


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_without_connections_nothing_runs_and_whoever_comes_is_answered(start, tmp_path, launch):
    one = direct(tmp_path, launch=launch, idle_timeout="100ms")
    aether = start(config_of(one))
    for _ in range(3):
        assert get(one)[0] == 200
        eventually(lambda: not running(aether), "nothing runs")


def test_an_instance_that_comes_and_goes_loses_nobody(start, tmp_path):
    one = direct(tmp_path, idle_timeout="1ms")
    start(config_of(one))
    answers = [get(one) for _ in range(100)]
    assert [status for status, _ in answers] == [200] * 100, answers


def test_an_open_connection_keeps_its_instance(start, tmp_path):
    one, other = (direct(tmp_path, name=name, idle_timeout="50ms") for name in ("f", "other"))
    aether = start(config_of(one, other))
    with socket.create_connection(("127.0.0.1", one["trigger_port"]), PATIENCE) as silent:
        eventually(lambda: aether.function("f")["requests"]["in_flight"] == 1, "the connection is seen")
        before = [each["pid"] for each in running(aether, "f")]
        for _ in range(3):
            eventually_hello(other)
            eventually(lambda: not running(aether, "other"), "one without a connection goes")
        assert [each["pid"] for each in running(aether, "f")] == before
        silent.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"200 OK" in silent.recv(4096)
    eventually(lambda: not running(aether, "f"), "it is let go when the client has gone")


def test_who_comes_before_the_handler_is_ready_waits(start, tmp_path):
    gate = tmp_path / "gate"
    slow = DIRECT.replace(SAYS, 'import time\nwhile not os.path.exists(os.environ["GATE"]): time.sleep(0.01)\n' + SAYS)
    one = direct(tmp_path, slow, environment={"GATE": str(gate)})
    aether = start(config_of(one), wait=False)
    eventually(lambda: connects(one), "the port is held")
    answer = []
    client = threading.Thread(target=lambda: answer.append(get(one)))
    client.start()
    gate.touch()
    client.join(PATIENCE)
    assert answer and answer[0][0] == 200, answer
    assert aether.process.poll() is None


def connects(one):
    try:
        socket.create_connection(("127.0.0.1", one["trigger_port"]), PATIENCE).close()
        return True
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("launch", ["auto", "spawn"])
def test_a_deploy_and_the_way_back_lose_nobody(start, tmp_path, launch):
    source = DIRECT.replace('WORD = "hello"', 'WORD = os.environ["WORD"]')
    one = direct(tmp_path, source, launch=launch, idle_timeout="20ms", environment={"WORD": "hello"})
    aether = start(config_of(one))
    failed, words, over = [], set(), threading.Event()

    def ask():
        while not over.is_set():
            try:
                status, body = get(one)
            except OSError as error:
                status, body = 0, str(error)
            if status != 200:
                failed.append((status, body))
            words.add(body.split()[0])

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        eventually(lambda: "hello" in words, "the first one answers")
        aether.write_config(config_of({**one, "environment": {"WORD": "again"}}))
        aether.hangup()
        eventually(lambda: "again" in words, "the second one answers")
        words.clear()
        assert aether.cli("rollback", "f").returncode == 0
        eventually(lambda: "hello" in words, "the first one answers once more")
    finally:
        over.set()
        for client in clients:
            client.join(PATIENCE)
    assert failed == []


def test_a_revision_that_does_not_become_ready_gets_no_connection(start, tmp_path):
    one = direct(tmp_path)
    aether = start(config_of(one))
    eventually_hello(one)
    mute = DIRECT.replace(SAYS, "").replace('WORD = "hello"', 'WORD = "mute"')
    (tmp_path / "f.py").write_text(mute)
    aether.write_config(config_of({**one, "ready": {"timeout": "500ms"}}))
    aether.hangup()
    eventually(lambda: "was not ready within" in aether.text(), "the deploy fails")
    assert {get(one)[1].split()[0] for _ in range(20)} == {"hello"}


def test_an_instance_that_dies_is_replaced_for_who_waits(start, tmp_path):
    one = direct(tmp_path)
    aether = start(config_of(one))
    for _ in range(3):
        eventually_hello(one)
        killed = running(aether)[0]["pid"]
        os.kill(killed, signal.SIGKILL)
        assert get(one)[1].split()[0] == "hello"


def test_a_handler_that_does_not_serve_the_listener_is_told_so_and_who_waits_is_refused(start, tmp_path):
    deaf = SAYS.join(HANDLER.split(SAYS)[:1]) + SAYS + "import time\ntime.sleep(1000)\n"
    one = direct(tmp_path, deaf, ready={"timeout": "3s"})
    aether = start(config_of(one))
    assert aether.function()["state"] == "FAILED"
    assert "LISTEN_FDS" in aether.function()["problem"]
    with pytest.raises(OSError):
        get(one)


def test_a_stop_with_a_silent_client_ends_all(start, tmp_path):
    one = direct(tmp_path)
    aether = start(config_of(one))
    with socket.create_connection(("127.0.0.1", one["trigger_port"]), PATIENCE):
        eventually(lambda: aether.function()["requests"]["in_flight"] == 1, "the connection is seen")
        pids = [each["pid"] for each in aether.function()["instances"]]
        assert aether.stop() == 0
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


def test_the_route_of_a_function_stays_while_it_runs(start, tmp_path):
    one = direct(tmp_path)
    aether = start(config_of(one))
    aether.write_config(config_of({**one, "route": "gateway"}))
    aether.hangup()
    eventually(lambda: "its route cannot change while it runs" in aether.text(), "it is refused")
    assert get(one)[0] == 200
