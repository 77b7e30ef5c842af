# SPDX-License-Identifier: Apache-2.0
"""A tool server outside of Aether that counts: what was really called, how often, with which key.

It lives in the test's own process, so that it outlives every Aether that a test kills. Paths:
/echo answers with what it got; /hold/NAME answers once `release(NAME)` was called; /no answers 400;
/busy/N answers 503 to the first N requests of that path, then 200; /seen?key=K says whether a call
with that Idempotency-Key was done.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Call:
    def __init__(self, method, path, key, body):
        self.method, self.path, self.key, self.body = method, path, key, body

    def __repr__(self):
        return f"{self.method} {self.path} key={self.key}"


class Judge:
    def __init__(self):
        self.lock = threading.Lock()
        self.calls = []
        self.gates = {}
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

            def handle_error(self, request, client_address):
                pass  # whoever asked was killed: that is what these tests are about

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        with self.lock:
            gates = list(self.gates.values())
        for gate in gates:
            gate.set()
        self.server.shutdown()
        self.server.server_close()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self, path):
        with self.lock:
            return sum(1 for call in self.calls if call.path == path)

    def of(self, path):
        with self.lock:
            return [call for call in self.calls if call.path == path]

    def gate(self, name):
        with self.lock:
            return self.gates.setdefault(name, threading.Event())

    def release(self, name):
        self.gate(name).set()

    def handle(self, request):
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length).decode()
        parts = urlsplit(request.path)
        if parts.path == "/seen":
            key = parse_qs(parts.query).get("key", [""])[0]
            with self.lock:
                done = any(call.key == key and call.path != "/seen" for call in self.calls)
            return self.send(request, 200 if done else 404, {"done": done})
        call = Call(request.command, parts.path, request.headers.get("Idempotency-Key"), body)
        with self.lock:
            self.calls.append(call)
            before = sum(1 for one in self.calls if one.path == call.path) - 1
        if parts.path.startswith("/hold/"):
            self.gate(parts.path.removeprefix("/hold/")).wait(120)
        if parts.path == "/no":
            return self.send(request, 400, {"error": "no"})
        if parts.path.startswith("/busy/") and before < int(parts.path.rsplit("/", 1)[1]):
            return self.send(request, 503, {"error": "later"})
        try:
            got = json.loads(body) if body else None
        except ValueError:
            got = body
        return self.send(request, 200, {"path": parts.path, "got": got})

    @staticmethod
    def send(request, status, value):
        data = json.dumps(value).encode()
        try:
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data)
        except OSError:
            request.close_connection = True
