# SPDX-License-Identifier: Apache-2.0
"""What tests of drains share: a server with the SDK, and how it is run."""

from programs import program, service

# No memory of its own. /gated/N: the head and half of N bytes, the rest when the file `go` is there.
SERVER = """
import json, os, time
from http.server import BaseHTTPRequestHandler
from aeterna.http import HTTPServer
FOLDER = os.path.dirname(os.path.abspath(__file__))
def block(n): return (b"%d:" % n) * n
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_POST(self): self.do_GET()
    def do_GET(self):
        pid = str(os.getpid())
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("X-Pid", pid)
            self.end_headers()
            with self.stream() as stream:
                number = 0
                while not stream.wait(0.2):
                    number += 1
                    self.wfile.write(b"data: %d\\n\\n" % number)
                self.wfile.write(b"event: moved\\n\\n")
            return
        body = pid.encode()
        gated = self.path.startswith("/gated/")
        if gated: body = block(int(self.path[7:]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Pid", pid)
        self.end_headers()
        half = len(body) // 2 if gated else 0
        self.wfile.write(body[:half])
        while gated and not os.path.exists(FOLDER + "/go"): time.sleep(0.01)
        self.wfile.write(body[half:])
HTTPServer(None, Handler).serve_forever()
"""


def block(n):
    return b"%d:" % n * n


def served(start, folder, text=SERVER, memory=False, drain=None, soak_time="0s", **more):
    config = service(program(folder, "server.py", text), listen=["127.0.0.1:0"], soak=soak_time, **more)
    config["orchestration"]["drain"] = {"timeout": "30s", **(drain or {})}
    if memory:
        config["orchestration"]["state_handoff"] = True
    aether = start(config)
    return aether, int(aether.service()["listeners"][0]["address"].rpartition(":")[2])
