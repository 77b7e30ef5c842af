# SPDX-License-Identifier: Apache-2.0
"""A tool server outside of Aether that counts: what was really called, how often, with which key.

It lives in the test's own process, so that it outlives every Aether that a test kills. A call counts
when all of its request has come. The first word of a path says what happens then:

/echo/...      answers with what it got
/count/...     answers with how many calls of that path there were: each time something else
/hold/NAME     answers once `release(NAME)` was called
/slow/...      answers as /echo does, after a while
/drop/N/...    closes the connection without a word on the first N calls of that path
/half/N/...    promises more bytes than it sends, on the first N calls
/busy/N/...    answers 503 to the first N calls
/no/...        answers 400
/to/URL        leads to another place (303)
/v1/...        answers as a model of OpenAI's does, for twenty tokens
/seen?key=K    says whether a call with that Idempotency-Key was done; does not count
"""

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

CHAT = {
    "model": "small-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
}


class Call:
    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.body = method, path, headers, body

    @property
    def key(self):
        return self.headers.get("Idempotency-Key")

    def __repr__(self):
        return f"{self.method} {self.path} key={self.key}"


class Judge:
    def __init__(self, listening=None):
        """`listening`: a bound socket that it takes over, else a port of its own."""
        self.address = "127.0.0.1"
        self.closed = threading.Event()
        self.lock = threading.Lock()
        self.calls = []
        self.gates = {}
        self.inside = {}  # path: how many calls are under way there, and the most there ever were
        self.busy = 0  # connections of which it may still learn something
        self.idle = threading.Condition()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                judge.handle(self)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def process_request(self, request, client_address):
                judge.note(+1)
                super().process_request(request, client_address)

            def process_request_thread(self, request, client_address):
                try:
                    super().process_request_thread(request, client_address)
                finally:
                    judge.note(-1)

            def handle_error(self, request, client_address):
                pass  # whoever asked was killed: that is what these tests are about

        self.server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
        if listening is not None:
            self.server.socket.close()
            self.server.socket = listening
        else:
            self.server.server_bind()
        self.server.server_activate()
        self.port = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with self.lock:
            gates = [self.closed, *self.gates.values()]
        for gate in gates:
            gate.set()
        self.server.shutdown()
        self.server.server_close()

    def url(self, path):
        return f"http://{self.address}:{self.port}{path}"

    def count(self, path):
        with self.lock:
            return sum(1 for call in self.calls if call.path == path)

    def of(self, path):
        with self.lock:
            return [call for call in self.calls if call.path == path]

    def most_at_once(self, path):
        with self.lock:
            return self.inside.get(path, (0, 0))[1]

    def note(self, change):
        with self.idle:
            self.busy += change
            self.idle.notify_all()

    def settle(self):
        """Waits until all has been counted that was sent by processes which are gone."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/seen?key=")  # behind all connections that came before
        connection.getresponse().read()
        connection.close()
        with self.idle:
            assert self.idle.wait_for(lambda: self.busy <= 0, 60), "somebody keeps a connection"

    def gate(self, name):
        with self.lock:
            return self.gates.setdefault(name, threading.Event())

    def release(self, name):
        self.gate(name).set()

    def enter(self, call):
        """Counts it; how many there were at that path before."""
        with self.lock:
            before = sum(1 for one in self.calls if one.path == call.path)
            self.calls.append(call)
            now, most = self.inside.get(call.path, (0, 0))
            self.inside[call.path] = (now + 1, max(most, now + 1))
            return before

    def leave(self, call):
        with self.lock:
            now, most = self.inside[call.path]
            self.inside[call.path] = (now - 1, most)

    def handle(self, request):
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length).decode()
        parts = urlsplit(request.path)
        if parts.path == "/seen":
            key = parse_qs(parts.query).get("key", [""])[0]
            with self.lock:
                done = any(call.key == key for call in self.calls)
            return self.send(request, 200 if done else 404, {"done": done})
        call = Call(request.command, parts.path, request.headers, body)
        before = self.enter(call)
        try:
            self.answer(request, call, before)
        finally:
            self.leave(call)

    def answer(self, request, call, before):
        _, action, *rest = call.path.split("/")
        if action == "hold":
            self.note(-1)
            self.gate(rest[0]).wait(120)
            self.note(+1)
        elif action == "slow":
            self.closed.wait(0.15)
        elif action == "no":
            return self.send(request, 400, {"error": "no"})
        elif action == "to":
            return self.send(request, 303, {}, location=unquote(rest[0]))
        elif action == "v1":
            return self.send(request, 200, CHAT)
        elif action == "count":
            return self.send(request, 200, {"n": before + 1})
        elif action in ("busy", "drop", "half") and before < int(rest[0]):
            if action == "busy":
                return self.send(request, 503, {"error": "later"})
            request.close_connection = True
            return self.send(request, 200, {"cut": True}, promised=1000) if action == "half" else None
        try:
            got = json.loads(call.body) if call.body else None
        except ValueError:
            got = call.body
        return self.send(request, 200, {"path": call.path, "got": got})

    @staticmethod
    def send(request, status, value, promised=None, location=None):
        data = json.dumps(value).encode()
        try:
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            if location:
                request.send_header("Location", location)
            request.send_header("Content-Length", str(promised or len(data)))
            request.end_headers()
            request.wfile.write(data)
        except OSError:
            request.close_connection = True
