# SPDX-License-Identifier: Apache-2.0
"""The end of a process that is replaced, as its clients see it."""

import asyncio
import http.client
import os
import selectors
import signal
import socket
import sys
import time
import unittest

import fake_aether as fake
from fake_aether import ACK, DRAIN, LOAD

sys.path.insert(0, fake.SDK)
import aeterna  # noqa: E402
from aeterna import drain_plan  # noqa: E402

SERVER = """
import os, sys
from http.server import BaseHTTPRequestHandler
from aeterna import AeternaClient
from aeterna.http import HTTPServer
client = AeternaClient()
client.load_context()
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/events":
            self.send_response(200)
            self.end_headers()
            with self.stream() as stream:
                self.wfile.write(b"begun\\n")
                stream.wait()
                self.wfile.write(b"moved\\n")
            return
        body = b"x" * int(self.path[1:] or 2)
        if self.path == "/3":
            sys.stdin.readline()  # until the test says so
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
print("ready", server.server_port, flush=True)
server.serve_forever()
print("drained", flush=True)
"""

REQUEST = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"


class Server(unittest.TestCase):
    def setUp(self):
        self.aether = fake.FakeAether()
        self.addCleanup(self.aether.close)
        self.lane = fake.lane()
        self.addCleanup(self.lane.close)
        self.port = self.lane.getsockname()[1]
        self.release, give = os.pipe()
        self.gate = os.fdopen(give, "w", 1)
        self.addCleanup(self.gate.close)
        saved = os.dup(0)
        os.dup2(self.release, 0)  # the child's stdin
        self.child = self.aether.spawn(SERVER, listener=self.lane)
        os.dup2(saved, 0)
        os.close(saved)
        os.close(self.release)
        self.session = self.aether.accept()
        self.session.expect(LOAD)
        self.session.send(ACK, {"of": "load", "memory": "none"})
        self.child.stdout.readline()

    def connect(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.addCleanup(connection.close)
        return connection

    def get(self, connection, path="/"):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read(), response.will_close

    def raw(self):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.addCleanup(sock.close)
        return sock

    def drained(self):
        self.assertEqual(self.child.stdout.readline(), "drained\n")
        self.assertEqual(self.child.wait(30), 0)

    def test_an_idle_connection_is_kept_and_its_next_request_is_the_last(self):
        idle = self.connect()
        self.get(idle)
        self.session.send(DRAIN, {"deadline_ms": 60000})
        self.child.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # longer than an end without a drain would wait
        self.assertEqual(self.get(idle), (b"xx", True))
        self.drained()

    def test_a_signal_that_comes_before_the_word_is_a_drain_all_the_same(self):
        idle = self.connect()
        self.get(idle)
        self.child.send_signal(signal.SIGTERM)
        self.session.send(DRAIN, {"deadline_ms": 60000})
        time.sleep(1.5)
        self.assertEqual(self.get(idle), (b"xx", True))
        self.drained()

    def test_without_a_drain_idle_clients_do_not_hold_up_the_end(self):
        idle = self.connect()
        self.get(idle)
        began = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        self.drained()
        self.assertLess(time.monotonic() - began, 8)

    def test_a_second_signal_hurries_the_idle_ones_only(self):
        idle, busy = self.connect(), self.connect()
        self.get(idle)
        busy.request("GET", "/3")
        self.session.send(DRAIN, {"deadline_ms": 60000})
        time.sleep(0.1)
        self.child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        self.child.send_signal(signal.SIGTERM)
        self.assertEqual(idle.sock.recv(10), b"")
        self.gate.write("\n")
        self.assertEqual(busy.getresponse().read(), b"xxx")
        self.drained()

    def test_idle_connections_are_closed_over_the_spread_and_before_the_deadline(self):
        idle = [self.raw() for _ in range(200)]
        for sock in idle:
            sock.sendall(REQUEST % 2)
        for sock in idle:
            answer = b""
            while not answer.endswith(b"xx"):
                answer += sock.recv(65536)
        began = time.monotonic()
        self.session.send(DRAIN, {"deadline_ms": 5000, "spread_ms": 3000})
        closed = ends_of(idle)
        moments = sorted(moment - began for moment in closed)
        self.assertGreater(moments[0], 1.4, "nobody before the spread")
        self.assertLess(moments[-1], 7.0, "everybody at about the deadline at the latest")
        tenths = [0] * 10
        for moment in moments:
            tenths[min(9, int((moment - moments[0]) / (moments[-1] - moments[0]) * 10))] += 1
        self.assertLess(max(tenths), 60, tenths)

    def test_streams_go_on_until_their_moment(self):
        streams = []
        for _ in range(20):
            connection = self.connect()
            connection.request("GET", "/events")
            streams.append(connection.getresponse())
            self.assertEqual(streams[-1].readline(), b"begun\n")
        began = time.monotonic()
        self.session.send(DRAIN, {"deadline_ms": 3000, "spread_ms": 500})
        self.child.send_signal(signal.SIGTERM)
        for stream in streams:
            self.assertEqual(stream.read(), b"moved\n")
        self.assertGreater(time.monotonic() - began, 2.0)
        self.drained()

    def test_a_client_that_has_said_its_last_word_gets_its_answer(self):
        half = self.raw()
        half.sendall(REQUEST % 3)
        half.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        self.session.send(DRAIN, {"deadline_ms": 60000})
        self.child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        self.gate.write("\n")
        self.assertTrue(half.makefile("rb").read().endswith(b"xxx"))
        self.drained()

    def test_unread_bytes_of_the_client_do_not_destroy_the_last_answer(self):
        whole = 0
        for _ in range(20):
            sock = self.raw()
            # What follows the request is never read as one: the connection closes after it.
            sock.sendall(b"GET /3000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + b"y" * 200000)
            time.sleep(0.01)
            answer = sock.makefile("rb").read()
            whole += answer.endswith(b"x" * 3000000)
        self.assertEqual(whole, 20)


def ends_of(socks):
    moments = []
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(30) or ():
                if not key.fileobj.recv(65536):
                    moments.append(time.monotonic())
                    selector.unregister(key.fileobj)
    return moments


class Plan(unittest.TestCase):
    def test_leaves_a_margin_before_the_deadline_and_spreads_over_half_the_time(self):
        plan = drain_plan.DrainPlan()
        plan.announce(30000)
        now = time.monotonic()
        self.assertAlmostEqual(plan.close_by - now, 29, delta=0.2)
        self.assertAlmostEqual(plan.close_from - now, 14.5, delta=0.2)
        plan.announce(2000, 500)
        now = time.monotonic()
        self.assertAlmostEqual(plan.close_by - now, 1.8, delta=0.2)
        self.assertAlmostEqual(plan.close_from - now, 1.3, delta=0.2)
        plan.announce(1000, 10000)
        self.assertLessEqual(plan.close_from, time.monotonic() + 0.1)

    def test_takes_the_spread_of_the_environment_where_nobody_says_one(self):
        os.environ["AETERNA_DRAIN_SPREAD_MS"] = "1000"
        self.addCleanup(os.environ.pop, "AETERNA_DRAIN_SPREAD_MS")
        plan = drain_plan.DrainPlan()
        plan.announce(30000)
        self.assertAlmostEqual(plan.close_by - plan.close_from, 1, delta=0.01)

    def test_nonsense_is_the_default(self):
        for nonsense in (None, -1, "soon", True, [], 1e300):
            plan = drain_plan.DrainPlan()
            plan.announce(nonsense, nonsense)
            self.assertTrue(plan.announced)
            self.assertLessEqual(plan.close_from, plan.close_by)


async def accept_then_end(listener, clients, end):
    """What `clients` connections get whose server is ended right after it accepted them."""

    async def answer(reader, writer):
        writer.write(await reader.readexactly(1))
        writer.close()

    rest = listener.dup()
    server = await asyncio.start_server(answer, sock=listener, backlog=4096)
    socks = [socket.create_connection(listener.getsockname()[:2]) for _ in range(clients)]
    for sock in socks:
        sock.sendall(b"x")
    await asyncio.sleep(0)  # accepted, and not yet attached to the server
    await asyncio.sleep(0)
    await end(server)
    await asyncio.sleep(0.2)
    waiting = await asyncio.start_server(answer, sock=rest)  # as the next owner of the listener
    loop = asyncio.get_running_loop()

    def read(sock):
        try:
            sock.settimeout(10)
            return sock.recv(10)
        except OSError:
            return b""
        finally:
            sock.close()

    got = await asyncio.gather(*(loop.run_in_executor(None, read, sock) for sock in socks))
    waiting.close()
    return got


class Asyncio(unittest.TestCase):
    def answers(self, end):
        async def main():
            listener = socket.create_server(("127.0.0.1", 0), backlog=512)
            return await accept_then_end(listener, 50, end)

        return asyncio.run(main())

    def test_drain_loses_nobody_who_was_accepted(self):
        async def end(server):
            self.assertEqual(await aeterna.drain(server, timeout=5), 0)

        self.assertEqual(self.answers(end), [b"x"] * 50)

    def test_drain_waits_for_connections_up_to_its_limit_and_says_how_many_are_left(self):
        async def main():
            over = asyncio.Event()

            async def answer(reader, writer):
                await over.wait()
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            sock = socket.create_connection(server.sockets[0].getsockname())
            await asyncio.sleep(0.05)
            left = await aeterna.drain(server, timeout=0.1)
            over.set()
            sock.close()
            return left

        self.assertEqual(asyncio.run(main()), 1)

    def test_farewells_come_when_the_drain_says_so(self):
        client = aeterna.AeternaClient()

        async def main():
            tasks = [asyncio.ensure_future(client.afarewell()) for _ in range(20)]
            await asyncio.sleep(0.05)
            began = time.monotonic()
            client._relay.plan.announce(1000, 500)
            client._wake_farewells()
            done, pending = await asyncio.wait(tasks, timeout=0.2)
            self.assertEqual(len(done), 0, "not before their moment")
            await asyncio.gather(*tasks)
            return time.monotonic() - began

        self.assertTrue(0.4 < asyncio.run(main()) < 5)
        client._relay.plan.forget()


if __name__ == "__main__":
    unittest.main()
