# SPDX-License-Identifier: Apache-2.0
"""What is more than a question and an answer, through a whole Aether: bodies larger than its memory, streams without an
end, tunnels, old clients; those that mean no good; and each answer that is Aether's own, once."""

import hashlib
import http.client
import json
import os
import pathlib
import select
import socket
import struct

import pytest

import handlers
from aether import PATIENCE, SANITIZED, eventually, free_port

MEBI = 1 << 20


class Site:
    """A function of tests/handlers/streams.py in an Aether of its own."""

    def __init__(self, start, folder, **keys):
        self.gate, self.seen = folder / "gate", folder / "seen"
        self.seen.touch()
        self.port = free_port()
        environment = {"GATE": str(self.gate), "SEEN": str(self.seen)}
        one = handlers.function(handlers.build("streams", folder / "handler"), self.port, environment=environment,
                                on_restore_failure="cold", **keys)
        # A busy machine may need longer than the default's 15 ms for a copy.
        self.aether = start({"orchestrator": {"restore_timeout_ms": 100, "warm_pool_size": 1}, "functions": [one],
                             "observability": {"metrics_port": "none"}})

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def ask(self, path="/ok", method="GET", **more):
        """(status, head, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, **more)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def raw(self, request):
        """All that comes back for these bytes until Aether closes."""
        with self.connect() as client:
            client.sendall(request)
            return all_of(client)

    def state(self):
        return self.aether.ask("GET", "/v1/functions/fn")[1]

    def resident(self):
        return int(pathlib.Path(f"/proc/{self.aether.pid}/statm").read_text().split()[1]) * 4096

    def was_asked(self):
        return self.seen.read_text()


@pytest.fixture
def site(start, tmp_path):
    return lambda **keys: Site(start, tmp_path, **keys)


def all_of(client):
    text = b""
    while piece := client.recv(1 << 16):
        text += piece
    return text


# ---- Bodies


def fill(client, chunk, most):
    """Sends until nobody takes any more for a while; gives how often the chunk was sent whole, and the rest of it."""
    client.setblocking(False)
    left, times = b"", 0
    while times < most and select.select([], [client], [], 1)[1]:
        left = left or chunk
        left = left[client.send(left):]
        times += not left
    client.settimeout(PATIENCE)
    return times, left


@pytest.mark.parametrize("framing", ["of_known_length", "in_chunks"])
def test_a_hundred_megabytes_wait_for_a_slow_handler_outside_of_aether(site, framing):
    at = site(timeout_ms=600000)
    assert at.ask()[0] == 200
    before = at.resident()
    piece = os.urandom(1 << 16)
    count = 100 * MEBI // len(piece)
    digest = hashlib.sha256(piece * count).hexdigest()
    chunk = piece if framing == "of_known_length" else b"%x\r\n%s\r\n" % (len(piece), piece)
    length = f"Content-Length: {100 * MEBI}" if chunk is piece else "Transfer-Encoding: chunked"
    with at.connect() as client:
        client.sendall(f"POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{length}\r\n\r\n".encode())
        sent, left = fill(client, chunk, count)
        # The kernel's buffers of two connections hold some of it; Aether does not hold the rest.
        assert sent < count // 2, "what the handler does not read was taken all the same"
        assert at.resident() - before < (64 if SANITIZED else 8) * MEBI
        at.gate.touch()
        client.sendall(left)
        for _ in range(count - sent - bool(left)):
            client.sendall(chunk)
        client.sendall(b"" if chunk is piece else b"0\r\n\r\n")
        head, body = all_of(client).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert json.loads(body) == {"bytes": 100 * MEBI, "sha256": digest}
    assert at.resident() - before < (64 if SANITIZED else 8) * MEBI


# ---- Streams


def test_events_come_one_by_one_for_longer_than_the_timeout_and_the_idle_timeout(site):
    at = site(timeout_ms=500, idle_timeout="200ms")
    client = at.connect()
    client.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    events = client.makefile("rb")
    assert events.readline().startswith(b"HTTP/1.1 200 ")
    while events.readline() != b"\r\n":
        pass
    # Fifty of 20 ms each are twice the timeout. They are read while the handler goes on: it ends when it is told.
    for number in range(50):
        line = events.readline()
        while not line.startswith(b"data: "):
            line = events.readline()
        assert line == b"data: %d\n" % number
    assert at.state()["requests"]["in_flight"] == 1
    at.gate.touch()
    assert b"event: end" in events.read()
    client.close()
    assert at.state()["requests"]["by_status"] == {"200": 1}


def test_a_client_that_leaves_a_stream_frees_the_place(site):
    at = site(max_instances=1)
    client = at.connect()
    client.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.recv(1)
    client.close()
    # One instance, one request at a time: it is answered when the stream has ended, which the gate never asks for.
    assert at.ask("/ok")[2] == b"ok"


def masked(kind, payload, mask=b"\x11\x22\x33\x44"):
    """A client's frame: RFC 6455, section 5.2."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = struct.pack(">BH", 0x80 | 126, size) if size <= 0xFFFF else struct.pack(">BQ", 0x80 | 127, size)
    return bytes([0x80 | kind]) + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def unmasked(stream):
    kind, size = stream.read(2)
    if size == 126:
        size, = struct.unpack(">H", stream.read(2))
    elif size == 127:
        size, = struct.unpack(">Q", stream.read(8))
    return kind & 0x0F, stream.read(size)


def test_a_web_socket_is_a_tunnel_that_outlives_the_timeouts(site):
    at = site(timeout_ms=500, idle_timeout="200ms")
    client = at.connect()
    # The key and its answer are the example of RFC 6455, section 1.3.
    client.sendall(b"GET /socket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    stream = client.makefile("rb")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.readline()
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    for kind, payload in [(1, b"hello"), (2, os.urandom(300)), (2, os.urandom(200_000)), (1, b"")]:
        client.sendall(masked(kind, payload))
        assert unmasked(stream) == (kind, payload)
    # Nothing goes either way for longer than both timeouts: another connection's answers measure it.
    warm = {one["pid"] for one in at.state()["instances"] if one["in_flight"]}
    assert at.ask("/hang")[0] == 504
    client.sendall(masked(9, b"there?"))
    assert unmasked(stream) == (10, b"there?")
    assert {one["pid"] for one in at.state()["instances"] if one["in_flight"]} == warm
    client.sendall(masked(8, b"\x03\xe8"))
    assert unmasked(stream) == (8, b"\x03\xe8")
    assert stream.read() == b""
    client.close()


# ---- Old clients, old handlers


def test_a_client_of_http_1_0_gets_what_it_can_read(site):
    at = site()
    answer = at.raw(b"GET /ok HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.") and b" 200 " in answer.split(b"\r\n")[0]
    assert answer.endswith(b"\r\n\r\nok")
    # An answer without a length ends with the connection: chunks it could not read.
    answer = at.raw(b"GET /old HTTP/1.0\r\n\r\n")
    assert b"chunked" not in answer.lower() and answer.endswith(b"\r\n\r\nuntil it closes")
    # A client of HTTP/1.1 keeps its connection.
    connection = http.client.HTTPConnection("127.0.0.1", at.port, timeout=PATIENCE)
    for path, body in [("/old", b"until it closes"), ("/ok", b"ok")] * 2:
        connection.request("GET", path)
        kept = connection.sock
        assert kept is not None and connection.getresponse().read() == body
    assert connection.sock is kept
    connection.close()


# ---- Those that mean no good

POST = b"POST /first HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
TWO_READINGS = {
    "a_length_and_chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks_and_a_length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two_lengths": POST + b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
    "two_lengths_in_one": POST + b"Content-Length: 0, 40\r\n\r\n",
    "a_length_with_a_sign": POST + b"Content-Length: +0\r\n\r\n",
    "a_length_in_hex": POST + b"Content-Length: 0x0\r\n\r\n",
    "a_length_that_overflows": POST + b"Content-Length: 18446744073709551616\r\n\r\n",
    "a_coding_that_is_not_known": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks_that_are_not_last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two_codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks_in_http_1_0": b"POST /first HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a_folded_line": POST + b"X: a\r\n Content-Length: 40\r\n\r\n",
    "a_space_before_the_colon": POST + b"Content-Length : 40\r\n\r\n",
    "a_space_before_the_name": POST.replace(b"Host", b" Host") + b"\r\n",
    "a_bare_lf_in_the_head": POST + b"X: a\nContent-Length: 40\r\n\r\n",
    "a_head_of_bare_lfs": b"GET /first HTTP/1.1\nHost: a\n\n",
    "a_bare_cr": POST + b"X: a\rContent-Length: 40\r\n\r\n",
    "a_zero_byte": POST + b"X: a\0b\r\n\r\n",
    "two_hosts": b"GET /first HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no_host": b"GET /first HTTP/1.1\r\n\r\n",
}
BAD_CHUNKS = {
    "no_size": b"\r\n\r\n",
    "a_size_with_a_sign": b"-1\r\n\r\n",
    "a_size_in_0x": b"0x1\r\na\r\n0\r\n\r\n",
    "a_size_that_overflows": b"fffffffffffffffff\r\n\r\n",
    "a_bare_lf_behind_the_size": b"1\na\r\n0\r\n\r\n",
    "more_than_the_size": b"1\r\nab\r\n0\r\n\r\n",
}


def test_what_two_readers_could_read_differently_reaches_no_handler(site):
    at = site()
    for name, request in TWO_READINGS.items():
        answer = at.raw(request + SMUGGLED)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), (name, answer)
        assert answer.count(b"HTTP/1.1 ") == 1, (name, answer)
        assert b"\r\nConnection: close\r\n" in answer, (name, answer)
    assert at.was_asked() == "", "its handler was asked nothing"
    assert at.state()["requests"]["in_flight"] == 0
    assert at.ask()[2] == b"ok"


def test_chunks_that_are_not_framed_end_the_connection_before_the_next_request(site):
    at = site()
    at.gate.touch()
    for name, chunks in BAD_CHUNKS.items():
        answer = at.raw(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + SMUGGLED)
        assert answer.startswith(b"HTTP/1.1 400 "), (name, answer)
        assert answer.count(b"HTTP/1.1 ") == 1, (name, answer)
    assert "/smuggled" not in at.was_asked()
    assert at.ask()[2] == b"ok"


# ---- Aether's own answers


def is_problem(answer, status, code):
    """It is Aether's own, in the form that docs/functions.md promises; gives its message."""
    assert answer[0] == status, answer
    told = json.loads(answer[2])
    assert set(told) == {"code", "message", "function", "call_id"}, told
    assert (told["code"], told["function"], told["call_id"]) == (code, "fn", answer[1]["X-Call-Id"]), told
    return told["message"]


def test_each_answer_of_aethers_own_says_what_happened(site):
    at = site(timeout_ms=1000, max_instances=1)
    given = {"X-Call-Id": "mine"}
    message = is_problem(at.ask("/die", headers=given), 502, "handler_died")
    assert "exited with code 7" in message, message
    assert at.ask("/die", headers=given)[1]["X-Call-Id"] == "mine"
    message = is_problem(at.ask("/hang"), 504, "timeout")
    assert "1s" in message, message
    assert at.ask()[2] == b"ok"
    counted = at.state()["requests"]
    assert counted["by_status"] == {"200": 1, "502": 2, "504": 1}
    assert counted["refusals"] == {"handler_died": 2, "timeout": 1}


def test_one_more_than_may_be_in_flight_is_a_429(site):
    at = site(timeout_ms=600000, max_instances=1)
    most = 1000
    clients = []
    try:
        for _ in range(most):
            clients.append(at.connect())
            clients[-1].sendall(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        counts = lambda: at.state()["requests"]
        eventually(lambda: counts()["in_flight"] + counts()["queued"] == most, f"all of them wait: {counts()}")
        answer = at.ask()
        message = is_problem(answer, 429, "too_many")
        assert "1000" in message and int(answer[1]["Retry-After"]) >= 1
        assert at.ask("/_/ready")[0] == 429
        assert at.ask("/_/health")[0] == 200
    finally:
        for client in clients:
            client.close()
    at.gate.touch()
    eventually(lambda: at.ask()[0] == 200, "there is room again")


def test_what_cannot_be_started_is_a_503_with_the_reason(site):
    at = site(launch="spawn", idle_timeout="200ms", max_instances=1)
    resting = lambda: [one["pid"] for one in at.state()["instances"]]
    pathlib.Path(at.state()["handler_path"]).write_text("raise SystemExit('the disk is gone')\n")
    for pid in resting():
        os.kill(pid, 9)
    answer = eventually(lambda: (now := at.ask())[0] == 503 and now, "no instance is left that serves")
    message = is_problem(answer, 503, "unavailable")
    assert "exited with code 1" in message and "the disk is gone" in message, message


@pytest.mark.parametrize("path, agent", [("/_/health", "curl"), ("/_/ready", "curl"), ("/ok", "kube-probe/1.30")])
def test_a_probe_is_answered_and_wakes_nothing(site, path, agent):
    at = site(idle_timeout="200ms")
    asleep = lambda: sorted(one["state"] for one in at.state()["instances"]) == ["parked", "template"]
    eventually(asleep, "it sleeps")
    starts = {tier: told["count"] for tier, told in at.state()["starts"].items()}
    for _ in range(20):
        assert at.ask(path, headers={"User-Agent": agent})[0] in (200, 204)
        assert asleep()
    assert {tier: told["count"] for tier, told in at.state()["starts"].items()} == starts
    assert at.was_asked() == ""
