# SPDX-License-Identifier: Apache-2.0
"""Servers on a unix socket, swapped under load: the path always leads to somebody who answers, whatever
the program does with it as it ends; mode and owner stay; in the end the path is gone."""

import os
import socket
import stat
import threading

import pytest

from aether import PYTHON, PATIENCE, Aether, eventually
from programs import program, service
from under_load import installed, soak, stops_cleanly, swap_all, written

SWAPS = soak(4)

ASYNCIO = """
import asyncio, os, signal, socket
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nX-Pid: %d\\r\\n\\r\\n" % os.getpid())
    await writer.drain()
    writer.close()
async def main():
    listener = socket.socket(fileno=3)
    server = await asyncio.start_unix_server(answer, sock=listener)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    for path in (listener.getsockname(), os.environ["SOCKET"]):  # as many programs do on their way out
        if os.environ.get("UNLINK") and os.path.exists(path):
            os.unlink(path)
    server.close()
asyncio.run(main())
"""

ASGI = """
import os
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-pid", str(os.getpid()).encode())]})
    await send({"type": "http.response.body", "body": b""})
"""

WSGI = """
import os
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0"), ("X-Pid", str(os.getpid()))])
    return []
"""

NODE = """
const server = require('http').createServer((request, response) => {
  response.setHeader('X-Pid', String(process.pid));
  response.end();
});
server.listen({fd: 3});
process.on('SIGTERM', () => server.close(() => process.exit(0)));
"""

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen unix:{path}; location / {{ add_header X-Pid $pid always; return 200; }} }}
}}
"""


def server(name, folder, path):
    """(command, further keys of the service)."""
    if name.startswith("asyncio"):
        unlink = {"UNLINK": "yes"} if name == "asyncio that unlinks" else {}
        return program(folder, "server.py", ASYNCIO), {"env": {"SOCKET": path, **unlink}}
    if name == "uvicorn":
        written(folder, "app.py", ASGI)
        command = [PYTHON, "-m", "uvicorn", "--fd", "{fd:web}", "--log-level", "warning", "--lifespan", "off"]
        return [*command, "app:app"], {"workdir": str(folder)}
    if name == "gunicorn":
        written(folder, "app.py", WSGI)
        return [PYTHON, "-m", "gunicorn", "--log-level", "warning", "app:app"], {"workdir": str(folder)}
    if name == "node":
        return [installed("node"), written(folder, "server.js", NODE)], {}
    config = written(folder, "nginx.conf", NGINX.format(folder=folder, path=path))
    return [installed("nginx"), "-p", str(folder), "-c", config], {"compat": ["nginx"], "stop_signal": "SIGQUIT"}


class Clients:
    """Threads that ask again and again on new connections, and note each that was not answered."""

    def __init__(self, path):
        self.path, self.failed, self.pids = path, [], set()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.ask) for _ in range(4)]

    def ask(self):
        while not self.stop.wait(0.002):
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(PATIENCE)
                    client.connect(self.path)
                    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = client.makefile("rb").read().lower()
                self.pids.add(answer.partition(b"x-pid: ")[2].split()[0])
            except (OSError, IndexError) as error:
                self.failed.append(repr(error))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.edge("A8")
@pytest.mark.parametrize("name", ["asyncio", "asyncio that unlinks", "uvicorn", "gunicorn", "node"])
def test_the_path_of_a_unix_socket_always_leads_to_a_server_that_answers(start, tmp_path, name):
    path, folder = str(tmp_path / "web.sock"), tmp_path / "server"
    command, more = server(name, folder, path)
    listen = {"name": "web", "address": f"unix:{path}", "unix_mode": "0660"}
    aether = start(service(command, listen=listen, soak="50ms", **more))
    with Clients(path) as clients:
        swap_all(aether, SWAPS)
        # A program may remove the path as the very last thing it does; Aether puts it back.
        eventually(lambda: len(aether.service()["instances"]) == 1 and os.path.exists(path), "the old ones are gone")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    if name != "asyncio that unlinks":
        assert not clients.failed, clients.failed[:5]
    else:
        # From its unlink to its end, which is when Aether looks, the path may lead nowhere.
        assert not [error for error in clients.failed if "FileNotFound" not in error], clients.failed[:5]
    assert len(clients.pids) >= SWAPS, clients.pids
    stops_cleanly(aether, folder)
    assert not os.path.exists(path)
    assert not list(tmp_path.glob(".*")), "a hidden name is left"


@pytest.mark.edge("A8")
def test_the_file_of_a_dead_socket_is_replaced_and_that_of_a_living_one_is_not(start, tmp_path):
    path, folder = str(tmp_path / "web.sock"), tmp_path / "server"
    command, more = server("asyncio", folder, path)
    config = service(command, listen=f"unix:{path}", **more)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        aether = Aether(tmp_path / "refused", config).start(wait=False)
        assert aether.process.wait(PATIENCE) == 1
        assert "listens there" in aether.text() and f"pid {os.getpid()}" in aether.text(), aether.text()
        aether.stop()
        other.settimeout(PATIENCE)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)  # the living one was left alone
            other.accept()[0].close()
    # Its file is left as a crash would leave it.
    os.chmod(path, 0o604)
    start(config)
    with Clients(path) as clients:
        eventually(lambda: clients.pids, "the file leads to the new server")
    assert not clients.failed and stat.S_IMODE(os.stat(path).st_mode) == 0o604


def test_nginx_cannot_take_a_unix_socket_and_is_told_why(start, tmp_path):
    """It looks for the path of its configuration among its sockets; a steered one has a name of its own."""
    path, folder = str(tmp_path / "web.sock"), tmp_path / "server"
    command, more = server("nginx", folder, path)
    aether = start(service(command, listen=f"unix:{path}", restart="never", **more), wait=False)
    assert aether.process.wait(PATIENCE) == 1
    assert "Aether holds that port for it" in aether.text(), aether.text()
