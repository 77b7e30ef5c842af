# SPDX-License-Identifier: Apache-2.0
"""aetherless: for handlers that Aether copies while they run (docs/handlers.md).

    import aetherless

    @aetherless.before_snapshot          # once, before the copies are made; the last one registered runs first
    def close_connections(): ...

    @aetherless.after_restore            # in each copy, before its first request; in the order of registration
    def connect_again(): ...

    aetherless.serve(handler)            # requests through shared memory, with `ipc: ring` (docs/functions-ring.md)
    aetherless.ready()                   # else: instead of connecting to AETHER_SOCKET and sending READY

Names and order are those of AWS Lambda's SnapStart. What must differ between copies, `random` for instance, is
renewed by itself: importing this module, or being started by Aether, which loads it into every Python handler,
is enough. No dependencies; Python 3.8 or newer. Without Aether everything does nothing.
"""

from .hooks import (
    Copy,
    after_restore,
    before_snapshot,
    install,
    is_copy,
    keep_random,
    register_after_restore,
    register_before_snapshot,
)


def ready():
    """Tells Aether that the handler is ready: call it once, when it listens or is about to. True if Aether was
    told; False without Aether (no AETHER_SOCKET)."""
    from .wire import ready as tell  # Sockets are loaded by those who need them

    return tell()


def serve(handler, threads=1):
    """For a function with `ipc: ring`: answers requests that come through shared memory, until Aether ends it.

        def handler(request):
            return "hello " + request.path

        aetherless.serve(handler)

    `handler` gets a Request and gives a Response, or its body: bytes, str, dict or list (as JSON), None (204). A
    coroutine function gets all requests at once, on one asyncio loop. Another one gets them one after another, or,
    with `threads`, so many at once. Says READY by itself."""
    import inspect

    from .wire import ready as tell

    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):
        import asyncio

        from .serving_async import AsyncServer

        asyncio.run(AsyncServer(handler).run(tell))
    else:
        from .serving import Server

        Server(handler, threads).run(tell)


def __getattr__(name):
    if name in ("Request", "AsyncRequest", "Response"):  # Loaded by those who need them
        from . import message

        return getattr(message, name)
    raise AttributeError(name)


__all__ = [
    "Copy",
    "Request",
    "Response",
    "after_restore",
    "before_snapshot",
    "install",
    "is_copy",
    "keep_random",
    "ready",
    "register_after_restore",
    "register_before_snapshot",
    "serve",
]
