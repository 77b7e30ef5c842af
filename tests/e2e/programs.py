# SPDX-License-Identifier: Apache-2.0
"""Small programs that tests run under Aether. Each is written to a file of the test's own folder."""

from aether import PYTHON

# Answers every request with its pid; a plain asyncio server that knows nothing of Aether.
ASYNCIO = """
import asyncio, os, signal, socket
async def answer(reader, writer):
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
        body = str(os.getpid()).encode()
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nX-Pid: %s\\r\\nConnection: close\\r\\n\\r\\n%s"
                     % (len(body), body, body))
        await writer.drain()
    finally:
        writer.close()
async def main():
    server = await asyncio.start_server(answer, sock=socket.socket(fileno=3), backlog=4096)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()
asyncio.run(main())
"""


def program(folder, name, text):
    """Writes a Python program and returns its command."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return [PYTHON, str(path)]


def service(command, name="web", listen=None, soak="200ms", **more):
    """A configuration with one service; `more` goes into the service."""
    config = {
        "service": {"name": name, "command": command, **more},
        "orchestration": {"soak_time": soak},
        "observability": {"metrics_port": "none"},
    }
    if listen is not None:
        config["service"]["listen"] = listen
    return config


# Counts each update once, by its id; what it counted is its memory. Python's SDK, standard library.
COUNTER = """
import json, os
from http.server import BaseHTTPRequestHandler
from aeterna import AeternaClient
from aeterna.http import HTTPServer
client = AeternaClient()
memory = client.load_context()
memory.setdefault("seen", {})
memory.setdefault("pids", []).append(os.getpid())
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Pid", str(os.getpid()))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        update = self.path.rpartition("/")[2]
        memory["seen"][update] = memory["seen"].get(update, 0) + 1
        self.reply({"update": update, "pid": os.getpid()})
    def do_GET(self):
        self.reply(memory if self.path == "/memory" else {"pid": os.getpid()})
HTTPServer(client.get_listener_socket(), Handler).serve_forever()
"""
