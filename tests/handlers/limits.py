#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does what the path asks for: /eat (memory without end), /bomb (processes without end), /spin (seconds of a processor
in two seconds), /flood (output for two seconds), /try (which calls and files are refused), /die, /hang, /ok."""
import ctypes
import os
import socket
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

libc = ctypes.CDLL(None, use_errno=True)


def eat():
    hoard = []
    while True:
        hoard.append(b"x" * (8 << 20))


def bomb():
    refused = 0
    while refused < 50:
        try:
            if os.fork() == 0:
                time.sleep(1000)
        except OSError:
            refused += 1
    return "refused"


def spin():
    begun, used = time.monotonic(), time.process_time()
    while time.monotonic() - begun < 2:
        pass
    return "%.3f" % ((time.process_time() - used) / (time.monotonic() - begun))


def flood():
    chunk = (b"y" * 127 + b"\n") * 512
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < 2:
        count += os.write(1, chunk)
    return str(count)


def tried(name, *arguments):
    ctypes.set_errno(0)
    return "%s=%d" % (name, 0 if getattr(libc, name)(*arguments) >= 0 else ctypes.get_errno())


def readable(path):
    try:
        with open(path, "rb") as file:
            file.read(1)
        return "%s=0" % path
    except OSError as error:
        return "%s=%d" % (path, error.errno)


def try_all():
    return " ".join([
        tried("ptrace", 0, 0, 0, 0),
        tried("mount", b"none", b"/mnt", b"tmpfs", 0, None),
        tried("unshare", 0x10000000),
        tried("getppid"),
        readable(__file__),
        readable("/proc/1/status"),
    ])


def hang():
    time.sleep(1000)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        what = {"/eat": eat, "/bomb": bomb, "/spin": spin, "/flood": flood, "/try": try_all, "/hang": hang,
                "/die": lambda: os.kill(os.getpid(), 11), "/ok": lambda: "ok"}
        body = (what[self.path]() or "").encode()
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
