# SPDX-License-Identifier: Apache-2.0
"""The programs that are reloaded side by side: the same one by its own means and under Aether.

Each answers `/` with its pid (also in X-Pid), and `/events` with server-sent events, numbered.
"""

import shutil
import sys

PYTHON = "/usr/bin/python3"

WSGI = """
import os, time
body = str(os.getpid()).encode()
def events():
    number = 0
    while True:
        number += 1
        yield b"data: %d\\n\\n" % number
        time.sleep(0.1)
def app(environ, start_response):
    if environ["PATH_INFO"] == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events()
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Pid", body.decode())])
    return [body]
"""

ASGI = """
import asyncio, os
body = str(os.getpid()).encode()
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown": return
    if scope["path"] != "/events":
        headers = [(b"content-length", str(len(body)).encode()), (b"x-pid", body)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        return await send({"type": "http.response.body", "body": body})
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    number = 0
    while True:
        number += 1
        await send({"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True})
        await asyncio.sleep(0.1)
"""

NODE = """
const http = require('http');
const server = http.createServer((request, response) => {
  if (request.url === '/events') {
    response.writeHead(200, {'Content-Type': 'text/event-stream'});
    let number = 0;
    const timer = setInterval(() => response.write(`data: ${++number}\\n\\n`), 100);
    response.on('close', () => clearInterval(timer));
    return;
  }
  response.setHeader('X-Pid', String(process.pid));
  response.end(String(process.pid));
});
const own = {port: Number(process.env.PORT), host: '127.0.0.1'};
server.listen(process.env.LISTEN_FDS ? {fd: 3} : own);
const leave = () => server.close(() => process.exit(0));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, leave);
"""

AGENT = """
import os, time
from http.server import BaseHTTPRequestHandler
from aeterna import AeternaClient
from aeterna.http import HTTPServer
client = AeternaClient()
memory = client.load_context()
memory["revisions"] = memory.get("revisions", 0) + 1
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        if self.path == "/events": return self.events()
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Pid", body.decode())
        self.end_headers()
        self.wfile.write(body)
    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        number = 0
        while True:
            number += 1
            self.wfile.write(b"data: %d\\n\\n" % number)
            time.sleep(0.1)
HTTPServer(client.get_listener_socket(), Handler).serve_forever()
"""

# What nginx and HAProxy pass /events on to; it is not reloaded.
BACKEND = """
import asyncio, sys
async def serve(reader, writer):
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\nConnection: close\\r\\n\\r\\n")
        number = 0
        while True:
            number += 1
            writer.write(b"data: %d\\n\\n" % number)
            await writer.drain()
            await asyncio.sleep(0.1)
    except (OSError, asyncio.IncompleteReadError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=512)
    await server.serve_forever()
asyncio.run(main())
"""

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    location / {{ add_header X-Pid $pid always; return 200 "$pid"; }}
    location /events {{ proxy_pass http://127.0.0.1:{backend}; proxy_buffering off; }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend web
  bind {bind}
  use_backend events if {{ path /events }}
  http-request return status 200 content-type text/plain hdr X-Pid %pid lf-string %pid if {{ path / }}
backend events
  server events 127.0.0.1:{backend}
"""


def write(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return str(path)


def find(program):
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if not found:
        sys.exit(f"bench: {program} is not installed; see scripts/install-deps --test")
    return found


def gunicorn(folder, *more):
    write(folder, "app.py", WSGI)
    return [PYTHON, "-m", "gunicorn", "--chdir", str(folder), "--workers", "2", "--worker-class", "gthread",
            "--threads", "128", "--keep-alive", "60", "--log-level", "error", *more, "app:app"]


def nginx(folder, port, backend):
    text = NGINX.format(folder=folder, port=port, backend=backend)
    return [find("nginx"), "-p", str(folder), "-c", write(folder, "nginx.conf", text)]


def haproxy(folder, bind, backend, *flags):
    text = HAPROXY.format(bind=bind, backend=backend)
    return [find("haproxy"), *flags, "-f", write(folder, "haproxy.cfg", text)]


def under_aether(name, folder, port, backend):
    """(command, further keys of the service) of a program that Aether gives its listener."""
    if name == "nginx":
        return nginx(folder, port, backend), {"compat": ["nginx"], "stop_signal": "SIGQUIT"}
    if name == "haproxy":
        return haproxy(folder, "fd@3", backend, "-db"), {"stop_signal": "SIGUSR1"}
    if name == "gunicorn":
        return gunicorn(folder), {}
    if name == "node":
        return [find("node"), write(folder, "server.js", NODE)], {}
    if name == "uvicorn":
        write(folder, "app.py", ASGI)
        return [PYTHON, "-m", "uvicorn", "--fd", "{fd:web}", "--log-level", "error", "--timeout-keep-alive", "60",
                "--app-dir", str(folder), "app:app"], {}
    assert name == "agent"
    return [PYTHON, write(folder, "agent.py", AGENT)], {}
