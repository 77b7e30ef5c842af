#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Threads that wait for work, and a thread for each connection."""
import concurrent.futures
import json
import os
import random
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

pool = concurrent.futures.ThreadPoolExecutor(4)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        drawn = pool.submit(random.random).result()
        body = json.dumps({"language": "python", "pid": os.getpid(), "random": drawn}).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


list(pool.map(abs, range(8)))  # The threads are there before the copies are made
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["AETHER_TRIGGER_PORT"])), Handler)
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
sock.connect(os.environ["AETHER_SOCKET"])
sock.send(b"READY")
server.serve_forever()
