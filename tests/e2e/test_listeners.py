# SPDX-License-Identifier: Apache-2.0
"""What a child is given: listeners of every kind, the environment, and nothing else."""

import json
import os
import socket

import pytest
from aether import eventually, free_port
from programs import ASYNCIO, program, service

# Tells what it sees of itself: environment, descriptors, signals, listeners.
WITNESS = """
import json, os, socket, sys, time
fds = {}
for name in sorted(os.listdir("/proc/self/fd"), key=int):
    try: fds[name] = os.readlink(f"/proc/self/fd/{name}")
    except OSError: pass
listeners = []
for fd in range(3, 3 + int(os.environ.get("LISTEN_FDS", "0"))):
    s = socket.socket(fileno=os.dup(fd))
    listeners.append({"family": s.family.name, "type": s.type.name, "name": str(s.getsockname()),
                      "inherits": os.get_inheritable(fd)})
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
print("WITNESS " + json.dumps({"env": dict(os.environ), "pid": os.getpid(), "fds": fds, "listeners": listeners,
      "ignored": status["SigIgn"].strip(), "blocked": status["SigBlk"].strip(), "argv": sys.argv}), flush=True)
time.sleep(3600)
"""


def witness_of(aether):
    lines = lambda: [x for x in aether.cli("logs", "-o", "json").stdout.splitlines() if "WITNESS" in x]
    found = eventually(lines, "the program told what it sees")
    return json.loads(json.loads(found[-1])["text"].removeprefix("WITNESS "))


@pytest.mark.edge("A6", "A7")
def test_every_kind_of_listener_is_handed_over_in_order(start, tmp_path):
    unix = f"/tmp/ae-{os.getpid()}.sock"
    ports = [free_port() for _ in range(4)]
    listen = [
        f"127.0.0.1:{ports[0]}",
        f"[::1]:{ports[1]}",
        f":{ports[2]}",
        f"udp://127.0.0.1:{ports[3]}",
        f"unix:{unix}",
        f"unix-dgram:{unix}.dgram",
        f"unix-seqpacket:{unix}.seq",
        f"unix:@ae-{os.getpid()}",
    ]
    aether = start(service(program(tmp_path, "witness.py", WITNESS), listen=listen, ready={"delay": "10ms"}))
    seen = witness_of(aether)
    kinds = [(one["family"], one["type"]) for one in seen["listeners"]]
    assert kinds == [
        ("AF_INET", "SOCK_STREAM"),
        ("AF_INET6", "SOCK_STREAM"),
        ("AF_INET6", "SOCK_STREAM"),
        ("AF_INET", "SOCK_DGRAM"),
        ("AF_UNIX", "SOCK_STREAM"),
        ("AF_UNIX", "SOCK_DGRAM"),
        ("AF_UNIX", "SOCK_SEQPACKET"),
        ("AF_UNIX", "SOCK_STREAM"),
    ]
    for host, port in (("127.0.0.1", ports[0]), ("::1", ports[1]), ("127.0.0.1", ports[2]), ("::1", ports[2])):
        socket.create_connection((host, port), timeout=10).close()
    for kind, path in ((socket.SOCK_STREAM, unix), (socket.SOCK_SEQPACKET, unix + ".seq")):
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(path)
    aether.stop()
    assert not os.path.exists(unix) and not os.path.exists(unix + ".dgram")


def test_the_child_sees_exactly_what_is_promised_and_nothing_else(start, tmp_path):
    port = free_port()
    outer = {
        "NOTIFY_SOCKET": "@outer-manager",
        "LISTEN_PID": "1",
        "LISTEN_FDS": "9",
        "WATCHDOG_USEC": "1000",
        "NGINX": "7;",
        "GUNICORN_FD": "5",
        "EINHORN_FD_COUNT": "3",
        "UNTOUCHED": "as it was",
    }
    aether = start(
        {
            "service": {
                "name": "witness",
                "command": [*program(tmp_path, "witness.py", WITNESS), "--fd", "{fd:http}"],
                "listen": [{"name": "http", "address": f"127.0.0.1:{port}"}],
                "env": {"MINE": "yes"},
                "ready": {"delay": "10ms"},
            },
            "observability": {"metrics_port": "none"},
        },
        env=outer,
    )
    seen = witness_of(aether)
    env = seen["env"]
    assert env["LISTEN_FDS"] == "1" and env["LISTEN_FDNAMES"] == "http"
    assert env["LISTEN_PID"] == str(seen["pid"])
    assert env["AETERNA_INHERITED_FDS"] == "1" and env["AETERNA_MANAGED"] == "1"
    assert os.path.exists(env["AETERNA_STATE_SOCK"]) and env["NOTIFY_SOCKET"] != "@outer-manager"
    assert env["SERVER_STARTER_PORT"] == f"127.0.0.1:{port}=3"
    assert env["EINHORN_FD_COUNT"] == "1" and env["EINHORN_FD_0"] == "3"
    assert env["MINE"] == "yes" and env["UNTOUCHED"] == "as it was"
    for foreign in ("WATCHDOG_USEC", "NGINX", "GUNICORN_FD"):
        assert foreign not in env
    # 0, 1, 2 and the listener; the entry of /proc/self/fd that listdir itself opened is gone by now.
    assert sorted(seen["fds"], key=int)[:4] == ["0", "1", "2", "3"]
    assert len(seen["fds"]) == 4, seen["fds"]
    assert seen["fds"]["0"] == "/dev/null"
    assert seen["listeners"][0]["inherits"]
    # Python itself ignores SIGPIPE and SIGXFSZ; nothing else may be ignored, nothing blocked.
    assert int(seen["ignored"], 16) & ~((1 << 12) | (1 << 24)) == 0
    assert int(seen["blocked"], 16) == 0
    assert seen["argv"][1:] == ["--fd", "3"]


def test_the_environment_neither_leaks_nor_grows_over_reloads(start, tmp_path):
    port = free_port()
    config = service(program(tmp_path, "witness.py", WITNESS), listen=[f"127.0.0.1:{port}"], ready={"delay": "10ms"})
    config["service"]["env"] = {"REMOVED": "1", "CHANGED": "before"}
    config["orchestration"]["soak_time"] = "0s"
    aether = start(config)
    first = witness_of(aether)["env"]
    config["service"]["env"] = {"CHANGED": "after"}
    aether.write_config(config)
    for _ in range(3):
        assert aether.reload()["verdict"] == "succeeded"
    newest = str(aether.service()["revision"])
    eventually(lambda: witness_of(aether)["env"]["AETHER_REVISION"] == newest, "the last one told what it sees")
    last = witness_of(aether)["env"]
    assert "REMOVED" in first and "REMOVED" not in last and last["CHANGED"] == "after"
    assert set(last) == set(first) - {"REMOVED"}


@pytest.mark.edge("A1")
def test_a_connection_that_waits_while_nothing_accepts_is_answered_by_the_next_revision(start, tmp_path):
    port = free_port()
    deaf = "import socket, time\nsocket.socket(fileno=3)\nprint('deaf', flush=True)\ntime.sleep(3600)"
    command = program(tmp_path, "server.py", deaf)
    config = service(command, listen=[f"127.0.0.1:{port}"], ready={"delay": "10ms"}, soak="0s")
    aether = start(config)
    waiting = []
    for _ in range(200):
        client = socket.create_connection(("127.0.0.1", port), timeout=60)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        waiting.append(client)
    program(tmp_path, "server.py", ASYNCIO)
    config["service"]["ready"] = "listening"
    aether.write_config(config)
    assert aether.reload()["verdict"] == "succeeded"
    answered = 0
    for client in waiting:
        client.settimeout(60)
        answered += client.recv(65536).startswith(b"HTTP/1.1 200")
        client.close()
    assert answered == 200


def test_udp_and_unix_listeners_are_steered_too(start, tmp_path):
    port = free_port()
    path = f"/tmp/ae-{os.getpid()}-u.sock"
    text = """
import os, selectors, socket
udp, unix = socket.socket(fileno=3), socket.socket(fileno=4)
selector = selectors.DefaultSelector()
selector.register(udp, selectors.EVENT_READ); selector.register(unix, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fileobj is udp:
            data, peer = udp.recvfrom(2048); udp.sendto(str(os.getpid()).encode(), peer)
        else:
            connection, _ = unix.accept(); connection.sendall(str(os.getpid()).encode()); connection.close()
"""
    listen = [f"udp://127.0.0.1:{port}", f"unix:{path}"]
    aether = start(service(program(tmp_path, "both.py", text), listen=listen, soak="0s"))

    def by_udp():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(60)
            client.sendto(b"who", ("127.0.0.1", port))
            return int(client.recv(100))

    def by_unix():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(path)
            return int(client.recv(100))

    for _ in range(5):
        swap = aether.reload()
        assert swap["verdict"] == "succeeded"
        assert by_udp() == swap["pid"] and by_unix() == swap["pid"]


@pytest.mark.edge("A7")
def test_port_zero_keeps_its_number_over_swaps(start, tmp_path):
    aether = start(service(program(tmp_path, "server.py", ASYNCIO), listen=["127.0.0.1:0"], soak="0s"))
    before = aether.service()["listeners"][0]["address"]
    assert not before.endswith(":0")
    for _ in range(3):
        assert aether.reload()["verdict"] == "succeeded"
    assert aether.service()["listeners"][0]["address"] == before


def test_an_exclusive_service_has_one_owner_at_a_time_and_its_clients_wait(start, tmp_path):
    port = free_port()
    lock = tmp_path / "lock"
    text = f"""
import fcntl, os, signal, socket, sys
lock = open({str(lock)!r}, "w")
try: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError: sys.exit("two owners")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
listener = socket.socket(fileno=3)
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    body = str(os.getpid()).encode()
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    connection.close()
"""
    listen = [{"address": f"127.0.0.1:{port}", "mode": "exclusive"}]
    aether = start(service(program(tmp_path, "db.py", text), listen=listen, soak="0s"))
    pids = {aether.service()["pid"]}
    for _ in range(5):
        swap = aether.reload()
        assert swap["verdict"] == "succeeded", swap
        assert swap["blackout_ms"] > 0
        pids.add(swap["pid"])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(65536).endswith(str(swap["pid"]).encode())
    assert len(pids) == 6


def test_an_exclusive_swap_that_fails_starts_the_old_revision_again(start, tmp_path):
    port = free_port()
    command = program(tmp_path, "server.py", ASYNCIO)
    listen = [{"address": f"127.0.0.1:{port}", "mode": "exclusive"}]
    config = service(command, listen=listen, soak="0s")
    aether = start(config)
    config["service"]["command"] = ["/bin/sh", "-c", "exit 4"]
    aether.write_config(config)
    swap = aether.reload()
    assert swap["verdict"] == "rolled-back" and "code 4" in swap["why"], swap
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_aethers_own_descriptors_do_not_grow_over_a_hundred_swaps(start, tmp_path):
    port = free_port()
    text = "import socket, time\nlistener = socket.socket(fileno=3)\nwhile True: listener.accept()[0].close()"
    aether = start(service(program(tmp_path, "tiny.py", text), listen=[f"127.0.0.1:{port}"], soak="0s"))

    def settled():
        eventually(lambda: aether.service()["state"] == "RUNNING", "the drain is over")
        return len(os.listdir(f"/proc/{aether.pid}/fd"))

    for _ in range(3):
        assert aether.reload()["verdict"] == "succeeded"
    before = settled()
    for _ in range(100):
        assert aether.reload()["verdict"] == "succeeded"
    eventually(lambda: settled() <= before, f"descriptors are back at {before}")
