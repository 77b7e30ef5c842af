# SPDX-License-Identifier: Apache-2.0
"""Drains of long-lived connections, and of users' own asyncio servers."""

import asyncio
import json
import time

import pytest

from aether import eventually, free_port
from drains import SERVER, served
from programs import program, service
from under_load import Load, soak, swap_all

# ---- Long-lived connections -------------------------------------------------------------------------

# An echo over WebSocket (RFC 6455) in the standard library; its server is ended by aeterna.drain().
WEBSOCKET = """
import asyncio, base64, hashlib, os, signal
import aeterna
client = aeterna.AeternaClient()
async def talk(reader, writer):
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    key = head.partition(b"Sec-WebSocket-Key: ")[2].split(b"\\r\\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                 b"X-Pid: %d\\r\\nSec-WebSocket-Accept: %s\\r\\n\\r\\n" % (os.getpid(), accept))
    leaving = asyncio.ensure_future(client.afarewell())
    echoing = asyncio.ensure_future(echo(reader, writer, leaving))
    await asyncio.wait([echoing, leaving], return_when=asyncio.FIRST_COMPLETED)
    if leaving.done() and not echoing.done():
        writer.write(b"\\x88\\x02" + (1001).to_bytes(2, "big"))  # going away
        await echoing  # until the client has closed
    leaving.cancel()
    writer.close()
async def echo(reader, writer, leaving):
    try:
        while True:
            kind, size = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(await reader.readexactly(size & 127)))
            if kind & 15 == 8: return
            if leaving.done(): continue  # nothing follows a goodbye
            writer.write(bytes([0x81, len(data)]) + data)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError): pass
async def main():
    server = await asyncio.start_server(talk, sock=client.get_listener_socket(), backlog=4096)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await aeterna.drain(server)
asyncio.run(main())
"""


async def websocket(port, told):
    """(pid, seconds since the swap, close code) of a session that echoes until the server says goodbye."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    told["begun"] += 1
    number = 0
    while True:
        number += 1
        text = b"message %d" % number
        writer.write(bytes([0x81, 0x80 | len(text)]) + b"\0\0\0\0" + text)
        kind, size = await reader.readexactly(2)
        data = await reader.readexactly(size)
        if kind & 15 == 8:
            writer.write(b"\x88\x82\0\0\0\0" + data)
            assert await reader.read() == b""
            writer.close()
            return time.monotonic() - told["swapped"], int.from_bytes(data, "big")
        assert data == text
        await asyncio.sleep(0.2)


async def events(port, told):
    """(seconds since the swap, whether the stream said that it moved) of one event stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    told["begun"] += 1
    number = 0
    while (line := await reader.readuntil(b"\n\n")) != b"event: moved\n\n":
        number += 1
        assert line == b"data: %d\n\n" % number
    assert await reader.read() == b""
    writer.close()
    return time.monotonic() - told["swapped"], 0


async def long_lived(aether, port, session, count):
    told = {"begun": 0}
    tasks = [asyncio.ensure_future(session(port, told)) for _ in range(count)]
    while told["begun"] < count:
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
    await asyncio.get_running_loop().run_in_executor(None, swap_all, aether, 1)
    told["swapped"] = time.monotonic()
    return await asyncio.gather(*tasks)


@pytest.mark.parametrize("kind", ["events", "websocket"])
def test_two_hundred_long_lived_clients_are_undisturbed_until_the_drain_deadline(start, tmp_path, kind):
    text, session, code = {"events": (SERVER, events, 0), "websocket": (WEBSOCKET, websocket, 1001)}[kind]
    aether, port = served(start, tmp_path, text, drain={"timeout": "10s", "spread": "2s"})
    old = aether.service()["pid"]
    ends = asyncio.run(long_lived(aether, port, session, 200))
    assert {said for _, said in ends} == {code}
    # Until 10s less the margin (1s) and the spread (2s); a bit for the way from the verdict to here.
    assert min(after for after, _ in ends) > 5
    eventually(lambda: not json.dumps(aether.status()).count(f'"pid": {old},'), "the old one is gone")
    assert "SIGKILL" not in aether.text(), aether.text()


# ---- Users' own asyncio servers ---------------------------------------------------------------------

ASYNCIO_DRAIN = """
import asyncio, os, signal
import aeterna
client = aeterna.AeternaClient()
async def answer(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            body = str(os.getpid()).encode()
            last = client.draining
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nX-Pid: %s\\r\\n%s\\r\\n%s"
                         % (len(body), body, b"Connection: close\\r\\n" if last else b"", body))
            await writer.drain()
            if last: break
    except (asyncio.IncompleteReadError, ConnectionError): pass
    finally: writer.close()
async def main():
    server = await asyncio.start_server(answer, sock=client.get_listener_socket(), backlog=4096)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await aeterna.drain(server)
asyncio.run(main())
"""

AIOHTTP_DRAIN = """
import asyncio, os, signal
import aeterna
from aiohttp import web
client = aeterna.AeternaClient()
async def answer(request):
    response = web.Response(text="answer", headers={"X-Pid": str(os.getpid())})
    if client.draining: response.force_close()
    return response
async def main():
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, client.get_listener_socket(), backlog=4096).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await aeterna.drain(runner)
    await runner.cleanup()
asyncio.run(main())
"""

UVICORN_DRAIN = """
import asyncio, os, signal
import aeterna, uvicorn
from aeterna.asgi import Draining
client = aeterna.AeternaClient()
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown": return
    headers = [(b"content-length", b"6"), (b"x-pid", str(os.getpid()).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"answer"})
async def main():
    server = uvicorn.Server(uvicorn.Config(Draining(app), log_level="warning"))
    server.install_signal_handlers = lambda: None
    serving = asyncio.ensure_future(server.serve(sockets=[client.get_listener_socket()]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await aeterna.drain(server)
    await serving
asyncio.run(main())
"""

SERVERS = {
    "asyncio, its own listener": (ASYNCIO_DRAIN, "steered"),
    "asyncio": (ASYNCIO_DRAIN, "shared"),
    "aiohttp": (AIOHTTP_DRAIN, "shared"),
    "uvicorn": (UVICORN_DRAIN, "shared"),
}


@pytest.mark.parametrize("keep_alive", [False, True], ids=["new connections", "keep-alive"])
@pytest.mark.parametrize("server", SERVERS)
def test_an_asyncio_server_that_ends_by_drain_loses_nobody(start, tmp_path, server, keep_alive):
    text, mode = SERVERS[server]
    port = free_port()
    config = service(
        program(tmp_path, "server.py", text),
        listen=[{"address": f"127.0.0.1:{port}", "mode": mode}],
        soak="0s",
    )
    aether = start(config)
    with Load(port, clients=8, rate=500, keep_alive=keep_alive) as load:
        swap_all(aether, soak(4))
    load.lost_nobody(soak(4))
