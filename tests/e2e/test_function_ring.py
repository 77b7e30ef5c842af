# SPDX-License-Identifier: Apache-2.0
"""Handlers with `ipc: ring`: requests go through shared memory, and clients notice nothing of it."""

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import zlib

import pytest

import handlers
from aether import PATIENCE, Aether, eventually, free_port

MANY = 1000
HUGE = 24 * 1024 * 1024


def start(folder, name="ring_python", settings=None, metrics_port="none", **more):
    path = handlers.build(name, folder / "handler")
    one = handlers.function(path, free_port(), ipc="ring", **more)
    # A busy machine may need longer than the default's 15 ms for a copy.
    orchestrator = {"restore_timeout_ms": 100, "warm_pool_size": 2, **(settings or {})}
    return Aether(folder / "aether", {"orchestrator": orchestrator, "functions": [one],
                                      "observability": {"metrics_port": metrics_port}})


def port_of(aether):
    return aether.function()["trigger_port"]


def ask(aether, path, body=None, method=None, headers=None, patience=PATIENCE):
    """(status, body, headers) of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(aether), timeout=patience)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def pattern(size):
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def states(aether):
    return [one["state"] for one in aether.function()["instances"]]


@pytest.fixture(scope="module")
def clones(tmp_path_factory):
    with start(tmp_path_factory.mktemp("ring"), max_instances=4) as aether:
        yield aether


def test_a_request_and_its_answer_go_through_the_ring(clones):
    status, body, headers = ask(clones, "/x?y=1")
    assert (status, body) == (200, b"hello from python /x")
    assert headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert headers["Content-Length"] == str(len(body))
    assert clones.function()["launch"] == "clone"


def test_the_handler_gets_the_head_that_any_other_would_get(clones):
    _, body, _ = ask(clones, "/headers", headers={"X-Mine": "1", "X-Call-Id": "abc"})
    got = json.loads(body)
    assert got["x-mine"] == "1" and got["x-call-id"] == "abc"
    assert got["x-forwarded-for"] == "127.0.0.1" and "traceparent" in got and "host" in got


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, HUGE])
def test_a_body_of_any_size_arrives_whole_with_a_length(clones, size):
    body = pattern(size)
    _, answer, _ = ask(clones, "/sum", body)
    assert json.loads(answer) == {"size": size, "crc": zlib.crc32(body)}


def test_a_chunked_body_arrives_without_its_frames(clones):
    pieces = [pattern(1), pattern(100_000), pattern(7)] * 5
    connection = http.client.HTTPConnection("127.0.0.1", port_of(clones), timeout=PATIENCE)
    connection.request("POST", "/sum", iter(pieces), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    got = json.loads(connection.getresponse().read())
    whole = b"".join(pieces)
    assert got == {"size": len(whole), "crc": zlib.crc32(whole)}


def test_a_body_is_answered_while_it_comes(clones):
    body = pattern(3 * 1024 * 1024)
    status, answer, headers = ask(clones, "/echo", body, method="PUT")
    assert status == 200 and answer == body
    assert headers["X-Method"] == "PUT" and headers["Transfer-Encoding"] == "chunked"


def test_an_answer_of_any_size_comes_whole(clones):
    for size in (0, 1, 65536, HUGE):
        assert ask(clones, f"/bytes?{size}")[1] == (bytes(range(256)) * 64 * (size // 16384 + 1))[:size]


def test_requests_of_one_connection_follow_each_other_and_head_has_no_body(clones):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(clones), timeout=PATIENCE)
    for method, length in (("GET", 20), ("HEAD", 0), ("GET", 20)):
        connection.request(method, "/x")
        answer = connection.getresponse()
        assert len(answer.read()) == length
    connection.close()


def test_a_client_of_http_1_0_gets_its_answer_until_the_end_of_the_connection(clones):
    with socket.create_connection(("127.0.0.1", port_of(clones)), PATIENCE) as client:
        client.sendall(b"GET /bytes?100000 HTTP/1.0\r\n\r\n")
        got = b"".join(iter(lambda: client.recv(65536), b""))
    assert len(got.partition(b"\r\n\r\n")[2]) == 100_000


def test_one_that_asks_first_whether_it_may_send_is_told_to(clones):
    with socket.create_connection(("127.0.0.1", port_of(clones)), PATIENCE) as client:
        client.sendall(b"POST /sum HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"abc")
        assert b'"size": 3' in b"".join(iter(lambda: client.recv(1), b"}"))


def test_a_websocket_is_refused_with_the_reason(clones):
    status, body, _ = ask(clones, "/", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert status == 501
    assert json.loads(body)["code"] == "upgrade_refused" and "ipc: http" in json.loads(body)["message"]


def test_a_handler_that_raises_is_a_502_and_goes_on(clones):
    status, body, _ = ask(clones, "/fail")
    assert status == 502 and json.loads(body)["code"] == "handler_failed"
    assert "as it was asked to" in json.loads(body)["message"]
    assert ask(clones, "/x")[0] == 200


def test_copies_draw_random_numbers_of_their_own(tmp_path):
    with start(tmp_path, min_instances=4, warmup=["/draw", "/bytes?200000"]) as aether:
        eventually(lambda: states(aether).count("warm") == 4, "four run")
        pids, draws = {}, set()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for path in ("/who", "/draw") * 4:
                answers = [pool.submit(ask, aether, path) for _ in range(4)]
                for answer in answers:
                    found = answer.result()[1]
                    pids.setdefault(path, set()).add(found)
        draws = pids["/draw"]
        assert len(draws) == 16, "no number came twice"


def test_a_thousand_at_once_are_answered(tmp_path):
    with start(tmp_path, "ring_asyncio", concurrency=1000, max_instances=2) as aether:
        with concurrent.futures.ThreadPoolExecutor(MANY // 10) as pool:
            got = list(pool.map(lambda n: ask(aether, f"/{n}")[1].decode(), range(MANY)))
        assert got == [f"hello from asyncio /{n}" for n in range(MANY)]


def test_threads_answer_at_once_what_one_would_answer_in_turn(tmp_path):
    with start(tmp_path, environment={"THREADS": "4"}, concurrency=4, max_instances=1, launch="spawn") as aether:
        body = pattern(300_000)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            slow = [pool.submit(ask, aether, "/slow?0.3") for _ in range(2)]
            echoes = [pool.submit(ask, aether, "/echo", body) for _ in range(12)]
            assert all(echo.result()[1] == body for echo in echoes)
            assert all(one.result()[1] == b"slow" for one in slow)


def test_a_slow_reader_holds_nobody_else_up_and_costs_no_memory(tmp_path):
    with start(tmp_path, "ring_asyncio", concurrency=100, max_instances=1) as aether:
        eventually(lambda: ask(aether, "/x")[0] == 200, "it answers")
        slow = socket.create_connection(("127.0.0.1", port_of(aether)), PATIENCE)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /bytes?%d HTTP/1.1\r\nHost: x\r\n\r\n" % (64 * 1024 * 1024))
        assert slow.recv(10) == b"HTTP/1.1 2"
        for _ in range(20):
            assert ask(aether, "/bytes?200000")[0] == 200
        slow.close()


def test_a_client_that_leaves_is_told_to_the_handler(tmp_path):
    with start(tmp_path, "ring_asyncio", concurrency=10, max_instances=1) as aether:
        eventually(lambda: ask(aether, "/x")[0] == 200, "it answers")
        client = socket.create_connection(("127.0.0.1", port_of(aether)), PATIENCE)
        client.sendall(b"GET /slow?60 HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: "begun" in aether.cli("logs", "fn").stdout, "it is under way")
        client.close()
        eventually(lambda: "cancelled" in aether.cli("logs", "fn").stdout, "the handler hears of it")


def test_a_request_that_takes_too_long_is_a_504_and_the_next_one_has_another_instance(tmp_path):
    with start(tmp_path, "ring_asyncio", timeout_ms=500, max_instances=2) as aether:
        status, body, _ = ask(aether, "/slow?60")
        assert status == 504 and json.loads(body)["code"] == "timeout"
        assert ask(aether, "/x")[0] == 200


@pytest.mark.parametrize("when", ["before", "in_the_middle"])
def test_a_handler_that_is_killed_is_a_502_or_a_cut_answer(tmp_path, when):
    with start(tmp_path, max_instances=2) as aether:
        if when == "before":
            status, body, _ = ask(aether, "/die")
            assert status == 502 and json.loads(body)["code"] == "handler_died"
        else:
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                ask(aether, "/die?100000")
        assert eventually(lambda: ask(aether, "/x")[0] == 200, "another one answers")


def test_one_that_idles_is_parked_and_answers_again(tmp_path):
    with start(tmp_path, idle_timeout="200ms", max_instances=1) as aether:
        for _ in range(3):
            assert ask(aether, "/x")[0] == 200
            eventually(lambda: "warm" not in states(aether) and "parked" in states(aether), "it is parked")


def test_a_deploy_and_a_rollback_lose_no_request(tmp_path):
    with start(tmp_path, max_instances=2) as aether:
        handler = tmp_path / "handler" / "ring_python.py"
        stop, failed = [], []

        def keep_asking():
            while not stop:
                status, body, _ = ask(aether, "/x")
                if status != 200 or not body.startswith(b"hello"):
                    failed.append((status, body))

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running = [pool.submit(keep_asking) for _ in range(2)]
            handler.write_text(handler.read_text().replace("hello from python", "hello again"))
            aether.hangup()
            eventually(lambda: ask(aether, "/x")[1].startswith(b"hello again"), "the new one answers")
            aether.cli("rollback", "fn", check=True)
            eventually(lambda: ask(aether, "/x")[1].startswith(b"hello from"), "the old one answers")
            stop.append(True)
            for one in running:
                one.result()
        assert failed == []


def test_the_end_of_aether_ends_its_handlers(tmp_path):
    with start(tmp_path, launch="spawn", min_instances=1) as aether:
        pid = int(ask(aether, "/who")[1])
        os.kill(aether.pid, signal.SIGKILL)
        eventually(lambda: not os.path.exists(f"/proc/{pid}"), "it is gone")
