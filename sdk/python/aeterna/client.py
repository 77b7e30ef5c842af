# SPDX-License-Identifier: Apache-2.0
"""AeternaClient: what a program needs to hand its memory and its listeners to its next version."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from typing import Any, AsyncIterator, Callable, Iterator, List, Optional, Sequence, Tuple, TypeVar

from . import check, drain_plan, hooks, listeners
from .log import log
from .relay import DRAINED, RELEASED, RESUMED, HandoffError, Relay

__all__ = ["AeternaClient", "HandoffError", "Released"]

Function = TypeVar("Function", bound=Callable[..., Any])

_lock = threading.Lock()
_relay: Optional[Relay] = None
_sockets: Optional[List[Tuple[str, socket.socket]]] = None


class Released(RuntimeError):
    """This process has given its memory away: the work belongs to the next revision."""


def _shared_relay(version: int, migrate: Any, migrates_from: Optional[Sequence[int]]) -> Relay:
    global _relay
    with _lock:
        if _relay is None:
            _relay = Relay()
        if version:
            if _relay.version not in (0, version):
                raise ValueError(
                    "another AeternaClient of this process said version=%d" % _relay.version
                )
            _relay.version = version
            _relay.migrate = migrate or _relay.migrate
            if migrates_from is not None:
                _relay.migrates_from = sorted(migrates_from)
        if not _relay.tried:
            _relay.tried = True
            _relay.connect()
        return _relay


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    if _relay is not None:
        _relay.forget_conversation()


os.register_at_fork(after_in_child=_after_fork)


class AeternaClient:
    """Every client of a process shares one conversation with Aether. Without Aether (no
    AETERNA_STATE_SOCK) everything works alone: an own port, no memory, turns that never wait.

    version: how this program keeps its memory, a number from 1 on. Memory of another version is
    refused, so that the swap is rolled back, unless `migrate(memory, from_version)` returns it in
    this one. from_version is 0 for memory of a program that said no version. When a swap is taken
    back, the old program is asked in the same way to take what a *newer* one made of its memory;
    if it cannot, it goes on with its own. migrates_from: the versions that migrate() takes, if not
    all.

    fork(): the memory and the conversation stay with the process that made the first client; in
    its children every client works alone. Make the client after the fork to change that."""

    def __init__(
        self,
        version: int = 0,
        migrate: Optional[Callable[[Any, int], Any]] = None,
        migrates_from: Optional[Sequence[int]] = None,
    ) -> None:
        if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version < 1 << 32:
            raise ValueError("version must be a whole number from 1 to 2**32 - 1")
        if not version and (migrate or migrates_from):
            raise ValueError("migrate needs version=, the version that it migrates to")
        self._relay = _shared_relay(version, migrate, migrates_from)
        self._drain_hooks: List[Callable[[], Any]] = []
        self._farewells: List[Tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._terminated = False
        self._relay.watchers.append(self._on_event)

    # ---- listeners -----------------------------------------------------------------------------

    def get_listener_socket(self, name: Optional[str] = None) -> socket.socket:
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
            if check.is_on():  # the throwaway process must not take anybody's connections
                _sockets.append((name or "http", listeners.bind_nowhere()))
                return _sockets[-1][1]
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
    def has_listener() -> bool:
        """True if this process was given listening sockets, or has taken one already."""
        return bool(_sockets) or listeners.has_inherited()

    # ---- memory --------------------------------------------------------------------------------

    def load_context(self) -> Any:
        """The memory of the old revision; {} if there is none.

        Waits while the old one hands over, so call it when everything else is ready. What it
        returns is what will be handed over next (change it in place), unless save_context() or
        on_handoff() say otherwise. The same object at each call, from any thread. A dict or list
        comes back as such, bytes as bytes (with shm: as a read-only memoryview of shared memory),
        other objects by pickle. Raises HandoffError if memory was promised and cannot be used: let
        it end the process, the old revision works on. In the throwaway process of a state check
        (AETERNA_CHECK_STATE=1) it does not return: it ends the process."""
        return self._relay.load_once()

    async def aload_context(self) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, self.load_context)

    def save_context(self, data: Any) -> None:
        """Names what is handed over. A reference is kept, not a copy: it is read at the handoff."""
        self._relay.context = data
        self._relay.has_context = True

    def on_quiesce(self, hook: Function) -> Function:
        """hook() is called first when memory is to be handed over: new turns wait already, those
        that run go on. Finish or checkpoint what would take longer than handoff.timeout. If it
        raises, or does not return in time, this process works on and the swap is rolled back.
        Usable as a decorator, also of a coroutine function, which then runs on its own loop."""
        self._relay.quiesce_hooks.append(hooks.Hook("on_quiesce", hook))
        return hook

    def on_handoff(self, hook: Function) -> Function:
        """hook() returns the memory to hand over. Called when no turn runs. Usable as a decorator."""
        self._relay.export_hook = hooks.Hook("on_handoff", hook)
        return hook

    def on_resume(self, hook: Function) -> Function:
        """hook(memory): the swap was taken back, or was only tried. `memory` is what the next
        revision made of it, or None: go on with your own. Without a hook a dict or list is changed
        in place."""
        self._relay.resume_hook = hooks.Hook("on_resume", hook)
        return hook

    # ---- work ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """`with client.turn():` a unit of work that a handoff must not split. Waits while memory is
        handed over; raises Released if it then belongs to the next revision."""
        if not self._relay.gate.enter():
            raise Released("the next revision has the memory; send this work to it")
        try:
            yield
        finally:
            self._relay.gate.leave()

    @contextlib.asynccontextmanager
    async def aturn(self) -> AsyncIterator[None]:
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
    def released(self) -> bool:
        """True once the next revision has the memory."""
        return self._relay.gate.state == "released"

    # ---- the end -------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """True once this process should finish what it has and take nothing new: answer what comes
        on open connections once more, with `Connection: close`."""
        return self._terminated or self.released or self._relay.plan.announced

    @property
    def drain_deadline(self) -> Optional[float]:
        """The time.monotonic() by which every connection should be over; None if Aether has not
        named one."""
        return self._relay.plan.over_by

    def on_drain(self, hook: Function) -> Function:
        """hook() is called when draining begins."""
        self._drain_hooks.append(hook)
        return hook

    def drain(self) -> None:
        """Begins draining; for a SIGTERM handler of your own."""
        if not self._terminated:
            self._terminated = True
            self._call_drain_hooks()
            self._wake_farewells()

    async def afarewell(self) -> None:
        """Returns when the long connection (WebSocket, event stream) that awaits it should say
        goodbye: at a moment of its own, as late as the drain allows. Before that it is undisturbed,
        whatever is swapped. Where nobody announced a drain: as soon as draining begins."""
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        share = drain_plan.random_share()
        self._farewells.append(entry)
        try:
            while True:
                event.clear()
                plan = self._relay.plan
                if plan.announced:
                    left = plan.left(share)
                    if left <= 0:
                        return
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(event.wait(), left)
                elif self._terminated:
                    return
                else:
                    await event.wait()
        finally:
            self._farewells.remove(entry)

    # ---- what Aether is told -------------------------------------------------------------------

    @property
    def managed(self) -> bool:
        """True when Aether runs this process and speaks with it."""
        return self._relay.connected

    @property
    def revision(self) -> Optional[int]:
        return self._relay.hello.get("revision")

    def ready(self) -> bool:
        """READY=1 on NOTIFY_SOCKET."""
        return _notify("READY=1")

    def status(self, text: str) -> bool:
        """One line that `aether status` shows."""
        return _notify("STATUS=" + text.replace("\n", " "))

    def _on_event(self, event: str, body: dict) -> None:
        if event == RELEASED:
            self._call_drain_hooks()
        elif event == DRAINED:
            if not self._terminated:
                self._call_drain_hooks()
            self._wake_farewells()
        elif event == RESUMED:
            self._terminated = False
            self._relay.plan.forget()

    def _call_drain_hooks(self) -> None:
        for hook in list(self._drain_hooks):
            try:
                hook()
            except Exception:
                log.exception("an on_drain hook raised")

    def _wake_farewells(self) -> None:
        for loop, event in list(self._farewells):
            with contextlib.suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(event.set)


def _blocking(sock: socket.socket) -> socket.socket:
    if sock.type == socket.SOCK_STREAM:
        sock.setblocking(True)
    return sock


def _notify(text: str) -> bool:
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
