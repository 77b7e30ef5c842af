# SPDX-License-Identifier: Apache-2.0
"""The program that is swapped in the benchmarks."""

# Holds SIZE bytes as its memory, by the mechanism under test, and answers with its pid.
HOLDER = """
import json, os, threading
from http.server import BaseHTTPRequestHandler
from aeterna import AeternaClient, Buffer
from aeterna.http import HTTPServer
size, mechanism = int(os.environ["SIZE"]), os.environ["MECHANISM"]
client = AeternaClient()
memory = client.load_context()
if not memory and "BOOT_FROM" in os.environ:
    with open(os.environ["BOOT_FROM"], "rb") as file:
        memory = file.read()
def hold():
    if mechanism == "shm":
        buffer = Buffer(size)
        piece = os.urandom(1 << 20)
        for at in range(0, size, len(piece)):
            buffer.view[at:at + len(piece)] = piece[:min(len(piece), size - at)]
        client.save_context(buffer)
    else:
        client.save_context({"turns": ["x" * 100] * (size // 103)})
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Pid", body.decode())
        self.end_headers()
        self.wfile.write(body)
def hold_and_say():
    hold()
    print("HOLDING", flush=True)
# What the next handoff will move is made while this one serves already.
threading.Thread(target=hold_and_say, daemon=True).start()
HTTPServer(client.get_listener_socket(), Handler).serve_forever()
"""
