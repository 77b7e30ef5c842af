# SPDX-License-Identifier: Apache-2.0
"""Listeners that come, go and change over swaps, and what one revision's may not do to another's."""

import os
import re
import socket
import subprocess
import threading

import pytest
from aether import PATIENCE, eventually, free_port
from processes import files_of
from programs import program, service

# Answers on every listener that it was given, with its pid and the listener's name.
EVERYWHERE = """
import os, selectors, socket
names = os.environ.get("LISTEN_FDNAMES", "").split(":")
selector = selectors.DefaultSelector()
for n, name in enumerate(names if os.environ.get("LISTEN_FDS") else []):
    sock = socket.socket(fileno=3 + n)
    sock.setblocking(False)
    selector.register(sock, selectors.EVENT_READ, name)
while True:
    for key, _ in selector.select():
        said = f"{os.getpid()} {key.data}".encode()
        try:
            if key.fileobj.type == socket.SOCK_DGRAM:
                key.fileobj.sendto(said, key.fileobj.recvfrom(2048)[1])
            else:
                connection, _ = key.fileobj.accept()
                connection.sendall(said)
                connection.close()
        except OSError:
            selector.unregister(key.fileobj)
"""


def config(tmp_path, listen, text=EVERYWHERE, **more):
    return service(program(tmp_path, "server.py", text), listen=listen, soak="0s", **more)


def who(address, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    """(pid, listener) that answers there."""
    with socket.socket(family, kind) as client:
        client.settimeout(PATIENCE)
        client.connect(address)
        if kind == socket.SOCK_DGRAM:
            client.send(b"?")
        pid, _, name = client.recv(100).decode().partition(" ")
        return int(pid), name


def is_free(port):
    """Whether somebody else can have the port now. With SO_REUSEADDR only a listener is in the way, and not a
    connection of late (TIME_WAIT)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
        return True


def named(name, port, **more):
    return {"name": name, "address": f"127.0.0.1:{port}", **more}


def sockets_of(pid):
    return sum(link.startswith("socket:") for number, link in files_of(pid).items() if number >= 3)


@pytest.mark.edge("A10")
def test_a_listener_that_leaves_the_configuration_is_closed_everywhere_and_its_port_is_free(start, tmp_path):
    kept, left = free_port(), free_port()
    made = config(tmp_path, [named("kept", kept), named("left", left)])
    aether = start(made)
    assert who(("127.0.0.1", left))[1] == "left"
    made["service"]["listen"] = [named("kept", kept)]
    aether.write_config(made)
    swap = aether.reload()
    assert swap["verdict"] == "succeeded", swap
    assert who(("127.0.0.1", kept)) == (swap["pid"], "kept")
    eventually(lambda: is_free(left), "the port is free")
    # It may still be closing the connection on which it was asked.
    eventually(lambda: sockets_of(swap["pid"]) == 1, "it has one listener")
    assert [one["name"] for one in aether.service()["listeners"]] == ["kept"]
    assert "no longer in the configuration" in aether.text()


@pytest.mark.edge("A10")
def test_a_listener_that_comes_is_held_before_the_hooks_run_and_goes_again_if_they_fail(start, tmp_path):
    kept, new = free_port(), free_port()
    made = config(tmp_path, [named("kept", kept)])
    aether = start(made)
    old = aether.service()["pid"]
    probe = f"import socket; s = socket.socket(); s.bind(('127.0.0.1', {new}))"
    made["service"]["listen"] = [named("new", new), named("kept", kept)]
    made["orchestration"]["pre_flight"] = [{"name": "taken", "command": program(tmp_path, "probe.py", probe)}]
    aether.write_config(made)
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "taken" in swap["why"], swap
    assert is_free(new) and who(("127.0.0.1", kept)) == (old, "kept")
    made["orchestration"]["pre_flight"] = []
    aether.write_config(made)
    swap = aether.reload()
    assert swap["verdict"] == "succeeded", swap
    assert who(("127.0.0.1", new)) == (swap["pid"], "new")
    assert who(("127.0.0.1", kept)) == (swap["pid"], "kept")


@pytest.mark.edge("A10")
def test_a_listener_that_cannot_be_bound_fails_the_reload_and_leaves_the_old_set(start, tmp_path):
    kept, left, free = free_port(), free_port(), free_port()
    made = config(tmp_path, [named("kept", kept), named("left", left)])
    aether = start(made)
    old = aether.service()["pid"]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        made["service"]["listen"] = [named("kept", kept), named("free", free), named("taken", taken)]
        aether.write_config(made)
        swap = aether.reload()
        assert swap["verdict"] == "rolled-back", swap
        assert f"pid {os.getpid()}" in swap["why"] and str(taken) in swap["why"], swap["why"]
        assert {who(("127.0.0.1", kept)), who(("127.0.0.1", left))} == {(old, "kept"), (old, "left")}
        assert is_free(free), "what was bound for the failed set is let go"
    swap = aether.reload()
    assert swap["verdict"] == "succeeded" and who(("127.0.0.1", taken))[1] == "taken", swap


@pytest.mark.edge("A10")
def test_a_rollback_in_the_soak_brings_the_old_set_back(start, tmp_path):
    kept, left, new = free_port(), free_port(), free_port()
    made = config(tmp_path, [named("kept", kept), named("left", left)])
    aether = start(made)
    old = aether.service()["pid"]
    made["service"]["listen"] = [named("kept", kept), named("new", new)]
    made["orchestration"]["soak_time"] = "5m"
    aether.write_config(made)
    aether.ask("POST", "/v1/reload", {})
    eventually(lambda: aether.service()["phase"] == "soaking", "it soaks")
    assert who(("127.0.0.1", new))[1] == "new" and who(("127.0.0.1", left)) == (old, "left")
    code, answer = aether.ask("POST", "/v1/services/web/rollback?wait=true")
    assert code == 200 and answer["swaps"][0]["verdict"] == "rolled-back"
    assert {who(("127.0.0.1", kept)), who(("127.0.0.1", left))} == {(old, "kept"), (old, "left")}
    eventually(lambda: is_free(new), "the new one's listener goes with it")


def backlog_of(port):
    """Send-Q of the listening sockets on the port, as ss shows them."""
    lines = subprocess.check_output(["ss", "-Hltn", f"sport = :{port}"], text=True).splitlines()
    return {int(line.split()[2]) for line in lines}


@pytest.mark.edge("A9", "A11")
def test_a_backlog_is_applied_at_the_start_and_when_it_changes(start, tmp_path):
    port = free_port()
    made = config(tmp_path, [named("web", port, backlog=17)])
    aether = start(made)
    assert backlog_of(port) == {17}
    made["service"]["listen"] = [named("web", port, backlog=23)]
    aether.write_config(made)
    for _ in range(3):
        assert aether.reload()["verdict"] == "succeeded"
        eventually(lambda: backlog_of(port) == {23}, "each socket of the address has the new backlog")


@pytest.mark.edge("A9")
def test_connections_that_find_the_queue_full_are_counted(start, tmp_path):
    port = free_port()
    deaf = "import socket, time\nsocket.socket(fileno=3)\ntime.sleep(3600)"
    aether = start(config(tmp_path, [named("web", port, backlog=2)], deaf, ready={"delay": "10ms"}))
    clients = []
    for _ in range(20):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        clients.append(client)
    eventually(lambda: aether.service()["listeners"][0]["overflows"] > 0, "they are counted")
    assert aether.service()["listeners"][0]["queued"] >= 2
    for client in clients:
        client.close()


CHANGES = {
    "mode": {"mode": "shared"},
    "v6_only": {"v6_only": True},
    "name": {"name": "other"},
}


@pytest.mark.edge("A11")
@pytest.mark.parametrize("what", CHANGES)
def test_what_cannot_change_while_the_address_is_held_is_refused_by_name(start, tmp_path, what):
    port = free_port()
    made = config(tmp_path, [{"name": "web", "address": f"[::1]:{port}"}])
    aether = start(made)
    old = aether.service()["pid"]
    made["service"]["listen"][0].update(CHANGES[what])
    aether.write_config(made)
    code, problem = aether.reload()
    assert code == 422 and problem["code"] == "unsupported", problem
    assert f": {what} changed" in problem["detail"], problem
    assert who(("::1", port), socket.AF_INET6)[0] == old == aether.service()["pid"]


@pytest.mark.edge("A7")
def test_tcp_and_udp_and_both_families_share_a_port_over_swaps(start, tmp_path):
    port = free_port()
    listen = [
        {"name": "tcp4", "address": f"127.0.0.1:{port}"},
        {"name": "udp4", "address": f"udp://127.0.0.1:{port}"},
        {"name": "tcp6", "address": f"[::]:{port}", "v6_only": True},
        {"name": "udp6", "address": f"udp://[::1]:{port}"},
    ]
    aether = start(config(tmp_path, listen))
    for _ in range(3):
        swap = aether.reload()
        assert swap["verdict"] == "succeeded", swap
        seen = {
            who(("127.0.0.1", port)),
            who(("127.0.0.1", port), kind=socket.SOCK_DGRAM),
            who(("::1", port), socket.AF_INET6),
            who(("::1", port), socket.AF_INET6, socket.SOCK_DGRAM),
        }
        assert seen == {(swap["pid"], one["name"]) for one in listen}


@pytest.mark.edge("A7")
def test_a_path_that_is_too_long_for_a_socket_is_refused_with_its_length(start, tmp_path):
    made = config(tmp_path, [f"unix:{tmp_path}/{'x' * 120}"])
    aether = start(config(tmp_path, ["127.0.0.1:0"]))
    aether.write_config(made)
    code, problem = aether.reload()
    assert code == 422 and "the kernel takes 107" in problem["detail"], problem


@pytest.mark.edge("A12", "A13")
def test_what_a_revision_does_to_its_listener_is_its_own_affair(start, tmp_path):
    """The new one sets its listener non-blocking and shuts it down when it goes; the old one, which blocks in
    accept(), notices nothing."""
    port = free_port()
    made = config(tmp_path, [named("web", port)], text="")
    blocking = """
import os, socket
listener = socket.socket(fileno=3)
listener.setblocking(True)
while True:
    connection, _ = listener.accept()
    connection.sendall(f"{os.getpid()} {os.get_blocking(3)}".encode())
    connection.close()
"""
    (tmp_path / "server.py").write_text(blocking)
    made["orchestration"]["soak_time"] = "5m"
    aether = start(made)
    old = aether.service()["pid"]
    rude = EVERYWHERE.replace("while True:", """
import signal, fcntl
fcntl.fcntl(3, fcntl.F_SETFL, fcntl.fcntl(3, fcntl.F_GETFL) | os.O_NONBLOCK)
signal.signal(signal.SIGTERM, lambda *_: (socket.socket(fileno=3).shutdown(socket.SHUT_RDWR), os._exit(0)))
while True:""", 1)
    (tmp_path / "server.py").write_text(rude)
    for _ in range(3):
        aether.ask("POST", "/v1/reload", {})
        eventually(lambda: aether.service()["phase"] == "soaking", "it soaks")
        assert who(("127.0.0.1", port))[0] != old
        code, answer = aether.ask("POST", "/v1/services/web/rollback?wait=true")
        assert code == 200 and answer["swaps"][0]["serving_revision"] == 1
        for _ in range(20):
            assert who(("127.0.0.1", port)) == (old, "True")
        eventually(lambda: len(aether.service()["instances"]) == 1, "the rude one is gone")
        for _ in range(20):
            assert who(("127.0.0.1", port)) == (old, "True")


@pytest.mark.edge("A15")
def test_the_old_revision_is_told_to_stop_when_its_queue_is_empty_and_not_before(start, tmp_path):
    """It accepts one connection each time a file tells it to, and says what waits when it is told to stop."""
    port = free_port()
    slow = f"""
import os, signal, socket, struct, time
listener = socket.socket(fileno=3)
def told(*_):
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    print("TOLD with", struct.unpack_from("I", info, 24)[0], "waiting", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, told)
print("READY", flush=True)
while not os.path.exists({str(tmp_path / "gate")!r}): time.sleep(0.01)
while True:
    connection, _ = listener.accept()
    connection.sendall(f"{{os.getpid()}} slow".encode())
    connection.close()
"""
    made = config(tmp_path, [named("web", port)], slow, ready={"delay": "100ms"})
    aether = start(made)
    old = aether.service()["pid"]
    clients = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(30)]
    (tmp_path / "server.py").write_text(EVERYWHERE)
    made["service"]["ready"] = "listening"
    aether.write_config(made)
    threading.Timer(0.3, (tmp_path / "gate").touch).start()
    assert aether.reload()["verdict"] == "succeeded"
    answers = {client.recv(100).decode() for client in clients}
    for client in clients:
        client.close()
    assert answers == {f"{old} slow"}
    line = eventually(lambda: re.search(r"TOLD with (\d+) waiting", aether.cli("logs").stdout), "it was told to stop")
    assert line.group(1) == "0"


@pytest.mark.edge("A16")
def test_a_stranger_that_joins_the_address_gets_nothing_and_is_told_of(start, tmp_path):
    port = free_port()
    aether = start(config(tmp_path, [named("web", port)]))
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        stranger.setblocking(False)
        for _ in range(3):
            swap = aether.reload()
            assert swap["verdict"] == "succeeded"
            for _ in range(50):
                assert who(("127.0.0.1", port))[0] == swap["pid"]
        with pytest.raises(BlockingIOError):
            stranger.accept()
    assert f"(pid {os.getpid()}) joined the address" in aether.text()
