# SPDX-License-Identifier: Apache-2.0
"""Descriptors that a program leaves with Aether (FDSTORE=1) are there for its next process, even after SIGKILL."""

import http.client
import json
import os
import signal
import socket

import pytest

from aether import eventually, free_port
from programs import program, service

# Echoes lines, with its pid before them. Accepted connections are stored; a later process takes them up again.
# python3-systemd does the talking.
KEEPER = """
import os, selectors, socket
from systemd import daemon
names = daemon.listen_fds_with_names()
selector = selectors.DefaultSelector()
listener = next(socket.socket(fileno=fd) for fd, name in names.items() if name not in ("client", "note"))
listener.setblocking(False)
selector.register(listener, selectors.EVENT_READ)
def take_up(connection):
    connection.setblocking(True)
    selector.register(connection, selectors.EVENT_READ)
for fd, name in names.items():
    if name == "client":
        take_up(socket.socket(fileno=fd))
daemon.notify("READY=1\\nSTATUS=%d connections" % (len(names) - 1))
while True:
    for key, _ in selector.select():
        if key.fileobj is listener:
            connection, _ = listener.accept()
            daemon.notify("FDSTORE=1\\nFDNAME=client", fds=[connection.fileno()])
            take_up(connection)
            continue
        line = key.fileobj.recv(100)
        if not line:
            selector.unregister(key.fileobj)
            key.fileobj.shutdown(socket.SHUT_RDWR)  # Aether has a copy: close() alone would end nothing.
            key.fileobj.close()
            continue
        key.fileobj.sendall(b"%d %s" % (os.getpid(), line))
"""


def ask(connection, line):
    connection.sendall(line + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        piece = connection.recv(200)
        assert piece, "the connection was cut"
        answer += piece
    pid, _, text = answer.strip().partition(b" ")
    assert text == line
    return int(pid)


def stored(aether):
    return aether.service()["fd_store"]


@pytest.fixture
def keeper(start, tmp_path):
    port = free_port()
    config = service(program(tmp_path, "keeper.py", KEEPER), listen=f"127.0.0.1:{port}", soak="0s", ready="notify",
                     restart={"policy": "always", "backoff": {"min": "10ms"}})
    aether = start(config)
    aether.port = port
    return aether


def connect(aether):
    return socket.create_connection(("127.0.0.1", aether.port), timeout=60)


def test_a_connection_lives_on_in_the_next_process_after_sigkill(keeper):
    with connect(keeper) as talk, connect(keeper) as other:
        first = ask(talk, b"one")
        ask(other, b"other")
        eventually(lambda: stored(keeper)["count"] == 2, "both are stored")
        assert stored(keeper)["names"] == ["client", "client"]
        os.kill(first, signal.SIGKILL)
        second = ask(talk, b"two")
        assert second != first
        assert ask(other, b"more") == second


def test_a_connection_that_was_shut_down_is_taken_out(keeper):
    with connect(keeper) as talk:
        ask(talk, b"one")
        eventually(lambda: stored(keeper)["count"] == 1, "it is stored")
    eventually(lambda: stored(keeper)["count"] == 0, "its hang-up takes it out")


def test_the_store_goes_over_to_the_next_revision(keeper):
    with connect(keeper) as talk:
        first = ask(talk, b"one")
        eventually(lambda: stored(keeper)["count"] == 1, "it is stored")
        swap = keeper.reload()
        assert swap["verdict"] == "succeeded", swap
        eventually(lambda: not os.path.exists(f"/proc/{first}"), "the old one has ended")
        assert ask(talk, b"two") == swap["pid"] != first


# Does what its arguments say, plainly, then serves.
PLAIN = """
import array, os, socket, sys, time
def notify(data, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect(os.environ["NOTIFY_SOCKET"])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        s.sendmsg([data], rights)
def stored_names():
    names = os.environ.get("LISTEN_FDNAMES", "")
    return names.split(":") if names else []
first = not stored_names()
memory = os.memfd_create("memory")
SAYS
notify(b"READY=1\\nSTATUS=%s/%s" % (os.environ.get("LISTEN_FDNAMES", "none").encode(),
                                  os.environ.get("FDSTORE", "none").encode()))
time.sleep(600)
"""


def plain(start, folder, says, **more):
    config = service(program(folder, "plain.py", PLAIN.replace("SAYS", says)), listen="none", soak="0s",
                     ready="notify", restart={"policy": "always", "backoff": {"min": "10ms"}}, **more)
    return start(config)


def next_status(aether):
    """Kills the process; the status text of the next one."""
    before = aether.service()["pid"]
    os.kill(before, signal.SIGKILL)
    def again():
        found = [i for i in aether.service()["instances"] if i["pid"] != before and i["state"] == "ready"]
        return found and found[0]["status_text"]
    return eventually(again, "the next process is ready")


STORES = {
    "memory_that_is_found_whole": (
        "memory = memory if first else 3\n"
        "if first: os.write(memory, b'remembered'); notify(b'FDSTORE=1\\nFDNAME=state', [memory])\n"
        "else: assert os.pread(memory, 100, 0) == b'remembered'", {}, "state/128"),
    "without_a_name": ("if first: notify(b'FDSTORE=1', [0])", {}, "stored/128"),
    "the_same_twice_is_one": (
        "if first: notify(b'FDSTORE=1\\nFDNAME=a', [memory]); notify(b'FDSTORE=1\\nFDNAME=a', [memory])", {}, "a/128"),
    "several_at_once": (
        "pipes = [*os.pipe(), *os.pipe()]\n"
        "if first: notify(b'FDSTORE=1\\nFDNAME=p\\nFDPOLL=0', pipes)", {}, "p:p:p:p/128"),
    "what_is_removed_is_gone": (
        "if first: notify(b'FDSTORE=1\\nFDNAME=a', [memory]); notify(b'FDSTORE=1\\nFDNAME=b', [0])\n"
        "notify(b'FDSTOREREMOVE=1\\nFDNAME=a')", {}, "b/128"),
    "a_name_that_cannot_stand_in_a_list_is_as_if_not_said": (
        "if first: notify(b'FDSTORE=1\\nFDNAME=a:b', [memory]); notify(b'FDSTORE=1\\nFDNAME=' + b'x' * 300, [0])",
        {}, "stored:stored/128"),
    "what_hangs_up_is_gone_unless_it_is_not_to_be_polled": (
        "for poll in (0, 1):\n"
        "    if not first: break\n"
        "    ours, theirs = socket.socketpair()\n"
        "    notify(b'FDSTORE=1\\nFDNAME=poll%d\\nFDPOLL=%d' % (poll, poll), [theirs.fileno()])", {}, "poll0/128"),
    "only_as_many_as_are_allowed": (
        "pipes = [*os.pipe(), *os.pipe()]\n"
        "if first: notify(b'FDSTORE=1\\nFDNAME=p\\nFDPOLL=0', pipes)", {"fd_store": 2}, "p:p/2"),
    "none_when_it_is_off": ("notify(b'FDSTORE=1\\nFDNAME=p', [0])", {"fd_store": 0}, "none/none"),
}


@pytest.mark.parametrize("what", STORES)
def test_stores(start, tmp_path, what):
    says, more, expected = STORES[what]
    aether = plain(start, tmp_path, says, **more)
    # What hangs up does so when its program is gone.
    if "hangs_up" in what:
        before = aether.service()["pid"]
        os.kill(before, signal.SIGKILL)
        eventually(lambda: stored(aether)["names"] == ["poll0"], "the other one is taken out")
        eventually(lambda: aether.service()["pid"] not in (None, before), "the next process runs")
    assert next_status(aether) == expected
    if what == "only_as_many_as_are_allowed":
        assert stored(aether)["refused"] == 2
        assert aether.text().count("more are not taken") == 1


def test_the_store_is_empty_again_when_aether_stops(start, tmp_path):
    aether = plain(start, tmp_path, "if first: notify(b'FDSTORE=1\\nFDNAME=a', [memory])")
    eventually(lambda: stored(aether)["count"] == 1, "it is stored")
    assert aether.stop() is not None
    aether.start()
    assert aether.service()["instances"][0]["status_text"].startswith("none/")


@pytest.mark.edge("F14")
def test_stored_descriptors_reach_no_other_process(start, tmp_path):
    aether = plain(start, tmp_path, "memory = os.memfd_create('secret')\n"
                                    "if first: notify(b'FDSTORE=1\\nFDNAME=state', [memory])")
    eventually(lambda: stored(aether)["count"] == 1, "it is stored")
    seen = tmp_path / "seen"
    text = aether.config.read_text()
    look = program(tmp_path, "look.py", f"""
import os
names = [f"/proc/self/fd/{{n}}" for n in os.listdir("/proc/self/fd")]
open({str(seen)!r}, "w").write(" ".join(os.readlink(name) for name in names if os.path.lexists(name)))
""")
    config = json.loads(text)
    config["orchestration"]["pre_flight"] = [{"name": "look", "command": look}]
    aether.write_config(config)
    assert aether.reload()["verdict"] == "succeeded"
    assert "secret" not in seen.read_text()


def test_the_number_of_stored_descriptors_is_a_metric(start, tmp_path):
    port = free_port()
    config = service(program(tmp_path, "plain.py", PLAIN.replace("SAYS", "if first: notify(b'FDSTORE=1', [memory])")),
                     listen="none", ready="notify")
    config["observability"] = {"metrics_port": f"127.0.0.1:{port}"}
    start(config)
    def read():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    eventually(lambda: 'aether_fd_store_fds{service="web"} 1' in read(), "the metric tells it")
