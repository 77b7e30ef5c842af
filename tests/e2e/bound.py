# SPDX-License-Identifier: Apache-2.0
"""Servers as they are, each with its own port in its own configuration: they know nothing of Aether, and
nothing is passed to them. What tests of `steer: bpf` share."""

import http.client
import subprocess

from aether import PYTHON
from programs import program, service
from under_load import installed, written

WSGI = """
import os
def app(environ, start_response):
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Pid", body.decode())])
    return [body]
"""

NODE = """
const http = require('http');
const server = http.createServer((request, response) => {
  response.setHeader('X-Pid', String(process.pid));
  response.end(String(process.pid));
});
server.listen(PORT, '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
"""

NGINX = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}{flags}; location / {{ add_header X-Pid $pid always; return 200 "$pid"; }} }}
}}
"""

LIGHTTPD = """
server.document-root = "{folder}/www"
server.bind = "127.0.0.1"
server.port = {port}
server.modules = ( "mod_indexfile" )
index-file.names = ( "index.html" )
server.graceful-shutdown-timeout = 8
"""

# As people write it: bind, listen, a loop. It answers with its pid, and with what it was told to say.
PLAIN = """
import http.server, os, signal, socket, sys, threading
host, port, word = sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "ok"
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        if self.path == "/die": os._exit(9)
        sick = word == "sick" and self.path == "/health"
        body = f"{os.getpid()} {word} {name} {self.connection.getsockname()[1]}".encode()
        self.send_response(503 if sick else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Pid", str(os.getpid()))
        self.end_headers()
        self.wfile.write(body)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    request_queue_size = 512
    daemon_threads = False
    def server_bind(self):
        if host == "::": self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)
server = Server((host, port), Handler)
name = "%s:%d" % server.socket.getsockname()[:2]
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
"""


def unmodified(name, folder, port):
    """(command, further keys of the service) of a server that binds its own port."""
    if name == "http.server":
        # It dies of SIGTERM with what it is answering: it is told when it has nothing to answer.
        written(folder / "www", "index.html", "hello\n")
        return [PYTHON, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder / "www")], {}
    if name == "nginx":
        conf = written(folder, "nginx.conf", NGINX.format(folder=folder, port=port, flags=""))
        return [installed("nginx"), "-p", str(folder), "-c", conf], {"stop_signal": "SIGQUIT"}
    if name == "gunicorn":
        written(folder, "app.py", WSGI)
        return [PYTHON, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--log-level", "warning",
                "app:app"], {"workdir": str(folder)}
    if name == "node":
        return [installed("node"), written(folder, "server.js", NODE.replace("PORT", str(port)))], {}
    assert name == "lighttpd"
    written(folder / "www", "index.html", "hello\n")
    conf = written(folder, "lighttpd.conf", LIGHTTPD.format(folder=folder, port=port))
    return [installed("lighttpd"), "-D", "-f", conf], {"stop_signal": "SIGINT"}


def plain(folder, port, *words, host="127.0.0.1"):
    return [*program(folder, "plain.py", PLAIN), host, str(port), *words]


def bound_service(command, address, soak="50ms", **more):
    """A service whose program binds `address` itself, and is told to stop when it has answered everybody."""
    config = service(command, listen=[{"name": "web", "address": address, "steer": "bpf"}], soak=soak, **more)
    config["orchestration"]["drain"] = {"stop": "when_idle", "timeout": "20s"}
    return config


def get(port, path="/", host="127.0.0.1"):
    """(status, body) of one request over a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def shares(aether, name=None):
    """{revision: share} of the first listener."""
    return {one["revision"]: one for one in aether.service(name)["listeners"][0]["shares"]}


def links_of_kernel():
    """What bpftool lists of attached programs, by type and process."""
    tool = installed("bpftool")
    return subprocess.run([tool, "link", "list"], capture_output=True, text=True, check=True).stdout
