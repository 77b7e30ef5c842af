# SPDX-License-Identifier: Apache-2.0
"""The drain that nobody notices: programs that use the SDK, and clients of every kind on old connections."""

import asyncio
import hashlib
import http.client
import socket
import threading
import time

import pytest

from aether import eventually
from drains import SERVER, block, served
from programs import COUNTER
from under_load import Load, soak, swap_all

def ask(connection, path="/", method="GET"):
    connection.request(method, path)
    answer = connection.getresponse()
    return answer, answer.read()


def connected(port):
    return http.client.HTTPConnection("127.0.0.1", port, timeout=120)


class Regulars:
    """Clients that keep their connection, and ask at a pace of their own."""

    def __init__(self, port, pauses, method="GET"):
        self.port, self.method = port, method
        self.stop = threading.Event()
        self.failures, self.answered, self.moved = [], 0, 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(n, pause)) for n, pause in enumerate(pauses)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def work(self, number, pause):
        connection, count = connected(self.port), 0
        while not self.stop.is_set():
            count += 1
            try:
                answer, _ = ask(connection, f"/add/{number}-{count}", self.method)
                if answer.status != 200:
                    raise http.client.HTTPException(f"status {answer.status}")
                with self.lock:
                    self.answered += 1
                    self.moved += answer.will_close
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{number}-{count}: {error!r}")
                connection.close()
            self.stop.wait(pause)


@pytest.mark.edge("C6")
@pytest.mark.parametrize("memory", [False, True], ids=["without memory", "with memory"])
def test_keep_alive_clients_lose_no_request_however_often_they_ask(start, tmp_path, memory):
    swaps = soak(10)
    aether, port = served(start, tmp_path, COUNTER if memory else SERVER, memory, drain={"timeout": "20s"})
    method = "POST" if memory else "GET"
    with Regulars(port, [0] * 3 + [0.05] * 3 + [0.5] * 4 + [2.0] * 4, method) as clients:
        swap_all(aether, swaps)
        done = clients.answered
        eventually(lambda: clients.answered > done + 100, "they go on")
    assert clients.failures == []
    assert clients.moved >= swaps * 3, "each swap moves at least those that ask all the time"


@pytest.mark.edge("C6")
def test_aether_load_sees_no_idle_close_under_a_request(start, tmp_path):
    aether, port = served(start, tmp_path)
    with Load(port, clients=8, rate=400, keep_alive=True) as load:
        swap_all(aether, soak(10))
    load.lost_nobody(soak(10))


@pytest.mark.edge("C1")
def test_an_answer_that_was_begun_before_the_swap_arrives_byte_for_byte_after_it(start, tmp_path):
    aether, port = served(start, tmp_path)
    old = str(aether.service()["pid"])
    slow = connected(port)
    slow.request("GET", "/gated/400000")
    answer = slow.getresponse()
    assert answer.getheader("X-Pid") == old
    begun = answer.read(1000)
    swap_all(aether, 2)
    assert ask(connected(port))[1].decode() == str(aether.service()["pid"]) != old
    (tmp_path / "go").touch()
    whole = begun + answer.read()
    assert hashlib.sha256(whole).digest() == hashlib.sha256(block(400000)).digest()


@pytest.mark.edge("C8")
def test_a_client_that_has_said_its_last_word_gets_its_answer_after_the_swap(start, tmp_path):
    aether, port = served(start, tmp_path)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as half:
        half.sendall(b"GET /gated/300000 HTTP/1.1\r\nHost: x\r\n\r\n")
        half.shutdown(socket.SHUT_WR)
        reader = half.makefile("rb")
        assert reader.readline().startswith(b"HTTP/1.1 200")
        swap_all(aether, 1)
        (tmp_path / "go").touch()
        assert reader.read().endswith(block(300000)[-1000:])


@pytest.mark.edge("C9")
def test_bytes_that_nobody_reads_any_more_do_not_destroy_the_last_answer(start, tmp_path):
    aether, port = served(start, tmp_path)
    socks = []
    for _ in range(20):
        sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        sock.sendall(b"GET /gated/200000 HTTP/1.1\r\nHost: x\r\n\r\n")
        socks.append((sock, sock.makefile("rb")))
    for _, reader in socks:
        assert reader.readline().startswith(b"HTTP/1.1 200")
    swap_all(aether, 1)
    for sock, _ in socks:  # a request that is not answered on this connection, and is only half there
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"y" * 50000)
    (tmp_path / "go").touch()
    tail = block(200000)[-1000:]
    for sock, reader in socks:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += reader.readline()
        whole = reader.read(len(block(200000)))
        assert len(whole) == len(block(200000)) and whole.endswith(tail)
        sock.close()


@pytest.mark.edge("C7")
def test_a_thousand_idle_connections_are_closed_over_the_spread_and_not_in_a_burst(start, tmp_path):
    aether, port = served(start, tmp_path, drain={"timeout": "8s", "spread": "4s"})
    moments = asyncio.run(idle_until_closed(aether, port, 1000))
    assert len(moments) == 1000
    width = moments[-1] - moments[0]
    assert width > 2, "over the spread"
    tenths = [0] * 10
    for moment in moments:
        tenths[min(9, int((moment - moments[0]) / width * 10))] += 1
    assert max(tenths) < 350, tenths


async def idle_until_closed(aether, port, count):
    """When each of so many idle connections was closed, after a swap."""
    readers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        readers.append((reader, writer))
    for reader, _ in readers:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))
    await asyncio.get_running_loop().run_in_executor(None, swap_all, aether, 1)

    async def end_of(reader, writer):
        assert await reader.read() == b""
        moment = time.monotonic()
        writer.close()
        return moment

    return sorted(await asyncio.gather(*(end_of(*each) for each in readers)))
