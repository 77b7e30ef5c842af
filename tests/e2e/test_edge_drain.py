# SPDX-License-Identifier: Apache-2.0
"""How an old revision ends: when it is told to stop, what it may finish, and how many live at a time."""

import http.client
import json
import selectors
import socket
import threading
import time
from datetime import datetime

import pytest
from aether import PATIENCE, eventually, free_port
from programs import COUNTER, program, service

# An ordinary server: "/" answers with the pid; "/stream" sends the pid again and again until its client leaves. It
# ends at SIGTERM as such servers do, cutting what is open.
STREAMS = """
import asyncio, os, socket
async def answer(reader, writer):
    try:
        request = await reader.readuntil(b"\\r\\n\\r\\n")
        pid = str(os.getpid()).encode()
        if b"/stream" not in request:
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n" % len(pid))
            writer.write(b"Connection: close\\r\\n\\r\\n" + pid)
            return await writer.drain()
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\n\\r\\n")
        while True:
            writer.write(b"data: %s\\n\\n" % pid)
            await writer.drain()
            await asyncio.sleep(0.1)
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
async def main():
    async with await asyncio.start_server(answer, sock=socket.socket(fileno=3), backlog=4096):
        await asyncio.Event().wait()
asyncio.run(main())
"""

# The same, but deaf to SIGTERM.
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STREAMS


class Streams:
    """Clients of /stream, read by one thread: when each one heard something last, and when it ended."""

    def __init__(self, port):
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.heard, self.ended, self.sockets = {}, {}, []
        self.leaving = False
        self.thread = threading.Thread(target=self.read_all, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.leaving = True
        self.thread.join(PATIENCE)
        for sock in self.sockets:
            sock.close()

    def open(self, count):
        """More clients; returns their numbers when each has heard its first event."""
        numbers = []
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
            sock.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.setblocking(False)
            numbers.append(len(self.sockets))
            self.sockets.append(sock)
            self.selector.register(sock, selectors.EVENT_READ, numbers[-1])
        eventually(lambda: all(n in self.heard for n in numbers), "each stream has begun")
        return numbers

    def close(self):
        for sock in self.sockets:
            sock.shutdown(socket.SHUT_RDWR)

    def read_all(self):
        while not self.leaving:
            for key, _ in self.selector.select(0.05):
                try:
                    data = key.fileobj.recv(1 << 16)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if b"data:" in data:
                    self.heard[key.data] = time.time()
                if not data:
                    self.ended[key.data] = time.time()
                    self.selector.unregister(key.fileobj)

    def all_heard_since(self, moment):
        return lambda: len(self.heard) == len(self.sockets) and min(self.heard.values()) > moment


def answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return int(connection.getresponse().read())
    finally:
        connection.close()


def config(tmp_path, port, text=STREAMS, drain=None, cap=None, **more):
    made = service(program(tmp_path, "streams.py", text), listen=f"127.0.0.1:{port}", soak="0s", **more)
    made["orchestration"]["drain"] = drain or {}
    if cap:
        made["orchestration"]["max_revisions"] = cap
    return made


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def gone(aether, pid):
    return lambda: all(one["pid"] != pid for one in aether.service()["instances"])


@pytest.mark.parametrize("stop", ["when_idle", "at_deadline"])
def test_streams_of_an_ordinary_server_are_undisturbed_until_the_deadline(start, tmp_path, stop):
    port = free_port()
    aether = start(config(tmp_path, port, drain={"timeout": "5s", "stop": stop}, stop_timeout="1s"))
    old = aether.service()["pid"]
    with Streams(port) as streams:
        streams.open(200)
        swap = aether.reload()
        assert swap["verdict"] == "succeeded" and answers(port) == swap["pid"]
        status = aether.service()
        (drain,) = status["draining"]
        assert (status["state"], status["phase"]) == ("DRAINING", "draining")
        assert (drain["pid"], drain["revision"]) == (old, 1)
        deadline = moment(drain["deadline"])
        assert 4.9 < deadline - moment(drain["since"]) < 5.1
        eventually(
            lambda: [(d["stage"], d["connections"]) for d in aether.service()["draining"]] == [("waiting", 200)],
            "status counts its connections",
        )
        assert "revision 1 drains until" in aether.cli("status").stdout
        eventually(gone(aether, old), "the old revision ends after its deadline")
        eventually(lambda: len(streams.ended) == 200, "each stream ends with it")
        early = sorted(streams.ended.values())[0] - deadline
        assert early > -0.1, f"a stream ended {-early:.2f}s before the deadline"
        assert time.time() - deadline < 30
    eventually(lambda: aether.service()["state"] == "RUNNING", "nothing drains any more")


def test_an_old_revision_stops_as_soon_as_its_last_connection_has_ended(start, tmp_path):
    port = free_port()
    aether = start(config(tmp_path, port, drain={"timeout": "10m", "stop": "when_idle"}))
    old = aether.service()["pid"]
    with Streams(port) as streams:
        streams.open(3)
        assert aether.reload()["verdict"] == "succeeded"
        eventually(
            lambda: [d["connections"] for d in aether.service()["draining"]] == [3], "its connections are counted"
        )
        before = time.time()
        eventually(streams.all_heard_since(before), "all of them go on")
        assert not streams.ended
        streams.close()
        eventually(gone(aether, old), "it ends, ten minutes before its deadline")


def test_an_old_revision_without_connections_does_not_wait(start, tmp_path):
    port = free_port()
    aether = start(config(tmp_path, port, drain={"timeout": "10m", "stop": "when_idle"}))
    old = aether.service()["pid"]
    assert aether.reload()["verdict"] == "succeeded"
    eventually(gone(aether, old), "it ends at once")


def test_connections_of_a_unix_socket_are_counted_too(start, tmp_path):
    made = config(tmp_path, 1, drain={"timeout": "10m", "stop": "when_idle"})
    made["service"]["listen"] = f"unix:{tmp_path}/web.sock"
    aether = start(made)
    old = aether.service()["pid"]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "web.sock"))
        client.sendall(b"GET /stream HTTP/1.1\r\n\r\n")
        assert client.recv(1000)
        assert aether.reload()["verdict"] == "succeeded"
        eventually(lambda: [d["connections"] for d in aether.service()["draining"]] == [1], "it is counted")
        assert not gone(aether, old)()
    eventually(gone(aether, old), "it ends when its client is gone")


@pytest.mark.edge("C2")
def test_what_is_open_at_the_drains_deadline_is_cut_then_and_not_before(start, tmp_path):
    """The server was told to stop at once, and does not: at the deadline its whole tree is killed."""
    port = free_port()
    aether = start(config(tmp_path, port, DEAF, drain={"timeout": "3s"}, stop_timeout="2s"))
    old = aether.service()["pid"]
    with Streams(port) as streams:
        streams.open(20)
        assert aether.reload()["verdict"] == "succeeded"
        (drain,) = aether.service()["draining"]
        deadline = moment(drain["deadline"])
        eventually(gone(aether, old), "the old revision is killed")
        eventually(lambda: len(streams.ended) == 20, "each stream ends")
        assert -0.1 < min(streams.ended.values()) - deadline < 20
    assert f"revision 1 (pid {old}) did not end in time and is killed; it had 20 connections" in aether.text()
    assert answers(port) == aether.service()["pid"]


@pytest.mark.edge("C5")
def test_of_many_reloads_with_a_stream_open_in_each_the_oldest_ends_first(start, tmp_path):
    port = free_port()
    drain = {"timeout": "10m", "stop": "at_deadline"}
    aether = start(config(tmp_path, port, drain=drain, cap=3, stop_timeout="10s"))
    most = []
    with Streams(port) as streams:
        for revision in range(1, 7):
            streams.open(1)
            swap = aether.reload()
            assert swap["verdict"] == "succeeded", swap
            assert answers(port) == swap["pid"], "new clients are with the newest one"
            living = aether.service()["instances"]
            most.append(len(living))
            draining = [d["revision"] for d in aether.service()["draining"]]
            assert draining == list(range(max(1, revision - 1), revision + 1))
        # Six streams were opened; the revisions of the first four had to go, one after the other.
        eventually(lambda: len(streams.ended) == 4, "the oldest revisions ended")
        assert sorted(streams.ended, key=streams.ended.get) == [0, 1, 2, 3]
        now = time.time()
        eventually(lambda: all(streams.heard[n] > now for n in (4, 5)), "the younger ones go on")
    assert max(most) <= 3, most
    assert "max_revisions" in aether.text()


def test_a_reload_waits_for_no_drain_and_a_rollback_neither(start, tmp_path):
    port = free_port()
    aether = start(config(tmp_path, port, drain={"timeout": "10m", "stop": "at_deadline"}, cap=8))
    first = aether.service()["pid"]
    second = aether.reload()
    assert second["verdict"] == "succeeded"
    code, answer = aether.ask("POST", "/v1/services/web/rollback?wait=true")
    assert code == 200 and answer["swaps"][0]["verdict"] == "succeeded", answer
    assert answers(port) == answer["swaps"][0]["pid"]
    draining = [d["pid"] for d in aether.service()["draining"]]
    assert draining == [first, second["pid"]], "both still drain"


@pytest.mark.edge("B10")
def test_sigterm_ends_revisions_that_drain_too(start, tmp_path):
    port = free_port()
    aether = start(config(tmp_path, port, drain={"timeout": "10m", "stop": "at_deadline"}, cap=8))
    with Streams(port) as streams:
        for _ in range(3):
            streams.open(1)
            assert aether.reload()["verdict"] == "succeeded"
        pids = [one["pid"] for one in aether.service()["instances"]]
        assert len(pids) == 4
        began = time.monotonic()
        assert aether.stop() == 0
        assert time.monotonic() - began < 30
        eventually(lambda: len(streams.ended) == 3, "their streams end")


def test_a_kept_connection_reaches_the_memory_wherever_it_has_moved_meanwhile(start, tmp_path):
    """The old revision passes on what it is asked; after a second swap that must be the third one's answer."""
    port = free_port()
    made = config(tmp_path, port, COUNTER, drain={"timeout": "10m", "stop": "when_idle"})
    made["orchestration"]["state_handoff"] = True
    aether = start(made)
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def ask(method, path):
        kept.request(method, path)
        answer = kept.getresponse()
        return json.loads(answer.read())

    updates = 0
    first = ask("GET", "/")["pid"]
    for revision in (1, 2, 3):
        ask("POST", f"/updates/{updates}")
        updates += 1
        if kept.sock is None:
            break  # It was told to come back: its next request goes to whoever serves.
        swap = aether.reload()
        assert swap["verdict"] == "succeeded", swap
        answer = ask("POST", f"/updates/{updates}")
        updates += 1
        assert answer["pid"] == swap["pid"] != first, f"revision {revision + 1} has the memory and answers"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/memory")
    memory = json.loads(connection.getresponse().read())
    connection.close()
    kept.close()
    assert memory["seen"] == {str(n): 1 for n in range(updates)}
