# SPDX-License-Identifier: Apache-2.0
"""HTTPServer: two revisions as processes, a reuseport group as Aether makes it, and clients between."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import fake_aether as fake
from fake_aether import ACK, LOAD, RELEASE, RESUME

COUNTER = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler
from aeterna import AeternaClient
from aeterna.http import HTTPServer
client = AeternaClient()
memory = client.load_context()
memory.setdefault("n", 0)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        n = memory["n"]
        if self.path == "/slow": time.sleep(0.3)
        memory["n"] = n + 1
        self.answer({"n": n + 1, "pid": os.getpid(), "got": len(body)})
    def do_GET(self):
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            with self.stream() as stream:
                self.wfile.write(b"begun\\n")
                stream.wait()
                self.wfile.write(b"moved\\n")
            return
        self.answer({"n": memory["n"], "pid": os.getpid(), "via": self.headers.get("Via")})
    def answer(self, value):
        body = json.dumps(value).encode()
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


def call(connection, method="GET", path="/", body=None):
    connection.request(method, path, body)
    response = connection.getresponse()
    data = json.loads(response.read())
    data["will_close"] = response.will_close
    return data


class Swap(unittest.TestCase):
    def setUp(self):
        self.aether = fake.FakeAether()
        self.addCleanup(self.aether.close)
        self.lanes = [fake.lane()]
        self.port = self.lanes[0].getsockname()[1]
        self.lanes.append(fake.lane(self.port))
        for sock in self.lanes:
            self.addCleanup(sock.close)
        fake.steer(self.lanes[0], 0)
        self.old, self.old_session = self.start(0)
        self.old_session.send(ACK, {"of": "load", "memory": "none"})
        self.assertTrue(self.old.stdout.readline().startswith("ready"))

    def start(self, lane):
        child = self.aether.spawn(COUNTER, listener=self.lanes[lane])
        session = self.aether.accept("waiting" if lane else "none", revision=lane + 1)
        session.expect(LOAD)
        return child, session

    def connect(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.addCleanup(connection.close)
        return connection

    def steer_and_export(self):
        self.new, self.new_session = self.start(1)
        fake.steer(self.lanes[0], 1)
        self.memory = self.old_session.export()

    def deliver(self):
        self.new_session.give_state(json.dumps(self.memory).encode())
        self.new_session.expect(ACK)
        self.assertTrue(self.new.stdout.readline().startswith("ready"))

    def swap(self):
        self.steer_and_export()
        self.deliver()
        self.old_session.send(RELEASE, {"accept": True})

    def test_a_kept_connection_is_moved_by_its_next_request(self):
        connection = self.connect()
        first = call(connection, "POST", "/", b"x")
        self.assertEqual((first["n"], first["pid"], first["will_close"]), (1, self.old.pid, False))
        self.swap()
        second = call(connection, "POST", "/", b"x" * 100000)
        self.assertEqual((second["n"], second["pid"], second["got"]), (2, self.new.pid, 100000))
        self.assertTrue(second["will_close"], "the client is told to come back")
        third = call(connection, "POST", "/")
        self.assertEqual((third["n"], third["pid"]), (3, self.new.pid))

    def test_a_request_that_comes_during_the_handoff_is_held_and_applied_once_by_the_new_one(self):
        connection = self.connect()
        call(connection, "POST", "/")
        self.steer_and_export()
        connection.request("POST", "/", b"held")
        time.sleep(0.1)
        self.deliver()
        self.old_session.send(RELEASE, {})
        answer = json.loads(connection.getresponse().read())
        self.assertEqual((answer["n"], answer["pid"]), (2, self.new.pid))

    def test_a_request_in_flight_is_answered_and_is_in_the_memory(self):
        connection = self.connect()
        connection.request("POST", "/slow")
        time.sleep(0.1)
        self.steer_and_export()
        self.assertEqual(self.memory, {"n": 1})
        self.assertEqual(json.loads(connection.getresponse().read())["pid"], self.old.pid)

    def test_a_half_sent_request_does_not_hold_up_the_handoff(self):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.addCleanup(raw.close)
        raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        time.sleep(0.1)
        self.swap()
        raw.sendall(b"cde")
        answer = raw.makefile("rb").read()
        self.assertIn(b'"got": 5', answer)
        self.assertIn(b'"pid": %d' % self.new.pid, answer)

    def test_a_connection_that_was_accepted_and_said_nothing_is_served_after_the_swap(self):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.addCleanup(raw.close)
        self.swap()
        raw.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertIn(b'"pid": %d' % self.new.pid, raw.makefile("rb").read())

    def test_streams_neither_hold_up_the_handoff_nor_outlive_it(self):
        connection = self.connect()
        connection.request("GET", "/events")
        response = connection.getresponse()
        self.assertEqual(response.readline(), b"begun\n")
        self.swap()
        self.assertEqual(response.read(), b"moved\n")

    def test_a_stream_asked_for_on_an_old_connection_is_passed_on_and_does_not_hold_up_the_end(self):
        connection = self.connect()
        call(connection)
        self.swap()
        connection.request("GET", "/events")
        response = connection.getresponse()
        self.assertEqual(response.readline(), b"begun\n")
        self.old.send_signal(signal.SIGTERM)
        self.assertEqual(response.read(), b"")
        self.assertEqual(self.old.stdout.readline(), "drained\n")

    def test_a_swap_that_is_taken_back_leaves_the_connection_where_it_was(self):
        connection = self.connect()
        call(connection, "POST", "/")
        self.steer_and_export()
        connection.request("POST", "/", b"held")
        time.sleep(0.05)
        fake.steer(self.lanes[0], 0)
        self.old_session.send(RESUME, {"memory": "own"})
        self.old_session.expect(ACK)
        response = connection.getresponse()
        self.assertFalse(response.will_close)
        self.assertEqual(json.loads(response.read())["n"], 2)

    def test_a_rollback_after_release_brings_memory_and_requests_back(self):
        connection = self.connect()
        call(connection, "POST", "/")
        self.swap()
        call(self.connect(), "POST", "/")
        late = self.connect()
        call(late, "GET", "/")
        memory = self.new_session.export()
        self.assertEqual(memory, {"n": 2})
        fake.steer(self.lanes[0], 0)
        self.old_session.give_state(json.dumps(memory).encode())
        self.old_session.expect(ACK)
        self.old_session.send(RESUME, {"memory": "attached"})
        self.old_session.expect(ACK)
        self.new_session.send(RELEASE, {"accept": True})
        answer = call(connection, "POST", "/")
        self.assertEqual((answer["n"], answer["pid"]), (3, self.old.pid))
        answer = call(late, "POST", "/")
        self.assertEqual((answer["n"], answer["pid"]), (4, self.old.pid), "passed back by the new one")

    def test_sigterm_ends_after_what_is_in_flight_and_with_connection_close(self):
        idle, busy = self.connect(), self.connect()
        call(idle)
        call(busy)
        busy.request("POST", "/slow")
        time.sleep(0.1)
        self.old.send_signal(signal.SIGTERM)
        response = busy.getresponse()
        self.assertTrue(response.will_close)
        self.assertEqual(json.loads(response.read())["n"], 1)
        self.assertTrue(call(idle)["will_close"], "an idle client's last request is still answered")
        self.assertEqual(self.old.stdout.readline(), "drained\n")
        self.assertEqual(self.old.wait(30), 0)

    def test_twenty_swaps_under_load_lose_nothing_and_apply_nothing_twice(self):
        stop = threading.Event()
        seen, failures = [], []

        def talk(keep):
            connection = self.connect()
            while not stop.is_set():
                try:
                    answer = call(connection, "POST", "/", b"x")
                    seen.append(answer["n"])
                    if not keep:
                        connection.close()
                except Exception as error:
                    failures.append(repr(error))
                    return

        talkers = [threading.Thread(target=talk, args=(n % 2,)) for n in range(6)]
        for thread in talkers:
            thread.start()
        for round in range(20):
            self.swap()
            self.old.send_signal(signal.SIGTERM)
            self.assertEqual(self.old.stdout.readline(), "drained\n")
            self.old.wait(30)
            # The lane that stays becomes the first of its group, with a fresh one beside it.
            self.lanes[0].close()
            self.lanes = [self.lanes[1], fake.lane(self.port)]
            fake.steer(self.lanes[0], 0)
            self.addCleanup(self.lanes[1].close)
            self.old, self.old_session = self.new, self.new_session
        stop.set()
        for thread in talkers:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(sorted(seen), list(range(1, len(seen) + 1)))
        self.assertGreater(len(seen), 200)


class Shared(unittest.TestCase):
    def test_with_one_shared_listener_the_old_one_accepts_nothing_after_the_export(self):
        aether = fake.FakeAether()
        self.addCleanup(aether.close)
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        port = listener.getsockname()[1]
        old = aether.spawn(COUNTER, listener=listener)
        old_session = aether.accept()
        old_session.expect(LOAD)
        old_session.send(ACK, {"of": "load", "memory": "none"})
        old.stdout.readline()
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.addCleanup(kept.close)
        call(kept, "POST")
        new = aether.spawn(COUNTER, listener=listener)
        new_session = aether.accept("waiting")
        new_session.expect(LOAD)
        memory = old_session.export()
        waiting = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(20)]
        for sock in waiting:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        new_session.give_state(json.dumps(memory).encode())
        new_session.expect(ACK)
        old_session.send(RELEASE, {"accept": False})
        for sock in waiting:
            self.assertIn(b'"pid": %d' % new.pid, sock.makefile("rb").read())
            sock.close()
        answer = call(kept, "POST")
        self.assertEqual((answer["n"], answer["pid"]), (22, new.pid))


class Alone(unittest.TestCase):
    def test_serves_on_its_own_address_without_aether(self):
        env = {"PYTHONPATH": fake.SDK, "PATH": "/usr/bin:/bin"}
        child = subprocess.Popen(
            [sys.executable, "-c", COUNTER], env=env, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.wait)
        self.addCleanup(child.terminate)
        port = int(child.stdout.readline().split()[1])
        raw = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.addCleanup(raw.close)
        raw.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
        )
        answers = raw.makefile("rb").read()
        self.assertEqual(answers.count(b"HTTP/1.1 200"), 2)
        for bad in (
            b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
            b"nonsense\r\n\r\n",
            b"BREW / HTTP/1.1\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
                sock.sendall(bad)
                self.assertRegex(sock.makefile("rb").read().decode(), r"HTTP/1.1 (4|5)\d\d|Error code: 4")


if __name__ == "__main__":
    unittest.main()
