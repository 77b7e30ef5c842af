# SPDX-License-Identifier: Apache-2.0
"""The connection to Aether: READY, and the lines SNAPSHOT and RESTORED (docs/handlers.md)."""

import os
import socket

from . import hooks

_LINE_MAX = 256


class _Connection:
    """Has no thread: it is read when Aether's signal comes, for which hooks.py waits."""

    def __init__(self, sock):
        self.sock = sock
        self.text = b""

    def read(self):
        while self.sock is not None:
            try:
                data = self.sock.recv(_LINE_MAX, socket.MSG_DONTWAIT)
            except InterruptedError:
                continue
            except OSError:
                return  # Nothing more for now, or for ever: the end shows as b""
            if not data:
                self.sock.close()
                self.sock = None
                return
            self.text = (self.text + data)[-_LINE_MAX:]
            while b"\n" in self.text:
                line, self.text = self.text.split(b"\n", 1)
                self.hear(line.decode("ascii", "replace").split())

    def hear(self, words):
        if words == ["SNAPSHOT"]:
            hooks.prepare()
            self.answer()
        elif len(words) == 3 and words[0] == "RESTORED":
            try:
                copy = hooks.Copy(words[1], bytes.fromhex(words[2]))
            except ValueError:
                return
            hooks.restored(copy)
            self.answer()

    def answer(self):
        try:
            self.sock.sendall(b"OK\n")
        except OSError:
            pass


_connection = None


def ready():
    """See aetherless.ready."""
    global _connection
    path = os.environ.get("AETHER_SOCKET")
    if not path:
        return False
    if _connection is not None and _connection.sock is not None:
        return True
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    connection = _Connection(sock)
    try:
        sock.connect(path)
        # A library that cannot wait for the signal promises nothing.
        word = b"READY\nHOOKS\n" if hooks.install() else b"READY\n"
        # The signal may come as soon as the word is said: before sendall() has returned.
        _connection = connection
        hooks._state.listeners.append(connection.read)
        sock.sendall(word)
    except OSError:
        _connection = None
        if connection.read in hooks._state.listeners:
            hooks._state.listeners.remove(connection.read)
        sock.close()
        raise
    return True
