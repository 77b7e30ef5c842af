#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""http.server, as the examples have it: one thread, and nothing known of copies."""
import json
import os
import random
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"language": "python", "pid": os.getpid(), "random": random.random()}).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", int(os.environ["AETHER_TRIGGER_PORT"])), Handler)
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
sock.connect(os.environ["AETHER_SOCKET"])
sock.send(b"READY")
server.serve_forever()
