# SPDX-License-Identifier: Apache-2.0
"""drain(): the end of an asyncio server that loses nobody."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Iterator, Optional

from . import client as _client
from .log import log

# Without a word from Aether: how long connections may take to end.
DRAIN_TIMEOUT = 8.0
# What was accepted is attached to its server in the loop's next turns; a server that is closed
# before that drops it (CPython gh-109564).
TURNS = 3
_POLL = 0.02


async def drain(
    *servers: Any, timeout: Optional[float] = None, client: Optional[_client.AeternaClient] = None
) -> int:
    """Ends asyncio servers without losing a connection, and returns how many are left.

    Takes what asyncio.start_server() returns, an aiohttp site or runner, a uvicorn.Server. It stops
    watching the listening sockets, lets the loop turn three times, so that what has been accepted
    is attached, and only then closes them. Then it waits until the connections are over: to the
    drain's deadline if Aether has said one, else `timeout` seconds (8). Answer what comes meanwhile
    with `Connection: close`: see AeternaClient.draining."""
    client = client or _client.AeternaClient()
    began = time.monotonic()
    client.drain()
    listening = [one for server in servers for one in _servers_of(server)]
    loop = asyncio.get_running_loop()
    for server in listening:
        for sock in server.sockets or ():
            _unwatch(loop, sock)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    for server in listening:
        server.close()
    while _open_connections(servers, listening):
        limit = began + (DRAIN_TIMEOUT if timeout is None else timeout)
        if timeout is None and client.drain_deadline is not None:
            limit = client.drain_deadline
        if time.monotonic() >= limit:
            break
        await asyncio.sleep(_POLL)
    for server in servers:
        if hasattr(server, "should_exit"):  # uvicorn: its own shutdown does the rest
            server.should_exit = True
    left = _open_connections(servers, listening)
    if left:
        log.warning("%d connections were still open when the drain ended", left)
    return left


def _servers_of(server: Any) -> Iterator[Any]:
    """The asyncio.Server objects inside."""
    if hasattr(server, "sockets") and hasattr(server, "close"):
        yield server
        return
    inner = [getattr(server, "_server", None)]  # an aiohttp site
    inner.extend(getattr(server, "servers", ()) or ())  # a uvicorn.Server
    inner.extend(getattr(server, "sites", ()) or ())  # an aiohttp runner
    for one in inner:
        if one is not None:
            yield from _servers_of(one)


def _unwatch(loop: asyncio.AbstractEventLoop, sock: Any) -> None:
    try:
        loop.remove_reader(sock.fileno())
    except (NotImplementedError, RuntimeError, ValueError, OSError):
        pass  # not a loop of selectors: it accepts and attaches in one step


def _open_connections(servers: Any, listening: Any) -> int:
    known = 0
    for server in servers:
        state = getattr(server, "server_state", None)  # uvicorn
        if state is not None:
            known += len(state.connections)
    return known or sum(_active(server) for server in listening)


def _active(server: Any) -> int:
    """How many connections an asyncio.Server has: the count until Python 3.12, a set from 3.13 on."""
    clients = getattr(server, "_clients", None)
    if clients is not None:
        return len(clients)
    return getattr(server, "_active_count", 0)
