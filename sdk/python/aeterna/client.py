# SPDX-License-Identifier: Apache-2.0
"""AeternaClient: what a program needs to hand its memory and its listeners to its next version."""

import asyncio
import contextlib
import inspect
import os
import socket
import threading

from . import listeners
from .log import log
from .relay import RELEASED, RESUMED, HandoffError, Relay

__all__ = ["AeternaClient", "HandoffError", "Released"]

_lock = threading.Lock()
_relay = None
_sockets = None


class Released(RuntimeError):
    """This process has given its memory away: the work belongs to the next revision."""


def _shared_relay():
    global _relay
    with _lock:
        if _relay is None or _relay.pid != os.getpid():
            _relay = Relay()
        return _relay


class AeternaClient:
    """Every client of a process shares one conversation with Aether. Without Aether (no
    AETERNA_STATE_SOCK) everything works alone: an own port, no memory, turns that never wait."""

    def __init__(self):
        self._relay = _shared_relay()
        self._drain_hooks = []
        self._terminated = False
        self._relay.watchers.append(self._on_event)

    # ---- listeners -----------------------------------------------------------------------------

    def get_listener_socket(self, name=None):
        """The listening socket of this service: the one called `name`, else the first.

        Inherited (fd 3 on); else asked of Aether; else, without Aether, bound here to $PORT or
        8080. Blocking. The same socket object at each call."""
        global _sockets
        with _lock:
            if _sockets is None:
                _sockets = listeners.discover()
            for known, sock in _sockets:
                if name is None or known == name:
                    return _blocking(sock)
            if name is not None and _sockets:
                raise KeyError(
                    "no listener is called %r; there are %s" % (name, [n for n, _ in _sockets])
                )
            port = listeners.default_port()
            granted = self._relay.listen(":%d" % port)
            if granted is not None and granted[1] is not None:
                made = (granted[0], socket.socket(fileno=granted[1]))
            else:
                made = (name or "http", listeners.bind_own(port))
            _sockets.append(made)
            return _blocking(made[1])

    @staticmethod
    def has_listener():
        """True if this process was given listening sockets, or has taken one already."""
        return bool(_sockets) or listeners.has_inherited()

    # ---- memory --------------------------------------------------------------------------------

    def load_context(self):
        """The memory of the old revision; {} if there is none.

        Waits while the old one hands over, so call it when everything else is ready. What it
        returns is what will be handed over next (change it in place), unless save_context() or
        on_handoff() say otherwise. A dict or list comes back as such, bytes as bytes (with shm: as a
        read-only memoryview of shared memory), other objects by pickle. Raises HandoffError if
        memory was promised and cannot be used: let it end the process, the old revision works on."""
        relay = self._relay
        if not relay.has_context:
            value = relay.load()
            relay.context = {} if value is None else value
            relay.has_context = True
        return relay.context

    async def aload_context(self):
        return await asyncio.get_running_loop().run_in_executor(None, self.load_context)

    def save_context(self, data):
        """Names what is handed over. A reference is kept, not a copy: it is read at the handoff."""
        self._relay.context = data
        self._relay.has_context = True

    def on_handoff(self, hook):
        """hook() returns the memory to hand over. Called when no turn runs. Usable as a decorator."""
        self._relay.export_hook = _threadsafe(hook)
        return hook

    def on_resume(self, hook):
        """hook(memory): the swap was taken back. `memory` is what the next revision made of it, or
        None: go on with your own. Without a hook a dict or list is changed in place."""
        self._relay.resume_hook = _threadsafe(hook)
        return hook

    # ---- work ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def turn(self):
        """`with client.turn():` a unit of work that a handoff must not split. Waits while memory is
        handed over; raises Released if it then belongs to the next revision."""
        if not self._relay.gate.enter():
            raise Released("the next revision has the memory; send this work to it")
        try:
            yield
        finally:
            self._relay.gate.leave()

    @contextlib.asynccontextmanager
    async def aturn(self):
        """turn() for asyncio: waits without blocking the loop."""
        gate = self._relay.gate
        while not gate.enter(wait=False):
            if self.released:
                raise Released("the next revision has the memory; send this work to it")
            await asyncio.sleep(0.001)
        try:
            yield
        finally:
            gate.leave()

    @property
    def released(self):
        """True once the next revision has the memory."""
        return self._relay.gate.state == "released"

    @property
    def draining(self):
        """True once this process should finish what it has and take nothing new."""
        return self._terminated or self.released

    def on_drain(self, hook):
        """hook() is called when draining begins: end open streams so that their clients come back."""
        self._drain_hooks.append(hook)
        return hook

    def drain(self):
        """Begins draining; for a SIGTERM handler of your own."""
        if not self._terminated:
            self._terminated = True
            self._call_drain_hooks()

    # ---- what Aether is told -------------------------------------------------------------------

    @property
    def managed(self):
        """True when Aether runs this process and speaks with it."""
        return self._relay.connected

    @property
    def revision(self):
        return self._relay.hello.get("revision")

    def ready(self):
        """READY=1 on NOTIFY_SOCKET."""
        return _notify("READY=1")

    def status(self, text):
        """One line that `aether status` shows."""
        return _notify("STATUS=" + text.replace("\n", " "))

    def _on_event(self, event, body):
        if event == RELEASED:
            self._call_drain_hooks()
        elif event == RESUMED:
            self._terminated = False

    def _call_drain_hooks(self):
        for hook in list(self._drain_hooks):
            try:
                hook()
            except Exception:
                log.exception("an on_drain hook raised")


def _blocking(sock):
    if sock.type == socket.SOCK_STREAM:
        sock.setblocking(True)
    return sock


def _threadsafe(hook):
    """A coroutine function runs on the loop that was running when it was registered."""
    if not inspect.iscoroutinefunction(hook):
        return hook
    loop = asyncio.get_running_loop()
    return lambda *args: asyncio.run_coroutine_threadsafe(hook(*args), loop).result()


def _notify(text):
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    if path.startswith("@"):
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(path)
            sock.sendall(text.encode())
        return True
    except OSError as error:
        log.warning("NOTIFY_SOCKET cannot be told %s: %s", text, error)
        return False
