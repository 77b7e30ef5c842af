# SPDX-License-Identifier: Apache-2.0
"""More servers of the world, with the command lines of docs/programs.md: each takes its listener in its
own way, is swapped under a load of new connections, loses none, and leaves nothing behind."""

import os
import re
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from aether import PATIENCE, PYTHON, free_port
from programs import program, service
from under_load import Load, installed, soak, stops_cleanly, swap_all, written

SWAPS = soak(4)

TORNADO = """
import asyncio, os, signal, socket
import tornado.web, tornado.httpserver
class Pid(tornado.web.RequestHandler):
    def get(self):
        self.set_header("X-Pid", str(os.getpid()))
        self.write("ok")
async def main():
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Pid)]))
    listener = socket.socket(fileno=3)
    listener.setblocking(False)
    server.add_socket(listener)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.stop()
    await server.close_all_connections()
asyncio.run(main())
"""

WAITRESS = """
import os, signal, socket, sys
import waitress
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2"), ("X-Pid", str(os.getpid()))])
    return [b"ok"]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # waitress then ends the tasks that run
waitress.serve(app, sockets=[socket.socket(fileno=3)], threads=2)
"""

FASTAPI = """
import os
from fastapi import FastAPI, Response
app = FastAPI()
@app.get("/")
async def pid(response: Response):
    response.headers["X-Pid"] = str(os.getpid())
    return {"hello": "world"}
"""

FLASK = """
import os
from flask import Flask
app = Flask(__name__)
@app.get("/")
def pid():
    return "ok", 200, {"X-Pid": str(os.getpid())}
"""

RACK = """
app = proc { |env| [200, {"Content-Length" => "2", "X-Pid" => Process.ppid.to_s}, ["ok"]] }
run app
"""

# Server::Starter's own way in: a Perl program that runs under start_server(1) runs under Aether.
PERL = r"""
use strict; use warnings;
use IO::Socket::INET; use Server::Starter qw(server_ports);
my ($fd) = values %{ server_ports() };
my $listener = IO::Socket::INET->new; $listener->fdopen($fd, "w") or die "fdopen: $!";
my $stop = 0;
use POSIX ();
POSIX::sigaction(POSIX::SIGTERM(), POSIX::SigAction->new(sub { $stop = 1 }));  # accept() returns with EINTR
until ($stop) {
    my $client = $listener->accept or next;
    while (my $line = <$client>) { last if $line eq "\r\n" }
    print $client "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nX-Pid: $$\r\n\r\nok";
    close $client;
}
"""

CPP = r"""
// As any program of systemd's world: LISTEN_FDS, one thread, ends when it has answered.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
volatile sig_atomic_t stop = 0;
int main() {
  if (!getenv("LISTEN_FDS") || atoi(getenv("LISTEN_PID")) != getpid()) return 2;
  struct sigaction action{};
  action.sa_handler = [](int) { stop = 1; };
  sigset_t term, before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, &before);
  sigaction(SIGTERM, &action, nullptr);
  pollfd listener{3, POLLIN, 0};
  while (true) {
    if (ppoll(&listener, 1, nullptr, &before) < 0 && stop) return 0;
    int const client = accept(3, nullptr, nullptr);
    if (client < 0) continue;
    char text[2048];
    if (read(client, text, sizeof text) > 0) {
      int const size = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
          "Connection: close\r\nX-Pid: %d\r\n\r\nok", getpid());
      if (write(client, text, size) != size) return 1;
    }
    close(client);
  }
}
"""

GO = """
package main
import ("context"; "fmt"; "net"; "net/http"; "os"; "os/signal"; "syscall")
func main() {
    listener, err := net.FileListener(os.NewFile(3, "web"))
    if err != nil { panic(err) }
    server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
        w.Header().Set("X-Pid", fmt.Sprint(os.Getpid()))
        fmt.Fprint(w, "ok")
    })}
    stopped := make(chan os.Signal, 1)
    signal.Notify(stopped, syscall.SIGTERM)
    done := make(chan bool)
    go func() { <-stopped; server.Shutdown(context.Background()); close(done) }()
    server.Serve(listener)
    <-done
}
"""

# Java takes a listener from nobody but fd 0 (System.inheritedChannel, made for inetd): `<&3` puts it there.
JAVA = """
import java.nio.*; import java.nio.channels.*;
public class Server {
  static volatile boolean stop = false;
  public static void main(String[] arguments) throws Exception {
    ServerSocketChannel listener = (ServerSocketChannel) System.inheritedChannel();
    listener.configureBlocking(false);
    Selector selector = Selector.open();
    listener.register(selector, SelectionKey.OP_ACCEPT);
    Thread main = Thread.currentThread();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      stop = true; selector.wakeup();
      try { main.join(); } catch (InterruptedException e) {}
    }));
    byte[] answer = ("HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\nX-Pid: "
        + ProcessHandle.current().pid() + "\\r\\n\\r\\nok").getBytes();
    while (!stop) {
      selector.select();
      selector.selectedKeys().clear();
      for (SocketChannel client; (client = listener.accept()) != null; client.close()) {
        client.read(ByteBuffer.allocate(2048));
        client.write(ByteBuffer.wrap(answer));
      }
    }
  }
}
"""


def python_module(folder, *words):
    """A module `app` of the folder, run by a server that is a module."""
    return [PYTHON, "-m", *words], {"workdir": str(folder)}


def asgi(name, folder):
    written(folder, "app.py", FASTAPI)
    if name == "fastapi":
        return python_module(folder, "uvicorn", "--fd", "{fd:web}", "--log-level", "warning", "app:app")
    if name == "uvicorn --workers":
        return python_module(folder, "uvicorn", "--fd", "{fd:web}", "--workers", "2", "--log-level", "warning",
                             "app:app")
    assert name == "gunicorn -k uvicorn"
    return python_module(folder, "gunicorn", "-k", "uvicorn.workers.UvicornWorker", "--workers", "2",
                         "--log-level", "warning", "app:app")


def python_server(name, folder):
    if name == "tornado":
        return program(folder, "server.py", TORNADO), {}
    if name == "waitress":
        return program(folder, "server.py", WAITRESS), {}
    if name == "flask":
        written(folder, "app.py", FLASK)
        return python_module(folder, "gunicorn", "--threads", "4", "--log-level", "warning", "app:app")
    return asgi(name, folder)


def built(folder, name, text, compiler):
    """Compiles a source; gives the program."""
    source = written(folder, name, text)
    subprocess.run([*compiler, source], check=True, cwd=folder,
                   env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "GOCACHE": str(folder / "cache")})
    return [str(folder / "server")], {}


def compiled(name, folder):
    if name == "C++":
        return built(folder, "server.cc", CPP, [installed("clang++-19"), "-o", "server"])
    if name == "go":
        go = shutil.which("go") or installed("/usr/local/go/bin/go")
        return built(folder, "server.go", GO, [go, "build", "-o", "server"])
    assert name == "java"
    java, javac = installed("java"), installed("javac")
    subprocess.run([javac, written(folder, "Server.java", JAVA)], check=True, cwd=folder)
    return ["sh", "-c", f"exec {java} -cp {folder} -Xshare:auto -XX:TieredStopAtLevel=1 Server <&3"], {}


def server(name, folder, port):
    """(command, further keys of the service)."""
    if name == "unicorn":
        config = written(folder, "config.ru", RACK)
        return [installed("unicorn"), "-l", f"127.0.0.1:{port}", "-E", "none", config], {"stop_signal": "SIGQUIT"}
    if name == "Server::Starter":
        installed("start_server")
        return [installed("perl"), written(folder, "server.pl", PERL)], {}
    if name in ("C++", "go", "java"):
        return compiled(name, folder)
    return python_server(name, folder)


# Compiling net/http takes a minute where nobody has done so before.
LONG = ["go"] if soak(1) > 1 else []
SERVERS = ["tornado", "waitress", "flask", "fastapi", "uvicorn --workers", "gunicorn -k uvicorn", "unicorn",
           "Server::Starter", "C++", "java", *LONG]


@pytest.mark.edge("A2")
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_takes_its_listener_loses_no_new_connection(start, tmp_path, name):
    port, folder = free_port(), tmp_path / "server"
    command, more = server(name, folder, port)
    aether = start(service(command, listen={"name": "web", "address": f"127.0.0.1:{port}"}, soak="50ms", **more))
    with Load(port) as load:
        swap_all(aether, SWAPS)
    load.lost_nobody(SWAPS - 1)
    stops_cleanly(aether, folder)


FPM = """
[global]
daemonize = no
error_log = /dev/stderr
process_control_timeout = 5s
[web]
listen = 127.0.0.1:{port}
pm = static
pm.max_children = 2
{user}
"""


def fastcgi(port, script):
    """The answer of a FastCGI program to GET /, as bytes."""
    def record(kind, content):
        return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content

    values = {"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": script, "SERVER_PROTOCOL": "HTTP/1.1"}
    pairs = b"".join(bytes([len(k), len(v)]) + k.encode() + v.encode() for k, v in values.items())
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(record(1, struct.pack(">HB5x", 1, 0)) + record(4, pairs) + record(4, b"") + record(5, b""))
        return client.makefile("rb").read()


@pytest.mark.edge("A2")
def test_php_fpm_takes_its_listener_by_fpm_sockets_and_loses_no_request(start, open_folder):
    found = sorted(Path("/usr/sbin").glob("php-fpm[0-9]*"))
    if not found:
        pytest.skip("php-fpm is not installed")
    port, folder = free_port(), open_folder
    script = written(folder, "index.php", "<?php echo 'pid=' . getmypid() . '.';")
    user = "user = nobody\ngroup = nogroup" if os.getuid() == 0 else ""
    config = written(folder, "fpm.conf", FPM.format(port=port, user=user))
    command = ["env", "FPM_SOCKETS=" + f"127.0.0.1:{port}=" + "{fd:web}", str(found[-1]), "-n", "-y", config]
    aether = start(service(command, listen={"name": "web", "address": f"127.0.0.1:{port}"}, soak="50ms",
                           stop_signal="SIGQUIT"))
    stop, pids, failed = threading.Event(), set(), []

    def ask():
        while not stop.wait(0.005):
            try:
                pids.add(re.search(rb"pid=(\d+)\.", fastcgi(port, script))[1])
            except (OSError, TypeError) as error:
                failed.append(repr(error))

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        swap_all(aether, SWAPS)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert not failed and len(pids) >= SWAPS, (failed, pids)
    stops_cleanly(aether, folder)
